//! What a map does: to images, labels, points, and other maps.
//!
//! The methods of [`Displacement`] that need more than its values: they read images, labels and maps in the world, so
//! that each may have its own grid. The operators on slices behind them, with their transposes, are in
//! [`ops`](crate::ops).

use nalgebra::SVector;

use crate::error::{Error, Result};
use crate::field::{Displacement, Image, WorldDisplacement};
use crate::grid::{Boundary, Grid};
use crate::labels::Labels;
use crate::ops::inverse::{Interpolation, Inverse};
use crate::ops::jacobian::jacobian_determinant;
use crate::ops::spline::Prefilter;
use crate::ops::warp::{Warp, warp};
use crate::par;
use crate::scalar::Real;

/// How far from its point the inverse map may end, in voxels: what is left is far below the error of the
/// interpolation of either map.
const INVERSE: f64 = 1e-4;

/// Whether an axis of `n` voxels has a voxel at the index `i`: half a voxel around the centres, to rounding.
fn shown(i: f64, n: usize) -> bool {
    let reach = 0.5 + 1e-3;
    i >= -reach && i <= n as f64 - 1.0 + reach
}

impl<T: Real, const D: usize> Displacement<T, D> {
    /// `image` read at x + u(x) by cubic splines, on the grid of the map: I∘Φ for the map Φ = id + u. With the
    /// inverse map of a registration this is the moving image as the fixed one. The two grids may differ; points
    /// beyond the image read its mirrored or repeated values. 4ᴰ reads a voxel, after one prefilter of the image.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for NaN or infinity in image or map; [`Error::OutOfMemory`].
    ///
    /// ```
    /// use rdmm_core::field::{Displacement, Image};
    /// use rdmm_core::grid::Grid;
    /// let grid = Grid::new([8, 8], [1.0, 1.0])?;
    /// let image = Image::<f64, 2>::from_fn(&grid, |x| x[0] * x[0])?;
    /// let map = Displacement::from_fn(&grid, |_| [1.0, 0.0])?;
    /// assert!((map.warp(&image)?.data()[3 * 8] - 16.0).abs() < 1e-12);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn warp(&self, image: &Image<T, D>) -> Result<Image<T, D>> {
        warp(image, self)
    }

    /// Like [`Displacement::warp`], with `fill` where the map leads beyond the image
    /// ([`Displacement::leads_onto`]): nothing is known there.
    ///
    /// # Errors
    /// Those of [`Displacement::warp`].
    ///
    /// ```
    /// use rdmm_core::field::{Displacement, Image};
    /// use rdmm_core::grid::Grid;
    /// let grid = Grid::new([8], [1.0])?;
    /// let image = Image::<f64, 1>::from_fn(&grid, |_| 5.0)?;
    /// let map = Displacement::from_fn(&grid, |_| [2.4])?;
    /// let warped = map.warp_filled(&image, -1.0)?;
    /// assert!((warped.data()[5] - 5.0).abs() < 1e-12 && warped.data()[6] == -1.0);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn warp_filled(&self, image: &Image<T, D>, fill: f64) -> Result<Image<T, D>> {
        let mut warped = self.warp(image)?;
        let onto = self.leads_onto(image.grid());
        par::chunks(warped.data_mut(), |lo, out| {
            for (i, out) in (lo..).zip(out) {
                if !onto(i) {
                    *out = T::of(fill);
                }
            }
        });
        Ok(warped)
    }

    /// Whether the map leads from a voxel of its grid, given by its flat index, onto `grid`: between the outer faces of
    /// its outermost voxels, half a voxel from their centres, or a thousandth of a voxel beyond. Nothing lies beyond a
    /// periodic grid.
    pub fn leads_onto<'a>(&'a self, grid: &'a Grid<D>) -> impl Fn(usize) -> bool + Sync + 'a {
        let own = self.grid();
        let periodic = grid.boundary() == Boundary::Periodic;
        move |flat| {
            let along = SVector::<f64, D>::from_fn(|a, _| self.component(a)[flat].f64());
            let x = SVector::from(own.to_world(own.unravel(flat).map(|i| i as f64)));
            let index = grid.to_index((x + own.direction() * along).into());
            periodic || index.iter().zip(grid.shape()).all(|(&i, n)| shown(i, n))
        }
    }

    /// `labels` read at x + u(x), on the grid of the map: at each voxel the label whose interpolated indicator is
    /// largest, the smaller label on a tie. One warp a label.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for NaN or infinity in the map; [`Error::OutOfMemory`].
    ///
    /// ```
    /// use rdmm_core::{field::Displacement, grid::Grid, labels::Labels};
    /// let grid = Grid::new([8, 8], [1.0, 1.0])?;
    /// let labels = Labels::from_vec(&grid, (0..64).map(|i| u32::from(i / 8 > 4)).collect())?;
    /// let map = Displacement::<f32, 2>::from_fn(&grid, |_| [2.0, 0.0])?;
    /// assert_eq!(map.warp_labels(&labels)?.data()[3 * 8], 1);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    #[inline(never)]
    pub fn warp_labels(&self, labels: &Labels<D>) -> Result<Labels<D>> {
        self.expect_finite("map")?;
        let (source, target) = (labels.grid(), self.grid());
        let (warp, prefilter) = (Warp::new(source, target), Prefilter::new(source));
        let mut best = vec![0; target.len()];
        let mut largest = Image::<T, D>::zeros(target)?;
        let mut value = Image::<T, D>::zeros(target)?;
        largest.data_mut().fill(T::neg_infinity());
        for label in std::iter::once(0).chain(labels.classes()) {
            let mut indicator = labels.indicator::<T>(label)?;
            prefilter.apply(indicator.data_mut());
            warp.values::<1>(indicator.data(), self.data(), value.data_mut());
            for ((best, largest), &x) in best.iter_mut().zip(largest.data_mut()).zip(value.data()) {
                if x > *largest {
                    (*best, *largest) = (label, x);
                }
            }
        }
        Labels::from_vec(target, best)
    }

    /// Where the map takes points: x + u(x) in world coordinates, u interpolated by cubic splines and turned into
    /// the world by the grid's direction. The forward map of a registration takes points of the moving image to
    /// the fixed one, the inverse map those of the fixed image to the moving one.
    ///
    /// `points` are world coordinates inside the map's grid, its outer voxels included. 4ᴰ reads a point, after one
    /// prefilter of u; for points one by one, or beyond the grid, see [`PointMap`].
    ///
    /// # Errors
    /// [`Error::Setting`] for a point outside the grid, where the map is not known; points of periodic
    /// grids only need to be finite. [`Error::NonFinite`] for NaN or infinity in the map;
    /// [`Error::OutOfMemory`].
    ///
    /// # References
    /// Thévenaz, Blu, Unser, *Interpolation revisited*, IEEE Trans. Med. Imaging 19 (2000),
    /// doi:10.1109/42.875199.
    ///
    /// ```
    /// use rdmm_core::{field::Displacement, grid::Grid};
    /// let grid = Grid::new([16, 16], [2.0, 2.0])?;
    /// let map = Displacement::<f64, 2>::from_fn(&grid, |_| [3.0, 0.0])?;
    /// let moved = map.transform_points(&[[10.0, 12.0]])?;
    /// assert!((moved[0][0] - 13.0).abs() < 1e-12 && (moved[0][1] - 12.0).abs() < 1e-12);
    /// assert!(map.transform_points(&[[-5.0, 0.0]]).is_err());
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn transform_points(&self, points: &[[f64; D]]) -> Result<Vec<[f64; D]>> {
        let (grid, map) = (self.grid(), PointMap::new(self)?);
        let moved = |(i, &x): (usize, &[f64; D])| {
            let index = grid.to_index(x);
            if !grid.contains_index(index) {
                let found = format!("{x:?} (point {i}, array index {index:?})");
                return Err(Error::setting("point", "world coordinates inside the grid", found));
            }
            let y = map.apply(x);
            if !y.iter().all(|y| y.is_finite()) {
                let found = format!("{x:?} (point {i})");
                return Err(Error::setting(
                    "point",
                    "world coordinates that can be indexed",
                    found,
                ));
            }
            Ok(y)
        };
        points.iter().enumerate().map(moved).collect()
    }

    /// det D(id + u) at every voxel, by second-order central differences: the factor by which the map changes
    /// volumes; zero or less where it folds. One pass; see
    /// [`ops::jacobian`](crate::ops::jacobian::jacobian_determinant).
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    ///
    /// ```
    /// use rdmm_core::{field::Displacement, grid::Grid};
    /// let grid = Grid::new([8, 8], [1.0, 1.0])?;
    /// let stretch = Displacement::<f64, 2>::from_fn(&grid, |x| [0.5 * x[0], 0.0])?;
    /// assert!((stretch.jacobian_determinant()?.data()[3 * 8 + 3] - 1.5).abs() < 1e-12);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn jacobian_determinant(&self) -> Result<Image<T, D>> {
        jacobian_determinant(self)
    }

    /// The inverse map as a displacement of the voxels of `grid`: for each y the x with x + u(x) = y, u by cubic
    /// splines, to 1e-4 of a voxel; [`Inverse`] takes another tolerance. A few reads of the map a voxel.
    ///
    /// # Errors
    /// [`Error::NotInvertible`] for a map that folds, [`Error::Inverse`] where the tolerance is not reached,
    /// [`Error::NonFinite`] for NaN or infinity in the map, [`Error::OutOfMemory`].
    ///
    /// ```
    /// use rdmm_core::{field::Displacement, grid::Grid};
    /// let grid = Grid::new([16, 16], [1.0, 1.0])?;
    /// let map = Displacement::<f64, 2>::from_fn(&grid, |x| [(0.4 * x[1]).sin(), 0.0])?;
    /// let inverse = map.inverse(&grid)?;
    /// let round = map.compose(&inverse)?;
    /// assert!((0..256).all(|i| round.component(0)[i].abs() < 1e-3));
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn inverse(&self, grid: &Grid<D>) -> Result<Self> {
        Inverse::new(self.clone(), Interpolation::Cubic, INVERSE)?.displacement(grid)
    }

    /// The composition (self∘other)(x) = self(other(x)), `other` first, as a displacement of the voxels of `other`,
    /// along the axes of its grid:
    ///
    /// u(x) = u_other(x) + u_self(x + u_other(x)),
    ///
    /// u_self by cubic splines. An image that is read through both, I∘self∘other, is `self.compose(&other)` of it,
    /// interpolated once. Beyond the grid of `self` its mirrored or repeated displacement counts. 4ᴰ reads a voxel,
    /// after one prefilter of u_self.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for NaN or infinity in either map, and where a point is carried too far to be indexed;
    /// [`Error::OutOfMemory`].
    ///
    /// ```
    /// use rdmm_core::{field::Displacement, grid::Grid};
    /// let grid = Grid::new([8, 8], [1.0, 1.0])?;
    /// let double = Displacement::<f64, 2>::from_fn(&grid, |x| [x[0], 0.0])?; // x ↦ 2x
    /// let shift = Displacement::from_fn(&grid, |_| [1.0, 0.0])?; // x ↦ x + 1
    /// let at_three = |u: Displacement<f64, 2>| 3.0 + u.component(0)[3 * 8];
    /// assert!((at_three(double.compose(&shift)?) - 8.0).abs() < 0.1); // 2 (3 + 1)
    /// assert!((at_three(shift.compose(&double)?) - 7.0).abs() < 1e-12); // 2 · 3 + 1
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn compose(&self, other: &Self) -> Result<Self> {
        self.expect_finite("outer map")?;
        other.expect_finite("inner map")?;
        let (source, target, n) = (self.grid(), other.grid(), other.grid().len());
        let mut coefficients = vec![T::zero(); self.data().len()];
        Prefilter::new(source).interleaved::<D>(self.data(), &mut coefficients);
        let mut out = Self::zeros(target)?;
        Warp::new(source, target).values::<D>(&coefficients, other.data(), out.data_mut());
        let turn = target.direction().transpose() * source.direction();
        if source.direction() != target.direction() {
            let along = out.clone();
            par::components(out.data_mut(), n, |a, lo, chunk| {
                for (k, out) in chunk.iter_mut().enumerate() {
                    let term = |b: usize| turn[(a, b)] * along.component(b)[lo + k].f64();
                    *out = T::of((0..D).map(term).sum());
                }
            });
        }
        par::components(out.data_mut(), n, |a, lo, chunk| {
            for (out, &first) in chunk.iter_mut().zip(&other.component(a)[lo..]) {
                *out = first + *out;
            }
        });
        out.expect_finite("composition of the maps")?;
        Ok(out)
    }

    /// The same map with its vectors along the axes of the world, as files of other programs hold them: component
    /// `c` is the displacement along world axis `c`. The voxels stay where they are. One pass.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    ///
    /// ```
    /// use rdmm_core::{field::Displacement, grid::Grid};
    /// // Axis 0 of the array points along world axis 1, axis 1 against world axis 0.
    /// let grid = Grid::new([4, 4], [1.0, 1.0])?.with_axes([[0.0, 1.0], [-1.0, 0.0]])?;
    /// let map = Displacement::<f64, 2>::from_fn(&grid, |_| [2.0, 5.0])?;
    /// let world = map.to_world()?;
    /// assert_eq!((world.component(0)[0], world.component(1)[0]), (-5.0, 2.0));
    /// assert_eq!(Displacement::from_world(&world)?, map);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn to_world(&self) -> Result<WorldDisplacement<T, D>> {
        let axes = *self.grid().direction();
        let mut world = WorldDisplacement::zeros(self.grid())?;
        turned::<T, D>(self.data(), world.data_mut(), |a, b| axes[(a, b)]);
        Ok(world)
    }

    /// The map of vectors along the axes of the world: the opposite of [`Displacement::to_world`].
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn from_world(world: &WorldDisplacement<T, D>) -> Result<Self> {
        let axes = *world.grid().direction();
        let mut map = Self::zeros(world.grid())?;
        turned::<T, D>(world.data(), map.data_mut(), |a, b| axes[(b, a)]);
        Ok(map)
    }

    /// The displacement of the voxels of `grid` by a map of the world, given by where it takes points: `f` of the
    /// world coordinates of a voxel gives world coordinates. Points are mapped in parallel.
    ///
    /// # Errors
    /// That of `f` at the first voxel where it fails, for which it is called twice; [`Error::NonFinite`] where points leave the numbers
    /// of `T`; [`Error::OutOfMemory`].
    ///
    /// ```
    /// use rdmm_core::{field::Displacement, grid::Grid};
    /// let grid = Grid::new([4, 4], [1.0, 1.0])?.with_origin([10.0, 0.0])?;
    /// let double = Displacement::<f64, 2>::from_map(&grid, |x| Ok(x.map(|x| 2.0 * x)))?;
    /// assert_eq!(double.component(0)[4], 11.0);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn from_map(
        grid: &Grid<D>,
        f: impl Fn([f64; D]) -> Result<[f64; D]> + Sync,
    ) -> Result<Self> {
        let (mut map, n) = (Self::zeros(grid)?, grid.len());
        let back = grid.direction().transpose();
        let voxel = |flat: usize| grid.to_world(grid.unravel(flat).map(|i| i as f64));
        par::zipped(par::split::<T, D>(map.data_mut(), n), |lo, mut out| {
            for k in 0..out.first().map_or(0, |out| out.len()) {
                let x = voxel(lo + k);
                let along = f(x).map(|y| back * (SVector::from(y) - SVector::from(x)));
                for (a, out) in out.iter_mut().enumerate() {
                    out[k] = along.as_ref().map_or(T::nan(), |along| T::of(along[a]));
                }
            }
        });
        // Only points that failed are NaN: the first one says why.
        if let Some(flat) = map.data().iter().position(|u| u.is_nan()) {
            f(voxel(flat % n))?;
        }
        map.expect_finite("displacement")?;
        Ok(map)
    }
}

/// The vectors of `from` with each component a the sum of `turn(a, b)` times component b.
fn turned<T: Real, const D: usize>(
    from: &[T],
    to: &mut [T],
    turn: impl Fn(usize, usize) -> f64 + Sync,
) {
    let n = to.len() / D.max(1);
    par::components(to, n, |a, lo, chunk| {
        for (k, out) in chunk.iter_mut().enumerate() {
            let term = |b: usize| turn(a, b) * from[b * n + lo + k].f64();
            *out = T::of((0..D).map(term).sum());
        }
    });
}

/// A map at single points: x + u(x) in world coordinates, u by cubic splines. Beyond the border the mirrored or
/// repeated displacement counts. Holds the coefficients of the splines, as large as u.
///
/// ```
/// use rdmm_core::{field::Displacement, grid::Grid, maps::PointMap};
/// let map = Displacement::<f64, 2>::from_fn(&Grid::new([8, 8], [1.0, 1.0])?, |_| [0.5, 0.0])?;
/// let map = PointMap::new(&map)?;
/// assert!((map.apply([3.2, 1.0])[0] - 3.7).abs() < 1e-12);
/// assert!((map.apply([20.0, 1.0])[0] - 20.5).abs() < 1e-12);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct PointMap<T, const D: usize> {
    grid: Grid<D>,
    warp: Warp<T, D>,
    coefficients: Vec<T>,
}

impl<T: Real, const D: usize> PointMap<T, D> {
    /// The map of a displacement. One prefilter.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for NaN or infinity in the map.
    pub fn new(map: &Displacement<T, D>) -> Result<Self> {
        map.expect_finite("map")?;
        let (grid, mut coefficients) = (map.grid().clone(), vec![T::zero(); map.data().len()]);
        Prefilter::new(&grid).interleaved::<D>(map.data(), &mut coefficients);
        Ok(Self { warp: Warp::new(&grid, &grid), grid, coefficients })
    }

    /// The grid of the displacement.
    #[must_use]
    pub fn grid(&self) -> &Grid<D> {
        &self.grid
    }

    /// Where a point of the world goes; NaN for one that is too far away to be indexed. 4ᴰ reads.
    #[must_use]
    pub fn apply(&self, point: [f64; D]) -> [f64; D] {
        let u: [T; D] = self.warp.at_index(&self.coefficients, self.grid.to_index(point));
        let u = self.grid.direction() * SVector::from(u.map(T::f64));
        (SVector::from(point) + u).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Boundary;
    use crate::testing::random;
    use nalgebra::SMatrix;

    fn turn(angle: f64) -> SMatrix<f64, 2, 2> {
        let (s, c) = angle.sin_cos();
        SMatrix::<f64, 2, 2>::new(c, -s, s, c)
    }

    /// A smooth map on a turned grid that moves points by up to two units.
    fn swirl(grid: &Grid<2>, seed: f64) -> Displacement<f64, 2> {
        let extent = grid.extent();
        Displacement::from_fn(grid, |x| {
            let bump = (0..2).map(|a| (std::f64::consts::PI * x[a] / extent[a]).sin());
            let bump: f64 = bump.product();
            [2.0 * bump * (0.2 * x[1] + seed).cos(), -1.5 * bump * (0.1 * x[0] + seed).sin()]
        })
        .unwrap()
    }

    fn turned(angle: f64, shape: [usize; 2], spacing: [f64; 2]) -> Grid<2> {
        Grid::new(shape, spacing)
            .and_then(|grid| grid.with_origin([5.0, -3.0]))
            .and_then(|grid| grid.with_direction(turn(angle)))
            .unwrap()
    }

    #[test]
    fn labels_move_with_the_map() {
        let grid = Grid::new([12, 10], [1.0, 2.0]).unwrap();
        let mut data = vec![0; 120];
        for i in 4..8 {
            for j in 3..6 {
                data[i * 10 + j] = if i < 6 { 3 } else { 7 };
            }
        }
        let labels = Labels::from_vec(&grid, data.clone()).unwrap();
        assert_eq!(labels.classes(), [3, 7]);
        let map = Displacement::<f64, 2>::from_fn(&grid, |_| [1.0, -2.0]).unwrap();
        let moved = map.warp_labels(&labels).unwrap();
        for i in 0..11 {
            for j in 1..10 {
                assert_eq!(moved.data()[i * 10 + j], data[(i + 1) * 10 + j - 1]);
            }
        }
        assert!(Labels::from_vec(&grid, vec![0; 3]).is_err());
    }

    #[test]
    fn points_turn_with_the_grid() {
        // Axis 0 points along world axis 1, axis 1 along the negative world axis 0.
        let quarter = turned(std::f64::consts::FRAC_PI_2, [12, 10], [2.0, 1.0]);
        let map = Displacement::<f64, 2>::from_fn(&quarter, |_| [0.5, 2.0]).unwrap();
        let moved = map.transform_points(&[[2.3, 4.1]]).unwrap();
        // Splines reproduce constants to rounding.
        assert!((moved[0][0] - (2.3 - 2.0)).abs() < 1e-13);
        assert!((moved[0][1] - (4.1 + 0.5)).abs() < 1e-13);
    }

    #[test]
    fn voxels_are_met_and_smooth_maps_followed_between_them() {
        let grid = Grid::new([40, 36], [0.5, 0.5]).unwrap();
        let u = |x: [f64; 2], c: usize| (0.4 * x[0] + 0.3 * c as f64).sin() * (0.3 * x[1]).cos();
        let map = Displacement::<f64, 2>::from_fn(&grid, |x| [u(x, 0), u(x, 1)]).unwrap();
        let (voxel, between) = ([5.0, 6.5], [9.13, 8.71]);
        let moved = map.transform_points(&[voxel, between]).unwrap();
        for c in 0..2 {
            // At a voxel the splines interpolate, to rounding; between voxels they are off by
            // (0.4 · 0.5)⁴/384 = 4e-6 away from the border.
            assert!((moved[0][c] - voxel[c] - u(voxel, c)).abs() < 1e-13);
            assert!((moved[1][c] - between[c] - u(between, c)).abs() < 1e-5);
        }
    }

    #[test]
    fn points_outside_are_refused_unless_the_grid_repeats() {
        let quarter = turned(std::f64::consts::FRAC_PI_2, [12, 10], [2.0, 1.0]);
        let map = Displacement::<f32, 2>::zeros(&quarter).unwrap();
        // The corner of the outermost voxel belongs to the grid.
        assert!(map.transform_points(&[[5.5, -4.0]]).is_ok());
        for outside in [[5.6, -3.0], [f64::NAN; 2]] {
            assert!(matches!(map.transform_points(&[outside]), Err(Error::Setting { .. })));
        }
        let periodic = map.on_grid(&quarter.with_boundary(Boundary::Periodic)).unwrap();
        assert_eq!(periodic.transform_points(&[[90.0, 70.0]]).unwrap(), [[90.0, 70.0]]);
    }

    #[test]
    fn compositions_follow_points_between_grids_of_any_direction() {
        let (outer, inner) =
            (turned(0.4, [40, 36], [0.5, 0.6]), turned(-0.3, [24, 30], [0.8, 0.5]));
        let (first, second) = (swirl(&inner, 0.3), swirl(&outer, 1.1));
        let composed = second.compose(&first).unwrap();
        assert_eq!(composed.grid(), &inner);
        let (map, points) = (PointMap::new(&second).unwrap(), PointMap::new(&composed).unwrap());
        let first = PointMap::new(&first).unwrap();
        for flat in 0..inner.len() {
            let x = inner.to_world(inner.unravel(flat).map(|i| i as f64));
            let (found, expected) = (points.apply(x), map.apply(first.apply(x)));
            // Voxels are met by splines: rounding of coordinates of about thirty.
            assert!((0..2).all(|c| (found[c] - expected[c]).abs() < 1e-12), "{flat}");
        }
    }

    #[test]
    fn compositions_over_one_grid_are_those_of_the_integrator() {
        let grid = turned(0.7, [20, 18], [0.8, 0.9]);
        let (first, second) = (swirl(&grid, 0.1), swirl(&grid, 0.9));
        let composition = crate::ops::compose::Composition::new(&grid);
        let mut coefficients = vec![0.0; 2 * grid.len()];
        composition.coefficients(second.data(), &mut coefficients);
        let mut expected = vec![0.0; 2 * grid.len()];
        composition.compose(&coefficients, first.data(), &mut expected);
        let found = second.compose(&first).unwrap();
        // The same operations in the same order.
        assert!(found.data().iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()));
    }

    #[test]
    fn the_inverse_undoes_the_map_on_any_grid() {
        let (grid, other) = (turned(0.4, [40, 36], [0.5, 0.6]), turned(-0.2, [30, 28], [0.6, 0.6]));
        let map = swirl(&grid, 0.5);
        let inverse = map.inverse(&other).unwrap();
        assert_eq!(inverse.grid(), &other);
        let round = map.compose(&inverse).unwrap();
        // The tolerance in voxels of at most 0.6, inside the grid of the map.
        for flat in 0..other.len() {
            let y = other.to_world(other.unravel(flat).map(|i| i as f64));
            if grid.contains_index(grid.to_index(y)) {
                let off: [f64; 2] = std::array::from_fn(|c| round.component(c)[flat]);
                assert!(off[0].hypot(off[1]) < 0.7e-4, "{flat}: {off:?}");
            }
        }
        let folded = Displacement::<f64, 2>::from_fn(&grid, |x| [-1.5 * x[0], 0.0]).unwrap();
        assert!(matches!(folded.inverse(&grid), Err(Error::NotInvertible { .. })));
    }

    #[test]
    fn world_vectors_are_those_of_the_points() {
        let grid = turned(0.9, [6, 5], [0.5, 2.0]);
        let map = Displacement::from_vec(&grid, random::<f64>(60, 3)).unwrap();
        let world = map.to_world().unwrap();
        let points = PointMap::new(&map).unwrap();
        for flat in 0..30 {
            let x = grid.to_world(grid.unravel(flat).map(|i| i as f64));
            let y = points.apply(x);
            for c in 0..2 {
                // Rounding of coordinates of about ten.
                assert!((y[c] - x[c] - world.component(c)[flat]).abs() < 1e-13);
            }
        }
        let back = Displacement::from_world(&world).unwrap();
        let off = back.data().iter().zip(map.data()).map(|(a, b)| (a - b).abs());
        assert!(off.fold(0.0, f64::max) < 1e-15);
    }

    #[test]
    fn maps_of_the_world_become_displacements_and_their_errors_come_first_in_order() {
        let grid = turned(0.9, [60, 50], [0.5, 2.0]);
        let shear =
            crate::world::Affine::from_rows([[1.1, 0.4], [-0.3, 0.8]], [2.0, -5.0]).unwrap();
        let map = Displacement::<f64, 2>::from_map(&grid, |x| Ok(shear.apply(x))).unwrap();
        let expected = shear.displacement::<f64>(&grid).unwrap();
        let off = map.data().iter().zip(expected.data()).map(|(a, b)| (a - b).abs());
        // Rounding of coordinates of about a hundred.
        assert!(off.fold(0.0, f64::max) < 1e-12);
        let far = grid.to_world([40.0, 0.0]);
        let refused = |x: [f64; 2]| {
            let beyond = grid.to_index(x)[0] > 39.5;
            let error = || Error::setting("x", "below", format!("{:.3}", grid.to_index(x)[0]));
            if beyond { Err(error()) } else { Ok(far) }
        };
        let error = Displacement::<f64, 2>::from_map(&grid, refused).unwrap_err();
        assert!(error.to_string().contains("found 40.000"), "{error}");
        let infinite = Displacement::<f32, 2>::from_map(&grid, |x| Ok(x.map(|x| 1e300 * x)));
        assert!(matches!(infinite, Err(Error::NonFinite { .. })));
    }
}
