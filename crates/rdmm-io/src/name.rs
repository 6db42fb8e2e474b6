//! Endings of the names of files.

use std::path::{Path, PathBuf};

/// Whether the name of a file ends so, in capitals or not.
pub(crate) fn has_ending(path: &Path, ending: &str) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase());
    name.is_some_and(|name| name.len() > ending.len() && name.ends_with(ending))
}

/// The name of a file with `ending`, which it has, replaced by `other`.
pub(crate) fn with_ending(path: &Path, ending: &str, other: &str) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let stem = name.len().checked_sub(ending.len()).and_then(|end| name.get(..end));
    path.with_file_name(format!("{}{other}", stem.unwrap_or_default()))
}
