//! What happens when source and target are swapped, with the similarity seen from one image and from both.
//!
//! Registers pairs of generated shapes, and the 2-D brains of the folder `$RDMM_DATA` where it is set, both
//! ways by LDDMM with default settings, and measures how far the two maps are from inverses of one another.
#![expect(clippy::print_stdout, reason = "a program reports on the terminal")]

use std::process::ExitCode;

use rdmm_core::evaluate::{inverse_consistency, ncc};
use rdmm_core::field::Image;
use rdmm_core::grid::Grid;
use rdmm_core::model::{Lddmm, Model, MultiGaussian, TwoSided};
use rdmm_core::registration::Registration;
use rdmm_core::similarity::Ssd;
use rdmm_core::synthetic::Shapes;

use rdmm_validation::Fallible;
use rdmm_validation::arguments::Arguments;
use rdmm_validation::outcome::table;

type Pair = [Image<f32, 2>; 2];

const OPTIONS: [(&str, &str); 1] = [("pairs", "number of generated pairs (default 5)")];
const HEADINGS: [&str; 9] = [
    "pairs",
    "similarity",
    "NCC",
    "swapped, voxels: mean",
    "largest",
    "folds",
    "smallest det",
    "evaluations",
    "seconds",
];

/// Mean figures of all pairs, each registered both ways.
fn row<M: Model<f32, 2>>(
    name: [&str; 2],
    pairs: &[Pair],
    model: impl Fn(MultiGaussian) -> M,
) -> Fallible<Vec<String>> {
    let (mut sums, mut largest, mut folds, mut least) = ([0.0; 4], 0.0_f64, 0, f64::INFINITY);
    for [a, b] in pairs {
        let metric = MultiGaussian::for_grid(a.grid());
        let registration = Registration::new(model(metric), Ssd);
        let (there, back) = (registration.run(a, b)?, registration.run(b, a)?);
        let swapped = inverse_consistency(&there.inverse_map, &back.inverse_map)?;
        let voxels = 1.0 / a.grid().coarsest_spacing();
        largest = largest.max(swapped.max * voxels);
        for (result, fixed) in [(&there, a), (&back, b)] {
            let report = &result.report;
            folds += report.folds.total().folded;
            least = least.min(report.folds.total().min);
            let figures = [ncc(&result.warped, fixed, None)?, swapped.mean * voxels];
            let cost = [report.evaluations as f64, report.seconds];
            for (sum, x) in sums.iter_mut().zip(figures.into_iter().chain(cost)) {
                *sum += x / (2.0 * pairs.len() as f64);
            }
        }
    }
    let [ncc, mean, evaluations, seconds] = sums;
    let mut cells: Vec<_> = name.map(str::to_owned).into();
    cells.extend([format!("{ncc:.4}"), format!("{mean:.4}"), format!("{largest:.2}")]);
    cells.extend([folds.to_string(), format!("{least:.3}")]);
    cells.extend([format!("{evaluations:.0}"), format!("{seconds:.1}")]);
    Ok(cells)
}

fn both(name: &str, pairs: &[Pair]) -> Fallible<[Vec<String>; 2]> {
    Ok([
        row([name, "one-sided"], pairs, Lddmm::new)?,
        row([name, "two-sided"], pairs, |metric| TwoSided(Lddmm::new(metric)))?,
    ])
}

/// The brains of `$RDMM_DATA`, two a pair.
fn brains() -> Fallible<Vec<Pair>> {
    let Some(data) = std::env::var_os("RDMM_DATA") else { return Ok(Vec::new()) };
    let folder = std::path::PathBuf::from(data).join("brain2d_oasis");
    let image = |number: u32| -> Fallible<Image<f32, 2>> {
        Ok(rdmm_io::read_image(folder.join(format!("oasis2d_{number:04}.nii.gz")))?)
    };
    (41..50).step_by(2).map(|number| Ok([image(number)?, image(number + 1)?])).collect()
}

fn run() -> Fallible<()> {
    let Some(arguments) = Arguments::parse(&OPTIONS)? else { return Ok(()) };
    let grid = Grid::<2>::unit([128, 128])?;
    let shapes = (0..arguments.number::<u64>("pairs")?.unwrap_or(5)).map(|seed| {
        let pair = Shapes::default().with_seed(seed).pair::<f32, 2>(&grid)?;
        Ok([pair.fixed, pair.moving])
    });
    let shapes: Vec<Pair> = shapes.collect::<Result<_, rdmm_core::Error>>()?;
    let mut rows: Vec<_> = both("generated, 128²", &shapes)?.into();
    let brains = brains()?;
    if brains.is_empty() {
        println!(
            "Brains are skipped: RDMM_DATA is not set. It names the folder of the image sets."
        );
    } else {
        rows.extend(both("2-D brains, 128²", &brains)?);
    }
    print!("{}", table(&HEADINGS, &rows));
    Ok(())
}

fn main() -> ExitCode {
    rdmm_validation::exit(run())
}
