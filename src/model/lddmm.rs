//! LDDMM: one metric everywhere.

use super::geodesic::GeodesicShooting;
use super::scale::{GaussianSpec, smallest};
use super::weights::Uniform;
use super::{BoxedKernel, Domain, Model, MultiGaussian, windowed};
use crate::dynamics::Epdiff;
use crate::error::Result;
use crate::field::Displacement;
use crate::kernel::Identity;
use crate::metric::Homogeneous;
use crate::scalar::Real;

/// LDDMM: EPDiff with one multi-Gaussian metric everywhere.
///
/// # References
/// Beg et al., IJCV 61 (2005), doi:10.1023/B:VISI.0000043755.93987.aa; Vialard et al., IJCV 97 (2012),
/// doi:10.1007/s11263-011-0481-8.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(bound(deserialize = "S: Clone + serde::Deserialize<'de>")))]
pub struct Lddmm<S = f64> {
    metric: MultiGaussian<S>,
}

impl<S> Lddmm<S> {
    /// LDDMM with this metric.
    #[must_use]
    pub fn new(metric: MultiGaussian<S>) -> Self {
        Self { metric }
    }

    /// The metric.
    #[must_use]
    pub fn metric(&self) -> &MultiGaussian<S> {
        &self.metric
    }
}

impl<T: Real, const D: usize, S: GaussianSpec<D>> Model<T, D> for Lddmm<S> {
    type Shooting = GeodesicShooting<Homogeneous<BoxedKernel<T>>, Uniform, T, D>;

    fn name(&self) -> &'static str {
        "LDDMM"
    }

    fn smallest_sigma(&self) -> f64 {
        smallest(self.metric.sigmas())
    }

    fn advected_by(&self, _map: &Displacement<T, D>) -> Result<Self> {
        Ok(self.clone())
    }

    fn discretise(&self, Domain { grid, .. }: &Domain<D>) -> Result<Self::Shooting> {
        let metric = &self.metric;
        let (bank, squares) = (metric.bank::<T, D>(grid)?, metric.weights());
        let kernel = windowed(bank.combined(squares)?, grid, metric.border())?;
        let evolution = Epdiff::new(grid, Homogeneous::new(kernel), metric.order());
        let shooting = GeodesicShooting::new(evolution, Uniform)?;
        Ok(shooting.of_bank(bank, squares.to_vec(), Box::new(Identity)))
    }
}
