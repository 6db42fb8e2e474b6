//! Maps of the world in files: affine maps and displacement fields.
//!
//! All of them pull images back: they take points of the fixed image's world to those of the moving image's, x to
//! M x + t or to x + u(x), in LPS millimetres, as ITK, ANTs and greedy store them.

use std::io::Read as _;
use std::path::Path;

use nalgebra::SVector;
use rdmm_core::field::Displacement;
use rdmm_core::field::kind::Map;
use rdmm_core::grid::Grid;
use rdmm_core::ops::inverse::{Interpolation, Inverse};
use rdmm_core::world::Affine;

use crate::error::{Problem, Result};
use crate::volume::Volume;

mod classes;
pub mod fsl;
mod hdf5;
pub mod itk;
mod list;

pub use list::{Beyond, Chain, Listed};

/// How far the image of an inverted point may be from where it should be, in voxels of the displacement field.
/// Newton's method takes one step more, so that most points are much nearer.
pub const TOLERANCE: f64 = 1e-4;

/// One transform of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Transform<const D: usize> {
    /// x ↦ M x + t.
    Affine(Affine<D>),
    /// x ↦ x + u(x), u linear between voxels and zero outside of its grid.
    Warp(Displacement<f32, D>),
}

impl<const D: usize> Transform<D> {
    /// Reads a transform: ITK text (`.txt`, `.tfm`), MATLAB level 4 (`.mat`, as ANTs' `0GenericAffine.mat`), HDF5
    /// (`.h5`, as ANTs, Slicer and fMRIPrep write it), or an image of vectors in any format that
    /// [`read`](crate::read) knows. The content decides, not the name.
    ///
    /// Classes of linear transforms are those of [`itk::read`]; displacement fields (`DisplacementFieldTransform`) are
    /// read from text and HDF5 too.
    ///
    /// # Errors
    /// Those of [`itk::read`] and [`read_warp`]; [`Problem::Content`] for matrices of FLIRT, which need the
    /// images ([`fsl::read_affine`]), and for a composite with displacement fields, which is a list
    /// ([`Transform::read_list`]).
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut maps = Self::read_list(path)?;
        match (maps.pop(), maps.len()) {
            (Some(map), 0) => Ok(map),
            (_, others) => {
                let found =
                    format!("a list of {} of them: compose it to one warp first", others + 1);
                Err(Problem::content("transform file", "one transform", found).at(path))
            }
        }
    }

    /// Reads the transforms of a file, the first one applied first to points: several for a `CompositeTransform` with
    /// displacement fields, one for everything else.
    ///
    /// # Errors
    /// Those of [`Transform::read`] but for composites.
    pub fn read_list(path: impl AsRef<Path>) -> Result<Vec<Self>> {
        let path = path.as_ref();
        let records = || match content(path)? {
            Content::Records => Ok(Some(itk::records(&std::fs::read(path)?)?)),
            Content::Hdf5 => Ok(Some(hdf5::records(path)?)),
            Content::Image => Ok(None),
        };
        match records().map_err(|problem: Problem| problem.at(path))? {
            Some(records) => classes::maps(&records, Self::Affine, Self::Warp)
                .map_err(|problem| problem.at(path)),
            None => Ok(vec![Self::Warp(read_warp(path)?)]),
        }
    }

    /// Where a point goes.
    ///
    /// A warp is interpolated linearly inside its grid, the outer halves of the outermost voxels included,
    /// where it has the values of their centres; outside it moves nothing. This is what ITK and ANTs do.
    #[must_use]
    pub fn apply(&self, point: [f64; D]) -> [f64; D] {
        match self {
            Self::Affine(map) => map.apply(point),
            Self::Warp(map) => through(map, point),
        }
    }

    /// The inverse: exact for an affine map, and a displacement over the same grid for a warp, whose image is
    /// within [`TOLERANCE`] at every voxel.
    ///
    /// The inverse of a warp is the one of its linear interpolation, continued by the nearest value on the
    /// faces where a point comes from outside the grid. A warp that moves the image far, by an affine
    /// map in it say, has an inverse whose points lie elsewhere:
    /// [`Inverse::displacement`] gives it on any grid, and [`Chain`] inverts at points without one.
    ///
    /// # Errors
    /// Those of [`Inverse::new`] and [`Inverse::displacement`]: folds, and points where the tolerance is not
    /// reached.
    pub fn inverse(&self) -> rdmm_core::Result<Self> {
        match self {
            Self::Affine(map) => Ok(Self::Affine(map.inverse())),
            Self::Warp(map) => Ok(Self::Warp(inverse(map.clone())?.displacement(map.grid())?)),
        }
    }
}

/// The inverse of a warp as it is applied.
fn inverse<const D: usize>(map: Displacement<f32, D>) -> rdmm_core::Result<Inverse<f32, D>> {
    Inverse::new(map, Interpolation::Linear, TOLERANCE)
}

/// Whether a point is on a grid, the outer halves of its outermost voxels included.
fn within<const D: usize>(grid: &Grid<D>, point: [f64; D]) -> bool {
    let index = grid.to_index(point);
    (0..D).all(|a| index[a] >= -0.5 && index[a] < grid.shape()[a] as f64 - 0.5)
}

/// x + u(x).
fn through<const D: usize>(map: &Displacement<f32, D>, point: [f64; D]) -> [f64; D] {
    let grid = map.grid();
    if !within(grid, point) {
        return point;
    }
    let index = grid.to_index(point);
    let shape = grid.shape().map(|n| n as f64);
    let below = index.map(f64::floor);
    let tap = |a: usize, corner: usize| {
        let upper = corner >> a & 1;
        let share = index[a] - below[a];
        let at = (below[a] + upper as f64).clamp(0.0, shape[a] - 1.0);
        #[expect(clippy::cast_possible_truncation, reason = "an index of the grid")]
        #[expect(clippy::cast_sign_loss, reason = "an index of the grid")]
        let offset = at as usize * grid.strides()[a];
        (offset, if upper == 1 { share } else { 1.0 - share })
    };
    let mut u = SVector::<f64, D>::zeros();
    for corner in 0..1 << D {
        let (mut offset, mut weight) = (0, 1.0);
        for (o, w) in (0..D).map(|a| tap(a, corner)) {
            offset += o;
            weight *= w;
        }
        for a in 0..D {
            u[a] += weight * f64::from(map.component(a)[offset]);
        }
    }
    (SVector::from(point) + grid.direction() * u).into()
}

/// Reads a displacement field, x ↦ x + u(x): an image of D components in the world's axes, in the format of ITK.
///
/// # Errors
/// Those of [`read`](crate::read); [`Problem::Content`] for an image of another dimension or number of
/// components, and for values that are not finite.
pub fn read_warp<const D: usize>(path: impl AsRef<Path>) -> Result<Displacement<f32, D>> {
    let path = path.as_ref();
    let volume = crate::read(path)?;
    volume.vectors::<D, Map>().map_err(|problem| problem.at(path))
}

/// Writes a displacement field as ITK, ANTs and greedy read it: vectors in the world's axes, LPS; the ending
/// of the name says the format.
///
/// # Errors
/// Those of [`write`](crate::write); [`Problem::Core`] for NaN and infinity.
pub fn write_warp<const D: usize>(
    path: impl AsRef<Path>,
    map: &Displacement<f32, D>,
) -> Result<()> {
    let path = path.as_ref();
    let volume = || -> std::result::Result<Volume, Problem> {
        map.expect_finite("displacement")?;
        Volume::of_vectors(map)
    };
    crate::write(path, &volume().map_err(|problem| problem.at(path))?)
}

enum Content {
    /// Classes and parameters, as text or in a `.mat`.
    Records,
    Hdf5,
    Image,
}

/// What a file holds, by its first bytes.
fn content(path: &Path) -> std::result::Result<Content, Problem> {
    let mut start = Vec::new();
    std::fs::File::open(path)?.take(512).read_to_end(&mut start)?;
    if itk::is_text(&start) {
        return Ok(Content::Records);
    }
    if start.starts_with(b"\x89HDF") {
        return Ok(Content::Hdf5);
    }
    let expected = "ITK's transform as text, .mat or .h5, or an image of vectors";
    let named = |ending: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(ending));
    if is_numbers(&start) {
        let found = "rows of numbers: a matrix of FLIRT needs the fixed and the moving image \
                     (fsl:path,reference,input), one of greedy or c3d is converted with `c3d_affine_tool -oitk`";
        return Err(Problem::content("transform file", expected, found));
    }
    if named("mat") {
        return Ok(Content::Records);
    }
    if named("txt") || named("tfm") {
        return Err(Problem::content("transform file", expected, "text without ITK's first line"));
    }
    Ok(Content::Image)
}

/// Whether a file begins with a number as text, as matrices of FLIRT do.
fn is_numbers(start: &[u8]) -> bool {
    std::str::from_utf8(start).is_ok_and(|text| {
        let mut words = text.split_whitespace();
        words.next().is_some_and(|word| word.parse::<f64>().is_ok())
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use nalgebra::SMatrix;

    /// A turned, anisotropic grid far from the origin.
    pub(crate) fn oblique() -> Grid<3> {
        let (s, c) = 0.4_f64.sin_cos();
        let turn = SMatrix::<f64, 3, 3>::new(c, -s, 0.0, s, c, 0.0, 0.0, 0.0, -1.0);
        Grid::new([14, 12, 10], [1.0, 1.5, 2.5])
            .and_then(|grid| grid.with_origin([-60.0, 30.0, 5.0]))
            .and_then(|grid| grid.with_direction(turn))
            .unwrap()
    }

    /// A smooth map without folds that moves everything, the border too.
    pub(crate) fn wave(grid: &Grid<3>) -> Displacement<f32, 3> {
        let u = |x: [f64; 3], c: usize| 2.0 + 1.5 * (0.25 * x[(c + 1) % 3] + c as f64).sin();
        Displacement::from_fn(grid, |x| std::array::from_fn(|c| u(x, c))).unwrap()
    }

    #[test]
    fn warps_are_linear_inside_and_nothing_outside() {
        // One axis along each of the world's, the first backwards.
        let turn = SMatrix::<f64, 2, 2>::new(-1.0, 0.0, 0.0, 1.0);
        let grid = Grid::new([5, 4], [2.0, 1.0])
            .and_then(|grid| grid.with_origin([10.0, 0.0]))
            .and_then(|grid| grid.with_direction(turn))
            .unwrap();
        let u = |x: [f64; 2], c: usize| [x[0] * x[1], 3.0][c];
        let warp = Transform::Warp(
            Displacement::from_fn(&grid, |x| std::array::from_fn(|c| u(x, c))).unwrap(),
        );
        let goes =
            |x: [f64; 2], y: [f64; 2]| warp.apply(x).map(f64::to_bits) == y.map(f64::to_bits);
        // Index (1.5, 1.25): local (3, 1.25), where linear interpolation of the product is exact.
        assert!(goes([7.0, 1.25], [7.0 - 3.0 * 1.25, 4.25]));
        // Half a voxel beyond the last centre the value is that of the centre; beyond that, none.
        assert!(goes([1.5, 3.25], [1.5 - 8.0 * 3.0, 6.25]));
        assert!(goes([11.0, -0.5], [11.0, 2.5]));
        for outside in [[11.01, 0.0], [0.99, 0.0], [5.0, 3.5], [5.0, -0.51], [f64::INFINITY, 0.0]] {
            assert!(goes(outside, outside));
        }
    }

    #[test]
    fn inverses_take_points_back() {
        let warp = Transform::Warp(wave(&oblique()));
        let Transform::Warp(inverse) = warp.inverse().unwrap() else { panic!("a warp stays one") };
        let mut seen = 0;
        for flat in 0..oblique().len() {
            // At voxels nothing of the inverse is interpolated.
            let y = oblique().to_world(oblique().unravel(flat).map(|i| i as f64));
            let x = Transform::Warp(inverse.clone()).apply(y);
            let index = oblique().to_index(x);
            if (0..3).all(|a| index[a] > -0.5 && index[a] < oblique().shape()[a] as f64 - 0.5) {
                let back = warp.apply(x);
                // A tolerance in voxels of up to 2.5 mm.
                assert!((0..3).all(|a| (back[a] - y[a]).abs() < 2.5 * TOLERANCE), "{back:?} {y:?}");
                seen += 1;
            }
        }
        assert!(seen > oblique().len() / 2);
        let map =
            Affine::new(SMatrix::<f64, 2, 2>::new(2.0, 0.0, 0.0, 4.0), [1.0, 2.0].into()).unwrap();
        assert_eq!(Transform::Affine(map).inverse().unwrap(), Transform::Affine(map.inverse()));
    }

    #[test]
    fn files_that_are_no_transforms_are_named() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes, part) in [
            ("flirt.mat", b"1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n".as_slice(), "FLIRT"),
            ("a.h5", b"\x89HDF\r\n\x1a\n", "HDF5"),
            ("a.txt", b"hello", "without ITK's first line"),
            ("a.mat", b"\x00\x01", "truncated"),
            ("a.mat", b"", "no transform"),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let error = Transform::<3>::read(&path).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains(name), "{name}: {error}");
        }
        assert!(Transform::<3>::read(folder.path().join("none.mat")).is_err());
    }

    #[test]
    fn warps_come_back_from_every_format() {
        let folder = tempfile::tempdir().unwrap();
        let map = wave(&oblique());
        for name in ["u.nii", "u.nii.gz", "u.nrrd", "u.mha"] {
            let path = folder.path().join(name);
            write_warp(&path, &map).unwrap();
            let Transform::Warp(back) = Transform::<3>::read(&path).unwrap() else {
                panic!("{name}")
            };
            assert!(back.grid().same_lattice(map.grid()), "{name}");
            let off = |(a, b): (&f32, &f32)| (a - b).abs();
            let largest = back.data().iter().zip(map.data()).map(off).fold(0.0, f32::max);
            // Turned to the world and back, in single precision, by a direction of its precision.
            assert!(largest < 2e-6, "{name} {largest}");
            assert!(Transform::<2>::read(&path).is_err());
        }
        let mut broken = map;
        broken.data_mut()[3] = f32::NAN;
        assert!(write_warp(folder.path().join("nan.nii"), &broken).is_err());
        assert!(!folder.path().join("nan.nii").exists());
    }
}
