//! The matrix of a Gaussian along one axis by its entries.

use super::domain::Lattice;
use super::form::{Form, PLAIN};
use super::product::{Product, ROWS, width};
use crate::grid::Boundary;
use crate::scalar::Real;

/// The discrete Gaussian of one axis.
pub(super) struct Taps {
    lattice: Lattice,
    /// M\[i\]\[j\] = t\[|i − j|\], on a reflecting axis t\[|i − j|\] + t\[i + j + 1\].
    taps: Vec<f64>,
}

impl Taps {
    /// t\[d\] = (1/N) Σ_k g_k cos(2πkd/N) over all N frequencies of the period.
    pub(super) fn new(lattice: Lattice, gain: impl Fn(f64) -> f64) -> Self {
        let period = lattice.period;
        let angle = |m: usize| std::f64::consts::TAU * m as f64 / period as f64;
        let cosines: Vec<f64> = (0..period).map(|m| angle(m).cos()).collect();
        let weight = |k: usize| if k == 0 || 2 * k == period { 1.0 } else { 2.0 };
        // The highest frequency of a mirrored axis cancels in its entries, but not in its taps.
        let gains: Vec<f64> = (0..=period / 2)
            .map(|k| weight(k) * gain(lattice.omega(k)) / period as f64)
            .take_while(|&g| g > 1e-20)
            .collect();
        let sum = |d: usize| (0..gains.len()).map(|k| gains[k] * cosines[k * d % period]).sum();
        Self { lattice, taps: (0..=period / 2).map(sum).collect() }
    }

    fn at(&self, distance: usize) -> f64 {
        self.taps[distance.min(self.lattice.period - distance)]
    }

    fn entry(&self, i: usize, j: usize) -> f64 {
        let mirrored = if self.lattice.mirrored() { self.at(i + j + 1) } else { 0.0 };
        self.at(i.abs_diff(j)) + mirrored
    }

    /// The smallest reach beyond which a row holds less than half the tolerance.
    fn reach(&self, tolerance: f64) -> usize {
        let mut beyond = 0.0;
        let rest = self.taps.iter().rev().take_while(|&&t| {
            beyond += 2.0 * t.abs();
            beyond <= 0.5 * tolerance
        });
        (self.taps.len() - rest.count()).max(1) - 1
    }
}

/// The matrix of these taps: a band, whole, or its even and odd block.
pub(super) fn square<T: Real>(taps: &Taps, tolerance: f64, contiguous: bool) -> Product<T> {
    let n = taps.lattice.n;
    let (reach, block) = (taps.reach(tolerance), if contiguous { width::<T>() } else { ROWS });
    // Multiplications a value, with what forming even and odd parts costs.
    let banded = if 2 * reach < n { 2 * reach + block } else { usize::MAX };
    let plain = contiguous && n <= PLAIN;
    let whole = if plain { n } else { n / 2 + FOLDING };
    if banded < whole {
        banded_product(taps, reach, block)
    } else if plain {
        Product::new([n, n], [Form::Plain, Form::Plain], block, &[n], |i, j| taps.entry(i, j))
    } else {
        folded_product(taps, block)
    }
}

/// Multiplications a value that take as long as to form even and odd parts of contiguous values and to undo it.
const FOLDING: usize = 8;

/// The matrix without the entries further than `reach` from the diagonal. What a row loses is added to its
/// diagonal: the difference to the whole matrix is then the Laplacian of a graph, which is positive, and
/// constants stay what they are.
fn banded_product<T: Real>(taps: &Taps, reach: usize, block: usize) -> Product<T> {
    let Lattice { n, .. } = taps.lattice;
    let periodic = taps.lattice.boundary == Boundary::Periodic;
    let distance = |i: usize, j: usize| {
        let d = i.abs_diff(j);
        if periodic { d.min(n - d) } else { d }
    };
    let lost = |i: usize| -> f64 {
        (0..n).filter(|&j| distance(i, j) > reach).map(|j| taps.entry(i, j)).sum()
    };
    let diagonal: Vec<f64> = (0..n).map(|i| taps.entry(i, i) + lost(i)).collect();
    let input = if periodic { Form::Repeated(reach) } else { Form::Plain };
    Product::new([n, n], [Form::Plain, input], block, &[n], |i, column| {
        let d = if periodic { column.abs_diff(i + reach) } else { column.abs_diff(i) };
        match d {
            0 => diagonal[i],
            d if d > reach => 0.0,
            d if periodic => taps.at(d),
            _ => taps.entry(i, column),
        }
    })
}

/// The whole matrix between the even and odd parts of lanes.
fn folded_product<T: Real>(taps: &Taps, block: usize) -> Product<T> {
    let n = taps.lattice.n;
    let middle = n.div_ceil(2);
    Product::new([n, n], [Form::Folded, Form::Folded], block, &[middle, n], |i, j| {
        match (i < middle, j < middle) {
            (true, true) => 0.5 * (taps.entry(i, j) + taps.entry(i, n - 1 - j)),
            (false, false) => {
                let (i, j) = (i - middle, j - middle);
                0.5 * (taps.entry(i, j) - taps.entry(i, n - 1 - j))
            }
            _ => 0.0,
        }
    })
}
