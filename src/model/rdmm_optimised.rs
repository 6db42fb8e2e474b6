//! The recipe of RDMM with weights that are optimised.

use std::sync::Arc;

use super::MultiGaussian;
use super::regions::Advected;
use crate::error::Result;
use crate::regularize::{Omt, RangePenalty, Regularizer, TotalVariation};
use crate::scalar::Real;

/// RDMM with a regulariser that is optimised with the momentum.
///
/// Nothing but the penalties keeps the weights from small Gaussians, which make local deformations cheap
/// and maps steep. Penalties may be anybody's, so the recipe has no serde form: store its metric, σ of G and the
/// penalties, each of its own type.
///
/// # References
/// Shen, Vialard, Niethammer, `NeurIPS` 2019, arXiv:1906.00139, Section 3.
///
/// ```
/// use rdmm_core::grid::Grid;
/// use rdmm_core::model::{MultiGaussian, RdmmOptimised};
/// let grid = Grid::<2>::unit([64, 64])?;
/// let model = RdmmOptimised::<f32, 2>::new(MultiGaussian::for_grid(&grid), 0.05)?;
/// let names: Vec<_> = model.penalties().iter().map(|p| p.name()).collect();
/// assert_eq!(names, ["OMT", "total variation", "range"]);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RdmmOptimised<T, const D: usize, S = f64> {
    metric: MultiGaussian<S>,
    smoothing: f64,
    advected: Advected,
    penalties: Vec<Arc<dyn Regularizer<T, D>>>,
}

/// Default λ of OMT, of total variation and of the range penalty, for the default weights of the
/// similarities. The validation page of the book says how they were found.
const PENALTIES: [f64; 3] = [5e-4, 1e-4, 5e-4];

impl<T: Real, const D: usize, S: Clone> RdmmOptimised<T, D, S> {
    /// RDMM that starts from this metric everywhere, with G of this standard deviation (physical units) and the
    /// default penalties; pre-weights are advected. For the penalties a covariance Σ counts with
    /// σ = det(Σ)^(1/2D), which must increase.
    ///
    /// # Errors
    /// None for a metric that was checked when it was made; those of the default penalties.
    pub fn new(metric: MultiGaussian<S>, smoothing: f64) -> Result<Self> {
        let [omt, tv, range] = PENALTIES;
        let penalties: Vec<Arc<dyn Regularizer<T, D>>> = vec![
            Arc::new(Omt::new(omt)?),
            Arc::new(TotalVariation::new(tv)?),
            Arc::new(RangePenalty::new(range, metric.weights())?),
        ];
        Ok(Self { metric, smoothing, advected: Advected::default(), penalties })
    }

    /// The same with the weights that the flow advects; pre-weights by default.
    #[must_use]
    pub fn with_advected(mut self, advected: Advected) -> Self {
        self.advected = advected;
        self
    }

    /// The same with one penalty more.
    #[must_use]
    pub fn with_penalty(mut self, penalty: Arc<dyn Regularizer<T, D>>) -> Self {
        self.penalties.push(penalty);
        self
    }

    /// The same with these penalties in place of the present ones; an empty list for none.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use rdmm_core::grid::Grid;
    /// use rdmm_core::model::{MultiGaussian, RdmmOptimised};
    /// use rdmm_core::regularize::Omt;
    /// let metric = MultiGaussian::for_grid(&Grid::<2>::unit([64, 64])?);
    /// let model = RdmmOptimised::<f32, 2>::new(metric, 0.05)?;
    /// let model = model.with_penalties(vec![Arc::new(Omt::new(1e-3)?)]);
    /// assert_eq!(model.penalties().len(), 1);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    #[must_use]
    pub fn with_penalties(mut self, penalties: Vec<Arc<dyn Regularizer<T, D>>>) -> Self {
        self.penalties = penalties;
        self
    }

    /// The metric that the optimisation starts from, everywhere.
    #[must_use]
    pub fn metric(&self) -> &MultiGaussian<S> {
        &self.metric
    }

    /// Standard deviation of G, physical units.
    #[must_use]
    pub fn smoothing(&self) -> f64 {
        self.smoothing
    }

    /// Which weights the flow advects.
    #[must_use]
    pub fn advected(&self) -> Advected {
        self.advected
    }

    /// What the weights cost.
    #[must_use]
    pub fn penalties(&self) -> &[Arc<dyn Regularizer<T, D>>] {
        &self.penalties
    }
}
