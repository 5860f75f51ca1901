//! Reads lines from a file or standard input, bounded in length.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use tokio::sync::mpsc::Sender;

use crate::failure::{Failure, Result};

/// Longest line that can be a job: what one call may carry.
pub(super) const LONGEST_LINE: usize = 1024 * 1024;

/// A line with its number, from 1.
#[derive(Debug)]
pub(super) struct Raw {
    /// From 1.
    pub(super) number: u64,
    /// Without the newline; one byte over the limit when it was cut.
    pub(super) text: Vec<u8>,
    /// Bytes read for it, newline included.
    pub(super) bytes: u64,
}

/// Where lines come from.
pub(super) struct Source {
    reader: Box<dyn BufRead + Send>,
    bytes: Option<u64>,
}

impl Source {
    /// Opens a file, or standard input for `-`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        if path.as_os_str() == "-" {
            return Ok(Self { reader: Box::new(BufReader::new(std::io::stdin())), bytes: None });
        }
        let cannot =
            |error: std::io::Error| Failure::invalid(format!("cannot read {}: {error}", path.display()));
        let file = File::open(path).map_err(cannot)?;
        let meta = file.metadata().map_err(cannot)?;
        if meta.is_dir() {
            return Err(Failure::invalid(format!("cannot read {}: it is a directory", path.display())));
        }
        let bytes = meta.is_file().then_some(meta.len());
        Ok(Self { reader: Box::new(BufReader::with_capacity(256 * 1024, file)), bytes })
    }

    /// Size, if known.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// Hands every line that is not blank to `lines`, until the end or until nobody listens.
    pub(super) fn read(mut self, skip: u64, lines: &Sender<Raw>) -> std::io::Result<()> {
        let mut number = 0;
        while let Some((text, bytes)) = next_line(&mut self.reader)? {
            number += 1;
            let blank = text.iter().all(u8::is_ascii_whitespace);
            if number <= skip || blank {
                continue;
            }
            if lines.blocking_send(Raw { number, text, bytes }).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// One line and the bytes it took. A line over the limit is cut one byte beyond it, and its rest is passed over.
fn next_line(reader: &mut impl BufRead) -> std::io::Result<Option<(Vec<u8>, u64)>> {
    let mut text = Vec::new();
    let mut bytes = reader.by_ref().take(LONGEST_LINE as u64 + 2).read_until(b'\n', &mut text)? as u64;
    if bytes == 0 {
        return Ok(None);
    }
    if text.last() == Some(&b'\n') {
        text.pop();
        if text.last() == Some(&b'\r') {
            text.pop();
        }
    } else if text.len() > LONGEST_LINE {
        text.truncate(LONGEST_LINE + 1);
        bytes += skip_line(reader)?;
    }
    Ok(Some((text, bytes)))
}

fn skip_line(reader: &mut impl BufRead) -> std::io::Result<u64> {
    let mut bytes = 0;
    loop {
        let buffer = reader.fill_buf()?;
        let end = buffer.iter().position(|&b| b == b'\n').map(|at| at + 1);
        let used = end.unwrap_or(buffer.len());
        bytes += used as u64;
        reader.consume(used);
        if end.is_some() || used == 0 {
            return Ok(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut input: &[u8]) -> Vec<(usize, u64)> {
        let mut lines = Vec::new();
        while let Some((text, bytes)) = next_line(&mut input).unwrap() {
            lines.push((text.len(), bytes));
        }
        lines
    }

    #[test]
    fn lines_end_at_newlines_or_the_end() {
        assert_eq!(all(b"ab\r\nc\n\nd"), [(2, 4), (1, 2), (0, 1), (1, 1)]);
    }

    #[test]
    fn an_endless_line_is_cut_and_the_next_one_still_read() {
        let mut input = vec![b'x'; 3 * LONGEST_LINE];
        input.extend(b"\nok\n");
        assert_eq!(all(&input), [(LONGEST_LINE + 1, 3 * LONGEST_LINE as u64 + 1), (2, 3)]);
    }
}
