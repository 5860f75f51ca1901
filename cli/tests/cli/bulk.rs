//! `enqueue --ndjson`.

use std::io::Write;
use std::process::Stdio;

use crate::support::{World, wait_for};

const BROKEN: &str = r#"{"type":"mail","payload":{"userId":1}}
{"type":"mail","payload":{"userId":1}}
not json

{"type":"nosuch","payload":{}}
{"type":"mail","payload":{"userId":true}}
{"type":"report","payload":{"big":12345678901234567890},"delay":60000}
{"type":"report","priorty":1}
"#;

#[tokio::test]
async fn every_line_is_accounted_for_and_a_broken_one_stops_nothing() {
    let world = World::new().await;
    world.write("jobs", BROKEN);
    let ran = world.run(&["enqueue", "--ndjson", "jobs", "--rejects", "rejected"]).exits(1);
    let ran = ran.prints(&["1 queued, 1 scheduled, 1 duplicate, 4 rejected"]);
    ran.says(&[
        "line 3: rejected:invalid-json",
        "line 5: rejected:unknown-type",
        "line 6: rejected:key-field",
        "line 8:",
        "priorty",
        "rejected",
    ]);
    let rejected = std::fs::read_to_string(world.dir.path().join("rejected")).unwrap();
    let wrong: Vec<&str> = BROKEN
        .lines()
        .enumerate()
        .filter(|(at, _)| [2, 4, 5, 7].contains(at))
        .map(|(_, line)| line)
        .collect();
    assert_eq!(rejected.lines().collect::<Vec<_>>(), wrong);
}

#[tokio::test]
async fn standard_input_in_bulk_keeps_payloads_byte_for_byte() {
    let world = World::new().await;
    let mut lines = String::new();
    for n in 0..1000 {
        lines.push_str(&format!("{{\"type\":\"report\",\"id\":\"r{n}\",\"payload\":{{ \"n\" : {n}.0 }}}}\n"));
    }
    let ran =
        world.run_with_input(&["enqueue", "--ndjson", "-", "-o", "json"], lines.as_bytes()).exits(0).json();
    assert_eq!((ran["lines"].as_u64(), ran["queued"].as_u64()), (Some(1000), Some(1000)));
    let job = world.queue.get(&["r999".to_owned()], true).await.unwrap().remove(0).unwrap();
    assert_eq!(job.payload.unwrap(), br#"{ "n" : 999.0 }"#);
    let again = world
        .run_with_input(&["enqueue", "--ndjson", "-", "-o", "json", "--skip", "600"], lines.as_bytes())
        .exits(0);
    assert_eq!(again.json()["duplicate"], 400);
}

#[tokio::test]
async fn lines_are_sent_as_they_come_and_a_lost_redis_tells_how_to_go_on() {
    let mut world = World::new().await;
    let mut child = world
        .command()
        .args(["enqueue", "--ndjson", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(br#"{"type":"report","id":"first"}"#).unwrap();
    writeln!(stdin).unwrap();
    wait_for("the first line without a full batch", || {
        world.run(&["get", "first"]).code.eq(&0).then_some(())
    });
    world.redis.kill();
    stdin.write_all(br#"{"type":"report","id":"second"}"#).unwrap();
    writeln!(stdin).unwrap();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("1 line acknowledged") && stderr.contains("--skip 1"), "{stderr}");
    // No more is promised of ids than holds.
    assert!(
        stderr.contains("as long as the job's record is kept") && stderr.contains("`keyFor`"),
        "{stderr}"
    );
}

#[tokio::test]
async fn a_line_that_is_no_job_is_told_with_its_field() {
    let world = World::new().await;
    let input = b"[]\n{\"type\":\"report\",\"delay\":[]}\n[\"report\"]\n{\"type\":\"report\"}\n";
    let ran = world.run_with_input(&["enqueue", "--ndjson", "-"], input).exits(1);
    ran.prints(&["1 queued, 3 rejected"]).says(&[
        "line 1: rejected:invalid-json: a line is a JSON object such as",
        "line 2: rejected:invalid-json: the field `delay` takes a whole number of milliseconds",
        "line 3: rejected:invalid-json: a line is a JSON object",
    ]);
}

#[tokio::test]
async fn a_line_that_no_call_can_carry_is_rejected_alone() {
    let world = World::new().await;
    let input = format!(
        "{{\"type\":\"report\",\"payload\":\"{}\"}}\n{{\"type\":\"report\"}}\n",
        "x".repeat(2_000_000)
    );
    let ran = world.run_with_input(&["enqueue", "--ndjson", "-"], input.as_bytes()).exits(1);
    ran.prints(&["1 queued, 1 rejected"]).says(&["line 1: rejected:line-too-long"]);
}
