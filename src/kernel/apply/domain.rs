//! What of a grid a kernel depends on.

use crate::error::{Error, Result};
use crate::grid::{Boundary, Grid, MAX_VOXELS};

/// Shape, spacing and boundary of a grid with any number of axes.
#[derive(Clone, Debug)]
pub(crate) struct Domain {
    pub(crate) shape: Vec<usize>,
    pub(crate) spacing: Vec<f64>,
    pub(crate) boundary: Boundary,
}

impl Domain {
    pub(crate) fn of<const D: usize>(grid: &Grid<D>) -> Self {
        let (shape, spacing) = (grid.shape().to_vec(), grid.spacing().to_vec());
        Self { shape, spacing, boundary: grid.boundary() }
    }

    /// Number of voxels.
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether an axis is the contiguous one of several.
    pub(crate) fn is_contiguous(&self, axis: usize) -> bool {
        axis > 0 && axis + 1 == self.shape.len()
    }

    /// The axes, where they are free padded by so many zeros.
    pub(crate) fn lattices(&self, padding: impl Fn(usize) -> usize) -> Vec<Lattice> {
        let lattice = |(a, &n): (usize, &usize)| Lattice::new(n, self.boundary, padding(a));
        self.shape.iter().enumerate().map(lattice).collect()
    }

    /// `Ok` if the spectrum of a free grid, padded by so many zeros, can be indexed; its values have so many bytes.
    pub(crate) fn expect_padding(
        &self,
        padding: impl Fn(usize) -> usize,
        bytes: usize,
    ) -> Result<()> {
        if self.boundary != Boundary::Free {
            return Ok(());
        }
        let padded = |(a, &n): (usize, &usize)| n.saturating_add(padding(a));
        // Lengths grow by a factor under two to one that the FFT likes.
        let lens = self.shape.iter().enumerate().map(padded);
        let len = lens.fold(1usize, |len, n| len.saturating_mul(n.saturating_mul(2)));
        if len >> self.shape.len() > MAX_VOXELS {
            return Err(Error::OutOfMemory { bytes: len.saturating_mul(bytes) });
        }
        Ok(())
    }
}

/// The frequencies of one axis: those of a lattice with a period that holds the axis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lattice {
    pub(crate) boundary: Boundary,
    /// Voxels along the axis.
    pub(crate) n: usize,
    /// Voxels after which a field repeats: n, 2 n with the mirror image, or n and its padding.
    pub(crate) period: usize,
}

impl Lattice {
    /// An axis of `n` voxels; a free one is padded by `padding` zeros.
    pub(crate) fn new(n: usize, boundary: Boundary, padding: usize) -> Self {
        let period = match boundary {
            Boundary::Periodic => n,
            Boundary::Reflecting => 2 * n,
            Boundary::Free => smooth_length(n + padding),
        };
        Self { boundary, n, period }
    }

    /// Whether fields are continued by their mirror images.
    pub(crate) fn mirrored(self) -> bool {
        self.boundary == Boundary::Reflecting
    }

    /// Number of frequencies ≥ 0.
    pub(crate) fn frequencies(self) -> usize {
        if self.mirrored() { self.n } else { self.period / 2 + 1 }
    }

    /// The frequency with index k, radians a voxel.
    pub(crate) fn omega(self, k: usize) -> f64 {
        2.0 * std::f64::consts::PI * k as f64 / self.period as f64
    }

    /// Number of coefficients of a Fourier transform: one a frequency, of either sign where there are cosines and sines.
    pub(crate) fn coefficients(self) -> usize {
        if self.mirrored() { self.n } else { self.period }
    }

    /// Angular frequency of every coefficient, in radians a voxel, without its sign.
    pub(crate) fn sizes(self) -> Vec<f64> {
        let (pi, len) = (std::f64::consts::PI, self.coefficients());
        let frequency = |k: usize| {
            if self.mirrored() {
                pi * k as f64 / self.n as f64
            } else {
                2.0 * pi * k.min(len - k) as f64 / len as f64
            }
        };
        (0..len).map(frequency).collect()
    }

    /// The same with its sign.
    pub(crate) fn signed(self) -> Vec<f64> {
        let negative = |k: usize| !self.mirrored() && 2 * k > self.period;
        let sign = |(k, size): (usize, f64)| if negative(k) { -size } else { size };
        self.sizes().into_iter().enumerate().map(sign).collect()
    }
}

/// The next length ≥ `n` with no prime factor above 5.
fn smooth_length(n: usize) -> usize {
    let smooth = |mut n: usize| {
        for p in [2, 3, 5] {
            while n.is_multiple_of(p) {
                n /= p;
            }
        }
        n == 1
    };
    // The next power of two is smooth.
    (n..=n.next_power_of_two()).find(|&n| smooth(n)).unwrap_or(n)
}

/// The index along each axis of what is at `flat`.
pub(crate) fn unravel(mut flat: usize, lens: &[usize], index: &mut [usize]) {
    for (k, len) in index.iter_mut().zip(lens).rev() {
        *k = flat % len;
        flat /= len;
    }
}
