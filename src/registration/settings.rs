//! Settings of a registration, with defaults for images of any unit and size.

use super::Intensities;
use crate::adjoint::sweep::Integration;
use crate::error::{Error, Result, positive};
use crate::grid::Grid;
use crate::optim::{Adam, Lbfgs};

/// One level of the pyramid.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Level {
    /// The images have this many times fewer voxels an axis.
    pub factor: f64,
    /// Most iterations of the optimiser.
    pub iterations: usize,
}

impl Level {
    /// `Ok` if there are levels and their factors are at least one.
    pub(crate) fn validate(levels: &[Self]) -> Result<()> {
        for Self { factor, .. } in levels {
            if !(factor.is_finite() && *factor >= 1.0) {
                return Err(Error::setting("factor of a level", "a finite number ≥ 1", factor));
            }
        }
        if levels.is_empty() {
            return Err(Error::Length { what: "levels", expected: 1, found: 0 });
        }
        Ok(())
    }
}

/// How controls are sought.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Search {
    /// L-BFGS that starts from the model's inverse metric (K̄ + ε)⁻¹.
    MetricLbfgs {
        /// The optimiser; its iterations are those of the level.
        lbfgs: Lbfgs,
        /// ε, relative to the largest multiplier of K̄.
        epsilon: f64,
    },
    /// L-BFGS in the Euclidean inner product.
    EuclideanLbfgs(Lbfgs),
    /// Adam.
    Adam(Adam),
}

impl Default for Search {
    fn default() -> Self {
        let lbfgs = Lbfgs { value_tolerance: 5e-3, ..Lbfgs::default() };
        Self::MetricLbfgs { lbfgs, epsilon: 1e-3 }
    }
}

/// Everything that is not model, measure or data.
#[derive(Clone, Debug)]
pub struct Settings {
    /// λ, the weight of the similarity; `None` takes the measure's default.
    pub similarity_weight: Option<f64>,
    /// Levels from coarse to fine; `None` takes [`Settings::default_levels`].
    pub levels: Option<Vec<Level>>,
    /// Maps have this many times fewer voxels an axis than the images of their level, as far as the
    /// smallest σ allows.
    pub map_factor: f64,
    /// Time integration.
    pub integration: Integration,
    /// The optimiser.
    pub search: Search,
    /// Grey values.
    pub intensities: Intensities,
    /// The full determinant of DΦ⁻¹, the non-linear part, stays above this on the fixed image's grid, at
    /// every iterate and in the result: a number from 0, which promises a map without folds, to below 1.
    /// A barrier ([`fold_barrier`](crate::ops::jacobian::fold_barrier)) pushes back over the first quarter
    /// of the way from here to 1; controls beyond it count as infinitely high, so that the line search
    /// takes a smaller step; what a level starts from is scaled down until it holds. 0.05 by default;
    /// `None` promises nothing. One determinant and its transpose more an evaluation.
    pub min_jacobian: Option<f64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            similarity_weight: None,
            levels: None,
            map_factor: 2.0,
            integration: Integration::default(),
            search: Search::default(),
            intensities: Intensities::default(),
            min_jacobian: Some(LEAST_JACOBIAN),
        }
    }
}

/// Default of [`Settings::min_jacobian`]: voxels shrink to a twentieth of their size at most.
const LEAST_JACOBIAN: f64 = 0.05;

/// Voxels of the map grid a smallest σ, on the last level and on those before, which only prepare the next:
/// with one on the last level, RDMM with an optimised regulariser loses 0.013 of overlap
/// on the hippocampi, with more than these nothing is gained on any of the images of the validation.
pub(super) const VOXELS_A_SIGMA: [f64; 2] = [1.25, 0.6];

/// A coarse level has at least this many voxels an axis.
const COARSEST: usize = 12;

impl Settings {
    /// Levels of ¼, ½ and full resolution, those left out that would have fewer than 12 voxels along an
    /// axis.
    #[must_use]
    pub fn default_levels<const D: usize>(grid: &Grid<D>) -> Vec<Level> {
        let all = [(4.0, 60), (2.0, 60), (1.0, 60)];
        let fits = |factor: f64| {
            factor <= 1.0 || grid.shape().iter().all(|&n| n as f64 / factor >= COARSEST as f64)
        };
        let levels = all.into_iter().filter(|&(factor, _)| fits(factor));
        levels.map(|(factor, iterations)| Level { factor, iterations }).collect()
    }

    pub(super) fn validate(&self) -> Result<()> {
        if let Some(weight) = self.similarity_weight {
            positive("weight of the similarity", weight)?;
        }
        self.levels.as_deref().map(Level::validate).transpose()?;
        if !(self.map_factor.is_finite() && self.map_factor >= 1.0) {
            return Err(Error::setting("map factor", "a finite number ≥ 1", self.map_factor));
        }
        match &self.search {
            Search::MetricLbfgs { lbfgs, epsilon } => {
                positive("epsilon of the inverse metric", *epsilon)?;
                lbfgs.validate()?;
            }
            Search::EuclideanLbfgs(lbfgs) => lbfgs.validate()?,
            Search::Adam(adam) => adam.validate()?,
        }
        self.intensities.validate()?;
        if let Some(bound) = self.min_jacobian.filter(|bound| !(0.0..1.0).contains(bound)) {
            let expected = "a number from 0 to below 1, which the identity has";
            return Err(Error::setting("smallest determinant", expected, bound));
        }
        self.integration.validate()
    }
}

/// The grid of momentum and map for images on `images`: `factor` times coarser, but with at least
/// `voxels_a_sigma` voxels a smallest σ, and never finer than `finest`.
pub(super) fn map_grid<const D: usize>(
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
