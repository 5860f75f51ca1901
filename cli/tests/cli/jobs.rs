//! `enqueue`, `get`, `cancel`, `status`.

use lanekeeper_queue::testing::TestRedis;
use lanekeeper_queue::types::{JobState, Outcome};

use crate::support::{QUEUE, World, run, wait_for};

#[tokio::test]
async fn one_job_is_enqueued_in_every_way() {
    let world = World::new().await;
    world.run(&["enqueue", "mail", r#"{"userId":1}"#]).exits(0).prints(&["queued"]);
    world.run(&["enqueue", "mail", r#"{"userId":1}"#]).exits(0).prints(&["duplicate", "ready"]);
    world.run(&["enqueue", "mail", r#"{"userId":2}"#, "--delay", "1h"]).exits(0).prints(&["scheduled"]);
    let bytes = [0, 159, 255, 10];
    std::fs::write(world.dir.path().join("payload"), bytes).unwrap();
    let id = world.enqueue(&[
        "report",
        "@payload",
        "--meta",
        "a=1",
        "--meta",
        "b=2",
        "--priority",
        "0",
        "--id",
        "mine",
    ]);
    assert_eq!(id, "mine");
    let job = world.queue.get(&[id], true).await.unwrap().remove(0).unwrap();
    assert_eq!((job.payload.as_deref(), job.priority), (Some(&bytes[..]), 0));
    assert_eq!(job.meta.len(), 2);
    let piped =
        world.run_with_input(&["enqueue", "report", "-", "-o", "json"], b"from stdin").exits(0).json();
    let id = piped["id"].as_str().unwrap();
    let raw = world.command().args(["get", id, "--payload"]).output().unwrap();
    assert_eq!(raw.stdout, b"from stdin");
}

#[tokio::test]
async fn a_rejected_job_says_why_and_exits_1() {
    let world = World::new().await;
    world.run(&["enqueue", "male", "{}"]).exits(1).says(&["rejected:unknown-type", "mail, report"]);
    world.run(&["enqueue", "mail", "{}"]).exits(1).says(&["rejected:key-field", "userId"]);
    let large = format!("\"{}\"", "x".repeat(300 * 1024));
    world.write("large", &large);
    world.run(&["enqueue", "report", "@large"]).exits(1).says(&["rejected:payload-too-large"]);
    let json = world.run(&["enqueue", "male", "{}", "-o", "json"]).exits(1).json();
    assert_eq!(json["reason"], "unknown-type");
    world.run(&["enqueue", "mail", "@nowhere"]).exits(2).says(&["nowhere"]);
    world.run(&["enqueue", "-q", "apps/none", "mail", "{}"]).exits(4).says(&["no queue apps/none"]);
    world.run(&["enqueue", "-q", "a/b/c", "mail", "{}"]).exits(2).says(&["not the name of a queue"]);
}

#[tokio::test]
async fn a_full_redis_is_named_and_the_acknowledged_lines_are_counted() {
    let redis =
        TestRedis::start_with(&["--maxmemory", "8mb", "--maxmemory-policy", "noeviction"]).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("queue.yaml"), QUEUE).unwrap();
    let url = redis.url();
    run(dir.path(), &["apply", "-f", "queue.yaml", "--redis", &url]).exits(0);
    let line = format!("{{\"type\":\"report\",\"payload\":\"{}\"}}\n", "x".repeat(20_000));
    std::fs::write(dir.path().join("jobs"), line.repeat(1000)).unwrap();
    let stopped = run(dir.path(), &["enqueue", "--ndjson", "jobs", "--redis", &url]).exits(1);
    stopped.says(&["is full", "acknowledged", "--skip"]);
    std::fs::write(dir.path().join("large"), "x".repeat(200_000)).unwrap();
    let one = || run(dir.path(), &["enqueue", "report", "@large", "--redis", &url]);
    let refused = (0..100).map(|_| one()).find(|ran| ran.code != 0).unwrap();
    refused.exits(1).says(&["is full", "maxmemory"]);
}

#[tokio::test]
async fn a_full_queue_asks_for_patience_and_not_for_corrections() {
    let world = World::with(&QUEUE.replace("spec:\n", "spec:\n  capacity: {jobs: 1}\n")).await;
    world.enqueue(&["report", "{}"]);
    world.run(&["enqueue", "report", "{}"]).exits(1).says(&[
        "rejected:queue-full",
        "→ enqueue it again once jobs have ended",
        "spec.capacity",
    ]);
    world.write("jobs", "{\"type\":\"report\"}\n");
    world.run(&["enqueue", "--ndjson", "jobs", "--rejects", "rejected"]).exits(1).says(&[
        "1 × queue-full",
        "send rejected again once jobs have ended",
        "nothing to correct",
    ]);
}

#[tokio::test]
async fn waiting_ends_with_the_job() {
    let world = World::new().await;
    let waiting = world
        .command()
        .args(["enqueue", "report", "{}", "--wait", "-o", "json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_until_ready(&world).await;
    let job = world.claim("slow").await;
    world.settle(&job, Outcome::Success { result: b"made".to_vec(), follow_ups: vec![] }).await;
    let output = waiting.wait_with_output().unwrap();
    assert!(output.status.success());
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((shown["state"].as_str(), shown["result"].as_str()), (Some("succeeded"), Some("made")));
    let late = world.run(&["enqueue", "report", "{}", "--wait", "--timeout", "300ms"]).exits(1);
    late.says(&["did not end in time", "ready", "lanekeeper why"]);
}

#[tokio::test]
async fn who_gives_up_waiting_keeps_the_id_of_the_job() {
    let world = World::new().await;
    let late = world.run(&["enqueue", "report", "{}", "--wait", "--timeout", "300ms", "-o", "json"]).exits(1);
    let id = late.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(late.json()["state"], "ready");
    late.says(&[&format!("{id} queued"), "did not end in time"]);
    let mut waiting = waiting(&world, "5m");
    let (id, mut stderr) = noted(&mut waiting);
    let pid = waiting.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = waiting.wait_with_output().unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), shown["id"].as_str()), (Some(1), Some(id.as_str())));
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut rest).unwrap();
    assert!(rest.contains("interrupted") && rest.contains(&id), "{rest}");
}

#[tokio::test]
async fn waiting_outlives_a_restart_of_redis() {
    let mut world = World::new().await;
    let mut waiting = waiting(&world, "5m");
    let (id, mut stderr) = noted(&mut waiting);
    world.redis.stop().await.unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stderr, &mut line).unwrap();
    assert!(line.contains("is away"), "{line}");
    world.redis.restart().await.unwrap();
    assert_eq!(world.run(&["get", &id, "-o", "json"]).exits(0).json()["state"], "ready");
    world.queue = world.redis.queue("apps/saas").await.unwrap();
    let job = world.claim("slow").await;
    world.settle(&job, Outcome::Success { result: b"made".to_vec(), follow_ups: vec![] }).await;
    let output = waiting.wait_with_output().unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), shown["result"].as_str()), (Some(0), Some("made")));
}

#[tokio::test]
async fn an_outage_longer_than_the_wait_keeps_the_id() {
    let mut world = World::new().await;
    let mut waiting = waiting(&world, "2s");
    let (id, mut stderr) = noted(&mut waiting);
    world.redis.kill();
    let output = waiting.wait_with_output().unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), shown["id"].as_str()), (Some(3), Some(id.as_str())));
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut rest).unwrap();
    assert!(rest.contains("is away") && rest.contains(&format!("job {id} was taken before")), "{rest}");
}

/// A program that waits for a job.
fn waiting(world: &World, timeout: &str) -> std::process::Child {
    world
        .command()
        .args(["enqueue", "report", "{}", "--wait", "--timeout", timeout, "-o", "json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap()
}

/// The id that it noted first, and the rest of its standard error.
fn noted(waiting: &mut std::process::Child) -> (String, std::io::BufReader<std::process::ChildStderr>) {
    let mut stderr = std::io::BufReader::new(waiting.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stderr, &mut line).unwrap();
    (line.split(' ').next().unwrap().to_owned(), stderr)
}

async fn wait_until_ready(world: &World) {
    loop {
        let stats = world.queue.stats().await.unwrap();
        if stats.lanes.iter().flat_map(|lane| &lane.types).any(|t| t.ready > 0) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn waiting_also_waits_for_a_queue_that_is_about_to_be_applied() {
    let world = World::empty().await;
    let enqueue = ["enqueue", "-q", "apps/saas", "report", "{}", "--wait", "--timeout", "1s"];
    let waiting = world
        .command()
        .args(enqueue)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    world.write("queue.yaml", QUEUE);
    world.run(&["apply", "-f", "queue.yaml"]).exits(0);
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("did not end in time"));
}

#[tokio::test]
async fn a_job_is_shown_and_called_off() {
    let world = World::new().await;
    let id = world.enqueue(&["mail", r#"{"userId":1}"#]);
    world.run(&["get", &id]).exits(0).prints(&[&id, "mail", "fast", "ready", "mail:1"]);
    assert_eq!(world.run(&["get", &id, "-o", "json"]).exits(0).json()["type"], "mail");
    world.run(&["cancel", &id]).exits(0).prints(&["cancelled"]);
    let job = world.queue.get(std::slice::from_ref(&id), false).await.unwrap().remove(0).unwrap();
    assert_eq!(job.state, JobState::Cancelled);
    world.run(&["cancel", &id]).exits(1).prints(&["wrong-state"]);
    world.run(&["cancel", "nosuch"]).exits(4).prints(&["not-found"]);
    world.run(&["get", "nosuch"]).exits(4).says(&["no job `nosuch`", "→", "dead.keepReviewedFor"]);
}

#[tokio::test]
async fn a_job_is_found_by_its_key() {
    let world = World::new().await;
    let state = |key: &str| {
        let json = world.run(&["get", "--key", key, "-o", "json"]).exits(0).json();
        (json["id"].as_str().unwrap().to_owned(), json["state"].as_str().unwrap().to_owned())
    };
    let id = world.enqueue(&["mail", r#"{"userId":1}"#]);
    assert_eq!(state("mail:1"), (id.clone(), "ready".to_owned()));
    world.run(&["get", "--key", "mail:1"]).exits(0).prints(&[&id, "mail:1"]);
    world.run(&["get", "--key", "mail:1", "--payload"]).exits(0).prints(&[r#"{"userId":1}"#]);
    assert_eq!(world.run(&["why", "--key", "mail:1", "-o", "json"]).exits(0).json()["job"]["id"], *id);
    let job = world.claim("fast").await;
    assert_eq!(state("mail:1").1, "running");
    world.settle(&job, Outcome::Success { result: vec![], follow_ups: vec![] }).await;
    assert_eq!(state("mail:1").1, "succeeded");
    let dead = world.dead_letter("mail", "fast", r#"{"userId":2}"#).await;
    assert_eq!(state("mail:2"), (dead, "dead".to_owned()));
    for command in ["get", "why"] {
        let nobody = world.run(&[command, "--key", "mail:3"]).exits(4);
        nobody.says(&["no job with the key `mail:3`", "keyFor"]);
        world.run(&[command, "--key", ""]).exits(2).says(&["it is empty"]);
        world.run(&[command, "--key", "mail:1", &id]).exits(2).says(&["cannot be used with"]);
        world.run(&[command]).exits(2).says(&["required"]);
    }
}

#[tokio::test]
async fn a_key_that_outlives_its_job_is_still_told() {
    let world = World::with(&QUEUE.replace("  defaults:", "  defaults:\n    completed: {keep: 0}")).await;
    let id = world.enqueue(&["mail", r#"{"userId":1}"#]);
    let job = world.claim("fast").await;
    world.settle(&job, Outcome::Success { result: vec![], follow_ups: vec![] }).await;
    world.run(&["get", &id]).exits(4);
    world.run(&["enqueue", "mail", r#"{"userId":1}"#]).exits(0).prints(&["duplicate", "succeeded"]);
    let told = [&format!("by job {id}, which succeeded"), "mail:1 is taken until", "no longer kept"];
    world.run(&["get", "--key", "mail:1"]).exits(0).prints(&told);
    let json = world.run(&["get", "--key", "mail:1", "-o", "json"]).exits(0).json();
    assert_eq!((json["id"].as_str(), json["state"].as_str()), (Some(id.as_str()), Some("succeeded")));
    assert!(json["keyUntilMs"].as_u64() > job.claimed_ms.into() && json["recordKept"] == false, "{json}");
    world.run(&["get", "--key", "mail:1", "--payload"]).exits(4).says(&told);
    world.run(&["why", "--key", "mail:1"]).exits(4).says(&told);
}

#[tokio::test]
async fn status_shows_lanes_types_and_workers() {
    let world = World::new().await;
    world.enqueue(&["mail", r#"{"userId":1}"#]);
    world.enqueue(&["report", "{}", "--delay", "1h"]);
    world.heartbeat(&["fast"], 4, 1).await;
    let shown = world.run(&["status"]).exits(0);
    let shown = shown.prints(&[
        "queue apps/saas",
        "1 worker",
        "fast",
        "5s",
        "yes",
        "  mail",
        "slow",
        "1h",
        "w-1",
        "1/4",
    ]);
    assert!(!shown.stdout.contains('\u{1b}'), "no colours without a terminal");
    let json = world.run(&["status", "saas", "-n", "apps", "-o", "json"]).exits(0).json();
    assert_eq!(
        (json["lanes"][0]["due"].as_u64(), json["lanes"][1]["scheduled"].as_u64()),
        (Some(1), Some(1))
    );
    assert_eq!(json["lanes"][0]["kept"], true);
}

#[tokio::test]
async fn with_several_queues_one_must_be_named() {
    let world = World::new().await;
    world.write("other.yaml", &QUEUE.replace("name: saas", "name: other"));
    world.run(&["apply", "-f", "other.yaml"]).exits(0);
    world.run(&["status"]).exits(2).says(&["2 queues", "apps/other", "apps/saas", "-q"]);
    world.run(&["status", "apps/other"]).exits(0).prints(&["queue apps/other"]);
}

#[tokio::test]
async fn watching_shows_changes_until_it_is_interrupted() {
    let world = World::new().await;
    let out = world.dir.path().join("out");
    let file = std::fs::File::create(&out).unwrap();
    let mut watching = world
        .command()
        .args(["status", "--watch", "--interval", "100ms", "-o", "json"])
        .stdout(file)
        .spawn()
        .unwrap();
    let lines = || std::fs::read_to_string(&out).unwrap();
    wait_for("a first look", || lines().lines().next().map(str::to_owned));
    world.enqueue(&["mail", r#"{"userId":1}"#]);
    wait_for("the new job", || lines().contains(r#""due":1"#).then_some(()));
    let pid = watching.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert!(watching.wait().unwrap().success());
}

#[tokio::test]
async fn what_jobs_say_does_not_speak_to_the_terminal() {
    let world = World::new().await;
    let (loud, shown) = ("\u{1b}[2Jgone\0", r"\u{1b}[2Jgone\u{0}");
    let id = world.enqueue(&["report", "{}", "--key", "\u{1b}[31mred\njob  forged", "--meta", "m=\u{9b}1A"]);
    let job = world.claim("slow").await;
    world.settle(&job, Outcome::Success { result: loud.into(), follow_ups: vec![] }).await;
    let get = world.run(&["get", &id]).exits(0);
    let get = get.prints(&[shown, r"\u{1b}[31mred", r"m=\u{9b}1A"]);
    assert!(!get.stdout.contains("\njob  forged"), "a line of a key passes for a field: {}", get.stdout);
    assert_eq!(world.run(&["get", &id, "-o", "json"]).exits(0).json()["result"], loud);
    let dead = world.dead_letter_of("report", "slow", "{}", loud).await;
    for command in
        [&["get", &dead][..], &["why", &dead], &["dead", "show", &dead], &["dead", "ls"], &["dead", "groups"]]
    {
        let ran = world.run(command).exits(0).prints(&[shown]);
        assert!(!ran.stdout.contains(['\u{1b}', '\0']), "{command:?}: {}", ran.stdout);
    }
    world.run(&["pause", "apps/saas", "--why", "\u{1b}[2Jgone"]).exits(0);
    for command in ["events", "status"] {
        let ran = world.run(&[command]).exits(0);
        assert!(!ran.stdout.contains(['\u{1b}', '\0']), "{command}: {}", ran.stdout);
    }
}

#[tokio::test]
async fn a_job_whose_record_is_damaged_is_not_said_to_be_gone() {
    let world = World::new().await;
    let id = world.enqueue(&["report", "{}"]);
    let hash = world.queue.name().jobs_hash();
    let mut conn = world.queue.connection();
    redis::cmd("HSET").arg(&hash).arg(&id).arg("junk").exec_async(&mut conn).await.unwrap();
    for command in ["get", "why"] {
        world.run(&[command, &id]).exits(1).says(&["is damaged", "4 B", "redis-cli HGET", &hash, "HSET"]);
    }
    world.run(&["get", "J9"]).exits(4).says(&["has no job `J9`"]);
    world.run(&["cancel", &id, "J9"]).exits(1).prints(&["damaged", "cannot be read", "not-found"]);
}
