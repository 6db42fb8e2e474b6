//! One file a command.

mod shoot;

use crate::cli::{Cli, Command};
use crate::failure::{Done, Failure};
use crate::log::Log;

/// Does what the options ask for.
pub(crate) fn run(cli: &Cli, log: &Log) -> Done {
    rayon::ThreadPoolBuilder::new()
        .num_threads(cli.global.threads)
        .build_global()
        .map_err(|error| Failure::at("--threads", error))?;
    match &cli.command {
        Command::Shoot(args) => shoot::run(args, log),
        _ => Err(Failure::Input("this command is not there yet".to_owned())),
    }
}
