//! Where a registration stands, so that it can go on later.

use super::result::LevelReport;
use super::settings::Level;
use super::terms::Diagnostics;
use crate::error::{Error, Result};
use crate::model::Controls;
use crate::optim::{AdamState, LbfgsState};

/// Everything that the next iteration of a registration depends on, beside the registration itself and its
/// images.
///
/// [`Registration::run_from`](super::Registration::run_from) hands it out and goes on from it. It can be
/// stored (feature `serde`): some 25 vectors of the size of the controls with ten pairs of L-BFGS.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(
        serialize = "T: crate::scalar::Real + serde::Serialize, W: serde::Serialize",
        deserialize = "T: crate::scalar::Real + serde::Deserialize<'de>, W: serde::Deserialize<'de>"
    ))
)]
pub struct Checkpoint<T, const D: usize, W> {
    /// Levels that are done.
    pub(super) finished: Vec<LevelReport>,
    /// The level in hand.
    pub(super) state: LevelState<Controls<T, D, W>>,
    /// Seconds so far.
    pub(super) seconds: f64,
}

impl<T, const D: usize, W> Checkpoint<T, D, W> {
    /// The level in hand, from 0 for the coarsest.
    #[must_use]
    pub fn level(&self) -> usize {
        self.finished.len()
    }

    /// Seconds spent so far.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// `Ok` if the level in hand is one of `levels`.
    pub(super) fn expect_level_of(&self, levels: &[Level]) -> Result<()> {
        if self.level() < levels.len() {
            return Ok(());
        }
        let expected = "one of a registration with the same levels";
        let found = format!("level {} of {}", self.level() + 1, levels.len());
        Err(Error::setting("checkpoint", expected, found))
    }
}

/// The state of a level.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct LevelState<C> {
    pub(super) optimiser: Optimiser<C>,
    /// What was found at the start of the level.
    pub(super) first: Diagnostics,
    /// What the objective remembers of its evaluations.
    pub(super) seen: Vec<Diagnostics>,
    /// Fewest time steps that are allowed.
    pub(super) steps: usize,
    pub(super) refused: usize,
    /// What the momentum at the start of the level was multiplied by.
    pub(super) shrunk: f64,
    pub(super) seconds: f64,
}

/// The state of an optimiser.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) enum Optimiser<C> {
    Lbfgs(LbfgsState<C>),
    Adam(AdamState<C>),
}

impl<C> Optimiser<C> {
    pub(super) fn control(&self) -> &C {
        match self {
            Self::Lbfgs(state) => state.control(),
            Self::Adam(state) => state.control(),
        }
    }
}
