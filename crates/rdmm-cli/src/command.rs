//! One file a command.

mod apply;
mod batch;
mod compose;
mod demo;
mod evaluate;
mod invert;
mod jacobian;
mod register;
mod report;
mod shoot;
mod synth;

use std::path::Path;

use clap::CommandFactory as _;

use crate::cli::{Cli, Command};
use crate::failure::{Done, Failure};
use crate::files::folder;
use crate::log::Log;
use crate::print::print;
use crate::watch::catch_signals;

/// Does what the options ask for.
pub(crate) fn run(cli: &Cli, log: &Log) -> Done {
    rayon::ThreadPoolBuilder::new()
        .num_threads(cli.global.threads)
        .build_global()
        .map_err(|error| Failure::at("--threads", error))?;
    match &cli.command {
        Command::Register(args) => catch_signals().and_then(|()| register::run(args, log)),
        Command::Apply(args) => apply::run(args, log),
        Command::Compose(args) => compose::run(args, log),
        Command::Invert(args) => invert::run(args, log),
        Command::Jacobian(args) => jacobian::run(args, log),
        Command::Shoot(args) => shoot::run(args, log),
        Command::Evaluate(args) => evaluate::run(args, log),
        Command::Synth(args) => synth::run(args, log),
        Command::Report(args) => report::run(args, log),
        Command::Batch(args) => catch_signals().and_then(|()| batch::run(args, &cli.global, log)),
        Command::Demo(args) => catch_signals().and_then(|()| demo::run(args, log)),
        Command::Config(args) => print(register::configuration(&args.how)?.text()?.trim_end()),
        Command::Completions(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "rdmm", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
        Command::Man(args) => manual(&args.out),
    }
}

/// Writes the man pages of all commands.
fn manual(out: &Path) -> Done {
    folder(out)?;
    clap_mangen::generate_to(Cli::command(), out).map_err(|error| Failure::at(out.display(), error))
}
