use super::window::{Average, Window};
use super::{Measure, NO_CONTRAST, Shares, Similarity};
use crate::error::Result;
use crate::field::{Image, Weights};
use crate::par;
use crate::scalar::Real;

/// Variance of the common texture over that of the image. Windows whose standard deviations are below
/// 5 % of the global ones (the root of this) are mostly texture: noise of a background stays below.
const TEXTURE: f64 = 2.5e-3;

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
/// The gradient is exact: through the windows, which are symmetric and accurate to a thousand units of rounding
/// (1.2e-4 in `f32`), the local means and ε_J. Three
/// Gaussians for a value, six with a gradient; nine values a voxel are kept, and the Gaussian's own
/// workspace.
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
    let (mean, contrast) = shares.contrast(fixed.data(), "fixed image")?;
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
        let (mean, variance) = self.shares.moments(warped);
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

impl<T: Real, const D: usize> Similarity<T> for Prepared<T, D> {
    fn value_and_gradient(&mut self, warped: &[T], gradient: &mut [T]) -> f64 {
        if !self.shares.fit(warped, gradient) {
            return f64::NAN;
        }
        let (mean, texture) = self.prepare(warped);
        let n = self.fixed.len();
        let slope = (texture.fixed / texture.warped).sqrt();
        let mut products = std::mem::take(&mut self.products);
        let parts = par::split::<T, 3>(&mut products, n);
        let [lncc, by_texture] = par::zipped_sums(parts, |lo, [a, b, means]| {
            par::lanes(0..a.len(), |k| {
                let (i, at) = (lo + k, self.local(lo + k, texture));
                let share = self.shares.at(i);
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
                let contrast = TEXTURE * 2.0 * self.shares.at(i) * y;
                *out = T::of(x * a + 2.0 * y * b - means + by_texture * contrast);
            }
        });
        1.0 - lncc
    }

    fn value(&mut self, warped: &[T]) -> f64 {
        if warped.len() != self.fixed.len() {
            return f64::NAN;
        }
        let (_, texture) = self.prepare(warped);
        1.0 - self.shares.mean(|i| self.local(i, texture).correlation())
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
}
