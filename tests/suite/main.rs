//! Tests of the library from outside, in one program: what they share of the library's generic code is compiled once.
//!
//! `cargo nextest run --test suite bad_input` runs those of a file. Two are programs of their own: `adjoint` is also run
//! without threads, and `allocation` counts what the whole program allocates.

mod common;

mod affine;
mod anisotropic;
mod bad_input;
mod book;
mod conservation;
mod convergence;
mod determinism;
mod folds;
mod image_form;
mod interrupt;
mod layers;
mod properties;
mod real_images;
mod similarity_gradient;
mod steering;
mod symmetry;
mod terms;
