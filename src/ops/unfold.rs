//! A last step for maps that fold in a few cells.

use super::cells::Cells;
use crate::aligned::reserved;
use crate::error::{Error, Result};
use crate::field::Displacement;
use crate::grid::{Boundary, Grid};
use crate::par;
use crate::scalar::Real;

/// A map's displacement is smoothed around the cells where it folds, and nowhere else, until each determinant of a cell
/// and its reciprocal are above a bound.
///
/// The result is a diffeomorphism but no geodesic: it belongs behind a [barrier](super::barrier), for what interpolation to
/// another grid and rounding leave. Smoothing is binomial, with a standard deviation of one voxel along every axis, and
/// keeps affine maps, at the border too.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Unfold {
    /// Largest number of passes.
    pub passes: usize,
    /// Determinants of this and below, of this reciprocal and above, are smoothed away.
    pub bound: f64,
    /// What determinants are counted in.
    unit: f64,
}

/// What [`Unfold::apply`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Unfolded {
    /// Passes of smoothing; 0 where there was nothing to do.
    pub passes: usize,
    /// Cells beyond the bound at first.
    pub before: usize,
    /// Cells beyond the bound that are left: not zero where the passes were not enough.
    pub left: usize,
    /// Voxels that were changed.
    pub voxels: usize,
    /// Longest way that a voxel's image was moved by, physical units.
    pub largest: f64,
}

/// Where smoothing begins and ends around a cell, in voxels of the larger of the distances along the axes: whole within the
/// first, none from the second on.
const REACH: [usize; 2] = [1, 4];

/// After so many passes the reach grows by a voxel.
const WIDER: usize = 5;

/// Binomial weights with a variance of one voxel.
const WEIGHTS: [f64; 5] = [1.0 / 16.0, 4.0 / 16.0, 6.0 / 16.0, 4.0 / 16.0, 1.0 / 16.0];

impl Unfolded {
    /// What was done to a map in two turns, this one after `first`.
    #[must_use]
    pub fn after(self, first: &Self) -> Self {
        Self {
            passes: first.passes + self.passes,
            before: first.before + self.before,
            left: self.left,
            voxels: first.voxels + self.voxels,
            largest: first.largest + self.largest,
        }
    }
}

impl Unfold {
    /// At most a hundred passes.
    ///
    /// # Errors
    /// [`Error::Setting`] for a bound that is not from 0 to below 1.
    pub fn new(bound: f64) -> Result<Self> {
        if (0.0..1.0).contains(&bound) {
            return Ok(Self { passes: 100, bound, unit: 1.0 });
        }
        Err(Error::setting("bound of the determinants", "a number from 0 to below 1", bound))
    }

    /// With another number of passes.
    #[must_use]
    pub fn with_passes(self, passes: usize) -> Self {
        Self { passes, ..self }
    }

    /// For maps with an affine one of this determinant before or after them: the bound is on determinants over its
    /// magnitude. That of the identity otherwise.
    #[must_use]
    pub fn with_affine(self, determinant: f64) -> Self {
        Self { unit: determinant.abs(), ..self }
    }

    /// Smooths `map` where it must be. A pass over the cells for each pass of smoothing, and one more.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for NaN or infinity in the map, [`Error::OutOfMemory`].
    ///
    /// ```
    /// use rdmm_core::{evaluate::Folds, field::Displacement, grid::Grid, ops::unfold::Unfold};
    /// let grid = Grid::new([16, 16], [1.0, 1.0])?;
    /// let mut map = Displacement::<f64, 2>::zeros(&grid)?;
    /// map.component_mut(0)[7 * 16 + 8] = 1.3;
    /// assert_eq!(Folds::of(&map)?.cells.folded, 2);
    /// let unfolded = Unfold::new(0.05)?.apply(&mut map)?;
    /// assert!(unfolded.left == 0 && unfolded.passes > 0);
    /// assert!(Folds::of(&map)?.cells.min > 0.05);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    #[inline(never)]
    pub fn apply<T: Real, const D: usize>(self, map: &mut Displacement<T, D>) -> Result<Unfolded> {
        map.expect_finite("map")?;
        let mut done = Unfolded::default();
        let mut changed = Vec::new();
        loop {
            let beyond = self.beyond(map);
            if done.passes == 0 {
                done.before = beyond.len();
            }
            done.left = beyond.len();
            if beyond.is_empty() || done.passes == self.passes {
                break;
            }
            if changed.is_empty() {
                changed = reserved(map.grid().len())?;
                changed.resize(map.grid().len(), false);
            }
            let moved = smooth_around(map, &beyond, done.passes / WIDER, &mut changed)?;
            // Ways add up to no more than their sum.
            done.largest += moved;
            done.passes += 1;
        }
        done.voxels = changed.iter().filter(|&&changed| changed).count();
        Ok(done)
    }

    /// Cells with a determinant, or its reciprocal, at the bound or beyond.
    fn beyond<T: Real, const D: usize>(self, map: &Displacement<T, D>) -> Vec<usize> {
        let cells = Cells::new(map);
        let leaf = |range| {
            let mut found = Vec::new();
            cells.each(range, |cell, least, largest| {
                let (least, largest) = (least.f64() / self.unit, largest.f64() / self.unit);
                if !(least > self.bound && largest * self.bound < 1.0) {
                    found.push(cell);
                }
            });
            found
        };
        par::reduce(cells.len(), leaf, |mut a, b| {
            a.extend(b);
            a
        })
    }
}

/// One pass: the longest way of a voxel's image.
fn smooth_around<T: Real, const D: usize>(
    map: &mut Displacement<T, D>,
    beyond: &[usize],
    wider: usize,
    changed: &mut [bool],
) -> Result<f64> {
    let (voxels, strengths) = around(map, beyond, wider)?;
    let grid = map.grid().clone();
    let mut moves: Vec<[f64; D]> = reserved(voxels.len())?;
    moves.resize(voxels.len(), [0.0; D]);
    {
        let map = &*map;
        par::chunks_of(&mut moves, 256, |lo, moves| {
            for (k, moved) in moves.iter_mut().enumerate() {
                let voxel = voxels[lo + k];
                let smooth = smoothed(map, &grid, voxel);
                *moved = std::array::from_fn(|a| {
                    strengths[lo + k] * (smooth[a] - map.component(a)[voxel].f64())
                });
            }
        });
    }
    let (n, mut longest) = (grid.len(), 0.0_f64);
    for (&voxel, moved) in voxels.iter().zip(&moves) {
        changed[voxel] = true;
        for a in 0..D {
            map.data_mut()[a * n + voxel] += T::of(moved[a]);
        }
        longest = longest.max(moved.iter().map(|x| x * x).sum::<f64>().sqrt());
    }
    Ok(longest)
}

/// The voxels around some cells, in their order, and how far each goes towards its smoothed value.
fn around<T: Real, const D: usize>(
    map: &Displacement<T, D>,
    beyond: &[usize],
    wider: usize,
) -> Result<(Vec<usize>, Vec<f64>)> {
    let (grid, cells) = (map.grid(), Cells::new(map));
    let (whole, none) = (REACH[0] + wider, REACH[1] + wider);
    let mut distances: Vec<u8> = reserved(grid.len())?;
    distances.resize(grid.len(), u8::MAX);
    let side = 2 * none + 1;
    for &cell in beyond {
        // From its first corner; the others add one voxel, which `whole` holds.
        let Some(voxel) = cells.voxels(cell).next() else { continue };
        let index = grid.unravel(voxel);
        let around: usize = [side; D].iter().product();
        for mut offset in 0..around {
            let (mut flat, mut distance, mut inside) = (0, 0, true);
            for a in (0..D).rev() {
                let step = (offset % side).cast_signed() - none.cast_signed();
                offset /= side;
                distance = distance.max(step.unsigned_abs());
                let n = grid.shape()[a].cast_signed();
                let at = index[a].cast_signed() + step;
                let at = if grid.boundary() == Boundary::Periodic { at.rem_euclid(n) } else { at };
                inside &= (0..n).contains(&at);
                flat += at.max(0).unsigned_abs() * grid.strides()[a];
            }
            if inside {
                // At most the largest distance, which is small.
                distances[flat] = distances[flat].min(u8::try_from(distance).unwrap_or(u8::MAX));
            }
        }
    }
    let voxels: Vec<usize> =
        (0..grid.len()).filter(|&voxel| usize::from(distances[voxel]) < none).collect();
    let strength = |voxel: &usize| {
        let beyond = usize::from(distances[*voxel]).saturating_sub(whole) as f64;
        1.0 - beyond / (none - whole) as f64
    };
    let strengths = voxels.iter().map(strength).collect();
    Ok((voxels, strengths))
}

/// The smoothed displacement at a voxel.
fn smoothed<T: Real, const D: usize>(
    map: &Displacement<T, D>,
    grid: &Grid<D>,
    voxel: usize,
) -> [f64; D] {
    let (index, shape, strides) = (grid.unravel(voxel), grid.shape(), grid.strides());
    // Beyond a border a map goes on as its mirror image through the point at the border, 2u(0) − u(k), so that affine
    // maps stay what they are: taps there are two, with weights 2w and −w.
    let taps: [Vec<(usize, f64)>; D] = std::array::from_fn(|a| {
        let n = shape[a].cast_signed();
        let mut taps = Vec::with_capacity(2 * WEIGHTS.len());
        for (k, &w) in (-2_isize..=2).zip(&WEIGHTS) {
            let at = index[a].cast_signed() + k;
            let inside = |at: isize| at.unsigned_abs() * strides[a];
            if grid.boundary() == Boundary::Periodic {
                taps.push((at.rem_euclid(n).unsigned_abs() * strides[a], w));
            } else if (0..n).contains(&at) {
                taps.push((inside(at), w));
            } else {
                let border = if at < 0 { 0 } else { n - 1 };
                taps.push((inside(border), 2.0 * w));
                taps.push((inside(2 * border - at), -w));
            }
        }
        taps
    });
    let mut sum = [0.0; D];
    let mut digits = [0; D];
    loop {
        let (mut flat, mut weight) = (0, 1.0);
        for a in 0..D {
            let (offset, w) = taps[a][digits[a]];
            flat += offset;
            weight *= w;
        }
        for a in 0..D {
            sum[a] += weight * map.component(a)[flat].f64();
        }
        let Some(a) = (0..D).rev().find(|&a| digits[a] + 1 < taps[a].len()) else { return sum };
        digits[a] += 1;
        digits[a + 1..].fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cells::CellCount;
    use crate::space::StateSpace;
    use crate::testing::random;

    #[test]
    fn rough_maps_come_out_without_folds_at_every_border() {
        for boundary in Boundary::ALL {
            let grid = Grid::new([14, 12, 16], [1.0, 2.0, 0.5]).unwrap().with_boundary(boundary);
            let n = grid.len();
            let data = random::<f64>(3 * n, 7);
            // Three voxels of noise along each axis.
            let data = (0..3 * n).map(|i| 3.0 * grid.spacing()[i / n] * data[i]).collect();
            let mut map = Displacement::<f64, 3>::from_vec(&grid, data).unwrap();
            assert!(CellCount::of(&map).folded > 1000);
            let done = Unfold::new(0.05).unwrap().apply(&mut map).unwrap();
            assert!(done.left == 0 && done.before > 1000 && done.passes > 0, "{done:?}");
            assert!(CellCount::of(&map).worst() > 0.05);
        }
    }

    #[test]
    fn what_is_far_from_a_fold_stays_to_the_bit_and_affine_maps_stay() {
        let grid = Grid::new([20, 24], [1.0, 1.0]).unwrap();
        let linear = Displacement::<f64, 2>::from_fn(&grid, |x| {
            [0.3 * x[0] - 0.2 * x[1], 0.1 * x[0] + 0.4 * x[1]]
        })
        .unwrap();
        // At the border and inside.
        for voxel in [0, 5, 10 * 24 + 12] {
            let smooth = smoothed(&linear, &grid, voxel);
            for a in 0..2 {
                // A few roundings of numbers of order ten.
                assert!((smooth[a] - linear.component(a)[voxel]).abs() < 1e-13);
            }
            let mut map = linear.clone();
            map.component_mut(1)[voxel] += 2.5;
            let before = map.clone();
            let done = Unfold::new(0.05).unwrap().apply(&mut map).unwrap();
            assert!(done.left == 0 && done.voxels > 0 && done.largest > 0.1, "{done:?}");
            let [i, j] = grid.unravel(voxel);
            for flat in 0..grid.len() {
                let [k, l] = grid.unravel(flat);
                if i.abs_diff(k).max(j.abs_diff(l)) > 8 {
                    assert_eq!(
                        map.component(1)[flat].to_bits(),
                        before.component(1)[flat].to_bits()
                    );
                }
            }
        }
        let mut map = linear.clone();
        assert_eq!(Unfold::new(0.05).unwrap().apply(&mut map).unwrap(), Unfolded::default());
        map.axpy(-1.0, &linear);
        assert!(map.data().iter().all(|x| *x == 0.0));
    }

    #[test]
    fn passes_that_are_not_enough_say_so() {
        let grid = Grid::new([16, 16], [1.0, 1.0]).unwrap();
        let mut map = Displacement::<f64, 2>::from_fn(&grid, |x| [-2.0 * x[0], 0.0]).unwrap();
        let done = Unfold::new(0.05).unwrap().with_passes(3).apply(&mut map).unwrap();
        assert_eq!((done.passes, done.left), (3, 225), "a reflection is affine");
        assert!(matches!(Unfold::new(1.0), Err(Error::Setting { .. })));
    }
}
