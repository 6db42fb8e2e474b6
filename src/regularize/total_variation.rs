//! Total variation of the weights, all Gaussians together.

use super::{On, Penalty, Regularizer, expect_weight, fit};
use crate::error::{Error, Result, positive};
use crate::field::Image;
use crate::grid::Grid;
use crate::kernel::gaussian::expect_increasing;
use crate::kernel::{Gaussian, Kernel, Workspace};
use crate::ops::difference::{Difference, Order};
use crate::ops::forward::Forward;
use crate::par;
use crate::pyramid;
use crate::scalar::Real;

/// Colour total variation: all weights share their edges.
///
#[doc = include_str!("../../docs/math/tv.html")]
///
/// The gradients are forward differences. ε makes the root smooth; it is subtracted, so that constant
/// weights cost nothing. For a straight edge across a cube, normal to an axis, the value is the jump of the
/// weights, √(Σ_i Δh_i²), times the mean of g on it, less at most ε L. Edges in other directions are
/// measured within a few per cent where they are some voxels wide; where they are not, forward differences
/// make one of the diagonals √2 longer. Three passes over N·D fields.
///
/// # References
/// Blomgren, Chan, *Color TV: total variation methods for restoration of vector-valued images*, IEEE
/// Trans. Image Process. 7 (1998), doi:10.1109/83.661180; Shen, Vialard, Niethammer, `NeurIPS` 2019,
/// arXiv:1906.00139, Section 3.
///
/// ```
/// use rdmm_core::{grid::Grid, regularize::{Regularizer, TotalVariation}};
/// let grid = Grid::<2>::unit([8, 8])?;
/// let tv = TotalVariation::new(0.1)?.with_epsilon(1e-6)?;
/// let mut tv = Regularizer::<f64, 2>::on_grid(&tv, &grid, &[0.2, 0.4])?;
/// // From one Gaussian to the other half-way down: a jump of √2.
/// let weights: Vec<f64> = (0..128).map(|k| f64::from(u8::from((k % 64 < 32) == (k < 64)))).collect();
/// let value = tv.add(1.0, &weights, &mut vec![0.0; 128]);
/// assert!((value - 2f64.sqrt()).abs() < 1e-5);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Stored<T, D>"))]
#[cfg_attr(
    feature = "serde",
    serde(bound(
        serialize = "T: Real + serde::Serialize",
        deserialize = "T: Real + serde::Deserialize<'de>"
    ))
)]
pub struct TotalVariation<T, const D: usize> {
    weight: f64,
    epsilon: f64,
    edges: Option<Image<T, D>>,
    on: On,
}

impl<T: Real, const D: usize> TotalVariation<T, D> {
    /// The total variation of the pre-weights with factor λ = `weight`, alike everywhere.
    ///
    /// # Errors
    /// [`Error::Setting`] unless λ is finite and ≥ 0.
    pub fn new(weight: f64) -> Result<Self> {
        expect_weight("weight of total variation", weight)?;
        Ok(Self { weight, epsilon: 1.0, edges: None, on: On::PreWeights })
    }

    /// The same with another ε, in units of 1/L: slopes far below it count as squares, slopes far above by
    /// their size. 1 by default.
    ///
    /// # Errors
    /// [`Error::Setting`] unless ε is finite and positive.
    pub fn with_epsilon(mut self, epsilon: f64) -> Result<Self> {
        self.epsilon = positive("epsilon of total variation", epsilon)?;
        Ok(self)
    }

    /// The same with g, on any grid over the box of the registration: where edges are cheap; see [`edge_weight`].
    /// 1 everywhere by default. Over another box, [`Regularizer::on_grid`] gives [`Error::GridMismatch`].
    ///
    /// # Errors
    /// [`Error::Setting`] for a value that is not from 0 to 1.
    pub fn with_edges(mut self, g: Image<T, D>) -> Result<Self> {
        if let Some(bad) = g.data().iter().find(|g| !(0.0..=1.0).contains(&g.f64())) {
            return Err(Error::setting(
                "edge weight of total variation",
                "values from 0 to 1",
                bad,
            ));
        }
        self.edges = Some(g);
        Ok(self)
    }

    /// The same as a function of other weights; of h by default.
    #[must_use]
    pub fn with_on(mut self, on: On) -> Self {
        self.on = on;
        self
    }

    /// ε, in units of 1/L.
    #[must_use]
    pub fn epsilon(&self) -> f64 {
        self.epsilon
    }

    /// g, if there is one.
    #[must_use]
    pub fn edges(&self) -> Option<&Image<T, D>> {
        self.edges.as_ref()
    }
}

/// What is stored of the penalty: checked when it is read.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(rename = "TotalVariation")]
#[serde(bound = "T: Real + serde::Deserialize<'de>")]
struct Stored<T, const D: usize> {
    weight: f64,
    epsilon: f64,
    edges: Option<Image<T, D>>,
    on: On,
}

#[cfg(feature = "serde")]
impl<T: Real, const D: usize> TryFrom<Stored<T, D>> for TotalVariation<T, D> {
    type Error = Error;

    fn try_from(stored: Stored<T, D>) -> Result<Self> {
        let tv = Self::new(stored.weight)?.with_epsilon(stored.epsilon)?.with_on(stored.on);
        match stored.edges {
            Some(g) => tv.with_edges(g),
            None => Ok(tv),
        }
    }
}

/// g = 1 / (1 + γ L |∇(G ⋆ I)| / (max I − min I)) of a source image: small on its edges, 1 where it is
/// flat, on the image's grid.
///
/// `sigma` is the standard deviation of G in physical units. γ has no unit: the slope is of an image of
/// unit contrast, over the longest extent L.
///
/// # Errors
/// [`Error::Setting`] unless γ is finite and positive; [`Error::Sigma`] where the grid cannot carry σ;
/// [`Error::NonFinite`] for NaN or infinity, [`Error::NoContrast`] for a constant image.
///
/// ```
/// use rdmm_core::{field::Image, grid::Grid, regularize::edge_weight};
/// let grid = Grid::<2>::unit([32, 32])?;
/// let half = Image::<f64, 2>::from_fn(&grid, |x| f64::from(u8::from(x[0] > 0.49)))?;
/// let g = edge_weight(&half, 0.05, 1.0)?;
/// // The slope of a step smoothed by G is 1/(√(2π) 0.05) = 8 at its middle.
/// assert!(g.data()[0] > 0.99 && (g.data()[16 * 32] - 1.0 / 9.0).abs() < 0.02);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
pub fn edge_weight<T: Real, const D: usize>(
    image: &Image<T, D>,
    sigma: f64,
    gamma: f64,
) -> Result<Image<T, D>> {
    image.expect_finite("source image")?;
    positive("gamma of an edge weight", gamma)?;
    let grid = image.grid();
    let mirrored = grid.clone().with_boundary(grid.boundary().of_weights());
    let mut smooth = image.clone();
    Gaussian::new(&mirrored, sigma)?.apply(image.data(), smooth.data_mut(), &mut Workspace::new());
    let extreme =
        |f: fn(f64, f64) -> f64, from| image.data().iter().fold(from, |m, x| f(m, x.f64()));
    let contrast = extreme(f64::max, f64::NEG_INFINITY) - extreme(f64::min, f64::INFINITY);
    if contrast <= 0.0 {
        return Err(Error::NoContrast { what: "source image" });
    }
    let scale = gamma * grid.largest_extent() / contrast;
    let difference = Difference::new(&mirrored, Order::Second);
    let (one, mut slopes) = (vec![T::one(); grid.len()], vec![T::zero(); D * grid.len()]);
    par::components(&mut slopes, grid.len(), |a, lo, chunk| {
        difference.add_scaled(a, T::one(), &one, smooth.data(), lo, chunk);
    });
    let mut out = Image::zeros(grid)?;
    par::chunks(out.data_mut(), |lo, chunk| {
        for (at, g) in (lo..).zip(chunk) {
            let square = (0..D).map(|a| slopes[a * grid.len() + at].f64().powi(2)).sum::<f64>();
            *g = T::of(1.0 / (1.0 + scale * square.sqrt()));
        }
    });
    Ok(out)
}

impl<T: Real, const D: usize> Regularizer<T, D> for TotalVariation<T, D> {
    #[inline(never)]
    fn on_grid(&self, grid: &Grid<D>, sigmas: &[f64]) -> Result<Box<dyn Penalty<T>>> {
        expect_increasing(sigmas)?;
        let coarser = |g: &Image<T, D>| {
            if !g.grid().same_box(grid) {
                let what = "edge weight of total variation";
                let (expected, found) = (grid.to_string(), g.grid().to_string());
                return Err(Error::GridMismatch { what, expected, found });
            }
            pyramid::coarser_mask(g, grid).map(Image::into_vec)
        };
        Ok(Box::new(Prepared {
            forward: Forward::new(grid),
            edges: self.edges.as_ref().map(coarser).transpose()?,
            epsilon: self.epsilon / grid.largest_extent(),
            // ∫ · L/V is L times the mean over the voxels.
            scale: grid.largest_extent() / grid.len() as f64,
            slopes: vec![T::zero(); sigmas.len() * D * grid.len()],
            squares: vec![T::zero(); grid.len()],
        }))
    }

    fn acts_on(&self) -> On {
        self.on
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn name(&self) -> &'static str {
        "total variation"
    }
}

struct Prepared<T, const D: usize> {
    forward: Forward<D>,
    /// g on this grid.
    edges: Option<Vec<T>>,
    /// 1/length.
    epsilon: f64,
    scale: f64,
    /// ∂_a h_i, then ∂/∂ of it: N·D fields.
    slopes: Vec<T>,
    /// q = Σ_i |∇h_i|², then the factors of the slopes.
    squares: Vec<T>,
}

impl<T: Real, const D: usize> Penalty<T> for Prepared<T, D> {
    fn add(&mut self, scale: f64, weights: &[T], gradient: &mut [T]) -> f64 {
        let Self { forward, edges, epsilon, slopes, squares, .. } = self;
        let n = squares.len();
        if !fit(slopes.len() / D, weights, gradient) {
            return f64::NAN;
        }
        let (scale, epsilon) = (scale * self.scale, *epsilon);
        let edge = |at: usize| edges.as_ref().map_or(1.0, |g| g[at].f64());
        let root = |square: T| (square.f64() + epsilon * epsilon).sqrt();
        par::components(slopes, n, |c, lo, chunk| {
            chunk.fill(T::zero());
            forward.add(c % D, &weights[c / D * n..][..n], lo, chunk);
        });
        par::chunks(squares, |lo, chunk| {
            chunk.fill(T::zero());
            for slope in slopes.chunks(n) {
                for (square, &slope) in chunk.iter_mut().zip(&slope[lo..]) {
                    *square += slope * slope;
                }
            }
        });
        // √(q + ε²) − ε = q / (√(q + ε²) + ε), without the difference.
        let term = |at: usize| edge(at) * squares[at].f64() / (root(squares[at]) + epsilon);
        let value = scale * par::sum(n, |range| range.map(term).sum());
        // ∂/∂(∂_a h_i) = g ∂_a h_i / √(q + ε²), then the transpose of the differences.
        par::chunks(squares, |lo, chunk| {
            for (at, square) in (lo..).zip(chunk) {
                *square = T::of(scale * edge(at) / root(*square));
            }
        });
        par::components(slopes, n, |_, lo, chunk| {
            for (slope, &factor) in chunk.iter_mut().zip(&squares[lo..]) {
                *slope *= factor;
            }
        });
        par::components(gradient, n, |i, lo, chunk| {
            for a in 0..D {
                forward.add_transposed(a, &slopes[(i * D + a) * n..][..n], lo, chunk);
            }
        });
        value
    }
}
