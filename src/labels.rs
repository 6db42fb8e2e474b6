//! Label maps: one integer a voxel, 0 for the background.

use crate::error::{Error, Result};
use crate::field::{Displacement, Image};
use crate::grid::Grid;
use crate::ops::spline::Prefilter;
use crate::ops::warp::Warp;
use crate::scalar::Real;

/// A segmentation over a grid, C order; 0 is the background.
#[derive(Clone, Debug, PartialEq)]
pub struct Labels<const D: usize> {
    grid: Grid<D>,
    data: Vec<u32>,
}

impl<const D: usize> Labels<D> {
    /// A label map from its buffer.
    ///
    /// # Errors
    /// [`Error::Length`] for a buffer of another length than the grid's.
    pub fn from_vec(grid: &Grid<D>, data: Vec<u32>) -> Result<Self> {
        if data.len() != grid.len() {
            return Err(Error::Length { what: "labels", expected: grid.len(), found: data.len() });
        }
        Ok(Self { grid: grid.clone(), data })
    }

    /// The grid.
    #[must_use]
    pub fn grid(&self) -> &Grid<D> {
        &self.grid
    }

    /// One label a voxel, C order.
    #[must_use]
    pub fn data(&self) -> &[u32] {
        &self.data
    }

    /// The labels that occur, in order, the background left out.
    #[must_use]
    pub fn classes(&self) -> Vec<u32> {
        let classes: std::collections::BTreeSet<u32> = self.data.iter().copied().collect();
        classes.into_iter().filter(|&label| label != 0).collect()
    }

    /// 1 where the voxel has this label, 0 elsewhere.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn indicator<T: Real>(&self, label: u32) -> Result<Image<T, D>> {
        let mut image = Image::zeros(&self.grid)?;
        for (x, &found) in image.data_mut().iter_mut().zip(&self.data) {
            *x = if found == label { T::one() } else { T::zero() };
        }
        Ok(image)
    }

    /// The labels carried by the map x ↦ x + u(x) over u's grid: at each voxel the label whose
    /// interpolated indicator is largest, the smaller label on a tie.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for NaN or infinity in the map; [`Error::OutOfMemory`].
    pub fn warped<T: Real>(&self, map: &Displacement<T, D>) -> Result<Self> {
        map.expect_finite("map")?;
        let target = map.grid();
        let (warp, prefilter) = (Warp::new(&self.grid, target), Prefilter::new(&self.grid));
        let mut best = vec![0; target.len()];
        let mut largest = Image::<T, D>::zeros(target)?;
        let mut value = Image::<T, D>::zeros(target)?;
        largest.data_mut().fill(T::neg_infinity());
        for label in std::iter::once(0).chain(self.classes()) {
            let mut indicator = self.indicator::<T>(label)?;
            prefilter.apply(indicator.data_mut());
            warp.values::<1>(indicator.data(), map.data(), value.data_mut());
            for ((best, largest), &x) in best.iter_mut().zip(largest.data_mut()).zip(value.data()) {
                if x > *largest {
                    (*best, *largest) = (label, x);
                }
            }
        }
        Self::from_vec(target, best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_move_with_the_map() {
        let grid = Grid::new([12, 10], [1.0, 2.0]).unwrap();
        let mut data = vec![0; 120];
        for i in 4..8 {
            for j in 3..6 {
                data[i * 10 + j] = if i < 6 { 3 } else { 7 };
            }
        }
        let labels = Labels::from_vec(&grid, data.clone()).unwrap();
        assert_eq!(labels.classes(), [3, 7]);
        let map = Displacement::<f64, 2>::from_fn(&grid, 2, |_, c| [1.0, -2.0][c]).unwrap();
        let moved = labels.warped(&map).unwrap();
        for i in 0..11 {
            for j in 1..10 {
                assert_eq!(moved.data()[i * 10 + j], data[(i + 1) * 10 + j - 1]);
            }
        }
        assert!(Labels::from_vec(&grid, vec![0; 3]).is_err());
    }
}
