//! What is compiled here, once, and not again in every crate that uses this one.
//!
//! The compiler makes code of a generic function where it meets the types, which would be the user's crate: a registration
//! in fifteen lines would compile the transforms, the warps and the loops of the whole library, at the optimisation of
//! that crate. It spares what it finds ready-made in a library, of functions that are `#[inline(never)]`. So the functions with
//! loops over voxels, and those that plan them, are that, and are named here for `f32` and `f64` on one to three axes. What
//! remains for the user's crate is what calls them: models, steps, the optimiser. Other dimensions are compiled where they
//! are used.
//!
//! A function that is `#[inline(never)]` is called once a pass over a field, never once a voxel.
//! `benches/compile.sh` measures what a user pays.

use std::hint::black_box;

use crate::dynamics::{momentum, transport};
use crate::evaluate::{Folds, inverse_consistency, local_standard_deviation};
use crate::field::{
    Displacement, axpy, copy, dot, first_not_finite, largest, longest, multiply_components, scale,
    scale_add, set_sum, set_zero,
};
use crate::kernel::{Gaussian, GaussianBank, Kernel, Spectral, Windowed};
use crate::metric::{Metric, Mixture};
use crate::model::weights::{pre_weights, pre_weights_vjp};
use crate::ops::barrier::fold_barrier;
use crate::ops::cells::cell_determinants;
use crate::ops::difference::Difference;
use crate::ops::inverse::Inverse;
use crate::ops::jacobian::jacobian_determinant;
use crate::ops::resample::Resample;
use crate::ops::spline::Prefilter;
use crate::ops::unfold::Unfold;
use crate::ops::warp::Warp;
use crate::pyramid::{coarser, coarser_mask};
use crate::regularize::{Omt, RangePenalty, Regularizer, TotalVariation};
use crate::scalar::Real;
use crate::similarity::{Lncc, Measure, MultiLncc, MutualInformation, Ncc, Nmi, Ssd};
use crate::synthetic::Shapes;
use crate::world::Affine;

/// Nothing calls this. That it is here makes the compiler compile what it names.
#[expect(dead_code, reason = "what it names is for other crates")]
static COMPILED: fn() = || {
    for_type::<f32>();
    for_type::<f64>();
};

/// Makes code of functions by taking their addresses.
macro_rules! compile {
    ($($function:expr),+ $(,)?) => {
        $(black_box($function as *const ());)+
    };
}

fn for_type<T: Real>() {
    compile!(
        set_zero::<T>,
        copy::<T>,
        axpy::<T>,
        scale::<T>,
        scale_add::<T>,
        dot::<T>,
        largest::<T>
    );
    compile!(longest::<T>, first_not_finite::<T>);
    compile!(multiply_components::<T>, pre_weights::<T>, pre_weights_vjp::<T>);
    // The sums of `space::set_sum_of`.
    compile!(set_sum::<T, 1>, set_sum::<T, 2>, set_sum::<T, 5>);
    for_axes::<T, 1>();
    for_axes::<T, 2>();
    for_axes::<T, 3>();
}

fn for_axes<T: Real, const D: usize>() {
    operators::<T, D>();
    components::<T, D, 1>();
    components::<T, D, D>();
    kernels::<T, D>();
    measures::<T, D>();
    images_and_maps::<T, D>();
}

fn operators<T: Real, const D: usize>() {
    compile!(
        Difference::<T, D>::new,
        Difference::<T, D>::add,
        Difference::<T, D>::add_scaled,
        Difference::<T, D>::add_transposed,
        Prefilter::<T, D>::new,
        Prefilter::<T, D>::apply,
        Warp::<T, D>::through,
        Warp::<T, D>::value_and_gradient,
        Warp::<T, D>::seen,
        Warp::<T, D>::seen_vjp,
        Resample::<T, D>::new,
        Resample::<T, D>::apply,
        Resample::<T, D>::transpose,
        Inverse::<T, D>::new,
        Inverse::<T, D>::at,
        Inverse::<T, D>::displacement,
        jacobian_determinant::<T, D>,
        cell_determinants::<T, D>,
        Unfold::apply::<T, D>,
        fold_barrier::<T, D>,
        momentum::rate::<T, D>,
        momentum::rate_vjp::<T, D>,
        transport::rate::<T, D>,
        transport::rate_vjp::<T, D>,
    );
}

/// Interpolation of `C` fields at once.
fn components<T: Real, const D: usize, const C: usize>() {
    compile!(
        Prefilter::<T, D>::interleaved::<C>,
        Prefilter::<T, D>::add_transposed::<C>,
        Warp::<T, D>::values::<C>,
        Warp::<T, D>::at_index::<C>,
        Warp::<T, D>::values_vjp::<C>,
        Warp::<T, D>::at_index_vjp::<C>,
        Warp::<T, D>::position_vjp::<C>,
    );
}

type AnyKernel<T> = Box<dyn Kernel<T>>;
type AnyMixture<T, const D: usize> = Mixture<AnyKernel<T>, AnyKernel<T>, T, D>;

fn kernels<T: Real, const D: usize>() {
    compile!(
        Gaussian::<T, D>::new,
        Gaussian::<T, D>::anisotropic,
        Gaussian::<T, D>::with_tolerance,
        Gaussian::<T, D>::apply,
        Gaussian::<T, D>::apply_products,
        GaussianBank::<T, D>::new,
        GaussianBank::<T, D>::anisotropic,
        GaussianBank::<T, D>::with_tolerance,
        GaussianBank::<T, D>::combined,
        GaussianBank::<T, D>::regularised_inverse,
        Spectral::<T, D>::apply,
        Windowed::<AnyKernel<T>, T, D>::apply,
        AnyMixture::<T, D>::new,
        AnyMixture::<T, D>::velocity,
        AnyMixture::<T, D>::velocity_vjp,
        AnyMixture::<T, D>::advect,
        AnyMixture::<T, D>::rates_vjp,
        AnyMixture::<T, D>::energy_gradient,
    );
}

/// What is done to images before a registration and to maps after it.
fn images_and_maps<T: Real, const D: usize>() {
    compile!(
        coarser::<T, D>,
        coarser_mask::<T, D>,
        Affine::<D>::after_displacement::<T>,
        Displacement::<T, D>::warp_labels,
        Folds::of::<T, D>,
        inverse_consistency::<T, D>,
        local_standard_deviation::<T, D>,
        Shapes::pair::<T, D>,
    );
}

/// Losses and penalties: their values and gradients are reached from what prepares them.
fn measures<T: Real, const D: usize>() {
    compile!(
        <Ssd as Measure<T, D>>::prepare,
        <Ncc as Measure<T, D>>::prepare,
        <Lncc as Measure<T, D>>::prepare,
        <MultiLncc as Measure<T, D>>::prepare,
        <MutualInformation as Measure<T, D>>::prepare,
        <Nmi as Measure<T, D>>::prepare,
        <Omt as Regularizer<T, D>>::on_grid,
        <RangePenalty as Regularizer<T, D>>::on_grid,
        TotalVariation::<T, D>::on_grid,
    );
}
