//! Which format a file has, by its content when it is read and by its name when it is written.

use std::path::Path;

use crate::error::{Problem, Result};
use crate::name::has_ending;
use crate::volume::Volume;
use crate::{metaimage, nifti, nrrd, png, source};

/// A format of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Nifti,
    Nrrd,
    MetaImage,
    Png,
}

/// Endings of the names that are read.
const ENDINGS: [(&str, Format); 11] = [
    (".nii", Format::Nifti),
    (".nii.gz", Format::Nifti),
    (".hdr", Format::Nifti),
    (".hdr.gz", Format::Nifti),
    (".img", Format::Nifti),
    (".img.gz", Format::Nifti),
    (".nrrd", Format::Nrrd),
    (".nhdr", Format::Nrrd),
    (".mha", Format::MetaImage),
    (".mhd", Format::MetaImage),
    (".png", Format::Png),
];

impl Format {
    fn of_content(beginning: &[u8]) -> Option<Self> {
        if png::is(beginning) {
            Some(Self::Png)
        } else if nrrd::is(beginning) {
            Some(Self::Nrrd)
        } else if nifti::is(beginning) {
            Some(Self::Nifti)
        } else if metaimage::is(beginning) {
            Some(Self::MetaImage)
        } else {
            None
        }
    }

    fn of_name(path: &Path) -> Option<Self> {
        ENDINGS.iter().find(|(ending, _)| has_ending(path, ending)).map(|&(_, format)| format)
    }
}

/// Reads an image of any format of this crate.
///
/// The content decides on the format, and where it does not, the name.
///
/// # Errors
/// What the operating system says, and what is wrong with the content, with the path.
pub fn read(path: impl AsRef<Path>) -> Result<Volume> {
    let path = path.as_ref();
    let beginning = source::beginning(path, 512).map_err(|problem| problem.at(path))?;
    match Format::of_content(&beginning).or_else(|| Format::of_name(path)) {
        Some(Format::Nifti) => nifti::read(path),
        Some(Format::Nrrd) => nrrd::read(path),
        Some(Format::MetaImage) => metaimage::read(path),
        Some(Format::Png) => png::read(path),
        None => {
            let expected =
                "NIfTI (.nii, .nii.gz, .hdr), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd) or PNG";
            let found = "a file with neither the content nor the name of one";
            Err(Problem::content("format", expected, found).at(path))
        }
    }
}

/// Writes an image in the format that the ending of the name says, to exactly this name.
///
/// The file is whole or not there. The same volume gives the same bytes.
///
/// # Errors
/// What the operating system says; an ending that is not known; a volume that the format cannot hold.
pub fn write(path: impl AsRef<Path>, volume: &Volume) -> Result<()> {
    let path = path.as_ref();
    volume.check().map_err(|problem| problem.at(path))?;
    let ends = |ending: &str| has_ending(path, ending);
    if ends(".nii") || ends(".nii.gz") {
        nifti::write(path, volume)
    } else if ends(".nrrd") || ends(".nhdr") {
        nrrd::write(path, volume)
    } else if ends(".mha") || ends(".mhd") {
        metaimage::write(path, volume)
    } else if ends(".png") {
        png::write(path, volume)
    } else {
        let expected = "a name that ends in .nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd or .png";
        let name = path.file_name().unwrap_or(path.as_os_str());
        Err(Problem::content("format", expected, name.to_string_lossy()).at(path))
    }
}
