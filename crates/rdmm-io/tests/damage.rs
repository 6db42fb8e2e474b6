//! Files with changed bytes are read or refused; nothing panics and no claim of theirs is believed.

mod support;

use rdmm_io::{Meaning, Sample, Volume, npy, read, write};
use support::volume;

/// Numbers that look random, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % end
    }
}

/// Every change is of the header, where there is most to get wrong, or anywhere.
fn changed(whole: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    let reach = if numbers.below(2) == 0 { bytes.len().min(360) } else { bytes.len() };
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(reach);
        bytes[at] = match numbers.below(4) {
            0 => 0,
            1 => 0xff,
            2 => b'0' + u8::try_from(numbers.below(10)).unwrap_or(0),
            _ => u8::try_from(numbers.below(256)).unwrap_or(0),
        };
    }
    if numbers.below(4) == 0 {
        bytes.truncate(numbers.below(bytes.len()));
    }
    bytes
}

fn use_it(volume: &Volume) {
    let _ = volume.image::<2>();
    let _ = volume.labels::<3>();
    let _ = volume.vectors::<2, rdmm_core::field::kind::Map>();
    let _ = volume.components_field::<3, rdmm_core::field::kind::PerGaussian>();
}

#[test]
fn changed_images_do_not_panic() {
    let folder = tempfile::tempdir().unwrap();
    let mut numbers = Numbers(1);
    let volumes = [
        volume(3, 1, Meaning::Values, Sample::I16),
        volume(2, 2, Meaning::Vectors, Sample::F32),
        volume(2, 3, Meaning::Colours, Sample::U8),
    ];
    let mut read_whole = 0;
    for name in ["a.nii", "a.nii.gz", "a.nrrd", "a.nhdr", "a.mha", "a.mhd", "a.png"] {
        let path = folder.path().join(name);
        for volume in &volumes {
            let picture = volume.meaning == Meaning::Colours;
            if std::path::Path::new(name).extension().is_some_and(|e| e == "png") && !picture {
                continue;
            }
            write(&path, volume).unwrap();
            let whole = std::fs::read(&path).unwrap();
            for _ in 0..600 {
                std::fs::write(&path, changed(&whole, &mut numbers)).unwrap();
                if let Ok(found) = read(&path) {
                    use_it(&found);
                    read_whole += 1;
                }
            }
        }
    }
    assert!(read_whole > 100, "changes of unused entries do no harm: {read_whole}");
}

#[test]
fn changed_arrays_do_not_panic() {
    let folder = tempfile::tempdir().unwrap();
    let mut numbers = Numbers(2);
    let path = folder.path().join("a.npy");
    npy::write_f32(&path, &[2, 3, 4], &[1.0; 24]).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for _ in 0..2000 {
        std::fs::write(&path, changed(&whole, &mut numbers)).unwrap();
        let _ = npy::read(&path);
    }
}
