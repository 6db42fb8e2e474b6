//! Numbers as bytes: every sample type in both byte orders.

use crate::error::Problem;
use crate::volume::Sample;

type Result<T> = std::result::Result<T, Problem>;

/// Integers up to this size are exact in double precision.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Order of the bytes of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endian {
    Little,
    Big,
}

impl Sample {
    /// Bytes of one number.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// Least and largest integer, `None` for floating point.
    fn range(self) -> Option<(f64, f64, &'static str)> {
        Some(match self {
            Self::U8 => (0.0, f64::from(u8::MAX), "an integer from 0 to 255"),
            Self::I8 => (f64::from(i8::MIN), f64::from(i8::MAX), "an integer from -128 to 127"),
            Self::U16 => (0.0, f64::from(u16::MAX), "an integer from 0 to 65535"),
            Self::I16 => {
                (f64::from(i16::MIN), f64::from(i16::MAX), "an integer from -32768 to 32767")
            }
            Self::U32 => (0.0, f64::from(u32::MAX), "an integer from 0 to 4294967295"),
            Self::I32 => {
                (f64::from(i32::MIN), f64::from(i32::MAX), "an integer of 32 bits with sign")
            }
            Self::U64 => (0.0, EXACT, "an integer from 0 to 2^53"),
            Self::I64 => (-EXACT, EXACT, "an integer from -2^53 to 2^53"),
            Self::F32 | Self::F64 => return None,
        })
    }

    /// The type that holds such numbers after a slope and an intercept.
    pub(crate) fn scaled(self) -> Self {
        match self {
            Self::U8 | Self::I8 | Self::U16 | Self::I16 | Self::F32 => Self::F32,
            Self::U32 | Self::I32 | Self::U64 | Self::I64 | Self::F64 => Self::F64,
        }
    }
}

/// An empty vector with room for `len` numbers.
pub(crate) fn reserved<T>(len: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    let bytes = len.saturating_mul(size_of::<T>());
    let full = |_| rdmm_core::Error::OutOfMemory { bytes };
    values.try_reserve_exact(len).map_err(full)?;
    Ok(values)
}

/// Bytes of so many voxels; an error where no file can hold them.
pub(crate) fn size(shape: &[usize], components: usize, sample: Sample) -> Result<u64> {
    let count = shape.iter().try_fold(components, |count, &n| count.checked_mul(n));
    let size = count.and_then(|count| count.checked_mul(sample.bytes()));
    size.and_then(|size| u64::try_from(size).ok()).ok_or_else(|| {
        Problem::content("shape", "as many voxels as a file can hold", format!("{shape:?}"))
    })
}

/// The numbers of a buffer.
pub(crate) fn decode(bytes: &[u8], sample: Sample, endian: Endian) -> Result<Vec<f64>> {
    #[expect(clippy::cast_precision_loss, reason = "integers beyond 2^53 are refused afterwards")]
    match sample {
        Sample::U8 => each(bytes, endian, |b| f64::from(u8::from_le_bytes(b))),
        Sample::I8 => each(bytes, endian, |b| f64::from(i8::from_le_bytes(b))),
        Sample::U16 => each(bytes, endian, |b| f64::from(u16::from_le_bytes(b))),
        Sample::I16 => each(bytes, endian, |b| f64::from(i16::from_le_bytes(b))),
        Sample::U32 => each(bytes, endian, |b| f64::from(u32::from_le_bytes(b))),
        Sample::I32 => each(bytes, endian, |b| f64::from(i32::from_le_bytes(b))),
        Sample::U64 => exact(each(bytes, endian, |b| u64::from_le_bytes(b) as f64)?),
        Sample::I64 => exact(each(bytes, endian, |b| i64::from_le_bytes(b) as f64)?),
        Sample::F32 => each(bytes, endian, |b| f64::from(f32::from_le_bytes(b))),
        Sample::F64 => each(bytes, endian, f64::from_le_bytes),
    }
}

fn each<const N: usize>(
    bytes: &[u8],
    endian: Endian,
    number: impl Fn([u8; N]) -> f64,
) -> Result<Vec<f64>> {
    let (chunks, _) = bytes.as_chunks::<N>();
    let mut values = reserved(chunks.len())?;
    values.extend(chunks.iter().map(|&chunk| {
        let mut chunk = chunk;
        if endian == Endian::Big {
            chunk.reverse();
        }
        number(chunk)
    }));
    Ok(values)
}

fn exact(values: Vec<f64>) -> Result<Vec<f64>> {
    match values.iter().position(|x| x.abs() > EXACT) {
        None => Ok(values),
        Some(at) => Err(refused("an integer of at most 2^53 in size", values[at], at)),
    }
}

/// The bytes of numbers, little endian. Nothing is rounded to an integer nor clamped.
pub(crate) fn encode(values: impl Iterator<Item = f64>, sample: Sample) -> Result<Vec<u8>> {
    let mut bytes = reserved(values.size_hint().0.saturating_mul(sample.bytes()))?;
    for (at, x) in values.enumerate() {
        if let Some((least, largest, expected)) = sample.range() {
            if !((least..=largest).contains(&x) && x.fract().abs() < f64::EPSILON) {
                return Err(refused(expected, x, at));
            }
        } else if sample == Sample::F32 && x.is_finite() && !single(x).is_finite() {
            return Err(refused("a number of single precision", x, at));
        }
        push(&mut bytes, x, sample);
    }
    Ok(bytes)
}

#[expect(clippy::cast_possible_truncation, reason = "rounded to single precision on purpose")]
pub(crate) fn single(x: f64) -> f32 {
    x as f32
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be an integer in range"
)]
fn push(bytes: &mut Vec<u8>, x: f64, sample: Sample) {
    match sample {
        Sample::U8 => bytes.push(x as u8),
        Sample::I8 => bytes.extend((x as i8).to_le_bytes()),
        Sample::U16 => bytes.extend((x as u16).to_le_bytes()),
        Sample::I16 => bytes.extend((x as i16).to_le_bytes()),
        Sample::U32 => bytes.extend((x as u32).to_le_bytes()),
        Sample::I32 => bytes.extend((x as i32).to_le_bytes()),
        Sample::U64 => bytes.extend((x as u64).to_le_bytes()),
        Sample::I64 => bytes.extend((x as i64).to_le_bytes()),
        Sample::F32 => bytes.extend((x as f32).to_le_bytes()),
        Sample::F64 => bytes.extend(x.to_le_bytes()),
    }
}

fn refused(expected: &'static str, found: f64, at: usize) -> Problem {
    Problem::content("voxel", expected, format!("{found} at number {at} of the data"))
}

/// Values that vary by component first, put component by component. Within the data, `inner` values
/// of one component follow one another.
pub(crate) fn planar(values: Vec<f64>, inner: usize, components: usize) -> Result<Vec<f64>> {
    if components == 1 || inner * components == values.len() {
        return Ok(values);
    }
    let mut planar = reserved(values.len())?;
    for c in 0..components {
        for block in values.chunks_exact(inner * components) {
            planar.extend(&block[c * inner..(c + 1) * inner]);
        }
    }
    Ok(planar)
}
