//! The program `rdmm`, run as people run it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod bad_input;
mod behaviour;
mod carry;
mod grey;
mod grids;
mod landmarks;
mod partial;
mod register;
mod transforms;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use rdmm_core::field::{Displacement, Image};
use rdmm_core::labels::Labels;
use serde_json::Value;
use tempfile::TempDir;

/// The pair of images that `rdmm synth` gives, and its labels.
const PAIR: &str = "--fixed fixed.nii.gz --moving moving.nii.gz";
const LABELS: &str = "--fixed-labels fixed_labels.nii.gz --moving-labels moving_labels.nii.gz";

/// What the program said and how it ended.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// The same, if it ended like this and nothing panicked.
    #[track_caller]
    fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.err);
        assert!(
            !self.err.contains("panicked") && !self.err.contains("RUST_BACKTRACE"),
            "{}",
            self.err
        );
        self
    }
}

/// A temporary folder in which the program runs.
struct Place {
    folder: TempDir,
}

impl Place {
    fn empty() -> Self {
        // In the build folder: what tests share is never removed.
        Self { folder: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() }
    }

    /// With a pair of 32² voxels, its labels and regions.
    fn with_pair() -> Self {
        static MADE: OnceLock<TempDir> = OnceLock::new();
        let made = MADE.get_or_init(|| {
            let place = Self::empty();
            place.run("synth --shape 32,32 --out .").ends(0);
            place.folder
        });
        let place = Self::empty();
        copy(made.path(), place.folder.path());
        place
    }

    /// With the same pair, and in `out` what `rdmm register` finds by LDDMM.
    fn with_result() -> Self {
        static MADE: OnceLock<TempDir> = OnceLock::new();
        let made = MADE.get_or_init(|| {
            let place = Self::with_pair();
            place.run(&format!("register {PAIR} {LABELS} --out out")).ends(0);
            place.folder
        });
        let place = Self::empty();
        copy(made.path(), place.folder.path());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// The program, to be run in the folder.
    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rdmm"));
        command.current_dir(self.folder.path());
        command
    }

    /// Runs it; options are separated by blanks.
    fn run(&self, options: &str) -> Ran {
        Ran::of(&self.command().args(options.split_whitespace()).output().unwrap())
    }

    /// Runs a line of bash, in which `rdmm` is the program.
    fn bash(&self, line: &str) -> Ran {
        let script = format!("rdmm() {{ \"$PROGRAM\" \"$@\"; }}; {line}");
        let mut command = Command::new("bash");
        command.arg("-c").arg(script).env("PROGRAM", env!("CARGO_BIN_EXE_rdmm"));
        Ran::of(&command.current_dir(self.folder.path()).output().unwrap())
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn text(&self, name: &str) -> String {
        String::from_utf8(self.bytes(name)).unwrap()
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.text(name)).unwrap()
    }

    fn image<const D: usize>(&self, name: &str) -> Image<f32, D> {
        rdmm_io::read_image(self.path(name)).unwrap()
    }

    fn labels(&self, name: &str) -> Labels<2> {
        rdmm_io::read_labels(self.path(name)).unwrap()
    }

    fn warp(&self, name: &str) -> Displacement<f32, 2> {
        rdmm_io::transform::read_warp(self.path(name)).unwrap()
    }

    /// Names of the files of a folder, in order.
    fn files(&self, name: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(name)).unwrap();
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<String> =
            entries.map(|entry| name(entry).into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Copies the files of a folder, and of those in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The largest difference of two lists as long as each other.
#[track_caller]
fn farthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |most, (a, b)| most.max((a - b).abs()))
}

/// An entry of a report that is a number.
#[track_caller]
fn figure(report: &Value, name: &str) -> f64 {
    report[name].as_f64().unwrap_or_else(|| panic!("{name} of {report}"))
}
