//! Workers' output into one bounded file each.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::platform::PoolRef;

/// A file that has grown beyond this becomes `.1`, in place of the one before.
const ROTATE_AT: u64 = 4 << 20;
/// Most files kept per pool; the oldest go when a worker starts.
const FILES: usize = 40;
/// Longest line taken whole; a longer one is cut there.
const LINE: usize = 16 << 10;
/// Longest line shown in a problem.
const SHOWN: usize = 300;

/// The last line a worker wrote.
pub(super) struct LastLine {
    line: Arc<Mutex<String>>,
    pump: JoinHandle<()>,
}

impl LastLine {
    /// Waits for the rest of the output (a grandchild may hold the pipe: not for long) and answers its last line.
    pub(super) async fn read(self) -> Option<String> {
        let _ = tokio::time::timeout(Duration::from_millis(500), self.pump).await;
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let shown: String = line.chars().take(SHOWN).collect();
        if shown.is_empty() { None } else { Some(shown) }
    }
}

/// Starts copying a child's output to its log file. A log that cannot be written costs nothing but the log:
/// the output is still read, so that the worker never blocks on a full pipe.
pub(super) fn pump(child: &mut Child, dir: &Path, pool: &PoolRef, name: &str) -> LastLine {
    let (lines, received) = mpsc::channel(256);
    if let Some(stdout) = child.stdout.take() {
        tokio::spawn(read(stdout, lines.clone()));
    }
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(read(stderr, lines));
    }
    let line = Arc::new(Mutex::new(String::new()));
    let dir = dir.join(format!("{}_{}", pool.namespace, pool.name));
    let path = dir.join(format!("{name}.log"));
    let pump = tokio::spawn(write(dir, path, received, Arc::clone(&line)));
    LastLine { line, pump }
}

async fn read(from: impl AsyncRead + Unpin, lines: mpsc::Sender<Vec<u8>>) {
    let mut from = BufReader::new(from);
    loop {
        let mut line = Vec::new();
        match bounded_line(&mut from, &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                if lines.send(line).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Reads up to a line feed or [`LINE`] bytes.
async fn bounded_line(from: &mut (impl AsyncBufReadExt + Unpin), line: &mut Vec<u8>) -> io::Result<usize> {
    while line.len() < LINE && line.last() != Some(&b'\n') {
        let there = from.fill_buf().await?;
        if there.is_empty() {
            break;
        }
        let room = &there[..there.len().min(LINE - line.len())];
        let taken = room.iter().position(|b| *b == b'\n').map_or(room.len(), |at| at + 1);
        line.extend_from_slice(&room[..taken]);
        from.consume(taken);
    }
    Ok(line.len())
}

async fn write(dir: PathBuf, path: PathBuf, mut lines: mpsc::Receiver<Vec<u8>>, last: Arc<Mutex<String>>) {
    let mut file = match open(&dir, &path).await {
        Ok(file) => Some(file),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "worker log cannot be written");
            None
        }
    };
    let mut size = fs::metadata(&path).map_or(0, |m| m.len());
    while let Some(line) = lines.recv().await {
        let text = String::from_utf8_lossy(&line);
        if !text.trim().is_empty() {
            text.trim().clone_into(&mut last.lock().unwrap_or_else(PoisonError::into_inner));
        }
        size += line.len() as u64;
        if let Some(out) = &mut file
            && out.write_all(&line).await.is_err()
        {
            file = None;
        }
        if size > ROTATE_AT {
            let _ = fs::rename(&path, path.with_extension("log.1"));
            file = open(&dir, &path).await.ok();
            size = 0;
        }
    }
}

async fn open(dir: &Path, path: &Path) -> io::Result<File> {
    fs::create_dir_all(dir)?;
    tidy(dir);
    File::options().create(true).append(true).open(path).await
}

/// Drops the oldest files of a pool that has had many workers.
fn tidy(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut files: Vec<_> = entries
        .flatten()
        .filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path())))
        .filter(|(_, path)| path.to_string_lossy().contains(".log"))
        .collect();
    files.sort();
    let surplus = files.len().saturating_sub(FILES);
    for (_, path) in files.into_iter().take(surplus) {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_cut_at_their_bound_and_nothing_is_lost() {
        let text = [vec![b'x'; LINE + 10], b"\nshort\nend".to_vec()].concat();
        let mut from = BufReader::new(text.as_slice());
        let mut lengths = Vec::new();
        loop {
            let mut line = Vec::new();
            if bounded_line(&mut from, &mut line).await.expect("memory can be read") == 0 {
                break;
            }
            lengths.push(line.len());
        }
        assert_eq!(lengths, [LINE, 11, 6, 3]);
    }
}
