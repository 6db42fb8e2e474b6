//! Similarity measures by name.

use rdmm_core::grid::Grid;
use rdmm_core::similarity::{
    Lncc, LnccVoxels, Measure, MultiLncc, MutualInformation, Ncc, Nmi, Ssd,
};

use crate::config::{AffineKind, MeasureKind, SimilarityConfig};

impl MeasureKind {
    /// What suits the affine registration before one by this. By what was measured: of volumes cropped to hippocampi, the
    /// affine map of the best global correlation overlaps less than that of the best local one. Rigid maps, which have
    /// no scales and shears to go astray by, overlap more by the global one.
    pub(crate) fn of_affine(self, transform: AffineKind) -> Self {
        match (self, transform) {
            (Self::Mi | Self::Nmi, _) => Self::Nmi,
            (Self::Lncc, AffineKind::Similarity | AffineKind::Affine) => Self::Lncc,
            (Self::Ssd | Self::Ncc | Self::Lncc | Self::MkLncc, _) => Self::Ncc,
        }
    }

    /// Whether it sees neighbourhoods alone.
    pub(crate) fn is_local(self) -> bool {
        matches!(self, Self::Lncc | Self::MkLncc)
    }
}

impl SimilarityConfig {
    /// The weight that is named, or that of the measure: local windows have the same weight in voxels and in mm.
    pub(crate) fn weight_on<const D: usize>(&self, grid: &Grid<D>) -> f64 {
        self.weight.or_else(|| match self.measure {
            MeasureKind::Lncc => {
                Measure::<f32, D>::default_weight(&LnccVoxels { sigma: self.window_voxels })
            }
            _ => self.on(grid).default_weight(),
        })
    }

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
