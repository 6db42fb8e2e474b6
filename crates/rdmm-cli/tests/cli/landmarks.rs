//! Landmarks as the start of an affine registration.

use nalgebra::{SMatrix, SVector};
use rdmm_core::world::Affine;
use rdmm_io::transform::itk;

use super::transforms::distance;
use super::{PAIR, Place};

#[test]
fn an_affine_registration_can_begin_with_landmarks() {
    let place = Place::with_pair();
    // The moving image turned by 150 degrees about its middle.
    let (s, c) = 150.0_f64.to_radians().sin_cos();
    let matrix = SMatrix::<f64, 2, 2>::new(c, -s, s, c);
    let middle = SVector::from([15.5, 15.5]);
    let turn = Affine::new(matrix, middle - matrix * middle).unwrap();
    itk::write_text(place.path("back.txt"), &turn.inverse()).unwrap();
    place.run("apply -m fixed.nii.gz -f fixed.nii.gz -t back.txt -o moving.nii.gz").ends(0);
    let points = [[10.0, 8.0], [22.0, 9.0], [15.0, 24.0]];
    let row = |[x, y]: [f64; 2]| format!("{x},{y}\n");
    place.put("f.csv", format!("x,y\n{}", points.map(row).concat()));
    place.put("m.csv", format!("x,y\n{}", points.map(|x| row(turn.apply(x))).concat()));
    let landmarks = "--fixed-landmarks f.csv --moving-landmarks m.csv";
    let register = format!("register {PAIR} --preset affine --affine rigid");
    let ran = place.run(&format!("{register} {landmarks} --start landmarks --out out")).ends(0);
    assert!(!ran.err.contains("warning"), "{}", ran.err);
    let found = itk::read::<2>(place.path("out/affine.txt")).unwrap();
    for x in points {
        // Half a voxel: the turned image has lost its corners.
        assert!(distance(found.apply(x), turn.apply(x)) < 0.5, "{found:?}");
    }
    // They are a start beside the others, and part of what is optimised.
    place.run(&format!("{register} {landmarks} --out plain")).ends(0);
    let found = itk::read::<2>(place.path("plain/affine.txt")).unwrap();
    assert!(points.iter().all(|&x| distance(found.apply(x), turn.apply(x)) < 0.5), "{found:?}");
    let measured = format!("{register} {landmarks} --landmarks-only-measured");
    place.run(&format!("{measured} --out measured"));
    let found = itk::read::<2>(place.path("measured/affine.txt")).unwrap();
    assert!(distance(found.apply(points[0]), turn.apply(points[0])) > 3.0, "{found:?}");
    let ran = place.run(&format!("{measured} --start landmarks --out no")).ends(2);
    assert!(ran.err.contains("--landmarks-only-measured"), "{}", ran.err);
    let ran = place.run(&format!("{register} --start landmarks --out no")).ends(2);
    assert!(ran.err.contains("--fixed-landmarks"), "{}", ran.err);
    let none = format!("register {PAIR} --affine none --start mass --out no");
    assert!(place.run(&none).ends(2).err.contains("--start"));
    assert!(!place.has("no/affine.txt"));
}
