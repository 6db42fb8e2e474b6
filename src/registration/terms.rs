//! What an evaluation of the energy found.

use std::collections::BTreeMap;

/// The parts of the energy.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
#[non_exhaustive]
pub struct Terms {
    /// ½ ∫ m₀·v₀ over V L², with the volume V and the longest extent L of the grid: no unit.
    pub regularisation: f64,
    /// The similarity loss, without its weight.
    pub similarity: f64,
    /// The similarity loss with its weight, as it counts in `total`.
    pub weighted_similarity: f64,
    /// The losses of further channels, with their weights.
    pub channels: f64,
    /// The losses seen from the moving image, with their weights; 0 unless the model is
    /// [`TwoSided`](crate::model::TwoSided).
    pub reverse: f64,
    /// Mean squared error of the landmarks over L², with its weight.
    pub landmarks: f64,
    /// The penalties of the weights, each with its λ.
    pub penalty: f64,
    /// The barrier of [`Settings::min_jacobian`](super::Settings::min_jacobian), with its weight.
    pub folding: f64,
    /// The terms of [`Registration::with_term`](super::Registration::with_term) by their names, with their
    /// weights. Terms of one name are added up.
    pub further: BTreeMap<String, f64>,
    /// What is minimised: the sum of all but the unweighted similarity.
    pub total: f64,
}

/// What a term of the maps counts as.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part<'a> {
    Similarity,
    Channels,
    Folding,
    Reverse,
    Landmarks,
    Further(&'a str),
}

impl Terms {
    /// Every part by its name, with its weight. They sum to [`Terms::total`], up to rounding.
    pub fn weighted(&self) -> impl Iterator<Item = (&str, f64)> {
        [
            ("regularisation", self.regularisation),
            ("similarity", self.weighted_similarity),
            ("channels", self.channels),
            ("reverse", self.reverse),
            ("landmarks", self.landmarks),
            ("penalty", self.penalty),
            ("folding", self.folding),
        ]
        .into_iter()
        .chain(self.further.iter().map(|(name, value)| (name.as_str(), *value)))
    }

    /// Adds the weighted value of a term.
    pub(super) fn add(&mut self, part: Part<'_>, value: f64) {
        let sum = match part {
            Part::Similarity => &mut self.weighted_similarity,
            Part::Channels => &mut self.channels,
            Part::Folding => &mut self.folding,
            Part::Reverse => &mut self.reverse,
            Part::Landmarks => &mut self.landmarks,
            Part::Further(name) => match self.further.get_mut(name) {
                Some(sum) => sum,
                None => self.further.entry(name.to_owned()).or_default(),
            },
        };
        *sum += value;
    }

    /// The sum of all, one after the other.
    pub(super) fn sum(&self) -> f64 {
        self.weighted().map(|(_, value)| value).fold(0.0, |sum, value| sum + value)
    }
}

/// What one evaluation found.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Diagnostics {
    /// The parts of the energy.
    pub terms: Terms,
    /// Time steps taken.
    pub steps: usize,
    /// H(1)/H(0) − 1.
    pub energy_drift: f64,
    /// Smallest [determinant](crate::ops::cells::cell_determinants) of Φ⁻¹ in the cells of the map grid.
    pub min_det: f64,
}

/// What an evaluation that shrank its controls found.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Shrunk {
    /// The energy of the controls as they are now.
    pub value: f64,
    /// What the momentum was multiplied by: 1 where the controls were admissible, 0 where only the identity is.
    pub factor: f64,
}
