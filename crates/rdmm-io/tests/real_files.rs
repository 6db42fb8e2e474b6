//! Every image of the data folder is read. Skipped where `RDMM_DATA` does not name one.

use std::path::{Path, PathBuf};

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.to_string_lossy().into_owned();
        if path.is_dir() {
            files(&path, found);
        } else if name.ends_with(".nii.gz") || name.ends_with(".png") {
            found.push(path);
        }
    }
}

#[test]
fn every_image_is_read_and_written_again() {
    let Some(data) = std::env::var_os("RDMM_DATA") else {
        println!("skipped: RDMM_DATA names no folder of images");
        return;
    };
    let mut found = Vec::new();
    files(Path::new(&data), &mut found);
    assert!(!found.is_empty(), "images in RDMM_DATA");
    let folder = tempfile::tempdir().unwrap();
    for path in found {
        let volume = rdmm_io::read(&path).unwrap();
        let image = volume.dimension();
        assert!(volume.values.iter().all(|x| x.is_finite()), "{}", path.display());
        if image == 2 {
            volume.image::<2>().unwrap();
        } else {
            volume.image::<3>().unwrap();
        }
        let name = path.file_name().unwrap();
        rdmm_io::write(folder.path().join(name), &volume).unwrap();
        let again = rdmm_io::read(folder.path().join(name)).unwrap();
        assert_eq!(again.values, volume.values, "{}", path.display());
        assert_eq!(again.sample, volume.sample, "{}", path.display());
        let off = (again.geometry.direction - volume.geometry.direction).amax();
        assert!(off < 1e-6, "headers are in single precision: {off}");
    }
}
