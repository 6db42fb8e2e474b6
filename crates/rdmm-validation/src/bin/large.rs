//! Maps that move half the image: one geodesic, more steps, a heavier similarity, several geodesics.
//!
//! Generates three pairs, registers each with every method and prints a table.

#![expect(clippy::print_stdout, reason = "a program reports on the terminal")]

use std::error::Error;

use rdmm_core::evaluate::{Folds, dice, ncc};
use rdmm_core::field::{Displacement, Image};
use rdmm_core::grid::Grid;
use rdmm_core::labels::Labels;
use rdmm_core::model::{Lddmm, MultiGaussian};
use rdmm_core::registration::{Registration, Settings};
use rdmm_core::similarity::Ssd;
use rdmm_core::step::Steps;

type Fallible<T> = Result<T, Box<dyn Error>>;

/// A shape as a function that is positive inside, about the distance to its edge.
type Shape = fn([f64; 2]) -> f64;

/// Distance from a segment.
fn segment([x, y]: [f64; 2], [ax, ay]: [f64; 2], [bx, by]: [f64; 2]) -> f64 {
    let (dx, dy) = (bx - ax, by - ay);
    let t = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
    (x - ax - t * dx).hypot(y - ay - t * dy)
}

fn disc([x, y]: [f64; 2]) -> f64 {
    0.2 - (x - 0.5).hypot(y - 0.5)
}

/// Three quarters of a ring, open to the right.
fn letter_c([x, y]: [f64; 2]) -> f64 {
    let (x, y) = (x - 0.5, y - 0.5);
    let ring = 0.08 - (x.hypot(y) - 0.24).abs();
    // Outside the wedge |y| < x.
    ring.min((y.abs() - x) * 0.5_f64.sqrt())
}

fn bar(x: [f64; 2]) -> f64 {
    0.08 - segment(x, [0.5, 0.15], [0.5, 0.85])
}

fn corner(x: [f64; 2]) -> f64 {
    0.08 - segment(x, [0.25, 0.3], [0.75, 0.3]).min(segment(x, [0.75, 0.3], [0.75, 0.75]))
}

const PAIRS: [(&str, Shape, Shape); 3] =
    [("disc to C", disc, letter_c), ("disc to bar", disc, bar), ("corner to bar", corner, bar)];

/// How one row is registered.
struct Method {
    name: &'static str,
    segments: usize,
    /// Steps for each of the default's.
    finer: u32,
    /// Weight of the similarity over the default.
    weight: f64,
    min_jacobian: Option<f64>,
}

const METHODS: [Method; 8] = [
    Method { name: "default", segments: 1, finer: 1, weight: 1.0, min_jacobian: Some(0.05) },
    Method { name: "no bound", segments: 1, finer: 1, weight: 1.0, min_jacobian: None },
    Method {
        name: "four times the steps, no bound",
        segments: 1,
        finer: 4,
        weight: 1.0,
        min_jacobian: None,
    },
    Method {
        name: "weight × 10, no bound",
        segments: 1,
        finer: 1,
        weight: 10.0,
        min_jacobian: None,
    },
    Method {
        name: "weight × 100, no bound",
        segments: 1,
        finer: 1,
        weight: 100.0,
        min_jacobian: None,
    },
    Method {
        name: "two geodesics, no bound",
        segments: 2,
        finer: 1,
        weight: 1.0,
        min_jacobian: None,
    },
    Method {
        name: "four geodesics, no bound",
        segments: 4,
        finer: 1,
        weight: 1.0,
        min_jacobian: None,
    },
    Method { name: "four, bounded", segments: 4, finer: 1, weight: 1.0, min_jacobian: Some(0.05) },
];

fn image(grid: &Grid<2>, shape: Shape) -> Fallible<Image<f32, 2>> {
    let width = 2.0 * grid.coarsest_spacing();
    Ok(Image::from_fn(grid, |x| (0.5 + shape(x) / width).clamp(0.0, 1.0))?)
}

fn labels(image: &Image<f32, 2>) -> Fallible<Labels<2>> {
    let inside = image.data().iter().map(|&x| u32::from(x > 0.5)).collect();
    Ok(Labels::from_vec(image.grid(), inside)?)
}

fn main() -> Fallible<()> {
    let grid = Grid::<2>::unit([128, 128])?;
    println!(
        "| pair | method | NCC | Dice | folds | min det | largest displacement | evaluations | seconds |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for (pair, source, target) in PAIRS {
        let (fixed, moving) = (image(&grid, target)?, image(&grid, source)?);
        for method in &METHODS {
            let mut settings = Settings::default()
                .with_similarity_weight(0.6 * method.weight)
                .with_min_jacobian(method.min_jacobian);
            if let Steps::Courant { number, at_least, at_most } = settings.integration.steps {
                let number = number / f64::from(method.finer);
                let [at_least, at_most] =
                    [at_least, at_most].map(|steps| steps * method.finer as usize);
                settings.integration.steps = Steps::Courant { number, at_least, at_most };
            }
            let model = Lddmm::new(MultiGaussian::for_grid(&grid));
            let registration = Registration::new(model, Ssd).with_settings(settings);
            let chain = registration.run_chain(&fixed, &moving, method.segments)?;
            let folds: Folds = chain.folds;
            let map: &Displacement<f32, 2> = &chain.inverse_map;
            let reached = dice(&labels(&chain.warped)?, &labels(&fixed)?)?;
            let (mut evaluations, mut seconds) = (0, 0.0);
            for segment in &chain.segments {
                evaluations += segment.report.evaluations;
                seconds += segment.report.seconds;
            }
            println!(
                "| {pair} | {} | {:.3} | {:.3} | {} | {:.3} | {:.2} | {evaluations} | {seconds:.1} |",
                method.name,
                ncc(&chain.warped, &fixed, None)?,
                reached.get(&1).copied().unwrap_or(f64::NAN),
                folds.total().folded,
                folds.total().min,
                map.data().iter().fold(0.0_f32, |m, u| m.max(u.abs())),
            );
        }
    }
    Ok(())
}
