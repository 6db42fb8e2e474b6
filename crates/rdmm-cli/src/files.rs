//! Files and folders of results: each is written whole or not at all.

use std::path::Path;

use rdmm_io::{Meaning, Sample, Volume};
use serde_json::Value;

use crate::failure::{Done, Failure};

/// What images are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nifti,
    Png,
}

impl Kind {
    /// PNG where the fixed image is one and the moving image has numbers that PNG can hold.
    pub(crate) fn of_pair(fixed: &Path, moving: &Volume) -> Self {
        match (Self::of(fixed), top(moving)) {
            (Self::Png, Some(_)) => Self::Png,
            _ => Self::Nifti,
        }
    }

    /// As the name of a file says.
    pub(crate) fn of(path: &Path) -> Self {
        let extension = path.extension();
        if extension.is_some_and(|e| e.eq_ignore_ascii_case("png")) {
            Self::Png
        } else {
            Self::Nifti
        }
    }

    /// The name of a file with this stem.
    pub(crate) fn name(self, stem: &str) -> String {
        match self {
            Self::Nifti => format!("{stem}.nii.gz"),
            Self::Png => format!("{stem}.png"),
        }
    }
}

/// Makes the folder of results, and finds out whether files can be written there before any work is done.
pub(crate) fn folder(path: &Path) -> Done {
    let probed = std::fs::create_dir_all(path).and_then(|()| tempfile::tempfile_in(path));
    probed.map(drop).map_err(|error| {
        Failure::at(
            path.display(),
            format!(
                "expected a folder that can be written to, found: {error}; name another with --out"
            ),
        )
    })
}

/// The largest number of a file that PNG can hold; `None` for samples that it cannot.
fn top(volume: &Volume) -> Option<f64> {
    match volume.sample {
        Sample::U8 => Some(255.0),
        Sample::U16 => Some(65535.0),
        _ => None,
    }
}

/// A volume in the range of the file that it came from: PNG and colours hold integers only.
///
/// Samples that these cannot hold are refused, not scaled.
pub(crate) fn write_volume(path: &Path, kind: Kind, mut volume: Volume, like: &Volume) -> Done {
    let colours = volume.meaning == Meaning::Colours;
    if kind == Kind::Png || colours {
        let Some(top) = top(like) else {
            return Err(Failure::at(
                path.display(),
                format!(
                    "expected a moving image of 8 or 16 bits without sign for PNG and for colours, found {:?}: \
                     write .nii.gz, .nrrd or .mha",
                    like.sample
                ),
            ));
        };
        volume.sample = like.sample;
        // Splines overshoot at edges; a PNG cannot.
        volume.values.iter_mut().for_each(|x| *x = x.round().clamp(0.0, top));
    }
    Ok(rdmm_io::write(path, &volume)?)
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> Done {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::at(path.display(), error))
        }
        _ => Ok(()),
    }
}

/// Writes JSON.
pub(crate) fn write_json(path: &Path, value: &Value) -> Done {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| Failure::at(path.display(), error))?;
    rdmm_io::atomic::write(path, |file| file.write_all(text.as_bytes()))?;
    Ok(())
}
