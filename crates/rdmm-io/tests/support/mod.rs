//! Volumes, headers and comparisons that the tests share.
#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses a part of this")]

use nalgebra::DMatrix;
use rdmm_io::{Geometry, Meaning, Problem, Sample, Volume};

pub(crate) const SAMPLES: [Sample; 10] = [
    Sample::U8,
    Sample::I8,
    Sample::U16,
    Sample::I16,
    Sample::U32,
    Sample::I32,
    Sample::U64,
    Sample::I64,
    Sample::F32,
    Sample::F64,
];

/// A direction that turns about all axes; `flip` makes it left-handed.
pub(crate) fn oblique(axes: usize, flip: bool) -> DMatrix<f64> {
    let (s, c) = 0.3_f64.sin_cos();
    let mut turn = DMatrix::identity(axes, axes);
    for (a, b) in [(0, 1), (1, 2), (0, 2)].into_iter().filter(|&(_, b)| b < axes) {
        let mut plane = DMatrix::identity(axes, axes);
        (plane[(a, a)], plane[(a, b)], plane[(b, a)], plane[(b, b)]) = (c, -s, s, c);
        turn *= plane;
    }
    if flip {
        turn.column_mut(axes - 1).neg_mut();
    }
    turn
}

/// Oblique, anisotropic, away from the world's origin.
pub(crate) fn geometry(axes: usize, flip: bool) -> Geometry {
    Geometry {
        shape: [6, 5, 4][..axes].to_vec(),
        spacing: [0.7, 1.5, 3.0][..axes].to_vec(),
        origin: [-12.25, 30.5, 7.125][..axes].to_vec(),
        direction: oblique(axes, flip),
    }
}

/// Values up to the ends of the range of the type.
pub(crate) fn volume(axes: usize, components: usize, meaning: Meaning, sample: Sample) -> Volume {
    let geometry = geometry(axes, false);
    let count = components * geometry.shape.iter().product::<usize>();
    let (least, largest) = match sample {
        Sample::U8 => (0.0, 255.0),
        Sample::I8 => (-128.0, 127.0),
        Sample::U16 => (0.0, 65535.0),
        Sample::I16 => (-32768.0, 32767.0),
        Sample::U32 => (0.0, 4_294_967_295.0),
        Sample::I32 => (-2_147_483_648.0, 2_147_483_647.0),
        Sample::U64 => (0.0, 9_007_199_254_740_992.0),
        Sample::I64 => (-9_007_199_254_740_992.0, 9_007_199_254_740_992.0),
        _ => (-1.5, 2.25),
    };
    let value = |i: usize| {
        let x: f64 = least + (largest - least) * (i as f64 / (count - 1) as f64);
        match sample {
            // Exact in single precision.
            Sample::F32 => (x * 1024.0).round() / 1024.0,
            Sample::F64 => x,
            _ => x.round(),
        }
    };
    let values = (0..count).map(value).collect();
    Volume::new(geometry, components, meaning, sample, values)
}

/// Positions agree to `tolerance`, relative to a millimetre or to the number.
pub(crate) fn assert_same_geometry(found: &Geometry, expected: &Geometry, tolerance: f64) {
    assert_eq!(found.shape, expected.shape);
    let close = |a: &[f64], b: &[f64], what: &str| {
        assert_eq!(a.len(), b.len(), "{what}");
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{what}: {a} for {b}");
        }
    };
    close(&found.spacing, &expected.spacing, "spacing");
    close(&found.origin, &expected.origin, "origin");
    close(found.direction.as_slice(), expected.direction.as_slice(), "direction");
}

/// A `NIfTI`-1 header of an image of bytes, and the means to change it.
#[derive(Clone)]
pub(crate) struct Header {
    pub(crate) bytes: Vec<u8>,
    big: bool,
}

impl Header {
    pub(crate) fn one(dim: &[i16], datatype: i16, big: bool) -> Self {
        let mut header = Self { bytes: vec![0; 352], big };
        header.i32(0, 348).i16(70, datatype).f32(108, 352.0);
        for (axis, &n) in dim.iter().enumerate() {
            header.i16(40 + 2 * axis, n);
        }
        for axis in 0..8 {
            header.f32(76 + 4 * axis, 1.0);
        }
        header.bytes[123] = 2;
        header.bytes[344..348].copy_from_slice(b"n+1\0");
        header
    }

    fn put<const N: usize>(&mut self, at: usize, mut entry: [u8; N]) -> &mut Self {
        if self.big {
            entry.reverse();
        }
        self.bytes[at..at + N].copy_from_slice(&entry);
        self
    }

    pub(crate) fn i16(&mut self, at: usize, x: i16) -> &mut Self {
        self.put(at, x.to_le_bytes())
    }

    pub(crate) fn i32(&mut self, at: usize, x: i32) -> &mut Self {
        self.put(at, x.to_le_bytes())
    }

    pub(crate) fn i64(&mut self, at: usize, x: i64) -> &mut Self {
        self.put(at, x.to_le_bytes())
    }

    pub(crate) fn f32(&mut self, at: usize, x: f32) -> &mut Self {
        self.put(at, x.to_le_bytes())
    }

    pub(crate) fn f64(&mut self, at: usize, x: f64) -> &mut Self {
        self.put(at, x.to_le_bytes())
    }

    pub(crate) fn sform(&mut self, rows: [[f32; 4]; 3]) -> &mut Self {
        self.i16(254, 1);
        for (r, row) in rows.iter().enumerate() {
            for (c, &x) in row.iter().enumerate() {
                self.f32(280 + 16 * r + 4 * c, x);
            }
        }
        self
    }

    pub(crate) fn with(&self, data: &[u8]) -> Vec<u8> {
        [&self.bytes, data].concat()
    }
}

/// What reading such a file says.
pub(crate) fn read_as(name: &str, bytes: &[u8]) -> rdmm_io::Result<Volume> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("a file");
    rdmm_io::read(&path)
}

/// The message of a refused file.
pub(crate) fn refused(name: &str, bytes: &[u8]) -> String {
    match read_as(name, bytes) {
        Ok(volume) => format!("read: {volume:?}"),
        Err(error) => error.to_string(),
    }
}

/// The problem of a refused file.
pub(crate) fn problem(name: &str, bytes: &[u8]) -> Option<Problem> {
    read_as(name, bytes).err().map(|error| error.problem)
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(bytes).expect("memory");
    packed.finish().expect("memory")
}
