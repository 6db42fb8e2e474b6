//! The floating-point types of the crate: `f32` and `f64`.

use num_traits::{Float, FloatConst};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// `f32` or `f64`. Sealed: the kernels are tested for these two.
pub trait Real:
    sealed::Sealed
    + Float
    + FloatConst
    + rustfft::FftNum
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
}

impl Real for f32 {
    const NAME: &'static str = "f32";

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is what is asked for")]
    fn of(x: f64) -> Self {
        x as Self
    }

    #[inline]
    fn f64(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    const NAME: &'static str = "f64";

    #[inline]
    fn of(x: f64) -> Self {
        x
    }

    #[inline]
    fn f64(self) -> f64 {
        self
    }
}
