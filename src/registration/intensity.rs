//! Intensities made comparable.

use crate::error::{Error, Result};
use crate::field::Image;
use crate::scalar::Real;

/// What is done to the grey values of each image before anything else.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Intensities {
    /// Nothing.
    AsGiven,
    /// Each image alone is mapped linearly so that these fractions of its voxels lie below 0 and 1.
    /// Values beyond are kept, not cut.
    Percentiles {
        /// Fraction of the voxels below 0.
        low: f64,
        /// Fraction of the voxels below 1.
        high: f64,
    },
}

impl Default for Intensities {
    fn default() -> Self {
        Self::Percentiles { low: 0.001, high: 0.999 }
    }
}

impl Intensities {
    pub(super) fn validate(self) -> Result<()> {
        match self {
            Self::Percentiles { low, high } if !(0.0 <= low && low < high && high <= 1.0) => {
                let found = format!("{low} and {high}");
                Err(Error::setting("intensity percentiles", "0 ≤ low < high ≤ 1", found))
            }
            _ => Ok(()),
        }
    }

    /// The image with its grey values mapped.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for NaN or infinity, [`Error::NoContrast`] where both percentiles agree.
    pub fn applied<T: Real, const D: usize>(
        self,
        image: &Image<T, D>,
        what: &'static str,
    ) -> Result<Image<T, D>> {
        self.validate()?;
        image.expect_finite(what)?;
        let mut out = image.clone();
        if let Self::Percentiles { low, high } = self {
            let mut sorted: Vec<T> = image.data().to_vec();
            sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
            let at = |fraction: f64| {
                let last = (sorted.len() - 1) as f64;
                #[expect(clippy::cast_possible_truncation, reason = "an index")]
                #[expect(clippy::cast_sign_loss, reason = "a fraction of a length")]
                let index = (fraction * last).round() as usize;
                sorted[index].f64()
            };
            let (dark, bright) = (at(low), at(high));
            if bright - dark <= 0.0 {
                return Err(Error::NoContrast { what });
            }
            let scale = T::of(1.0 / (bright - dark));
            out.data_mut().iter_mut().for_each(|x| *x = (*x - T::of(dark)) * scale);
        }
        Ok(out)
    }
}
