//! The matrix of a Gaussian along one axis, and the cheapest way to apply it.

use super::engine::PASS;
use super::gaussian::multiplier;
use super::product::{FOLDING, Form, Product, ROWS, width};
use super::transform::Lattice;
use crate::grid::Boundary;
use crate::scalar::Real;

/// A cosine or sine of the axis, of unit norm over the period.
#[derive(Clone, Copy, Debug)]
struct Mode {
    /// Index of the frequency.
    k: usize,
    /// Whether it is a sine about the middle of the axis, odd under reversal.
    odd: bool,
}

/// The cosines and sines of the lowest frequencies along one axis, about its middle.
///
/// They are the eigenvectors of the discrete Gaussians that [`Transform`](super::transform::Transform)
/// realises: on a periodic or padded axis B diag(g) Bᵀ is (1/N) Σ_k g_k cos(2πk(i − j)/N), on a reflecting one
/// the cosine basis is even or odd by itself. The even modes come first.
#[derive(Clone, Debug)]
pub(super) struct Modes {
    lattice: Lattice,
    modes: Vec<Mode>,
}

impl Modes {
    /// The modes of the frequencies for which `keep(ω)`.
    pub(super) fn new(lattice: Lattice, keep: impl Fn(f64) -> bool) -> Self {
        let mode = |odd: bool| {
            (0..lattice.frequencies())
                .filter(|&k| keep(lattice.omega(k)))
                .map(move |k| Mode { k, odd })
        };
        let modes: Vec<Mode> = if lattice.mirrored() {
            let parity = |odd: bool| mode(odd).filter(move |m| (m.k % 2 == 1) == odd);
            parity(false).chain(parity(true)).collect()
        } else {
            mode(false).chain(mode(true).filter(|m| m.k > 0)).collect()
        };
        Self { lattice, modes }
    }

    /// Number of modes.
    pub(super) fn len(&self) -> usize {
        self.modes.len()
    }

    /// Angular frequency of every mode, radians a voxel.
    pub(super) fn frequencies(&self) -> Vec<f64> {
        self.modes.iter().map(|mode| self.lattice.omega(mode.k)).collect()
    }

    /// Value of a mode at voxel j.
    fn at(&self, mode: Mode, j: usize) -> f64 {
        let (Lattice { n, period, .. }, mirrored) = (self.lattice, self.lattice.mirrored());
        let alone = mode.k == 0 || 2 * mode.k == period;
        let (size, angle) = if mirrored {
            (n, std::f64::consts::PI * ((2 * j + 1) * mode.k) as f64 / (2 * n) as f64)
        } else {
            let from_middle = (2 * j) as f64 - (n - 1) as f64;
            (period, std::f64::consts::PI * from_middle * mode.k as f64 / period as f64)
        };
        let norm = (if alone { 1.0 } else { 2.0 } / size as f64).sqrt();
        norm * if mode.odd && !mirrored { angle.sin() } else { angle.cos() }
    }

    /// Form of the values of a lane, and the rows of a panel.
    fn form<T>(&self, contiguous: bool) -> (Form, usize) {
        match contiguous {
            true if self.len() <= PLAIN => (Form::Plain, width::<T>()),
            true => (Form::Folded, width::<T>()),
            false => (Form::Folded, ROWS),
        }
    }

    /// Value of mode k for the j-th value of a lane in this form: even modes meet even parts, odd ones odd parts.
    fn formed(&self, form: Form, k: usize, j: usize) -> f64 {
        let (mode, middle) = (self.modes[k], self.lattice.n.div_ceil(2));
        match (form, mode.odd, j < middle) {
            (Form::Folded, false, false) | (Form::Folded, true, true) => 0.0,
            (Form::Folded, true, false) => self.at(mode, j - middle),
            _ => self.at(mode, j),
        }
    }

    /// Time of products with the modes of all axes, there and back, in multiplications a value.
    pub(super) fn cost(axes: &[Self]) -> f64 {
        let share = |m: &Self| m.len() as f64 / m.lattice.n as f64;
        let mut rest = 1.0;
        let later = axes.iter().skip(1).map(|modes| {
            let cost = rest * (modes.len() as f64 + PASS * (1.0 + share(modes)));
            rest *= share(modes);
            cost
        });
        let later = later.sum::<f64>();
        later + axes.first().map_or(0.0, |modes| rest * (modes.len() as f64 + 2.0 * PASS))
    }

    /// diag(gain) B: from values to coefficients.
    pub(super) fn forward<T: Real>(
        &self,
        gain: impl Fn(usize) -> f64,
        contiguous: bool,
    ) -> Product<T> {
        let (input, block) = self.form::<T>(contiguous);
        let even = self.modes.iter().filter(|mode| !mode.odd).count();
        Product::new([self.len(), self.lattice.n], [Form::Plain, input], block, even, |k, j| {
            gain(k) * self.formed(input, k, j)
        })
    }

    /// Bᵀ diag(gain): from coefficients to values.
    pub(super) fn back<T: Real>(
        &self,
        gain: impl Fn(usize) -> f64,
        contiguous: bool,
    ) -> Product<T> {
        let (output, block) = self.form::<T>(contiguous);
        let n = self.lattice.n;
        Product::new([n, self.len()], [output, Form::Plain], block, n.div_ceil(2), |i, k| {
            gain(k) * self.formed(output, k, i)
        })
    }
}

/// The matrix of a Gaussian along one axis.
#[derive(Clone, Debug)]
pub(super) enum Axis<T> {
    /// B diag(g) Bᵀ without the modes whose multiplier is below the tolerance: the square root of the Gaussian
    /// and its transpose.
    Modes { forward: Product<T>, back: Product<T> },
    /// The matrix itself: banded where its entries fall below the tolerance, else whole or in its even
    /// and odd block.
    Square(Product<T>),
}

/// The discrete Gaussian of one axis.
struct Taps {
    lattice: Lattice,
    /// M\[i\]\[j\] = t\[|i − j|\], on a reflecting axis t\[|i − j|\] + t\[i + j + 1\].
    taps: Vec<f64>,
}

impl Taps {
    /// t\[d\] = (1/N) Σ_k g_k cos(2πkd/N) over all N frequencies of the period.
    fn new(lattice: Lattice, gain: impl Fn(f64) -> f64) -> Self {
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

impl<T: Real> Axis<T> {
    /// The Gaussian of σ `voxels`, accurate to `tolerance` of its largest multiplier, which is one: by its modes
    /// and as the cheapest matrix.
    pub(super) fn both(
        lattice: Lattice,
        voxels: f64,
        tolerance: f64,
        contiguous: bool,
    ) -> [Self; 2] {
        let gain = |omega| multiplier(voxels, omega);
        let modes = Modes::new(lattice, |omega| gain(omega) > tolerance);
        let root: Vec<f64> = modes.frequencies().into_iter().map(|w| gain(w).sqrt()).collect();
        let root = |k: usize| root[k];
        let (forward, back) = (modes.forward(root, contiguous), modes.back(root, contiguous));
        let matrix = square(&Taps::new(lattice, gain), tolerance, contiguous);
        [Self::Modes { forward, back }, Self::Square(matrix)]
    }
}

/// The matrix of these taps: a band, whole, or its even and odd block.
fn square<T: Real>(taps: &Taps, tolerance: f64, contiguous: bool) -> Product<T> {
    let n = taps.lattice.n;
    let (reach, block) = (taps.reach(tolerance), if contiguous { width::<T>() } else { ROWS });
    // Multiplications a value, with what forming even and odd parts costs.
    let banded = if 2 * reach < n { 2 * reach + block } else { usize::MAX };
    let plain = contiguous && n <= PLAIN;
    let whole = if plain { n } else { n / 2 + FOLDING };
    if banded < whole {
        banded_product(taps, reach, block)
    } else if plain {
        Product::new([n, n], [Form::Plain; 2], block, n, |i, j| taps.entry(i, j))
    } else {
        folded_product(taps, block)
    }
}

/// Values of a lane of the contiguous axis up to which its even and odd part halve nothing: to form them takes
/// as long as the multiplications that they save.
const PLAIN: usize = 48;

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
    Product::new([n, n], [Form::Plain, input], block, n, |i, column| {
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
    Product::new([n, n], [Form::Folded, Form::Folded], block, middle, |i, j| {
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

impl<T: Real> Axis<T> {
    /// Voxels along the axis.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Modes { forward, .. } => forward.input_len(),
            Self::Square(product) => product.input_len(),
        }
    }
}
