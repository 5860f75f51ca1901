//! What needs no Redis: help, usage errors, completion, the definitions, finding no target.

use crate::support::run;

#[test]
fn every_command_has_help() {
    let dir = tempfile::tempdir().unwrap();
    for command in [
        "up",
        "apply",
        "adopt",
        "enqueue",
        "status",
        "why",
        "get",
        "pause",
        "resume",
        "cancel",
        "dead",
        "crds",
        "completion",
        "version",
    ] {
        run(dir.path(), &[command, "--help"]).exits(0).prints(&["Usage"]);
    }
    run(dir.path(), &["--help"]).exits(0).prints(&["Exit codes", "enqueue"]);
    // An id is known no longer than its job's record.
    run(dir.path(), &["enqueue", "--help"]).exits(0).prints(&["`completed`", "`keyFor`"]);
    run(dir.path(), &["events", "--help"]).exits(0).prints(&["damaged", "news-lost"]);
}

#[test]
fn wrong_usage_exits_2() {
    let dir = tempfile::tempdir().unwrap();
    for wrong in [
        &["frobnicate"][..],
        &["enqueue"],
        &["enqueue", "mail", "{}", "--priority", "10"],
        &["enqueue", "mail", "{}", "--delay", "soon"],
        &["enqueue", "mail", "{}", "--run-at", "tomorrow"],
        &["enqueue", "--ndjson", "-", "mail"],
        &["cancel", ""],
        &["get", ""],
        &["why", ""],
        &["dead", "show", ""],
        &["dead", "replay"],
        &["dead", "replay", "--all", "--type", "x"],
        &["dead", "replay", "01K", "--type", "x"],
        &["dead", "replay", "--type", "x", "--rate", "50"],
        &["dead", "replay", "--type", "x", "--since", "yesterday"],
        &["dead", "replay", "--type", "x", "--payload", "f"],
        &["dead", "replay", "01K", "--payload", "f", "--dry-run"],
        &["dead", "discard", "01K"],
        &["dead", "ack", "--all"],
        &["dead", "ack", "--all", "--why", ""],
        &["dead", "discard", "01K", "--why", "  "],
        &["dead", "ls", "--fingerprint", "3f9c"],
        &["dead", "ls", "--review", "closed"],
        &["up"],
    ] {
        run(dir.path(), wrong).exits(2);
    }
}

#[test]
fn the_version_and_completions_are_printed() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &["version"]).exits(0).prints(&[env!("CARGO_PKG_VERSION")]);
    assert_eq!(
        run(dir.path(), &["version", "-o", "json"]).exits(0).json()["version"],
        env!("CARGO_PKG_VERSION")
    );
    for shell in ["bash", "zsh", "fish"] {
        run(dir.path(), &["completion", shell]).exits(0).prints(&["lanekeeper", "enqueue"]);
    }
}

#[test]
fn the_definitions_are_printed_or_written() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &["crds"]).exits(0).prints(&["jobqueues.lanekeeper.dev", "workerpools.lanekeeper.dev"]);
    run(dir.path(), &["crds", "--out", "made"]).exits(0);
    assert!(
        dir.path().join("made/jobqueues.yaml").exists() && dir.path().join("made/workerpools.yaml").exists()
    );
}

#[test]
fn without_a_target_it_says_what_to_name() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &["status"]).exits(2).says(&["no Redis is named", "lanekeeper up", "--redis"]);
}

#[test]
fn a_redis_that_refuses_exits_3_and_hides_the_password() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run(dir.path(), &["status", "-q", "apps/saas", "--redis", "redis://u:hunter2@127.0.0.1:1"]);
    let ran = ran.exits(3).says(&["cannot reach redis://u:***@127.0.0.1:1", "→"]);
    assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
    run(dir.path(), &["status", "--redis", "http://x"]).exits(2).says(&["not a Redis URL"]);
}
