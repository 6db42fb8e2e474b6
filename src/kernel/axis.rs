//! The matrix of a Gaussian along one axis, and the cheapest way to apply it.

use super::form::{Form, Pairs, Turns};
use super::gaussian::multiplier;
use super::product::{Product, ROWS, width};
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
/// the cosine basis is even or odd by itself.
#[derive(Clone, Debug)]
pub(super) struct Modes {
    lattice: Lattice,
    waves: Vec<Mode>,
    blocks: Blocks,
}

/// Modes that meet the same part of a lane: their order, and how many there are of each kind.
#[derive(Clone, Copy, Debug)]
enum Blocks {
    /// Even ones, then odd ones.
    Halves { even: usize },
    /// k = 0, 4, …; k = 2, 6, …; k = 1, 3, 7, …; k = 5, 9, …, as many as there are in the third but one.
    Quarters { ends: [usize; 4] },
}

/// Modes from which on four blocks take less time than two. Measured.
const QUARTERS: usize = 12;

/// Modes of a lane of the contiguous axis up to which its parts save nothing: they fit into one panel.
const FEW: usize = 16;

impl Modes {
    /// The modes of the frequencies for which `keep(ω)`, perhaps with one more.
    pub(super) fn new(lattice: Lattice, keep: impl Fn(f64) -> bool) -> Self {
        let kept = |k: &usize| keep(lattice.omega(*k));
        let indices: Vec<usize> = (0..lattice.frequencies()).filter(kept).collect();
        let lowest = indices.iter().enumerate().all(|(i, &k)| i == k);
        if lattice.mirrored() && lowest && indices.len() >= QUARTERS {
            let quarters = Self::quarters(lattice, indices.len());
            // One mode more must not take one panel more.
            let fits = |modes: &Self| indices.len() > FEW || modes.len() <= FEW;
            if let Some(quarters) = quarters.filter(fits) {
                return quarters;
            }
        }
        let mode = |odd: bool| indices.iter().map(move |&k| Mode { k, odd });
        let (even, odd): (Vec<Mode>, Vec<Mode>) = if lattice.mirrored() {
            let parity = |odd: bool| mode(odd).filter(move |m| (m.k % 2 == 1) == odd);
            (parity(false).collect(), parity(true).collect())
        } else {
            (mode(false).collect(), mode(true).filter(|m| m.k > 0).collect())
        };
        let blocks = Blocks::Halves { even: even.len() };
        Self { lattice, waves: [even, odd].concat(), blocks }
    }

    /// The lowest `count` modes of a reflecting axis in four blocks, with one more where an odd mode would have no
    /// partner. None where the length is no multiple of four, or the partner is the last mode, which has none.
    fn quarters(lattice: Lattice, count: usize) -> Option<Self> {
        let pairs = count / 4;
        if !lattice.n.is_multiple_of(4) || 4 * pairs + 2 > lattice.n {
            return None;
        }
        let sums = (0..count).step_by(4);
        let differences = (2..count).step_by(4);
        let first = std::iter::once(1).chain((1..=pairs).map(|p| 4 * p - 1));
        let second = (1..=pairs).map(|p| 4 * p + 1);
        let mut ends = [sums.len(), differences.len(), pairs + 1, pairs];
        for i in 1..4 {
            ends[i] += ends[i - 1];
        }
        let modes = sums.chain(differences).chain(first).chain(second);
        let waves = modes.map(|k| Mode { k, odd: k % 2 == 1 }).collect();
        Some(Self { lattice, waves, blocks: Blocks::Quarters { ends } })
    }

    /// Number of modes.
    pub(super) fn len(&self) -> usize {
        self.waves.len()
    }

    /// Angular frequency of every mode, radians a voxel.
    pub(super) fn frequencies(&self) -> Vec<f64> {
        self.waves.iter().map(|mode| self.lattice.omega(mode.k)).collect()
    }

    /// Value of a mode at voxel j.
    fn at(&self, mode: Mode, j: usize) -> f64 {
        let (Lattice { n, period, .. }, mirrored) = (self.lattice, self.lattice.mirrored());
        let angle = if mirrored {
            std::f64::consts::PI * ((2 * j + 1) * mode.k) as f64 / (2 * n) as f64
        } else {
            let from_middle = (2 * j) as f64 - (n - 1) as f64;
            std::f64::consts::PI * from_middle * mode.k as f64 / period as f64
        };
        self.norm(mode) * if mode.odd && !mirrored { angle.sin() } else { angle.cos() }
    }

    /// What makes a cosine or sine one of unit norm.
    fn norm(&self, mode: Mode) -> f64 {
        let Lattice { n, period, .. } = self.lattice;
        let alone = mode.k == 0 || 2 * mode.k == period;
        let size = if self.lattice.mirrored() { n } else { period };
        (if alone { 1.0 } else { 2.0 } / size as f64).sqrt()
    }

    /// The forms of values and coefficients, with ends of the blocks of both and the rows of a panel; `gain` is what
    /// a coefficient is multiplied by.
    fn layout<T: Real>(&self, gain: &impl Fn(usize) -> f64, contiguous: bool) -> Layout<T> {
        let (n, len) = (self.lattice.n, self.len());
        let block = if contiguous { width::<T>() } else { ROWS };
        let plain = |values, coefficients| Layout {
            forms: [Form::Plain, values],
            ends: [coefficients, vec![n]],
            block,
        };
        match self.blocks {
            Blocks::Quarters { .. } if contiguous && len <= FEW => plain(Form::Plain, vec![len]),
            Blocks::Halves { .. } if contiguous && len <= PLAIN => plain(Form::Plain, vec![len]),
            Blocks::Halves { even } => Layout {
                ends: [vec![even, len], vec![n.div_ceil(2), n]],
                ..plain(Form::Folded, Vec::new())
            },
            Blocks::Quarters { ends } => {
                let (at, pairs) = (ends[1] + 1, ends[3] - ends[2]);
                let ratio = |p: usize| T::of(gain(at + pairs + p) / gain(at + p));
                let pairs = Pairs { at, ratios: (0..pairs).map(ratio).collect() };
                Layout {
                    forms: [Form::Paired(pairs), Form::Quartered(Turns::new(n))],
                    ends: [ends.to_vec(), [1, 2, 3, 4].map(|i| i * n / 4).to_vec()],
                    block,
                }
            }
        }
    }

    /// What the matrix has for coefficient i and the j-th value of a lane in its form, without the gain.
    fn entry<T>(&self, form: &Form<T>, i: usize, j: usize) -> f64 {
        let (mode, n) = (self.waves[i], self.lattice.n);
        match (form, self.blocks) {
            (Form::Folded, _) => match (mode.odd, j < n.div_ceil(2)) {
                (false, true) => self.at(mode, j),
                (true, false) => self.at(mode, j - n.div_ceil(2)),
                _ => 0.0,
            },
            (Form::Quartered(_), Blocks::Quarters { ends }) => {
                let (block, j) = (j / (n / 4), j % (n / 4));
                if ends.iter().filter(|&&end| end <= i).count() != block {
                    return 0.0;
                }
                // 4pα_j of a pair.
                let angle =
                    |p: usize| std::f64::consts::PI * ((2 * j + 1) * 2 * p) as f64 / n as f64;
                match block {
                    0 | 1 => self.at(mode, j),
                    2 => self.norm(mode) * angle(i - ends[1]).cos(),
                    _ => self.norm(mode) * angle(i - ends[2] + 1).sin(),
                }
            }
            _ => self.at(mode, j),
        }
    }

    /// diag(gain) B: from values to coefficients.
    pub(super) fn forward<T: Real>(
        &self,
        gain: impl Fn(usize) -> f64,
        contiguous: bool,
    ) -> Product<T> {
        let layout = self.layout::<T>(&gain, contiguous);
        let entry = |i: usize, j: usize| layout.gain(&gain, i) * self.entry(&layout.forms[1], i, j);
        let size = [self.len(), self.lattice.n];
        Product::new(size, layout.forms.clone(), layout.block, &layout.ends[0], entry)
    }

    /// Bᵀ diag(gain): from coefficients to values.
    pub(super) fn back<T: Real>(
        &self,
        gain: impl Fn(usize) -> f64,
        contiguous: bool,
    ) -> Product<T> {
        let layout = self.layout::<T>(&gain, contiguous);
        let entry = |j: usize, i: usize| layout.gain(&gain, i) * self.entry(&layout.forms[1], i, j);
        let [coefficients, values] = layout.forms.clone();
        let size = [self.lattice.n, self.len()];
        Product::new(size, [values, coefficients], layout.block, &layout.ends[1], entry)
    }
}

/// How modes are applied along an axis.
#[derive(Clone, Debug)]
struct Layout<T> {
    /// Of coefficients, of values.
    forms: [Form<T>; 2],
    /// Ends of the blocks of both.
    ends: [Vec<usize>; 2],
    /// Rows of a panel.
    block: usize,
}

impl<T> Layout<T> {
    /// The gain that the matrix has for coefficient i: its own, in pairs that of the first.
    fn gain(&self, gain: &impl Fn(usize) -> f64, i: usize) -> f64 {
        match &self.forms[0] {
            Form::Paired(pairs) if i >= pairs.at + pairs.ratios.len() => {
                gain(i - pairs.ratios.len())
            }
            _ => gain(i),
        }
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
        Product::new([n, n], [Form::Plain, Form::Plain], block, &[n], |i, j| taps.entry(i, j))
    } else {
        folded_product(taps, block)
    }
}

/// Multiplications a value that take as long as to form even and odd parts of contiguous values and to undo it.
const FOLDING: usize = 8;

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

impl<T: Real> Axis<T> {
    /// Voxels along the axis.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Modes { forward, .. } => forward.input_len(),
            Self::Square(product) => product.input_len(),
        }
    }
}
