//! NRRD, attached (`.nrrd`) and with the data in another file (`.nhdr`).
//!
//! Not read: the encoding `bzip2`. Vectors are taken in LPS in every space, as ITK takes them.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use nalgebra::DMatrix;

use crate::atomic;
use crate::detached;
use crate::error::{Problem, Result};
use crate::name::{has_ending, with_ending};
use crate::nifti::no_palette;
use crate::placement::{self, Geometry};
use crate::samples::{Endian, decode, encode, planar, reserved, size};
use crate::source::{Members, lines, take};
use crate::volume::{Meaning, Sample, Volume};

type Fallible<T> = std::result::Result<T, Problem>;

/// Whether a file begins as one.
pub(crate) fn is(beginning: &[u8]) -> bool {
    beginning.starts_with(b"NRRD000")
}

pub(crate) fn read(path: &Path) -> Result<Volume> {
    let at = |problem: Problem| problem.at(path);
    let open = || Ok(BufReader::new(File::open(path)?));
    let mut file = open().map_err(at)?;
    let (fields, detached) = header(&mut file).map_err(at)?;
    let form = Form::of(&fields).map_err(at)?;
    let count = form.sizes.iter().try_fold(1, |count: usize, &n| count.checked_mul(n));
    let Some(Named { name, after }) = detached else {
        let values = numbers_of(&form, file, 1).map_err(at)?;
        return volume(form, values).map_err(at);
    };
    let count = count.unwrap_or(usize::MAX);
    let files = detached::names("data file", &name, &after, path, count).map_err(at)?;
    let mut values = Vec::new();
    for data in &files {
        let read = || numbers_of(&form, BufReader::new(File::open(data)?), files.len());
        values.append(&mut read().map_err(|problem: Problem| problem.at(data))?);
    }
    volume(form, values).map_err(at)
}

/// What names the data of a header of another file, and the lines that follow it.
struct Named {
    name: String,
    after: Vec<String>,
}

/// Names in small letters, and values.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    fn first(&self, names: [&str; 2]) -> Option<&str> {
        names.iter().find_map(|name| self.get(name))
    }

    fn need(&self, name: &'static str) -> Fallible<&str> {
        self.get(name).ok_or_else(|| Problem::content(name, "this field in the header", "none"))
    }
}

/// The fields, and what names the files with the data. The file is then at its data.
fn header(file: &mut BufReader<File>) -> Fallible<(Fields, Option<Named>)> {
    let ends = |line: &str| {
        let line = line.to_ascii_lowercase();
        line.is_empty() || line.starts_with("data file:") || line.starts_with("datafile:")
    };
    let mut fields = Vec::new();
    // A header of another file may end with the file.
    let mut text = lines(file, "NRRD", ends)?;
    if !is(text.first().map_or(b"", |line| line.as_bytes())) {
        return Err(Problem::content("format", "a file that begins with NRRD000", "another"));
    }
    let mut after = Vec::new();
    if let Some(last) = text.last().filter(|last| !last.is_empty()) {
        let list =
            last.split_once(':').is_some_and(|(_, name)| name.trim_start().starts_with("LIST"));
        let mut rest = String::new();
        file.by_ref().take(1 << 20).read_to_string(&mut rest)?;
        after.extend(rest.lines().map(|line| line.trim_end().to_owned()));
        // Other fields may follow one name, though the format wants it last.
        if !list {
            text.append(&mut after);
        }
    }
    for line in text.iter().skip(1) {
        if line.starts_with('#') || line.contains(":=") {
            continue;
        }
        if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    let fields = Fields(fields);
    let name = fields.first(["data file", "datafile"]).map(str::to_owned);
    Ok((fields, name.map(|name| Named { name, after })))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Raw,
    Gzip,
    Text,
    Hex,
}

/// How the numbers are stored and where they belong.
struct Form {
    geometry: Geometry,
    warnings: Vec<String>,
    sample: Sample,
    endian: Endian,
    encoding: Encoding,
    meaning: Meaning,
    components: usize,
    /// Numbers of one component that follow one another.
    inner: usize,
    /// All numbers.
    sizes: Vec<usize>,
    skipped_lines: usize,
    /// `None`: the data are at the end of the file.
    skipped_bytes: Option<u64>,
}

impl Form {
    fn of(fields: &Fields) -> Fallible<Self> {
        let sample = sample(fields.need("type")?)?;
        let encoding = match fields.need("encoding")?.to_ascii_lowercase().as_str() {
            "raw" => Encoding::Raw,
            "gzip" | "gz" => Encoding::Gzip,
            "ascii" | "text" | "txt" => Encoding::Text,
            "hex" => Encoding::Hex,
            other => return Err(Problem::content("encoding", "raw, gzip, ascii or hex", other)),
        };
        let endian = match fields.get("endian").map(str::to_ascii_lowercase).as_deref() {
            Some("little") => Endian::Little,
            Some("big") => Endian::Big,
            None if sample.bytes() == 1 || encoding == Encoding::Text => Endian::Little,
            other => {
                return Err(Problem::content("endian", "little or big", other.unwrap_or("none")));
            }
        };
        let dimension: usize = number("dimension", fields.need("dimension")?)?;
        let sizes: Vec<usize> = list("sizes", fields.need("sizes")?)?;
        if sizes.len() != dimension || sizes.contains(&0) {
            let found = format!("{sizes:?} for the dimension {dimension}");
            return Err(Problem::content("sizes", "one or more an axis, as many as axes", found));
        }
        let axes = Axes::of(fields, &sizes)?;
        let (components, inner) = match axes.other {
            Some(axis) => (sizes[axis], sizes[..axis].iter().product()),
            None => (1, 1),
        };
        let skipped_bytes = match fields.first(["byte skip", "byteskip"]) {
            Some("-1") => None,
            Some(bytes) => Some(number("byte skip", bytes)?),
            None => Some(0),
        };
        let skipped_lines = match fields.first(["line skip", "lineskip"]) {
            Some(lines) => number("line skip", lines)?,
            None => 0,
        };
        let meaning = axes.meaning(fields, sample, components)?;
        let mut warnings = Vec::new();
        let geometry = axes.geometry(fields, &sizes, &mut warnings)?;
        Ok(Self {
            geometry,
            warnings,
            sample,
            endian,
            encoding,
            meaning,
            components,
            inner,
            sizes,
            skipped_lines,
            skipped_bytes,
        })
    }
}

fn sample(name: &str) -> Fallible<Sample> {
    Ok(match name.to_ascii_lowercase().as_str() {
        "signed char" | "int8" | "int8_t" => Sample::I8,
        "uchar" | "unsigned char" | "uint8" | "uint8_t" => Sample::U8,
        "short" | "short int" | "signed short" | "signed short int" | "int16" | "int16_t" => {
            Sample::I16
        }
        "ushort" | "unsigned short" | "unsigned short int" | "uint16" | "uint16_t" => Sample::U16,
        "int" | "signed int" | "int32" | "int32_t" => Sample::I32,
        "uint" | "unsigned int" | "uint32" | "uint32_t" => Sample::U32,
        "longlong"
        | "long long"
        | "long long int"
        | "signed long long"
        | "signed long long int"
        | "int64"
        | "int64_t" => Sample::I64,
        "ulonglong" | "unsigned long long" | "unsigned long long int" | "uint64" | "uint64_t" => {
            Sample::U64
        }
        "float" => Sample::F32,
        "double" => Sample::F64,
        other => return Err(Problem::content("type", "an integer, float or double", other)),
    })
}

fn number<T: std::str::FromStr>(what: &'static str, text: &str) -> Fallible<T> {
    text.trim().parse().map_err(|_| Problem::content(what, "a number", format!("{text:?}")))
}

fn list<T: std::str::FromStr>(what: &'static str, text: &str) -> Fallible<Vec<T>> {
    text.split_whitespace().map(|entry| number(what, entry)).collect()
}

/// Vectors such as `(1,0,0)`, or `none`.
fn vectors(what: &'static str, text: &str) -> Fallible<Vec<Option<Vec<f64>>>> {
    let mut vectors = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("none") {
            vectors.push(None);
            rest = after.trim_start();
            continue;
        }
        let inside = rest.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let Some((inside, after)) = inside else {
            return Err(Problem::content(what, "vectors in brackets or none", text));
        };
        vectors.push(Some(inside.split(',').map(|x| number(what, x)).collect::<Fallible<_>>()?));
        rest = after.trim_start();
    }
    Ok(vectors)
}

/// The axes of space, in the order of the file, and the one that is not.
struct Axes {
    space: Vec<usize>,
    other: Option<usize>,
    kinds: Vec<String>,
    directions: Option<Vec<Option<Vec<f64>>>>,
}

impl Axes {
    fn of(fields: &Fields, sizes: &[usize]) -> Fallible<Self> {
        let kinds = fields.get("kinds").unwrap_or_default();
        let kinds: Vec<String> = kinds.split_whitespace().map(str::to_ascii_lowercase).collect();
        let directions = fields.get("space directions");
        let directions = directions.map(|text| vectors("space directions", text)).transpose()?;
        let given = directions.as_ref().map_or(sizes.len(), Vec::len);
        if given != sizes.len() || !(kinds.is_empty() || kinds.len() == sizes.len()) {
            let found =
                format!("{given} directions and {} kinds for {} axes", kinds.len(), sizes.len());
            return Err(Problem::content("header", "as many as axes", found));
        }
        let spatial = |axis: usize| {
            if let Some(directions) = &directions {
                return directions[axis].is_some();
            }
            let kind = kinds.get(axis).map_or("domain", String::as_str);
            ["domain", "space", "???", "none"].contains(&kind)
        };
        let (space, others): (Vec<usize>, Vec<usize>) = (0..sizes.len()).partition(|&a| spatial(a));
        let found = || format!("the sizes {sizes:?} with {} axes of space", space.len());
        match others[..] {
            [] => Ok(Self { space, other: None, kinds, directions }),
            [other] => Ok(Self { space, other: Some(other), kinds, directions }),
            _ => Err(Problem::content("axes", "at most one that is not of space", found())),
        }
    }

    fn meaning(&self, fields: &Fields, sample: Sample, components: usize) -> Fallible<Meaning> {
        let kind = self.other.and_then(|axis| self.kinds.get(axis)).map(String::as_str);
        let meaning = match kind {
            Some(
                "vector" | "covariant-vector" | "normal" | "2-vector" | "3-vector" | "3-gradient"
                | "3-normal",
            ) if components > 1 => Meaning::of_vectors(sample, components),
            Some("rgb-color" | "rgba-color" | "3-color" | "4-color") => Meaning::Colours,
            _ => Meaning::Values,
        };
        if meaning == Meaning::Vectors
            && let Some(frame) = fields.get("measurement frame")
        {
            let columns = vectors("measurement frame", frame)?;
            let unit = |(c, column): (usize, &Option<Vec<f64>>)| {
                let entry = |(r, x): (usize, &f64)| (x - f64::from(u8::from(r == c))).abs() < 1e-6;
                column.as_ref().is_some_and(|column| column.iter().enumerate().all(entry))
            };
            if !columns.iter().enumerate().all(unit) {
                let expected = "the identity beside vectors: turn them into LPS first";
                return Err(Problem::content("measurement frame", expected, frame));
            }
        }
        Ok(meaning)
    }

    fn geometry(
        &self,
        fields: &Fields,
        sizes: &[usize],
        warnings: &mut Vec<String>,
    ) -> Fallible<Geometry> {
        let shape: Vec<usize> = self.space.iter().map(|&axis| sizes[axis]).collect();
        let Some(directions) = &self.directions else {
            let along = |&axis: &usize| Along::of(fields, sizes, axis, warnings);
            let along: Vec<Along> = self.space.iter().map(along).collect::<Fallible<_>>()?;
            let steps: Vec<f64> = along.iter().map(|along| along.step * along.unit).collect();
            let origin: Vec<f64> = along.iter().map(|along| along.first * along.unit).collect();
            return placement::geometry(shape, &DMatrix::from_diagonal(&steps.into()), &origin);
        };
        let world =
            self.space.first().and_then(|&axis| directions[axis].as_ref()).map_or(0, Vec::len);
        let scales = scales(fields, world)?;
        let origin = match fields.get("space origin") {
            Some(text) => vectors("space origin", text)?.into_iter().flatten().flatten().collect(),
            None => vec![0.0; world],
        };
        let steps: Vec<&[f64]> =
            self.space.iter().filter_map(|&a| directions[a].as_deref()).collect();
        if steps.iter().any(|step| step.len() != world) || origin.len() != world {
            let expected = "as many coordinates as the space has axes";
            return Err(Problem::content("space directions", expected, "another number"));
        }
        let steps = DMatrix::from_fn(world, steps.len(), |r, c| scales[r] * steps[c][r]);
        let origin: Vec<f64> = origin.iter().zip(&scales).map(|(x, scale)| x * scale).collect();
        placement::geometry(shape, &steps, &origin)
    }
}

/// One axis of a header without directions: where its first sample lies, the step to the next, and the unit of both.
struct Along {
    first: f64,
    step: f64,
    unit: f64,
}

impl Along {
    /// By spacing, ends and centering: the ends of an axis are the faces of its outermost cells, or its outermost
    /// nodes. Cells are what is meant where nothing is said, as in Teem and ITK.
    fn of(
        fields: &Fields,
        sizes: &[usize],
        axis: usize,
        warnings: &mut Vec<String>,
    ) -> Fallible<Self> {
        // Files that know no number say so by NaN.
        let entry = |names: [&'static str; 2]| -> Fallible<Option<f64>> {
            let Some(text) = fields.first(names) else { return Ok(None) };
            let entries: Vec<f64> = list(names[0], text)?;
            if entries.len() != sizes.len() {
                let found = format!("{} for {} axes", entries.len(), sizes.len());
                return Err(Problem::content(names[0], "as many as axes", found));
            }
            Ok(Some(entries[axis]).filter(|x| !x.is_nan()))
        };
        let centering = fields.first(["centerings", "centers"]).unwrap_or_default();
        let centering = centering.split_whitespace().nth(axis).unwrap_or("???");
        let cells = match centering.to_ascii_lowercase().as_str() {
            "cell" | "???" | "none" => true,
            "node" => false,
            other => return Err(Problem::content("centerings", "cell, node or ???", other)),
        };
        let (low, high) = (entry(["axis mins", "axismins"])?, entry(["axis maxs", "axismaxs"])?);
        let spacing = match entry(["spacings", "spacing"])? {
            Some(spacing) => Some(spacing),
            None => low.zip(high).map(|(low, high)| {
                let steps = if cells { sizes[axis] } else { sizes[axis].saturating_sub(1).max(1) };
                (high - low) / steps as f64
            }),
        };
        let step = spacing.unwrap_or(1.0);
        let offset = if cells { 0.5 * step } else { 0.0 };
        let ends = (sizes[axis] - 1) as f64 * step + 2.0 * offset;
        let low = low.or_else(|| high.map(|high| high - ends));
        let first = low.map_or(0.0, |low| low + offset);
        let units = fields.get("units").map(quoted).unwrap_or_default();
        let name = units.get(axis).copied().unwrap_or_default();
        let unit = millimetres(name).unwrap_or_else(|| {
            warnings.push(format!(
                "units: {name:?} along axis {axis} is no length that is known: taken as millimetres"
            ));
            1.0
        });
        Ok(Self { first, step, unit })
    }
}

/// Millimetres of a unit of length; nothing said is a millimetre.
fn millimetres(unit: &str) -> Option<f64> {
    Some(match unit.to_lowercase().as_str() {
        "mm" | "millimeter" | "millimeters" | "millimetre" | "millimetres" | "???" | "" => 1.0,
        // The sign of micro, the Greek letter, and what is left of the sign in Latin-1.
        "micron" | "microns" | "um" | "\u{b5}m" | "\u{3bc}m" | "\u{fffd}m" | "micrometer"
        | "micrometers" | "micrometre" | "micrometres" => 1e-3,
        "nm" | "nanometer" | "nanometers" | "nanometre" | "nanometres" => 1e-6,
        "cm" | "centimeter" | "centimeters" | "centimetre" | "centimetres" => 10.0,
        "m" | "meter" | "meters" | "metre" | "metres" => 1e3,
        _ => return None,
    })
}

/// Entries in quotation marks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('"').skip(1).step_by(2).map(str::trim).collect()
}

/// Factors, an axis each, that turn the space of the file into millimetres and LPS. Spaces without patient are taken
/// as LPS, as in ITK.
fn scales(fields: &Fields, world: usize) -> Fallible<Vec<f64>> {
    let mut scales = vec![1.0; world];
    if let Some(text) = fields.get("space units") {
        for (scale, name) in scales.iter_mut().zip(quoted(text)) {
            let expected = "a unit of length from \"nm\" to \"m\": convert the header";
            *scale =
                millimetres(name).ok_or_else(|| Problem::content("space units", expected, name))?;
        }
    }
    let name = fields.get("space").unwrap_or_default().to_ascii_lowercase();
    let signs: &[f64] = match name.as_str() {
        "right-anterior-superior" | "ras" => &[-1.0, -1.0, 1.0],
        "left-anterior-superior" | "las" => &[1.0, -1.0, 1.0],
        "left-posterior-superior"
        | "lps"
        | "scanner-xyz"
        | "3d-right-handed"
        | "3d-left-handed" => &[1.0; 3],
        "" => return Ok(scales),
        other => {
            let expected = "LPS, RAS, LAS, scanner-xyz or a handed space of three axes";
            return Err(Problem::content("space", expected, other));
        }
    };
    if world == signs.len() {
        scales.iter_mut().zip(signs).for_each(|(scale, sign)| *scale *= sign);
        return Ok(scales);
    }
    Err(Problem::content("space", "vectors of three coordinates", format!("{world} of them")))
}

/// The numbers of one of `files` files, each of which holds as many.
fn numbers_of(form: &Form, mut file: BufReader<File>, files: usize) -> Fallible<Vec<f64>> {
    for _ in 0..form.skipped_lines {
        if file.skip_until(b'\n')? == 0 {
            return Err(Problem::content("line skip", "no more lines than there are", "the end"));
        }
    }
    let expected = size(&form.sizes, 1, form.sample)? / files as u64;
    let skipped = form.skipped_bytes.unwrap_or(0);
    let bytes = match form.encoding {
        Encoding::Text => {
            skip(&mut file, skipped)?;
            return numbers(&mut file, expected / form.sample.bytes() as u64);
        }
        Encoding::Hex => {
            skip(&mut file, skipped)?;
            hexadecimal(&mut file, expected)?
        }
        Encoding::Raw => match form.skipped_bytes {
            Some(bytes) => {
                skip(&mut file, bytes)?;
                take(&mut file, "voxels", expected)?
            }
            None => last(file, expected)?,
        },
        Encoding::Gzip => {
            let mut unpacked = BufReader::new(Members::new(file));
            skip(&mut unpacked, skipped)?;
            let bytes = take(&mut unpacked, "voxels", expected)?;
            crate::source::end(&mut unpacked)?;
            bytes
        }
    };
    decode(&bytes, form.sample, form.endian)
}

fn volume(form: Form, values: Vec<f64>) -> Fallible<Volume> {
    let values = planar(values, form.inner, form.components)?;
    let volume = Volume::new(form.geometry, form.components, form.meaning, form.sample, values);
    Ok(Volume { warnings: form.warnings, ..volume })
}

/// Bytes as two digits each; spaces and lines between digits do not count.
fn hexadecimal(reader: &mut dyn BufRead, expected: u64) -> Fallible<Vec<u8>> {
    let what = "hexadecimal digits";
    let mut bytes = Vec::new();
    let mut high = None;
    for digit in reader.bytes() {
        let digit = digit?;
        if digit.is_ascii_whitespace() {
            continue;
        }
        let value = char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        let value = value.ok_or_else(|| {
            Problem::content(what, "0 to 9 and a to f", format!("{:?}", char::from(digit)))
        })?;
        match high.take() {
            None => high = Some(value),
            Some(high) => bytes.push(16 * high + value),
        }
        if bytes.len() as u64 == expected {
            return Ok(bytes);
        }
    }
    Err(Problem::Truncated { what, expected: 2 * expected, found: 2 * bytes.len() as u64 })
}

fn skip(reader: &mut dyn BufRead, expected: u64) -> Fallible<()> {
    let found = std::io::copy(&mut reader.take(expected), &mut std::io::sink())?;
    let what = "bytes to skip";
    if found == expected { Ok(()) } else { Err(Problem::Truncated { what, expected, found }) }
}

/// The last bytes of a file.
fn last(mut file: BufReader<File>, expected: u64) -> Fallible<Vec<u8>> {
    use std::io::{Seek as _, SeekFrom};
    let found = file.get_ref().metadata()?.len();
    let Some(start) = found.checked_sub(expected) else {
        return Err(Problem::Truncated { what: "voxels", expected, found });
    };
    file.seek(SeekFrom::Start(start))?;
    take(&mut file, "voxels", expected)
}

/// Numbers as text.
pub(crate) fn numbers(reader: &mut dyn BufRead, expected: u64) -> Fallible<Vec<f64>> {
    let mut values: Vec<f64> = Vec::new();
    let mut line = Vec::new();
    while (values.len() as u64) < expected {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            let found = format!("{} of {expected}: copy the file again", values.len());
            return Err(Problem::content("numbers as text", "one a voxel", found));
        }
        for text in String::from_utf8_lossy(&line).split_whitespace() {
            values.push(number("numbers as text", text)?);
        }
    }
    if values.len() as u64 > expected {
        return Err(Problem::content("numbers as text", "one a voxel", "more of them"));
    }
    Ok(values)
}

pub(crate) fn write(path: &Path, volume: &Volume) -> Result<()> {
    let at = |problem: Problem| problem.at(path);
    let packed = packed(volume).map_err(at)?;
    if has_ending(path, ".nhdr") {
        let data = with_ending(path, ".nhdr", ".raw.gz");
        atomic::write(&data, |file| file.write_all(&packed))?;
        let name = data.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let header = format!("{}data file: {name}\n", fields(volume));
        return atomic::write(path, |file| file.write_all(header.as_bytes()));
    }
    atomic::write(path, |file| {
        file.write_all(fields(volume).as_bytes())?;
        file.write_all(b"\n")?;
        file.write_all(&packed)
    })
}

fn packed(volume: &Volume) -> Fallible<Vec<u8>> {
    no_palette(volume)?;
    let bytes = encode(volume.interleaved(), volume.sample)?;
    let mut packed = GzEncoder::new(reserved(0)?, Compression::default());
    packed.write_all(&bytes)?;
    Ok(packed.finish()?)
}

/// The header, components first.
fn fields(volume: &Volume) -> String {
    let geometry = &volume.geometry;
    let axes = geometry.shape.len();
    let coordinates = |entries: Vec<f64>| {
        let entries: Vec<String> = entries.iter().map(f64::to_string).collect();
        format!("({})", entries.join(","))
    };
    let step = |a: usize| {
        let column = geometry.direction.column(a);
        coordinates(column.iter().map(|x| x * geometry.spacing[a]).collect())
    };
    let mut sizes: Vec<String> = geometry.shape.iter().map(usize::to_string).collect();
    let mut directions: Vec<String> = (0..axes).map(step).collect();
    let mut kinds = vec!["domain"; axes];
    if volume.components > 1 {
        sizes.insert(0, volume.components.to_string());
        directions.insert(0, "none".to_owned());
        kinds.insert(
            0,
            match (volume.meaning, volume.components) {
                (Meaning::Vectors, _) => "vector",
                (Meaning::Colours, 3) => "RGB-color",
                (Meaning::Colours, 4) => "RGBA-color",
                _ => "list",
            },
        );
    }
    let space = if axes == 3 { "space: left-posterior-superior" } else { "space dimension: 2" };
    format!(
        "NRRD0004\ntype: {}\ndimension: {}\n{space}\nsizes: {}\nspace directions: {}\nkinds: {}\n\
         endian: little\nencoding: gzip\nspace origin: {}\n",
        type_name(volume.sample),
        sizes.len(),
        sizes.join(" "),
        directions.join(" "),
        kinds.join(" "),
        coordinates(geometry.origin.clone()),
    )
}

fn type_name(sample: Sample) -> &'static str {
    match sample {
        Sample::U8 => "unsigned char",
        Sample::I8 => "signed char",
        Sample::U16 => "unsigned short",
        Sample::I16 => "short",
        Sample::U32 => "unsigned int",
        Sample::I32 => "int",
        Sample::U64 => "unsigned long long int",
        Sample::I64 => "long long int",
        Sample::F32 => "float",
        Sample::F64 => "double",
    }
}
