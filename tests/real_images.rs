//! Registration of real images by the defaults, where `RDMM_DATA` names a folder with them.
//!
//! The thresholds are the project's aims for these sets; `validate` of the crate `rdmm-validation` prints the figures.
#![expect(clippy::print_stdout, reason = "figures and skips are shown")]

use std::path::PathBuf;

use rdmm_core::evaluate::ncc;
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

#[test]
fn brains_of_two_people_match_without_folds() {
    let Some(folder) = data("brain2d_oasis") else { return };
    let (mut mean, mut pairs) = (0.0, 0);
    for first in (41..50).step_by(2) {
        let of = |number: usize| {
            let path = folder.join(format!("oasis2d_{number:04}.nii.gz"));
            rdmm_io::read_image::<2>(path).unwrap()
        };
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
