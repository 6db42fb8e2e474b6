//! `rdmm`: diffeomorphic registration of medical images from the command line.

mod beyond;
mod cli;
mod command;
mod config;
mod failure;
mod figures;
mod files;
mod fit;
mod how;
mod inputs;
mod intensities;
mod log;
mod maps;
mod measure;
mod page;
mod pair;
mod parts;
mod planes;
mod print;
mod report;
mod resample;
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
