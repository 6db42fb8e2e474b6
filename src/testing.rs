//! Checkers, analytic problems and strategies, for this crate's tests and for those of people who add their own
//! kernels, metrics, similarities, penalties or integrators.
//!
//! A checker takes a part and tries its contract: derivatives against central differences and by the slope of their
//! Taylor remainder, transposes by pairings, orders by regression. `Ok` holds the largest deviation, or the order, that
//! was found; a [`CheckError`] says what failed and by how much.
//!
//! | part | checker |
//! | --- | --- |
//! | [`Kernel`](crate::kernel::Kernel) | [`check_symmetric`], [`check_positive`] |
//! | [`Measure`](crate::similarity::Measure) | [`check_similarity`] |
//! | [`Regularizer`](crate::regularize::Regularizer) | [`check_penalty`] |
//! | [`Metric`](crate::metric::Metric) | [`check_metric`] |
//! | [`EvolutionVjp`](crate::dynamics::EvolutionVjp) | [`check_evolution`] |
//! | [`Tableau`](crate::step::Tableau) | [`check_order`] |
//! | any function and its transpose | [`check_vjp`] |
//! | any energy and its gradient | [`check_gradient`] |
//!
//! [`problems`] have known solutions, and [`strategies`] feed property tests with grids and fields.
//!
//! All numbers are `f64`: differences need them.

mod differences;
mod evolution;
mod failure;
mod kernel;
mod metric;
mod order;
mod penalty;
pub mod problems;
mod random;
mod similarity;
pub mod strategies;

pub use differences::{central_difference, check_gradient, check_vjp, slope};
pub use evolution::check_evolution;
pub use failure::{CheckError, Checked};
pub use kernel::{check_positive, check_symmetric};
pub use metric::check_metric;
pub use order::check_order;
pub use penalty::check_penalty;
pub use random::{random, smooth};
pub use similarity::check_similarity;
