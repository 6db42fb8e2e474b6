//! A term of the energy of one's own.

// ANCHOR: displacement
use rdmm_core::error::Result;
use rdmm_core::registration::{FinalMaps, LevelGrids, MapCotangents, MapTerm, TermRecipe};
use rdmm_core::{Real, space::StateSpace, world::Affine};

/// λ times the mean squared displacement, in units of the longest extent L.
#[derive(Clone, Copy, Debug)]
struct ShortDisplacements {
    weight: f64,
}

/// λ/(n L²) of a level.
struct Prepared {
    scale: f64,
}

impl<T: Real, const D: usize> TermRecipe<T, D> for ShortDisplacements {
    fn name(&self) -> &str {
        "displacement"
    }

    fn prepare(&self, level: &LevelGrids<D>, _: &Affine<D>) -> Result<Box<dyn MapTerm<T, D>>> {
        let (n, length) = (level.images.len() as f64, level.images.largest_extent());
        Ok(Box::new(Prepared { scale: self.weight / (n * length * length) }))
    }
}

impl<T: Real, const D: usize> MapTerm<T, D> for Prepared {
    fn add(&mut self, maps: &FinalMaps<'_, T, D>, bars: &mut MapCotangents<T, D>) -> Result<f64> {
        let u = maps.inverse;
        // ∂(s u·u)/∂u = 2 s u
        bars.inverse.sum_mut()?.axpy(T::of(2.0 * self.scale), u);
        Ok(self.scale * u.dot(u))
    }
}
// ANCHOR_END: displacement

use crate::pair::{Fallible, Pair, settings};
use rdmm_core::model::{Lddmm, MultiGaussian};
use rdmm_core::registration::Registration;
use rdmm_core::similarity::Ssd;

pub fn register(pair: &Pair) -> Fallible<f64> {
    let model = Lddmm::new(MultiGaussian::for_grid(pair.grid()));
    let free = Registration::new(model, Ssd).with_settings(settings());
    let held = free.clone().with_term(ShortDisplacements { weight: 10.0 });
    let free = free.run(&pair.fixed, &pair.moving)?;
    let held = held.run(&pair.fixed, &pair.moving)?;
    if held.inverse_map.norm() >= free.inverse_map.norm() {
        return Err("the term holds nothing back".into());
    }
    pair.gain(&held.warped)
}
