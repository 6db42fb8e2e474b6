//! Where an affine registration starts.

use nalgebra::{DMatrix, SMatrix, SVector, SymmetricEigen};

use crate::error::{Error, Result};
use crate::field::Image;
use crate::scalar::Real;
use crate::world::{Affine, determinant};

/// The maps that a registration starts from, after its [initial map](super::AffineRegistration::with_initial). All are
/// optimised on the coarsest level, and the one with the lowest loss there goes on.
///
/// The mass of a voxel is how far its grey value is from the mean of the outermost voxels, so that bright
/// and dark backgrounds have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Start {
    /// The images as they are placed in the world, the moving one by the initial map.
    #[default]
    World,
    /// A shift that brings the centres of mass together.
    Mass,
    /// That shift, alone and with the rotations that bring the principal axes of the masses together. Axes
    /// have no sign: there are 2^(D−1) such rotations, two in the plane and four in space.
    Moments,
}

impl Start {
    /// The maps to start from: `initial` after the ones that bring the masses together, of the fixed image and of the
    /// moving one as `initial` places it.
    ///
    /// # Errors
    /// [`Error::NoContrast`] for an image without mass.
    pub(super) fn candidates<T: Real, const D: usize>(
        self,
        fixed: &Image<T, D>,
        moving: &Image<T, D>,
        initial: &Affine<D>,
    ) -> Result<Vec<Affine<D>>> {
        let masses = || {
            let moving = Mass::of(moving, "moving image")?;
            Ok([Mass::of(fixed, "fixed image")?, moving.through(&initial.inverse())])
        };
        let first = match self {
            Self::World => vec![Affine::identity()],
            Self::Mass => {
                let [f, m] = masses()?;
                vec![m.onto(&f, SMatrix::identity())?]
            }
            Self::Moments => {
                let [f, m] = masses()?;
                let turns = rotations(&m.axes()?, &f.axes()?);
                let turns = std::iter::once(SMatrix::identity()).chain(turns);
                turns.map(|turn| m.onto(&f, turn)).collect::<Result<_>>()?
            }
        };
        first.iter().map(|first| initial.after(first)).collect()
    }
}

/// The rotations R = U diag(±1) Vᵀ.
fn rotations<const D: usize>(
    u: &SMatrix<f64, D, D>,
    v: &SMatrix<f64, D, D>,
) -> Vec<SMatrix<f64, D, D>> {
    let signs = |bits: usize| SVector::from_fn(|a, _| if bits >> a & 1 == 0 { 1.0 } else { -1.0 });
    let all = (0..1 << D).map(|bits| u * SMatrix::from_diagonal(&signs(bits)) * v.transpose());
    all.filter(|r| determinant(*r) > 0.0).collect()
}

/// First and second moments of an image's mass, in the world.
struct Mass<const D: usize> {
    centre: SVector<f64, D>,
    covariance: SMatrix<f64, D, D>,
    what: &'static str,
}

impl<const D: usize> Mass<D> {
    fn of<T: Real>(image: &Image<T, D>, what: &'static str) -> Result<Self> {
        let (grid, shape) = (image.grid(), image.grid().shape());
        let outermost = |i: &usize| {
            let index = grid.unravel(*i);
            (0..D).any(|a| index[a] == 0 || index[a] + 1 == shape[a])
        };
        let grey = |i: usize| image.data()[i].f64();
        let [count, sum] = (0..grid.len())
            .filter(outermost)
            .fold([0.0, 0.0], |[count, sum], i| [count + 1.0, sum + grey(i)]);
        let background = sum / count;
        let point = |i: usize| SVector::from(grid.to_world(grid.unravel(i).map(|i| i as f64)));
        let masses = (0..grid.len()).map(|i| (point(i), (grey(i) - background).abs()));

        let (mut total, mut first) = (0.0, SVector::zeros());
        for (x, mass) in masses.clone() {
            total += mass;
            first += x * mass;
        }
        if total <= 0.0 {
            return Err(Error::NoContrast { what });
        }
        let centre: SVector<f64, D> = first / total;
        let mut covariance = SMatrix::zeros();
        for (x, mass) in masses {
            covariance += (x - centre) * (x - centre).transpose() * (mass / total);
        }
        Ok(Self { centre, covariance, what })
    }

    /// The mass carried by a map.
    fn through(&self, map: &Affine<D>) -> Self {
        Self {
            centre: map.apply(self.centre.into()).into(),
            covariance: map.matrix() * self.covariance * map.matrix().transpose(),
            what: self.what,
        }
    }

    /// Principal axes as columns, the longest first.
    fn axes(&self) -> Result<SMatrix<f64, D, D>> {
        let matrix = DMatrix::from_fn(D, D, |a, b| self.covariance[(a, b)]);
        let found = SymmetricEigen::try_new(matrix, f64::EPSILON, 1000);
        let found = found.ok_or(Error::NoContrast { what: self.what })?;
        let mut order: Vec<usize> = (0..D).collect();
        order.sort_by(|&a, &b| found.eigenvalues[b].total_cmp(&found.eigenvalues[a]));
        Ok(SMatrix::from_fn(|a, b| found.eigenvectors[(a, order[b])]))
    }

    /// x ↦ R (x − c) + c′, from the fixed mass to this one.
    fn onto(&self, fixed: &Self, turn: SMatrix<f64, D, D>) -> Result<Affine<D>> {
        Affine::new(turn, self.centre - turn * fixed.centre)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Grid;

    /// A bright ellipsoid on a dark ground, half-axes in the world turned by `turn`.
    fn blob(grid: &Grid<3>, map: &Affine<3>) -> Image<f64, 3> {
        let mut image = Image::zeros(grid).unwrap();
        for (i, out) in image.data_mut().iter_mut().enumerate() {
            let x = map.apply(grid.to_world(grid.unravel(i).map(|i| i as f64)));
            let square: f64 = (0..3).map(|a| (x[a] / [6.0, 4.0, 2.5][a]).powi(2)).sum();
            *out = 2.0 + (-0.5 * square * square).exp();
        }
        image
    }

    #[test]
    fn moments_find_a_large_rotation() {
        let grid = Grid::new([30, 28, 26], [1.0; 3]).unwrap();
        let about = |centre: [f64; 3], turn: SMatrix<f64, 3, 3>| {
            Affine::new(turn, -(turn * SVector::from(centre))).unwrap()
        };
        let turn = nalgebra::Rotation3::from_euler_angles(0.5, -0.4, 1.1).into_inner();
        let fixed = blob(&grid, &about([14.0, 13.0, 12.0], SMatrix::identity()));
        let moving = blob(&grid, &about([16.0, 14.0, 13.0], turn));
        let found = Start::Moments.candidates(&fixed, &moving, &Affine::identity()).unwrap();
        assert_eq!(found.len(), 5);
        let centre = |map: &Affine<3>| SVector::from(map.apply([14.0, 13.0, 12.0]));
        for map in &found {
            assert!((map.determinant() - 1.0).abs() < 1e-12, "rotations");
            // Ellipsoids reach near the border: a hundredth of their mass is cut off there.
            assert!((centre(map) - SVector::from([16.0, 14.0, 13.0])).norm() < 0.1);
        }
        // The moving blob is the fixed one at R(x − c′): the map from fixed to moving is Rᵀ.
        let error = |map: &Affine<3>| (map.matrix() - turn.transpose()).norm();
        let best = found.iter().map(error).fold(f64::INFINITY, f64::min);
        assert!(best < 0.05, "{best}");
        assert!(error(&found[0]) > 0.5, "without a rotation it is far off");
    }

    #[test]
    fn masses_are_brought_together_after_an_initial_map() {
        let grid = Grid::new([30, 28, 26], [1.0; 3]).unwrap();
        let about = |centre: [f64; 3], turn: SMatrix<f64, 3, 3>| {
            Affine::new(turn, -(turn * SVector::from(centre))).unwrap()
        };
        let turn = nalgebra::Rotation3::from_euler_angles(0.0, 0.0, 3.0).into_inner();
        let fixed = blob(&grid, &about([14.0, 13.0, 12.0], SMatrix::identity()));
        let moving = blob(&grid, &about([16.0, 14.0, 13.0], turn));
        // Most of the turn, and far off: mass alone finds the rest of the shift and keeps the turn.
        let near = nalgebra::Rotation3::from_euler_angles(0.0, 0.0, 2.9).into_inner().transpose();
        let initial = Affine::new(near, SVector::from([500.0, -80.0, 3.0])).unwrap();
        let found = Start::Mass.candidates(&fixed, &moving, &initial).unwrap();
        assert_eq!(found.len(), 1);
        assert!((found[0].matrix() - near).norm() < 1e-12);
        let centre = SVector::from(found[0].apply([14.0, 13.0, 12.0]));
        assert!((centre - SVector::from([16.0, 14.0, 13.0])).norm() < 0.1, "{centre}");
        for map in Start::Moments.candidates(&fixed, &moving, &initial).unwrap() {
            let centre = SVector::from(map.apply([14.0, 13.0, 12.0]));
            assert!((centre - SVector::from([16.0, 14.0, 13.0])).norm() < 0.1, "{centre}");
        }
    }

    #[test]
    fn images_without_mass_are_refused() {
        let grid = Grid::new([8, 8], [1.0; 2]).unwrap();
        let flat = Image::<f32, 2>::from_fn(&grid, |_| 3.0).unwrap();
        let bump = Image::<f32, 2>::from_fn(&grid, |x| x[0] * (7.0 - x[0])).unwrap();
        for start in [Start::Mass, Start::Moments] {
            let error = start.candidates(&bump, &flat, &Affine::identity()).unwrap_err();
            assert_eq!(error, Error::NoContrast { what: "moving image" });
            let error = start.candidates(&flat, &bump, &Affine::identity()).unwrap_err();
            assert_eq!(error, Error::NoContrast { what: "fixed image" });
        }
        let shift = Affine::new(SMatrix::identity(), SVector::from([3.0, 1.0])).unwrap();
        assert_eq!(Start::World.candidates(&flat, &flat, &shift).unwrap(), [shift]);
    }
}
