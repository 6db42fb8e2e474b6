//! `rdmm`: diffeomorphic registration of medical images from the command line.

mod cli;
mod config;
mod failure;
mod log;
mod maps;

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::SUCCESS
}
