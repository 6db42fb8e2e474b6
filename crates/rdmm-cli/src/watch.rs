//! What looks on while a registration runs: progress, history, checkpoints, time limit, signals.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdmm_core::registration::{Checkpoint, Progress};
use rdmm_core::world::Affine;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::failure::{Done, Failure};
use crate::files::remove;
use crate::log::Log;

/// Whether a signal asked the program to stop.
static STOP: AtomicBool = AtomicBool::new(false);

/// Lets Ctrl-C and termination end the registration in hand with its best state; the second time they end the
/// program.
pub(crate) fn catch_signals() -> Done {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    })
    .map_err(|error| Failure::at("signals", error))
}

/// Whether a signal came.
pub(crate) fn stop_was_asked() -> bool {
    STOP.load(Ordering::SeqCst)
}

/// Why a registration was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stopped {
    Interrupted,
    TimeLimit,
}

/// A file in which a registration leaves where it stands.
#[derive(Clone, Debug)]
pub(crate) struct CheckpointFile {
    path: PathBuf,
    /// Of everything that the registration depends on.
    fingerprint: u64,
    every: Duration,
}

/// What the file begins with.
const MAGIC: &[u8; 8] = b"rdmmcp03";

/// What the file holds after that and the fingerprint.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Saved<C, const D: usize> {
    /// The affine map before the flow.
    pub(crate) affine: Affine<D>,
    /// Each iteration until then.
    pub(crate) history: Vec<Progress>,
    /// Where the flow stands.
    pub(crate) checkpoint: C,
}

impl CheckpointFile {
    pub(crate) fn new(folder: &Path, fingerprint: u64, every: Duration) -> Self {
        Self { path: folder.join("checkpoint.bin"), fingerprint, every }
    }

    /// What was saved; `None` where there is no file.
    pub(crate) fn read<C: DeserializeOwned, const D: usize>(&self) -> Done<Option<Saved<C, D>>> {
        let Some(bytes) = self.content()? else { return Ok(None) };
        let read = postcard::from_bytes(&bytes);
        read.map(Some).map_err(|error| {
            Failure::at(
                self.path.display(),
                format!("damaged checkpoint ({error}): delete the file, or leave out --resume"),
            )
        })
    }

    /// What follows the fingerprint, which has to be that of this registration; `None` where there is no file.
    pub(crate) fn content(&self) -> Done<Option<Vec<u8>>> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::at(self.path.display(), error)),
        };
        let bad = |problem: &str| Failure::at(self.path.display(), problem);
        let rest = bytes
            .strip_prefix(MAGIC)
            .and_then(|rest| rest.split_first_chunk::<8>())
            .ok_or_else(|| bad("expected a checkpoint of this version of rdmm: delete the file or leave out --resume"))?;
        if u64::from_le_bytes(*rest.0) != self.fingerprint {
            return Err(bad("the checkpoint is of other images or another configuration: \
                 repeat the options of the run that wrote it, or leave out --resume"));
        }
        Ok(Some(rest.1.to_vec()))
    }

    /// Whether there is one.
    pub(crate) fn exists(&self) -> bool {
        self.path.is_file()
    }

    fn write<C: Serialize, const D: usize>(&self, saved: &Saved<C, D>) -> Done {
        rdmm_io::atomic::write(&self.path, |file| {
            file.write_all(MAGIC)?;
            file.write_all(&self.fingerprint.to_le_bytes())?;
            postcard::to_io(saved, file).map(drop).map_err(std::io::Error::other)
        })?;
        Ok(())
    }

    /// Removes the file after a registration that was not stopped.
    pub(crate) fn remove(&self) -> Done {
        remove(&self.path)
    }
}

/// Watches one registration.
pub(crate) struct Watch<'a> {
    log: &'a Log,
    deadline: Option<Instant>,
    /// Where checkpoints go; `None` writes none.
    pub(crate) file: Option<&'a CheckpointFile>,
    written: Instant,
    /// Each iteration's figures.
    pub(crate) history: Vec<Progress>,
    /// Why it was stopped.
    pub(crate) stopped: Option<Stopped>,
}

impl<'a> Watch<'a> {
    /// From now on; the time limit counts from `begin`.
    pub(crate) fn new(
        log: &'a Log,
        begin: Instant,
        limit: Option<f64>,
        file: Option<&'a CheckpointFile>,
    ) -> Done<Self> {
        let limit = limit.map(Duration::try_from_secs_f64).transpose();
        let limit = limit.map_err(|error| Failure::at("--time-limit", error))?;
        let deadline = limit.and_then(|limit| begin.checked_add(limit));
        let written = Instant::now();
        Ok(Self { log, deadline, file, written, history: Vec::new(), stopped: None })
    }

    /// Whether to stop, and why.
    pub(crate) fn due(&self) -> Option<Stopped> {
        if stop_was_asked() {
            return Some(Stopped::Interrupted);
        }
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
            .then_some(Stopped::TimeLimit)
    }

    /// One iteration is done.
    pub(crate) fn iteration<W, const D: usize>(
        &mut self,
        progress: &Progress,
        affine: &Affine<D>,
        checkpoint: &dyn Fn() -> Checkpoint<f32, D, W>,
    ) -> ControlFlow<()>
    where
        Checkpoint<f32, D, W>: Serialize,
    {
        self.history.push(progress.clone());
        self.log.iteration(progress);
        self.stopped = self.stopped.or_else(|| self.due());
        if let Some(file) = self.file
            && (self.stopped.is_some() || self.written.elapsed() >= file.every)
        {
            let (history, checkpoint) = (self.history.clone(), checkpoint());
            if let Err(failure) = file.write(&Saved { affine: *affine, history, checkpoint }) {
                self.log.warn(&format!("no checkpoint was written: {failure}"));
            }
            self.written = Instant::now();
        }
        if self.stopped.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// A number that other inputs would almost surely change (FNV-1a).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn bytes(self, bytes: impl IntoIterator<Item = u8>) -> Self {
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(bytes.into_iter().fold(self.0, mix))
    }

    pub(crate) fn value(self) -> u64 {
        self.0
    }
}
