//! Coarser versions of an image, smoothed before they are sampled.

use crate::error::Result;
use crate::field::Image;
use crate::grid::Grid;
use crate::kernel::{Gaussian, Kernel, Workspace};
use crate::ops::spline::Prefilter;
use crate::ops::warp::Warp;
use crate::scalar::Real;

/// Standard deviation, in coarse voxels, of the smoothing before sampling: it leaves 3 % at the coarse
/// grid's Nyquist frequency counted at twice its spacing, and 29 % at the frequency itself.
const ANTI_ALIAS: f64 = 0.5;

/// σ of the Gaussian that takes an image on `fine` to the resolution of `coarse`, physical units: the
/// image already has the blur of its own voxels, so σ² = (0.5 h′)² − (0.5 h)². `None` where `coarse` is
/// not coarser or σ is under half a voxel, where nothing could alias.
pub(crate) fn anti_alias_sigma<const D: usize>(fine: &Grid<D>, coarse: &Grid<D>) -> Option<f64> {
    let (h, h2) = (fine.coarsest_spacing(), coarse.coarsest_spacing());
    let square = (ANTI_ALIAS * h2).powi(2) - (ANTI_ALIAS * h).powi(2);
    (square > 0.0).then(|| square.sqrt()).filter(|&sigma| sigma >= 0.5 * h)
}

/// The grid that a moving image is taken to for a comparison on `fixed`: `factor` times coarser than its own, or more
/// where it would still be so much finer than `fixed` along every axis, 1/√2 of its spacing, that its texture would alias
/// there.
pub(crate) fn moving_grid<const D: usize>(
    moving: &Grid<D>,
    fixed: &Grid<D>,
    factor: f64,
) -> Result<Grid<D>> {
    let finest = fixed.spacing().into_iter().fold(f64::INFINITY, f64::min);
    let like_fixed = finest / moving.coarsest_spacing();
    let aliases = like_fixed > std::f64::consts::SQRT_2 * factor;
    moving.coarsened(if aliases { like_fixed } else { factor })
}

/// `image` at the resolution of `grid`: smoothed, then sampled by cubic splines at the world positions
/// of its voxels. Spacing and origin of `grid` hold for the result.
///
/// # Errors
/// [`Error::NonFinite`](crate::Error::NonFinite) for NaN or infinity in the image;
/// [`Error::Sigma`](crate::Error::Sigma) for a grid whose voxels are larger than the image;
/// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
#[inline(never)]
pub fn coarser<T: Real, const D: usize>(
    image: &Image<T, D>,
    grid: &Grid<D>,
) -> Result<Image<T, D>> {
    image.expect_finite("image")?;
    let source = image.grid();
    if source == grid {
        return Ok(image.clone());
    }
    let boundary = source.boundary().of_weights();
    let mut smooth = image.clone();
    if let Some(sigma) = anti_alias_sigma(source, grid) {
        let mirrored = source.clone().with_boundary(boundary);
        let gaussian = Gaussian::new(&mirrored, sigma)?;
        gaussian.apply(image.data(), smooth.data_mut(), &mut Workspace::new());
    }
    Prefilter::new(source).apply(smooth.data_mut());
    let mut out = Image::zeros(grid)?;
    let zero = vec![T::zero(); D * grid.len()];
    Warp::new(source, grid).values::<1>(smooth.data(), &zero, out.data_mut());
    Ok(out)
}

/// A mask at the resolution of `grid`; the overshoot of the interpolation is cut to [0, 1].
#[inline(never)]
pub(crate) fn coarser_mask<T: Real, const D: usize>(
    mask: &Image<T, D>,
    grid: &Grid<D>,
) -> Result<Image<T, D>> {
    mask.expect_finite("mask")?;
    if let Some(bad) = mask.data().iter().find(|&&x| !(x >= T::zero() && x <= T::one())) {
        return Err(crate::Error::setting("mask", "values from 0 to 1", bad));
    }
    let mut out = coarser(mask, grid)?;
    out.data_mut().iter_mut().for_each(|x| *x = x.max(T::zero()).min(T::one()));
    Ok(out)
}
