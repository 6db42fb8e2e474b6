//! PNG and `.npy`: what the round trips do not reach.
#![expect(clippy::float_cmp, reason = "numbers that are exact")]

mod support;

use png::{BitDepth, ColorType, Encoder};
use rdmm_io::{Meaning, Problem, Sample, npy, read, read_labels, write};
use support::{problem, read_as, refused, volume};

/// A picture of 7 columns and 5 rows.
fn picture(colour: ColorType, depth: BitDepth, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, 7, 5);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    if colour == ColorType::Indexed {
        encoder.set_palette(vec![255, 0, 0, 0, 255, 0, 0, 0, 255]);
    }
    let mut writer = encoder.write_header().expect("a header");
    writer.write_image_data(data).expect("data");
    writer.finish().expect("an end");
    bytes
}

#[test]
fn samples_of_few_bits_are_not_scaled() {
    // 7 samples of a bit and one of padding a row.
    let found = read_as("a.png", &picture(ColorType::Grayscale, BitDepth::One, &[0b1010_0110; 5]));
    let found = found.unwrap();
    assert_eq!(found.values[..7], [1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
    assert_eq!(found.values[7], 1.0, "the second row");
    assert_eq!(found.geometry.shape, [7, 5]);
    let rows = [0b0001_1011, 0b1101_0000].repeat(5);
    let found = read_as("a.png", &picture(ColorType::Grayscale, BitDepth::Two, &rows)).unwrap();
    assert_eq!(found.values[..7], [0.0, 1.0, 2.0, 3.0, 3.0, 1.0, 0.0]);
}

#[test]
fn palettes_are_colours_for_images_and_indices_for_labels() {
    let indices: Vec<u8> = (0..35).map(|i| i % 3).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    std::fs::write(&path, picture(ColorType::Indexed, BitDepth::Eight, &indices)).unwrap();
    let labels = read_labels::<2>(&path).unwrap();
    // Column 2 of row 0, and column 0 of row 1: array axis 0 runs along the columns.
    assert_eq!(labels.grid().shape(), [7, 5]);
    assert_eq!([labels.data()[2 * 5], labels.data()[1]], [2, 1]);
    let found = read(&path).unwrap();
    assert_eq!(found.meaning, Meaning::Indexed);
    let luma = found.image::<2>().unwrap().data()[0];
    assert!((luma - 0.299 * 255.0).abs() < 1e-4, "red: {luma}");
    let again = folder.path().join("b.png");
    write(&again, &found).unwrap();
    assert_eq!(read(&again).unwrap(), found);
    let message = write(folder.path().join("b.nii"), &found).unwrap_err().to_string();
    assert!(message.contains("palette"), "{message}");
    let outside = picture(ColorType::Indexed, BitDepth::Eight, &[0, 1, 2, 3, 0, 0, 0].repeat(5));
    assert!(refused("a.png", &outside).contains("palette"));
}

#[test]
fn opacity_beside_grey_is_dropped() {
    let data: Vec<u8> = (0..35).flat_map(|i| [i, 200]).collect();
    let found =
        read_as("a.png", &picture(ColorType::GrayscaleAlpha, BitDepth::Eight, &data)).unwrap();
    assert_eq!((found.components, found.values.len()), (1, 35));
    assert_eq!(found.values[34], 34.0);
    assert!(found.warnings[0].contains("transparent"), "{:?}", found.warnings);
    let data: Vec<u8> = (0..35).flat_map(|i| [i, 255]).collect();
    let found = read_as("a.png", &picture(ColorType::GrayscaleAlpha, BitDepth::Eight, &data));
    assert_eq!(found.unwrap().warnings, Vec::<String>::new(), "all opaque");
}

#[test]
fn what_is_transparent_has_no_grey_value() {
    let pixels = |opacity: fn(u8) -> u8| -> Vec<u8> {
        (0..35).flat_map(|i| [i, i, i, opacity(i)]).collect()
    };
    let clear =
        picture(ColorType::Rgba, BitDepth::Eight, &pixels(|i| if i == 9 { 254 } else { 255 }));
    let found = read_as("a.png", &clear).unwrap();
    assert_eq!((found.components, found.values[3 * 35 + 9]), (4, 254.0), "the file is read");
    let message = found.image::<2>().unwrap_err().to_string();
    // The tenth pixel of rows of seven: column 2 of row 1.
    assert!(message.contains("opaque") && message.contains("254 at the pixel [2, 1]"), "{message}");
    let opaque = picture(ColorType::Rgba, BitDepth::Eight, &pixels(|_| 255));
    let image = read_as("a.png", &opaque).unwrap().image::<2>().unwrap();
    assert!(
        (image.data()[5] - 1.0).abs() < 1e-6,
        "the second column of the first row is (1, 1, 1)"
    );
}

#[test]
fn damaged_pictures_are_refused() {
    let whole = picture(ColorType::Grayscale, BitDepth::Eight, &[7; 35]);
    for length in [10, 30, whole.len() - 20] {
        assert!(problem("a.png", &whole[..length]).is_some(), "{length} bytes");
    }
    let mut changed = whole.clone();
    changed[45] ^= 4;
    assert!(problem("a.png", &changed).is_some());
    // 2^31 − 1 pixels a side, with the sum that belongs to such a header.
    let mut far = Vec::new();
    let mut encoder = Encoder::new(&mut far, 0x7fff_ffff, 0x7fff_ffff);
    encoder.set_color(ColorType::Grayscale);
    encoder.set_depth(BitDepth::Eight);
    let header = encoder.write_header().map(drop);
    header.unwrap();
    far.truncate(33);
    let message = refused("a.png", &[&far, &whole[33..]].concat());
    assert!(message.contains("claimed") || message.contains("PNG"), "{message}");
}

#[test]
fn pictures_hold_integers_of_two_axes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    let mut grey = volume(2, 1, Meaning::Values, Sample::F32);
    let message = write(&path, &grey).unwrap_err().to_string();
    assert!(message.contains("scale and round"), "{message}");
    grey.values.iter_mut().enumerate().for_each(|(i, x)| *x = i as f64);
    write(&path, &grey).unwrap();
    assert_eq!(read(&path).unwrap().sample, Sample::U8, "integers up to 255");
    grey.values[0] = 256.0;
    write(&path, &grey).unwrap();
    assert_eq!(read(&path).unwrap().values, grey.values, "in 16 bits");
    grey.values[0] = 65536.0;
    assert!(write(&path, &grey).is_err());
    let found = write(&path, &volume(3, 1, Meaning::Values, Sample::U8)).unwrap_err();
    assert!(matches!(found.problem, Problem::Axes { expected: 2, found: 3 }), "{found}");
    assert!(write(&path, &volume(2, 2, Meaning::Vectors, Sample::F32)).is_err());
}

/// A file of version 1 or more.
fn array(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(header.len()).expect("short").to_le_bytes();
    let length = if version == 1 { &length[..2] } else { &length[..] };
    [b"\x93NUMPY", &[version, 0][..], length, header.as_bytes(), data].concat()
}

fn read_array(bytes: &[u8]) -> rdmm_io::Result<npy::Array> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.npy");
    std::fs::write(&path, bytes).expect("a file");
    npy::read(&path)
}

#[test]
fn arrays_of_every_type_and_order() {
    let header = |descr: &str, fortran: &str| {
        format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': (2, 3), }}\n")
    };
    let six = [0_u8, 1, 2, 3, 4, 5];
    let cases: [(&str, Vec<u8>); 12] = [
        ("|u1", six.to_vec()),
        ("|i1", six.to_vec()),
        ("<u2", six.iter().flat_map(|&x| u16::from(x).to_le_bytes()).collect()),
        (">i2", six.iter().flat_map(|&x| i16::from(x).to_be_bytes()).collect()),
        ("<u4", six.iter().flat_map(|&x| u32::from(x).to_le_bytes()).collect()),
        (">i4", six.iter().flat_map(|&x| i32::from(x).to_be_bytes()).collect()),
        (">u8", six.iter().flat_map(|&x| u64::from(x).to_be_bytes()).collect()),
        ("<i8", six.iter().flat_map(|&x| i64::from(x).to_le_bytes()).collect()),
        ("<f4", six.iter().flat_map(|&x| f32::from(x).to_le_bytes()).collect()),
        (">f4", six.iter().flat_map(|&x| f32::from(x).to_be_bytes()).collect()),
        ("<f8", six.iter().flat_map(|&x| f64::from(x).to_le_bytes()).collect()),
        (">f8", six.iter().flat_map(|&x| f64::from(x).to_be_bytes()).collect()),
    ];
    for (descr, data) in cases {
        for version in [1, 2, 3] {
            let found = read_array(&array(version, &header(descr, "False"), &data)).unwrap();
            assert_eq!(found.shape, [2, 3]);
            assert_eq!(found.values, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], "{descr}");
        }
        let found = read_array(&array(1, &header(descr, "True"), &data)).unwrap();
        assert_eq!(found.values, [0.0, 2.0, 4.0, 1.0, 3.0, 5.0], "{descr}");
    }
    let found = read_array(&array(1, &header("|b1", "False"), &[0, 1, 0, 1, 1, 0])).unwrap();
    assert_eq!(found.values, [0.0, 1.0, 0.0, 1.0, 1.0, 0.0]);
    let one = "{'descr': '<f4', 'fortran_order': False, 'shape': (), }\n";
    assert_eq!(read_array(&array(1, one, &1_f32.to_le_bytes())).unwrap().values, [1.0]);
}

#[test]
fn written_arrays_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    for shape in [vec![], vec![6], vec![2, 3], vec![1, 2, 3]] {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| i as f32 - 0.5).collect();
        npy::write_f32(&path, &shape, &values).unwrap();
        let found = npy::read(&path).unwrap();
        assert_eq!(found.shape, shape);
        assert!(
            found.values.iter().zip(&values).all(|(a, &b)| a.to_bits() == f64::from(b).to_bits())
        );
        assert_eq!((std::fs::metadata(&path).unwrap().len() - 4 * values.len() as u64) % 64, 0);
    }
    assert!(npy::write_f32(&path, &[2, 3], &[0.0; 5]).is_err());
}

#[test]
fn damaged_arrays_are_refused() {
    let header = |descr: &str, shape: &str| {
        format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n")
    };
    let cases = [
        (array(1, &header("'<f2'", "(2, 3)"), &[0; 12]), "descr"),
        (array(1, &header("'<c8'", "(2, 3)"), &[0; 48]), "descr"),
        (array(1, &header("'|O'", "(2, 3)"), &[0; 48]), "descr"),
        (array(1, &header("[('a', '<f4')]", "(2, 3)"), &[0; 24]), "descr"),
        (array(1, &header("'<f4'", "(2, -3)"), &[0; 24]), "shape"),
        (array(1, &header("'<f4'", "3"), &[0; 24]), "shape"),
        (array(1, &header("'<f4'", "(1099511627776, 2)"), &[0; 24]), "truncated"),
        (array(1, &header("'<f4'", "(1099511627776, 1099511627776)"), &[0; 24]), "shape"),
        (array(1, &header("'<f4'", "(2, 3)"), &[0; 23]), "truncated"),
        (array(1, "{'descr': '<f4'}", &[]), "shape"),
        (array(4, &header("'<f4'", "(2, 3)"), &[0; 24]), "version"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "truncated"),
        (b"\x93NUM".to_vec(), "truncated"),
        (b"something else".to_vec(), "numpy"),
    ];
    for (bytes, expected) in cases {
        let message = read_array(&bytes).unwrap_err().to_string();
        assert!(message.contains(expected), "{expected}: {message}");
    }
}
