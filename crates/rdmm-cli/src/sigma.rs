//! The local standard deviation of a regulariser, from the weights that were written.

use std::path::Path;

use rdmm_core::evaluate::local_standard_deviation;
use rdmm_core::field::{Image, Weights};
use rdmm_core::grid::Grid;
use rdmm_core::ops::resample::Resample;
use serde_json::Value;

use crate::failure::{Done, Failure};

/// √(Σ w_i² σ_i²) at t = 0 and t = 1, on the grid of the fixed image; `None` for an affine registration.
pub(crate) fn of_folder<const D: usize>(
    folder: &Path,
    json: &Value,
    grid: &Grid<D>,
) -> Done<Option<[Image<f32, D>; 2]>> {
    let sigmas: Vec<f64> = json["configuration"]["regulariser"]["sigmas"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_f64)
        .collect();
    let paths = ["weights_t0.nii.gz", "weights_t1.nii.gz"].map(|name| folder.join(name));
    if !paths.iter().all(|path| path.is_file()) {
        return Ok(None);
    }
    let read = |path: &Path| -> Done<Image<f32, D>> {
        let volume = rdmm_io::read(path)?;
        let weights: Weights<f32, D> =
            volume.components_field().map_err(|problem| problem.at(path))?;
        // The box of the fixed grid, to the rounding of the file.
        let over = grid.resampled(weights.grid().shape())?;
        let sigma = local_standard_deviation(&weights.on_grid(&over)?, &sigmas)
            .map_err(|error| Failure::at(path.display(), error))?;
        Ok(Resample::new(&over, grid).field(&sigma)?)
    };
    let [a, b] = paths.each_ref().map(|path| read(path));
    Ok(Some([a?, b?]))
}
