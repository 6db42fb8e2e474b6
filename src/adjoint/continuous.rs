//! The paper's gradient: the adjoint equation ∂t λ = −(∂f/∂y)ᵀ λ, integrated backwards.

use crate::dynamics::{EvolutionVjp, StageMap};
use crate::error::Result;
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
///
/// # Errors
/// Those of [`tape`](crate::dynamics::Evolution::tape).
pub(super) fn step_back<E: EvolutionVjp>(
    evolution: &E,
    tableau: &Tableau,
    end: &E::State,
    bar: &mut E::State,
    tau: f64,
) -> Result<()> {
    let (mut tape, mut ws) = (evolution.tape()?, evolution.workspace()?);
    let mut rates: Vec<(E::State, E::State)> = Vec::with_capacity(tableau.stages());
    for row in tableau.a() {
        let (mut y, mut lambda) = (end.clone(), bar.clone());
        for (&a, (y_rate, lambda_rate)) in row.iter().zip(&rates) {
            y.axpy(E::Scalar::of(-tau * a), y_rate);
            lambda.axpy(E::Scalar::of(tau * a), lambda_rate);
        }
        let (mut y_rate, mut lambda_rate) = (end.zeros_like(), end.zeros_like());
        evolution.velocity(&y, &mut tape, &mut ws);
        evolution.rate(&y, StageMap::OfState, &mut y_rate, &tape, &mut ws);
        evolution.rate_vjp(&y, StageMap::OfState, &lambda, &mut lambda_rate, &tape, &mut ws);
        rates.push((y_rate, lambda_rate));
    }
    for (&b, (_, lambda_rate)) in tableau.b().iter().zip(&rates) {
        bar.axpy(E::Scalar::of(tau * b), lambda_rate);
    }
    Ok(())
}
