//! The files of a shot: arrays and figures.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rdmm_core::evaluate::{Folds, inverse_consistency};
use rdmm_core::field::Field;
use rdmm_core::field::kind::Kind;
use rdmm_core::grid::Grid;
use rdmm_io::npy;
use serde_json::{Value, json};

use super::flow::{Instant, drift};
use super::input::weights;
use crate::cli::{Advected, ShootArgs, ShotModel};
use crate::config::BoundaryKind;
use crate::failure::{Done, Failure};

/// A folder, and the figures of what was written to it.
pub(super) struct Results {
    folder: PathBuf,
    instants: Vec<Figures>,
}

/// Figures at one time.
struct Figures {
    time: f64,
    energy: f64,
    folds: Folds,
    /// |Φ∘Φ⁻¹ − id|, mean and largest in the interior.
    consistency: [f64; 2],
}

impl Results {
    /// Results in a folder, which is created.
    pub(super) fn in_folder(folder: &Path) -> Done<Self> {
        std::fs::create_dir_all(folder).map_err(|error| Failure::at(folder.display(), error))?;
        Ok(Self { folder: folder.to_path_buf(), instants: Vec::new() })
    }

    /// Writes the arrays of one time, and keeps its figures.
    pub(super) fn write<const D: usize>(&mut self, instant: &Instant<'_, D>) -> Done {
        let Instant { time, energy, inverse, forward, momentum, weights } = instant;
        let (time, energy) = (*time, *energy);
        let suffix = if time < 1.0 { format!("_t{time}") } else { String::new() };
        self.array(&format!("inverse_displacement{suffix}"), inverse)?;
        self.array(&format!("forward_displacement{suffix}"), forward)?;
        self.array(&format!("momentum{suffix}"), momentum)?;
        if let Some(weights) = weights {
            self.array(&format!("preweights{suffix}"), weights)?;
        }
        let apart = inverse_consistency(forward, inverse)?;
        let consistency = [apart.mean, apart.max];
        self.instants.push(Figures { time, energy, folds: Folds::of(inverse)?, consistency });
        Ok(())
    }

    fn array<K: Kind, const D: usize>(&self, name: &str, field: &Field<f64, D, K>) -> Done {
        let path = self.folder.join(format!("{name}.npy"));
        Ok(npy::write_f64(path, field.view().shape(), field.data())?)
    }

    /// The last time in words.
    pub(super) fn last_line(&self) -> String {
        self.instants.last().map_or_else(String::new, |last| {
            let total = last.folds.total();
            format!(
                "t = {}: energy {:.6e}, smallest determinant {:.3}, {} folds",
                last.time, last.energy, total.min, total.folded
            )
        })
    }

    /// Writes `report.json`.
    pub(super) fn report<const D: usize>(
        &self,
        args: &ShootArgs,
        grid: &Grid<D>,
        energies: &[(f64, f64)],
        elapsed: Duration,
    ) -> Done {
        let ends = [energies.first(), energies.last()].map(|end| end.map_or(0.0, |end| end.1));
        let mut report = json!({
            "command": "shoot",
            "version": env!("CARGO_PKG_VERSION"),
            "model": model(args.model),
            "shape": grid.shape().to_vec(),
            "spacing": grid.spacing().to_vec(),
            "boundary": boundary(args.boundary),
            "sigmas": args.sigmas,
        });
        let mut set = |entries| extend(&mut report, entries);
        set(regulariser(args));
        set(json!({
            "steps": energies.len().saturating_sub(1),
            "energy_t0": ends[0],
            "energy_t1": ends[1],
            "energy_drift": drift(energies),
        }));
        if let Some(last) = self.instants.last() {
            set(last.map());
        }
        set(json!({
            "times": self.instants.iter().map(Figures::json).collect::<Vec<_>>(),
            "energies": energies,
            "seconds": elapsed.as_secs_f64(),
        }));
        let text = format!("{report:#}\n");
        let path = self.folder.join("report.json");
        Ok(rdmm_io::atomic::write(path, |file| file.write_all(text.as_bytes()))?)
    }

    /// `Ok` where no map of any time folds.
    pub(super) fn expect_no_folds(&self) -> Done {
        match self.instants.iter().find(|figures| figures.folds.total().folded > 0) {
            None => Ok(()),
            Some(Figures { time, folds, .. }) => Err(Failure::Unfinished(format!(
                "the inverse map folds at {} voxels at t = {time}, expected none: take more steps, a smaller \
                 momentum or larger Gaussians; results were written",
                folds.total().folded
            ))),
        }
    }
}

impl Figures {
    /// What is measured of the maps.
    fn map(&self) -> Value {
        let (total, interior) = (self.folds.total(), self.folds.interior);
        json!({
            "min_det": total.min,
            "folds": total.folded,
            "folds_interior": interior.folded,
            "fold_fraction": total.fraction(),
            "inverse_consistency_mean": self.consistency[0],
            "inverse_consistency_max": self.consistency[1],
        })
    }

    fn json(&self) -> Value {
        let mut all = json!({ "time": self.time, "energy": self.energy });
        extend(&mut all, self.map());
        all
    }
}

/// Adds the entries of one object to another.
fn extend(object: &mut Value, entries: Value) {
    if let (Value::Object(object), Value::Object(entries)) = (object, entries) {
        object.extend(entries);
    }
}

/// Options that only some models have.
fn regulariser(args: &ShootArgs) -> Value {
    match args.model {
        ShotModel::Rdmm => {
            let advect = match args.advect {
                Advected::Preweights => "preweights",
                Advected::Weights => "weights",
            };
            json!({ "preweight_sigma": args.preweight_sigma, "advect": advect })
        }
        ShotModel::Vsvf | ShotModel::Lddmm => json!({ "shares": weights(args) }),
    }
}

fn model(model: ShotModel) -> &'static str {
    match model {
        ShotModel::Vsvf => "vsvf",
        ShotModel::Lddmm => "lddmm",
        ShotModel::Rdmm => "rdmm",
    }
}

fn boundary(boundary: BoundaryKind) -> &'static str {
    match boundary {
        BoundaryKind::Periodic => "periodic",
        BoundaryKind::Reflecting => "reflecting",
        BoundaryKind::Free => "free",
    }
}
