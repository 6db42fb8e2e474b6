//! Several pairs of images under one map: further channels of the same anatomy, label maps.

use std::sync::Arc;

use super::intensity::Intensities;
use crate::comparison::Overlap;
use crate::error::{Error, Result, positive};
use crate::field::Image;
use crate::grid::Grid;
use crate::kernel::{Gaussian, Kernel, Workspace};
use crate::labels::Labels;
use crate::ops::warp::{Warp, warp};
use crate::pyramid;
use crate::scalar::Real;
use crate::similarity::{Measure, Similarity};
use crate::world::Affine;

/// A further pair of images that the same map must match: λ Sim(J₀∘Φ⁻¹, J₁), added to the energy.
///
/// The fixed image lies on the grid of the registration's fixed image, the moving image anywhere in the same
/// world. For several measures of one pair see [`WeightedSum`](crate::similarity::WeightedSum).
///
/// ```
/// use rdmm_core::grid::Grid;
/// use rdmm_core::model::{Lddmm, MultiGaussian};
/// use rdmm_core::registration::{Channel, Level, Registration, Settings};
/// use rdmm_core::similarity::{Ncc, Ssd};
/// use rdmm_core::synthetic::Shapes;
///
/// let grid = Grid::<2>::unit([40, 40])?;
/// let pair = Shapes::default().with_outside(1).pair::<f32, 2>(&grid)?;
/// let edges = Channel::new(pair.fixed.clone(), pair.moving.clone(), Ncc).with_weight(0.02);
/// let model = Lddmm::new(MultiGaussian::for_grid(&grid));
/// let levels = vec![Level { factor: 1.0, iterations: 5 }];
/// let result = Registration::new(model, Ssd)
///     .with_settings(Settings::default().with_levels(levels))
///     .with_channel(edges)
///     .run(&pair.fixed, &pair.moving)?;
/// let level = &result.report.levels[0];
/// assert!(level.last.terms.channels < level.first.terms.channels);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Channel<T: Real, const D: usize> {
    fixed: Image<T, D>,
    moving: Image<T, D>,
    measure: Arc<dyn Measure<T, D>>,
    weight: Option<f64>,
    mask: Option<Image<T, D>>,
    moving_mask: Option<Image<T, D>>,
    intensities: Intensities,
}

impl<T: Real, const D: usize> Channel<T, D> {
    /// A pair of images with the measure's default weight, default intensities and no mask. Checks of the
    /// images wait for the registration.
    #[must_use]
    pub fn new(
        fixed: Image<T, D>,
        moving: Image<T, D>,
        measure: impl Measure<T, D> + 'static,
    ) -> Self {
        let (measure, intensities) = (Arc::new(measure), Intensities::default());
        let (mask, moving_mask) = (None, None);
        Self { fixed, moving, measure, weight: None, mask, moving_mask, intensities }
    }

    /// The same with another λ.
    #[must_use]
    pub fn with_weight(mut self, weight: f64) -> Self {
        self.weight = Some(weight);
        self
    }

    /// The same with a mask on the fixed image: voxels count by their value from 0 to 1.
    #[must_use]
    pub fn with_mask(mut self, mask: Image<T, D>) -> Self {
        self.mask = Some(mask);
        self
    }

    /// The same with a mask on the moving image, as in
    /// [`Registration::with_moving_mask`](super::Registration::with_moving_mask).
    #[must_use]
    pub fn with_moving_mask(mut self, mask: Image<T, D>) -> Self {
        self.moving_mask = Some(mask);
        self
    }

    /// The same with other rules for grey values.
    #[must_use]
    pub fn with_intensities(mut self, intensities: Intensities) -> Self {
        self.intensities = intensities;
        self
    }

    /// The pair with its grey values mapped, for a registration whose fixed image lies on `grid`.
    pub(super) fn pair(&self, grid: &Grid<D>) -> Result<Pair<'_, T, D>> {
        grid.expect_same(self.fixed.grid(), "fixed image of a channel")?;
        if let Some(mask) = &self.mask {
            grid.expect_same(mask.grid(), "mask of a channel")?;
        }
        if let Some(mask) = &self.moving_mask {
            self.moving.grid().expect_same(mask.grid(), "mask of a channel's moving image")?;
        }
        let weight = self.weight.unwrap_or_else(|| self.measure.default_weight());
        Ok(Pair {
            fixed: self.intensities.applied(&self.fixed, "fixed image of a channel")?,
            moving: self.intensities.applied(&self.moving, "moving image of a channel")?,
            measure: &*self.measure,
            weight: positive("weight of a channel", weight)?,
            mask: self.mask.as_ref(),
            moving_mask: self.moving_mask.as_ref(),
        })
    }
}

/// Channels that match label maps, one for each label: their indicators, 1 inside and 0 outside, smoothed by
/// a Gaussian of standard deviation `sigma` (physical units), as they are.
///
/// The smoothing decides from how far labels attract one another; it must span at least half a voxel. One to
/// three voxels suit thin structures, and the pyramid smooths more on its coarse levels. Each channel takes
/// a clone of the measure, with its default weight; [`Ssd`](crate::similarity::Ssd) suits indicators. To
/// register label maps alone, see [`Registration::run_labels`](super::Registration::run_labels).
///
/// # Errors
/// [`Error::Setting`] unless both maps hold the same labels besides the background, at least one;
/// [`Error::Sigma`] for a smoothing that the grids cannot carry; [`Error::OutOfMemory`].
///
/// ```
/// use rdmm_core::grid::Grid;
/// use rdmm_core::registration::label_channels;
/// use rdmm_core::similarity::Ssd;
/// use rdmm_core::synthetic::Shapes;
///
/// let grid = Grid::<2>::unit([40, 40])?;
/// let pair = Shapes::default().with_outside(1).pair::<f32, 2>(&grid)?;
/// let channels = label_channels::<f32, 2>(&pair.fixed_labels, &pair.moving_labels, 0.02, &Ssd)?;
/// assert_eq!(channels.len(), pair.fixed_labels.classes().len());
/// # Ok::<(), rdmm_core::Error>(())
/// ```
pub fn label_channels<T: Real, const D: usize>(
    fixed: &Labels<D>,
    moving: &Labels<D>,
    sigma: f64,
    measure: &(impl Measure<T, D> + Clone + 'static),
) -> Result<Vec<Channel<T, D>>> {
    let indicators = indicators(fixed, moving, sigma)?;
    let channel = |(fixed, moving)| {
        Channel::new(fixed, moving, measure.clone()).with_intensities(Intensities::AsGiven)
    };
    Ok(indicators.into_iter().map(channel).collect())
}

/// Smoothed indicators of each label, of the fixed and of the moving map.
pub(super) fn indicators<T: Real, const D: usize>(
    fixed: &Labels<D>,
    moving: &Labels<D>,
    sigma: f64,
) -> Result<Vec<(Image<T, D>, Image<T, D>)>> {
    let classes = fixed.classes();
    if classes.is_empty() || classes != moving.classes() {
        let found = format!("{classes:?} and {:?}", moving.classes());
        return Err(Error::setting("labels", "the same labels in both maps, at least one", found));
    }
    let smoother = |labels: &Labels<D>| {
        let boundary = labels.grid().boundary().of_weights();
        Gaussian::<T, D>::new(&labels.grid().clone().with_boundary(boundary), sigma)
    };
    let (of_fixed, of_moving) = (smoother(fixed)?, smoother(moving)?);
    let mut ws = Workspace::new();
    let mut smooth = |labels: &Labels<D>, gaussian: &Gaussian<T, D>, label: u32| {
        let sharp = labels.indicator::<T>(label)?;
        let mut out = Image::zeros(labels.grid())?;
        gaussian.apply(sharp.data(), out.data_mut(), &mut ws);
        Result::Ok(out)
    };
    let mut pair =
        |&label: &u32| Ok((smooth(fixed, &of_fixed, label)?, smooth(moving, &of_moving, label)?));
    classes.iter().map(&mut pair).collect()
}

/// A pair of images that are ready to be compared.
pub(super) struct Pair<'a, T: Real, const D: usize> {
    pub(super) fixed: Image<T, D>,
    pub(super) moving: Image<T, D>,
    pub(super) measure: &'a dyn Measure<T, D>,
    pub(super) weight: f64,
    pub(super) mask: Option<&'a Image<T, D>>,
    pub(super) moving_mask: Option<&'a Image<T, D>>,
}

impl<T: Real, const D: usize> Pair<'_, T, D> {
    /// The moving image and the loss at the resolution of `grid`, `factor` times coarser, for maps from an affine one on.
    pub(super) fn coarser(
        &self,
        grid: &Grid<D>,
        factor: f64,
        initial: &Affine<D>,
    ) -> Result<(Image<T, D>, Box<dyn Similarity<T>>)> {
        let fixed = pyramid::coarser(&self.fixed, grid)?;
        let moving = pyramid::coarser_moving(&self.moving, grid, initial, factor)?;
        let mask = self.mask.map(|mask| pyramid::coarser_mask(mask, grid)).transpose()?;
        Ok((moving, self.measure.prepare(&fixed, mask.as_ref())?))
    }

    /// The fixed image at the resolution of `grid`, and the loss against the moving image as it is read there
    /// through an affine map.
    pub(super) fn coarser_reverse(
        &self,
        grid: &Grid<D>,
        factor: f64,
        initial: &Affine<D>,
    ) -> Result<(Image<T, D>, Box<dyn Similarity<T>>)> {
        let fixed = pyramid::coarser(&self.fixed, grid)?;
        let to_moving = initial.displacement(grid)?;
        let moving = pyramid::coarser_moving(&self.moving, grid, initial, factor)?;
        let there = moving.grid().clone();
        let moving = warp(&moving, &to_moving)?;
        // What the moving image does not show is not compared.
        let mut mask = Image::zeros(grid)?;
        Warp::new(&there, grid).seen(to_moving.data(), mask.data_mut());
        if let Some(of_moving) = self.moving_mask {
            let of_moving = warp(&pyramid::coarser_mask(of_moving, &there)?, &to_moving)?;
            // The overshoot of the interpolation.
            let cut = of_moving.data().iter().map(|x| x.max(T::zero()).min(T::one()));
            mask.data_mut().iter_mut().zip(cut).for_each(|(seen, mask)| *seen *= mask);
        }
        let Overlap { part, all } = Overlap::of(mask.data(), None);
        if part <= 0.0 {
            return Err(Error::NoOverlap { found: part, least: 0.0 });
        }
        Ok((fixed, self.measure.prepare(&moving, (!all).then_some(&mask))?))
    }

    /// `Ok` if the masks fit a comparison of the given sides: one needs the fixed image's mask alone, two
    /// need both masks or none.
    pub(super) fn expect_masks(&self, two_sided: bool) -> Result<()> {
        let masks = (self.mask.is_some(), self.moving_mask.is_some());
        let expected = match (two_sided, masks) {
            (false, (_, false)) | (true, (true, true) | (false, false)) => return Ok(()),
            (false, (_, true)) => "no mask of the moving image, which a TwoSided model alone uses",
            (true, _) => "masks of both images or of neither for a TwoSided model",
        };
        let found = format!("of the fixed image {}, of the moving image {}", masks.0, masks.1);
        Err(Error::setting("masks", expected, found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::dice;
    use crate::model::{Lddmm, MultiGaussian};
    use crate::registration::{Level, Registration, Settings};
    use crate::similarity::{Ncc, Ssd};
    use crate::synthetic::{Pair as Synthetic, Shapes};

    fn shapes(grid: &Grid<2>) -> Synthetic<f32, 2> {
        Shapes::default().with_outside(1).pair(grid).unwrap()
    }

    fn registration(grid: &Grid<2>, iterations: usize) -> Registration<Lddmm, f32, 2> {
        let levels = [2.0, 1.0].map(|factor| Level { factor, iterations }).to_vec();
        let model = Lddmm::new(MultiGaussian::for_grid(grid));
        Registration::new(model, Ssd)
            .with_settings(Settings { levels: Some(levels), ..Settings::default() })
    }

    #[test]
    fn label_maps_alone_are_matched() {
        let grid = Grid::unit([48, 48]).unwrap();
        let pair = shapes(&grid);
        let (fixed, moving) = (&pair.fixed_labels, &pair.moving_labels);
        let result = registration(&grid, 15).run_labels(fixed, moving, 0.02).unwrap();
        let (before, after) = (
            dice(fixed, moving).unwrap(),
            dice(fixed, &result.inverse_map.warp_labels(moving).unwrap()).unwrap(),
        );
        for (label, dice) in &after {
            assert!(*dice > before[label].max(0.9), "{label}: {} {dice}", before[label]);
        }
        assert_eq!(result.report.folds.total().folded, 0);
        let level = &result.report.levels[1];
        assert!(level.last.terms.channels < 0.5 * result.report.levels[0].first.terms.channels);
    }

    #[test]
    fn the_channels_of_labels_are_smoothed_indicators() {
        let grid = Grid::unit([40, 40]).unwrap();
        let pair = shapes(&grid);
        let (fixed, moving) = (&pair.fixed_labels, &pair.moving_labels);
        let channels = label_channels::<f32, 2>(fixed, moving, 0.03, &Ssd).unwrap();
        for (channel, label) in channels.iter().zip(fixed.classes()) {
            let ready = channel.pair(&grid).unwrap();
            for (image, labels) in [(&ready.fixed, fixed), (&ready.moving, moving)] {
                let count = labels.data().iter().filter(|&&found| found == label).count();
                let mass: f64 = image.data().iter().map(|x| f64::from(*x)).sum();
                // A Gaussian keeps the mass; single precision. It leaves no value outside [0, 1].
                assert!((mass - count as f64).abs() < 1e-4 * count as f64);
                assert!(image.data().iter().all(|x| (-1e-5..1.0 + 1e-5).contains(x)));
            }
        }
        let none = Labels::from_vec(&grid, vec![0; 1600]).unwrap();
        let mut more = moving.data().to_vec();
        more[0] = 77;
        let more = Labels::from_vec(&grid, more).unwrap();
        for (a, b) in [(&none, &none), (fixed, &none), (fixed, &more), (&more, moving)] {
            let error = label_channels::<f32, 2>(a, b, 0.03, &Ssd).err();
            assert!(matches!(error, Some(Error::Setting { name: "labels", .. })), "{error:?}");
        }
        for sigma in [0.0, 0.001, 2.0, f64::NAN] {
            let error = label_channels::<f32, 2>(fixed, moving, sigma, &Ssd).err();
            assert!(matches!(error, Some(Error::Sigma { .. })), "{error:?}");
        }
    }

    #[test]
    fn bad_channels_are_refused() {
        let grid = Grid::unit([40, 40]).unwrap();
        let pair = shapes(&grid);
        let channel = || Channel::new(pair.fixed.clone(), pair.moving.clone(), Ncc);
        let refused = |channel| {
            registration(&grid, 1).with_channel(channel).run(&pair.fixed, &pair.moving).err()
        };
        for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = refused(channel().with_weight(weight));
            assert!(matches!(error, Some(Error::Setting { name: "weight of a channel", .. })));
        }
        let other = Grid::unit([40, 44]).unwrap();
        let off = Image::<f32, 2>::from_fn(&other, |x| x[0]).unwrap();
        let error = refused(Channel::new(off.clone(), pair.moving.clone(), Ncc));
        assert!(matches!(
            error,
            Some(Error::GridMismatch { what: "fixed image of a channel", .. })
        ));
        let error = refused(channel().with_mask(off.clone()));
        assert!(matches!(error, Some(Error::GridMismatch { what: "mask of a channel", .. })));
        let filled = |x: f32| Image::from_vec(&grid, vec![x; 1600]).unwrap();
        let error = refused(channel().with_mask(filled(2.0)));
        assert!(matches!(error, Some(Error::Setting { name: "mask", .. })), "{error:?}");
        let error = refused(Channel::new(filled(0.5), pair.moving.clone(), Ncc));
        assert!(matches!(error, Some(Error::NoContrast { what: "fixed image of a channel" })));
        let mut spoilt = pair.moving.clone();
        spoilt.data_mut()[7] = f32::NAN;
        let error = refused(Channel::new(pair.fixed.clone(), spoilt, Ncc));
        assert!(matches!(error, Some(Error::NonFinite { index: 7, .. })));
        let chain = registration(&grid, 1).with_channel(channel());
        let error = chain.run_chain(&pair.fixed, &pair.moving, 2).err();
        assert!(matches!(error, Some(Error::Setting { name: "terms of a chain", .. })));
        // The moving image may lie on any grid that overlaps in the world.
        let moved = Channel::new(pair.fixed.clone(), off, Ncc);
        assert!(refused(moved).is_none());
    }
}
