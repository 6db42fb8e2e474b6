use crate::error::Result;
use crate::field::Image;
use crate::scalar::Real;
use crate::similarity::Shares;

/// Mean squared difference ∫ mask (a − b)² / ∫ mask, in squared units of intensity.
///
/// Mask values are weights between 0 and 1; `None` counts all voxels alike.
///
/// # Errors
/// [`Error::GridMismatch`](crate::Error::GridMismatch) unless all are over the same lattice,
/// [`Error::NonFinite`](crate::Error::NonFinite) for NaN or infinity in an image,
/// [`Error::Setting`](crate::Error::Setting) for a mask value outside [0, 1],
/// [`Error::NoContrast`](crate::Error::NoContrast) for a mask that is zero.
pub fn mse<T: Real, const D: usize>(
    a: &Image<T, D>,
    b: &Image<T, D>,
    mask: Option<&Image<T, D>>,
) -> Result<f64> {
    let shares = shares(a, b, mask)?;
    let (a, b) = (a.data(), b.data());
    Ok(shares.whole().mean(|i| (a[i].f64() - b[i].f64()).powi(2)))
}

/// Normalised cross-correlation cov / √(var a · var b), between −1 and 1, moments over the mask.
///
/// # Errors
/// Those of [`mse`]; [`Error::NoContrast`](crate::Error::NoContrast) for an image that is constant
/// where the mask counts.
///
/// ```
/// use rdmm_core::{evaluate::ncc, field::Image, grid::Grid};
/// let grid = Grid::new([8, 8], [1.0, 1.0])?;
/// let a = Image::<f64, 2>::from_fn(&grid, |x| x[0])?;
/// let b = Image::<f64, 2>::from_fn(&grid, |x| 5.0 - 2.0 * x[0])?;
/// assert!((ncc(&a, &b, None)? + 1.0).abs() < 1e-14);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
pub fn ncc<T: Real, const D: usize>(
    a: &Image<T, D>,
    b: &Image<T, D>,
    mask: Option<&Image<T, D>>,
) -> Result<f64> {
    let shares = shares(a, b, mask)?;
    let (a, b) = (a.data(), b.data());
    let (mean_a, variance_a) = shares.whole().contrast(a, "first image")?;
    let (mean_b, variance_b) = shares.whole().contrast(b, "second image")?;
    let covariance = shares.whole().mean(|i| (a[i].f64() - mean_a) * (b[i].f64() - mean_b));
    Ok(covariance / (variance_a * variance_b).sqrt())
}

fn shares<T: Real, const D: usize>(
    a: &Image<T, D>,
    b: &Image<T, D>,
    mask: Option<&Image<T, D>>,
) -> Result<Shares<T>> {
    a.grid().expect_same(b.grid(), "second image")?;
    a.expect_finite("first image")?;
    b.expect_finite("second image")?;
    Shares::new(a.grid(), mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::grid::Grid;

    #[test]
    fn figures_by_hand() {
        let grid = Grid::new([4, 4], [1.0, 2.0]).unwrap();
        let rows = |r: [f64; 4]| {
            let data = r.iter().flat_map(|&x| [x; 4]).collect();
            Image::<f64, 2>::from_vec(&grid, data).unwrap()
        };
        let (a, b) = (rows([1.0, 2.0, 3.0, 4.0]), rows([2.0, 2.0, 5.0, 3.0]));
        let mask = rows([1.0, 0.5, 0.5, 0.0]);
        // Squared differences 1, 0, 4, 1; sums of small numbers, to rounding.
        assert!((mse(&a, &b, None).unwrap() - 1.5).abs() < 1e-14);
        assert!((mse(&a, &b, Some(&mask)).unwrap() - 1.5).abs() < 1e-14);
        // Deviations −1.5 −.5 .5 1.5 and −1 −1 2 0: 3 / √(5 · 6).
        assert!((ncc(&a, &b, None).unwrap() - 3.0 / 30f64.sqrt()).abs() < 1e-14);
        // Shares ½ ¼ ¼ 0: means 1.75 and 2.75, deviations −.75 .25 1.25 and −.75 −.75 2.25.
        let expected = 0.9375 / (0.6875 * 1.6875f64).sqrt();
        assert!((ncc(&a, &b, Some(&mask)).unwrap() - expected).abs() < 1e-14);
    }

    #[test]
    fn bad_images_are_refused() {
        let grid = Grid::new([4, 4], [1.0, 2.0]).unwrap();
        let a = Image::<f64, 2>::from_fn(&grid, |x| x[0]).unwrap();
        let flat = Image::from_vec(&grid, vec![0.1; 16]).unwrap();
        let other = Image::zeros(&Grid::new([4, 5], [1.0; 2]).unwrap()).unwrap();
        assert!(matches!(mse(&a, &other, None), Err(Error::GridMismatch { .. })));
        assert!(matches!(mse(&a, &a, Some(&other)), Err(Error::GridMismatch { .. })));
        assert!(matches!(mse(&a, &a, Some(&a)), Err(Error::Setting { .. })));
        assert!(matches!(ncc(&a, &flat, None), Err(Error::NoContrast { what: "second image" })));
        let mut broken = a.clone();
        broken.data_mut()[2] = f64::INFINITY;
        assert!(matches!(mse(&broken, &a, None), Err(Error::NonFinite { index: 2, .. })));
    }
}
