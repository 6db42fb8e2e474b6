//! Vector instructions, chosen at run time. The only file that names `pulp`.
//!
//! The crate is compiled for the oldest processor of its target. Code that is inlined into one of these functions is
//! compiled once more for each set of instructions, and the processor at hand decides which of them runs. Only
//! `#[inline(always)]` carries code in.
//!
//! | function | code | compiled for |
//! | --- | --- | --- |
//! | [`explicit`] | written with [`Vector`] | the portable set, AVX2 with FMA, AVX-512; NEON on aarch64 |
//! | [`fused`], [`vectorised`] | plain loops, which the compiler makes vectors of; [`Vector`], of eight `f32` at most | the same but AVX-512 |
//!
//! Of plain loops over blocks the compiler makes gathers where there is AVX-512, several times slower than what it
//! makes for AVX2.

use std::ops::{Add, Mul, Sub};

use num_traits::Float;
pub(crate) use pulp::Simd;

/// The set of instructions without vectors: what the others are tested against.
#[cfg(test)]
pub(crate) const PORTABLE: pulp::Scalar = pulp::Scalar;

/// Work that multiplies and adds. Implementations are `#[inline(always)]`.
pub(crate) trait Work {
    /// Does it.
    fn run<S: Simd>(self, simd: S);
}

struct WithSimd<W>(W);

impl<W: Work> pulp::WithSimd for WithSimd<W> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.0.run(simd);
    }
}

/// Does `work`, written with [`Vector`], with the widest vectors.
pub(crate) fn explicit(work: impl Work) {
    pulp::Arch::new().dispatch(WithSimd(work));
}

/// Does `work`, written in plain loops, with fused arithmetic where the processor has it. The last bits then depend on
/// the processor, on nothing else.
pub(crate) fn fused(work: impl Work) {
    plain_loops(WithSimd(work));
}

/// Calls `f` with wider vectors: the bits are those of a plain call.
#[inline(always)]
pub(crate) fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    plain_loops(f)
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn plain_loops<O: pulp::WithSimd>(op: O) -> O::Output {
    match pulp::x86::V3::try_new() {
        Some(simd) => Simd::vectorize(simd, op),
        None => pulp::Scalar.vectorize(op),
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn plain_loops<O: pulp::WithSimd>(op: O) -> O::Output {
    pulp::Arch::new().dispatch(op)
}

/// a·b + c in one instruction, rounded once, where the set has one: without, `f32::mul_add` is a call into the C
/// library.
#[inline(always)]
pub(crate) fn mul_add<S: Simd, T: Float>(a: T, b: T, c: T) -> T {
    // WebAssembly has vectors but no fused scalar operation.
    if S::IS_SCALAR || cfg!(target_family = "wasm") { a * b + c } else { a.mul_add(b, c) }
}

/// A floating-point type with vectors.
pub trait Lanes: Float {
    /// The widest vector of a set of instructions.
    type Of<S: Simd>: Copy;

    /// `x` in every lane.
    fn splat<S: Simd>(simd: S, x: Self) -> Self::Of<S>;

    /// Values as vectors, and what is left over.
    fn split<S: Simd>(x: &[Self]) -> (&[Self::Of<S>], &[Self]);

    /// The same.
    fn split_mut<S: Simd>(x: &mut [Self]) -> (&mut [Self::Of<S>], &mut [Self]);

    /// a + b.
    fn plus<S: Simd>(simd: S, a: Self::Of<S>, b: Self::Of<S>) -> Self::Of<S>;

    /// a − b.
    fn minus<S: Simd>(simd: S, a: Self::Of<S>, b: Self::Of<S>) -> Self::Of<S>;

    /// a·b.
    fn times<S: Simd>(simd: S, a: Self::Of<S>, b: Self::Of<S>) -> Self::Of<S>;

    /// a·b + c, rounded once where there is an instruction for it.
    fn times_plus<S: Simd>(simd: S, a: Self::Of<S>, b: Self::Of<S>, c: Self::Of<S>) -> Self::Of<S>;
}

macro_rules! lanes {
    ($float:ident: $of:ident $splat:ident $split:ident $split_mut:ident $add:ident $sub:ident $mul:ident $mul_add:ident) => {
        impl Lanes for $float {
            type Of<S: Simd> = S::$of;

            #[inline(always)]
            fn splat<S: Simd>(simd: S, x: Self) -> S::$of {
                simd.$splat(x)
            }

            #[inline(always)]
            fn split<S: Simd>(x: &[Self]) -> (&[S::$of], &[Self]) {
                S::$split(x)
            }

            #[inline(always)]
            fn split_mut<S: Simd>(x: &mut [Self]) -> (&mut [S::$of], &mut [Self]) {
                S::$split_mut(x)
            }

            #[inline(always)]
            fn plus<S: Simd>(simd: S, a: S::$of, b: S::$of) -> S::$of {
                simd.$add(a, b)
            }

            #[inline(always)]
            fn minus<S: Simd>(simd: S, a: S::$of, b: S::$of) -> S::$of {
                simd.$sub(a, b)
            }

            #[inline(always)]
            fn times<S: Simd>(simd: S, a: S::$of, b: S::$of) -> S::$of {
                simd.$mul(a, b)
            }

            #[inline(always)]
            fn times_plus<S: Simd>(simd: S, a: S::$of, b: S::$of, c: S::$of) -> S::$of {
                simd.$mul_add(a, b, c)
            }
        }
    };
}

lanes!(f32: f32s splat_f32s as_simd_f32s as_mut_simd_f32s add_f32s sub_f32s mul_f32s mul_add_e_f32s);
lanes!(f64: f64s splat_f64s as_simd_f64s as_mut_simd_f64s add_f64s sub_f64s mul_f64s mul_add_e_f64s);

/// As many numbers as a register of `S` holds.
#[derive(Clone, Copy)]
pub(crate) struct Vector<S: Simd, T: Lanes> {
    simd: S,
    lanes: T::Of<S>,
}

impl<S: Simd, T: Lanes> Vector<S, T> {
    /// Numbers of a vector.
    pub(crate) const LEN: usize = size_of::<T::Of<S>>() / size_of::<T>();

    #[inline(always)]
    pub(crate) fn splat(simd: S, x: T) -> Self {
        Self { simd, lanes: T::splat(simd, x) }
    }

    /// The first numbers of `x`.
    #[inline(always)]
    pub(crate) fn load(simd: S, x: &[T]) -> Self {
        Self { simd, lanes: T::split::<S>(&x[..Self::LEN]).0[0] }
    }

    /// Writes to the first numbers of `out`.
    #[inline(always)]
    pub(crate) fn store(self, out: &mut [T]) {
        T::split_mut::<S>(&mut out[..Self::LEN]).0[0] = self.lanes;
    }

    /// self·b + c, rounded once where there is an instruction for it.
    #[inline(always)]
    pub(crate) fn mul_add(self, b: Self, c: Self) -> Self {
        Self { simd: self.simd, lanes: T::times_plus(self.simd, self.lanes, b.lanes, c.lanes) }
    }
}

impl<S: Simd, T: Lanes> Add for Vector<S, T> {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self { simd: self.simd, lanes: T::plus(self.simd, self.lanes, other.lanes) }
    }
}

impl<S: Simd, T: Lanes> Sub for Vector<S, T> {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self { simd: self.simd, lanes: T::minus(self.simd, self.lanes, other.lanes) }
    }
}

impl<S: Simd, T: Lanes> Mul for Vector<S, T> {
    type Output = Self;

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self { simd: self.simd, lanes: T::times(self.simd, self.lanes, other.lanes) }
    }
}

/// `out[k] ← f(out[k], operands[·][k])` for every k, a vector at a time; the operands are as long as `out`, or longer.
#[inline(always)]
pub(crate) fn update<S: Simd, T: Lanes, const L: usize>(
    simd: S,
    out: &mut [T],
    operands: [&[T]; L],
    f: impl Fn(Vector<S, T>, [Vector<S, T>; L]) -> Vector<S, T>,
) {
    // Loops, not `map`: what is not inlined is without vectors.
    let len = Vector::<S, T>::LEN;
    let whole = out.len() / len * len;
    let mut inputs = [T::split::<S>(&[]).0; L];
    for l in 0..L {
        inputs[l] = T::split::<S>(&operands[l][..whole]).0;
    }
    let (vectors, rest) = T::split_mut::<S>(out);
    let (groups, singles) = vectors.as_chunks_mut::<GROUP>();
    for (k, group) in groups.iter_mut().enumerate() {
        let mut results = *group;
        for g in 0..GROUP {
            results[g] = updated(simd, group[g], inputs, GROUP * k + g, &f);
        }
        *group = results;
    }
    let from = GROUP * groups.len();
    for (k, y) in singles.iter_mut().enumerate() {
        *y = updated(simd, *y, inputs, from + k, &f);
    }
    if !rest.is_empty() {
        update_rest(simd, rest, whole, operands, f);
    }
}

/// Vectors that are read and written together. Where operands and result are a multiple of 4 KiB apart, a processor takes a
/// read beside what was just written for one of it, and waits.
const GROUP: usize = 4;

/// `y` and the operands at `k`.
#[inline(always)]
fn updated<S: Simd, T: Lanes, const L: usize>(
    simd: S,
    y: T::Of<S>,
    inputs: [&[T::Of<S>]; L],
    k: usize,
    f: &impl Fn(Vector<S, T>, [Vector<S, T>; L]) -> Vector<S, T>,
) -> T::Of<S> {
    let y = Vector { simd, lanes: y };
    let mut x = [y; L];
    for l in 0..L {
        x[l].lanes = inputs[l][k];
    }
    f(y, x).lanes
}

/// What is left over goes through vectors that are not full.
#[inline(always)]
fn update_rest<S: Simd, T: Lanes, const L: usize>(
    simd: S,
    out: &mut [T],
    from: usize,
    operands: [&[T]; L],
    f: impl Fn(Vector<S, T>, [Vector<S, T>; L]) -> Vector<S, T>,
) {
    let mut lanes = [T::zero(); MOST];
    lanes[..out.len()].copy_from_slice(out);
    let y = Vector::load(simd, &lanes);
    let mut x = [y; L];
    for l in 0..L {
        lanes[..out.len()].copy_from_slice(&operands[l][from..][..out.len()]);
        x[l] = Vector::load(simd, &lanes);
    }
    f(y, x).store(&mut lanes);
    out.copy_from_slice(&lanes[..out.len()]);
}

/// Most lanes of a vector.
const MOST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scalar::Real;
    use crate::testing::random;

    struct Sum<'a>(&'a [f64], &'a mut f64);

    impl Work for Sum<'_> {
        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            *self.1 = self.0.iter().fold(0.0, |sum, &x| mul_add::<S, f64>(x, x, sum));
        }
    }

    #[test]
    fn all_kinds_of_arithmetic_agree_to_rounding() {
        let x: Vec<f64> = random(1000, 1);
        let (mut plain, mut chosen, mut widest) = (0.0, 0.0, 0.0);
        Sum(&x, &mut plain).run(PORTABLE);
        fused(Sum(&x, &mut chosen));
        explicit(Sum(&x, &mut widest));
        // A thousand terms of the same sign: 1000 ε at most.
        for other in [chosen, widest] {
            assert!((plain - other).abs() < 1e-12 * plain, "{plain} {other}");
        }
        let again = vectorised(|| x.iter().fold(0.0, |sum, x| sum + x * x));
        assert_eq!(again.to_bits(), plain.to_bits());
    }

    /// y ← y + (x₀ − y·x₁)·x₂.
    struct Update<'a, T> {
        out: &'a mut [T],
        operands: [&'a [T]; 3],
    }

    impl<T: Real> Work for Update<'_, T> {
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            update(
                simd,
                self.out,
                self.operands,
                #[inline(always)]
                |y, [a, b, c]| y + (a - y * b) * c,
            );
        }
    }

    fn check_updates<T: Real>() {
        for n in 0..70 {
            // Operands that are longer count as far as the result goes.
            let operands: [Vec<T>; 3] = [1, 2, 3].map(|seed| random(n + 3, seed));
            let operands = operands.each_ref().map(Vec::as_slice);
            let start: Vec<T> = random(n, 4);
            let mut expected = start.clone();
            for (k, y) in expected.iter_mut().enumerate() {
                let [a, b, c] = operands.map(|x| x[k]);
                *y += (a - *y * b) * c;
            }
            let (mut portable, mut middle, mut widest) = (start.clone(), start.clone(), start);
            Update { out: &mut portable, operands }.run(PORTABLE);
            fused(Update { out: &mut middle, operands });
            explicit(Update { out: &mut widest, operands });
            for found in [portable, middle, widest] {
                assert!(found == expected, "{n} numbers");
            }
        }
    }

    #[test]
    fn updates_have_the_bits_of_scalar_code_in_every_set() {
        check_updates::<f32>();
        check_updates::<f64>();
    }
}
