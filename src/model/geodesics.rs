//! LDDMM with any kernel.

use std::fmt;

use super::geodesic::GeodesicShooting;
use super::preconditioner::Smoothing;
use super::{BoxedInverse, BoxedKernel, Domain, Model};
use crate::dynamics::Epdiff;
use crate::error::Result;
use crate::field::{Displacement, Momentum};
use crate::grid::Grid;
use crate::metric::Fixed;
use crate::model::weights::Uniform;
use crate::ops::difference::Order;
use crate::scalar::Real;

/// A recipe for an operator on a grid.
type Recipe<T, const D: usize> = dyn Fn(&Grid<D>) -> Result<BoxedKernel<T>> + Send + Sync;
/// A recipe for an approximate inverse: ε and the grid.
type InverseRecipe<T, const D: usize> =
    dyn Fn(f64, &Grid<D>) -> Result<BoxedKernel<T>> + Send + Sync;

/// Geodesics of the metric v = K m with a kernel K of your own: LDDMM, where
/// [`Lddmm`](super::Lddmm) has a sum of Gaussians.
///
/// ```
/// use rdmm_core::grid::Grid;
/// use rdmm_core::kernel::Gaussian;
/// use rdmm_core::model::Geodesics;
/// use rdmm_core::registration::Registration;
/// use rdmm_core::similarity::Ssd;
/// use rdmm_core::synthetic::Shapes;
///
/// let grid = Grid::<2>::unit([32, 32])?;
/// let pair = Shapes::default().with_outside(1).pair::<f32, 2>(&grid)?;
/// let model = Geodesics::new(0.1, |grid| Gaussian::new(grid, 0.1));
/// let result = Registration::new(model, Ssd).run(&pair.fixed, &pair.moving)?;
/// assert_eq!(result.report.folds.total().folded, 0);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
pub struct Geodesics<T, const D: usize> {
    kernel: std::sync::Arc<Recipe<T, D>>,
    inverse: Option<std::sync::Arc<InverseRecipe<T, D>>>,
    smallest_scale: f64,
    order: Order,
}

impl<T, const D: usize> Clone for Geodesics<T, D> {
    fn clone(&self) -> Self {
        let (kernel, inverse) = (self.kernel.clone(), self.inverse.clone());
        Self { kernel, inverse, smallest_scale: self.smallest_scale, order: self.order }
    }
}

impl<T, const D: usize> fmt::Debug for Geodesics<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Geodesics")
            .field("smallest_scale", &self.smallest_scale)
            .field("order", &self.order)
            .finish_non_exhaustive()
    }
}

impl<T: Real, const D: usize> Geodesics<T, D> {
    /// Geodesics of the kernel that `kernel` makes on a grid. Velocities must vary over `smallest_scale` (physical units)
    /// and more: map grids are kept fine enough for it. Fourth-order differences, no preconditioner.
    pub fn new<K: crate::kernel::Kernel<T> + 'static>(
        smallest_scale: f64,
        kernel: impl Fn(&Grid<D>) -> Result<K> + Send + Sync + 'static,
    ) -> Self {
        let kernel =
            move |grid: &Grid<D>| -> Result<BoxedKernel<T>> { Ok(Box::new(kernel(grid)?)) };
        let (kernel, order) = (std::sync::Arc::new(kernel), Order::default());
        Self { kernel, inverse: None, smallest_scale, order }
    }

    /// The same with an approximate inverse for the optimiser, (K + ε)⁻¹ or the like with ε relative to the largest
    /// multiplier: symmetric, positive definite, up to a factor. It saves evaluations.
    #[must_use]
    pub fn with_inverse<K: crate::kernel::Kernel<T> + 'static>(
        mut self,
        inverse: impl Fn(f64, &Grid<D>) -> Result<K> + Send + Sync + 'static,
    ) -> Self {
        let inverse = move |epsilon, grid: &Grid<D>| -> Result<BoxedKernel<T>> {
            Ok(Box::new(inverse(epsilon, grid)?))
        };
        self.inverse = Some(std::sync::Arc::new(inverse));
        self
    }

    /// The same with differences of another order.
    #[must_use]
    pub fn with_order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }
}

impl<T: Real, const D: usize> Model<T, D> for Geodesics<T, D> {
    type Shooting = GeodesicShooting<Fixed<BoxedKernel<T>>, Uniform, T, D>;

    fn name(&self) -> &'static str {
        "LDDMM"
    }

    fn smallest_sigma(&self) -> f64 {
        self.smallest_scale
    }

    fn discretise(&self, Domain { grid, .. }: &Domain<D>) -> Result<Self::Shooting> {
        crate::error::positive("smallest scale of a kernel", self.smallest_scale)?;
        let metric = Fixed::new((self.kernel)(grid)?);
        let shooting = GeodesicShooting::new(Epdiff::new(grid, metric, self.order), Uniform)?;
        Ok(match self.inverse.clone() {
            None => shooting,
            Some(inverse) => {
                let grid = grid.clone();
                shooting.with_preconditioner(
                    move |epsilon: f64| -> Result<BoxedInverse<T, Momentum<T, D>>> {
                        Ok(Box::new(Smoothing::new(inverse(epsilon, &grid)?)))
                    },
                )
            }
        })
    }

    fn advected_by(&self, _map: &Displacement<T, D>) -> Result<Self> {
        Ok(self.clone())
    }
}
