//! PNG: grey values, colours and palettes.
//!
//! The first axis runs along a row (x, to the right), the second down the rows (y), as ITK has it; the
//! spacing is one. Values are those of the file, 0 to 255 or 0 to 65535. Opacity beside grey values and palettes is
//! left out, with a warning where something is transparent.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use ::png::{BitDepth, ColorType, Decoder, Encoder, Transformations};
use nalgebra::DMatrix;

use crate::atomic;
use crate::error::{Problem, Result};
use crate::placement::Geometry;
use crate::samples::{Endian, decode, encode, planar};
use crate::volume::{Meaning, Sample, Volume};

/// Deflate makes data at most this much smaller.
const MOST_PACKED: u64 = 1032;

/// Whether a file begins as one.
pub(crate) fn is(beginning: &[u8]) -> bool {
    beginning.starts_with(b"\x89PNG\r\n\x1a\n")
}

pub(crate) fn read(path: &Path) -> Result<Volume> {
    volume(path).map_err(|problem| problem.at(path))
}

fn damaged(error: ::png::DecodingError) -> Problem {
    match error {
        ::png::DecodingError::IoError(error)
            if error.kind() != std::io::ErrorKind::UnexpectedEof =>
        {
            error.into()
        }
        other => Problem::content("PNG", "a whole file, copy it again", other),
    }
}

fn volume(path: &Path) -> std::result::Result<Volume, Problem> {
    let file = File::open(path)?;
    let there = file.metadata()?.len();
    let mut decoder = Decoder::new(BufReader::new(file));
    decoder.set_transformations(Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(damaged)?;
    let claimed = reader.output_buffer_size().and_then(|size| u64::try_from(size).ok());
    let size = claimed.filter(|&size| size / MOST_PACKED <= there).ok_or_else(|| {
        let info = reader.info();
        let found = format!("{} × {} pixels claimed by {there} bytes", info.width, info.height);
        Problem::content("PNG", "as many pixels as its data can hold", found)
    })?;
    let mut buffer = crate::samples::reserved(usize::try_from(size).unwrap_or(usize::MAX))?;
    buffer.resize(usize::try_from(size).unwrap_or(usize::MAX), 0);
    let frame = reader.next_frame(&mut buffer).map_err(damaged)?;
    reader.finish().map_err(damaged)?;
    buffer.truncate(frame.buffer_size());
    let shape = [frame.width as usize, frame.height as usize];
    let channels = frame.color_type.samples();
    let (sample, values) = match frame.bit_depth {
        BitDepth::Sixteen => (Sample::U16, decode(&buffer, Sample::U16, Endian::Big)?),
        depth => (Sample::U8, unpacked(&buffer, depth, shape[0] * channels, frame.line_size)),
    };
    let mut values = planar(values, 1, channels)?;
    let mut warnings = Vec::new();
    let left_out = || "the picture is transparent in places: its opacity is left out".to_owned();
    let (components, meaning) = match frame.color_type {
        ColorType::Grayscale | ColorType::GrayscaleAlpha => {
            let full = if sample == Sample::U8 { 255.0 } else { 65535.0 };
            if values[shape[0] * shape[1]..].iter().any(|&opacity| opacity < full) {
                warnings.push(left_out());
            }
            values.truncate(shape[0] * shape[1]);
            (1, Meaning::Values)
        }
        ColorType::Rgb | ColorType::Rgba => (channels, Meaning::Colours),
        ColorType::Indexed => {
            let palette = reader.info().palette.as_deref().unwrap_or_default();
            let opacities = reader.info().trns.as_deref().unwrap_or_default();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a byte")]
            if values.iter().any(|&x| opacities.get(x as usize).is_some_and(|&x| x < u8::MAX)) {
                warnings.push(left_out());
            }
            values = coloured(&values, palette)?;
            (4, Meaning::Indexed)
        }
    };
    let geometry = Geometry {
        shape: shape.to_vec(),
        spacing: vec![1.0; 2],
        origin: vec![0.0; 2],
        direction: DMatrix::identity(2, 2),
    };
    let volume = Volume::new(geometry, components, meaning, sample, values);
    Ok(Volume { warnings, ..volume })
}

/// Samples of 1, 2, 4 or 8 bits; each line begins with a new byte.
fn unpacked(buffer: &[u8], depth: BitDepth, width: usize, line: usize) -> Vec<f64> {
    let bits = depth as usize;
    let each = 8 / bits;
    let mask = u8::MAX >> (8 - bits);
    let sample = |line: &[u8], i: usize| (line[i / each] >> (8 - bits - bits * (i % each))) & mask;
    let lines = buffer.chunks_exact(line);
    lines.flat_map(|line| (0..width).map(move |i| f64::from(sample(line, i)))).collect()
}

/// Red, green and blue before the indices.
fn coloured(indices: &[f64], palette: &[u8]) -> std::result::Result<Vec<f64>, Problem> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "made from bytes")]
    let at = |index: f64, c: usize| palette.get(3 * index as usize + c).copied();
    let mut values = crate::samples::reserved(4 * indices.len())?;
    for c in 0..3 {
        for &index in indices {
            let found = || Problem::content("palette", "a colour for each index", index);
            values.push(f64::from(at(index, c).ok_or_else(found)?));
        }
    }
    values.extend(indices);
    Ok(values)
}

/// What is written of a volume.
struct Picture {
    colour: ColorType,
    depth: BitDepth,
    palette: Vec<u8>,
    /// Big endian.
    data: Vec<u8>,
}

pub(crate) fn write(path: &Path, volume: &Volume) -> Result<()> {
    let made = || -> std::result::Result<(u32, u32, Picture), Problem> {
        let &[width, height] = volume.geometry.shape.as_slice() else {
            return Err(Problem::Axes { expected: 2, found: volume.dimension() });
        };
        let side = |n: usize| {
            let found = || Problem::content("PNG", "sides of less than 2^31 pixels", n);
            u32::try_from(n).ok().filter(|&n| n < 1 << 31).ok_or_else(found)
        };
        Ok((side(width)?, side(height)?, picture(volume)?))
    };
    let (width, height, picture) = made().map_err(|problem| problem.at(path))?;
    atomic::write(path, |file| {
        let mut encoder = Encoder::new(file, width, height);
        encoder.set_color(picture.colour);
        encoder.set_depth(picture.depth);
        if picture.colour == ColorType::Indexed {
            encoder.set_palette(picture.palette);
        }
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&picture.data)?;
        Ok(writer.finish()?)
    })
}

fn picture(volume: &Volume) -> std::result::Result<Picture, Problem> {
    let colour = match (volume.meaning, volume.components) {
        (Meaning::Indexed, 4) => return indexed(volume),
        (Meaning::Values, 1) => ColorType::Grayscale,
        (Meaning::Colours, 3) => ColorType::Rgb,
        (Meaning::Colours, 4) => ColorType::Rgba,
        (meaning, components) => {
            let found = format!("{components} numbers ({meaning:?})");
            let expected = "one grey value or a colour a pixel";
            return Err(Problem::content("PNG", expected, found));
        }
    };
    let largest = volume.values.iter().copied().fold(0.0, f64::max);
    let sample = match volume.sample {
        Sample::U8 => Sample::U8,
        Sample::U16 => Sample::U16,
        _ if largest <= 255.0 => Sample::U8,
        _ => Sample::U16,
    };
    let (depth, bytes) =
        (if sample == Sample::U8 { BitDepth::Eight } else { BitDepth::Sixteen }, sample.bytes());
    let mut data = encode(volume.interleaved(), sample).map_err(|problem| match problem {
        Problem::Content { found, .. } => {
            let expected = "integers from 0 to 65535: scale and round the values first";
            Problem::content("pixels of PNG", expected, found)
        }
        other => other,
    })?;
    data.chunks_exact_mut(bytes).for_each(<[u8]>::reverse);
    Ok(Picture { colour, depth, palette: Vec::new(), data })
}

/// A picture with the palette that it was read with.
fn indexed(volume: &Volume) -> std::result::Result<Picture, Problem> {
    let bytes = encode(volume.values.iter().copied(), Sample::U8)?;
    let (colours, indices) = bytes.split_at(3 * volume.voxels());
    let mut entries = BTreeMap::new();
    for (at, &index) in indices.iter().enumerate() {
        let colour: [u8; 3] = std::array::from_fn(|c| colours[c * indices.len() + at]);
        if *entries.entry(index).or_insert(colour) != colour {
            let found = format!("two for the index {index}");
            return Err(Problem::content("palette", "one colour an index", found));
        }
    }
    let last = entries.keys().last().copied().unwrap_or(0);
    let palette = (0..=last).flat_map(|index| entries.get(&index).copied().unwrap_or_default());
    let (colour, depth) = (ColorType::Indexed, BitDepth::Eight);
    Ok(Picture { colour, depth, palette: palette.collect(), data: indices.to_vec() })
}
