//! Regularisers that are given region by region.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::field::{Displacement, Image, Weights};
use crate::grid::Grid;
use crate::kernel::gaussian::expect_shares;
use crate::kernel::{Gaussian, Kernel, Workspace};
use crate::labels::Labels;
use crate::ops::spline::Prefilter;
use crate::ops::warp::Warp;
use crate::scalar::Real;

/// What the flow carries: see [`Mixture`](crate::metric::Mixture).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Carried {
    /// Pre-weights h; the weights G ⋆ h are smoothed again at every instant. The paper's form.
    #[default]
    PreWeights,
    /// The smoothed weights w = G ⋆ h(0) themselves: G acts once, at the start.
    Weights,
}

/// Shares h_i² of the Gaussians at every voxel, from a label map in the source image: each label, the
/// background 0 too, with its shares, which sum to one.
///
/// # Errors
/// [`Error::Shares`] or [`Error::Length`] where shares do not fit, [`Error::Setting`] for a label without
/// shares.
///
/// ```
/// use std::collections::BTreeMap;
/// use rdmm_core::{grid::Grid, labels::Labels, model::shares_by_label};
/// let grid = Grid::new([4, 4], [1.0, 1.0])?;
/// let labels = Labels::from_vec(&grid, (0..16).map(|i| u32::from(i > 7)).collect())?;
/// let by_label = BTreeMap::from([(0, vec![0.0, 1.0]), (1, vec![0.6, 0.4])]);
/// let shares = shares_by_label::<f64, 2>(&labels, &by_label)?;
/// assert_eq!(shares.component(0)[15], 0.6);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
pub fn shares_by_label<T: Real, const D: usize>(
    labels: &Labels<D>,
    shares: &BTreeMap<u32, Vec<f64>>,
) -> Result<Weights<T, D>> {
    let gaussians = shares.values().map(Vec::len).max().unwrap_or(0);
    for shares in shares.values() {
        expect_shares(shares, gaussians)?;
    }
    let mut out = Weights::zeros_with(labels.grid(), gaussians)?;
    let n = labels.grid().len();
    for (at, label) in labels.data().iter().enumerate() {
        let expected = "a label that was given shares (0 is the background)";
        let shares = shares
            .get(label)
            .ok_or_else(|| Error::setting("label of a region", expected, label))?;
        for (i, &share) in shares.iter().enumerate() {
            out.data_mut()[i * n + at] = T::of(share);
        }
    }
    Ok(out)
}

/// Pre-weights h on `grid` from shares h² on the source image's grid: smoothed as far as the coarser grid
/// needs, interpolated in the world, made to sum to one again, and rooted.
pub(super) fn pre_weights<T: Real, const D: usize>(
    shares: &Weights<T, D>,
    grid: &Grid<D>,
) -> Result<Weights<T, D>> {
    let source = shares.grid();
    let mut out = Weights::zeros_with(grid, shares.components())?;
    let (warp, prefilter) = (Warp::<T, D>::new(source, grid), Prefilter::new(source));
    let zero = vec![T::zero(); D * grid.len()];
    let sigma = crate::pyramid::anti_alias_sigma(source, grid);
    let smoothing = sigma.map(|sigma| Gaussian::new(source, sigma)).transpose()?;
    for i in 0..shares.components() {
        let mut share = Image::<T, D>::zeros(source)?;
        match &smoothing {
            Some(g) => g.apply(shares.component(i), share.data_mut(), &mut Workspace::new()),
            None => share.data_mut().copy_from_slice(shares.component(i)),
        }
        prefilter.apply(share.data_mut());
        warp.values::<1>(share.data(), &zero, out.component_mut(i));
    }
    normalise(&mut out);
    out.data_mut().iter_mut().for_each(|share| *share = share.sqrt());
    out.expect_finite("pre-weights")?;
    Ok(out)
}

/// Shares read at x + u(x), on the grid of the map, made to sum to one again.
pub(super) fn shares_carried<T: Real, const D: usize>(
    shares: &Weights<T, D>,
    map: &Displacement<T, D>,
) -> Result<Weights<T, D>> {
    let mut out = Weights::zeros_with(map.grid(), shares.components())?;
    let warp = Warp::<T, D>::new(shares.grid(), map.grid());
    let prefilter = Prefilter::new(shares.grid());
    let mut share = Image::<T, D>::zeros(shares.grid())?;
    for i in 0..shares.components() {
        share.data_mut().copy_from_slice(shares.component(i));
        prefilter.apply(share.data_mut());
        warp.values::<1>(share.data(), map.data(), out.component_mut(i));
    }
    normalise(&mut out);
    out.expect_finite("shares")?;
    Ok(out)
}

/// Shares that sum to one at every voxel. Cubic splines overshoot at edges, and a share is not negative.
fn normalise<T: Real, const D: usize>(shares: &mut Weights<T, D>) {
    let (n, components) = (shares.grid().len(), shares.components());
    let data = shares.data_mut();
    for at in 0..n {
        let sum = (0..components).fold(T::zero(), |s, i| s + data[i * n + at].max(T::zero()));
        for i in 0..components {
            data[i * n + at] = data[i * n + at].max(T::zero()) / sum;
        }
    }
}
