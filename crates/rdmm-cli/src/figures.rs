//! Figures of a map: similarity, overlap, landmarks.

use std::collections::BTreeMap;

use rdmm_core::evaluate::{dice, dice_whole, mse, ncc};
use rdmm_core::field::{Displacement, Image};
use rdmm_core::grid::Grid;
use rdmm_core::labels::Labels;
use rdmm_core::maps::PointMap;
use rdmm_core::registration::Intensities;
use serde::Serialize;
use serde_json::{Value, json};

use crate::failure::Done;
use crate::inputs::Landmarks;
use crate::maps::{carried, distance};

/// Overlap of the objects of two label maps.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Overlap {
    /// Dice of each label.
    pub(crate) by_label: BTreeMap<u32, f64>,
    /// The mean over the labels that both images have; NaN where there is none.
    pub(crate) mean: f64,
    /// Dice of all labels as one.
    pub(crate) whole: f64,
}

/// Distances of landmarks, mm.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Distances {
    pub(crate) each: Vec<f64>,
    pub(crate) mean: f64,
    pub(crate) max: f64,
}

/// What is known of a map.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// Part of the fixed image, or of its mask, that the moving image shows.
    pub(crate) shown: Option<f64>,
    /// Over that part.
    pub(crate) ncc: Option<f64>,
    /// Of grey values brought to the same range.
    pub(crate) mse: Option<f64>,
    pub(crate) overlap: Option<Overlap>,
    pub(crate) landmarks: Option<Distances>,
}

/// What figures are taken from, on the grid of the fixed image.
pub(crate) struct Subject<'a, const D: usize> {
    pub(crate) images: Option<(&'a Image<f32, D>, &'a Image<f32, D>)>,
    pub(crate) intensities: Intensities,
    pub(crate) mask: Option<&'a Image<f32, D>>,
    pub(crate) labels: Option<(&'a Labels<D>, &'a Labels<D>)>,
    pub(crate) landmarks: Option<&'a Landmarks<D>>,
}

impl<const D: usize> Subject<'_, D> {
    /// The mask of the fixed image where the map leads onto the grid `moving`, 0 elsewhere.
    fn shown(&self, moving: &Grid<D>, map: &Displacement<f32, D>) -> Done<Image<f32, D>> {
        let onto = map.leads_onto(moving);
        let counts = |i: usize| self.mask.map_or(1.0, |mask| mask.data()[i]);
        let mask = (0..map.grid().len()).map(|i| if onto(i) { counts(i) } else { 0.0 }).collect();
        Ok(Image::from_vec(map.grid(), mask)?)
    }

    /// The figures of a map that pulls back.
    pub(crate) fn under(&self, map: &Displacement<f32, D>) -> Done<Figures> {
        let mut figures = Figures::default();
        if let Some((fixed, moving)) = self.images {
            let fixed = self.intensities.applied(fixed, "fixed image")?;
            let moved = map.warp(&self.intensities.applied(moving, "moving image")?)?;
            let mask = self.shown(moving.grid(), map)?;
            let sum =
                |image: &Image<f32, D>| image.data().iter().map(|x| f64::from(*x)).sum::<f64>();
            let all = self.mask.map_or(fixed.grid().len() as f64, sum);
            figures.shown = Some(sum(&mask) / all);
            figures.ncc = compared(ncc(&moved, &fixed, Some(&mask)))?;
            figures.mse = compared(mse(&moved, &fixed, Some(&mask)))?;
        }
        if let Some((fixed, moving)) = self.labels {
            let moved = carried(moving, map)?;
            let by_label = dice(&moved, fixed)?;
            // A label that only one of the images has cannot be brought to overlap.
            let there = moving.classes();
            let both = |label: &&u32| there.contains(label);
            let in_both: Vec<u32> = fixed.classes().iter().filter(both).copied().collect();
            let of_both = in_both.iter().filter_map(|label| by_label.get(label));
            let mean = of_both.sum::<f64>() / in_both.len() as f64;
            figures.overlap = Some(Overlap { mean, by_label, whole: dice_whole(&moved, fixed)? });
        }
        if let Some((fixed, moving)) = self.landmarks {
            let map = PointMap::new(map)?;
            let pairs = fixed.iter().zip(moving);
            let each: Vec<f64> = pairs.map(|(&x, &y)| distance(map.apply(x), y)).collect();
            let mean = each.iter().sum::<f64>() / each.len().max(1) as f64;
            let max = each.iter().copied().fold(0.0, f64::max);
            figures.landmarks = Some(Distances { each, mean, max });
        }
        Ok(figures)
    }
}

/// A figure of two images; none where they hardly overlap, as before they are registered.
fn compared(found: rdmm_core::Result<f64>) -> Done<Option<f64>> {
    match found {
        Err(rdmm_core::Error::NoContrast { .. }) => Ok(None),
        found => Ok(Some(found?)),
    }
}

impl Figures {
    /// Named entries for a JSON object, each with a suffix.
    pub(crate) fn entries(&self, suffix: &str) -> Vec<(String, Value)> {
        let overlap = self.overlap.as_ref();
        let landmarks = self.landmarks.as_ref();
        [
            ("shown", json!(self.shown)),
            ("ncc", json!(self.ncc)),
            ("mse", json!(self.mse)),
            ("dice", json!(overlap.map(|overlap| &overlap.by_label))),
            ("dice_mean", json!(overlap.map(|overlap| overlap.mean))),
            ("dice_whole", json!(overlap.map(|overlap| overlap.whole))),
            ("landmarks_mean", json!(landmarks.map(|found| found.mean))),
            ("landmarks_max", json!(landmarks.map(|found| found.max))),
            ("landmarks", json!(landmarks.map(|found| &found.each))),
        ]
        .into_iter()
        .map(|(name, value)| (format!("{name}{suffix}"), value))
        .collect()
    }
}
