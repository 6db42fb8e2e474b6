//! Registration of real images by the defaults, where `RDMM_DATA` names a folder with them.
//!
//! The thresholds are the project's aims for these sets; `examples/validate.rs` prints the figures.
#![expect(
    clippy::print_stdout,
    clippy::panic,
    reason = "figures and skips are shown, bad data stop the test"
)]
#![expect(clippy::unwrap_used, reason = "a test stops where its problem cannot be built")]

#[path = "../../examples/support/read.rs"]
#[expect(dead_code, reason = "labels are read by the examples")]
mod read;

use std::path::{Path, PathBuf};

use rdmm_core::evaluate::ncc;
use rdmm_core::field::Image;
use rdmm_core::model::{Lddmm, MultiGaussian};
use rdmm_core::registration::Registration;
use rdmm_core::similarity::Ssd;

/// The data folder, or a line that says that the test skips.
fn data(set: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("RDMM_DATA").map(|root| PathBuf::from(root).join(set));
    match folder {
        Some(folder) if folder.is_dir() => Some(folder),
        _ => {
            println!("SKIPPED: RDMM_DATA does not name a folder with {set}");
            None
        }
    }
}

fn planar(path: &Path) -> Image<f32, 2> {
    match read::image(path.to_str().unwrap()).unwrap() {
        read::AnyImage::Two(image) => image,
        read::AnyImage::Three(_) => panic!("expected a slice: {}", path.display()),
    }
}

#[test]
fn brains_of_two_people_match_without_folds() {
    let Some(folder) = data("brain2d_oasis") else { return };
    let (mut mean, mut pairs) = (0.0, 0);
    for first in (41..50).step_by(2) {
        let of = |number: usize| planar(&folder.join(format!("oasis2d_{number:04}.nii.gz")));
        let (fixed, moving) = (of(first), of(first + 1));
        let model = Lddmm::new(MultiGaussian::for_grid(fixed.grid()));
        let result = Registration::new(model, Ssd).run(&fixed, &moving).unwrap();
        let (before, after) =
            (ncc(&moving, &fixed, None).unwrap(), ncc(&result.warped, &fixed, None).unwrap());
        let folds = result.report.folds.total();
        println!("{first:04}: NCC {before:.4} to {after:.4}, min det {:.3}", folds.min);
        assert_eq!(folds.folded, 0, "pair {first:04}");
        mean += after;
        pairs += 1;
    }
    mean /= f64::from(pairs);
    assert!(mean >= 0.98, "mean NCC {mean:.4} over {pairs} pairs");
}
