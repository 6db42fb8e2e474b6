//! Vector instructions, chosen at run time. The only file that names `pulp`.
//!
//! The crate is compiled for the oldest processor of its target. Code that is inlined into [`fused`] or
//! [`vectorised`] is compiled a second time, for AVX2 with FMA (on aarch64 for NEON), and the processor at
//! hand decides which of the two runs. Only `#[inline(always)]` carries code in.

use crate::scalar::Real;

/// Whether a·b + c is one instruction. Without it `mul_add` is a call into the C library.
pub(crate) trait Arithmetic: Copy {
    /// a·b + c, rounded once where the processor can.
    fn mul_add<T: Real>(a: T, b: T, c: T) -> T;
}

/// One instruction and one rounding.
#[derive(Clone, Copy)]
pub(crate) struct Fused;

/// Two instructions and two roundings.
#[derive(Clone, Copy)]
pub(crate) struct Plain;

impl Arithmetic for Fused {
    #[inline(always)]
    fn mul_add<T: Real>(a: T, b: T, c: T) -> T {
        a.mul_add(b, c)
    }
}

impl Arithmetic for Plain {
    #[inline(always)]
    fn mul_add<T: Real>(a: T, b: T, c: T) -> T {
        a * b + c
    }
}

/// Work that multiplies and adds. Implementations are `#[inline(always)]`.
pub(crate) trait Work {
    /// Does it.
    fn run<A: Arithmetic>(self);
}

/// Does `work` with fused arithmetic where the processor has it. The last bits then depend on the processor,
/// on nothing else.
pub(crate) fn fused(work: impl Work) {
    pulp::Arch::new().dispatch(WithSimd(work));
}

struct WithSimd<W>(W);

impl<W: Work> pulp::WithSimd for WithSimd<W> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        // WebAssembly has vectors but no fused scalar operation.
        if S::IS_SCALAR || cfg!(target_family = "wasm") {
            self.0.run::<Plain>();
        } else {
            self.0.run::<Fused>();
        }
    }
}

/// Calls `f` with wider vectors: the bits are those of a plain call.
#[inline(always)]
pub(crate) fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sum<'a>(&'a [f64], &'a mut f64);

    impl Work for Sum<'_> {
        #[inline(always)]
        fn run<A: Arithmetic>(self) {
            *self.1 = self.0.iter().fold(0.0, |sum, &x| A::mul_add(x, x, sum));
        }
    }

    #[test]
    fn both_kinds_of_arithmetic_agree_to_rounding() {
        let x: Vec<f64> = crate::testing::random(1000, 1);
        let (mut plain, mut chosen) = (0.0, 0.0);
        Sum(&x, &mut plain).run::<Plain>();
        fused(Sum(&x, &mut chosen));
        // A thousand terms of the same sign: 1000 ε at most.
        assert!((plain - chosen).abs() < 1e-12 * plain, "{plain} {chosen}");
        let again = vectorised(|| x.iter().fold(0.0, |sum, x| sum + x * x));
        assert_eq!(again.to_bits(), plain.to_bits());
    }
}
