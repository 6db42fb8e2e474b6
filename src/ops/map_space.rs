//! Composition of displacements over a grid, for steps that know maps by their operations only.

use super::compose::Composition;
use crate::aligned::Aligned;
use crate::error::{Error, Result};
use crate::field::{Displacement, copy};
use crate::scalar::Real;
use crate::space::{Compose, MapSpace};

/// Spline coefficients of a displacement, interleaved.
#[derive(Clone, Debug)]
pub struct SplineCoefficients<T>(Aligned<T>);

impl<T: Real, const D: usize> MapSpace<T> for Displacement<T, D> {
    type Composer = Composer<T, D>;

    fn composer(&self) -> Composer<T, D> {
        Composer { composition: Composition::new(self.grid()), len: self.data().len() }
    }
}

/// Composition of displacements over one grid by cubic splines: [`Composition`] of fields.
#[derive(Clone, Debug)]
pub struct Composer<T, const D: usize> {
    composition: Composition<T, D>,
    len: usize,
}

impl<T: Real, const D: usize> Compose<T> for Composer<T, D> {
    type Map = Displacement<T, D>;
    type Coefficients = SplineCoefficients<T>;

    fn blank(&self) -> SplineCoefficients<T> {
        SplineCoefficients(Aligned::zeros(self.len))
    }

    fn coefficients_len(&self) -> usize {
        self.len
    }

    fn expect_coefficients(&self, found: &SplineCoefficients<T>) -> Result<()> {
        let (expected, found) = (self.len, found.0.len());
        if expected == found {
            Ok(())
        } else {
            Err(Error::Length { what: "spline coefficients of a map", expected, found })
        }
    }

    fn set_coefficients(&self, u: &Displacement<T, D>, coefficients: &mut SplineCoefficients<T>) {
        self.composition.coefficients(u.data(), &mut coefficients.0);
    }

    fn compose(
        &self,
        coefficients: &SplineCoefficients<T>,
        d: &Displacement<T, D>,
        out: &mut Displacement<T, D>,
    ) {
        self.composition.compose(&coefficients.0, d.data(), out.data_mut());
    }

    fn compose_vjp(
        &self,
        coefficients: &mut SplineCoefficients<T>,
        d: &Displacement<T, D>,
        bar: &mut Displacement<T, D>,
        d_bar: &mut Displacement<T, D>,
    ) {
        copy(bar.data(), d_bar.data_mut());
        self.composition.sample_vjp(
            &mut coefficients.0,
            d.data(),
            bar.data_mut(),
            d_bar.data_mut(),
        );
    }
}
