//! The correction pairs of L-BFGS, and the directions that they give.

use std::collections::VecDeque;

use crate::optim::InitialInverseHessian;
use crate::scalar::Real;
use crate::space::StateSpace;

/// A correction pair.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Pair<C> {
    s: C,
    y: C,
    /// sᵀy.
    sy: f64,
    /// γ = sᵀy / yᵀH̃₀y.
    gamma: f64,
}

/// A point with its gradient g and H̃₀g.
#[derive(Debug)]
pub(super) struct End<'a, C> {
    pub(super) control: &'a C,
    pub(super) gradient: &'a C,
    pub(super) preconditioned_gradient: &'a C,
}

impl<C> Pair<C> {
    fn new<T: Real>(like: &C) -> Self
    where
        C: StateSpace<T>,
    {
        Self { s: like.clone(), y: like.clone(), sy: 0.0, gamma: 0.0 }
    }

    /// The pair of the step from xₖ to xₖ₊₁.
    pub(super) fn set<T: Real>(&mut self, before: &End<'_, C>, after: &End<'_, C>)
    where
        C: StateSpace<T>,
    {
        let Self { s, y, sy, gamma } = self;
        // s = xₖ₊₁ − xₖ, y = gₖ₊₁ − gₖ
        s.copy_from(after.control);
        s.axpy(-T::one(), before.control);
        y.copy_from(after.gradient);
        y.axpy(-T::one(), before.gradient);
        // yᵀH̃₀y, with H̃₀y as a difference
        let y_h0_y = y.dot(after.preconditioned_gradient) - y.dot(before.preconditioned_gradient);
        *sy = s.dot(y);
        *gamma = *sy / y_h0_y;
    }
}

/// The last pairs, oldest first.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(bound(deserialize = "C: serde::Deserialize<'de>")))]
pub(super) struct History<C> {
    pairs: VecDeque<Pair<C>>,
    /// κ, the largest sᵀy / ‖s‖² so far.
    curvature: f64,
}

impl<C> History<C> {
    pub(super) fn new() -> Self {
        Self { pairs: VecDeque::new(), curvature: 0.0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// s and y of each pair.
    pub(super) fn pairs(&self) -> impl ExactSizeIterator<Item = (&C, &C)> {
        self.pairs.iter().map(|pair| (&pair.s, &pair.y))
    }

    /// Drops the oldest pairs but `memory`, for others to use their vectors.
    pub(super) fn shorten(&mut self, memory: usize, spare: &mut Vec<Pair<C>>) {
        let surplus = self.pairs.len().saturating_sub(memory);
        spare.extend(self.pairs.drain(..surplus));
    }

    /// Vectors for the next of at most `memory` pairs: those of the oldest where there are as many.
    pub(super) fn recycled<T: Real>(
        &mut self,
        memory: usize,
        spare: &mut Vec<Pair<C>>,
        like: &C,
    ) -> Pair<C>
    where
        C: StateSpace<T>,
    {
        let used = if self.pairs.len() < memory { spare.pop() } else { self.pairs.pop_front() };
        used.unwrap_or_else(|| Pair::new::<T>(like))
    }

    /// Keeps a pair where sᵀy > ε κ ‖s‖² ‖gₖ‖ / ‖g₀‖: the cautious update. `size` is ‖gₖ‖ / ‖g₀‖.
    pub(super) fn push_cautious<T: Real>(
        &mut self,
        pair: Pair<C>,
        epsilon: f64,
        size: f64,
        spare: &mut Vec<Pair<C>>,
    ) where
        C: StateSpace<T>,
    {
        let ss = pair.s.dot(&pair.s);
        if ss > 0.0 {
            self.curvature = self.curvature.max(pair.sy / ss);
        }
        let floor = epsilon * self.curvature * ss * size;
        if pair.sy > floor && pair.gamma.is_finite() && pair.gamma > 0.0 {
            self.pairs.push_back(pair);
        } else {
            spare.push(pair);
        }
    }

    /// `direction ← −H g`, by the two-loop recursion; `q` and `alphas` are work. Nocedal and Wright, algorithm 7.4.
    pub(super) fn two_loop_direction<T: Real, H: InitialInverseHessian<T, C>>(
        &self,
        h0: &mut H,
        at: &End<'_, C>,
        direction: &mut C,
        q: &mut C,
        alphas: &mut Vec<f64>,
    ) where
        C: StateSpace<T>,
    {
        let r = direction;
        let Some(last) = self.pairs.back() else {
            // −H̃₀ g
            r.copy_from(at.preconditioned_gradient);
            r.scale(-T::one());
            return;
        };
        alphas.clear();
        q.copy_from(at.gradient);
        for pair in self.pairs.iter().rev() {
            // αᵢ = sᵢᵀq / sᵢᵀyᵢ, q ← q − αᵢ yᵢ
            let alpha = pair.s.dot(q) / pair.sy;
            q.axpy(T::of(-alpha), &pair.y);
            alphas.push(alpha);
        }
        // r ← γ H̃₀ q
        h0.apply(q, r);
        r.scale(T::of(last.gamma));
        for (pair, alpha) in self.pairs.iter().zip(alphas.iter().rev()) {
            // β = yᵢᵀr / sᵢᵀyᵢ, r ← r + (αᵢ − β) sᵢ
            let beta = pair.y.dot(r) / pair.sy;
            r.axpy(T::of(alpha - beta), &pair.s);
        }
        r.scale(-T::one());
    }
}
