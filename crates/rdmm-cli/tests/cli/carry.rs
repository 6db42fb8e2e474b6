//! Series, values outside, other spacings, and both parts of a map.

use nalgebra::{SMatrix, SVector};
use rdmm_core::field::Image;
use rdmm_core::labels::Labels;
use rdmm_core::world::Affine;
use rdmm_io::transform::itk;
use rdmm_io::{Meaning, Sample, Volume};

use super::transforms::{distance, points};
use super::{Place, farthest};

/// A map of two voxels along the first axis.
fn shift(place: &Place) {
    let shift = Affine::<2>::new(SMatrix::identity(), SVector::from([2.0, 0.0])).unwrap();
    itk::write_text(place.path("shift.txt"), &shift).unwrap();
}

/// A ramp along both axes, and an offset.
fn ramp(place: &Place, offset: f32) -> Image<f32, 2> {
    let grid = place.image::<2>("fixed.nii.gz").grid().clone();
    let value = |flat: usize| {
        let [i, j] = grid.unravel(flat).map(|i| i as f32);
        offset + i + 0.5 * j
    };
    Image::from_vec(&grid, (0..grid.len()).map(value).collect()).unwrap()
}

/// Three volumes of a ramp, 1.5 s apart.
fn write_series(place: &Place) {
    let one = Volume::of_image(&ramp(place, 0.0));
    let values = (0..3).flat_map(|t| one.values.iter().map(move |x| x + 100.0 * f64::from(t)));
    let all = Volume::new(one.geometry.clone(), 3, Meaning::Values, Sample::I16, {
        values.map(f64::round).collect()
    });
    rdmm_io::write(place.path("s.nii"), &all).unwrap();
    let mut bytes = place.bytes("s.nii");
    for (at, n) in [(40, 4_i16), (48, 3), (50, 1)] {
        bytes[at..at + 2].copy_from_slice(&n.to_le_bytes());
    }
    bytes[92..96].copy_from_slice(&1.5_f32.to_le_bytes());
    bytes[123] = 2 | 8;
    place.put("s.nii", bytes);
}

#[test]
fn every_volume_of_a_series_goes_through_the_transform() {
    let place = Place::with_pair();
    shift(&place);
    write_series(&place);
    let series = rdmm_io::read(place.path("s.nii")).unwrap();
    let n = series.values.len() / 3;
    for how in ["nearest", "linear", "cubic", "labels"] {
        let apply = format!("apply -m s.nii -f fixed.nii.gz -t shift.txt -i {how}");
        place.run(&format!("{apply} -o all.nii")).ends(0);
        let bytes = place.bytes("all.nii");
        let dim: Vec<i16> =
            bytes[40..52].chunks(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
        assert_eq!(dim, [4, 32, 32, 1, 3, 1], "{how}");
        assert_eq!(
            (&bytes[92..96], bytes[123]),
            (1.5_f32.to_le_bytes().as_slice(), 2 | 8),
            "{how}"
        );
        let all = rdmm_io::read(place.path("all.nii")).unwrap();
        assert_eq!(all.components, 3, "{how}");
        for (flat, (found, source)) in all.values.iter().zip(&series.values).enumerate() {
            // The first axis is the fastest: two voxels further, and nothing beyond the last.
            let expected = if flat % 32 < 30 { series.values[flat + 2] } else { 0.0 };
            // Rounding of a spline's coefficients, of values of some hundreds.
            assert!((found - expected).abs() < 1e-3, "{how} at {flat}: {found} {source}");
        }
        place.run(&format!("{apply} --volume 2 -o one.nii.gz")).ends(0);
        let one = rdmm_io::read(place.path("one.nii.gz")).unwrap();
        assert_eq!((one.components, &one.values[..]), (1, &all.values[2 * n..]), "{how}");
    }
    // No transform is the identity: this is how one is taken out.
    place.run("apply -m s.nii -f s.nii -i nearest --volume 1 -o one.nii.gz").ends(0);
    let one = rdmm_io::read(place.path("one.nii.gz")).unwrap();
    assert_eq!((&one.values[..], one.sample), (&series.values[n..2 * n], Sample::I16));

    let ran = place.run("apply -m s.nii -f fixed.nii.gz --volume 3 -o no.nii.gz").ends(2);
    assert!(ran.err.contains("--volume") && ran.err.contains("found 3 and 3"), "{}", ran.err);
    let ran = place.run("register --fixed fixed.nii.gz --moving s.nii --out no").ends(2);
    assert!(ran.err.contains("--volume N") && !place.has("no.nii.gz"), "{}", ran.err);
}

#[test]
fn several_numbers_a_voxel_are_carried_with_a_warning() {
    let place = Place::with_pair();
    shift(&place);
    let one = Volume::of_image(&ramp(&place, 1.0));
    let values = one.values.iter().chain(&one.values).copied().collect();
    let two = Volume::new(one.geometry.clone(), 2, Meaning::Values, Sample::F32, values);
    rdmm_io::write(place.path("two.nrrd"), &two).unwrap();
    let apply = "apply -f fixed.nii.gz -t shift.txt";
    let ran = place.run(&format!("{apply} -m two.nrrd -o moved.nrrd")).ends(0);
    assert!(
        ran.err.contains("each of the 2 numbers") && ran.err.contains("not turned"),
        "{}",
        ran.err
    );
    rdmm_io::write(place.path("one.nrrd"), &one).unwrap();
    let ran = place.run(&format!("{apply} -m one.nrrd -o one_moved.nrrd")).ends(0);
    assert!(!ran.err.contains("warning"), "{}", ran.err);
    let [two, one] =
        ["moved.nrrd", "one_moved.nrrd"].map(|n| rdmm_io::read(place.path(n)).unwrap());
    assert_eq!(two.values, [&one.values[..], &one.values[..]].concat());
}

#[test]
fn what_lies_outside_has_the_value_that_is_asked_for() {
    let place = Place::with_pair();
    shift(&place);
    let ct = Volume::of_image(&ramp(&place, -1000.0));
    let ct = Volume { values: ct.values.iter().map(|x| x.round()).collect(), ..ct };
    let ct = Volume { sample: Sample::I16, ..ct };
    rdmm_io::write(place.path("ct.nii.gz"), &ct).unwrap();
    let labels = Labels::from_vec(ramp(&place, 0.0).grid(), vec![3; 32 * 32]).unwrap();
    rdmm_io::write_labels(place.path("labels.nii.gz"), &labels).unwrap();
    let apply = "apply -f fixed.nii.gz -t shift.txt";
    for (how, fill) in
        [("cubic", -1024.0), ("linear", -1024.0), ("nearest", -1024.0), ("cubic", 0.5)]
    {
        place.run(&format!("{apply} -m ct.nii.gz -i {how} --fill {fill} -o o.nii.gz")).ends(0);
        let found = rdmm_io::read(place.path("o.nii.gz")).unwrap();
        for (flat, x) in found.values.iter().enumerate() {
            let expected = if flat % 32 < 30 { ct.values[flat + 2] } else { fill };
            // Rounding of a spline's coefficients, of values of a thousand.
            assert!((x - expected).abs() < 1e-2, "{how} at {flat}: {x} {expected}");
        }
    }
    place.run(&format!("{apply} -m ct.nii.gz -i linear --fill NaN -o o.nii.gz")).ends(0);
    let found = rdmm_io::read(place.path("o.nii.gz")).unwrap();
    assert!((0..32 * 32).all(|flat| found.values[flat].is_nan() == (flat % 32 >= 30)));
    place.run(&format!("{apply} -m labels.nii.gz -i labels --fill 7 -o o.nii.gz")).ends(0);
    let found = rdmm_io::read(place.path("o.nii.gz")).unwrap();
    let expected = (0..32 * 32).map(|flat| if flat % 32 < 30 { 3.0 } else { 7.0 });
    assert_eq!(found.values, expected.collect::<Vec<f64>>());

    for (more, part) in [
        ("-m labels.nii.gz -i nearest --fill -1", "type of the moving image (U8), found -1"),
        ("-m labels.nii.gz -i labels --fill 0.5", "a label, an integer from 0"),
        ("-m ct.nii.gz --fill 1e39", "single precision"),
    ] {
        let ran = place.run(&format!("{apply} {more} -o no.nii.gz")).ends(2);
        assert!(ran.err.contains("--fill") && ran.err.contains(part), "{}", ran.err);
    }
    assert!(!place.has("no.nii.gz"));
}

#[test]
fn a_result_has_the_spacing_that_is_asked_for() {
    let place = Place::with_pair();
    rdmm_io::write_image(place.path("ramp.nii.gz"), &ramp(&place, 5.0)).unwrap();
    let apply = "apply -m ramp.nii.gz -f fixed.nii.gz -i linear";
    for (spacing, shape, first) in [
        ("2", [16, 16], [0.5, 0.5]),
        ("0.5,1", [64, 32], [-0.25, 0.0]),
        ("3,1", [11, 32], [1.0, 0.0]),
    ] {
        place.run(&format!("{apply} --spacing {spacing} -o o.nii.gz")).ends(0);
        let found = place.image::<2>("o.nii.gz");
        assert_eq!(found.grid().shape(), shape);
        assert!(distance(found.grid().origin(), first) < 1e-6, "{spacing}");
        for flat in 0..found.grid().len() {
            let x = found.grid().to_world(found.grid().unravel(flat).map(|i| i as f64));
            // Beyond the outermost centres values go on as they are, and end with the box.
            let beyond = x.iter().any(|x| *x > 31.5);
            let [i, j] = x.map(|x| x.clamp(0.0, 31.0));
            let expected = if beyond { 0.0 } else { 5.0 + i + 0.5 * j };
            assert!((f64::from(found.data()[flat]) - expected).abs() < 1e-5, "{spacing} at {x:?}");
        }
    }
    shift(&place);
    place.run("compose -t shift.txt -f fixed.nii.gz --spacing 2 -o warp.nii.gz").ends(0);
    assert_eq!(place.warp("warp.nii.gz").grid().shape(), [16, 16]);
    for spacing in ["0", "1,2,3", "1e-12"] {
        let ran = place.run(&format!("{apply} --spacing {spacing} -o no.nii.gz")).ends(2);
        assert!(ran.err.contains("--spacing"), "{}", ran.err);
    }
}

#[test]
fn the_affine_part_goes_on_beyond_the_warp() {
    let place = Place::with_pair();
    // The moving image elsewhere in the world.
    let moving = place.image::<2>("moving.nii.gz");
    let away = moving.grid().clone().with_origin([40.0, -25.0]).unwrap();
    rdmm_io::write_image(place.path("away.nii.gz"), &moving.on_grid(&away).unwrap()).unwrap();
    let there = Affine::new(SMatrix::identity(), SVector::from([40.0, -25.0])).unwrap();
    itk::write_text(place.path("there.txt"), &there).unwrap();
    let register = "register --fixed fixed.nii.gz --moving away.nii.gz --affine none";
    place.run(&format!("{register} -t there.txt --out out")).ends(0);

    let list = [[8.0, 20.0], [15.5, 12.0], [-60.0, 10.0], [10.0, 90.0]];
    let rows = list.map(|[x, y]| format!("{x},{y}\n")).concat();
    place.put("p.csv", format!("x,y\n{rows}"));
    let apply = "apply --dimension 2 --points";
    let pair = "-t out/nonlinear_warp.nii.gz -t out/affine.mat";
    let ran = place.run(&format!("{apply} p.csv {pair} -o pair.csv")).ends(0);
    assert!(
        ran.err.contains("warning: 2 of 4 points are beyond the grid of out/nonlinear_warp"),
        "{}",
        ran.err
    );
    assert!(!ran.err.contains("nonlinear_warp.nii.gz -t affine.mat"), "{}", ran.err);
    let ran = place.run(&format!("{apply} p.csv -t out/warp.nii.gz -o whole.csv")).ends(0);
    assert!(
        ran.err.contains("2 of 4") && ran.err.contains("-t nonlinear_warp.nii.gz"),
        "{}",
        ran.err
    );
    let (parts, whole) = (points(&place, "pair.csv"), points(&place, "whole.csv"));
    for (k, x) in list.into_iter().enumerate() {
        if k < 2 {
            // Displacements of forty, in single precision.
            assert!(distance(parts[k], whole[k]) < 2e-5, "{k}: {parts:?} {whole:?}");
            assert!(distance(parts[k], there.apply(x)) > 1e-3, "the warp moves something");
        } else {
            assert!(distance(parts[k], there.apply(x)) < 1e-9 && distance(whole[k], x) < 1e-9);
        }
    }
    let back = "-t [out/affine.mat,1] -t out/inverse_nonlinear_warp.nii.gz";
    for (inverse, tolerance) in
        [(back, 0.05), ("-t [out/affine.mat,1] -t [out/nonlinear_warp.nii.gz,1]", 1e-3)]
    {
        place.run(&format!("{apply} pair.csv {inverse} -o back.csv")).ends(0);
        for (found, x) in points(&place, "back.csv").into_iter().zip(list) {
            assert!(distance(found, x) < tolerance, "{inverse}: {found:?} {x:?}");
        }
    }
    // Images: the same on the fixed grid; on a larger one the whole warp tears, the pair does not.
    for (list, name) in [(pair, "pair.nii.gz"), ("-t out/warp.nii.gz", "whole.nii.gz")] {
        let ran =
            place.run(&format!("apply -m away.nii.gz -f fixed.nii.gz {list} -o {name}")).ends(0);
        assert!(!ran.err.contains("warning"), "{}", ran.err);
    }
    let [a, b] = ["pair.nii.gz", "whole.nii.gz"].map(|name| place.image::<2>(name));
    assert!(farthest(a.data(), b.data()) < 1e-4);
    let larger = rdmm_core::grid::Grid::new([64, 64], [1.0, 1.0]).unwrap();
    let larger = larger.with_origin([-16.0, -16.0]).unwrap();
    let zeros = Image::<f32, 2>::from_vec(&larger, vec![0.0; 64 * 64]).unwrap();
    rdmm_io::write_image(place.path("larger.nii.gz"), &zeros).unwrap();
    let ran =
        place.run(&format!("apply -m away.nii.gz -f larger.nii.gz {pair} -o large.nii.gz")).ends(0);
    assert!(!ran.err.contains("% of the voxels"), "{}", ran.err);
    let ran = place
        .run("apply -m away.nii.gz -f larger.nii.gz -t out/warp.nii.gz -o torn.nii.gz")
        .ends(0);
    assert!(ran.err.contains("about 75.0 % of the voxels"), "{}", ran.err);
    let large = place.image::<2>("large.nii.gz");
    for flat in 0..32 * 32 {
        let [i, j] = a.grid().unravel(flat);
        let found = large.data()[(i + 16) * 64 + j + 16];
        assert!((found - a.data()[flat]).abs() < 1e-4, "at {i} {j}");
    }
    // An affine registration has nothing else.
    place.run(&format!("register {} --preset affine --out alone", super::PAIR)).ends(0);
    assert!(!place.has("alone/nonlinear_warp.nii.gz") && place.has("alone/affine.mat"));
    let ran = place.run("apply --dimension 2 --points p.csv -o no.csv").ends(2);
    assert!(ran.err.contains("--transform"), "{}", ran.err);
}

#[test]
fn parts_after_a_warp_are_the_whole_as_well() {
    let place = Place::with_result();
    place.put("turn.txt", "");
    let matrix = SMatrix::<f64, 2, 2>::new(1.05, 0.0, 0.02, 1.0);
    let turn = Affine::new(matrix, SVector::from([-0.5, 0.25])).unwrap();
    itk::write_text(place.path("turn.txt"), &turn).unwrap();
    let initial = "-t out/nonlinear_warp.nii.gz -t turn.txt --affine none";
    place.run(&format!("register {} {initial} --out again", super::PAIR)).ends(0);
    let affine = itk::read::<2>(place.path("again/affine.txt")).unwrap();
    for x in [[0.0, 0.0], [31.0, 4.0]] {
        assert!(distance(affine.apply(x), turn.apply(x)) < 1e-9, "what the list does outside");
    }
    let pair = "-t again/nonlinear_warp.nii.gz -t again/affine.txt";
    place.run(&format!("compose {pair} -f fixed.nii.gz -o both.nii.gz")).ends(0);
    let [both, whole] = ["both.nii.gz", "again/warp.nii.gz"].map(|name| place.warp(name));
    assert!(farthest(both.data(), whole.data()) < 1e-5);
}
