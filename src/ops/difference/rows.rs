//! The difference along one axis as a matrix: which values a row reads, and with what coefficients.

use crate::grid::Boundary;
use crate::scalar::Real;

/// The order of accuracy of a central difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Order {
    /// (f₊₁ − f₋₁) / 2h.
    Second,
    /// (8 (f₊₁ − f₋₁) − (f₊₂ − f₋₂)) / 12h: the same passes, two more digits on smooth fields.
    #[default]
    Fourth,
}

impl Order {
    /// Coefficients of `f₊ₖ − f₋ₖ`, k = 1, 2, for unit spacing.
    fn coefficients(self) -> [f64; 2] {
        match self {
            Self::Second => [0.5, 0.0],
            Self::Fourth => [2.0 / 3.0, -1.0 / 12.0],
        }
    }
}

/// Voxels at either end of a lane that need the boundary rule.
pub(super) const BORDER: usize = 2;

/// One row of a difference matrix along an axis: four columns, some of which may be the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<T> {
    pub(super) columns: [usize; 4],
    pub(super) coefficients: [T; 4],
}

/// The difference along one axis as a banded matrix with `BORDER` special rows at either end.
#[derive(Clone, Debug)]
pub(super) struct Axis<T> {
    pub(super) n: usize,
    pub(super) inner: usize,
    /// Coefficients of `f₊ₖ − f₋ₖ` in rows away from the ends.
    pub(super) interior: [T; 2],
    /// Rows of ∂ and of ∂ᵀ at the ends: first `BORDER`, then last `BORDER`.
    pub(super) rows: [Row<T>; 2 * BORDER],
    pub(super) transposed_rows: [Row<T>; 2 * BORDER],
}

/// Where an index beyond a lane of `n` points reads from.
#[inline]
pub(crate) fn fold_index(i: isize, n: usize, boundary: Boundary) -> usize {
    let n = n.cast_signed();
    let folded = match boundary {
        _ if (0..n).contains(&i) => i,
        Boundary::Periodic => i.rem_euclid(n),
        // One reflection needs no division.
        Boundary::Reflecting | Boundary::Free if (-n..0).contains(&i) => -1 - i,
        Boundary::Reflecting | Boundary::Free if (n..2 * n).contains(&i) => 2 * n - 1 - i,
        Boundary::Reflecting | Boundary::Free => {
            let j = i.rem_euclid(2 * n);
            if j < n { j } else { 2 * n - 1 - j }
        }
    };
    folded.cast_unsigned()
}

impl<T: Real> Row<T> {
    /// The row times a number.
    #[inline(always)]
    pub(super) fn times(self, s: T) -> Self {
        Self { coefficients: self.coefficients.map(|c| s * c), ..self }
    }
}

impl<T: Real> Axis<T> {
    pub(super) fn new(
        n: usize,
        inner: usize,
        spacing: f64,
        order: Order,
        boundary: Boundary,
    ) -> Self {
        let [c1, c2] = order.coefficients().map(|c| c / spacing);
        let row = |i: usize, sign: &dyn Fn(isize) -> f64| {
            let beside = [-2, -1, 1, 2].map(|k| i.cast_signed() + k);
            let coefficients = [-c2, -c1, c1, c2];
            Row {
                columns: beside.map(|j| fold_index(j, n, boundary)),
                coefficients: std::array::from_fn(|t| T::of(sign(beside[t]) * coefficients[t])),
            }
        };
        // Where a field is mirrored, ∂ᵀ is −∂ of the field that is mirrored with its sign turned.
        let outside = |j: isize| !(0..n.cast_signed()).contains(&j);
        let turned = |j| if boundary != Boundary::Periodic && outside(j) { 1.0 } else { -1.0 };
        let ends = [0, 1, n - 2, n - 1];
        Self {
            n,
            inner,
            interior: [c1, c2].map(T::of),
            rows: ends.map(|i| row(i, &|_| 1.0)),
            transposed_rows: ends.map(|i| row(i, &turned)),
        }
    }

    /// The places of the two values before and the two behind that at a flat index away from the ends.
    #[inline(always)]
    pub(super) fn beside(&self, at: usize) -> [usize; 4] {
        [at - 2 * self.inner, at - self.inner, at + self.inner, at + 2 * self.inner]
    }

    /// Cuts the flat range `lo..hi` into runs away from the ends of their lanes and runs within one
    /// row at an end.
    #[inline]
    pub(super) fn pieces(&self, lo: usize, hi: usize) -> impl Iterator<Item = Piece> {
        let (n, inner) = (self.n, self.inner);
        let mut from = lo;
        std::iter::from_fn(move || {
            if from >= hi {
                return None;
            }
            let row = (from / inner) % n;
            let lane = from - from % (n * inner);
            let (rows, end) = if (BORDER..n - BORDER).contains(&row) {
                (n - BORDER, None)
            } else {
                (row + 1, Some(if row < BORDER { row } else { row + 2 * BORDER - n }))
            };
            let piece = Piece { from, to: hi.min(lane + rows * inner), row, end };
            from = piece.to;
            Some(piece)
        })
    }
}

/// A run `from..to` of a buffer: within one row if `end` names a special row, else over rows away
/// from the ends.
pub(super) struct Piece {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) row: usize,
    pub(super) end: Option<usize>,
}
