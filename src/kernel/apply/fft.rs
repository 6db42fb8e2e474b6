//! Real orthogonal transforms along one axis, by complex FFTs of two lanes at a time.
//!
//! | boundary | transform | eigenvectors of |
//! | --- | --- | --- |
//! | periodic | Hartley, length n | circulant symmetric matrices |
//! | reflecting | cosine (DCT-II), length n | half-sample symmetric ones |
//! | free | Hartley of length N > n after zero padding | free-space convolution |
//!
//! A pass reads lanes along the *first* axis of its input and writes them along the *last* axis of
//! its output. D passes bring a field back to its own axis order, every pass writes contiguous
//! memory, and no code knows the dimension.

use std::sync::Arc;

use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};

use super::domain::Lattice;
use crate::par;
use crate::scalar::Real;

/// Lanes that are read side by side: a cache line of `f32`.
const LANES: usize = 16;

/// Parts of a pass that may run at once.
const PARTS: usize = 16;

/// Scratch of one part of a pass.
#[derive(Clone, Debug)]
pub(crate) struct Slot<T> {
    lanes: Vec<Complex<T>>,
    fft: Vec<Complex<T>>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { lanes: Vec::new(), fft: Vec::new() }
    }
}

/// The two types of numbers that there are transforms for.
pub(crate) trait Scalar: Real + rustfft::FftNum {}

impl Scalar for f32 {}
impl Scalar for f64 {}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Basis {
    Hartley,
    Cosine,
}

/// The transform T of lanes of `n` values into `len ≥ n` coefficients, with TᵀT = 1.
#[derive(Clone)]
pub(super) struct Transform<T: Scalar> {
    basis: Basis,
    n: usize,
    len: usize,
    fft: Arc<dyn Fft<T>>,
    ifft: Arc<dyn Fft<T>>,
    /// exp(iπk/2n) of the cosine basis.
    twiddles: Vec<Complex<T>>,
}

impl<T: Scalar> std::fmt::Debug for Transform<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {} → {}", self.basis, self.n, self.len)
    }
}

impl<T: Scalar> Transform<T> {
    /// The transform of lanes along an axis.
    pub(super) fn new(planner: &mut FftPlanner<T>, lattice: Lattice) -> Self {
        let (n, len) = (lattice.n, lattice.coefficients());
        let basis = if lattice.mirrored() { Basis::Cosine } else { Basis::Hartley };
        let twiddle = |k: usize| {
            let (sin, cos) = (std::f64::consts::PI * k as f64 / (2 * n) as f64).sin_cos();
            Complex::new(T::of(cos), T::of(sin))
        };
        Self {
            basis,
            n,
            len,
            fft: planner.plan_fft_forward(len),
            ifft: planner.plan_fft_inverse(len),
            twiddles: (0..n).map(twiddle).collect(),
        }
    }

    /// Values a lane.
    pub(super) fn input_len(&self) -> usize {
        self.n
    }

    /// Number of coefficients.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// `out ← T input`.
    pub(super) fn forward(&self, input: &[T], out: &mut [T], slots: &mut Vec<Slot<T>>) {
        self.pass(input, self.n, out, self.len, slots, |lanes, fft| match self.basis {
            Basis::Hartley => self.hartley(lanes, fft),
            Basis::Cosine => self.cosine(lanes, fft),
        });
    }

    /// `out ← Tᵀ input`, the inverse on the range of T.
    pub(super) fn inverse(&self, input: &[T], out: &mut [T], slots: &mut Vec<Slot<T>>) {
        self.pass(input, self.len, out, self.n, slots, |lanes, fft| match self.basis {
            Basis::Hartley => self.hartley(lanes, fft),
            Basis::Cosine => self.inverse_cosine(lanes, fft),
        });
    }

    /// `out ← Tᵀ diag(gain) T input`.
    pub(super) fn filter(&self, gain: &[T], input: &[T], out: &mut [T], slots: &mut Vec<Slot<T>>) {
        self.pass(input, self.n, out, self.n, slots, |lanes, fft| {
            match self.basis {
                Basis::Hartley => {
                    // An even gain acts on the two packed real lanes apart: no need to separate them.
                    self.fft.process_with_scratch(lanes, fft);
                    let scale = T::one() / T::of(self.len as f64);
                    for lane in lanes.chunks_mut(self.len) {
                        for (z, &g) in lane.iter_mut().zip(gain) {
                            *z = z.scale(g * scale);
                        }
                    }
                    self.ifft.process_with_scratch(lanes, fft);
                }
                Basis::Cosine => {
                    self.cosine(lanes, fft);
                    for lane in lanes.chunks_mut(self.len) {
                        for (z, &g) in lane.iter_mut().zip(gain) {
                            *z = z.scale(g);
                        }
                    }
                    self.inverse_cosine(lanes, fft);
                }
            }
        });
    }

    /// Reads lanes along the first axis, works on blocks of them, writes them along the last axis.
    fn pass(
        &self,
        input: &[T],
        n_in: usize,
        out: &mut [T],
        n_out: usize,
        slots: &mut Vec<Slot<T>>,
        work: impl Fn(&mut [Complex<T>], &mut [Complex<T>]) + Sync,
    ) {
        let inner = input.len() / n_in;
        let per_part = inner.div_ceil(PARTS).next_multiple_of(LANES);
        if slots.len() < PARTS {
            slots.resize_with(PARTS, Slot::default);
        }
        let zero = Complex::new(T::zero(), T::zero());
        let needs = [&self.fft, &self.ifft].map(|fft| fft.get_inplace_scratch_len());
        let scratch = needs[0].max(needs[1]).max(self.n);
        par::with_slots(out, per_part * n_out, slots, |part, out, slot| {
            // Grows at first use only.
            if slot.lanes.len() < LANES / 2 * self.len {
                slot.lanes.resize(LANES / 2 * self.len, zero);
            }
            if slot.fft.len() < scratch {
                slot.fft.resize(scratch, zero);
            }
            for (b, out) in out.chunks_mut(LANES * n_out).enumerate() {
                let first = part * per_part + b * LANES;
                let count = out.len() / n_out;
                let pairs = count.div_ceil(2);
                let lanes = &mut slot.lanes[..pairs * self.len];
                for k in 0..n_in {
                    let row = &input[k * inner + first..][..count];
                    for (p, pair) in row.chunks(2).enumerate() {
                        let im = pair.get(1).copied().unwrap_or_else(T::zero);
                        lanes[p * self.len + k] = Complex::new(pair[0], im);
                    }
                }
                for lane in lanes.chunks_mut(self.len) {
                    lane[n_in..].fill(zero);
                }
                work(lanes, &mut slot.fft[..scratch]);
                for (p, out) in out.chunks_mut(2 * n_out).enumerate() {
                    let lane = &lanes[p * self.len..][..n_out];
                    let (re, im) = out.split_at_mut(n_out);
                    for (x, z) in re.iter_mut().zip(lane) {
                        *x = z.re;
                    }
                    for (x, z) in im.iter_mut().zip(lane) {
                        *x = z.im;
                    }
                }
            }
        });
    }

    /// Orthonormal Hartley transform of packed pairs, its own inverse:
    /// H\[k\] = N^(−½) Σ_j x_j (cos + sin)(2πjk/N).
    fn hartley(&self, lanes: &mut [Complex<T>], fft: &mut [Complex<T>]) {
        self.fft.process_with_scratch(lanes, fft);
        let n = self.len;
        let half = T::of(0.5 / (n as f64).sqrt());
        for lane in lanes.chunks_mut(n) {
            for k in 0..=n / 2 {
                let (z, y) = (lane[k], lane[(n - k) % n]);
                let (even, odd) = (z + y, z - y);
                // Lane a: Re A = even.re/2, Im A = odd.im/2. Lane b: Re B = even.im/2,
                // Im B = −odd.re/2. H = Re − Im; at n − k the odd parts change sign.
                lane[k] = Complex::new(even.re - odd.im, even.im + odd.re).scale(half);
                lane[(n - k) % n] = Complex::new(even.re + odd.im, even.im - odd.re).scale(half);
            }
        }
    }

    /// Orthonormal DCT-II of packed pairs.
    ///
    /// Makhoul, *A fast cosine transform in one and two dimensions*, IEEE Trans. Acoust. Speech
    /// Signal Process. 28 (1980), doi:10.1109/TASSP.1980.1163351.
    fn cosine(&self, lanes: &mut [Complex<T>], fft: &mut [Complex<T>]) {
        let n = self.n;
        for lane in lanes.chunks_mut(n) {
            let order = &mut fft[..n];
            for (j, &z) in lane.iter().enumerate() {
                order[if j % 2 == 0 { j / 2 } else { n - 1 - j / 2 }] = z;
            }
            lane.copy_from_slice(order);
        }
        self.fft.process_with_scratch(lanes, fft);
        let (first, half) = (T::of((1.0 / n as f64).sqrt()), T::of((0.5 / n as f64).sqrt()));
        for lane in lanes.chunks_mut(n) {
            lane[0] = lane[0].scale(first);
            for k in 1..=n / 2 {
                let (z, y) = (lane[k], lane[n - k]);
                for (k, z, y) in [(k, z, y), (n - k, y, z)] {
                    // A = (z + ȳ)/2, B = (z − ȳ)/2i, X = √(2/n) Re(e^(−iθ) ·).
                    let (a, b) = (z + y.conj(), z - y.conj());
                    let w = self.twiddles[k];
                    lane[k] = Complex::new(
                        (w.re * a.re + w.im * a.im) * half,
                        (w.re * b.im - w.im * b.re) * half,
                    );
                }
            }
        }
    }

    /// Transpose and inverse of [`Transform::cosine`].
    fn inverse_cosine(&self, lanes: &mut [Complex<T>], fft: &mut [Complex<T>]) {
        let n = self.n;
        let (first, half) = (T::of((1.0 / n as f64).sqrt()), T::of((0.5 / n as f64).sqrt()));
        for lane in lanes.chunks_mut(n) {
            lane[0] = lane[0].scale(first);
            for k in 1..=n / 2 {
                let (x, y) = (lane[k], lane[n - k]);
                for (k, x, y) in [(k, x, y), (n - k, y, x)] {
                    // V = e^(iθ) (C[k] − i C[n−k]) for both lanes at once.
                    let v = Complex::new(x.re + y.im, x.im - y.re);
                    lane[k] = (self.twiddles[k] * v).scale(half);
                }
            }
        }
        self.ifft.process_with_scratch(lanes, fft);
        for lane in lanes.chunks_mut(n) {
            let order = &mut fft[..n];
            order.copy_from_slice(lane);
            for (j, z) in lane.iter_mut().enumerate() {
                *z = order[if j % 2 == 0 { j / 2 } else { n - 1 - j / 2 }];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Boundary;
    use crate::testing::random;

    /// The dense orthonormal basis.
    fn dense(t: &Transform<f64>) -> Vec<Vec<f64>> {
        let (n, len, pi) = (t.n as f64, t.len as f64, std::f64::consts::PI);
        (0..t.len)
            .map(|k| {
                (0..t.n)
                    .map(|j| {
                        let (j, k) = (j as f64, k as f64);
                        match t.basis {
                            Basis::Hartley => {
                                let (s, c) = (2.0 * pi * j * k / len).sin_cos();
                                (s + c) / len.sqrt()
                            }
                            Basis::Cosine => {
                                let scale = if k > 0.0 { 2.0 } else { 1.0 };
                                let c = (pi * (2.0 * j + 1.0) * k / (2.0 * n)).cos();
                                c * (scale / n).sqrt()
                            }
                        }
                    })
                    .collect()
            })
            .collect()
    }

    #[test]
    fn transforms_equal_their_dense_matrices() {
        let mut planner = FftPlanner::new();
        for boundary in Boundary::ALL {
            for n in [4, 5, 9, 13, 32] {
                let lattice = Lattice::new(n, boundary, 7);
                let t = Transform::<f64>::new(&mut planner, lattice);
                let matrix = dense(&t);
                // 37 lanes: whole blocks, a partial block and an odd lane.
                let (lanes, mut slots) = (37, Vec::new());
                let x: Vec<f64> = random(n * lanes, 1);
                let mut y = vec![f64::NAN; t.len * lanes];
                t.forward(&x, &mut y, &mut slots);
                for l in 0..lanes {
                    for k in 0..t.len {
                        let expected: f64 = (0..n).map(|j| matrix[k][j] * x[j * lanes + l]).sum();
                        let found = y[l * t.len + k];
                        assert!((found - expected).abs() < 1e-13, "{t:?} {k}: {found} {expected}");
                    }
                }
                let coefficients: Vec<f64> = random(t.len * lanes, 2);
                let mut back = vec![f64::NAN; n * lanes];
                t.inverse(&coefficients, &mut back, &mut slots);
                let gain: Vec<f64> = lattice.sizes().iter().map(|w| (-w * w).exp()).collect();
                let mut smooth = vec![f64::NAN; n * lanes];
                t.filter(&gain, &x, &mut smooth, &mut slots);
                for l in 0..lanes {
                    for j in 0..n {
                        let expected: f64 =
                            (0..t.len).map(|k| matrix[k][j] * coefficients[k * lanes + l]).sum();
                        assert!((back[l * n + j] - expected).abs() < 1e-13, "{t:?}");
                        let expected: f64 =
                            (0..t.len).map(|k| matrix[k][j] * gain[k] * y[l * t.len + k]).sum();
                        assert!((smooth[l * n + j] - expected).abs() < 1e-13, "{t:?}");
                    }
                }
            }
        }
    }
}
