use crate::error::{Error, Result, positive};
use crate::field::{Image, Weights};
use crate::par;
use crate::scalar::Real;

/// The local standard deviation `√(Σ_i w_i² σ_i²)` of the regulariser, physical units, one value a
/// voxel.
///
/// Where `Σ_i w_i² = 1` it is the standard deviation of the mixture of Gaussians; it is not normalised
/// elsewhere. `weights` has the shape `[N, ..grid.shape()]`, `sigmas` has `N` entries, in any order.
/// One pass.
///
/// # Errors
/// [`Error::Length`] unless there is one σ a component, [`Error::Setting`] for a σ that is not
/// positive, [`Error::NonFinite`] for NaN or infinity in the weights, [`Error::OutOfMemory`].
///
/// # References
/// Shen, Vialard, Niethammer, *Region-specific Diffeomorphic Metric Mapping*, `NeurIPS` 2019,
/// doi:10.48550/arXiv.1906.00139.
///
/// ```
/// use rdmm_core::{evaluate::local_standard_deviation, field::Weights, grid::Grid};
/// let grid = Grid::new([4, 4], [1.0, 1.0])?;
/// let weights = Weights::<f64, 2>::from_fn(&grid, 2, |_, i| [0.6, 0.8][i])?;
/// let sigma = local_standard_deviation(&weights, &[5.0, 10.0])?;
/// assert!((sigma.data()[0] - 73f64.sqrt()).abs() < 1e-12); // √(3² + 8²)
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[inline(never)]
pub fn local_standard_deviation<T: Real, const D: usize>(
    weights: &Weights<T, D>,
    sigmas: &[f64],
) -> Result<Image<T, D>> {
    if sigmas.len() != weights.components() {
        return Err(Error::Length {
            what: "σ of the weights",
            expected: weights.components(),
            found: sigmas.len(),
        });
    }
    for &sigma in sigmas {
        positive("σ of the weights", sigma)?;
    }
    weights.expect_finite("weights")?;
    let mut out = Image::zeros(weights.grid())?;
    par::chunks(out.data_mut(), |lo, chunk: &mut [T]| {
        for (i, sigma) in sigmas.iter().enumerate() {
            let square = T::of(sigma * sigma);
            for (sum, &w) in chunk.iter_mut().zip(&weights.component(i)[lo..]) {
                *sum += w * w * square;
            }
        }
        for sum in chunk {
            *sum = sum.sqrt();
        }
    });
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Grid;

    #[test]
    fn the_formula_voxel_by_voxel() {
        let grid = Grid::new([4, 5], [1.0, 1.0]).unwrap();
        let w = |x: [f64; 2], i: usize| [x[0], 0.5 * x[1]][i];
        let weights = Weights::<f64, 2>::from_fn(&grid, 2, w).unwrap();
        let found = local_standard_deviation(&weights, &[2.0, 4.0]).unwrap();
        // 2·2 and 0.5·4·4 at voxel (2, 4), not normalised; to rounding.
        assert!((found.data()[2 * 5 + 4] - 80f64.sqrt()).abs() < 1e-14);
        assert!(found.data()[0].abs() < 1e-15);
    }

    #[test]
    fn bad_weights_are_refused() {
        let grid = Grid::new([4, 5], [1.0, 1.0]).unwrap();
        let mut weights = Weights::<f32, 2>::zeros_with(&grid, 2).unwrap();
        let of = |w: &Weights<f32, 2>, s: &[f64]| local_standard_deviation(w, s).err();
        assert!(matches!(of(&weights, &[1.0]), Some(Error::Length { .. })));
        assert!(matches!(of(&weights, &[1.0, f64::NAN]), Some(Error::Setting { .. })));
        weights.data_mut()[0] = f32::NAN;
        assert!(matches!(of(&weights, &[1.0, 2.0]), Some(Error::NonFinite { .. })));
    }
}
