use super::histogram::{ByEntropies, Entropies, Histogram, Joint};
use super::{Measure, Similarity, Warped, WarpedBar};
use crate::error::Result;
use crate::field::Image;
use crate::scalar::Real;

/// Mutual information of the grey values, as a loss: H(I) − MI(I, J) = H(I, J) − H(J), in nats.
///
#[doc = include_str!("../../docs/math/mutualinformation.html")]
///
/// p is the joint histogram of [`Histogram`], means over the mask. H(I) does not depend on the warped image,
/// so minimising the loss maximises the mutual information. The loss is what remains unknown of I where J is
/// known: it lies between 0 (J determines the bin of I) and H(I) (nothing), at most ln of the number of bins
/// plus four. Splines spread each voxel over four bins, so that equal images do not reach 0.
///
/// For images of different modalities: any one-to-one change of intensity hardly changes the loss, an
/// inversion within the range leaves it the same to rounding. Equal images are best among shifted ones, but
/// not a stationary point among all images: a map that changes the areas of the grey values changes H(J).
///
/// Where only a part is seen, all entropies are those of the part, and H(I) in front is that of the whole: a part that
/// says nothing has the highest loss.
///
/// The gradient is exact. Two passes over the images, 16 cells a voxel; one value a voxel is kept.
///
/// [`Measure::prepare`] also gives [`Error::Setting`](crate::Error::Setting) for numbers of bins or ranges
/// that make no histogram, and for a range that holds less than half of the fixed image's voxels;
/// [`Error::NoContrast`](crate::Error::NoContrast) for a fixed image that is constant where the mask counts.
///
/// # References
/// Thévenaz, Unser, *Optimization of mutual information for multiresolution image registration*, IEEE Trans.
/// Image Process. 9 (2000), doi:10.1109/83.887976. Mattes, Haynor, Vesselle, Lewellen, Eubank, *PET-CT image
/// registration in the chest using free-form deformations*, IEEE Trans. Med. Imaging 22 (2003),
/// doi:10.1109/TMI.2003.809072.
///
/// ```
/// use rdmm_core::{field::Image, grid::Grid, similarity::{Measure, MutualInformation}};
/// let grid = Grid::new([32, 32], [1.0, 1.0])?;
/// let fixed = Image::<f64, 2>::from_fn(&grid, |x| 0.5 + 0.5 * (0.3 * x[0] + 0.1 * x[1]).sin())?;
/// let mut loss = MutualInformation::default().prepare(&fixed, None)?;
/// let inverted: Vec<f64> = fixed.data().iter().map(|x| 1.0 - x).collect();
/// assert!((loss.value(&inverted) - loss.value(fixed.data())).abs() < 1e-12);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MutualInformation {
    /// How grey values are counted.
    pub histogram: Histogram,
}

/// Normalised mutual information, as a loss between 0 and 1: 2 − (H(I) + H(J)) / H(I, J).
///
#[doc = include_str!("../../docs/math/nmi.html")]
///
/// Like [`MutualInformation`], whose remarks, errors and cost hold here too, but less sensitive to how much
/// of the two images overlaps. 1 for independent images; 0 would be reached by images that determine one
/// another bin by bin, which splines over four bins do not.
///
/// # References
/// Studholme, Hill, Hawkes, *An overlap invariant entropy measure of 3D medical image alignment*, Pattern
/// Recognit. 32 (1999), doi:10.1016/S0031-3203(98)00091-0, with the histogram of [`MutualInformation`].
///
/// ```
/// use rdmm_core::{field::Image, grid::Grid, similarity::{Histogram, Measure, Nmi}};
/// let grid = Grid::new([32, 32], [1.0, 1.0])?;
/// let fixed = Image::<f64, 2>::from_fn(&grid, |x| 30.0 * x[0])?;
/// // Images that are not brought to [0, 1] need their ranges.
/// let histogram = Histogram { bins: 16, fixed: [0.0, 930.0], moving: [-1.0, 1.0] };
/// let mut loss = Nmi { histogram }.prepare(&fixed, None)?;
/// let other: Vec<f64> = fixed.data().iter().map(|x| (x / 465.0 - 1.0).powi(3)).collect();
/// assert!(loss.value(&other) < 0.8 && (loss.value(&[0.3; 32 * 32]) - 1.0).abs() < 1e-12);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Nmi {
    /// How grey values are counted.
    pub histogram: Histogram,
}

/// A function of the entropies.
struct Loss {
    value: f64,
    by: ByEntropies,
}

/// H₀(I) − MI(I, J) = H₀(I) − H(I) + H(I, J) − H(J), with H₀(I) − H(I), what is not seen of H(I).
fn conditional(h: &Entropies, unseen: f64) -> Loss {
    let by = ByEntropies { fixed: -1.0, warped: -1.0, joint: 1.0 };
    Loss { value: unseen + (h.joint - h.warped), by }
}

/// 2 − (H(I) + H(J)) / H(I, J). Splines over four bins keep H(I, J) positive.
fn normalised(h: &Entropies, _: f64) -> Loss {
    let nmi = (h.fixed + h.warped) / h.joint;
    let by = ByEntropies { fixed: -1.0 / h.joint, warped: -1.0 / h.joint, joint: nmi / h.joint };
    Loss { value: 2.0 - nmi, by }
}

struct Prepared<T> {
    joint: Joint<T>,
    /// H(I) where all is seen.
    whole: f64,
    loss: fn(&Entropies, f64) -> Loss,
}

impl<T: Real> Prepared<T> {
    fn new(mut joint: Joint<T>, fixed: &[T], loss: fn(&Entropies, f64) -> Loss) -> Self {
        let whole = joint.whole_entropy(fixed);
        Self { joint, whole, loss }
    }

    fn loss(&mut self, warped: Warped<'_, T>) -> Loss {
        let entropies = self.joint.count(warped);
        let unseen = warped.seen.map_or(0.0, |_| self.whole - entropies.fixed);
        (self.loss)(&entropies, unseen)
    }
}

impl<T: Real, const D: usize> Measure<T, D> for MutualInformation {
    #[inline(never)]
    fn prepare(
        &self,
        fixed: &Image<T, D>,
        mask: Option<&Image<T, D>>,
    ) -> Result<Box<dyn Similarity<T>>> {
        let joint = Joint::new(&self.histogram, fixed, mask)?;
        Ok(Box::new(Prepared::new(joint, fixed.data(), conditional)))
    }

    fn name(&self) -> &'static str {
        "MI"
    }

    fn default_weight(&self) -> f64 {
        0.01
    }
}

impl<T: Real, const D: usize> Measure<T, D> for Nmi {
    #[inline(never)]
    fn prepare(
        &self,
        fixed: &Image<T, D>,
        mask: Option<&Image<T, D>>,
    ) -> Result<Box<dyn Similarity<T>>> {
        let joint = Joint::new(&self.histogram, fixed, mask)?;
        Ok(Box::new(Prepared::new(joint, fixed.data(), normalised)))
    }

    fn name(&self) -> &'static str {
        "NMI"
    }

    fn default_weight(&self) -> f64 {
        0.02
    }
}

impl<T: Real> Similarity<T> for Prepared<T> {
    fn value_and_gradient_where_seen(
        &mut self,
        warped: Warped<'_, T>,
        mut bar: WarpedBar<'_, T>,
    ) -> f64 {
        if !self.joint.fit(warped, &mut bar) {
            return f64::NAN;
        }
        let Loss { value, by } = self.loss(warped);
        self.joint.gradient(by, warped, bar);
        value
    }

    fn value_where_seen(&mut self, warped: Warped<'_, T>) -> f64 {
        if !self.joint.fits(warped) {
            return f64::NAN;
        }
        self.loss(warped).value
    }

    fn mask(&self) -> Option<&[T]> {
        self.joint.mask()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::grid::{Boundary, Grid};
    use crate::testing::random;

    /// The cubic B-spline by its formula.
    fn spline(x: f64) -> f64 {
        let x = x.abs();
        if x < 1.0 { 2.0 / 3.0 - x * x + 0.5 * x * x * x } else { (2.0 - x).max(0.0).powi(3) / 6.0 }
    }

    /// Both losses from a naive joint histogram.
    fn direct(settings: &Histogram, i: &[f64], j: &[f64], mask: &[f64]) -> [f64; 2] {
        let last = settings.bins as f64 - 1.0;
        let position = |x: f64, [low, high]: [f64; 2]| {
            let t = (x - low) / (high - low) * last;
            let inside = t.clamp(0.0, last);
            inside + (t - inside).tanh()
        };
        let total: f64 = mask.iter().sum();
        let bins: Vec<f64> = (-3..=settings.bins.cast_signed() + 2).map(|k| k as f64).collect();
        let mut p = vec![vec![0.0; bins.len()]; bins.len()];
        for k in 0..i.len() {
            for (a, row) in bins.iter().zip(&mut p) {
                for (b, p) in bins.iter().zip(row) {
                    *p += mask[k] / total
                        * spline(a - position(i[k], settings.fixed))
                        * spline(b - position(j[k], settings.moving));
                }
            }
        }
        let column = |b: usize| p.iter().map(|row| row[b]).sum::<f64>();
        let row = |a: usize| p[a].iter().sum::<f64>();
        let entropy = |p: &mut dyn Iterator<Item = f64>| {
            p.filter(|&p| p > 0.0).map(|p| -p * p.ln()).sum::<f64>()
        };
        let fixed = entropy(&mut (0..bins.len()).map(row));
        let warped = entropy(&mut (0..bins.len()).map(column));
        let joint = entropy(&mut p.iter().flatten().copied());
        let mi = fixed + warped - joint;
        [fixed - mi, 2.0 - (fixed + warped) / joint]
    }

    #[test]
    fn the_values_equal_a_naive_histogram() {
        let grid = Grid::new([9, 11], [1.0, 0.5]).unwrap();
        let (i, j): (Vec<f64>, Vec<f64>) = (random(99, 1), random(99, 2));
        let mask: Vec<f64> = random::<f64>(99, 3).iter().map(|x| x.max(0.0)).collect();
        let fixed = Image::from_vec(&grid, i.clone()).unwrap();
        let masked = Image::from_vec(&grid, mask.clone()).unwrap();
        for (bins, moving) in [(4, [-1.0, 1.0]), (9, [-0.5, 0.8]), (32, [-0.9, 4.0])] {
            let histogram = Histogram { bins, fixed: [-0.7, 0.9], moving };
            let measures: [&dyn Measure<f64, 2>; 2] =
                [&MutualInformation { histogram }, &Nmi { histogram }];
            for (mask, image) in [(&mask, Some(&masked)), (&vec![1.0; 99], None)] {
                let expected = direct(&histogram, &i, &j, mask);
                for (measure, expected) in measures.iter().zip(expected) {
                    let found = measure.prepare(&fixed, image).unwrap().value(&j);
                    // Rounding of sums of a thousand terms p ln p.
                    assert!((found - expected).abs() < 1e-12, "{}: {found}", measure.name());
                }
            }
        }
    }

    #[test]
    fn the_values_of_a_part_equal_a_naive_histogram_of_it() {
        let grid = Grid::new([9, 11], [1.0, 0.5]).unwrap();
        let (i, j): (Vec<f64>, Vec<f64>) = (random(99, 1), random(99, 2));
        let [mask, seen] = [3, 4]
            .map(|seed| random::<f64>(99, seed).iter().map(|x| x.max(0.0)).collect::<Vec<_>>());
        let counts: Vec<f64> = mask.iter().zip(&seen).map(|(m, s)| m * s).collect();
        let histogram = Histogram { bins: 9, fixed: [-0.7, 0.9], moving: [-0.5, 0.8] };
        let fixed = Image::from_vec(&grid, i.clone()).unwrap();
        let masked = Image::from_vec(&grid, mask.clone()).unwrap();
        // The images and themselves apart: H(I, c) = H(I) for a constant c, whose loss is H(I).
        let entropy = |counts: &[f64]| direct(&histogram, &i, &[0.0; 99], counts)[0];
        let [conditional, normalised] = direct(&histogram, &i, &j, &counts);
        let expected = [conditional + entropy(&mask) - entropy(&counts), normalised];
        let measures: [&dyn Measure<f64, 2>; 2] =
            [&MutualInformation { histogram }, &Nmi { histogram }];
        for (measure, expected) in measures.iter().zip(expected) {
            let warped = Warped { values: &j, seen: Some(&seen) };
            let found = measure.prepare(&fixed, Some(&masked)).unwrap().value_where_seen(warped);
            // Rounding of sums of a thousand terms p ln p.
            assert!((found - expected).abs() < 1e-12, "{}: {found} {expected}", measure.name());
        }
    }

    /// Values between 0 and 1 that repeat over a periodic grid of 24 × 24 voxels, shifted by `shift`.
    fn pattern(grid: &Grid<2>, shift: f64) -> Image<f64, 2> {
        let turn = std::f64::consts::TAU / 24.0;
        let wave = |x: f64, y: f64| {
            0.5 + 0.2 * (turn * x + 0.4).sin()
                + 0.2 * (2.0 * turn * y + turn * x).cos()
                + 0.1 * (3.0 * turn * (x - y)).sin()
        };
        Image::from_fn(grid, |x| wave(x[0] - shift, x[1])).unwrap()
    }

    #[test]
    fn the_best_shift_is_none_whatever_the_contrast() {
        let grid = Grid::new([24, 24], [1.0; 2]).unwrap().with_boundary(Boundary::Periodic);
        let fixed = pattern(&grid, 0.0);
        let histogram = Histogram { bins: 16, ..Histogram::default() };
        let measures: [&dyn Measure<f64, 2>; 2] =
            [&MutualInformation { histogram }, &Nmi { histogram }];
        let contrasts: [fn(f64) -> f64; 4] =
            [|x| x, |x| 1.0 - x, |x| x * x, |x| (3.0 * (x - 0.5)).sin().abs()];
        for measure in measures {
            let mut loss = measure.prepare(&fixed, None).unwrap();
            for contrast in contrasts {
                let mut at = |shift: f64| {
                    let moved = pattern(&grid, shift);
                    loss.value(&moved.data().iter().map(|&x| contrast(x)).collect::<Vec<_>>())
                };
                let best = at(0.0);
                for shift in [-9.0, -3.0, -1.0, -0.5, 0.5, 1.0, 2.0, 7.5] {
                    assert!(at(shift) > best + 1e-3, "{} at {shift}", measure.name());
                }
            }
        }
    }

    #[test]
    fn equal_images_are_stationary_for_shifts() {
        let grid = Grid::new([24, 24], [1.0; 2]).unwrap().with_boundary(Boundary::Periodic);
        let (fixed, histogram) =
            (pattern(&grid, 0.0), Histogram { bins: 16, ..Histogram::default() });
        let measures: [&dyn Measure<f64, 2>; 2] =
            [&MutualInformation { histogram }, &Nmi { histogram }];
        // ∂J/∂shift at shift 0 and, for scale, at 1.
        let slope = |loss: &mut dyn Similarity<f64>, shift: f64| {
            let (above, below) = (pattern(&grid, shift + 1e-5), pattern(&grid, shift - 1e-5));
            let mut gradient = vec![f64::NAN; grid.len()];
            loss.value_and_gradient(pattern(&grid, shift).data(), &mut gradient);
            let direction = above.data().iter().zip(below.data()).map(|(a, b)| (a - b) / 2e-5);
            gradient.iter().zip(direction).map(|(g, d)| g * d).sum::<f64>()
        };
        for measure in measures {
            let mut loss = measure.prepare(&fixed, None).unwrap();
            let (at_rest, shifted) = (slope(&mut *loss, 0.0), slope(&mut *loss, 1.0));
            // Σ f(J) ∂J/∂x over a period, up to the sampling of 24 voxels.
            assert!(
                at_rest.abs() < 0.05 * shifted.abs(),
                "{}: {at_rest} {shifted}",
                measure.name()
            );
        }
    }

    #[test]
    fn an_inversion_changes_nothing() {
        let grid = Grid::new([9, 11], [1.0, 0.5]).unwrap();
        let histogram = Histogram { bins: 9, fixed: [-1.0, 1.0], moving: [-0.4, 0.6] };
        let fixed = Image::<f64, 2>::from_vec(&grid, random(99, 1)).unwrap();
        let warped: Vec<f64> = random(99, 2);
        let inverted: Vec<f64> = warped.iter().map(|x| 0.2 - x).collect();
        let (mut g, mut h) = (vec![f64::NAN; 99], vec![f64::NAN; 99]);
        let measures: [&dyn Measure<f64, 2>; 2] =
            [&MutualInformation { histogram }, &Nmi { histogram }];
        for measure in measures {
            let mut loss = measure.prepare(&fixed, None).unwrap();
            let values = [
                loss.value_and_gradient(&warped, &mut g),
                loss.value_and_gradient(&inverted, &mut h),
            ];
            // Values 1e-16 apart in bins of width 0.1.
            assert!((values[0] - values[1]).abs() < 1e-13);
            assert!(g.iter().zip(&h).all(|(g, h)| (g + h).abs() < 1e-13));
        }
    }

    #[test]
    fn values_far_beyond_the_range_have_no_pull() {
        let grid = Grid::new([9, 11], [1.0, 0.5]).unwrap();
        let fixed = Image::<f64, 2>::from_vec(&grid, random(99, 1)).unwrap();
        let histogram = Histogram { bins: 9, fixed: [-1.0, 1.0], moving: [-1.0, 1.0] };
        let mut loss = Nmi { histogram }.prepare(&fixed, None).unwrap();
        let mut warped: Vec<f64> = random(99, 2);
        (warped[3], warped[7]) = (1e300, -50.0);
        let mut gradient = vec![f64::NAN; 99];
        let value = loss.value_and_gradient(&warped, &mut gradient);
        assert!(value.is_finite() && gradient.iter().all(|g| g.is_finite()));
        // 1 − tanh² of hundreds of bins.
        assert!(gradient[3].abs() < 1e-300 && gradient[7].abs() < 1e-300);
        assert!(gradient.iter().filter(|g| g.abs() > 1e-6).count() > 80);
    }

    #[test]
    fn many_voxels_are_counted_in_parts() {
        // More than one part, of unequal lengths.
        let grid = Grid::new([150, 131], [1.0; 2]).unwrap();
        let (i, j): (Vec<f64>, Vec<f64>) = (random(grid.len(), 1), random(grid.len(), 2));
        let histogram = Histogram { bins: 5, fixed: [-1.0, 1.0], moving: [-1.0, 1.0] };
        let fixed = Image::from_vec(&grid, i.clone()).unwrap();
        let found = Measure::<f64, 2>::prepare(&MutualInformation { histogram }, &fixed, None)
            .unwrap()
            .value(&j);
        let expected = direct(&histogram, &i, &j, &vec![1.0; grid.len()])[0];
        // Sums of 2e4 shares of 5e-5.
        assert!((found - expected).abs() < 1e-11, "{found} {expected}");
    }

    #[test]
    fn bad_histograms_are_refused() {
        let grid = Grid::new([9, 11], [1.0, 0.5]).unwrap();
        let fixed = Image::<f64, 2>::from_vec(&grid, random(99, 1)).unwrap();
        let good = Histogram { bins: 9, fixed: [-1.0, 1.0], moving: [0.0, 1.0] };
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        let bad = [
            Histogram { bins: 3, ..good },
            Histogram { bins: 513, ..good },
            Histogram { bins: usize::MAX, ..good },
            Histogram { fixed: [1.0, 1.0], ..good },
            Histogram { fixed: [1.0, -1.0], ..good },
            Histogram { fixed: [nan, 1.0], ..good },
            Histogram { moving: [0.0, inf], ..good },
            Histogram { moving: [-f64::MAX, f64::MAX], ..good },
            Histogram { moving: [0.0, nan], ..good },
            // 10 to 20 holds nothing of the fixed image.
            Histogram { fixed: [10.0, 20.0], ..good },
        ];
        for histogram in bad {
            let measures: [&dyn Measure<f64, 2>; 2] =
                [&MutualInformation { histogram }, &Nmi { histogram }];
            for measure in measures {
                let error = measure.prepare(&fixed, None).err();
                assert!(matches!(error, Some(Error::Setting { .. })), "{histogram:?}: {error:?}");
            }
        }
        let mut loss = Nmi { histogram: good }.prepare(&fixed, None).unwrap();
        let mut gradient = vec![0.0; 98];
        assert!(loss.value_and_gradient(&[0.5; 98], &mut gradient).is_nan());
        assert!(gradient.iter().all(|g| g.is_nan()) && loss.value(&[0.5; 98]).is_nan());
        assert!(loss.value(&[f64::NAN; 99]).is_nan());
    }
}
