//! The standard output: what a command was asked for. Progress and errors go elsewhere (`log`).

use std::io::Write as _;

use crate::failure::{Done, Failure};

/// One line or more on the standard output. A reader that has gone away is no failure.
pub(crate) fn print(text: &str) -> Done {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::at("standard output", error))
        }
        _ => Ok(()),
    }
}
