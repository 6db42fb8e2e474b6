//! Composition of maps, and fields along a flow.

use super::spline::Prefilter;
use super::warp::Warp;
use crate::field::{axpy, set_zero};
use crate::grid::Grid;
use crate::scalar::Real;

/// Composition of maps over one grid: u ← d + u∘(id + d), the semi-Lagrangian step.
#[derive(Clone, Debug)]
pub struct Composition<T, const D: usize> {
    prefilter: Prefilter<T, D>,
    warp: Warp<T, D>,
}

impl<T: Real, const D: usize> Composition<T, D> {
    /// Composition over `grid`.
    #[must_use]
    pub fn new(grid: &Grid<D>) -> Self {
        Self { prefilter: Prefilter::new(grid), warp: Warp::new(grid, grid) }
    }

    /// Spline coefficients of `u`, into `coefficients`: interleaved, for the other operations only.
    pub fn coefficients(&self, u: &[T], coefficients: &mut [T]) {
        self.prefilter.interleaved::<D>(u, coefficients);
    }

    /// `out ← d + u∘(id + d)` from the coefficients of u.
    pub fn compose(&self, coefficients: &[T], d: &[T], out: &mut [T]) {
        self.sample(coefficients, d, out);
        axpy(out, T::one(), d);
    }

    /// `out ← v∘(id + d)` from the coefficients of v.
    pub fn sample(&self, coefficients: &[T], d: &[T], out: &mut [T]) {
        self.warp.values::<D>(coefficients, d, out);
    }

    /// Transpose of [`Composition::sample`] in d alone: `d_bar += D(v)ᵀ bar`.
    pub fn add_position_bar(&self, coefficients: &[T], d: &[T], bar: &[T], d_bar: &mut [T]) {
        self.warp.add_position_bar::<D>(coefficients, d, bar, d_bar);
    }

    /// Transpose of [`Composition::sample`]: `d_bar += D(v)ᵀ bar`, and `bar ← Sᵀ bar`, the cotangent of v, where S
    /// samples v at id + d. The coefficients are used up.
    pub fn sample_vjp(&self, coefficients: &mut [T], d: &[T], bar: &mut [T], d_bar: &mut [T]) {
        self.add_position_bar(coefficients, d, bar, d_bar);
        set_zero(coefficients);
        self.warp.scatter::<D>(d, bar, coefficients);
        set_zero(bar);
        self.prefilter.add_transposed::<D>(coefficients, bar);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Boundary;
    use crate::testing::random;

    fn pair(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn sampling_and_its_transpose_match() {
        for boundary in Boundary::ALL {
            let grid = Grid::new([6, 5, 7], [0.5, 1.0, 2.0]).unwrap().with_boundary(boundary);
            let n = grid.len();
            let composition = Composition::<f64, 3>::new(&grid);
            // Displacements of up to three voxels, beyond the border too.
            let d: Vec<f64> = random(3 * n, 1).iter().map(|x: &f64| 3.0 * x).collect();
            let (v, bar) = (random(3 * n, 2), random(3 * n, 3));
            let mut c = vec![0.0; 3 * n];
            composition.coefficients(&v, &mut c);
            let mut out = vec![0.0; 3 * n];
            composition.sample(&c, &d, &mut out);
            let (mut d_bar, mut v_bar) = (vec![0.0; 3 * n], bar.clone());
            composition.sample_vjp(&mut c.clone(), &d, &mut v_bar, &mut d_bar);
            let (left, right) = (pair(&out, &bar), pair(&v_bar, &v));
            assert!((left - right).abs() < 1e-12 * left.abs().max(1.0), "{boundary:?}");

            let direction: Vec<f64> = random(3 * n, 4);
            let at = |e: f64| {
                let d: Vec<f64> = d.iter().zip(&direction).map(|(d, x)| d + e * x).collect();
                let mut out = vec![0.0; 3 * n];
                composition.sample(&c, &d, &mut out);
                pair(&out, &bar)
            };
            // Central differences: e² truncation and 1e-16/e rounding meet at about 1e-9.
            let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
            let exact = pair(&d_bar, &direction);
            assert!((numeric - exact).abs() < 1e-7 * exact.abs().max(1.0), "{boundary:?}");
        }
    }
}
