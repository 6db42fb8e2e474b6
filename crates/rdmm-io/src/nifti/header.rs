//! The header of `NIfTI`-1 (348 bytes) and `NIfTI`-2 (540 bytes).

use super::forms::Forms;
use super::series::Series;
use crate::error::Problem;
use crate::samples::{Endian, single};
use crate::source::Source;
use crate::volume::{Meaning, Sample, Volume};

/// The intent of a displacement field of FNIRT: three volumes, along the fourth axis.
pub(crate) const INTENT_FSL: i32 = 2006;

type Result<T> = std::result::Result<T, Problem>;

/// Millimetres, in `xyzt_units`.
const MILLIMETRES: u8 = 2;

/// Longest axis of `NIfTI`-1.
const LONGEST: usize = 32767;

/// The two versions of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

impl Version {
    fn bytes(self) -> usize {
        match self {
            Self::One => 348,
            Self::Two => 540,
        }
    }
}

/// What one voxel is stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Datatype {
    Number(Sample),
    /// 8 bits each.
    Colours(usize),
}

/// Spatial axes, two or three, and numbers a voxel, which may be those of several times.
pub(super) struct Layout {
    pub(super) shape: Vec<usize>,
    pub(super) components: usize,
    pub(super) series: Option<Series>,
}

/// What is read of a header.
pub(super) struct Header {
    pub(super) endian: Endian,
    pub(super) pair: bool,
    pub(super) intent: i32,
    pub(super) offset: u64,
    pub(super) slope: f64,
    pub(super) intercept: f64,
    dim: [i64; 8],
    datatype: i32,
    units: u8,
    /// The fourth spacing.
    step: f64,
    forms: Forms,
}

/// Numbers at positions of the header, zero beyond its end.
struct Entries<'a> {
    bytes: &'a [u8],
    endian: Endian,
}

impl Entries<'_> {
    fn raw<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut raw = [0; N];
        if let Some(found) = self.bytes.get(at..at + N) {
            raw.copy_from_slice(found);
        }
        if self.endian == Endian::Big {
            raw.reverse();
        }
        raw
    }

    fn i16(&self, at: usize) -> i16 {
        i16::from_le_bytes(self.raw(at))
    }

    fn i32(&self, at: usize) -> i32 {
        i32::from_le_bytes(self.raw(at))
    }

    fn i64(&self, at: usize) -> i64 {
        i64::from_le_bytes(self.raw(at))
    }

    fn f32(&self, at: usize) -> f64 {
        f64::from(f32::from_le_bytes(self.raw(at)))
    }

    fn f64(&self, at: usize) -> f64 {
        f64::from_le_bytes(self.raw(at))
    }
}

/// Version and byte order of a file that begins so.
pub(super) fn version(beginning: &[u8]) -> Result<(Version, Endian)> {
    for endian in [Endian::Little, Endian::Big] {
        for version in [Version::One, Version::Two] {
            let size = Entries { bytes: beginning, endian }.i32(0);
            if usize::try_from(size) == Ok(version.bytes()) {
                return Ok((version, endian));
            }
        }
    }
    let expected = "a header of 348 or 540 bytes";
    Err(Problem::content("NIfTI", expected, "another first entry: this is no NIfTI file"))
}

impl Header {
    /// The header at the beginning of a file, and its length.
    pub(super) fn read(source: &mut Source) -> Result<(Self, u64)> {
        let mut bytes = source.take("header", 4)?;
        let (version, endian) = version(&bytes)?;
        let length = version.bytes() as u64;
        bytes.extend(source.take("header", length - 4)?);
        let entries = Entries { bytes: &bytes, endian };
        let header = match version {
            Version::One => Self::one(&entries),
            Version::Two => Self::two(&entries),
        }?;
        Ok((header, length))
    }

    fn one(entries: &Entries<'_>) -> Result<Self> {
        Ok(Self {
            endian: entries.endian,
            pair: pair(&entries.bytes[344..348], *b"n+1\0", *b"ni1\0")?,
            intent: i32::from(entries.i16(68)),
            offset: offset_one(entries.f32(108))?,
            slope: entries.f32(112),
            intercept: entries.f32(116),
            dim: std::array::from_fn(|a| i64::from(entries.i16(40 + 2 * a))),
            datatype: i32::from(entries.i16(70)),
            units: entries.bytes[123],
            step: entries.f32(92),
            forms: Forms {
                qform: i32::from(entries.i16(252)),
                sform: i32::from(entries.i16(254)),
                pixdim: std::array::from_fn(|a| entries.f32(76 + 4 * a)),
                quaternion: std::array::from_fn(|a| entries.f32(256 + 4 * a)),
                shift: std::array::from_fn(|a| entries.f32(268 + 4 * a)),
                rows: std::array::from_fn(|r| {
                    std::array::from_fn(|c| entries.f32(280 + 16 * r + 4 * c))
                }),
            },
        })
    }

    fn two(entries: &Entries<'_>) -> Result<Self> {
        let offset = entries.i64(168);
        Ok(Self {
            endian: entries.endian,
            pair: pair(&entries.bytes[4..8], *b"n+2\0", *b"ni2\0")?,
            intent: entries.i32(504),
            offset: u64::try_from(offset).map_err(|_| bad_offset(offset))?,
            slope: entries.f64(176),
            intercept: entries.f64(184),
            dim: std::array::from_fn(|a| entries.i64(16 + 8 * a)),
            datatype: i32::from(entries.i16(12)),
            units: entries.i32(500).to_le_bytes()[0],
            step: entries.f64(136),
            forms: Forms {
                qform: entries.i32(344),
                sform: entries.i32(348),
                pixdim: std::array::from_fn(|a| entries.f64(104 + 8 * a)),
                quaternion: std::array::from_fn(|a| entries.f64(352 + 8 * a)),
                shift: std::array::from_fn(|a| entries.f64(376 + 8 * a)),
                rows: std::array::from_fn(|r| {
                    std::array::from_fn(|c| entries.f64(400 + 32 * r + 8 * c))
                }),
            },
        })
    }

    pub(super) fn datatype(&self) -> Result<Datatype> {
        Ok(Datatype::Number(match self.datatype {
            2 => Sample::U8,
            4 => Sample::I16,
            8 => Sample::I32,
            16 => Sample::F32,
            64 => Sample::F64,
            256 => Sample::I8,
            512 => Sample::U16,
            768 => Sample::U32,
            1024 => Sample::I64,
            1280 => Sample::U64,
            128 => return Ok(Datatype::Colours(3)),
            2304 => return Ok(Datatype::Colours(4)),
            other => {
                let name = match other {
                    1 => "single bits",
                    32 | 1792 | 2048 => "complex numbers",
                    1536 => "floating point of 128 bits",
                    _ => "an unknown code",
                };
                let expected = "integers or floating point of 8 to 64 bits, or colours of 8 bits";
                return Err(Problem::content("datatype", expected, format!("{name} ({other})")));
            }
        }))
    }

    /// Axes 1 to 3 are space, 4 is time, 5 holds components. Beyond space, zero is no axis, as in `nifti_clib`.
    pub(super) fn layout(&self) -> Result<Layout> {
        let Ok(axes @ 2..=7) = usize::try_from(self.dim[0]) else {
            return Err(Problem::content("dim[0]", "2 to 7 axes", self.dim[0]));
        };
        let mut dim = [1; 7];
        for (axis, n) in dim.iter_mut().enumerate().take(axes) {
            let found = if axis < 3 { self.dim[axis + 1] } else { self.dim[axis + 1].max(1) };
            *n = usize::try_from(found).ok().filter(|&n| n > 0).ok_or_else(|| {
                let found = format!("{found} along axis {axis}");
                Problem::content("dim", "one voxel or more an axis", found)
            })?;
        }
        let [.., time, components, sixth, seventh] = dim;
        if sixth > 1 || seventh > 1 || (time > 1 && components > 1) {
            let found = format!("the shape {:?}: extract one volume", &dim[..axes]);
            let expected = "three axes of space, and either time points or components";
            return Err(Problem::content("dim", expected, found));
        }
        let shape = dim[..axes.min(3)].to_vec();
        let series = (time > 1).then(|| Series::new(self.step, self.units));
        Ok(Layout { shape, components: time * components, series })
    }

    /// Both forms of an image of so many axes in millimetres. `warnings` says what of the header was filled.
    pub(super) fn forms(&self, axes: usize, warnings: &mut Vec<String>) -> Forms {
        let unit = match self.units & 7 {
            0 | MILLIMETRES => 1.0,
            1 => 1e3,
            3 => 1e-3,
            other => {
                warnings.push(format!(
                    "xyzt_units has the unit of length {other}, which is none of unknown, metres, millimetres and \
                     microns (0 to 3): taken as millimetres"
                ));
                1.0
            }
        };
        self.forms.clone().in_millimetres(unit, axes, warnings)
    }
}

fn pair(found: &[u8], single: [u8; 4], pair: [u8; 4]) -> Result<bool> {
    if found == single {
        return Ok(false);
    }
    if found == pair {
        return Ok(true);
    }
    let found = format!("{:?}", String::from_utf8_lossy(found));
    Err(Problem::content(
        "magic of NIfTI",
        "n+1, ni1, n+2 or ni2 (Analyze files are not read)",
        found,
    ))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
fn offset_one(offset: f64) -> Result<u64> {
    if (0.0..=1e15).contains(&offset) { Ok(offset as u64) } else { Err(bad_offset(offset)) }
}

fn bad_offset(found: impl std::fmt::Display) -> Problem {
    Problem::content("vox_offset", "a position in the file", found)
}

/// The header of one file, with the four bytes after it that say that there are no extensions.
pub(super) fn write(volume: &Volume, datatype: Datatype, intent: i32) -> Result<Vec<u8>> {
    let geometry = &volume.geometry;
    let kept = volume.forms.as_ref().filter(|forms| forms.fits(geometry));
    let forms = kept.cloned().unwrap_or_else(|| Forms::of(geometry));
    let components = if volume.meaning == Meaning::Colours { 1 } else { volume.components };
    let longest = geometry.shape.iter().chain([&components]).copied().max().unwrap_or(0);
    let version = if longest > LONGEST { Version::Two } else { Version::One };
    let mut bytes = vec![0; version.bytes() + 4];
    // FSL's fields are time series of three volumes.
    let last = if intent == INTENT_FSL || volume.series.is_some() { 3 } else { 4 };
    let dim = dim(&geometry.shape, components, last)?;
    let (step, units) = volume.series.as_ref().map_or((1.0, 0), Series::entries);
    let units = MILLIMETRES | units;
    match version {
        Version::One => {
            fill_one(&mut bytes, dim, datatype, intent, &forms);
            put(&mut bytes, 92, single(step).to_le_bytes());
            bytes[123] = units;
        }
        Version::Two => {
            fill_two(&mut bytes, dim, datatype, intent, &forms);
            put(&mut bytes, 136, step.to_le_bytes());
            bytes[500] = units;
        }
    }
    Ok(bytes)
}

/// Vectors and other components are the axis `last`, also of slices.
fn dim(shape: &[usize], components: usize, last: usize) -> Result<[i64; 8]> {
    let mut dim = [1; 8];
    let axes = if components > 1 { last + 1 } else { shape.len() };
    dim[0] = i64::try_from(axes).unwrap_or(5);
    for (axis, &n) in shape.iter().enumerate().chain([(last, &components)]) {
        let most = || Problem::content("shape", "axes of less than 2^63 voxels", n);
        dim[axis + 1] = i64::try_from(n).map_err(|_| most())?;
    }
    Ok(dim)
}

impl Datatype {
    fn code(self) -> i16 {
        match self {
            Self::Number(sample) => match sample {
                Sample::U8 => 2,
                Sample::I16 => 4,
                Sample::I32 => 8,
                Sample::F32 => 16,
                Sample::F64 => 64,
                Sample::I8 => 256,
                Sample::U16 => 512,
                Sample::U32 => 768,
                Sample::I64 => 1024,
                Sample::U64 => 1280,
            },
            Self::Colours(3) => 128,
            Self::Colours(_) => 2304,
        }
    }

    fn bits(self) -> i16 {
        let bytes = match self {
            Self::Number(sample) => sample.bytes(),
            Self::Colours(channels) => channels,
        };
        i16::try_from(8 * bytes).unwrap_or(0)
    }
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, entry: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&entry);
}

#[expect(clippy::cast_possible_truncation, reason = "axes, codes and intents fit 16 bits here")]
fn fill_one(bytes: &mut [u8], dim: [i64; 8], datatype: Datatype, intent: i32, forms: &Forms) {
    let entry = |x: f64| single(x).to_le_bytes();
    put(bytes, 0, 348_i32.to_le_bytes());
    bytes[38] = b'r';
    for (a, n) in dim.into_iter().enumerate() {
        put(bytes, 40 + 2 * a, (n as i16).to_le_bytes());
    }
    put(bytes, 68, (intent as i16).to_le_bytes());
    put(bytes, 70, datatype.code().to_le_bytes());
    put(bytes, 72, datatype.bits().to_le_bytes());
    for (a, x) in forms.pixdim.into_iter().chain([1.0; 4]).enumerate() {
        put(bytes, 76 + 4 * a, entry(x));
    }
    put(bytes, 108, entry(352.0));
    put(bytes, 112, entry(1.0));
    put(bytes, 252, (forms.qform as i16).to_le_bytes());
    put(bytes, 254, (forms.sform as i16).to_le_bytes());
    for a in 0..3 {
        put(bytes, 256 + 4 * a, entry(forms.quaternion[a]));
        put(bytes, 268 + 4 * a, entry(forms.shift[a]));
        for c in 0..4 {
            put(bytes, 280 + 16 * a + 4 * c, entry(forms.rows[a][c]));
        }
    }
    put(bytes, 344, *b"n+1\0");
}

fn fill_two(bytes: &mut [u8], dim: [i64; 8], datatype: Datatype, intent: i32, forms: &Forms) {
    put(bytes, 0, 540_i32.to_le_bytes());
    put(bytes, 4, *b"n+2\0\r\n\x1a\n");
    put(bytes, 12, datatype.code().to_le_bytes());
    put(bytes, 14, datatype.bits().to_le_bytes());
    for (a, n) in dim.into_iter().enumerate() {
        put(bytes, 16 + 8 * a, n.to_le_bytes());
    }
    for (a, x) in forms.pixdim.into_iter().chain([1.0; 4]).enumerate() {
        put(bytes, 104 + 8 * a, x.to_le_bytes());
    }
    put(bytes, 168, 544_i64.to_le_bytes());
    put(bytes, 176, 1_f64.to_le_bytes());
    put(bytes, 344, forms.qform.to_le_bytes());
    put(bytes, 348, forms.sform.to_le_bytes());
    for a in 0..3 {
        put(bytes, 352 + 8 * a, forms.quaternion[a].to_le_bytes());
        put(bytes, 376 + 8 * a, forms.shift[a].to_le_bytes());
        for c in 0..4 {
            put(bytes, 400 + 32 * a + 8 * c, forms.rows[a][c].to_le_bytes());
        }
    }
    put(bytes, 504, intent.to_le_bytes());
}
