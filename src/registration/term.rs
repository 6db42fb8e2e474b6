//! A term of the energy that is a function of the maps.

use super::grids::LevelGrids;
use crate::error::{Error, Result};
use crate::field::{Displacement, axpy};
use crate::grid::Grid;
use crate::scalar::Real;
use crate::space::StateSpace;
use crate::world::Affine;

pub(super) mod folding;
pub(super) mod image;
pub(super) mod landmarks;
pub(super) mod reverse;

/// The maps at t = 1, as a [`MapTerm`] sees them.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FinalMaps<'a, T, const D: usize> {
    /// u of the inverse map Φ⁻¹ = id + u on the fixed image's grid, in physical units.
    pub inverse: &'a Displacement<T, D>,
    /// The same on the map grid, where it is computed.
    pub inverse_on_map_grid: &'a Displacement<T, D>,
    /// U of the forward map Φ = id + U on the fixed image's grid, where a term
    /// [needs it](MapTerm::needs_forward_map).
    pub forward: Option<&'a Displacement<T, D>>,
}

/// What the terms found of the gradient: the partial derivatives of their sum in each of the [`FinalMaps`].
#[derive(Debug)]
#[non_exhaustive]
pub struct MapCotangents<T, const D: usize> {
    /// Of [`FinalMaps::inverse`].
    pub inverse: MapCotangent<T, D>,
    /// Of [`FinalMaps::inverse_on_map_grid`].
    pub inverse_on_map_grid: MapCotangent<T, D>,
    /// Of [`FinalMaps::forward`].
    pub forward: MapCotangent<T, D>,
}

impl<T: Real, const D: usize> MapCotangents<T, D> {
    pub(super) fn new(images: &Grid<D>, maps: &Grid<D>) -> Self {
        Self {
            inverse: MapCotangent::new(images),
            inverse_on_map_grid: MapCotangent::new(maps),
            forward: MapCotangent::new(images),
        }
    }

    /// Forgets what was added.
    pub(super) fn clear(&mut self) {
        for bar in [&mut self.inverse, &mut self.inverse_on_map_grid, &mut self.forward] {
            bar.blank = true;
        }
    }
}

/// The derivatives in one map, which the terms add to one after the other.
#[derive(Debug)]
pub struct MapCotangent<T, const D: usize> {
    grid: Grid<D>,
    sum: Option<Displacement<T, D>>,
    scratch: Option<Displacement<T, D>>,
    /// Whether nothing was added: what `sum` holds means nothing.
    blank: bool,
}

impl<T: Real, const D: usize> MapCotangent<T, D> {
    fn new(grid: &Grid<D>) -> Self {
        Self { grid: grid.clone(), sum: None, scratch: None, blank: true }
    }

    /// The sum so far, to add to.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] the first time.
    pub fn sum_mut(&mut self) -> Result<&mut Displacement<T, D>> {
        let Self { grid, sum, blank, .. } = self;
        let sum = made(sum, grid)?;
        if std::mem::take(blank) {
            sum.set_zero();
        }
        Ok(sum)
    }

    /// Adds what `write` puts into the buffer that it is given, whatever that held: for operators that overwrite
    /// their result. The first term writes where the sum is, so that it costs no addition.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] the first time.
    pub fn add_written<R>(&mut self, write: impl FnOnce(&mut [T]) -> R) -> Result<R> {
        let Self { grid, sum, scratch, blank } = self;
        let sum = made(sum, grid)?;
        if std::mem::take(blank) {
            return Ok(write(sum.data_mut()));
        }
        let scratch = made(scratch, grid)?;
        let written = write(scratch.data_mut());
        axpy(sum.data_mut(), T::one(), scratch.data());
        Ok(written)
    }

    /// The sum; `None` where nothing was added.
    #[must_use]
    pub fn sum(&self) -> Option<&Displacement<T, D>> {
        self.sum.as_ref().filter(|_| !self.blank)
    }
}

/// The field, made where there is none.
fn made<'a, T: Real, const D: usize>(
    field: &'a mut Option<Displacement<T, D>>,
    grid: &Grid<D>,
) -> Result<&'a mut Displacement<T, D>> {
    match field {
        Some(field) => Ok(field),
        None => Ok(field.insert(Displacement::zeros(grid)?)),
    }
}

/// A term of the energy on one level: a function of the maps at t = 1, with its exact gradient.
///
/// Similarity, channels, landmarks and the barrier against folds are such terms;
/// [`Registration::with_term`](super::Registration::with_term) takes a [`TermRecipe`] of one's own, and
/// [`PairObjective::with_term`](super::PairObjective::with_term) the term itself.
///
/// λ times the mean squared displacement, in units of the longest extent L:
///
/// ```
/// use rdmm_core::registration::{FinalMaps, LevelGrids, MapCotangents, MapTerm, Registration, TermRecipe};
/// use rdmm_core::{Real, Result, space::StateSpace, world::Affine};
///
/// #[derive(Debug)]
/// struct ShortDisplacements {
///     weight: f64,
/// }
///
/// struct Prepared {
///     /// λ/(n L²).
///     scale: f64,
/// }
///
/// impl<T: Real, const D: usize> TermRecipe<T, D> for ShortDisplacements {
///     fn name(&self) -> &str {
///         "displacement"
///     }
///     fn prepare(&self, level: &LevelGrids<D>, _: &Affine<D>) -> Result<Box<dyn MapTerm<T, D>>> {
///         let (n, length) = (level.images.len() as f64, level.images.largest_extent());
///         Ok(Box::new(Prepared { scale: self.weight / (n * length * length) }))
///     }
/// }
///
/// impl<T: Real, const D: usize> MapTerm<T, D> for Prepared {
///     fn add(&mut self, maps: &FinalMaps<'_, T, D>, bars: &mut MapCotangents<T, D>) -> Result<f64> {
///         let u = maps.inverse;
///         bars.inverse.sum_mut()?.axpy(T::of(2.0 * self.scale), u); // ∂(s u·u)/∂u = 2 s u
///         Ok(self.scale * u.dot(u))
///     }
/// }
///
/// # use rdmm_core::model::{Lddmm, MultiGaussian};
/// # let grid = rdmm_core::grid::Grid::<2>::unit([32, 32])?;
/// # let pair = rdmm_core::synthetic::Shapes::default().with_outside(1).pair::<f32, 2>(&grid)?;
/// # let model = Lddmm::new(MultiGaussian::for_grid(&grid));
/// let registration = Registration::new(model, rdmm_core::similarity::Ssd);
/// let free = registration.run(&pair.fixed, &pair.moving)?;
/// let held = registration.with_term(ShortDisplacements { weight: 100.0 });
/// let held = held.run(&pair.fixed, &pair.moving)?;
/// assert!(held.inverse_map.norm() < free.inverse_map.norm());
/// let last = &held.report.levels.last().unwrap().last;
/// assert!(last.terms.further["displacement"] > 0.0);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
pub trait MapTerm<T: Real, const D: usize>: Send {
    /// The term with its weight. Its derivatives are added to `bars`, those of the maps that it reads.
    ///
    /// # Errors
    /// An error that [is recoverable](Error::is_recoverable), such as [`Error::Folded`], refuses the maps: they
    /// count as infinitely high, and the line search takes a smaller step. Any other error ends the
    /// registration.
    fn add(&mut self, maps: &FinalMaps<'_, T, D>, bars: &mut MapCotangents<T, D>) -> Result<f64>;

    /// Whether the term reads [`FinalMaps::forward`], which only models that carry the forward map have, as
    /// [`TwoSided`](crate::model::TwoSided) does. `false` by default.
    fn needs_forward_map(&self) -> bool {
        false
    }
}

/// A recipe for a [`MapTerm`] on every level of a registration, in physical units.
pub trait TermRecipe<T: Real, const D: usize>: std::fmt::Debug + Send + Sync {
    /// The name that reports use: a key of [`Terms::further`](super::Terms::further).
    fn name(&self) -> &str;

    /// The term on the grids of one level. `initial` is the affine map A that follows Φ⁻¹ where the moving image
    /// is read.
    ///
    /// # Errors
    /// Where the grids cannot carry it.
    fn prepare(&self, level: &LevelGrids<D>, initial: &Affine<D>)
    -> Result<Box<dyn MapTerm<T, D>>>;
}

/// The forward map that a term asked for.
fn expect_forward<'a, T, const D: usize>(
    maps: &FinalMaps<'a, T, D>,
) -> Result<&'a Displacement<T, D>> {
    let none = || Error::setting("model of a term of the forward map", TRACKED, "one without");
    maps.forward.ok_or_else(none)
}

/// What a term of the forward map needs.
pub(super) const TRACKED: &str = "a model that carries the forward map, such as TwoSided";
