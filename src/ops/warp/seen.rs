//! What of a target its source shows.
//!
//! A point with the index y in the source counts by ω(y) = Π_a s(y_a): 1 between the outermost voxels, and falling to 0
//! over one voxel beyond them, by s = 1 − d² (3 − 2 d) at the distance d. Nothing lies beyond a periodic axis.

use super::Warp;
use super::blocks::Points;
use super::taps::{LANES, Lane};
use crate::grid::Boundary;
use crate::ops::or_nan;
use crate::par;
use crate::scalar::Real;

impl<T: Real, const D: usize> Warp<T, D> {
    /// `out` ← ω at the displaced voxels, how far the source shows them: 1 between its outermost voxels, falling to 0
    /// over one voxel beyond, with a continuous derivative. 1 everywhere where the source is periodic.
    ///
    /// One pass over u.
    ///
    /// ```
    /// use rdmm_core::{grid::Grid, ops::warp::Warp};
    /// let grid = Grid::new([8], [2.0])?;
    /// let mut seen = [0.0; 8];
    /// Warp::new(&grid, &grid).seen(&[3.0; 8], &mut seen); // 1½ voxels
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

    /// Along each axis the positions, and how far they are beyond the outermost voxels, up to 1.
    #[inline(always)]
    fn beyond(&self, positions: &[Lane<T>; D]) -> [(Lane<T>, Lane<T>); D] {
        std::array::from_fn(|a| {
            let last = T::of((self.places.source.shape[a] - 1) as f64);
            let position = positions[a];
            (position, position.map(|y| (-y).max(y - last).max(T::zero()).min(T::one())))
        })
    }
}

/// s at a distance from 0 to 1.
#[inline(always)]
fn along<T: Real>(d: T) -> T {
    T::one() - d * d * (T::of(3.0) - T::of(2.0) * d)
}

/// ∂ω/∂y of a point, from its index and its distance along each axis.
fn slopes<T: Real, const D: usize>(point: [(T, T); D]) -> [T; D] {
    std::array::from_fn(|a| {
        let (y, d) = point[a];
        let outwards = if y < T::zero() { -T::one() } else { T::one() };
        let own = -T::of(6.0) * d * (T::one() - d) * outwards;
        (0..D).filter(|&b| b != a).fold(own, |product, b| product * along(point[b].1))
    })
}
