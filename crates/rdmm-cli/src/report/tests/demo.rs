//! Pages of analytic functions: an ellipse with parts in it, and a wavy map that folds at one place.

use serde_json::json;

use super::super::{Page, Plane, Point, Slice, Unit};

/// Sides of a slice in pixels, spacing in mm.
type Raster = ([usize; 2], [f64; 2]);

/// Places from −1 to 1 along the longer side.
struct Place {
    x: f64,
    y: f64,
}

fn sampled(([columns, rows], spacing): Raster, f: impl Fn(Place) -> f64) -> Slice {
    let half = 0.5 * (columns as f64 * spacing[0]).max(rows as f64 * spacing[1]);
    let value = |k: usize| {
        let across = (k % columns) as f64 + 0.5 - 0.5 * columns as f64;
        let down = (k / columns) as f64 + 0.5 - 0.5 * rows as f64;
        #[expect(clippy::cast_possible_truncation, reason = "images are f32")]
        let value = f(Place { x: across * spacing[0] / half, y: down * spacing[1] / half }) as f32;
        value
    };
    Slice { columns, rows, spacing, values: (0..columns * rows).map(value).collect() }
}

/// 1 inside of an ellipse, 0 outside, smooth between.
fn ellipse(place: &Place, centre: [f64; 2], axes: [f64; 2], edge: f64) -> f64 {
    let r = ((place.x - centre[0]) / axes[0]).hypot((place.y - centre[1]) / axes[1]);
    1.0 / (1.0 + ((r - 1.0) / edge).exp())
}

fn anatomy(place: &Place) -> f64 {
    let head = ellipse(place, [0.0, 0.0], [0.86, 0.9], 0.02);
    let skull = ellipse(place, [0.0, 0.0], [0.8, 0.84], 0.02);
    let left = ellipse(place, [-0.22, -0.05], [0.13, 0.34], 0.06);
    let right = ellipse(place, [0.22, -0.05], [0.13, 0.34], 0.06);
    let folds = (17.0 * place.x + 3.0 * (9.0 * place.y).sin()).sin() * (15.0 * place.y).cos();
    0.9 * (head - skull) + skull * (0.5 + 0.12 * folds) - 0.45 * (left + right) * skull
}

fn label(place: &Place) -> f64 {
    if ellipse(place, [-0.22, -0.05], [0.13, 0.34], 0.06) > 0.5 {
        1.0
    } else if ellipse(place, [0.22, -0.05], [0.13, 0.34], 0.06) > 0.5 {
        2.0
    } else if ellipse(place, [0.0, 0.0], [0.8, 0.84], 0.02) > 0.5 {
        3.0
    } else {
        0.0
    }
}

/// Where the moving image shows what the fixed one has at a place.
fn wave(place: &Place) -> Place {
    let Place { x, y } = *place;
    let window = (-1.5 * (x * x + y * y)).exp();
    Place {
        x: x + 0.085 * window * (4.0 * y + 0.6).sin(),
        y: y + 0.07 * window * (5.0 * x - 0.4).cos(),
    }
}

/// The wave, not quite, and a spot where the map turns over.
fn found(place: &Place) -> Place {
    let exact = wave(place);
    let (x, y) = (place.x - 0.45, place.y - 0.35);
    let spot = 1.7 * (-(x * x + y * y) / (2.0 * 0.06_f64.powi(2))).exp();
    Place {
        x: place.x + 0.93 * (exact.x - place.x) - spot * x,
        y: place.y + 0.93 * (exact.y - place.y),
    }
}

fn determinant(place: &Place) -> f64 {
    let step = 1e-5;
    let [right, left] = [step, -step].map(|step| found(&Place { x: place.x + step, y: place.y }));
    let [below, above] = [step, -step].map(|step| found(&Place { x: place.x, y: place.y + step }));
    let scale = 1.0 / (2.0 * step);
    let [xx, yx] = [(right.x - left.x) * scale, (right.y - left.y) * scale];
    let [xy, yy] = [(below.x - above.x) * scale, (below.y - above.y) * scale];
    xx * yy - xy * yx
}

/// The image that the wave carries to the fixed one, by four steps of a fixed point.
fn moving(place: &Place) -> f64 {
    let mut back = Place { ..*place };
    for _ in 0..20 {
        let forth = wave(&back);
        back = Place { x: back.x + place.x - forth.x, y: back.y + place.y - forth.y };
    }
    anatomy(&back)
}

fn moving_label(place: &Place) -> f64 {
    let mut back = Place { ..*place };
    for _ in 0..20 {
        let forth = wave(&back);
        back = Place { x: back.x + place.x - forth.x, y: back.y + place.y - forth.y };
    }
    label(&back)
}

fn plane(name: &str, raster: Raster) -> Plane {
    let ([columns, rows], spacing) = raster;
    let half = 0.5 * (columns as f64 * spacing[0]).max(rows as f64 * spacing[1]);
    let column = |place: &Place| found(place).x * half / spacing[0] + 0.5 * columns as f64 - 0.5;
    let row = |place: &Place| found(place).y * half / spacing[1] + 0.5 * rows as f64 - 0.5;
    let sigma = |place: &Place| 8.0 + 14.0 * ellipse(place, [0.1, 0.0], [0.45, 0.5], 0.25);
    Plane {
        unit: Unit::MILLIMETRES,
        name: name.to_owned(),
        fixed: sampled(raster, |place| anatomy(&place)),
        moving: Some(sampled(raster, |place| moving(&place))),
        warped: sampled(raster, |place| moving(&found(&place))),
        map: [sampled(raster, |place| column(&place)), sampled(raster, |place| row(&place))],
        det: sampled(raster, |place| determinant(&place)),
        sigma: Some([
            sampled(raster, |place| sigma(&place)),
            sampled(raster, |place| sigma(&found(&place))),
        ]),
        labels: Some([
            sampled(raster, |place| label(&place)),
            sampled(raster, |place| moving_label(&found(&place))),
        ]),
    }
}

fn page(title: &str, planes: Vec<Plane>) -> Page {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let row = |cells: [&str; 3]| cells.map(str::to_owned);
    let point = |k: usize| {
        let (level, iteration) = (k / 14, k % 14);
        let regularisation = 0.35 * (1.0 - (-0.3 * iteration as f64).exp());
        let similarity =
            (14.0 - 3.0 * level as f64) * (0.12 + 0.88 * (-0.35 * iteration as f64).exp());
        Point {
            level,
            iteration,
            evaluations: k + k / 5 + 1,
            seconds: 0.11 * k as f64,
            total: similarity + regularisation,
            similarity,
            regularisation,
        }
    };
    Page {
        title: title.to_owned(),
        summary: vec![
            pair("NCC after", "0.972"),
            pair("Dice, mean of 3", "0.914"),
            pair("Folded voxels", "318"),
            pair("Smallest determinant", "−0.684"),
            pair("Longest displacement", "9.81 mm"),
            pair("Evaluations", "49"),
            pair("Time", "4.62 s"),
        ],
        table: vec![
            row(["NCC", "0.731", "0.972"]),
            row(["Dice, label 1", "0.612", "0.934"]),
            row(["Dice, label 2", "0.655", "0.941"]),
            row(["Dice, label 3", "0.961", "0.988"]),
            row(["Landmarks, mean distance", "6.1 mm", "1.3 mm"]),
            row(["Folded voxels", "0", "318"]),
        ],
        planes,
        convergence: (0..42).map(point).collect(),
        details: vec![
            (
                "Command".to_owned(),
                json!(
                    "rdmm register --fixed fixed.nii.gz --moving moving.nii.gz --model rdmm --out result"
                ),
            ),
            (
                "Configuration".to_owned(),
                json!({"model": "rdmm", "sigma_mm": [8, 12, 22], "levels": [{"factor": 4, "iterations": 60}, {"factor": 2, "iterations": 60}]}),
            ),
            ("Versions".to_owned(), json!({"rdmm-core": "0.1.0", "rdmm-cli": "0.1.0"})),
        ],
        warnings: vec![
            "The map folds: 318 of 5 767 168 voxels have a determinant that is not positive."
                .to_owned(),
            "Level 3 of 3 was stopped by the limit of 60 iterations before it had converged."
                .to_owned(),
        ],
    }
}

/// One plane.
pub(super) fn plane_only() -> Page {
    page("Registration of moving.png to fixed.png", vec![plane("plane", ([200, 160], [1.0, 1.0]))])
}

/// Three planes of a volume with thick slices.
pub(super) fn planes() -> Page {
    let planes = vec![
        plane("axial, z = 12.0 mm", ([192, 224], [1.0, 1.0])),
        plane("coronal, y = −4.5 mm", ([192, 60], [1.0, 3.0])),
        plane("sagittal, x = 31.0 mm", ([224, 60], [1.0, 3.0])),
    ];
    page("Registration of moving.nii.gz to fixed.nii.gz", planes)
}

/// Three planes of n × n pixels of noise, nothing left out.
pub(super) fn noise(n: usize) -> Page {
    let mut planes: Vec<_> =
        ["axial", "coronal", "sagittal"].map(|name| plane(name, ([n, n], [1.0, 1.0]))).into();
    let mut state = 1_u32;
    for plane in &mut planes {
        let images = [&mut plane.fixed, &mut plane.warped].into_iter().chain(&mut plane.moving);
        for value in images.flat_map(|slice| &mut slice.values) {
            // Numerical Recipes' linear congruential generator, its upper bits.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *value = f32::from(u8::try_from(state >> 24).unwrap());
        }
    }
    page("Noise", planes)
}
