//! Similarity measures by name.

use rdmm_core::grid::Grid;
use rdmm_core::similarity::{
    Lncc, LnccVoxels, Measure, MultiLncc, MutualInformation, Ncc, Nmi, Ssd,
};

use crate::config::{MeasureKind, SimilarityConfig};

impl MeasureKind {
    /// What suits the affine registration before one by this: local correlations are flat far from the optimum.
    pub(crate) fn of_affine(self) -> Self {
        match self {
            Self::Mi | Self::Nmi => Self::Nmi,
            Self::Ssd | Self::Ncc | Self::Lncc | Self::MkLncc => Self::Ncc,
        }
    }
}

impl SimilarityConfig {
    /// The measure, for fixed images on `grid`.
    pub(crate) fn on<const D: usize>(&self, grid: &Grid<D>) -> Box<dyn Measure<f32, D>> {
        match self.measure {
            MeasureKind::Ssd => Box::new(Ssd),
            MeasureKind::Ncc => Box::new(Ncc),
            MeasureKind::Lncc => match (self.window.value(), self.window_voxels) {
                (Some(sigma), _) => Box::new(Lncc { sigma }),
                (None, sigma) => Box::new(LnccVoxels { sigma }),
            },
            MeasureKind::MkLncc => Box::new(MultiLncc::for_grid(grid)),
            MeasureKind::Mi => Box::new(MutualInformation::default()),
            MeasureKind::Nmi => Box::new(Nmi::default()),
        }
    }
}
