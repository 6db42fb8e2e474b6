//! What of a target its source shows.
//!
//! A point with the index y in the source counts by ω(y) = Π_a s(y_a): 1 between the outermost voxels, and falling to 0
//! over one voxel beyond the faces of the image, half a voxel farther out, by s = 1 − d³ (10 − 15 d + 6 d²) at the distance
//! d from a face: the first two derivatives are continuous, and a displacement of less than half a voxel changes nothing
//! for an image on its own grid. Nothing lies beyond a periodic axis.

use super::Warp;
use super::blocks::Points;
use super::taps::{LANES, Lane};
use crate::grid::Boundary;
use crate::ops::or_nan;
use crate::par;
use crate::scalar::Real;

impl<T: Real, const D: usize> Warp<T, D> {
    /// `out` ← ω at the displaced voxels, how far the source shows them: 1 between its faces, half a voxel beyond its
    /// outermost voxels, and falling to 0 over one voxel from there, with two continuous derivatives. 1 everywhere where
    /// the source is periodic.
    ///
    /// One pass over u.
    ///
    /// ```
    /// use rdmm_core::{grid::Grid, ops::warp::Warp};
    /// let grid = Grid::new([8], [2.0])?;
    /// let mut seen = [0.0; 8];
    /// Warp::new(&grid, &grid).seen(&[4.0; 8], &mut seen); // two voxels
    /// assert_eq!(seen, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.0]);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    #[inline(never)]
    pub fn seen(&self, u: &[T], out: &mut [T]) {
        let n = self.places.target.len();
        if !or_nan(u.len() == D * n && out.len() == n, out) {
            return;
        }
        if self.places.source.boundary == Boundary::Periodic {
            out.fill(T::one());
            return;
        }
        let u = self.split(u);
        par::chunks(out, |lo, out| {
            let points = Points { places: &self.places, u, lo, len: out.len() };
            points.each_run(
                #[inline(always)]
                |k, count, positions| {
                    let mut seen = [T::one(); LANES];
                    for (_, distance) in self.beyond(positions) {
                        for l in 0..LANES {
                            seen[l] *= along(distance[l]);
                        }
                    }
                    out[k..][..count].copy_from_slice(&seen[..count]);
                },
            );
        });
    }

    /// Transpose of the derivative of [`Warp::seen`]: `u_bar_a += bar ∂ω/∂u_a`.
    #[inline(never)]
    pub fn seen_vjp(&self, u: &[T], bar: &[T], u_bar: &mut [T]) {
        let n = self.places.target.len();
        let fits = u.len() == D * n && bar.len() == n && u_bar.len() == D * n;
        if !or_nan(fits, u_bar) || self.places.source.boundary == Boundary::Periodic {
            return;
        }
        let u = self.split(u);
        par::zipped(par::split::<T, D>(u_bar, n), |lo, mut out| {
            let len = out.first().map_or(0, |chunk| chunk.len());
            let points = Points { places: &self.places, u, lo, len };
            points.each_run(
                #[inline(always)]
                |k, count, positions| {
                    let beyond = self.beyond(positions);
                    let none = |(_, distance): &(Lane<T>, Lane<T>)| {
                        distance.iter().all(|&d| d <= T::zero())
                    };
                    if beyond.iter().all(none) {
                        return;
                    }
                    for l in 0..count {
                        let by_index: [T; D] = slopes(std::array::from_fn(|a| {
                            let (position, distance) = &beyond[a];
                            (position[l], distance[l])
                        }));
                        for b in 0..D {
                            let slope = (0..D).fold(T::zero(), |sum, a| {
                                sum + self.places.scale[a][b] * by_index[a]
                            });
                            out[b][k + l] += bar[lo + k + l] * slope;
                        }
                    }
                },
            );
        });
    }

    /// Along each axis the positions, and how far they are beyond the faces, up to 1.
    #[inline(always)]
    fn beyond(&self, positions: &[Lane<T>; D]) -> [(Lane<T>, Lane<T>); D] {
        std::array::from_fn(|a| {
            let last = T::of((self.places.source.shape[a] - 1) as f64);
            let (position, half) = (positions[a], T::of(0.5));
            (position, position.map(|y| ((-y).max(y - last) - half).max(T::zero()).min(T::one())))
        })
    }
}

/// s at a distance from 0 to 1.
#[inline(always)]
fn along<T: Real>(d: T) -> T {
    T::one() - d * d * d * (T::of(10.0) - d * (T::of(15.0) - T::of(6.0) * d))
}

/// ∂ω/∂y of a point, from its index and its distance along each axis.
fn slopes<T: Real, const D: usize>(point: [(T, T); D]) -> [T; D] {
    std::array::from_fn(|a| {
        let (y, d) = point[a];
        let outwards = if y < T::zero() { -T::one() } else { T::one() };
        let rest = d * (T::one() - d);
        let own = -T::of(30.0) * rest * rest * outwards;
        (0..D).filter(|&b| b != a).fold(own, |product, b| product * along(point[b].1))
    })
}

#[cfg(test)]
mod tests {
    use nalgebra::{SMatrix, SVector};

    use super::*;
    use crate::grid::Grid;
    use crate::testing::random;
    use crate::world::Affine;

    /// A source, a larger target, and a turned, stretched map between them.
    fn warp<const D: usize>(boundary: Boundary) -> (Warp<f64, D>, Grid<D>) {
        let shape = |n: usize| std::array::from_fn(|a| n + a);
        let source = Grid::new(shape(5), [0.8; D]).unwrap().with_boundary(boundary);
        let target = Grid::new(shape(13), [0.5; D]).unwrap();
        let off = 0.1 * SMatrix::<f64, D, D>::from_column_slice(&random::<f64>(D * D, 1));
        let matrix = SMatrix::identity() + off;
        let affine = Affine::new(matrix, SVector::from_element(-0.9)).unwrap();
        (Warp::through(&source, &target, &affine), target)
    }

    /// ω by its definition, at a point in voxels of the source.
    fn defined<const D: usize>(y: [f64; D], shape: [usize; D]) -> f64 {
        let along = |a: usize| {
            let d = ((-y[a]).max(y[a] - (shape[a] - 1) as f64) - 0.5).clamp(0.0, 1.0);
            1.0 - 10.0 * d.powi(3) + 15.0 * d.powi(4) - 6.0 * d.powi(5)
        };
        (0..D).map(along).product()
    }

    fn check<const D: usize>() {
        let (warp, target) = warp::<D>(Boundary::Reflecting);
        let n = target.len();
        let u: Vec<f64> = random::<f64>(D * n, 2).iter().map(|x| 0.9 * x).collect();
        let mut seen = vec![f64::NAN; n];
        warp.seen(&u, &mut seen);
        let (places, mut kinds) = (&warp.places, [0; 3]);
        for (i, &found) in seen.iter().enumerate() {
            let index = target.unravel(i);
            let y = std::array::from_fn(|a| {
                let along = (0..D).map(|b| {
                    places.base[a][b] * index[b] as f64 + places.scale[a][b] * u[b * n + i]
                });
                places.offset[a] + along.sum::<f64>()
            });
            // Rounding of positions of about ten.
            assert!((found - defined(y, places.source.shape)).abs() < 1e-13);
            kinds[if found <= 0.0 { 0 } else { 1 + usize::from(found >= 1.0) }] += 1;
        }
        assert!(kinds.iter().all(|&count| count > 0), "{kinds:?}");

        let (bar, mut u_bar) = (random::<f64>(n, 3), vec![0.25; D * n]);
        warp.seen_vjp(&u, &bar, &mut u_bar);
        let loss = |u: &[f64]| {
            let mut seen = vec![0.0; n];
            warp.seen(u, &mut seen);
            crate::field::dot(&seen, &bar)
        };
        let (mut moved, e) = (u.clone(), 1e-5);
        for k in 0..D * n {
            moved[k] = u[k] + e;
            let above = loss(&moved);
            moved[k] = u[k] - e;
            let slope = (above - loss(&moved)) / (2.0 * e);
            moved[k] = u[k];
            // Truncation, e² = 1e-10 of third derivatives of 60 a voxel³ along axes of 0.8, and rounding 1e-16/e.
            assert!((slope - (u_bar[k] - 0.25)).abs() < 1e-7, "{k}: {slope} {}", u_bar[k] - 0.25);
        }
    }

    #[test]
    fn what_is_seen_is_as_defined_and_has_its_derivative() {
        check::<1>();
        check::<2>();
        check::<3>();
    }

    #[test]
    fn nothing_lies_beyond_a_periodic_grid_and_all_of_an_image_is_seen_by_itself() {
        let (warp, target) = warp::<2>(Boundary::Periodic);
        let (u, mut u_bar) = (random::<f64>(2 * target.len(), 2), vec![0.0; 2 * target.len()]);
        let mut seen = vec![f64::NAN; target.len()];
        warp.seen(&u, &mut seen);
        warp.seen_vjp(&u, &seen, &mut u_bar);
        assert!(
            seen.iter().all(|x| x.to_bits() == 1.0_f64.to_bits())
                && u_bar.iter().all(|&x| x == 0.0)
        );

        let grid = Grid::new([7, 20], [0.3, 1.7]).unwrap().with_origin([10.0, -3.0]).unwrap();
        let mut seen = vec![f32::NAN; 140];
        Warp::<f32, 2>::new(&grid, &grid).seen(&[0.0; 280], &mut seen);
        assert!(seen.iter().all(|x| x.to_bits() == 1.0_f32.to_bits()));
        Warp::<f32, 2>::new(&grid, &grid).seen(&[0.0; 279], &mut seen);
        assert!(seen.iter().all(|x| x.is_nan()), "another length");
    }
}
