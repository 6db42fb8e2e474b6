//! The one error type. Every variant says what was expected, what was found and what to do.

/// What the public functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong, with what was expected, what was found and the remedy.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A grid axis holds too few voxels.
    #[error(
        "axis {axis} has {found} voxels, expected at least {expected}: \
         drop the axis (a slice of a volume is a grid of one dimension less) or pad the data"
    )]
    AxisTooShort {
        /// Array axis.
        axis: usize,
        /// Smallest length that the stencils and splines support.
        expected: usize,
        /// Length that was given.
        found: usize,
    },
    /// A grid has more voxels than the crate can index.
    #[error(
        "a grid of shape {found} has more than the {expected} voxels that are supported: \
         resample the data or split it"
    )]
    GridTooLarge {
        /// Largest number of voxels.
        expected: usize,
        /// Shape that was given.
        found: String,
    },
    /// A spacing is not a positive, finite length.
    #[error(
        "spacing of axis {axis} is {found}, expected a finite length > 0 in physical units, \
         from 1e-50 to 1e50"
    )]
    Spacing {
        /// Array axis.
        axis: usize,
        /// Spacing that was given.
        found: f64,
    },
    /// The direction matrix is not orthonormal.
    #[error(
        "direction matrix is off orthonormal by {found:.3e}, expected at most {expected:.0e}: \
         put scale into the spacing and remove shear by resampling"
    )]
    Direction {
        /// Largest entry of |`QᵀQ` − 1| that is accepted.
        expected: f64,
        /// Largest entry that was found.
        found: f64,
    },
    /// Two grids that must be the same are not.
    #[error("{what}: expected the grid {expected}, found {found}: resample one onto the other")]
    GridMismatch {
        /// Which argument.
        what: &'static str,
        /// Grid that was expected.
        expected: String,
        /// Grid that was found.
        found: String,
    },
    /// A buffer or list has the wrong length.
    #[error("{what}: expected length {expected}, found {found}")]
    Length {
        /// Which argument.
        what: &'static str,
        /// Expected length.
        expected: usize,
        /// Found length.
        found: usize,
    },
    /// An array has the wrong shape.
    #[error("{what}: expected an array of shape {expected}, found {found}")]
    Shape {
        /// Which argument.
        what: &'static str,
        /// Expected shape.
        expected: String,
        /// Found shape.
        found: String,
    },
    /// A value is NaN or infinite.
    #[error(
        "{what}: expected finite values, found {found} at flat index {index}: \
         replace or mask such voxels before the call"
    )]
    NonFinite {
        /// Which argument.
        what: &'static str,
        /// Index in the contiguous buffer.
        index: usize,
        /// Value found there.
        found: f64,
    },
    /// A Gaussian's standard deviation cannot be represented on the grid.
    #[error(
        "σ[{index}] = {found} (physical units), expected between {min} (half the coarsest spacing) \
         and {max} (the largest extent): use a finer grid or another σ"
    )]
    Sigma {
        /// Which Gaussian.
        index: usize,
        /// Its σ.
        found: f64,
        /// Smallest σ on this grid.
        min: f64,
        /// Largest σ on this grid.
        max: f64,
    },
    /// The σ of a bank are not strictly increasing.
    #[error("σ must increase strictly, found σ[{index}] = {found} after {previous}")]
    SigmaOrder {
        /// Which Gaussian.
        index: usize,
        /// Its σ.
        found: f64,
        /// The σ before it.
        previous: f64,
    },
    /// Weights that must sum to one do not.
    #[error("{what}: expected weights h² that sum to 1 within {tolerance:.0e}, found {found}")]
    WeightSum {
        /// Which argument.
        what: &'static str,
        /// Accepted deviation.
        tolerance: f64,
        /// The sum found.
        found: f64,
    },
    /// No mixture of the Gaussians has the local standard deviation that was asked for.
    #[error(
        "local standard deviation of a region: expected between {min} and {max}, the smallest and the \
         largest σ, found {found}: ask for another or add a Gaussian"
    )]
    LocalSigma {
        /// What was asked for.
        found: f64,
        /// Smallest σ.
        min: f64,
        /// Largest σ.
        max: f64,
    },
    /// A setting is out of its range.
    #[error("{name}: expected {expected}, found {found}")]
    Setting {
        /// Which setting.
        name: &'static str,
        /// What it should have been.
        expected: &'static str,
        /// What it was.
        found: String,
    },
    /// An image or a region holds nothing that could be compared.
    #[error("{what} is constant or empty, expected some contrast: check the image and its mask")]
    NoContrast {
        /// Which argument.
        what: &'static str,
    },
    /// The state became NaN or infinite while it was integrated.
    #[error(
        "the evolution left the finite numbers in step {step} of {steps}: \
         the momentum is too large for this step; take more steps or a smaller momentum"
    )]
    Diverged {
        /// Step in which it happened.
        step: usize,
        /// Steps planned.
        steps: usize,
    },
    /// A map comes closer to a fold than it was allowed to.
    #[error(
        "the smallest Jacobian determinant of the map is {found:.3e}, expected more than {bound}; \
         take a smaller momentum, a stiffer metric or a lower bound"
    )]
    Folded {
        /// What the smallest determinant must exceed.
        bound: f64,
        /// The smallest determinant of the map.
        found: f64,
    },
    /// The moving image shows too little of the fixed one.
    #[error(
        "the moving image shows {:.3} % of what counts of the fixed one, expected more than {:.3} %: place the \
         images over one another, by their centres of mass or by an initial transform",
        100.0 * found,
        100.0 * least
    )]
    NoOverlap {
        /// Part of the fixed image, or of its mask, that the moving image shows.
        found: f64,
        /// The part that it must show more of: 0 at the start of a registration, a quarter of what it showed there in
        /// its course.
        least: f64,
    },
    /// An affine map runs away: it stretches or squeezes more than it may.
    #[error(
        "the affine map stretches or squeezes {found:.3} times what its start does, expected at most {most}: the images \
         may have too little in common; start closer, seek a rigid or a similarity map, or raise the bound"
    )]
    Stretched {
        /// The larger of the largest singular value and one over the smallest, of the map after the inverse of the start.
        found: f64,
        /// The largest that is allowed.
        most: f64,
    },
    /// A map has no inverse.
    #[error(
        "the map cannot be inverted: its Jacobian determinant is not positive at {voxels} of {of} voxels \
         (smallest {found:.3e}), expected > 0 everywhere: register again with a stiffer metric, or put a \
         reflection into an affine map"
    )]
    NotInvertible {
        /// Voxels with a determinant that is not positive.
        voxels: usize,
        /// All voxels.
        of: usize,
        /// The smallest determinant.
        found: f64,
    },
    /// The inverse of a map was not found to the tolerance.
    #[error(
        "the inverse map was not found at {points} of {of} points: {farthest:.3e} voxels remain, expected \
         at most {tolerance:.1e}: the map folds between voxels, or the tolerance is below rounding"
    )]
    Inverse {
        /// Points where it was not found.
        points: usize,
        /// All points.
        of: usize,
        /// Largest distance that remains, in voxels.
        farthest: f64,
        /// Distance that was asked for, in voxels.
        tolerance: f64,
    },
    /// An objective is NaN or infinite where an optimisation should start.
    #[error(
        "the objective at the starting point has value {value} and largest derivative {derivative}, \
         expected finite numbers: start from another control"
    )]
    Start {
        /// Value of the objective.
        value: f64,
        /// Largest absolute partial derivative.
        derivative: f64,
    },
    /// Adaptive control could not reach its tolerance.
    #[error(
        "the tolerance {tolerance:.1e} was not reached: {steps} steps were used up to t = {time}: \
         raise `at_most` or `relative` of `Steps::Tolerance`, or take a smaller momentum"
    )]
    StepLimit {
        /// Tolerance asked for.
        tolerance: f64,
        /// Steps tried.
        steps: usize,
        /// Time reached.
        time: f64,
    },
    /// Memory for a field could not be had.
    #[error("{bytes} bytes of memory could not be had: use a coarser map grid or f32")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
    },
    /// The error of an earlier part of a run that was stored and read again.
    #[error("{message}")]
    Earlier {
        /// What it said.
        message: String,
    },
}

impl Error {
    /// Whether a line search may backtrack from this error: a smaller step could succeed.
    #[must_use]
    pub fn is_recoverable(&self) -> bool {
        match self {
            Self::Diverged { .. }
            | Self::StepLimit { .. }
            | Self::Folded { .. }
            | Self::Stretched { .. } => true,
            // At the start there is no smaller step.
            Self::NoOverlap { least, .. } => *least > 0.0,
            _ => false,
        }
    }

    pub(crate) fn setting(
        name: &'static str,
        expected: &'static str,
        found: impl std::fmt::Display,
    ) -> Self {
        Self::Setting { name, expected, found: found.to_string() }
    }
}

/// A setting that must be finite and positive.
pub(crate) fn positive(name: &'static str, value: f64) -> Result<f64> {
    if value.is_finite() && value > 0.0 {
        Ok(value)
    } else {
        Err(Error::setting(name, "a finite number > 0", value))
    }
}

/// Errors are stored by what they say.
#[cfg(feature = "serde")]
pub(crate) mod stored {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::Error;

    pub(crate) fn serialize<S: Serializer>(
        error: &Error,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(error)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Error, D::Error> {
        String::deserialize(deserializer).map(|message| Error::Earlier { message })
    }
}
