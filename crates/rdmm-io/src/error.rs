//! The one error type: which file, and what was expected, found and what to do.

use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong with a file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct Error {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub problem: Problem,
}

/// What can be wrong with a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The operating system refused.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The file ends before its header or its data do.
    #[error("truncated: expected {expected} bytes of {what}, found {found}: copy the file again")]
    Truncated {
        /// Which part of the file.
        what: &'static str,
        /// Bytes that the header promises.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// The content is not what the format allows, or what is supported of it.
    #[error("{what}: expected {expected}, found {found}")]
    Content {
        /// Which entry.
        what: &'static str,
        /// What would be read.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// The image has another number of axes.
    #[error(
        "expected an image of {expected} axes, found {found}: a file of one slice counts as two axes; \
         cut one slice out of the volume, or take volumes only"
    )]
    Axes {
        /// Axes that were asked for.
        expected: usize,
        /// Axes of the file.
        found: usize,
    },
    /// The image is well-formed but cannot be registered.
    #[error("{0}")]
    Core(#[from] rdmm_core::Error),
}

impl Problem {
    /// A [`Problem::Content`].
    pub(crate) fn content(
        what: &'static str,
        expected: &'static str,
        found: impl std::fmt::Display,
    ) -> Self {
        Self::Content { what, expected, found: found.to_string() }
    }

    /// The error for a file.
    #[must_use]
    pub fn at(self, path: impl AsRef<Path>) -> Error {
        Error { path: path.as_ref().to_path_buf(), problem: self }
    }
}
