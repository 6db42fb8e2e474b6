//! The contract of a similarity.

use super::differences::check_gradient;
use super::failure::{Checked, expect, within};
use super::random::{random, smooth};
use crate::field::{Image, dot};
use crate::similarity::Measure;

/// The value of a loss with and without its gradient: the same sums, perhaps in another order.
const SAME: f64 = 1e-12;

/// A similarity holds its contract against `fixed`, at `warped` and with a mask or none: the gradient overwrites what
/// was there and is the derivative of the value, in rough and smooth directions and at single voxels, by differences
/// and by its Taylor remainder; both values agree; a second call has the same bits, whatever was asked in between; and
/// images with NaN or of another length give NaN.
///
/// Take images where the loss is smooth: with contrast in every window, and away from kinks. Answers the largest
/// relative deviation from differences.
///
/// # Errors
/// [`CheckError`](super::CheckError) with what does not hold, and those of [`Measure::prepare`].
///
/// ```
/// use rdmm_core::testing::{check_similarity, smooth};
/// use rdmm_core::{field::Image, grid::Grid, similarity::Ncc};
///
/// let grid = Grid::<2>::unit([12, 10])?;
/// let image = |seed| Image::from_vec(&grid, smooth(&grid, 1, seed));
/// let off = check_similarity(&Ncc, &image(1)?, &image(2)?, None)?;
/// assert!(off < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn check_similarity<const D: usize>(
    measure: &dyn Measure<f64, D>,
    fixed: &Image<f64, D>,
    warped: &Image<f64, D>,
    mask: Option<&Image<f64, D>>,
) -> Checked {
    let (name, grid, n) = (measure.name(), fixed.grid(), fixed.grid().len());
    let mut loss = measure.prepare(fixed, mask)?;
    let mut gradient = vec![f64::NAN; n];
    let value = loss.value_and_gradient(warped.data(), &mut gradient);
    let norm = dot(&gradient, &gradient).sqrt();
    expect(value.is_finite(), || format!("value of {name}"), "a finite number", value)?;
    let of = || format!("gradient of {name}, which held NaN before");
    expect(norm.is_finite(), of, "finite numbers", norm)?;

    let alone = loss.value(warped.data());
    let off = (alone - value).abs() / value.abs().max(f64::MIN_POSITIVE);
    within(&format!("values of {name} with and without the gradient"), off, SAME, || {
        format!("{value} and {alone}")
    })?;

    // Directions as long as the image varies.
    let mean = warped.data().iter().sum::<f64>() / n as f64;
    let size = (warped.data().iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
    let single = |at: usize| (0..n).map(|i| if i == at { 1.0 } else { 0.0 }).collect::<Vec<_>>();
    let largest = (0..n).max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs()));
    let mut worst = 0.0_f64;
    for (kind, mut direction) in [
        ("a rough direction", random(n, 3)),
        ("a smooth direction", smooth(grid, 1, 4)),
        ("the voxel that counts most", single(largest.unwrap_or(0))),
        ("the first voxel", single(0)),
    ] {
        for d in &mut direction {
            *d *= size;
        }
        let along = |e: f64| {
            let line = warped.data().iter().zip(&direction);
            loss.value(&line.map(|(w, d)| w + e * d).collect::<Vec<_>>())
        };
        let length = dot(&direction, &direction).sqrt();
        let what = format!("gradient of {name} along {kind}");
        let derivative = dot(&gradient, &direction);
        worst = worst.max(check_gradient(&what, along, derivative, 1e-2 * norm * length)?);
    }

    let mut again = vec![0.0; n];
    let second = loss.value_and_gradient(warped.data(), &mut again);
    let same = second.to_bits() == value.to_bits()
        && again.iter().zip(&gradient).all(|(a, b)| a.to_bits() == b.to_bits());
    expect(same, || format!("a second call of {name}"), "the same bits", second)?;

    let mut broken = warped.data().to_vec();
    // Where it counts.
    broken[largest.unwrap_or(0)] = f64::NAN;
    let found = loss.value(&broken);
    expect(found.is_nan(), || format!("{name} of an image with NaN"), "NaN", found)?;
    let found = loss.value(&broken[1..]);
    expect(found.is_nan(), || format!("{name} of an image of another length"), "NaN", found)?;
    let found = loss.value_and_gradient(&broken[1..], &mut again[1..]);
    expect(found.is_nan(), || format!("{name} of lengths that do not fit"), "NaN", found)?;
    Ok(worst)
}
