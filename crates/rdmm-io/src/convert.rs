//! Between volumes of files and the fields of `rdmm-core`.
//!
//! Array axis a of a field is axis a of the file. A field is in C order and a volume has its first axis
//! fastest, so that values change their places. Vectors of a volume are in the world's axes, those of a
//! field along its grid's.

use std::path::Path;

use nalgebra::{DMatrix, SMatrix};
use rdmm_core::field::kind::Kind;
use rdmm_core::field::{Field, Image};
use rdmm_core::grid::Grid;
use rdmm_core::labels::Labels;

use crate::error::{Problem, Result};
use crate::placement::Geometry;
use crate::samples::{reserved, single};
use crate::volume::{Meaning, Sample, Volume};

type Fallible<T> = std::result::Result<T, Problem>;

/// How far numbers may be from the integers that they stand for: slopes of headers are of single precision, and leave
/// up to 1e-7 of the largest label of a file, thousands say.
const ROUNDING: f64 = 1e-3;

impl Geometry {
    /// The lattice of a grid, its boundary left out.
    #[must_use]
    pub fn of_grid<const D: usize>(grid: &Grid<D>) -> Self {
        Self {
            shape: grid.shape().to_vec(),
            spacing: grid.spacing().to_vec(),
            origin: grid.origin().to_vec(),
            direction: DMatrix::from_fn(D, D, |r, c| grid.direction()[(r, c)]),
        }
    }

    /// The grid on this lattice, with a reflecting boundary.
    ///
    /// # Errors
    /// [`Problem::Axes`] for another dimension; [`Problem::Core`] for a lattice that no grid can have,
    /// for example fewer than four voxels along an axis.
    pub fn grid<const D: usize>(&self) -> Fallible<Grid<D>> {
        let axes = || Problem::Axes { expected: D, found: self.shape.len() };
        let shape = self.shape.as_slice().try_into().map_err(|_| axes())?;
        let spacing = self.spacing.as_slice().try_into().map_err(|_| axes())?;
        let origin = self.origin.as_slice().try_into().map_err(|_| axes())?;
        if self.direction.shape() != (D, D) {
            return Err(axes());
        }
        let direction = SMatrix::from_fn(|r, c| self.direction[(r, c)]);
        Ok(Grid::new(shape, spacing)?.with_origin(origin)?.with_direction(direction)?)
    }
}

/// Lengths of the axes, as three.
fn three(shape: &[usize]) -> [usize; 3] {
    std::array::from_fn(|a| shape.get(a).copied().unwrap_or(1))
}

/// Values in the order of the file from values in C order.
fn file_order<T: Copy>(shape: &[usize], values: &[T]) -> impl Iterator<Item = T> {
    let [first, second, third] = three(shape);
    (0..third).flat_map(move |k| {
        (0..second).flat_map(move |j| (0..first).map(move |i| values[(i * second + j) * third + k]))
    })
}

/// Values in C order from values in the order of the file.
fn c_order<T: Copy>(shape: &[usize], values: &[T]) -> impl Iterator<Item = T> {
    let [first, second, third] = three(shape);
    (0..first).flat_map(move |i| {
        (0..second).flat_map(move |j| (0..third).map(move |k| values[i + first * (j + second * k)]))
    })
}

impl Volume {
    /// An image, single precision.
    #[must_use]
    pub fn of_image<const D: usize>(image: &Image<f32, D>) -> Self {
        Self::of_components(image)
    }

    /// Labels, in the smallest unsigned type that holds them.
    #[must_use]
    pub fn of_labels<const D: usize>(labels: &Labels<D>) -> Self {
        let sample = match labels.data().iter().copied().max().unwrap_or(0) {
            0..=0xff => Sample::U8,
            0x100..=0xffff => Sample::U16,
            _ => Sample::U32,
        };
        let geometry = Geometry::of_grid(labels.grid());
        let values = file_order(&geometry.shape, labels.data()).map(f64::from).collect();
        Self::new(geometry, 1, Meaning::Values, sample, values)
    }

    /// Vectors along the grid's axes, turned into the world's: v ↦ direction · v.
    ///
    /// # Errors
    /// [`Problem::Content`] unless there are as many components as axes.
    pub fn of_vectors<const D: usize, K: Kind>(field: &Field<f32, D, K>) -> Fallible<Self> {
        expect_vectors(D, field.components())?;
        let mut volume = Self { meaning: Meaning::Vectors, ..Self::of_components(field) };
        let direction = *field.grid().direction();
        turn::<D>(&mut volume.values, &direction);
        Ok(volume)
    }

    /// Any number of components, as they are.
    #[must_use]
    pub fn of_components<const D: usize, K: Kind>(field: &Field<f32, D, K>) -> Self {
        let geometry = Geometry::of_grid(field.grid());
        let components = field.components();
        let blocks = (0..components).flat_map(|c| file_order(&geometry.shape, field.component(c)));
        let values = blocks.map(f64::from).collect();
        Self::new(geometry, components, Meaning::Values, Sample::F32, values)
    }

    /// The image: one value a voxel, colours as their luma (ITU-R BT.601) in the units of the file.
    ///
    /// # Errors
    /// [`Problem::Axes`] for another dimension; [`Problem::Content`] for several values a voxel, for
    /// voxels that are not finite in single precision, and for colours that are not opaque: what is transparent has no
    /// grey value; those of [`Geometry::grid`].
    pub fn image<const D: usize>(&self) -> Fallible<Image<f32, D>> {
        self.check()?;
        let grid = self.geometry.grid::<D>()?;
        let voxels = self.voxels();
        let grey = match (self.meaning, self.components) {
            (Meaning::Colours | Meaning::Indexed, 3..) => {
                self.expect_opaque()?;
                let [red, green, blue] = [0, 1, 2].map(|c| &self.values[c * voxels..][..voxels]);
                let luma = |v: usize| 0.299 * red[v] + 0.587 * green[v] + 0.114 * blue[v];
                &(0..voxels).map(luma).collect()
            }
            (_, 1) => &self.values,
            (_, components) => {
                let found = format!("{components}: extract one");
                return Err(Problem::content(
                    "values a voxel",
                    "one grey value or a colour",
                    found,
                ));
            }
        };
        self.expect_finite(grey)?;
        let mut data = reserved(voxels)?;
        data.extend(c_order(&self.geometry.shape, grey).map(single));
        Ok(Image::from_vec(&grid, data)?)
    }

    /// The labels: integers ≥ 0, or the indices of a palette. Numbers within 1e-3 of an integer are that integer:
    /// slope and intercept of a header leave 0.9999999 for 1.
    ///
    /// # Errors
    /// [`Problem::Axes`] for another dimension; [`Problem::Content`] for several values a voxel and for
    /// values that are no labels; those of [`Geometry::grid`].
    pub fn labels<const D: usize>(&self) -> Fallible<Labels<D>> {
        self.check()?;
        let grid = self.geometry.grid::<D>()?;
        let values = match (self.meaning, self.components) {
            (Meaning::Indexed, 4) => &self.values[3 * self.voxels()..],
            (_, 1) => &self.values[..],
            (meaning, components) => {
                let found = format!("{components} ({meaning:?})");
                return Err(Problem::content("values a voxel", "one label", found));
            }
        };
        if let Some(at) = values.iter().position(|&x| label(x).is_none()) {
            let found = format!("{} at the voxel {:?}", values[at], self.index(at));
            let expected = "integers from 0 to 4294967295, to 1e-3";
            return Err(Problem::content("labels", expected, found));
        }
        let mut data = reserved(values.len())?;
        data.extend(c_order(&self.geometry.shape, values).filter_map(label));
        Ok(Labels::from_vec(&grid, data)?)
    }

    /// A mask: 1 inside, 0 outside. Of integers, to 1e-3, every one but zero is inside, as in ITK, ANTs and FSL; numbers
    /// between them are shares from 0 to 1.
    ///
    /// # Errors
    /// Those of [`Volume::image`]; [`Problem::Content`] for fractions beside numbers that are not from 0 to 1.
    pub fn mask<const D: usize>(&self) -> Fallible<Image<f32, D>> {
        let mut image = self.image::<D>()?;
        let off = |x: f64| (x - x.round()).abs() > ROUNDING;
        if image.data().iter().any(|&x| off(f64::from(x))) {
            let shares = 0.0..=1.0;
            let Some(at) = image.data().iter().position(|x| !shares.contains(x)) else {
                return Ok(image);
            };
            let index = image.grid().unravel(at);
            let found = format!("{} at the voxel {index:?}, beside fractions", image.data()[at]);
            let expected = "integers, of which all but 0 are inside, or shares from 0 to 1";
            return Err(Problem::content("mask", expected, found));
        }
        let inside = |x: &mut f32| *x = if x.round() == 0.0 { 0.0 } else { 1.0 };
        image.data_mut().iter_mut().for_each(inside);
        Ok(image)
    }

    /// Vectors, turned from the world's axes into the grid's.
    ///
    /// # Errors
    /// [`Problem::Axes`] for another dimension; [`Problem::Content`] for a volume that does not hold
    /// [`Meaning::Vectors`] of as many components as axes, or not finite ones; those of
    /// [`Geometry::grid`].
    pub fn vectors<const D: usize, K: Kind>(&self) -> Fallible<Field<f32, D, K>> {
        self.check()?;
        let grid = self.geometry.grid::<D>()?;
        if self.meaning != Meaning::Vectors {
            let expected = "vectors (NIfTI: intent 1007; NRRD: kind vector)";
            let found = format!("{:?} of {} components", self.meaning, self.components);
            return Err(Problem::content("values a voxel", expected, found));
        }
        expect_vectors(D, self.components)?;
        let mut values = reserved(self.values.len())?;
        values.extend(&self.values);
        turn::<D>(&mut values, &grid.direction().transpose());
        self.field(&grid, &values)
    }

    /// All components as they are, whatever they mean.
    ///
    /// # Errors
    /// [`Problem::Axes`] for another dimension; [`Problem::Content`] for values that are not finite;
    /// [`Problem::Core`] where the kind of field wants another number of components; those of
    /// [`Geometry::grid`].
    pub fn components_field<const D: usize, K: Kind>(&self) -> Fallible<Field<f32, D, K>> {
        self.check()?;
        self.field(&self.geometry.grid::<D>()?, &self.values)
    }

    fn field<const D: usize, K: Kind>(
        &self,
        grid: &Grid<D>,
        values: &[f64],
    ) -> Fallible<Field<f32, D, K>> {
        self.expect_finite(values)?;
        let mut data = reserved(values.len())?;
        for component in values.chunks_exact(self.voxels()) {
            data.extend(c_order(&self.geometry.shape, component).map(single));
        }
        Ok(Field::from_vec(grid, data)?)
    }

    /// `Ok` unless the fourth of the colours, opacity, says that something is transparent.
    fn expect_opaque(&self) -> Fallible<()> {
        if self.meaning != Meaning::Colours || self.components != 4 {
            return Ok(());
        }
        let opacity = &self.values[3 * self.voxels()..];
        let full = if self.sample == Sample::U8 { 255.0 } else { 65535.0 };
        let Some(at) = opacity.iter().position(|&x| x < full) else { return Ok(()) };
        let found = format!("an opacity of {} at the pixel {:?}", opacity[at], self.index(at));
        let expected = "opaque colours: lay the picture on a ground of one colour first, what is transparent has no \
                        grey value";
        Err(Problem::content("colours", expected, found))
    }

    fn expect_finite(&self, values: &[f64]) -> Fallible<()> {
        let Some(at) = values.iter().position(|&x| !single(x).is_finite()) else { return Ok(()) };
        let index = self.index(at % self.voxels());
        let found = format!("{} at the voxel {index:?}: replace such voxels first", values[at]);
        Err(Problem::content("values", "finite numbers of single precision", found))
    }

    /// Index of a voxel along the axes of the file.
    fn index(&self, mut flat: usize) -> Vec<usize> {
        let along = |&n: &usize| {
            let index = flat % n;
            flat /= n;
            index
        };
        self.geometry.shape.iter().map(along).collect()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be an integer in range"
)]
fn label(x: f64) -> Option<u32> {
    let integer = x.round();
    let fits = (0.0..=f64::from(u32::MAX)).contains(&integer) && (x - integer).abs() <= ROUNDING;
    fits.then_some(integer as u32)
}

fn expect_vectors(axes: usize, components: usize) -> Fallible<()> {
    if components == axes {
        return Ok(());
    }
    let found = format!("{components} components on {axes} axes");
    Err(Problem::content("vectors", "as many components as axes", found))
}

/// Multiplies every vector by a matrix; component-major.
fn turn<const D: usize>(values: &mut [f64], matrix: &SMatrix<f64, D, D>) {
    let voxels = values.len() / D;
    for v in 0..voxels {
        let vector = nalgebra::SVector::<f64, D>::from_fn(|c, _| values[c * voxels + v]);
        let turned = matrix * vector;
        for c in 0..D {
            values[c * voxels + v] = turned[c];
        }
    }
}

/// Reads an image, see [`read`](crate::read) and [`Volume::image`].
///
/// # Errors
/// Those of both.
pub fn read_image<const D: usize>(path: impl AsRef<Path>) -> Result<Image<f32, D>> {
    let path = path.as_ref();
    crate::read(path)?.image().map_err(|problem| problem.at(path))
}

/// Reads labels, see [`read`](crate::read) and [`Volume::labels`].
///
/// # Errors
/// Those of both.
pub fn read_labels<const D: usize>(path: impl AsRef<Path>) -> Result<Labels<D>> {
    let path = path.as_ref();
    crate::read(path)?.labels().map_err(|problem| problem.at(path))
}

/// Reads a mask, see [`read`](crate::read) and [`Volume::mask`].
///
/// # Errors
/// Those of both.
pub fn read_mask<const D: usize>(path: impl AsRef<Path>) -> Result<Image<f32, D>> {
    let path = path.as_ref();
    crate::read(path)?.mask().map_err(|problem| problem.at(path))
}

/// Writes an image in single precision, see [`write`](crate::write).
///
/// # Errors
/// Those of [`write`](crate::write).
pub fn write_image<const D: usize>(path: impl AsRef<Path>, image: &Image<f32, D>) -> Result<()> {
    crate::write(path, &Volume::of_image(image))
}

/// Writes labels, see [`write`](crate::write) and [`Volume::of_labels`].
///
/// # Errors
/// Those of [`write`](crate::write).
pub fn write_labels<const D: usize>(path: impl AsRef<Path>, labels: &Labels<D>) -> Result<()> {
    crate::write(path, &Volume::of_labels(labels))
}
