//! Bytes of files, packed or not, never more than are there.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;

use crate::error::Problem;

type Result<T> = std::result::Result<T, Problem>;

/// A file that is read from its beginning, unpacked on the way where it is gzipped.
pub(crate) struct Source {
    reader: Box<dyn Read>,
    packed: bool,
}

impl Source {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut file = BufReader::new(File::open(path)?);
        if file.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
            return Ok(Self { reader: Box::new(Members::new(file)), packed: true });
        }
        Ok(Self { reader: Box::new(file), packed: false })
    }

    /// The next `expected` bytes.
    pub(crate) fn take(&mut self, what: &'static str, expected: u64) -> Result<Vec<u8>> {
        take(&mut self.reader, what, expected)
    }

    /// Passes over the next `expected` bytes.
    pub(crate) fn skip(&mut self, what: &'static str, expected: u64) -> Result<()> {
        let found = std::io::copy(&mut self.reader.by_ref().take(expected), &mut std::io::sink())
            .map_err(unpacking)?;
        if found == expected { Ok(()) } else { Err(Problem::Truncated { what, expected, found }) }
    }

    /// Checks the sums at the end of packed data.
    pub(crate) fn finish(mut self) -> Result<()> {
        if self.packed { end(&mut self.reader) } else { Ok(()) }
    }
}

/// Gzipped data of one member or more. What follows the last and is no member, as padding of archives, is passed
/// over.
pub(crate) struct Members<R>(Option<GzDecoder<Returned<R>>>);

impl<R: BufRead> Members<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self(Some(GzDecoder::new(Returned { byte: None, rest: reader })))
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while let Some(mut member) = self.0.take() {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                self.0 = Some(member);
                return Ok(read);
            }
            let mut rest = member.into_inner();
            if rest.next_byte()? == Some(0x1f) && rest.fill_buf()?.first() == Some(&0x8b) {
                rest.byte = Some([0x1f]);
                self.0 = Some(GzDecoder::new(rest));
            }
        }
        Ok(0)
    }
}

/// A reader to which a byte can be given back.
pub(crate) struct Returned<R> {
    byte: Option<[u8; 1]>,
    rest: R,
}

impl<R: BufRead> Returned<R> {
    /// The next byte; `None` at the end.
    fn next_byte(&mut self) -> std::io::Result<Option<u8>> {
        let byte = self.fill_buf()?.first().copied();
        if byte.is_some() {
            self.consume(1);
        }
        Ok(byte)
    }
}

impl<R: BufRead> Read for Returned<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Returned<R> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        match &self.byte {
            Some(byte) => Ok(byte),
            None => self.rest.fill_buf(),
        }
    }

    fn consume(&mut self, amount: usize) {
        match &self.byte {
            Some(_) if amount > 0 => self.byte = None,
            Some(_) => {}
            None => self.rest.consume(amount),
        }
    }
}

/// Reads packed data to their end, where their sums are checked.
pub(crate) fn end(reader: &mut dyn Read) -> Result<()> {
    std::io::copy(reader, &mut std::io::sink()).map_err(unpacking)?;
    Ok(())
}

/// The next `expected` bytes of a reader. Memory grows with what is there, not with what is expected.
pub(crate) fn take(reader: &mut dyn Read, what: &'static str, expected: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = reader.take(expected).read_to_end(&mut bytes);
    let found = bytes.len() as u64;
    match read {
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => Err(unpacking(error)),
        _ if found < expected => Err(Problem::Truncated { what, expected, found }),
        _ => Ok(bytes),
    }
}

/// Up to `most` bytes from the beginning of a file, unpacked: what tells the format.
pub(crate) fn beginning(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = Source::open(path)?.reader.take(most).read_to_end(&mut bytes);
    match read {
        Err(error) if !damaged(&error) => Err(error.into()),
        _ => Ok(bytes),
    }
}

/// A header of text lines. Ends after the line for which `last` holds; `what` is refused without it.
pub(crate) fn lines(
    reader: &mut dyn BufRead,
    what: &'static str,
    last: impl Fn(&str) -> bool,
) -> Result<Vec<String>> {
    const MOST: u64 = 1 << 20;
    let mut lines = Vec::new();
    let mut left = MOST;
    loop {
        let mut line = Vec::new();
        let read = reader.take(left).read_until(b'\n', &mut line)? as u64;
        left -= read;
        if read == 0 {
            let found = format!("none in the first {} bytes", MOST - left);
            return Err(Problem::content(what, "an end of the header", found));
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        let end = last(&line);
        lines.push(line);
        if end {
            return Ok(lines);
        }
    }
}

fn damaged(error: &std::io::Error) -> bool {
    let kinds = [ErrorKind::UnexpectedEof, ErrorKind::InvalidInput, ErrorKind::InvalidData];
    kinds.contains(&error.kind())
}

fn unpacking(error: std::io::Error) -> Problem {
    if damaged(&error) {
        return Problem::content("packed data", "whole data, copy the file again", error);
    }
    error.into()
}
