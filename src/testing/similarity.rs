//! The contract of a similarity.

use super::differences::check_gradient;
use super::failure::{Checked, expect, within};
use super::random::{random, smooth};
use crate::field::{Image, dot};
use crate::similarity::{Measure, Similarity, Warped, WarpedBar};

/// The value of a loss with and without its gradient: the same sums, perhaps in another order.
const SAME: f64 = 1e-12;

/// A similarity holds its contract against `fixed`, at `warped` and with a mask or none: the gradient overwrites what
/// was there and is the derivative of the value, in rough and smooth directions and at single voxels, by differences
/// and by its Taylor remainder; both values agree; a second call has the same bits, whatever was asked in between; and
/// images with NaN or of another length give NaN. The same holds where a part was seen, in the derivatives in
/// [what was seen](crate::similarity::Warped::seen) too; what was not seen does not count, and an image that was seen
/// everywhere has the loss of the whole.
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
    let of_part = check_part(&mut *loss, name, warped.data(), size)?;
    let found = loss.mask().map(<[f64]>::to_vec);
    let same = found.as_deref() == mask.map(Image::data);
    expect(same, || format!("mask of {name}"), "the one that it was prepared with", f64::NAN)?;
    Ok(worst.max(of_part))
}

/// The contract where a part of the image was seen: derivatives in `values` and ω. `size` is how much the image varies.
fn check_part(loss: &mut dyn Similarity<f64>, name: &str, values: &[f64], size: f64) -> Checked {
    let n = values.len();
    // The last fifth is not seen, the rest more or less.
    let weight = |(i, x): (usize, f64)| if 5 * i < 4 * n { (0.3 + x.abs()).min(1.0) } else { 0.0 };
    let seen: Vec<f64> = random::<f64>(n, 6).into_iter().enumerate().map(weight).collect();
    let mut with_gradient = |values: &[f64], seen: &[f64]| {
        let (mut by_values, mut by_seen) = (vec![f64::NAN; n], vec![f64::NAN; n]);
        let bar = WarpedBar { values: &mut by_values, seen: Some(&mut by_seen) };
        let value = loss.value_and_gradient_where_seen(Warped { values, seen: Some(seen) }, bar);
        (value, by_values, by_seen)
    };
    let (value, by_values, by_seen) = with_gradient(values, &seen);
    let norm = (dot(&by_values, &by_values) * size * size + dot(&by_seen, &by_seen)).sqrt();
    let of = || format!("{name} and its gradients where a part was seen, which held NaN before");
    expect(value.is_finite() && norm.is_finite(), of, "finite numbers", norm)?;

    let mut other = values.to_vec();
    other.iter_mut().zip(&seen).filter(|(_, w)| **w <= 0.0).for_each(|(x, _)| *x += size);
    let (found, by_other, _) = with_gradient(&other, &seen);
    let same = found.to_bits() == value.to_bits() && by_other == by_values;
    expect(same, || format!("{name} where what was not seen changes"), "the same bits", found)?;
    let (everywhere, ..) = with_gradient(values, &vec![1.0; n]);
    let (nowhere, ..) = with_gradient(values, &vec![0.0; n]);
    expect(nowhere.is_nan(), || format!("{name} where nothing was seen"), "NaN", nowhere)?;

    let whole = loss.value(values);
    // Local windows are accurate to a thousand units of rounding.
    let off = (everywhere - whole).abs() / whole.abs().max(f64::MIN_POSITIVE);
    let what = format!("{name} of an image that was seen everywhere, against the whole");
    within(&what, off, 1e3 * SAME, || format!("{everywhere} and {whole}"))?;

    let mut worst = 0.0_f64;
    for (kind, of_values, of_seen) in [
        ("the values where a part was seen", size, 0.0),
        ("what was seen", 0.0, 1.0),
        ("both the values and what was seen", size, 1.0),
    ] {
        let (by, mut direction) = (random::<f64>(n, 7), random::<f64>(n, 8));
        // What is not seen at all has no derivative where only it meets a cell of a histogram.
        direction.iter_mut().zip(&seen).for_each(|(d, &w)| *d *= f64::from(u8::from(w > 0.0)));
        let along = |e: f64| {
            let values = values.iter().zip(&by).map(|(x, d)| x + e * of_values * d);
            let seen = seen.iter().zip(&direction).map(|(x, d)| x + e * of_seen * d);
            let (values, seen): (Vec<_>, Vec<_>) = (values.collect(), seen.collect());
            loss.value_where_seen(Warped { values: &values, seen: Some(&seen) })
        };
        let derivative = of_values * dot(&by_values, &by) + of_seen * dot(&by_seen, &direction);
        let length = (dot(&by, &by) + dot(&direction, &direction)).sqrt();
        let what = format!("gradient of {name} in {kind}");
        worst = worst.max(check_gradient(&what, along, derivative, 1e-2 * norm * length)?);
    }
    Ok(worst)
}
