//! `rdmm register`: what it writes, and that it is right.

use nalgebra::SMatrix;
use rdmm_core::field::Image;
use rdmm_core::grid::Grid;
use rdmm_io::{Sample, Volume};

use crate::{LABELS, PAIR, Place, farthest, figure};

const ALWAYS: [&str; 10] = [
    "affine.mat",
    "affine.txt",
    "config.toml",
    "inverse_warp.nii.gz",
    "jacobian.nii.gz",
    "report.html",
    "report.json",
    "warp.nii.gz",
    "warped.nii.gz",
    "warped_labels.nii.gz",
];
/// What only a flow has.
const OF_FLOW: [&str; 5] = [
    "inverse_nonlinear_warp.nii.gz",
    "momentum.nii.gz",
    "nonlinear_warp.nii.gz",
    "weights_t0.nii.gz",
    "weights_t1.nii.gz",
];

/// Pearson's correlation.
fn correlation(a: &[f32], b: &[f32]) -> f64 {
    let mean = |x: &[f32]| x.iter().copied().map(f64::from).sum::<f64>() / x.len() as f64;
    let (p, q) = (mean(a), mean(b));
    let moments = a.iter().zip(b).fold([0.0; 3], |[x, y, z], (&a, &b)| {
        let (a, b) = (f64::from(a) - p, f64::from(b) - q);
        [x + a * a, y + b * b, z + a * b]
    });
    moments[2] / (moments[0] * moments[1]).sqrt()
}

fn preset(name: &str) {
    let place = Place::with_pair();
    place.run(&format!("register {PAIR} {LABELS} --preset {name} --out out")).ends(0);
    let flow = name != "affine";
    let of_flow = OF_FLOW.into_iter().filter(|_| flow);
    let mut expected: Vec<&str> = ALWAYS.into_iter().chain(of_flow).collect();
    expected.sort_unstable();
    assert_eq!(place.files("out"), expected);

    let report = place.json("out/report.json");
    for better in ["ncc", "dice_mean", "dice_whole"] {
        let of = |suffix: &str| figure(&report, &format!("{better}{suffix}"));
        assert!(of("_after") > of("_before"), "{better}: {report}");
    }
    assert_eq!(report["folds"], 0);
    assert_eq!((&report["converged"], &report["stopped"]), (&true.into(), &().into()));
    assert_eq!(report["preset"], name);
    assert_eq!(report["history"].as_array().unwrap().is_empty(), !flow);

    // Grey values are scaled before they are compared, which the correlation does not see but for rounding. What the
    // moving image does not show does not count.
    let (warped, fixed) = (place.image::<2>("out/warped.nii.gz"), place.image::<2>("fixed.nii.gz"));
    let (map, moving) = (place.warp("out/warp.nii.gz"), place.image::<2>("moving.nii.gz"));
    let onto = map.leads_onto(moving.grid());
    let shown = |image: &Image<f32, 2>| -> Vec<f32> {
        (0..fixed.data().len()).filter(|&i| onto(i)).map(|i| image.data()[i]).collect()
    };
    let found = correlation(&shown(&warped), &shown(&fixed));
    let part = shown(&fixed).len() as f64 / fixed.data().len() as f64;
    assert!((part - figure(&report, "shown_after")).abs() < 1e-9, "{part}");
    assert!((found - figure(&report, "ncc_after")).abs() < 1e-5, "{found}");
    let page = place.text("out/report.html");
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"));
    assert!(!page.contains("http://") && !page.contains("src=\"http"), "the page needs no network");
    // The configuration that was written gives the same configuration again, and the same bits.
    let same = format!("register {PAIR} {LABELS} --config out/config.toml --threads 1 --out again");
    place.run(&same).ends(0);
    for file in expected.iter().filter(|file| !file.starts_with("report")) {
        assert!(
            place.bytes(&format!("out/{file}")) == place.bytes(&format!("again/{file}")),
            "{file}"
        );
    }
}

#[test]
fn affine_writes_all_files_and_improves() {
    preset("affine");
}

#[test]
fn vsvf_writes_all_files_and_improves() {
    preset("vsvf");
}

#[test]
fn lddmm_writes_all_files_and_improves() {
    preset("lddmm");
}

#[test]
fn rdmm_with_regions_writes_all_files_and_improves() {
    preset("rdmm-regions");
}

#[test]
fn rdmm_writes_all_files_and_improves() {
    preset("rdmm");
}

#[test]
fn results_do_not_depend_on_the_threads() {
    let place = Place::with_pair();
    for threads in [1, 2] {
        place
            .run(&format!("register {PAIR} --threads {threads} -p rdmm --out out{threads}"))
            .ends(0);
    }
    for file in ["warp.nii.gz", "warped.nii.gz", "momentum.nii.gz", "weights_t1.nii.gz"] {
        assert!(
            place.bytes(&format!("out1/{file}")) == place.bytes(&format!("out2/{file}")),
            "{file}"
        );
    }
}

#[test]
fn every_similarity_brings_the_labels_together() {
    let place = Place::with_pair();
    for measure in ["ssd", "ncc", "lncc", "mk-lncc", "mi", "nmi"] {
        let options = format!("register {PAIR} {LABELS} --similarity {measure} --out {measure}");
        // Whether the last level converged within its iterations is another question.
        let code = place.run(&options).code;
        assert!(matches!(code, Some(0 | 3)), "{measure}: {code:?}");
        let report = place.json(&format!("{measure}/report.json"));
        assert_eq!(report["configuration"]["similarity"]["measure"], measure);
        let of = |name: &str| figure(&report, name);
        assert!(of("dice_mean_after") > of("dice_mean_before") + 0.05, "{measure}: {report}");
        assert_eq!(report["folds"], 0, "{measure}");
    }
}

/// Writes an image of the pair as a PNG of 8 bits.
fn as_png(place: &Place, name: &str) {
    let image = place.image::<2>(&format!("{name}.nii.gz"));
    let mut volume = Volume::of_image(&image);
    let most = volume.values.iter().copied().fold(0.0, f64::max);
    volume.values.iter_mut().for_each(|x| *x = (*x / most * 255.0).round().clamp(0.0, 255.0));
    volume.sample = Sample::U8;
    rdmm_io::write(place.path(&format!("{name}.png")), &volume).unwrap();
}

#[test]
fn png_in_gives_png_out() {
    let place = Place::with_pair();
    as_png(&place, "fixed");
    as_png(&place, "moving");
    let labels = "--moving-labels moving_labels.png";
    let moving = place.labels("moving_labels.nii.gz");
    // A PNG has neither origin nor spacing: its labels come as PNG too.
    let grid = place.image::<2>("moving.png").grid().clone();
    let moving = rdmm_core::labels::Labels::from_vec(&grid, moving.data().to_vec()).unwrap();
    rdmm_io::write_labels(place.path("moving_labels.png"), &moving).unwrap();
    place
        .run(&format!("register --fixed fixed.png --moving moving.png {labels} --out out"))
        .ends(0);
    assert!(place.has("out/warped.png") && place.has("out/warped_labels.png"));
    assert!(!place.has("out/warped.nii.gz") && !place.has("out/warped_labels.nii.gz"));
    let [warped, fixed, before] =
        ["out/warped.png", "fixed.png", "moving.png"].map(|name| place.image::<2>(name));
    let after = correlation(warped.data(), fixed.data());
    assert!(after > 0.98 && after > correlation(before.data(), fixed.data()) + 0.02, "{after}");
    assert!(warped.data().iter().any(|&x| x > 200.0), "in the range of the file");

    // Numbers that PNG cannot hold are not squeezed into it.
    let grid = place.image::<2>("fixed.png").grid().clone();
    let small: Vec<f32> = before.data().iter().map(|x| x / 255.0).collect();
    let small = Image::from_vec(&grid, small).unwrap();
    rdmm_io::write_image(place.path("small.nii.gz"), &small).unwrap();
    place.run("register --fixed fixed.png --moving small.nii.gz --out mixed").ends(0);
    let warped = place.image::<2>("mixed/warped.nii.gz");
    assert!(!place.has("mixed/warped.png"));
    assert!(correlation(warped.data(), fixed.data()) > 0.98);
    let ran =
        place.run("apply -m small.nii.gz -f fixed.png -t mixed/warp.nii.gz -o out.png").ends(2);
    assert!(ran.err.contains("out.png") && ran.err.contains(".nii.gz"), "{}", ran.err);
    assert!(!place.has("out.png"));
}

/// A smooth ball that is cut at its middle to give labels.
fn ball(place: &Place, name: &str, centre: [f64; 3], radius: f64) {
    let grid = Grid::new([16, 18, 20], [1.5, 1.2, 1.0]).unwrap();
    let height = |x: [f64; 3]| {
        let square: f64 = (0..3).map(|a| (x[a] - centre[a]).powi(2)).sum();
        1.0 / (1.0 + (1.5 * (square.sqrt() - radius)).exp())
    };
    let image = Image::<f32, 3>::from_fn(&grid, height).unwrap();
    let labels = image.data().iter().map(|&x| u32::from(x > 0.5)).collect();
    let labels = rdmm_core::labels::Labels::from_vec(&grid, labels).unwrap();
    rdmm_io::write_image(place.path(&format!("{name}.nii.gz")), &image).unwrap();
    rdmm_io::write_labels(place.path(&format!("{name}_labels.nii.gz")), &labels).unwrap();
}

#[test]
fn volumes_with_files_of_fsl() {
    let place = Place::empty();
    ball(&place, "fixed", [12.0, 11.0, 10.0], 5.0);
    ball(&place, "moving", [11.0, 10.5, 9.5], 6.0);
    place.run(&format!("register {PAIR} {LABELS} --preset lddmm --fsl --out out")).ends(0);
    let report = place.json("out/report.json");
    assert_eq!((&report["dimension"], &report["folds"]), (&3.into(), &0.into()));
    assert!(figure(&report, "ncc_after") > figure(&report, "ncc_before"));
    assert!(figure(&report, "dice_mean_after") > figure(&report, "dice_mean_before"));
    let numbers: Vec<f64> = place
        .text("out/affine_fsl.mat")
        .split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect();
    assert_eq!(numbers.len(), 16);
    assert_eq!(numbers[12..], [0.0, 0.0, 0.0, 1.0]);
    assert_eq!(
        place.image::<3>("out/warped.nii.gz").grid(),
        place.image::<3>("fixed.nii.gz").grid()
    );
    assert!(place.has("out/warp_fsl.nii.gz"));

    // Files of FSL are written too where a registration does not converge.
    place.run(&format!("register {PAIR} --levels 1:2 --fsl --out short")).ends(3);
    assert!(place.has("short/warp_fsl.nii.gz") && place.has("short/affine_fsl.mat"));
    // Not here: the next one has other results.
    place.run(&format!("register {PAIR} --preset affine --out short")).ends(0);
    assert!(!place.has("short/warp_fsl.nii.gz") && !place.has("short/momentum.nii.gz"));
}

/// The same image, its first axis stored backwards.
fn flipped(image: &Image<f32, 2>) -> Image<f32, 2> {
    let grid = image.grid();
    let [n, m] = grid.shape();
    let last = grid.to_world([n as f64 - 1.0, 0.0]);
    let turn = grid.direction() * SMatrix::<f64, 2, 2>::new(-1.0, 0.0, 0.0, 1.0);
    let there = Grid::new([n, m], grid.spacing()).unwrap();
    let there = there.with_origin(last).unwrap().with_direction(turn).unwrap();
    let data = (0..n).rev().flat_map(|i| image.data()[i * m..(i + 1) * m].to_vec()).collect();
    Image::from_vec(&there, data).unwrap()
}

/// The same image in a world that was turned and shifted.
fn oblique(image: &Image<f32, 2>) -> Image<f32, 2> {
    let (s, c) = 0.6_f64.sin_cos();
    let turn = SMatrix::<f64, 2, 2>::new(c, -s, s, c);
    let grid = image.grid();
    let origin = turn * nalgebra::SVector::from(grid.origin());
    let there = grid.clone().with_origin([origin[0] - 70.0, origin[1] + 20.0]).unwrap();
    image.clone().on_grid(&there.with_direction(turn * grid.direction()).unwrap()).unwrap()
}

#[test]
fn how_images_are_stored_does_not_matter() {
    let place = Place::with_result();
    let [fixed, moving, expected] =
        ["fixed.nii.gz", "moving.nii.gz", "out/warped.nii.gz"].map(|name| place.image::<2>(name));
    let range = expected.data().iter().copied().fold(0.0, f32::max);
    let cases = [
        ("flipped", fixed.clone(), flipped(&moving)),
        ("oblique", oblique(&fixed), oblique(&flipped(&moving))),
    ];
    for (name, fixed, moving) in cases {
        rdmm_io::write_image(place.path("a.nii.gz"), &fixed).unwrap();
        rdmm_io::write_image(place.path("b.nrrd"), &moving).unwrap();
        place.run(&format!("register --fixed a.nii.gz --moving b.nrrd --out {name}")).ends(0);
        let warped = place.image::<2>(&format!("{name}/warped.nii.gz"));
        // The rounding of positions is another one, and the optimiser may end an iteration earlier or later: a
        // hundredth of the range, where 0.3 of it are between the images before.
        let off = farthest(warped.data(), expected.data()) / range;
        assert!(off < 1e-2, "{name}: {off}");
        assert!(warped.grid().same_lattice(fixed.grid()) || name == "oblique", "{name}");
    }
}

#[test]
fn grids_may_differ() {
    let place = Place::with_result();
    // The moving image with four voxels of background around it, and of another spacing across.
    let moving = place.image::<2>("moving.nii.gz");
    let grid = moving.grid();
    let [n, m] = grid.shape();
    let there = Grid::new([n + 8, m + 6], grid.spacing()).unwrap();
    let there = there.with_origin(grid.to_world([-4.0, -3.0])).unwrap();
    let inside = |i: usize, from: usize, n: usize| i.checked_sub(from).filter(|&i| i < n);
    let at = |flat: usize| {
        let [i, j] = there.unravel(flat);
        let found = inside(i, 4, n).zip(inside(j, 3, m));
        found.map_or(moving.data()[0], |(i, j)| moving.data()[i * m + j])
    };
    let padded = Image::from_vec(&there, (0..there.len()).map(at).collect()).unwrap();
    rdmm_io::write_image(place.path("padded.mha"), &padded).unwrap();
    place.run("register --fixed fixed.nii.gz --moving padded.mha --out padded").ends(0);
    let report = place.json("padded/report.json");
    let before = figure(&place.json("out/report.json"), "ncc_after");
    // Scaled by other percentiles, since there is more background.
    assert!((figure(&report, "ncc_after") - before).abs() < 5e-3, "{report}");
    assert_eq!(place.warp("padded/inverse_warp.nii.gz").grid().shape(), [n + 8, m + 6]);
    assert_eq!(place.warp("padded/warp.nii.gz").grid().shape(), [n, m]);
}

#[test]
fn labels_from_beyond_the_moving_image_are_background() {
    let place = Place::with_pair();
    let moving = place.image::<2>("moving.nii.gz");
    let grid = moving.grid().clone();
    let ones = rdmm_core::labels::Labels::from_vec(&grid, vec![1; grid.len()]).unwrap();
    rdmm_io::write_labels(place.path("ones.nii.gz"), &ones).unwrap();
    let shift = "#Insight Transform File V1.0\nTransform: AffineTransform_double_2_2\n\
                 Parameters: 1 0 0 1 10 0\nFixedParameters: 0 0\n";
    place.put("shift.txt", shift);
    let apply = "apply -m ones.nii.gz -f fixed.nii.gz -t shift.txt";
    for how in ["labels", "nearest"] {
        place.run(&format!("{apply} -i {how} -o {how}.nii.gz")).ends(0);
        let found = place.labels(&format!("{how}.nii.gz"));
        for (flat, &label) in found.data().iter().enumerate() {
            assert_eq!(label == 1, grid.unravel(flat)[0] + 10 < grid.shape()[0], "{how} at {flat}");
        }
    }
}

#[test]
fn landmarks_come_closer_unless_they_are_only_measured() {
    let place = Place::with_result();
    // Points of the fixed image, and where the registration brings them, plus a millimetre.
    place.put("a.csv", "x,y\n10,12\n16,20\n20,11\n");
    place.run("apply --points a.csv --dimension 2 -t out/warp.nii.gz -o b.csv").ends(0);
    let moved: Vec<Vec<f64>> = place
        .text("b.csv")
        .lines()
        .skip(1)
        .map(|line| line.split(',').map(|x| x.parse::<f64>().unwrap() + 1.0).collect())
        .collect();
    let rows: Vec<String> = moved.iter().map(|p| format!("{},{}\n", p[0], p[1])).collect();
    place.put("c.csv", format!("x,y\n{}", rows.concat()));
    let beside = "--fixed-landmarks a.csv --moving-landmarks c.csv";
    place.run(&format!("register {PAIR} {LABELS} {beside} --out matched")).ends(0);
    place
        .run(&format!("register {PAIR} {LABELS} {beside} --landmarks-only-measured --out measured"))
        .ends(0);
    let of = |out: &str| figure(&place.json(&format!("{out}/report.json")), "landmarks_mean_after");
    let (matched, measured) = (of("matched"), of("measured"));
    // √2 but for the interpolation of the map: linear for points, cubic for figures.
    assert!((measured - 2.0_f64.sqrt()).abs() < 0.05, "{measured}");
    assert!(matched < 0.8 * measured, "{matched} of {measured}");
    assert!(place.bytes("measured/warp.nii.gz") == place.bytes("out/warp.nii.gz"));
}

#[test]
fn masked_voxels_do_not_count() {
    let place = Place::with_pair();
    let fixed = place.image::<2>("fixed.nii.gz");
    let grid = fixed.grid();
    let [n, m] = grid.shape();
    // A bright stripe in the fixed image that the mask leaves out.
    let stripe = |flat: usize| grid.unravel(flat)[0] >= n - 6;
    let spoiled = (0..n * m).map(|k| if stripe(k) { 1.0 } else { fixed.data()[k] }).collect();
    let mask = (0..n * m).map(|k| if stripe(k) { 0.0 } else { 1.0 }).collect();
    rdmm_io::write_image(place.path("spoiled.nii.gz"), &Image::from_vec(grid, spoiled).unwrap())
        .unwrap();
    rdmm_io::write_image(place.path("mask.nii.gz"), &Image::from_vec(grid, mask).unwrap()).unwrap();
    // Local correlations hardly see the stripe beyond its edge.
    let options = "register --fixed spoiled.nii.gz --moving moving.nii.gz --similarity ncc";
    place.run(&format!("{options} {LABELS} --fixed-mask mask.nii.gz --out masked")).ends(0);
    let all = place.run(&format!("{options} {LABELS} --out all"));
    assert!(matches!(all.code, Some(0 | 3)));
    let dice = |out: &str| figure(&place.json(&format!("{out}/report.json")), "dice_mean_after");
    // Any number but zero is inside.
    let bytes = place.image::<2>("mask.nii.gz").data().iter().map(|x| 255.0 * x).collect();
    let bytes = Image::from_vec(place.image::<2>("mask.nii.gz").grid(), bytes).unwrap();
    rdmm_io::write_image(place.path("bytes.nii.gz"), &bytes).unwrap();
    place.run(&format!("{options} {LABELS} --fixed-mask bytes.nii.gz --out bytes")).ends(0);
    assert!(place.bytes("bytes/warp.nii.gz") == place.bytes("masked/warp.nii.gz"));
    let (masked, all) = (dice("masked"), dice("all"));
    assert!(masked > 0.8 && masked > all + 0.02, "{masked} with the mask, {all} without");
}

#[test]
fn an_option_of_each_kind_gets_into_the_configuration() {
    let place = Place::with_pair();
    let options = "--similarity ssd --weight 7 --affine rigid --start mass --sigmas 2,6 --shares 0.25,0.75 \
                   --levels 2:30,1:40 --min-jacobian 0.1";
    let ran = place.run(&format!("register {PAIR} {options} --out out"));
    assert!(matches!(ran.code, Some(0 | 3)), "{}", ran.err);
    let config = &place.json("out/report.json")["configuration"];
    assert_eq!(config["similarity"]["weight"], 7.0);
    assert_eq!(config["affine"]["transform"], "rigid");
    assert_eq!(config["affine"]["start"], "mass");
    assert_eq!(config["regulariser"]["sigmas"], serde_json::json!([2.0, 6.0]));
    assert_eq!(config["regulariser"]["shares"], serde_json::json!([0.25, 0.75]));
    assert_eq!(config["optimiser"]["levels"][0]["factor"], 2.0);
    assert_eq!(config["flow"]["min_jacobian"], 0.1);
    assert!(figure(&place.json("out/report.json"), "min_det") > 0.0);
    let matrix = &place.json("out/report.json")["affine"]["matrix"];
    let [a, b, c, d] =
        [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(i, j)| matrix[i][j].as_f64().unwrap());
    assert!((a * d - b * c - 1.0).abs() < 1e-9 && (a + d).abs() <= 2.0, "a rotation");
}
