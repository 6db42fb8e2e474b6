//! What a file of any format holds: a lattice in space and numbers on it.

use crate::error::Problem;
use crate::nifti::{Forms, Series};
use crate::placement::Geometry;

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
    /// Vectors in the world's axes, LPS.
    Vectors,
    /// Red, green, blue, perhaps opacity.
    Colours,
    /// Red, green, blue, and the index in the palette of a PNG.
    Indexed,
}

impl Meaning {
    /// What files call vectors: colours where the numbers are unsigned and three or four a voxel, as
    /// SimpleITK writes colours.
    pub(crate) fn of_vectors(sample: Sample, components: usize) -> Self {
        match (sample, components) {
            (Sample::U8 | Sample::U16, 3 | 4) => Self::Colours,
            _ => Self::Vectors,
        }
    }
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
    /// Where the file is doubtful, and how it was read nevertheless: sentences to be shown to people.
    pub warnings: Vec<String>,
    /// Both forms of a `NIfTI` header, where they say more than the geometry.
    pub forms: Option<Forms>,
    /// The axis of time of a `NIfTI` series, whose volumes are the components.
    pub series: Option<Series>,
}

impl Volume {
    /// Numbers on a lattice, with nothing beside them.
    #[must_use]
    pub fn new(
        geometry: Geometry,
        components: usize,
        meaning: Meaning,
        sample: Sample,
        values: Vec<f64>,
    ) -> Self {
        let (warnings, forms, series) = (Vec::new(), None, None);
        Self { geometry, components, meaning, sample, values, warnings, forms, series }
    }

    /// The same numbers with the forms of the `NIfTI` file that `other` was read from, so that a file of them lies on
    /// that one in every viewer. Without effect where the lattices differ, on files of other formats, and where the
    /// forms of `other` say no more than its geometry.
    #[must_use]
    pub fn placed_as(self, other: &Self) -> Self {
        Self { forms: other.forms.clone(), ..self }
    }

    /// Number of axes, two or three.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.geometry.shape.len()
    }

    /// Voxels of the lattice.
    pub(crate) fn voxels(&self) -> usize {
        self.geometry.shape.iter().product()
    }

    /// The numbers voxel by voxel: all components of the first voxel, then of the next.
    pub(crate) fn interleaved(&self) -> impl Iterator<Item = f64> + '_ {
        let voxels = self.voxels();
        (0..voxels)
            .flat_map(move |v| (0..self.components).map(move |c| self.values[c * voxels + v]))
    }

    /// `Ok` where shape, geometry and number of values fit one another.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        self.geometry.check()?;
        let voxels = self.geometry.shape.iter().try_fold(1usize, |n, &axis| n.checked_mul(axis));
        let expected = voxels.and_then(|n| n.checked_mul(self.components.max(1)));
        if expected != Some(self.values.len()) {
            let (shape, found) = (&self.geometry.shape, self.values.len());
            let found =
                format!("{found} for the shape {shape:?} and {} components", self.components);
            return Err(Problem::content("values", "one a voxel and component", found));
        }
        Ok(())
    }
}
