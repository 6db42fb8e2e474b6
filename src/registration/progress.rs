//! What an observer sees.

use super::terms::Diagnostics;

/// What an observer sees after each iteration.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Progress {
    /// Level, from 0 for the coarsest.
    pub level: usize,
    /// Number of levels.
    pub levels: usize,
    /// Iteration within the level; 0 is the start.
    pub iteration: usize,
    /// Evaluations of energy and gradient so far, all levels.
    pub evaluations: usize,
    /// Norm of the gradient in the inverse metric, relative to the level's start.
    pub gradient_norm: f64,
    /// Energy terms, time steps, energy drift and smallest determinant.
    pub diagnostics: Diagnostics,
    /// Seconds since the start.
    pub seconds: f64,
}
