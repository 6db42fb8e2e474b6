//! Landmarks beside the images of an affine registration.

use nalgebra::{DMatrix, SMatrix, SVector};

use crate::error::Result;
use crate::grid::Grid;
use crate::registration::Landmarks;
use crate::world::{Affine, determinant};

/// λ/(n L²) Σ |A(p) − q|² over the maps A, with L the largest extent of the fixed image.
#[derive(Clone, Debug)]
pub(super) struct PointTerm<const D: usize> {
    /// p of the fixed image, and q.
    points: Vec<(SVector<f64, D>, SVector<f64, D>)>,
    /// λ/(n L²).
    scale: f64,
}

/// The derivative of a term in the matrix and in the shift of x ↦ M (x − c) + t.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct AffineBar<const D: usize> {
    pub(super) matrix: SMatrix<f64, D, D>,
    pub(super) shift: SVector<f64, D>,
}

impl<const D: usize> PointTerm<D> {
    pub(super) fn new(landmarks: &Landmarks<D>, fixed: &Grid<D>) -> Self {
        let pairs = landmarks.fixed().iter().zip(landmarks.moving());
        let points: Vec<_> = pairs.map(|(&p, &q)| (p.into(), q.into())).collect();
        let scale = landmarks.weight() / (points.len() as f64 * fixed.largest_extent().powi(2));
        Self { points, scale }
    }

    /// The term, and its derivative about the point c.
    pub(super) fn value_and_gradient(
        &self,
        map: &Affine<D>,
        c: &SVector<f64, D>,
    ) -> (f64, AffineBar<D>) {
        let mut bar = AffineBar { matrix: SMatrix::zeros(), shift: SVector::zeros() };
        let mut sum = 0.0;
        for (p, q) in &self.points {
            let off = map.matrix() * p + map.shift() - q;
            sum += off.norm_squared();
            bar.shift += off * (2.0 * self.scale);
            bar.matrix += off * (p - c).transpose() * (2.0 * self.scale);
        }
        (self.scale * sum, bar)
    }

    /// The rotation and shift of least squares that take the points p to B(q), a shift alone of fewer than D points or
    /// of points that have no direction.
    ///
    /// # References
    /// Umeyama, *Least-squares estimation of transformation parameters between two point patterns*, IEEE TPAMI 13
    /// (1991), doi:10.1109/34.88573: eq. (39) to (42) without the scale.
    pub(super) fn rigid_after(&self, back: &Affine<D>) -> Result<Affine<D>> {
        let n = self.points.len() as f64;
        let taken = |&(p, q): &(SVector<f64, D>, SVector<f64, D>)| (p, back.apply(q.into()).into());
        let points: Vec<(_, SVector<f64, D>)> = self.points.iter().map(taken).collect();
        let zero = (SVector::zeros(), SVector::zeros());
        let (p0, q0) = points.iter().fold(zero, |(p0, q0), (p, q)| (p0 + p / n, q0 + q / n));
        if self.points.len() < D {
            return Affine::new(SMatrix::identity(), q0 - p0);
        }
        let turned = |sum: SMatrix<f64, D, D>, (p, q): &(SVector<f64, D>, SVector<f64, D>)| {
            sum + (q - q0) * (p - p0).transpose()
        };
        let covariance = points.iter().fold(SMatrix::zeros(), turned);
        let size = |sum: f64, (p, q): &(SVector<f64, D>, SVector<f64, D>)| {
            sum + (p - p0).norm() * (q - q0).norm()
        };
        // Rounding of the sum.
        if covariance.norm() <= 1e-12 * points.iter().fold(f64::MIN_POSITIVE, size) {
            return Affine::new(SMatrix::identity(), q0 - p0);
        }
        let svd = DMatrix::from_fn(D, D, |a, b| covariance[(a, b)]).svd(true, true);
        let (Some(u), Some(v)) = (svd.u, svd.v_t) else {
            return Affine::new(SMatrix::identity(), q0 - p0);
        };
        let (u, v) = (
            SMatrix::<f64, D, D>::from_fn(|a, b| u[(a, b)]),
            SMatrix::<f64, D, D>::from_fn(|a, b| v[(a, b)]),
        );
        // Singular values are in descending order: the last axis is the one to mirror back.
        let mut signs = SVector::<f64, D>::from_element(1.0);
        signs[D - 1] = determinant(u * v).signum();
        let turn = u * SMatrix::from_diagonal(&signs) * v;
        Affine::new(turn, q0 - turn * p0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{central_difference, random};

    fn points<const D: usize>(n: usize, seed: u64) -> Vec<[f64; D]> {
        let numbers = random::<f64>(n * D, seed);
        numbers.chunks_exact(D).map(|x| std::array::from_fn(|a| 10.0 * x[a])).collect()
    }

    fn grid<const D: usize>() -> Grid<D> {
        Grid::new([8; D], [2.5; D]).unwrap()
    }

    #[test]
    fn the_term_is_the_mean_squared_error_and_has_its_derivative() {
        let (fixed, moving) = (points::<3>(5, 1), points::<3>(5, 2));
        let term = PointTerm::new(&Landmarks::new(&fixed, &moving, 3.0).unwrap(), &grid());
        let matrix = SMatrix::identity() + 0.1 * SMatrix::from_column_slice(&random::<f64>(9, 3));
        let (c, t) = (SVector::from([1.0, -2.0, 0.5]), SVector::from([0.3, 0.1, -0.7]));
        let map = |m: SMatrix<f64, 3, 3>, t: SVector<f64, 3>| Affine::new(m, t - m * c).unwrap();
        let (value, bar) = term.value_and_gradient(&map(matrix, t), &c);
        let errors = fixed.iter().zip(&moving).map(|(&p, &q)| {
            let found = map(matrix, t).apply(p);
            (0..3).map(|a| (found[a] - q[a]).powi(2)).sum::<f64>()
        });
        // L = 20; rounding.
        assert!((value - 3.0 * errors.sum::<f64>() / (5.0 * 400.0)).abs() < 1e-13);
        for k in 0..12 {
            let found = central_difference(1e-2, |e| {
                let (mut m, mut t) = (matrix, t);
                if k < 9 {
                    m[k] += e;
                } else {
                    t[k - 9] += e;
                }
                term.value_and_gradient(&map(m, t), &c).0
            });
            let expected = if k < 9 { bar.matrix[k] } else { bar.shift[k - 9] };
            // Quadratic: rounding of 1e-16/1e-2.
            assert!((found - expected).abs() < 1e-12, "{k}: {found} {expected}");
        }
    }

    #[test]
    fn a_rotation_is_found_from_its_points_and_never_a_reflection() {
        let turn = nalgebra::Rotation3::from_euler_angles(0.7, -0.4, 2.1).into_inner();
        let known = Affine::new(turn, SVector::from([3.0, -40.0, 7.0])).unwrap();
        for n in [3, 4, 9] {
            let fixed = points::<3>(n, 4);
            let moving: Vec<_> = fixed.iter().map(|&p| known.apply(p)).collect();
            let term = PointTerm::new(&Landmarks::new(&fixed, &moving, 1.0).unwrap(), &grid());
            let found = term.rigid_after(&Affine::identity()).unwrap();
            // Three points lie in a plane, whose other side is a reflection.
            assert!((found.matrix() - turn).norm() < 1e-10, "{n}");
            assert!((found.shift() - known.shift()).norm() < 1e-9, "{n}");
        }
        let fixed = points::<2>(6, 5);
        let mirrored: Vec<_> = fixed.iter().map(|&[x, y]| [-x, y]).collect();
        let term = PointTerm::new(&Landmarks::new(&fixed, &mirrored, 1.0).unwrap(), &grid());
        assert!((term.rigid_after(&Affine::identity()).unwrap().determinant() - 1.0).abs() < 1e-12);
        let one = Landmarks::new(&[[1.0, 2.0]], &[[4.0, 1.0]], 1.0).unwrap();
        let shift = PointTerm::new(&one, &grid()).rigid_after(&Affine::identity()).unwrap();
        assert_eq!(shift, Affine::new(SMatrix::identity(), [3.0, -1.0].into()).unwrap());
        // Points that are all alike in the moving image have no direction.
        let alike = Landmarks::new(&fixed, &[[7.0, 8.0]; 6], 1.0).unwrap();
        let shift = PointTerm::new(&alike, &grid()).rigid_after(&Affine::identity()).unwrap();
        assert_eq!(shift.matrix(), &SMatrix::<f64, 2, 2>::identity());
        // After a map that is known.
        let back = Affine::new(2.0 * SMatrix::identity(), [1.0, 0.0].into()).unwrap();
        let term = PointTerm::new(&one, &grid()).rigid_after(&back).unwrap();
        assert_eq!(term.apply([1.0, 2.0]).map(f64::to_bits), [9.0, 2.0].map(f64::to_bits));
    }
}
