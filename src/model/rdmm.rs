//! The recipe of RDMM with given weights.

use super::multi_gaussian::BORDER;
use super::regions::{Advected, pre_weights, pre_weights_as_given, pre_weights_at, weights_at};
use crate::error::{Error, Result, positive};
use crate::field::{Displacement, Weights};
use crate::grid::Grid;
use crate::kernel::Covariance;
use crate::kernel::gaussian::{SUM_OF_WEIGHTS, expect_tolerance};
use crate::ops::difference::Order;
use crate::scalar::Real;
use crate::space::StateSpace;
use crate::world::Affine;

/// RDMM with a given regulariser: the weights of the Gaussians at every voxel of the source image, by their weights
/// h² ([`Rdmm::new`]) or as they are ([`Rdmm::from_pre_weights`]). The Gaussians are given by standard deviations
/// or, [`Rdmm::anisotropic`], by covariances.
///
/// # References
/// Shen, Vialard, Niethammer, `NeurIPS` 2019, arXiv:1906.00139.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "StoredRdmm<T, D, S>"))]
#[cfg_attr(
    feature = "serde",
    serde(bound(
        serialize = "T: Real + serde::Serialize, S: serde::Serialize",
        deserialize = "T: Real + serde::Deserialize<'de>, S: Clone + serde::Deserialize<'de>"
    ))
)]
pub struct Rdmm<T, const D: usize, S = f64> {
    sigmas: Vec<S>,
    given: Regions<T, D>,
    smoothing: f64,
    advected: Advected,
    order: Order,
    border: Option<f64>,
    tolerance: Option<f64>,
}

/// What the initial weights are given by, on the source image's grid.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(
        serialize = "T: Real + serde::Serialize",
        deserialize = "T: Real + serde::Deserialize<'de>"
    ))
)]
enum Regions<T, const D: usize> {
    Weights(Weights<T, D>),
    PreWeights(Weights<T, D>),
}

impl<T: Real, const D: usize> Regions<T, D> {
    fn components(&self) -> usize {
        let (Self::Weights(field) | Self::PreWeights(field)) = self;
        field.components()
    }

    /// `Ok` if weights sum to one at every voxel; pre-weights only need to be numbers.
    fn validate(&self) -> Result<()> {
        let squares = match self {
            Self::Weights(squares) => squares,
            Self::PreWeights(h) => {
                h.expect_finite("pre-weights of RDMM")?;
                let found = h.max_abs();
                let expected = "pre-weights that are not all zero";
                let some = found > 0.0;
                return if some {
                    Ok(())
                } else {
                    Err(Error::setting(PRE_WEIGHTS, expected, found))
                };
            }
        };
        let n = squares.grid().len();
        for at in 0..n {
            let of = |i: usize| squares.data()[i * n + at].f64();
            if let Some(bad) = (0..squares.components()).map(of).find(|x| x.is_nan() || *x < 0.0) {
                return Err(Error::setting("weight of a Gaussian", "a number ≥ 0", bad));
            }
            let found: f64 = (0..squares.components()).map(of).sum();
            if found.is_nan() || (found - 1.0).abs() > SUM_OF_WEIGHTS {
                let what = "weights of RDMM at a voxel";
                return Err(Error::WeightSum { what, tolerance: SUM_OF_WEIGHTS, found });
            }
        }
        Ok(())
    }
}

/// How errors name pre-weights.
const PRE_WEIGHTS: &str = "pre-weights of RDMM";

impl<T: Real, const D: usize> Rdmm<T, D> {
    /// RDMM with these Gaussians (σ in physical units, increasing), these weights (see
    /// [`weights_by_label`](crate::model::weights_by_label)) and G of this standard deviation; pre-weights
    /// are advected, fourth-order differences, no window.
    ///
    /// `weights` are h_i² on the source image's grid, of sum one at every voxel. On the grid of the momentum they are
    /// smoothed as far as it is coarser, interpolated by cubic splines, cut off at zero and made to sum to one
    /// again; h is their root. A registration from an initial affine map A reads them at A(x).
    ///
    /// # Errors
    /// [`Error::Length`] unless there is a weight field a σ; [`Error::WeightSum`] where they do not sum to
    /// one; [`Error::Setting`] for a negative weight.
    pub fn new(sigmas: &[f64], squares: Weights<T, D>, smoothing: f64) -> Result<Self> {
        Self::of(sigmas, Regions::Weights(squares), smoothing)
    }

    /// RDMM with these Gaussians, these initial pre-weights h and G of this standard deviation: for h of a network,
    /// or of another program. The rest is as for [`Rdmm::new`].
    ///
    /// h counts as it is given: it is not squared, cut off or normalised, and Σ h_i² need not be one. On its own
    /// lattice and without an initial affine map it is taken bit for bit; on another grid over the same box, such as
    /// that of a coarser level, h itself is smoothed as far as that grid is coarser and interpolated by cubic
    /// splines, at A(x) where there is an affine map A.
    ///
    /// # Errors
    /// [`Error::Length`] unless there is a component a σ; [`Error::NonFinite`] for NaN or infinity;
    /// [`Error::Setting`] where all of h is zero.
    ///
    /// ```
    /// use rdmm_core::{field::Weights, grid::Grid};
    /// use rdmm_core::model::{Model, Rdmm, Shooting};
    /// let grid = Grid::new([16, 16], [1.0, 1.0])?;
    /// let h = Weights::<f64, 2>::from_fn(&grid, 2, |_, i| [0.6, 0.8][i])?;
    /// let model = Rdmm::from_pre_weights(&[2.0, 4.0], h.clone(), 1.0)?;
    /// let mut shooting = model.on(&grid)?;
    /// let start = shooting.initial_state(&shooting.identity());
    /// assert_eq!(start.body.weights, h);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn from_pre_weights(sigmas: &[f64], h: Weights<T, D>, smoothing: f64) -> Result<Self> {
        Self::of(sigmas, Regions::PreWeights(h), smoothing)
    }
}

impl<T: Real, const D: usize> Rdmm<T, D, Covariance<D>> {
    /// RDMM whose Gaussians have these covariances, in any order, along the axes of the grid. The rest is as for
    /// [`Rdmm::new`].
    ///
    /// Correlated axes need images on a periodic or free grid, see
    /// [`Gaussian::anisotropic`](crate::kernel::Gaussian::anisotropic).
    ///
    /// # Errors
    /// Those of [`Rdmm::new`].
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use rdmm_core::grid::{Boundary, Grid};
    /// use rdmm_core::kernel::Covariance;
    /// use rdmm_core::labels::Labels;
    /// use rdmm_core::model::{Model, Rdmm, weights_by_label};
    /// let grid = Grid::new([24, 24], [1.0, 1.0])?.with_boundary(Boundary::Free);
    /// let muscle = Labels::from_vec(&grid, (0..576).map(|i| u32::from(i % 24 > 11)).collect())?;
    /// let weights = BTreeMap::from([(0, vec![1.0, 0.0]), (1, vec![0.2, 0.8])]);
    /// let weights = weights_by_label::<f64, 2>(&muscle, &weights)?;
    /// // Long along the fibres of the muscle, the same in all directions elsewhere.
    /// let scales = [Covariance::isotropic(4.0)?, Covariance::along([1.0, 1.0], 6.0, 1.5)?];
    /// let model = Rdmm::anisotropic(&scales, weights, 2.0)?;
    /// let shooting = model.on(&grid)?;
    /// # let _ = shooting;
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn anisotropic(
        covariances: &[Covariance<D>],
        squares: Weights<T, D>,
        smoothing: f64,
    ) -> Result<Self> {
        Self::of(covariances, Regions::Weights(squares), smoothing)
    }

    /// [`Rdmm::from_pre_weights`] with covariances.
    ///
    /// # Errors
    /// Those of [`Rdmm::from_pre_weights`].
    pub fn anisotropic_from_pre_weights(
        covariances: &[Covariance<D>],
        h: Weights<T, D>,
        smoothing: f64,
    ) -> Result<Self> {
        Self::of(covariances, Regions::PreWeights(h), smoothing)
    }
}

impl<T: Real, const D: usize, S: Clone> Rdmm<T, D, S> {
    fn of(sigmas: &[S], given: Regions<T, D>, smoothing: f64) -> Result<Self> {
        let (expected, found) = (sigmas.len(), given.components());
        if expected != found {
            return Err(Error::Length { what: "weight fields of RDMM", expected, found });
        }
        given.validate()?;
        Ok(Self {
            sigmas: sigmas.to_vec(),
            given,
            smoothing,
            advected: Advected::default(),
            order: Order::default(),
            border: None,
            tolerance: None,
        })
    }

    /// The initial pre-weights h on `grid`, read through an affine map.
    pub(super) fn initial_pre_weights(
        &self,
        grid: &Grid<D>,
        initial: &Affine<D>,
    ) -> Result<Weights<T, D>> {
        match &self.given {
            Regions::Weights(squares) => pre_weights(squares, grid, initial),
            Regions::PreWeights(h) => pre_weights_as_given(h, grid, initial),
        }
    }

    /// The mean of h_i² over the grid, for the kernel that preconditions; of sum one, also where h² is not.
    pub(super) fn mean_weights(&self, h: &Weights<T, D>) -> Vec<f64> {
        let n = h.grid().len() as f64;
        let square = |i: usize| h.component(i).iter().map(|h| h.f64().powi(2)).sum::<f64>() / n;
        let means: Vec<f64> = (0..h.components()).map(square).collect();
        match self.given {
            Regions::Weights(_) => means,
            Regions::PreWeights(_) => {
                let sum: f64 = means.iter().sum();
                means.iter().map(|mean| mean / sum).collect()
            }
        }
    }

    /// The recipe after the source image was read at x + u(x).
    pub(super) fn read_at(&self, map: &Displacement<T, D>) -> Result<Self> {
        let given = match &self.given {
            Regions::Weights(squares) => Regions::Weights(weights_at(squares, map)?),
            Regions::PreWeights(h) => Regions::PreWeights(pre_weights_at(h, map)?),
        };
        Ok(Self { given, ..self.clone() })
    }

    /// The same with the weights that the flow advects; pre-weights by default.
    #[must_use]
    pub fn with_advected(mut self, advected: Advected) -> Self {
        self.advected = advected;
        self
    }

    /// The same with central differences of this order; of the fourth by default.
    #[must_use]
    pub fn with_order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// The same with a border window, as by [`MultiGaussian::with_border`](super::MultiGaussian::with_border).
    ///
    /// # Errors
    /// [`Error::Setting`] unless the width is finite and positive.
    pub fn with_border(mut self, width: f64) -> Result<Self> {
        self.border = Some(positive(BORDER, width)?);
        Ok(self)
    }

    /// The same with Gaussians of this accuracy, as by [`MultiGaussian::with_tolerance`](super::MultiGaussian::with_tolerance).
    ///
    /// # Errors
    /// [`Error::Setting`] unless it lies between 0 and 0.01.
    pub fn with_tolerance(mut self, tolerance: f64) -> Result<Self> {
        expect_tolerance(tolerance)?;
        self.tolerance = Some(tolerance);
        Ok(self)
    }

    /// Standard deviations, physical units, increasing; or covariances.
    #[must_use]
    pub fn sigmas(&self) -> &[S] {
        &self.sigmas
    }

    /// Weights h_i² on the source image's grid; `None` where pre-weights were given.
    #[must_use]
    pub fn weights(&self) -> Option<&Weights<T, D>> {
        if let Regions::Weights(squares) = &self.given { Some(squares) } else { None }
    }

    /// Pre-weights h on the source image's grid; `None` where weights were given.
    #[must_use]
    pub fn pre_weights(&self) -> Option<&Weights<T, D>> {
        if let Regions::PreWeights(h) = &self.given { Some(h) } else { None }
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

    /// Order of the central differences.
    #[must_use]
    pub fn order(&self) -> Order {
        self.order
    }

    /// Width of the border window, if there is one.
    #[must_use]
    pub fn border(&self) -> Option<f64> {
        self.border
    }

    /// Accuracy of the Gaussians, if it was chosen.
    #[must_use]
    pub fn tolerance(&self) -> Option<f64> {
        self.tolerance
    }
}

/// What is stored of RDMM: checked when it is read.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(rename = "Rdmm")]
#[serde(bound = "T: Real + serde::Deserialize<'de>, S: serde::Deserialize<'de>")]
struct StoredRdmm<T, const D: usize, S> {
    sigmas: Vec<S>,
    given: Regions<T, D>,
    smoothing: f64,
    advected: Advected,
    order: Order,
    border: Option<f64>,
    tolerance: Option<f64>,
}

#[cfg(feature = "serde")]
impl<T: Real, const D: usize, S: Clone> TryFrom<StoredRdmm<T, D, S>> for Rdmm<T, D, S> {
    type Error = Error;

    fn try_from(stored: StoredRdmm<T, D, S>) -> Result<Self> {
        let mut model = Self::of(&stored.sigmas, stored.given, stored.smoothing)?
            .with_advected(stored.advected)
            .with_order(stored.order);
        if let Some(width) = stored.border {
            model = model.with_border(width)?;
        }
        if let Some(tolerance) = stored.tolerance {
            model = model.with_tolerance(tolerance)?;
        }
        Ok(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Image;
    use crate::model::{Model, Shooting};

    /// Pre-weights whose squares do not sum to one.
    fn given(grid: &Grid<2>) -> Weights<f64, 2> {
        Weights::from_fn(grid, 2, |x, i| [0.3, -0.9][i] + 0.2 * (0.5 * x[i]).sin()).unwrap()
    }

    fn start(model: &Rdmm<f64, 2>, grid: &Grid<2>) -> Weights<f64, 2> {
        let mut shooting = model.on(grid).unwrap();
        let identity = shooting.identity();
        shooting.initial_state(&identity).body.weights
    }

    #[test]
    fn given_pre_weights_are_taken_bit_for_bit_on_their_grid() {
        let grid = Grid::new([16, 14], [1.0, 1.0]).unwrap();
        let h = given(&grid);
        let model = Rdmm::from_pre_weights(&[2.0, 4.0], h.clone(), 1.0).unwrap();
        assert_eq!((model.pre_weights(), model.weights()), (Some(&h), None));
        assert_eq!(start(&model, &grid), h);
        // Of the boundary of the grid that is asked for.
        let periodic = grid.clone().with_boundary(crate::grid::Boundary::Periodic);
        assert_eq!(start(&model, &periodic), h.clone().on_grid(&periodic).unwrap());
        // The preconditioner takes normalised means.
        assert!(model.on(&grid).unwrap().inverse_metric(1e-3).is_ok());
        // Where smoothed weights are advected, G acts once.
        let once = start(&model.with_advected(Advected::Weights), &grid);
        assert!(once != h && once.is_finite());
    }

    #[test]
    fn given_pre_weights_are_interpolated_and_not_normalised_elsewhere() {
        let grid = Grid::new([32, 28], [0.5, 0.5]).unwrap();
        let h = given(&grid);
        let model = Rdmm::from_pre_weights(&[2.0, 4.0], h.clone(), 1.0).unwrap();
        let coarse = grid.coarsened(2.0).unwrap();
        let found = start(&model, &coarse);
        for i in 0..2 {
            let image = Image::from_vec(&grid, h.component(i).to_vec()).unwrap();
            let expected = crate::pyramid::coarser(&image, &coarse).unwrap();
            let off = found.component(i).iter().zip(expected.data()).map(|(a, b)| (a - b).abs());
            // The same smoothing and splines, to rounding.
            assert!(off.fold(0.0, f64::max) < 1e-12);
        }
        // Through a map that shifts by two voxels, where nothing is left to interpolate but the border.
        let map = Displacement::from_fn(&grid, |_| [1.0, 0.0]).unwrap();
        let moved = model.read_at(&map).unwrap();
        let moved = moved.pre_weights().unwrap();
        for at in 0..28 * 28 {
            assert!((moved.component(1)[at] - h.component(1)[at + 56]).abs() < 1e-12);
        }
        let shift = Affine::from_rows([[1.0, 0.0], [0.0, 1.0]], [1.0, 0.0]).unwrap();
        let through = model.initial_pre_weights(&grid, &shift).unwrap();
        for at in 0..28 * 28 {
            assert!((through.component(1)[at] - h.component(1)[at + 56]).abs() < 1e-12);
        }
    }

    #[test]
    fn weights_and_their_roots_are_the_same_model() {
        let grid = Grid::new([16, 14], [1.0, 1.0]).unwrap();
        let h = Weights::<f64, 2>::from_fn(&grid, 2, |_, i| [0.6, 0.8][i]).unwrap();
        let squares = Weights::from_fn(&grid, 2, |_, i| [0.36, 0.64][i]).unwrap();
        let a = start(&Rdmm::new(&[2.0, 4.0], squares, 1.0).unwrap(), &grid);
        let b = start(&Rdmm::from_pre_weights(&[2.0, 4.0], h, 1.0).unwrap(), &grid);
        // Weights are interpolated and rooted: rounding.
        assert!(a.data().iter().zip(b.data()).all(|(a, b)| (a - b).abs() < 1e-14));
    }
}
