//! Points beyond the grid of a warp: what carries them, that inverses undo it, and that they are counted.
#![expect(clippy::unwrap_used, reason = "a broken map stops the test")]

use nalgebra::{SMatrix, SVector};
use rdmm_core::field::Displacement;
use rdmm_core::grid::Grid;
use rdmm_core::testing::random;
use rdmm_core::world::Affine;
use rdmm_io::transform::{TOLERANCE, itk, write_warp};
use rdmm_io::{Chain, Listed, Transform};

fn grid() -> Grid<2> {
    let (s, c) = 0.3_f64.sin_cos();
    let turn = SMatrix::<f64, 2, 2>::new(c, -s, s, c);
    let grid = Grid::new([20, 16], [1.0, 2.0]).unwrap();
    grid.with_origin([-30.0, 12.0]).unwrap().with_direction(turn).unwrap()
}

fn affine() -> Affine<2> {
    Affine::new(SMatrix::<f64, 2, 2>::new(1.1, 0.1, -0.2, 0.9), SVector::from([40.0, -7.0]))
        .unwrap()
}

/// A wave of about a voxel, everywhere and so at the border too.
fn wave() -> Displacement<f32, 2> {
    let u = |x: [f64; 2], c: usize| 0.8 * (0.3 * x[1 - c] + c as f64).sin();
    Displacement::from_fn(&grid(), |x| std::array::from_fn(|c| u(x, c))).unwrap()
}

/// Points on and around the grid, up to its size away from it.
fn points() -> Vec<[f64; 2]> {
    let spread = |row: &[f64]| [9.5 + 20.0 * row[0], 7.5 + 16.0 * row[1]];
    random::<f64>(800, 5).chunks(2).map(|row| grid().to_world(spread(row))).collect()
}

fn inside(point: [f64; 2]) -> bool {
    let index = grid().to_index(point);
    (0..2).all(|a| index[a] >= -0.5 && index[a] < grid().shape()[a] as f64 - 0.5)
}

fn distance(a: [f64; 2], b: [f64; 2]) -> f64 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

#[test]
fn the_affine_map_of_a_pair_has_no_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_warp(path("nonlinear.nii.gz"), &wave()).unwrap();
    itk::write_mat(path("affine.mat"), &affine()).unwrap();
    let whole =
        Chain::new([(Transform::Warp(wave()), false), (Transform::Affine(affine()), false)]);
    write_warp(path("whole.nii.gz"), &whole.unwrap().displacement(&grid()).unwrap()).unwrap();

    let listed = |names: &[&str]| -> Vec<Listed> {
        names.iter().map(|name| Listed::new(path(name))).collect()
    };
    let pair = Chain::<2>::read(&listed(&["nonlinear.nii.gz", "affine.mat"])).unwrap();
    let whole = Chain::<2>::read(&listed(&["whole.nii.gz"])).unwrap();
    let outside = points().into_iter().filter(|&x| !inside(x)).count();
    assert!(outside > 100 && outside < 350, "{outside}");
    for x in points() {
        let (a, b) = (pair.apply(x).unwrap(), whole.apply(x).unwrap());
        let index = grid().to_index(x);
        if (0..2).all(|a| (0.0..=grid().shape()[a] as f64 - 1.0).contains(&index[a])) {
            // Displacements of forty millimetres in single precision.
            assert!(distance(a, b) < 1e-5, "{a:?} {b:?}");
        } else if !inside(x) {
            assert!(distance(a, affine().apply(x)) < 1e-12 && distance(b, x) < 1e-12, "{x:?}");
        }
    }
    assert_eq!(whole.affine_part(), Some(Affine::identity()));
    assert_eq!((pair.affine(), pair.affine_part()), (None, Some(affine())));

    let found = pair.beyond(&points()).unwrap();
    assert_eq!((found.len(), found[0].points), (1, outside));
    assert_eq!(found[0].file.as_deref(), Some(path("nonlinear.nii.gz").as_path()));
    // A wave of 0.8 along both axes, the largest at the border.
    assert!(found[0].jump > 0.8 && found[0].jump <= 0.8 * 2.0_f64.sqrt(), "{}", found[0].jump);
    assert!(found[0].jump_voxels > 0.75 && found[0].jump_voxels <= 0.8 + 1e-6);
    let torn = whole.beyond(&points()).unwrap();
    assert!(torn[0].points == outside && torn[0].jump > 30.0, "{torn:?}");
    let here: Vec<_> = points().into_iter().filter(|&x| inside(x)).collect();
    assert_eq!(pair.beyond(&here).unwrap(), []);
}

#[test]
fn a_warp_and_its_inverse_undo_each_other_on_both_sides_of_the_border() {
    let forth = Chain::new([(Transform::Warp(wave()), false)]).unwrap();
    let back = forth.inverse().unwrap();
    let (mut apart, mut seen) = (0, 0);
    for x in points() {
        let y = forth.apply(x).unwrap();
        let found = back.apply(y).unwrap();
        // A tolerance in voxels of up to two millimetres, through slopes of one at least a half.
        if distance(found, x) > 4.0 * TOLERANCE {
            // Where a point from inside and one from outside arrive together, the one from inside counts.
            assert!(!inside(x) && inside(found), "{x:?} {found:?}");
            assert!(distance(forth.apply(found).unwrap(), y) < 4.0 * TOLERANCE);
            apart += 1;
        }
        let index = grid().to_index(x);
        let far = (0..2).any(|a| index[a] < -2.0 || index[a] > grid().shape()[a] as f64 + 1.0);
        if far {
            assert!(distance(back.apply(x).unwrap(), x) < 1e-12, "{x:?}");
            seen += 1;
        }
    }
    assert!(apart > 0 && apart < 20 && seen > 100, "{apart} {seen}");
    // The other way the inverse is the warp that starts inside.
    let beyond = back.beyond(&points()).unwrap();
    assert!(beyond[0].points > 100 && beyond[0].file.is_none());
}
