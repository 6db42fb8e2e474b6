//! `rdmm shoot`: the evolution equations from an initial momentum.

mod flow;
mod input;
mod output;

use std::time::Instant;

use rdmm_core::dynamics::{Evolution, Flow};
use rdmm_core::field::Momentum;
use rdmm_core::kernel::Gaussian;
use rdmm_core::model::{
    Advected as OfFlow, Controls, Lddmm, Model as _, MultiGaussian, Rdmm, Shooting, State, Vsvf,
};
use rdmm_core::space::StateSpace;

use self::flow::{Body, Schedule};
use self::input::{Source, weights};
use self::output::Results;
use crate::cli::{Advected, ShootArgs, ShotModel};
use crate::failure::{Done, Failure};
use crate::log::Log;

/// Integrates and writes what the options ask for.
pub(crate) fn run(args: &ShootArgs, log: &Log) -> Done {
    expect_options_of(args, log)?;
    let schedule = Schedule::new(args.steps, &args.times)?;
    let source = Source::read(&args.momentum, &args.spacing)?;
    match source.dimension() {
        2 => shoot::<2>(args, &source, &schedule, log),
        3 => shoot::<3>(args, &source, &schedule, log),
        found => {
            Err(Failure::at("--spacing", format!("expected two or three lengths, found {found}")))
        }
    }
}

/// Whether there are options of another model.
fn expect_options_of(args: &ShootArgs, log: &Log) -> Done {
    if args.model == ShotModel::Rdmm {
        if args.shares.is_empty() {
            return Ok(());
        }
        let problem = "the shares of RDMM are the squares of --preweights: leave this option out";
        return Err(Failure::at("--shares", problem));
    }
    if args.preweights.is_some() {
        let problem = "only RDMM has pre-weights: take --model rdmm, or --shares instead";
        return Err(Failure::at("--preweights", problem));
    }
    if args.preweight_sigma.is_some() {
        log.warn("--preweight-sigma is of no use without --model rdmm");
    }
    if args.advect != Advected::default() {
        log.warn("--advect is of no use without --model rdmm");
    }
    Ok(())
}

/// Reads the fields, builds the model, and shoots.
fn shoot<const D: usize>(
    args: &ShootArgs,
    source: &Source,
    schedule: &Schedule,
    log: &Log,
) -> Done {
    let momentum = source.momentum::<D>(&args.spacing, args.boundary.core())?;
    let grid = momentum.grid();
    match args.model {
        ShotModel::Vsvf => {
            let shooting = Vsvf::new(metric(args)?).on(grid)?;
            integrate(start(shooting, momentum), args, schedule, log)
        }
        ShotModel::Lddmm => {
            let shooting = Lddmm::new(metric(args)?).on(grid)?;
            integrate(start(shooting, momentum), args, schedule, log)
        }
        ShotModel::Rdmm => {
            let (Some(path), Some(sigma)) = (&args.preweights, args.preweight_sigma) else {
                let problem = "RDMM needs --preweights and --preweight-sigma";
                return Err(Failure::at("--model", problem));
            };
            // The model makes it too, and would not say which of the options its σ is.
            Gaussian::<f64, D>::for_weights(grid, sigma)
                .map_err(|error| Failure::at("--preweight-sigma", error))?;
            let h = source.preweights(path, grid, args.sigmas.len())?;
            let advected = match args.advect {
                Advected::Preweights => OfFlow::PreWeights,
                Advected::Weights => OfFlow::Weights,
            };
            let model = Rdmm::from_pre_weights(&args.sigmas, h, sigma)?.with_advected(advected);
            integrate(start(model.on(grid)?, momentum), args, schedule, log)
        }
    }
}

fn metric(args: &ShootArgs) -> Done<MultiGaussian> {
    Ok(MultiGaussian::new(&args.sigmas, &weights(args))?)
}

/// A model on a grid, and the state at t = 0.
struct Start<S: Shooting<f64, D>, const D: usize> {
    shooting: S,
    momentum: Momentum<f64, D>,
    state: State<f64, D, S>,
}

fn start<S: Shooting<f64, D>, const D: usize>(
    mut shooting: S,
    momentum: Momentum<f64, D>,
) -> Start<S, D> {
    let controls = Controls { momentum, weights: shooting.identity().weights };
    let state = shooting.initial_state(&controls);
    Start { shooting, momentum: controls.momentum, state }
}

/// Follows the flow and writes its results.
fn integrate<S, B, const D: usize>(
    start: Start<S, D>,
    args: &ShootArgs,
    schedule: &Schedule,
    log: &Log,
) -> Done
where
    S: Shooting<f64, D>,
    S::Evolution: Evolution<State = Flow<f64, D, B>>,
    B: Body<D> + StateSpace<f64>,
{
    let begin = Instant::now();
    let Start { mut shooting, momentum, state } = start;
    let mut results = Results::in_folder(&args.out)?;
    let energies = flow::follow(&mut shooting, &momentum, state, schedule, |instant| {
        results.write(&instant)?;
        log.say(&results.last_line());
        Ok(())
    })?;
    results.report(args, momentum.grid(), &energies, begin.elapsed())?;
    results.expect_no_folds()
}
