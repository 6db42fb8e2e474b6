//! An atlas of five people: an image and a shape that are the mean of theirs.
//!
//! Alternates between registering the atlas to every subject and averaging: the images, each read where
//! the atlas goes, and the initial momenta, whose mean moves the atlas to the mean shape. The subjects are
//! generated from one image by random geodesics, so that the truth is known.

#![expect(clippy::print_stdout, reason = "an example prints its results")]

use std::error::Error;

use rdmm_core::evaluate::ncc;
use rdmm_core::field::{Image, Momentum};
use rdmm_core::grid::Grid;
use rdmm_core::kernel::{Gaussian, Kernel};
use rdmm_core::model::{Lddmm, MultiGaussian};
use rdmm_core::ops::resample::Resample;
use rdmm_core::registration::Registration;
use rdmm_core::shoot::Shoot;
use rdmm_core::similarity::Ssd;
use rdmm_core::space::StateSpace;
use rdmm_core::synthetic::Shapes;
use rdmm_core::testing::random;

type Fallible<T> = Result<T, Box<dyn Error>>;

/// The image at the end of the geodesic with this initial momentum.
fn shot(
    model: &Lddmm,
    momentum: &Momentum<f32, 2>,
    image: &Image<f32, 2>,
) -> Fallible<Image<f32, 2>> {
    let grid = momentum.grid();
    let (end, _) = Shoot::lddmm(grid, model.metric())?.forward(momentum, None)?;
    let map = Resample::new(grid, image.grid()).field(&end.inverse_map)?;
    Ok(map.warp(image)?)
}

/// `sum / n`.
fn mean<S: StateSpace<f32>>(fields: &[S]) -> Option<S> {
    let mut mean = fields.first()?.zeros_like();
    for field in fields {
        mean.axpy(1.0 / fields.len() as f32, field);
    }
    Some(mean)
}

fn main() -> Fallible<()> {
    let grid = Grid::<2>::unit([64, 64])?;
    let model = Lddmm::new(MultiGaussian::for_grid(&grid));
    let truth = Shapes::default().pair::<f32, 2>(&grid)?.fixed;

    // Five random geodesics whose momenta sum to zero: the truth is their mean.
    let smoother = Gaussian::<f32, 2>::new(&grid, 0.06)?;
    let noise = |seed| Momentum::from_vec(&grid, random(2 * grid.len(), seed));
    let smooth = |seed| smoother.smooth(&noise(seed)?);
    let mut momenta = (0..5).map(smooth).collect::<Result<Vec<_>, _>>()?;
    let centre = mean(&momenta).ok_or("no subjects")?;
    for momentum in &mut momenta {
        momentum.axpy(-1.0, &centre);
        momentum.scale(2.0);
    }
    let subjects: Fallible<Vec<_>> = momenta.iter().map(|m| shot(&model, m, &truth)).collect();
    let subjects = subjects?;

    let mut atlas = mean(&subjects).ok_or("no subjects")?;
    let plain = ncc(&atlas, &truth, None)?;
    println!("mean of the images: {plain:.4} to the truth");
    let registration = Registration::new(model.clone(), Ssd);
    for round in 1..=3 {
        let (mut images, mut momenta, mut energy) = (Vec::new(), Vec::new(), 0.0);
        for subject in &subjects {
            let found = registration.run(subject, &atlas)?;
            // The subject, read where the atlas goes: the subject in the shape of the atlas.
            images.push(found.forward_map.warp(subject)?);
            energy += found.report.levels.last().map_or(0.0, |level| level.last.terms.total);
            momenta.push(found.momentum);
        }
        let sharp = mean(&images).ok_or("no subjects")?;
        atlas = shot(&model, &mean(&momenta).ok_or("no subjects")?, &sharp)?;
        let reached = ncc(&atlas, &truth, None)?;
        println!("round {round}: {reached:.4} to the truth, energy of all subjects {energy:.5}");
    }
    let reached = ncc(&atlas, &truth, None)?;
    if reached < 0.98 || reached <= plain {
        return Err(format!(
            "the atlas correlates {reached:.4} with the truth, its images' mean {plain:.4}"
        )
        .into());
    }
    Ok(())
}
