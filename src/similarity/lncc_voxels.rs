use super::lncc::prepared;
use super::{Measure, Similarity, Window};
use crate::error::Result;
use crate::field::Image;
use crate::scalar::Real;

/// [`Lncc`](super::Lncc) in windows whose standard deviation is given in voxels of the fixed image's grid, along the axis
/// of the coarsest spacing: on every level of a registration the windows hold as many voxels.
///
/// Windows that are fixed in space hold a few voxels on coarse levels, where correlations of so few numbers say little.
///
/// # References
/// Those of [`Lncc`](super::Lncc); Avants et al., *Symmetric diffeomorphic image registration with cross-correlation*,
/// Med. Image Anal. 12 (2008), doi:10.1016/j.media.2007.06.004, whose windows are counted in voxels of each level too.
///
/// ```
/// use rdmm_core::{field::Image, grid::Grid, similarity::{Lncc, LnccVoxels, Measure}};
/// let grid = Grid::new([16, 16], [0.5, 0.5])?;
/// let fixed = Image::<f64, 2>::from_fn(&grid, |x| (2.0 * x[0] + 0.6 * x[1]).sin())?;
/// let warped: Vec<f64> = fixed.data().iter().map(|x| x * x).collect();
/// let in_voxels = LnccVoxels { sigma: 2.0 }.prepare(&fixed, None)?.value(&warped);
/// let in_units = Lncc { sigma: 1.0 }.prepare(&fixed, None)?.value(&warped);
/// assert_eq!(in_voxels.to_bits(), in_units.to_bits());
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LnccVoxels {
    /// Standard deviation of the windows, voxels of the fixed image's grid.
    pub sigma: f64,
}

impl<T: Real, const D: usize> Measure<T, D> for LnccVoxels {
    fn prepare(
        &self,
        fixed: &Image<T, D>,
        mask: Option<&Image<T, D>>,
    ) -> Result<Box<dyn Similarity<T>>> {
        let sigma = self.sigma * fixed.grid().coarsest_spacing();
        prepared(Window::Gaussian { sigma }, fixed, mask)
    }

    fn name(&self) -> &'static str {
        "LNCC"
    }

    fn default_weight(&self) -> f64 {
        0.07
    }
}
