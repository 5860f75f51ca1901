//! The `exec` handler with real programs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::{context, eventually};
use lanekeeper_api::policy::ExecHandler as Policy;
use lanekeeper_queue::types::ErrorClass;
use lanekeeper_worker::handler::exec::ExecHandler;
use lanekeeper_worker::handler::{Answer, Cause, Failure, Handler, JobContext, MAX_TEXT, code};

fn handler(command: &[&str]) -> ExecHandler {
    ExecHandler::new(Policy {
        command: command.iter().map(|&part| part.to_owned()).collect(),
        env: BTreeMap::from([("DECLARED".to_owned(), "yes".to_owned())]),
        permanent_exit_codes: vec![3],
    })
}

async fn sh(script: &str, job: &JobContext) -> Result<Answer, Failure> {
    handler(&["/bin/sh", "-c", script]).run(job).await
}

/// Runs the script and asks it to stop once `ready` exists.
async fn sh_stopped(script: &str, ready: &Path, cause: Cause) -> Result<Answer, Failure> {
    let job = context(b"", 60);
    let stop = async {
        eventually("the program has started", async || ready.exists()).await;
        job.stop.request(cause);
    };
    let (outcome, ()) = tokio::join!(sh(script, &job), stop);
    outcome
}

fn running(pid_file: &Path) -> bool {
    let pid = std::fs::read_to_string(pid_file).unwrap_or_default();
    let Ok(pid) = pid.trim().parse::<u32>() else { return false };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie that nobody reaps yet has ended as well.
    !stat.is_empty() && !stat.contains(") Z ")
}

#[tokio::test]
async fn the_payload_comes_in_and_the_answer_goes_out() {
    let payload: Vec<u8> = (0..=255).cycle().take(MAX_TEXT).collect();
    let answer = handler(&["cat"]).run(&context(&payload, 10)).await.unwrap();
    assert_eq!(answer.result, payload);
    assert_eq!(handler(&["cat"]).run(&context(b"\x00\xff", 10)).await.unwrap().result, b"\x00\xff");
}

#[tokio::test]
async fn a_program_may_leave_its_input_unread() {
    let payload = vec![b'x'; 1024 * 1024];
    assert_eq!(sh("exec <&-; echo done", &context(&payload, 10)).await.unwrap().result, b"done\n");
    assert!(handler(&["true"]).run(&context(&payload, 10)).await.is_ok());
}

#[tokio::test]
async fn exit_codes_decide() {
    let job = context(b"", 10);
    for (n, class) in [
        (75, ErrorClass::Transient),
        (65, ErrorClass::Permanent),
        (3, ErrorClass::Permanent),
        (1, ErrorClass::Transient),
        (255, ErrorClass::Transient),
    ] {
        let failure = sh(&format!("echo why >&2; exit {n}"), &job).await.unwrap_err();
        assert_eq!(failure.error().class, class, "exit {n}");
        assert_eq!(failure.error().message, format!("exit status: {n}\nwhy"));
    }
    let killed = sh("kill -KILL $$", &job).await.unwrap_err();
    assert_eq!((killed.error().class, killed.error().code.as_str()), (ErrorClass::Ambiguous, code::SIGNAL));
}

#[tokio::test]
async fn the_environment_is_the_jobs_and_nothing_else() {
    let answer = handler(&["env"]).run(&context(b"", 10)).await.unwrap();
    let text = String::from_utf8(answer.result).unwrap();
    let mut names: Vec<_> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.sort_unstable();
    let expected = [
        "DECLARED",
        "LANEKEEPER_ATTEMPT",
        "LANEKEEPER_DEADLINE",
        "LANEKEEPER_IDEMPOTENCY_KEY",
        "LANEKEEPER_JOB_ID",
        "LANEKEEPER_LANE",
        "LANEKEEPER_QUEUE",
        "LANEKEEPER_REPORT_FD",
        "LANEKEEPER_TOKEN",
        "LANEKEEPER_TYPE",
        "PATH",
    ];
    assert_eq!(names, expected);
    // There was something to inherit.
    assert!(std::env::vars_os().count() > 1);
}

#[tokio::test]
async fn an_answer_beyond_64_kib_is_left_out_and_the_success_stands() {
    let answer = handler(&["cat"]).run(&context(&[b'x'; MAX_TEXT + 1], 10)).await.unwrap();
    assert_eq!(answer, Answer::default());
}

#[tokio::test]
async fn a_flood_is_drained_and_its_tail_kept() {
    let script = "head -c 50000000 /dev/zero; echo end; head -c 50000000 /dev/zero >&2; echo err >&2; exit 1";
    let failure = sh(script, &context(b"", 60)).await.unwrap_err();
    assert!(failure.error().message.ends_with("err"));
    assert!(failure.error().message.len() <= MAX_TEXT);
    let answer = sh("head -c 50000000 /dev/zero; echo end", &context(b"", 60)).await.unwrap();
    assert_eq!(answer, Answer::default(), "a part of it would pass for the result");
    // Jobs that are asked for in what is too long must not be left out as if nobody had asked.
    let asking =
        r#"printf '{"enqueue":[{"type":"t","payload":"'; head -c 70000 /dev/zero | tr '\0' x; printf '"}]}'"#;
    let failure = sh(asking, &context(b"", 60)).await.unwrap_err();
    let error = failure.error();
    assert_eq!((error.code.as_str(), error.class), ("AnswerInvalid", ErrorClass::Permanent));
}

#[tokio::test]
async fn what_a_program_leaves_in_its_group_is_killed_and_delays_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let script = format!(
        "sleep 300 & echo $! > {}; for i in 1 2 3 4 5 6 7 8; do sleep 300 & done; echo ok",
        pid.display()
    );
    let began = Instant::now();
    assert_eq!(sh(&script, &context(b"", 60)).await.unwrap().result, b"ok\n");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    eventually("the grandchild is gone", async || !running(&pid)).await;
}

#[tokio::test]
async fn a_grandchild_that_left_the_group_with_the_pipes_delays_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let script = format!(
        "setsid sh -c 'echo $$ > {}; exec sleep 300' & until [ -s {0} ]; do :; done; echo ok",
        pid.display()
    );
    let began = Instant::now();
    assert_eq!(sh(&script, &context(b"", 60)).await.unwrap().result, b"ok\n");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let left = std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(left).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
}

#[tokio::test]
async fn a_timeout_ends_a_program_that_listens_to_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let ready = dir.path().join("ready");
    // Ends with 0 on SIGTERM: even that is no success once the timeout is over.
    let script =
        format!("trap 'echo bye >&2; exit 0' TERM; touch {}; while :; do sleep 0.1; done", ready.display());
    let failure = sh_stopped(&script, &ready, Cause::Timeout).await.unwrap_err();
    assert_eq!(
        (failure.error().class, failure.error().code.as_str()),
        (ErrorClass::Ambiguous, code::TIMEOUT)
    );
    assert!(failure.error().message.ends_with("bye"), "{}", failure.error().message);
}

#[tokio::test]
async fn a_program_that_ignores_sigterm_is_killed_with_its_group() {
    let dir = tempfile::tempdir().unwrap();
    let (ready, pid) = (dir.path().join("ready"), dir.path().join("pid"));
    let script = format!(
        "trap '' TERM; sh -c 'echo $$ > {}; while :; do sleep 1; done' & touch {}; while :; do sleep 1; done",
        pid.display(),
        ready.display()
    );
    let began = Instant::now();
    let failure = sh_stopped(&script, &ready, Cause::Timeout).await.unwrap_err();
    assert_eq!(failure.error().code, code::TIMEOUT);
    assert!(failure.error().message.contains("SIGKILL"), "{}", failure.error().message);
    assert!(began.elapsed() >= Duration::from_secs(5) && began.elapsed() < Duration::from_secs(8));
    eventually("the grandchild is gone", async || !running(&pid)).await;
}

#[tokio::test]
async fn dropping_an_attempt_kills_its_group() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let script = format!("trap '' TERM; echo $$ > {}; while :; do sleep 1; done", pid.display());
    let job = context(b"", 60);
    tokio::select! {
        _ = sh(&script, &job) => panic!("it must not end by itself"),
        () = eventually("the program has started", async || running(&pid)) => {}
    }
    eventually("the program is gone", async || !running(&pid)).await;
}

#[tokio::test]
async fn a_missing_program_is_transient_and_says_what_to_do() {
    let failure = handler(&["/no/such/program"]).run(&context(b"", 10)).await.unwrap_err();
    let error = failure.error();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Transient, code::PROGRAM_MISSING));
    assert!(
        error.message.contains("/no/such/program") && error.message.contains("image"),
        "{}",
        error.message
    );
    let failure = handler(&["/"]).run(&context(b"", 10)).await.unwrap_err();
    assert_eq!(failure.error().code, code::SPAWN_FAILED);
}
