//! How the weights of a metric depend on controls.

use std::sync::Arc;

use super::preconditioner::Smoothing;
use super::{BoxedInverse, BoxedKernel, resampled};
use crate::error::Result;
use crate::field::{Weights, axpy};
use crate::grid::Grid;
use crate::kernel::{Kernel, Workspace};
use crate::optim::Euclidean;
use crate::par;
use crate::regularize::{On, Penalty, Regularizer};
use crate::scalar::Real;
use crate::space::{Componentwise, StateSpace};

/// Controls ⇄ the weights that an evolution starts with.
pub trait WeightControl<T: Real, W: StateSpace<T>>: Send {
    /// What an optimiser moves; `()` for nothing.
    type Control: Componentwise<T>;

    /// The controls of the initial guess.
    fn neutral(&self) -> Self::Control;

    /// Weights of the right shape, all zero.
    fn blank(&self) -> W;

    /// `weights` ← what the controls say.
    fn weights(&mut self, control: &Self::Control, weights: &mut W);

    /// Transpose of the derivative of [`WeightControl::weights`]: adds to `control_bar`.
    fn weights_vjp(&mut self, control: &Self::Control, bar: &W, control_bar: &mut Self::Control);

    /// The penalties of the weights, each with its λ, and their gradient added to `control_bar`; 0 where
    /// there are none.
    fn add_penalty(&mut self, _control: &Self::Control, _control_bar: &mut Self::Control) -> f64 {
        0.0
    }

    /// What turns a gradient in the controls into a direction of descent, up to a factor. The identity by
    /// default.
    fn inverse_metric(&self) -> BoxedInverse<T, Self::Control> {
        Box::new(Euclidean)
    }

    /// Controls of another grid over the same box, interpolated on this one.
    ///
    /// # Errors
    /// [`Error::GridMismatch`](crate::Error::GridMismatch) for another box;
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    fn prolong(&self, control: &Self::Control) -> Result<Self::Control>;
}

/// A metric without weights.
#[derive(Clone, Copy, Debug, Default)]
pub struct Uniform;

impl<T: Real> WeightControl<T, ()> for Uniform {
    type Control = ();
    fn neutral(&self) {}
    fn blank(&self) {}
    fn weights(&mut self, (): &(), (): &mut ()) {}
    fn weights_vjp(&mut self, (): &(), (): &(), (): &mut ()) {}
    fn prolong(&self, (): &()) -> Result<()> {
        Ok(())
    }
}

/// Weights that are given: by regions, or by a network.
#[derive(Clone, Debug)]
pub struct Given<T, const D: usize>(pub Weights<T, D>);

impl<T: Real, const D: usize> WeightControl<T, Weights<T, D>> for Given<T, D> {
    type Control = ();
    fn neutral(&self) {}
    fn blank(&self) -> Weights<T, D> {
        self.0.zeros_like()
    }
    fn weights(&mut self, (): &(), weights: &mut Weights<T, D>) {
        weights.copy_from(&self.0);
    }
    fn weights_vjp(&mut self, (): &(), _bar: &Weights<T, D>, (): &mut ()) {}
    fn prolong(&self, (): &()) -> Result<()> {
        Ok(())
    }
}

/// Pre-weights that are controls themselves.
#[derive(Clone, Debug)]
pub struct PreWeights<T, const D: usize> {
    neutral: Weights<T, D>,
}

impl<T: Real, const D: usize> PreWeights<T, D> {
    /// Pre-weights that start at these.
    #[must_use]
    pub fn new(neutral: Weights<T, D>) -> Self {
        Self { neutral }
    }
}

impl<T: Real, const D: usize> WeightControl<T, Weights<T, D>> for PreWeights<T, D> {
    type Control = Weights<T, D>;
    fn neutral(&self) -> Weights<T, D> {
        self.neutral.clone()
    }
    fn blank(&self) -> Weights<T, D> {
        self.neutral.zeros_like()
    }
    fn weights(&mut self, control: &Weights<T, D>, weights: &mut Weights<T, D>) {
        weights.copy_from(control);
    }
    fn weights_vjp(
        &mut self,
        _control: &Weights<T, D>,
        bar: &Weights<T, D>,
        control_bar: &mut Weights<T, D>,
    ) {
        control_bar.axpy(T::one(), bar);
    }
    fn prolong(&self, control: &Weights<T, D>) -> Result<Weights<T, D>> {
        resampled(control, self.neutral.grid())
    }
}

/// Weights that are optimised: logits θ, p = softmax(θ), h = p/‖p‖₂, then what is advected is S ⋆ h.
///
/// Σ h_i² = 1 holds for all θ. `S` is the identity where pre-weights are advected and the Gaussian G where
/// the smoothed weights are.
pub struct Softmax<T, const D: usize> {
    grid: Grid<D>,
    neutral: Vec<f64>,
    smoothing: BoxedKernel<T>,
    penalties: Option<Penalties<T>>,
    ws: Workspace<T>,
    /// h and h̄.
    buffers: [Vec<T>; 2],
}

/// The weight h_i² below which a Gaussian is not started: its logit would have no gradient.
const SMALLEST_WEIGHT: f64 = 1e-4;

impl<T: Real, const D: usize> Softmax<T, D> {
    /// Logits on `grid`, starting from the given weights h_i² everywhere; weights under 1e-4 start there.
    #[must_use]
    pub fn new(grid: &Grid<D>, squares: &[f64], smoothing: BoxedKernel<T>) -> Self {
        // h_i ∝ p_i, so p_i ∝ √(h_i²).
        let neutral = squares.iter().map(|s| 0.5 * s.max(SMALLEST_WEIGHT).ln()).collect();
        let (ws, buffers) = (Workspace::new(), [Vec::new(), Vec::new()]);
        Self { grid: grid.clone(), neutral, smoothing, penalties: None, ws, buffers }
    }

    /// The same with penalties of h and of w = G ⋆ h, each with its λ, for Gaussians with these σ and
    /// G = `gaussian`, by which gradients in the logits are smoothed.
    ///
    /// # Errors
    /// Those of [`Regularizer::on_grid`].
    pub fn with_penalties(
        mut self,
        penalties: &[(f64, &dyn Regularizer<T, D>)],
        sigmas: &[f64],
        gaussian: BoxedKernel<T>,
    ) -> Result<Self> {
        let (mut of_pre_weights, mut of_weights) = (Vec::new(), Vec::new());
        for &(lambda, penalty) in penalties {
            let entry = (lambda, penalty.on_grid(&self.grid, sigmas)?);
            match penalty.acts_on() {
                On::PreWeights => of_pre_weights.push(entry),
                On::Weights => of_weights.push(entry),
            }
        }
        let len = if penalties.is_empty() { 0 } else { self.scales() * self.grid.len() };
        let fields = std::array::from_fn(|_| vec![T::zero(); len]);
        let gaussian = Arc::new(gaussian);
        self.penalties = Some(Penalties { of_pre_weights, of_weights, gaussian, fields });
        Ok(self)
    }

    fn scales(&self) -> usize {
        self.neutral.len()
    }
}

/// Penalties of h and of w = G ⋆ h.
struct Penalties<T> {
    /// λ and the penalty.
    of_pre_weights: Vec<(f64, Box<dyn Penalty<T>>)>,
    of_weights: Vec<(f64, Box<dyn Penalty<T>>)>,
    /// G.
    gaussian: Arc<BoxedKernel<T>>,
    /// h, h̄, w and w̄; empty without penalties.
    fields: [Vec<T>; 4],
}

impl<T: Real> Penalties<T> {
    fn is_empty(&self) -> bool {
        self.of_pre_weights.is_empty() && self.of_weights.is_empty()
    }

    /// Σ_k λ_k P_k of logits on `n` voxels, and its gradient added to `bar`.
    fn add(&mut self, n: usize, logits: &[T], bar: &mut [T], ws: &mut Workspace<T>) -> f64 {
        let Self { of_pre_weights, of_weights, gaussian, fields: [h, h_bar, w, w_bar] } = self;
        pre_weights(n, logits, h);
        gaussian.apply(h, w, ws);
        let sum =
            |penalties: &mut Vec<(f64, Box<dyn Penalty<T>>)>, weights: &[T], bar: &mut [T]| {
                bar.fill(T::zero());
                penalties.iter_mut().map(|(lambda, p)| p.add(*lambda, weights, bar)).sum::<f64>()
            };
        let value = sum(of_pre_weights, h, h_bar) + sum(of_weights, w, w_bar);
        gaussian.apply(w_bar, w, ws);
        axpy(h_bar, T::one(), w);
        pre_weights_vjp(n, h, h_bar);
        axpy(bar, T::one(), h_bar);
        value
    }
}

/// `h` ← the pre-weights of the logits, `n` voxels of each Gaussian: h = e/‖e‖ with e = exp θ.
#[inline(never)]
pub(crate) fn pre_weights<T: Real>(n: usize, logits: &[T], h: &mut [T]) {
    par::slices(h.chunks_mut(n).collect(), |lo, h| {
        let len = h.first().map_or(0, |h| h.len());
        // exp(θ − max θ), so that none overflows.
        let (mut largest, mut squares) = (vec![T::neg_infinity(); len], vec![T::zero(); len]);
        for logits in logits.chunks(n) {
            for (m, &x) in largest.iter_mut().zip(&logits[lo..]) {
                *m = m.max(x);
            }
        }
        for (h, logits) in h.iter_mut().zip(logits.chunks(n)) {
            for (k, h) in h.iter_mut().enumerate() {
                *h = (logits[lo + k] - largest[k]).exp();
                squares[k] += *h * *h;
            }
        }
        // p = e/Σe, ‖p‖ = √Σe²/Σe, h = p/‖p‖ = e/√Σe².
        for h in h {
            for (h, &squares) in h.iter_mut().zip(&squares) {
                *h *= T::one() / squares.sqrt();
            }
        }
    });
}

/// `bar` ← the transpose of the derivative of [`pre_weights`], where it gave `h`, applied to it.
#[inline(never)]
pub(crate) fn pre_weights_vjp<T: Real>(n: usize, h: &[T], bar: &mut [T]) {
    par::slices(bar.chunks_mut(n).collect(), |lo, bar| {
        // θ̄_i = h_i (h̄_i − h_i Σ_j h_j h̄_j).
        let mut along = vec![T::zero(); bar.first().map_or(0, |bar| bar.len())];
        for (h, bar) in h.chunks(n).zip(&*bar) {
            for ((sum, &h), &bar) in along.iter_mut().zip(&h[lo..]).zip(&**bar) {
                *sum += h * bar;
            }
        }
        for (h, bar) in h.chunks(n).zip(bar) {
            for ((bar, &h), &along) in bar.iter_mut().zip(&h[lo..]).zip(&along) {
                *bar = h * (*bar - h * along);
            }
        }
    });
}

impl<T: Real, const D: usize> WeightControl<T, Weights<T, D>> for Softmax<T, D> {
    type Control = Weights<T, D>;

    fn neutral(&self) -> Weights<T, D> {
        let mut logits = self.blank();
        for (i, &x) in self.neutral.iter().enumerate() {
            logits.component_mut(i).fill(T::of(x));
        }
        logits
    }

    fn blank(&self) -> Weights<T, D> {
        Weights::blank_with(&self.grid, self.scales())
    }

    fn weights(&mut self, control: &Weights<T, D>, weights: &mut Weights<T, D>) {
        let (n, logits) = (self.grid.len(), control.data());
        if logits.len() != n * self.scales() {
            return weights.scale(T::nan());
        }
        let [h, _] = &mut self.buffers;
        h.resize(logits.len(), T::zero());
        pre_weights(n, logits, h);
        self.smoothing.apply(h, weights.data_mut(), &mut self.ws);
    }

    fn weights_vjp(
        &mut self,
        control: &Weights<T, D>,
        bar: &Weights<T, D>,
        control_bar: &mut Weights<T, D>,
    ) {
        let (n, logits) = (self.grid.len(), control.data());
        if logits.len() != n * self.scales() {
            return control_bar.scale(T::nan());
        }
        let [h, h_bar] = &mut self.buffers;
        h.resize(logits.len(), T::zero());
        h_bar.resize(logits.len(), T::zero());
        pre_weights(n, logits, h);
        self.smoothing.apply(bar.data(), h_bar, &mut self.ws);
        pre_weights_vjp(n, h, h_bar);
        axpy(control_bar.data_mut(), T::one(), h_bar);
    }

    fn add_penalty(&mut self, control: &Weights<T, D>, control_bar: &mut Weights<T, D>) -> f64 {
        let (n, logits, len) = (self.grid.len(), control.data(), self.grid.len() * self.scales());
        match &mut self.penalties {
            Some(penalties) if !penalties.is_empty() => {
                if logits.len() == len {
                    penalties.add(n, logits, control_bar.data_mut(), &mut self.ws)
                } else {
                    control_bar.scale(T::nan());
                    f64::NAN
                }
            }
            _ => 0.0,
        }
    }

    fn inverse_metric(&self) -> BoxedInverse<T, Weights<T, D>> {
        match &self.penalties {
            None => Box::new(Euclidean),
            Some(penalties) => {
                // The metric sees logits through G alone, and total variation resists rough ones.
                Box::new(Smoothing::new(Arc::clone(&penalties.gaussian)))
            }
        }
    }

    fn prolong(&self, control: &Weights<T, D>) -> Result<Weights<T, D>> {
        resampled(control, &self.grid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Gaussian, Identity};
    use crate::testing::random;

    #[test]
    fn logits_give_unit_norms_and_an_exact_transpose() {
        let grid = Grid::new([6, 5], [1.0, 1.0]).unwrap();
        let smooth: [BoxedKernel<f64>; 2] =
            [Box::new(Identity), Box::new(Gaussian::new(&grid, 1.2).unwrap())];
        for (k, smoothing) in smooth.into_iter().enumerate() {
            let mut softmax = Softmax::new(&grid, &[0.2, 0.0, 0.8], smoothing);
            let theta = Weights::from_vec(&grid, random(90, 1)).unwrap();
            let mut w = softmax.blank();
            if k == 0 {
                softmax.weights(&softmax.neutral(), &mut w);
                assert!((w.component(0)[3].powi(2) - 0.2).abs() < 1e-3, "starts from the weights");
                softmax.weights(&theta, &mut w);
                for at in 0..30 {
                    let sum: f64 = (0..3).map(|i| w.component(i)[at].powi(2)).sum();
                    assert!((sum - 1.0).abs() < 1e-14);
                }
            }
            let bar = Weights::from_vec(&grid, random(90, 2)).unwrap();
            let direction = Weights::from_vec(&grid, random::<f64>(90, 3)).unwrap();
            let mut theta_bar = softmax.blank();
            softmax.weights_vjp(&theta, &bar, &mut theta_bar);
            let mut at = |e: f64| {
                let mut moved = theta.clone();
                moved.axpy(e, &direction);
                softmax.weights(&moved, &mut w);
                w.dot(&bar)
            };
            // Central differences: 1e-5² truncation, 1e-11 rounding.
            let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
            assert!((numeric - theta_bar.dot(&direction)).abs() < 1e-8);
        }
    }
}
