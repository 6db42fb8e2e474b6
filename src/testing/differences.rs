//! Derivatives and transposes against differences.

use super::failure::{Checked, brief, within};
use crate::space::StateSpace;

/// The step of central differences: their truncation is e⁴ = 1e-16 of a fifth derivative, or e³ = 1e-12 of a jump of
/// the third, as splines have; their rounding is 1e-16/e = 1e-12 of the value.
const STEP: f64 = 1e-4;
/// What these leave of a derivative, with room for higher derivatives and values that are many times as large.
const DIFFERENCES: f64 = 1e-6;
/// Steps of the Taylor remainder: their squares are far above rounding.
const STEPS: [f64; 4] = [4e-3, 2e-3, 1e-3, 5e-4];
/// How far the slope of the remainder may be below two: what higher orders do at the largest step. A wrong gradient
/// has slope one.
const BEND: f64 = 0.1;
/// A remainder below this share of the value is the rounding of a sum: the function is a straight line there.
const ROUNDING: f64 = 1e-12;

/// Least-squares slope of log y over log x: the observed order where y is an error and x a step.
///
/// ```
/// use rdmm_core::testing::slope;
///
/// let steps = [0.1, 0.05, 0.025];
/// assert!((slope(&steps, &steps.map(|h| 3.0 * h * h)) - 2.0).abs() < 1e-12);
/// ```
#[must_use]
pub fn slope(x: &[f64], y: &[f64]) -> f64 {
    let log = |v: &[f64]| v.iter().map(|v| v.ln()).collect::<Vec<_>>();
    let (x, y) = (log(x), log(y));
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (mx, my) = (mean(&x), mean(&y));
    let covariance: f64 = x.iter().zip(&y).map(|(x, y)| (x - mx) * (y - my)).sum();
    covariance / x.iter().map(|x| (x - mx).powi(2)).sum::<f64>()
}

/// f′(0) by central differences of fourth order, (8 (f(e) − f(−e)) − (f(2 e) − f(−2 e)))/(12 e): their error is e⁴/30 of
/// the fifth derivative, and the rounding of f over e.
///
/// ```
/// use rdmm_core::testing::central_difference;
///
/// assert!((central_difference(1e-3, f64::sin) - 1.0).abs() < 1e-13);
/// ```
pub fn central_difference(e: f64, mut f: impl FnMut(f64) -> f64) -> f64 {
    let [one, two] = [e, 2.0 * e].map(|e| f(e) - f(-e));
    (8.0 * one - two) / (12.0 * e)
}

/// A derivative against central differences, and by its Taylor remainder.
///
/// `value(e)` is an energy at the distance e along a line and `derivative` what its gradient says there at e = 0:
/// ⟨gradient, direction⟩. The direction should be about as long as the point varies: e goes up to 0.004. Differences
/// are compared with the larger of the derivative and `size`, such as a hundredth of ‖gradient‖ ‖direction‖, so that a
/// direction across the gradient does not ask for more digits than there are.
///
/// Answers the relative deviation from differences.
///
/// # Errors
/// [`CheckError::Off`](super::CheckError::Off) where differences deviate by more than 1e-6, or where the remainder
/// f(e) − f(0) − e f′ does not fall at least as e^1.9.
///
/// ```
/// use rdmm_core::testing::check_gradient;
///
/// let energy = |e: f64| (1.0 + e).powi(3);
/// assert!(check_gradient("a cube", energy, 3.0, 0.0)? < 1e-7);
/// let wrong = check_gradient("a cube", energy, 3.1, 0.0).unwrap_err();
/// assert!(wrong.to_string().starts_with("a cube, against central differences: off by"));
/// # Ok::<(), rdmm_core::testing::CheckError>(())
/// ```
pub fn check_gradient(
    what: &str,
    mut value: impl FnMut(f64) -> f64,
    derivative: f64,
    size: f64,
) -> Checked {
    let numeric = central_difference(STEP, &mut value);
    let off = off(numeric, derivative, size);
    within(&format!("{what}, against central differences"), off, DIFFERENCES, || {
        format!("derivative {derivative}, differences {numeric}")
    })?;
    // Both sides, so that the third order cancels.
    let middle = value(0.0);
    let remainders = STEPS.map(|e| {
        (value(e) - middle - e * derivative).abs() + (value(-e) - middle + e * derivative).abs()
    });
    let rounding = ROUNDING * middle.abs().max(size).max(derivative.abs() * STEPS[0]);
    if remainders.iter().all(|&remainder| remainder <= rounding) {
        return Ok(off);
    }
    let order = slope(&STEPS, &remainders);
    within(&format!("{what}, slope of the Taylor remainder"), 2.0 - order, BEND, || {
        format!("slope {order:.3} of {} at the steps {STEPS:?}", brief(&remainders))
    })?;
    Ok(off)
}

/// A transpose against central differences: ⟨ȳ, J δ⟩ = ⟨Jᵀ ȳ, δ⟩ with the derivative J of `apply` at `at`, along
/// `direction` δ and for the cotangent ȳ of the result; `vjp` is given the point and ȳ and answers Jᵀ ȳ.
///
/// The direction should be about as long as the point varies, and for a linear `apply` may be anything. Deviations are
/// relative to the pairing, or to a hundredth of the product of the norms where that is larger.
///
/// # Errors
/// [`CheckError::Off`](super::CheckError::Off) where they deviate by more than 1e-6.
///
/// ```
/// use rdmm_core::testing::check_vjp;
///
/// let square = |x: &Vec<f64>| x.iter().map(|x| x * x).collect::<Vec<_>>();
/// let vjp = |x: &Vec<f64>, bar: &Vec<f64>| x.iter().zip(bar).map(|(x, b)| 2.0 * x * b).collect();
/// let (x, direction, bar) = (vec![1.0, -0.5], vec![0.3, 0.7], vec![2.0, 1.0]);
/// check_vjp("squares", square, vjp, &x, &direction, &bar)?;
///
/// let halved = |x: &Vec<f64>, bar: &Vec<f64>| x.iter().zip(bar).map(|(x, b)| x * b).collect();
/// assert!(check_vjp("squares", square, halved, &x, &direction, &bar).is_err());
/// # Ok::<(), rdmm_core::testing::CheckError>(())
/// ```
pub fn check_vjp<X: StateSpace<f64>, Y: StateSpace<f64>>(
    what: &str,
    mut apply: impl FnMut(&X) -> Y,
    mut vjp: impl FnMut(&X, &Y) -> X,
    at: &X,
    direction: &X,
    cotangent: &Y,
) -> Checked {
    let bar = vjp(at, cotangent);
    let exact = bar.dot(direction);
    let mut paired = |e: f64| {
        let mut moved = at.clone();
        moved.axpy(e, direction);
        apply(&moved).dot(cotangent)
    };
    let numeric = central_difference(STEP, &mut paired);
    let off = off(numeric, exact, 1e-2 * bar.norm() * direction.norm());
    within(&format!("{what}, transpose against central differences"), off, DIFFERENCES, || {
        format!("⟨Jᵀ ȳ, δ⟩ = {exact}, ⟨ȳ, J δ⟩ = {numeric}")
    })
}

/// |numeric − exact| over the larger of the exact number and `size`; zero where both are zero.
fn off(numeric: f64, exact: f64, size: f64) -> f64 {
    let difference = (numeric - exact).abs();
    if difference > 0.0 { difference / exact.abs().max(size) } else { difference }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gradient_of_the_right_size_along_one_line_only_is_found_out_by_its_remainder() {
        // Off by 3e-7: differences do not see it, the remainder is of first order.
        let energy = |e: f64| 1e-9 * e + 1e-12 * e * e;
        let error = check_gradient("line", energy, 1.5e-9, 1e-3).unwrap_err();
        assert!(error.to_string().contains("Taylor"), "{error}");
    }

    #[test]
    fn nan_is_no_gradient() {
        assert!(check_gradient("NaN", |e| e, f64::NAN, 1.0).is_err());
        assert!(check_gradient("NaN", |_| f64::NAN, 0.0, 1.0).is_err());
    }

    #[test]
    fn a_linear_function_and_a_constant_have_no_remainder() {
        check_gradient("line", |e| 2.0 * e + 1.0, 2.0, 0.0).unwrap();
        check_gradient("constant", |_| 1.0, 0.0, 0.0).unwrap();
    }
}
