//! Volumes and the fields of `rdmm-core`: axes, order, vectors, and what cannot be converted.
#![expect(clippy::float_cmp, reason = "numbers that are exact")]

mod support;

use nalgebra::SMatrix;
use rdmm_core::field::{Displacement, Image, Weights};
use rdmm_core::grid::Grid;
use rdmm_core::labels::Labels;
use rdmm_io::{
    Geometry, Meaning, Problem, Sample, Volume, read, read_image, read_labels, write_image,
    write_labels,
};
use support::{geometry, oblique, volume};

fn grid() -> Grid<3> {
    geometry(3, false).grid().expect("a grid")
}

#[test]
fn array_axes_are_those_of_the_file() {
    let volume = volume(3, 1, Meaning::Values, Sample::F32);
    let image = volume.image::<3>().unwrap();
    assert_eq!(image.grid().shape(), [6, 5, 4]);
    for (i, j, k) in [(0, 0, 0), (5, 0, 0), (0, 4, 0), (0, 0, 3), (2, 3, 1)] {
        let stored = volume.values[i + 6 * (j + 5 * k)];
        assert_eq!(f64::from(image.view()[[i, j, k]]), stored);
    }
    assert_eq!(Volume::of_image(&image), volume);
    assert_eq!(Geometry::of_grid(image.grid()), volume.geometry);
}

#[test]
fn images_and_labels_through_files() {
    let folder = tempfile::tempdir().unwrap();
    let image = Image::<f32, 3>::from_fn(&grid(), |x| x[0] - 3.0 * x[1] + 0.1 * x[2]).unwrap();
    let labels = Labels::from_vec(&grid(), (0..120).map(|i| i * 3).collect()).unwrap();
    for name in [
        "a.nii",
        "img_1.5mm.nii",
        "a.b.nii.gz",
        "A.NII.GZ",
        "a.nrrd",
        "v1.2.nhdr",
        "a.mha",
        "x.y.mhd",
    ] {
        let path = folder.path().join(name);
        write_image(&path, &image).unwrap();
        assert!(path.is_file(), "{name}: exactly this name");
        let found = read_image::<3>(&path).unwrap();
        assert_eq!(found.data(), image.data(), "{name}");
        assert!(found.grid().same_lattice(image.grid()), "{name}");
        write_labels(&path, &labels).unwrap();
        assert_eq!(read_labels::<3>(&path).unwrap().data(), labels.data(), "{name}");
        assert_eq!(read(&path).unwrap().sample, Sample::U16, "the largest is 357");
    }
}

#[test]
fn labels_take_the_smallest_type() {
    let largest =
        [(255, Sample::U8), (256, Sample::U16), (65_536, Sample::U32), (u32::MAX, Sample::U32)];
    for (largest, sample) in largest {
        let labels = Labels::from_vec(&grid(), vec![largest; 120]).unwrap();
        let volume = Volume::of_labels(&labels);
        assert_eq!(volume.sample, sample);
        assert_eq!(volume.labels::<3>().unwrap(), labels);
    }
}

#[test]
fn vectors_turn_with_the_grid() {
    for flip in [false, true] {
        let grid: Grid<3> = geometry(3, flip).grid().unwrap();
        let field = Displacement::<f32, 3>::from_fn(&grid, |x| [1.0, x[0], x[1] - x[2]]).unwrap();
        let volume = Volume::of_vectors(&field).unwrap();
        assert_eq!(volume.meaning, Meaning::Vectors);
        // Where the arrow of the first voxel points to in the world.
        let along: [f64; 3] =
            std::array::from_fn(|c| f64::from(field.component(c)[0]) / grid.spacing()[c]);
        let tip = grid.to_world(along);
        for (c, (tip, origin)) in tip.iter().zip(grid.origin()).enumerate() {
            assert!((volume.values[c * 120] - (tip - origin)).abs() < 1e-6, "single precision");
        }
        let back = volume.vectors::<3, rdmm_core::field::kind::Map>().unwrap();
        for (a, b) in back.data().iter().zip(field.data()) {
            assert!((a - b).abs() < 2e-6, "rounding of lengths up to 10");
        }
    }
    let components = volume(3, 3, Meaning::Values, Sample::F32);
    let message = components.vectors::<3, rdmm_core::field::kind::Map>().unwrap_err().to_string();
    assert!(message.contains("intent 1007"), "{message}");
    let two = volume(3, 2, Meaning::Vectors, Sample::F32);
    assert!(two.vectors::<3, rdmm_core::field::kind::Map>().is_err());
}

#[test]
fn weights_keep_their_components() {
    let weights = Weights::<f32, 3>::from_fn(&grid(), 5, |x, c| x[0] + c as f64).unwrap();
    let volume = Volume::of_components(&weights);
    assert_eq!((volume.components, volume.meaning), (5, Meaning::Values));
    let back = volume.components_field::<3, rdmm_core::field::kind::PerGaussian>().unwrap();
    assert_eq!(back, weights);
    assert!(volume.components_field::<3, rdmm_core::field::kind::Map>().is_err());
    assert!(Volume::of_vectors(&weights).is_err());
}

#[test]
fn other_dimensions_are_refused_with_a_remedy() {
    let message = volume(3, 1, Meaning::Values, Sample::U8).image::<2>().unwrap_err().to_string();
    assert!(message.starts_with("expected an image of 2 axes, found 3: "), "{message}");
    let message = volume(2, 1, Meaning::Values, Sample::U8).labels::<3>().unwrap_err().to_string();
    assert!(message.starts_with("expected an image of 3 axes, found 2: "), "{message}");
}

#[test]
fn voxels_that_are_no_numbers_are_named() {
    for bad in [f64::NAN, f64::INFINITY, 1e300] {
        let mut volume = volume(3, 1, Meaning::Values, Sample::F64);
        volume.values[2 + 6 * (3 + 5)] = bad;
        let message = volume.image::<3>().unwrap_err().to_string();
        assert!(message.contains("[2, 3, 1]"), "{message}");
        let message = volume.labels::<3>().unwrap_err().to_string();
        assert!(message.contains("labels"), "{message}");
    }
    for bad in [0.5, -1.0, 4_294_967_296.0, f64::NAN] {
        let mut volume = volume(3, 1, Meaning::Values, Sample::U8);
        volume.values[1] = bad;
        let message = volume.labels::<3>().unwrap_err().to_string();
        assert!(message.contains("[1, 0, 0]"), "{message}");
    }
}

#[test]
fn lattices_that_no_grid_can_have_are_refused() {
    let mut thin = volume(3, 1, Meaning::Values, Sample::U8);
    thin.geometry.shape = vec![20, 3, 2];
    let message = thin.image::<3>().unwrap_err().to_string();
    assert!(message.contains("at least 4"), "{message}");
    let turned = SMatrix::<f64, 2, 2>::new(0.0, -1.0, 1.0, 0.0);
    let grid = Grid::new([4, 5], [1.0, 2.0]).and_then(|grid| grid.with_direction(turned)).unwrap();
    assert_eq!(Geometry::of_grid(&grid).grid::<2>().unwrap(), grid);
    assert!(matches!(
        Geometry::of_grid(&grid).grid::<3>(),
        Err(Problem::Axes { expected: 3, found: 2 })
    ));
}

#[test]
fn volumes_that_do_not_fit_together_are_refused() {
    let good = volume(3, 1, Meaning::Values, Sample::U8);
    let mut short = good.clone();
    short.values.pop();
    let mut flat = good.clone();
    flat.geometry.spacing = vec![1.0, 1.0];
    let mut zero = good.clone();
    zero.geometry.spacing[2] = 0.0;
    let mut sheared = good.clone();
    sheared.geometry.direction = oblique(3, false);
    sheared.geometry.direction[(0, 1)] += 0.1;
    let mut empty = good.clone();
    (empty.geometry.shape[1], empty.values) = (0, Vec::new());
    let mut none = good.clone();
    (none.components, none.values) = (0, Vec::new());
    let folder = tempfile::tempdir().unwrap();
    for bad in [short, flat, zero, sheared, empty, none] {
        for name in ["a.nii", "a.nrrd", "a.mha", "a.png"] {
            assert!(rdmm_io::write(folder.path().join(name), &bad).is_err(), "{bad:?}");
        }
        assert!(bad.image::<3>().is_err(), "{bad:?}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}

fn numbers(values: impl Fn(usize) -> f64) -> Volume {
    let geometry = Geometry {
        shape: vec![4, 5],
        spacing: vec![1.0; 2],
        origin: vec![0.0; 2],
        direction: oblique(2, false),
    };
    Volume::new(geometry, 1, Meaning::Values, Sample::F64, (0..20).map(values).collect())
}

/// A slope of single precision leaves 0.9999999 and 1.0000000353902578 of 1: the integer is meant.
#[test]
fn labels_are_integers_to_rounding() {
    let slope = f64::from(1.0_f32 / 51.0);
    let scaled = numbers(|i| slope * 51.0 * i as f64);
    let exact = scaled.values.iter().filter(|x| x.fract() == 0.0).count();
    assert!(exact < 20, "some are off: {:?}", scaled.values);
    // C order: the first axis is the slowest.
    let labels = scaled.labels::<2>().unwrap();
    assert_eq!(labels.data()[..4], [0, 4, 8, 12]);
    assert_eq!(labels.data()[19], 19);
    assert_eq!(
        numbers(|i| if i == 3 { 0.999_999_999_7 } else { -0.000_9 }).labels::<2>().unwrap().data()
            [15],
        1
    );
    for off in [0.9989, 1.5, -0.0011, -1.0, 4_294_967_296.0, f64::NAN] {
        let message =
            numbers(|i| if i == 6 { off } else { 2.0 }).labels::<2>().unwrap_err().to_string();
        assert!(message.contains(&format!("{off} at the voxel [2, 1]")), "{message}");
    }
}

/// All but zero is inside, as in ITK's masks; fractions are shares.
#[test]
fn masks_of_integers_and_of_shares() {
    let mask = |values: &dyn Fn(usize) -> f64| {
        numbers(values).mask::<2>().map(rdmm_core::field::Field::into_vec)
    };
    for inside in [1.0, 255.0, 3.0, -1.0, 1.000_000_035, 0.9995] {
        let found = mask(&|i| if i < 4 { inside } else { 0.0 }).unwrap();
        for (flat, x) in found.iter().enumerate() {
            assert_eq!(
                *x,
                if flat % 5 == 0 { 1.0 } else { 0.0 },
                "{inside}: the first row of the file"
            );
        }
    }
    let shares = mask(&|i| i as f64 / 32.0).unwrap();
    assert_eq!(shares[5], 1.0 / 32.0);
    let message = mask(&|i| if i == 6 { 255.0 } else { 0.5 }).unwrap_err().to_string();
    assert!(message.contains("255 at the voxel [2, 1], beside fractions"), "{message}");
}
