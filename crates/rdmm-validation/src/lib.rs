//! What the programs of this crate, the example `register` and the benchmarks share: a pair of images registered by
//! each model with its figures and its picture, and workloads with their time and their traffic of memory.
//!
//! It is not published: `src/bin` holds the programs that write the tables of the book.
#![expect(clippy::print_stdout, reason = "programs report on the terminal")]
#![expect(
    missing_docs,
    clippy::missing_errors_doc,
    clippy::must_use_candidate,
    reason = "read by its own programs only"
)]

pub mod arguments;
pub mod case;
mod font;
pub mod outcome;
pub mod panel;
pub mod raster;
pub mod regional;
pub mod speed;

use std::error::Error;
use std::process::ExitCode;

/// What ends in any error.
pub type Fallible<T> = Result<T, Box<dyn Error>>;

/// The end of a program: what went wrong goes to the terminal.
pub fn exit(done: Fallible<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
