//! Fields over a grid: images, velocities, momenta, displacements and weights.

mod array;
mod function;

use std::marker::PhantomData;

use crate::aligned::Aligned;
use crate::error::{Error, Result};
use crate::grid::Grid;
use crate::par;
use crate::scalar::Real;
use crate::space::{Componentwise, StateSpace, VectorField};

mod vectors;
pub(crate) use vectors::{add_products, axpy, copy, dot};
pub(crate) use vectors::{
    first_not_finite, largest, longest, multiply_components, scale, scale_add, set_sum, set_zero,
};

/// What a field means. Fields of different kinds have the same layout and cannot be mixed.
pub mod kind {
    /// The meaning of a field's components.
    pub trait Kind: Copy + Send + Sync + std::fmt::Debug + 'static {
        /// The name that errors use.
        const NAME: &'static str;
        /// Number of components over a grid of `dimension` axes; `None` where it is free.
        fn components(dimension: usize) -> Option<usize>;
    }

    /// Kinds of fields with one component an axis: vectors and covectors.
    pub trait Vectorial: Kind {}

    impl Vectorial for Vector {}
    impl Vectorial for Covector {}
    impl Vectorial for Map {}
    impl Vectorial for WorldMap {}

    macro_rules! kinds {
        ($($(#[$doc:meta])* $name:ident, $label:literal, $dim:ident => $count:expr;)+) => {$(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub struct $name;
            impl Kind for $name {
                const NAME: &'static str = $label;
                fn components($dim: usize) -> Option<usize> {
                    $count
                }
            }
        )+};
    }

    kinds! {
        /// Grey values, one a voxel.
        Scalar, "image", _dimension => Some(1);
        /// A vector field v, in length per unit of time.
        Vector, "velocity", dimension => Some(dimension);
        /// A covector density m: it pairs with a vector field under the integral.
        Covector, "momentum", dimension => Some(dimension);
        /// A map x ↦ x + u(x), stored as u in physical units.
        Map, "displacement", dimension => Some(dimension);
        /// The vectors u of a map along the axes of the world instead of the grid's.
        WorldMap, "world displacement", dimension => Some(dimension);
        /// Weights of a bank of Gaussians, one component a Gaussian.
        Mixture, "weights", _dimension => None;
    }
}

pub(crate) use array::typed;
use kind::Kind;

/// Values over a [`Grid`]: `components` contiguous blocks of `grid.len()` values in C order.
///
/// The kind `K` says what the values mean and keeps, say, momenta and velocities apart. Use the
/// aliases [`Image`], [`Velocity`], [`Momentum`], [`Displacement`], [`WorldDisplacement`] and [`Weights`].
#[derive(Clone, Debug, PartialEq)]
pub struct Field<T, const D: usize, K> {
    grid: Grid<D>,
    components: usize,
    data: Aligned<T>,
    kind: PhantomData<K>,
}

/// A scalar field, shape `grid.shape()`.
pub type Image<T, const D: usize> = Field<T, D, kind::Scalar>;
/// A vector field, shape `[D, ..grid.shape()]`.
pub type Velocity<T, const D: usize> = Field<T, D, kind::Vector>;
/// A covector density, shape `[D, ..grid.shape()]`.
pub type Momentum<T, const D: usize> = Field<T, D, kind::Covector>;
/// The displacement u of a map id + u, shape `[D, ..grid.shape()]`, physical units.
pub type Displacement<T, const D: usize> = Field<T, D, kind::Map>;
/// The displacement of a map with its vectors along the axes of the world, as files of other programs hold it, shape
/// `[D, ..grid.shape()]`: see [`Displacement::to_world`].
pub type WorldDisplacement<T, const D: usize> = Field<T, D, kind::WorldMap>;
/// Weights of `N` Gaussians, shape `[N, ..grid.shape()]`.
pub type Weights<T, const D: usize> = Field<T, D, kind::Mixture>;

impl<T: Real, const D: usize, K: Kind> Field<T, D, K> {
    /// A zero field of a kind whose number of components is fixed by the dimension.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where the buffer cannot be allocated; [`Error::Length`] for
    /// [`Weights`], which take [`Field::zeros_with`].
    pub fn zeros(grid: &Grid<D>) -> Result<Self> {
        let components =
            K::components(D).ok_or(Error::Length { what: K::NAME, expected: 1, found: 0 })?;
        Self::zeros_with(grid, components)
    }

    /// A zero field of `components` components.
    ///
    /// # Errors
    /// [`Error::Length`] where the kind fixes another number or it is zero;
    /// [`Error::OutOfMemory`] where the buffer cannot be allocated.
    pub fn zeros_with(grid: &Grid<D>, components: usize) -> Result<Self> {
        let expected = K::components(D).unwrap_or(components.max(1));
        if components != expected {
            return Err(Error::Length { what: K::NAME, expected, found: components });
        }
        let len = components.saturating_mul(grid.len());
        let data = Aligned::try_zeros(len)?;
        Ok(Self { grid: grid.clone(), components, data, kind: PhantomData })
    }

    /// A zero field for buffers of a size that a caller already holds: allocates as `vec!` does.
    /// Kinds with a free number of components get one.
    pub(crate) fn blank(grid: &Grid<D>) -> Self {
        let components = K::components(D).unwrap_or(1);
        let data = Aligned::zeros(components * grid.len());
        Self { grid: grid.clone(), components, data, kind: PhantomData }
    }

    /// Like [`Field::blank`], with a number of components.
    pub(crate) fn blank_with(grid: &Grid<D>, components: usize) -> Self {
        let data = Aligned::zeros(components * grid.len());
        Self { grid: grid.clone(), components, data, kind: PhantomData }
    }

    /// A field from its buffer: component-major, C order within a component.
    ///
    /// # Errors
    /// [`Error::Length`] for a buffer of another length; [`Error::NonFinite`] for NaN or infinity.
    pub fn from_vec(grid: &Grid<D>, data: Vec<T>) -> Result<Self> {
        let components = K::components(D).unwrap_or((data.len() / grid.len()).max(1));
        let expected = components * grid.len();
        if data.len() != expected {
            return Err(Error::Length { what: K::NAME, expected, found: data.len() });
        }
        let field = Self { grid: grid.clone(), components, data: data.into(), kind: PhantomData };
        field.expect_finite(K::NAME)?;
        Ok(field)
    }

    /// The grid.
    #[must_use]
    pub fn grid(&self) -> &Grid<D> {
        &self.grid
    }

    /// Number of components.
    #[must_use]
    pub fn components(&self) -> usize {
        self.components
    }

    /// The whole buffer, component-major.
    #[must_use]
    pub fn data(&self) -> &[T] {
        &self.data
    }

    /// The whole buffer, to write to. Non-finite values written here surface as
    /// [`Error::Diverged`] later.
    pub fn data_mut(&mut self) -> &mut [T] {
        &mut self.data
    }

    /// The buffer as a vector: without further memory, but its values may have to be moved to its beginning.
    #[must_use]
    pub fn into_vec(self) -> Vec<T> {
        self.data.into_vec()
    }

    /// Component `c`, C order.
    ///
    /// # Panics
    /// If `c` is not less than [`Field::components`].
    #[must_use]
    pub fn component(&self, c: usize) -> &[T] {
        let n = self.grid.len();
        &self.data[c * n..(c + 1) * n]
    }

    /// Component `c`, to write to.
    ///
    /// # Panics
    /// If `c` is not less than [`Field::components`].
    pub fn component_mut(&mut self, c: usize) -> &mut [T] {
        let n = self.grid.len();
        &mut self.data[c * n..(c + 1) * n]
    }

    /// All components, to write to.
    pub(crate) fn components_mut(&mut self) -> std::slice::ChunksMut<'_, T> {
        let n = self.grid.len();
        self.data.chunks_mut(n)
    }

    /// The same values over a grid of the same shape: for a change of boundary or of position.
    ///
    /// # Errors
    /// [`Error::GridMismatch`] where the shapes differ.
    pub fn on_grid(mut self, grid: &Grid<D>) -> Result<Self> {
        if self.grid.shape() != grid.shape() {
            let (expected, found) = (grid.to_string(), self.grid.to_string());
            return Err(Error::GridMismatch { what: K::NAME, expected, found });
        }
        self.grid = grid.clone();
        Ok(self)
    }

    /// The integral ∫ self · other over the grid, cell volume included.
    ///
    /// # Errors
    /// [`Error::GridMismatch`] or [`Error::Length`] where the fields do not fit.
    pub fn integral_with<L: Kind>(&self, other: &Field<T, D, L>) -> Result<f64> {
        self.grid.expect_same(&other.grid, L::NAME)?;
        if self.components != other.components {
            let (expected, found) = (self.components, other.components);
            return Err(Error::Length { what: L::NAME, expected, found });
        }
        Ok(self.grid.cell_volume() * dot(&self.data, &other.data))
    }

    /// Largest Euclidean length of the vectors, each axis divided by `unit[axis]`.
    pub(crate) fn max_length(&self, unit: [f64; D]) -> f64 {
        longest(&self.data, self.grid.len(), &unit[..self.components.min(D)])
    }

    /// `Ok` if every value is finite.
    ///
    /// # Errors
    /// [`Error::NonFinite`] with the first offender.
    pub fn expect_finite(&self, what: &'static str) -> Result<()> {
        match first_not_finite(&self.data) {
            None => Ok(()),
            Some(index) => Err(Error::NonFinite { what, index, found: self.data[index].f64() }),
        }
    }
}

impl<T: Real, const D: usize, K: Kind> StateSpace<T> for Field<T, D, K> {
    fn set_zero(&mut self) {
        set_zero(&mut self.data);
    }

    fn copy_from(&mut self, other: &Self) {
        if self.data.len() == other.data.len() && self.grid.shape() == other.grid.shape() {
            copy(&other.data, &mut self.data);
        } else {
            self.clone_from(other);
        }
    }

    fn axpy(&mut self, a: T, x: &Self) {
        axpy(&mut self.data, a, &x.data);
    }

    fn set_sum<const L: usize>(&mut self, terms: [(T, &Self); L]) {
        set_sum(&mut self.data, terms.map(|(a, x)| (a, x.data())));
    }

    fn scale(&mut self, a: T) {
        scale(&mut self.data, a);
    }

    fn scale_add(&mut self, a: T, x: &Self) {
        scale_add(&mut self.data, a, &x.data);
    }

    fn dot(&self, other: &Self) -> f64 {
        dot(&self.data, &other.data)
    }

    fn dimension(&self) -> usize {
        self.data.len()
    }

    fn expect_like(&self, found: &Self) -> Result<()> {
        self.grid.expect_same(&found.grid, K::NAME)?;
        let (expected, found) = (self.components, found.components);
        if expected == found {
            Ok(())
        } else {
            Err(Error::Length { what: K::NAME, expected, found })
        }
    }

    fn max_abs(&self) -> f64 {
        largest(&self.data)
    }
}

impl<T: Real, const D: usize, K: Kind> Componentwise<T> for Field<T, D, K> {
    fn combine(&mut self, x: &Self, f: impl Fn(T, T) -> T + Copy + Sync) {
        if self.data.len() != x.data.len() {
            return self.data.fill(T::nan());
        }
        par::chunks(&mut self.data, |lo, chunk| {
            for (y, &x) in chunk.iter_mut().zip(&x.data[lo..]) {
                *y = f(*y, x);
            }
        });
    }
}

impl<T: Real, const D: usize> VectorField<T> for Velocity<T, D> {
    fn longest(&self) -> f64 {
        self.max_length(self.grid.spacing())
    }
}

#[cfg(feature = "serde")]
mod serde_field {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Field, Grid, Kind, PhantomData, Real};

    #[derive(Serialize, Deserialize)]
    #[serde(rename = "Field")]
    struct Stored<T, const D: usize> {
        grid: Grid<D>,
        data: Vec<T>,
    }

    impl<T: Real + Serialize, const D: usize, K: Kind> Serialize for Field<T, D, K> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            Stored { grid: self.grid.clone(), data: self.data.to_vec() }.serialize(serializer)
        }
    }

    impl<'de, T: Real + Deserialize<'de>, const D: usize, K: Kind> Deserialize<'de> for Field<T, D, K> {
        fn deserialize<De: Deserializer<'de>>(deserializer: De) -> Result<Self, De::Error> {
            let Stored { grid, data } = Stored::<T, D>::deserialize(deserializer)?;
            let _ = PhantomData::<K>;
            Self::from_vec(&grid, data).map_err(De::Error::custom)
        }
    }
}
