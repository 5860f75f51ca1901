//! The `exec` handler: one process per attempt, started without a shell in a process group of its own.
//!
//! | end | means |
//! |---|---|
//! | exit 0 | success; standard output is the answer, unless it is longer than 64 KiB |
//! | exit 75 (`EX_TEMPFAIL`) | transient |
//! | exit 65 (`EX_DATAERR`), `permanentExitCodes` | permanent |
//! | any other exit | transient |
//! | ended by a signal | ambiguous: it may have died half-way |
//! | the timeout | ambiguous: SIGTERM, five seconds later SIGKILL, both to the whole group |
//! | the program is missing or cannot be started | transient: nothing ran, and a fixed image or mount repairs it |
//!
//! The environment holds `PATH`, `LANEKEEPER_*` of the job and what the policy declares; nothing else of the worker's,
//! the Redis URL least of all. Output is drained for as long as the program runs, of however much nobody keeps more than its ends. When the
//! program ends, what it left behind in its group is killed, and pipes that somebody still holds are let go.
//!
//! While it runs it may report progress and leave a checkpoint on descriptor 3, a JSON object per line; the next attempt gets
//! the checkpoint as `LANEKEEPER_CHECKPOINT`.

mod child;
mod report;
mod tail;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use lanekeeper_api::policy;
use lanekeeper_queue::types::MAX_CHECKPOINT;
use tokio::process::Command;

use super::{Answer, Cause, Failure, Handler, JobContext, MAX_TEXT, Running, code};
use child::{Child, Ended};
use report::Reports;

/// Between SIGTERM and SIGKILL.
const KILL_GRACE: Duration = Duration::from_secs(5);
/// `EX_TEMPFAIL` of sysexits.h.
const EX_TEMPFAIL: i32 = 75;
/// `EX_DATAERR` of sysexits.h.
const EX_DATAERR: i32 = 65;
/// What the last attempt left.
const CHECKPOINT: &str = "LANEKEEPER_CHECKPOINT";
/// Where programs are looked for when the worker itself has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs jobs as programs.
pub struct ExecHandler {
    policy: policy::ExecHandler,
}

impl ExecHandler {
    /// A handler for `policy`.
    #[must_use]
    pub fn new(policy: policy::ExecHandler) -> Self {
        Self { policy }
    }

    fn command(&self, job: &JobContext) -> Result<Command, Failure> {
        let Some((program, args)) = self.policy.command.split_first() else {
            return Err(Failure::transient(code::SPAWN_FAILED, "the handler's command is empty"));
        };
        let mut command = Command::new(program);
        command.args(args).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into()));
        // Declared variables first: the contract's own names cannot be forged by a policy.
        command.envs(&self.policy.env).envs(environment(job)).env_remove(CHECKPOINT);
        match job.checkpoint() {
            Some(left) if left.contains(&0) => tracing::warn!(
                job = job.job.id,
                "the checkpoint holds a NUL, which no environment variable can: the program does not get it"
            ),
            Some(left) => drop(command.env(CHECKPOINT, OsStr::from_bytes(left))),
            None => {}
        }
        Ok(command)
    }

    async fn attempt(&self, job: &JobContext) -> Result<Answer, Failure> {
        let command = self.command(job)?;
        let (mut reports, report) = Reports::open().map_err(|e| self.not_started(&e))?;
        let child =
            Child::spawn(command, job.job.payload.clone(), report).map_err(|e| self.not_started(&e))?;
        let ended = tokio::select! {
            biased;
            ended = until_the_end(child, job) => ended,
            never = reports.follow(job) => match never {},
        };
        // What it reported last may still stand in the pipe.
        reports.rest(job);
        self.outcome(ended?, job)
    }

    /// The end of a program that was not told to end.
    fn outcome(&self, ended: Ended, job: &JobContext) -> Result<Answer, Failure> {
        let message = with_tail(&ended.status.to_string(), &ended.stderr);
        match exit(ended.status) {
            Exit::Code(0) => {
                let whole = ended.stdout_head.is_none();
                // What an answer asks for stands at its beginning: too long to be followed must not pass for done. Of one that
                // asks for nothing a part is no result.
                let answer = ended.stdout_head.unwrap_or(ended.stdout);
                Answer::parse(answer, whole, &job.notes, MAX_CHECKPOINT)
            }
            Exit::Code(EX_TEMPFAIL) => Err(Failure::transient(code::EXIT_CODE, message)),
            Exit::Code(n) if n == EX_DATAERR || self.policy.permanent_exit_codes.contains(&n) => {
                Err(Failure::permanent(code::EXIT_CODE, message))
            }
            Exit::Code(_) => Err(Failure::transient(code::EXIT_CODE, message)),
            Exit::Signal => Err(Failure::ambiguous(code::SIGNAL, message)),
        }
    }

    fn not_started(&self, error: &io::Error) -> Failure {
        let program = self.policy.command.first().map_or("", String::as_str);
        if error.kind() == io::ErrorKind::NotFound {
            let text = format!(
                "there is no program {program:?} in this worker's image (or the interpreter it names is missing): \
                 fix the handler's command or the pool's image"
            );
            return Failure::transient(code::PROGRAM_MISSING, text);
        }
        Failure::transient(code::SPAWN_FAILED, format!("cannot start {program:?}: {error}"))
    }
}

impl Handler for ExecHandler {
    fn run<'a>(&'a self, job: &'a JobContext) -> Running<'a> {
        Box::pin(self.attempt(job))
    }
}

/// Waits until the program has ended, by itself or because it was stopped.
async fn until_the_end(mut child: Child, job: &JobContext) -> Result<Ended, Failure> {
    tokio::select! {
        biased;
        ended = child.ended() => {
            ended.map_err(|e| Failure::ambiguous(code::SPAWN_FAILED, format!("lost sight of the program: {e}")))
        }
        cause = job.stop.requested() => Err(stop(child, cause, job).await),
    }
}

/// SIGTERM, a grace, SIGKILL. Whatever the exit code: a program that ends because it was told to has not succeeded.
async fn stop(mut child: Child, cause: Cause, job: &JobContext) -> Failure {
    child.terminate();
    let ended = match tokio::time::timeout(KILL_GRACE, child.ended()).await {
        Ok(ended) => ended,
        Err(_) => {
            child.kill();
            child.ended().await
        }
    };
    let (how, stderr) = match ended {
        Ok(ended) => (ended.status.to_string(), ended.stderr),
        Err(error) => (error.to_string(), Vec::new()),
    };
    match cause {
        Cause::Timeout => {
            let text = format!("still running after its timeout of {:?}, stopped ({how})", job.timeout);
            Failure::ambiguous(code::TIMEOUT, with_tail(&text, &stderr))
        }
        other => Failure::ambiguous(
            code::STOPPED,
            with_tail(&format!("stopped: {} ({how})", other.as_str()), &stderr),
        ),
    }
}

enum Exit {
    Code(i32),
    Signal,
}

fn exit(status: ExitStatus) -> Exit {
    status.code().map_or(Exit::Signal, Exit::Code)
}

/// What the worker says, then what the program said: the first line alone may go into logs.
fn with_tail(what: &str, stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let text = text.trim();
    // The end tells most, so a text that does not fit loses its beginning.
    let mut from = (what.len() + 1 + text.len()).saturating_sub(MAX_TEXT);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    if text.is_empty() { what.to_owned() } else { format!("{what}\n{}", &text[from..]) }
}

/// The job, as environment variables. A NUL cannot stand in one and is left out; no key has any.
fn environment(job: &JobContext) -> Vec<(&'static str, String)> {
    let mut env = vec![
        ("LANEKEEPER_JOB_ID", job.job.id.clone()),
        ("LANEKEEPER_QUEUE", job.queue.to_string()),
        ("LANEKEEPER_LANE", job.job.lane.clone()),
        ("LANEKEEPER_TYPE", job.job.job_type.clone()),
        ("LANEKEEPER_ATTEMPT", job.job.attempt.to_string()),
        ("LANEKEEPER_TOKEN", job.job.token.to_string()),
        ("LANEKEEPER_DEADLINE", job.deadline_ms().to_string()),
        ("LANEKEEPER_IDEMPOTENCY_KEY", job.idempotency_key().to_owned()),
        ("LANEKEEPER_REPORT_FD", report::DESCRIPTOR.to_string()),
    ];
    if let Some(parent) = job.traceparent() {
        env.push(("LANEKEEPER_TRACEPARENT", parent.to_owned()));
    }
    if let Some(meta) = job.meta_json() {
        env.push(("LANEKEEPER_META", meta));
    }
    for (_, value) in &mut env {
        value.retain(|c| c != '\0');
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::testing::context;
    use lanekeeper_queue::types::ErrorClass;
    use std::os::unix::process::ExitStatusExt as _;

    fn end(raw: i32, permanent: &[i32]) -> Result<Answer, Failure> {
        let handler = ExecHandler::new(policy::ExecHandler {
            command: vec!["x".into()],
            env: Default::default(),
            permanent_exit_codes: permanent.to_vec(),
        });
        let status = ExitStatus::from_raw(raw);
        let job = context(b"", Duration::from_secs(1));
        handler.outcome(
            Ended { status, stdout: b"out".to_vec(), stdout_head: None, stderr: b"why\n".to_vec() },
            &job,
        )
    }

    fn class(raw: i32, permanent: &[i32]) -> ErrorClass {
        end(raw, permanent).unwrap_err().error().class
    }

    #[test]
    fn exit_codes_mean_what_the_contract_says() {
        assert_eq!(end(0, &[]).unwrap().result, b"out");
        assert_eq!(class(75 << 8, &[]), ErrorClass::Transient);
        assert_eq!(class(65 << 8, &[]), ErrorClass::Permanent);
        assert_eq!(class(1 << 8, &[]), ErrorClass::Transient);
        assert_eq!(class(3 << 8, &[3, 4]), ErrorClass::Permanent);
        assert_eq!(class(9, &[9]), ErrorClass::Ambiguous);
    }

    #[test]
    fn messages_name_the_end_and_carry_the_tail_of_stderr() {
        assert_eq!(end(3 << 8, &[]).unwrap_err().error().message, "exit status: 3\nwhy");
        assert!(end(9, &[]).unwrap_err().error().message.contains("signal: 9 (SIGKILL)"));
    }

    #[test]
    fn the_environment_describes_the_job() {
        let env = environment(&context(b"", Duration::from_secs(2)));
        let get = |name| env.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str());
        assert_eq!(get("LANEKEEPER_JOB_ID"), Some("01J0"));
        assert_eq!(get("LANEKEEPER_DEADLINE"), Some("1700000003000"));
        assert_eq!(get("LANEKEEPER_IDEMPOTENCY_KEY"), Some("k:1"));
        assert!(env.iter().all(|(name, _)| !name.contains("REDIS")));
        assert_eq!(get("LANEKEEPER_META"), None);
        let mut job = context(b"", Duration::from_secs(2));
        job.job.meta = [("tenant".into(), "a\0c".into()), ("traceparent".into(), "00-a".into())].into();
        let env = environment(&job);
        let meta = env.iter().find(|(name, _)| *name == "LANEKEEPER_META").unwrap();
        assert_eq!(meta.1, r#"{"tenant":"a\u0000c"}"#);
    }
}
