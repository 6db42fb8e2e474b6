//! `NIfTI`-1 and `NIfTI`-2, in one file or as a pair of header and data.

mod forms;
mod header;
mod series;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

pub use self::forms::Forms;
pub(crate) use self::header::INTENT_FSL;
pub use self::series::Series;
use crate::atomic;
use crate::error::{Problem, Result};
use crate::name::{has_ending, with_ending};
use crate::samples::{decode, encode, planar, size};
use crate::source::Source;
use crate::volume::{Meaning, Sample, Volume};
use header::{Datatype, Header, Layout};

/// Vectors in the axes of the world, LPS as ITK and ANTs write them.
const INTENT_VECTOR: i32 = 1007;
/// Displacements in the axes of the world, RAS as the standard wants it.
const INTENT_DISPLACEMENT: i32 = 1006;

/// Whether a file begins as one.
pub(crate) fn is(beginning: &[u8]) -> bool {
    header::version(beginning).is_ok()
}

pub(crate) fn read(path: &Path) -> Result<Volume> {
    let path = header_of_pair(path);
    let at = |problem: Problem| problem.at(&path);
    let mut source = Source::open(&path).map_err(at)?;
    let (header, length) = Header::read(&mut source).map_err(at)?;
    if header.pair {
        let data = data_of_pair(&path);
        return Source::open(&data)
            .and_then(|source| body(&header, source, 0))
            .map_err(|problem| problem.at(&data));
    }
    body(&header, source, length).map_err(at)
}

/// The header of a pair whose data are named; else the file itself.
fn header_of_pair(path: &Path) -> PathBuf {
    for (data, header) in [(".img", ".hdr"), (".img.gz", ".hdr.gz")] {
        if has_ending(path, data) {
            let plain = with_ending(path, data, ".hdr");
            return if plain.exists() { plain } else { with_ending(path, data, header) };
        }
    }
    path.to_path_buf()
}

fn data_of_pair(header: &Path) -> PathBuf {
    let ending = if has_ending(header, ".hdr.gz") { ".hdr.gz" } else { ".hdr" };
    let plain = with_ending(header, ending, ".img");
    let packed = with_ending(header, ending, ".img.gz");
    if !plain.exists() && packed.exists() { packed } else { plain }
}

/// The data after `read` bytes of the file.
fn body(header: &Header, mut source: Source, read: u64) -> std::result::Result<Volume, Problem> {
    let Layout { shape, components, series } = header.layout()?;
    let (sample, colours) = match header.datatype()? {
        Datatype::Number(sample) => (sample, 1),
        Datatype::Colours(channels) => (Sample::U8, channels),
    };
    if colours > 1 && components > 1 {
        let found = format!("{components} of them a voxel");
        return Err(Problem::content("colours", "one a voxel", found));
    }
    let mut warnings = Vec::new();
    let forms = header.forms(shape.len(), &mut warnings);
    let geometry = forms.geometry(&shape, &mut warnings)?;
    source.skip("header", header.offset.saturating_sub(read))?;
    let bytes = source.take("voxels", size(&shape, components * colours, sample)?)?;
    source.finish()?;
    let values = decode(&bytes, sample, header.endian)?;
    drop(bytes);
    let (meaning, components) = match header.intent {
        _ if colours > 1 => (Meaning::Colours, colours),
        INTENT_VECTOR | INTENT_DISPLACEMENT if components > 1 => {
            (Meaning::of_vectors(sample, components), components)
        }
        _ => (Meaning::Values, components),
    };
    let inner = if colours > 1 { 1 } else { shape.iter().product() };
    let values = planar(values, inner, components)?;
    let forms = forms.beside(&geometry);
    let volume = Volume::new(geometry, components, meaning, sample, values);
    let series = series.filter(|_| meaning == Meaning::Values);
    let mut volume = Volume { warnings, forms, series, ..volume };
    if colours == 1 {
        rescale(&mut volume, header)?;
    }
    if header.intent == INTENT_DISPLACEMENT && meaning == Meaning::Vectors {
        let voxels = volume.voxels();
        volume.values[..2 * voxels].iter_mut().for_each(|x| *x = -*x);
    }
    Ok(volume)
}

/// Slope and intercept; a slope of zero, or none, leaves the numbers as they are.
#[expect(clippy::float_cmp, reason = "exactly one and zero are no change")]
fn rescale(volume: &mut Volume, header: &Header) -> std::result::Result<(), Problem> {
    let (slope, intercept) = (header.slope, header.intercept);
    if slope == 0.0 || !slope.is_finite() || (slope == 1.0 && intercept == 0.0) {
        return Ok(());
    }
    if !intercept.is_finite() {
        return Err(Problem::content("scl_inter", "a finite number beside a slope", intercept));
    }
    volume.sample = volume.sample.scaled();
    volume.values.iter_mut().for_each(|x| *x = *x * slope + intercept);
    Ok(())
}

pub(crate) fn write(path: &Path, volume: &Volume) -> Result<()> {
    let intent = if volume.meaning == Meaning::Vectors { INTENT_VECTOR } else { 0 };
    write_with_intent(path, volume, intent)
}

/// Writes a volume with what its numbers are for.
pub(crate) fn write_with_intent(path: &Path, volume: &Volume, intent: i32) -> Result<()> {
    let parts = || -> std::result::Result<(Vec<u8>, Vec<u8>), Problem> {
        let colours = volume.meaning == Meaning::Colours;
        let (datatype, data) = if colours {
            let channels = volume.components;
            if volume.sample != Sample::U8 || !(3..=4).contains(&channels) {
                let found = format!("{channels} of {:?}", volume.sample);
                let expected = "3 or 4 numbers of 8 bits, or one grey value";
                return Err(Problem::content("colours of NIfTI", expected, found));
            }
            (Datatype::Colours(channels), encode(volume.interleaved(), Sample::U8)?)
        } else {
            no_palette(volume)?;
            let data = encode(volume.values.iter().copied(), volume.sample)?;
            (Datatype::Number(volume.sample), data)
        };
        Ok((header::write(volume, datatype, intent)?, data))
    };
    let (header, data) = parts().map_err(|problem| problem.at(path))?;
    atomic::write(path, |file| {
        if has_ending(path, ".gz") {
            let mut packed = GzEncoder::new(file, Compression::default());
            packed.write_all(&header)?;
            packed.write_all(&data)?;
            packed.finish().map(|_| ())
        } else {
            file.write_all(&header)?;
            file.write_all(&data)
        }
    })
}

/// Only PNG has palettes.
pub(crate) fn no_palette(volume: &Volume) -> std::result::Result<(), Problem> {
    if volume.meaning == Meaning::Indexed {
        let expected = "a PNG, or labels or an image made of it";
        return Err(Problem::content("colours of a palette", expected, "another format"));
    }
    Ok(())
}
