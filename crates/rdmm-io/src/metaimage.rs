//! `MetaImage`, in one file (`.mha`) and with the data in another (`.mhd`).
//!
//! The format does not say what several numbers a voxel mean. As many as axes are read as vectors, three
//! or four unsigned ones as colours. Not read: more than three axes.

use std::fs::File;
use std::io::{BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use flate2::Compression;
use flate2::bufread::ZlibDecoder;
use flate2::write::ZlibEncoder;
use nalgebra::DMatrix;

use crate::atomic;
use crate::detached;
use crate::error::{Problem, Result};
use crate::name::{has_ending, with_ending};
use crate::nifti::no_palette;
use crate::nrrd::numbers;
use crate::placement::{self, Geometry};
use crate::samples::{Endian, decode, encode, planar, reserved, size};
use crate::source::{end, lines, take};
use crate::volume::{Meaning, Sample, Volume};

type Fallible<T> = std::result::Result<T, Problem>;

/// The entry after which the header ends.
const LAST: &str = "elementdatafile";

/// Whether a file begins as one.
pub(crate) fn is(beginning: &[u8]) -> bool {
    ["ObjectType", "NDims", "Comment ="].iter().any(|key| beginning.starts_with(key.as_bytes()))
}

pub(crate) fn read(path: &Path) -> Result<Volume> {
    let at = |problem: Problem| problem.at(path);
    let open = || Ok(BufReader::new(File::open(path)?));
    let mut file = open().map_err(at)?;
    let entries = Entries::read(&mut file).map_err(at)?;
    let form = Form::of(&entries).map_err(at)?;
    let name = entries.need("ElementDataFile").map_err(at)?;
    if name.eq_ignore_ascii_case("local") {
        return numbers_of(&form, file, 1).and_then(|values| volume(form, values)).map_err(at);
    }
    let count = form.voxels.iter().try_fold(form.components, |count, &n| count.checked_mul(n));
    let count = count.unwrap_or(usize::MAX);
    let after = if name.starts_with("LIST") { rest(&mut file).map_err(at)? } else { Vec::new() };
    let files = detached::names("ElementDataFile", name, &after, path, count).map_err(at)?;
    let mut values = Vec::new();
    for data in &files {
        let read = || numbers_of(&form, BufReader::new(File::open(data)?), files.len());
        values.append(&mut read().map_err(|problem: Problem| problem.at(data))?);
    }
    volume(form, values).map_err(at)
}

/// The lines after the header.
fn rest(file: &mut BufReader<File>) -> Fallible<Vec<String>> {
    let mut text = String::new();
    file.by_ref().take(1 << 20).read_to_string(&mut text)?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Keys in small letters, and values.
struct Entries(Vec<(String, String)>);

impl Entries {
    fn read(file: &mut BufReader<File>) -> Fallible<Self> {
        let key = |line: &str| line.split('=').next().map(|key| key.trim().to_ascii_lowercase());
        let text = lines(file, "MetaImage", |line| key(line).as_deref() == Some(LAST))?;
        let entries = text.iter().filter_map(|line| {
            let (key, value) = line.split_once('=')?;
            Some((key.trim().to_ascii_lowercase(), value.trim().to_owned()))
        });
        Ok(Self(entries.collect()))
    }

    fn get(&self, key: &str) -> Option<&str> {
        let key = key.to_ascii_lowercase();
        self.0.iter().find(|(found, _)| *found == key).map(|(_, value)| value.as_str())
    }

    fn need(&self, key: &'static str) -> Fallible<&str> {
        self.get(key).ok_or_else(|| Problem::content(key, "this entry in the header", "none"))
    }

    fn is_true(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| value.starts_with(['T', 't', '1']))
    }

    /// The numbers of the first of the keys that is there.
    fn numbers<T: std::str::FromStr>(&self, keys: &[&'static str]) -> Fallible<Option<Vec<T>>> {
        let found = keys.iter().find_map(|key| self.get(key).map(|value| (*key, value)));
        let Some((key, value)) = found else { return Ok(None) };
        let numbers = value.split_whitespace().map(|entry| entry.parse().ok()).collect();
        let refused = || Problem::content(key, "numbers", format!("{value:?}"));
        let numbers: Option<Vec<T>> = numbers;
        numbers.map(Some).ok_or_else(refused)
    }
}

/// How the numbers are stored and where they belong.
struct Form {
    geometry: Geometry,
    sample: Sample,
    endian: Endian,
    text: bool,
    packed: bool,
    components: usize,
    meaning: Meaning,
    voxels: Vec<usize>,
    /// Bytes before the data; `None`: the data are at the end of the file.
    skipped: Option<u64>,
}

impl Form {
    fn of(entries: &Entries) -> Fallible<Self> {
        if let Some(kind) = entries.get("ObjectType").filter(|kind| *kind != "Image") {
            return Err(Problem::content("ObjectType", "Image", kind));
        }
        let axes = entries.numbers::<usize>(&["NDims"])?.unwrap_or_default();
        let &[axes @ 2..=3] = axes.as_slice() else {
            let found = entries.need("NDims")?;
            return Err(Problem::content("NDims", "2 or 3: extract one volume", found));
        };
        let voxels = entries.numbers::<usize>(&["DimSize"])?.unwrap_or_default();
        let channels = entries.numbers::<usize>(&["ElementNumberOfChannels"])?;
        let components = match channels.as_deref() {
            None => 1,
            Some(&[components]) if components > 0 => components,
            Some(_) => {
                let found = entries.need("ElementNumberOfChannels")?;
                return Err(Problem::content("ElementNumberOfChannels", "one or more", found));
            }
        };
        let sample = sample(entries.need("ElementType")?)?;
        let most =
            entries.is_true("ElementByteOrderMSB") || entries.is_true("BinaryDataByteOrderMSB");
        let skipped = match entries.numbers::<i64>(&["HeaderSize"])?.as_deref() {
            None => Some(0),
            Some([-1]) => None,
            Some(&[bytes]) if bytes >= 0 => u64::try_from(bytes).ok(),
            Some(_) => {
                let found = entries.need("HeaderSize")?;
                return Err(Problem::content("HeaderSize", "a number ≥ -1", found));
            }
        };
        Ok(Self {
            geometry: geometry(entries, axes, &voxels)?,
            sample,
            endian: if most { Endian::Big } else { Endian::Little },
            text: entries.get("BinaryData").is_some() && !entries.is_true("BinaryData"),
            packed: entries.is_true("CompressedData"),
            components,
            meaning: meaning(axes, components, sample),
            voxels,
            skipped,
        })
    }
}

fn meaning(axes: usize, components: usize, sample: Sample) -> Meaning {
    match Meaning::of_vectors(sample, components) {
        Meaning::Vectors if components != axes => Meaning::Values,
        meaning => meaning,
    }
}

fn sample(name: &str) -> Fallible<Sample> {
    Ok(match name.trim_end_matches("_ARRAY") {
        "MET_CHAR" => Sample::I8,
        "MET_UCHAR" | "MET_ASCII_CHAR" => Sample::U8,
        "MET_SHORT" => Sample::I16,
        "MET_USHORT" => Sample::U16,
        "MET_INT" | "MET_LONG" => Sample::I32,
        "MET_UINT" | "MET_ULONG" => Sample::U32,
        "MET_LONG_LONG" => Sample::I64,
        "MET_ULONG_LONG" => Sample::U64,
        "MET_FLOAT" => Sample::F32,
        "MET_DOUBLE" => Sample::F64,
        _ => return Err(Problem::content("ElementType", "MET_CHAR to MET_DOUBLE", name)),
    })
}

/// `TransformMatrix` lists the unit vector of one axis after the other.
fn geometry(entries: &Entries, axes: usize, voxels: &[usize]) -> Fallible<Geometry> {
    let fits = |what: &'static str, found: Option<Vec<f64>>, otherwise: Vec<f64>| match found {
        None => Ok(otherwise),
        Some(found) if found.len() == otherwise.len() => Ok(found),
        Some(found) => {
            let found = format!("{} for {axes} axes", found.len());
            Err(Problem::content(what, "as many numbers as axes", found))
        }
    };
    if voxels.len() != axes {
        let found = format!("{} for {axes} axes", voxels.len());
        return Err(Problem::content("DimSize", "as many numbers as axes", found));
    }
    let spacing = entries.numbers(&["ElementSpacing", "ElementSize"])?;
    let spacing = fits("ElementSpacing", spacing, vec![1.0; axes])?;
    let origin = entries.numbers(&["Offset", "Position", "Origin"])?;
    let origin = fits("Offset", origin, vec![0.0; axes])?;
    let matrix = entries.numbers(&["TransformMatrix", "Rotation", "Orientation"])?;
    let identity = DMatrix::<f64>::identity(axes, axes).as_slice().to_vec();
    let matrix = fits("TransformMatrix", matrix, identity)?;
    let steps = DMatrix::from_fn(axes, axes, |r, c| matrix[axes * c + r] * spacing[c]);
    placement::geometry(voxels.to_vec(), &steps, &origin)
}

/// The numbers of one of `files` files, each of which holds as many.
fn numbers_of(form: &Form, mut file: BufReader<File>, files: usize) -> Fallible<Vec<f64>> {
    let expected = size(&form.voxels, form.components, form.sample)? / files as u64;
    match form.skipped {
        Some(bytes) => file.seek_relative(i64::try_from(bytes).unwrap_or(i64::MAX))?,
        None if form.packed || form.text => {
            return Err(Problem::content("HeaderSize", "≥ 0 for packed data and text", "-1"));
        }
        None => {
            let found = file.get_ref().metadata()?.len();
            let start = found.checked_sub(expected);
            let what = "voxels";
            let start = start.ok_or(Problem::Truncated { what, expected, found })?;
            file.seek(SeekFrom::Start(start))?;
        }
    }
    if form.text {
        return numbers(&mut file, expected / form.sample.bytes() as u64);
    }
    let mut reader: Box<dyn Read> =
        if form.packed { Box::new(ZlibDecoder::new(file)) } else { Box::new(file) };
    let bytes = take(&mut reader, "voxels", expected)?;
    if form.packed {
        end(&mut reader)?;
    }
    decode(&bytes, form.sample, form.endian)
}

fn volume(form: Form, values: Vec<f64>) -> Fallible<Volume> {
    let values = planar(values, 1, form.components)?;
    Ok(Volume::new(form.geometry, form.components, form.meaning, form.sample, values))
}

pub(crate) fn write(path: &Path, volume: &Volume) -> Result<()> {
    let packed = packed(volume).map_err(|problem| problem.at(path))?;
    let header = header(volume, packed.len());
    if has_ending(path, ".mhd") {
        let data = with_ending(path, ".mhd", ".zraw");
        atomic::write(&data, |file| file.write_all(&packed))?;
        let name = data.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let header = format!("{header}ElementDataFile = {name}\n");
        return atomic::write(path, |file| file.write_all(header.as_bytes()));
    }
    atomic::write(path, |file| {
        file.write_all(header.as_bytes())?;
        file.write_all(b"ElementDataFile = LOCAL\n")?;
        file.write_all(&packed)
    })
}

fn packed(volume: &Volume) -> Fallible<Vec<u8>> {
    no_palette(volume)?;
    let bytes = encode(volume.interleaved(), volume.sample)?;
    let mut packed = ZlibEncoder::new(reserved(0)?, Compression::default());
    packed.write_all(&bytes)?;
    Ok(packed.finish()?)
}

/// The header up to the entry that names the data.
fn header(volume: &Volume, packed: usize) -> String {
    fn listed<T: ToString>(entries: &[T]) -> String {
        entries.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
    }
    let Geometry { shape, spacing, origin, direction } = &volume.geometry;
    let channels = match volume.components {
        1 => String::new(),
        components => format!("ElementNumberOfChannels = {components}\n"),
    };
    format!(
        "ObjectType = Image\nNDims = {}\nBinaryData = True\nBinaryDataByteOrderMSB = False\n\
         CompressedData = True\nCompressedDataSize = {packed}\nTransformMatrix = {}\nOffset = {}\n\
         ElementSpacing = {}\nDimSize = {}\n{channels}ElementType = {}\n",
        shape.len(),
        listed(direction.as_slice()),
        listed(origin),
        listed(spacing),
        listed(shape),
        element_type(volume.sample),
    )
}

fn element_type(sample: Sample) -> &'static str {
    match sample {
        Sample::U8 => "MET_UCHAR",
        Sample::I8 => "MET_CHAR",
        Sample::U16 => "MET_USHORT",
        Sample::I16 => "MET_SHORT",
        Sample::U32 => "MET_UINT",
        Sample::I32 => "MET_INT",
        Sample::U64 => "MET_ULONG_LONG",
        Sample::I64 => "MET_LONG_LONG",
        Sample::F32 => "MET_FLOAT",
        Sample::F64 => "MET_DOUBLE",
    }
}
