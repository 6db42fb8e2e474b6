//! What is cut off grey values for a registration, and images of little contrast.

use rdmm_core::field::Image;

use super::{PAIR, Place, figure};

const AFFINE: &str = "--preset affine --affine rigid";

/// The pair with two voxels far beyond the others, elsewhere in each image.
fn hot() -> Place {
    let place = Place::with_pair();
    for (name, at) in [("fixed", 300), ("moving", 640)] {
        let mut image = place.image::<2>(&format!("{name}.nii.gz"));
        image.data_mut()[at] = 50.0;
        image.data_mut()[at + 1] = -20.0;
        rdmm_io::write_image(place.path(&format!("{name}.nii.gz")), &image).unwrap();
    }
    place
}

fn clamped(place: &Place, name: &str, [low, high]: [f32; 2]) {
    let mut image = place.image::<2>(&format!("{name}.nii.gz"));
    image.data_mut().iter_mut().for_each(|x| *x = x.clamp(low, high));
    rdmm_io::write_image(place.path(&format!("less_{name}.nii.gz")), &image).unwrap();
}

/// The value below which this fraction of the voxels lies.
fn percentile(image: &Image<f32, 2>, fraction: f64) -> f32 {
    let mut sorted = image.data().to_vec();
    sorted.sort_by(f32::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let at = (fraction * (sorted.len() - 1) as f64).round() as usize;
    sorted[at]
}

#[test]
fn what_is_cut_off_does_not_count_and_is_written_nevertheless() {
    let place = hot();
    let less = "--fixed less_fixed.nii.gz --moving less_moving.nii.gz";
    let ran = place.run(&format!("register {PAIR} {AFFINE} --out plain")).ends(0);
    assert!(ran.err.contains("fixed.nii.gz") && ran.err.contains("--winsorize"), "{}", ran.err);
    let windows = "--fixed-window -0.5,0.9 --moving-window -0.25,0.875";
    for options in [windows, "--winsorize 0.01,0.99"] {
        for (name, window) in [("fixed", [-0.5, 0.9]), ("moving", [-0.25, 0.875])] {
            let image = place.image::<2>(&format!("{name}.nii.gz"));
            let ends = [0.01, 0.99].map(|fraction| percentile(&image, fraction));
            clamped(&place, name, if options == windows { window } else { ends });
        }
        let ran = place.run(&format!("register {PAIR} {AFFINE} {options} --out cut")).ends(0);
        assert!(!ran.err.contains("warning"), "{}", ran.err);
        // The fractions of the option are those of the configuration.
        place.put("c.toml", "[intensities]\nlow = 0.01\nhigh = 0.99\n");
        let same = if options == windows { "" } else { "--config c.toml" };
        place.run(&format!("register {less} {AFFINE} {same} --out less")).ends(0);
        for name in ["affine.txt", "warp.nii.gz"] {
            let [a, b] = ["cut", "less"].map(|out| place.bytes(&format!("{out}/{name}")));
            assert!(a == b, "{options}: {name}");
        }
        let (cut, less) = (place.json("cut/report.json"), place.json("less/report.json"));
        assert!((figure(&cut, "ncc_after") - figure(&less, "ncc_after")).abs() < 1e-12);
        let warped = place.image::<2>("cut/warped.nii.gz");
        let most = warped.data().iter().copied().fold(f32::NEG_INFINITY, f32::max);
        assert!(most > 5.0, "{most}: the image as it was given");
        let page = place.bytes("cut/report.html");
        place.run("report cut").ends(0);
        assert!(place.bytes("cut/report.html") == page, "{options}");
        // What was done can be done again.
        place.run(&format!("register {PAIR} --config cut/config.toml --out again")).ends(0);
        assert!(place.bytes("again/warp.nii.gz") == place.bytes("cut/warp.nii.gz"), "{options}");
    }
}

#[test]
fn cuts_that_cannot_be_are_refused() {
    let place = Place::with_pair();
    for (options, parts) in [
        ("--winsorize 0.9,0.1", ["--winsorize", "found 0.9 and 0.1"]),
        ("--winsorize 5,95", ["intensities.low", "fraction from 0 to 1"]),
        ("--winsorize 0.5", ["--winsorize", "two numbers"]),
        ("--fixed-window 5,5", ["--fixed-window", "low < high"]),
        ("--moving-window 0,inf", ["--moving-window", "finite"]),
        ("--moving-window 500,900", ["moving.nii.gz", "between 500 and 900"]),
    ] {
        let ran = place.run(&format!("register {PAIR} {AFFINE} {options} --out no")).ends(2);
        assert!(parts.iter().all(|part| ran.err.contains(part)), "{options}: {}", ran.err);
    }
    assert!(!place.has("no"));
}

#[test]
fn few_bright_voxels_are_contrast() {
    let place = Place::with_pair();
    let grid = place.image::<2>("fixed.nii.gz").grid().resampled([64, 64]).unwrap();
    for (name, at) in [("fixed", 30), ("moving", 33)] {
        let mut image = Image::<f32, 2>::from_vec(&grid, vec![0.0; 64 * 64]).unwrap();
        image.data_mut()[at * 64 + 31] = 1.0;
        image.data_mut()[at * 64 + 32] = 1.0;
        rdmm_io::write_image(place.path(&format!("{name}.nii.gz")), &image).unwrap();
    }
    let ran = place.run(&format!("register {PAIR} {AFFINE} --start mass --out out")).ends(0);
    assert!(
        ran.err.contains("fixed.nii.gz") && ran.err.contains("low = 0 and high = 1"),
        "{}",
        ran.err
    );
    let map = rdmm_io::transform::itk::read::<2>(place.path("out/affine.txt")).unwrap();
    let x = grid.to_world([30.0, 31.5]);
    let y = grid.to_index(map.apply(x));
    assert!((y[0] - 33.0).abs() < 0.1 && (y[1] - 31.5).abs() < 0.1, "{y:?}");
    assert!(place.text("out/config.toml").contains("high = 1.0"));
    let ran = place.run(&format!("evaluate {PAIR} -t out/affine.txt")).ends(0);
    let found: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert!(figure(&found, "ncc_after") > 0.9, "{found}");
    assert!(ran.err.contains("warning") && ran.err.contains("low = 0 and high = 1"), "{}", ran.err);
    let ran =
        place.run(&format!("register {PAIR} {AFFINE} --winsorize 0.01,0.99 --out no")).ends(2);
    assert!(ran.err.contains("--winsorize") && !place.has("no"), "{}", ran.err);
}

#[test]
fn reports_have_the_units_of_their_images() {
    let place = Place::with_pair();
    for name in ["fixed", "moving"] {
        let image = place.image::<2>(&format!("{name}.nii.gz"));
        let grid = image.grid().clone();
        let small = rdmm_core::grid::Grid::new(grid.shape(), grid.spacing().map(|s| 0.002 * s));
        let small = image.clone().on_grid(&small.unwrap()).unwrap();
        rdmm_io::write_image(place.path(&format!("{name}_small.nii.gz")), &small).unwrap();
        let mut picture = rdmm_io::Volume::of_image(&image);
        picture.sample = rdmm_io::Sample::U8;
        picture.values.iter_mut().for_each(|x| *x = (200.0 * *x).round().clamp(0.0, 255.0));
        rdmm_io::write(place.path(&format!("{name}.png")), &picture).unwrap();
    }
    for (ending, unit, others) in [
        (".nii.gz", " mm", [" µm", " pixels"]),
        ("_small.nii.gz", " µm", [" mm", " pixels"]),
        (".png", " pixels", [" mm", " µm"]),
    ] {
        let pair = format!("--fixed fixed{ending} --moving moving{ending}");
        let ran = place.run(&format!("register {pair} {AFFINE} --out out"));
        assert!(ran.code == Some(0), "{}", ran.err);
        let page = place.text("out/report.html");
        let shown = page.split("<details>").next().unwrap();
        assert!(shown.contains(&format!("Squares of 4{unit}")) || unit == " µm", "{ending}");
        assert!(shown.contains(unit), "{ending}");
        assert!(others.iter().all(|other| !shown.contains(other)), "{ending}");
    }
}
