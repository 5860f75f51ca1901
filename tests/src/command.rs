//! Other programs: started with a time limit, their words kept.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Longest any program may run; bringing up a cluster from nothing takes the longest.
const LIMIT: Duration = Duration::from_secs(40 * 60);

/// What a program said.
#[derive(Debug, Clone)]
pub struct Said {
    /// The command line, for messages.
    pub line: String,
    /// Exit code; absent when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// Standard output of a program that has to succeed.
    ///
    /// # Errors
    /// When it did not.
    pub fn success(self) -> Result<String> {
        if self.code == Some(0) {
            return Ok(self.out);
        }
        bail!("`{}` ended with {:?}\n{}{}", self.line, self.code, self.out, self.err)
    }

    /// Standard error of a program that has to fail.
    ///
    /// # Errors
    /// When it succeeded.
    pub fn refusal(self) -> Result<String> {
        if self.code == Some(0) {
            bail!("`{}` should have been refused but succeeded:\n{}", self.line, self.out)
        }
        Ok(self.err)
    }
}

/// The repository's root.
#[must_use]
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a program in the repository's root to its end, with `input` on its standard input.
///
/// # Errors
/// When it cannot be started or does not end in time.
pub async fn run(command: &mut Command, input: &str) -> Result<Said> {
    let std = command.as_std();
    let words: Vec<_> =
        std::iter::once(std.get_program()).chain(std.get_args()).map(OsStr::to_string_lossy).collect();
    let line = words.join(" ");
    command.current_dir(repository()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().with_context(|| format!("cannot start `{line}`"))?;
    let mut stdin = child.stdin.take().context("the child's standard input was asked for")?;
    let written = async move {
        // A program that ends without reading is judged by its exit code.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
    };
    let both = async { tokio::join!(written, child.wait_with_output()).1 };
    let output =
        tokio::time::timeout(LIMIT, both).await.with_context(|| format!("`{line}` did not end"))??;
    Ok(Said {
        line,
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
