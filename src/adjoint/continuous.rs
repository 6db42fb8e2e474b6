//! The paper's gradient: the adjoint equation ∂t λ = −(∂f/∂y)ᵀ λ, integrated backwards.

use crate::dynamics::EvolutionVjp;
use crate::scalar::Real;
use crate::space::StateSpace;
use crate::step::Tableau;

/// Takes λ, the cotangent at the end of a step, to its start by one backward step of the system
/// ∂τ y = −f(y), ∂τ λ = (∂f/∂y)ᵀ λ from `end`, the state at the end of the step.
///
/// The map is the whole Eulerian one here, whatever transported it forward. Allocates its stages: this
/// gradient is for comparison.
///
/// # References
/// Chen et al., *Neural ordinary differential equations*, `NeurIPS` 2018, arXiv:1806.07366.
pub(super) fn step_back<T: Real, const D: usize, E: EvolutionVjp<T, D>>(
    evolution: &E,
    tableau: &Tableau,
    end: &E::State,
    bar: &mut E::State,
    tau: f64,
) {
    let mut ws = evolution.workspace();
    let mut rates: Vec<(E::State, E::State)> = Vec::with_capacity(tableau.stages());
    for row in tableau.a() {
        let (mut y, mut lambda) = (end.clone(), bar.clone());
        for (&a, (y_rate, lambda_rate)) in row.iter().zip(&rates) {
            y.axpy(T::of(-tau * a), y_rate);
            lambda.axpy(T::of(tau * a), lambda_rate);
        }
        let (mut y_rate, mut lambda_rate) = (end.zeros_like(), end.zeros_like());
        evolution.rate(&y, &mut y_rate, &mut ws);
        evolution.rate_vjp(&y, &lambda, &mut lambda_rate, &mut ws);
        rates.push((y_rate, lambda_rate));
    }
    for (&b, (_, lambda_rate)) in tableau.b().iter().zip(&rates) {
        bar.axpy(T::of(tau * b), lambda_rate);
    }
}
