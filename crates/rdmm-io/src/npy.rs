//! Arrays in numpy's `.npy` files.
//!
//! Read are versions 1 to 3 of the format, booleans, integers and floating point of 8 to 64 bits, both byte
//! orders and both orders of the axes.

use std::path::Path;

use crate::atomic;
use crate::error::{Problem, Result};
use crate::samples::{Endian, decode, reserved, size};
use crate::source::Source;
use crate::volume::Sample;

const MAGIC: &[u8] = b"\x93NUMPY";

/// An array of numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// C order: the last axis is the fastest.
    pub values: Vec<f64>,
}

/// Reads an array.
///
/// # Errors
/// What the operating system says; a truncated file; numbers that are not of the types above.
pub fn read(path: impl AsRef<Path>) -> Result<Array> {
    let path = path.as_ref();
    array(path).map_err(|problem| problem.at(path))
}

fn array(path: &Path) -> std::result::Result<Array, Problem> {
    let mut source = Source::open(path)?;
    let start = source.take("header", 8)?;
    if !start.starts_with(MAGIC) {
        return Err(Problem::content("format", "an array of numpy (.npy)", "another beginning"));
    }
    let length = match start[6] {
        1 => source.take("header", 2)?,
        2 | 3 => source.take("header", 4)?,
        other => return Err(Problem::content("version of .npy", "1 to 3", other)),
    };
    let length = length.iter().rev().fold(0, |length, &byte| length << 8 | u64::from(byte));
    let header = source.take("header", length)?;
    let header = String::from_utf8_lossy(&header);
    let shape = shape(entry(&header, "shape")?)?;
    let (sample, endian) = numbers(entry(&header, "descr")?)?;
    let bytes = source.take("numbers", size(&shape, 1, sample)?)?;
    source.finish()?;
    let values = decode(&bytes, sample, endian)?;
    let order = entry(&header, "fortran_order")?;
    let values = match order.get(..4) {
        Some("True") => c_order(&shape, &values)?,
        Some("Fals") => values,
        _ => return Err(Problem::content("fortran_order", "True or False", order)),
    };
    Ok(Array { shape, values })
}

/// The text after a key of the dictionary.
fn entry<'a>(header: &'a str, key: &'static str) -> std::result::Result<&'a str, Problem> {
    let found = ["'", "\""].iter().find_map(|quote| {
        let (_, after) = header.split_once(&format!("{quote}{key}{quote}"))?;
        after.trim_start().strip_prefix(':')
    });
    found
        .map(str::trim_start)
        .ok_or_else(|| Problem::content(key, "an entry of the header", "none"))
}

fn shape(text: &str) -> std::result::Result<Vec<usize>, Problem> {
    let inside = text.strip_prefix('(').and_then(|text| text.split_once(')'));
    let numbers = inside.map(|(inside, _)| inside.split(',').map(str::trim));
    let axes = numbers.and_then(|numbers| {
        numbers.filter(|n| !n.is_empty()).map(|n| n.trim_end_matches('L').parse().ok()).collect()
    });
    axes.ok_or_else(|| Problem::content("shape", "numbers in brackets", text.trim_end()))
}

fn numbers(text: &str) -> std::result::Result<(Sample, Endian), Problem> {
    let refused = || {
        let expected = "booleans, integers or floating point of 8 to 64 bits (not half precision)";
        Problem::content("descr", expected, text.split(", '").next().unwrap_or(text))
    };
    let quoted = text.strip_prefix(['\'', '"']).and_then(|text| text.split(['\'', '"']).next());
    let code = quoted.ok_or_else(refused)?;
    let sample = match code.get(1..).ok_or_else(refused)? {
        "b1" | "u1" => Sample::U8,
        "i1" => Sample::I8,
        "u2" => Sample::U16,
        "i2" => Sample::I16,
        "u4" => Sample::U32,
        "i4" => Sample::I32,
        "u8" => Sample::U64,
        "i8" => Sample::I64,
        "f4" => Sample::F32,
        "f8" => Sample::F64,
        _ => return Err(refused()),
    };
    match code.as_bytes()[0] {
        b'<' | b'|' => Ok((sample, Endian::Little)),
        b'>' => Ok((sample, Endian::Big)),
        _ => Err(refused()),
    }
}

/// From Fortran order, where the first axis is the fastest.
fn c_order(shape: &[usize], values: &[f64]) -> std::result::Result<Vec<f64>, Problem> {
    let mut out = reserved(values.len())?;
    let mut strides = vec![1; shape.len()];
    for axis in 1..shape.len() {
        strides[axis] = strides[axis - 1] * shape[axis - 1];
    }
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    for _ in 0..values.len() {
        out.push(values[at]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    Ok(out)
}

/// Writes an array of single precision, C order.
///
/// # Errors
/// A number of values that does not fit the shape; what the operating system says.
pub fn write_f32(path: impl AsRef<Path>, shape: &[usize], values: &[f32]) -> Result<()> {
    write(path.as_ref(), "<f4", shape, values, f32::to_le_bytes)
}

/// Writes an array of double precision, C order.
///
/// # Errors
/// Those of [`write_f32`].
pub fn write_f64(path: impl AsRef<Path>, shape: &[usize], values: &[f64]) -> Result<()> {
    write(path.as_ref(), "<f8", shape, values, f64::to_le_bytes)
}

/// Writes an array of numbers that `bytes` turns into those of the type `descr`.
fn write<T: Copy, const N: usize>(
    path: &Path,
    descr: &str,
    shape: &[usize],
    values: &[T],
    bytes: impl Fn(T) -> [u8; N],
) -> Result<()> {
    let expected = shape.iter().try_fold(1usize, |count, &n| count.checked_mul(n));
    if expected != Some(values.len()) {
        let found = format!("{} for the shape {shape:?}", values.len());
        return Err(Problem::content("values", "as many as the shape says", found).at(path));
    }
    let axes: Vec<String> = shape.iter().map(usize::to_string).collect();
    let axes = if let [one] = axes.as_slice() { format!("{one},") } else { axes.join(", ") };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({axes}), }}");
    // Magic, version and length are ten bytes; the numbers begin at a multiple of 64.
    let padding = 63 - (10 + header.len()) % 64;
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    let length = u16::try_from(header.len())
        .map_err(|_| Problem::content("shape", "fewer axes", shape.len()).at(path))?;
    atomic::write(path, |file| {
        file.write_all(MAGIC)?;
        file.write_all(&[1, 0])?;
        file.write_all(&length.to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        values.iter().try_for_each(|&x| file.write_all(&bytes(x)))
    })
}
