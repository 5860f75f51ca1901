//! The program as workers and people start it.

#![allow(clippy::unwrap_used, reason = "a helper that fails must fail the test")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn saas_app(args: &[&str], data: &std::path::Path, stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_saas-app"))
        .args(args)
        .env_clear()
        .env("SAAS_DATA", data)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn report_reads_a_payload_and_answers_with_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let done = saas_app(&["report"], folder.path(), r#"{"customerId":"cust-1","period":"2026-02"}"#);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let told: saas_app::report::Report = serde_json::from_slice(&done.stdout).unwrap();
    let document = lopdf::Document::load(folder.path().join("reports").join(&told.file)).unwrap();
    assert_eq!(document.get_pages().len(), told.pages);
}

#[test]
fn report_ends_with_65_for_a_bad_payload_and_75_for_a_bad_disk() {
    let folder = tempfile::tempdir().unwrap();
    let bad = saas_app(&["report"], folder.path(), r#"{"customerId":"cust-1","period":"soon"}"#);
    assert_eq!(bad.status.code(), Some(65), "{bad:?}");
    assert!(String::from_utf8_lossy(&bad.stderr).contains("period must be a month"), "{bad:?}");
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let disk = saas_app(&["report"], &file, r#"{"customerId":"cust-1","period":"2026-02"}"#);
    assert_eq!(disk.status.code(), Some(75), "{disk:?}");
}

#[test]
fn a_customer_is_reopened_once() {
    let folder = tempfile::tempdir().unwrap();
    let reopen = || saas_app(&["reopen-customer", "cust-410"], folder.path(), "").status.code();
    assert_eq!((reopen(), reopen()), (Some(0), Some(1)));
}

#[test]
fn the_demo_says_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let summary = folder.path().join("summary.json");
    let args = ["demo", "--lanekeeper", "/nowhere/lanekeeper", "--summary", summary.to_str().unwrap()];
    let done = saas_app(&args, folder.path(), "");
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stderr).contains("cargo build -p lanekeeper"), "{done:?}");
}
