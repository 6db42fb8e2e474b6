//! A Gaussian along one axis, in each of the two ways in which it is a product of matrices.

use super::band::{Taps, square};
use super::domain::Lattice;
use super::modes::Modes;
use super::product::Product;
use super::profile::multiplier;
use crate::scalar::Real;

/// The matrix of a Gaussian along one axis.
#[derive(Clone, Debug)]
pub(super) enum Axis<T> {
    /// B diag(g) Bᵀ without the modes whose multiplier is below the tolerance: the square root of the Gaussian
    /// and its transpose.
    Modes { analysis: Product<T>, synthesis: Product<T> },
    /// The matrix itself: banded where its entries fall below the tolerance, else whole or in its even
    /// and odd block.
    Square(Product<T>),
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
        let analysis = modes.analysis(root, contiguous);
        let synthesis = modes.synthesis(root, contiguous);
        let matrix = square(&Taps::new(lattice, gain), tolerance, contiguous);
        [Self::Modes { analysis, synthesis }, Self::Square(matrix)]
    }
}

impl<T: Real> Axis<T> {
    /// Voxels along the axis.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Modes { analysis, .. } => analysis.input_len(),
            Self::Square(product) => product.input_len(),
        }
    }
}
