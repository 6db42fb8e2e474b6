//! Progress: bars on a terminal, plain lines elsewhere, JSON on request. All of it goes to the standard error.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rdmm_core::registration::Progress;
use serde_json::{Value, json};

use crate::cli::Global;

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Volume {
    Errors,
    Levels,
    Iterations,
}

/// Where progress goes.
enum Form {
    Bar(ProgressBar),
    Lines,
    Json,
}

/// Tells people, or programs, what goes on.
pub(crate) struct Log {
    volume: Volume,
    form: Form,
    /// Put before each line: the pair of a batch.
    name: Option<String>,
    last: Mutex<Option<Progress>>,
}

impl Log {
    /// What the options ask for.
    pub(crate) fn new(options: &Global) -> Self {
        let volume = match (options.quiet, options.verbose) {
            (true, _) => Volume::Errors,
            (false, false) => Volume::Levels,
            (false, true) => Volume::Iterations,
        };
        let form = if options.log_json {
            Form::Json
        } else if std::io::stderr().is_terminal() && volume != Volume::Errors {
            Form::Bar(bar())
        } else {
            Form::Lines
        };
        Self { volume, form, name: None, last: Mutex::new(None) }
    }

    /// The log of one of several pairs that run at once: lines with its name, no bars.
    pub(crate) fn of_pair(options: &Global, name: &str) -> Self {
        let mut log = Self::new(options);
        if let Form::Bar(bar) = &log.form {
            bar.finish_and_clear();
            log.form = Form::Lines;
        }
        log.name = Some(name.to_owned());
        log
    }

    /// One line.
    pub(crate) fn say(&self, text: &str) {
        if self.volume >= Volume::Levels {
            self.line(text, || json!({ "event": "message", "text": text }));
        }
    }

    /// Something that is not as it should be, though the work goes on.
    pub(crate) fn warn(&self, text: &str) {
        self.line(&format!("warning: {text}"), || json!({ "event": "warning", "text": text }));
    }

    /// The end of the program by a failure.
    pub(crate) fn fail(&self, text: &str, code: u8) {
        self.clear();
        self.line(
            &format!("error: {text}"),
            || json!({ "event": "error", "text": text, "exit_code": code }),
        );
    }

    /// An iteration is done.
    pub(crate) fn iteration(&self, progress: &Progress) {
        let before = match self.last.lock() {
            Ok(mut last) => last.replace(progress.clone()),
            Err(_) => None,
        };
        if self.volume == Volume::Errors {
            return;
        }
        match &self.form {
            Form::Json => self.line("", || {
                let progress = serde_json::to_value(progress).unwrap_or(Value::Null);
                json!({ "event": "iteration", "progress": progress })
            }),
            Form::Bar(bar) => {
                bar.set_length(progress.levels as u64);
                bar.set_position(progress.level as u64);
                bar.set_message(line(progress));
                bar.tick();
            }
            Form::Lines if self.volume == Volume::Iterations => self.plain(&line(progress)),
            Form::Lines => {
                if let Some(done) = before.filter(|done| done.level < progress.level) {
                    self.plain(&line(&done));
                }
            }
        }
    }

    /// The registration has ended: the last line stays, bars go.
    pub(crate) fn end(&self) {
        let last = self.last.lock().ok().and_then(|mut last| last.take());
        self.clear();
        if let Some(last) = last
            && self.volume == Volume::Levels
            && !matches!(self.form, Form::Json)
        {
            self.plain(&line(&last));
        }
    }

    fn clear(&self) {
        if let Form::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str, json: impl FnOnce() -> Value) {
        match &self.form {
            Form::Json => {
                let mut value = json();
                if let (Some(name), Value::Object(entries)) = (&self.name, &mut value) {
                    entries.insert("pair".to_owned(), json!(name));
                }
                self.raw(&value.to_string());
            }
            Form::Bar(bar) => bar.suspend(|| self.plain(text)),
            Form::Lines => self.plain(text),
        }
    }

    fn plain(&self, text: &str) {
        match &self.name {
            Some(name) => self.raw(&format!("{name}: {text}")),
            None => self.raw(text),
        }
    }

    #[expect(clippy::unused_self, reason = "everything that is said goes through the log")]
    fn raw(&self, text: &str) {
        // Nobody is left to be told that the standard error is closed.
        drop(writeln!(std::io::stderr().lock(), "{text}"));
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8));
    if let Ok(style) =
        ProgressStyle::with_template("{spinner} [{elapsed}] level {pos}/{len} {wide_msg}")
    {
        bar.set_style(style);
    }
    bar
}

/// One line on an iteration.
fn line(progress: &Progress) -> String {
    format!(
        "level {} of {}, iteration {}: energy {:.4e}, loss {:.4e}, smallest determinant {:.2}, {} time steps, {:.1} s",
        progress.level + 1,
        progress.levels,
        progress.iteration,
        progress.diagnostics.terms.total,
        progress.diagnostics.terms.similarity,
        progress.diagnostics.min_det,
        progress.diagnostics.steps,
        progress.seconds,
    )
}
