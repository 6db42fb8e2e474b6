//! Penalties of weights: what keeps an optimised regulariser regular.
//!
//! A [`Regularizer`] is what a user chooses, with its weight λ. [`Regularizer::on_grid`] checks it and
//! gives a [`Penalty`] that holds all buffers, once a resolution level; the evaluations themselves cannot
//! fail.
//!
//! | penalty | acts on | is zero for | keeps |
//! | --- | --- | --- | --- |
//! | [`Omt`] | w | the largest σ everywhere | the metric smooth |
//! | [`TotalVariation`] | h | constant pre-weights | regions few and their borders short |
//! | [`RangePenalty`] | w | the global weights | weights from wandering |
//!
//! Penalties are integrals divided by the volume V, total variation times the longest extent L, so that
//! they and their λ have no unit of length and go with the energy of
//! [`PairObjective`](crate::registration::PairObjective).
//!
//! # References
//! Shen, Vialard, Niethammer, *Region-specific diffeomorphic metric mapping*, `NeurIPS` 2019,
//! arXiv:1906.00139, Section 3; Niethammer, Kwitt, Vialard, *Metric learning for image registration*, CVPR
//! 2019, doi:10.1109/CVPR.2019.00866.

mod omt;
mod range;
mod scheduled;
mod total_variation;

pub use omt::Omt;
pub use range::RangePenalty;
pub use scheduled::{Scheduled, range_fraction};
pub use total_variation::{TotalVariation, edge_weight};

use crate::error::{Error, Result};
use crate::grid::Grid;
use crate::scalar::Real;

/// Which of the two weights a penalty is a function of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum On {
    /// The pre-weights h, of unit norm.
    PreWeights,
    /// The smoothed weights w = G ⋆ h, which the metric sees.
    Weights,
}

/// A choice of penalty: prepares itself on grids.
pub trait Regularizer<T: Real, const D: usize>: std::fmt::Debug + Send + Sync {
    /// The penalty of weights of Gaussians with these σ (physical units, increasing) on `grid`.
    ///
    /// # Errors
    /// [`Error::Setting`], [`Error::SigmaOrder`] or [`Error::Length`] for settings and σ that do not fit,
    /// and those that the penalty states.
    fn on_grid(&self, grid: &Grid<D>, sigmas: &[f64]) -> Result<Box<dyn Penalty<T>>>;

    /// Which weights it is a function of.
    fn acts_on(&self) -> On;

    /// λ, the factor with which it counts in the energy.
    fn weight(&self) -> f64;

    /// λ on a level of a registration, 0 for the coarsest: the same on all by default. [`Scheduled`] makes
    /// it vary.
    fn weight_on(&self, _level: usize) -> f64 {
        self.weight()
    }

    /// The name that reports use.
    fn name(&self) -> &'static str;
}

/// A penalty of the weights of N Gaussians on one grid: 0 is best.
///
/// `weights` and `gradient` have the shape `[N, ..grid.shape()]`, C order. Results do not depend on
/// earlier calls. Nothing is allocated after the first call. Lengths that do not fit give a NaN value and
/// a NaN gradient.
pub trait Penalty<T: Real>: Send {
    /// `scale` times the penalty, without its λ; adds `scale` times its partial derivatives with respect
    /// to each weight to `gradient`.
    fn add(&mut self, scale: f64, weights: &[T], gradient: &mut [T]) -> f64;
}

/// `Ok` if λ is finite and not negative.
fn expect_weight(name: &'static str, weight: f64) -> Result<()> {
    if weight.is_finite() && weight >= 0.0 {
        Ok(())
    } else {
        Err(Error::setting(name, "a finite number ≥ 0", weight))
    }
}

/// Whether both hold `n` values; `gradient` is NaN otherwise.
fn fit<T: Real>(n: usize, weights: &[T], gradient: &mut [T]) -> bool {
    let fit = weights.len() == n && gradient.len() == n;
    if !fit {
        gradient.fill(T::nan());
    }
    fit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Image;
    use crate::grid::Boundary;
    use crate::testing::random;

    const SIGMAS: [f64; 3] = [0.1, 0.2, 0.4];

    fn grid(boundary: Boundary) -> Grid<2> {
        Grid::new([7, 9], [0.12, 0.1]).unwrap().with_boundary(boundary)
    }

    /// Each penalty, total variation with edges too.
    fn penalties<T: Real>(grid: &Grid<2>) -> Vec<Box<dyn Regularizer<T, 2>>> {
        let noise: Vec<f64> = random(grid.len(), 4);
        let image = Image::from_vec(grid, noise.iter().map(|&x| T::of(x)).collect()).unwrap();
        let edges = edge_weight(&image, 0.2, 0.3).unwrap();
        let tv = TotalVariation::new(1.0).unwrap();
        vec![
            Box::new(Omt::new(1.0).unwrap()),
            Box::new(Omt::new(1.0).unwrap().with_power(2.5).unwrap()),
            Box::new(tv.clone()),
            Box::new(tv.with_epsilon(3.0).unwrap().with_edges(edges).unwrap()),
            Box::new(RangePenalty::new(1.0, &[0.2, 0.3, 0.5]).unwrap()),
        ]
    }

    /// Every penalty on every boundary.
    fn every(mut f: impl FnMut(&str, &mut dyn Penalty<f64>, usize)) {
        for boundary in Boundary::ALL {
            let grid = grid(boundary);
            for penalty in penalties(&grid) {
                let mut on_grid = penalty.on_grid(&grid, &SIGMAS).unwrap();
                f(penalty.name(), &mut *on_grid, 3 * grid.len());
            }
        }
    }

    #[test]
    fn gradients_are_the_derivatives_and_the_taylor_remainder_has_slope_two() {
        every(|name, penalty, n| {
            let (weights, direction): (Vec<f64>, Vec<f64>) = (random(n, 1), random(n, 2));
            let mut gradient = vec![0.0; n];
            let value = penalty.add(0.7, &weights, &mut gradient);
            let slope = crate::field::dot(&gradient, &direction);
            let mut rest = vec![0.0; n];
            let mut at = |e: f64| {
                let moved: Vec<f64> =
                    weights.iter().zip(&direction).map(|(w, d)| w + e * d).collect();
                penalty.add(0.7, &moved, &mut rest)
            };
            // Truncation e² = 1e-10 of a third derivative of order one, rounding 1e-16/e = 1e-11.
            let e = 1e-5;
            let numeric = (at(e) - at(-e)) / (2.0 * e);
            assert!((numeric - slope).abs() < 1e-8 * slope.abs(), "{name}: {numeric} {slope}");
            // Both sides, so that the third order cancels; squares have no order above.
            let mut remainder =
                |e: f64| (at(e) - value - e * slope).abs() + (at(-e) - value + e * slope).abs();
            let order = (remainder(2e-3) / remainder(1e-3)).log2();
            assert!((order - 2.0).abs() < 0.01, "{name}: {order}");
        });
    }

    #[test]
    fn gradients_are_added_and_buffers_do_not_matter() {
        every(|name, penalty, n| {
            let weights: Vec<f64> = random(n, 1);
            let mut first = vec![0.0; n];
            let value = penalty.add(2.0, &weights, &mut first);
            penalty.add(1.0, &vec![f64::NAN; n], &mut vec![0.0; n]);
            let mut second = vec![1.0; n];
            assert_eq!(value.to_bits(), penalty.add(2.0, &weights, &mut second).to_bits());
            for (a, b) in first.iter().zip(&second) {
                // One rounding of a sum with one.
                assert!((a + 1.0 - b).abs() < 1e-15, "{name}");
            }
            // Linear in the scale, to rounding.
            assert!((value - 2.0 * penalty.add(1.0, &weights, &mut second)).abs() < 1e-14 * value);
        });
    }

    #[test]
    fn lengths_that_do_not_fit_give_nan() {
        every(|name, penalty, n| {
            for (of_weights, of_gradient) in [(n - 1, n), (n, n + 1), (0, 0)] {
                let mut gradient = vec![0.0; of_gradient];
                let value = penalty.add(1.0, &vec![1.0; of_weights], &mut gradient);
                assert!(value.is_nan() && gradient.iter().all(|g| g.is_nan()), "{name}");
            }
        });
    }

    #[test]
    fn penalties_have_no_unit_and_agree_between_precisions() {
        let small = grid(Boundary::Reflecting);
        let large = Grid::new(small.shape(), small.spacing().map(|h| 1e3 * h)).unwrap();
        let n = 3 * small.len();
        let weights: Vec<f64> = random(n, 1);
        let single: Vec<f32> = random(n, 1);
        let sigmas = SIGMAS.map(|s| 1e3 * s);
        let (here, there) = (penalties::<f64>(&small), penalties::<f64>(&small));
        for ((a, b), c) in here.iter().zip(&there).zip(penalties::<f32>(&small)) {
            let value = a.on_grid(&small, &SIGMAS).unwrap().add(1.0, &weights, &mut vec![0.0; n]);
            if a.name() != "total variation" || format!("{a:?}").contains("edges: None") {
                let mut scaled = b.on_grid(&large, &sigmas).unwrap();
                let other = scaled.add(1.0, &weights, &mut vec![0.0; n]);
                // To rounding of the scaled lengths.
                assert!((value - other).abs() < 1e-13 * value, "{}", a.name());
            }
            let other = c.on_grid(&small, &SIGMAS).unwrap().add(1.0, &single, &mut vec![0.0; n]);
            // Weights of order one in single precision.
            assert!((value - other).abs() < 1e-6 * value, "{}", a.name());
        }
    }

    #[test]
    fn omt_is_zero_for_the_largest_gaussian_and_one_for_the_smallest() {
        let grid = grid(Boundary::Reflecting);
        let n = grid.len();
        for power in [0.5, 1.0, 2.0] {
            let omt = Omt::new(1.0).unwrap().with_power(power).unwrap();
            let mut omt = Regularizer::<f64, 2>::on_grid(&omt, &grid, &SIGMAS).unwrap();
            let mut all_of = |i: usize| {
                let weights: Vec<f64> =
                    (0..3 * n).map(|k| f64::from(u8::from(k / n == i))).collect();
                omt.add(1.0, &weights, &mut vec![0.0; 3 * n])
            };
            // A mean of 63 equal numbers, to rounding.
            assert!(all_of(2).abs() < 1e-15 && (all_of(0) - 1.0).abs() < 1e-14);
            assert!((all_of(1) - 0.5_f64.powf(power)).abs() < 1e-14);
        }
        let mut one =
            Regularizer::<f64, 2>::on_grid(&Omt::new(1.0).unwrap(), &grid, &[0.3]).unwrap();
        assert!(one.add(1.0, &vec![1.0; n], &mut vec![0.0; n]).abs() < 1e-300);
    }

    #[test]
    fn range_is_zero_at_the_global_weights() {
        let grid = grid(Boundary::Periodic);
        let n = grid.len();
        let range = RangePenalty::new(1.0, &[0.2, 0.3, 0.5]).unwrap();
        let mut range = Regularizer::<f64, 2>::on_grid(&range, &grid, &SIGMAS).unwrap();
        let global = [0.2_f64, 0.3, 0.5].map(f64::sqrt);
        let weights: Vec<f64> = (0..3 * n).map(|k| global[k / n]).collect();
        let mut gradient = vec![0.0; 3 * n];
        assert!(range.add(1.0, &weights, &mut gradient).abs() < 1e-300);
        assert!(gradient.iter().all(|g| g.abs() < 1e-300));
        let off: Vec<f64> = weights.iter().map(|w| w + 0.1).collect();
        assert!((range.add(1.0, &off, &mut gradient) - 0.03).abs() < 1e-14);
    }

    /// From one Gaussian to another across a straight edge of the given normal: the jump of the weights is
    /// √2, so TV is √2 L/V times the length of the edge.
    fn edge(n: usize, normal: [f64; 2], width: f64) -> f64 {
        let grid = Grid::<2>::unit([n, n]).unwrap();
        let tv = TotalVariation::<f64, 2>::new(1.0).unwrap().with_epsilon(1e-6).unwrap();
        let mut tv = tv.on_grid(&grid, &[0.1, 0.2]).unwrap();
        // Between voxels: a quarter of one beyond the middle.
        let half = 0.5 - 0.25 / n as f64;
        let weights = crate::field::Weights::<f64, 2>::from_fn(&grid, 2, |x, i| {
            let middle = 0.5 - 0.5 / n as f64;
            let distance = normal[0] * (x[0] - half) + normal[1] * (x[1] - middle);
            let step = 0.5 + 0.5 * (distance / width).clamp(-1.0, 1.0);
            if i == 0 { step } else { 1.0 - step }
        })
        .unwrap();
        tv.add(1.0, weights.data(), &mut vec![0.0; 2 * n * n])
    }

    #[test]
    fn total_variation_of_a_straight_edge_is_its_length_times_its_jump() {
        let root = 2.0_f64.sqrt();
        for normal in [[1.0, 0.0], [0.0, 1.0]] {
            for width in [1e-9, 0.1] {
                // Forward differences telescope: the error is ε, at most 1e-6, times the volume.
                assert!((edge(64, normal, width) - root).abs() < 2e-6, "{normal:?} {width}");
            }
        }
        // The diagonal of the unit square, of length √2. A ramp of n/5 voxels has the exact slope except
        // in the two rows of voxels where it starts and ends, which are too steep by at most √2: the error
        // is at most 2 (√2 − 1)/(2·0.1·√2·n) of the value, and falls with n.
        let diagonal = [0.5_f64.sqrt(), 0.5_f64.sqrt()];
        let bound = |n: f64| (root - 1.0) / (0.1 * root * n);
        for n in [64, 128] {
            // The corners of the square cut the ramp: its triangles beyond the border are missing, and
            // others are there instead, so that the length of the level lines is √2 on average within
            // width²; the mean of 2 (c − |d|) over |d| ≤ 0.1 with c = √½ is √2 − 0.1.
            let expected = root * (root - 0.1);
            let off = (edge(n, diagonal, 0.1) / expected - 1.0).abs();
            assert!(off < bound(n as f64), "{n}: {off:.4}");
        }
        // Where the edge is one voxel wide, both differences of a voxel see it, or those of two voxels: the
        // length is exact on one diagonal and √2 too long on the other, but for a voxel at the corners.
        let other = [0.5_f64.sqrt(), -0.5_f64.sqrt()];
        for (normal, longer) in [(diagonal, 1.0), (other, root)] {
            let sharp = edge(64, normal, 1e-9) / (root * root * longer);
            assert!((sharp - 1.0).abs() < 2.0 / 64.0, "{normal:?}: {sharp}");
        }
    }

    #[test]
    fn edges_of_the_image_are_cheap() {
        let grid = Grid::<2>::unit([32, 32]).unwrap();
        let half = Image::from_fn(&grid, |x| f64::from(u8::from(x[0] > 0.49))).unwrap();
        let g = edge_weight(&half, 0.05, 2.0).unwrap();
        let plain = TotalVariation::new(1.0).unwrap();
        let tv = plain.clone().with_edges(g.clone()).unwrap();
        // Half of the image, here and at a quarter: on the edge and away from it.
        let at = |tv: &TotalVariation<f64, 2>, rows: usize| {
            let weights: Vec<f64> = (0..2048)
                .map(|k| f64::from(u8::from((k % 1024 < 32 * rows) == (k < 1024))))
                .collect();
            tv.on_grid(&grid, &[0.1, 0.2]).unwrap().add(1.0, &weights, &mut vec![0.0; 2048])
        };
        // The row before the edge carries the forward difference.
        let ratio = at(&tv, 16) / at(&plain, 16);
        assert!((ratio - g.data()[15 * 32]).abs() < 1e-12 && ratio < 0.1);
        assert!(at(&tv, 8) / at(&plain, 8) > 0.99);
        // On a coarser grid g is interpolated.
        let coarse = grid.coarsened(2.0).unwrap();
        assert!(tv.on_grid(&coarse, &[0.1, 0.2]).is_ok());
        // Over another box it says nothing.
        for elsewhere in
            [grid.clone().with_origin([0.5, 0.0]).unwrap(), Grid::new([32, 32], [1.0; 2]).unwrap()]
        {
            let error = tv.on_grid(&elsewhere, &[0.1, 0.2]).err().unwrap();
            assert!(matches!(error, Error::GridMismatch { .. }), "{error}");
        }
    }

    #[test]
    fn bad_settings_are_refused() {
        let grid = grid(Boundary::Free);
        macro_rules! refused {
            ($penalty:expr, $sigmas:expr, $error:pat, $part:expr) => {{
                let error =
                    Regularizer::<f64, 2>::on_grid(&$penalty, &grid, &$sigmas).err().unwrap();
                assert!(matches!(error, $error), "{error}");
                assert!(error.to_string().contains($part), "{error}");
            }};
        }
        let (omt, tv) = (Omt::new(0.1).unwrap(), TotalVariation::<f64, 2>::new(0.1).unwrap());
        let range = RangePenalty::new(0.1, &[0.5, 0.5]).unwrap();
        for bad in [-1.0, f64::NAN, f64::INFINITY] {
            let named = |error: Error, part: &str| {
                assert!(matches!(error, Error::Setting { .. }), "{error}");
                assert!(error.to_string().contains(part), "{error}");
            };
            named(Omt::new(bad).unwrap_err(), "weight of OMT");
            named(omt.with_power(bad).unwrap_err(), "power of OMT");
            named(TotalVariation::<f64, 2>::new(bad).unwrap_err(), "weight of total variation");
            named(tv.clone().with_epsilon(bad).unwrap_err(), "epsilon");
            named(RangePenalty::new(bad, &[1.0]).unwrap_err(), "weight of the range");
        }
        assert!(matches!(RangePenalty::new(0.1, &[0.5, 0.6]), Err(Error::WeightSum { .. })));
        refused!(range, SIGMAS, Error::Length { .. }, "expected length 3, found 2");
        refused!(omt, [], Error::Length { .. }, "found 0");
        refused!(omt, [0.2, 0.1], Error::SigmaOrder { .. }, "0.1 after 0.2");
        refused!(omt, [0.0, 0.1], Error::Setting { .. }, "found 0");
        refused!(tv, [0.1, f64::NAN], Error::Setting { .. }, "NaN");
        let flat = Image::<f64, 2>::zeros(&grid).unwrap();
        assert!(matches!(edge_weight(&flat, 0.2, 1.0), Err(Error::NoContrast { .. })));
        let mut noise = Image::<f64, 2>::from_vec(&grid, random(63, 1)).unwrap();
        assert!(matches!(edge_weight(&noise, 0.2, 0.0), Err(Error::Setting { .. })));
        assert!(matches!(edge_weight(&noise, 99.0, 1.0), Err(Error::Sigma { .. })));
        let error = tv.with_edges(noise.clone()).unwrap_err();
        assert!(matches!(error, Error::Setting { .. }), "{error}");
        assert!(error.to_string().contains("edge weight"), "{error}");
        noise.data_mut()[5] = f64::NAN;
        assert!(matches!(edge_weight(&noise, 0.2, 1.0), Err(Error::NonFinite { .. })));
    }
}
