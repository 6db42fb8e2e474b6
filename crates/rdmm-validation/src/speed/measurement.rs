//! The figures of one workload, as JSON.

use std::error::Error;

use serde_json::{Value, json};

use super::clock::Clock;
use super::workload::Workload;
use super::{peak, problem, traffic, triad};

type Fallible<T> = Result<T, Box<dyn Error>>;

/// The figures.
#[derive(Clone, Debug)]
pub struct Measurement {
    pub workload: Workload,
    pub threads: usize,
    pub seconds: f64,
    pub triad: f64,
    /// Bytes; `None` where the system does not tell.
    pub peak: Option<u64>,
}

impl Measurement {
    /// Measures `workload` with `threads` threads: first its time, then the peak of the memory of this process,
    /// then the bandwidth, whose arrays are larger.
    pub fn of(workload: &Workload, threads: usize) -> Fallible<Self> {
        let clock = Clock::of(threads);
        let mut seconds = f64::NAN;
        problem::run(workload, &mut |work| {
            seconds = clock.least(work)?;
            Ok(())
        })?;
        let peak = peak::resident()?;
        let triad = triad::bytes_per_second(clock);
        Ok(Self { workload: workload.clone(), threads, seconds, triad, peak })
    }

    /// Seconds over those that the memory needs for the bytes that have to be moved.
    pub fn ratio_to_bound(&self) -> f64 {
        self.seconds / (traffic::bytes(&self.workload) / self.triad)
    }

    /// All figures.
    pub fn json(&self) -> Value {
        let Workload { operation, shape, float } = &self.workload;
        json!({
            "model": operation.model(),
            "operation": operation.to_string(),
            "shape": shape,
            "float": float.to_string(),
            "gaussians": operation.gaussians(),
            "steps": operation.flow().map(|flow| flow.steps),
            "threads": self.threads,
            "seconds": self.seconds,
            "voxels_per_second": self.workload.voxels() as f64 / self.seconds,
            "bytes_moved": traffic::bytes(&self.workload),
            "triad_gb_per_s": self.triad / 1e9,
            "ratio_to_bound": self.ratio_to_bound(),
            "peak_mb": self.peak.map(|bytes| bytes as f64 / 1e6),
        })
    }
}
