//! The loss of a pair of images under an affine map, and its exact gradient.

use nalgebra::{DMatrix, SMatrix, SVector};

use super::group::{Transform, exponential};
use super::landmarks::PointTerm;
use crate::comparison::{Compared, Comparison};
use crate::error::{Error, Result};
use crate::field::{Displacement, Image};
use crate::grid::Grid;
use crate::ops::warp::Warp;
use crate::optim::Objective;
use crate::par;
use crate::registration::Landmarks;
use crate::scalar::Real;
use crate::similarity::Similarity;
use crate::space::StateSpace;
use crate::world::Affine;

/// Sim(I₀∘A, I₁) over the maps A that a [`Transform`] reaches from a starting map A₀.
///
#[doc = include_str!("../../docs/math/affinegroup.html")]
///
/// c is the centre of the fixed image's grid and p its image under A₀, so turns and shears are about the
/// centre. r is the root mean square distance of the grid's points from c. The control (θ, τ) has no unit,
/// and a change of any of its entries moves the points by about r times as much: plain L-BFGS is well
/// scaled.
///
/// The gradient is exact:
///
#[doc = include_str!("../../docs/math/affinebar.html")]
///
#[doc = include_str!("../../docs/math/affineslope.html")]
///
/// J̄ is the gradient of the similarity in the warped image and L the derivative of the exponential. An
/// evaluation costs two passes of 4ᴰ reads a voxel and those of the similarity. Points beyond the moving
/// image do not count ([`Warp::seen`]), and J̄ ∇I₀ has the derivative in how far they count beside it. A barrier keeps the
/// map from leaving the image: it begins at half of the overlap at the start.
///
/// # References
/// - Higham, *Functions of Matrices*, SIAM 2008, doi:10.1137/1.9780898717778, Section 10.6: the transpose of
///   L(X, ·) is L(Xᵀ, ·).
/// - Jenkinson, Smith, *A global optimisation method for robust affine registration of brain images*, Med.
///   Image Anal. 5 (2001), doi:10.1016/S1361-8415(01)00036-6.
pub struct AffineObjective<T: Real, const D: usize> {
    generators: Vec<SMatrix<f64, D, D>>,
    start: Affine<D>,
    /// Where the registration began: stretches are relative to it.
    origin: Affine<D>,
    most_stretch: f64,
    /// c.
    centre: SVector<f64, D>,
    /// r.
    radius: f64,
    comparison: Comparison<T, D>,
    landmarks: Option<PointTerm<D>>,
    rest: Displacement<T, D>,
    slope: Displacement<T, D>,
}

impl<T: Real, const D: usize> std::fmt::Debug for AffineObjective<T, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AffineObjective")
            .field("start", &self.start)
            .field("generators", &self.generators.len())
            .field("fixed", self.rest.grid())
            .field("moving", self.comparison.moving())
            .finish_non_exhaustive()
    }
}

impl<T: Real, const D: usize> AffineObjective<T, D> {
    /// The loss of a moving image; `fixed` is the grid of the fixed image that `similarity` was prepared
    /// against.
    ///
    /// # Errors
    /// [`Error::NonFinite`](crate::Error::NonFinite) for NaN or infinity in the image;
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn new(
        transform: Transform,
        start: Affine<D>,
        moving: &Image<T, D>,
        fixed: &Grid<D>,
        similarity: Box<dyn Similarity<T>>,
    ) -> Result<Self> {
        moving.expect_finite("moving image")?;
        let middle = fixed.shape().map(|n| 0.5 * (n - 1) as f64);
        // Of a box of sides e about its centre the mean square is Σ e²/12.
        let square: f64 = fixed.extent().iter().map(|e| e * e / 12.0).sum();
        Ok(Self {
            generators: transform.generators(),
            start,
            origin: start,
            most_stretch: f64::INFINITY,
            centre: fixed.to_world(middle).into(),
            radius: square.sqrt(),
            comparison: Comparison::new(moving, fixed, &start, similarity)?,
            landmarks: None,
            rest: Displacement::zeros(fixed)?,
            slope: Displacement::zeros(fixed)?,
        })
    }

    /// The same for a registration that began at another map: the bounds on overlap and stretch are relative to it.
    #[must_use]
    pub fn with_origin(mut self, origin: &Affine<D>) -> Self {
        self.origin = *origin;
        self.comparison.set_start(origin);
        self
    }

    /// The same with landmarks beside the images: λ/(n L²) Σ |A(p) − q|², with λ beside the similarity's weight of one and
    /// L the largest extent of the fixed image.
    #[must_use]
    pub fn with_landmarks(mut self, landmarks: &Landmarks<D>) -> Self {
        self.landmarks = Some(PointTerm::new(landmarks, self.rest.grid()));
        self
    }

    /// The same with [`Error::Stretched`] for maps that [stretch](AffineObjective::stretch) more than `most`.
    #[must_use]
    pub fn with_most_stretch(mut self, most: f64) -> Self {
        self.most_stretch = most;
        self
    }

    /// How much a map stretches or squeezes, relative to where the registration began: the larger of the largest
    /// singular value of M M₀⁻¹ and one over the smallest.
    #[must_use]
    pub fn stretch(&self, map: &Affine<D>) -> f64 {
        let relative = map.matrix() * self.origin.inverse().matrix();
        let singular = DMatrix::from_fn(D, D, |a, b| relative[(a, b)]).singular_values();
        singular.max().max(1.0 / singular.min())
    }

    /// The loss where the registration began, with the landmarks' term.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn loss_at_origin(&mut self) -> Result<f64> {
        let of_points = |term: &PointTerm<D>| term.value_and_gradient(&self.origin, &self.centre).0;
        let of_points = self.landmarks.as_ref().map_or(0.0, of_points);
        Ok(self.comparison.start_loss()? + of_points)
    }

    /// The control of A₀: zeros, one for each generator and one for each axis of the world.
    #[must_use]
    pub fn rest(&self) -> Vec<f64> {
        vec![0.0; self.generators.len() + D]
    }

    /// The map of a control.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) for another length than that of [`AffineObjective::rest`];
    /// those of [`Affine::new`] where the exponential leaves the finite numbers.
    pub fn map(&self, control: &Vec<f64>) -> Result<Affine<D>> {
        self.rest().expect_like(control)?;
        let (theta, tau) = control.split_at(self.generators.len());
        let [turn, _] = exponential(&self.generator(theta), &SMatrix::zeros());
        let matrix = turn * self.start.matrix();
        let p = SVector::from(self.start.apply(self.centre.into()));
        let tau = SVector::<f64, D>::from_column_slice(tau);
        Affine::new(matrix, p + self.radius * tau - matrix * self.centre)
    }

    /// X = Σ θ_k B_k.
    fn generator(&self, theta: &[f64]) -> SMatrix<f64, D, D> {
        let terms = theta.iter().zip(&self.generators);
        terms.fold(SMatrix::zeros(), |sum, (&theta, b)| sum + b * theta)
    }

    /// Σ_x q f(x) with what a displacement of each point would do, and a weight of the points.
    fn moment(&self, f: impl Fn([f64; D]) -> f64 + Sync) -> SVector<f64, D> {
        let grid = self.slope.grid();
        let (n, q) = (grid.len(), self.slope.data());
        let sums = par::sums(n, |range| {
            range.fold([0.0; D], |sum, i| {
                let weight = f(grid.to_world(grid.unravel(i).map(|i| i as f64)));
                std::array::from_fn(|a| sum[a] + weight * q[a * n + i].f64())
            })
        });
        sums.into()
    }
}

impl<T: Real, const D: usize> Objective<f64> for AffineObjective<T, D> {
    type Control = Vec<f64>;

    fn evaluate(&mut self, control: &Vec<f64>, gradient: &mut Vec<f64>) -> Result<f64> {
        let rest = self.rest();
        rest.expect_like(control)?;
        rest.expect_like(gradient)?;
        let Ok(map) = self.map(control) else {
            // The exponential of so long a step overflows: infinitely high, the search comes back.
            return Ok(f64::INFINITY);
        };
        let (found, most) = (self.stretch(&map), self.most_stretch);
        if found > most {
            return Err(Error::Stretched { found, most });
        }
        let grid = self.rest.grid();
        let warp = Warp::through(self.comparison.moving(), grid, &map);
        let (rest, slope) = (self.rest.data(), self.slope.data_mut());
        let Compared { loss, barrier } = self.comparison.evaluate(&warp, rest, 1.0, slope)?;

        // The slopes are along the fixed grid's axes T and before A: q = (M T)ᵀ (J̄ ∇I₀∘A + ω̄ ∇ω∘A).
        let axes = map.matrix() * grid.direction();
        let Some(back) = axes.transpose().try_inverse() else {
            return Ok(f64::INFINITY);
        };
        let mut shift_bar = back * self.moment(|_| 1.0);
        let columns: [_; D] = std::array::from_fn(|b| {
            let centre = self.centre[b];
            self.moment(|x| x[b] - centre)
        });
        let mut matrix_bar = back * SMatrix::<f64, D, D>::from_columns(&columns);
        let mut of_points = 0.0;
        if let Some(landmarks) = &self.landmarks {
            let (value, bar) = landmarks.value_and_gradient(&map, &self.centre);
            of_points = value;
            matrix_bar += bar.matrix;
            shift_bar += bar.shift;
        }

        let (theta, theta_bar) = (&control[..self.generators.len()], gradient.as_mut_slice());
        let outer = matrix_bar * self.start.matrix().transpose();
        let [_, bar] = exponential(&self.generator(theta).transpose(), &outer);
        let slopes = self.generators.iter().map(|b| b.dot(&bar));
        let slopes = slopes.chain((0..D).map(|a| self.radius * shift_bar[a]));
        theta_bar.iter_mut().zip(slopes).for_each(|(out, slope)| *out = slope);
        Ok(loss + barrier + of_points)
    }
}
