//! What most programs import: `use rdmm_core::prelude::*`.
//!
//! Grids and fields, the recipes, the similarities, and the registration of a pair. Everything is also at its own
//! place; [`Error`](crate::Error) and [`Result`](crate::Result) are at the root of the crate, so that this import
//! does not hide the standard ones.
//!
//! ```
//! use rdmm_core::ndarray::Array2;
//! use rdmm_core::prelude::*;
//!
//! # let blob = |at: f64| Array2::from_shape_fn((32, 32), |(i, j)| {
//! #     (-((i as f64 - at).powi(2) + (j as f64 - 16.0).powi(2)) / 30.0).exp() as f32
//! # });
//! # let (fixed, moving) = (blob(16.0), blob(14.0));
//! let grid = Grid::new([32, 32], [1.0, 1.0])?;
//! let (fixed, moving) = (Image::from_array(&grid, &fixed)?, Image::from_array(&grid, &moving)?);
//! let model = Lddmm::new(MultiGaussian::for_grid(&grid));
//! let result = Registration::new(model, Ncc).run(&fixed, &moving)?;
//! let warped: Array2<f32> = result.warped.to_array()?;
//! let determinant = result.inverse_map.jacobian_determinant()?;
//! # assert!(warped[[16, 16]] > 0.9 && determinant.data().iter().all(|d| *d > 0.0));
//! # Ok::<(), rdmm_core::Error>(())
//! ```

pub use crate::evaluate::Folds;
pub use crate::field::{Displacement, Image, Momentum, Velocity, Weights};
pub use crate::grid::{Boundary, Grid};
pub use crate::labels::Labels;
pub use crate::model::{
    Lddmm, Model, MultiGaussian, Rdmm, RdmmOptimised, Shooting, TwoSided, Vsvf, weights_by_label,
    weights_by_mask, weights_for_sigma,
};
pub use crate::registration::{Level, Registration, Settings};
pub use crate::scalar::Real;
pub use crate::similarity::{Lncc, Measure, Ncc, Nmi, Ssd};
pub use crate::space::StateSpace;
pub use crate::world::Affine;
