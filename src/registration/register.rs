//! Registrations whose model is chosen at run time.

use std::ops::ControlFlow;

use super::builder::Registration;
use super::chain::Chain;
use super::progress::Progress;
use super::result::Registered;
use super::run::Begin;
use crate::error::Result;
use crate::field::Image;
use crate::labels::Labels;
use crate::model::Model;
use crate::scalar::Real;

/// A registration of any model, as `Box<dyn Register<T, D>>`: every [`Registration`] is one.
///
/// ```
/// use std::ops::ControlFlow;
///
/// use rdmm_core::grid::Grid;
/// use rdmm_core::model::{Lddmm, MultiGaussian, Vsvf};
/// use rdmm_core::registration::{Register, Registration};
/// use rdmm_core::similarity::Ssd;
/// use rdmm_core::synthetic::Shapes;
///
/// let grid = Grid::<2>::unit([32, 32])?;
/// let metric = MultiGaussian::for_grid(&grid);
/// let registration = |name: &str| -> Box<dyn Register<f32, 2>> {
///     match name {
///         "vsvf" => Box::new(Registration::new(Vsvf::new(metric.clone()), Ssd)),
///         _ => Box::new(Registration::new(Lddmm::new(metric.clone()), Ssd)),
///     }
/// };
/// let pair = Shapes::default().with_outside(1).pair::<f32, 2>(&grid)?;
/// for name in ["vsvf", "lddmm"] {
///     let chosen = registration(name);
///     let found = chosen.register(&pair.fixed, &pair.moving, &mut |_| ControlFlow::Continue(()))?;
///     assert_eq!(found.report.folds.total().folded, 0);
/// }
/// # Ok::<(), rdmm_core::Error>(())
/// ```
pub trait Register<T: Real, const D: usize>: Send + Sync {
    /// [`Registration::run_with`].
    ///
    /// # Errors
    /// Those of [`Registration::run`].
    fn register(
        &self,
        fixed: &Image<T, D>,
        moving: &Image<T, D>,
        observer: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Registered<T, D>>;

    /// [`Registration::run_labels`], with an observer.
    ///
    /// # Errors
    /// Those of [`Registration::run_labels`].
    fn register_labels(
        &self,
        fixed: &Labels<D>,
        moving: &Labels<D>,
        sigma: f64,
        observer: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Registered<T, D>>;

    /// [`Registration::run_chain_from`].
    ///
    /// # Errors
    /// Those of [`Registration::run_chain_from`].
    fn register_chain(
        &self,
        chain: Option<Chain<T, D>>,
        fixed: &Image<T, D>,
        moving: &Image<T, D>,
        legs: usize,
        observer: &mut dyn FnMut(usize, &Progress) -> ControlFlow<()>,
    ) -> Result<Chain<T, D>>;

    /// [`Registration::run_batch`].
    fn register_batch(
        &self,
        pairs: &[(&Image<T, D>, &Image<T, D>)],
        jobs: usize,
        observer: &(dyn Fn(usize, &Progress) -> ControlFlow<()> + Sync),
    ) -> Vec<Result<Registered<T, D>>>;
}

impl<M: Model<T, D> + Send + Sync, T: Real, const D: usize> Register<T, D>
    for Registration<M, T, D>
{
    fn register(
        &self,
        fixed: &Image<T, D>,
        moving: &Image<T, D>,
        observer: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Registered<T, D>> {
        self.run_with(fixed, moving, observer)
    }

    fn register_labels(
        &self,
        fixed: &Labels<D>,
        moving: &Labels<D>,
        sigma: f64,
        observer: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Registered<T, D>> {
        let watch = |progress: &Progress, _: &dyn Fn() -> _| observer(progress);
        Ok(self.run_labels_from(fixed, moving, sigma, Begin::Identity, watch)?.result)
    }

    fn register_chain(
        &self,
        chain: Option<Chain<T, D>>,
        fixed: &Image<T, D>,
        moving: &Image<T, D>,
        legs: usize,
        observer: &mut dyn FnMut(usize, &Progress) -> ControlFlow<()>,
    ) -> Result<Chain<T, D>> {
        self.run_chain_from(chain, fixed, moving, legs, observer)
    }

    fn register_batch(
        &self,
        pairs: &[(&Image<T, D>, &Image<T, D>)],
        jobs: usize,
        observer: &(dyn Fn(usize, &Progress) -> ControlFlow<()> + Sync),
    ) -> Vec<Result<Registered<T, D>>> {
        self.run_batch(pairs, jobs, observer)
    }
}
