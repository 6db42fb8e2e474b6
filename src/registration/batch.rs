//! Many pairs at once.

use std::ops::ControlFlow;

use super::builder::Registration;
use super::progress::Progress;
use super::result::Registered;
use crate::error::Result;
use crate::field::Image;
use crate::model::Model;
use crate::par;
use crate::scalar::Real;

impl<M: Model<T, D> + Sync, T: Real, const D: usize> Registration<M, T, D> {
    /// Registers independent pairs, each a fixed and a moving image, `jobs` of them at a time (at least one). Each
    /// result, in the order of the pairs, has the same bits as by [`Registration::run`]; a pair that fails does
    /// not stop the others.
    ///
    /// The pairs share the threads: one pair a thread wastes less than all threads on one pair after the other.
    /// Memory is that of `jobs` registrations at once, each with the bytes of
    /// [`Checkpoints`](crate::adjoint::Checkpoints): 2 GiB by default, where a flow is that large. Plans (operators of
    /// the Gaussians, Fourier transforms) are made a level and pair, in a thousandth of the time of one evaluation:
    /// there is nothing to gain by sharing them.
    ///
    /// `observer(pair, progress)` is called from several threads; it stops the registration of that pair.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    ///
    /// use rdmm_core::grid::Grid;
    /// use rdmm_core::model::{Lddmm, MultiGaussian};
    /// use rdmm_core::registration::Registration;
    /// use rdmm_core::similarity::Ssd;
    /// use rdmm_core::synthetic::Shapes;
    ///
    /// let grid = Grid::<2>::unit([32, 32])?;
    /// let shapes = |seed| Shapes::default().with_seed(seed).with_outside(1);
    /// let pairs = [shapes(1).pair::<f32, 2>(&grid)?, shapes(2).pair(&grid)?];
    /// let images = pairs.each_ref().map(|pair| (&pair.fixed, &pair.moving));
    /// let registration = Registration::new(Lddmm::new(MultiGaussian::for_grid(&grid)), Ssd);
    /// let results = registration.run_batch(&images, 2, |_, _| ControlFlow::Continue(()));
    /// for result in results {
    ///     assert_eq!(result?.report.folds.total().folded, 0);
    /// }
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn run_batch(
        &self,
        pairs: &[(&Image<T, D>, &Image<T, D>)],
        jobs: usize,
        observer: impl Fn(usize, &Progress) -> ControlFlow<()> + Sync,
    ) -> Vec<Result<Registered<T, D>>> {
        par::queue(pairs.len(), jobs, |index| {
            let (fixed, moving) = pairs[index];
            self.run_with(fixed, moving, |progress| observer(index, progress))
        })
    }
}
