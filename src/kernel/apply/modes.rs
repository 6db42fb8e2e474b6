//! The matrix of a Gaussian along one axis by its cosines and sines.

use super::domain::Lattice;
use super::form::{Form, PLAIN, Pairs, Turns};
use super::product::{Product, ROWS, width};
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
/// They are the eigenvectors of the discrete Gaussians that [`Transform`](super::fft::Transform)
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
    pub(super) fn analysis<T: Real>(
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
    pub(super) fn synthesis<T: Real>(
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
