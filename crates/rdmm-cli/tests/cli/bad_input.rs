//! What cannot be used: exit code 2, the file or the option, what was expected, and nothing written.

use rdmm_core::field::Image;
use rdmm_core::grid::Grid;
use rdmm_core::labels::Labels;

use crate::{PAIR, Place};

/// Runs it in a folder with a pair, expects a refusal that says all of `said`, and no file beyond those before.
#[track_caller]
fn refused(place: &Place, options: &str, said: &[&str]) {
    let ran = place.run(options).ends(2);
    for said in said {
        assert!(ran.err.contains(said), "{said:?} is missing from: {}", ran.err);
    }
    assert!(ran.err.starts_with("error: "), "{}", ran.err);
    assert!(ran.out.is_empty(), "{}", ran.out);
    if place.path("out").is_dir() {
        assert_eq!(place.files("out"), [""; 0], "{options}");
    }
}

/// `rdmm register` with another fixed image.
#[track_caller]
fn refused_image(place: &Place, name: &str, said: &[&str]) {
    let all: Vec<&str> = [&[name], said].concat();
    refused(place, &format!("register --fixed {name} --moving moving.nii.gz --out out"), &all);
    refused(place, &format!("register --fixed fixed.nii.gz --moving {name} --out out"), &all);
    assert!(!place.has("out"), "images are read before the folder is made");
}

fn write(place: &Place, name: &str, grid: &Grid<2>, value: impl Fn(usize) -> f32) {
    let data = (0..grid.len()).map(value).collect();
    rdmm_io::write_image(place.path(name), &Image::from_vec(grid, data).unwrap()).unwrap();
}

/// A NIfTI-1 file that is not packed, with other bytes at some places of its header.
fn patched(place: &Place, name: &str, patches: &[(usize, &[u8])]) {
    rdmm_io::write_image(place.path(name), &place.image::<2>("fixed.nii.gz")).unwrap();
    let mut bytes = place.bytes(name);
    for (at, patch) in patches {
        bytes[*at..at + patch.len()].copy_from_slice(patch);
    }
    place.put(name, bytes);
}

#[test]
fn files_that_are_no_images() {
    let place = Place::with_pair();
    refused_image(&place, "missing.nii.gz", &["No such file"]);
    let bytes = place.bytes("fixed.nii.gz");
    place.put("cut.nii.gz", &bytes[..bytes.len() / 2]);
    refused_image(&place, "cut.nii.gz", &["copy"]);
    place.put("text.nii", "this is text, and longer than any header is said to be");
    refused_image(&place, "text.nii", &["expected"]);
    place.put("empty.nii.gz", "");
    refused_image(&place, "empty.nii.gz", &["expected"]);
    place.put("notes.doc", "a letter");
    refused_image(&place, "notes.doc", &["expected", "NIfTI"]);
    std::fs::create_dir(place.path("folder.nii")).unwrap();
    refused_image(&place, "folder.nii", &["directory"]);
}

#[test]
fn images_that_cannot_be_registered() {
    let place = Place::with_pair();
    let grid = place.image::<2>("fixed.nii.gz").grid().clone();
    let volume = Grid::new([8, 8, 8], [1.0; 3]).unwrap();
    let volume = Image::<f32, 3>::from_fn(&volume, |x| x[0] * x[1]).unwrap();
    rdmm_io::write_image(place.path("volume.nii.gz"), &volume).unwrap();
    let mixed = "register --fixed fixed.nii.gz --moving volume.nii.gz --out out";
    refused(
        &place,
        mixed,
        &["fixed.nii.gz has 2 axes", "volume.nii.gz has 3", "expected the same"],
    );

    patched(&place, "nan.nii", &[(352 + 4 * 37, &f32::NAN.to_le_bytes())]);
    refused_image(&place, "nan.nii", &["finite", "NaN"]);
    patched(&place, "infinite.nii", &[(352, &f32::INFINITY.to_le_bytes())]);
    refused_image(&place, "infinite.nii", &["finite", "inf"]);
    write(&place, "flat.nii.gz", &grid, |_| 3.0);
    refused_image(&place, "flat.nii.gz", &["all voxels are alike", "expected some contrast"]);
    // All but one voxel alike: nothing is left between percentiles that cut.
    write(&place, "one.nii.gz", &grid, |k| if k == 500 { 1.0 } else { 0.0 });
    let one = "register --fixed one.nii.gz --moving moving.nii.gz --winsorize 0.01,0.99 --out out";
    refused(&place, one, &["one.nii.gz", "percentiles that cut", "--winsorize"]);

    // One axis, and an axis of three voxels.
    patched(&place, "line.nii", &[(40, &[1, 0, 0, 4, 1, 0])]);
    refused_image(&place, "line.nii", &["axes"]);
    patched(&place, "thin.nii", &[(44, &[3, 0])]);
    refused_image(&place, "thin.nii", &["axis 1 has 3 voxels, expected at least 4"]);
    // No spacing: neither sform nor qform, pixdim not a number.
    let (none, nan) = ([0_u8; 4], f32::NAN.to_le_bytes());
    patched(&place, "spacing.nii", &[(252, &none), (80, &nan), (280, &[0; 48])]);
    refused_image(&place, "spacing.nii", &["spacing", "> 0"]);
    patched(&place, "sform.nii", &[(252, &[0, 0, 1, 0]), (280, &[0; 48])]);
    refused_image(&place, "sform.nii", &["spacing", "> 0"]);
    // A header that promises more than memory: 30000² double precision.
    patched(&place, "huge.nii", &[(42, &30000_i16.to_le_bytes()), (44, &30000_i16.to_le_bytes())]);
    refused_image(&place, "huge.nii", &["truncated"]);
}

#[test]
fn what_lies_beside_the_images() {
    let place = Place::with_pair();
    let grid = place.image::<2>("fixed.nii.gz").grid().clone();
    let register = |beside: &str| format!("register {PAIR} {beside} --out out");
    write(&place, "zero.nii.gz", &grid, |_| 0.0);
    refused(&place, &register("--fixed-mask zero.nii.gz"), &["zero.nii.gz", "empty", "expected"]);
    write(&place, "bytes.nii.gz", &grid, |k| if k > 500 { 255.0 } else { 0.5 });
    refused(
        &place,
        &register("--fixed-mask bytes.nii.gz"),
        &["bytes.nii.gz", "from 0 to 1", "255"],
    );
    // A grey image is no label map; labels are an image as good as any.
    for option in ["--fixed-labels", "--moving-labels", "--regions"] {
        refused(
            &place,
            &register(&format!("{option} moving.nii.gz")),
            &["moving.nii.gz", "labels", "integers"],
        );
    }
    let labels = "--fixed fixed_labels.nii.gz --moving moving_labels.nii.gz";
    let ran = place.run(&format!("register {labels} --out of_labels"));
    assert!(matches!(ran.code, Some(0 | 3)), "{}", ran.err);

    let other = Grid::new([20, 24], [1.0, 1.0]).unwrap();
    let map = Labels::from_vec(&other, vec![1; other.len()]).unwrap();
    rdmm_io::write_labels(place.path("other.nii.gz"), &map).unwrap();
    for option in ["--fixed-labels", "--moving-labels", "--regions", "--fixed-mask"] {
        refused(
            &place,
            &register(&format!("{option} other.nii.gz")),
            &["other.nii.gz", "expected the grid", "resample"],
        );
    }
    let evaluate =
        format!("evaluate {PAIR} --fixed-labels other.nii.gz --moving-labels moving_labels.nii.gz");
    refused(&place, &evaluate, &["other.nii.gz", "expected the grid"]);
    refused(&place, &register("--preset rdmm-regions"), &["rdmm-regions", "--regions"]);
    refused(&place, &register("--fixed-labels missing.nii.gz"), &["missing.nii.gz"]);

    place.put("two.csv", "x,y\n1,2\n3,4\n");
    place.put("one.csv", "x,y\n1,2\n");
    place.put("none.csv", "x,y\n");
    place.put("text.csv", "x,y\n1,two\n");
    place.put("far.csv", "x,y\n1000,2\n3,4\n");
    let landmarks =
        |a: &str, b: &str| register(&format!("--fixed-landmarks {a} --moving-landmarks {b}"));
    refused(
        &place,
        &landmarks("two.csv", "one.csv"),
        &["one.csv", "as many points", "found 1, and 2 in two.csv"],
    );
    refused(&place, &landmarks("none.csv", "none.csv"), &["none.csv", "at least one"]);
    refused(
        &place,
        &landmarks("text.csv", "one.csv"),
        &["text.csv", "finite number", "\"two\"", "line 2"],
    );
    refused(
        &place,
        &landmarks("far.csv", "two.csv"),
        &["far.csv", "inside the fixed image", "1000"],
    );
    refused(&place, &register("--fixed-landmarks two.csv"), &["--moving-landmarks"]);
}

#[test]
fn options_out_of_their_range() {
    let place = Place::with_pair();
    let shift = "#Insight Transform File V1.0\nTransform: AffineTransform_double_2_2\n\
                 Parameters: 1 0 0 1 3 0\nFixedParameters: 0 0\n";
    place.put("shift.txt", shift);
    let register = |how: &str| format!("register {PAIR} {how} --out out");
    for (how, said) in [
        ("--sigmas 0.1,4", &["--sigmas", "0.1", "expected between 0.5"][..]),
        ("--sigmas 4,400", &["--sigmas", "400", "expected between"]),
        ("--sigmas 4,2", &["--sigmas", "increase"]),
        ("--sigmas 2,4 --shares 0.5,0.6", &["--shares", "sum to 1", "1.1"]),
        ("--sigmas 2,4 --shares 1", &["--shares", "expected"]),
        ("--sigmas 2,4 --shares=-0.5,1.5", &["--shares", "expected"]),
        ("--sigmas two", &["--sigmas", "two"]),
        ("--levels 0.5:10", &["--levels", "factor of 1 or more", "0.5"]),
        ("--levels 2", &["--levels", "2:60"]),
        ("--levels 2:-1", &["--levels", "2:60"]),
        ("--min-jacobian 1", &["min_jacobian", "below 1", "found 1"]),
        ("--min-jacobian=-0.1", &["min_jacobian", "from 0"]),
        ("--weight 0", &["similarity.weight", "> 0", "found 0"]),
        ("--weight NaN", &["similarity.weight", "NaN"]),
        ("--preset elastix", &["--preset", "elastix", "rdmm-regions"]),
        ("--similarity mse", &["--similarity", "ssd"]),
        ("--preset affine --affine none", &["--affine", "expected rigid, similarity or affine"]),
        // What would do nothing.
        ("--preset affine --sigmas 2,4", &["--sigmas", "affine", "leave it out"]),
        ("--preset affine --weight 2", &["--weight", "affine", "leave it out"]),
        ("--preset rdmm-regions --shares 0.5,0.5", &["--shares", "[regions]", "leave it out"]),
        ("--regions moving_labels.nii.gz", &["--regions", "rdmm-regions"]),
        ("--start mass --affine none", &["--start", "--affine none"]),
        ("--time-limit -1", &["--time-limit", "from 0", "-1"]),
        ("--time-limit NaN", &["--time-limit", "NaN"]),
        ("--time-limit inf", &["--time-limit", "inf"]),
        ("--checkpoint-every=-1", &["--checkpoint-every", "from 0"]),
        ("--fsl", &["--fsl", "3 axes"]),
        ("--threads=-1", &["--threads", "-1"]),
        ("--quiet --verbose", &["--quiet", "--verbose"]),
        ("--landmarks-only-measured", &["--fixed-landmarks"]),
        ("--initial fixed.nii.gz", &["fixed.nii.gz", "vectors"]),
        ("--initial missing.txt", &["missing.txt"]),
        ("--initial [fixed.nii.gz]", &["--initial", "[path,1]"]),
        ("--config missing.toml", &["missing.toml", "No such file"]),
    ] {
        refused(&place, &register(how), said);
    }
    refused(&place, "register --fixed fixed.nii.gz --out out", &["--moving"]);
    refused(&place, "apply --points points.csv -o out.csv", &["--transform"]);
    refused(&place, "synth --shape 32 --out made", &["--shape", "two or three", "found 1"]);
    refused(&place, "synth --shape 8,8 --out made", &["expected at least 32", "found 8"]);
    refused(&place, "synth --shape 32,32 --spacing 1,2,3 --out made", &["--spacing", "2, found 3"]);
    refused(&place, "synth --shape 32,32 --spacing 0,1 --out made", &["spacing", "> 0"]);
    assert!(!place.has("made"));
}

#[test]
fn configurations_that_cannot_be_used() {
    let place = Place::with_pair();
    for (text, said) in [
        ("[optimizer]\nmemory = 3\n", &["unknown field", "optimizer", "optimiser"][..]),
        ("[flow]\nmin_jacobian = 1.0\n", &["flow.min_jacobian", "below 1"]),
        ("[flow]\nmap_factor = 0.5\n", &["flow.map_factor", "≥ 1"]),
        ("[flow]\ncourant = 0.0\n", &["flow.courant"]),
        ("[flow]\nleast_steps = 0\n", &["steps"]),
        ("[flow]\nleast_steps = 9\nmost_steps = 3\n", &["steps"]),
        ("[optimiser]\nmemory = 0\n", &["memory"]),
        ("[optimiser]\ntolerance = -1.0\n", &["optimiser.tolerance"]),
        ("[optimiser]\nlevels = []\n", &["optimiser.levels", "at least one"]),
        (
            "[optimiser]\nlevels = [{ factor = 0.5, iterations = 3 }]\n",
            &["optimiser.levels", "≥ 1", "0.5"],
        ),
        ("[affine]\nlevels = [{ factor = nan, iterations = 3 }]\n", &["affine.levels", "NaN"]),
        ("[intensities]\nlow = 0.9\nhigh = 0.1\n", &["intensities"]),
        ("[intensities]\nlow = -0.1\n", &["intensities.low"]),
        ("[regulariser]\nsigmas = \"some\"\n", &["sigmas"]),
        ("preset = \"elastix\"\n", &["elastix", "lddmm"]),
        ("preset = lddmm\n", &["line 1"]),
        ("[landmarks]\nweight = -1.0\n", &["landmarks.weight"]),
    ] {
        place.put("bad.toml", text);
        let all: Vec<&str> = [&["bad.toml"], said].concat();
        refused(&place, &format!("register {PAIR} --config bad.toml --out out"), &all);
        assert!(!place.has("out"), "{text}");
    }
    for (text, said) in [
        ("[regions]\nheart = { sigma = 2.0 }\n", &["[regions]", "heart"][..]),
        ("[regions]\n0 = { sigma = 200.0 }\n", &["standard deviation of a region", "200"]),
        ("[regions]\n0 = { shares = [1.0] }\n", &["weights"]),
        ("[regulariser]\nsigmas = [1.0, 2.0]\n", &["[regions]", "found 2"]),
    ] {
        place.put("bad.toml", format!("preset = \"rdmm-regions\"\n{text}"));
        let beside = "--moving-labels moving_labels.nii.gz";
        refused(&place, &format!("register {PAIR} {beside} --config bad.toml --out out"), said);
    }
}

#[test]
fn transforms_that_cannot_be_used() {
    let place = Place::with_result();
    let apply =
        |rest: &str| format!("apply -m moving.nii.gz -f fixed.nii.gz {rest} -o made.nii.gz");
    refused_here(&place, &apply("-t moving.nii.gz"), &["moving.nii.gz", "vectors"]);
    refused_here(&place, &apply("-t [out/warp.nii.gz,2]"), &["--transform", "[path,1]"]);
    refused_here(&place, &apply("-t missing.nii.gz"), &["missing.nii.gz"]);
    let flirt = "1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n";
    place.put("flirt.mat", flirt);
    refused_here(&place, &apply("-t flirt.mat"), &["flirt.mat", "FLIRT"]);
    place.put("cut.txt", "#Insight Transform File V1.0\nTransform: AffineTransform_double_2_2\n");
    refused_here(&place, &apply("-t cut.txt"), &["cut.txt"]);
    refused_here(&place, &apply("-t out/warp.nii.gz -i labels"), &["moving.nii.gz", "integers"]);
    place.put("points.csv", "x,y\n1,2\n");
    // Three axes unless it is said.
    let points = "apply --points points.csv -t out/warp.nii.gz -o made.csv";
    refused_here(&place, points, &["out/warp.nii.gz", "--dimension 2"]);
    refused_here(
        &place,
        "invert -t out/warp.nii.gz -o made.nii.gz",
        &["out/warp.nii.gz", "--dimension 2"],
    );
    refused_here(&place, "jacobian -w fixed.nii.gz -o made.nii.gz", &["fixed.nii.gz", "vectors"]);
    refused_here(
        &place,
        "compose -t out/warp.nii.gz -f fixed.nii.gz -o made.doc",
        &["made.doc", ".nii.gz"],
    );
    refused_here(
        &place,
        "compose -t out/warp.nii.gz -f fixed.nii.gz -o none/made.nii",
        &["none/made.nii"],
    );
    refused_here(&place, "evaluate --fixed fixed.nii.gz --moving missing.nii", &["missing.nii"]);
}

/// Runs it and expects a refusal that says all of `said` and leaves no file `made.…`.
#[track_caller]
fn refused_here(place: &Place, options: &str, said: &[&str]) {
    let before = place.files(".");
    let ran = place.run(options).ends(2);
    for said in said {
        assert!(ran.err.contains(said), "{said:?} is missing from: {}", ran.err);
    }
    assert_eq!(place.files("."), before, "{options}");
}

#[test]
fn folders_that_cannot_be_written() {
    let place = Place::with_pair();
    place.put("file", "");
    for out in ["file", "file/out", "/proc/rdmm", "/dev/null/out"] {
        let ran = place.run(&format!("register {PAIR} --out {out}")).ends(2);
        assert!(ran.err.contains(out) && ran.err.contains("--out"), "{}", ran.err);
        // Before any work is done.
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    }
    assert_eq!(place.bytes("file"), b"");
    let ran = place.run("synth --shape 32,32 --out file/out").ends(2);
    assert!(ran.err.contains("file/out"), "{}", ran.err);
    let ran = place.run("man --out file/out").ends(2);
    assert!(ran.err.contains("file/out"), "{}", ran.err);
}

#[cfg(target_os = "linux")]
#[test]
fn full_disks() {
    let place = Place::with_result();
    // The standard output.
    for command in ["config", "completions bash", "jacobian -w out/warp.nii.gz -o det.nii.gz"] {
        let ran = place.bash(&format!("rdmm {command} > /dev/full")).ends(2);
        assert!(ran.err.contains("standard output") && ran.err.contains("space"), "{}", ran.err);
    }
    // Files of at most a kilobyte: each one is whole or not there, and no other is left.
    let limited = "ulimit -f 1; trap '' XFSZ";
    let ran =
        place.bash(&format!("{limited}; rdmm register {PAIR} --affine none --out new")).ends(2);
    assert!(ran.err.contains("new/") && ran.err.contains("large"), "{}", ran.err);
    for name in place.files("new") {
        assert!(
            !name.starts_with(".rdmm") && name != "report.json" && name != "warp.nii.gz",
            "{name}"
        );
    }
    let before = place.bytes("out/warp.nii.gz");
    let compose = "compose -t out/warp.nii.gz -f fixed.nii.gz -o out/warp.nii.gz";
    let ran = place.bash(&format!("{limited}; rdmm {compose}")).ends(2);
    assert!(ran.err.contains("out/warp.nii.gz"), "{}", ran.err);
    assert!(place.bytes("out/warp.nii.gz") == before, "the old file is untouched");
    // No checkpoint can be written: it is said, and the registration goes on.
    let options = "--levels 1:3 --affine none --checkpoint-every 0 --out late";
    let ran = place.bash(&format!("{limited}; rdmm register {PAIR} {options}")).ends(2);
    assert!(ran.err.contains("warning: no checkpoint was written"), "{}", ran.err);
}
