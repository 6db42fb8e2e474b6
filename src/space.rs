//! Vector spaces: what integrators, adjoints and optimisers need of a state.
//!
//! | trait | is needed by |
//! | --- | --- |
//! | [`StateSpace`] | everything: sums, products with numbers, the pairing |
//! | [`Componentwise`] | optimisers whose steps are not linear in the gradient ([`Adam`](crate::optim::Adam)) |
//! | [`MapSpace`], [`Compose`] | steps that compose maps |
//! | [`VectorField`] | the choice of step sizes: the longest vector |
//! | [`FlowState`] | steps of a state that holds a map |
//!
//! None of them says where the numbers are: a state may keep them in a [`Field`](crate::field::Field), in vectors or
//! in the memory of a device.

mod map;

pub use map::{Compose, FlowState, MapSpace, VectorField};

use crate::error::{Error, Result};
use crate::scalar::Real;

/// A finite-dimensional vector space with the Euclidean pairing.
///
/// Integrators, adjoints and optimisers are written against this trait alone. Fields implement it,
/// products of spaces do (see [`product_space!`](crate::product_space)), and `()` is the zero space,
/// so that a model without weights carries none.
///
/// The pairing is the plain sum of products, without cell volumes: cotangents are partial
/// derivatives. Physical inner products are methods of the fields.
///
/// Operations on operands of different shapes do not fail: their result is NaN, which integrators and
/// optimisers report, and a copy takes the other's shape. [`StateSpace::expect_like`] finds the
/// difference and names it.
pub trait StateSpace<T: Real>: Clone + Send + Sync {
    /// Sets every coordinate to zero.
    fn set_zero(&mut self);

    /// `self ← other`, without a new allocation where the shapes agree.
    fn copy_from(&mut self, other: &Self);

    /// `self ← self + a·x`.
    fn axpy(&mut self, a: T, x: &Self);

    /// `self ← Σ a·x` over the terms, in one pass where the space has one for it.
    fn set_sum<const K: usize>(&mut self, terms: [(T, &Self); K]) {
        self.set_zero();
        for (a, x) in terms {
            self.axpy(a, x);
        }
    }

    /// `self ← a·self`.
    fn scale(&mut self, a: T);

    /// `self ← a·self + x`, with the bits of [`StateSpace::scale`] and then [`StateSpace::axpy`] by one, which this
    /// default is: two passes.
    fn scale_add(&mut self, a: T, x: &Self) {
        self.scale(a);
        self.axpy(T::one(), x);
    }

    /// Euclidean pairing ⟨self, other⟩, accumulated in double precision.
    fn dot(&self, other: &Self) -> f64;

    /// The pairings of several pairs: at once where reading a number back is dear.
    fn dots<const K: usize>(pairs: [(&Self, &Self); K]) -> [f64; K] {
        pairs.map(|(a, b)| a.dot(b))
    }

    /// Largest absolute coordinate; NaN if there is one.
    fn max_abs(&self) -> f64;

    /// How many coordinates there are.
    fn dimension(&self) -> usize;

    /// `Ok` if `found` has the shape of `self`: the same grids, as many components.
    ///
    /// # Errors
    /// [`Error::GridMismatch`] or [`Error::Length`] with both.
    fn expect_like(&self, found: &Self) -> Result<()>;

    /// Relative size of `self`, an error estimate, against the states `before` and `after` the
    /// step: the largest, over the blocks of a product, of `‖self‖ / max(‖before‖, ‖after‖)`.
    /// Blocks that are zero before and after count as exact.
    fn relative_error(&self, before: &Self, after: &Self) -> f64 {
        let size = before.dot(before).max(after.dot(after)).sqrt();
        if size > 0.0 { self.dot(self).sqrt() / size } else { 0.0 }
    }

    /// A zero of the same shape.
    #[must_use]
    fn zeros_like(&self) -> Self {
        let mut zero = self.clone();
        zero.set_zero();
        zero
    }

    /// Euclidean norm.
    fn norm(&self) -> f64 {
        self.dot(self).sqrt()
    }

    /// Whether every coordinate is finite.
    fn is_finite(&self) -> bool {
        self.max_abs().is_finite()
    }
}

/// A space with coordinates: what is not linear in them.
pub trait Componentwise<T: Real>: StateSpace<T> {
    /// `selfᵢ ← f(selfᵢ, xᵢ)`, coordinate by coordinate; NaN for operands of different shapes.
    fn combine(&mut self, x: &Self, f: impl Fn(T, T) -> T + Copy + Sync);
}

impl<T: Real> Componentwise<T> for () {
    fn combine(&mut self, _x: &Self, _f: impl Fn(T, T) -> T + Copy + Sync) {}
}

impl<T: Real> Componentwise<T> for Vec<T> {
    fn combine(&mut self, x: &Self, f: impl Fn(T, T) -> T + Copy + Sync) {
        if self.len() != x.len() {
            return self.fill(T::nan());
        }
        for (y, &x) in self.iter_mut().zip(x) {
            *y = f(*y, x);
        }
    }
}

impl<T: Real> StateSpace<T> for () {
    fn set_zero(&mut self) {}
    fn copy_from(&mut self, _other: &Self) {}
    fn axpy(&mut self, _a: T, _x: &Self) {}
    fn scale(&mut self, _a: T) {}
    fn dot(&self, _other: &Self) -> f64 {
        0.0
    }
    fn max_abs(&self) -> f64 {
        0.0
    }
    fn dimension(&self) -> usize {
        0
    }
    fn expect_like(&self, _found: &Self) -> Result<()> {
        Ok(())
    }
}

/// Plain vectors, for small problems and tests.
impl<T: Real> StateSpace<T> for Vec<T> {
    fn set_zero(&mut self) {
        self.fill(T::zero());
    }
    fn copy_from(&mut self, other: &Self) {
        self.clone_from(other);
    }
    fn axpy(&mut self, a: T, x: &Self) {
        if self.len() != x.len() {
            return self.fill(T::nan());
        }
        for (y, &x) in self.iter_mut().zip(x) {
            *y += a * x;
        }
    }
    fn scale(&mut self, a: T) {
        for y in self {
            *y *= a;
        }
    }
    fn dot(&self, other: &Self) -> f64 {
        if self.len() != other.len() {
            return f64::NAN;
        }
        self.iter().zip(other).map(|(&a, &b)| a.f64() * b.f64()).sum()
    }
    fn max_abs(&self) -> f64 {
        self.iter().fold(0.0, |m, x| nan_max(m, x.f64().abs()))
    }
    fn dimension(&self) -> usize {
        self.len()
    }
    fn expect_like(&self, found: &Self) -> Result<()> {
        let (expected, found) = (self.len(), found.len());
        if expected == found {
            Ok(())
        } else {
            Err(Error::Length { what: "vector", expected, found })
        }
    }
}

/// `out ← Σ a·x` for any number of terms, the first five of them in one pass where the space has one for them.
///
/// Terms of other shapes than `out` make it NaN.
///
/// ```
/// use rdmm_core::space::set_sum_of;
/// let (x, y) = (vec![1.0, 2.0], vec![3.0, 4.0]);
/// let mut out = vec![0.0; 2];
/// set_sum_of(&mut out, [(1.0, &x), (0.5, &y)].into_iter());
/// assert_eq!(out, [2.5, 4.0]);
/// ```
pub fn set_sum_of<'a, T: Real, S: StateSpace<T> + 'a>(
    out: &mut S,
    mut terms: impl Iterator<Item = (T, &'a S)>,
) {
    // Fourth-order Runge–Kutta methods have two terms a stage and five a step.
    let first: [Option<(T, &S)>; 5] = std::array::from_fn(|_| terms.next());
    match first {
        [Some(a), Some(b), Some(c), Some(d), Some(e)] => out.set_sum([a, b, c, d, e]),
        [Some(a), Some(b), rest @ ..] => {
            out.set_sum([a, b]);
            rest.into_iter().flatten().for_each(|(a, x)| out.axpy(a, x));
        }
        [Some(a), ..] => out.set_sum([a]),
        [None, ..] => out.set_zero(),
    }
    terms.for_each(|(a, x)| out.axpy(a, x));
}

/// Maximum that keeps NaN.
pub(crate) fn nan_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// Implements [`StateSpace`](crate::space::StateSpace) and [`Componentwise`](crate::space::Componentwise) for a
/// struct, field by field.
///
/// ```
/// use rdmm_core::product_space;
/// use rdmm_core::space::{Componentwise, StateSpace};
///
/// #[derive(Clone)]
/// struct Pendulum {
///     angle: Vec<f64>,
///     momentum: Vec<f64>,
/// }
/// product_space!(Pendulum { angle, momentum } over f64);
///
/// let mut p = Pendulum { angle: vec![1.0], momentum: vec![2.0] };
/// let q = p.clone();
/// p.axpy(2.0, &q);
/// assert_eq!(p.dot(&q), 3.0 * 1.0 + 6.0 * 2.0);
/// p.combine(&q, |a, b| a - b * b);
/// assert_eq!((p.angle[0], p.momentum[0]), (2.0, 2.0));
/// ```
///
/// `product_space!(linear Name { fields } over f64)` implements `StateSpace` alone, for parts without coordinates.
#[macro_export]
macro_rules! product_space {
    (linear $name:ident { $($field:ident),+ } over $scalar:ty) => {
        $crate::product_space!(@linear [] $name { $($field),+ } $scalar);
    };
    ($name:ident { $($field:ident),+ } over $scalar:ty) => {
        $crate::product_space!(@linear [] $name { $($field),+ } $scalar);
        $crate::product_space!(@componentwise [] $name { $($field),+ } $scalar);
    };
    (@linear [$($generics:tt)*] $name:ty { $($field:ident),+ } $scalar:ty) => {
        impl<$($generics)*> $crate::space::StateSpace<$scalar> for $name {
            fn set_zero(&mut self) {
                $($crate::space::StateSpace::<$scalar>::set_zero(&mut self.$field);)+
            }
            fn copy_from(&mut self, other: &Self) {
                $($crate::space::StateSpace::<$scalar>::copy_from(&mut self.$field, &other.$field);)+
            }
            fn axpy(&mut self, a: $scalar, x: &Self) {
                $($crate::space::StateSpace::<$scalar>::axpy(&mut self.$field, a, &x.$field);)+
            }
            fn set_sum<const K: usize>(&mut self, terms: [($scalar, &Self); K]) {
                $($crate::space::StateSpace::<$scalar>::set_sum(
                    &mut self.$field,
                    terms.map(|(a, x)| (a, &x.$field)),
                );)+
            }
            fn scale(&mut self, a: $scalar) {
                $($crate::space::StateSpace::<$scalar>::scale(&mut self.$field, a);)+
            }
            fn scale_add(&mut self, a: $scalar, x: &Self) {
                $($crate::space::StateSpace::<$scalar>::scale_add(&mut self.$field, a, &x.$field);)+
            }
            fn dot(&self, other: &Self) -> f64 {
                0.0 $(+ $crate::space::StateSpace::<$scalar>::dot(&self.$field, &other.$field))+
            }
            fn max_abs(&self) -> f64 {
                let mut largest = 0.0_f64;
                $(
                    let next = $crate::space::StateSpace::<$scalar>::max_abs(&self.$field);
                    largest = if next.is_nan() { f64::NAN } else if largest.is_nan() { largest } else { largest.max(next) };
                )+
                largest
            }
            fn dimension(&self) -> usize {
                0 $(+ $crate::space::StateSpace::<$scalar>::dimension(&self.$field))+
            }
            fn expect_like(&self, found: &Self) -> $crate::error::Result<()> {
                $($crate::space::StateSpace::<$scalar>::expect_like(&self.$field, &found.$field)?;)+
                Ok(())
            }
            fn relative_error(&self, before: &Self, after: &Self) -> f64 {
                let mut largest = 0.0_f64;
                $(
                    let next = $crate::space::StateSpace::<$scalar>::relative_error(
                        &self.$field, &before.$field, &after.$field,
                    );
                    largest = if next.is_nan() { f64::NAN } else if largest.is_nan() { largest } else { largest.max(next) };
                )+
                largest
            }
        }
    };
    (@componentwise [$($generics:tt)*] $name:ty { $($field:ident),+ } $scalar:ty) => {
        impl<$($generics)*> $crate::space::Componentwise<$scalar> for $name {
            fn combine(
                &mut self,
                x: &Self,
                f: impl Fn($scalar, $scalar) -> $scalar + Copy + Sync,
            ) {
                $($crate::space::Componentwise::<$scalar>::combine(&mut self.$field, &x.$field, f);)+
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Image;
    use crate::grid::Grid;
    use crate::testing::random;

    #[derive(Clone)]
    struct Pair {
        image: Image<f64, 2>,
        rest: Vec<f64>,
    }
    product_space!(Pair { image, rest } over f64);

    #[test]
    fn sums_of_any_number_of_terms_are_those_of_single_updates() {
        let grid = Grid::new([150, 130], [1.0, 1.0]).unwrap();
        let pair = |seed| Pair {
            image: Image::from_vec(&grid, random(grid.len(), seed)).unwrap(),
            rest: random(7, seed + 100),
        };
        let terms: Vec<(f64, Pair)> = (0..8).map(|k| (0.5 - 0.2 * k as f64, pair(k))).collect();
        for count in 0..=terms.len() {
            let mut one_by_one = pair(50);
            one_by_one.set_zero();
            terms[..count].iter().for_each(|(a, x)| one_by_one.axpy(*a, x));
            let mut at_once = pair(51);
            set_sum_of(&mut at_once, terms[..count].iter().map(|(a, x)| (*a, x)));
            assert_eq!(at_once.image.data(), one_by_one.image.data(), "{count} terms");
            assert_eq!(at_once.rest, one_by_one.rest, "{count} terms");
        }
        let (mut sum, other) = (pair(1), Pair { rest: vec![1.0; 3], ..pair(2) });
        sum.set_sum([(1.0, &other)]);
        assert!(sum.rest.iter().all(|x| x.is_nan()), "a vector of another length");
    }

    #[test]
    fn the_largest_coordinate_is_found_wherever_it_is() {
        for shape in [[5, 5], [4, 8], [150, 131]] {
            let grid = Grid::new(shape, [1.0, 1.0]).unwrap();
            let n = grid.len();
            for at in [0, 1, n / 2, n - 2, n - 1] {
                for value in [-3.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
                    let mut image = Image::<f64, 2>::from_vec(&grid, random(n, 3)).unwrap();
                    image.data_mut()[at] = value;
                    let found = image.max_abs();
                    assert_eq!(found.to_bits(), value.abs().to_bits(), "{shape:?}, {at}: {value}");
                }
            }
        }
    }
}
