//! `rdmm report`: the HTML report of a folder of results, again.

use std::path::{Path, PathBuf};

use rdmm_core::field::{Displacement, Image};
use rdmm_core::labels::Labels;
use rdmm_io::transform::{itk, read_warp};
use serde_json::Value;

use super::register::varies;
use crate::cli::ReportArgs;
use crate::failure::{Done, Failure};
use crate::inputs;
use crate::intensities::Which;
use crate::log::Log;
use crate::maps::{carried, read};
use crate::page;
use crate::planes::Shown;
use crate::sigma;

/// Reads the folder and writes its report.
pub(crate) fn run(args: &ReportArgs, log: &Log) -> Done {
    let path = args.folder.join("report.json");
    let text =
        std::fs::read_to_string(&path).map_err(|error| Failure::at(path.display(), error))?;
    let json: Value =
        serde_json::from_str(&text).map_err(|error| Failure::at(path.display(), error))?;
    match json["dimension"].as_u64() {
        Some(2) => write::<2>(&args.folder, &json)?,
        Some(3) => write::<3>(&args.folder, &json)?,
        _ => {
            let found = &json["dimension"];
            return Err(Failure::at(
                path.display(),
                format!("dimension: expected 2 or 3, found {found}"),
            ));
        }
    }
    log.say(&format!("report: {}", args.folder.join("report.html").display()));
    Ok(())
}

fn write<const D: usize>(folder: &Path, json: &Value) -> Done {
    let said = folder.join("report.json");
    let input = |name: &str| json[name].as_str().map(PathBuf::from);
    let there = |name: &str, path: &Path| -> Done {
        if path.is_file() {
            return Ok(());
        }
        let problem = format!(
            "{name}: expected the file {}, found none: start the program in the folder where the registration was started, \
             or correct the path",
            path.display()
        );
        Err(Failure::at(said.display(), problem))
    };
    let image = |name: &str| -> Done<Image<f32, D>> {
        let path = input(name)
            .ok_or_else(|| Failure::at(said.display(), format!("expected an entry {name}")))?;
        there(name, &path)?;
        Ok(rdmm_io::read_image::<D>(path)?)
    };
    let labels = |name: &str, path: &Path| -> Done<Labels<D>> {
        there(name, path)?;
        Ok(rdmm_io::read_labels::<D>(path)?)
    };
    let fixed = page::comparable(&image("fixed")?, json, Which::Fixed)?;
    let moving = page::comparable(&image("moving")?, json, Which::Moving)?;
    let map: Displacement<f32, D> = read_warp(folder.join("warp.nii.gz"))?;
    let initial: Vec<String> = json["initial"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|path| path.as_str().map(str::to_owned))
        .collect();
    for listed in inputs::listed("initial", &initial)? {
        there("initial", &listed.path)?;
    }
    let initial = inputs::chain::<D>("initial", &initial)?;
    let affine: Displacement<f32, D> = match initial.affine() {
        Some(_) => itk::read::<D>(folder.join("affine.txt"))?.displacement(map.grid())?,
        None => initial.displacement(map.grid())?,
    };
    let (start, end) = (read(&moving, &affine)?, read(&moving, &map)?);
    let det = rdmm_io::read_image::<D>(folder.join("jacobian.nii.gz"))?;
    let sigmas = sigma::of_folder::<D>(folder, json, map.grid())?;
    let shown_labels: Option<[Labels<D>; 2]> = match (input("fixed_labels"), input("moving_labels"))
    {
        (Some(a), Some(b)) => {
            let moved = carried(&labels("moving_labels", &b)?, &map)?;
            Some([labels("fixed_labels", &a)?, moved])
        }
        _ => None,
    };
    let shown = Shown {
        fixed: &fixed,
        moving: Some(&start),
        warped: &end,
        map: &map,
        det: &det,
        sigma: sigmas
            .as_ref()
            .map(|[a, b]| [a, b])
            .filter(|pair| pair.iter().any(|image| varies(image))),
        labels: shown_labels.as_ref().map(|[a, b]| [a, b]),
    };
    page::write(folder, json, &shown)
}
