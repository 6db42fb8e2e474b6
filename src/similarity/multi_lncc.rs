use super::sum::{expect_weights, weighted};
use super::window::Window;
use super::{Measure, Similarity, lncc};
use crate::error::Result;
use crate::field::Image;
use crate::grid::Grid;
use crate::scalar::Real;

/// Local correlation in several windows (mk-LNCC): Σₖ ωₖ (1 − mean squared correlation in window k).
///
#[doc = include_str!("../../docs/math/multilncc.html")]
///
/// Each term is [`Lncc`](super::Lncc), with Gaussian or box windows. Large windows see contrast where small
/// ones see noise, small windows place edges. With weights of sum one the loss lies between 0 and 1.
///
/// [`Measure::against`] gives the errors of [`Lncc`](super::Lncc), and
/// [`Error::Setting`](crate::Error::Setting) for a box out of its bounds. Cost and memory are those of one
/// [`Lncc`](super::Lncc) for each window; a box costs two additions a voxel and axis whatever its width.
///
/// # References
/// Shen, Han, Xu, Niethammer, *Networks for joint affine and non-parametric image registration*, CVPR 2019,
/// arXiv:1903.08811, section 3.3.
///
/// ```
/// use rdmm_core::{field::Image, grid::Grid, similarity::{Measure, MultiLncc, Window}};
/// let grid = Grid::new([64, 80], [0.5, 0.5])?;
/// // Windows as wide as half and all of 32, the smallest extent.
/// let expected = [(0.3, Window::gaussian_like_box(16.0)), (0.7, Window::gaussian_like_box(32.0))];
/// assert_eq!(MultiLncc::for_grid(&grid).windows(), expected);
///
/// let boxes = [(0.5, Window::Box { width: 4.0 }), (0.5, Window::Box { width: 8.0 })];
/// let fixed = Image::<f64, 2>::from_fn(&grid, |x| (x[0] + 0.3 * x[1]).sin())?;
/// let mut loss = MultiLncc::new(&boxes)?.against(&fixed, None)?;
/// assert!(loss.value(fixed.data()) < 1e-10 && loss.value(&vec![1.0; 64 * 80]) > 0.5);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Stored"))]
pub struct MultiLncc {
    windows: Vec<(f64, Window)>,
}

/// What is stored of the loss: checked when it is read.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(rename = "MultiLncc")]
struct Stored {
    windows: Vec<(f64, Window)>,
}

#[cfg(feature = "serde")]
impl TryFrom<Stored> for MultiLncc {
    type Error = crate::Error;

    fn try_from(stored: Stored) -> Result<Self> {
        Self::new(&stored.windows)
    }
}

impl MultiLncc {
    /// Windows with their weights ω. Bounds of the windows are checked against each grid.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) for an empty list; [`Error::Setting`](crate::Error::Setting)
    /// unless each weight is finite and positive.
    pub fn new(windows: &[(f64, Window)]) -> Result<Self> {
        expect_weights("windows", windows.iter().map(|window| window.0))?;
        Ok(Self { windows: windows.to_vec() })
    }

    /// The windows and weights of the paper for images on `grid`, as Gaussians. S is the smallest extent:
    ///
    /// | S in voxels | widths | weights |
    /// | --- | --- | --- |
    /// | 128 and more | S/8, S/4, S/2 | 0.1, 0.3, 0.6 |
    /// | 64 to 127 | S/2, S | 0.3, 0.7 |
    /// | fewer | S/2 | 1 |
    ///
    /// The reference takes boxes of S/16, S/8, S/4 (S/4, S/2) samples two voxels apart, which span twice as
    /// much: those are the widths above. A Gaussian takes a box's place with the same variance,
    /// σ = width / √12. That samples lie apart (dilation), and that only every fourth of a window has its
    /// correlation computed (stride), saves time there and is no part of the loss: here each voxel has a
    /// window, and each window all its voxels. The reference leaves out windows that cross the border, here
    /// they are mirrored.
    ///
    /// On a pyramid the windows keep their physical size.
    #[must_use]
    pub fn for_grid<const D: usize>(grid: &Grid<D>) -> Self {
        let voxels = grid.shape().into_iter().min().unwrap_or(0);
        let smallest = grid.extent().into_iter().fold(f64::INFINITY, f64::min);
        let parts: &[(f64, f64)] = match voxels {
            128.. => &[(0.1, 0.125), (0.3, 0.25), (0.6, 0.5)],
            64.. => &[(0.3, 0.5), (0.7, 1.0)],
            _ => &[(1.0, 0.5)],
        };
        let gaussian = |&(weight, part)| (weight, Window::gaussian_like_box(part * smallest));
        Self { windows: parts.iter().map(gaussian).collect() }
    }

    /// The weights and windows.
    #[must_use]
    pub fn windows(&self) -> &[(f64, Window)] {
        &self.windows
    }
}

impl<T: Real, const D: usize> Measure<T, D> for MultiLncc {
    #[inline(never)]
    fn against(
        &self,
        fixed: &Image<T, D>,
        mask: Option<&Image<T, D>>,
    ) -> Result<Box<dyn Similarity<T>>> {
        let against =
            |&(weight, window): &(f64, Window)| Ok((weight, lncc::prepared(window, fixed, mask)?));
        weighted(fixed.grid(), self.windows.iter().map(against).collect::<Result<_>>()?)
    }

    fn name(&self) -> &'static str {
        "mk-LNCC"
    }

    fn default_weight(&self) -> f64 {
        0.02
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::similarity::Lncc;
    use crate::testing::random;

    #[test]
    fn one_gaussian_is_lncc() {
        let grid = Grid::new([9, 12], [1.0, 0.5]).unwrap();
        let fixed = Image::<f64, 2>::from_vec(&grid, random(108, 1)).unwrap();
        let warped: Vec<f64> = random(108, 2);
        let one = MultiLncc::new(&[(1.0, Window::Gaussian { sigma: 1.3 })]).unwrap();
        let mut one = one.against(&fixed, None).unwrap();
        let mut lncc = Lncc { sigma: 1.3 }.against(&fixed, None).unwrap();
        let (mut a, mut b) = (vec![f64::NAN; 108], vec![f64::NAN; 108]);
        let values =
            [one.value_and_gradient(&warped, &mut a), lncc.value_and_gradient(&warped, &mut b)];
        assert_eq!(values[0].to_bits(), values[1].to_bits());
        assert_eq!(a, b);
    }

    #[test]
    fn windows_follow_the_smallest_extent() {
        let widths = |shape: [usize; 2], h: f64| -> Vec<(f64, f64)> {
            let measure = MultiLncc::for_grid(&Grid::new(shape, [h, h]).unwrap());
            let width = |&(w, window): &(f64, Window)| (w, window.sigma() * 12.0_f64.sqrt() / h);
            measure.windows().iter().map(width).collect()
        };
        let close = |found: &[(f64, f64)], expected: &[(f64, f64)]| {
            found.len() == expected.len()
                && found
                    .iter()
                    .zip(expected)
                    .all(|(a, b)| (a.0 - b.0).abs() < 1e-15 && (a.1 - b.1).abs() < 1e-12 * b.1)
        };
        assert!(close(&widths([128, 200], 2.0), &[(0.1, 16.0), (0.3, 32.0), (0.6, 64.0)]));
        assert!(close(&widths([200, 127], 0.1), &[(0.3, 63.5), (0.7, 127.0)]));
        assert!(close(&widths([64, 64], 1.0), &[(0.3, 32.0), (0.7, 64.0)]));
        assert!(close(&widths([63, 90], 1.0), &[(1.0, 31.5)]));
        // Each suits the grid that it was made for, and its pyramid.
        for shape in [[200, 200], [70, 70], [16, 30], [4, 4]] {
            let grid = Grid::new(shape, [0.7, 0.7]).unwrap();
            let measure = MultiLncc::for_grid(&grid);
            for factor in [1.0, 2.0, 4.0].into_iter().filter(|f| shape[0] as f64 / f >= 4.0) {
                let grid = grid.coarsened(factor).unwrap();
                let fixed = Image::<f64, 2>::from_vec(&grid, random(grid.len(), 1)).unwrap();
                assert!(measure.against(&fixed, None).is_ok(), "{shape:?} {factor}");
            }
        }
    }

    #[test]
    fn bad_windows_are_refused() {
        assert!(matches!(MultiLncc::new(&[]), Err(Error::Length { found: 0, .. })));
        for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let windows = [(weight, Window::Gaussian { sigma: 2.0 })];
            assert!(matches!(MultiLncc::new(&windows), Err(Error::Setting { .. })));
        }
        let grid = Grid::new([8, 9], [1.0, 2.0]).unwrap();
        let fixed = Image::<f64, 2>::from_vec(&grid, random(72, 1)).unwrap();
        // √3 · 2 = 3.46 and √12 · 18 = 62.4.
        for (width, good) in
            [(3.4, false), (3.5, true), (62.0, true), (63.0, false), (f64::NAN, false)]
        {
            let boxes = MultiLncc::new(&[(1.0, Window::Box { width })]).unwrap();
            match boxes.against(&fixed, None) {
                Ok(_) => assert!(good, "{width}"),
                Err(error) => {
                    assert!(!good && matches!(error, Error::Setting { .. }), "{width}: {error}");
                }
            }
        }
        for sigma in [0.9, 19.0, f64::NAN] {
            let gaussian = MultiLncc::new(&[(1.0, Window::Gaussian { sigma })]).unwrap();
            let error = gaussian.against(&fixed, None).err();
            assert!(matches!(error, Some(Error::Sigma { .. })));
        }
    }
}
