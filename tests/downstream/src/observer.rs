//! An observer of one's own.

use crate::pair::{Fallible, Pair, settings};
use rdmm_core::model::{Lddmm, MultiGaussian};
use rdmm_core::registration::{Progress, Registration};
use rdmm_core::similarity::Ssd;
use std::ops::ControlFlow;

/// Stops where the loss has fallen by a factor.
struct Enough {
    factor: f64,
    first: Option<f64>,
    seen: usize,
}

impl Enough {
    fn observe(&mut self, progress: &Progress) -> ControlFlow<()> {
        self.seen += 1;
        let loss = progress.diagnostics.terms.similarity;
        let first = *self.first.get_or_insert(loss);
        if loss < self.factor * first { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

pub fn register(pair: &Pair) -> Fallible<f64> {
    let model = Lddmm::new(MultiGaussian::for_grid(pair.grid()));
    let registration = Registration::new(model, Ssd).with_settings(settings());
    let mut enough = Enough { factor: 0.8, first: None, seen: 0 };
    let result =
        registration.run_with(&pair.fixed, &pair.moving, |progress| enough.observe(progress))?;
    if !(1..6).contains(&enough.seen) {
        return Err(format!("expected an early stop, found {} iterations", enough.seen).into());
    }
    pair.gain(&result.warped)
}
