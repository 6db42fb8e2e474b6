//! Landmarks as a term.

use super::{FinalMaps, MapCotangents, MapTerm};
use crate::error::Result;
use crate::field::Displacement;
use crate::grid::Grid;
use crate::ops::spline::Prefilter;
use crate::ops::warp::Warp;
use crate::registration::landmarks::Landmarks;
use crate::scalar::Real;
use crate::world::Affine;

/// λ times the mean squared error of the landmarks over L², as a function of the map on the map grid.
pub(in crate::registration) struct LandmarkTerm<T: Real, const D: usize> {
    warp: Warp<T, D>,
    prefilter: Prefilter<T, D>,
    /// Array index of each fixed point, and the displacement that it should have, along the grid's axes.
    points: Vec<([f64; D], [f64; D])>,
    /// λ/(n L²).
    scale: f64,
    coefficients: Vec<T>,
    coefficients_bar: Vec<T>,
}

impl<T: Real, const D: usize> LandmarkTerm<T, D> {
    /// With an initial map A, points of the moving image stand where A takes them from: errors are measured in
    /// the fixed image's world.
    pub(in crate::registration) fn new(
        landmarks: &Landmarks<D>,
        grid: &Grid<D>,
        initial: &Affine<D>,
    ) -> Result<Self> {
        landmarks.expect_inside(grid)?;
        let back = initial.inverse();
        let point = |(&p, &q): (&[f64; D], &[f64; D])| {
            let along = grid.direction().transpose()
                * (nalgebra::SVector::from(back.apply(q)) - nalgebra::SVector::from(p));
            (grid.to_index(p), along.into())
        };
        let points: Vec<_> = landmarks.fixed().iter().zip(landmarks.moving()).map(point).collect();
        let blank = || Displacement::<T, D>::zeros(grid).map(Displacement::into_vec);
        Ok(Self {
            warp: Warp::new(grid, grid),
            prefilter: Prefilter::new(grid),
            scale: landmarks.weight() / (points.len() as f64 * grid.largest_extent().powi(2)),
            points,
            coefficients: blank()?,
            coefficients_bar: blank()?,
        })
    }

    /// λ times the mean squared error over L² of the map u; adds its gradient to `u_bar`.
    fn value_and_gradient(&mut self, u: &[T], u_bar: &mut [T]) -> f64 {
        self.prefilter.interleaved::<D>(u, &mut self.coefficients);
        self.coefficients_bar.fill(T::zero());
        let mut sum = 0.0;
        for (index, wanted) in &self.points {
            let u: [T; D] = self.warp.at_index(&self.coefficients, *index);
            let off: [f64; D] = std::array::from_fn(|a| u[a].f64() - wanted[a]);
            sum += off.iter().map(|x| x * x).sum::<f64>();
            let bar = off.map(|x| T::of(2.0 * self.scale * x));
            self.warp.at_index_vjp(*index, bar, &mut self.coefficients_bar);
        }
        self.prefilter.add_transposed::<D>(&mut self.coefficients_bar, u_bar);
        self.scale * sum
    }
}

impl<T: Real, const D: usize> MapTerm<T, D> for LandmarkTerm<T, D> {
    fn add(&mut self, maps: &FinalMaps<'_, T, D>, bars: &mut MapCotangents<T, D>) -> Result<f64> {
        let (u, bar) = (maps.inverse_on_map_grid, bars.inverse_on_map_grid.sum_mut()?);
        Ok(self.value_and_gradient(u.data(), bar.data_mut()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::evaluate::target_registration_error;
    use crate::grid::Boundary;
    use crate::testing::random;

    fn turned(boundary: Boundary) -> Grid<2> {
        let turn = nalgebra::SMatrix::<f64, 2, 2>::new(0.6, -0.8, 0.8, 0.6);
        Grid::new([7, 9], [2.0, 1.5])
            .and_then(|grid| grid.with_origin([5.0, -3.0]))
            .and_then(|grid| grid.with_direction(turn))
            .unwrap()
            .with_boundary(boundary)
    }

    /// Points between voxels, on one, and in the outer half of an outermost one.
    fn points(grid: &Grid<2>) -> Landmarks<2> {
        let fixed = [[2.3, 4.8], [3.0, 5.0], [-0.4, 8.3]].map(|index| grid.to_world(index));
        Landmarks::new(&fixed, &[[6.0, 2.0], [1.0, 4.0], [-2.0, 1.0]], 3.0).unwrap()
    }

    #[test]
    fn the_value_is_the_mean_squared_landmark_error() {
        for boundary in Boundary::ALL {
            let grid = turned(boundary);
            let landmarks = points(&grid);
            let map = Displacement::<f64, 2>::from_vec(&grid, random(126, 1)).unwrap();
            let errors =
                target_registration_error(&map, landmarks.fixed(), landmarks.moving()).unwrap();
            let mean = errors.iter().map(|e| e * e).sum::<f64>() / 3.0;
            let mut term =
                LandmarkTerm::<f64, 2>::new(&landmarks, &grid, &Affine::identity()).unwrap();
            let value = term.value_and_gradient(map.data(), &mut [0.0; 126]);
            // L = 14; rounding.
            assert!((value - 3.0 * mean / 196.0).abs() < 1e-14 * value);
        }
    }

    #[test]
    fn errors_are_measured_from_where_an_initial_map_takes_points_of_the_moving_image() {
        let (grid, landmarks) =
            (turned(Boundary::Reflecting), points(&turned(Boundary::Reflecting)));
        let map = Displacement::<f64, 2>::from_vec(&grid, random(126, 1)).unwrap();
        let initial = Affine::from_rows([[1.2, 0.3], [-0.1, 0.9]], [4.0, -7.0]).unwrap();
        let back = initial.inverse();
        let taken: Vec<_> = landmarks.moving().iter().map(|&q| back.apply(q)).collect();
        let errors = target_registration_error(&map, landmarks.fixed(), &taken).unwrap();
        let mean = errors.iter().map(|e| e * e).sum::<f64>() / 3.0;
        let mut term = LandmarkTerm::<f64, 2>::new(&landmarks, &grid, &initial).unwrap();
        let value = term.value_and_gradient(map.data(), &mut [0.0; 126]);
        // L = 14; rounding.
        assert!((value - 3.0 * mean / 196.0).abs() < 1e-13 * value);
    }

    #[test]
    fn the_gradient_equals_differences_and_adds() {
        for boundary in Boundary::ALL {
            let grid = turned(boundary);
            let mut term =
                LandmarkTerm::<f64, 2>::new(&points(&grid), &grid, &Affine::identity()).unwrap();
            let mut u: Vec<f64> = random(126, 1);
            let mut gradient = vec![2.0; 126];
            term.value_and_gradient(&u, &mut gradient);
            for i in 0..126 {
                let x = u[i];
                let mut at = |e: f64| {
                    u[i] = x + e;
                    let value = term.value_and_gradient(&u, &mut [0.0; 126]);
                    u[i] = x;
                    value
                };
                // The term is quadratic: central differences are exact but for rounding, 1e-16 / 1e-2.
                let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
                assert!((numeric - (gradient[i] - 2.0)).abs() < 1e-13, "{boundary:?} {i}");
            }
            // Maps that meet the points have no gradient.
            let largest = gradient.iter().fold(0.0_f64, |m, g| m.max((g - 2.0).abs()));
            assert!(largest > 1e-3);
        }
    }

    #[test]
    fn a_map_that_joins_the_points_is_a_minimum() {
        let grid = turned(Boundary::Reflecting);
        let fixed = [[2.3, 4.8], [3.0, 5.0]].map(|index| grid.to_world(index));
        let moving = fixed.map(|[x, y]| [x + 1.0, y - 0.5]);
        let landmarks = Landmarks::new(&fixed, &moving, 1.0).unwrap();
        let along = grid.direction().transpose() * nalgebra::SVector::from([1.0, -0.5]);
        let u = Displacement::<f64, 2>::from_fn(&grid, |_| along.into()).unwrap();
        let (mut double, mut bar) = (
            LandmarkTerm::<f64, 2>::new(&landmarks, &grid, &Affine::identity()).unwrap(),
            [0.0; 126],
        );
        // Splines keep a constant to rounding.
        assert!(double.value_and_gradient(u.data(), &mut bar) < 1e-28);
        assert!(bar.iter().all(|b| b.abs() < 1e-14));
    }

    #[test]
    fn single_precision_agrees_with_double() {
        let grid = turned(Boundary::Reflecting);
        let (mut g, mut g32) = (vec![0.0; 126], vec![0.0; 126]);
        let mut double =
            LandmarkTerm::<f64, 2>::new(&points(&grid), &grid, &Affine::identity()).unwrap();
        let mut single =
            LandmarkTerm::<f32, 2>::new(&points(&grid), &grid, &Affine::identity()).unwrap();
        let value = double.value_and_gradient(&random(126, 1), &mut g);
        let value32 = single.value_and_gradient(&random(126, 1), &mut g32);
        // A few roundings of 6e-8.
        assert!((value - value32).abs() < 1e-5 * value);
        assert!(g.iter().zip(&g32).all(|(a, b)| (a - f64::from(*b)).abs() < 1e-6));
    }

    #[test]
    fn bad_landmarks_are_refused() {
        let (p, q) = ([[0.0, 1.0], [2.0, 3.0]], [[0.5, 1.0], [2.0, 2.0]]);
        for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = Landmarks::new(&p, &q, weight).err();
            assert!(matches!(error, Some(Error::Setting { name: "weight of the landmarks", .. })));
        }
        let length = |what, expected, found| Some(Error::Length { what, expected, found });
        assert_eq!(Landmarks::<2>::new(&[], &[], 1.0).err(), length("fixed points", 1, 0));
        assert_eq!(Landmarks::new(&p, &q[..1], 1.0).err(), length("moving points", 2, 1));
        for bad in [f64::NAN, f64::INFINITY] {
            let spoilt = [[0.0, 1.0], [bad, 3.0]];
            let fixed = Landmarks::new(&spoilt, &q, 1.0).err();
            assert!(matches!(fixed, Some(Error::NonFinite { what: "fixed points", index: 2, .. })));
            let moving = Landmarks::new(&p, &spoilt, 1.0).err();
            assert!(matches!(moving, Some(Error::NonFinite { what: "moving points", .. })));
        }
        let grid = turned(Boundary::Reflecting);
        let far = Landmarks::new(&[grid.to_world([3.0, 8.6])], &[[0.0, 0.0]], 1.0).unwrap();
        let error = LandmarkTerm::<f64, 2>::new(&far, &grid, &Affine::identity()).err();
        assert!(matches!(error, Some(Error::Setting { name: "fixed point", .. })));
        let repeating = turned(Boundary::Periodic);
        assert!(LandmarkTerm::<f64, 2>::new(&far, &repeating, &Affine::identity()).is_ok());
    }
}
