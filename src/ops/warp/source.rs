//! Where the taps of cubic splines lie in the fields that are read.

use crate::grid::{Boundary, Grid};
use crate::ops::difference::fold_index;
use crate::scalar::Real;

/// Most axes of a grid that is warped.
pub(super) const AXES: usize = 4;

/// Most groups of taps of a point: of four rows of four.
const GROUPS: usize = 1 << (2 * (AXES - 2));

/// Taps of a group.
const GROUP: usize = 16;

/// The taps of a point in a buffer of their own.
pub(super) type Gathered<T, const C: usize> = [[T; C]; GROUP * GROUPS];

/// Zeros in the place of them.
pub(super) fn zeros<T: Real, const C: usize>() -> Gathered<T, C> {
    [[T::zero(); C]; GROUP * GROUPS]
}

/// Where the taps of a point are from the first on: taps that are neighbours along the last axis are a row, and four rows
/// that are neighbours along the axis before it a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stencil {
    /// Where each group begins.
    pub(super) groups: [usize; GROUPS],
    /// From row to row of a group.
    pub(super) stride: usize,
}

impl Stencil {
    /// Of gathered taps.
    pub(super) const GATHERED: Self = {
        let mut groups = [0; GROUPS];
        let mut g = 0;
        while g < GROUPS {
            groups[g] = GROUP * g;
            g += 1;
        }
        Self { groups, stride: 4 }
    };
}

/// Groups of taps of a grid of `D` axes.
pub(super) struct Groups<const D: usize>;

impl<const D: usize> Groups<D> {
    pub(super) const COUNT: usize = {
        assert!(1 <= D && D <= AXES, "grids of one to four axes are warped");
        if D < 2 { 1 } else { GROUPS >> (2 * (AXES - D)) }
    };
}

/// The lattice of the fields that are read.
#[derive(Clone, Debug)]
pub(super) struct Source<const D: usize> {
    pub(super) shape: [usize; D],
    pub(super) strides: [usize; D],
    /// Largest index of the first tap of a point inside.
    pub(super) last: [i32; D],
    pub(super) boundary: Boundary,
    /// Of the points inside.
    pub(super) stencil: Stencil,
}

impl<const D: usize> Source<D> {
    pub(super) fn new(grid: &Grid<D>) -> Self {
        let (shape, strides) = (grid.shape(), grid.strides());
        // From the last axis on; there are no groups along axes that are not there.
        let stride = |b: usize| if b < D { strides[D - 1 - b] } else { 0 };
        let groups = std::array::from_fn(|g| g % 4 * stride(2) + g / 4 * stride(3));
        let stencil = Stencil { groups, stride: stride(1) };
        // Grids have at most 2³¹ voxels: it fits.
        let last = shape.map(|n| i32::try_from(n - 4).unwrap_or(i32::MAX));
        Self { shape, strides, last, boundary: grid.boundary().of_weights(), stencil }
    }

    /// Values of a field.
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Indices of the four taps along an axis from the first on, which need not be one of the grid.
    fn taps(&self, axis: usize, first: isize) -> [usize; 4] {
        let mut taps = [0; 4];
        for k in 0..4_usize {
            taps[k] = fold_index(first + k.cast_signed(), self.shape[axis], self.boundary);
        }
        taps
    }

    /// Offsets of the four taps along each axis.
    pub(super) fn offsets(&self, first: [isize; D]) -> [[usize; 4]; D] {
        let mut offsets = [[0; 4]; D];
        for a in 0..D {
            for (offset, tap) in offsets[a].iter_mut().zip(self.taps(a, first[a])) {
                *offset = tap * self.strides[a];
            }
        }
        offsets
    }

    /// Gathers the taps of a point that lies anywhere.
    #[inline(never)]
    pub(super) fn gather<T: Real, const C: usize>(
        &self,
        first: [isize; D],
        field: &[[T; C]],
        taps: &mut Gathered<T, C>,
    ) {
        let offsets = self.offsets(first);
        each_row(&offsets, |row, at, _| {
            for k in 0..4 {
                taps[4 * row + k] = field[at + offsets[D - 1][k]];
            }
        });
    }

    /// Transpose of [`Source::gather`], into the part of a field that begins at `origin`; leaves zeros.
    #[inline(never)]
    pub(super) fn release<T: Real, const C: usize>(
        &self,
        first: [isize; D],
        taps: &mut Gathered<T, C>,
        origin: usize,
        field: &mut [[T; C]],
    ) {
        let offsets = self.offsets(first);
        each_row(&offsets, |row, at, _| {
            for k in 0..4 {
                let from = std::mem::replace(&mut taps[4 * row + k], [T::zero(); C]);
                let to = &mut field[at + offsets[D - 1][k] - origin];
                for c in 0..C {
                    to[c] += from[c];
                }
            }
        });
    }
}

/// Calls `f(row, flat offset of the row, digits of the leading taps)` for the 4^(D−1) rows of taps.
#[inline(always)]
pub(super) fn each_row<const D: usize>(
    offsets: &[[usize; 4]; D],
    mut f: impl FnMut(usize, usize, [usize; D]),
) {
    for row in 0..1 << (2 * (D - 1)) {
        let mut digits = [0; D];
        let (mut rest, mut at) = (row, 0);
        for a in (0..D - 1).rev() {
            digits[a] = rest % 4;
            rest /= 4;
            at += offsets[a][digits[a]];
        }
        f(row, at, digits);
    }
}
