//! What is written is read again, for every format, type, dimension and meaning.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use rdmm_io::{Meaning, Sample, Volume, read, write};
use support::{SAMPLES, assert_same_geometry, geometry, volume};

const VOLUMES: [&str; 6] = ["a.nii", "a.nii.gz", "a.nrrd", "a.nhdr", "a.mha", "a.mhd"];

/// Headers of NIfTI hold single precision: seven digits of a step, of an origin of 30 mm.
fn tolerance(name: &str) -> f64 {
    if name.contains(".nii") { 2e-7 } else { 1e-13 }
}

fn round_trip(name: &str, volume: &Volume) -> Volume {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    write(&path, volume).unwrap();
    let found = read(&path).unwrap();
    assert_same_geometry(&found.geometry, &volume.geometry, tolerance(name));
    found
}

#[test]
fn every_type_in_two_and_three_dimensions() {
    for name in VOLUMES {
        for sample in SAMPLES {
            for axes in [2, 3] {
                let volume = volume(axes, 1, Meaning::Values, sample);
                let found = round_trip(name, &volume);
                assert_eq!(found.sample, sample, "{name}");
                assert_eq!(found.values, volume.values, "{name} {sample:?}");
                assert_eq!((found.components, found.meaning), (1, Meaning::Values));
            }
        }
    }
}

#[test]
fn flipped_lattices_keep_their_place() {
    for name in VOLUMES {
        for axes in [2, 3] {
            let mut volume = volume(axes, 1, Meaning::Values, Sample::U8);
            volume.geometry = geometry(axes, true);
            round_trip(name, &volume);
        }
    }
}

#[test]
fn vectors_and_components() {
    for name in VOLUMES {
        for axes in [2, 3] {
            for (meaning, components) in [(Meaning::Vectors, axes), (Meaning::Values, 5)] {
                let volume = volume(axes, components, meaning, Sample::F32);
                let found = round_trip(name, &volume);
                assert_eq!((found.components, found.meaning), (components, meaning), "{name}");
                assert_eq!(found.values, volume.values, "{name}");
            }
        }
    }
}

#[test]
fn colours() {
    for name in VOLUMES {
        for axes in [2, 3] {
            for components in [3, 4] {
                let volume = volume(axes, components, Meaning::Colours, Sample::U8);
                let found = round_trip(name, &volume);
                assert_eq!(found.meaning, Meaning::Colours, "{name}");
                assert_eq!(found.values, volume.values, "{name}");
            }
        }
    }
}

#[test]
fn a_volume_of_one_slice_becomes_two_axes() {
    for name in VOLUMES {
        let mut volume = volume(3, 1, Meaning::Values, Sample::U8);
        volume.geometry.direction = support::oblique(2, false).resize(3, 3, 0.0);
        volume.geometry.direction[(2, 2)] = 1.0;
        volume.geometry.shape = vec![6, 20, 1];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        write(&path, &volume).unwrap();
        let found = read(&path).unwrap();
        assert_eq!(found.geometry.shape, [6, 20], "{name}");
        let direction = volume.geometry.direction.view((0, 0), (2, 2)).into_owned();
        let expected = rdmm_io::Geometry {
            shape: vec![6, 20],
            spacing: volume.geometry.spacing[..2].to_vec(),
            origin: volume.geometry.origin[..2].to_vec(),
            direction,
        };
        assert_same_geometry(&found.geometry, &expected, tolerance(name));
        assert_eq!(found.values, volume.values, "{name}");
    }
}

#[test]
fn long_axes_take_the_second_version_of_nifti() {
    let mut volume = volume(2, 1, Meaning::Values, Sample::I16);
    volume.geometry.shape = vec![40_000, 2];
    volume.values = (0..80_000).map(|i| f64::from(i % 1000)).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.nii");
    write(&path, &volume).unwrap();
    assert_eq!(std::fs::read(&path).unwrap()[..4], 540_i32.to_le_bytes());
    let found = read(&path).unwrap();
    assert_same_geometry(&found.geometry, &volume.geometry, 1e-13);
    assert_eq!(found.values, volume.values);
}

#[test]
fn pictures() {
    let cases = [
        (1, Meaning::Values, Sample::U8),
        (1, Meaning::Values, Sample::U16),
        (3, Meaning::Colours, Sample::U8),
        (4, Meaning::Colours, Sample::U8),
        (3, Meaning::Colours, Sample::U16),
    ];
    for (components, meaning, sample) in cases {
        let volume = volume(2, components, meaning, sample);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        write(&path, &volume).unwrap();
        let found = read(&path).unwrap();
        assert_eq!((found.components, found.meaning, found.sample), (components, meaning, sample));
        assert_eq!(found.values, volume.values);
        assert_eq!(found.geometry.shape, [6, 5], "columns, rows");
        assert_eq!(found.geometry.spacing, [1.0; 2]);
    }
}

#[test]
fn the_same_volume_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let volume = volume(3, 3, Meaning::Vectors, Sample::F32);
    for name in ["a.nii.gz", "a.nrrd", "a.mha"] {
        let write = |folder: &std::path::Path| {
            rdmm_io::write(folder.join(name), &volume).unwrap();
            std::fs::read(folder.join(name)).unwrap()
        };
        let first = write(folder.path());
        if name == "a.nii.gz" {
            assert_eq!(first[4..8], [0; 4], "no time of writing in the header of gzip");
        }
        // Times in headers have seconds.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert_eq!(first, write(folder.path()), "{name}");
    }
}
