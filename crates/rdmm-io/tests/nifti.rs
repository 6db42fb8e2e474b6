//! `NIfTI` files of others: byte orders, versions, positions, and what is wrong with them.
#![expect(clippy::float_cmp, reason = "numbers that are exact")]

mod support;

use rdmm_io::{Meaning, Problem, Sample, read};
use support::{Header, assert_same_geometry, gzip, problem, read_as, refused};

fn ramp(count: usize) -> Vec<u8> {
    (0..=250).cycle().take(count).collect()
}

fn header(dim: &[i16], datatype: i16) -> Header {
    Header::one(dim, datatype, false)
}

fn cube() -> Vec<u8> {
    header(&[3, 4, 5, 6], 2).with(&ramp(120))
}

#[test]
fn big_endian_with_slope_and_intercept() {
    let mut header = Header::one(&[2, 4, 5], 4, true);
    header.f32(112, 0.5).f32(116, -10.0).sform([
        [-2.0, 0.0, 0.0, 7.0],
        [0.0, -3.0, 0.0, 8.0],
        [0.0, 0.0, 1.0, 0.0],
    ]);
    let data: Vec<u8> = (0..20_i16).flat_map(|x| (300 * x - 1000).to_be_bytes()).collect();
    let found = read_as("a.nii", &header.with(&data)).unwrap();
    let expected: Vec<f64> = (0..20).map(|x| 0.5 * f64::from(300 * x - 1000) - 10.0).collect();
    assert_eq!(found.values, expected);
    assert_eq!(found.sample, Sample::F32, "16 bits with a slope");
    assert_eq!(found.geometry.spacing, [2.0, 3.0]);
    assert_eq!(found.geometry.origin, [-7.0, -8.0], "LPS");
    assert_eq!(found.geometry.direction, nalgebra::DMatrix::identity(2, 2));
}

#[test]
fn a_slope_of_zero_or_none_changes_nothing() {
    for slope in [0.0, f32::NAN, f32::INFINITY] {
        let mut header = header(&[2, 4, 5], 2);
        header.f32(112, slope).f32(116, 3.0);
        let found = read_as("a.nii", &header.with(&ramp(20))).unwrap();
        assert_eq!(found.sample, Sample::U8);
        assert_eq!(found.values[19], 19.0);
    }
}

#[test]
fn the_second_version_in_both_byte_orders() {
    for big in [false, true] {
        let mut header = Header::one(&[], 0, big);
        header.bytes = vec![0; 544];
        header.i32(0, 540).i16(12, 2).i64(168, 544);
        header.bytes[4..12].copy_from_slice(b"n+2\0\r\n\x1a\n");
        for (axis, n) in [3, 4, 5, 6, 1, 1, 1, 1].into_iter().enumerate() {
            header.i64(16 + 8 * axis, n);
        }
        for (axis, x) in [1.0, 2.0, 3.0, 4.0].into_iter().enumerate() {
            header.f64(104 + 8 * axis, x);
        }
        header.i32(348, 2);
        let rows = [[-2.0, 0.0, 0.0, 1.5], [0.0, 0.0, 4.0, 2.5], [0.0, 3.0, 0.0, 3.5]];
        for (r, row) in rows.iter().enumerate() {
            for (c, &x) in row.iter().enumerate() {
                header.f64(400 + 32 * r + 8 * c, x);
            }
        }
        let found = read_as("a.nii.gz", &gzip(&header.with(&ramp(120)))).unwrap();
        assert_eq!(found.geometry.shape, [4, 5, 6]);
        assert_eq!(found.geometry.spacing, [2.0, 3.0, 4.0]);
        assert_eq!(found.geometry.origin, [-1.5, -2.5, 3.5]);
        assert_eq!(found.geometry.direction[(1, 2)], -1.0, "k runs to the front");
        assert_eq!(found.values[7], 7.0);
    }
}

#[test]
fn gzip_of_several_members_and_extensions() {
    let mut header = header(&[3, 4, 5, 6], 2);
    header.f32(108, 352.0 + 32.0);
    let bytes = [header.bytes.clone(), vec![9; 32], ramp(120)].concat();
    let members: Vec<u8> = bytes.chunks(100).flat_map(gzip).collect();
    let found = read_as("a.nii.gz", &members).unwrap();
    assert_eq!(found.values[..3], [0.0, 1.0, 2.0]);
    let padded = [members.clone(), vec![0; 512]].concat();
    assert_eq!(read_as("a.nii.gz", &padded).unwrap(), found, "padding after the end");
    // The content counts, not the name.
    assert_eq!(read_as("a.nii", &members).unwrap(), found);
    assert_eq!(read_as("a.nii.gz", &bytes).unwrap(), found);
    assert_eq!(read_as("no_ending", &bytes).unwrap(), found);
}

#[test]
fn pairs_of_header_and_data() {
    let folder = tempfile::tempdir().unwrap();
    let mut header = header(&[3, 4, 5, 6], 2);
    header.f32(108, 0.0).bytes[344..348].copy_from_slice(b"ni1\0");
    std::fs::write(folder.path().join("a.hdr"), &header.bytes[..348]).unwrap();
    let missing = read(folder.path().join("a.hdr")).unwrap_err();
    assert!(missing.path.ends_with("a.img"), "{missing}");
    std::fs::write(folder.path().join("a.img"), ramp(120)).unwrap();
    let found = read(folder.path().join("a.hdr")).unwrap();
    assert_eq!(found.values[119], 119.0);
    assert_eq!(read(folder.path().join("a.img")).unwrap(), found);
    std::fs::remove_file(folder.path().join("a.img")).unwrap();
    std::fs::write(folder.path().join("a.img.gz"), gzip(&ramp(120))).unwrap();
    assert_eq!(read(folder.path().join("a.hdr")).unwrap(), found);
    assert_eq!(read(folder.path().join("a.img.gz")).unwrap(), found);
}

#[test]
fn the_quaternion_and_the_spacing_alone() {
    // Half a turn about z, the third axis flipped.
    let mut turned = header(&[3, 4, 5, 6], 2);
    turned.i16(252, 1).f32(76, -1.0).f32(80, 2.0).f32(84, 3.0).f32(88, 4.0);
    turned.f32(264, 1.0).f32(268, 5.0);
    let found = read_as("a.nii", &turned.with(&ramp(120))).unwrap();
    assert_eq!(found.geometry.spacing, [2.0, 3.0, 4.0]);
    let grid = found.geometry.grid::<3>().unwrap();
    // RAS (5, 0, 0) + (−2, −3, −4).
    for (a, b) in grid.to_world([1.0; 3]).iter().zip([-3.0, 3.0, -4.0]) {
        assert!((a - b).abs() < 1e-12, "{a} for {b}");
    }
    turned.i16(252, 0);
    let found = read_as("a.nii", &turned.with(&ramp(120))).unwrap();
    assert_eq!(found.geometry.origin, [0.0; 3]);
    assert_eq!(found.geometry.direction, nalgebra::DMatrix::identity(3, 3), "LPS, as in ITK");
    assert_eq!(found.geometry.spacing, [2.0, 3.0, 4.0]);
}

#[test]
fn units_become_millimetres() {
    for (code, unit) in [(0, 1.0), (1, 1000.0), (2, 1.0), (3, 0.001), (10, 1.0)] {
        let mut header = header(&[3, 4, 5, 6], 2);
        header.sform([[2.0, 0.0, 0.0, 7.0], [0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0]]);
        header.bytes[123] = code;
        let found = read_as("a.nii", &header.with(&ramp(120))).unwrap();
        assert!((found.geometry.spacing[0] - 2.0 * unit).abs() < 1e-12 * unit);
        assert!((found.geometry.origin[0] + 7.0 * unit).abs() < 1e-12 * unit);
    }
    let mut header = header(&[3, 4, 5, 6], 2);
    // Codes that mean nothing: millimetres, as SimpleITK 2.5.7 and nibabel read them, and a word of it.
    for code in [4, 7] {
        header.bytes[123] = code;
        let found = read_as("a.nii", &header.with(&ramp(120))).unwrap();
        assert_eq!(found.geometry.spacing, [1.0; 3]);
        assert!(found.warnings[0].contains(&format!("xyzt_units has the unit of length {code}")));
    }
}

#[test]
fn slices_lie_in_their_plane() {
    let mut sagittal = header(&[3, 5, 6, 1], 2);
    sagittal.sform([[0.0, 0.0, 4.0, 7.0], [2.0, 0.0, 0.0, 8.0], [0.0, 3.0, 0.0, 9.0]]);
    let found = read_as("a.nii", &sagittal.with(&ramp(30))).unwrap();
    assert_eq!(found.geometry.shape, [5, 6]);
    assert_eq!(found.geometry.spacing, [2.0, 3.0]);
    // i runs to the front: the first axis is −y of LPS, and the slice begins at 8 along it.
    assert_eq!(found.geometry.origin, [8.0, 9.0]);
    assert_eq!(found.geometry.direction, nalgebra::DMatrix::identity(2, 2));
}

#[test]
fn components_time_points_and_colours() {
    let found = read_as("a.nii", &header(&[4, 4, 5, 6, 2], 2).with(&ramp(240))).unwrap();
    assert_eq!((found.components, found.meaning), (2, Meaning::Values));
    assert_eq!(found.values[121], 121.0, "components one after the other");
    let refusal = found.image::<3>().unwrap_err().to_string();
    assert!(refusal.contains("extract one"), "{refusal}");

    let mut vectors = header(&[5, 4, 5, 1, 1, 2], 2);
    let with = vectors.i16(68, 1007).with(&ramp(40));
    let found = read_as("a.nii", &with).unwrap();
    assert_eq!((found.components, found.meaning), (2, Meaning::Vectors));
    assert_eq!(found.geometry.shape, [4, 5]);

    let data: Vec<u8> = (0..60_i8).flat_map(i8::to_le_bytes).collect();
    let mut displacements = header(&[5, 4, 5, 1, 1, 3], 256);
    let found = read_as("a.nii", &displacements.i16(68, 1006).with(&data)).unwrap();
    assert_eq!(found.meaning, Meaning::Vectors);
    assert_eq!([1, 21, 41].map(|i| found.values[i]), [-1.0, -21.0, 41.0], "from RAS to LPS");

    let found = read_as("a.nii", &header(&[2, 4, 5], 128).with(&ramp(60))).unwrap();
    assert_eq!((found.components, found.meaning), (3, Meaning::Colours));
    assert_eq!([0, 20, 40].map(|i| found.values[i]), [0.0, 1.0, 2.0], "interleaved in the file");
    let luma = found.image::<2>().unwrap().data()[0];
    assert!((luma - (0.587 + 2.0 * 0.114)).abs() < 1e-6, "{luma}");

    let both = refused("a.nii", &header(&[5, 4, 5, 6, 2, 3], 2).with(&ramp(720)));
    assert!(both.contains("extract one volume"), "{both}");
}

#[test]
fn files_that_end_early() {
    let whole = cube();
    for length in [3, 100, 347] {
        let found = problem("a.nii", &whole[..length]);
        assert!(matches!(found, Some(Problem::Truncated { what: "header", .. })), "{found:?}");
    }
    let found = problem("a.nii", &whole[..400]);
    let data = Some(Problem::Truncated { what: "voxels", expected: 120, found: 48 });
    assert_eq!(format!("{found:?}"), format!("{data:?}"));
    // Data that cannot be packed, so that half of the file is half of the data.
    let noise = (0..120_000_u32).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[2]);
    let noise: Vec<u8> = noise.collect();
    let packed = gzip(&header(&[3, 40, 50, 60], 2).with(&noise));
    let found = problem("a.nii.gz", &packed[..packed.len() / 2]);
    assert!(matches!(found, Some(Problem::Truncated { expected: 120_000, .. })), "{found:?}");
    // The sums at the end.
    let message = refused("a.nii.gz", &packed[..packed.len() - 4]);
    assert!(message.contains("copy the file again"), "{message}");
    let mut changed = packed.clone();
    let last = changed.len() - 5;
    changed[last] ^= 1;
    let message = refused("a.nii.gz", &changed);
    assert!(message.contains("copy the file again"), "{message}");
}

#[test]
fn claims_of_headers_are_not_believed() {
    // 2^44 voxels of eight bytes, and more than any number can count.
    for dim in [[3, 32767, 32767, 16384, 1, 1], [5, 32767, 32767, 32767, 1, 32767]] {
        let header = header(&dim, 64);
        for bytes in [header.with(&ramp(120)), gzip(&header.with(&ramp(120)))] {
            let found = problem("a.nii", &bytes);
            let refused = matches!(
                found,
                Some(
                    Problem::Truncated { found: 120, .. } | Problem::Content { what: "shape", .. }
                )
            );
            assert!(refused, "{found:?}");
        }
    }
    let mut far = header(&[3, 4, 5, 6], 2);
    let message = refused("a.nii", &far.f32(108, 1e12).with(&ramp(120)));
    assert!(message.contains("truncated"), "{message}");
    let message = refused("a.nii", &far.f32(108, f32::NAN).with(&ramp(120)));
    assert!(message.contains("vox_offset"), "{message}");
}

#[test]
fn headers_that_are_refused_say_why() {
    let cases: [(Vec<u8>, &str); 8] = [
        (header(&[1, 120], 2).with(&ramp(120)), "2 to 7 axes"),
        (header(&[3, 4, -5, 6], 2).with(&ramp(120)), "-5 along axis 1"),
        (header(&[3, 4, 0, 6], 2).with(&ramp(120)), "0 along axis 1"),
        (header(&[3, 4, 5, 6], 32).with(&ramp(960)), "complex"),
        (header(&[3, 4, 5, 6], 1536).with(&ramp(1920)), "128 bits"),
        (header(&[3, 4, 5, 6], 1).with(&ramp(120)), "single bits"),
        (
            header(&[3, 4, 5, 6], 2)
                .sform([[1.0, 0.1, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
                .with(&ramp(120)),
            "sheared",
        ),
        (
            header(&[3, 4, 5, 6], 2)
                .sform([[1.0, 0.0, 0.0, f32::NAN], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
                .with(&ramp(120)),
            "origin",
        ),
    ];
    for (bytes, expected) in cases {
        let message = refused("a.nii", &bytes);
        assert!(!message.starts_with("read: ") && message.contains(expected), "{message}");
    }
    let mut analyze = cube();
    analyze[344..348].copy_from_slice(&[0; 4]);
    assert!(refused("a.nii", &analyze).contains("Analyze"));
    assert!(refused("a.nii", b"something else").contains("no NIfTI"));
    assert!(refused("a.txt", b"something else").contains("MetaImage"));
    assert!(refused("a.nii", b"").contains("truncated"));
}

#[test]
fn a_position_of_single_precision_is_made_orthonormal() {
    let (s, c) = 0.3_f32.sin_cos();
    let mut header = header(&[3, 4, 5, 6], 2);
    header.sform([
        [-0.7 * c, 1.5 * s, 0.0, 0.0],
        [-0.7 * s, -1.5 * c, 0.0, 0.0],
        [3e-4, 0.0, 3.0, 0.0],
    ]);
    let found = read_as("a.nii", &header.with(&ramp(120))).unwrap();
    found.geometry.grid::<3>().unwrap();
    let off = found.geometry.direction.transpose() * &found.geometry.direction;
    let off = (off - nalgebra::DMatrix::identity(3, 3)).amax();
    assert!(off < 1e-14, "to rounding: {off}");
    let (s, c) = (f64::from(s), f64::from(c));
    let direction = [c, s, 0.0, -s, c, 0.0, 0.0, 0.0, 1.0];
    let expected = rdmm_io::Geometry {
        shape: vec![4, 5, 6],
        spacing: vec![0.7, 1.5, 3.0],
        origin: vec![0.0; 3],
        direction: nalgebra::DMatrix::from_column_slice(3, 3, &direction),
    };
    // The tilt of 3e-4/0.7 is shared by two axes.
    assert_same_geometry(&found.geometry, &expected, 3e-4);
}

#[test]
fn integers_that_are_not_exact_are_refused() {
    let data: Vec<u8> = (0..20).flat_map(|i: i64| ((1 << 53) - 10 + i).to_le_bytes()).collect();
    let message = refused("a.nii", &header(&[2, 4, 5], 1024).with(&data));
    assert!(message.contains("2^53"), "{message}");
}

/// Position and codes of a scan: spacing 2, 2, 2.5, LPS origin (-30, 20, -10) in `SimpleITK` 2.5.7 (RAS (30, -20, -10)).
fn scan(qform: i16, sform: i16) -> Header {
    let mut header = header(&[3, 4, 5, 6], 2);
    header.sform([[-2.0, 0.0, 0.0, 30.0], [0.0, 2.0, 0.0, -20.0], [0.0, 0.0, 2.5, -10.0]]);
    // diag(-1, 1, 1) is half a turn about y, the third axis mirrored.
    header.i16(252, qform).i16(254, sform).f32(76, -1.0);
    header.f32(80, 2.0).f32(84, 2.0).f32(88, 2.5).f32(260, 1.0);
    header.f32(268, 30.0).f32(272, -20.0).f32(276, -10.0);
    header
}

/// Holes that `nifti_clib` fills, and so all programs that read by it; numbers of `SimpleITK` 2.5.7.
#[test]
fn holes_of_the_header_are_filled() {
    let place = |header: &Header| {
        let found = read_as("a.nii", &header.with(&ramp(120))).unwrap();
        assert_eq!(found.geometry.shape, [4, 5, 6]);
        assert_eq!(found.geometry.origin, [-30.0, 20.0, -10.0]);
        (found.geometry.spacing, found.warnings)
    };
    let none = Vec::<String>::new();
    assert_eq!(place(&scan(1, 1)), (vec![2.0, 2.0, 2.5], none.clone()));
    let mut zero = scan(1, 1);
    zero.i16(40, 4).i16(48, 0);
    assert_eq!(place(&zero), (vec![2.0, 2.0, 2.5], none.clone()), "dim[4] = 0");
    let mut spacing = scan(1, 0);
    let (found, warnings) = place(spacing.f32(88, 0.0));
    assert_eq!(found, [2.0, 2.0, 1.0]);
    assert!(
        warnings.len() == 1 && warnings[0].contains("pixdim is 0 along axis 2"),
        "{warnings:?}"
    );
    // The sform needs no pixdim.
    let mut spacing = scan(0, 1);
    spacing.f32(80, 0.0).f32(84, 0.0).f32(88, 0.0);
    assert_eq!(place(&spacing).0, [2.0, 2.0, 2.5]);
}

#[test]
fn what_follows_packed_data_is_passed_over() {
    let whole = scan(1, 1).with(&ramp(120));
    let expected = read_as("a.nii.gz", &gzip(&whole)).unwrap();
    for tail in [&b"\x1fjunk"[..], b"\x1f", b"\0\x1f\x8b", b"garbage"] {
        let bytes = [gzip(&whole), tail.to_vec()].concat();
        assert_eq!(read_as("a.nii.gz", &bytes).unwrap(), expected, "{tail:?}");
    }
    // A member that is begun is one.
    let bytes = [gzip(&whole), b"\x1f\x8bjunk".to_vec()].concat();
    assert!(refused("a.nii.gz", &bytes).contains("copy the file again"));
    // Members that meet at every place of a buffer.
    let members: Vec<u8> = whole.chunks(1).flat_map(gzip).collect();
    assert_eq!(read_as("a.nii.gz", &members).unwrap(), expected);
}

/// An sform of 3 % shear, or none at all, beside a good qform: `SimpleITK` 2.5.7 has the qform, spacing 2, 2, 2.5.
#[test]
fn a_form_that_is_no_place_gives_way_to_the_other() {
    let sheared = [[-2.0, 0.06, 0.0, 30.0], [0.0, 2.0, 0.0, -20.0], [0.0, 0.0, 2.5, -10.0]];
    for (rows, part) in [(sheared, "sheared"), ([[0.0; 4]; 3], "spacing")] {
        let mut header = scan(1, 1);
        header.sform(rows);
        let found = read_as("a.nii", &header.with(&ramp(120))).unwrap();
        assert_eq!(
            found.geometry,
            read_as("a.nii", &scan(1, 0).with(&ramp(120))).unwrap().geometry
        );
        let [warning] = found.warnings.as_slice() else { panic!("{:?}", found.warnings) };
        assert!(warning.contains("the sform (code 1) is no place"), "{warning}");
        assert!(
            warning.contains(part) && warning.contains("the qform (code 1) is taken"),
            "{warning}"
        );
        // Alone it is refused.
        header.i16(252, 0);
        assert!(refused("a.nii", &header.with(&ramp(120))).contains(part));
    }
}

#[test]
fn a_scale_of_the_sform_that_pixdim_has_not_is_said() {
    // 1.07 of the spacing: nibabel has 2.14, SimpleITK 2 (and warns).
    let mut header = scan(0, 1);
    header.sform([[-2.14, 0.0, 0.0, 30.0], [0.0, 2.14, 0.0, -20.0], [0.0, 0.0, 2.675, -10.0]]);
    let found = read_as("a.nii", &header.with(&ramp(120))).unwrap();
    assert!((found.geometry.spacing[0] - 2.14).abs() < 1e-6);
    let [warning] = found.warnings.as_slice() else { panic!("{:?}", found.warnings) };
    assert!(
        warning.contains("2.14") && warning.contains("pixdim one of [2.0, 2.0, 2.5]"),
        "{warning}"
    );
    // Headers round: 2.0005 is 2.
    header.f32(80, 2.1405).f32(84, 2.14).f32(88, 2.675);
    assert!(read_as("a.nii", &header.with(&ramp(120))).unwrap().warnings.is_empty());
    // A slice has no third axis to be wrong about.
    let mut slice = crate::header(&[2, 4, 5], 2);
    slice.sform([[-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0; 4]]).f32(88, 0.0);
    assert!(read_as("a.nii", &slice.with(&ramp(20))).unwrap().warnings.is_empty());
    slice.i16(254, 0);
    assert!(read_as("a.nii", &slice.with(&ramp(20))).unwrap().warnings.is_empty());
}

/// Both forms, eight millimetres apart: results on that lattice carry both, so that they lie on the file in programs
/// that prefer either. The header's bytes are the truth.
#[test]
fn both_forms_are_kept_where_they_differ() {
    let mut header = scan(1, 2);
    header.sform([[-2.0, 0.0, 0.0, 30.0], [0.0, 2.0, 0.0, -12.0], [0.0, 0.0, 2.5, -10.0]]);
    header.i16(254, 2);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.nii");
    let fixed = read_as("a.nii", &header.with(&ramp(120))).unwrap();
    // SimpleITK 2.5.7 takes the qform of such a file.
    assert_eq!(fixed.geometry.origin, [-30.0, 20.0, -10.0]);
    let [warning] = fixed.warnings.as_slice() else { panic!("{:?}", fixed.warnings) };
    assert!(warning.contains("up to 8.000 mm apart: the qform is taken"), "{warning}");
    let result = rdmm_io::Volume::of_image(&fixed.image::<3>().unwrap());
    rdmm_io::write(&path, &result.clone().placed_as(&fixed)).unwrap();
    let forms =
        |bytes: &[u8]| (bytes[252..256].to_vec(), bytes[76..92].to_vec(), bytes[256..328].to_vec());
    let written = std::fs::read(&path).unwrap();
    assert_eq!(forms(&written), forms(&header.bytes));
    assert_eq!(read(&path).unwrap().geometry, fixed.geometry);
    // On another lattice they are of no use.
    let mut other = result.placed_as(&fixed);
    other.geometry.origin[1] += 3.0;
    rdmm_io::write(&path, &other).unwrap();
    let written = std::fs::read(&path).unwrap();
    assert_eq!(written[252..256], [1, 0, 1, 0], "of the lattice, as scanners give it");
    assert_eq!(read(&path).unwrap().geometry.origin, [-30.0, 23.0, -10.0]);
}

#[test]
fn codes_of_a_template_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.nii.gz");
    for (qform, sform) in [(4, 4), (0, 4), (1, 0), (0, 0)] {
        let fixed = read_as("a.nii", &scan(qform, sform).with(&ramp(120))).unwrap();
        assert_eq!(fixed.warnings, Vec::<String>::new());
        rdmm_io::write(&path, &fixed).unwrap();
        let again = read(&path).unwrap();
        assert_eq!((&again.geometry, &again.forms), (&fixed.geometry, &fixed.forms));
        assert!(again.forms.is_some(), "{qform} {sform}");
    }
    // What this crate writes needs none.
    assert_eq!(read_as("a.nii", &scan(1, 1).with(&ramp(120))).unwrap().forms, None);
}
