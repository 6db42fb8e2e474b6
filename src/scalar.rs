//! The floating-point types of the crate: `f32` and `f64`.

use num_traits::{Float, FloatConst};

mod sealed {
    /// What the crate needs of a type and a user does not.
    pub trait Sealed: crate::simd::Lanes {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// `f32` or `f64`. Sealed: the kernels are tested for these two.
pub trait Real:
    sealed::Sealed
    + Float
    + FloatConst
    + Send
    + Sync
    + std::fmt::Debug
    + 'static
    + std::iter::Sum
    + std::ops::AddAssign
    + std::ops::SubAssign
    + std::ops::MulAssign
    + std::fmt::Display
    + Default
{
    /// The name a report gives to this type.
    const NAME: &'static str;

    /// Nearest value of this type to `x`.
    fn of(x: f64) -> Self;

    /// This value in double precision.
    fn f64(self) -> f64;

    /// Whole numbers of a smaller magnitude become indices of a lattice ([`Real::lattice`]).
    const LATTICE: Self;

    /// A whole number below [`Real::LATTICE`] in magnitude as an integer, without a branch; any integer for
    /// other numbers.
    ///
    /// ```
    /// use rdmm_core::Real;
    /// assert_eq!([2.0_f32, -3.0, 4_194_303.0].map(Real::lattice), [2, -3, 4_194_303]);
    /// assert_eq!([2.0_f64, -3.0, 2_147_483_647.0].map(Real::lattice), [2, -3, i32::MAX]);
    /// ```
    fn lattice(self) -> i32;

    /// The whole part as an index: 0 for NaN and below zero, 2³¹ − 1 for what is larger.
    ///
    /// ```
    /// use rdmm_core::Real;
    /// assert_eq!([2.9, -3.0, f64::NAN, 1e12].map(Real::to_index), [2, 0, 0, 2_147_483_647]);
    /// ```
    fn to_index(self) -> usize;

    /// What there is for this type, of what there is for each of the two.
    #[doc(hidden)]
    fn choose<C: Choice>(single: C::Of<f32>, double: C::Of<f64>) -> C::Of<Self>;
}

/// Something that there is for `f32` and for `f64`.
#[doc(hidden)]
pub trait Choice {
    /// Its type.
    type Of<T: Real>;
}

impl Real for f32 {
    const NAME: &'static str = "f32";
    const LATTICE: Self = 4_194_304.0;

    #[inline(always)]
    fn choose<C: Choice>(single: C::Of<f32>, _double: C::Of<f64>) -> C::Of<f32> {
        single
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is what is asked for")]
    fn of(x: f64) -> Self {
        x as Self
    }

    #[inline]
    fn f64(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the whole part is what is asked for")]
    #[expect(clippy::cast_sign_loss, reason = "there is none from 0 on")]
    fn to_index(self) -> usize {
        (self as i32).max(0) as usize
    }

    // Added to 1½ · 2ᵖ, with p bits after the point, a whole number stands in the lowest bits.
    #[inline(always)]
    fn lattice(self) -> i32 {
        const ZERO: f32 = 12_582_912.0;
        (self + ZERO).to_bits().wrapping_sub(ZERO.to_bits()).cast_signed()
    }
}

impl Real for f64 {
    const NAME: &'static str = "f64";
    const LATTICE: Self = 2_147_483_648.0;

    #[inline(always)]
    fn choose<C: Choice>(_single: C::Of<f32>, double: C::Of<f64>) -> C::Of<f64> {
        double
    }

    #[inline]
    fn of(x: f64) -> Self {
        x
    }

    #[inline]
    fn f64(self) -> f64 {
        self
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the whole part is what is asked for")]
    #[expect(clippy::cast_sign_loss, reason = "there is none from 0 on")]
    fn to_index(self) -> usize {
        (self as i32).max(0) as usize
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the upper bits are those of the summand")]
    fn lattice(self) -> i32 {
        const ZERO: f64 = 6_755_399_441_055_744.0;
        (self + ZERO).to_bits() as i32
    }
}

/// Arrays of a const length for `serde`, which knows fixed lengths only.
#[cfg(feature = "serde")]
pub(crate) mod serde_array {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer, T: Serialize, const D: usize>(
        array: &[T; D],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        array.as_slice().serialize(serializer)
    }

    pub(crate) fn deserialize<'de, De: Deserializer<'de>, T: Deserialize<'de>, const D: usize>(
        deserializer: De,
    ) -> Result<[T; D], De::Error> {
        let items = Vec::<T>::deserialize(deserializer)?;
        let found = items.len();
        items
            .try_into()
            .map_err(|_| De::Error::custom(format!("expected {D} entries, found {found}")))
    }
}
