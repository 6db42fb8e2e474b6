//! Files that cannot be written or read leave the folder as it was.

mod support;

use rdmm_io::{Meaning, Problem, Sample, npy, read, write};
use support::volume;

const NAMES: [&str; 7] = ["a.nii", "a.nii.gz", "a.nrrd", "a.nhdr", "a.mha", "a.mhd", "a.png"];

#[test]
fn values_that_the_type_cannot_hold_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in NAMES {
        for (sample, bad) in [
            (Sample::U8, 256.0),
            (Sample::U8, -1.0),
            (Sample::U8, 0.5),
            (Sample::U16, f64::NAN),
            (Sample::U16, 65_536.0),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, "the old file").unwrap();
            let mut volume = volume(2, 1, Meaning::Values, sample);
            volume.values[7] = bad;
            let message = write(&path, &volume).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains("number 7"), "{message}");
            assert_eq!(std::fs::read(&path).unwrap(), b"the old file");
            std::fs::remove_file(&path).unwrap();
        }
    }
    let mut wide = volume(2, 1, Meaning::Values, Sample::F32);
    wide.values[3] = 1e300;
    assert!(write(folder.path().join("a.nii"), &wide).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn folders_that_are_not_there() {
    let folder = tempfile::tempdir().unwrap();
    for name in NAMES {
        let path = folder.path().join("missing").join(name);
        let found = write(&path, &volume(2, 1, Meaning::Values, Sample::U8)).unwrap_err();
        assert!(matches!(found.problem, Problem::Io(_)), "{found}");
        assert!(found.to_string().contains("missing"), "{found}");
        assert!(matches!(read(&path).unwrap_err().problem, Problem::Io(_)));
    }
    assert!(npy::write_f32(folder.path().join("missing/a.npy"), &[1], &[1.0]).is_err());
    assert!(matches!(read(folder.path()).unwrap_err().problem, Problem::Io(_)), "a folder");
}

/// A name that is taken by a folder cannot be replaced, whoever runs the test.
#[test]
fn nothing_is_left_behind_where_the_name_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.png"] {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("inside"), "").unwrap();
        assert!(write(&path, &volume(2, 1, Meaning::Values, Sample::U8)).is_err());
        std::fs::remove_dir_all(&path).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{name}");
    }
}

#[cfg(unix)]
#[test]
fn folders_that_may_not_be_written() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
    if std::fs::write(folder.path().join("probe"), "").is_ok() {
        eprintln!("skipped: this user may write everywhere");
        return;
    }
    let found = write(folder.path().join("a.nii"), &volume(2, 1, Meaning::Values, Sample::U8));
    assert!(matches!(found.unwrap_err().problem, Problem::Io(_)));
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn endings_that_are_not_known() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "a.tif", "a.hdr", "nii", ".nii", "a.gz"] {
        let found = write(folder.path().join(name), &volume(2, 1, Meaning::Values, Sample::U8));
        let message = found.unwrap_err().to_string();
        assert!(message.contains(".nii.gz, .nrrd, .nhdr, .mha, .mhd or .png"), "{message}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn colours_of_16_bits_are_for_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let colours = volume(2, 3, Meaning::Colours, Sample::U16);
    let message = write(folder.path().join("a.nii"), &colours).unwrap_err().to_string();
    assert!(message.contains("8 bits"), "{message}");
    write(folder.path().join("a.nrrd"), &colours).unwrap();
    assert_eq!(read(folder.path().join("a.nrrd")).unwrap().meaning, Meaning::Colours);
}
