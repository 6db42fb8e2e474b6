//! The most memory that this process has held.

use std::error::Error;
use std::fs;
use std::io::ErrorKind;

/// Peak resident bytes; `None` on systems without `/proc`.
pub fn resident() -> Result<Option<u64>, Box<dyn Error>> {
    let status = match fs::read_to_string("/proc/self/status") {
        Ok(status) => status,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|rest| rest.trim().strip_suffix("kB")).map(str::trim);
    match kibibytes {
        None => Ok(None),
        Some(text) => Ok(Some(1024 * text.parse::<u64>()?)),
    }
}
