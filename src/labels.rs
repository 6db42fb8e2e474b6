//! Label maps: one integer a voxel, 0 for the background.

use std::fmt::Display;

use ndarray::{Array, ArrayBase, ArrayViewD, Data, Dimension, IxDyn};

use crate::error::{Error, Result};
use crate::field::{Image, typed};
use crate::grid::Grid;
use crate::scalar::Real;

/// A segmentation over a grid, C order; 0 is the background.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Stored<D>"))]
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

    /// A label map from an array or a view of shape `grid.shape()`, of any memory layout, dimension type and type of
    /// integers. Index order is kept, as by [`Field::from_array`](crate::field::Field::from_array).
    ///
    /// # Errors
    /// [`Error::Shape`] for another shape; [`Error::Setting`] for an integer that is not from 0 to 2³² − 1.
    ///
    /// ```
    /// use rdmm_core::ndarray::{Array2, array};
    /// use rdmm_core::{grid::Grid, labels::Labels};
    /// let grid = Grid::new([4, 4], [1.0, 1.0])?;
    /// let read = array![[0_i16, 0, 0, 0], [0, 3, 3, 0], [0, 3, 3, 0], [0, 0, 0, 0]];
    /// let labels = Labels::from_array(&grid, &read)?;
    /// assert_eq!(labels.classes(), [3]);
    /// let back: Array2<u32> = labels.to_array()?;
    /// assert_eq!(back, read.mapv(|label| label as u32));
    /// assert!(Labels::from_array(&grid, &read.mapv(|label| -label)).is_err());
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn from_array<A, S, I>(grid: &Grid<D>, array: &ArrayBase<S, I>) -> Result<Self>
    where
        A: Copy + Display + TryInto<u32>,
        S: Data<Elem = A>,
        I: Dimension,
    {
        if array.shape() != grid.shape() {
            let (expected, found) = (format!("{:?}", grid.shape()), format!("{:?}", array.shape()));
            return Err(Error::Shape { what: "labels", expected, found });
        }
        let label = |&label: &A| {
            let expected = "an integer from 0 to 4294967295";
            label.try_into().map_err(|_| Error::setting("label", expected, label))
        };
        Self::from_vec(grid, array.iter().map(label).collect::<Result<_>>()?)
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

    /// The buffer.
    #[must_use]
    pub fn into_vec(self) -> Vec<u32> {
        self.data
    }

    /// The labels as an `ndarray` view in C order, of shape `grid.shape()`.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "the length fits the shape by construction")]
    pub fn view(&self) -> ArrayViewD<'_, u32> {
        let shape = IxDyn(&self.grid.shape());
        ArrayViewD::from_shape(shape, &self.data).expect("buffer fits its shape")
    }

    /// A copy as an array in C order, of the dimension type that the caller asks for.
    ///
    /// # Errors
    /// [`Error::Shape`] for a dimension type of another number of axes.
    pub fn to_array<I: Dimension>(&self) -> Result<Array<u32, I>> {
        typed("labels", self.view().to_owned())
    }

    /// The labels as an array, as by [`Labels::to_array`], in their own memory.
    ///
    /// # Errors
    /// [`Error::Shape`] for a dimension type of another number of axes.
    #[expect(clippy::missing_panics_doc, reason = "the length fits the shape by construction")]
    pub fn into_array<I: Dimension>(self) -> Result<Array<u32, I>> {
        let shape = IxDyn(&self.grid.shape());
        typed("labels", Array::from_shape_vec(shape, self.data).expect("buffer fits its shape"))
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
}

/// What is stored of labels: checked when it is read.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(rename = "Labels")]
struct Stored<const D: usize> {
    grid: Grid<D>,
    data: Vec<u32>,
}

#[cfg(feature = "serde")]
impl<const D: usize> TryFrom<Stored<D>> for Labels<D> {
    type Error = Error;

    fn try_from(stored: Stored<D>) -> Result<Self> {
        Self::from_vec(&stored.grid, stored.data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, Array2};

    #[test]
    fn integers_of_any_type_go_in_where_they_fit() {
        let grid = Grid::new([4, 5], [1.0, 1.0]).unwrap();
        let voxel = |(i, j): (usize, usize)| u8::try_from(10 * i + j).unwrap();
        let read = Array2::from_shape_fn((4, 5), voxel);
        let labels = Labels::from_array(&grid, &read).unwrap();
        assert_eq!(labels.data()[5], 10);
        assert_eq!(labels.to_array().as_ref(), Ok(&read.mapv(u32::from)));
        // Views in another order of memory keep their indices.
        let turned = read.t().as_standard_layout().into_owned();
        assert_eq!(Labels::from_array(&grid, &turned.t()), Ok(labels.clone()));
        assert_eq!(labels.into_array().as_ref(), Ok(&read.mapv(u32::from).into_dyn()));

        let negative = Array2::from_shape_fn((4, 5), |(i, j)| 3 - i64::try_from(i * j).unwrap());
        let error = Labels::from_array(&grid, &negative).unwrap_err();
        assert!(matches!(&error, Error::Setting { name: "label", found, .. } if found == "-1"));
        let large = Array2::from_elem((4, 5), 1_u64 << 32);
        assert!(Labels::from_array(&grid, &large).is_err());
        let flat = Labels::from_array(&grid, &Array1::<u32>::zeros(20));
        assert!(matches!(flat, Err(Error::Shape { .. })));
    }
}
