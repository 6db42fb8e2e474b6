//! Coarser versions of an image, smoothed before they are sampled.

use crate::error::Result;
use crate::field::Image;
use crate::grid::Grid;
use crate::kernel::{Gaussian, Kernel, Workspace};
use crate::ops::spline::Prefilter;
use crate::ops::warp::Warp;
use crate::scalar::Real;
use crate::world::Affine;

/// Standard deviation, in coarse voxels, of the smoothing before sampling: it leaves 3 % at the coarse
/// grid's Nyquist frequency counted at twice its spacing, and 29 % at the frequency itself.
const ANTI_ALIAS: f64 = 0.5;

/// The Gaussian that takes an image on `fine` to voxels of `spacing` along its axes. The image already has the blur of
/// its own voxels: σ² = (0.5 h′)² − (0.5 h)² along each axis, and nothing where h′ is not larger or σ is under half a
/// voxel, so that nothing could alias. `None` where there is nothing to smooth.
pub(crate) fn anti_alias<T: Real, const D: usize>(
    fine: &Grid<D>,
    spacing: [f64; D],
) -> Result<Option<Gaussian<T, D>>> {
    let sigmas = std::array::from_fn(|a| {
        let h = fine.spacing()[a];
        let square = (ANTI_ALIAS * spacing[a]).powi(2) - (ANTI_ALIAS * h).powi(2);
        (square > 0.0).then(|| square.sqrt()).filter(|&sigma| sigma >= 0.5 * h)
    });
    if sigmas.iter().all(Option::is_none) {
        return Ok(None);
    }
    Gaussian::along_axes(fine, sigmas).map(Some)
}

/// How far apart the voxels of `fixed` are along the axes of `moving`, where M takes them: 1/|H⁻¹ R e| for the axis e,
/// R = R₁ᵀ M⁻¹ R₀ from the axes of `moving` to those of `fixed` and H = diag(h) of `fixed`.
pub(crate) fn spacing_along<const D: usize>(
    fixed: &Grid<D>,
    moving: &Grid<D>,
    initial: &Affine<D>,
) -> [f64; D] {
    let turn = fixed.direction().transpose() * initial.inverse().matrix() * moving.direction();
    std::array::from_fn(|a| {
        let square = (0..D).map(|b| (turn[(b, a)] / fixed.spacing()[b]).powi(2)).sum::<f64>();
        square.sqrt().recip()
    })
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
    smoothed_and_sampled(image, grid, grid.spacing())
}

/// A moving image `factor` times coarser, for a comparison on `fixed` from an initial map on: where its voxels are still
/// smaller than those of `fixed` there, it is smoothed to these, or its texture would alias. Voxels that are larger than
/// the whole moving image see its mean, as those of its extent do.
pub(crate) fn coarser_moving<T: Real, const D: usize>(
    moving: &Image<T, D>,
    fixed: &Grid<D>,
    initial: &Affine<D>,
    factor: f64,
) -> Result<Image<T, D>> {
    let grid = moving.grid().coarsened(factor)?;
    let (own, read, extent) = (grid.spacing(), spacing_along(fixed, &grid, initial), grid.extent());
    let spacing = std::array::from_fn(|a| own[a].max(read[a].min(extent[a])));
    smoothed_and_sampled(moving, &grid, spacing)
}

/// The image smoothed for voxels of `spacing`, and sampled on `grid`.
fn smoothed_and_sampled<T: Real, const D: usize>(
    image: &Image<T, D>,
    grid: &Grid<D>,
    spacing: [f64; D],
) -> Result<Image<T, D>> {
    image.expect_finite("image")?;
    let source = image.grid();
    let boundary = source.boundary().of_weights();
    let mirrored = source.clone().with_boundary(boundary);
    let gaussian = anti_alias(&mirrored, spacing)?;
    if source == grid && gaussian.is_none() {
        return Ok(image.clone());
    }
    let mut smooth = image.clone();
    if let Some(gaussian) = gaussian {
        gaussian.apply(image.data(), smooth.data_mut(), &mut Workspace::new());
    }
    if source == grid {
        return Ok(smooth);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A wave along each axis, in voxels a period.
    fn wave(grid: &Grid<2>, axis: usize, period: f64) -> Image<f64, 2> {
        let h = grid.spacing()[axis];
        Image::from_fn(grid, |x| (std::f64::consts::TAU * x[axis] / (h * period)).cos()).unwrap()
    }

    /// The largest value away from the borders, where waves are mirrored.
    fn largest(image: &Image<f64, 2>) -> f64 {
        let n = image.grid().len();
        image.data()[n / 4..n - n / 4].iter().fold(0.0, |m, x| m.max(x.abs()))
    }

    #[test]
    fn axes_that_are_not_sampled_more_coarsely_are_not_smoothed() {
        // Slices ten times as thick as the pixels of a slice; ten of them stay.
        let fine = Grid::new([40, 10], [0.5, 5.0]).unwrap();
        let coarse = fine.resampled([10, 10]).unwrap();
        let along = coarser(&wave(&fine, 0, 4.0), &coarse).unwrap();
        // exp(−(2π/4)² σ²/2) with σ² = 2² − 0.5² = 3.75 voxels² is 0.01, and some of the border's 0.2 reaches in.
        assert!(largest(&along) < 0.05, "{}", largest(&along));
        let across = coarser(&wave(&fine, 1, 4.0), &coarse).unwrap();
        // Voxels along this axis are where they were: nothing but rounding.
        let expected = wave(&coarse, 1, 4.0);
        let off = across.data().iter().zip(expected.data()).map(|(a, b)| (a - b).abs());
        assert!(off.fold(0.0, f64::max) < 1e-9);
    }

    #[test]
    fn moving_images_that_are_finer_are_smoothed_along_the_axes_that_are_finer() {
        let moving = Grid::new([40, 40], [0.5, 2.0]).unwrap();
        let fixed = Grid::new([16, 16], [2.0, 2.0]).unwrap();
        let quarter = nalgebra::SMatrix::<f64, 2, 2>::new(0.0, -1.0, 1.0, 0.0);
        for fixed in [fixed.clone(), fixed.with_direction(quarter).unwrap()] {
            let fine =
                coarser_moving(&wave(&moving, 0, 4.0), &fixed, &Affine::identity(), 1.0).unwrap();
            assert_eq!(fine.grid(), &moving);
            assert!(largest(&fine) < 0.05, "{}", largest(&fine));
            let coarse = wave(&moving, 1, 4.0);
            let same = coarser_moving(&coarse, &fixed, &Affine::identity(), 1.0).unwrap();
            let off = same.data().iter().zip(coarse.data()).map(|(a, b)| (a - b).abs());
            assert!(off.fold(0.0, f64::max) < 1e-9);
        }
        // As fine as the fixed image: the same image, bit for bit.
        let own = wave(&moving, 0, 4.0);
        assert_eq!(coarser_moving(&own, &moving, &Affine::identity(), 1.0).unwrap(), own);
    }

    #[test]
    fn spacings_along_oblique_axes_lie_between_those_of_the_axes() {
        let fixed = Grid::new([8, 8], [1.0, 3.0]).unwrap();
        let (c, s) = (0.6, 0.8);
        let turn = nalgebra::SMatrix::<f64, 2, 2>::new(c, -s, s, c);
        let moving = Grid::new([8, 8], [1.0, 1.0]).unwrap().with_direction(turn).unwrap();
        let found = spacing_along(&fixed, &moving, &Affine::identity());
        let expected =
            [(c * c + s * s / 9.0_f64).sqrt().recip(), (s * s + c * c / 9.0).sqrt().recip()];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
        // A quarter of a turn exchanges them.
        let turn = nalgebra::SMatrix::<f64, 2, 2>::new(0.0, -1.0, 1.0, 0.0);
        let turned = moving.clone().with_direction(turn).unwrap();
        let found = spacing_along(&fixed, &turned, &Affine::identity());
        assert!((found[0] - 3.0).abs() < 1e-12 && (found[1] - 1.0).abs() < 1e-12, "{found:?}");
        // A map that reads the moving image in steps of half the size, turned by a quarter.
        let half = Affine::new(0.5 * turn, nalgebra::SVector::zeros()).unwrap();
        let moving = Grid::new([8, 8], [1.0, 1.0]).unwrap();
        let found = spacing_along(&fixed, &moving, &half);
        assert!((found[0] - 1.5).abs() < 1e-12 && (found[1] - 0.5).abs() < 1e-12, "{found:?}");
    }
}
