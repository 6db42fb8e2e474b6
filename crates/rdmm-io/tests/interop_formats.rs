//! SimpleITK and nibabel see the same in our files as we do, and we the same in theirs.
//!
//! Runs `tests/interop/formats.py` with the interpreter that `RDMM_PYTHON` names, which has numpy,
//! SimpleITK and nibabel. Skipped without it.
#![expect(
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "helpers of tests, numbers that are exact"
)]

mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nalgebra::DMatrix;
use rdmm_io::{Geometry, Meaning, Sample, Volume, npy, read, write};
use support::{SAMPLES, assert_same_geometry, geometry, volume};

/// Headers of NIfTI hold single precision: positions of 100 mm have an error of 4e-6.
const TOLERANCE: f64 = 1e-5;

/// Runs the script, `None` where there is no interpreter.
fn script(arguments: &[&Path]) -> Option<()> {
    let Some(python) = std::env::var_os("RDMM_PYTHON") else {
        eprintln!("skipped: RDMM_PYTHON names no Python with numpy, SimpleITK and nibabel");
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/formats.py");
    let output = Command::new(python).arg(script).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    Some(())
}

/// The numbers of one entry of a description.
fn entry(text: &str, key: &str) -> Vec<f64> {
    let start = format!("{key}: ");
    let line = text.lines().find_map(|line| line.strip_prefix(&start)).unwrap();
    line.split(' ').map(|x| x.parse().unwrap()).collect()
}

/// Compares a volume with the description `NAME.txt` and `NAME.npy`.
fn compare(volume: &Volume, folder: &Path, name: &str) {
    let text = std::fs::read_to_string(folder.join(format!("{name}.txt"))).unwrap();
    let mut shape: Vec<f64> = entry(&text, "shape");
    let axes = shape.len();
    let direction = DMatrix::from_column_slice(axes, axes, &entry(&text, "direction"));
    let (spacing, origin) = (entry(&text, "spacing"), entry(&text, "origin"));
    if volume.dimension() < axes {
        // One slice has three axes for ITK.
        assert_eq!(shape.pop(), Some(1.0), "{name}");
    }
    let found: Vec<f64> = volume.geometry.shape.iter().map(|&n| n as f64).collect();
    assert_eq!(found, shape, "{name}");
    if volume.dimension() == axes {
        let shape = volume.geometry.shape.clone();
        let expected = Geometry { shape, spacing, origin, direction };
        assert_same_geometry(&volume.geometry, &expected, TOLERANCE);
        let last = volume.geometry.shape.iter().map(|&n| (n - 1) as f64);
        let world = last_voxel(&volume.geometry, last.collect());
        for (a, b) in world.iter().zip(entry(&text, "last")) {
            assert!((a - b).abs() < TOLERANCE, "{name}: {a} for {b}");
        }
    }
    assert_eq!(volume.components as f64, entry(&text, "components")[0], "{name}");
    let expected = npy::read(folder.join(format!("{name}.npy"))).unwrap();
    assert_eq!(volume.values.len(), expected.values.len(), "{name}");
    for (a, b) in volume.values.iter().zip(&expected.values) {
        // Slopes are applied in single precision by ITK.
        assert!((a - b).abs() <= 1e-6 * b.abs(), "{name}: {a} for {b}");
    }
    let sample = format!("sample: {:?}", volume.sample);
    assert!(text.contains(&sample), "{name}: {sample} for {text}");
}

fn last_voxel(geometry: &Geometry, index: Vec<f64>) -> Vec<f64> {
    if let Ok(index) = <[f64; 2]>::try_from(index.clone()) {
        return geometry.grid::<2>().unwrap().to_world(index).to_vec();
    }
    geometry.grid::<3>().unwrap().to_world(index.try_into().unwrap()).to_vec()
}

#[test]
fn files_of_simpleitk_and_nibabel_are_read() {
    let folder = tempfile::tempdir().unwrap();
    if script(&[Path::new("write"), folder.path()]).is_none() {
        return;
    }
    let mut count = 0;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let Some(name) = name.strip_suffix(".txt") else { continue };
        let volume = read(folder.path().join(name)).unwrap();
        let colours = name.ends_with("_3.png") || name.ends_with("_4.png");
        let meaning = match name {
            _ if name.starts_with("vectors") => Meaning::Vectors,
            _ if colours => Meaning::Colours,
            _ => Meaning::Values,
        };
        assert_eq!(volume.meaning, meaning, "{name}");
        compare(&volume, folder.path(), name);
        count += 1;
    }
    // Six formats of two dimensions with ten types and two of vectors, six pictures, nine of nibabel.
    assert_eq!(count, 6 * 2 * 12 + 6 + 9);
}

#[test]
fn files_of_ours_are_read_by_simpleitk_and_nibabel() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, volume: &Volume| {
        write(folder.path().join(name), volume).unwrap();
        describe(volume, folder.path(), name);
    };
    for ending in ["nii", "nii.gz", "nrrd", "nhdr", "mha", "mhd"] {
        for axes in [2, 3] {
            for sample in SAMPLES {
                let volume = volume(axes, 1, Meaning::Values, sample);
                put(&format!("{sample:?}_{axes}.{ending}"), &volume);
            }
            for flip in [false, true] {
                let mut vectors = volume(axes, axes, Meaning::Vectors, Sample::F32);
                vectors.geometry = geometry(axes, flip);
                put(&format!("vectors_{axes}_{flip}.{ending}"), &vectors);
            }
            let list = volume(axes, 5, Meaning::Values, Sample::F32);
            put(&format!("list_{axes}.{ending}"), &list);
            let colours = volume(axes, 3, Meaning::Colours, Sample::U8);
            put(&format!("colours_{axes}.{ending}"), &colours);
        }
    }
    let mut long = volume(2, 1, Meaning::Values, Sample::I16);
    long.geometry.shape = vec![33_000, 2];
    long.values = (0..66_000).map(|i| f64::from(i % 1000)).collect();
    put("second.nii", &long);
    for (name, components, sample) in
        [("a", 1, Sample::U8), ("b", 1, Sample::U16), ("c", 3, Sample::U8), ("d", 4, Sample::U16)]
    {
        let meaning = if components > 1 { Meaning::Colours } else { Meaning::Values };
        let mut picture = volume(2, components, meaning, sample);
        picture.geometry.spacing = vec![1.0; 2];
        picture.geometry.origin = vec![0.0; 2];
        picture.geometry.direction = DMatrix::identity(2, 2);
        put(&format!("{name}.png"), &picture);
    }
    let _ = script(&[Path::new("check"), folder.path()]);
}

/// Writes `NAME.txt` and `NAME.npy`.
fn describe(volume: &Volume, folder: &Path, name: &str) {
    let geometry = &volume.geometry;
    let last = geometry.shape.iter().map(|&n| (n - 1) as f64);
    let local: Vec<f64> = last.zip(&geometry.spacing).map(|(i, spacing)| i * spacing).collect();
    let world = &geometry.direction * DMatrix::from_column_slice(local.len(), 1, &local);
    let world: Vec<f64> = world.iter().zip(&geometry.origin).map(|(x, o)| x + o).collect();
    let shape: Vec<f64> = geometry.shape.iter().map(|&n| n as f64).collect();
    let entries = [
        ("shape", shape),
        ("spacing", geometry.spacing.clone()),
        ("origin", geometry.origin.clone()),
        ("direction", geometry.direction.as_slice().to_vec()),
        ("last", world),
        ("components", vec![volume.components as f64]),
    ];
    let mut text = String::new();
    for (key, numbers) in entries {
        let numbers: Vec<String> = numbers.iter().map(f64::to_string).collect();
        writeln!(text, "{key}: {}", numbers.join(" ")).unwrap();
    }
    writeln!(text, "sample: {:?}", volume.sample).unwrap();
    std::fs::write(folder.join(format!("{name}.txt")), text).unwrap();
    // In double precision: version 1 of the format, values as they are.
    let mut header = format!(
        "{{'descr': '<f8', 'fortran_order': False, 'shape': ({},), }}",
        volume.values.len()
    );
    let padding = 63 - (10 + header.len()) % 64;
    header.push_str(&" ".repeat(padding));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(volume.values.iter().flat_map(|x| x.to_le_bytes()));
    std::fs::write(folder.join(format!("{name}.npy")), bytes).unwrap();
}

#[test]
fn real_volumes_lie_where_simpleitk_sees_them() {
    let Some(data) = std::env::var_os("RDMM_DATA") else {
        eprintln!("skipped: RDMM_DATA names no folder of images");
        return;
    };
    let mut files = Vec::new();
    for folder in std::fs::read_dir(data).unwrap() {
        let folder = folder.unwrap().path();
        let Ok(inside) = std::fs::read_dir(&folder) else { continue };
        let paths = inside.map(|file| file.unwrap().path());
        files.extend(paths.filter(|path| path.extension().is_some_and(|ending| ending == "gz")));
    }
    assert!(!files.is_empty(), "images in RDMM_DATA");
    let folder = tempfile::tempdir().unwrap();
    let mut arguments: Vec<&Path> = vec![Path::new("describe"), folder.path()];
    arguments.extend(files.iter().map(PathBuf::as_path));
    if script(&arguments).is_none() {
        return;
    }
    for (index, path) in files.iter().enumerate() {
        let volume = read(path).unwrap();
        assert!(volume.components == 1, "{}", path.display());
        println!("{}", path.display());
        compare(&volume, folder.path(), &index.to_string());
    }
}
