//! How a trajectory is integrated.

use super::checkpoint::Checkpoints;
use crate::error::{Error, Result};
use crate::step::runge_kutta::MapTransport;
use crate::step::{RK4, Steps, Tableau};

/// Which gradient a sweep computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum GradientKind {
    /// The transpose of the discrete steps: the gradient of what was computed, to rounding.
    #[default]
    Discrete,
    /// The paper's: the adjoint differential equation, integrated backwards with the same tableau and the
    /// Eulerian map. It differs from the gradient of what was computed by the errors of both
    /// discretisations, which vanish with the step and the spacing.
    Continuous,
}

/// How to integrate: method, step sizes, transport of the map, memory, gradient.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct Integration {
    /// The Runge–Kutta method.
    pub tableau: Tableau,
    /// Step sizes.
    pub steps: Steps,
    /// Transport of the inverse map.
    pub transport: MapTransport,
    /// States kept for the backward sweep.
    pub checkpoints: Checkpoints,
    /// Which gradient.
    pub gradient: GradientKind,
}

impl Default for Integration {
    fn default() -> Self {
        Self {
            tableau: RK4,
            steps: Steps::default(),
            transport: MapTransport::default(),
            checkpoints: Checkpoints::default(),
            gradient: GradientKind::default(),
        }
    }
}

impl Integration {
    /// `Ok` if the settings fit one another.
    ///
    /// # Errors
    /// [`Error::Setting`]; adaptive steps need a tableau with an error estimate.
    pub fn validate(&self) -> Result<()> {
        self.steps.validate()?;
        self.checkpoints.validate()?;
        if matches!(self.steps, Steps::Tolerance { .. }) && self.tableau.error().is_none() {
            let expected = "a tableau with an error estimate for adaptive steps, such as DOPRI5";
            return Err(Error::setting("tableau", expected, self.tableau.name()));
        }
        Ok(())
    }
}
