//! What a file of any format holds: a lattice in space and numbers on it.

use nalgebra::DMatrix;

/// A lattice in the world, axes in the order of the file (first axis fastest).
///
/// The world is ITK's: millimetres, LPS (x to the patient's left, y to the back, z to the head). Two axes
/// lie in the x-y plane.
#[derive(Clone, Debug, PartialEq)]
pub struct Geometry {
    /// Voxels an axis, two or three axes.
    pub shape: Vec<usize>,
    /// Millimetres between voxels, an axis each.
    pub spacing: Vec<f64>,
    /// World coordinates of the first voxel's centre.
    pub origin: Vec<f64>,
    /// Columns: unit vectors along the axes.
    pub direction: DMatrix<f64>,
}

/// How numbers are stored in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sample {
    /// Unsigned 8 bits.
    U8,
    /// Signed 8 bits.
    I8,
    /// Unsigned 16 bits.
    U16,
    /// Signed 16 bits.
    I16,
    /// Unsigned 32 bits.
    U32,
    /// Signed 32 bits.
    I32,
    /// Unsigned 64 bits.
    U64,
    /// Signed 64 bits.
    I64,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
}

/// What the components of a voxel mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Meaning {
    /// Grey values, labels, or any other numbers.
    #[default]
    Values,
    /// Vectors in the world's axes.
    Vectors,
    /// Red, green, blue, perhaps opacity.
    Colours,
}

/// Numbers on a lattice: what the formats of this crate read and write.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume {
    /// Where the voxels are.
    pub geometry: Geometry,
    /// Numbers a voxel.
    pub components: usize,
    /// What they mean.
    pub meaning: Meaning,
    /// How they are stored in the file.
    pub sample: Sample,
    /// The numbers after the file's slope and intercept: all voxels of the first component, then of the
    /// next; within a component the first axis is the fastest.
    pub values: Vec<f64>,
}
