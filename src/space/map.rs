//! Maps, velocities and the states that hold them, without their storage.

use super::StateSpace;
use crate::error::Result;
use crate::scalar::Real;

/// Maps id + u, as a space of their displacements u.
pub trait MapSpace<T: Real>: StateSpace<T> {
    /// What composes two of them.
    type Composer: Compose<T, Map = Self>;

    /// What composes maps of the shape of this one.
    fn composer(&self) -> Self::Composer;
}

/// Composition of maps of one shape, by interpolation, with its transpose.
pub trait Compose<T: Real>: Send + Sync {
    /// The maps.
    type Map: StateSpace<T>;
    /// What is interpolated: for splines, their coefficients.
    type Coefficients: Send;

    /// Coefficients of the identity.
    fn blank(&self) -> Self::Coefficients;

    /// How many numbers coefficients hold.
    fn coefficients_len(&self) -> usize;

    /// `Ok` if the coefficients are those of maps of this shape.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) with both.
    fn expect_coefficients(&self, found: &Self::Coefficients) -> Result<()>;

    /// `coefficients ←` those of u.
    fn set_coefficients(&self, u: &Self::Map, coefficients: &mut Self::Coefficients);

    /// `out ← d + u∘(id + d)`, the displacement of (id + u)∘(id + d), from the coefficients of u.
    fn compose(&self, coefficients: &Self::Coefficients, d: &Self::Map, out: &mut Self::Map);

    /// The transpose of [`Compose::compose`] and [`Compose::set_coefficients`] at `d`: the cotangent of the composed
    /// displacement, `bar`, becomes that of u, Sᵀ `bar` with S the interpolation at id + d, and `d_bar` becomes that of
    /// d, `bar` + D(u)ᵀ `bar`. The coefficients are used up.
    fn compose_vjp(
        &self,
        coefficients: &mut Self::Coefficients,
        d: &Self::Map,
        bar: &mut Self::Map,
        d_bar: &mut Self::Map,
    );
}

/// Velocities.
pub trait VectorField<T: Real>: Send + Sync {
    /// The longest vector, in voxels per unit of time; NaN if there is one.
    fn longest(&self) -> f64;
}

/// A state that holds an inverse map Φ⁻¹ = id + u, which a step may transport by its own rule.
pub trait FlowState<T: Real>: StateSpace<T> {
    /// The maps.
    type Map: MapSpace<T>;

    /// u of Φ⁻¹ = id + u.
    fn map(&self) -> &Self::Map;

    /// u of Φ⁻¹ = id + u, to change.
    fn map_mut(&mut self) -> &mut Self::Map;

    /// `self ← Σ a·x` in everything but the map, which stays what it is.
    fn set_sum_but_map<'a>(&mut self, terms: impl Iterator<Item = (T, &'a Self)> + Clone)
    where
        Self: 'a;

    /// `self ← a·self + x` in everything but the map, which stays what it is.
    fn scale_add_but_map(&mut self, a: T, x: &Self);

    /// U of the forward map Φ = id + U, where the state holds it, as
    /// [`TrackedState`](crate::dynamics::TrackedState) does.
    fn forward(&self) -> Option<&Self::Map> {
        None
    }

    /// U of Φ = id + U, to change.
    fn forward_mut(&mut self) -> Option<&mut Self::Map> {
        None
    }
}
