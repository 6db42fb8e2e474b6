//! Fields and `ndarray`, the way in and out.

use ndarray::{Array, ArrayBase, ArrayViewD, ArrayViewMutD, Data, Dimension, IxDyn};

use super::Field;
use super::kind::Kind;
use crate::error::{Error, Result};
use crate::grid::Grid;
use crate::scalar::Real;

impl<T: Real, const D: usize, K: Kind> Field<T, D, K> {
    /// A field from an array or a view of any memory layout and dimension type: `[..grid.shape()]` for images,
    /// `[components, ..grid.shape()]` else. Index order is kept, so an array in Fortran order (as `NIfTI` readers
    /// give it) keeps its axes and is copied into C order.
    ///
    /// # Errors
    /// [`Error::Shape`] for another shape; [`Error::NonFinite`] for NaN or infinity;
    /// [`Error::OutOfMemory`].
    ///
    /// ```
    /// use rdmm_core::ndarray::{Array2, ShapeBuilder};
    /// use rdmm_core::{field::Image, grid::Grid};
    /// let grid = Grid::new([4, 5], [1.0, 1.0])?;
    /// let fortran = Array2::from_shape_fn((4, 5).f(), |(i, j)| (10 * i + j) as f64);
    /// let image = Image::from_array(&grid, &fortran)?;
    /// assert_eq!(image.data()[5], 10.0); // voxel (1, 0): the last axis is the fastest
    /// assert_eq!(image.view()[[1, 0]], 10.0);
    /// let back: Array2<f64> = image.to_array()?;
    /// assert_eq!(back, fortran);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn from_array<S, I>(grid: &Grid<D>, array: &ArrayBase<S, I>) -> Result<Self>
    where
        S: Data<Elem = T>,
        I: Dimension,
    {
        let fixed = K::components(D);
        let leading = usize::from(fixed != Some(1));
        let fits = array.ndim() == D + leading
            && array.shape()[leading..] == grid.shape()
            && (leading == 0 || fixed.is_none_or(|c| array.shape()[0] == c))
            && !array.is_empty();
        if !fits {
            let first = fixed.map_or_else(|| "N ≥ 1".to_owned(), |c| c.to_string());
            let expected = match leading {
                0 => format!("{:?}", grid.shape()),
                _ => format!("[{first}, ..{:?}]", grid.shape()),
            };
            let found = format!("{:?}", array.shape());
            return Err(Error::Shape { what: K::NAME, expected, found });
        }
        let mut field = Self::zeros_with(grid, array.len() / grid.len())?;
        for (value, &x) in field.data.iter_mut().zip(array) {
            *value = x;
        }
        field.expect_finite(K::NAME)?;
        Ok(field)
    }

    /// The values as an `ndarray` view in C order: `[..shape]` for images, `[components, ..shape]`
    /// else.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "the length fits the shape by construction")]
    pub fn view(&self) -> ArrayViewD<'_, T> {
        ArrayViewD::from_shape(self.array_shape(), &self.data).expect("buffer fits its shape")
    }

    /// The values as a mutable `ndarray` view, laid out as in [`Field::view`].
    #[expect(clippy::missing_panics_doc, reason = "the length fits the shape by construction")]
    pub fn view_mut(&mut self) -> ArrayViewMutD<'_, T> {
        let shape = self.array_shape();
        ArrayViewMutD::from_shape(shape, &mut self.data).expect("buffer fits its shape")
    }

    /// A copy as an array in C order, laid out as in [`Field::view`], of the dimension type that the caller asks
    /// for: `Array3` (or `ArrayD`) for a volume and for vectors of the plane.
    ///
    /// # Errors
    /// [`Error::Shape`] for a dimension type of another number of axes.
    pub fn to_array<I: Dimension>(&self) -> Result<Array<T, I>> {
        let array = self.view().to_owned();
        typed(K::NAME, array)
    }

    /// The values as an array, as by [`Field::to_array`], in the memory of the field.
    ///
    /// # Errors
    /// [`Error::Shape`] for a dimension type of another number of axes.
    ///
    /// ```
    /// use rdmm_core::ndarray::Array3;
    /// use rdmm_core::{field::Displacement, grid::Grid};
    /// let map = Displacement::<f32, 2>::zeros(&Grid::new([4, 5], [1.0, 1.0])?)?;
    /// let u: Array3<f32> = map.into_array()?;
    /// assert_eq!(u.shape(), [2, 4, 5]);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    #[expect(clippy::missing_panics_doc, reason = "the length fits the shape by construction")]
    pub fn into_array<I: Dimension>(self) -> Result<Array<T, I>> {
        let shape = self.array_shape();
        let array = Array::from_shape_vec(shape, self.into_vec()).expect("buffer fits its shape");
        typed(K::NAME, array)
    }

    fn array_shape(&self) -> IxDyn {
        let mut shape = Vec::with_capacity(D + 1);
        if K::components(D) != Some(1) {
            shape.push(self.components);
        }
        shape.extend(self.grid.shape());
        IxDyn(&shape)
    }
}

/// The array with the dimension type `I`.
pub(crate) fn typed<A, I: Dimension>(
    what: &'static str,
    array: Array<A, IxDyn>,
) -> Result<Array<A, I>> {
    let expected = format!("{:?}", array.shape());
    array.into_dimensionality().map_err(|_| {
        let axes = I::NDIM.map_or_else(|| "any number of".to_owned(), |n| n.to_string());
        Error::Shape { what, expected, found: format!("a type of {axes} axes") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{Image, Momentum, Weights};
    use ndarray::{Array1, Array2, Array3, Array4, ArrayD, Axis, Slice};

    #[test]
    fn arrays_of_any_dimension_type_go_in_and_come_out() {
        let grid = Grid::new([4, 5], [1.0, 1.0]).unwrap();
        let owned = Array2::from_shape_fn((4, 5), |(i, j)| (10 * i + j) as f32);
        let image = Image::from_array(&grid, &owned).unwrap();
        assert_eq!(image.to_array().as_ref(), Ok(&owned));
        assert_eq!(image.to_array().as_ref(), Ok(&owned.clone().into_dyn()));
        assert_eq!(Image::from_array(&grid, &owned.view()), Ok(image.clone()));
        assert_eq!(Image::from_array(&grid, &owned.to_shared().into_dyn()), Ok(image.clone()));
        // Every second entry of a larger array, the last first.
        let large = Array2::from_shape_fn((8, 5), |(i, j)| (10 * (7 - i) / 2 + j) as f32);
        let slice = large.slice_axis(Axis(0), Slice::new(0, None, -2));
        let expected: Vec<f32> = slice.iter().copied().collect();
        assert_eq!(Image::from_array(&grid, &slice).unwrap().into_vec(), expected);
        assert_eq!(image.into_array::<ndarray::Ix2>().as_ref(), Ok(&owned));

        let vectors = Array3::from_shape_fn((2, 4, 5), |(c, i, j)| (c + i + j) as f64);
        let momentum = Momentum::from_array(&grid, &vectors).unwrap();
        assert_eq!(momentum.into_array().as_ref(), Ok(&vectors));
        let weights = Array3::from_elem((3, 4, 5), 0.5);
        assert_eq!(Weights::<f64, 2>::from_array(&grid, &weights).unwrap().components(), 3);
    }

    #[test]
    fn other_numbers_of_axes_are_refused() {
        let grid = Grid::new([4, 5], [1.0, 1.0]).unwrap();
        let image = Image::<f32, 2>::zeros(&grid).unwrap();
        let error = image.to_array::<ndarray::Ix3>().unwrap_err();
        assert!(matches!(error, Error::Shape { what: "image", .. }), "{error}");
        assert!(error.to_string().contains("[4, 5], found a type of 3 axes"), "{error}");
        assert!(image.clone().into_array::<ndarray::Ix1>().is_err());
        assert!(Image::from_array(&grid, &Array1::<f32>::zeros(20)).is_err());
        assert!(Image::from_array(&grid, &Array4::<f32>::zeros((1, 1, 4, 5))).is_err());
        assert!(image.into_array().is_ok_and(|a: ArrayD<f32>| a.shape() == [4, 5]));
    }
}
