//! Regularisers that are given region by region.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::field::{Displacement, Image, Weights};
use crate::grid::Grid;
use crate::kernel::gaussian::{expect_increasing, expect_weights};
use crate::kernel::{Kernel, Workspace};
use crate::labels::Labels;
use crate::ops::spline::Prefilter;
use crate::ops::warp::Warp;
use crate::scalar::Real;
use crate::world::Affine;

/// What the flow advects: see [`Mixture`](crate::metric::Mixture).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Advected {
    /// Pre-weights h; the weights G ⋆ h are smoothed again at every instant. The paper's form.
    #[default]
    PreWeights,
    /// The smoothed weights w = G ⋆ h(0) themselves: G acts once, at the start.
    Weights,
}

/// Weights h_i² of the Gaussians at every voxel, from a label map in the source image: each label, the
/// background 0 too, with its weights, which sum to one.
///
/// # Errors
/// [`Error::WeightSum`] or [`Error::Length`] where weights do not fit, [`Error::Setting`] for a label without
/// weights.
///
/// ```
/// use std::collections::BTreeMap;
/// use rdmm_core::{grid::Grid, labels::Labels, model::weights_by_label};
/// let grid = Grid::new([4, 4], [1.0, 1.0])?;
/// let labels = Labels::from_vec(&grid, (0..16).map(|i| u32::from(i > 7)).collect())?;
/// let by_label = BTreeMap::from([(0, vec![0.0, 1.0]), (1, vec![0.6, 0.4])]);
/// let weights = weights_by_label::<f64, 2>(&labels, &by_label)?;
/// assert_eq!(weights.component(0)[15], 0.6);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
pub fn weights_by_label<T: Real, const D: usize>(
    labels: &Labels<D>,
    squares: &BTreeMap<u32, Vec<f64>>,
) -> Result<Weights<T, D>> {
    let gaussians = squares.values().map(Vec::len).max().unwrap_or(0);
    for squares in squares.values() {
        expect_weights(squares, gaussians)?;
    }
    let mut out = Weights::zeros_with(labels.grid(), gaussians)?;
    let n = labels.grid().len();
    for (at, label) in labels.data().iter().enumerate() {
        let expected = "a label that was given weights (0 is the background)";
        let squares = squares
            .get(label)
            .ok_or_else(|| Error::setting("label of a region", expected, label))?;
        for (i, &square) in squares.iter().enumerate() {
            out.data_mut()[i * n + at] = T::of(square);
        }
    }
    Ok(out)
}

/// Weights of the Gaussians at every voxel, from masks in the source image, such as a segmentation with soft
/// edges: each mask, with values from 0 to 1, blends in its weights, and the background has what is left.
///
/// # Errors
/// [`Error::Length`] without a mask; [`Error::WeightSum`] or [`Error::Length`] where weights do not fit;
/// [`Error::GridMismatch`] for masks over different grids; [`Error::Setting`] for mask values outside
/// \[0, 1\] and where masks sum to more than 1 (beyond rounding, 1e-5).
///
/// ```
/// use rdmm_core::{field::Image, grid::Grid, model::weights_by_mask};
/// let grid = Grid::new([4, 4], [1.0, 1.0])?;
/// let soft = Image::<f64, 2>::from_fn(&grid, |x| x[0] / 3.0)?;
/// let weights = weights_by_mask(&[(soft, vec![0.6, 0.4])], &[0.0, 1.0])?;
/// assert!((weights.component(0)[15] - 0.6).abs() < 1e-15 && weights.component(0)[0] == 0.0);
/// assert!((weights.component(1)[4] - (0.4 / 3.0 + 2.0 / 3.0)).abs() < 1e-15);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
pub fn weights_by_mask<T: Real, const D: usize>(
    masks: &[(Image<T, D>, Vec<f64>)],
    background: &[f64],
) -> Result<Weights<T, D>> {
    let Some((first, _)) = masks.first() else {
        return Err(Error::Length { what: "masks of regions", expected: 1, found: 0 });
    };
    let (grid, gaussians) = (first.grid(), background.len());
    expect_weights(background, gaussians)?;
    for (mask, squares) in masks {
        expect_weights(squares, gaussians)?;
        grid.expect_same(mask.grid(), "mask of a region")?;
        if let Some(bad) = mask.data().iter().find(|x| !(x.f64() >= 0.0 && x.f64() <= 1.0)) {
            return Err(Error::setting("mask of a region", "values from 0 to 1", bad));
        }
    }
    let mut out = Weights::zeros_with(grid, gaussians)?;
    let n = grid.len();
    for at in 0..n {
        let covered: f64 = masks.iter().map(|(mask, _)| mask.data()[at].f64()).sum();
        if covered > 1.0 + MASKS {
            return Err(Error::setting("sum of the masks at a voxel", "at most 1", covered));
        }
        let rest = (1.0 - covered).max(0.0);
        for i in 0..gaussians {
            let region =
                |(mask, squares): &(Image<T, D>, Vec<f64>)| mask.data()[at].f64() * squares[i];
            let square = rest * background[i] + masks.iter().map(region).sum::<f64>();
            out.data_mut()[i * n + at] = T::of(square);
        }
    }
    Ok(out)
}

/// Sums of masks in single precision are above one by less than this.
const MASKS: f64 = 1e-5;

/// Weights h_i² of Gaussians with these σ (increasing, any unit of length) whose local standard deviation is
/// `local` in the same unit: of all that fit, those of largest entropy.
///
#[doc = include_str!("../../docs/math/localweights.html")]
///
/// Negative β favours large σ, and β = 0 gives equal weights. The mean of σ² falls with β, so β is
/// found by bisection, to rounding. For the smallest and the largest σ one Gaussian has it all.
///
/// # Errors
/// [`Error::LocalSigma`] unless σ₀ ≤ `local` ≤ σ_{N−1}; [`Error::Setting`], [`Error::SigmaOrder`] or
/// [`Error::Length`] for σ that do not fit.
///
/// # References
/// Jaynes, *Information theory and statistical mechanics*, Phys. Rev. 106 (1957),
/// doi:10.1103/PhysRev.106.620.
///
/// ```
/// use std::collections::BTreeMap;
/// use rdmm_core::{grid::Grid, labels::Labels};
/// use rdmm_core::model::{Rdmm, weights_by_label, weights_for_sigma};
/// let sigmas = [2.0, 4.0, 8.0];
/// // Stiff outside, flexible in region 1, in millimetres.
/// let by_label = BTreeMap::from([
///     (0, weights_for_sigma(&sigmas, 8.0)?),
///     (1, weights_for_sigma(&sigmas, 3.0)?),
/// ]);
/// let variance: f64 = by_label[&1].iter().zip(&sigmas).map(|(weight, s)| weight * s * s).sum();
/// assert!((variance.sqrt() - 3.0).abs() < 1e-12);
/// let grid = Grid::new([16, 16], [1.0, 1.0])?;
/// let labels = Labels::from_vec(&grid, (0..256).map(|i| u32::from(i > 127)).collect())?;
/// let model = Rdmm::<f32, 2>::new(&sigmas, weights_by_label(&labels, &by_label)?, 1.0)?;
/// # Ok::<(), rdmm_core::Error>(())
/// ```
pub fn weights_for_sigma(sigmas: &[f64], local: f64) -> Result<Vec<f64>> {
    expect_increasing(sigmas)?;
    let (min, max) = (sigmas[0], sigmas[sigmas.len() - 1]);
    if !(min..=max).contains(&local) {
        return Err(Error::LocalSigma { found: local, min, max });
    }
    let all_of = |at: usize| (0..sigmas.len()).map(|i| f64::from(u8::from(i == at))).collect();
    // x_i = (σ_i² − s²)/(σ_{N−1}² − σ_0²), from −1 to 1: Σ_i x_i e^{−β x_i} = 0 is to be solved.
    let difference = |a: f64, b: f64| ((a - b) / max) * ((a + b) / max);
    let x: Vec<f64> = sigmas.iter().map(|&s| difference(s, local) / difference(max, min)).collect();
    let last = x.len() - 1;
    if local <= min || x[0] >= 0.0 {
        return Ok(all_of(0));
    }
    if local >= max || x[last] <= 0.0 {
        return Ok(all_of(last));
    }
    let boltzmann = |beta: f64| -> Vec<f64> {
        let largest = x.iter().map(|x| -beta * x).fold(f64::NEG_INFINITY, f64::max);
        let e: Vec<f64> = x.iter().map(|x| (-beta * x - largest).exp()).collect();
        let sum: f64 = e.iter().sum();
        e.iter().map(|e| e / sum).collect()
    };
    let excess =
        |beta: f64| boltzmann(beta).iter().zip(&x).map(|(weight, x)| weight * x).sum::<f64>();
    let (mut low, mut high) = (-1.0, 1.0);
    while excess(low) < 0.0 {
        low *= 2.0;
    }
    while excess(high) > 0.0 {
        high *= 2.0;
    }
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return Ok(boltzmann(middle));
        }
        if excess(middle) > 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
}

/// Pre-weights h on `grid` from weights h² on the source image's grid: smoothed as far as the coarser grid
/// needs, interpolated in the world at A(x), made to sum to one again, and rooted.
pub(super) fn pre_weights<T: Real, const D: usize>(
    squares: &Weights<T, D>,
    grid: &Grid<D>,
    initial: &Affine<D>,
) -> Result<Weights<T, D>> {
    let mut out = interpolated(squares, grid, initial)?;
    normalise(&mut out);
    out.data_mut().iter_mut().for_each(|weight| *weight = weight.sqrt());
    out.expect_finite("pre-weights")?;
    Ok(out)
}

/// Pre-weights h on `grid` from h on the source image's grid: bit for bit where nothing is to be interpolated, else
/// smoothed as far as the coarser grid needs and interpolated in the world at A(x).
pub(super) fn pre_weights_as_given<T: Real, const D: usize>(
    h: &Weights<T, D>,
    grid: &Grid<D>,
    initial: &Affine<D>,
) -> Result<Weights<T, D>> {
    if *initial == Affine::identity() && h.grid().same_lattice(grid) {
        return h.clone().on_grid(grid);
    }
    let out = interpolated(h, grid, initial)?;
    out.expect_finite("pre-weights")?;
    Ok(out)
}

/// Each component smoothed as far as the coarser grid needs, and interpolated in the world at A(x).
fn interpolated<T: Real, const D: usize>(
    fields: &Weights<T, D>,
    grid: &Grid<D>,
    initial: &Affine<D>,
) -> Result<Weights<T, D>> {
    let source = fields.grid();
    let mut out = Weights::zeros_with(grid, fields.components())?;
    let (warp, prefilter) = (Warp::<T, D>::through(source, grid, initial), Prefilter::new(source));
    let zero = vec![T::zero(); D * grid.len()];
    let smoothing = crate::pyramid::anti_alias(source, grid.spacing())?;
    for i in 0..fields.components() {
        let mut field = Image::<T, D>::zeros(source)?;
        match &smoothing {
            Some(g) => g.apply(fields.component(i), field.data_mut(), &mut Workspace::new()),
            None => field.data_mut().copy_from_slice(fields.component(i)),
        }
        prefilter.apply(field.data_mut());
        warp.values::<1>(field.data(), &zero, out.component_mut(i));
    }
    Ok(out)
}

/// Weights read at x + u(x), on the grid of the map, made to sum to one again.
pub(super) fn weights_at<T: Real, const D: usize>(
    squares: &Weights<T, D>,
    map: &Displacement<T, D>,
) -> Result<Weights<T, D>> {
    let mut out = read_at(squares, map)?;
    normalise(&mut out);
    out.expect_finite("weights")?;
    Ok(out)
}

/// Pre-weights read at x + u(x), on the grid of the map.
pub(super) fn pre_weights_at<T: Real, const D: usize>(
    h: &Weights<T, D>,
    map: &Displacement<T, D>,
) -> Result<Weights<T, D>> {
    let out = read_at(h, map)?;
    out.expect_finite("pre-weights")?;
    Ok(out)
}

/// Each component read at x + u(x), on the grid of the map.
fn read_at<T: Real, const D: usize>(
    fields: &Weights<T, D>,
    map: &Displacement<T, D>,
) -> Result<Weights<T, D>> {
    let mut out = Weights::zeros_with(map.grid(), fields.components())?;
    let warp = Warp::<T, D>::new(fields.grid(), map.grid());
    let prefilter = Prefilter::new(fields.grid());
    let mut field = Image::<T, D>::zeros(fields.grid())?;
    for i in 0..fields.components() {
        field.data_mut().copy_from_slice(fields.component(i));
        prefilter.apply(field.data_mut());
        warp.values::<1>(field.data(), map.data(), out.component_mut(i));
    }
    Ok(out)
}

/// Weights that sum to one at every voxel. Cubic splines overshoot at edges, and a weight is not negative.
fn normalise<T: Real, const D: usize>(squares: &mut Weights<T, D>) {
    let (n, components) = (squares.grid().len(), squares.components());
    let data = squares.data_mut();
    for at in 0..n {
        let sum = (0..components).fold(T::zero(), |s, i| s + data[i * n + at].max(T::zero()));
        for i in 0..components {
            data[i * n + at] = data[i * n + at].max(T::zero()) / sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    fn variance(squares: &[f64], sigmas: &[f64]) -> f64 {
        squares.iter().zip(sigmas).map(|(weight, s)| weight * s * s).sum()
    }

    #[test]
    fn weights_have_the_local_sigma_at_every_place_of_the_range() {
        for sigmas in [
            vec![1.0, 2.0],
            vec![0.025, 0.05, 0.1, 0.2],
            vec![1e-3, 1.0, 1.0 + 1e-9, 1e3],
            vec![1e150, 3e180, 1e200],
        ] {
            let (min, max) = (sigmas[0], sigmas[sigmas.len() - 1]);
            for k in 0..=40 {
                let s = min + (max - min) * f64::from(k) / 40.0;
                let squares = weights_for_sigma(&sigmas, s).unwrap();
                let sum: f64 = squares.iter().sum();
                assert!((sum - 1.0).abs() < 1e-14 && squares.iter().all(|&weight| weight >= 0.0));
                // To rounding of sums of terms as large as the variance of the largest.
                let scaled: Vec<f64> = sigmas.iter().map(|x| x / max).collect();
                let off = variance(&squares, &scaled) - (s / max).powi(2);
                assert!(off.abs() < 1e-13, "{sigmas:?} {s}: {off:e}");
            }
        }
    }

    #[test]
    fn weights_are_those_of_largest_entropy() {
        let sigmas = [1.0, 2.0, 3.0, 5.0];
        let entropy = |p: &[f64]| -p.iter().map(|p| p * p.ln()).sum::<f64>();
        let best = weights_for_sigma(&sigmas, 2.4).unwrap();
        for seed in 0..20 {
            // A direction that keeps the sum and the variance: two of the four degrees are left.
            let r: Vec<f64> = random(2, seed);
            let (a, b) = (r[0], r[1]);
            let d = [(5.0 * a + 21.0 * b) / 3.0, -(8.0 * a + 24.0 * b) / 3.0, a, b];
            assert!(d.iter().sum::<f64>().abs() < 1e-14 && variance(&d, &sigmas).abs() < 1e-13);
            let other: Vec<f64> = best.iter().zip(d).map(|(p, d)| p + 1e-3 * d).collect();
            assert!(entropy(&other) < entropy(&best));
        }
        // β = 0.
        let equal = weights_for_sigma(&sigmas, (39.0_f64 / 4.0).sqrt()).unwrap();
        assert!(equal.iter().all(|weight| (weight - 0.25).abs() < 1e-14));
        assert_eq!(weights_for_sigma(&[3.0], 3.0).unwrap(), [1.0]);
        assert_eq!(weights_for_sigma(&sigmas, 1.0).unwrap(), [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(weights_for_sigma(&sigmas, 5.0).unwrap(), [0.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn a_local_sigma_outside_the_range_is_refused_with_what_is_possible() {
        for bad in [0.9, 5.1, f64::NAN, f64::INFINITY, -2.0] {
            let error = weights_for_sigma(&[1.0, 5.0], bad).unwrap_err();
            assert!(matches!(error, Error::LocalSigma { .. }));
            let text = error.to_string();
            assert!(text.contains("between 1 and 5") && text.contains(&format!("found {bad}")));
        }
        assert!(matches!(weights_for_sigma(&[], 1.0), Err(Error::Length { .. })));
        assert!(matches!(weights_for_sigma(&[2.0, 1.0], 1.5), Err(Error::SigmaOrder { .. })));
        assert!(matches!(weights_for_sigma(&[0.0, 1.0], 0.5), Err(Error::Setting { .. })));
        assert!(matches!(weights_for_sigma(&[1.0, f64::NAN], 1.0), Err(Error::Setting { .. })));
    }

    #[test]
    fn masks_blend_their_weights_and_bad_ones_are_refused() {
        let grid = Grid::new([4, 5], [1.0, 1.0]).unwrap();
        let constant = |x: f64| Image::<f32, 2>::from_fn(&grid, |_| x).unwrap();
        let of = |a: f64, b: f64| {
            let masks = [(constant(a), vec![1.0, 0.0, 0.0]), (constant(b), vec![0.0, 1.0, 0.0])];
            weights_by_mask(&masks, &[0.0, 0.0, 1.0])
        };
        let squares = of(0.5, 0.25).unwrap();
        // Halves and quarters have no rounding.
        assert!(squares.component(0).iter().all(|x| x.to_bits() == 0.5_f32.to_bits()));
        assert!(squares.component(1).iter().all(|x| x.to_bits() == 0.25_f32.to_bits()));
        assert!(squares.component(2).iter().all(|x| x.to_bits() == 0.25_f32.to_bits()));
        // 0.1 + 0.9 of single precision is above one by rounding.
        assert!(of(0.1, 0.9).unwrap().component(2).iter().all(|&x| (0.0..1e-6).contains(&x)));
        assert!(matches!(of(0.6, 0.5), Err(Error::Setting { name, .. }) if name.contains("sum")));
        assert!(matches!(of(-0.1, 0.5), Err(Error::Setting { .. })));
        assert!(matches!(of(0.1, 1.5), Err(Error::Setting { .. })));
        let none = weights_by_mask::<f32, 2>(&[], &[1.0]);
        assert!(matches!(none, Err(Error::Length { .. })));
        let short = weights_by_mask(&[(constant(0.5), vec![1.0])], &[0.5, 0.5]);
        assert!(matches!(short, Err(Error::Length { .. })));
        let wrong = weights_by_mask(&[(constant(0.5), vec![0.7, 0.7])], &[0.5, 0.5]);
        assert!(matches!(wrong, Err(Error::WeightSum { .. })));
        let other = Image::<f32, 2>::zeros(&Grid::new([5, 5], [1.0, 1.0]).unwrap()).unwrap();
        let masks = [(constant(0.5), vec![1.0]), (other, vec![1.0])];
        assert!(matches!(weights_by_mask(&masks, &[1.0]), Err(Error::GridMismatch { .. })));
        let mut nan = constant(0.5);
        nan.data_mut()[3] = f32::NAN;
        assert!(matches!(weights_by_mask(&[(nan, vec![1.0])], &[1.0]), Err(Error::Setting { .. })));
    }
}
