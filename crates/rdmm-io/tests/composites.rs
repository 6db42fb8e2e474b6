//! Composites and displacement fields as `SimpleITK` 2.5.7 wrote them (`files/make_transforms.py`), and where it takes
//! points.

use std::path::{Path, PathBuf};

use rdmm_io::{Chain, Listed, Transform};

/// Inside the field, near its face, and outside.
const POINTS: [[f64; 3]; 3] = [[-7.0, -1.0, 2.0], [-9.5, 0.25, -4.0], [1.0, 2.0, 3.0]];
const COMPOSITE: [[f64; 3]; 3] = [
    [-0.398_991_320_219_295_2, -5.178_362_845_555_018, 14.350_507_473_603_116],
    [-2.867_437_859_490_005, -4.718_036_614_933_396, 7.237_382_611_695_613_5],
    [7.257_445_401_191_329, -1.319_773_432_409_811_6, 18.738_855_697_360_343],
];
const FIELD: [[f64; 3]; 3] = [
    [-6.795_882_703_363_896, -0.75, 1.408_006_000_518_798_7],
    [-10.211_479_496_955_87, 0.0, -4.224_857_020_378_113],
    [1.0, 2.0, 3.0],
];
const TURN: [[f64; 3]; 3] = [
    [-1.494_224_437_769_682_7, 2.135_040_902_262_771, 6.143_914_929_625_028],
    [-3.251_877_728_243_746_5, 3.559_646_916_670_719_6, -0.076_507_291_912_542_46],
    [5.0, 7.0, 9.0],
];

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files").join(name)
}

fn near(a: [f64; 3], b: [f64; 3], tolerance: f64) -> bool {
    (0..3).all(|k| (a[k] - b[k]).abs() < tolerance)
}

#[test]
fn points_go_where_simpleitk_takes_them() {
    for (name, expected) in [
        ("composite.h5", COMPOSITE),
        ("composite.tfm", COMPOSITE),
        ("field.tfm", FIELD),
        ("turn.h5", TURN),
    ] {
        let chain = Chain::<3>::read(&[Listed::new(file(name))]).unwrap();
        for (x, y) in POINTS.into_iter().zip(expected) {
            let found = chain.apply(x).unwrap();
            // The field turned to its axes and back in single precision, through slopes of little more than one.
            assert!(near(found, y, 1e-6), "{name}: {x:?} to {found:?}, not {y:?}");
        }
    }
}

#[test]
fn the_inverse_of_a_file_takes_points_back() {
    let listed = [Listed { inverted: true, ..Listed::new(file("turn.h5")) }];
    let back = Chain::<3>::read(&listed).unwrap();
    for (x, y) in POINTS.into_iter().zip(TURN) {
        assert!(near(back.apply(y).unwrap(), x, 1e-12));
    }
}

#[test]
fn a_list_is_not_one_transform() {
    let maps = Transform::<3>::read_list(file("composite.h5")).unwrap();
    assert!(matches!(maps[..], [Transform::Warp(_), Transform::Affine(_), Transform::Affine(_)]));
    let error = Transform::<3>::read(file("composite.h5")).unwrap_err().to_string();
    assert!(error.contains("a list of 3"), "{error}");
    assert!(matches!(Transform::<3>::read(file("field.tfm")), Ok(Transform::Warp(_))));
    let error = Transform::<2>::read(file("turn.h5")).unwrap_err().to_string();
    assert!(error.contains("images of 2"), "{error}");
}

#[test]
fn fields_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tfm");
    let text = |parameters: &str, fixed: &str| {
        format!(
            "#Insight Transform File V1.0\n#Transform 0\nTransform: DisplacementFieldTransform_double_2_2\n\
             Parameters: {parameters}\nFixedParameters: {fixed}\n"
        )
    };
    let many = "0 ".repeat(32);
    for (text, part) in [
        (text(&many, "4 4 0 0 1 1 1 0 0"), "9 numbers"),
        (
            text("0 0", "4 4 0 0 1 1 1 0 0 1"),
            "2 of DisplacementFieldTransform_double_2_2 instead of 32",
        ),
        (text(&many, "4 4.5 0 0 1 1 1 0 0 1"), "voxels an axis"),
        (text(&many, "1e9 1e9 0 0 1 1 1 0 0 1"), "32 of"),
        (text(&many, "4 4 0 0 1 1 1 0.5 0 1"), "sheared"),
        (text(&many, "4 4 0 nan 1 1 1 0 0 1"), "origin"),
    ] {
        std::fs::write(&path, &text).unwrap();
        let error = Transform::<2>::read(&path).unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
}

/// Every place of a file changed, and the file cut there: an error or a map, no panic.
#[test]
fn damaged_files_do_not_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.h5");
    let whole = std::fs::read(file("turn.h5")).unwrap();
    let mut refused = 0;
    for at in (0..whole.len()).step_by(7) {
        for damage in [0x00, 0xff, 0x80] {
            let mut changed = whole.clone();
            changed[at] ^= damage;
            if damage == 0 {
                changed.truncate(at);
            }
            std::fs::write(&path, &changed).unwrap();
            refused += usize::from(Transform::<3>::read(&path).is_err());
        }
    }
    assert!(refused > whole.len() / 7, "at least those that are cut: {refused}");
}
