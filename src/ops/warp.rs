//! Interpolation at displaced points: warping of images and maps.
//!
//! [`warp()`] and [`warp_vjp`] are for fields; [`Warp`] is what loops are built from. Its operations are defined a point at
//! a time in `warp/reference.rs`; they run block by block (`warp/blocks.rs`), and the transpose slab by slab
//! (`warp/slabs.rs`).

mod blocks;
mod places;
mod reference;
mod seen;
mod slabs;
mod source;
mod taps;

use super::or_nan;
use super::spline::Prefilter;
use crate::error::{Error, Result};
use crate::field::kind::Kind;
use crate::field::{Displacement, Field};
use crate::grid::Grid;
use crate::par;
use crate::scalar::Real;
use crate::simd;
use crate::world::Affine;
use blocks::{Points, PositionBar, Scatter, ValueAndGradient, Values};
use places::Places;
use reference::Cell;

/// `field` read at x + u(x) by cubic splines, component by component, on the grid of the map: an image, weights or
/// the indicators of labels. Points beyond the field's grid read its mirrored or repeated values. The vectors of a
/// vector field are not turned.
///
/// Cost: one pass that reads 4ᴰ values a point, and one that makes the spline coefficients.
///
/// # Errors
/// [`Error::NonFinite`] for NaN or infinity in field or map; [`Error::OutOfMemory`].
///
/// ```
/// use rdmm_core::{field::{Displacement, Image}, grid::Grid, ops::warp::warp};
/// let grid = Grid::new([8, 8], [1.0, 1.0])?;
/// let image = Image::<f64, 2>::from_fn(&grid, |x| x[0] * x[0])?;
/// let map = Displacement::from_fn(&grid, |_| [1.0, 0.0])?;
/// assert!((warp(&image, &map)?.data()[3 * 8] - 16.0).abs() < 1e-12);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
pub fn warp<T: Real, const D: usize, K: Kind>(
    field: &Field<T, D, K>,
    map: &Displacement<T, D>,
) -> Result<Field<T, D, K>> {
    field.expect_finite(K::NAME)?;
    map.expect_finite("map")?;
    let (prefilter, warp) = (Prefilter::new(field.grid()), Warp::new(field.grid(), map.grid()));
    let mut out = Field::zeros_with(map.grid(), field.components())?;
    let mut coefficients = field.clone();
    prefilter.apply(coefficients.data_mut());
    for c in 0..field.components() {
        warp.values::<1>(coefficients.component(c), map.data(), out.component_mut(c));
    }
    Ok(out)
}

/// Transpose of the derivative of [`warp()`]: from the cotangent of its result, `bar` on the grid of the map, to those of the
/// map and of the field.
///
/// Cost: as two warps.
///
/// # Errors
/// Those of [`warp()`]; [`Error::NonFinite`] for NaN or infinity in `bar`; [`Error::GridMismatch`] and [`Error::Length`] for
/// one that is not like the result.
///
/// ```
/// use rdmm_core::{field::{Displacement, Image}, grid::Grid, ops::warp::{warp, warp_vjp}};
/// let grid = Grid::new([8, 8], [1.0, 1.0])?;
/// let (fixed, moving) = (Image::<f64, 2>::zeros(&grid)?, Image::from_fn(&grid, |x| x[0])?);
/// let map = Displacement::from_fn(&grid, |_| [0.5, 0.0])?;
/// // The loss ½ Σ (I₀∘Φ⁻¹ − I₁)²: its derivative in the map is (I₀∘Φ⁻¹ − I₁) ∇I₀∘Φ⁻¹.
/// let mut bar = warp(&moving, &map)?;
/// bar.data_mut().iter_mut().zip(fixed.data()).for_each(|(x, y)| *x -= y);
/// let (map_bar, moving_bar): (Displacement<f64, 2>, _) = warp_vjp(&moving, &map, &bar)?;
/// // Around voxel (3, 0) the image is x, whose derivative is near one.
/// assert!((map_bar.data()[3 * 8] - bar.data()[3 * 8]).abs() < 0.05);
/// assert_eq!(moving_bar.grid(), &grid);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
pub fn warp_vjp<T: Real, const D: usize, K: Kind>(
    field: &Field<T, D, K>,
    map: &Displacement<T, D>,
    bar: &Field<T, D, K>,
) -> Result<(Displacement<T, D>, Field<T, D, K>)> {
    field.expect_finite(K::NAME)?;
    map.expect_finite("map")?;
    bar.expect_finite("cotangent of a warped field")?;
    map.grid().expect_same(bar.grid(), "cotangent of a warped field")?;
    let (expected, found) = (field.components(), bar.components());
    if expected != found {
        return Err(Error::Length { what: "cotangent of a warped field", expected, found });
    }
    let (prefilter, warp) = (Prefilter::new(field.grid()), Warp::new(field.grid(), map.grid()));
    let mut map_bar = Displacement::zeros(map.grid())?;
    let mut field_bar = Field::zeros_with(field.grid(), field.components())?;
    let mut coefficients = field.clone();
    prefilter.apply(coefficients.data_mut());
    for c in 0..field.components() {
        let (u, bar) = (map.data(), bar.component(c));
        warp.position_vjp::<1>(coefficients.component(c), u, bar, map_bar.data_mut());
        warp.values_vjp::<1>(u, bar, field_bar.component_mut(c));
    }
    // The matrix that makes spline coefficients is symmetric.
    prefilter.apply(field_bar.data_mut());
    Ok((map_bar, field_bar))
}

/// Cubic B-spline interpolation of fields over a `source` grid at the displaced voxels of a `target`
/// grid: the point of voxel x is x + u(x) in the world, u along the target's axes, or A(x + u(x)) with
/// an affine map A in between.
///
/// Fields are given by their spline coefficients ([`Prefilter`]), those of several components interleaved
/// ([`Prefilter::interleaved`]). Displacements, values and their cotangents are component-major. Beyond its outermost voxels a field
/// is mirrored or repeated. The interpolant is twice continuously differentiable in the position, so
/// gradients with respect to u are exact derivatives of the values. 4ᴰ reads a point; values and
/// gradients in one pass. Only [`Warp::values_vjp`] allocates: a list of slabs.
///
/// # References
/// Thévenaz, Blu, Unser, *Interpolation revisited*, IEEE Trans. Med. Imaging 19 (2000),
/// doi:10.1109/42.875199.
#[derive(Clone, Debug)]
pub struct Warp<T, const D: usize> {
    places: Places<T, D>,
}

impl<T: Real, const D: usize> Warp<T, D> {
    /// The warp of fields over `source` to the voxels of `target`, both placed in the world by their
    /// origins, spacings and directions.
    #[must_use]
    pub fn new(source: &Grid<D>, target: &Grid<D>) -> Self {
        Self::through(source, target, &Affine::identity())
    }

    /// The same with an affine map of the world in between: the point of voxel x is A(x + u(x)).
    /// Derivatives with respect to u are those through A, Aᵀ ∇f∘A.
    ///
    /// ```
    /// use nalgebra::{SMatrix, SVector};
    /// use rdmm_core::{grid::Grid, ops::{spline::Prefilter, warp::Warp}, world::Affine};
    /// let grid = Grid::new([8, 8], [1.0, 1.0])?;
    /// let mut slope: Vec<f64> = (0..64).map(|i| f64::from(i / 8)).collect();
    /// Prefilter::new(&grid).apply(&mut slope);
    /// let shift = Affine::new(SMatrix::identity(), SVector::from([1.0, 0.0]))?;
    /// let mut out = vec![0.0; 64];
    /// Warp::through(&grid, &grid, &shift).values::<1>(&slope, &[0.0; 128], &mut out);
    /// assert!((out[3 * 8] - 4.0).abs() < 1e-12);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    #[must_use]
    #[inline(never)]
    pub fn through(source: &Grid<D>, target: &Grid<D>, affine: &Affine<D>) -> Self {
        Self { places: Places::new(source, target, affine) }
    }

    /// The grid whose voxels are displaced.
    #[must_use]
    pub fn target(&self) -> &Grid<D> {
        &self.places.target
    }

    /// Values of `C` fields at the displaced voxels.
    ///
    /// `out` receives `C` components over the target.
    #[inline(never)]
    pub fn values<const C: usize>(&self, coefficients: &[T], u: &[T], out: &mut [T]) {
        let fits = self.fits::<C>(coefficients, u) && out.len() == C * self.places.target.len();
        if !or_nan(fits, out) {
            return;
        }
        let (u, field) = (self.split(u), coefficients.as_chunks::<C>().0);
        par::zipped(par::split::<T, C>(out, self.places.target.len()), |lo, mut out| {
            let len = out.first().map_or(0, |chunk| chunk.len());
            let points = Points { places: &self.places, u, lo, len };
            simd::fused(Values { points, field, out: &mut out });
        });
    }

    /// Values of `C` fields at one point, given by its fractional array index in the source grid
    /// ([`Grid::to_index`]). Beyond the outermost voxels fields are mirrored or repeated; an index
    /// that is not finite gives NaN.
    #[must_use]
    #[inline(never)]
    pub fn at_index<const C: usize>(&self, coefficients: &[T], index: [f64; D]) -> [T; C] {
        if coefficients.len() != C * self.places.source.len() {
            return [T::nan(); C];
        }
        Cell::new(index.map(T::of), &self.places.source).values(coefficients.as_chunks().0)
    }

    /// Transpose of [`Warp::at_index`] in the coefficients: adds `bar` at the point to `C` components of
    /// `coefficients_bar`.
    #[inline(never)]
    pub fn at_index_vjp<const C: usize>(
        &self,
        index: [f64; D],
        bar: [T; C],
        coefficients_bar: &mut [T],
    ) {
        let n = self.places.source.len();
        if !or_nan(coefficients_bar.len() == C * n, coefficients_bar) {
            return;
        }
        let cell = Cell::new(index.map(T::of), &self.places.source);
        cell.values_vjp(bar, coefficients_bar.as_chunks_mut().0);
    }

    /// Value of one field at the displaced voxels, and its derivatives with respect to u: `gradient`
    /// has `D` components over the target, along the target's axes and in physical units.
    #[inline(never)]
    pub fn value_and_gradient(
        &self,
        coefficients: &[T],
        u: &[T],
        value: &mut [T],
        gradient: &mut [T],
    ) {
        let n = self.places.target.len();
        let fits = self.fits::<1>(coefficients, u) && value.len() == n && gradient.len() == D * n;
        // Where one does not fit, both are NaN.
        if !(or_nan(fits, value) & or_nan(fits, gradient)) {
            return;
        }
        let u = self.split(u);
        let out = std::iter::once(value).chain(gradient.chunks_mut(n)).collect();
        par::slices(out, |lo, out| {
            let [value, gradient @ ..] = out else { return };
            let len = value.len();
            let points = Points { places: &self.places, u, lo, len };
            let field = coefficients.as_chunks().0;
            simd::fused(ValueAndGradient { points, field, value, gradient });
        });
    }

    /// Transpose of [`Warp::values`] in the coefficients: adds `bar` at the displaced voxels to
    /// `coefficients_bar`. Slabs of the target that reach planes of the source of their own go in parallel.
    #[inline(never)]
    pub fn values_vjp<const C: usize>(&self, u: &[T], bar: &[T], coefficients_bar: &mut [T]) {
        let (source, n) = (self.places.source.len(), self.places.target.len());
        let fits = bar.len() == C * n && coefficients_bar.len() == C * source;
        if !or_nan(fits && u.len() == D * n, coefficients_bar) {
            return;
        }
        let (u, bars) = (self.split(u), parts::<T, C>(bar));
        let field = coefficients_bar.as_chunks_mut().0;
        let mut slabs = self.places.slabs(&u);
        slabs.sort_by_key(|slab| slab.planes.start);
        while !slabs.is_empty() {
            // Those that reach apart go together. What waits for what does not depend on the threads.
            let (mut round, mut later) = (Vec::new(), Vec::new());
            let (mut rest, mut end) = (&mut *field, 0);
            for slab in slabs {
                if slab.planes.start < end {
                    later.push(slab);
                    continue;
                }
                let stride = self.places.source.strides[0];
                let (_, from_here) = rest.split_at_mut((slab.planes.start - end) * stride);
                let (out, after) = from_here.split_at_mut(slab.planes.len() * stride);
                (rest, end) = (after, slab.planes.end);
                round.push((slab, out));
            }
            par::each(round, |(slab, out)| {
                let (lo, len) = (slab.voxels.start, slab.voxels.len());
                let origin = slab.planes.start * self.places.source.strides[0];
                let points = Points { places: &self.places, u, lo, len };
                simd::fused(Scatter { points, bars, origin, out });
            });
            slabs = later;
        }
    }

    /// Transpose of [`Warp::values`] in u: `u_bar_a += Σ_c bar_c ∂(value_c)/∂u_a`.
    #[inline(never)]
    pub fn position_vjp<const C: usize>(
        &self,
        coefficients: &[T],
        u: &[T],
        bar: &[T],
        u_bar: &mut [T],
    ) {
        let n = self.places.target.len();
        let fits = self.fits::<C>(coefficients, u) && bar.len() == C * n && u_bar.len() == D * n;
        if !or_nan(fits, u_bar) {
            return;
        }
        let (u, field) = (self.split(u), coefficients.as_chunks::<C>().0);
        let bars = parts::<T, C>(bar);
        par::zipped(par::split::<T, D>(u_bar, n), |lo, mut out| {
            let len = out.first().map_or(0, |chunk| chunk.len());
            let points = Points { places: &self.places, u, lo, len };
            simd::fused(PositionBar { points, field, bars, out: &mut out });
        });
    }

    /// Whether there are `C` components of coefficients over the source and a displacement over the
    /// target.
    fn fits<const C: usize>(&self, coefficients: &[T], u: &[T]) -> bool {
        coefficients.len() == C * self.places.source.len()
            && u.len() == D * self.places.target.len()
    }

    fn split<'a>(&self, u: &'a [T]) -> [&'a [T]; D] {
        let n = self.places.target.len();
        std::array::from_fn(|a| &u[a * n..(a + 1) * n])
    }
}

fn parts<T, const C: usize>(data: &[T]) -> [&[T]; C] {
    let n = data.len() / C.max(1);
    std::array::from_fn(|c| &data[c * n..(c + 1) * n])
}

#[cfg(test)]
mod tests;
