//! Diffeomorphic image registration with region-specific metrics.
//!
//! The crate finds a smooth, invertible map Φ that carries a moving image onto a fixed one. Three
//! models are built from the same parts:
//!
//! | model | what moves | recipe |
//! | --- | --- | --- |
//! | vSVF | a velocity that is constant in time, given by a momentum | [`model::Vsvf`] |
//! | LDDMM | a momentum under the EPDiff equation, one metric everywhere | [`model::Lddmm`] |
//! | RDMM | the same with a metric that varies in space and moves with the anatomy | [`model::Rdmm`], [`model::RdmmOptimised`] |
//!
//! It works in two and three dimensions and in `f32` and `f64`: the dimension is a const parameter `D`,
//! the number type a parameter `T:` [`Real`]. Gradients are those of the discrete computation, to rounding.
//!
//! # Example
//!
//! A synthetic pair, with a metric that is flexible inside the foreground object and stiff outside:
//!
//! ```
//! use std::collections::BTreeMap;
//! use rdmm_core::prelude::*;
//! use rdmm_core::{evaluate, synthetic::Shapes};
//!
//! let grid = Grid::<2>::unit([32, 32])?;
//! let pair = Shapes::default().with_outside(1).pair::<f32, 2>(&grid)?;
//! // Weights of three Gaussians: background 0, foreground 1.
//! let weights = BTreeMap::from([(0, vec![0.0, 0.0, 1.0]), (1, vec![0.3, 0.4, 0.3])]);
//! let regions = weights_by_label(&pair.foreground, &weights)?;
//! let model = Rdmm::new(&[0.1, 0.2, 0.4], regions, 0.1)?;
//! let result = Registration::new(model, Ssd).run(&pair.fixed, &pair.moving)?;
//!
//! let before = evaluate::mse(&pair.fixed, &pair.moving, None)?;
//! let after = evaluate::mse(&pair.fixed, &result.warped, None)?;
//! assert!(after < 0.5 * before && result.report.folds.total().folded == 0);
//! # Ok::<(), rdmm_core::Error>(())
//! ```
//!
//! # Modules
//!
//! From the bottom up:
//!
//! | module | holds |
//! | --- | --- |
//! | [`error`] | the one error type: what was expected, what was found, what to do |
//! | [`scalar`], [`space`] | [`Real`]; vector spaces of states and controls |
//! | [`grid`], [`field`] | lattices in physical space; images, velocities, momenta, maps, weights |
//! | [`world`] | affine maps of the world |
//! | [`ops`] | differences, interpolation, resampling, Jacobians, each with its transpose |
//! | [`labels`] | segmentations |
//! | [`maps`] | what a map does to images, labels, points and other maps |
//! | [`kernel`] | symmetric positive smoothing: Gaussians and their sums |
//! | [`mod@pyramid`] | coarser versions of images |
//! | [`metric`] | momentum to velocity: [`metric::Homogeneous`] (LDDMM), [`metric::Mixture`] (RDMM) |
//! | [`dynamics`] | rates of change and their transposes: [`dynamics::Epdiff`], [`dynamics::Stationary`] |
//! | [`step`] | Runge–Kutta tableaux, one time step, transport of the map, step sizes |
//! | [`adjoint`] | whole trajectories forwards and backwards, checkpoints |
//! | [`similarity`] | losses of a warped image against a fixed one |
//! | [`regularize`] | penalties of weights |
//! | [`evaluate`] | folds, overlap, landmarks, inverse consistency |
//! | [`model`] | what an optimiser moves, and how it starts the evolution |
//! | [`shoot`] | differentiable shooting: maps, and gradients in momentum and pre-weights |
//! | [`optim`] | L-BFGS in a metric, Adam |
//! | [`registration`] | energy of a pair, resolution levels, observers, results |
//! | [`mod@affine`] | rigid, similarity and affine registration, the start of the others |
//! | [`synthetic`] | synthetic pairs with known regions |
//! | [`testing`] | checkers for people who add their own operators |
//! | [`prelude`] | what most programs import |
//!
//! # Formulas
//!
//! Φ⁻¹ is the map that images are pulled back by, and it is stored as a displacement u. v is a vector
//! field and m a covector density. K and G are Gaussians of unit mass.
//!
//! <table>
//! <tr><td>pull-back</td><td>
#![doc = include_str!("../docs/math/pullback.html")]
//! </td></tr>
//! <tr><td>metric</td><td>
#![doc = include_str!("../docs/math/metric.html")]
//! </td></tr>
//! <tr><td>LDDMM (EPDiff)</td><td>
#![doc = include_str!("../docs/math/epdiff.html")]
//! </td></tr>
//! <tr><td>RDMM, momentum form</td><td>
#![doc = include_str!("../docs/math/rdmm.html")]
//! </td></tr>
//! <tr><td>RDMM, weights</td><td>
#![doc = include_str!("../docs/math/advection.html")]
//! </td></tr>
//! <tr><td>map</td><td>
#![doc = include_str!("../docs/math/transport.html")]
//! </td></tr>
//! <tr><td>conserved</td><td>
#![doc = include_str!("../docs/math/hamiltonian.html")]
//! </td></tr>
//! <tr><td>minimised</td><td>
#![doc = include_str!("../docs/math/energy.html")]
//! </td></tr>
//! </table>
//!
//! V is the volume and L the longest extent of the grid: with them the energy has no unit. Lengths (σ,
//! spacing, u) are physical units in the whole public interface, never voxels.
//!
//! # What is stored
//!
//! Recipes whose parts may be anybody's have no `serde` form: [`model::RdmmOptimised`] (penalties), [`model::Geodesics`]
//! (kernels), [`similarity::WeightedSum`] and [`regularize::Scheduled`]. Store their parts. A [`step::Tableau`] is stored by
//! its name, so only those of this crate are. The crates [`nalgebra`] and [`ndarray`], whose types are in signatures, are
//! exported again.
//!
//! # Features
//!
//! | feature | default | adds |
//! | --- | --- | --- |
//! | `rayon` | yes | parallel loops; results are the same bits with and without it |
//! | `serde` | no | (de)serialisation of grids, fields, labels, maps, recipes, penalties, similarities, settings, optimiser states and reports; what was checked when it was made is checked again when it is read |
//! | `testing` | no | checkers of your own parts, problems with known solutions, strategies; brings in `proptest` |
//!
//! # Debug builds
//!
//! The loops over voxels are compiled in this crate, for `f32` and `f64` on one to three axes, not in yours. With
//!
//! ```toml
//! [profile.dev.package.rdmm-core]
//! opt-level = 3
//! ```
//!
//! in your `Cargo.toml` they are fast in debug builds of your program too.
//!
//! # References
//!
//! - Shen, Vialard, Niethammer, *Region-specific diffeomorphic metric mapping*, `NeurIPS` 2019,
//!   arXiv:1906.00139. RDMM.
//! - Shen, Han, Xu, Niethammer, *Networks for joint affine and non-parametric image registration*, CVPR
//!   2019, arXiv:1903.08811. vSVF.
//! - Beg, Miller, Trouvé, Younes, *Computing large deformation metric mappings via geodesic flows of
//!   diffeomorphisms*, IJCV 61 (2005), doi:10.1023/B:VISI.0000043755.93987.aa. LDDMM.
//! - Vialard, Risser, Rueckert, Cotter, *Diffeomorphic 3D image registration via geodesic shooting using an
//!   efficient adjoint calculation*, IJCV 97 (2012), doi:10.1007/s11263-011-0481-8. Shooting.
//! - Holm, Marsden, *Momentum maps and measure-valued solutions*, 2005, doi:10.1007/0-8176-4419-9_8. EPDiff.
//! - Griewank, Walther, *Algorithm 799: revolve*, ACM TOMS 26 (2000), doi:10.1145/347837.347846. Checkpoints.

pub mod adjoint;
pub mod affine;
mod aligned;
mod comparison;
#[cfg(not(test))]
mod compiled;
pub mod dynamics;
pub mod error;
pub mod evaluate;
pub mod field;
pub mod grid;
pub mod kernel;
pub mod labels;
pub mod maps;
pub mod metric;
pub mod model;
pub mod ops;
pub mod optim;
mod par;
pub mod prelude;
pub mod pyramid;
pub mod registration;
pub mod regularize;
pub mod scalar;
pub mod shoot;
mod simd;
pub mod similarity;
pub mod space;
pub mod step;
pub mod synthetic;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod world;

pub use error::{Error, Result};
pub use scalar::Real;
pub use {nalgebra, ndarray};

/// The pages of the book: their code blocks are documentation tests. `tests/suite/book.rs` checks that none is
/// missing.
#[cfg(doctest)]
mod book {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/src/introduction.md")]
    struct Introduction;
    #[doc = include_str!("../docs/src/theory.md")]
    struct Theory;
    #[doc = include_str!("../docs/src/command-line.md")]
    struct CommandLine;
    #[doc = include_str!("../docs/src/guide.md")]
    struct Guide;
    #[doc = include_str!("../docs/src/shooting.md")]
    struct Shooting;
    #[doc = include_str!("../docs/src/design.md")]
    struct Design;
    #[doc = include_str!("../docs/src/validation.md")]
    struct Validation;
    #[doc = include_str!("../docs/src/performance.md")]
    struct Performance;
    #[doc = include_str!("../docs/src/validation/shapes.md")]
    struct ValidationShapes;
    #[doc = include_str!("../docs/src/validation/given.md")]
    struct ValidationGiven;
    #[doc = include_str!("../docs/src/validation/optimised.md")]
    struct ValidationOptimised;
    #[doc = include_str!("../docs/src/validation/penalties.md")]
    struct ValidationPenalties;
    #[doc = include_str!("../docs/src/validation/symmetry.md")]
    struct ValidationSymmetry;
    #[doc = include_str!("../docs/src/validation/large.md")]
    struct ValidationLarge;
    #[doc = include_str!("../docs/src/validation/numerics.md")]
    struct ValidationNumerics;
    #[doc = include_str!("../docs/src/extend/similarity.md")]
    struct ExtendSimilarity;
    #[doc = include_str!("../docs/src/extend/term.md")]
    struct ExtendTerm;
    #[doc = include_str!("../docs/src/extend/kernel.md")]
    struct ExtendKernel;
    #[doc = include_str!("../docs/src/extend/metric.md")]
    struct ExtendMetric;
    #[doc = include_str!("../docs/src/extend/integrator.md")]
    struct ExtendIntegrator;
}
