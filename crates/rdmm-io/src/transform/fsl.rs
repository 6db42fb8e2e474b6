//! Transforms in FSL's files, which are about a pair of images.
//!
//! FSL's coordinates of an image are its voxel indices times the spacing, with the first axis counted from its
//! far end where the header's matrix has a positive determinant. Its affine matrices (FLIRT) take
//! coordinates of the moving image to those of the fixed one, the inverse of a pull-back; its displacement fields
//! (FNIRT, relative) take those of the fixed image to those of the moving one.

use std::io::Read as _;
use std::path::Path;

use nalgebra::{SMatrix, SVector};
use rdmm_core::field::Displacement;
use rdmm_core::field::kind::Map;
use rdmm_core::grid::Grid;
use rdmm_core::world::Affine;

use super::{Transform, is_numbers};
use crate::atomic;
use crate::error::{Problem, Result};
use crate::name::has_ending;
use crate::nifti;
use crate::volume::{Meaning, Volume};

/// From the world to FSL's coordinates of an image.
fn coordinates(grid: &Grid<3>) -> rdmm_core::Result<Affine<3>> {
    let (spacing, shape) = (grid.spacing(), grid.shape());
    let direction = grid.direction();
    let back = direction.try_inverse().unwrap_or_else(|| direction.transpose());
    let mut matrix = back;
    let mut shift = -(back * SVector::from(grid.origin()));
    // The sign is the same in LPS and in RAS, which differ by two mirrors.
    if direction.determinant() > 0.0 {
        matrix.row_mut(0).neg_mut();
        shift[0] = (shape[0] - 1) as f64 * spacing[0] - shift[0];
    }
    Affine::new(matrix, shift)
}

/// Writes an affine map as FLIRT does: four rows of four numbers.
///
/// `map` takes points of the fixed image's world to the moving image's; the file is what
/// `flirt -in moving -ref fixed -omat` writes.
///
/// # Errors
/// What the operating system says; [`Problem::Core`] for maps that leave the finite numbers.
pub fn write_affine(
    path: impl AsRef<Path>,
    map: &Affine<3>,
    fixed: &Grid<3>,
    moving: &Grid<3>,
) -> Result<()> {
    let path = path.as_ref();
    let flirt =
        || coordinates(fixed)?.after(&map.inverse())?.after(&coordinates(moving)?.inverse());
    let flirt = flirt().map_err(|error| Problem::from(error).at(path))?;
    atomic::write(path, |file| {
        for (row, shift) in flirt.matrix().row_iter().zip(flirt.shift()) {
            writeln!(file, "{}  {}  {}  {}", row[0], row[1], row[2], shift)?;
        }
        writeln!(file, "0  0  0  1")
    })
}

/// Reads a matrix of FLIRT as a map from points of the fixed image's world to the moving image's.
///
/// # Errors
/// [`Problem::Content`] unless the file holds four rows of four numbers, the last 0 0 0 1;
/// [`Problem::Core`] for a matrix without an inverse.
pub fn read_affine(path: impl AsRef<Path>, fixed: &Grid<3>, moving: &Grid<3>) -> Result<Affine<3>> {
    let path = path.as_ref();
    let read = || {
        let flirt = matrix(&std::fs::read_to_string(path)?)?;
        let world = coordinates(moving)?.inverse().after(&flirt.inverse())?;
        Ok(world.after(&coordinates(fixed)?)?)
    };
    read().map_err(|problem: Problem| problem.at(path))
}

fn matrix(text: &str) -> std::result::Result<Affine<3>, Problem> {
    let refused = |found: &str| {
        let expected = "four rows of four numbers, the last 0 0 0 1";
        Problem::content("FLIRT matrix", expected, format!("{found:?}"))
    };
    let number = |word: &str| word.parse::<f64>().map_err(|_| refused(word));
    let numbers: Vec<f64> =
        text.split_whitespace().map(number).collect::<std::result::Result<_, _>>()?;
    if numbers.len() != 16 {
        return Err(refused(&format!("{} numbers", numbers.len())));
    }
    let rows = SMatrix::<f64, 4, 4>::from_row_slice(&numbers);
    let last = rows.row(3) - SMatrix::<f64, 1, 4>::new(0.0, 0.0, 0.0, 1.0);
    if last.norm() > 0.0 {
        return Err(refused(&format!("{:?}", &numbers[12..])));
    }
    let part = rows.fixed_view::<3, 3>(0, 0).into_owned();
    Ok(Affine::new(part, rows.fixed_view::<3, 1>(0, 3).into_owned())?)
}

/// Writes a displacement field as FNIRT's `--fout` and `convertwarp --relout` do: three volumes over the fixed
/// image, each voxel's coordinates in the moving image less those in the fixed one, all in FSL's coordinates.
///
/// `map` is over the fixed image's grid; the name ends in `.nii` or `.nii.gz`.
///
/// # Errors
/// [`Problem::Core`] for NaN and infinity in the map; [`Problem::Content`] for another name;
/// those of [`write`](crate::write).
pub fn write_warp(
    path: impl AsRef<Path>,
    map: &Displacement<f32, 3>,
    moving: &Grid<3>,
) -> Result<()> {
    let path = path.as_ref();
    let volume = || -> std::result::Result<Volume, Problem> {
        if !(has_ending(path, ".nii") || has_ending(path, ".nii.gz")) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            return Err(Problem::content(
                "name of FSL's field",
                ".nii or .nii.gz at its end",
                name,
            ));
        }
        map.expect_finite("displacement")?;
        let (from, to) = (coordinates(map.grid())?, coordinates(moving)?);
        // World vectors first, then differences of coordinates in their place.
        let mut volume = Volume::of_vectors(map)?;
        volume.meaning = Meaning::Values;
        replace(&mut volume.values, map.grid(), |x, u| {
            SVector::from(to.apply((x + u).into())) - SVector::from(from.apply(x.into()))
        });
        Ok(volume)
    };
    let volume = volume().map_err(|problem| problem.at(path))?;
    nifti::write_with_intent(path, &volume, nifti::INTENT_FSL)
}

/// Reads a relative displacement field of FSL as a map over the fixed image's grid.
///
/// Files of spline coefficients and absolute fields are not known: `convertwarp --relout` writes a relative
/// field from either.
///
/// # Errors
/// Those of [`read`](crate::read); [`Problem::Content`] unless there are three components;
/// [`Problem::Core`] where the file is not over the fixed image's grid, and for NaN and infinity.
pub fn read_warp(
    path: impl AsRef<Path>,
    fixed: &Grid<3>,
    moving: &Grid<3>,
) -> Result<Displacement<f32, 3>> {
    field(path.as_ref(), fixed, moving)
}

/// Reads a matrix or a relative displacement field of FSL, whichever the file holds, by the images that it is about: the
/// fixed one (`-ref`) and the moving one (`-in`).
///
/// # Errors
/// Those of [`read_affine`], [`read_warp`] and [`read`](crate::read) of the images; [`Problem::Axes`] for D other than 3.
pub fn read<const D: usize>(
    path: impl AsRef<Path>,
    fixed: impl AsRef<Path>,
    moving: impl AsRef<Path>,
) -> Result<Transform<D>> {
    let path = path.as_ref();
    let grid = |image: &Path| crate::read(image)?.geometry.grid::<3>().map_err(|p| p.at(image));
    let (fixed, moving) = (grid(fixed.as_ref())?, grid(moving.as_ref())?);
    if !numbers(path).map_err(|problem| problem.at(path))? {
        return Ok(Transform::Warp(field(path, &fixed, &moving)?));
    }
    if D != 3 {
        return Err(Problem::Axes { expected: D, found: 3 }.at(path));
    }
    let map = read_affine(path, &fixed, &moving)?;
    let matrix = SMatrix::from_fn(|r, c| map.matrix()[(r, c)]);
    let map = Affine::new(matrix, SVector::from_fn(|r, _| map.shift()[r]));
    Ok(Transform::Affine(map.map_err(|error| Problem::from(error).at(path))?))
}

/// Whether a file begins with a number, as text.
fn numbers(path: &Path) -> std::result::Result<bool, Problem> {
    let mut start = Vec::new();
    std::fs::File::open(path)?.take(512).read_to_end(&mut start)?;
    Ok(is_numbers(&start))
}

fn field<const D: usize>(
    path: &Path,
    fixed: &Grid<3>,
    moving: &Grid<3>,
) -> Result<Displacement<f32, D>> {
    let mut volume = crate::read(path)?;
    let mut field = || -> std::result::Result<Displacement<f32, D>, Problem> {
        if volume.components != 3 || volume.geometry.shape.len() != 3 {
            let found = format!("{:?} of {}", volume.geometry.shape, volume.components);
            return Err(Problem::content(
                "displacement field",
                "three volumes of three axes",
                found,
            ));
        }
        fixed.expect_same(&volume.geometry.grid::<3>()?, "displacement field")?;
        let (from, to) = (coordinates(fixed)?, coordinates(moving)?.inverse());
        replace(&mut volume.values, fixed, |x, d| {
            let moved = SVector::from(from.apply(x.into())) + d;
            SVector::from(to.apply(moved.into())) - x
        });
        volume.meaning = Meaning::Vectors;
        volume.vectors::<D, Map>()
    };
    field().map_err(|problem| problem.at(path))
}

/// Replaces the vector at each voxel of a file by a function of the voxel's place in the world and the vector.
fn replace(
    values: &mut [f64],
    grid: &Grid<3>,
    f: impl Fn(SVector<f64, 3>, SVector<f64, 3>) -> SVector<f64, 3>,
) {
    let (n, shape) = (grid.len(), grid.shape());
    for v in 0..n {
        // The first axis is the fastest.
        let index = [v % shape[0], v / shape[0] % shape[1], v / shape[0] / shape[1]];
        let x = SVector::from(grid.to_world(index.map(|i| i as f64)));
        let vector = f(x, SVector::from_fn(|c, _| values[c * n + v]));
        for c in 0..3 {
            values[c * n + v] = vector[c];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::Chain;
    use crate::transform::tests::{oblique, wave};

    /// A grid whose matrix has a positive determinant: FSL mirrors its first axis.
    fn straight() -> Grid<3> {
        Grid::new([20, 16, 12], [2.0, 1.0, 3.0])
            .and_then(|g| g.with_origin([10.0, 20.0, 30.0]))
            .unwrap()
    }

    fn map() -> Affine<3> {
        let matrix = SMatrix::<f64, 3, 3>::new(1.1, 0.2, 0.0, -0.1, 0.9, 0.1, 0.0, 0.2, 1.2);
        Affine::new(matrix, SVector::from([3.0, -8.0, 12.0])).unwrap()
    }

    #[test]
    fn coordinates_are_scaled_voxels_and_mirrored_where_the_determinant_is_positive() {
        let near = |a: [f64; 3], b: [f64; 3]| (0..3).all(|k| (a[k] - b[k]).abs() < 1e-12);
        let to = coordinates(&straight()).unwrap();
        assert!(near(to.apply(straight().to_world([2.0, 3.0, 4.0])), [17.0 * 2.0, 3.0, 12.0]));
        // oblique() has a negative one.
        let to = coordinates(&oblique()).unwrap();
        assert!(near(to.apply(oblique().to_world([2.0, 3.0, 4.0])), [2.0, 4.5, 10.0]));
    }

    #[test]
    fn the_same_lattice_needs_no_matrix() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flirt.mat");
        write_affine(&path, &Affine::identity(), &straight(), &straight()).unwrap();
        let numbers = std::fs::read_to_string(&path).unwrap();
        let flirt = matrix(&numbers).unwrap();
        assert!(
            (flirt.matrix() - SMatrix::identity()).norm() < 1e-13 && flirt.shift().norm() < 1e-12
        );
        // A shift of the moving image by 5 along the world's x: FLIRT's matrix takes it back, mirrored.
        let shift = Affine::new(SMatrix::identity(), SVector::from([5.0, 0.0, 0.0])).unwrap();
        write_affine(&path, &shift, &straight(), &straight()).unwrap();
        let flirt = matrix(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert!((flirt.shift() - SVector::from([5.0, 0.0, 0.0])).norm() < 1e-12);
    }

    #[test]
    fn matrices_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flirt.mat");
        for (fixed, moving) in [(straight(), oblique()), (oblique(), straight())] {
            write_affine(&path, &map(), &fixed, &moving).unwrap();
            let back = read_affine(&path, &fixed, &moving).unwrap();
            assert!((back.matrix() - map().matrix()).norm() < 1e-13);
            assert!((back.shift() - map().shift()).norm() < 1e-11);
        }
        for (text, part) in [
            ("1 0 0 0 0 1 0 0 0 0 1 0", "12 numbers"),
            ("1 0 0 0 0 1 0 0 0 0 1 0 0 0 1 1", "0.0, 1.0, 1.0"),
            ("a", "\"a\""),
            ("0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1", "invertible"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read_affine(&path, &straight(), &oblique()).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn lists_name_the_images() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (fixed, moving) = (straight(), oblique());
        for (name, grid) in [("f.nii", &fixed), ("m.nii", &moving)] {
            let image = rdmm_core::field::Image::<f32, 3>::from_fn(grid, |x| x[0]).unwrap();
            crate::write_image(at(name), &image).unwrap();
        }
        write_affine(at("flirt.mat"), &map(), &fixed, &moving).unwrap();
        write_warp(at("fnirt.nii.gz"), &wave(&fixed), &moving).unwrap();
        let x = fixed.to_world([6.3, 5.1, 4.7]);
        let read = |file: &str| {
            let text = format!("fsl:{0}/{file},{0}/f.nii,{0}/m.nii", folder.path().display());
            Chain::<3>::read(&[text.parse().unwrap()]).unwrap().apply(x).unwrap()
        };
        let near = |a: [f64; 3], b: [f64; 3], most: f64| (0..3).all(|k| (a[k] - b[k]).abs() < most);
        assert!(
            near(read("flirt.mat"), map().apply(x), 1e-4),
            "spacings of files are single precision"
        );
        let warp = Transform::Warp(wave(&fixed));
        assert!(near(read("fnirt.nii.gz"), warp.apply(x), 1e-4));
        for (file, expected) in [("flirt.mat", 2), ("fnirt.nii.gz", 2)] {
            let error = super::read::<2>(at(file), at("f.nii"), at("m.nii")).unwrap_err();
            assert!(error.to_string().contains(&format!("{expected} axes")), "{error}");
        }
        let error = super::read::<3>(at("flirt.mat"), at("none.nii"), at("m.nii")).unwrap_err();
        assert!(error.path.ends_with("none.nii"));
    }

    #[test]
    fn fields_come_back_and_hold_differences_of_coordinates() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fnirt.nii.gz");
        for (fixed, moving) in [(straight(), oblique()), (oblique(), straight())] {
            let map = wave(&fixed);
            write_warp(&path, &map, &moving).unwrap();
            let back = read_warp(&path, &fixed, &moving).unwrap();
            let off = |(a, b): (&f32, &f32)| (a - b).abs();
            let largest = back.data().iter().zip(map.data()).map(off).fold(0.0, f32::max);
            // Single precision of differences of coordinates, up to a hundred millimetres.
            assert!(largest < 2e-5, "{largest}");
            let error = read_warp(&path, &moving, &fixed).unwrap_err().to_string();
            assert!(error.contains("expected the grid"), "{error}");
        }
        let error = write_warp(folder.path().join("f.nrrd"), &wave(&oblique()), &oblique());
        assert!(error.unwrap_err().to_string().contains("f.nrrd"));
        let nothing = Displacement::zeros(&straight()).unwrap();
        write_warp(&path, &nothing, &straight()).unwrap();
        assert!(crate::read(&path).unwrap().values.iter().all(|d| d.abs() < 1e-5));
    }
}
