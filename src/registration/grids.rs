//! The grids of a level, before anything is built on them.

use super::settings::{Level, Settings};
use crate::error::Result;
use crate::grid::Grid;

/// Where a level of a registration lives.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct LevelGrids<const D: usize> {
    /// Which level, from 0 for the coarsest.
    pub level: usize,
    /// The fixed image's grid at the resolution of the level.
    pub images: Grid<D>,
    /// The grid of momentum, weights and map.
    pub maps: Grid<D>,
}

/// [`Settings::sigma_voxels`] of the levels before the last one, which only prepare the next: more gains nothing on any of
/// the images of the validation, and a Gaussian cannot span fewer than half a voxel.
const BEFORE_THE_LAST: f64 = 0.6;

/// The grids of each level for a fixed image on `finest`.
pub(super) fn level_grids<const D: usize>(
    finest: &Grid<D>,
    levels: &[Level],
    settings: &Settings,
    smallest_sigma: f64,
) -> Result<Vec<LevelGrids<D>>> {
    let of = |(level, &Level { factor, .. }): (usize, &Level)| {
        let images = finest.coarsened(factor)?;
        let last = level + 1 == levels.len();
        let voxels = if last { settings.sigma_voxels } else { BEFORE_THE_LAST };
        let maps = map_grid(&images, finest, settings.map_factor, smallest_sigma, voxels)?;
        Ok(LevelGrids { level, images, maps })
    };
    levels.iter().enumerate().map(of).collect()
}

/// The grid of momentum and map for images on `images`: `factor` times coarser, but with at least
/// `voxels_a_sigma` voxels a smallest σ, and never finer than `finest`.
fn map_grid<const D: usize>(
    images: &Grid<D>,
    finest: &Grid<D>,
    factor: f64,
    smallest_sigma: f64,
    voxels_a_sigma: f64,
) -> Result<Grid<D>> {
    let wanted = images.coarsened(factor)?.shape();
    let extent = finest.extent();
    finest.resampled(std::array::from_fn(|a| {
        let resolving = (voxels_a_sigma * extent[a] / smallest_sigma).ceil();
        #[expect(clippy::cast_possible_truncation, reason = "bounded by the finest grid below")]
        #[expect(clippy::cast_sign_loss, reason = "a ratio of lengths")]
        let resolving = resolving.min(finest.shape()[a] as f64) as usize;
        wanted[a].max(resolving)
    }))
}
