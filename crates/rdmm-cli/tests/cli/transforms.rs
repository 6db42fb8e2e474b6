//! `rdmm apply`, `compose`, `invert`, `jacobian` and `evaluate` on what `rdmm register` found.

use nalgebra::{SMatrix, SVector};
use rdmm_core::world::Affine;
use rdmm_io::transform::itk;
use rdmm_io::{Geometry, Meaning, Sample, Volume};
use serde_json::Value;

use crate::{LABELS, PAIR, Place, farthest, figure};

/// A turn by 0.1 about the middle of the pair, a little larger and shifted.
fn turn() -> Affine<2> {
    let (s, c) = 0.1_f64.sin_cos();
    let matrix = 1.05 * SMatrix::<f64, 2, 2>::new(c, -s, s, c);
    let middle = SVector::from([15.5, 15.5]);
    Affine::new(matrix, middle - matrix * middle + SVector::from([0.7, -0.4])).unwrap()
}

pub(super) fn points(place: &Place, name: &str) -> Vec<[f64; 2]> {
    rdmm_io::points::Points::<2>::read(place.path(name)).unwrap().positions().to_vec()
}

pub(super) fn distance(a: [f64; 2], b: [f64; 2]) -> f64 {
    (SVector::from(a) - SVector::from(b)).norm()
}

#[test]
fn apply_gives_what_register_wrote() {
    let place = Place::with_result();
    place.run("apply -m moving.nii.gz -f fixed.nii.gz -t out/warp.nii.gz -o image.nii.gz").ends(0);
    let (found, expected) =
        (place.image::<2>("image.nii.gz"), place.image::<2>("out/warped.nii.gz"));
    // Positions are single precision in the file as they were before: the map at a voxel's centre comes back but for
    // the rounding of x + u − x, 2e-6 of a voxel, where the image falls by less than its range a voxel.
    assert!(farthest(found.data(), expected.data()) < 1e-5);
    assert_eq!(found.grid(), expected.grid());
    let labels = "apply -m moving_labels.nii.gz -f fixed.nii.gz -t out/warp.nii.gz -i labels";
    place.run(&format!("{labels} -o labels.nii.gz")).ends(0);
    assert_eq!(place.labels("labels.nii.gz"), place.labels("out/warped_labels.nii.gz"));
}

#[test]
fn interpolations_on_a_known_shift() {
    let place = Place::with_pair();
    let half = Affine::new(SMatrix::identity(), SVector::from([0.5, 0.0])).unwrap();
    itk::write_text(place.path("half.txt"), &half).unwrap();
    let apply = "apply -f fixed.nii.gz -t half.txt";
    place.run(&format!("{apply} -m moving.nii.gz -i linear -o linear.nii.gz")).ends(0);
    let (moving, linear) = (place.image::<2>("moving.nii.gz"), place.image::<2>("linear.nii.gz"));
    let [n, m] = moving.grid().shape();
    for i in 0..n {
        for j in 0..m {
            let (low, high) = (moving.data()[i * m + j], moving.data()[(i + 1).min(n - 1) * m + j]);
            // Beyond the last voxel's centre it keeps its value. Rounded once, to single precision.
            assert!((linear.data()[i * m + j] - 0.5 * (low + high)).abs() < 1e-6);
        }
    }
    // A shift by whole voxels is read off the array, and there is nothing beyond it.
    let whole = Affine::new(SMatrix::identity(), SVector::from([0.0, -2.0])).unwrap();
    itk::write_text(place.path("whole.txt"), &whole).unwrap();
    let apply = "apply -f fixed.nii.gz -t whole.txt";
    place.run(&format!("{apply} -m moving_labels.nii.gz -i nearest -o nearest.nii.gz")).ends(0);
    place.run(&format!("{apply} -m moving.nii.gz -i cubic -o cubic.nii.gz")).ends(0);
    let (labels, nearest) = (place.labels("moving_labels.nii.gz"), place.labels("nearest.nii.gz"));
    let cubic = place.image::<2>("cubic.nii.gz");
    assert!(nearest.data().iter().any(|&label| label > 0));
    for i in 0..n {
        for j in 0..m {
            let there = j.checked_sub(2).map(|j| i * m + j);
            assert_eq!(nearest.data()[i * m + j], there.map_or(0, |k| labels.data()[k]));
            // Splines go through the values, to the rounding of their filter in single precision.
            let expected = there.map(|k| moving.data()[k]);
            assert!(expected.is_none_or(|x| (cubic.data()[i * m + j] - x).abs() < 1e-5));
        }
    }
}

/// A volume of a formula of its index, away from the origin, spacing 2, 2 and 5.
fn volume(
    shape: [usize; 3],
    components: usize,
    value: impl Fn([usize; 3], usize) -> f64,
) -> Volume {
    let geometry = Geometry {
        shape: shape.to_vec(),
        spacing: vec![2.0, 2.0, 5.0],
        origin: vec![-7.0, 3.0, 11.0],
        direction: nalgebra::DMatrix::identity(3, 3),
    };
    let [n, m, l] = shape;
    let index = |flat: usize| [flat % n, flat / n % m, flat / n / m];
    let values = (0..components).flat_map(|c| (0..n * m * l).map(move |flat| (flat, c)));
    let values = values.map(|(flat, c)| value(index(flat), c)).collect();
    let meaning = if components > 1 { Meaning::Colours } else { Meaning::Values };
    Volume::new(geometry, components, meaning, Sample::U8, values)
}

/// A file that shifts by so many millimetres along the first axis.
fn shift(place: &Place, x: f64) {
    let shift = Affine::new(SMatrix::<f64, 3, 3>::identity(), [x, 0.0, 0.0].into()).unwrap();
    itk::write_text(place.path("shift.txt"), &shift).unwrap();
}

#[test]
fn the_nearest_voxel_of_any_numbers() {
    let place = Place::empty();
    let value = |[i, j, k]: [usize; 3]| 100.0 * i as f64 - 30.0 * j as f64 - 1024.0 * k as f64;
    let ct = Volume { sample: Sample::I16, ..volume([6, 5, 3], 1, |index, _| value(index)) };
    rdmm_io::write(place.path("ct.nii"), &ct).unwrap();
    shift(&place, 2.0);
    place.run("apply -m ct.nii -f ct.nii -t shift.txt -i nearest -o moved.nii.gz").ends(0);
    let moved = rdmm_io::read(place.path("moved.nii.gz")).unwrap();
    // A voxel further along the first axis, and nothing beyond the last.
    let expected =
        volume([6, 5, 3], 1, |[i, j, k], _| if i < 5 { value([i + 1, j, k]) } else { 0.0 });
    assert_eq!(moved.values, expected.values);
    assert_eq!((moved.sample, &moved.geometry), (Sample::I16, &ct.geometry));
}

#[test]
fn images_of_few_slices_are_carried() {
    let place = Place::empty();
    let value = |[i, j, k]: [usize; 3]| (4 * i + 3 * j + 20 * k) as f64;
    for (name, shape) in [("slices", [6, 5, 3]), ("sagittal", [2, 5, 8])] {
        let image = volume(shape, 1, |index, _| value(index));
        rdmm_io::write(place.path("a.nii"), &image).unwrap();
        shift(&place, 1.0);
        place.run("apply -m a.nii -f a.nii -t shift.txt -i linear -o moved.nii").ends(0);
        let moved = rdmm_io::read(place.path("moved.nii")).unwrap();
        // Half a voxel further, where the image is linear; the last voxel keeps its value up to its face.
        let half = |[i, j, k]: [usize; 3]| {
            let next = (i + 1).min(shape[0] - 1);
            0.5 * (value([i, j, k]) + value([next, j, k]))
        };
        assert_eq!(moved.values, volume(shape, 1, |index, _| half(index)).values, "{name}");
        place.run("compose -t shift.txt -f a.nii -o warp.nii").ends(0);
        let warp = rdmm_io::read(place.path("warp.nii")).unwrap();
        let n = shape.iter().product::<usize>();
        assert_eq!((warp.meaning, &warp.geometry), (Meaning::Vectors, &image.geometry));
        assert!(
            warp.values[..n].iter().all(|u| u.to_bits() == 1.0_f64.to_bits())
                && warp.values[n..].iter().all(|&u| u == 0.0)
        );
        let ran = place.run("apply -m a.nii -f a.nii -t shift.txt -o moved.nii").ends(2);
        assert!(
            ran.err.contains("expected at least 4") && ran.err.contains("-i linear"),
            "{}",
            ran.err
        );
    }
}

#[test]
fn colours_stay_colours() {
    let place = Place::empty();
    let value = |[i, j, _]: [usize; 3], c: usize| (20 * i + 5 * j + 40 * c) as f64;
    let mut picture = volume([6, 5, 1], 3, value);
    let (spacing, origin) = (vec![1.0; 2], vec![0.0; 2]);
    picture.geometry = Geometry {
        shape: vec![6, 5],
        spacing,
        origin,
        direction: nalgebra::DMatrix::identity(2, 2),
    };
    rdmm_io::write(place.path("a.png"), &picture).unwrap();
    let one = Affine::new(SMatrix::<f64, 2, 2>::identity(), [1.0, 0.0].into()).unwrap();
    itk::write_text(place.path("shift.txt"), &one).unwrap();
    let expected =
        volume([6, 5, 1], 3, |[i, j, k], c| if i < 5 { value([i + 1, j, k], c) } else { 0.0 });
    for (how, out) in
        [("cubic", "b.png"), ("linear", "b.png"), ("nearest", "b.png"), ("linear", "b.nii.gz")]
    {
        let ran =
            place.run(&format!("apply -m a.png -f a.png -t shift.txt -i {how} -o {out}")).ends(0);
        assert!(!ran.err.contains("warning"), "{}", ran.err);
        let moved = rdmm_io::read(place.path(out)).unwrap();
        assert_eq!(
            (moved.components, moved.meaning, moved.sample),
            (3, Meaning::Colours, Sample::U8)
        );
        assert_eq!(moved.values, expected.values, "{how}");
    }
    // A registration is of grey values, and says so.
    let ran = place.run("register -f a.png -m a.png --preset affine --levels 1:1 -o out");
    assert!(
        ran.err.contains("a.png: colours are used, and written, as grey values"),
        "{}",
        ran.err
    );
    // What is transparent has none.
    let opacity = |[i, _, _]: [usize; 3]| if i == 2 { 0.0 } else { 255.0 };
    let mut clear =
        volume([6, 5, 1], 4, |index, c| if c < 3 { value(index, c) } else { opacity(index) });
    clear.geometry = picture.geometry;
    rdmm_io::write(place.path("clear.png"), &clear).unwrap();
    let ran = place.run("register -f a.png -m clear.png --preset affine -o out").ends(2);
    assert!(ran.err.contains("clear.png") && ran.err.contains("opaque"), "{}", ran.err);
    place.run("apply -m clear.png -f a.png -t shift.txt -i nearest -o b.png").ends(0);
    assert_eq!(rdmm_io::read(place.path("b.png")).unwrap().components, 4);
}

#[test]
fn results_lie_where_both_forms_of_the_fixed_file_say() {
    let place = Place::empty();
    let image = volume([12, 11, 10], 1, |[i, j, k], _| ((i * i + 3 * j + k * j) % 200) as f64);
    rdmm_io::write(place.path("moving.nii"), &image).unwrap();
    let mut bytes = place.bytes("moving.nii");
    // sform: code 2, 8 mm further along y.
    bytes[254] = 2;
    let y = f32::from_le_bytes(bytes[308..312].try_into().unwrap());
    bytes[308..312].copy_from_slice(&(y + 8.0).to_le_bytes());
    place.put("fixed.nii", &bytes);
    shift(&place, 2.0);
    let said =
        "fixed.nii: the qform (code 1) and the sform (code 2) place the image up to 8.000 mm apart";
    let apply = "apply -m moving.nii -f fixed.nii -t shift.txt";
    for (options, out) in [
        (apply, "a.nii"),
        ("apply -m moving.nii -f fixed.nii -t shift.txt -i linear", "b.nii"),
        ("apply -m moving.nii -f fixed.nii -t shift.txt -i nearest", "c.nii"),
        ("apply -m moving.nii -f fixed.nii -t shift.txt -i labels", "d.nii"),
        ("compose -t shift.txt -f fixed.nii", "e.nii"),
    ] {
        let ran = place.run(&format!("{options} -o {out}")).ends(0);
        assert!(ran.err.contains(&format!("warning: {said}")), "{}", ran.err);
        assert_eq!(place.bytes(out)[252..328], bytes[252..328], "{out}: codes and both forms");
    }
    let register = "register -f fixed.nii -m moving.nii --moving-labels moving.nii --preset affine --levels 1:1 -o out";
    let ran = place.run(register).ends(0);
    assert!(ran.err.contains(&format!("warning: {said}")), "{}", ran.err);
    for name in ["warped.nii.gz", "warped_labels.nii.gz", "jacobian.nii.gz"] {
        rdmm_io::write(
            place.path("plain.nii"),
            &rdmm_io::read(place.path("out").join(name)).unwrap(),
        )
        .unwrap();
        assert_eq!(place.bytes("plain.nii")[252..328], bytes[252..328], "{name}");
    }
}

#[test]
fn points_go_to_the_moving_image_and_back() {
    let place = Place::with_result();
    // Centres of the objects of the fixed image lie in the same objects of the moving image.
    let (fixed, moving) =
        (place.labels("fixed_labels.nii.gz"), place.labels("moving_labels.nii.gz"));
    let grid = fixed.grid();
    let classes = fixed.classes();
    let centre = |label: u32| {
        let of: Vec<usize> = (0..grid.len()).filter(|&k| fixed.data()[k] == label).collect();
        let sum = of.iter().fold([0.0; 2], |[x, y], &k| {
            let [i, j] = grid.unravel(k);
            [x + i as f64, y + j as f64]
        });
        sum.map(|x| x / of.len() as f64)
    };
    let centres: Vec<[f64; 2]> =
        classes.iter().map(|&label| grid.to_world(centre(label))).collect();
    let rows: Vec<String> = centres.iter().map(|[x, y]| format!("{x},{y},name\n")).collect();
    place.put("points.csv", format!("x,y,comment\n{}", rows.concat()));
    let apply = "apply --dimension 2 --points";
    place.run(&format!("{apply} points.csv -t out/warp.nii.gz -o moved.csv")).ends(0);
    let moved = points(&place, "moved.csv");
    let mut in_object = 0;
    for (&point, &label) in moved.iter().zip(&classes) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "on the grid")]
        let [i, j] = moving.grid().to_index(point).map(|x| x.round() as usize);
        in_object += usize::from(moving.data()[i * grid.shape()[1] + j] == label);
    }
    // Rings have their centre in another object.
    assert!(in_object + 1 >= classes.len() && in_object >= 2, "{in_object} of {}", classes.len());
    assert!(place.text("moved.csv").starts_with("x,y,comment\n"));

    // Back by the inverse that was written, interpolated linearly between voxels of a map that bends: a twentieth of
    // a voxel; and by the inverse of the warp itself, found at the points to 1e-4 of a voxel.
    let back = [("out/inverse_warp.nii.gz", 0.05), ("[out/warp.nii.gz,1]", 1e-4)];
    for (transform, tolerance) in back {
        place.run(&format!("{apply} moved.csv -t {transform} -o back.csv")).ends(0);
        for (a, b) in points(&place, "back.csv").into_iter().zip(&centres) {
            assert!(distance(a, *b) < tolerance, "{transform}: {a:?} {b:?}");
        }
    }
}

#[test]
fn a_composition_is_the_list() {
    let place = Place::with_result();
    itk::write_text(place.path("turn.txt"), &turn()).unwrap();
    for list in ["-t out/warp.nii.gz -t turn.txt", "-t turn.txt -t [out/warp.nii.gz,1]"] {
        place.run(&format!("compose {list} -f fixed.nii.gz -o whole.nii.gz")).ends(0);
        let apply = "apply -m moving.nii.gz -f fixed.nii.gz";
        place.run(&format!("{apply} {list} -o list.nii.gz")).ends(0);
        place.run(&format!("{apply} -t whole.nii.gz -o one.nii.gz")).ends(0);
        // Rounded once more, to the single precision of the file.
        let [list, one] = ["list.nii.gz", "one.nii.gz"].map(|name| place.image::<2>(name));
        assert!(farthest(list.data(), one.data()) < 1e-5);
    }
    // The order of the list: points of the fixed image go through the first one first.
    place.put("p.csv", "x,y\n12,18\n");
    let apply = "apply --dimension 2 --points p.csv";
    place.run(&format!("{apply} -t out/warp.nii.gz -o q.csv")).ends(0);
    place.run(&format!("{apply} -t out/warp.nii.gz -t turn.txt -o r.csv")).ends(0);
    let expected = turn().apply(points(&place, "q.csv")[0]);
    assert!(distance(points(&place, "r.csv")[0], expected) < 1e-12);
}

#[test]
fn an_inverse_undoes_its_transform() {
    let place = Place::with_result();
    place.run("invert --dimension 2 -t out/warp.nii.gz -o inverse.nii.gz").ends(0);
    place.run("compose -t inverse.nii.gz -t out/warp.nii.gz -f fixed.nii.gz -o id.nii.gz").ends(0);
    let left = place.warp("id.nii.gz");
    let grid = left.grid();
    let [n, m] = grid.shape();
    for flat in 0..grid.len() {
        let [i, j] = grid.unravel(flat);
        // Points that leave the grid are carried on by the inverse and not by the warp.
        if (3..n - 3).contains(&i) && (3..m - 3).contains(&j) {
            for a in 0..2 {
                // The tolerance of the inverse, in voxels of one millimetre.
                assert!(left.component(a)[flat].abs() < 1.1e-4, "at {i} {j}");
            }
        }
    }
    itk::write_text(place.path("turn.txt"), &turn()).unwrap();
    for (out, read) in [("back.txt", "back.txt"), ("back.mat", "back.mat")] {
        place.run(&format!("invert --dimension 2 -t turn.txt -o {out}")).ends(0);
        let back = itk::read::<2>(place.path(read)).unwrap();
        let x = [3.0, 40.0];
        assert!(distance(back.apply(turn().apply(x)), x) < 1e-10, "{out}");
    }
}

#[test]
fn determinants_are_those_of_the_registration() {
    let place = Place::with_result();
    let ran = place.run("jacobian -w out/warp.nii.gz -o det.nii.gz").ends(0);
    let (found, expected) =
        (place.image::<2>("det.nii.gz"), place.image::<2>("out/jacobian.nii.gz"));
    assert!(farthest(found.data(), expected.data()) < 1e-6, "the same map, single precision");
    let (said, report): (Value, _) =
        (serde_json::from_str(&ran.out).unwrap(), place.json("out/report.json"));
    for name in ["min_det", "max_det", "folds"] {
        assert!((figure(&said, name) - figure(&report, name)).abs() < 1e-6, "{name}");
    }
    place.run("jacobian --log -w out/warp.nii.gz -o log.nii.gz").ends(0);
    let log = place.image::<2>("log.nii.gz");
    let expected: Vec<f32> = found.data().iter().map(|x| x.ln()).collect();
    assert!(farthest(log.data(), &expected) < 1e-6);

    // The determinant of an affine map is that of its matrix.
    itk::write_text(place.path("turn.txt"), &turn()).unwrap();
    place.run("compose -t turn.txt -f fixed.nii.gz -o turn.nii.gz").ends(0);
    place.run("jacobian -w turn.nii.gz -o det.nii.gz").ends(0);
    let det = place.image::<2>("det.nii.gz");
    for (flat, &x) in det.data().iter().enumerate() {
        // In the outermost voxels differences see a mirrored displacement. Differences of single precision.
        let inside = det.grid().unravel(flat).iter().all(|i| (1..31).contains(i));
        assert!(!inside || (f64::from(x) - 1.05_f64.powi(2)).abs() < 1e-4, "{x} at {flat}");
    }

    // A mirrored map folds everywhere, and has no logarithm.
    let mirror =
        Affine::new(SMatrix::<f64, 2, 2>::new(-1.0, 0.0, 0.0, 1.0), SVector::from([31.0, 0.0]));
    itk::write_text(place.path("mirror.txt"), &mirror.unwrap()).unwrap();
    place.run("compose -t mirror.txt -f fixed.nii.gz -o mirror.nii.gz").ends(0);
    let ran = place.run("jacobian -w mirror.nii.gz -o det.nii.gz").ends(0);
    let said: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(said["folds"], said["voxels"]);
    let ran = place.run("jacobian --log -w mirror.nii.gz -o log_mirror.nii.gz").ends(3);
    assert!(ran.err.contains("mirror.nii.gz") && !place.has("log_mirror.nii.gz"), "{}", ran.err);
}

#[test]
fn figures_are_those_of_the_registration() {
    let place = Place::with_result();
    let options = "--inverse out/inverse_warp.nii.gz -t out/warp.nii.gz";
    let ran = place.run(&format!("evaluate {PAIR} {LABELS} {options}")).ends(0);
    let (found, report): (Value, _) =
        (serde_json::from_str(&ran.out).unwrap(), place.json("out/report.json"));
    let names = ["ncc", "mse", "dice_mean", "dice_whole"];
    let each =
        names.iter().flat_map(|name| ["_before", "_after"].map(|when| format!("{name}{when}")));
    let others = ["folds", "min_det", "max_det"].map(str::to_owned);
    for name in each.chain(others) {
        let off = (figure(&found, &name) - figure(&report, &name)).abs();
        assert!(off < 1e-6, "{name}: {off}");
    }
    // Both maps come from files of single precision.
    for name in ["inverse_consistency_mean", "inverse_consistency_max"] {
        assert!((figure(&found, name) - figure(&report, name)).abs() < 1e-5, "{name}");
    }
    assert_eq!(found["dice_after"], report["dice_after"]);
    place.run(&format!("evaluate {PAIR} {LABELS} {options} --out found.json")).ends(0);
    assert_eq!(place.json("found.json"), found);
    // No transform is the identity.
    let ran = place.run(&format!("evaluate {PAIR} {LABELS}")).ends(0);
    let identity: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(identity["dice_mean_after"], report["dice_mean_before"]);
}

#[test]
fn an_affine_map_can_be_where_it_begins() {
    let place = Place::with_pair();
    // The moving image elsewhere in the world, where no voxel of the fixed image is.
    let moving = place.image::<2>("moving.nii.gz");
    let away = moving.grid().clone().with_origin([300.0, -200.0]).unwrap();
    rdmm_io::write_image(place.path("away.nii.gz"), &moving.on_grid(&away).unwrap()).unwrap();
    let shift = Affine::new(SMatrix::identity(), SVector::from([300.0, -200.0])).unwrap();
    itk::write_text(place.path("shift.txt"), &shift).unwrap();
    for (initial, out) in [("shift.txt", "a"), ("[back.mat,1]", "b")] {
        itk::write_mat(place.path("back.mat"), &shift.inverse()).unwrap();
        let options =
            format!("--fixed fixed.nii.gz --moving away.nii.gz -t {initial} --affine none");
        place.run(&format!("register {options} --out {out}")).ends(0);
        assert!(figure(&place.json(&format!("{out}/report.json")), "ncc_after") > 0.98);
        let affine = itk::read::<2>(place.path(&format!("{out}/affine.txt"))).unwrap();
        assert!(distance(affine.apply([1.0, 2.0]), [301.0, -198.0]) < 1e-9);
    }
    // The same as where both lie on each other.
    place.run(&format!("register {PAIR} --affine none --out near")).ends(0);
    let [near, far] = ["near", "a"].map(|out| place.image::<2>(&format!("{out}/warped.nii.gz")));
    assert!(farthest(near.data(), far.data()) < 1e-2, "positions of 300 mm in single precision");
}

#[test]
fn a_warp_can_be_where_it_begins() {
    let place = Place::with_result();
    let options = "--initial out/warp.nii.gz --affine none";
    place.run(&format!("register {PAIR} {LABELS} {options} --out again")).ends(0);
    let (first, again) = (place.json("out/report.json"), place.json("again/report.json"));
    let of = |report: &Value, name: &str| figure(report, name);
    assert!((of(&again, "ncc_affine") - of(&first, "ncc_after")).abs() < 1e-6, "where it begins");
    assert!(of(&again, "ncc_after") >= of(&again, "ncc_affine"));
    let (a, b) = (place.warp("out/warp.nii.gz"), place.warp("again/warp.nii.gz"));
    let mean = |u: &[f32], v: &[f32]| {
        u.iter().zip(v).map(|(u, v)| f64::from((u - v).abs())).sum::<f64>() / u.len() as f64
    };
    let zero = vec![0.0; a.data().len()];
    let (moved, more) = (mean(a.data(), &zero), mean(a.data(), b.data()));
    // The regulariser counts from there on, so that a little more can be had.
    assert!(more < 0.3 * moved, "{more} mm beside {moved} mm");
    assert!(of(&again, "inverse_consistency_max") < 0.3, "{again}");
    // What was written is the whole map, from the moving image as it was given.
    place
        .run("apply -m moving.nii.gz -f fixed.nii.gz -t again/warp.nii.gz -o image.nii.gz")
        .ends(0);
    let [found, expected] =
        ["image.nii.gz", "again/warped.nii.gz"].map(|name| place.image::<2>(name));
    assert!(farthest(found.data(), expected.data()) < 1e-5);
    // Its report can be written again, with the warp before.
    let page = place.bytes("again/report.html");
    place.run("report again").ends(0);
    assert!(place.bytes("again/report.html") == page);
}
