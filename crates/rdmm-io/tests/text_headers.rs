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

/// Six slices of twenty bytes, the list and the pattern that name them, in both formats; hexadecimal digits. `SimpleITK`
/// reads all of them as the numbers from 0 on.
#[test]
fn data_in_several_files_follow_one_another() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    for slice in 0..6_u8 {
        let bytes: Vec<u8> = (0..20).map(|i| 20 * slice + i).collect();
        put(&format!("data/s{slice:03}.raw"), &bytes);
        put(&format!("data/t{slice}.raw"), &[b"a line\n".to_vec(), bytes.clone()].concat());
        put(&format!("data/z{slice}.gz"), &gzip(&bytes));
    }
    let nrrd = "NRRD0005\ntype: uint8\ndimension: 3\nsizes: 4 5 6\nencoding: raw\n";
    let meta = "NDims = 3\nDimSize = 4 5 6\nElementType = MET_UCHAR\n";
    let list = (0..6).map(|slice| format!("data/s{slice:03}.raw\n")).collect::<Vec<_>>().concat();
    let digits: String = (0..120)
        .map(|x| format!("{x:02X}{}", if x % 7 == 0 { "\n" } else { "" }))
        .collect::<Vec<_>>()
        .concat();
    let packed = nrrd.replace("raw", "gzip");
    for (name, text) in [
        ("list.nhdr", format!("{nrrd}data file: LIST\n{list}")),
        ("list2.nhdr", format!("{nrrd}data file: LIST 2\n{list}")),
        ("pattern.nhdr", format!("{nrrd}data file: data/s%03d.raw 0 5 1\n")),
        ("lines.nhdr", format!("{nrrd}line skip: 1\ndata file: ./data/t%d.raw 0 5 1 2\n")),
        ("packed.nhdr", format!("{packed}data file: data/z%d.gz 0 5 1\n")),
        ("list.mhd", format!("{meta}ElementDataFile = LIST\n{list}")),
        ("list2.mhd", format!("{meta}ElementDataFile = LIST 2D\n{list}")),
        ("pattern.mhd", format!("{meta}ElementDataFile = data/s%03d.raw 0 5 1\n")),
        ("hex.nrrd", format!("{}\n{digits}", nrrd.replace("raw", "hex"))),
    ] {
        put(name, text.as_bytes());
        let found = read(folder.path().join(name)).unwrap();
        assert_eq!(found.values, (0..120).map(f64::from).collect::<Vec<_>>(), "{name}");
    }
    std::fs::remove_file(folder.path().join("data/s003.raw")).unwrap();
    let missing = read(folder.path().join("list.nhdr")).unwrap_err();
    assert!(missing.path.ends_with("data/s003.raw"), "{missing}");
    put("data/s003.raw", &[1; 7]);
    let short = read(folder.path().join("pattern.mhd")).unwrap_err();
    assert!(matches!(short.problem, Problem::Truncated { expected: 20, found: 7, .. }), "{short}");
}

/// Ends of the axes instead of an origin. The format: the ends are the faces of the outermost cells, or the outermost
/// nodes. `SimpleITK` 2.5.7 has these origins, (100.8, 51, 21.5) for cells and (100, 50, 20) for nodes.
#[test]
fn ends_of_axes_give_the_origin_of_nrrd() {
    let read = |lines: &str| {
        let header = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 5 6\nencoding: raw\n";
        read_as("a.nrrd", &file(&format!("{header}{lines}\n\n"), &bytes(120))).unwrap()
    };
    let given = "spacings: 1.6 2 3\naxis mins: 100 50 20";
    for (lines, origin) in [
        (format!("{given}\ncenters: cell cell cell"), [100.8, 51.0, 21.5]),
        (format!("{given}\ncenterings: node node node"), [100.0, 50.0, 20.0]),
        (format!("{given}\ncenterings: node cell ???"), [100.0, 51.0, 21.5]),
        (given.to_owned(), [100.8, 51.0, 21.5]),
        // The last node at 106 leaves 106 - 3 steps for the first one.
        (
            "spacings: 1.6 2 3\naxis maxs: 104.8 58 35\ncenters: node node node".to_owned(),
            [100.0, 50.0, 20.0],
        ),
        (
            "spacings: 1.6 2 3\naxis mins: 100 nan 20\ncenters: node node node".to_owned(),
            [100.0, 0.0, 20.0],
        ),
    ] {
        let found = read(&lines);
        assert_eq!(found.geometry.spacing, [1.6, 2.0, 3.0]);
        for (a, b) in found.geometry.origin.iter().zip(origin) {
            assert!((a - b).abs() < 1e-12, "{lines}: {:?}", found.geometry.origin);
        }
    }
    // Without spacings the ends give them: 8 mm are 4 cells, or 5 nodes of 4 steps.
    let cells = read("axis mins: 100 50 20\naxis maxs: 108 60 38\ncenters: cell cell cell");
    assert_eq!(cells.geometry.spacing, [2.0, 2.0, 3.0]);
    assert_eq!(cells.geometry.origin, [101.0, 51.0, 21.5]);
    let nodes = read("axis mins: 100 50 20\naxis maxs: 106 58 35\ncenters: node node node");
    assert_eq!(nodes.geometry.spacing, [2.0, 2.0, 3.0]);
    assert_eq!(nodes.geometry.origin, [100.0, 50.0, 20.0]);
}

#[test]
fn lengths_of_nrrd_become_millimetres() {
    let read = |lines: &str| {
        let header = "NRRD0004\ntype: uint8\ndimension: 2\nsizes: 4 5\nencoding: raw\n";
        read_as("a.nrrd", &file(&format!("{header}{lines}\n\n"), &bytes(20))).unwrap()
    };
    for (unit, factor) in [
        ("mm", 1.0),
        ("microns", 1e-3),
        ("micron", 1e-3),
        ("um", 1e-3),
        ("\u{b5}m", 1e-3),
        ("\u{3bc}m", 1e-3),
        ("nm", 1e-6),
        ("cm", 10.0),
        ("m", 1e3),
        ("", 1.0),
    ] {
        let spaced = read(&format!(
            "space dimension: 2\nspace directions: (2,0) (0,3)\nspace origin: (5,7)\n\
             space units: \"{unit}\" \"mm\""
        ));
        let ended = read(&format!("spacings: 2 3\naxis mins: 4 5.5\nunits: \"{unit}\" \"mm\""));
        for found in [spaced, ended] {
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-15 * b;
            assert!(near(found.geometry.spacing[0], 2.0 * factor), "{unit}: {found:?}");
            assert!(near(found.geometry.origin[0], 5.0 * factor), "{unit}: {found:?}");
            assert_eq!((found.geometry.spacing[1], found.geometry.origin[1]), (3.0, 7.0));
            assert_eq!(found.warnings, Vec::<String>::new());
        }
    }
    let found = read("spacings: 2 3\nunits: \"pixel\" \"\"");
    assert_eq!(found.geometry.spacing, [2.0, 3.0]);
    assert!(found.warnings[0].contains("\"pixel\" along axis 0"), "{:?}", found.warnings);
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
        (change("raw", "bzip2"), "raw, gzip, ascii or hex"),
        (change("raw", "hex"), "0 to 9"),
        (change("sizes: 4 5", "sizes: 4"), "as many as axes"),
        (change("sizes: 4 5", "sizes: 4 0"), "one or more"),
        (change("sizes: 4 5", "sizes: 4 five"), "sizes"),
        (change("sizes: 4 5", "spacings: 4 5"), "sizes"),
        (file(&format!("{NRRD}data file: LIST\n"), b""), "0 files for 20 numbers"),
        (file(&format!("{NRRD}data file: LIST\na\nb\nc\n"), b""), "3 files for 20 numbers"),
        (change("encoding", "spacings: 1 0\nencoding"), "0 along axis 1"),
        (change("encoding", "kinds: vector list\nencoding"), "at most one"),
        (change("encoding", "space directions: (1,0) (0.5,1)\nencoding"), "sheared"),
        (change("encoding", "space directions: (1,0) 3\nencoding"), "in brackets"),
        (change("encoding", "space directions: (1,0)\nencoding"), "as many as axes"),
        (
            change(
                "encoding",
                "space units: \"um\" \"furlong\"\nspace directions: (1,0) (0,1)\nencoding",
            ),
            "furlong",
        ),
        (change("encoding", "axis mins: 1\nencoding"), "1 for 2 axes"),
        (change("encoding", "centers: cell edge\nencoding"), "cell, node"),
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
        (file(META, b"ElementDataFile = LIST\n"), "0 files for 120 numbers"),
        (file(META, b"ElementDataFile = slice%03d.raw 1 7 1\n"), "7 files for 120 numbers"),
        (file(META, b"ElementDataFile = slice%03d.raw 1 6 1\n"), "slice001.raw"),
        (file(META, b""), "end of the header"),
    ];
    for (bytes, expected) in cases {
        let message = refused("a.mha", &bytes);
        assert!(message.contains(expected), "{expected}: {message}");
    }
}
