//! Rigid, similarity and affine registration: the map that a non-linear registration starts from.
//!
//! [`AffineRegistration`] finds an [`Affine`](crate::world::Affine) map A of the world such that the moving
//! image, read at A(x), is like the fixed one. [`Registration::with_initial`] takes it from there.
//!
//! ```
//! use nalgebra::{SMatrix, SVector};
//! use rdmm_core::affine::{AffineRegistration, Transform};
//! use rdmm_core::{grid::Grid, ops::warp::warp, similarity::Ncc, synthetic::Shapes, world::Affine};
//!
//! let grid = Grid::<2>::unit([40, 40])?;
//! let fixed = Shapes::default().with_outside(1).pair::<f64, 2>(&grid)?.fixed;
//! let turn = SMatrix::<f64, 2, 2>::new(0.98, -0.199, 0.199, 0.98);
//! let away = Affine::new(turn, SVector::from([0.12, -0.08]))?;
//! let moving = warp(&fixed, &away.displacement(&grid)?)?;
//!
//! // I₀ = I∘B and I₀∘A = I: A is the inverse of B.
//! let found = AffineRegistration::new(Transform::Rigid, Ncc).run(&fixed, &moving)?;
//! let back = found.map.after(&away)?;
//! assert!((back.matrix() - SMatrix::<f64, 2, 2>::identity()).norm() < 0.01);
//! # Ok::<(), rdmm_core::Error>(())
//! ```
//!
//! [`Registration::with_initial`]: crate::registration::Registration::with_initial

mod group;
mod landmarks;
mod objective;
mod run;
mod start;

pub use group::Transform;
pub use objective::AffineObjective;
pub use run::{AffineLevel, AffineProgress, AffineRegistered, AffineRegistration, AffineSettings};
pub use start::Start;
