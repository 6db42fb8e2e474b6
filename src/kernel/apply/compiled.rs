//! The door to everything below: compiled here for `f32` and `f64`, and not again where it is used.
//!
//! A user's crate calls through a table of functions, so that the compiler meets none of their generic code there.

use super::domain::Domain;
use super::plan::{self, Bank, Planned};
use super::profile::Profile;
use crate::error::Result;
use crate::scalar::{Choice, Real};

/// Plans of kernels.
pub(crate) trait Planner<T>: Sync {
    /// See [`plan::gaussians`].
    fn gaussians(&self, domain: &Domain, profiles: &[Profile], tolerance: f64) -> Vec<Planned<T>>;

    /// See [`plan::sum`].
    fn sum(
        &self,
        bank: Bank<T>,
        weights: &[f64],
        tolerance: f64,
        f: &(dyn Fn(f64) -> f64 + Sync),
    ) -> Planned<T>;

    /// See [`plan::symbol`].
    fn symbol(&self, domain: &Domain, f: &(dyn Fn(&[f64]) -> f64 + Sync)) -> Result<Planned<T>>;
}

struct Plans;

macro_rules! plans {
    ($($float:ty: $plans:ident),+) => {
        $(impl Planner<$float> for Plans {
            fn gaussians(
                &self,
                domain: &Domain,
                profiles: &[Profile],
                tolerance: f64,
            ) -> Vec<Planned<$float>> {
                plan::gaussians(domain, profiles, tolerance)
            }

            fn sum(
                &self,
                bank: Bank<$float>,
                weights: &[f64],
                tolerance: f64,
                f: &(dyn Fn(f64) -> f64 + Sync),
            ) -> Planned<$float> {
                plan::sum(bank, weights, tolerance, f)
            }

            fn symbol(
                &self,
                domain: &Domain,
                f: &(dyn Fn(&[f64]) -> f64 + Sync),
            ) -> Result<Planned<$float>> {
                plan::symbol(domain, f)
            }
        }

        static $plans: &dyn Planner<$float> = &Plans;)+
    };
}

plans!(f32: SINGLE, f64: DOUBLE);

enum Planners {}

impl Choice for Planners {
    type Of<T: Real> = &'static dyn Planner<T>;
}

/// The plans for numbers of this type.
pub(crate) fn planner<T: Real>() -> &'static dyn Planner<T> {
    T::choose::<Planners>(SINGLE, DOUBLE)
}
