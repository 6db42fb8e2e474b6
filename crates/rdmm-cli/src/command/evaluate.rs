//! `rdmm evaluate`: figures of a map.

use rdmm_core::evaluate::Folds;
use rdmm_core::field::Displacement;
use rdmm_core::grid::Grid;
use rdmm_core::registration::Intensities;
use rdmm_io::Volume;
use serde_json::{Map, Value, json};

use crate::cli::EvaluateArgs;
use crate::failure::{Done, Failure};
use crate::figures::Subject;
use crate::files::write_json;
use crate::inputs;
use crate::log::Log;
use crate::maps::consistency;
use crate::print::print;

/// Writes or prints the figures.
pub(crate) fn run(args: &EvaluateArgs, log: &Log) -> Done {
    let fixed = rdmm_io::read(&args.fixed)?;
    let found = match fixed.dimension() {
        2 => figures::<2>(args, &fixed)?,
        3 => figures::<3>(args, &fixed)?,
        other => {
            let problem = format!("expected an image of 2 or 3 axes, found {other}");
            return Err(Failure::at(args.fixed.display(), problem));
        }
    };
    match &args.out {
        None => print(&format!("{found:#}")),
        Some(path) => {
            write_json(path, &found)?;
            log.say(&format!("written: {}", path.display()));
            Ok(())
        }
    }
}

fn figures<const D: usize>(args: &EvaluateArgs, fixed: &Volume) -> Done<Value> {
    let grid: Grid<D> = fixed.geometry.grid().map_err(|problem| problem.at(&args.fixed))?;
    let map = inputs::chain::<D>("--transform", &args.transforms)?.displacement(&grid)?;
    let moving = match &args.moving {
        None => None,
        Some(path) => {
            let volume = rdmm_io::read(path)?;
            inputs::common_dimension((&args.fixed, fixed), (path, &volume))?;
            Some(inputs::image::<D>(path, &volume)?)
        }
    };
    let target = inputs::image::<D>(&args.fixed, fixed)?;
    let labels = match (&args.beside.fixed_labels, &args.beside.moving_labels) {
        (Some(a), Some(b)) => {
            let fixed = inputs::labels::<D>(a)?;
            inputs::expect_grid(a, fixed.grid(), &grid)?;
            Some((fixed, inputs::labels::<D>(b)?))
        }
        _ => None,
    };
    let beside = &args.beside;
    let files = (beside.fixed_landmarks.as_ref(), beside.moving_landmarks.as_ref());
    let landmarks = inputs::landmarks::<D>(files)?;
    let subject = Subject {
        images: moving.as_ref().map(|moving| (&target, moving)),
        intensities: Intensities::default(),
        mask: None,
        labels: labels.as_ref().map(|(a, b)| (a, b)),
        landmarks: landmarks.as_ref(),
    };
    let mut entries = Map::new();
    entries.extend(subject.under(&Displacement::zeros(&grid)?)?.entries("_before"));
    entries.extend(subject.under(&map)?.entries("_after"));
    let found = Folds::of(&map)?;
    let folds = found.total();
    let det = map.jacobian_determinant()?;
    let largest = det.data().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    entries.insert("folds".to_owned(), json!(folds.folded));
    entries.insert("min_det".to_owned(), json!(folds.min));
    entries.insert("max_det".to_owned(), json!(largest));
    entries.insert("folded_cells".to_owned(), json!(found.cells.folded));
    entries.insert("min_cell_det".to_owned(), json!(found.cells.min));
    entries.insert("folded_volume".to_owned(), json!(found.cells.volume));
    if !args.inverse.is_empty() {
        let inverse = inputs::chain::<D>("--inverse", &args.inverse)?;
        let there = moving.as_ref().map_or(&grid, |moving| moving.grid());
        let [mean, max] = consistency(&map, &inverse.displacement(there)?)?;
        entries.insert("inverse_consistency_mean".to_owned(), json!(mean));
        entries.insert("inverse_consistency_max".to_owned(), json!(max));
    }
    Ok(Value::Object(entries))
}
