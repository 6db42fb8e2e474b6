//! Why the program ends, and the code that it ends with.

use std::fmt;

/// What a command returns.
pub(crate) type Done<T = ()> = Result<T, Failure>;

/// Everything but success.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Options, files or data that cannot be used: what was expected, found and what to do.
    Input(String),
    /// There is a result, but not what was asked for: no convergence, or folds.
    Unfinished(String),
    /// The time limit was reached; the best state so far was written.
    TimeLimit(String),
    /// Stopped by a signal; the best state so far was written.
    Interrupted(String),
}

impl Failure {
    /// The exit code: those of a shell for time limits and signals.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Input(_) => 2,
            Self::Unfinished(_) => 3,
            Self::TimeLimit(_) => 124,
            Self::Interrupted(_) => 130,
        }
    }

    /// A [`Failure::Input`] about a file, an option or another place.
    pub(crate) fn at(place: impl fmt::Display, problem: impl fmt::Display) -> Self {
        Self::Input(format!("{place}: {problem}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Input(text)
        | Self::Unfinished(text)
        | Self::TimeLimit(text)
        | Self::Interrupted(text)) = self;
        f.write_str(text)
    }
}

impl From<rdmm_io::Error> for Failure {
    fn from(error: rdmm_io::Error) -> Self {
        Self::Input(error.to_string())
    }
}

impl From<rdmm_core::Error> for Failure {
    fn from(error: rdmm_core::Error) -> Self {
        let option = match error {
            rdmm_core::Error::NoOverlap { .. } => " (--start mass, --start moments, --initial)",
            rdmm_core::Error::Stretched { .. } => " (--start, --affine)",
            _ => "",
        };
        Self::Input(format!("{error}{option}"))
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Input(text)
    }
}
