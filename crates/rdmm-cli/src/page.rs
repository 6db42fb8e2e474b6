//! The HTML report of a registration, from its images and `report.json`.

use std::path::Path;

use serde_json::Value;

use crate::config::IntensityConfig;
use crate::failure::{Done, Failure};
use crate::files::Kind;
use crate::intensities::{Which, cut};
use crate::planes::{Shown, planes};
use crate::report::{Page, Point, Unit, html};

/// Voxels shorter than this, mm, are shown in micrometres.
const SMALL: f64 = 0.05;

/// Writes `report.html` into the folder of results.
pub(crate) fn write<const D: usize>(out: &Path, json: &Value, shown: &Shown<'_, D>) -> Done {
    let page = Page {
        title: title(json),
        summary: summary(json),
        table: table(json),
        planes: planes(shown, unit(json)),
        convergence: convergence(json),
        details: details(json),
        warnings: warnings(json),
    };
    let path = out.join("report.html");
    let text = html(&page).map_err(|error| Failure::at(path.display(), error))?;
    rdmm_io::atomic::write(&path, |file| file.write_all(text.as_bytes()))?;
    Ok(())
}

/// Both images with their grey values in one range, so that differences mean something.
pub(crate) fn comparable<const D: usize>(
    image: &rdmm_core::field::Image<f32, D>,
    json: &Value,
    which: Which,
) -> Done<rdmm_core::field::Image<f32, D>> {
    let config = match &json["configuration"]["intensities"] {
        // Reports of earlier versions have no such entry.
        Value::Null => IntensityConfig::default(),
        entry => serde_json::from_value(entry.clone())
            .map_err(|error| Failure::at("report.json, [intensities]", error))?,
    };
    let shown = cut(image, &config, which);
    let name = if which == Which::Fixed { "fixed image" } else { "moving image" };
    Ok(config.mapping().applied(shown.as_ref().unwrap_or(image), name)?)
}

/// Pictures have pixels; microscopes have lengths that would be zeros in millimetres.
fn unit(json: &Value) -> Unit {
    let fixed = Path::new(json["fixed"].as_str().unwrap_or_default());
    let spacing = json["fixed_spacing"].as_array().into_iter().flatten().filter_map(Value::as_f64);
    match Kind::of(fixed) {
        Kind::Png => Unit::PIXELS,
        Kind::Nifti if spacing.fold(0.0, f64::max) < SMALL => Unit::MICROMETRES,
        Kind::Nifti => Unit::MILLIMETRES,
    }
}

/// A length of the files in the unit that is shown.
fn length(value: &Value, unit: Unit, decimals: usize) -> String {
    value.as_f64().map_or_else(|| "–".to_owned(), |x| format!("{:.decimals$}", x * unit.times))
}

fn file_name(value: &Value) -> String {
    let path = Path::new(value.as_str().unwrap_or_default());
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn title(json: &Value) -> String {
    let model = json["model"].as_str().unwrap_or("registration");
    format!("{} onto {} by {model}", file_name(&json["moving"]), file_name(&json["fixed"]))
}

/// A number with few digits, a dash where there is none.
fn short(value: &Value, decimals: usize) -> String {
    value.as_f64().map_or_else(|| "–".to_owned(), |x| format!("{x:.decimals$}"))
}

fn summary(json: &Value) -> Vec<(String, String)> {
    let unit = unit(json);
    let mut cards = Vec::new();
    let mut card = |name: &str, value: String| cards.push((name.to_owned(), value));
    let change = |entry: &str, decimals: usize| {
        let of = |suffix: &str| short(&json[format!("{entry}_{suffix}")], decimals);
        format!("{} → {}", of("before"), of("after"))
    };
    card("NCC", change("ncc", 3));
    if !json["dice_mean_after"].is_null() {
        card("mean Dice", change("dice_mean", 3));
    }
    if !json["landmarks_mean_after"].is_null() {
        let of = |suffix: &str| length(&json[format!("landmarks_mean_{suffix}")], unit, 2);
        let change = format!("{} → {} {}", of("before"), of("after"), unit.name);
        card("landmarks, mean", change);
    }
    card("folds", json["folds"].to_string());
    card("smallest determinant", short(&json["min_det"], 3));
    card(
        "inverse consistency, mean",
        format!("{} {}", length(&json["inverse_consistency_mean"], unit, 3), unit.name),
    );
    card("time", format!("{} s", short(&json["seconds"], 1)));
    cards
}

fn table(json: &Value) -> Vec<[String; 3]> {
    let unit = unit(json);
    let mut rows = Vec::new();
    let mut row = |name: String, before: String, after: String| rows.push([name, before, after]);
    for (name, entry, decimals) in [
        ("part of the fixed image that the moving one shows", "shown", 4),
        ("NCC of that part", "ncc", 4),
        ("mean squared difference of that part", "mse", 5),
        ("mean Dice of the labels in both images", "dice_mean", 4),
        ("Dice of all labels as one", "dice_whole", 4),
        ("landmarks, mean", "landmarks_mean", 3),
        ("landmarks, largest", "landmarks_max", 3),
    ] {
        let (before, after) = (&json[format!("{entry}_before")], &json[format!("{entry}_after")]);
        if entry.starts_with("landmarks") && !after.is_null() {
            let name = format!("{name} ({})", unit.name);
            row(name, length(before, unit, decimals), length(after, unit, decimals));
        } else if !after.is_null() {
            row(name.to_owned(), short(before, decimals), short(after, decimals));
        }
    }
    if let Value::Object(labels) = &json["dice_after"] {
        for (label, after) in labels {
            let before = short(&json["dice_before"][label], 4);
            row(format!("Dice of label {label}"), before, short(after, 4));
        }
    }
    let dash = || "–".to_owned();
    for (name, entry, decimals) in [
        ("smallest determinant", "min_det", 4),
        ("largest determinant", "max_det", 4),
        ("folded cells", "folded_cells", 0),
        ("smallest determinant of a cell", "min_cell_det", 4),
        ("folded cells of the inverse", "inverse_folded_cells", 0),
        ("smallest determinant of a cell of the inverse", "inverse_min_cell_det", 4),
        ("inverse consistency, mean", "inverse_consistency_mean", 4),
        ("inverse consistency, largest", "inverse_consistency_max", 4),
        ("energy drift", "energy_drift", 6),
        ("time steps", "steps", 0),
        ("evaluations", "evaluations", 0),
        ("peak memory (MB)", "peak_mb", 0),
    ] {
        if entry.starts_with("inverse_consistency") && !json[entry].is_null() {
            let name = format!("{name} ({})", unit.name);
            row(name, dash(), length(&json[entry], unit, decimals));
        } else if !json[entry].is_null() {
            row(name.to_owned(), dash(), short(&json[entry], decimals));
        }
    }
    rows
}

fn convergence(json: &Value) -> Vec<Point> {
    let count = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let points = json["history"].as_array().into_iter().flatten().map(|entry| {
        let terms = &entry["diagnostics"]["terms"];
        Point {
            level: count(&entry["level"]),
            iteration: count(&entry["iteration"]),
            evaluations: count(&entry["evaluations"]),
            seconds: number(&entry["seconds"]),
            total: number(&terms["total"]),
            similarity: number(&terms["similarity"]),
            regularisation: number(&terms["regularisation"]),
        }
    });
    points.collect()
}

fn details(json: &Value) -> Vec<(String, Value)> {
    let command: Vec<&str> =
        json["command"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut details = vec![
        ("command".to_owned(), Value::String(command.join(" "))),
        ("version".to_owned(), json["version"].clone()),
        ("affine map (LPS, mm)".to_owned(), json["affine"].clone()),
        ("configuration".to_owned(), json["configuration"].clone()),
    ];
    if !json["levels"].is_null() {
        details.push(("levels".to_owned(), json["levels"].clone()));
    }
    details
}

fn warnings(json: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(folds) = json["folds"].as_u64().filter(|&folds| folds > 0) {
        warnings.push(format!("The map folds at {folds} voxels."));
    }
    for (entry, map) in [("folded_cells", "map"), ("inverse_folded_cells", "inverse map")] {
        if let Some(cells) = json[entry].as_u64().filter(|&cells| cells > 0) {
            warnings.push(format!("The {map} folds in {cells} cells between voxels."));
        }
    }
    match json["stopped"].as_str() {
        Some("time-limit") => {
            warnings
                .push("The time limit was reached: this is the best state until then.".to_owned());
        }
        Some(_) => {
            warnings.push("It was interrupted: this is the best state until then.".to_owned());
        }
        None if json["converged"] == Value::Bool(false) => {
            warnings.push(
                "The last level ended at its limit of iterations, not by convergence.".to_owned(),
            );
        }
        None => {}
    }
    warnings
}
