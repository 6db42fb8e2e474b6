//! Stub.
use crate::error::{Problem, Result};
use crate::volume::Volume;
use std::path::Path;
pub(crate) fn is(_: &[u8]) -> bool {
    false
}
pub(crate) fn read(path: &Path) -> Result<Volume> {
    Err(Problem::content("format", "NIfTI or PNG", "").at(path))
}
pub(crate) fn write(path: &Path, _: &Volume) -> Result<()> {
    Err(Problem::content("format", "NIfTI or PNG", "").at(path))
}
