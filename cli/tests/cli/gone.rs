//! `enqueue --wait` of jobs whose records go with their ends.

use std::process::{Child, Output, Stdio};

use lanekeeper_queue::types::Outcome;

use crate::support::{QUEUE, World, wait_for};

/// A queue that keeps no record of a job that ended well or was cancelled.
async fn forgetful() -> World {
    World::with(&QUEUE.replace("  defaults:", "  defaults:\n    completed: {keep: 0}")).await
}

fn waiting(world: &World, rest: &[&str]) -> Child {
    let mut command = world.command();
    command.args(["enqueue", "report", "{}", "--id", "mine", "--wait"]).args(rest);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the job", || world.run(&["get", "mine"]).code.eq(&0).then_some(()));
    child
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

async fn succeed(world: &World) {
    let job = world.claim("slow").await;
    world.settle(&job, Outcome::Success { result: b"made".to_vec(), follow_ups: vec![] }).await;
}

#[tokio::test]
async fn a_success_of_which_no_record_is_kept_is_a_success() {
    let world = forgetful().await;
    let child = waiting(&world, &[]);
    succeed(&world).await;
    world.run(&["get", "mine"]).exits(4);
    let (code, stdout, stderr) = said(&child.wait_with_output().unwrap());
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("job mine succeeded") && stdout.contains("`completed`"), "{stdout}");

    let child = waiting(&world, &["-o", "json"]);
    succeed(&world).await;
    let (code, stdout, stderr) = said(&child.wait_with_output().unwrap());
    assert_eq!(code, Some(0), "{stderr}");
    let shown: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(shown, serde_json::json!({"id": "mine", "state": "succeeded", "recordKept": false}));
}

#[tokio::test]
async fn a_cancelled_job_of_which_no_record_is_kept_has_not_succeeded() {
    let world = forgetful().await;
    let child = waiting(&world, &[]);
    world.run(&["cancel", "mine"]).exits(0);
    let (code, _, stderr) = said(&child.wait_with_output().unwrap());
    assert!(code == Some(1) && stderr.contains("job mine is cancelled"), "{code:?} {stderr}");
    // The news of that one says nothing of the next that has its id.
    let child = waiting(&world, &["-o", "json"]);
    succeed(&world).await;
    let (code, stdout, stderr) = said(&child.wait_with_output().unwrap());
    assert!(code == Some(0) && stdout.contains("succeeded"), "{code:?} {stdout} {stderr}");
}

#[tokio::test]
async fn a_key_that_a_success_keeps_tells_of_it() {
    let world = forgetful().await;
    let done = world.enqueue(&["mail", r#"{"userId":1}"#]);
    let job = world.claim("fast").await;
    world.settle(&job, Outcome::Success { result: vec![], follow_ups: vec![] }).await;
    let again = world.run(&["enqueue", "mail", r#"{"userId":1}"#, "--wait"]).exits(0);
    again.prints(&[&format!("job {done} succeeded")]).says(&["duplicate"]);
}
