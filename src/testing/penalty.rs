//! The contract of a penalty of weights.

use super::differences::check_gradient;
use super::failure::{Checked, expect, within};
use super::random::{random, smooth, unit_weights};
use crate::field::dot;
use crate::grid::Grid;
use crate::regularize::Regularizer;

/// Sums of two numbers that were added in another order.
const SAME: f64 = 1e-12;

/// A penalty of the weights of Gaussians with these σ holds its contract on a grid: what it adds to a gradient is the
/// derivative of its value, in rough and smooth directions, by differences and by its Taylor remainder; value and
/// gradient go with their factor; it is not negative; a second call has the same bits; and lengths that do not fit give
/// NaN.
///
/// It is asked at positive weights of unit norm that vary smoothly. Answers the largest relative deviation from
/// differences.
///
/// # Errors
/// [`CheckError`](super::CheckError) with what does not hold, and those of [`Regularizer::on_grid`].
///
/// ```
/// use rdmm_core::{grid::Grid, regularize::Omt, testing::check_penalty};
///
/// let grid = Grid::<2>::unit([12, 10])?;
/// check_penalty(&Omt::new(1.0)?, &grid, &[0.1, 0.2, 0.4])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn check_penalty<const D: usize>(
    penalty: &dyn Regularizer<f64, D>,
    grid: &Grid<D>,
    sigmas: &[f64],
) -> Checked {
    let (name, count) = (penalty.name(), sigmas.len());
    let mut on_grid = penalty.on_grid(grid, sigmas)?;
    let weights = unit_weights(grid, count, 7);
    let n = weights.len();

    let before = random::<f64>(n, 8);
    let mut sum = before.clone();
    let value = on_grid.add(1.0, &weights, &mut sum);
    let gradient: Vec<f64> = sum.iter().zip(&before).map(|(s, b)| s - b).collect();
    let norm = dot(&gradient, &gradient).sqrt();
    let finite = value.is_finite() && norm.is_finite();
    expect(finite, || format!("value of {name}"), "a finite number", value)?;
    expect(value >= 0.0, || format!("value of {name}"), "at least zero", value)?;

    let mut again = before.clone();
    let second = on_grid.add(1.0, &weights, &mut again);
    let same = second.to_bits() == value.to_bits() && again == sum;
    expect(same, || format!("a second call of {name}"), "the same bits", second)?;

    let mut tripled = vec![0.0; n];
    let triple = on_grid.add(3.0, &weights, &mut tripled);
    let misfit = tripled.iter().zip(&gradient).map(|(t, g)| (t - 3.0 * g).abs());
    let off = misfit.fold((triple - 3.0 * value).abs(), f64::max);
    within(&format!("{name} with the factor three"), off, SAME * (1.0 + triple.abs()), || {
        format!("{triple} for three times {value}, or another gradient")
    })?;

    let mut worst = 0.0_f64;
    for (kind, direction) in
        [("a rough direction", random(n, 9)), ("a smooth direction", smooth(grid, count, 10))]
    {
        let mut scratch = vec![0.0; n];
        let along = |e: f64| {
            let moved: Vec<f64> = weights.iter().zip(&direction).map(|(w, d)| w + e * d).collect();
            on_grid.add(1.0, &moved, &mut scratch)
        };
        let length = dot(&direction, &direction).sqrt();
        let what = format!("gradient of {name} along {kind}");
        let derivative = dot(&gradient, &direction);
        worst = worst.max(check_gradient(&what, along, derivative, 1e-2 * norm * length)?);
    }

    let found = on_grid.add(1.0, &weights[1..], &mut tripled);
    expect(found.is_nan(), || format!("{name} of lengths that do not fit"), "NaN", found)?;
    Ok(worst)
}
