//! Tests of the library from outside, in one program: what they share of the library's generic code is compiled once.
//!
//! `cargo nextest run --test suite bad_input` runs those of a file. Three are programs of their own: `adjoint` is also run
//! without threads, `allocation` counts what the whole program allocates, and `real_images` reads files by `rdmm-io`,
//! which the package of this crate does not have.

mod common;

mod affine;
mod anisotropic;
mod bad_input;
mod book;
mod chain;
mod checkers;
mod circles;
mod conservation;
mod convergence;
mod determinism;
mod folds;
mod image_form;
mod interrupt;
mod layers;
mod partial_view;
mod planes;
mod properties;
mod shoot;
mod similarity_gradient;
mod steering;
mod stored;
mod symmetry;
mod terms;
