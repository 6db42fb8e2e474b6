//! Pairs of points that the map should join.

use crate::error::{Error, Result, positive};
use crate::grid::Grid;

/// Corresponding points, a term of the energy: λ times the mean squared error, in units of the grid's longest
/// extent L.
///
#[doc = include_str!("../../docs/math/landmarks.html")]
///
/// Φ⁻¹(p) = p + u(p) is read by cubic splines from the map grid, as in
/// [`Displacement::transform_points`](crate::field::Displacement::transform_points). The term has no unit, as the rest of the energy. It is a
/// soft constraint. Beside the default weights of the images, four points of the synthetic pairs that should
/// move by 3 % of L keep 40 % of their error with λ = 0.1, 7 % with 1 and 1 % with 10. A point moves its
/// surroundings as far as the model's Gaussians reach. Cost: 2·4ᴰ reads and writes a point, and two prefilters
/// of the map.
///
/// ```
/// use rdmm_core::evaluate::target_registration_error;
/// use rdmm_core::grid::Grid;
/// use rdmm_core::model::{Lddmm, MultiGaussian};
/// use rdmm_core::registration::{Landmarks, Level, Registration, Settings};
/// use rdmm_core::similarity::Ssd;
/// use rdmm_core::synthetic::Shapes;
///
/// let grid = Grid::<2>::unit([40, 40])?;
/// let pair = Shapes::default().with_outside(1).pair::<f32, 2>(&grid)?;
/// let (fixed, moving) = ([[0.2, 0.2], [0.8, 0.8]], [[0.23, 0.2], [0.8, 0.78]]);
/// let model = Lddmm::new(MultiGaussian::for_grid(&grid));
/// let levels = vec![Level { factor: 1.0, iterations: 10 }];
/// let result = Registration::new(model, Ssd)
///     .with_settings(Settings::default().with_levels(levels))
///     .with_landmarks(Landmarks::new(&fixed, &moving, 100.0)?)
///     .run(&pair.fixed, &pair.moving)?;
/// let errors = target_registration_error(&result.inverse_map, &fixed, &moving)?;
/// assert!(errors.iter().all(|e| *e < 0.01));
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Landmarks<const D: usize> {
    fixed: Vec<[f64; D]>,
    moving: Vec<[f64; D]>,
    weight: f64,
}

impl<const D: usize> Landmarks<D> {
    /// Points of the fixed image and, in the same order, where they lie in the moving image, in world
    /// coordinates, with the weight λ. The registration checks that the fixed points lie in the fixed image.
    ///
    /// # Errors
    /// [`Error::Length`] unless there are as many moving points as fixed ones, at least one;
    /// [`Error::NonFinite`] for coordinates with NaN or infinity; [`Error::Setting`] unless the weight is
    /// finite and positive.
    pub fn new(fixed: &[[f64; D]], moving: &[[f64; D]], weight: f64) -> Result<Self> {
        positive("weight of the landmarks", weight)?;
        if fixed.is_empty() {
            return Err(Error::Length { what: "fixed points", expected: 1, found: 0 });
        }
        if fixed.len() != moving.len() {
            let (expected, found) = (fixed.len(), moving.len());
            return Err(Error::Length { what: "moving points", expected, found });
        }
        for (what, points) in [("fixed points", fixed), ("moving points", moving)] {
            let coordinates = points.as_flattened();
            if let Some(index) = coordinates.iter().position(|x| !x.is_finite()) {
                return Err(Error::NonFinite { what, index, found: coordinates[index] });
            }
        }
        Ok(Self { fixed: fixed.to_vec(), moving: moving.to_vec(), weight })
    }

    /// Points of the fixed image.
    #[must_use]
    pub fn fixed(&self) -> &[[f64; D]] {
        &self.fixed
    }

    /// Points of the moving image.
    #[must_use]
    pub fn moving(&self) -> &[[f64; D]] {
        &self.moving
    }

    /// λ.
    #[must_use]
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// `Ok` if the fixed points lie in `grid`.
    pub(super) fn expect_inside(&self, grid: &Grid<D>) -> Result<()> {
        for (i, &x) in self.fixed.iter().enumerate() {
            let index = grid.to_index(x);
            if !grid.contains_index(index) {
                let found = format!("{x:?} (point {i}, array index {index:?})");
                let expected = "world coordinates inside the fixed image";
                return Err(Error::setting("fixed point", expected, found));
            }
        }
        Ok(())
    }
}
