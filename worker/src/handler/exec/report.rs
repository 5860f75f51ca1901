//! The program's descriptor 3: a JSON object per line, with `progress`, `checkpoint` or both. It is a pipe of its own, so that
//! nothing a program prints (a vendor's answer, a log line) can pass for a report, and no report for the answer.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;

use tokio::net::unix::pipe::Receiver;

use crate::handler::JobContext;
use crate::handler::notes::{JsonNote, note};
use lanekeeper_queue::types::MAX_CHECKPOINT;

/// The descriptor, in the program.
pub(super) const DESCRIPTOR: i32 = 3;
/// Longest line: a checkpoint of which every byte is escaped (`\u0001`) fits, beside its progress.
const MAX_LINE: usize = 6 * MAX_CHECKPOINT + 8 * 1024;

/// The worker's end of the pipe.
pub(super) struct Reports {
    pipe: Receiver,
    line: Vec<u8>,
    /// The rest of the line is thrown away.
    skipping: bool,
    complained: bool,
    closed: bool,
}

impl Reports {
    /// A pipe; the program gets the second part as its descriptor 3.
    pub(super) fn open() -> io::Result<(Self, OwnedFd)> {
        let (reader, writer) = io::pipe()?;
        let pipe = Receiver::from_owned_fd(reader.into())?;
        Ok((
            Self { pipe, line: Vec::new(), skipping: false, complained: false, closed: false },
            writer.into(),
        ))
    }

    /// Takes down what the program reports. Never ends.
    pub(super) async fn follow(&mut self, job: &JobContext) -> Infallible {
        let mut buffer = [0; 16 * 1024];
        while !self.closed && self.pipe.readable().await.is_ok() {
            match self.pipe.try_read(&mut buffer) {
                Ok(0) => self.closed = true,
                Ok(n) => self.take(&buffer[..n], job),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.closed = true,
            }
        }
        std::future::pending().await
    }

    /// Takes down what it reported last. Asks the pipe itself: the runtime may not have heard of it yet.
    pub(super) fn rest(&mut self, job: &JobContext) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(n @ 1..) = rustix::io::read(&self.pipe, &mut buffer[..]) {
            self.take(&buffer[..n], job);
        }
        // The last line may lack its end.
        let line = std::mem::take(&mut self.line);
        self.heed(&line, job);
    }

    fn take(&mut self, bytes: &[u8], job: &JobContext) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            if !self.skipping && self.line.len() + text.len() > MAX_LINE {
                self.skipping = true;
                self.line.clear();
                self.complain(&format!("a line is longer than {MAX_LINE} bytes"), job);
            }
            if !self.skipping {
                self.line.extend_from_slice(text);
            }
            if ended {
                let line = std::mem::take(&mut self.line);
                if !std::mem::take(&mut self.skipping) {
                    self.heed(&line, job);
                }
            }
        }
    }

    fn heed(&mut self, line: &[u8], job: &JobContext) {
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        if line[0] != b'{' {
            return self.complain("it is no JSON object", job);
        }
        let read = serde_json::from_slice::<JsonNote<'_>>(line).map_err(|error| error.to_string());
        match read.and_then(|said| note(said.progress, said.checkpoint, MAX_CHECKPOINT)) {
            Ok(note) => job.notes.tell(note),
            Err(why) => self.complain(&why, job),
        }
    }

    /// Once for an attempt: a program that gets it wrong gets it wrong again and again.
    fn complain(&mut self, why: &str, job: &JobContext) {
        if !std::mem::replace(&mut self.complained, true) {
            let (id, kind) = (&job.job.id, &job.job.job_type);
            tracing::warn!(
                job = id,
                r#type = kind,
                why,
                "a report on descriptor 3 is not understood: left out"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::testing::context;
    use lanekeeper_queue::types::Note;
    use std::io::Write as _;
    use std::time::Duration;

    /// Follows until something was told.
    async fn told(reports: &mut Reports, job: &JobContext) -> Note {
        let told = async {
            while !job.notes.waits() {
                tokio::task::yield_now().await;
            }
        };
        let both = async {
            tokio::select! {
                never = reports.follow(job) => match never {},
                () = told => {}
            }
        };
        tokio::time::timeout(Duration::from_secs(5), both).await.unwrap();
        job.notes.last().unwrap()
    }

    #[tokio::test]
    async fn lines_are_reports_and_junk_is_left_out() {
        let job = context(b"", Duration::from_secs(1));
        let (mut reports, program) = Reports::open().unwrap();
        let mut program = std::fs::File::from(program);
        program.write_all(b"nonsense\n[]\n{\"progress\": {\"done\": 1}}\n{\"check").unwrap();
        let note = told(&mut reports, &job).await;
        assert_eq!((note.progress.map(|p| p.done), note.checkpoint), (Some(1), None));
        program.write_all(b"point\": \"a\"}\n\n").unwrap();
        assert_eq!(told(&mut reports, &job).await.checkpoint, Some(b"a".to_vec()));
        // Too long a line does not take the next one along.
        let writer = std::thread::spawn(move || {
            program.write_all(&vec![b'x'; MAX_LINE + 20_000]).unwrap();
            program.write_all(b"\n{\"checkpoint\": \"b\"}\n{\"checkpoint\": \"c\"}").unwrap();
        });
        assert_eq!(told(&mut reports, &job).await.checkpoint, Some(b"b".to_vec()));
        writer.join().unwrap();
        reports.rest(&job);
        assert_eq!(
            job.notes.last().unwrap().checkpoint,
            Some(b"c".to_vec()),
            "its end is missing, not its line"
        );
    }
}
