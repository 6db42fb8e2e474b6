//! Runs one kernel, or one step of a flow, a number of times on one thread, for `benches/instructions.sh` to count
//! its instructions.
//!
//! Of two counts with different numbers of repeats the difference is that of the repeats alone.
#![expect(clippy::print_stdout, reason = "a program reports on the terminal")]

use std::process::ExitCode;

use rdmm_core::grid::Grid;

use rdmm_validation::Fallible;
use rdmm_validation::arguments::Arguments;
use rdmm_validation::speed::problem;
use rdmm_validation::speed::workload::{Dynamics, Flow, Operation};

const OPTIONS: [(&str, &str); 2] = [
    ("kernel", "what is run, by its name (default: the names are printed)"),
    ("repeats", "how often (default 1)"),
];

/// Odd enough for blocks to have remainders, and small: a count takes some hundred times as long as a run.
const SHAPE: [usize; 3] = [22, 24, 27];

const fn step(dynamics: Dynamics) -> Flow {
    Flow { dynamics, gaussians: 4, steps: 1 }
}

const KERNELS: [(&str, Operation); 11] = [
    ("gaussian", Operation::Gaussian(2.0)),
    ("sum-of-gaussians", Operation::SumOfGaussians),
    ("vsvf-shoot", Operation::Shoot(step(Dynamics::Vsvf))),
    ("lddmm-shoot", Operation::Shoot(step(Dynamics::Lddmm))),
    ("rdmm-shoot", Operation::Shoot(step(Dynamics::Rdmm))),
    ("lddmm-gradient", Operation::Gradient(step(Dynamics::Lddmm))),
    ("rdmm-gradient", Operation::Gradient(step(Dynamics::Rdmm))),
    ("warp-image", Operation::WarpImage),
    ("warp-vector", Operation::WarpVector),
    ("scatter-vector", Operation::ScatterVector),
    ("lncc-gradient", Operation::Lncc),
];

fn run() -> Fallible<()> {
    let Some(arguments) = Arguments::parse(&OPTIONS)? else { return Ok(()) };
    let Some(name) = arguments.text("kernel") else {
        for (name, _) in KERNELS {
            println!("{name}");
        }
        return Ok(());
    };
    let kernel = KERNELS.into_iter().find(|(known, _)| *known == name);
    let (_, operation) = kernel.ok_or_else(|| format!("--kernel: there is no kernel {name}"))?;
    let repeats = arguments.number::<usize>("repeats")?.unwrap_or(1);
    let grid = Grid::unit(SHAPE)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let repeat = || {
        // Errors of the pool's thread come back as text.
        problem::on::<f32, 3>(&grid, operation, &mut |work| (0..repeats).try_for_each(|_| work()))
            .map_err(|error| error.to_string())
    };
    Ok(pool.install(repeat)?)
}

fn main() -> ExitCode {
    rdmm_validation::exit(run())
}
