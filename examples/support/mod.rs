//! What the examples share: reading images, running a registration and drawing results.

pub(crate) mod arguments;
pub(crate) mod case;
pub(crate) mod font;
pub(crate) mod outcome;
pub(crate) mod panel;
pub(crate) mod raster;
pub(crate) mod read;
pub(crate) mod regional;

use std::error::Error;
use std::process::ExitCode;

/// The end of an example: what went wrong goes to the terminal.
pub(crate) fn exit(done: Result<(), Box<dyn Error>>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
