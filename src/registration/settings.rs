//! Settings of a registration, with defaults for images of any unit and size.

use std::time::Duration;

use super::intensity::Intensities;
use crate::adjoint::Integration;
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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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
///
/// ```
/// use std::time::Duration;
/// use rdmm_core::registration::{Level, Settings};
///
/// let settings = Settings::default()
///     .with_levels(vec![Level { factor: 2.0, iterations: 30 }])
///     .with_time_limit(Duration::from_secs(60));
/// assert_eq!(settings.map_factor, 2.0);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct Settings {
    /// λ, the weight of the similarity; `None` takes the measure's default.
    pub similarity_weight: Option<f64>,
    /// Levels from coarse to fine; `None` takes [`Settings::default_levels`].
    pub levels: Option<Vec<Level>>,
    /// Maps have this many times fewer voxels an axis than the images of their level, as far as the
    /// smallest σ allows.
    pub map_factor: f64,
    /// Fewest voxels of the map grid that the smallest σ spans on the last level, from 0.6; those before it, which only prepare
    /// the next, take 0.6. 1.25 by default: with one, RDMM with an optimised regulariser loses 0.013 of overlap
    /// on the hippocampi of the validation, with more nothing is gained on any of its images.
    pub sigma_voxels: f64,
    /// Time integration.
    pub integration: Integration,
    /// The optimiser.
    pub search: Search,
    /// Grey values.
    pub intensities: Intensities,
    /// The determinants of Φ⁻¹, the non-linear part, stay above this, and below its reciprocal, in every cell of the
    /// fixed image's grid ([`cell_determinants`](crate::ops::cells::cell_determinants)), at every iterate and in the
    /// result: a number from 0, which promises a map without folds, to below 1. A barrier
    /// ([`fold_barrier`](crate::ops::barrier::fold_barrier)) pushes back over the first two fifths of the way from here to 1;
    /// controls beyond it count as infinitely high, so that the line search takes a smaller step; what a level starts from
    /// is scaled down until it holds ([`LevelReport::shrunk`](super::LevelReport::shrunk)). In the result, what
    /// interpolation from a coarser last level leaves is smoothed away around the cells where it is
    /// ([`Unfold`](crate::ops::unfold::Unfold)), and the forward map is held to the same bound by that means alone: the
    /// [report](super::Report) says where. 0.05 by default; `None` promises nothing. One pass over the map more an
    /// evaluation.
    pub min_jacobian: Option<f64>,
    /// Value of the warped image where the map leads more than half a voxel beyond the moving image: nothing is known
    /// there. 0 by default; −1000 suits air in CT.
    pub fill: f64,
    /// Wall time of a run, of each pair of a batch or of a whole chain. It is looked at after each iteration; once it
    /// is over, the best state so far is the result, and the report [says so](super::Report::timed_out). No limit by
    /// default.
    pub time_limit: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            similarity_weight: None,
            levels: None,
            map_factor: 2.0,
            sigma_voxels: 1.25,
            integration: Integration::default(),
            search: Search::default(),
            intensities: Intensities::default(),
            min_jacobian: Some(LEAST_JACOBIAN),
            fill: 0.0,
            time_limit: None,
        }
    }
}

/// Default of [`Settings::min_jacobian`]: voxels shrink to a twentieth of their size at most.
const LEAST_JACOBIAN: f64 = 0.05;

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

    /// The levels for a fixed image on `grid`.
    pub(super) fn levels_for<const D: usize>(&self, grid: &Grid<D>) -> Vec<Level> {
        self.levels.clone().unwrap_or_else(|| Self::default_levels(grid))
    }

    /// The same with another [`Settings::similarity_weight`].
    #[must_use]
    pub fn with_similarity_weight(mut self, weight: f64) -> Self {
        self.similarity_weight = Some(weight);
        self
    }

    /// The same with these levels, from coarse to fine.
    #[must_use]
    pub fn with_levels(mut self, levels: Vec<Level>) -> Self {
        self.levels = Some(levels);
        self
    }

    /// The same with another [`Settings::map_factor`].
    #[must_use]
    pub fn with_map_factor(mut self, factor: f64) -> Self {
        self.map_factor = factor;
        self
    }

    /// The same with another [`Settings::sigma_voxels`].
    #[must_use]
    pub fn with_sigma_voxels(mut self, voxels: f64) -> Self {
        self.sigma_voxels = voxels;
        self
    }

    /// The same with another time integration.
    #[must_use]
    pub fn with_integration(mut self, integration: Integration) -> Self {
        self.integration = integration;
        self
    }

    /// The same with another optimiser.
    #[must_use]
    pub fn with_search(mut self, search: Search) -> Self {
        self.search = search;
        self
    }

    /// The same with other rules for grey values.
    #[must_use]
    pub fn with_intensities(mut self, intensities: Intensities) -> Self {
        self.intensities = intensities;
        self
    }

    /// The same with another [`Settings::min_jacobian`], `None` for no bound.
    #[must_use]
    pub fn with_min_jacobian(mut self, bound: Option<f64>) -> Self {
        self.min_jacobian = bound;
        self
    }

    /// The same with another [`Settings::fill`].
    #[must_use]
    pub fn with_fill(mut self, fill: f64) -> Self {
        self.fill = fill;
        self
    }

    /// The same with a [`Settings::time_limit`].
    #[must_use]
    pub fn with_time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
    }

    pub(super) fn validate(&self) -> Result<()> {
        if let Some(weight) = self.similarity_weight {
            positive("weight of the similarity", weight)?;
        }
        self.levels.as_deref().map(Level::validate).transpose()?;
        if !(self.map_factor.is_finite() && self.map_factor >= 1.0) {
            return Err(Error::setting("map factor", "a finite number ≥ 1", self.map_factor));
        }
        if !(self.sigma_voxels.is_finite() && self.sigma_voxels >= 0.6) {
            let (name, expected) = ("voxels of the smallest σ", "a finite number ≥ 0.6");
            return Err(Error::setting(name, expected, self.sigma_voxels));
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
