//! NRRD and `MetaImage` files of others, and what is wrong with them.
#![expect(clippy::float_cmp, reason = "numbers that are exact")]

mod support;

use rdmm_io::{Meaning, Problem, Sample, read};
use support::{gzip, problem, read_as, refused};

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [header.as_bytes(), data].concat()
}

const NRRD: &str = "NRRD0005\n# a comment\ntype: uint8\ndimension: 2\nsizes: 4 5\nencoding: raw\n";

fn bytes(count: u8) -> Vec<u8> {
    (0..count).collect()
}

#[test]
fn spaces_are_turned_into_lps() {
    for (space, signs) in [
        ("left-posterior-superior", [1.0, 1.0, 1.0]),
        ("LPS", [1.0, 1.0, 1.0]),
        ("right-anterior-superior", [-1.0, -1.0, 1.0]),
        ("RAS", [-1.0, -1.0, 1.0]),
        ("left-anterior-superior", [1.0, -1.0, 1.0]),
        ("scanner-xyz", [1.0, 1.0, 1.0]),
    ] {
        let header = format!(
            "NRRD0004\ntype: short\ndimension: 3\nspace: {space}\nsizes: 4 5 6\n\
             space directions: (2,0,0) (0, 0, 3) (0,4,0)\nspace units: \"mm\" \"mm\" \"mm\"\n\
             kinds: domain domain domain\nendian: big\nencoding: raw\nspace origin: (7,8,9)\nkey:=value\n\n"
        );
        let data: Vec<u8> = (0..120_i16).flat_map(|x| (x - 60).to_be_bytes()).collect();
        let found = read_as("a.nrrd", &file(&header, &data)).unwrap();
        assert_eq!(found.sample, Sample::I16);
        assert_eq!(found.values[..2], [-60.0, -59.0]);
        assert_eq!(found.geometry.spacing, [2.0, 3.0, 4.0]);
        let expected: Vec<f64> = [7.0, 8.0, 9.0].iter().zip(signs).map(|(x, s)| x * s).collect();
        assert_eq!(found.geometry.origin, expected, "{space}");
        assert_eq!(found.geometry.direction[(0, 0)], signs[0]);
        assert_eq!(found.geometry.direction[(2, 1)], 1.0);
        assert_eq!(found.geometry.direction[(1, 2)], signs[1]);
    }
}

#[test]
fn encodings_of_nrrd() {
    let raw = read_as("a.nrrd", &file(&format!("{NRRD}spacings: 0.5 2\n\n"), &bytes(20))).unwrap();
    assert_eq!(raw.geometry.spacing, [0.5, 2.0]);
    assert_eq!(raw.geometry.origin, [0.0; 2]);
    assert_eq!(raw.values[19], 19.0);
    let header = NRRD.replace("raw", "gzip");
    let found = read_as("a.nrrd", &file(&format!("{header}\n"), &gzip(&bytes(20)))).unwrap();
    assert_eq!(found.values, raw.values);
    let header = NRRD.replace("raw", "ascii");
    let text = "0 1 2 3 4 5 6 7 8 9\n10 11 12\n13 14 15 16 17 18 19\n";
    let found = read_as("a.nrrd", &file(&format!("{header}\n"), text.as_bytes())).unwrap();
    assert_eq!(found.values, raw.values);
    // Windows ends its lines otherwise.
    let header = NRRD.replace('\n', "\r\n");
    let found = read_as("a.nrrd", &file(&format!("{header}\r\n"), &bytes(20))).unwrap();
    assert_eq!(found.values, raw.values);
    for (field, before) in [("byte skip: 3", 3), ("byte skip: -1", 7), ("byteskip: 1", 1)] {
        let data = [vec![99; before], bytes(20)].concat();
        let found = read_as("a.nrrd", &file(&format!("{NRRD}{field}\n\n"), &data)).unwrap();
        assert_eq!(found.values, raw.values, "{field}");
    }
    let data = [b"a line\nanother\n".to_vec(), bytes(20)].concat();
    let found = read_as("a.nrrd", &file(&format!("{NRRD}line skip: 2\n\n"), &data)).unwrap();
    assert_eq!(found.values, raw.values);
}

#[test]
fn detached_data() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    put("a.nhdr", format!("{NRRD}data file: a b.raw\nspacings: 2 3\n").as_bytes());
    put("a.mhd", b"NDims = 2\nDimSize = 4 5\nElementType = MET_UCHAR\nElementDataFile = a b.raw\n");
    for name in ["a.nhdr", "a.mhd"] {
        let missing = read(folder.path().join(name)).unwrap_err();
        assert!(missing.path.ends_with("a b.raw"), "{missing}");
    }
    put("a b.raw", &bytes(20));
    for name in ["a.nhdr", "a.mhd"] {
        assert_eq!(read(folder.path().join(name)).unwrap().values[19], 19.0);
    }
    assert_eq!(read(folder.path().join("a.nhdr")).unwrap().geometry.spacing, [2.0, 3.0]);
}

#[test]
fn component_axes_of_nrrd() {
    let header = |sizes: &str, kinds: &str, directions: &str| {
        format!(
            "NRRD0004\ntype: float\ndimension: 3\nspace dimension: 2\nsizes: {sizes}\n\
             space directions: {directions}\nkinds: {kinds}\nendian: little\nencoding: raw\n\n"
        )
    };
    let data: Vec<u8> = (0_u8..40).flat_map(|x| f32::from(x).to_le_bytes()).collect();
    for (kind, meaning) in [("vector", Meaning::Vectors), ("list", Meaning::Values)] {
        let first = header("2 4 5", &format!("{kind} domain domain"), "none (1,0) (0,1)");
        let found = read_as("a.nrrd", &file(&first, &data)).unwrap();
        assert_eq!((found.components, found.meaning), (2, meaning));
        assert_eq!(found.values[..3], [0.0, 2.0, 4.0]);
        let last = header("4 5 2", &format!("domain domain {kind}"), "(1,0) (0,1) none");
        let found = read_as("a.nrrd", &file(&last, &data)).unwrap();
        assert_eq!(found.geometry.shape, [4, 5]);
        assert_eq!(found.values[..3], [0.0, 1.0, 2.0]);
    }
    let middle = header("4 2 5", "domain list domain", "(1,0) none (0,1)");
    let found = read_as("a.nrrd", &file(&middle, &data)).unwrap();
    assert_eq!([0, 4, 20].map(|i| found.values[i]), [0.0, 8.0, 4.0]);
    let frame = header("2 4 5", "vector domain domain", "none (1,0) (0,1)");
    let turned = frame.replace("endian", "measurement frame: (0,1) (1,0)\nendian");
    assert!(refused("a.nrrd", &file(&turned, &data)).contains("measurement frame"));
    let same = frame.replace("endian", "measurement frame: (1,0) (0,1)\nendian");
    assert!(read_as("a.nrrd", &file(&same, &data)).is_ok());
}

#[test]
fn nrrd_files_that_are_refused() {
    let data = bytes(20);
    let change = |from: &str, to: &str| file(&format!("{}\n", NRRD.replace(from, to)), &data);
    let cases = [
        (change("uint8", "block"), "type"),
        (change("uint8", "float"), "endian"),
        (change("raw", "bzip2"), "raw, gzip or ascii"),
        (change("raw", "hex"), "raw, gzip or ascii"),
        (change("sizes: 4 5", "sizes: 4"), "as many as axes"),
        (change("sizes: 4 5", "sizes: 4 0"), "one or more"),
        (change("sizes: 4 5", "sizes: 4 five"), "sizes"),
        (change("sizes: 4 5", "spacings: 4 5"), "sizes"),
        (change("encoding", "data file: LIST\nencoding"), "the name of one file"),
        (change("encoding", "spacings: 1 0\nencoding"), "0 along axis 1"),
        (change("encoding", "kinds: vector list\nencoding"), "at most one"),
        (change("encoding", "space directions: (1,0) (0.5,1)\nencoding"), "sheared"),
        (change("encoding", "space directions: (1,0) 3\nencoding"), "in brackets"),
        (change("encoding", "space directions: (1,0)\nencoding"), "as many as axes"),
        (
            change(
                "encoding",
                "space units: \"um\" \"um\"\nspace directions: (1,0) (0,1)\nencoding",
            ),
            "mm",
        ),
        (change("encoding", "space: RAST\nspace directions: (1,0) (0,1)\nencoding"), "LPS"),
        (file(NRRD, b""), "end of the header"),
    ];
    for (bytes, expected) in cases {
        let message = refused("a.nrrd", &bytes);
        assert!(message.contains(expected), "{expected}: {message}");
    }
}

#[test]
fn text_headers_do_not_claim_more_than_there_is() {
    let far = "sizes: 1048576 1048576";
    let nrrd = file(&format!("{}\n", NRRD.replace("sizes: 4 5", far)), &bytes(20));
    let meta =
        "NDims = 2\nDimSize = 1048576 1048576\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n";
    for bytes in [nrrd, file(meta, &bytes(20))] {
        let found = problem("a", &bytes);
        assert!(matches!(found, Some(Problem::Truncated { found: 20, .. })), "{found:?}");
    }
    let packed = gzip(&bytes(20));
    let header = format!("{}\n", NRRD.replace("raw", "gzip"));
    let message = refused("a.nrrd", &file(&header, &packed[..packed.len() - 5]));
    assert!(message.contains("copy the file again"), "{message}");
    let header = format!("{}\n", NRRD.replace("raw", "ascii"));
    let message = refused("a.nrrd", &file(&header, b"1 2 3\n"));
    assert!(message.contains("3 of 20"), "{message}");
    let message = refused("a.nrrd", &file(&header, b"1 2 x\n"));
    assert!(message.contains("\"x\""), "{message}");
}

const META: &str = "ObjectType = Image\nNDims = 3\nDimSize = 4 5 6\nElementType = MET_SHORT\n";

fn meta(extra: &str, data: &[u8]) -> Vec<u8> {
    file(&format!("{META}{extra}ElementDataFile = LOCAL\n"), data)
}

#[test]
fn metaimage_of_other_byte_order_and_place() {
    let data: Vec<u8> = (0..120_i16).flat_map(|x| (x - 60).to_be_bytes()).collect();
    let place = "ElementByteOrderMSB = True\nPosition = 1 2 3\nElementSize = 2 3 4\n\
                 Orientation = 0 1 0 -1 0 0 0 0 1\n";
    let found = read_as("a.mha", &meta(place, &data)).unwrap();
    assert_eq!(found.values[0], -60.0);
    assert_eq!(found.geometry.origin, [1.0, 2.0, 3.0]);
    assert_eq!(found.geometry.spacing, [2.0, 3.0, 4.0]);
    assert_eq!(found.geometry.direction[(1, 0)], 1.0, "the first axis runs along y");
    assert_eq!(found.geometry.direction[(0, 1)], -1.0);
    let behind = [vec![0; 11], data.clone()].concat();
    let found = read_as("a.mha", &meta("ElementByteOrderMSB = True\nHeaderSize = -1\n", &behind));
    assert_eq!(found.unwrap().values[0], -60.0);
    let found = read_as("a.mha", &meta("ElementByteOrderMSB = True\nHeaderSize = 11\n", &behind));
    assert_eq!(found.unwrap().values[0], -60.0);
    let text: String = (0..120).map(|x| x.to_string() + "\n").collect();
    let found = read_as("a.mha", &meta("BinaryData = False\n", text.as_bytes())).unwrap();
    assert_eq!(found.values[119], 119.0);
}

#[test]
fn channels_of_metaimage() {
    let header = |axes: &str, channels: usize, kind: &str| {
        format!(
            "NDims = 2\nDimSize = {axes}\nElementNumberOfChannels = {channels}\n\
             ElementType = {kind}\nElementDataFile = LOCAL\n"
        )
    };
    for (channels, kind, meaning) in [
        (2, "MET_SHORT", Meaning::Vectors),
        (3, "MET_SHORT", Meaning::Values),
        (3, "MET_USHORT_ARRAY", Meaning::Colours),
    ] {
        let found = read_as("a.mha", &file(&header("4 5", channels, kind), &[0; 120])).unwrap();
        assert_eq!((found.components, found.meaning), (channels, meaning));
    }
}

#[test]
fn metaimages_that_are_refused() {
    let data = vec![0; 240];
    let cases = [
        (meta("ElementSpacing = 1 0 1\n", &data), "0 along axis 1"),
        (meta("ElementSpacing = 1 1\n", &data), "2 for 3 axes"),
        (meta("TransformMatrix = 1 0.1 0 0 1 0 0 0 1\n", &data), "sheared"),
        (meta("Offset = 1 nan 1\n", &data), "origin"),
        (meta("Offset = 1 x 1\n", &data), "Offset"),
        (meta("ElementNumberOfChannels = 0\n", &data), "one or more"),
        (meta("HeaderSize = -2\n", &data), "HeaderSize"),
        (meta("CompressedData = True\nHeaderSize = -1\n", &data), "HeaderSize"),
        (meta("CompressedData = True\n", &data), "copy the file again"),
        (file(&META.replace("SHORT", "STRING"), b"ElementDataFile = LOCAL\n"), "ElementType"),
        (file(&META.replace("NDims = 3", "NDims = 4"), b"ElementDataFile = LOCAL\n"), "NDims"),
        (file(&META.replace("Image", "Mesh"), b"ElementDataFile = LOCAL\n"), "ObjectType"),
        (file(META, b"ElementDataFile = LIST\n"), "the name of one file"),
        (file(META, b"ElementDataFile = slice%03d.raw 1 6 1\n"), "the name of one file"),
        (file(META, b""), "end of the header"),
    ];
    for (bytes, expected) in cases {
        let message = refused("a.mha", &bytes);
        assert!(message.contains(expected), "{expected}: {message}");
    }
}
