//! What a checker answers.

use crate::error::Error;

/// What a checker answers: the figure that it found, or why the part does not hold.
pub type Checked = Result<f64, CheckError>;

/// Why a check failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// Two numbers that should agree do not.
    #[error("{what}: off by {off:.2e}, expected at most {allowed:.1e}: {found}")]
    Off {
        /// What was compared with what.
        what: String,
        /// By how much they differ, relative where the check says so.
        off: f64,
        /// By how much they may.
        allowed: f64,
        /// The numbers themselves.
        found: String,
    },
    /// A rule of the contract that is no number.
    #[error("{what}: expected {expected}, found {found}")]
    Broken {
        /// What was called.
        what: String,
        /// The rule.
        expected: &'static str,
        /// What happened.
        found: String,
    },
    /// The part refused the problem of the check.
    #[error(transparent)]
    Refused(#[from] Error),
}

/// `off` if it is at most `allowed`; NaN is not.
pub(super) fn within(
    what: &str,
    off: f64,
    allowed: f64,
    found: impl FnOnce() -> String,
) -> Checked {
    if off <= allowed {
        return Ok(off);
    }
    Err(CheckError::Off { what: what.to_owned(), off, allowed, found: found() })
}

/// `Ok` if a rule holds.
#[expect(clippy::needless_pass_by_value, reason = "numbers and texts alike")]
pub(super) fn expect(
    holds: bool,
    what: impl FnOnce() -> String,
    expected: &'static str,
    found: impl ToString,
) -> Result<(), CheckError> {
    if holds {
        return Ok(());
    }
    Err(CheckError::Broken { what: what(), expected, found: found.to_string() })
}

/// Two digits of each number.
pub(super) fn brief(numbers: &[f64]) -> String {
    numbers.iter().map(|x| format!("{x:.1e}")).collect::<Vec<_>>().join(", ")
}
