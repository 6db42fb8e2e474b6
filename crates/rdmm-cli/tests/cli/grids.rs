//! Masks and label maps whose headers were rounded by another program.

use rdmm_core::labels::Labels;

use super::{LABELS, PAIR, Place};

/// The file again, with its origin elsewhere along the first axis.
fn shifted(place: &Place, name: &str, by: f64) {
    let labels = place.labels(name);
    let [x, y] = labels.grid().origin();
    let grid = labels.grid().clone().with_origin([x + by, y]).unwrap();
    let labels = Labels::from_vec(&grid, labels.data().to_vec()).unwrap();
    rdmm_io::write_labels(place.path(name), &labels).unwrap();
}

#[test]
fn rounded_headers_are_of_the_same_grid() {
    let place = Place::with_pair();
    let mask = place.labels("fixed_labels.nii.gz");
    let mask = Labels::from_vec(mask.grid(), vec![1; 32 * 32]).unwrap();
    rdmm_io::write_labels(place.path("mask.nii.gz"), &mask).unwrap();
    let register = format!("register {PAIR} {LABELS} --preset affine --fixed-mask mask.nii.gz");
    place.run(&format!("{register} --out exact")).ends(0);
    let names = ["mask.nii.gz", "fixed_labels.nii.gz", "moving_labels.nii.gz"];
    for name in names {
        shifted(&place, name, 5e-3);
    }
    place.run(&format!("{register} --out rounded")).ends(0);
    for name in ["affine.txt", "warped_labels.nii.gz"] {
        let [a, b] = ["exact", "rounded"].map(|out| place.bytes(&format!("{out}/{name}")));
        assert!(a == b, "{name}");
    }
    place.run(&format!("evaluate {PAIR} {LABELS} -t rounded/affine.txt")).ends(0);
    for name in names {
        shifted(&place, name, 0.1);
        let ran = place.run(&format!("{register} --out no")).ends(2);
        assert!(ran.err.contains(name) && ran.err.contains("resample"), "{name}: {}", ran.err);
        shifted(&place, name, -0.1);
    }
}
