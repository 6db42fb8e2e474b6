//! Which affine maps are sought: groups of matrices, by the exponential of their generators.

use nalgebra::SMatrix;

/// The group that the linear part of the map is sought in.
///
/// A matrix of the group is the exponential of a sum of generators. The map has D more degrees of freedom,
/// those of the shift.
///
/// | | generators | number | in 2-D and 3-D, with the shift |
/// | --- | --- | --- | --- |
/// | `Rigid` | skew-symmetric matrices | D(D − 1)/2 | 3, 6 |
/// | `Similarity` | those and the identity | D(D − 1)/2 + 1 | 4, 7 |
/// | `Affine` | all matrices | D² | 6, 12 |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Transform {
    /// Rotations.
    Rigid,
    /// Rotations with one scale.
    Similarity,
    /// Invertible matrices of positive determinant.
    Affine,
}

impl Transform {
    /// A basis B_k of the group's Lie algebra, entries 0 and ±1.
    #[must_use]
    pub fn generators<const D: usize>(self) -> Vec<SMatrix<f64, D, D>> {
        let unit =
            |a: usize, b: usize| SMatrix::from_fn(|i, j| f64::from(u8::from((i, j) == (a, b))));
        let pairs = (0..D).flat_map(|a| (0..D).map(move |b| (a, b)));
        let rotations = pairs.clone().filter(|(a, b)| a < b).map(|(a, b)| unit(a, b) - unit(b, a));
        match self {
            Self::Rigid => rotations.collect(),
            Self::Similarity => rotations.chain([SMatrix::identity()]).collect(),
            Self::Affine => pairs.map(|(a, b)| unit(a, b)).collect(),
        }
    }
}

/// Terms of the series of exp x: ½¹⁶/16! is 1e-18, below rounding beside 1.
const TERMS: u32 = 16;

/// exp X, and its derivative L(X, E) in the direction E, which is the upper right block of
/// exp [[X, E], [0, X]].
///
/// The Taylor series of X/2ⁿ, whose norm is at most ½, squared n times. Block matrices [[P, Q], [0, P]]
/// are multiplied as (P, Q)(R, S) = (P R, P S + Q R).
///
/// # References
/// Higham, *Functions of Matrices*, SIAM 2008, doi:10.1137/1.9780898717778, eq. (3.16) and Section 10.3.
pub(super) fn exponential<const D: usize>(
    x: &SMatrix<f64, D, D>,
    e: &SMatrix<f64, D, D>,
) -> [SMatrix<f64, D, D>; 2] {
    // Numbers that have no exponential overflow, after a bounded number of squarings.
    let squarings = (2.0 * x.norm()).log2().ceil().clamp(0.0, 1000.0);
    let scale = 0.5_f64.powf(squarings);
    let (x, e) = (x * scale, e * scale);
    let one = SMatrix::<f64, D, D>::identity();
    let (mut value, mut slope) = (one, SMatrix::zeros());
    for k in (1..=TERMS).rev() {
        let k = f64::from(k);
        slope = (x * slope + e * value) / k;
        value = one + x * value / k;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a small whole number, or NaN")]
    #[expect(clippy::cast_sign_loss, reason = "at least 0")]
    for _ in 0..squarings as u32 {
        slope = value * slope + slope * value;
        value *= value;
    }
    [value, slope]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;
    use nalgebra::DMatrix;

    fn matrix<const D: usize>(size: f64, seed: u64) -> SMatrix<f64, D, D> {
        size * SMatrix::<f64, D, D>::from_column_slice(&random::<f64>(D * D, seed))
    }

    #[test]
    fn groups_have_their_degrees_of_freedom() {
        let count = |t: Transform| {
            [t.generators::<1>().len(), t.generators::<2>().len(), t.generators::<3>().len()]
        };
        assert_eq!(count(Transform::Rigid), [0, 1, 3]);
        assert_eq!(count(Transform::Similarity), [1, 2, 4]);
        assert_eq!(count(Transform::Affine), [1, 4, 9]);
    }

    #[test]
    fn exponentials_of_generators_stay_in_the_group() {
        let zero = SMatrix::<f64, 3, 3>::zeros();
        let generator = |t: Transform| {
            let basis = t.generators::<3>();
            let theta = random::<f64>(basis.len(), 5);
            basis.iter().zip(theta).fold(zero, |sum, (b, x)| sum + b * (2.0 * x))
        };
        let [turn, _] = exponential(&generator(Transform::Rigid), &zero);
        // Rounding of a few products of entries of at most one.
        assert!((turn.transpose() * turn - SMatrix::<f64, 3, 3>::identity()).norm() < 1e-14);
        assert!((turn.determinant() - 1.0).abs() < 1e-14);
        let [similar, _] = exponential(&generator(Transform::Similarity), &zero);
        let gram = similar.transpose() * similar;
        assert!(
            (gram - SMatrix::<f64, 3, 3>::identity() * gram[(0, 0)]).norm() < 1e-13 * gram.norm()
        );
        // det exp X = exp tr X.
        let x = generator(Transform::Affine);
        let [any, _] = exponential(&x, &zero);
        assert!((any.determinant().ln() - x.trace()).abs() < 1e-12);
    }

    #[test]
    fn the_derivative_is_the_block_of_the_larger_exponential() {
        for (size, seed) in [(1e-3, 1), (0.4, 2), (3.0, 3)] {
            let (x, e) = (matrix::<3>(size, seed), matrix::<3>(1.0, seed + 10));
            let [value, slope] = exponential(&x, &e);
            let mut block = DMatrix::<f64>::zeros(6, 6);
            block.view_mut((0, 0), (3, 3)).copy_from(&x);
            block.view_mut((3, 3), (3, 3)).copy_from(&x);
            block.view_mut((0, 3), (3, 3)).copy_from(&e);
            let block = block.exp();
            // An independent algorithm (Padé), both to rounding; squarings amplify it a little.
            let tolerance = 1e-13 * block.norm();
            assert!((block.view((0, 0), (3, 3)) - value).norm() < tolerance);
            assert!((block.view((0, 3), (3, 3)) - slope).norm() < tolerance);
        }
    }

    #[test]
    fn what_is_too_large_is_not_finite_and_ends() {
        for size in [1e4, 1e308, f64::INFINITY, f64::NAN] {
            let x = SMatrix::<f64, 2, 2>::identity() * size;
            let [value, _] = exponential(&x, &x);
            assert!(!value[(0, 0)].is_finite(), "{size}");
        }
    }
}
