//! How many steps, and how long.

use crate::error::{Error, Result, positive};

/// The choice of step sizes over the unit interval of time.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Steps {
    /// This many equal steps.
    Fixed(usize),
    /// Equal steps, as many as keep the fastest voxel of the initial velocity from moving more than
    /// `number` voxels a step, and no fewer than `at_least`. A velocity that needs more than `at_most` is
    /// refused as [`Error::Diverged`]: a line search then takes a shorter step.
    ///
    /// RK4 with central differences is unstable above about 3.5 voxels a step, and below it the error
    /// in time is under the error in space. In an optimisation steps may become up to 1.5 times as long before
    /// there are more of them, so that values can be compared
    /// ([`Sweep::keep_steps`](crate::adjoint::Sweep::keep_steps)): a `number` of 2.3 or less stays stable there.
    Courant {
        /// Largest displacement of a step, in voxels.
        number: f64,
        /// Fewest steps.
        at_least: usize,
        /// Most steps.
        at_most: usize,
    },
    /// Steps that keep the embedded error estimate of every block of the state below `relative` times
    /// its norm, each step; those that exceed it are rejected and repeated. It needs a tableau with an
    /// error estimate.
    Tolerance {
        /// Relative error a step.
        relative: f64,
        /// Steps, accepted and rejected, after which to give up.
        at_most: usize,
    },
}

impl Default for Steps {
    fn default() -> Self {
        Self::Courant { number: 1.5, at_least: 3, at_most: 50 }
    }
}

/// Most steps that the step-count rule may ask for: beyond it the velocity is no registration's.
pub(crate) const MAX_STEPS: usize = 10_000;

impl Steps {
    /// `Ok` if the settings make sense.
    ///
    /// # Errors
    /// [`Error::Setting`] for no steps, a step number over 10 000, or a tolerance or Courant number
    /// that is not positive.
    pub fn validate(self) -> Result<Self> {
        let (name, count) = match self {
            Self::Fixed(steps) => ("number of steps", steps),
            Self::Courant { number, at_least, at_most } => {
                positive("Courant number", number)?;
                if at_least == 0 || at_least > at_most {
                    let expected = "fewest steps from 1 to the most steps";
                    return Err(Error::setting("fewest steps", expected, at_least));
                }
                ("most steps", at_most)
            }
            Self::Tolerance { relative, at_most } => {
                positive("tolerance of the steps", relative)?;
                ("most steps", at_most)
            }
        };
        if (1..=MAX_STEPS).contains(&count) {
            Ok(self)
        } else {
            Err(Error::setting(name, "1 to 10000", count))
        }
    }

    /// The number of equal steps for an initial velocity of at most `speed` voxels per unit of time;
    /// `None` for adaptive steps.
    ///
    /// # Errors
    /// [`Error::Diverged`] where more than the most steps would be needed, or `speed` is not finite.
    pub fn count(self, speed: f64) -> Result<Option<usize>> {
        match self {
            Self::Fixed(steps) => Ok(Some(steps)),
            Self::Tolerance { .. } => Ok(None),
            Self::Courant { number, at_least, at_most } => {
                let needed = (speed / number).ceil();
                if !needed.is_finite() || needed > at_most as f64 {
                    return Err(Error::Diverged { step: 0, steps: at_most });
                }
                #[expect(clippy::cast_possible_truncation, reason = "checked against at_most")]
                #[expect(clippy::cast_sign_loss, reason = "a norm is not negative")]
                let needed = needed as usize;
                Ok(Some(needed.max(at_least)))
            }
        }
    }
}
