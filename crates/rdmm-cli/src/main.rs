//! `rdmm`: diffeomorphic registration of medical images from the command line.

mod cli;
mod command;
mod config;
mod failure;
mod figures;
mod files;
mod inputs;
mod log;
mod maps;
mod measure;
mod page;
mod pair;
mod planes;
mod print;
mod report;
mod results;
mod sigma;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::Cli;
use crate::log::Log;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let log = Log::new(&cli.global);
    match command::run(&cli, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            log.fail(&failure.to_string(), failure.code());
            ExitCode::from(failure.code())
        }
    }
}
