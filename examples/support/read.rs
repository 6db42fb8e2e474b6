//! Images and label maps from `NIfTI` and PNG files.

use std::error::Error;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use nalgebra::SMatrix;
use ndarray::{ArrayD, Axis};
use nifti::{IntoNdArray, NiftiHeader, NiftiObject, ReaderOptions};
use png::{BitDepth, ColorType, Transformations};
use rdmm_core::field::Image;
use rdmm_core::grid::Grid;
use rdmm_core::labels::Labels;

type Fallible<T> = Result<T, Box<dyn Error>>;

/// An image whose dimension the file decides.
#[derive(Clone, Debug)]
pub(crate) enum AnyImage {
    /// A PNG, or a `NIfTI` file with one slice.
    Two(Image<f32, 2>),
    /// A volume.
    Three(Image<f32, 3>),
}

/// Reads an image from a `.nii`, `.nii.gz` or `.png` file.
///
/// `NIfTI` axes stay in the file's order (i, j, k), with the values in the file's units and the
/// position in the world from the header. PNG axes are rows, columns of unit spacing; values are in
/// [0, 1], colours as their luma, transparency is ignored.
pub(crate) fn image(path: impl AsRef<Path>) -> Fallible<AnyImage> {
    let path = path.as_ref();
    let read = || -> Fallible<AnyImage> {
        if is_png(path) {
            let (shape, values) = png_grey(path)?;
            let grid = Grid::new(shape, [1.0; 2])?;
            return Ok(AnyImage::Two(Image::from_vec(&grid, values)?));
        }
        let (header, array) = nifti_array(path)?;
        if let Some(at) = array.iter().position(|x| !x.is_finite()) {
            let index = unravel(array.shape(), at);
            return Err(format!(
                "the voxel {index:?} is NaN or infinite: replace such voxels first"
            )
            .into());
        }
        #[expect(clippy::cast_possible_truncation, reason = "images are kept in single precision")]
        let array = array.mapv(|x| x as f32);
        if array.ndim() == 2 {
            let grid = plane_of(&header, shape_of(&array)?)?;
            Ok(AnyImage::Two(Image::from_array(&grid, &array)?))
        } else {
            let grid = volume_of(&header, shape_of(&array)?)?;
            Ok(AnyImage::Three(Image::from_array(&grid, &array)?))
        }
    };
    read().map_err(|error| format!("{}: {error}", path.display()).into())
}

/// A label map of two or three dimensions, from a file with integers: `NIfTI` of any type, or PNG of
/// grey values or palette indices.
pub(crate) fn labels<const D: usize>(path: impl AsRef<Path>) -> Fallible<Labels<D>>
where
    Grid<D>: FromHeader,
{
    let path = path.as_ref();
    let read = || -> Fallible<Labels<D>> {
        if is_png(path) {
            let (shape, values) = png_integers(path)?;
            let found = shape.len();
            let shape: Result<[usize; D], _> = shape.as_slice().try_into();
            let shape = shape.map_err(|_| format!("expected {D} axes, found {found}"))?;
            return Ok(Labels::from_vec(&Grid::new(shape, [1.0; D])?, values)?);
        }
        let (header, array) = nifti_array(path)?;
        let grid = Grid::<D>::from_header(&header, &array)?;
        let labels: Fallible<Vec<u32>> = array.iter().map(|&x| label(x)).collect();
        Ok(Labels::from_vec(&grid, labels?)?)
    };
    read().map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Grids whose position a `NIfTI` header states.
pub(crate) trait FromHeader: Sized {
    /// The grid of an array with this header.
    fn from_header(header: &NiftiHeader, array: &ArrayD<f64>) -> Fallible<Self>;
}

impl FromHeader for Grid<2> {
    fn from_header(header: &NiftiHeader, array: &ArrayD<f64>) -> Fallible<Self> {
        plane_of(header, shape_of(array)?)
    }
}

impl FromHeader for Grid<3> {
    fn from_header(header: &NiftiHeader, array: &ArrayD<f64>) -> Fallible<Self> {
        volume_of(header, shape_of(array)?)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be an integer in range"
)]
fn label(x: f64) -> Fallible<u32> {
    if (0.0..=f64::from(u32::MAX)).contains(&x) && x.fract().abs() < f64::EPSILON {
        Ok(x as u32)
    } else {
        Err(format!("expected labels, which are integers ≥ 0, found {x}").into())
    }
}

fn is_png(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("png"))
}

fn shape_of<T, const D: usize>(array: &ArrayD<T>) -> Fallible<[usize; D]> {
    let shape: Result<[usize; D], _> = array.shape().try_into();
    shape.map_err(|_| format!("expected {D} axes, found the shape {:?}", array.shape()).into())
}

fn unravel(shape: &[usize], mut flat: usize) -> Vec<usize> {
    let mut index: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&n| {
            let i = flat % n.max(1);
            flat /= n.max(1);
            i
        })
        .collect();
    index.reverse();
    index
}

/// Header and values, trailing axes of one voxel dropped: two or three axes are left.
fn nifti_array(path: &Path) -> Fallible<(NiftiHeader, ArrayD<f64>)> {
    let object = ReaderOptions::new().read_file(path)?;
    let header = object.header().clone();
    let mut array = object.into_volume().into_ndarray::<f64>()?;
    while array.ndim() > 2 && array.shape().last() == Some(&1) {
        let last = Axis(array.ndim() - 1);
        array = array.index_axis_move(last, 0);
    }
    if array.ndim() == 2 || array.ndim() == 3 {
        Ok((header, array))
    } else {
        let shape = array.shape();
        Err(format!("expected an image of two or three axes, found the shape {shape:?}").into())
    }
}

/// The header's affine map from (i, j, k) to the world: columns and translation. `None` where the
/// header states none, or a degenerate one.
fn affine(header: &NiftiHeader) -> Option<(SMatrix<f64, 3, 3>, [f64; 3])> {
    let (matrix, origin) = if header.sform_code > 0 {
        let rows = [header.srow_x, header.srow_y, header.srow_z];
        let matrix = SMatrix::<f64, 3, 3>::from_fn(|r, c| f64::from(rows[r][c]));
        (matrix, rows.map(|row| f64::from(row[3])))
    } else if header.qform_code > 0 {
        let origin = [header.quatern_x, header.quatern_y, header.quatern_z];
        (quaternion(header), origin.map(f64::from))
    } else {
        return None;
    };
    let finite = matrix.iter().chain(&origin).all(|x| x.is_finite());
    (finite && matrix.column_iter().all(|column| column.norm() > 0.0)).then_some((matrix, origin))
}

/// The matrix of the quaternion (a, b, c, d), whose a ≥ 0 follows from unit length, times the
/// spacings.
fn quaternion(header: &NiftiHeader) -> SMatrix<f64, 3, 3> {
    let [b, c, d] = [header.quatern_b, header.quatern_c, header.quatern_d].map(f64::from);
    let a = (1.0 - b * b - c * c - d * d).max(0.0).sqrt();
    let turn = nalgebra::Quaternion::new(a, b, c, d);
    let turn = nalgebra::UnitQuaternion::from_quaternion(turn).to_rotation_matrix();
    let flip = if header.pixdim[0] < 0.0 { -1.0 } else { 1.0 };
    let [x, y, z] = spacings(header);
    turn.matrix() * SMatrix::<f64, 3, 3>::from_diagonal(&[x, y, flip * z].into())
}

fn spacings(header: &NiftiHeader) -> [f64; 3] {
    std::array::from_fn(|a| f64::from(header.pixdim[a + 1]).abs())
}

fn volume_of(header: &NiftiHeader, shape: [usize; 3]) -> Fallible<Grid<3>> {
    let Some((matrix, origin)) = affine(header) else {
        return Ok(Grid::new(shape, spacings(header))?);
    };
    let lengths: [f64; 3] = std::array::from_fn(|a| matrix.column(a).norm());
    let direction = SMatrix::<f64, 3, 3>::from_fn(|r, c| matrix[(r, c)] / lengths[c]);
    Grid::new(shape, lengths)?.with_origin(origin)?.with_direction(direction).map_err(sheared)
}

/// A slice lies in the plane of its two axes. Where that is not the world's x-y plane, the slice's
/// own axes take the place of x and y.
fn plane_of(header: &NiftiHeader, shape: [usize; 2]) -> Fallible<Grid<2>> {
    let Some((matrix, origin)) = affine(header) else {
        let [x, y, _] = spacings(header);
        return Ok(Grid::new(shape, [x, y])?);
    };
    let lengths: [f64; 2] = std::array::from_fn(|a| matrix.column(a).norm());
    let axes = SMatrix::<f64, 3, 2>::from_fn(|r, c| matrix[(r, c)] / lengths[c]);
    let grid = Grid::new(shape, lengths)?;
    let inside = axes.fixed_rows::<2>(0).into_owned();
    if let Ok(turned) = grid.clone().with_direction(inside) {
        return Ok(turned.with_origin([origin[0], origin[1]])?);
    }
    let across = axes.column(0).dot(&axes.column(1));
    if across.abs() > 1e-4 {
        let reason = format!("the cosine of its axes is {across:.1e}, expected at most 1e-4");
        return Err(sheared(reason));
    }
    let along = |a: usize| (0..3).map(|r| axes[(r, a)] * origin[r]).sum();
    Ok(grid.with_origin([along(0), along(1)])?)
}

fn sheared(reason: impl std::fmt::Display) -> Box<dyn Error> {
    format!("the header's affine map has shear, resample the image first: {reason}").into()
}

/// Samples of a PNG before any meaning: shape, channels and largest value.
struct Samples {
    shape: [usize; 2],
    channels: usize,
    colour: ColorType,
    depth: BitDepth,
    values: Vec<u16>,
}

fn png_samples(path: &Path, transformations: Transformations) -> Fallible<Samples> {
    let mut decoder = png::Decoder::new(BufReader::new(File::open(path)?));
    decoder.set_transformations(transformations);
    let mut reader = decoder.read_info()?;
    let size = reader.output_buffer_size().ok_or("the image is too large for this machine")?;
    let mut buffer = vec![0; size];
    let frame = reader.next_frame(&mut buffer)?;
    buffer.truncate(frame.buffer_size());
    let values = match frame.bit_depth {
        BitDepth::Eight => buffer.iter().map(|&x| u16::from(x)).collect(),
        BitDepth::Sixteen => {
            buffer.chunks_exact(2).map(|x| u16::from_be_bytes([x[0], x[1]])).collect()
        }
        other => return Err(format!("expected 8 or 16 bits a sample, found {other:?}").into()),
    };
    Ok(Samples {
        shape: [usize::try_from(frame.height)?, usize::try_from(frame.width)?],
        channels: frame.color_type.samples(),
        colour: frame.color_type,
        depth: frame.bit_depth,
        values,
    })
}

fn png_grey(path: &Path) -> Fallible<([usize; 2], Vec<f32>)> {
    let samples = png_samples(path, Transformations::EXPAND)?;
    let largest = if samples.depth == BitDepth::Sixteen { 65535.0 } else { 255.0 };
    // Luma of ITU-R BT.601.
    let values = samples.values.chunks_exact(samples.channels).map(|x| {
        if samples.channels < 3 {
            f32::from(x[0]) / largest
        } else {
            (0.299 * f32::from(x[0]) + 0.587 * f32::from(x[1]) + 0.114 * f32::from(x[2])) / largest
        }
    });
    Ok((samples.shape, values.collect()))
}

fn png_integers(path: &Path) -> Fallible<([usize; 2], Vec<u32>)> {
    let samples = png_samples(path, Transformations::IDENTITY)?;
    if matches!(samples.colour, ColorType::Grayscale | ColorType::Indexed) {
        let values = samples.values.into_iter().map(u32::from).collect();
        Ok((samples.shape, values))
    } else {
        let found = samples.colour;
        Err(format!("expected labels as grey values or palette indices, found {found:?}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(rows: [[f32; 4]; 3]) -> NiftiHeader {
        NiftiHeader {
            pixdim: [1.0, 2.0, 3.0, 4.0, 1.0, 1.0, 1.0, 1.0],
            sform_code: 1,
            srow_x: rows[0],
            srow_y: rows[1],
            srow_z: rows[2],
            ..NiftiHeader::default()
        }
    }

    #[test]
    fn the_affine_map_places_the_grid() {
        // i runs along −y, j along x.
        let turned = header([[0.0, 3.0, 0.0, 7.0], [-2.0, 0.0, 0.0, 8.0], [0.0, 0.0, 4.0, 9.0]]);
        let grid = volume_of(&turned, [5, 6, 7]).unwrap();
        for (a, b) in grid.to_world([1.0, 1.0, 1.0]).iter().zip([10.0, 6.0, 13.0]) {
            assert!((a - b).abs() < 1e-12);
        }
        let grid = plane_of(&turned, [5, 6]).unwrap();
        for (a, b) in grid.to_world([1.0, 1.0]).iter().zip([10.0, 6.0]) {
            assert!((a - b).abs() < 1e-12);
        }
    }

    #[test]
    fn a_slice_across_the_world_keeps_its_own_axes() {
        // A sagittal slice: i along y, j along z.
        let sagittal = header([[0.0, 0.0, 4.0, 7.0], [2.0, 0.0, 0.0, 8.0], [0.0, 3.0, 0.0, 9.0]]);
        let grid = plane_of(&sagittal, [5, 6]).unwrap();
        for (a, b) in grid.to_world([1.0, 1.0]).iter().zip([10.0, 12.0]) {
            assert!((a - b).abs() < 1e-12);
        }
    }

    #[test]
    fn without_an_affine_map_the_spacing_counts_and_shear_is_refused() {
        let grid = volume_of(&header([[0.0; 4]; 3]), [5, 6, 7]).unwrap();
        for (a, b) in grid.spacing().iter().zip([2.0, 3.0, 4.0]) {
            assert!((a - b).abs() < 1e-12);
        }
        let sheared = header([[1.0, 0.1, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]);
        let error = volume_of(&sheared, [5, 6, 7]).unwrap_err();
        assert!(error.to_string().contains("shear"), "{error}");
        let error = plane_of(&sheared, [5, 6]).unwrap_err();
        assert!(error.to_string().contains("shear"), "{error}");
    }

    #[test]
    fn a_quaternion_turns_and_flips() {
        // Half a turn about z, third axis flipped.
        let mut turned = NiftiHeader {
            pixdim: [-1.0, 2.0, 3.0, 4.0, 1.0, 1.0, 1.0, 1.0],
            qform_code: 1,
            sform_code: 0,
            quatern_d: 1.0,
            ..NiftiHeader::default()
        };
        turned.quatern_x = 5.0;
        let grid = volume_of(&turned, [5, 6, 7]).unwrap();
        for (a, b) in grid.to_world([1.0, 1.0, 1.0]).iter().zip([3.0, -3.0, -4.0]) {
            assert!((a - b).abs() < 1e-6);
        }
    }

    #[test]
    fn labels_are_integers() {
        assert_eq!(label(3.0).unwrap(), 3);
        assert!(label(0.5).is_err() && label(-1.0).is_err() && label(f64::NAN).is_err());
    }
}
