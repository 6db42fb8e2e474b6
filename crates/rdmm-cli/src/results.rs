//! The files that a registration writes.

use std::path::Path;

use rdmm_core::field::Displacement;
use rdmm_core::labels::Labels;
use rdmm_core::optim::Stop;
use rdmm_core::registration::{LevelReport, Progress};
use rdmm_io::Volume;
use rdmm_io::transform::{fsl, itk, write_warp};
use serde_json::{Map, Value, json};

use crate::failure::{Done, Failure};
use crate::figures::Figures;
use crate::files::{Kind, remove, write_volume};
use crate::inputs::Inputs;
use crate::maps::carried;
use crate::pair::Found;

/// Figures under the identity, the initial and affine maps, and the whole map.
pub(crate) struct Compared {
    pub(crate) before: Figures,
    pub(crate) affine: Figures,
    pub(crate) after: Figures,
}

/// Every file that a registration may write, the last ones only where they are asked for or found.
const NAMES: [&str; 19] = [
    "report.json",
    "report.html",
    "warped.nii.gz",
    "warped.png",
    "warped_labels.nii.gz",
    "warped_labels.png",
    "warp.nii.gz",
    "inverse_warp.nii.gz",
    "nonlinear_warp.nii.gz",
    "inverse_nonlinear_warp.nii.gz",
    "affine.txt",
    "affine.mat",
    "jacobian.nii.gz",
    "momentum.nii.gz",
    "weights_t0.nii.gz",
    "weights_t1.nii.gz",
    "config.toml",
    "affine_fsl.mat",
    "warp_fsl.nii.gz",
];

/// `Ok` unless one of the files is among those that would be written into `out`, and so would be lost.
pub(crate) fn expect_apart<'a>(out: &Path, inputs: impl IntoIterator<Item = &'a Path>) -> Done {
    let Ok(out) = out.canonicalize() else { return Ok(()) };
    for input in inputs {
        let Ok(whole) = input.canonicalize() else { continue };
        let name = whole.file_name().and_then(|name| name.to_str());
        if whole.parent() == Some(&out) && name.is_some_and(|name| NAMES.contains(&name)) {
            let problem = "expected another folder of results than the one of this file, which would be \
                           overwritten: name another with --out";
            return Err(Failure::at(input.display(), problem));
        }
    }
    Ok(())
}

/// Everything but the reports. The results of an earlier registration are removed first: files of two runs never lie
/// side by side.
pub(crate) fn write<const D: usize>(
    out: &Path,
    kind: Kind,
    moving: &Volume,
    inputs: &Inputs<D>,
    found: &Found<D>,
) -> Done<Option<Labels<D>>> {
    let path = |name: &str| out.join(name);
    for name in NAMES {
        remove(&path(name))?;
    }
    // On the lattice of the fixed file, wherever its header says that is.
    let placed = |volume: Volume| Volume { forms: inputs.forms.clone(), ..volume };
    let warped = placed(Volume::of_image(&found.warped));
    write_volume(&path(&kind.name("warped")), kind, warped, moving)?;
    let labels =
        inputs.moving_labels.as_ref().map(|labels| carried(labels, &found.map)).transpose()?;
    if let Some(labels) = &labels {
        rdmm_io::write(path(&kind.name("warped_labels")), &placed(Volume::of_labels(labels)))?;
    }
    write_warp(path("warp.nii.gz"), &found.map)?;
    write_warp(path("inverse_warp.nii.gz"), &found.inverse)?;
    if let Some(parts) = &found.nonlinear {
        write_warp(path("nonlinear_warp.nii.gz"), &parts.map)?;
        write_warp(path("inverse_nonlinear_warp.nii.gz"), &parts.inverse)?;
    }
    itk::write_text(path("affine.txt"), &found.affine)?;
    itk::write_mat(path("affine.mat"), &found.affine)?;
    rdmm_io::write(path("jacobian.nii.gz"), &placed(Volume::of_image(&found.det)))?;
    if let Some(flow) = &found.flow {
        let at = path("momentum.nii.gz");
        let momentum = Volume::of_vectors(&flow.momentum).map_err(|problem| problem.at(&at))?;
        rdmm_io::write(path("momentum.nii.gz"), &momentum)?;
        for (name, weights) in
            [("weights_t0.nii.gz", &flow.weights_start), ("weights_t1.nii.gz", &flow.weights_end)]
        {
            if let Some(weights) = weights {
                rdmm_io::write(path(name), &Volume::of_components(weights))?;
            }
        }
    }
    let config = found.config.text()?;
    rdmm_io::atomic::write(path("config.toml"), |file| file.write_all(config.as_bytes()))?;
    Ok(labels)
}

/// The affine map and the warp in the conventions of FSL.
pub(crate) fn write_fsl(out: &Path, found: &Found<3>, inputs: &Inputs<3>) -> Done {
    let (fixed, moving) = (inputs.fixed.grid(), inputs.moving.grid());
    fsl::write_affine(out.join("affine_fsl.mat"), &found.affine, fixed, moving)?;
    let map: &Displacement<f32, 3> = &found.map;
    fsl::write_warp(out.join("warp_fsl.nii.gz"), map, moving)?;
    Ok(())
}

/// Paths that reports name.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) fixed: String,
    pub(crate) moving: String,
    pub(crate) fixed_labels: Option<String>,
    pub(crate) moving_labels: Option<String>,
    pub(crate) initial: Vec<String>,
    pub(crate) command: Vec<String>,
    pub(crate) seconds: f64,
    /// Part of the fixed image that the moving one could show, by their sizes; not known beside a mask.
    pub(crate) could_show: Option<f64>,
}

/// `report.json`.
pub(crate) fn json<const D: usize>(
    named: &Named,
    found: &Found<D>,
    compared: &Compared,
) -> Done<Value> {
    let config: Value =
        serde_json::to_value(&found.config).map_err(|error| Failure::at("configuration", error))?;
    let total = found.folds.total();
    let largest = found.det.data().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let report = found.flow.as_ref().map(|flow| &flow.report);
    let mut entries = Map::new();
    let mut put = |name: &str, value: Value| {
        entries.insert(name.to_owned(), value);
    };
    put("version", json!(env!("CARGO_PKG_VERSION")));
    put("command", json!(named.command));
    put("preset", config["preset"].clone());
    put("model", json!(report.map_or("affine", |report| report.model.as_str())));
    put("fixed", json!(named.fixed));
    put("moving", json!(named.moving));
    put("fixed_labels", json!(named.fixed_labels));
    put("moving_labels", json!(named.moving_labels));
    put("initial", json!(named.initial));
    put("dimension", json!(D));
    put("fixed_shape", json!(found.map.grid().shape().to_vec()));
    put("fixed_spacing", json!(found.map.grid().spacing().to_vec()));
    put("folds", json!(total.folded));
    put("min_det", json!(total.min));
    put("max_det", json!(largest));
    for (prefix, folds) in [("", &found.folds), ("inverse_", &found.inverse_folds)] {
        put(&format!("{prefix}folded_cells"), json!(folds.cells.folded));
        put(&format!("{prefix}min_cell_det"), json!(folds.cells.min));
        put(&format!("{prefix}max_cell_det"), json!(folds.cells.max));
        put(&format!("{prefix}folded_volume"), json!(folds.cells.volume));
    }
    let [map, inverse] = &found.unfolded;
    let rest = found.nonlinear.as_ref();
    let unfolded = rest.map(|rest| &rest.inverse_unfolded);
    put("unfolded", json!({ "map": map, "inverse": inverse, "inverse_nonlinear": unfolded }));
    put("inverse_nonlinear_folded_cells", json!(rest.map(|rest| rest.inverse_cells.folded)));
    put("inverse_consistency_mean", json!(found.inverse_consistency[0]));
    put("inverse_consistency_max", json!(found.inverse_consistency[1]));
    for (suffix, figures) in
        [("_before", &compared.before), ("_affine", &compared.affine), ("_after", &compared.after)]
    {
        for (name, value) in figures.entries(suffix) {
            put(&name, value);
        }
    }
    put("could_show", json!(named.could_show));
    put("stopped", json!(found.stopped));
    put("converged", json!(converged(found)));
    let last = report.and_then(|report| report.levels.last());
    put("error", json!(last.and_then(|level| failure(&level.stop))));
    put("seconds", json!(named.seconds));
    put("peak_mb", json!(peak_mb()));
    if let Some(report) = report {
        put("similarity", json!(report.measure));
        put("similarity_weight", json!(report.similarity_weight));
        put("energy_drift", json!(report.energy_drift));
        put("steps", json!(report.steps));
        put("evaluations", json!(report.evaluations));
        put("refused", json!(report.refused));
        put("levels", report.levels.iter().map(level).collect());
    }
    let matrix = found.affine.matrix();
    let rows: Vec<Vec<f64>> = matrix.row_iter().map(|row| row.iter().copied().collect()).collect();
    put("affine", json!({ "matrix": rows, "shift": found.affine.shift().as_slice() }));
    put("history", json!(found.history));
    put("configuration", config);
    Ok(Value::Object(entries))
}

fn level(level: &LevelReport) -> Value {
    json!({
        "images": level.images,
        "map": level.map,
        "iterations": level.iterations,
        "evaluations": level.evaluations,
        "refused": level.refused,
        "first": level.first,
        "last": level.last,
        "stop": format!("{:?}", level.stop),
        "state_bytes": level.bytes,
        "seconds": level.seconds,
    })
}

/// A level that is cut short at its limit of iterations has converged where its last ones lowered the energy by at most
/// this fraction.
const STILL_FALLING: f64 = 0.05;

/// Those last iterations.
const WINDOW: usize = 5;

/// Whether the last level ended by itself, or at its limit of iterations with little left to gain.
pub(crate) fn converged<const D: usize>(found: &Found<D>) -> bool {
    let Some(flow) = &found.flow else { return found.stopped.is_none() };
    let Some(level) = flow.report.levels.last() else { return false };
    match level.stop {
        Stop::Gradient | Stop::Value | Stop::LineSearch => true,
        Stop::MaxIterations | Stop::MaxEvaluations => {
            let of_level = |seen: &&Progress| seen.level + 1 == flow.report.levels.len();
            let energies: Vec<f64> = found
                .history
                .iter()
                .filter(of_level)
                .map(|seen| seen.diagnostics.terms.total)
                .collect();
            match (energies.iter().nth_back(WINDOW), energies.last()) {
                (Some(before), Some(now)) => before - now <= STILL_FALLING * now.abs(),
                _ => false,
            }
        }
        _ => false,
    }
}

/// What an optimisation failed by.
fn failure(stop: &Stop) -> Option<String> {
    if let Stop::Failed(error) = stop { Some(error.to_string()) } else { None }
}

/// Less than this part of what the moving image could show is little.
const LITTLE: f64 = 0.25;

/// What is to be said of a registration that was not stopped, from its `report.json`.
pub(crate) fn verdict(report: &Value, max_folds: usize) -> Done {
    if let Some(error) = report["error"].as_str() {
        return Err(Failure::Unfinished(format!("the last level ended by an error: {error}")));
    }
    // Reports of earlier versions do not say what was shown.
    if let (Some(shown), Some(could)) =
        (report["shown_after"].as_f64(), report["could_show"].as_f64())
        && shown < LITTLE * could
    {
        return Err(Failure::Unfinished(format!(
            "the moving image shows {:.1} % of the fixed one, and is large enough to show {:.1} %: try --start mass or \
             --start moments, or --initial",
            100.0 * shown,
            100.0 * could,
        )));
    }
    // Reports of earlier versions count no cells.
    let cells = |name: &str| report[name].as_u64().unwrap_or(0);
    let all = ["folded_cells", "inverse_folded_cells", "inverse_nonlinear_folded_cells"];
    let worst = all.map(cells).into_iter().max().unwrap_or(0);
    let folds = report["folds"].as_u64().unwrap_or(u64::MAX).max(worst);
    if usize::try_from(folds).is_ok_and(|folds| folds <= max_folds) {
        if report["converged"] == Value::Bool(true) {
            return Ok(());
        }
        return Err(Failure::Unfinished(
            "the energy still fell by more than 5 % over the last five iterations when the last level ended: \
             allow more iterations (--levels)"
                .to_owned(),
        ));
    }
    Err(Failure::Unfinished(format!(
        "the map or its inverse folds in {folds} voxels or cells, expected at most {max_folds}: use larger σ, a smaller weight of the similarity or a larger min_jacobian",
    )))
}

/// The largest memory that the program has had, MB; `None` where the system does not say.
fn peak_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdmm_core::Error;

    #[test]
    fn an_error_is_told_before_folds_and_convergence() {
        let said = |report: &Value| verdict(report, 0).map_err(|failure| failure.to_string());
        let error = failure(&Stop::Failed(Error::Diverged { step: 3, steps: 10 }));
        assert!(error.is_some() && failure(&Stop::MaxIterations).is_none());
        for folds in [0, 7] {
            let report = json!({ "folds": folds, "converged": false, "error": error });
            let said = said(&report).unwrap_err();
            assert!(said.starts_with("the last level ended by an error: "), "{said}");
            assert!(said.contains("in step 3 of 10"), "{said}");
        }
        // Reports of earlier versions have no such entry.
        for error in [json!({}), json!({ "error": null })] {
            let with = |folds: u64, converged: bool| {
                let mut report = error.clone();
                report["folds"] = json!(folds);
                report["converged"] = json!(converged);
                said(&report)
            };
            assert_eq!(with(0, true), Ok(()));
            assert!(with(0, false).unwrap_err().contains("allow more iterations"));
            assert!(with(7, true).unwrap_err().contains("folds in 7 voxels"));
            let seen = |shown: f64, could: f64| {
                let numbers = json!({ "shown_after": shown, "could_show": could });
                let mut report = json!({ "folds": 0, "converged": true });
                report.as_object_mut().unwrap().extend(numbers.as_object().unwrap().clone());
                said(&report)
            };
            assert_eq!((seen(0.05, 0.1), seen(0.3, 1.0)), (Ok(()), Ok(())));
            let little = seen(0.01, 0.1).unwrap_err();
            assert!(
                little.contains("shows 1.0 % of the fixed one") && little.contains("--start mass")
            );
            for cells in ["folded_cells", "inverse_folded_cells", "inverse_nonlinear_folded_cells"]
            {
                let report = json!({ "folds": 0, "converged": true, cells: 2 });
                assert!(said(&report).unwrap_err().contains("folds in 2 voxels or cells"));
            }
        }
    }
}
