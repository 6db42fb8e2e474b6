//! Linear transforms in ITK's files: text (`.txt`, `.tfm`) and MATLAB level 4 (`.mat`).
//!
//! Both hold the name of a class, its parameters and its fixed parameters. Points are in LPS, and an affine
//! transform takes x to M (x − c) + c + t with the centre c among the fixed parameters.

use std::path::Path;

use rdmm_core::world::Affine;

use super::classes::{self, Record};
use crate::atomic;
use crate::error::{Problem, Result};

/// First line of a text file.
const TITLE: &str = "#Insight Transform File V1.0";

/// Class, scalar type and dimensions of what is written.
fn class<const D: usize>() -> String {
    format!("AffineTransform_double_{D}_{D}")
}

/// Writes an affine map as an ITK text file: `AffineTransform_double_D_D` with its centre at zero, numbers
/// with as many digits as they need to be read back to the bit.
///
/// # Errors
/// What the operating system says.
pub fn write_text<const D: usize>(path: impl AsRef<Path>, map: &Affine<D>) -> Result<()> {
    let parameters = words(&parameters(map));
    let (name, fixed) = (class::<D>(), words(&[0.0; D]));
    atomic::write(path, |file| {
        writeln!(file, "{TITLE}\n#Transform 0\nTransform: {name}")?;
        writeln!(file, "Parameters: {parameters}\nFixedParameters: {fixed}")
    })
}

/// Writes an affine map as ANTs does in its `0GenericAffine.mat`: MATLAB level 4, little-endian doubles,
/// `AffineTransform_double_D_D` and `fixed`, the centre, at zero.
///
/// # Errors
/// What the operating system says.
pub fn write_mat<const D: usize>(path: impl AsRef<Path>, map: &Affine<D>) -> Result<()> {
    let mut bytes = Vec::new();
    put_vector(&mut bytes, &class::<D>(), &parameters(map));
    put_vector(&mut bytes, "fixed", &[0.0; D]);
    atomic::write(path, |file| file.write_all(&bytes))
}

/// Reads an affine map from a text or a MATLAB file of ITK.
///
/// Of the classes `AffineTransform`, `MatrixOffsetTransformBase`, `Rigid2DTransform`, `Euler2DTransform`,
/// `Similarity2DTransform`, `Rigid3DTransform`, `Euler3DTransform`, `VersorTransform`,
/// `VersorRigid3DTransform`, `Similarity3DTransform`, `ScaleVersor3DTransform`, `ScaleSkewVersor3DTransform`,
/// `TranslationTransform`, `ScaleTransform` and `IdentityTransform`, with `float` or `double` parameters, and, in text files, of a
/// `CompositeTransform` of these, which applies the last one first.
///
/// # Errors
/// [`Problem::Content`] for other classes, another dimension, or parameters that do not fit the class;
/// [`Problem::Truncated`]; [`Problem::Core`] for a matrix without an inverse.
pub fn read<const D: usize>(path: impl AsRef<Path>) -> Result<Affine<D>> {
    let path = path.as_ref();
    let read = || parse(&std::fs::read(path)?);
    read().map_err(|problem: Problem| problem.at(path))
}

/// An affine map from the bytes of a file.
pub(super) fn parse<const D: usize>(bytes: &[u8]) -> std::result::Result<Affine<D>, Problem> {
    classes::affine(&records(bytes)?)
}

/// The transforms of a text or a MATLAB file, as they stand there.
pub(super) fn records(bytes: &[u8]) -> std::result::Result<Vec<Record>, Problem> {
    if is_text(bytes) { text(bytes) } else { matlab(bytes) }
}

/// Whether these are the first bytes of a text file of ITK.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    bytes.starts_with(b"#Insight Transform File")
}

/// Matrix by rows, then the translation.
fn parameters<const D: usize>(map: &Affine<D>) -> Vec<f64> {
    map.matrix().transpose().iter().chain(map.shift()).copied().collect()
}

fn words(numbers: &[f64]) -> String {
    numbers.iter().map(f64::to_string).collect::<Vec<_>>().join(" ")
}

fn text(bytes: &[u8]) -> std::result::Result<Vec<Record>, Problem> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Problem::content("transform file", "text", error))?;
    let mut records: Vec<Record> = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        if line.starts_with('#') {
            continue;
        }
        let at = |found: &str| format!("{found:?} (line {number})");
        let Some((key, value)) = line.split_once(':') else {
            return Err(Problem::content("transform file", "lines `key: value`", at(line)));
        };
        let parse = || numbers(value, number);
        match (key.trim(), records.last_mut()) {
            ("Transform", _) => records.push(Record {
                name: value.trim().to_owned(),
                parameters: Vec::new(),
                fixed: Vec::new(),
            }),
            ("Parameters", Some(record)) => record.parameters = parse()?,
            ("FixedParameters", Some(record)) => record.fixed = parse()?,
            _ => {
                let expected = "`Transform:`, then `Parameters:` and `FixedParameters:`";
                return Err(Problem::content("transform file", expected, at(line)));
            }
        }
    }
    Ok(records)
}

fn numbers(text: &str, line: usize) -> std::result::Result<Vec<f64>, Problem> {
    let number = |word: &str| {
        let found = || format!("{word:?} (line {line})");
        word.parse().map_err(|_| Problem::content("parameter of a transform", "a number", found()))
    };
    text.split_whitespace().map(number).collect()
}

/// Parameters and fixed parameters are two vectors each, the first of which has the name of the class.
fn matlab(bytes: &[u8]) -> std::result::Result<Vec<Record>, Problem> {
    let mut rest = bytes;
    let mut records = Vec::new();
    while !rest.is_empty() {
        let (name, parameters) = take_vector(&mut rest)?;
        let (second, fixed) = take_vector(&mut rest)?;
        if second != "fixed" {
            return Err(Problem::content("second vector of a transform", "\"fixed\"", second));
        }
        records.push(Record { name, parameters, fixed });
    }
    Ok(records)
}

fn put_vector(bytes: &mut Vec<u8>, name: &str, values: &[f64]) {
    // A type of zero: little-endian, by columns, doubles, numbers.
    for entry in [0, values.len(), 1, 0, name.len() + 1] {
        let entry = u32::try_from(entry).unwrap_or(u32::MAX);
        bytes.extend(entry.to_le_bytes());
    }
    bytes.extend(name.as_bytes());
    bytes.push(0);
    bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
}

/// The first `count` bytes of what is left.
fn take<'a>(rest: &mut &'a [u8], count: usize) -> std::result::Result<&'a [u8], Problem> {
    let Some((taken, after)) = rest.split_at_checked(count) else {
        let (expected, found) = (count as u64, rest.len() as u64);
        return Err(Problem::Truncated { what: "a MATLAB level 4 vector", expected, found });
    };
    *rest = after;
    Ok(taken)
}

/// Name and numbers of the next vector.
fn take_vector(rest: &mut &[u8]) -> std::result::Result<(String, Vec<f64>), Problem> {
    let header = take(rest, 20)?;
    let word = |k: usize| [header[4 * k], header[4 * k + 1], header[4 * k + 2], header[4 * k + 3]];
    // Types of little-endian files are less than 1000.
    let big = u32::from_le_bytes(word(0)) >= 1000;
    let entry =
        |k: usize| if big { u32::from_be_bytes(word(k)) } else { u32::from_le_bytes(word(k)) };
    let (kind, rows, columns) = (entry(0), entry(1) as usize, entry(2) as usize);
    // Thousands: byte order; hundreds: by columns or rows, the same for vectors; tens: precision.
    let width = match (kind / 1000 == u32::from(big), kind % 1000) {
        (true, 0 | 100) => 8,
        (true, 10 | 110) => 4,
        _ => {
            let expected =
                "MATLAB level 4 vectors of floats or doubles, as ITK and ANTs write them";
            return Err(Problem::content("transform file", expected, format!("type {kind}")));
        }
    };
    if rows.min(columns) > 1 || entry(3) != 0 {
        let found = format!("{rows} × {columns}, imaginary part {}", entry(3));
        return Err(Problem::content("MATLAB matrix", "a real vector", found));
    }
    let name = take(rest, entry(4) as usize)?;
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    let name = String::from_utf8_lossy(name).into_owned();
    let values = take(rest, (rows * columns).saturating_mul(width))?;
    let number = |bytes: &[u8]| {
        let mut eight = [0; 8];
        eight[..width].copy_from_slice(bytes);
        let [a, b, c, d, ..] = eight;
        match (width, big) {
            (8, true) => f64::from_be_bytes(eight),
            (8, false) => f64::from_le_bytes(eight),
            (_, true) => f64::from(f32::from_be_bytes([a, b, c, d])),
            (_, false) => f64::from(f32::from_le_bytes([a, b, c, d])),
        }
    };
    Ok((name, values.chunks_exact(width).map(number).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nalgebra::{SMatrix, SVector};

    fn map() -> Affine<3> {
        let matrix =
            SMatrix::<f64, 3, 3>::new(1.1, 0.2, -0.1, 0.05, 0.9, 1e-17, 0.3, -0.4, 1.0 / 3.0);
        Affine::new(matrix, SVector::from([1e-7, -20.5, 123.456_789_012_345_67])).unwrap()
    }

    fn in_text(body: &str) -> std::result::Result<Affine<3>, Problem> {
        parse(format!("{TITLE}\n#Transform 0\n{body}").as_bytes())
    }

    #[test]
    fn both_files_give_the_map_back_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let (text, mat) = (folder.path().join("a.txt"), folder.path().join("a.mat"));
        write_text(&text, &map()).unwrap();
        write_mat(&mat, &map()).unwrap();
        assert_eq!(read::<3>(&text).unwrap(), map());
        assert_eq!(read::<3>(&mat).unwrap(), map());
        let matrix = SMatrix::<f64, 2, 2>::new(0.0, 2.0, -1.0, 0.5);
        let flat = Affine::new(matrix, SVector::from([3.0, 4.0])).unwrap();
        write_text(&text, &flat).unwrap();
        write_mat(&mat, &flat).unwrap();
        assert_eq!(read::<2>(&text).unwrap(), flat);
        assert_eq!(read::<2>(&mat).unwrap(), flat);
        let error = read::<3>(&mat).unwrap_err().to_string();
        assert!(error.contains("a.mat") && error.contains("AffineTransform_double_2_2"), "{error}");
    }

    #[test]
    fn floats_of_either_byte_order_are_read() {
        for big in [false, true] {
            let mut bytes = Vec::new();
            for (name, values) in [
                ("TranslationTransform_float_3_3\0", vec![1.5_f32, 2.5, -3.0]),
                ("fixed\0", vec![]),
            ] {
                let kind = if big { 1010 } else { 10 };
                for entry in [
                    kind,
                    u32::try_from(values.len()).unwrap(),
                    1,
                    0,
                    u32::try_from(name.len()).unwrap(),
                ] {
                    bytes.extend(if big { entry.to_be_bytes() } else { entry.to_le_bytes() });
                }
                bytes.extend(name.as_bytes());
                for x in values {
                    bytes.extend(if big { x.to_be_bytes() } else { x.to_le_bytes() });
                }
            }
            assert_eq!(parse::<3>(&bytes).unwrap().shift(), &SVector::from([1.5, 2.5, -3.0]));
        }
    }

    #[test]
    fn broken_files_say_what_is_wrong() {
        let cases = [
            ("Transform: AffineTransform_double_3_3\nParameters: 1 0 x\n", "\"x\" (line 4)"),
            ("Parameters: 1 0 0\n", "line 3"),
            ("Transform AffineTransform\n", "line 3"),
            (
                "Transform: BSplineTransform_double_3_3\nParameters: 1\nFixedParameters:\n",
                "BSplineTransform",
            ),
            (
                "Transform: AffineTransform_double_3_3\nParameters: 1 0\nFixedParameters: 0 0 0\n",
                "2",
            ),
            ("", "no transform"),
        ];
        for (body, part) in cases {
            let error = in_text(body).unwrap_err().to_string();
            assert!(error.contains(part), "{body:?}: {error}");
        }
        let singular = "Transform: AffineTransform_double_3_3\nParameters: 0 0 0 0 0 0 0 0 0 1 2 3\n\
                        FixedParameters: 0 0 0\n";
        assert!(matches!(in_text(singular), Err(Problem::Core(_))));
    }

    #[test]
    fn every_truncation_and_every_claim_of_a_header_is_an_error() {
        let mut bytes = Vec::new();
        put_vector(&mut bytes, &class::<3>(), &parameters(&map()));
        let one = bytes.len();
        put_vector(&mut bytes, "fixed", &[0.0; 3]);
        assert!(parse::<3>(&bytes).is_ok());
        for len in 0..bytes.len() {
            assert!(parse::<3>(&bytes[..len]).is_err(), "{len} bytes");
        }
        for entry in 0..5 {
            for at in [0, one] {
                let mut broken = bytes.clone();
                broken[at + 4 * entry..][..4].copy_from_slice(&u32::MAX.to_le_bytes());
                assert!(parse::<3>(&broken).is_err(), "entry {entry} at {at}");
            }
        }
    }
}
