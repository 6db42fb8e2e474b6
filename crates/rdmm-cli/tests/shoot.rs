//! `rdmm shoot`: what it writes, beside what the equations say and beside numpy.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::f64::consts::{PI, TAU};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nalgebra::DMatrix;
use rdmm_core::evaluate::inverse_consistency;
use rdmm_core::field::Displacement;
use rdmm_core::grid::{Boundary, Grid};
use rdmm_io::{Geometry, Meaning, Sample, Volume, npy};
use serde_json::{Value, json};
use tempfile::TempDir;

const BOUNDARIES: [(&str, Boundary); 3] = [
    ("periodic", Boundary::Periodic),
    ("reflecting", Boundary::Reflecting),
    ("free", Boundary::Free),
];

/// The arrays that are written for each time.
const ARRAYS: [&str; 4] =
    ["inverse_displacement", "forward_displacement", "momentum", "preweights"];

/// An array in C order.
#[derive(Clone, Debug, PartialEq)]
struct Array {
    shape: Vec<usize>,
    values: Vec<f64>,
}

impl Array {
    /// From a function of the component and of the position in [0, 1) of the axes.
    fn of(components: usize, shape: &[usize], f: impl Fn(usize, &[f64]) -> f64) -> Self {
        let n: usize = shape.iter().product();
        let at = |flat: usize| {
            let mut rest = flat % n;
            let mut x = vec![0.0; shape.len()];
            for a in (0..shape.len()).rev() {
                x[a] = (rest % shape[a]) as f64 / shape[a] as f64;
                rest /= shape[a];
            }
            f(flat / n, &x)
        };
        let values = (0..components * n).map(at).collect();
        Self { shape: [&[components], shape].concat(), values }
    }

    fn scaled(&self, factor: f64) -> Self {
        Self { values: self.values.iter().map(|x| factor * x).collect(), ..self.clone() }
    }

    fn largest(&self) -> f64 {
        self.values.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()))
    }

    /// Largest difference, relative to the largest value of `expected`.
    fn off(&self, expected: &Self) -> f64 {
        assert_eq!(self.shape, expected.shape);
        let pairs = self.values.iter().zip(&expected.values);
        let difference = pairs.fold(0.0, |d: f64, (a, b)| d.max((a - b).abs()));
        difference / expected.largest().max(f64::MIN_POSITIVE)
    }
}

/// A smooth periodic momentum of this largest value.
fn momentum(shape: &[usize], largest: f64) -> Array {
    let axes = shape.len();
    Array::of(axes, shape, |c, x| {
        let (along, across) = (TAU * x[c], TAU * x[(c + 1) % axes]);
        largest * (along + 0.3 * c as f64).sin() * (across - 0.7 + c as f64).cos()
    })
}

/// Smooth pre-weights of two Gaussians.
fn preweights(shape: &[usize]) -> Array {
    Array::of(2, shape, |i, x| {
        let angle = 0.25 * PI * (1.0 + 0.5 * (TAU * x[0]).sin() * (TAU * x[1]).cos());
        if i == 0 { angle.cos() } else { angle.sin() }
    })
}

/// Pre-weights √share everywhere.
fn constant(shape: &[usize], shares: &[f64]) -> Array {
    Array::of(shares.len(), shape, |i, _| shares[i].sqrt())
}

/// A folder with input and results.
struct Shot {
    folder: TempDir,
}

impl Shot {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, array: &Array) {
        npy::write_f64(self.path(name), &array.shape, &array.values).unwrap();
    }

    /// Runs the program in the folder; options are separated by blanks.
    fn run(&self, options: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rdmm"));
        command.arg("shoot").args(options.split_whitespace()).current_dir(self.folder.path());
        command.output().unwrap()
    }

    /// Runs it and expects success.
    fn done(&self, options: &str) {
        let output = self.run(options);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{options}\n{said}");
    }

    fn array(&self, name: &str) -> Array {
        let npy::Array { shape, values } = npy::read(self.path(&format!("{name}.npy"))).unwrap();
        Array { shape, values }
    }

    fn report(&self) -> Value {
        self.report_of("out")
    }

    fn report_of(&self, out: &str) -> Value {
        let text = std::fs::read_to_string(self.path(out).join("report.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn figure(&self, name: &str) -> f64 {
        self.report()[name].as_f64().unwrap()
    }
}

/// What a model needs beside momentum and boundary.
fn options(model: &str, spacing: &str) -> String {
    let rest = match model {
        "rdmm" => "--preweights h.npy --preweight-sigma 2",
        _ => "--shares 0.3,0.7",
    };
    format!("--model {model} --momentum m.npy --spacing {spacing} --sigmas 2,4 {rest} --out out")
}

#[test]
fn no_momentum_is_the_identity() {
    for (shape, spacing) in [(&[16, 20][..], "1,1.5"), (&[12, 12, 12], "1,1.5,0.8")] {
        let shot = Shot::new();
        shot.put("m.npy", &momentum(shape, 0.0));
        let h = preweights(shape);
        shot.put("h.npy", &h);
        for model in ["vsvf", "lddmm", "rdmm"] {
            shot.done(&options(model, spacing));
            for name in ["inverse_displacement", "forward_displacement", "momentum"] {
                let array = shot.array(&format!("out/{name}"));
                assert_eq!(array.shape, [&[shape.len()], shape].concat());
                assert!(array.largest() <= 0.0, "{model} {name}");
            }
            let carried = shot.array("out/preweights");
            let expected = if model == "rdmm" { h.clone() } else { constant(shape, &[0.3, 0.7]) };
            assert_eq!(carried, expected, "{model}: exactly what was given");
            let report = shot.report();
            for (name, expected) in
                [("energy_t0", 0.0), ("energy_t1", 0.0), ("energy_drift", 0.0), ("min_det", 1.0)]
            {
                let found = report[name].as_f64().unwrap();
                assert!((found - expected).abs() <= 0.0, "{model} {name} {found}");
            }
            assert_eq!(report["folds"], json!(0));
        }
    }
}

/// On a torus, constant momentum has the velocity v = m, whatever the Gaussians: lengths are physical, Φ⁻¹ goes
/// against v, and ½ ∫ m·v counts the volume.
#[test]
fn constant_momentum_is_a_shift() {
    for (shape, spacing, lengths) in [
        (&[16, 20][..], "1,1.5", vec![1.0, 1.5]),
        (&[12, 12, 12], "1,1.5,0.8", vec![1.0, 1.5, 0.8]),
    ] {
        let axes = shape.len();
        let shift = |c: usize| [1.25, -0.5, 0.75][c];
        let m = Array::of(axes, shape, |c, _| shift(c));
        let shot = Shot::new();
        shot.put("m.npy", &m);
        shot.put("h.npy", &constant(shape, &[0.3, 0.7]));
        let voxels: usize = shape.iter().product();
        let volume = lengths.iter().product::<f64>() * voxels as f64;
        let energy = 0.5 * (0..axes).map(|c| shift(c) * shift(c)).sum::<f64>() * volume;
        for model in ["vsvf", "lddmm", "rdmm"] {
            shot.done(&format!("{} --boundary periodic", options(model, spacing)));
            // Sums of a few dozen roundings.
            assert!(shot.array("out/inverse_displacement").off(&m.scaled(-1.0)) < 1e-13, "{model}");
            assert!(shot.array("out/forward_displacement").off(&m) < 1e-13, "{model}");
            assert!(shot.array("out/momentum").off(&m) < 1e-13, "{model}");
            assert!((shot.figure("energy_t0") / energy - 1.0).abs() < 1e-13, "{model}");
        }
    }
}

#[test]
fn constant_preweights_are_lddmm() {
    for (shape, spacing) in [(&[20, 16][..], "1,1.2"), (&[12, 12, 12], "1,1.2,1")] {
        let shot = Shot::new();
        shot.put("m.npy", &momentum(shape, 3.0));
        shot.put("h.npy", &constant(shape, &[0.3, 0.7]));
        for (boundary, _) in BOUNDARIES {
            let steps = format!("--boundary {boundary} --steps 6");
            shot.done(&format!("{} {steps}", options("lddmm", spacing)));
            let expected = ARRAYS.map(|name| shot.array(&format!("out/{name}")));
            let energy = shot.figure("energy_t1");
            assert!(expected[0].largest() > 0.2, "{boundary}: something moves");
            for advect in ["preweights", "weights"] {
                shot.done(&format!("{} {steps} --advect {advect}", options("rdmm", spacing)));
                for (name, expected) in ARRAYS.iter().zip(&expected) {
                    let off = shot.array(&format!("out/{name}")).off(expected);
                    // The same sums in another order: N kernels one by one or combined in one, each accurate to
                    // a few units of rounding, 24 times.
                    assert!(off < 1e-12, "{boundary} {advect} {name} {off:e}");
                }
                assert!(
                    (shot.figure("energy_t1") / energy - 1.0).abs() < 1e-12,
                    "{boundary} {advect}"
                );
            }
        }
    }
}

#[test]
fn the_energy_drifts_with_the_fourth_power_of_the_step() {
    let shape = [24, 20];
    let shot = Shot::new();
    shot.put("m.npy", &momentum(&shape, 4.0));
    shot.put("h.npy", &preweights(&shape));
    for (boundary, _) in BOUNDARIES {
        for how in ["lddmm", "rdmm", "rdmm --advect weights"] {
            let (model, more) = how.split_at(how.find(' ').unwrap_or(how.len()));
            let drift = |steps: usize| {
                let (options, boundary) = (options(model, "1,1"), format!("--boundary {boundary}"));
                shot.run(&format!("{options} {more} {boundary} --steps {steps}"));
                let report = shot.report();
                assert_eq!(report["steps"], json!(steps));
                let energies = report["energies"].as_array().unwrap();
                let energy = |entry: &Value| entry[1].as_f64().unwrap();
                let first = energy(&energies[0]);
                let off = |entry| (energy(entry) / first - 1.0).abs();
                let largest = energies.iter().map(off).fold(0.0, f64::max);
                let found = report["energy_drift"].as_f64().unwrap();
                assert!((found - largest).abs() <= 0.0 && energies.len() == steps + 1);
                found
            };
            let [coarse, fine] = [80, 160].map(drift);
            let order = (coarse / fine).log2();
            // A wrong sign or border leaves a drift that no step removes. Errors of orders four and five have
            // opposite signs here: the order is between them until steps are short, and 1e-13 is far from rounding.
            assert!(
                fine > 1e-13 && (3.7..4.6).contains(&order),
                "{boundary} {how} {coarse:e} {fine:e}"
            );
        }
    }
}

#[test]
fn inverse_and_forward_map_compose_to_the_identity() {
    // The same momentum over the same box, in voxels half as large. Gaussians of a tenth of the box and more.
    let shot = Shot::new();
    let mut apart = Vec::new();
    for (n, spacing) in [(16, 1.0), (32, 0.5)] {
        let shape = [n, n];
        shot.put("m.npy", &momentum(&shape, 4.0));
        shot.put("h.npy", &preweights(&shape));
        shot.done(&format!(
            "{} --boundary periodic",
            options("rdmm", &format!("{spacing},{spacing}"))
        ));
        let grid = Grid::new(shape, [spacing; 2]).unwrap().with_boundary(Boundary::Periodic);
        let map = |name| Displacement::<f64, 2>::from_vec(&grid, shot.array(name).values).unwrap();
        let found =
            inverse_consistency(&map("out/forward_displacement"), &map("out/inverse_displacement"));
        let found = found.unwrap();
        let report = shot.report();
        assert!((report["inverse_consistency_max"].as_f64().unwrap() - found.max).abs() <= 0.0);
        apart.push(found.max);
        assert!(shot.array("out/inverse_displacement").largest() > 0.5);
    }
    // Differences and splines are of fourth order, and the composition loses less than a thousandth of a voxel.
    assert!(apart[0] < 2e-3 && apart[1] < apart[0] / 8.0, "{apart:?}");
}

/// The equations are quadratic in m: half the momentum goes half as far in the same time, with half as many steps
/// of the same length.
#[test]
fn states_at_times_are_those_of_smaller_momenta() {
    let shape = [16, 20];
    let m = momentum(&shape, 1.5);
    for model in ["vsvf", "lddmm", "rdmm"] {
        let shot = Shot::new();
        shot.put("m.npy", &m);
        shot.put("h.npy", &preweights(&shape));
        shot.done(&format!("{} --steps 8 --times 0.25,0.5", options(model, "1,1")));
        let times: Vec<_> = [0.25, 0.5, 1.0].map(Value::from).into();
        let report = shot.report();
        let listed = report["times"].as_array().unwrap();
        assert_eq!(listed.iter().map(|at| at["time"].clone()).collect::<Vec<_>>(), times);
        assert_eq!(report["steps"], json!(8));
        let at = |name: &str, time: f64| match time {
            1.0.. => shot.array(&format!("out/{name}")),
            _ => shot.array(&format!("out/{name}_t{time}")),
        };
        for (time, steps) in [(0.25, 2), (0.5, 4), (1.0, 8)] {
            let part = Shot::new();
            part.put("m.npy", &m.scaled(time));
            part.put("h.npy", &preweights(&shape));
            part.done(&format!("{} --steps {steps}", options(model, "1,1")));
            for name in ARRAYS {
                let factor = if name == "momentum" { 1.0 / time } else { 1.0 };
                let expected = part.array(&format!("out/{name}")).scaled(factor);
                // Times and factors are powers of two, which round nothing.
                assert!(at(name, time).off(&expected) < 1e-14, "{model} {name} {time}");
            }
        }
        // Intervals that are no multiples of the step take shorter ones: ⌈8 · 0.3⌉ + ⌈8 · 0.7⌉.
        shot.done(&format!(
            "{} --steps 8 --times 0.3 --out other",
            options(model, "1,1").replace("--out out", "")
        ));
        assert_eq!(shot.report_of("other")["steps"], json!(9), "{model}");
    }
}

#[test]
fn a_stationary_velocity_is_inverted_by_its_opposite() {
    let shape = [24, 24];
    let m = momentum(&shape, 1.0);
    let [forth, back] = [1.0, -1.0].map(|sign| {
        let shot = Shot::new();
        shot.put("m.npy", &m.scaled(sign));
        shot.done(&format!("{} --boundary periodic", options("vsvf", "1,1")));
        shot
    });
    assert_eq!(forth.array("out/momentum"), m, "not carried");
    let (inverse, forward) = ("out/inverse_displacement", "out/forward_displacement");
    for (a, b) in [(inverse, forward), (forward, inverse)] {
        let off = forth.array(a).off(&back.array(b));
        // Two discretisations: error of interpolation and differences on 24 voxels a period.
        assert!(off < 1e-4, "{a} {off:e}");
    }
    let report = forth.report();
    assert_eq!(report["energy_t0"], report["energy_t1"]);
    assert!(report["energy_t0"].as_f64().unwrap() > 0.0);
}

#[test]
fn results_do_not_depend_on_threads_and_are_of_double_precision() {
    let shape = [32, 24];
    let shot = Shot::new();
    shot.put("m.npy", &momentum(&shape, 1.0));
    shot.put("h.npy", &preweights(&shape));
    let runs = [1, 2].map(|threads| {
        shot.done(&format!("{} --threads {threads}", options("rdmm", "1,1")));
        ARRAYS.map(|name| std::fs::read(shot.path(&format!("out/{name}.npy"))).unwrap())
    });
    assert!(runs[0] == runs[1]);
    for bytes in &runs[0] {
        let header = String::from_utf8_lossy(&bytes[10..128]);
        assert!(header.contains("'<f8'") && header.contains("False"), "{header}");
        assert!(header.contains("(2, 32, 24)"), "{header}");
    }
}

/// The volume of an array over axes that point the other way, two of them swapped: components along the axes
/// (`Meaning::Values`), or vectors turned to the world's.
fn volume(array: &Array, spacing: &[f64], meaning: Meaning) -> Volume {
    let shape = array.shape[1..].to_vec();
    let axes = shape.len();
    // Axis a lies along the world's axis turned(a), backwards.
    let turned = |a: usize| [1, 0, 2][a];
    let direction = DMatrix::from_fn(axes, axes, |r, c| if r == turned(c) { -1.0 } else { 0.0 });
    let n: usize = shape.iter().product();
    let component = |c: usize| -> Vec<f64> {
        // From C order to the first axis fastest.
        let mut values = Vec::with_capacity(n);
        for flat in 0..n {
            let (mut rest, mut at) = (flat, 0);
            for a in 0..axes {
                let stride: usize = shape[a + 1..].iter().product();
                at += rest % shape[a] * stride;
                rest /= shape[a];
            }
            values.push(array.values[c * n + at]);
        }
        values
    };
    let components = array.shape[0];
    let values = match meaning {
        Meaning::Vectors => {
            (0..axes).flat_map(|r| component(turned(r)).into_iter().map(|x| -x)).collect()
        }
        _ => (0..components).flat_map(component).collect(),
    };
    let (spacing, origin) = (spacing.to_vec(), vec![7.0; axes]);
    let geometry = Geometry { shape, spacing, origin, direction };
    Volume::new(geometry, components, meaning, Sample::F32, values)
}

/// Rounded to single precision, which is what images hold.
fn single(array: &Array) -> Array {
    #[expect(clippy::cast_possible_truncation, reason = "that is what is wanted")]
    let values = array.values.iter().map(|&x| f64::from(x as f32)).collect();
    Array { values, ..array.clone() }
}

#[test]
fn images_are_read_on_their_own_grid() {
    for (shape, spacing, lengths) in [
        (&[16, 20][..], "1,1.5", vec![1.0, 1.5]),
        (&[12, 13, 14], "1,1.5,0.75", vec![1.0, 1.5, 0.75]),
    ] {
        let (m, h) = (single(&momentum(shape, 1.0)), single(&preweights(shape)));
        let shot = Shot::new();
        shot.put("m.npy", &m);
        shot.put("h.npy", &h);
        let steps = "--boundary free --steps 4";
        shot.done(&format!("{} {steps}", options("rdmm", spacing)));
        let expected = ARRAYS.map(|name| shot.array(&format!("out/{name}")));
        rdmm_io::write(shot.path("m.nii.gz"), &volume(&m, &lengths, Meaning::Vectors)).unwrap();
        rdmm_io::write(shot.path("h.nii.gz"), &volume(&h, &lengths, Meaning::Values)).unwrap();
        for h in ["h.nii.gz", "h.npy"] {
            shot.done(&format!(
                "--model rdmm --momentum m.nii.gz --preweights {h} --sigmas 2,4 --preweight-sigma 2 \
                 {steps} --out image"
            ));
            for (name, expected) in ARRAYS.iter().zip(&expected) {
                // Spacings are exact in the header; turning by a signed permutation rounds nothing.
                let off = shot.array(&format!("image/{name}")).off(expected);
                assert!(off < 1e-14, "{shape:?} {h} {name} {off:e}");
            }
        }
        for (options, part) in [
            ("--momentum m.nii.gz --preweights h.nii.gz --spacing 1,1.5", "leave the option out"),
            ("--momentum m.npy --preweights h.nii.gz --spacing S", "expected both in .npy"),
            ("--momentum h.nii.gz --preweights h.nii.gz", "expected vectors"),
            ("--momentum m.nii.gz --preweights shifted.nii.gz", "grid of the momentum"),
            ("--momentum m.nii.gz --preweights one.nii.gz", "expected 2 components"),
        ] {
            let mut shifted = volume(&h, &lengths, Meaning::Values);
            shifted.geometry.origin[0] += 1.0;
            rdmm_io::write(shot.path("shifted.nii.gz"), &shifted).unwrap();
            let one = Array::of(1, shape, |_, _| 1.0);
            rdmm_io::write(shot.path("one.nii.gz"), &volume(&one, &lengths, Meaning::Values))
                .unwrap();
            let options = options.replace('S', spacing);
            let output = shot.run(&format!(
                "--model rdmm {options} --sigmas 2,4 --preweight-sigma 2 --out refused"
            ));
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{options}\n{said}");
            assert!(said.contains(part), "{options}\n{said}");
        }
    }
}

#[test]
fn folded_maps_are_written_and_said() {
    let shape = [24, 24];
    let shot = Shot::new();
    shot.put("m.npy", &momentum(&shape, 60.0));
    let output = shot.run(&options("vsvf", "1,1").replace("2,4", "0.5,1"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("folds at") && said.contains("results were written"), "{said}");
    let report = shot.report();
    assert!(report["folds"].as_u64().unwrap() > 0 && report["min_det"].as_f64().unwrap() <= 0.0);
    for name in ARRAYS {
        assert!(shot.path(&format!("out/{name}.npy")).exists());
    }
}

#[test]
fn flows_that_diverge_leave_no_results() {
    let shape = [16, 16];
    let shot = Shot::new();
    shot.put("m.npy", &momentum(&shape, 1e30));
    shot.put("h.npy", &preweights(&shape));
    for model in ["lddmm", "rdmm"] {
        let output = shot.run(&format!("{} --steps 40", options(model, "1,1")));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains("left the finite numbers in step") && said.contains("of 40"),
            "{said}"
        );
        assert_eq!(std::fs::read_dir(shot.path("out")).unwrap().count(), 0);
    }
}

/// A folder with files that can be used, and others that cannot.
fn good_and_bad() -> Shot {
    let shape = [16, 20];
    let shot = Shot::new();
    shot.put("m.npy", &momentum(&shape, 1.0));
    shot.put("h.npy", &preweights(&shape));
    shot.put("h3.npy", &constant(&shape, &[0.2, 0.3, 0.5]));
    shot.put("h-other.npy", &preweights(&[16, 16]));
    shot.put("h-sum.npy", &preweights(&shape).scaled(1.1));
    let mut negative = preweights(&shape);
    negative.values[33] *= -1.0;
    shot.put("h-negative.npy", &negative);
    let mut broken = momentum(&shape, 1.0);
    broken.values[7] = f64::NAN;
    shot.put("m-nan.npy", &broken);
    shot.put("m3.npy", &momentum(&[12, 12, 12], 1.0));
    shot.put("m-flat.npy", &momentum(&[16, 3], 1.0));
    std::fs::write(shot.path("m.txt"), "no image").unwrap();
    std::fs::write(shot.path("file"), "no folder").unwrap();
    let all = std::fs::read(shot.path("m.npy")).unwrap();
    std::fs::write(shot.path("m-cut.npy"), &all[..all.len() - 8]).unwrap();
    shot
}

#[test]
fn what_cannot_be_used_is_refused_with_what_was_expected() {
    let shot = good_and_bad();
    let rdmm = options("rdmm", "1,1.5");
    let lddmm = options("lddmm", "1,1.5");
    let cases = [
        (
            &rdmm,
            "--out out",
            "--out out --steps 0",
            "number of steps: expected 1 to 10000, found 0",
        ),
        (
            &rdmm,
            "--out out",
            "--out out --times 1.5",
            "--times: expected increasing times between 0 and 1",
        ),
        (&rdmm, "--out out", "--out out --times 0", "found [0.0]"),
        (&rdmm, "--out out", "--out out --times 0.5,0.5", "found [0.5, 0.5]"),
        (&rdmm, "--out out", "--out out --times nan", "found [NaN]"),
        (&rdmm, "--spacing 1,1.5", "--spacing 1,0", "spacing of axis 1 is 0"),
        (&rdmm, "--spacing 1,1.5", "--spacing=-1,1", "spacing of axis 0 is -1"),
        (&rdmm, "--spacing 1,1.5", "--spacing nan,1", "spacing of axis 0 is NaN"),
        (&rdmm, "--spacing 1,1.5", "--spacing 1", "expected two or three lengths, found 1"),
        (&rdmm, "--spacing 1,1.5", "--spacing 1,1,1", "expected an array of shape [3, n0, n1, n2]"),
        (&rdmm, "--spacing 1,1.5", "", "--spacing: expected a length an axis"),
        (
            &rdmm,
            "m.npy",
            "m-nan.npy",
            "m-nan.npy: momentum: expected finite values, found NaN at flat index 7",
        ),
        (
            &rdmm,
            "m.npy",
            "m3.npy",
            "expected an array of shape [2, n0, n1] (components first), found [3, 12",
        ),
        (&rdmm, "m.npy", "m-flat.npy", "axis 1 has 3 voxels"),
        (&rdmm, "m.npy", "m-cut.npy", "truncated"),
        (&rdmm, "m.npy", "none.npy", "none.npy"),
        (
            &rdmm,
            "--momentum m.npy --spacing 1,1.5",
            "--momentum m.txt",
            "m.txt: format: expected NIfTI",
        ),
        (
            &rdmm,
            "h.npy",
            "h3.npy",
            "expected an array of shape [2, 16, 20] (components first), found [3, 16, 20]",
        ),
        (&rdmm, "h.npy", "h-other.npy", "found [2, 16, 16]"),
        (&rdmm, "h.npy", "h-sum.npy", "expected weights h² that sum to 1 within 1e-3, found 1.2"),
        (&rdmm, "h.npy", "h-negative.npy", "expected numbers ≥ 0, found -0."),
        (&rdmm, "--sigmas 2,4", "--sigmas 0.1,4", "σ[0] = 0.1"),
        (&rdmm, "--sigmas 2,4", "--sigmas 2,400", "σ[1] = 400"),
        (&rdmm, "--sigmas 2,4", "--sigmas 4,2", "σ must increase strictly"),
        (&rdmm, "--sigmas 2,4", "--sigmas 2,nan", "σ[1] = NaN"),
        (&rdmm, "--sigmas 2,4", "--sigmas two", "invalid value 'two'"),
        (&rdmm, "sigma 2", "sigma 100", "--preweight-sigma: σ[0] = 100"),
        (&rdmm, "sigma 2", "sigma nan", "--preweight-sigma"),
        (&rdmm, "--preweight-sigma 2", "", "--preweight-sigma"),
        (&rdmm, "--preweights h.npy", "", "--preweights"),
        (&rdmm, "--out out", "--out out --shares 0.5,0.5", "--shares: the shares of RDMM are"),
        (&rdmm, "--out out", "--out file", "file"),
        (
            &rdmm,
            "--out out",
            "--out out --boundary open",
            "possible values: periodic, reflecting, free",
        ),
        (
            &lddmm,
            "--out out",
            "--out out --preweights h.npy",
            "--preweights: only RDMM has pre-weights",
        ),
        (&lddmm, "0.3,0.7", "0.3,0.6", "expected weights h² that sum to 1"),
        (&lddmm, "0.3,0.7", "0.3,0.3,0.4", "weights of the Gaussians: expected length 2, found 3"),
        (&lddmm, "0.3,0.7", "1.5,-0.5", "expected a finite number ≥ 0, found -0.5"),
    ];
    for (options, from, to, part) in cases {
        assert!(options.contains(from), "{from}");
        let options = options.replace(from, to);
        let output = shot.run(&options);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{options}\n{said}");
        assert!(said.contains(part), "{options}\n{said}");
        assert!(!shot.path("out/report.json").exists(), "{options}");
    }
    // Options of RDMM that others have no use for are not refused, but said.
    let output = shot.run(&format!("{lddmm} --preweight-sigma 2 --advect weights"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        said.contains("warning: --preweight-sigma") && said.contains("warning: --advect"),
        "{said}"
    );
}

/// One comparison with numpy.
#[derive(Clone, Copy)]
struct Case {
    model: &'static str,
    advect: &'static str,
    shape: &'static [usize],
    spacing: &'static [f64],
    sigmas: [f64; 2],
    steps: usize,
    largest: f64,
    /// Accepted error of the maps in space, relative to the largest displacement.
    interpolation: f64,
}

fn joined(numbers: &[f64]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn beside_numpy(python: &Path, case: &Case) {
    let Case { model, advect, shape, spacing, sigmas, steps, largest, interpolation } = *case;
    let shot = Shot::new();
    shot.put("momentum.npy", &momentum(shape, largest));
    shot.put("preweights.npy", &preweights(shape));
    let described = json!({
        "model": model, "advect": advect, "spacing": spacing, "sigmas": sigmas, "steps": steps,
        "shares": [0.3, 0.7], "preweight_sigma": 1.7,
    });
    std::fs::write(shot.path("shot.json"), described.to_string()).unwrap();
    let own = match model {
        "rdmm" => format!("--preweights preweights.npy --preweight-sigma 1.7 --advect {advect}"),
        _ => "--shares 0.3,0.7".to_owned(),
    };
    shot.done(&format!(
        "--model {model} --momentum momentum.npy --spacing {} --sigmas {} {own} --boundary periodic \
         --steps {steps} --out out",
        joined(spacing),
        joined(&sigmas),
    ));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/shoot.py");
    let output = Command::new(python).arg(script).arg(shot.folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    eprintln!("{found}");
    let figure = |name: &str| found[name].as_f64().unwrap();
    assert!(figure("largest_displacement_in_voxels") > 0.2, "{model}: something moves");
    // The same numbers in exact arithmetic. Each of the 4 · steps rates is accurate to some ten roundings.
    for name in ["momentum", "preweights", "energy_t0", "energy_t1", "energy_drift"] {
        assert!(figure(name) < 1e-13, "{model} {advect} {name} {found}");
    }
    // Single points through the exact interpolant of the velocity, beside compositions by cubic splines.
    for name in ["inverse_displacement", "forward_displacement"] {
        assert!(figure(name) < interpolation, "{model} {advect} {name} {found}");
    }
}

#[test]
fn numpy_finds_the_same() {
    let Some(python) = std::env::var_os("RDMM_PYTHON") else {
        eprintln!("skipped: RDMM_PYTHON names no interpreter with numpy");
        return;
    };
    let plane = Case {
        model: "rdmm",
        advect: "preweights",
        shape: &[24, 20],
        spacing: &[1.0, 1.5],
        sigmas: [2.0, 4.0],
        steps: 10,
        largest: 2.0,
        // Waves of 20 voxels and half that have kh up to 0.6, and differences of fourth order an error of
        // (kh)⁴/30 = 4e-3 in terms that are a tenth of the map.
        interpolation: 1e-3,
    };
    // The same in voxels half as large: an error of fourth order is a sixteenth, of second a quarter.
    let finer = Case { shape: &[48, 40], spacing: &[0.5, 0.75], interpolation: 3e-5, ..plane };
    let space = Case {
        shape: &[12, 14, 12],
        spacing: &[1.0, 1.2, 0.8],
        sigmas: [1.5, 2.5],
        steps: 6,
        largest: 1.0,
        ..plane
    };
    let cases = [
        Case { model: "vsvf", ..plane },
        Case { model: "lddmm", ..plane },
        Case { advect: "weights", ..plane },
        Case { model: "lddmm", ..space },
        finer,
        plane,
        space,
    ];
    for case in &cases {
        beside_numpy(Path::new(&python), case);
    }
}
