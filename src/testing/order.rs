//! The observed order of an integrator.

use super::differences::slope;
use super::failure::{Checked, brief, within};
use super::problems::{Growth, Logistic};
use crate::error::Result;
use crate::grid::{Boundary, Grid};
use crate::space::StateSpace;
use crate::step::{MapTransport, Stepper, Tableau};

/// Numbers of steps from t = 0 to 1, so that the error of a method of order five is far above rounding.
const STEPS: [usize; 4] = [2, 4, 8, 16];
/// How far the observed order may be below the stated one: what the next order does at the largest step.
const SHORT: f64 = 0.25;

/// A tableau has the order that it states: errors of the velocity and of the map at t = 1, over the step, on
/// [`Logistic`] growth from 0.2, whose solution is known. Answers the smaller of the two observed orders.
///
/// # Errors
/// [`CheckError::Off`](super::CheckError::Off) where that is less than the stated order by more than a quarter.
///
/// ```
/// use rdmm_core::{step::{HEUN, Tableau}, testing::check_order};
///
/// assert!(check_order(HEUN)? > 1.75);
/// # Ok::<(), rdmm_core::testing::CheckError>(())
/// ```
pub fn check_order(tableau: Tableau) -> Checked {
    let mut errors = [[0.0; STEPS.len()]; 2];
    for (k, &steps) in STEPS.iter().enumerate() {
        [errors[0][k], errors[1][k]] = errors_at_end(tableau, steps)?;
    }
    let sizes = STEPS.map(|steps| 1.0 / steps as f64);
    let mut least = f64::INFINITY;
    for (errors, what) in errors.iter().zip(["velocity", "map"]) {
        let order = slope(&sizes, errors);
        let what = format!("order of {}, {what}", tableau.name());
        within(&what, f64::from(tableau.order()) - order, SHORT, || {
            format!("order {order:.2}, errors {} with {STEPS:?} steps", brief(errors))
        })?;
        least = least.min(order);
    }
    Ok(least)
}

/// Distances of velocity and map from the exact ones at t = 1.
fn errors_at_end(tableau: Tableau, steps: usize) -> Result<[f64; 2]> {
    let grid = Grid::<1>::unit([6])?.with_boundary(Boundary::Periodic);
    let problem = Logistic::new(0.2);
    let mut state = problem.state(&grid, 0.0)?;
    let stepper = Stepper::new(Growth::<1>, tableau, MapTransport::SemiLagrangian);
    let (mut ws, mut next) = (stepper.workspace(&state)?, state.clone());
    for _ in 0..steps {
        stepper.step(&state, 1.0 / steps as f64, &mut next, &mut ws);
        std::mem::swap(&mut state, &mut next);
    }
    state.axpy(-1.0, &problem.state(&grid, 1.0)?);
    Ok([state.body.max_abs(), state.map.max_abs()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::{DOPRI5, EULER, HEUN, MIDPOINT, RK4};

    #[test]
    fn all_tableaux_have_their_order() {
        for tableau in [EULER, MIDPOINT, HEUN, RK4, DOPRI5] {
            let order = check_order(tableau).unwrap();
            assert!(order < f64::from(tableau.order()) + 1.0, "{}: {order}", tableau.name());
        }
    }
}
