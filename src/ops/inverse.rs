//! The inverse of a map, by Newton's method at every point.

use nalgebra::{SMatrix, SVector};

use super::difference::fold_index;
use super::jacobian::jacobian_determinant;
use super::spline::{Prefilter, derivatives, weights};
use crate::aligned::reserved;
use crate::error::{Error, Result, positive};
use crate::field::Displacement;
use crate::grid::{Boundary, Grid};
use crate::par;
use crate::scalar::Real;

/// Newton steps for one point. Five are usual.
const STEPS: usize = 50;

/// Times that a step which does not come closer is halved.
const HALVINGS: usize = 10;

/// A voxel from which it is not known where to start.
const UNKNOWN: u32 = u32::MAX;

/// How a displacement continues between the voxels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Interpolation {
    /// Cubic B-splines through the values, as everywhere in this crate.
    #[default]
    Cubic,
    /// Linear along every axis, as ITK applies displacement fields.
    Linear,
}

/// The inverse of a map Φ: x ↦ x + u(x), evaluated where it is asked for.
///
/// u is interpolated between the voxels and has, beyond the faces of the outermost ones, the value of
/// the nearest point on a face; on a periodic grid it repeats. Where Φ(x) = y has its solution outside
/// the grid, the inverse is that of this continuation.
///
/// Each point takes a few steps of Newton's method with backtracking, from the voxel whose image is
/// nearest: one evaluation reads 4ᴰ voxels. Memory: 4 bytes a voxel, and for cubic interpolation
/// one more displacement. Positions are in double precision for every `T`.
///
/// ```
/// use rdmm_core::{field::Displacement, grid::Grid, ops::inverse::{Interpolation, Inverse}};
/// let grid = Grid::new([32, 32], [1.0, 1.0])?;
/// let wave = |x: [f64; 2], axis: usize| [(0.3 * x[1]).sin(), (0.2 * x[0]).cos()][axis];
/// let map = Displacement::<f64, 2>::from_fn(&grid, |x| std::array::from_fn(|c| wave(x, c)))?;
/// let inverse = Inverse::new(map, Interpolation::Cubic, 1e-6)?;
/// let x = inverse.at([12.0, 9.0])?;
/// let back = [x[0] + (0.3 * x[1]).sin(), x[1] + (0.2 * x[0]).cos()];
/// // What remains is the error of interpolation.
/// assert!((back[0] - 12.0).abs() < 1e-3 && (back[1] - 9.0).abs() < 1e-3);
/// let field = inverse.displacement(&grid)?;
/// assert!((field.component(0)[12 * 32 + 9] - (x[0] - 12.0)).abs() < 1e-5);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Inverse<T, const D: usize> {
    map: Displacement<T, D>,
    interpolation: Interpolation,
    /// Spline coefficients, where they are not the values.
    coefficients: Option<Vec<T>>,
    /// For every voxel the voxel that Φ carries nearest to it.
    starts: Vec<u32>,
    tolerance: f64,
}

impl<T: Real, const D: usize> Inverse<T, D> {
    /// Prepares the inverse of a map. At every point x that is found, Φ(x) is within `tolerance` voxels
    /// of the point that was asked for.
    ///
    /// # Errors
    /// [`Error::NotInvertible`] where a determinant of [`jacobian_determinant`] is not positive: the map folds
    /// or mirrors. [`Error::NonFinite`] for NaN or infinity in the map; [`Error::Setting`] for a tolerance that
    /// is not positive; [`Error::OutOfMemory`].
    #[inline(never)]
    pub fn new(
        map: Displacement<T, D>,
        interpolation: Interpolation,
        tolerance: f64,
    ) -> Result<Self> {
        let tolerance = positive("tolerance of an inverse, in voxels", tolerance)?;
        map.expect_finite("map")?;
        expect_invertible(&map)?;
        let coefficients = match interpolation {
            Interpolation::Linear => None,
            Interpolation::Cubic => {
                let mut coefficients = reserved(map.data().len())?;
                coefficients.extend_from_slice(map.data());
                Prefilter::new(map.grid()).apply(&mut coefficients);
                Some(coefficients)
            }
        };
        let starts = starts(&map)?;
        Ok(Self { map, interpolation, coefficients, starts, tolerance })
    }

    /// The map itself.
    #[must_use]
    pub fn map(&self) -> &Displacement<T, D> {
        &self.map
    }

    /// Φ⁻¹(y), world coordinates.
    ///
    /// # Errors
    /// [`Error::Setting`] for a coordinate that is not finite; [`Error::Inverse`] where the tolerance is
    /// not reached.
    #[inline(never)]
    pub fn at(&self, y: [f64; D]) -> Result<[f64; D]> {
        if !y.iter().all(|y| y.is_finite()) {
            return Err(Error::setting("point", "finite coordinates", format!("{y:?}")));
        }
        let grid = self.map.grid();
        let (x, farthest) = self.solve(grid.to_index(y).into());
        if farthest <= self.tolerance {
            return Ok(grid.to_world(x.into()));
        }
        Err(Error::Inverse { points: 1, of: 1, farthest, tolerance: self.tolerance })
    }

    /// Φ⁻¹ as a displacement of the voxels of any grid: Φ⁻¹(y) − y, along that grid's axes.
    ///
    /// # Errors
    /// [`Error::Inverse`] with the number of voxels where the tolerance is not reached and the largest
    /// distance that remains; [`Error::OutOfMemory`].
    #[inline(never)]
    pub fn displacement(&self, target: &Grid<D>) -> Result<Displacement<T, D>> {
        let (source, n) = (self.map.grid(), target.len());
        let turn = target.direction().transpose() * source.direction();
        let wanted = |flat: usize| {
            let y = target.to_world(target.unravel(flat).map(|i| i as f64));
            SVector::from(source.to_index(y))
        };
        let mut out = Displacement::zeros(target)?;
        par::zipped(par::split::<T, D>(out.data_mut(), n), |lo, mut out| {
            for k in 0..out.first().map_or(0, |out| out.len()) {
                let y = wanted(lo + k);
                let (x, distance) = self.solve(y);
                let found = distance <= self.tolerance;
                let moved = turn * (x - y).component_mul(&source.spacing().into());
                for (a, out) in out.iter_mut().enumerate() {
                    out[k] = if found { T::of(moved[a]) } else { T::nan() };
                }
            }
        });
        let missed = |k: &usize| out.data()[*k].is_nan();
        let points = (0..n).filter(missed).count();
        if points == 0 {
            return Ok(out);
        }
        let farthest = par::max(n, |range| {
            range.filter(missed).map(|k| self.solve(wanted(k)).1).fold(0.0, f64::max)
        });
        Err(Error::Inverse { points, of: n, farthest, tolerance: self.tolerance })
    }

    /// The x with Φ(x) = y, both array indices of the map's grid, and how far Φ(x) is from y.
    fn solve(&self, y: SVector<f64, D>) -> (SVector<f64, D>, f64) {
        let near = self.newton(y, self.start(y));
        if near.1 <= self.tolerance {
            return near;
        }
        let behind = self.newton(y, y - self.displaced(y).0);
        if behind.1 < near.1 { behind } else { near }
    }

    fn newton(&self, y: SVector<f64, D>, start: SVector<f64, D>) -> (SVector<f64, D>, f64) {
        let off = |x: SVector<f64, D>| {
            let (u, slope) = self.displaced(x);
            let off = x + u - y;
            (off, off.norm(), SMatrix::identity() + slope)
        };
        let mut x = start;
        let (mut r, mut distance, mut jacobian) = off(x);
        for _ in 0..STEPS {
            // One step more than needed leaves little but rounding.
            let done = distance <= self.tolerance;
            let step: SVector<f64, D> = jacobian.try_inverse().map_or(r, |inverse| inverse * r);
            let mut share = 1.0;
            let mut closer = None;
            for _ in 0..=HALVINGS {
                let next = x - step * share;
                let found = off(next);
                if found.1 < (1.0 - 1e-4 * share) * distance {
                    closer = Some((next, found));
                    break;
                }
                share *= 0.5;
                if done {
                    break;
                }
            }
            let Some((next, found)) = closer else { break };
            x = next;
            (r, distance, jacobian) = found;
            if done {
                break;
            }
        }
        (x, distance)
    }

    /// Where Newton's method starts for y.
    fn start(&self, y: SVector<f64, D>) -> SVector<f64, D> {
        let grid = self.map.grid();
        let last = grid.shape().map(|n| n - 1);
        let voxel: [usize; D] = std::array::from_fn(|a| y[a].round().to_index().min(last[a]));
        let flat: usize = (0..D).map(|a| voxel[a] * grid.strides()[a]).sum();
        match self.starts[flat] {
            UNKNOWN => y,
            start => SVector::from(grid.unravel(start as usize).map(|i| i as f64)),
        }
    }

    /// The displacement at an array index and its derivatives, both in voxels.
    fn displaced(&self, x: SVector<f64, D>) -> (SVector<f64, D>, SMatrix<f64, D, D>) {
        let grid = self.map.grid();
        let (n, spacing) = (grid.len(), grid.spacing());
        let data = self.coefficients.as_deref().unwrap_or(self.map.data());
        let taps: [Taps; D] = std::array::from_fn(|a| self.taps(a, x[a]));
        let mut value = SVector::<f64, D>::zeros();
        let mut slope = SMatrix::<f64, D, D>::zeros();
        let mut digits = [0; D];
        loop {
            let mut offset = 0;
            let mut weight = 1.0;
            let mut by = [1.0; D];
            for a in 0..D {
                let (w, dw) = (taps[a].weights[digits[a]], taps[a].derivatives[digits[a]]);
                offset += taps[a].offsets[digits[a]];
                weight *= w;
                for b in 0..D {
                    by[b] *= if a == b { dw } else { w };
                }
            }
            for c in 0..D {
                let u = data[c * n + offset].f64() / spacing[c];
                value[c] += weight * u;
                for b in 0..D {
                    slope[(c, b)] += by[b] * u;
                }
            }
            if !advance(&mut digits, &taps) {
                return (value, slope);
            }
        }
    }

    /// The voxels along an axis that a point reads.
    fn taps(&self, axis: usize, x: f64) -> Taps {
        let grid = self.map.grid();
        let (n, stride) = (grid.shape()[axis], grid.strides()[axis]);
        let boundary = grid.boundary().of_weights();
        let inside = match boundary {
            Boundary::Periodic => x.rem_euclid(n as f64),
            _ => x.clamp(-0.5, n as f64 - 0.5),
        };
        let outside = boundary != Boundary::Periodic && (inside - x).abs() > 0.0;
        let below = inside.floor();
        let t = inside - below;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "between −1 and the length of the axis"
        )]
        let below = below as isize;
        let at = |k: isize| fold_index(below + k, n, boundary) * stride;
        let mut taps = match self.interpolation {
            Interpolation::Linear => Taps {
                count: 2,
                offsets: [at(0), at(1), 0, 0],
                weights: [1.0 - t, t, 0.0, 0.0],
                derivatives: [-1.0, 1.0, 0.0, 0.0],
            },
            Interpolation::Cubic => Taps {
                count: 4,
                offsets: [at(-1), at(0), at(1), at(2)],
                weights: weights(t),
                derivatives: derivatives(t),
            },
        };
        if outside {
            taps.derivatives = [0.0; 4];
        }
        taps
    }
}

/// What is read along one axis.
#[derive(Clone, Copy)]
struct Taps {
    count: usize,
    offsets: [usize; 4],
    weights: [f64; 4],
    derivatives: [f64; 4],
}

/// The next combination of taps; `false` after the last.
fn advance<const D: usize>(digits: &mut [usize; D], taps: &[Taps; D]) -> bool {
    for a in (0..D).rev() {
        digits[a] += 1;
        if digits[a] < taps[a].count {
            return true;
        }
        digits[a] = 0;
    }
    false
}

fn expect_invertible<T: Real, const D: usize>(map: &Displacement<T, D>) -> Result<()> {
    let determinant = jacobian_determinant(map)?;
    let (mut voxels, mut found) = (0, f64::INFINITY);
    for d in determinant.data().iter().map(|d| d.f64()) {
        voxels += usize::from(d <= 0.0 || d.is_nan());
        found = if d < found || d.is_nan() { d } else { found };
    }
    if voxels == 0 {
        return Ok(());
    }
    Err(Error::NotInvertible { voxels, of: determinant.data().len(), found })
}

/// For every voxel the voxel whose image is nearest, among the images that round to it; where there is none,
/// what the nearest voxel that has one starts from. [`UNKNOWN`] where the map carries everything out of the grid.
fn starts<T: Real, const D: usize>(map: &Displacement<T, D>) -> Result<Vec<u32>> {
    let grid = map.grid();
    let (n, shape, strides, spacing) = (grid.len(), grid.shape(), grid.strides(), grid.spacing());
    let mut starts = reserved(n)?;
    starts.resize(n, UNKNOWN);
    let image = |flat: usize| -> [f64; D] {
        let index = grid.unravel(flat);
        std::array::from_fn(|a| index[a] as f64 + map.data()[a * n + flat].f64() / spacing[a])
    };
    let from_voxel = |at: [f64; D]| at.iter().map(|x| (x - x.round()).powi(2)).sum::<f64>();
    for flat in 0..n {
        let at = image(flat);
        let inside = (0..D).all(|a| at[a] > -0.5 && at[a] < shape[a] as f64 - 0.5);
        if inside {
            let voxel: usize = (0..D).map(|a| at[a].round().to_index() * strides[a]).sum();
            let before = starts[voxel];
            if before == UNKNOWN || from_voxel(at) < from_voxel(image(before as usize)) {
                // A grid has at most 2³¹ voxels.
                starts[voxel] = u32::try_from(flat).unwrap_or(UNKNOWN);
            }
        }
    }
    spread(grid, &mut starts);
    Ok(starts)
}

/// Gives voxels without a start that of their nearest neighbour with one, ring by ring.
fn spread<const D: usize>(grid: &Grid<D>, starts: &mut [u32]) {
    let (shape, strides) = (grid.shape(), grid.strides());
    let beside = |flat: usize| {
        let index = grid.unravel(flat);
        (0..D).flat_map(move |a| {
            let before = (index[a] > 0).then(|| flat - strides[a]);
            let after = (index[a] + 1 < shape[a]).then(|| flat + strides[a]);
            before.into_iter().chain(after)
        })
    };
    let known = |flat: &usize| starts[*flat] != UNKNOWN;
    let borders = |flat: &usize| known(flat) && beside(*flat).any(|k| !known(&k));
    let mut ring: Vec<usize> = (0..starts.len()).filter(borders).collect();
    while !ring.is_empty() {
        let mut next = Vec::new();
        for flat in ring {
            for k in beside(flat) {
                if starts[k] == UNKNOWN {
                    starts[k] = starts[flat];
                    next.push(k);
                }
            }
        }
        ring = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::inverse_consistency;
    use crate::world::Affine;

    fn turn<const D: usize>(angle: f64) -> SMatrix<f64, D, D> {
        let (s, c) = angle.sin_cos();
        let mut turn = SMatrix::identity();
        (turn[(0, 0)], turn[(0, 1)], turn[(1, 0)], turn[(1, 1)]) = (c, -s, s, c);
        turn
    }

    fn oblique() -> Grid<3> {
        Grid::new([22, 20, 18], [1.0, 1.5, 2.0])
            .and_then(|grid| grid.with_origin([-40.0, 12.0, 7.0]))
            .and_then(|grid| grid.with_direction(turn(0.5)))
            .unwrap()
    }

    /// A smooth map without folds that moves points by up to some voxels and its border by little.
    fn swirl<T: Real, const D: usize>(grid: &Grid<D>, height: f64) -> Displacement<T, D> {
        let extent = grid.extent();
        Displacement::from_fn(grid, |x| {
            std::array::from_fn(|c| {
                let bump: f64 =
                    (0..D).map(|a| (std::f64::consts::PI * x[a] / extent[a]).sin()).product();
                height
                    * bump
                    * [1.0, -0.7, 0.5][c]
                    * (1.0 + 0.3 * (x[(c + 1) % D] / extent[0]).cos())
            })
        })
        .unwrap()
    }

    /// Largest |Φ(Φ⁻¹(y)) − y| in voxels over the target, Φ read from the field of the inverse.
    fn residual<T: Real, const D: usize>(inverse: &Inverse<T, D>, target: &Grid<D>) -> f64 {
        let (source, field) = (inverse.map.grid(), inverse.displacement(target).unwrap());
        let mut largest = 0.0_f64;
        for flat in 0..target.len() {
            let y = SVector::from(target.to_world(target.unravel(flat).map(|i| i as f64)));
            let v = SVector::from_fn(|a, _| field.component(a)[flat].f64());
            let x = SVector::from(source.to_index((y + target.direction() * v).into()));
            let back = x + inverse.displaced(x).0;
            largest = largest.max((back - SVector::from(source.to_index(y.into()))).norm());
        }
        largest
    }

    #[test]
    fn the_inverse_undoes_the_map() {
        let cases = [Interpolation::Cubic, Interpolation::Linear];
        for interpolation in cases {
            // The tolerance, and what rounding of a displacement of ten units leaves in f32.
            let map = swirl::<f64, 3>(&oblique(), 4.0);
            let inverse = Inverse::new(map, interpolation, 1e-9).unwrap();
            let found = residual(&inverse, &oblique());
            assert!(found <= 1.1e-9, "{interpolation:?} {found}");
            let map = swirl::<f32, 3>(&oblique(), 4.0);
            let inverse = Inverse::new(map, interpolation, 1e-6).unwrap();
            let found = residual(&inverse, &oblique());
            assert!(
                found <= 1e-6 + 4.0 * f64::from(f32::EPSILON) * 4.0,
                "{interpolation:?} {found}"
            );
            let flat = Grid::new([40, 30], [0.5, 0.8]).unwrap().with_direction(turn(2.0)).unwrap();
            let inverse = Inverse::new(swirl::<f64, 2>(&flat, 4.0), interpolation, 1e-9).unwrap();
            assert!(residual(&inverse, &flat) <= 1.1e-9);
        }
    }

    #[test]
    fn composition_by_splines_is_the_identity() {
        let map = swirl::<f64, 3>(&oblique(), 4.0);
        let largest = map.data().iter().fold(0.0_f64, |m, u| m.max(u.abs()));
        assert!(largest > 3.0, "several voxels");
        let inverse = Inverse::new(map.clone(), Interpolation::Cubic, 1e-9).unwrap();
        let inverse = inverse.displacement(map.grid()).unwrap();
        let found = inverse_consistency(&map, &inverse).unwrap();
        // The same interpolation: the tolerance in voxels of up to 2, and rounding.
        assert!(found.max < 2.1e-9, "{found:?}");
    }

    #[test]
    fn affine_fields_have_the_affine_inverse() {
        let grid = oblique();
        let mut matrix: SMatrix<f64, 3, 3> = 1.15 * turn::<3>(0.3);
        matrix[(2, 0)] = 0.1;
        let centre = SVector::from(grid.to_world([10.5, 9.5, 8.5]));
        let affine = Affine::new(matrix, centre - matrix * centre).unwrap();
        let map = affine.displacement::<f64>(&grid).unwrap();
        let inverse = Inverse::new(map, Interpolation::Linear, 1e-9).unwrap();
        let mut seen = 0;
        for flat in 0..grid.len() {
            let y = grid.to_world(grid.unravel(flat).map(|i| i as f64));
            let exact = affine.inverse().apply(y);
            let index = grid.to_index(exact);
            // Between the outermost centres linear interpolation of a linear function is exact.
            if (0..3).all(|a| index[a] >= 0.0 && index[a] <= (grid.shape()[a] - 1) as f64) {
                let found = inverse.at(y).unwrap();
                assert!((0..3).all(|a| (found[a] - exact[a]).abs() < 1e-7), "{found:?} {exact:?}");
                seen += 1;
            }
        }
        assert!(seen > grid.len() / 2);
    }

    #[test]
    fn an_analytic_map_is_inverted_to_the_error_of_interpolation() {
        // φ(x) = x + 1.5 sin(0.4 x) along axis 1 has slope 1 ± 0.6; its inverse by bisection.
        let grid = Grid::new([6, 400], [1.0, 0.125]).unwrap();
        let u = |x: f64| 1.5 * (0.4 * x).sin();
        let map = Displacement::<f64, 2>::from_fn(&grid, |x| [0.0, u(x[1])]).unwrap();
        let inverse = Inverse::new(map, Interpolation::Cubic, 1e-10).unwrap();
        for y in [5.0, 11.3, 20.7, 33.3] {
            let (mut low, mut high) = (y - 2.0, y + 2.0);
            for _ in 0..60 {
                let mid = 0.5 * (low + high);
                if mid + u(mid) < y { low = mid } else { high = mid }
            }
            let found = inverse.at([3.0, y]).unwrap()[1];
            // Splines: 1.5 (0.4 · 0.125)⁴ / 384 = 2e-8, over the smallest slope 0.4.
            assert!((found - low).abs() < 1e-7, "{found} {low}");
        }
    }

    #[test]
    fn other_grids_and_far_shifts_are_met() {
        let map = swirl::<f64, 3>(&oblique(), 3.0);
        let far = Affine::new(SMatrix::identity(), SVector::from([150.0, -30.0, 4.0])).unwrap();
        let total = far.after_displacement(&map).unwrap();
        let target = Grid::new([14, 16, 12], [2.5, 1.0, 2.0])
            .and_then(|g| g.with_origin(far.apply(oblique().to_world([2.0, 3.0, 1.0]))))
            .and_then(|g| g.with_direction(turn(0.9)))
            .unwrap();
        let inverse = Inverse::new(total, Interpolation::Cubic, 1e-9).unwrap();
        assert!(residual(&inverse, &target) <= 1.1e-9);
    }

    #[test]
    fn periodic_maps_wrap() {
        let grid = Grid::new([32, 24], [1.0; 2]).unwrap().with_boundary(Boundary::Periodic);
        let turn = std::f64::consts::TAU;
        let u = |x: [f64; 2], c: usize| 2.0 * (turn * (x[c] / [32.0, 24.0][c] + 0.2)).sin() + 9.0;
        let map =
            Displacement::<f64, 2>::from_fn(&grid, |x| std::array::from_fn(|c| u(x, c))).unwrap();
        let inverse = Inverse::new(map, Interpolation::Cubic, 1e-9).unwrap();
        assert!(residual(&inverse, &grid) <= 1.1e-9);
        let (here, there) = (inverse.at([3.0, 5.0]).unwrap(), inverse.at([35.0, 5.0]).unwrap());
        assert!((there[0] - here[0] - 32.0).abs() < 1e-8 && (there[1] - here[1]).abs() < 1e-8);
    }

    #[test]
    fn steep_maps_need_more_than_fixed_points() {
        // |∂u| reaches 3, where x ↦ y − u(x) does not contract.
        let grid = Grid::new([64, 8], [1.0; 2]).unwrap();
        let u = |x: [f64; 2], c: usize| [6.0 * ((x[0] - 31.5) / 2.0).tanh(), 0.0][c];
        let map =
            Displacement::<f64, 2>::from_fn(&grid, |x| std::array::from_fn(|c| u(x, c))).unwrap();
        for interpolation in [Interpolation::Cubic, Interpolation::Linear] {
            let inverse = Inverse::new(map.clone(), interpolation, 1e-8).unwrap();
            assert!(residual(&inverse, &grid) <= 1.1e-8, "{interpolation:?}");
        }
    }

    #[test]
    fn folds_and_bad_input_are_refused() {
        let grid = Grid::new([32, 8], [1.0; 2]).unwrap();
        let u = |x: [f64; 2], c: usize| [-6.0 * ((x[0] - 15.5) / 2.0).tanh(), 0.0][c];
        let folded =
            Displacement::<f64, 2>::from_fn(&grid, |x| std::array::from_fn(|c| u(x, c))).unwrap();
        let error = Inverse::new(folded, Interpolation::Cubic, 1e-6).unwrap_err();
        assert!(matches!(error, Error::NotInvertible { of: 256, .. }), "{error}");
        assert!(error.to_string().contains("256 voxels"), "{error}");
        let mut broken = Displacement::<f64, 2>::zeros(&grid).unwrap();
        let inverse = Inverse::new(broken.clone(), Interpolation::Linear, 1e-6).unwrap();
        assert!(matches!(inverse.at([f64::NAN, 0.0]), Err(Error::Setting { .. })));
        for tolerance in [0.0, -1.0, f64::NAN] {
            let error = Inverse::new(broken.clone(), Interpolation::Cubic, tolerance).unwrap_err();
            assert!(matches!(error, Error::Setting { .. }), "{error}");
        }
        broken.data_mut()[7] = f64::INFINITY;
        let error = Inverse::new(broken, Interpolation::Cubic, 1e-6).unwrap_err();
        assert!(matches!(error, Error::NonFinite { index: 7, .. }), "{error}");
    }

    #[test]
    fn what_is_not_reached_is_counted() {
        let tight = Grid::new([16, 4], [1.0; 2]).unwrap();
        let far = Displacement::<f64, 2>::from_fn(&tight, |x| [0.1 * x[0].sin(), 0.0]);
        // Rounding of indices does not allow 1e-30.
        let inverse = Inverse::new(far.unwrap(), Interpolation::Cubic, 1e-30).unwrap();
        let error = inverse.displacement(&tight).unwrap_err();
        let Error::Inverse { points, of: 64, farthest, .. } = error else { panic!("{error}") };
        assert!(points > 0 && farthest < 1e-13, "{error}");
    }
}
