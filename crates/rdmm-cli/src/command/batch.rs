//! `rdmm batch`: many pairs, one folder each.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rdmm_io::Listed;
use serde::Deserialize;
use serde_json::Value;

use super::register;
use crate::cli::{BatchArgs, BesideArgs, Global, RegisterArgs};
use crate::failure::{Done, Failure};
use crate::files;
use crate::log::Log;
use crate::results;
use crate::watch::stop_was_asked;

/// What the report of a pair is called.
const REPORT: &str = "report.json";

/// A row of the list of pairs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    fixed: PathBuf,
    moving: PathBuf,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    fixed_labels: Option<PathBuf>,
    #[serde(default)]
    moving_labels: Option<PathBuf>,
    #[serde(default)]
    fixed_mask: Option<PathBuf>,
    #[serde(default)]
    fixed_landmarks: Option<PathBuf>,
    #[serde(default)]
    moving_landmarks: Option<PathBuf>,
    #[serde(default)]
    regions: Option<PathBuf>,
    #[serde(default)]
    initial: Option<String>,
}

/// How a pair ended.
#[derive(Clone, Debug)]
struct Ended {
    name: String,
    code: u8,
    message: String,
}

/// Registers all pairs; writes `batch.csv`.
pub(crate) fn run(args: &BatchArgs, global: &Global, log: &Log) -> Done {
    let rows = rows(&args.pairs)?;
    register::configuration(&args.how)?;
    files::folder(&args.out)?;
    let next = AtomicUsize::new(0);
    let ended: Mutex<Vec<(usize, Ended)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..usize::from(args.jobs).min(rows.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some((name, row)) = rows.get(index) else { return };
                    if stop_was_asked() {
                        return;
                    }
                    let end = one(args, global, name, row);
                    if let Ok(mut ended) = ended.lock() {
                        ended.push((index, end));
                    }
                }
            });
        }
    });
    let mut ended = ended.into_inner().map_err(|_| "a pair ended in a panic".to_owned())?;
    ended.sort_by_key(|(index, _)| *index);
    let ended: Vec<Ended> = ended.into_iter().map(|(_, end)| end).collect();
    table(&args.out, &ended)?;
    let done = ended.iter().filter(|end| end.code == 0).count();
    log.say(&format!(
        "{done} of {} pairs done: {}",
        rows.len(),
        args.out.join("batch.csv").display()
    ));
    verdict(&ended, rows.len())
}

/// The pairs with a name each, unlike all others.
fn rows(path: &Path) -> Done<Vec<(String, Row)>> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(path)
        .map_err(|error| Failure::at(path.display(), error))?;
    let base = path.parent().unwrap_or(Path::new(""));
    let mut names = BTreeSet::new();
    let mut rows = Vec::new();
    for row in reader.deserialize() {
        let row: Row = row.map_err(|error| Failure::at(path.display(), error))?;
        let name = row.name.clone().unwrap_or_else(|| format!("pair{:03}", rows.len() + 1));
        let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\']);
        if !plain || !names.insert(name.clone()) {
            return Err(Failure::at(
                path.display(),
                format!("expected names that can be folders, each once, found {name:?}"),
            ));
        }
        rows.push((name, row.relative_to(base)));
    }
    if rows.is_empty() {
        return Err(Failure::at(path.display(), "expected at least one pair, found none"));
    }
    Ok(rows)
}

impl Row {
    fn relative_to(self, base: &Path) -> Self {
        let some = |path: Option<PathBuf>| {
            path.filter(|path| !path.as_os_str().is_empty()).map(|path| base.join(path))
        };
        Self {
            fixed: base.join(self.fixed),
            moving: base.join(self.moving),
            name: self.name,
            fixed_labels: some(self.fixed_labels),
            moving_labels: some(self.moving_labels),
            fixed_mask: some(self.fixed_mask),
            fixed_landmarks: some(self.fixed_landmarks),
            moving_landmarks: some(self.moving_landmarks),
            regions: some(self.regions),
            initial: self.initial.filter(|text| !text.is_empty()).map(|text| {
                // A list that cannot be read is refused with its pair.
                let Ok(listed) = text.parse::<Listed>() else { return text };
                let path = base.join(listed.path);
                if listed.inverted {
                    format!("[{},1]", path.display())
                } else {
                    format!("[{},0]", path.display())
                }
            }),
        }
    }
}

/// Registers one pair, unless it is done.
fn one(args: &BatchArgs, global: &Global, name: &str, row: &Row) -> Ended {
    let out = args.out.join(name);
    let log = Log::of_pair(global, name);
    let name = name.to_owned();
    if args.resume && out.join(REPORT).exists() {
        match report(&out) {
            Ok(report) if report["stopped"].is_null() => {
                log.say("done before");
                return ended(name, results::verdict(&report, args.max_folds));
            }
            Ok(_) => {}
            Err(failure) => log.warn(&format!("{failure}: the pair is registered again")),
        }
    }
    let row = row.clone();
    let register = RegisterArgs {
        fixed: row.fixed,
        moving: row.moving,
        out,
        how: args.how.clone(),
        beside: BesideArgs {
            fixed_labels: row.fixed_labels,
            moving_labels: row.moving_labels,
            fixed_mask: row.fixed_mask,
            fixed_landmarks: row.fixed_landmarks,
            moving_landmarks: row.moving_landmarks,
            landmarks_only_measured: false,
            regions: row.regions,
            initial: row.initial.into_iter().collect(),
        },
        max_folds: args.max_folds,
        time_limit: args.time_limit,
        resume: args.resume,
        ..RegisterArgs::default()
    };
    let done = register::run(&register, &log);
    if let Err(failure) = &done {
        log.fail(&failure.to_string(), failure.code());
    }
    ended(name, done)
}

fn ended(name: String, done: Done) -> Ended {
    match done {
        Ok(()) => Ended { name, code: 0, message: String::new() },
        Err(failure) => Ended { name, code: failure.code(), message: failure.to_string() },
    }
}

/// The report of a pair, in its folder.
fn report(out: &Path) -> Done<Value> {
    let path = out.join(REPORT);
    let text = std::fs::read_to_string(&path);
    let text = text.map_err(|error| Failure::at(path.display(), error))?;
    serde_json::from_str(&text).map_err(|error| Failure::at(path.display(), error))
}

/// `batch.csv`: a row a pair.
fn table(out: &Path, ended: &[Ended]) -> Done {
    let path = out.join("batch.csv");
    let figures = [
        "ncc_before",
        "ncc_after",
        "dice_mean_before",
        "dice_mean_after",
        "landmarks_mean_before",
        "landmarks_mean_after",
        "folds",
        "min_det",
        "seconds",
    ];
    let mut writer = csv::Writer::from_writer(Vec::new());
    let head = ["name", "exit_code"].into_iter().chain(figures).chain(["message"]);
    let problem = |error: csv::Error| Failure::at(path.display(), error);
    writer.write_record(head).map_err(problem)?;
    for end in ended {
        let mut messages = vec![end.message.clone()];
        let mut found = Value::Null;
        // Of a pair that failed there is none, or one of an earlier run.
        if end.code != 2 {
            match report(&out.join(&end.name)) {
                Ok(report) => found = report,
                Err(failure) => messages.push(failure.to_string()),
            }
        }
        let figure = |name: &&str| match &found[*name] {
            Value::Null => String::new(),
            value => value.to_string(),
        };
        let mut record = vec![end.name.clone(), end.code.to_string()];
        record.extend(figures.iter().map(figure));
        messages.retain(|message| !message.is_empty());
        record.push(messages.join("; "));
        writer.write_record(record).map_err(problem)?;
    }
    let bytes = writer.into_inner().map_err(|error| Failure::at(path.display(), error))?;
    rdmm_io::atomic::write(&path, |file| file.write_all(&bytes))?;
    Ok(())
}

/// The worst end: interrupted, bad input, unfinished, time limit.
fn verdict(ended: &[Ended], pairs: usize) -> Done {
    let with = |code: u8| ended.iter().filter(|end| end.code == code).count();
    let text = |count: usize, what: &str| format!("{count} of {pairs} pairs {what}: see batch.csv");
    if stop_was_asked() {
        return Err(Failure::Interrupted(text(pairs - with(0), "are not done, --resume goes on")));
    }
    match (with(2), with(3), with(124)) {
        (0, 0, 0) => Ok(()),
        (0, 0, late) => Err(Failure::TimeLimit(text(late, "reached the time limit"))),
        (0, unfinished, _) => {
            Err(Failure::Unfinished(text(unfinished, "did not converge or fold")))
        }
        (failed, ..) => Err(Failure::Input(text(failed, "failed"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_cannot_be_read_is_told_in_its_row() {
        let place = tempfile::tempdir().unwrap();
        let pairs =
            [("whole", Some(r#"{"folds": 3}"#)), ("cut", Some(r#"{"folds""#)), ("none", None)];
        for (name, text) in pairs {
            std::fs::create_dir(place.path().join(name)).unwrap();
            if let Some(text) = text {
                std::fs::write(place.path().join(name).join(REPORT), text).unwrap();
            }
        }
        let ended = |name: &str, code: u8, message: &str| Ended {
            name: name.to_owned(),
            code,
            message: message.to_owned(),
        };
        let all = [
            ended("whole", 0, ""),
            ended("cut", 0, ""),
            ended("cut", 3, "it folds"),
            ended("none", 0, ""),
            ended("none", 2, "no image"),
        ];
        table(place.path(), &all).unwrap();
        let mut reader = csv::Reader::from_path(place.path().join("batch.csv")).unwrap();
        let head = reader.headers().unwrap().clone();
        let rows: Vec<_> = reader.records().map(|row| row.unwrap()).collect();
        let cells = |name: &str| -> Vec<&str> {
            let at = head.iter().position(|head| head == name).unwrap();
            rows.iter().map(|row| &row[at]).collect()
        };
        assert_eq!(cells("folds"), ["3", "", "", "", ""]);
        let messages = cells("message");
        assert_eq!((messages[0], messages[4]), ("", "no image"));
        let cut = Path::new("cut").join(REPORT).display().to_string();
        assert!(messages[1].contains(&cut) && !messages[1].starts_with("; "), "{messages:?}");
        assert!(
            messages[2].starts_with("it folds; ") && messages[2].contains(&cut),
            "{messages:?}"
        );
        assert!(messages[3].contains(REPORT), "{messages:?}");
    }
}
