//! A penalty of weights of one's own.

// ANCHOR: evenness
use rdmm_core::Real;
use rdmm_core::error::Result;
use rdmm_core::grid::Grid;
use rdmm_core::regularize::{On, Penalty, Regularizer};

/// The mean over the voxels of Σᵢ (wᵢ² − 1/N)²: zero where all Gaussians count alike.
#[derive(Clone, Copy, Debug)]
struct Evenness {
    weight: f64,
}

struct Prepared {
    gaussians: usize,
    voxels: usize,
}

impl<T: Real, const D: usize> Regularizer<T, D> for Evenness {
    fn on_grid(&self, grid: &Grid<D>, sigmas: &[f64]) -> Result<Box<dyn Penalty<T>>> {
        Ok(Box::new(Prepared { gaussians: sigmas.len(), voxels: grid.len() }))
    }

    fn acts_on(&self) -> On {
        On::Weights
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn name(&self) -> &'static str {
        "evenness"
    }
}

impl<T: Real> Penalty<T> for Prepared {
    fn add(&mut self, scale: f64, weights: &[T], gradient: &mut [T]) -> f64 {
        let n = self.gaussians * self.voxels;
        if weights.len() != n || gradient.len() != n {
            gradient.fill(T::nan());
            return f64::NAN;
        }
        let (even, each) = (1.0 / self.gaussians as f64, scale / self.voxels as f64);
        let mut value = 0.0;
        for (w, bar) in weights.iter().zip(gradient) {
            let off = w.f64().powi(2) - even;
            value += each * off * off;
            *bar += T::of(4.0 * each * off * w.f64());
        }
        value
    }
}
// ANCHOR_END: evenness

use crate::pair::{Fallible, Pair, settings};
use rdmm_core::model::{MultiGaussian, RdmmOptimised};
use rdmm_core::registration::Registration;
use rdmm_core::similarity::Ssd;
use rdmm_core::testing::check_penalty;
use std::sync::Arc;

pub fn register(pair: &Pair) -> Fallible<f64> {
    let penalty = Evenness { weight: 1e-3 };
    check_penalty(&penalty, &Grid::<2>::unit([12, 10])?, &[0.1, 0.2, 0.4])?;

    let extent = pair.grid().largest_extent();
    let metric = MultiGaussian::for_grid(pair.grid());
    let model =
        RdmmOptimised::<f32, 2>::new(metric, 0.05 * extent)?.with_penalty(Arc::new(penalty));
    let registration = Registration::new(model, Ssd).with_settings(settings());
    pair.gain(&registration.run(&pair.fixed, &pair.moving)?.warped)
}
