//! `rdmm evaluate`: figures of a map.

use rdmm_core::evaluate::Folds;
use rdmm_core::field::Displacement;
use rdmm_core::grid::Grid;
use rdmm_io::Volume;
use serde_json::{Map, Value, json};

use crate::beyond;
use crate::cli::EvaluateArgs;
use crate::config::Config;
use crate::failure::{Done, Failure};
use crate::figures::Subject;
use crate::files::write_json;
use crate::inputs;
use crate::intensities::{Which, expect_contrast};
use crate::log::Log;
use crate::maps::consistency;
use crate::print::print;

/// Writes or prints the figures.
pub(crate) fn run(args: &EvaluateArgs, log: &Log) -> Done {
    let fixed = inputs::volume(&args.fixed, log)?;
    let found = match fixed.dimension() {
        2 => figures::<2>(args, &fixed, log)?,
        3 => figures::<3>(args, &fixed, log)?,
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

fn figures<const D: usize>(args: &EvaluateArgs, fixed: &Volume, log: &Log) -> Done<Value> {
    let grid: Grid<D> = fixed.geometry.grid().map_err(|problem| problem.at(&args.fixed))?;
    let chain = inputs::chain::<D>("--transform", &args.transforms)?;
    let map = chain.displacement(&grid)?;
    let lattice = fixed.geometry.lattice::<D>().map_err(|problem| problem.at(&args.fixed))?;
    beyond::voxels(&chain, &lattice, log)?;
    let moving = match &args.moving {
        None => None,
        Some(path) => {
            let volume = inputs::volume(path, log)?;
            inputs::common_dimension((&args.fixed, fixed), (path, &volume))?;
            Some(inputs::image::<D>(path, &volume)?)
        }
    };
    let target = inputs::image::<D>(&args.fixed, fixed)?;
    let labels = match (&args.beside.fixed_labels, &args.beside.moving_labels) {
        (Some(a), Some(b)) => {
            let fixed = inputs::labels::<D>(a)?;
            inputs::expect_grid(a, fixed.grid(), &grid)?;
            Some((inputs::onto(fixed, &grid)?, inputs::labels::<D>(b)?))
        }
        _ => None,
    };
    let beside = &args.beside;
    let files = (beside.fixed_landmarks.as_ref(), beside.moving_landmarks.as_ref());
    let landmarks = inputs::landmarks::<D>(files)?;
    if let Some((points, _)) = &landmarks {
        beyond::points(&chain, points, log)?;
    }
    let mut config = Config::default();
    if let (Some(path), Some(moving)) = (&args.moving, &moving) {
        let images = [
            (args.fixed.as_path(), &target, Which::Fixed),
            (path.as_path(), moving, Which::Moving),
        ];
        expect_contrast(images, &mut config, log)?;
    }
    let subject = Subject {
        images: moving.as_ref().map(|moving| (&target, moving)),
        intensities: config.intensities.mapping(),
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
