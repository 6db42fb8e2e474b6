//! The terms of one energy that are functions of the maps.

use super::term::folding::FoldingTerm;
use super::term::image::ImageTerm;
use super::term::landmarks::LandmarkTerm;
use super::term::reverse::ReverseTerm;
use super::term::{FinalMaps, MapCotangents, MapTerm};
use super::terms::{Part, Terms};
use crate::error::Result;
use crate::scalar::Real;

/// Every term but the regulariser and the penalties, which are functions of the controls.
pub(super) struct MapTerms<T: Real, const D: usize> {
    pub(super) similarity: ImageTerm<T, D>,
    pub(super) channels: Vec<ImageTerm<T, D>>,
    pub(super) folding: FoldingTerm<T, D>,
    pub(super) reverse: Vec<ReverseTerm<T, D>>,
    pub(super) landmarks: Option<LandmarkTerm<T, D>>,
    /// Those of the user, by their names.
    pub(super) further: Vec<(String, Box<dyn MapTerm<T, D>>)>,
}

/// A term, and what it counts as.
struct Counted<'a, T: Real, const D: usize> {
    part: Part<'a>,
    term: &'a mut dyn MapTerm<T, D>,
}

impl<T: Real, const D: usize> MapTerms<T, D> {
    /// The similarity alone.
    pub(super) fn new(similarity: ImageTerm<T, D>) -> Self {
        Self {
            similarity,
            channels: Vec::new(),
            folding: FoldingTerm::none(),
            reverse: Vec::new(),
            landmarks: None,
            further: Vec::new(),
        }
    }

    /// Each term and what it counts as, in the order of evaluation: maps that fold are refused before their inverses
    /// are looked at.
    fn each(&mut self) -> impl Iterator<Item = Counted<'_, T, D>> {
        let Self { similarity, channels, folding, reverse, landmarks, further } = self;
        std::iter::once(Counted { part: Part::Similarity, term: similarity })
            .chain(channels.iter_mut().map(|term| Counted { part: Part::Channels, term }))
            .chain(std::iter::once(Counted { part: Part::Folding, term: folding }))
            .chain(reverse.iter_mut().map(|term| Counted { part: Part::Reverse, term }))
            .chain(landmarks.iter_mut().map(|term| Counted { part: Part::Landmarks, term }))
            .chain(further.iter_mut().map(|(name, term)| {
                let term: &mut dyn MapTerm<T, D> = &mut **term;
                Counted { part: Part::Further(name), term }
            }))
    }

    /// Adds each term to `terms`, and its derivatives to `bars`.
    ///
    /// # Errors
    /// That of the first term that refuses the maps or fails.
    pub(super) fn add(
        &mut self,
        maps: &FinalMaps<'_, T, D>,
        bars: &mut MapCotangents<T, D>,
        terms: &mut Terms,
    ) -> Result<()> {
        bars.clear();
        for Counted { part, term } in self.each() {
            terms.add(part, term.add(maps, bars)?);
        }
        terms.similarity = self.similarity.loss();
        Ok(())
    }
}
