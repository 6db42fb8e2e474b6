//! A knee of 80×192×192 voxels, generated, and another that it was deformed to: RDMM with an optimised
//! regulariser of five Gaussians on maps of 40×96×96, at a quarter, half and full resolution.
//!
//! The size and the iterations of the experiment on knees of Shen, Vialard, Niethammer 2019, arXiv:1906.00139.
//! `--all-iterations` takes 60 on every level instead of stopping where nothing is gained.

#![expect(clippy::print_stdout, reason = "a program reports on the terminal")]

use std::error::Error;
use std::ops::ControlFlow;

use rdmm_core::evaluate::{dice, ncc};
use rdmm_core::field::{Displacement, Image};
use rdmm_core::grid::Grid;
use rdmm_core::labels::Labels;
use rdmm_core::model::{MultiGaussian, RdmmOptimised};
use rdmm_core::optim::Lbfgs;
use rdmm_core::registration::{Registration, Search, Settings};
use rdmm_core::similarity::Ncc;

type Fallible<T> = Result<T, Box<dyn Error>>;

/// Voxels, and their size in millimetres.
const SHAPE: [usize; 3] = [80, 192, 192];
const SPACING: [f64; 3] = [1.4, 0.73, 0.73];

/// Standard deviations over the longest extent, and the weights that the optimisation starts from.
const SIGMAS: [f64; 5] = [0.025, 0.05, 0.1, 0.15, 0.2];
const WEIGHTS: [f64; 5] = [0.1, 0.2, 0.2, 0.2, 0.3];

/// What a point is made of, by its place in the unit cube: left to right, down, front to back.
#[derive(Clone, Copy, PartialEq)]
enum Tissue {
    Air,
    Soft,
    Bone,
    FemoralCartilage,
    TibialCartilage,
}

impl Tissue {
    fn at([x, y, z]: [f64; 3]) -> Self {
        let around = |cx: f64, cy: f64, cz: f64, r: [f64; 3]| {
            ((x - cx) / r[0]).powi(2) + ((y - cy) / r[1]).powi(2) + ((z - cz) / r[2]).powi(2)
        };
        // Two condyles under a shaft; a plateau on a shaft; a layer of cartilage on either.
        let condyles = |grown: f64| {
            let r = [0.17, 0.16, 0.22].map(|r| r + grown);
            around(0.32, 0.36, 0.5, r).min(around(0.68, 0.36, 0.5, r)) < 1.0
        };
        let shaft = |from: f64, to: f64| (from..to).contains(&y) && (x - 0.5).hypot(z - 0.5) < 0.16;
        let plateau =
            |top: f64| (top..0.72).contains(&y) && around(0.5, 0.64, 0.5, [0.4, 0.6, 0.3]) < 1.0;
        if condyles(0.0) || shaft(0.0, 0.4) || plateau(0.58) || shaft(0.6, 1.0) {
            Self::Bone
        } else if condyles(0.025) && y > 0.36 {
            Self::FemoralCartilage
        } else if plateau(0.555) {
            Self::TibialCartilage
        } else if (x - 0.5).hypot(z - 0.5) < 0.48 {
            Self::Soft
        } else {
            Self::Air
        }
    }

    /// Grey value, with the texture of muscle and marrow.
    fn grey(self, [x, y, z]: [f64; 3]) -> f64 {
        let wave = |k: f64| (k * x).sin() * (1.3 * k * y).cos() * (0.7 * k * z + 1.0).sin();
        match self {
            Self::Air => 0.02,
            Self::Soft => 0.35 + 0.1 * wave(21.0) + 0.05 * wave(47.0),
            Self::Bone => 0.65 + 0.06 * wave(33.0),
            Self::FemoralCartilage | Self::TibialCartilage => 0.95,
        }
    }

    fn label(self) -> u32 {
        match self {
            Self::FemoralCartilage => 1,
            Self::TibialCartilage => 2,
            _ => 0,
        }
    }
}

/// Where a point of the other knee is in this one: some millimetres away, smoothly.
fn other([x, y, z]: [f64; 3]) -> [f64; 3] {
    let tau = std::f64::consts::TAU;
    [
        x + 0.03 * (0.5 * tau * y).sin() * (0.5 * tau * z).cos(),
        y + 0.035 * (tau * x).sin() * (0.4 * tau * z + 0.5).sin(),
        z + 0.04 * (0.7 * tau * y + 0.3).sin() * (0.6 * tau * x).cos(),
    ]
}

/// Image and cartilage of the knee that is read at `place`.
fn knee(grid: &Grid<3>, place: fn([f64; 3]) -> [f64; 3]) -> Fallible<(Image<f32, 3>, Labels<3>)> {
    let unit = |x: [f64; 3]| {
        let extent = grid.extent();
        place(std::array::from_fn(|a| x[a] / extent[a]))
    };
    let image = Image::from_fn(grid, |x| {
        let place = unit(x);
        Tissue::at(place).grey(place)
    })?;
    let spacing = grid.spacing();
    let label = |flat: usize| {
        let index = grid.unravel(flat);
        let x = std::array::from_fn(|a| index[a] as f64 * spacing[a]);
        Tissue::at(unit(x)).label()
    };
    Ok((image, Labels::from_vec(grid, (0..grid.len()).map(label).collect())?))
}

fn main() -> Fallible<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let all_iterations = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--all-iterations"] => true,
        _ => return Err(format!("expected --all-iterations or nothing, found {words:?}").into()),
    };
    let grid = Grid::new(SHAPE, SPACING)?;
    let (fixed, fixed_labels) = knee(&grid, |x| x)?;
    let (moving, moving_labels) = knee(&grid, other)?;

    let extent = grid.largest_extent();
    let metric = MultiGaussian::new(&SIGMAS.map(|s| s * extent), &WEIGHTS)?;
    let model = RdmmOptimised::new(metric, 0.05 * extent)?;
    let mut settings = Settings::default();
    if all_iterations {
        let lbfgs = Lbfgs::default().with_value_tolerance(0.0);
        settings.search = Search::MetricLbfgs { lbfgs, epsilon: 1e-3 };
    }
    let result = Registration::new(model, Ncc).with_settings(settings).run_with(
        &fixed,
        &moving,
        |progress| {
            if progress.iteration % 10 == 0 {
                let terms = &progress.diagnostics.terms;
                println!(
                    "level {}, iteration {:2}: energy {:.4e}, loss {:.4e}, {:.0} s",
                    progress.level + 1,
                    progress.iteration,
                    terms.total,
                    terms.similarity,
                    progress.seconds
                );
            }
            ControlFlow::Continue(())
        },
    )?;

    for level in &result.report.levels {
        println!(
            "images {:?}, maps {:?}: {} iterations, {} evaluations, {:.1} s",
            level.images, level.map, level.iterations, level.evaluations, level.seconds
        );
    }
    let still = Displacement::<f32, 3>::zeros(&grid)?;
    let [before, after] = [&still, &result.inverse_map].map(|map| -> Fallible<f64> {
        let overlaps = dice(&map.warp_labels(&moving_labels)?, &fixed_labels)?;
        Ok(overlaps.values().sum::<f64>() / overlaps.len() as f64)
    });
    println!(
        "NCC {:.3} -> {:.3}, Dice of the cartilage {:.3} -> {:.3}, folds {}, smallest determinant {:.3}, {:.1} s",
        ncc(&moving, &fixed, None)?,
        ncc(&result.warped, &fixed, None)?,
        before?,
        after?,
        result.report.folds.total().folded,
        result.report.folds.total().min,
        result.report.seconds
    );
    Ok(())
}
