//! Objectives that the tests of the optimisers share.

use crate::error::{Error, Result};
use crate::optim::{InitialInverseHessian, Objective};
use crate::scalar::Real;

/// Σ 100 (xᵢ₊₁ − xᵢ²)² + (1 − xᵢ)², minimal at (1, …, 1).
#[derive(Default)]
pub(super) struct Rosenbrock {
    pub(super) evaluations: usize,
    /// The lowest value that was given out.
    pub(super) lowest: Option<f64>,
    /// The evaluation that fails.
    pub(super) fails_at: Option<usize>,
}

pub(super) fn rosenbrock<T: Real>(x: &[T], gradient: &mut [T]) -> f64 {
    let mut value = T::zero();
    gradient.fill(T::zero());
    for i in 0..x.len() - 1 {
        let (a, b) = (x[i + 1] - x[i] * x[i], T::one() - x[i]);
        value += T::of(100.0) * a * a + b * b;
        gradient[i] += T::of(-400.0) * a * x[i] - T::of(2.0) * b;
        gradient[i + 1] += T::of(200.0) * a;
    }
    value.f64()
}

impl<T: Real> Objective<T> for Rosenbrock {
    type Control = Vec<T>;
    fn evaluate(&mut self, x: &Vec<T>, gradient: &mut Vec<T>) -> Result<f64> {
        self.evaluations += 1;
        if Some(self.evaluations) == self.fails_at {
            return Err(fatal());
        }
        let value = rosenbrock(x, gradient);
        self.lowest = Some(self.lowest.map_or(value, |lowest| lowest.min(value)));
        Ok(value)
    }
}

/// An error that no smaller step avoids.
pub(super) fn fatal() -> Error {
    Error::Length { what: "test", expected: 1, found: 2 }
}

/// An error that a smaller step avoids.
pub(super) fn diverged() -> Error {
    Error::Diverged { step: 1, steps: 2 }
}

/// offset + ½ Σ hᵢ xᵢ².
pub(super) struct Quadratic {
    pub(super) h: Vec<f64>,
    pub(super) offset: f64,
}

impl Quadratic {
    /// Eigenvalues from 1 to `condition`, in equal ratios.
    pub(super) fn graded(n: usize, condition: f64) -> Self {
        let h = (0..n).map(|i| condition.powf(i as f64 / (n - 1) as f64));
        Self { h: h.collect(), offset: 0.0 }
    }
}

impl Objective<f64> for Quadratic {
    type Control = Vec<f64>;
    fn evaluate(&mut self, x: &Vec<f64>, gradient: &mut Vec<f64>) -> Result<f64> {
        let mut value = self.offset;
        for i in 0..x.len() {
            gradient[i] = self.h[i] * x[i];
            value += 0.5 * gradient[i] * x[i];
        }
        Ok(value)
    }
}

/// H̃₀ = factor · h⁻¹.
pub(super) struct Inverse {
    pub(super) h: Vec<f64>,
    pub(super) factor: f64,
}

impl InitialInverseHessian<f64, Vec<f64>> for Inverse {
    fn apply(&mut self, gradient: &Vec<f64>, direction: &mut Vec<f64>) {
        for i in 0..gradient.len() {
            direction[i] = self.factor * gradient[i] / self.h[i];
        }
    }
}

/// Σ xᵢ − log xᵢ, minimal at 1; a recoverable error where an xᵢ is not positive.
#[derive(Default)]
pub(super) struct Barrier {
    pub(super) errors: usize,
}

impl Objective<f64> for Barrier {
    type Control = Vec<f64>;
    fn evaluate(&mut self, x: &Vec<f64>, gradient: &mut Vec<f64>) -> Result<f64> {
        if x.iter().any(|&x| x <= 0.0) {
            self.errors += 1;
            return Err(diverged());
        }
        for i in 0..x.len() {
            gradient[i] = 1.0 - 1.0 / x[i];
        }
        Ok(x.iter().map(|x| x - x.ln()).sum())
    }
}
