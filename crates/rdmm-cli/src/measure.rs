//! Similarity measures by name.

use rdmm_core::affine::{AffineRegistration, Transform};
use rdmm_core::grid::Grid;
use rdmm_core::model::Model;
use rdmm_core::registration::Registration;
use rdmm_core::similarity::{Lncc, MultiLncc, MutualInformation, Ncc, Nmi, Ssd};

use crate::config::{MeasureKind, SimilarityConfig};

/// Standard deviation of the windows of local NCC, in voxels of the coarsest spacing.
const WINDOW: f64 = 4.0;

impl SimilarityConfig {
    /// Standard deviation of the windows of local NCC, mm.
    pub(crate) fn window_for<const D: usize>(&self, grid: &Grid<D>) -> f64 {
        self.window.or_else(|| WINDOW * grid.coarsest_spacing())
    }

    /// A registration of `model` by this measure.
    pub(crate) fn registration<M: Model<f32, D>, const D: usize>(
        &self,
        model: M,
        grid: &Grid<D>,
    ) -> Registration<M, f32, D> {
        let sigma = self.window_for(grid);
        match self.measure {
            MeasureKind::Ssd => Registration::new(model, Ssd),
            MeasureKind::Ncc => Registration::new(model, Ncc),
            MeasureKind::Lncc => Registration::new(model, Lncc { sigma }),
            MeasureKind::MkLncc => Registration::new(model, MultiLncc::for_grid(grid)),
            MeasureKind::Mi => Registration::new(model, MutualInformation::default()),
            MeasureKind::Nmi => Registration::new(model, Nmi::default()),
        }
    }

    /// An affine registration by this measure.
    pub(crate) fn affine<const D: usize>(
        &self,
        transform: Transform,
        grid: &Grid<D>,
    ) -> AffineRegistration<f32, D> {
        let sigma = self.window_for(grid);
        match self.measure {
            MeasureKind::Ssd => AffineRegistration::new(transform, Ssd),
            MeasureKind::Ncc => AffineRegistration::new(transform, Ncc),
            MeasureKind::Lncc => AffineRegistration::new(transform, Lncc { sigma }),
            MeasureKind::MkLncc => AffineRegistration::new(transform, MultiLncc::for_grid(grid)),
            MeasureKind::Mi => AffineRegistration::new(transform, MutualInformation::default()),
            MeasureKind::Nmi => AffineRegistration::new(transform, Nmi::default()),
        }
    }
}
