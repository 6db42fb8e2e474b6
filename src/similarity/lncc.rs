use super::window::{Average, Window};
use super::{Measure, NO_CONTRAST, Shares, Similarity, Warped, WarpedBar};
use crate::error::Result;
use crate::field::{Image, Weights};
use crate::par;
use crate::scalar::Real;

/// Variance of the common texture over that of the image. Windows whose standard deviations are below
/// 5 % of the global ones (the root of this) are mostly texture: noise of a background stays below.
const TEXTURE: f64 = 2.5e-3;

/// What a window does not see counts this much, as the images' means: far below what a corner of the seen part sees of
/// its window, 1/8, and above the error of the windows in single precision.
const UNSEEN: f64 = 1e-3;

/// One minus the mean squared local correlation, in Gaussian windows G of standard deviation `sigma`
/// (physical units), between 0 and 1.
///
#[doc = include_str!("../../docs/math/lncc.html")]
///
#[doc = include_str!("../../docs/math/lnccmoments.html")]
///
/// cov = G⋆(I J) − (G⋆I)(G⋆J) and so on, on the fixed image's grid; windows are mirrored at the
/// border, or repeated on a periodic grid. The mean is over the mask; windows see the voxels outside
/// it too.
///
/// A correlation needs contrast, and windows of a background have none. Both images are taken to carry
/// one faint texture besides: ε_I and ε_J are 1/400 of the global variances (of J, that and 1e-12 of I's).
/// Where both are flat they then agree, where one of them is flat they do not, and an image and itself
/// have loss zero with a zero gradient. The loss does not change under linear changes of intensity with a
/// positive slope; a negative slope costs only where windows are nearly flat.
///
/// Where only a part ω is seen, windows see that part: G⋆(ω f) / n in the place of G⋆f, n = G⋆ω + δ (1 − G⋆ω), and the
/// mean over the voxels and the global variances are weighted by mask · ω. δ = 1/1000 of what a window does not see counts
/// as the images' means, so that windows with hardly anything in them are no division by zero.
///
/// The gradient is exact: through the windows, which are symmetric and accurate to a thousand units of rounding
/// (1.2e-4 in `f32`), the local means and ε_J. Three
/// Gaussians for a value, six with a gradient; nine values a voxel are kept, and the Gaussian's own
/// workspace. Where only a part is seen, twice as many of both.
///
/// [`Measure::prepare`] also gives [`Error::NoContrast`](crate::Error::NoContrast) for a fixed image
/// that is constant where the mask counts, [`Error::Sigma`](crate::Error::Sigma) for a window below
/// half the coarsest spacing or above the largest extent, and
/// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
///
/// # References
/// Cachier, Bardinet, Dormont, Pennec, Ayache, *Iconic feature based nonrigid registration: the PASHA
/// algorithm*, Comput. Vis. Image Underst. 89 (2003), doi:10.1016/S1077-3142(03)00002-X.
///
/// ```
/// use rdmm_core::{field::Image, grid::Grid, similarity::{Lncc, Measure}};
/// let grid = Grid::new([16, 16], [1.0, 1.0])?;
/// let fixed = Image::<f64, 2>::from_fn(&grid, |x| (x[0] + 0.3 * x[1]).sin())?;
/// let inverted: Vec<f64> = fixed.data().iter().map(|x| 4.0 - 2.0 * x).collect();
/// let mut loss = Lncc { sigma: 2.0 }.prepare(&fixed, None)?;
/// assert!(loss.value(&inverted) < 0.05); // what the texture of the nearly flat windows leaves
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Lncc {
    /// Standard deviation of the windows, physical units.
    pub sigma: f64,
}

struct Prepared<T, const D: usize> {
    /// I less its global mean: local correlations do not see it, and sums of squares lose less.
    fixed: Vec<T>,
    /// G⋆I.
    fixed_mean: Vec<T>,
    /// G⋆I² − (G⋆I)².
    fixed_variance: Vec<T>,
    /// Variance of I over the whole mask.
    contrast: f64,
    shares: Shares<T>,
    window: Average<T, D>,
    /// Three components before and after the windows.
    products: Vec<T>,
    windowed: Vec<T>,
    /// What is needed where not all is seen: three components more of each.
    part: Part<T>,
}

/// Buffers of the windows of ω, ω I and ω I².
struct Part<T> {
    products: Vec<T>,
    windowed: Vec<T>,
}

/// Second moments in one window, with those of the texture.
struct Local {
    /// cov + √(ε_I ε_J).
    covariance: f64,
    /// var I + ε_I.
    fixed: f64,
    /// var J + ε_J.
    warped: f64,
}

impl Local {
    /// cov / (var I · var J).
    fn ratio(&self) -> f64 {
        self.covariance / (self.fixed * self.warped)
    }

    /// The squared correlation.
    fn correlation(&self) -> f64 {
        self.ratio() * self.covariance
    }
}

/// Variances of the texture.
#[derive(Clone, Copy)]
struct Texture {
    fixed: f64,
    warped: f64,
}

impl<T: Real, const D: usize> Measure<T, D> for Lncc {
    #[inline(never)]
    fn prepare(
        &self,
        fixed: &Image<T, D>,
        mask: Option<&Image<T, D>>,
    ) -> Result<Box<dyn Similarity<T>>> {
        prepared(Window::Gaussian { sigma: self.sigma }, fixed, mask)
    }

    fn name(&self) -> &'static str {
        "LNCC"
    }

    fn default_weight(&self) -> f64 {
        0.01
    }
}

/// One minus the mean squared correlation in `window`, against one fixed image.
pub(super) fn prepared<T: Real, const D: usize>(
    window: Window,
    fixed: &Image<T, D>,
    mask: Option<&Image<T, D>>,
) -> Result<Box<dyn Similarity<T>>> {
    fixed.expect_finite("fixed image")?;
    let grid = fixed.grid();
    let shares = Shares::new(grid, mask)?;
    let (mean, contrast) = shares.whole().contrast(fixed.data(), "fixed image")?;
    let three = || Weights::<T, D>::zeros_with(grid, 3).map(Weights::into_vec);
    let mut loss = Prepared {
        fixed: centred(fixed.data(), mean),
        fixed_mean: Vec::new(),
        fixed_variance: Vec::new(),
        contrast,
        shares,
        window: Average::new(window, grid)?,
        products: three()?,
        windowed: three()?,
        part: Part { products: Vec::new(), windowed: Vec::new() },
    };
    // The moments of I with itself: G⋆I, G⋆I².
    loss.window_products(fixed.data(), mean);
    let n = grid.len();
    loss.fixed_mean = loss.windowed[..n].to_vec();
    let square = &loss.windowed[n..2 * n];
    let variance = |(m, s): (&T, &T)| T::of(variance(m.f64(), s.f64()));
    loss.fixed_variance = loss.fixed_mean.iter().zip(square).map(variance).collect();
    Ok(Box::new(loss))
}

fn centred<T: Real>(image: &[T], mean: f64) -> Vec<T> {
    image.iter().map(|x| T::of(x.f64() - mean)).collect()
}

/// Variance from the windowed image and its windowed square. Rounding must not make it negative.
fn variance(mean: f64, square: f64) -> f64 {
    (square - mean * mean).max(0.0)
}

impl<T: Real, const D: usize> Prepared<T, D> {
    /// G⋆J, G⋆J² and G⋆(I J), J less `mean`.
    fn window_products(&mut self, warped: &[T], mean: f64) {
        let fixed = &self.fixed;
        let parts = par::split::<T, 3>(&mut self.products, fixed.len());
        par::zipped(parts, |lo, [first, square, cross]| {
            for k in 0..first.len() {
                let j = T::of(warped[lo + k].f64() - mean);
                first[k] = j;
                square[k] = j * j;
                cross[k] = fixed[lo + k] * j;
            }
        });
        self.window.apply(&self.products, &mut self.windowed);
    }

    /// The mean of J and the texture, with the windows of J in `windowed`.
    fn prepare(&mut self, warped: &[T]) -> (f64, Texture) {
        let (mean, variance) = self.shares.whole().moments(warped);
        self.window_products(warped, mean);
        let fixed = TEXTURE * self.contrast;
        (mean, Texture { fixed, warped: TEXTURE * variance + NO_CONTRAST * fixed })
    }

    #[inline]
    fn local(&self, i: usize, texture: Texture) -> Local {
        let n = self.fixed.len();
        let [mean, square, cross] = std::array::from_fn(|c| self.windowed[c * n + i].f64());
        let common = (texture.fixed * texture.warped).sqrt();
        Local {
            covariance: cross - self.fixed_mean[i].f64() * mean + common,
            fixed: self.fixed_variance[i].f64() + texture.fixed,
            warped: variance(mean, square) + texture.warped,
        }
    }
}

impl<T: Real, const D: usize> Prepared<T, D> {
    /// The loss of an image that was seen everywhere, and its gradient.
    fn whole_with_gradient(&mut self, warped: &[T], gradient: &mut [T]) -> f64 {
        let (mean, texture) = self.prepare(warped);
        let (n, shares) = (self.fixed.len(), self.shares.whole());
        let slope = (texture.fixed / texture.warped).sqrt();
        let mut products = std::mem::take(&mut self.products);
        let parts = par::split::<T, 3>(&mut products, n);
        let [lncc, by_texture] = par::zipped_sums(parts, |lo, [a, b, means]| {
            par::lanes(0..a.len(), |k| {
                let (i, at) = (lo + k, self.local(lo + k, texture));
                let share = shares.at(i);
                let ratio = at.ratio();
                // A = ∂loss/∂cov, B = ∂loss/∂(var J) and A G⋆I + 2 B G⋆J, window by window.
                let by_covariance = -2.0 * share * ratio;
                let by_variance = share * ratio * ratio * at.fixed;
                let (fixed_mean, mean) = (self.fixed_mean[i].f64(), self.windowed[i].f64());
                a[k] = T::of(by_covariance);
                b[k] = T::of(by_variance);
                means[k] = T::of(by_covariance * fixed_mean + 2.0 * by_variance * mean);
                // The squared correlation and −∂/∂ε_J of it.
                [share * at.correlation(), by_variance - slope * share * ratio]
            })
        });
        self.products = products;
        self.window.apply(&self.products, &mut self.windowed);
        // ∂loss/∂J = I G⋆A + 2 J G⋆B − G⋆(A G⋆I + 2 B G⋆J) + ∂loss/∂ε_J ∂ε_J/∂J
        par::chunks(gradient, |lo, out| {
            for (i, out) in (lo..).zip(out) {
                let [a, b, means] = std::array::from_fn(|c| self.windowed[c * n + i].f64());
                let (x, y) = (self.fixed[i].f64(), warped[i].f64() - mean);
                let contrast = TEXTURE * 2.0 * shares.at(i) * y;
                *out = T::of(x * a + 2.0 * y * b - means + by_texture * contrast);
            }
        });
        1.0 - lncc
    }
}

impl<T: Real, const D: usize> Similarity<T> for Prepared<T, D> {
    fn value_and_gradient_where_seen(
        &mut self,
        warped: Warped<'_, T>,
        mut bar: WarpedBar<'_, T>,
    ) -> f64 {
        if !self.shares.fit(warped, &mut bar) {
            return f64::NAN;
        }
        match (warped.seen, bar.seen) {
            (Some(seen), Some(seen_bar)) => {
                self.part_with_gradient(warped.values, seen, bar.values, seen_bar)
            }
            _ => self.whole_with_gradient(warped.values, bar.values),
        }
    }

    fn value_where_seen(&mut self, warped: Warped<'_, T>) -> f64 {
        if !self.shares.fits(warped) {
            return f64::NAN;
        }
        if let Some(seen) = warped.seen {
            let part = self.prepare_part(warped.values, seen);
            let counted = self.shares.counted(Some(seen));
            let (n, fixed, moments) = (self.fixed.len(), &self.part.windowed, &self.windowed);
            return 1.0
                - counted.mean(|i| InPart::at(i, n, fixed, moments, part.texture).correlation());
        }
        let (_, texture) = self.prepare(warped.values);
        1.0 - self.shares.whole().mean(|i| self.local(i, texture).correlation())
    }

    fn mask(&self) -> Option<&[T]> {
        self.shares.mask()
    }
}

/// What holds for all windows of a part that was seen.
#[derive(Clone, Copy)]
struct OfPart {
    /// Means over the part, the fixed image's less its mean where all is seen.
    fixed_mean: f64,
    mean: f64,
    /// Variances over the part.
    fixed_variance: f64,
    variance: f64,
    texture: Texture,
}

/// Moments in one window of the part that was seen.
struct InPart {
    local: Local,
    /// n = G⋆ω + δ (1 − G⋆ω).
    mass: f64,
    fixed_mean: f64,
    mean: f64,
    /// G⋆(ω I²)/n, G⋆(ω J²)/n and G⋆(ω I J)/n.
    fixed_square: f64,
    square: f64,
    cross: f64,
}

impl InPart {
    /// At a voxel, from the windows of ω, ω I, ω I² and of ω J, ω J², ω I J.
    #[inline]
    fn at<T: Real>(i: usize, n: usize, fixed: &[T], warped: &[T], texture: Texture) -> Self {
        let [seen, fixed_mean, fixed_square] = std::array::from_fn(|c| fixed[c * n + i].f64());
        let [mean, square, cross] = std::array::from_fn(|c| warped[c * n + i].f64());
        let mass = seen + UNSEEN * (1.0 - seen);
        let [fixed_mean, mean] = [fixed_mean / mass, mean / mass];
        let [fixed_square, square, cross] = [fixed_square / mass, square / mass, cross / mass];
        let common = (texture.fixed * texture.warped).sqrt();
        let local = Local {
            covariance: cross - fixed_mean * mean + common,
            fixed: variance(fixed_mean, fixed_square) + texture.fixed,
            warped: variance(mean, square) + texture.warped,
        };
        Self { local, mass, fixed_mean, mean, fixed_square, square, cross }
    }

    #[inline]
    fn correlation(&self) -> f64 {
        self.local.correlation()
    }
}

impl<T: Real, const D: usize> Prepared<T, D> {
    /// Windows of the part `seen`: of ω, ω I and ω I² in `part.windowed`, of ω J, ω J² and ω I J in `windowed`.
    fn prepare_part(&mut self, warped: &[T], seen: &[T]) -> OfPart {
        let n = self.fixed.len();
        let counted = self.shares.counted(Some(seen));
        let (fixed_mean, fixed_variance) = counted.moments(&self.fixed);
        let (mean, variance) = counted.moments(warped);
        let floor = NO_CONTRAST * TEXTURE * self.contrast;
        let texture =
            Texture { fixed: TEXTURE * fixed_variance + floor, warped: TEXTURE * variance + floor };
        self.part.products.resize(3 * n, T::zero());
        self.part.windowed.resize(3 * n, T::zero());
        let fixed = &self.fixed;
        let centred =
            |i: usize| (T::of(fixed[i].f64() - fixed_mean), T::of(warped[i].f64() - mean));
        let parts = par::split::<T, 3>(&mut self.part.products, n);
        par::zipped(parts, |lo, [mass, first, square]| {
            for k in 0..mass.len() {
                let (w, (i, _)) = (seen[lo + k], centred(lo + k));
                mass[k] = w;
                first[k] = w * i;
                square[k] = w * i * i;
            }
        });
        let parts = par::split::<T, 3>(&mut self.products, n);
        par::zipped(parts, |lo, [first, square, cross]| {
            for k in 0..first.len() {
                let (w, (i, j)) = (seen[lo + k], centred(lo + k));
                first[k] = w * j;
                square[k] = w * j * j;
                cross[k] = w * i * j;
            }
        });
        self.window.apply(&self.part.products, &mut self.part.windowed);
        self.window.apply(&self.products, &mut self.windowed);
        OfPart { fixed_mean, mean, fixed_variance, variance, texture }
    }

    /// The loss of a part that was seen, and its gradients.
    fn part_with_gradient(
        &mut self,
        warped: &[T],
        seen: &[T],
        gradient: &mut [T],
        seen_bar: &mut [T],
    ) -> f64 {
        let of = self.prepare_part(warped, seen);
        let (n, texture) = (self.fixed.len(), of.texture);
        let Self { fixed, shares, window, products, windowed, part, .. } = self;
        let counted = shares.counted(Some(seen));
        let root = (texture.warped / texture.fixed).sqrt();

        // Window by window: A = ∂loss/∂cov, B = ∂loss/∂(var J), C = ∂loss/∂(var I), and the derivatives in the six
        // windows m of ω (), m = n · moment.
        let [own, other] = [&mut part.products, products].map(|all| par::split::<T, 3>(all, n));
        let [mass, first, square] = own;
        let [mean, mean_square, cross] = other;
        let (of_fixed, of_warped) = (&part.windowed, &*windowed);
        let parts = [mass, first, square, mean, mean_square, cross];
        let [lncc, by_fixed_texture, by_texture] = par::zipped_sums(
            parts,
            |lo, [by_mass, by_first, by_square, by_mean, by_mean_square, by_cross]| {
                par::lanes(0..by_mass.len(), |k| {
                    let at = InPart::at(lo + k, n, of_fixed, of_warped, texture);
                    let (share, ratio) = (counted.at(lo + k), at.local.ratio());
                    let a = -2.0 * share * ratio;
                    let b = share * ratio * ratio * at.local.fixed;
                    let c = share * ratio * ratio * at.local.warped;
                    let in_first = -a * at.mean - 2.0 * c * at.fixed_mean;
                    let in_mean = -a * at.fixed_mean - 2.0 * b * at.mean;
                    let in_mass = a * at.cross
                        + b * at.square
                        + c * at.fixed_square
                        + in_first * at.fixed_mean
                        + in_mean * at.mean;
                    let over = 1.0 / at.mass;
                    by_mass[k] = T::of(-(1.0 - UNSEEN) * over * in_mass);
                    by_first[k] = T::of(over * in_first);
                    by_square[k] = T::of(over * c);
                    by_mean[k] = T::of(over * in_mean);
                    by_mean_square[k] = T::of(over * b);
                    by_cross[k] = T::of(over * a);
                    // The squared correlation, ∂loss/∂ε_I and ∂loss/∂ε_J.
                    [share * at.correlation(), c + 0.5 * a * root, b + 0.5 * a / root]
                })
            },
        );

        // The correlations themselves, where ω weighs them.
        par::chunks(seen_bar, |lo, out| {
            for (i, out) in (lo..).zip(out) {
                let correlation = InPart::at(i, n, of_fixed, of_warped, texture).correlation();
                *out = T::of(counted.by_seen(i) * (lncc - correlation));
            }
        });
        window.apply(&part.products, &mut part.windowed);
        window.apply(products, windowed);

        // Back to ω, ω I, ω I², ω J, ω J² and ω I J.
        let centred = |i: usize| (fixed[i].f64() - of.fixed_mean, warped[i].f64() - of.mean);
        let back = |i: usize| -> ([f64; 3], [f64; 3]) {
            let of_fixed = std::array::from_fn(|c| part.windowed[c * n + i].f64());
            (of_fixed, std::array::from_fn(|c| windowed[c * n + i].f64()))
        };
        // Both images are less their means over the part: ∂loss/∂(those).
        let [by_fixed_mean, by_mean] = par::sums(n, |range| {
            par::lanes(range, |i| {
                let ((x, y), ([_, first, square], [mean, mean_square, cross])) =
                    (centred(i), back(i));
                let w = seen[i].f64();
                [
                    -w * (first + 2.0 * x * square + y * cross),
                    -w * (mean + 2.0 * y * mean_square + x * cross),
                ]
            })
        });
        par::zipped([gradient, seen_bar], |lo, [gradient, seen_bar]| {
            for k in 0..gradient.len() {
                let i = lo + k;
                let (x, y) = centred(i);
                let ([mass, first, square], [mean, mean_square, cross]) = back(i);
                let value = seen[i].f64() * (mean + 2.0 * y * mean_square + x * cross)
                    + counted.at(i) * (by_mean + by_texture * TEXTURE * 2.0 * y);
                gradient[k] = T::of(value);
                let windows =
                    mass + x * (first + x * square) + y * (mean + y * mean_square + x * cross);
                let means = by_fixed_mean * x + by_mean * y;
                let textures = by_fixed_texture * (x * x - of.fixed_variance)
                    + by_texture * (y * y - of.variance);
                let all = windows + counted.by_seen(i) * (means + TEXTURE * textures);
                seen_bar[k] = T::of(seen_bar[k].f64() + all);
            }
        });
        1.0 - lncc
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::{Boundary, Grid};
    use crate::similarity::window::overlaps;
    use crate::testing::random;

    /// Normalised sampled Gaussian along one axis, mirrored or repeated, as a matrix.
    fn axis(n: usize, h: f64, sigma: f64, periodic: bool) -> Vec<Vec<f64>> {
        let n = n.cast_signed();
        let g = |d: isize| (-0.5 * (d as f64 * h / sigma).powi(2)).exp();
        let mass: f64 = (-200..=200).map(g).sum();
        let images = |j: isize, k: isize| {
            if periodic { vec![j + k * n] } else { vec![j + 2 * k * n, 2 * k * n - 1 - j] }
        };
        let weight = |i: isize, j: isize| -> f64 {
            let all = (-12..=12).flat_map(|k| images(j, k));
            all.map(|j| g(i - j)).sum::<f64>() / mass
        };
        (0..n).map(|i| (0..n).map(|j| weight(i, j)).collect()).collect()
    }

    #[test]
    fn the_value_equals_direct_sums() {
        for boundary in Boundary::ALL {
            let grid = Grid::new([6, 7], [1.0, 0.5]).unwrap().with_boundary(boundary);
            let periodic = boundary == Boundary::Periodic;
            let gaussian = (axis(6, 1.0, 0.9, periodic), axis(7, 0.5, 0.9, periodic));
            let cube = (overlaps(6, 2.6, periodic), overlaps(7, 5.2, periodic));
            for ((wx, wy), window) in
                [(gaussian, Window::Gaussian { sigma: 0.9 }), (cube, Window::Box { width: 2.6 })]
            {
                let (i, j) = (random::<f64>(42, 1), random::<f64>(42, 2));
                let mask: Vec<f64> = random::<f64>(42, 3).iter().map(|x| x.abs()).collect();
                let total: f64 = mask.iter().sum();
                let moments = |x: &[f64]| {
                    let mean = x.iter().zip(&mask).map(|(x, m)| m * x).sum::<f64>() / total;
                    x.iter().zip(&mask).map(|(x, m)| m * (x - mean).powi(2)).sum::<f64>() / total
                };
                let (ei, ej) = (moments(&i) / 400.0, moments(&j) / 400.0);
                let mut lncc = 0.0;
                for at in 0..42 {
                    let weight = |k: usize| wx[at / 7][k / 7] * wy[at % 7][k % 7];
                    let mean = |x: &[f64]| (0..42).map(|k| weight(k) * x[k]).sum::<f64>();
                    let (mi, mj) = (mean(&i), mean(&j));
                    // Centred sums, unlike the code's differences of means.
                    let covariance = |x: &[f64], mx: f64, y: &[f64], my: f64| {
                        (0..42).map(|k| weight(k) * (x[k] - mx) * (y[k] - my)).sum::<f64>()
                    };
                    let vi = covariance(&i, mi, &i, mi) + ei;
                    let vj = covariance(&j, mj, &j, mj) + ej;
                    let cross = covariance(&i, mi, &j, mj) + (ei * ej).sqrt();
                    lncc += mask[at] / total * cross * cross / (vi * vj);
                }
                let fixed = Image::from_vec(&grid, i).unwrap();
                let mask = Image::from_vec(&grid, mask.clone()).unwrap();
                let mut loss = prepared(window, &fixed, Some(&mask)).unwrap();
                let value = loss.value(&j);
                // Rounding, and the floor of 1e-12 of the variance.
                assert!((value - (1.0 - lncc)).abs() < 1e-11, "{boundary:?}: {value} {lncc}");
            }
        }
    }

    #[test]
    fn the_value_of_a_part_equals_direct_sums() {
        let grid = Grid::new([6, 7], [1.0, 0.5]).unwrap();
        let (wx, wy) = (axis(6, 1.0, 0.9, false), axis(7, 0.5, 0.9, false));
        let (i, j) = (random::<f64>(42, 1), random::<f64>(42, 2));
        let mask: Vec<f64> = random::<f64>(42, 3).iter().map(|x| x.abs()).collect();
        let seen: Vec<f64> = random::<f64>(42, 4).iter().map(|x| x.max(0.0)).collect();
        let counts: Vec<f64> = mask.iter().zip(&seen).map(|(m, s)| m * s).collect();
        let total: f64 = counts.iter().sum();
        let mean =
            |f: &dyn Fn(usize) -> f64| (0..42).map(|k| counts[k] * f(k)).sum::<f64>() / total;
        let (mean_i, mean_j) = (mean(&|k| i[k]), mean(&|k| j[k]));
        let (i, j): (Vec<f64>, Vec<f64>) =
            (i.iter().map(|x| x - mean_i).collect(), j.iter().map(|x| x - mean_j).collect());
        let (ei, ej) = (mean(&|k| i[k] * i[k]) / 400.0, mean(&|k| j[k] * j[k]) / 400.0);
        let expected = 1.0
            - mean(&|at| {
                let weight = |k: usize| wx[at / 7][k / 7] * wy[at % 7][k % 7] * seen[k];
                let sees: f64 = (0..42).map(weight).sum();
                // The part of the window that is not seen holds a thousandth of it at the means, 0.
                let rest = 1e-3 * (1.0 - sees);
                let local =
                    |x: &[f64]| (0..42).map(|k| weight(k) * x[k]).sum::<f64>() / (sees + rest);
                let (mi, mj) = (local(&i), local(&j));
                let covariance = |x: &[f64], mx: f64, y: &[f64], my: f64| {
                    let there = |k: usize| weight(k) * (x[k] - mx) * (y[k] - my);
                    ((0..42).map(there).sum::<f64>() + rest * mx * my) / (sees + rest)
                };
                let cross = covariance(&i, mi, &j, mj) + (ei * ej).sqrt();
                let (vi, vj) = (covariance(&i, mi, &i, mi) + ei, covariance(&j, mj, &j, mj) + ej);
                cross * cross / (vi * vj)
            });
        let fixed = Image::from_vec(&grid, random(42, 1)).unwrap();
        let mask = Image::from_vec(&grid, mask).unwrap();
        let mut loss = prepared(Window::Gaussian { sigma: 0.9 }, &fixed, Some(&mask)).unwrap();
        let warped = random::<f64>(42, 2);
        let value = loss.value_where_seen(Warped { values: &warped, seen: Some(&seen) });
        // Rounding, and the floor of 1e-12 of the variance.
        assert!((value - expected).abs() < 1e-11, "{value} {expected}");
    }
}
