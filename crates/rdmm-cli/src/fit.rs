//! The map that brings landmarks together, for where an affine registration starts.

use nalgebra::{DMatrix, SMatrix, SVector};
use rdmm_core::affine::Transform;
use rdmm_core::world::Affine;

use crate::failure::{Done, Failure};

/// Below this share of the largest spread points count as being on a line, or in a plane.
const FLAT: f64 = 1e-6;

/// The map of this kind that takes points of the fixed image nearest to those of the moving image: least squares.
pub(crate) fn fit<const D: usize>(
    transform: Transform,
    fixed: &[[f64; D]],
    moving: &[[f64; D]],
) -> Done<Affine<D>> {
    let refused = |expected: String| {
        let problem = format!("expected {expected}, found {} points: add some", fixed.len());
        Failure::at("affine.start (--start landmarks)", problem)
    };
    let centre = |points: &[[f64; D]]| {
        points.iter().map(|&x| SVector::from(x)).sum::<SVector<f64, D>>() / points.len() as f64
    };
    let (from, to) = (centre(fixed), centre(moving));
    let none = SMatrix::<f64, D, D>::zeros();
    let (mut spread, mut there, mut cross) = (none, none, none);
    for (&x, &y) in fixed.iter().zip(moving) {
        let (x, y) = (SVector::from(x) - from, SVector::from(y) - to);
        spread += x * x.transpose();
        there += y * y.transpose();
        cross += y * x.transpose();
    }
    // Axes along which points are apart; squares of lengths.
    let axes = |spread: &SMatrix<f64, D, D>| {
        let widths = dynamic(spread).symmetric_eigenvalues();
        let largest = widths.max();
        widths.iter().filter(|&&w| largest > 0.0 && w > FLAT * FLAT * largest).count()
    };
    let (wide, wide_there) = (axes(&spread), axes(&there));
    let matrix = if transform == Transform::Affine {
        let inverse = spread.try_inverse().filter(|_| wide == D && wide_there == D);
        let expected = format!("at least {} landmarks that span the space", D + 1);
        cross * inverse.ok_or_else(|| refused(expected))?
    } else {
        if wide.min(wide_there) + 1 < D || wide.min(wide_there) == 0 {
            return Err(refused(format!(
                "at least {D} landmarks that are not on one line or alike"
            )));
        }
        let split = dynamic(&cross).svd(true, true);
        let (Some(u), Some(v)) = (split.u, split.v_t) else {
            return Err(refused("landmarks that can be brought together".to_owned()));
        };
        // Rotations only: the weakest axis is turned over where all others would mirror.
        let mut signs = vec![1.0; D];
        let weakest = split.singular_values.imin();
        signs[weakest] = if (&u * &v).determinant() < 0.0 { -1.0 } else { 1.0 };
        let turn = &u * DMatrix::from_diagonal(&signs.clone().into()) * &v;
        let scale = match transform {
            Transform::Similarity => {
                let reached = split.singular_values.iter().zip(&signs).map(|(s, sign)| s * sign);
                reached.sum::<f64>() / spread.trace()
            }
            _ => 1.0,
        };
        SMatrix::from_fn(|r, c| scale * turn[(r, c)])
    };
    Ok(Affine::new(matrix, to - matrix * from)?)
}

fn dynamic<const D: usize>(matrix: &SMatrix<f64, D, D>) -> DMatrix<f64> {
    DMatrix::from_fn(D, D, |r, c| matrix[(r, c)])
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINTS: [[f64; 3]; 5] = [
        [10.0, 5.0, 3.0],
        [-12.0, 4.0, -6.0],
        [6.0, -8.0, 5.0],
        [-5.0, -6.0, 2.0],
        [20.0, 2.0, 0.0],
    ];

    fn turn(scale: f64) -> SMatrix<f64, 3, 3> {
        let (s, c) = 2.6_f64.sin_cos();
        scale * SMatrix::<f64, 3, 3>::new(c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0)
    }

    fn moved(map: &Affine<3>) -> Vec<[f64; 3]> {
        POINTS.iter().map(|&x| map.apply(x)).collect()
    }

    #[test]
    fn exact_landmarks_give_their_map() {
        let shift = SVector::from([30.0, -2.0, 7.0]);
        let sheared = SMatrix::<f64, 3, 3>::new(1.2, 0.3, 0.0, -0.1, 0.8, 0.2, 0.0, 0.1, 1.1);
        for (transform, matrix) in [
            (Transform::Rigid, turn(1.0)),
            (Transform::Similarity, turn(0.7)),
            (Transform::Affine, sheared),
        ] {
            let map = Affine::new(matrix, shift).unwrap();
            let found = fit(transform, &POINTS, &moved(&map)).unwrap();
            assert!((found.matrix() - matrix).amax() < 1e-12, "{transform:?}: {found:?}");
            assert!((found.shift() - shift).amax() < 1e-11, "{transform:?}: {found:?}");
        }
        // Three points in a plane hold a rotation, and mirrored ones are turned, not mirrored.
        let map = Affine::new(turn(1.0), shift).unwrap();
        let found = fit(Transform::Rigid, &POINTS[..3], &moved(&map)[..3]).unwrap();
        assert!((found.matrix() - turn(1.0)).amax() < 1e-12);
        let mirrored: Vec<[f64; 3]> = POINTS.iter().map(|[x, y, z]| [-x, *y, *z]).collect();
        let found = fit(Transform::Rigid, &POINTS, &mirrored).unwrap();
        assert!((found.determinant() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn too_few_landmarks_are_refused() {
        let line = [[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [2.0, 4.0, 6.0]];
        for (transform, points) in [
            (Transform::Rigid, &line[..]),
            (Transform::Rigid, &POINTS[..2]),
            (Transform::Similarity, &POINTS[..1]),
            (Transform::Affine, &POINTS[..3]),
        ] {
            let error = fit(transform, points, points).unwrap_err().to_string();
            assert!(error.contains("--start landmarks") && error.contains("points"), "{error}");
        }
    }
}
