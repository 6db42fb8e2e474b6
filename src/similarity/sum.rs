use super::{Measure, Similarity, Warped, WarpedBar};
use crate::error::{Error, Result, positive};
use crate::field::{Image, axpy};
use crate::grid::Grid;
use crate::scalar::Real;

/// A weighted sum Σ λₖ Simₖ of measures of the same two images.
///
/// The weights are the λ that each measure has on its own, [`Measure::default_weight`] for one that fits
/// most images, so [`Measure::default_weight`] of the sum is 1. The cost is that of the parts, and one
/// value a voxel more.
///
/// For several pairs of images see [`Channel`](crate::registration::Channel).
///
/// ```
/// use rdmm_core::{field::Image, grid::Grid, similarity::{Lncc, Measure, Ncc, WeightedSum}};
/// let grid = Grid::new([16, 16], [1.0, 1.0])?;
/// let fixed = Image::<f64, 2>::from_fn(&grid, |x| (x[0] + 0.3 * x[1]).sin())?;
/// let sum = WeightedSum::new(vec![(0.05, Box::new(Ncc)), (0.01, Box::new(Lncc { sigma: 2.0 }))])?;
/// let (mut loss, warped) = (sum.prepare(&fixed, None)?, vec![1.0; grid.len()]);
/// let ncc = Ncc.prepare(&fixed, None)?.value(&warped);
/// let lncc = Lncc { sigma: 2.0 }.prepare(&fixed, None)?.value(&warped);
/// assert!((loss.value(&warped) - 0.05 * ncc - 0.01 * lncc).abs() < 1e-15);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Debug)]
pub struct WeightedSum<T: Real, const D: usize> {
    parts: Vec<(f64, Box<dyn Measure<T, D>>)>,
}

impl<T: Real, const D: usize> WeightedSum<T, D> {
    /// The sum of these measures, each with its weight λ.
    ///
    /// # Errors
    /// [`Error::Length`] for an empty list; [`Error::Setting`] unless each weight is finite and positive.
    pub fn new(parts: Vec<(f64, Box<dyn Measure<T, D>>)>) -> Result<Self> {
        expect_weights("measures of a sum", parts.iter().map(|part| part.0))?;
        Ok(Self { parts })
    }

    /// The measures and their weights.
    #[must_use]
    pub fn parts(&self) -> &[(f64, Box<dyn Measure<T, D>>)] {
        &self.parts
    }
}

/// `Ok` if there is a weight and all are finite and positive.
pub(super) fn expect_weights(
    what: &'static str,
    weights: impl ExactSizeIterator<Item = f64>,
) -> Result<()> {
    if weights.len() == 0 {
        return Err(Error::Length { what, expected: 1, found: 0 });
    }
    weights.into_iter().try_for_each(|weight| positive("weight of a measure", weight).map(drop))
}

impl<T: Real, const D: usize> Measure<T, D> for WeightedSum<T, D> {
    fn prepare(
        &self,
        fixed: &Image<T, D>,
        mask: Option<&Image<T, D>>,
    ) -> Result<Box<dyn Similarity<T>>> {
        let against = |(weight, part): &(f64, Box<dyn Measure<T, D>>)| {
            Ok((*weight, part.prepare(fixed, mask)?))
        };
        weighted(fixed.grid(), self.parts.iter().map(against).collect::<Result<_>>()?)
    }

    fn name(&self) -> &'static str {
        "sum"
    }

    fn default_weight(&self) -> f64 {
        1.0
    }
}

/// A measure that is chosen at run time.
impl<T: Real, const D: usize> Measure<T, D> for Box<dyn Measure<T, D>> {
    fn prepare(
        &self,
        fixed: &Image<T, D>,
        mask: Option<&Image<T, D>>,
    ) -> Result<Box<dyn Similarity<T>>> {
        (**self).prepare(fixed, mask)
    }

    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn default_weight(&self) -> f64 {
        (**self).default_weight()
    }
}

struct Prepared<T> {
    parts: Vec<(f64, Box<dyn Similarity<T>>)>,
    /// Derivatives of one part.
    gradient: Vec<T>,
    seen_bar: Vec<T>,
}

/// The weighted sum of losses against one fixed image on `grid`.
pub(super) fn weighted<T: Real, const D: usize>(
    grid: &Grid<D>,
    parts: Vec<(f64, Box<dyn Similarity<T>>)>,
) -> Result<Box<dyn Similarity<T>>> {
    let gradient = Image::<T, D>::zeros(grid)?.into_vec();
    Ok(Box::new(Prepared { parts, gradient, seen_bar: Vec::new() }))
}

impl<T: Real> Similarity<T> for Prepared<T> {
    fn value_and_gradient_where_seen(
        &mut self,
        warped: Warped<'_, T>,
        mut bar: WarpedBar<'_, T>,
    ) -> f64 {
        let n = self.gradient.len();
        let lengths = [Some(warped.values.len()), Some(bar.values.len())];
        let of_seen = [warped.seen.map(<[T]>::len), bar.seen.as_ref().map(|seen| seen.len())];
        if lengths != [Some(n); 2] || of_seen != [warped.seen.map(|_| n); 2] {
            bar.fill_nan();
            return f64::NAN;
        }
        bar.values.fill(T::zero());
        if let Some(seen) = bar.seen.as_deref_mut() {
            self.seen_bar.resize(n, T::zero());
            seen.fill(T::zero());
        }
        let mut sum = 0.0;
        for (weight, part) in &mut self.parts {
            let seen = bar.seen.as_ref().map(|_| self.seen_bar.as_mut_slice());
            let part_bar = WarpedBar { values: &mut self.gradient, seen };
            sum += *weight * part.value_and_gradient_where_seen(warped, part_bar);
            axpy(bar.values, T::of(*weight), &self.gradient);
            if let Some(seen) = bar.seen.as_deref_mut() {
                axpy(seen, T::of(*weight), &self.seen_bar);
            }
        }
        sum
    }

    fn value_where_seen(&mut self, warped: Warped<'_, T>) -> f64 {
        let parts = self.parts.iter_mut();
        parts.fold(0.0, |sum, (weight, part)| sum + *weight * part.value_where_seen(warped))
    }

    fn mask(&self) -> Option<&[T]> {
        // All were prepared with the same.
        self.parts.first().and_then(|(_, part)| part.mask())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::similarity::{Ncc, Ssd};
    use crate::testing::random;

    #[test]
    fn a_sum_is_the_sum_of_its_parts() {
        let grid = Grid::new([8, 9], [1.0, 0.5]).unwrap();
        let fixed = Image::<f64, 2>::from_vec(&grid, random(72, 1)).unwrap();
        let warped: Vec<f64> = random(72, 2);
        let measure: WeightedSum<f64, 2> =
            WeightedSum::new(vec![(0.25, Box::new(Ssd)), (3.0, Box::new(Ncc) as Box<_>)]).unwrap();
        // Sums are measures, so they nest.
        let measure = WeightedSum::new(vec![(2.0, Box::new(measure) as Box<_>)]).unwrap();
        let mut sum = measure.prepare(&fixed, None).unwrap();
        let mut expected = (0.0, vec![0.0; 72]);
        for (weight, part) in [(0.5, &Ssd as &dyn Measure<f64, 2>), (6.0, &Ncc)] {
            let mut gradient = vec![f64::NAN; 72];
            let mut part = part.prepare(&fixed, None).unwrap();
            expected.0 += weight * part.value_and_gradient(&warped, &mut gradient);
            axpy(&mut expected.1, weight, &gradient);
        }
        let mut gradient = vec![f64::NAN; 72];
        let value = sum.value_and_gradient(&warped, &mut gradient);
        // Powers of two change no bit; the order of the sums is the same.
        assert!((value - expected.0).abs() < 1e-15 * value);
        for (a, b) in gradient.iter().zip(&expected.1) {
            assert!((a - b).abs() < 1e-16, "rounding of values of about 0.1");
        }
        assert!(sum.value_and_gradient(&warped[1..], &mut gradient).is_nan());
        assert!(gradient.iter().all(|g| g.is_nan()) && sum.value(&warped[1..]).is_nan());
    }

    #[test]
    fn bad_weights_are_refused() {
        assert!(matches!(WeightedSum::<f64, 2>::new(vec![]), Err(Error::Length { found: 0, .. })));
        for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let sum =
                WeightedSum::<f64, 2>::new(vec![(1.0, Box::new(Ssd)), (weight, Box::new(Ncc))]);
            assert!(matches!(sum, Err(Error::Setting { name: "weight of a measure", .. })));
        }
    }
}
