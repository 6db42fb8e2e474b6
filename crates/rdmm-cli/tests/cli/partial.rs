//! Images that show a part of one another.

use nalgebra::{SMatrix, SVector};
use rdmm_core::field::{Displacement, Image};
use rdmm_core::grid::Grid;
use rdmm_core::world::Affine;
use rdmm_io::transform::itk;

use super::transforms::distance;
use super::{Place, figure};

/// Textures with an object among them.
fn scene([x, y]: [f64; 2]) -> f64 {
    let spot = (-((x - 30.0).powi(2) + (y - 34.0).powi(2)) / 150.0).exp();
    (0.35 * x).sin() * (0.27 * y).cos() + 0.7 * (0.13 * x + 0.21 * y).sin() + 2.0 * spot
}

fn put(place: &Place, name: &str, shape: [usize; 2], origin: [f64; 2]) {
    let grid = Grid::new(shape, [1.0; 2]).unwrap().with_origin(origin).unwrap();
    let at = |x: [f64; 2]| scene([x[0] + origin[0], x[1] + origin[1]]);
    let image = Image::<f32, 2>::from_fn(&grid, at).unwrap();
    rdmm_io::write_image(place.path(name), &image).unwrap();
}

#[test]
fn what_a_warp_before_does_not_show_does_not_count() {
    let place = Place::empty();
    put(&place, "whole.nii.gz", [64, 64], [0.0, 0.0]);
    put(&place, "half.nii.gz", [64, 30], [0.0, 17.0]);
    let whole = place.image::<2>("whole.nii.gz");
    let none = Displacement::<f32, 2>::zeros(whole.grid()).unwrap();
    rdmm_io::transform::write_warp(place.path("none.nii.gz"), &none).unwrap();
    let far = Displacement::<f32, 2>::from_fn(whole.grid(), |_| [500.0, 0.0]).unwrap();
    rdmm_io::transform::write_warp(place.path("far.nii.gz"), &far).unwrap();
    let register =
        "register --fixed whole.nii.gz --moving half.nii.gz --preset affine --affine rigid";
    for (out, options) in [("a", ""), ("b", "--initial none.nii.gz")] {
        place.run(&format!("{register} {options} --out {out}")).ends(0);
        let found = itk::read::<2>(place.path(&format!("{out}/affine.txt"))).unwrap();
        for x in [[5.0, 20.0], [60.0, 45.0]] {
            assert!(distance(found.apply(x), x) < 0.3, "{options}: {found:?}");
        }
        let report = place.json(&format!("{out}/report.json"));
        assert!((figure(&report, "shown_after") - 30.0 / 64.0).abs() < 0.02, "{report}");
        assert!(figure(&report, "ncc_after") > 0.995, "{report}");
    }
    let ran = place.run(&format!("{register} --initial far.nii.gz --out no")).ends(2);
    assert!(ran.err.contains("--start mass"), "{}", ran.err);
}

#[test]
fn a_long_thin_image_may_show_little_and_one_that_left_may_not() {
    let place = Place::empty();
    put(&place, "whole.nii.gz", [64, 64], [0.0, 0.0]);
    put(&place, "thin.nii.gz", [300, 8], [-118.0, 28.0]);
    place
        .run("register --fixed whole.nii.gz --moving thin.nii.gz --preset affine --affine rigid --out out")
        .ends(0);
    let report = place.json("out/report.json");
    assert!((figure(&report, "shown_after") - 8.0 / 64.0).abs() < 0.02, "{report}");
    // Hardly anything of it is left.
    let away = Affine::new(SMatrix::identity(), SVector::from([170.0, 0.0])).unwrap();
    itk::write_text(place.path("away.txt"), &away).unwrap();
    let ran = place.run(
        "register --fixed whole.nii.gz --moving thin.nii.gz --initial away.txt --preset lddmm --affine none --levels 1:1 --out left",
    );
    let report = place.json("left/report.json");
    assert!(figure(&report, "shown_after") < 0.03, "{report}");
    assert!(ran.ends(3).err.contains("--start mass"));
}
