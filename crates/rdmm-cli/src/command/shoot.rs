//! `rdmm shoot`: the evolution equations from an initial momentum.

use crate::cli::ShootArgs;
use crate::failure::{Done, Failure};
use crate::log::Log;

/// Integrates and writes what the options ask for.
pub(crate) fn run(_args: &ShootArgs, _log: &Log) -> Done {
    Err(Failure::Input("this command is not there yet".to_owned()))
}
