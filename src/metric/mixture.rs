//! A metric that varies in space: RDMM.

pub mod reference;

use super::{Inputs, Metric, Outputs};
use crate::aligned::Aligned;
use crate::error::{Error, Result};
use crate::field::{Momentum, Velocity, Weights, add_products, axpy};
use crate::grid::Grid;
use crate::kernel::slabs::{self, Slabs};
use crate::kernel::{self, Kernel};
use crate::ops::difference::{Difference, Order};
use crate::par;
use crate::scalar::Real;
use crate::space::StateSpace;

/// v = Σ_i w_i K_i ⋆ (w_i m) with weights w = G ⋆ h; the flow advects h.
///
#[doc = include_str!("../../docs/math/metric.html")]
///
/// | `G` | what is advected | source |
/// | --- | --- | --- |
/// | [`Gaussian`](crate::kernel::Gaussian) | pre-weights h | Shen et al. 2019, Theorem 2 |
/// | [`Identity`](crate::kernel::Identity) | the weights themselves | the weight-advected form |
///
/// Rates: ∂t m += Σ_i ∇h_i · G ⋆ (m·ν_i) with ν_i = K_i ⋆ (w_i m), and ∂t h_i = −∇h_i·v, both with the
/// *current* ∇h and the same differences. Cost: N·D scalar smoothings for a velocity, as many again for
/// its transpose, and N smoothings by G for each of w, force, and their transposes.
///
/// The equations it gives with [`Epdiff`](crate::dynamics::Epdiff):
///
#[doc = include_str!("../../docs/math/rdmm.html")]
///
#[doc = include_str!("../../docs/math/advection.html")]
///
/// # References
/// Shen, Vialard, Niethammer, *Region-specific diffeomorphic metric mapping*, `NeurIPS` 2019,
/// arXiv:1906.00139.
#[derive(Clone, Debug)]
pub struct Mixture<K, G, T, const D: usize> {
    kernels: Vec<K>,
    smoothing: G,
    difference: Difference<T, D>,
    n: usize,
    slabs: Slabs,
}

impl<T: Real, const D: usize, K: Kernel<T>, G: Kernel<T>> Mixture<K, G, T, D> {
    /// The metric of these kernels and this smoothing of the advected weights, all on `grid`, the smoothing with the
    /// boundary of weights: [`Gaussian::for_weights`](crate::kernel::Gaussian::for_weights).
    ///
    /// # Errors
    /// [`Error::Length`] without a kernel; [`Error::GridMismatch`] for one that was made for a grid of
    /// another shape, [`Error::Setting`] for another boundary.
    #[inline(never)]
    pub fn new(grid: &Grid<D>, kernels: Vec<K>, smoothing: G, order: Order) -> Result<Self> {
        if kernels.is_empty() {
            return Err(Error::Length { what: "kernels of a mixture", expected: 1, found: 0 });
        }
        for kernel in &kernels {
            kernel::expect_on(kernel, grid, "grid of a mixture")?;
            let expected = "that of the mixture's grid: make the kernels on it";
            kernel::expect_boundary(kernel, "boundary of a kernel", grid.boundary(), expected)?;
        }
        let expected = "that of weights on the mixture's grid: take `Gaussian::for_weights`";
        let of_weights = grid.boundary().of_weights();
        kernel::expect_on(&smoothing, grid, "grid of a mixture's weights")?;
        kernel::expect_boundary(&smoothing, "boundary of G", of_weights, expected)?;
        let (difference, n) = (Difference::new(grid, order), grid.len());
        Ok(Self { kernels, smoothing, difference, n, slabs: Slabs::of(grid) })
    }

    /// Number of kernels N.
    #[must_use]
    pub fn scales(&self) -> usize {
        self.kernels.len()
    }

    /// w ← G ⋆ h.
    #[inline(never)]
    pub fn smooth(&self, advected: &Weights<T, D>, weights: &mut Weights<T, D>) {
        let mut ws = kernel::Workspace::new();
        self.smoothing.apply(advected.data(), weights.data_mut(), &mut ws);
    }

    /// Whether fields and buffers are of this metric's grid and number of kernels.
    fn fits<const V: usize, const W: usize>(
        &self,
        vectors: [&[T]; V],
        weights: [&Weights<T, D>; W],
        tape: &Tape<T>,
    ) -> bool {
        let (n, scales) = (self.n, self.kernels.len());
        vectors.iter().all(|v| v.len() == D * n)
            && weights.iter().all(|w| w.grid().len() == n && w.components() == scales)
            && tape.weights.len() == scales * n
            && tape.nu.len() == scales * D * n
            && tape.force.len() == scales * n
    }

    /// From the cotangents v̄ of the velocity and s̄ of the densities, the latter in the first of the scalars,
    /// to those of momentum and advected weights.
    fn velocity_and_density_vjp(
        &self,
        m: &[T],
        v_bar: &[T],
        Outputs { momentum: m_bar, weights: h_bar }: Outputs<'_, T, D, Weights<T, D>>,
        tape: &Tape<T>,
        ws: &mut Workspace<T>,
    ) {
        let n = self.n;
        let Buffers { smooth, scalars: [s, w_bar] } = ws.grown(self.kernels.len(), n);
        let (w, nu, s_bar) = (&*tape.weights, &*tape.nu, &*s);
        // v = Σ_i w_i ν_i, s_i = m·ν_i and ν_i = K_i (w_i m): p̄_i = K_i (w_i v̄ + s̄_i m) is the cotangent of w_i m.
        let p_bar = |i: usize| [(component(w, n, i), v_bar), (component(s_bar, n, i), m)];
        let out = [&mut *w_bar, m_bar.data_mut()];
        self.slabs.smooth_products(
            (&self.kernels, p_bar),
            None,
            out,
            smooth,
            #[inline(always)]
            |slab, i, a, p_bar, [w_bar, m_bar]| {
                let (w_bar, m_bar) = (&mut *w_bar[i], &mut *m_bar[a]);
                let (v_bar, m, s_bar) = (slab.of(v_bar, a), slab.of(m, a), slab.of(s_bar, i));
                let (nu, w) = (slab.of(nu, i * D + a), slab.of(w, i));
                if a == 0 {
                    w_bar.fill(T::zero());
                }
                for k in 0..p_bar.len() {
                    w_bar[k] += v_bar[k] * nu[k] + p_bar[k] * m[k];
                }
                for k in 0..p_bar.len() {
                    m_bar[k] += s_bar[k] * nu[k] + w[k] * p_bar[k];
                }
            },
        );
        // w = G ⋆ h
        self.smoothing.apply(w_bar, s, &mut smooth.kernel);
        axpy(h_bar.data_mut(), T::one(), s);
    }
}

/// Component i of a field of `n` values a component.
fn component<T>(field: &[T], n: usize, i: usize) -> &[T] {
    &field[i * n..(i + 1) * n]
}

/// What a velocity leaves for the rates and the transposes.
#[derive(Clone, Debug)]
pub struct Tape<T> {
    /// w = G ⋆ h.
    weights: Aligned<T>,
    /// ν_i, scale by scale.
    nu: Aligned<T>,
    /// q_i = G ⋆ (m·ν_i).
    force: Aligned<T>,
}

impl<T: Real> super::Tape for Tape<T> {
    fn len(&self) -> usize {
        self.weights.len() + self.nu.len() + self.force.len()
    }
}

/// Buffers of [`Mixture`].
#[derive(Clone, Debug, Default)]
pub struct Workspace<T> {
    smooth: slabs::Buffers<T>,
    /// Two scalar fields a scale.
    scalars: [Aligned<T>; 2],
}

/// The buffers of a workspace, of the sizes of one metric.
struct Buffers<'a, T> {
    smooth: &'a mut slabs::Buffers<T>,
    scalars: [&'a mut [T]; 2],
}

impl<T: Real> Workspace<T> {
    fn grown(&mut self, scales: usize, n: usize) -> Buffers<'_, T> {
        let scalars = self.scalars.each_mut().map(|x| x.grown(scales * n));
        Buffers { smooth: &mut self.smooth, scalars }
    }
}

impl<T: Real, const D: usize, K: Kernel<T>, G: Kernel<T>> Metric<T, D> for Mixture<K, G, T, D> {
    type Weights = Weights<T, D>;
    type Tape = Tape<T>;
    type Workspace = Workspace<T>;

    fn tape(&self, _grid: &Grid<D>) -> Result<Tape<T>> {
        let zeros = |components: usize| Aligned::try_zeros(components.saturating_mul(self.n));
        let scales = self.kernels.len();
        Ok(Tape { weights: zeros(scales)?, nu: zeros(scales * D)?, force: zeros(scales)? })
    }

    fn expect_weights(&self, grid: &Grid<D>, weights: &Weights<T, D>) -> Result<()> {
        grid.expect_same(weights.grid(), "weights of the metric")?;
        let (expected, found) = (self.scales(), weights.components());
        if expected == found {
            return Ok(());
        }
        Err(Error::Length { what: "weights of the metric", expected, found })
    }

    #[inline(never)]
    fn velocity(
        &self,
        at: Inputs<'_, T, D, Weights<T, D>>,
        velocity: &mut Velocity<T, D>,
        tape: &mut Tape<T>,
        ws: &mut Workspace<T>,
    ) {
        if !self.fits([at.momentum.data(), velocity.data()], [at.weights], tape) {
            return velocity.scale(T::nan());
        }
        let n = self.n;
        let Buffers { smooth, scalars: [s, _] } = ws.grown(self.kernels.len(), n);
        let (Tape { weights: w, nu, force: q }, m) = (tape, at.momentum.data());
        // w = G ⋆ h
        self.smoothing.apply(at.weights.data(), w, &mut smooth.kernel);
        // ν_i = K_i (w_i m), and with it v = Σ_i w_i ν_i and s_i = m·ν_i.
        self.slabs.smooth_products(
            (&self.kernels, |i: usize| [(component(w, n, i), m)]),
            Some(nu),
            [velocity.data_mut(), s],
            smooth,
            #[inline(always)]
            |slab, i, a, nu, [v, s]| {
                add_products(i == 0, slab.of(w, i), nu, v[a]);
                add_products(a == 0, slab.of(m, a), nu, s[i]);
            },
        );
        // q_i = G ⋆ s_i
        self.smoothing.apply(s, q, &mut smooth.kernel);
    }

    #[inline(never)]
    fn velocity_vjp(
        &self,
        at: Inputs<'_, T, D, Weights<T, D>>,
        velocity_bar: &Velocity<T, D>,
        bars: Outputs<'_, T, D, Weights<T, D>>,
        tape: &Tape<T>,
        ws: &mut Workspace<T>,
    ) {
        let vectors = [at.momentum.data(), velocity_bar.data(), bars.momentum.data()];
        if !self.fits(vectors, [&*bars.weights], tape) {
            bars.momentum.scale(T::nan());
            return bars.weights.scale(T::nan());
        }
        let Buffers { scalars: [s_bar, _], .. } = ws.grown(self.kernels.len(), self.n);
        s_bar.fill(T::zero());
        self.velocity_and_density_vjp(at.momentum.data(), velocity_bar.data(), bars, tape, ws);
    }

    #[inline(never)]
    fn advect(
        &self,
        at: Inputs<'_, T, D, Weights<T, D>>,
        velocity: &Velocity<T, D>,
        rates: Outputs<'_, T, D, Weights<T, D>>,
        tape: &Tape<T>,
        _ws: &mut Workspace<T>,
    ) {
        let (n, d, weights) = (self.n, &self.difference, at.weights);
        let vectors = [at.momentum.data(), velocity.data(), rates.momentum.data()];
        if !self.fits(vectors, [weights, &*rates.weights], tape) {
            rates.momentum.scale(T::nan());
            return rates.weights.scale(T::nan());
        }
        let q = &tape.force;
        let rates = rates.momentum.components_mut().chain(rates.weights.components_mut());
        par::slices(rates.collect(), |lo, rates| {
            let (m_rate, h_rate) = rates.split_at_mut(D);
            for (i, h_rate) in h_rate.iter_mut().enumerate() {
                let (q, h) = (&q[i * n..(i + 1) * n], weights.component(i));
                h_rate.fill(T::zero());
                for (a, m_rate) in m_rate.iter_mut().enumerate() {
                    // ∂t m_a += q_i ∂_a h_i
                    d.add_scaled(a, T::one(), q, h, lo, m_rate);
                    // ∂t h_i −= v_a ∂_a h_i
                    d.add_scaled(a, -T::one(), velocity.component(a), h, lo, h_rate);
                }
            }
        });
    }

    #[inline(never)]
    fn rates_vjp(
        &self,
        at: Inputs<'_, T, D, Weights<T, D>>,
        velocity: &Velocity<T, D>,
        rate_bars: Inputs<'_, T, D, Weights<T, D>>,
        velocity_bar: &mut Velocity<T, D>,
        bars: Outputs<'_, T, D, Weights<T, D>>,
        tape: &Tape<T>,
        ws: &mut Workspace<T>,
    ) {
        let (n, d, one, weights) = (self.n, &self.difference, T::one(), at.weights);
        let vectors = [at.momentum, rate_bars.momentum, &*bars.momentum].map(Momentum::data);
        let velocities = [velocity, velocity_bar].map(Velocity::data);
        let all = [weights, rate_bars.weights, &*bars.weights];
        if !self.fits(vectors, all, tape) || !self.fits(velocities, [], tape) {
            bars.momentum.scale(T::nan());
            return bars.weights.scale(T::nan());
        }
        let scales = self.kernels.len();
        let Buffers { smooth, scalars: [s, q_bar] } = ws.grown(scales, n);
        let q = &tape.force;

        let out = bars.weights.components_mut().chain(q_bar.chunks_mut(n));
        par::slices(out.chain(velocity_bar.components_mut()).collect(), |lo, out| {
            let (h_bars, out) = out.split_at_mut(scales);
            let (q_bars, v_bars) = out.split_at_mut(scales);
            for (i, (h_bar, q_bar)) in h_bars.iter_mut().zip(q_bars).enumerate() {
                let (q, h) = (&q[i * n..(i + 1) * n], weights.component(i));
                let h_rate_bar = rate_bars.weights.component(i);
                h_bar.fill(T::zero());
                q_bar.fill(T::zero());
                for (a, v_bar) in v_bars.iter_mut().enumerate() {
                    let (m_rate_bar, v) = (rate_bars.momentum.component(a), velocity.component(a));
                    // Force q_i ∂_a h_i and transport −v_a ∂_a h_i, in h_i …
                    d.add_transposed(a, one, q, m_rate_bar, lo, h_bar);
                    d.add_transposed(a, -one, h_rate_bar, v, lo, h_bar);
                    // … the force in q_i, and the transport in v_a.
                    d.add_scaled(a, one, m_rate_bar, h, lo, q_bar);
                    d.add_scaled(a, -one, h_rate_bar, h, lo, v_bar);
                }
            }
        });
        // q_i = G ⋆ s_i: s̄_i = G ⋆ q̄_i
        self.smoothing.apply(q_bar, s, &mut smooth.kernel);
        self.velocity_and_density_vjp(at.momentum.data(), velocity_bar.data(), bars, tape, ws);
    }

    #[inline(never)]
    fn energy_gradient(
        &self,
        at: Inputs<'_, T, D, Weights<T, D>>,
        scale: T,
        bar: &mut Weights<T, D>,
        tape: &Tape<T>,
        _ws: &mut Workspace<T>,
    ) {
        if !self.fits([at.momentum.data()], [&*bar], tape) {
            return bar.scale(T::nan());
        }
        // ½⟨m, K(w) m⟩ = ½ Σ_i ⟨w_i m, K_i w_i m⟩: ∂/∂w_i = m·ν_i, then ∂/∂h = G ⋆.
        axpy(bar.data_mut(), scale, &tape.force);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::kind::Kind;
    use crate::field::{Field, Image};
    use crate::kernel::{Gaussian, Identity, Windowed};
    use crate::model::BoxedKernel;
    use crate::testing::random;

    fn field<F: Kind, const D: usize>(
        grid: &Grid<D>,
        components: usize,
        seed: u64,
    ) -> Field<f64, D, F> {
        let mut field = Field::zeros_with(grid, components).unwrap();
        field.data_mut().copy_from_slice(&random::<f64>(components * grid.len(), seed));
        field
    }

    fn check<const D: usize>(shape: [usize; D]) {
        let grid = Grid::new(shape, [1.0; D]).unwrap();
        let n = grid.len();
        let gaussian = |sigma| {
            let gaussian = Gaussian::<f64, D>::new(&grid, sigma).unwrap();
            gaussian.with_tolerance(1e-4).unwrap()
        };
        let window = Image::from_vec(&grid, random(n, 9).into_iter().map(f64::abs).collect());
        let window = window.unwrap();
        let windowed = || Windowed::new(gaussian(2.0), window.clone()).unwrap();
        let kernels: Vec<BoxedKernel<f64>> =
            vec![Box::new(gaussian(2.5)), Box::new(windowed()), Box::new(Identity)];
        let plain: [&dyn Kernel<f64>; 3] = [&gaussian(2.5), &windowed(), &Identity];
        // Weights that are smoothed with σ = 1: a kernel that is fused where it is applied alone, too.
        let smoothing = Gaussian::<f64, D>::for_weights(&grid, 1.0).unwrap();
        let metric = Mixture::new(&grid, kernels, smoothing.clone(), Order::Fourth).unwrap();
        let (m, h) = (field(&grid, D, 1), field(&grid, 3, 2));
        let at = Inputs { momentum: &m, weights: &h };
        let (mut tape, mut ws) = (metric.tape(&grid).unwrap(), Workspace::default());
        let mut v = Velocity::zeros(&grid).unwrap();
        metric.velocity(at, &mut v, &mut tape, &mut ws);

        // Sums of three products of numbers below four.
        let close = |a: &[f64], b: &[f64], what: &str| {
            let off = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(off < 1e-13, "{shape:?} {what}: {off}");
        };
        let expected = reference::velocity(&plain, &smoothing, &m, &h).unwrap();
        for (i, nu) in expected.nu.iter().enumerate() {
            let found = &tape.nu[i * D * n..][..D * n];
            close(found, nu.data(), "ν");
        }
        close(&tape.weights, expected.weights.data(), "w");
        close(v.data(), expected.velocity.data(), "v");
        close(&tape.force, expected.force.data(), "q");

        let (v_bar, q_bar) = (field(&grid, D, 3), field(&grid, 3, 4));
        let (mut m_bar, mut h_bar) = (field(&grid, D, 5), field(&grid, 3, 6));
        let expected = reference::velocity_vjp(&plain, &smoothing, (&m, &h), (&v_bar, &q_bar));
        let (mut m_expected, mut h_expected) = expected.unwrap();
        m_expected.axpy(1.0, &m_bar);
        h_expected.axpy(1.0, &h_bar);
        let bars = Outputs { momentum: &mut m_bar, weights: &mut h_bar };
        smoothing.apply(q_bar.data(), ws.grown(3, n).scalars[0], &mut kernel::Workspace::new());
        metric.velocity_and_density_vjp(m.data(), v_bar.data(), bars, &tape, &mut ws);
        close(m_bar.data(), m_expected.data(), "m̄");
        close(h_bar.data(), h_expected.data(), "h̄");
    }

    #[test]
    fn velocities_and_their_transposes_are_the_sums_of_plain_kernels() {
        check([30]);
        check([37, 44]);
        // Slabs that are shorter and longer than a group, and a last group that is not whole.
        check([7, 20, 64]);
        check([5, 64, 68]);
    }
}
