//! Files that are whole or not there.

use std::io::{BufWriter, Write};
use std::path::Path;

use crate::error::{Problem, Result};

/// Writes a file by `fill` under another name in the same folder and renames it in the end: whoever reads
/// `path` sees the old content or the new one, never a part.
///
/// # Errors
/// What the operating system says, with the path; the old file is then untouched and nothing is left behind.
pub fn write(
    path: impl AsRef<Path>,
    fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    let whole = || -> std::io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut file = tempfile::Builder::new()
            .prefix(".rdmm-")
            .tempfile_in(folder.unwrap_or(Path::new(".")))?;
        let mut buffered = BufWriter::new(file.as_file_mut());
        fill(&mut buffered)?;
        buffered.flush()?;
        drop(buffered);
        file.as_file().sync_all()?;
        readable(file.as_file())?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    whole().map_err(|error| Problem::from(error).at(path))
}

/// Temporary files are private; results are for whoever may read the folder.
#[cfg(unix)]
fn readable(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable(_: &std::fs::File) -> std::io::Result<()> {
    Ok(())
}
