//! Which way a kernel is applied: the one that takes the least time on its grid.
//!
//! Times are counted in multiplications of a matrix product, a value of the field. What else takes time was measured.

use std::sync::Arc;

use rustfft::FftPlanner;

use super::axis::Axis;
use super::domain::{Domain, Lattice};
use super::fft::Scalar;
use super::filters::{Filters, Transformed, evaluated, padded, subsets, table};
use super::modes::Modes;
use super::operator::{Operator, Sum};
use super::profile::{Profile, multiplier, padding, reach};
use super::separable::{PASS, Separable};
use crate::error::{Error, Result};
use crate::grid::Boundary;

/// An operator that is chosen at run time.
pub(crate) type Planned<T> = Arc<dyn Operator<T>>;

/// Voxels of the longest axis that is a matrix.
const LONGEST: usize = 1024;

/// Time of a pair of transforms with a multiplication of all coefficients in between, relative to a filter that
/// does both on one axis at once. Measured.
const THERE_AND_BACK: f64 = 1.7;

/// Time of a Fourier filter along an axis a value. Measured: cosine transforms reorder and turn what they read.
fn filter_cost(lattice: Lattice) -> f64 {
    match lattice.boundary {
        Boundary::Reflecting => 110.0,
        Boundary::Periodic | Boundary::Free => 50.0 * lattice.period as f64 / lattice.n as f64,
    }
}

/// Whether operators of this tolerance are products of matrices on a grid.
fn fits_products(domain: &Domain, tolerance: f64) -> bool {
    tolerance > 0.0 && domain.shape.iter().all(|&n| n <= LONGEST)
}

/// Gaussians, each in the way that costs least, with plans of transforms in common.
pub(super) fn gaussians<T: Scalar>(
    domain: &Domain,
    profiles: &[Profile],
    tolerance: f64,
) -> Vec<Planned<T>> {
    let mut planner = FftPlanner::new();
    let gaussian = |profile: &Profile| -> Planned<T> {
        let sigmas = &profile.sigmas;
        let lattices = padded(domain, sigmas);
        if profile.correlated {
            let spectrum = profile.spectrum();
            let values = evaluated(&lattices, &|omega| spectrum.at(omega));
            return Arc::new(Transformed::tilted(&lattices, &values));
        }
        if let Some(products) = products(domain, &lattices, sigmas, tolerance) {
            return Arc::new(products);
        }
        let gain = |a: usize, omega: f64| multiplier(sigmas[a], omega);
        Arc::new(Filters::new(&mut planner, &lattices, gain))
    };
    profiles.iter().map(gaussian).collect()
}

/// The matrices of a Gaussian with these σ along the axes; none where the tolerance is zero, or where Fourier
/// transforms cost less.
fn products<T: Scalar>(
    domain: &Domain,
    lattices: &[Lattice],
    sigmas: &[f64],
    tolerance: f64,
) -> Option<Separable<T>> {
    if !fits_products(domain, tolerance) {
        return None;
    }
    let axis = |(a, &lattice): (usize, &Lattice)| {
        Axis::both(lattice, sigmas[a], tolerance, domain.is_contiguous(a))
    };
    let products = Separable::cheapest(&lattices.iter().enumerate().map(axis).collect::<Vec<_>>());
    let transforms = lattices.iter().map(|&lattice| filter_cost(lattice)).sum();
    (products.cost() <= transforms).then_some(products)
}

/// Gaussians with their operators.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bank<'a, T> {
    pub(crate) domain: &'a Domain,
    pub(crate) profiles: &'a [Profile],
    pub(crate) operators: &'a [Planned<T>],
}

/// The operator with the multipliers f(Σ_i weight_i g_i), where a sum of g below `tolerance` may count as
/// zero.
pub(super) fn sum<T: Scalar>(
    Bank { domain, profiles, operators }: Bank<T>,
    weights: &[f64],
    tolerance: f64,
    f: &(dyn Fn(f64) -> f64 + Sync),
) -> Planned<T> {
    let lattices = padded(domain, &reach(profiles, domain));
    if profiles.iter().any(|profile| profile.correlated) {
        let spectra: Vec<_> = profiles.iter().map(Profile::spectrum).collect();
        let of = |omega: &[f64]| {
            let terms = weights.iter().zip(&spectra);
            f(terms.fold(0.0, |sum, (weight, g)| sum + weight * g.at(omega)))
        };
        return Arc::new(Transformed::tilted(&lattices, &evaluated(&lattices, &of)));
    }
    // Without correlations a Gaussian is a product over the axes: its multipliers are computed along
    // each axis only.
    let along = |a: usize, omega: &[f64]| -> Vec<Vec<f64>> {
        let of = |p: &Profile| omega.iter().map(|&w| multiplier(p.sigmas[a], w)).collect();
        profiles.iter().map(of).collect()
    };
    let multipliers = |frequencies: &[Vec<f64>]| -> Vec<T> {
        let gains: Vec<_> = (0..lattices.len()).map(|a| along(a, &frequencies[a])).collect();
        let lens: Vec<usize> = frequencies.iter().map(Vec::len).collect();
        table(&lens, |k| {
            f(weights.iter().enumerate().fold(0.0, |sum, (i, weight)| {
                sum + weight * (0..k.len()).map(|a| gains[a][i][k[a]]).product::<f64>()
            }))
        })
    };
    let by_transforms = || -> Planned<T> {
        let sizes: Vec<_> = lattices.iter().map(|lattice| lattice.sizes()).collect();
        Arc::new(Transformed::diagonal(&lattices, multipliers(&sizes)))
    };
    if !fits_products(domain, tolerance) {
        return by_transforms();
    }
    // Without transforms where each Gaussian for itself costs less.
    let parts = weights.iter().zip(operators).filter(|(weight, _)| **weight > 0.0);
    let parts =
        parts.map(|(&weight, gaussian)| Some((T::of(weight), gaussian.products()?.clone())));
    let parts: Option<Vec<_>> = parts.collect();
    let keep = |a: usize, omega: f64| {
        let gains = along(a, &[omega]);
        weights.iter().zip(gains).map(|(weight, g)| weight * g[0]).sum::<f64>() > tolerance
    };
    let modes: Vec<Modes> =
        lattices.iter().enumerate().map(|(a, &x)| Modes::new(x, |omega| keep(a, omega))).collect();
    let products = Separable::spectral(&modes);
    let cost_of_modes = products.cost();
    let cost_of_parts = parts
        .as_ref()
        .map_or(f64::INFINITY, |parts| parts.iter().map(|(_, part)| part.cost() + PASS).sum());
    if cost_of_transforms(&lattices) < cost_of_modes.min(cost_of_parts) {
        return by_transforms();
    }
    match parts {
        Some(parts) if cost_of_parts < cost_of_modes => Arc::new(Sum { n: domain.len(), parts }),
        _ => {
            let frequencies: Vec<_> = modes.iter().map(Modes::frequencies).collect();
            Arc::new(products.with_table(multipliers(&frequencies)))
        }
    }
}

/// Time of transforms along all axes and back.
fn cost_of_transforms(lattices: &[Lattice]) -> f64 {
    // A padded axis makes the later ones longer.
    let mut grown = 1.0;
    let along = lattices.iter().map(|&lattice| {
        let cost = THERE_AND_BACK * grown * filter_cost(lattice);
        if lattice.boundary == Boundary::Free {
            grown *= lattice.period as f64 / lattice.n as f64;
        }
        cost
    });
    along.sum()
}

/// Part of its largest value that a kernel may still have at half the period of a free grid, where it is cut.
///
/// A symbol that ends at the highest frequency of the grid has a kink there, for which the kernel falls off with the square
/// of the distance only: less cannot be asked for.
const FREE_REST: f64 = 1e-3;

/// Extents of a free grid beyond which it is not padded: the largest Gaussian, of σ = one extent, needs eight.
const FREE_EXTENTS: usize = 8;

/// Difference of a symbol at ω and where it must be the same, over its largest value, that its rounding may leave: sums of
/// hundreds of terms in double precision. What favours a direction differs by much more.
const UNEVEN: f64 = 1e-12;

/// The operator with this multiplier as a function of the frequency, radians a physical unit.
pub(super) fn symbol<T: Scalar>(
    domain: &Domain,
    f: &(dyn Fn(&[f64]) -> f64 + Sync),
) -> Result<Planned<T>> {
    let physical = |omega: &[f64]| -> Vec<f64> {
        omega.iter().zip(&domain.spacing).map(|(omega, h)| omega / h).collect()
    };
    let at = |omega: &[f64]| f(&physical(omega));
    let mut padding = domain.shape.clone();
    loop {
        domain.expect_padding(|a| padding[a], size_of::<T>())?;
        let lattices = domain.lattices(|a| padding[a]);
        let values = evaluated(&lattices, &at);
        expect_symbol(&lattices, &values, &at, &domain.spacing)?;
        let Some(axis) = (0..lattices.len()).find(|&a| !dies_out(&lattices, &values, a)) else {
            return Ok(if domain.boundary == Boundary::Reflecting {
                let table = values.into_iter().map(T::of).collect();
                Arc::new(Transformed::diagonal(&lattices, table))
            } else {
                Arc::new(Transformed::tilted(&lattices, &values))
            });
        };
        let n = domain.shape[axis];
        if padding[axis] + n >= FREE_EXTENTS * n {
            return Err(Error::setting(
                "symbol of a kernel",
                "one whose kernel has died out after four extents of a free grid: take `Boundary::Periodic` or \
                 `Boundary::Reflecting` for others",
                format!("a kernel that does not, along axis {axis}"),
            ));
        }
        padding[axis] = 2 * (padding[axis] + n) - n;
    }
}

/// `Ok` if a symbol gives a symmetric positive operator.
fn expect_symbol(
    lattices: &[Lattice],
    values: &[f64],
    at: &(dyn Fn(&[f64]) -> f64 + Sync),
    spacing: &[f64],
) -> Result<()> {
    const NAME: &str = "symbol of a kernel";
    let frequencies: Vec<Vec<f64>> = lattices.iter().map(|lattice| lattice.signed()).collect();
    let lens: Vec<usize> = frequencies.iter().map(Vec::len).collect();
    let omega_of = |flat: usize| -> Vec<f64> {
        let mut k = vec![0; lens.len()];
        super::domain::unravel(flat, &lens, &mut k);
        k.iter().zip(&frequencies).map(|(&k, frequencies)| frequencies[k]).collect()
    };
    let shown = |omega: &[f64]| {
        let physical: Vec<f64> = omega.iter().zip(spacing).map(|(omega, h)| omega / h).collect();
        format!("{physical:?} radians a unit")
    };
    if let Some(flat) = values.iter().position(|value| !(value.is_finite() && *value >= 0.0)) {
        let found = format!("{} at {}", values[flat], shown(&omega_of(flat)));
        return Err(Error::setting(NAME, "a finite number ≥ 0 at every frequency", found));
    }
    let largest = values.iter().fold(0.0, |m: f64, &x| m.max(x));
    let mirrored = lattices.iter().any(|lattice| lattice.mirrored());
    // All signs where fields are mirrored, else −ω.
    let signs: Vec<Vec<bool>> =
        if mirrored { subsets(lens.len()).skip(1).collect() } else { vec![vec![true; lens.len()]] };
    for signs in &signs {
        let turned = |omega: &[f64]| -> Vec<f64> {
            let signed = omega.iter().zip(signs);
            signed.map(|(omega, &negative)| if negative { -omega } else { *omega }).collect()
        };
        let others = evaluated(lattices, &|omega| at(&turned(omega)));
        let same = |(value, other): (&f64, &f64)| (value - other).abs() <= UNEVEN * largest;
        if let Some(flat) = values.iter().zip(&others).position(|pair| !same(pair)) {
            let expected = if mirrored {
                "the same at (±ω₀, ±ω₁, …) on a reflecting grid, whose cosines have no direction: take \
                 `Boundary::Free` or `Boundary::Periodic` for one that has"
            } else {
                "the same at −ω as at ω: else the kernel is not symmetric"
            };
            let (value, other, omega) = (values[flat], others[flat], omega_of(flat));
            let found =
                format!("{value} at {}, {other} at {}", shown(&omega), shown(&turned(&omega)));
            return Err(Error::setting(NAME, expected, found));
        }
    }
    Ok(())
}

/// Whether a kernel with these multipliers has died out at half the period of a free axis.
fn dies_out(lattices: &[Lattice], values: &[f64], axis: usize) -> bool {
    let lattice = lattices[axis];
    if lattice.boundary != Boundary::Free {
        return true;
    }
    let inner: usize = lattices[axis + 1..].iter().map(|lattice| lattice.coefficients()).product();
    // Σ_k λ_k cos(2πkd/N) at d = 0 and at half the period.
    let half = lattice.period / 2;
    let cosines: Vec<f64> =
        (0..lattice.period).map(|k| lattice.omega(k * half % lattice.period).cos()).collect();
    let far = values.iter().enumerate();
    let far: f64 = far.map(|(i, x)| x * cosines[i / inner % lattice.period]).sum();
    far.abs() <= FREE_REST * values.iter().sum::<f64>()
}

/// `Ok` if a Gaussian of this profile can be padded where the grid is free, and has no direction where it is reflecting.
pub(crate) fn expect_profile(domain: &Domain, profile: &Profile, bytes: usize) -> Result<()> {
    domain.expect_padding(|a| padding(profile.sigmas[a]), bytes)
}
