//! A moving image compared with a fixed one where it shows it.
//!
//! The loss counts what was seen alone, so that it could fall because a map leads out of the image: only the background
//! is left, say. A barrier holds against that. It is nothing as long as the moving image shows at least half of what it
//! showed at the start, and infinite at a quarter.

use crate::error::{Error, Result};
use crate::field::{Displacement, Image, multiply_components};
use crate::grid::Grid;
use crate::ops::spline::Prefilter;
use crate::ops::warp::Warp;
use crate::par;
use crate::scalar::Real;
use crate::similarity::{Similarity, Warped, WarpedBar};
use crate::world::Affine;

/// Part of the overlap at the start that no map goes below.
const LEAST: f64 = 0.25;

/// Part of it where the barrier begins.
const REACH: f64 = 0.5;

/// Weight of the barrier, in losses at the start: a loss of zero that is bought with another tenth of the overlap does
/// not pay.
const WEIGHT: f64 = 10.0;

/// Sim(J₀∘ψ, J₁) and the barrier, for maps ψ.
pub(crate) struct Comparison<T: Real, const D: usize> {
    /// Spline coefficients of the moving image.
    moving: Image<T, D>,
    similarity: Box<dyn Similarity<T>>,
    warped: Image<T, D>,
    warped_bar: Image<T, D>,
    /// ω, how far the moving image shows each voxel.
    seen: Image<T, D>,
    seen_bar: Image<T, D>,
    /// The map of the start, without a displacement.
    start: Warp<T, D>,
    start_overlap: Option<f64>,
    start_loss: Option<f64>,
}

/// What a comparison found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Compared {
    pub(crate) loss: f64,
    /// The barrier.
    pub(crate) barrier: f64,
}

impl<T: Real, const D: usize> Comparison<T, D> {
    /// Of a moving image, whose values are finite, with the image over `fixed` that `similarity` was prepared against.
    /// The start is the affine map.
    pub(crate) fn new(
        moving: &Image<T, D>,
        fixed: &Grid<D>,
        start: &Affine<D>,
        similarity: Box<dyn Similarity<T>>,
    ) -> Result<Self> {
        Ok(Self {
            moving: coefficients(moving),
            similarity,
            warped: Image::zeros(fixed)?,
            warped_bar: Image::zeros(fixed)?,
            seen: Image::zeros(fixed)?,
            seen_bar: Image::zeros(fixed)?,
            start: Warp::through(moving.grid(), fixed, start),
            start_overlap: None,
            start_loss: None,
        })
    }

    /// Puts other images in the place of those before.
    pub(crate) fn exchange(
        &mut self,
        moving: &Image<T, D>,
        start: &Affine<D>,
        similarity: Box<dyn Similarity<T>>,
    ) {
        (self.moving, self.similarity) = (coefficients(moving), similarity);
        self.set_start(start);
    }

    /// Another start.
    pub(crate) fn set_start(&mut self, start: &Affine<D>) {
        self.start = Warp::through(self.moving.grid(), self.fixed(), start);
        (self.start_overlap, self.start_loss) = (None, None);
    }

    pub(crate) fn fixed(&self) -> &Grid<D> {
        self.warped.grid()
    }

    pub(crate) fn moving(&self) -> &Grid<D> {
        self.moving.grid()
    }

    /// The map of the start.
    pub(crate) fn start(&self) -> Warp<T, D> {
        self.start.clone()
    }

    /// Loss and barrier at the displaced voxels of `warp`; the derivative of `weight` times their sum with respect to u
    /// is left in `u_bar`.
    ///
    /// # Errors
    /// [`Error::NoOverlap`] where the moving image shows a quarter of what it showed at the start, or less.
    pub(crate) fn evaluate(
        &mut self,
        warp: &Warp<T, D>,
        u: &[T],
        weight: f64,
        u_bar: &mut [T],
    ) -> Result<Compared> {
        let at_start = self.start_overlap()?;
        let Overlap { part, all } = self.look(warp, u);
        let ratio = part / at_start;
        if ratio <= LEAST {
            return Err(Error::NoOverlap { found: part, least: LEAST * at_start });
        }
        let height = if ratio < REACH { WEIGHT * self.start_loss()?.abs() } else { 0.0 };
        if ratio < REACH {
            // Where the start was looked at, its ω is left.
            warp.seen(u, self.seen.data_mut());
        }

        let (values, bars) = (self.warped.data_mut(), self.warped_bar.data_mut());
        warp.value_and_gradient(self.moving.data(), u, values, u_bar);
        if all {
            let loss = self.similarity.value_and_gradient(values, bars);
            multiply_components(u_bar, T::of(weight), bars);
            return Ok(Compared { loss, barrier: 0.0 });
        }
        let (seen, seen_bar) = (self.seen.data(), self.seen_bar.data_mut());
        let warped = Warped { values, seen: Some(seen) };
        let bar = WarpedBar { values: bars, seen: Some(seen_bar) };
        let loss = self.similarity.value_and_gradient_where_seen(warped, bar);
        let (barrier, slope) = barrier(ratio);
        // ∂overlap/∂ω = mask / Σ mask.
        let mask = self.similarity.mask();
        let scale = height * slope / at_start / total(mask, seen.len());
        par::chunks(seen_bar, |lo, out| {
            for (i, out) in (lo..).zip(out) {
                let share = mask.map_or(1.0, |mask| mask[i].f64()) * scale;
                *out = T::of(weight * (out.f64() + share));
            }
        });
        multiply_components(u_bar, T::of(weight), bars);
        warp.seen_vjp(u, seen_bar, u_bar);
        Ok(Compared { loss, barrier: height * barrier })
    }

    /// Σ mask ω / Σ mask at the start.
    fn start_overlap(&mut self) -> Result<f64> {
        if let Some(overlap) = self.start_overlap {
            return Ok(overlap);
        }
        let rest = Displacement::<T, D>::zeros(self.fixed())?;
        let start = self.start();
        let Overlap { part, .. } = self.look(&start, rest.data());
        if part <= 0.0 {
            return Err(Error::NoOverlap { found: part, least: 0.0 });
        }
        self.start_overlap = Some(part);
        Ok(part)
    }

    /// The loss at the start.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn start_loss(&mut self) -> Result<f64> {
        if let Some(loss) = self.start_loss {
            return Ok(loss);
        }
        let rest = Displacement::<T, D>::zeros(self.fixed())?;
        let start = self.start();
        start.values::<1>(self.moving.data(), rest.data(), self.warped.data_mut());
        let all = self.look(&start, rest.data()).all;
        let seen = (!all).then(|| self.seen.data());
        let loss = self.similarity.value_where_seen(Warped { values: self.warped.data(), seen });
        self.start_loss = Some(loss);
        Ok(loss)
    }

    /// What is seen, left in `seen`.
    fn look(&mut self, warp: &Warp<T, D>, u: &[T]) -> Overlap {
        let seen = self.seen.data_mut();
        warp.seen(u, seen);
        Overlap::of(seen, self.similarity.mask())
    }
}

/// How much of a fixed image is seen.
pub(crate) struct Overlap {
    /// Σ mask ω / Σ mask.
    pub(crate) part: f64,
    /// Whether ω is 1 everywhere, outside the mask too.
    pub(crate) all: bool,
}

impl Overlap {
    /// What the displaced voxels of `warp` show.
    pub(crate) fn at<T: Real, const D: usize>(
        warp: &Warp<T, D>,
        u: &Displacement<T, D>,
        mask: Option<&Image<T, D>>,
    ) -> Result<Self> {
        let mut seen = Image::<T, D>::zeros(warp.target())?;
        warp.seen(u.data(), seen.data_mut());
        Ok(Self::of(seen.data(), mask.map(Image::data)))
    }

    pub(crate) fn of<T: Real>(seen: &[T], mask: Option<&[T]>) -> Self {
        let n = seen.len();
        let [sum, lost] = par::sums(n, |range| {
            par::lanes(range, |i| {
                let seen = seen[i].f64();
                [mask.map_or(1.0, |mask| mask[i].f64()) * seen, 1.0 - seen]
            })
        });
        Self { part: sum / total(mask, n), all: lost <= 0.0 }
    }
}

/// Σ mask.
fn total<T: Real>(mask: Option<&[T]>, n: usize) -> f64 {
    mask.map_or(n as f64, |mask| par::sum(n, |r| mask[r].iter().map(|x| x.f64()).sum()))
}

/// φ = log²((ratio − least)/(reach − least)) below `reach`, and its derivative; 0 above.
fn barrier(ratio: f64) -> (f64, f64) {
    if ratio >= REACH {
        return (0.0, 0.0);
    }
    let log = ((ratio - LEAST) / (REACH - LEAST)).ln();
    (log * log, 2.0 * log / (ratio - LEAST))
}

/// The spline coefficients of an image.
fn coefficients<T: Real, const D: usize>(image: &Image<T, D>) -> Image<T, D> {
    let mut coefficients = image.clone();
    Prefilter::new(image.grid()).apply(coefficients.data_mut());
    coefficients
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::similarity::{Lncc, Measure, Ncc, Nmi, Ssd};
    use crate::testing::{check_gradient, smooth};

    /// A fixed image, and a moving one that shows the middle third of it.
    fn images() -> (Image<f64, 2>, Image<f64, 2>) {
        let fixed = Grid::new([14, 18], [1.0, 0.8]).unwrap();
        let part = Grid::new([14, 6], [1.0, 0.8]).unwrap().with_origin([0.0, 4.8]).unwrap();
        let image = |grid: &Grid<2>, seed| {
            let values = smooth(grid, 1, seed).iter().map(|x| 0.5 + 0.2 * x).collect();
            Image::from_vec(grid, values).unwrap()
        };
        (image(&fixed, 1), image(&part, 2))
    }

    fn measures() -> [Box<dyn Measure<f64, 2>>; 4] {
        let nmi = Nmi { histogram: crate::similarity::Histogram { bins: 6, ..Default::default() } };
        [Box::new(Ssd), Box::new(Ncc), Box::new(Lncc { sigma: 1.5 }), Box::new(nmi)]
    }

    #[test]
    fn the_gradient_is_that_of_loss_and_barrier() {
        let (fixed, moving) = images();
        let n = fixed.grid().len();
        let mask = Image::from_fn(fixed.grid(), |x| if x[0] > 10.5 { 0.3 } else { 1.0 }).unwrap();
        // Along the thin axis, voxels: all of the part is seen, and with half of it beyond the fixed image.
        for (shift, acts) in [(0.3, false), (-9.6, true)] {
            for (measure, mask) in measures().iter().zip([None, Some(&mask), Some(&mask), None]) {
                let loss = measure.prepare(&fixed, mask).unwrap();
                let start = Affine::identity();
                let mut comparison = Comparison::new(&moving, fixed.grid(), &start, loss).unwrap();
                let warp = comparison.start();
                let mut u: Vec<f64> = smooth(fixed.grid(), 2, 3).iter().map(|x| 0.3 * x).collect();
                u[n..].iter_mut().for_each(|u| *u -= 0.8 * shift);
                let mut bar = vec![f64::NAN; 2 * n];
                let found = comparison.evaluate(&warp, &u, 1.7, &mut bar).unwrap();
                assert_eq!(found.barrier > 0.0, acts, "{shift} {found:?}");
                let direction = smooth(fixed.grid(), 2, 4);
                let derivative = crate::field::dot(&bar, &direction);
                let mut along = |e: f64| {
                    let moved: Vec<f64> =
                        u.iter().zip(&direction).map(|(u, d)| u + e * d).collect();
                    let found = comparison.evaluate(&warp, &moved, 1.7, &mut vec![0.0; 2 * n]);
                    let Compared { loss, barrier } = found.unwrap();
                    1.7 * (loss + barrier)
                };
                // Truncation of differences, and rounding of them.
                let norm = crate::field::dot(&bar, &bar).sqrt();
                let (above, below) = (along(1e-5), along(-1e-5));
                let error = ((above - below) / 2e-5 - derivative).abs();
                assert!(error < 1e-6 * norm, "{} {shift}: {error:e} of {norm:e}", measure.name());
            }
        }
    }

    #[test]
    fn maps_that_leave_the_image_are_refused_and_starts_beside_it_named() {
        let (fixed, moving) = images();
        let n = fixed.grid().len();
        let comparison = |shift: f64| {
            let start = Affine::new(nalgebra::SMatrix::identity(), [0.0, shift].into()).unwrap();
            let loss = Ssd.prepare(&fixed, None).unwrap();
            Comparison::new(&moving, fixed.grid(), &start, loss).unwrap()
        };
        let mut bar = vec![0.0; 2 * n];
        let mut evaluate = |start: f64, shift: f64| {
            let mut comparison = comparison(start);
            let warp = comparison.start();
            let u = [vec![0.0; n], vec![shift; n]].concat();
            comparison.evaluate(&warp, &u, 1.0, &mut bar)
        };
        assert!(evaluate(0.0, 0.0).unwrap().barrier == 0.0);
        let left = evaluate(0.0, 11.2).unwrap_err();
        assert!(matches!(left, Error::NoOverlap { least, .. } if least > 0.0), "{left}");
        assert!(left.is_recoverable());
        let beside = evaluate(30.0, -30.0).unwrap_err();
        assert_eq!(beside, Error::NoOverlap { found: 0.0, least: 0.0 });
        assert!(!beside.is_recoverable() && beside.to_string().contains("centres of mass"));
    }

    #[test]
    fn the_barrier_begins_smoothly_and_has_its_derivative() {
        for ratio in [0.26, 0.3, 0.4, 0.49] {
            let off = check_gradient(
                "barrier",
                |e| barrier(ratio + 1e-2 * (ratio - LEAST) * e).0,
                1e-2 * (ratio - LEAST) * barrier(ratio).1,
                1e-6,
            );
            assert!(off.is_ok(), "{ratio}: {off:?}");
        }
        assert_eq!(barrier(REACH), (0.0, 0.0));
        let (value, slope) = barrier(REACH - 1e-9);
        assert!(value < 1e-15 && slope.abs() < 1e-6, "continuous, and its derivative");
    }
}
