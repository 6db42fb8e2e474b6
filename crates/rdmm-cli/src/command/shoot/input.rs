//! Momentum and pre-weights from files, checked.

use std::path::{Path, PathBuf};

use rdmm_core::Error;
use rdmm_core::field::kind::Kind;
use rdmm_core::field::{Field, Momentum, Weights};
use rdmm_core::grid::{Boundary, Grid};
use rdmm_io::{Meaning, Volume, npy};

use crate::cli::ShootArgs;
use crate::failure::{Done, Failure};

/// What a file holds.
enum Content {
    Array(npy::Array),
    Image(Box<Volume>),
}

impl Content {
    fn read(path: &Path) -> Done<Self> {
        Ok(if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npy")) {
            Self::Array(npy::read(path)?)
        } else {
            Self::Image(Box::new(rdmm_io::read(path)?))
        })
    }
}

/// The file of the momentum, which says what the grid is.
pub(super) struct Source {
    path: PathBuf,
    content: Content,
    dimension: usize,
}

impl Source {
    /// Reads the file. An array has as many axes as `spacing` has lengths, an image has its own.
    pub(super) fn read(path: &Path, spacing: &[f64]) -> Done<Self> {
        let content = Content::read(path)?;
        let dimension = match &content {
            Content::Array(_) if spacing.is_empty() => {
                let problem = "expected a length an axis for a momentum in .npy, found none";
                return Err(Failure::at("--spacing", problem));
            }
            Content::Image(_) if !spacing.is_empty() => {
                let problem = "an image file has its own spacing: leave the option out";
                return Err(Failure::at("--spacing", problem));
            }
            Content::Array(_) => spacing.len(),
            Content::Image(volume) => volume.dimension(),
        };
        Ok(Self { path: path.to_path_buf(), content, dimension })
    }

    /// Number of axes of the grid.
    pub(super) fn dimension(&self) -> usize {
        self.dimension
    }

    /// The momentum on its grid: components along the axes of the array, those of an image turned from the world's
    /// axes.
    pub(super) fn momentum<const D: usize>(
        &self,
        spacing: &[f64],
        boundary: Boundary,
    ) -> Done<Momentum<f64, D>> {
        let at = |problem: &dyn std::fmt::Display| Failure::at(self.path.display(), problem);
        match &self.content {
            Content::Array(array) => {
                let wrong = || at(&shapes(&[D], D, &array.shape));
                let spacing = <[f64; D]>::try_from(spacing).map_err(|_| wrong())?;
                let shape = match array.shape.split_first() {
                    Some((components, shape)) if *components == D => shape,
                    _ => return Err(wrong()),
                };
                let shape = <[usize; D]>::try_from(shape).map_err(|_| wrong())?;
                let grid = Grid::new(shape, spacing).map_err(|error| at(&error))?;
                let grid = grid.with_boundary(boundary);
                Momentum::from_vec(&grid, array.values.clone()).map_err(|error| at(&error))
            }
            Content::Image(volume) => {
                let single = volume.vectors::<D, _>().map_err(|problem| problem.at(&self.path))?;
                double(&single, boundary)
            }
        }
    }

    /// The pre-weights h ≥ 0 of as many Gaussians, Σ h² = 1, on the momentum's grid.
    pub(super) fn preweights<const D: usize>(
        &self,
        path: &Path,
        grid: &Grid<D>,
        gaussians: usize,
    ) -> Done<Weights<f64, D>> {
        let at = |problem: &dyn std::fmt::Display| Failure::at(path.display(), problem);
        let h = match (Content::read(path)?, &self.content) {
            (Content::Array(array), _) => {
                let expected = [&[gaussians][..], &grid.shape()].concat();
                if array.shape != expected {
                    return Err(at(&shapes(&expected, 0, &array.shape)));
                }
                Weights::from_vec(grid, array.values).map_err(|error| at(&error))?
            }
            (Content::Image(_), Content::Array(_)) => {
                return Err(at(
                    &"an image on its own grid beside a momentum in .npy: expected both in .npy",
                ));
            }
            (Content::Image(volume), Content::Image(_)) => {
                if volume.components != gaussians || volume.meaning == Meaning::Colours {
                    let (found, meaning) = (volume.components, volume.meaning);
                    let expected = format!("expected {gaussians} components, one a σ");
                    return Err(at(&format!("{expected}; found {found} ({meaning:?})")));
                }
                let single =
                    volume.components_field::<D, _>().map_err(|problem| problem.at(path))?;
                grid.expect_same(single.grid(), "grid of the momentum").map_err(|e| at(&e))?;
                double(&single, grid.boundary())?.on_grid(grid)?
            }
        };
        if let Some(index) = h.data().iter().position(|&h| h < 0.0) {
            let found = h.data()[index];
            return Err(at(&format!(
                "pre-weights: expected numbers ≥ 0, found {found} at flat index {index}"
            )));
        }
        expect_unit(&h).map_err(|error| at(&error))?;
        Ok(h)
    }
}

/// How far from one Σ h² may be.
const UNIT: f64 = 1e-3;

/// `Ok` if Σ h² = 1 at every voxel: other pre-weights would scale the metric.
fn expect_unit<const D: usize>(h: &Weights<f64, D>) -> rdmm_core::Result<()> {
    for at in 0..h.grid().len() {
        let found: f64 = (0..h.components()).map(|i| h.component(i)[at].powi(2)).sum();
        if (found - 1.0).abs() > UNIT {
            let what = "pre-weights at a voxel";
            return Err(Error::WeightSum { what, tolerance: UNIT, found });
        }
    }
    Ok(())
}

/// What is wrong with the shape of an array: expected are these lengths and `free` more of any length.
fn shapes(expected: &[usize], free: usize, found: &[usize]) -> String {
    let fixed = expected.iter().map(ToString::to_string);
    let axes: Vec<String> = fixed.chain((0..free).map(|a| format!("n{a}"))).collect();
    format!("expected an array of shape [{}] (components first), found {found:?}", axes.join(", "))
}

/// The same numbers in double precision, with another boundary.
fn double<K: Kind, const D: usize>(
    single: &Field<f32, D, K>,
    boundary: Boundary,
) -> Done<Field<f64, D, K>> {
    let grid = single.grid().clone().with_boundary(boundary);
    Ok(Field::from_vec(&grid, single.data().iter().copied().map(f64::from).collect())?)
}

/// Shares of vSVF and LDDMM.
pub(super) fn weights(args: &ShootArgs) -> Vec<f64> {
    let gaussians = args.sigmas.len();
    if args.shares.is_empty() {
        vec![1.0 / gaussians as f64; gaussians]
    } else {
        args.shares.clone()
    }
}
