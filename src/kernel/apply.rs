//! How kernels are applied. No code here knows the number of axes, and all of it is compiled once for `f32` and `f64`.
//!
//! | file | holds |
//! | --- | --- |
//! | `domain` | what of a grid a kernel depends on, the frequencies of its axes |
//! | `profile` | Fourier multipliers of Gaussians |
//! | `form` | sums and differences in which a matrix falls apart into blocks |
//! | `product` | a matrix along one axis, in vector instructions |
//! | `modes`, `band` | the matrix of a Gaussian as cosines and sines, as a band |
//! | `separable` | a product along every axis, slab by slab |
//! | `fft` | Fourier transforms along one axis |
//! | `filters` | a Fourier filter along every axis; transforms of all axes with multipliers in between |
//! | `plan` | which of them a kernel is |
//! | `operator` | what they have in common |
//! | `compiled` | the door: plans for `f32` and `f64` |

pub(crate) mod axis;
pub(crate) mod band;
pub(crate) mod compiled;
pub(crate) mod domain;
pub(crate) mod fft;
pub(crate) mod filters;
mod form;
pub(crate) mod modes;
pub(crate) mod operator;
pub(crate) mod plan;
pub(crate) mod product;
pub(crate) mod profile;
pub(crate) mod separable;
