//! Figures of a registration, and how they are written down.

use std::collections::BTreeMap;

use rdmm_core::registration::Report;
use serde_json::{Value, json};

use super::regional::Regional;

/// What one registration gave. Pairs are before and after.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// NCC over the mask, or the whole image.
    pub ncc: [f64; 2],
    /// Mean squared difference, likewise.
    pub mse: [f64; 2],
    /// `None` where there are no labels.
    pub overlap: Option<[Overlap; 2]>,
    /// Mean and largest distance of Φ(Φ⁻¹(x)) from x in the interior, physical units.
    pub inverse: [f64; 2],
    /// Mean distance of landmarks before, after the initial map and in the end, physical units.
    pub landmarks: Option<[f64; 3]>,
    /// Where the regulariser lies; `None` where the regions are not known on both sides.
    pub regional: Option<Regional>,
    /// Coarsest spacing of the fixed image.
    pub spacing: f64,
    pub report: Report,
}

/// How objects overlap.
#[derive(Clone, Debug)]
pub struct Overlap {
    pub by_label: BTreeMap<u32, f64>,
    /// Dice of all labels as one.
    pub whole: f64,
    /// NCC of the images where either has an object.
    pub ncc: f64,
}

impl Overlap {
    /// Mean Dice of the labels.
    pub fn mean(&self) -> f64 {
        self.by_label.values().sum::<f64>() / self.by_label.len() as f64
    }
}

/// Headings of [`Outcome::cells`].
pub const HEADINGS: [&str; 13] = [
    "model",
    "measure",
    "λ",
    "NCC",
    "in union of labels",
    "mean Dice",
    "whole Dice",
    "folds",
    "min det",
    "drift",
    "inverse mean, max (voxels)",
    "evaluations",
    "seconds",
];

impl Outcome {
    /// One row of a table.
    pub fn cells(&self) -> Vec<String> {
        let report = &self.report;
        let of = |pick: fn(&Overlap) -> f64| match &self.overlap {
            None => "–".to_owned(),
            Some(overlap) => pair([pick(&overlap[0]), pick(&overlap[1])]),
        };
        let folds = report.folds.total();
        let [mean, max] = self.inverse.map(|x| x / self.spacing);
        vec![
            report.model.clone(),
            report.measure.clone(),
            format!("{}", report.similarity_weight),
            pair(self.ncc),
            of(|overlap| overlap.ncc),
            of(Overlap::mean),
            of(|overlap| overlap.whole),
            folds.folded.to_string(),
            format!("{:.3}", folds.min),
            format!("{:.1e}", report.energy_drift),
            format!("{mean:.3}, {max:.2}"),
            report.evaluations.to_string(),
            format!("{:.1}", report.seconds),
        ]
    }

    /// One line on what changed.
    pub fn summary(&self) -> String {
        let mut text = format!("NCC {}", pair(self.ncc));
        if let Some([before, after]) = &self.overlap {
            text = format!("{text}, mean Dice {}", pair([before.mean(), after.mean()]));
        }
        if let Some([before, initial, after]) = self.landmarks {
            text = format!("{text}, landmarks {before:.2} to {initial:.2} to {after:.2}");
        }
        text.replace('→', "to")
    }

    /// Everything, with `more` entries at the start.
    pub fn json(&self, more: &[(&str, &str)]) -> Value {
        let report = &self.report;
        let folds = report.folds.total();
        // Objects by label, null without labels.
        let dice = |k: usize| {
            self.overlap.as_ref().map(|overlap| {
                let entry = |(label, dice): (&u32, &f64)| (label.to_string(), json!(dice));
                Value::Object(overlap[k].by_label.iter().map(entry).collect())
            })
        };
        let whole = |k: usize| self.overlap.as_ref().map(|overlap| overlap[k].whole);
        let union = |k: usize| self.overlap.as_ref().map(|overlap| overlap[k].ncc);
        let levels: Vec<Value> = report
            .levels
            .iter()
            .map(|level| {
                json!({
                    "images": level.images,
                    "map": level.map,
                    "iterations": level.iterations,
                    "evaluations": level.evaluations,
                    "first": level.first,
                    "last": level.last,
                    "stop": format!("{:?}", level.stop),
                    "seconds": level.seconds,
                })
            })
            .collect();
        let mut value = json!({
            "model": report.model,
            "ncc_before": self.ncc[0],
            "ncc_after": self.ncc[1],
            "mse_before": self.mse[0],
            "mse_after": self.mse[1],
            "dice_before": dice(0),
            "dice_after": dice(1),
            "folds": folds.folded,
            "min_det": folds.min,
            "energy_drift": report.energy_drift,
            "evaluations": report.evaluations,
            "seconds": report.seconds,
            "similarity": report.measure,
            "similarity_weight": report.similarity_weight,
            "ncc_union_before": union(0),
            "ncc_union_after": union(1),
            "dice_whole_before": whole(0),
            "dice_whole_after": whole(1),
            "inverse_consistency_mean": self.inverse[0],
            "inverse_consistency_max": self.inverse[1],
            "landmarks_before_initial_after": self.landmarks,
            "level_set_dice": self.regional.map(|r| r.level_set),
            "deformation_inside_over_outside": self.regional.map(|r| r.inside),
            "sigma_at_edges_over_elsewhere": self.regional.map(|r| r.edges),
            "mean_sigma": self.regional.map(|r| r.sigma),
            "steps": report.steps,
            "levels": levels,
        });
        if let Value::Object(object) = &mut value {
            for &(key, text) in more {
                object.insert(key.to_owned(), json!(text));
            }
        }
        value
    }
}

fn pair([before, after]: [f64; 2]) -> String {
    format!("{before:.3} → {after:.3}")
}

/// A Markdown table with columns of even width.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.fold(headings[column].chars().count(), usize::max)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: &[&str]| {
        let cells: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rules: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
    let mut text = line(headings);
    text += &line(&rules.iter().map(String::as_str).collect::<Vec<_>>());
    for row in rows {
        text += &line(&row.iter().map(String::as_str).collect::<Vec<_>>());
    }
    text
}
