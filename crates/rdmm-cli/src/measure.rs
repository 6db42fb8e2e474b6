//! Similarity measures by name.

use rdmm_core::grid::Grid;
use rdmm_core::similarity::{Lncc, Measure, MultiLncc, MutualInformation, Ncc, Nmi, Ssd};

use crate::config::{MeasureKind, SimilarityConfig};

/// Standard deviation of the windows of local NCC, in voxels of the coarsest spacing.
const WINDOW: f64 = 4.0;

impl SimilarityConfig {
    /// Standard deviation of the windows of local NCC, mm.
    pub(crate) fn window_for<const D: usize>(&self, grid: &Grid<D>) -> f64 {
        self.window.or_else(|| WINDOW * grid.coarsest_spacing())
    }

    /// The measure, for fixed images on `grid`.
    pub(crate) fn on<const D: usize>(&self, grid: &Grid<D>) -> Box<dyn Measure<f32, D>> {
        match self.measure {
            MeasureKind::Ssd => Box::new(Ssd),
            MeasureKind::Ncc => Box::new(Ncc),
            MeasureKind::Lncc => Box::new(Lncc { sigma: self.window_for(grid) }),
            MeasureKind::MkLncc => Box::new(MultiLncc::for_grid(grid)),
            MeasureKind::Mi => Box::new(MutualInformation::default()),
            MeasureKind::Nmi => Box::new(Nmi::default()),
        }
    }
}
