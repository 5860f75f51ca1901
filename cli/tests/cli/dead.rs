//! `dead`.

use std::process::Stdio;
use std::time::{Duration, Instant};

use lanekeeper_queue::types::JobState;

use crate::support::{DEADLINE, QUEUE, World};

/// A number below `most`, another one in every run.
fn rand_below(most: usize) -> usize {
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    usize::try_from(random % most as u64).unwrap()
}

#[tokio::test]
async fn dead_letters_are_listed_shown_replayed_and_discarded() {
    let world = World::new().await;
    world.run(&["dead", "ls"]).exits(0).says(&["no dead letters"]);
    world.run(&["dead", "groups"]).exits(0).says(&["no dead letters"]);
    let first = world.dead_letter("mail", "fast", r#"{"userId":1}"#).await;
    let second = world.dead_letter("report", "slow", "{}").await;
    let list = world.run(&["dead", "ls"]).exits(0);
    list.prints(&[&first, &second, "open", "PermanentError", "HttpStatus (permanent): no such user"]);
    let mails = world.run(&["dead", "ls", "--type", "mail", "-o", "json"]).exits(0).json();
    assert_eq!(mails["jobs"].as_array().unwrap().len(), 1);
    world.run(&["dead", "show", &first]).exits(0).prints(&[
        "dead because",
        "PermanentError",
        "w-1",
        "fingerprint",
        "open",
    ]);
    let counted = world.run(&["dead", "replay", "--type", "mail", "--dry-run"]).exits(0);
    counted
        .prints(&[&first, "HttpStatus (permanent): no such user"])
        .says(&["1 job would be replayed", "nothing was changed"]);
    world.run(&["dead", "replay", &first, "--dry-run"]).exits(0).prints(&[&first]).says(&["1 job would be"]);
    assert_eq!(world.state(&first).await, JobState::Dead);
    world.run(&["dead", "replay", &first, "--why", "the user is back"]).exits(0).prints(&["replayed"]);
    assert_eq!(world.state(&first).await, JobState::Ready);
    world.run(&["get", &first]).exits(0).prints(&["lanekeeper CLI (tester)", "Replayed: the user is back"]);
    world.run(&["why", &first]).exits(0).prints(&["Replayed: the user is back"]);
    world.run(&["dead", "replay", &first]).exits(1).prints(&["wrong-state"]);
    world.run(&["dead", "show", &first]).exits(4).says(&["not a dead letter", "ready"]);
    world.run(&["dead", "replay", "nosuch"]).exits(4);
    world.run(&["dead", "discard", &second]).exits(2).says(&["--why"]);
    world.run(&["dead", "discard", &second, "--why", "a test"]).exits(0).prints(&["discarded"]);
    world.run(&["dead", "ls"]).exits(0).says(&["no dead letters"]);
    world.run(&["dead", "ls", "--review", "discarded"]).exits(0).prints(&[&second, "discarded"]);
    let shown = world.run(&["dead", "show", &second, "-o", "json"]).exits(0).json();
    assert_eq!(shown["state"], "discarded");
    assert_eq!(shown["review"]["state"], "discarded");
    assert_eq!(shown["review"]["by"], "lanekeeper CLI (tester)");
    assert_eq!(shown["review"]["why"], "a test");
    world
        .run(&["why", &second])
        .exits(0)
        .prints(&["was discarded", "Discarded by lanekeeper CLI (tester): a test"]);
    world.run(&["dead", "replay", &second]).exits(0).prints(&["replayed"]);
}

#[tokio::test]
async fn acknowledged_letters_stay_and_say_who_saw_them() {
    let world = World::new().await;
    let (one, two) =
        (world.dead_letter("report", "slow", "{}").await, world.dead_letter("report", "slow", "{}").await);
    world
        .run(&["dead", "ack", &one, "--why", "bug 812"])
        .exits(0)
        .prints(&["acknowledged", "stays a dead letter"]);
    world.run(&["dead", "ack", &one, "--why", "again"]).exits(1).prints(&["somebody acknowledged it before"]);
    world
        .run(&["dead", "show", &one])
        .exits(0)
        .prints(&["acknowledged by lanekeeper CLI (tester)", ": bug 812"]);
    world
        .run(&["why", &one])
        .exits(0)
        .prints(&["Acknowledged by lanekeeper CLI (tester): bug 812", "no such user"]);
    let open = world.run(&["dead", "ls", "--review", "open", "-o", "json"]).exits(0).json();
    assert_eq!(
        (open["jobs"].as_array().unwrap().len(), open["jobs"][0]["id"].as_str()),
        (1, Some(two.as_str()))
    );
    world.run(&["dead", "ls"]).exits(0).prints(&[&one, &two, "acknowledged", "open"]);
    // Those that nobody has seen, and no other.
    let rest =
        world.run(&["dead", "ack", "--all", "--why", "all known", "--yes", "-o", "json"]).exits(0).json();
    assert_eq!(rest["outcomes"], serde_json::json!({"acknowledged": 1}));
    world.run(&["dead", "show", &one]).exits(0).prints(&[": bug 812"]);
}

#[tokio::test]
async fn a_dry_run_by_ids_answers_what_the_act_would() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(world.dead_letter("report", "slow", "{}").await);
    }
    world.run(&["dead", "ack", &ids[1], "--why", "seen"]).exits(0);
    world.run(&["dead", "discard", &ids[2], "--why", "a test"]).exits(0);
    let named = [&ids[0], &ids[1], &ids[2], "nosuch", &ids[0]];
    let meant = |act: &[&str], code: i32| {
        let args = [&["dead"], act, &named[..], &["--dry-run", "-o", "json"]].concat();
        let plan = world.run(&args).exits(code).json();
        let refused = plan["refused"].as_array().unwrap().iter();
        let refused: Vec<String> =
            refused.map(|one| format!("{} {}", one["id"], one["outcome"]).replace('"', "")).collect();
        (plan["count"].as_u64().unwrap(), refused)
    };
    let wrong = |at: usize| format!("{} wrong-state", ids[at]);
    let missing = "nosuch not-found".to_owned();
    assert_eq!(meant(&["ack", "--why", "x"], 1), (1, vec![wrong(1), wrong(2), missing.clone()]));
    assert_eq!(meant(&["discard", "--why", "x"], 1), (2, vec![wrong(2), missing.clone()]));
    assert_eq!(meant(&["replay"], 1), (3, vec![missing]));
    world.run(&["dead", "discard", &ids[2], "nosuch", "--why", "x", "--dry-run"]).exits(1).says(&[
        "would answer wrong-state: it is discarded",
        "nosuch would answer not-found",
        "0 jobs would be",
    ]);
    world.run(&["dead", "replay", "nosuch", "--dry-run"]).exits(4);
    // The act answers the same.
    world.run(&["dead", "ack", &ids[1], &ids[2], "--why", "x"]).exits(1).prints(&["wrong-state"]);
    for (act, state) in [("discard", "discarded"), ("ack", "acknowledged"), ("ack", "discarded")] {
        let vain = ["dead", act, "--review", state, "--why", "x", "--dry-run"];
        world.run(&vain).exits(2).says(&[&format!("no letter that is {state} can be")]);
    }
}

#[tokio::test]
async fn dead_letters_are_grouped_and_replayed_by_what_they_have_in_common() {
    let world = World::new().await;
    for user in 1..=3 {
        world.dead_letter("mail", "fast", &format!(r#"{{"userId":{user}}}"#)).await;
    }
    world.dead_letter("report", "slow", "{}").await;
    let groups = world.run(&["dead", "groups", "-o", "json"]).exits(0).json();
    assert_eq!((groups["count"].as_u64(), groups["groups"].as_array().unwrap().len()), (Some(4), 2));
    let first = &groups["groups"][0];
    assert_eq!((first["type"].as_str(), first["count"].as_u64()), (Some("mail"), Some(3)));
    assert_eq!(
        first["error"],
        serde_json::json!({"class": "permanent", "code": "HttpStatus", "message": "no such user"})
    );
    let print = first["fingerprint"].as_str().unwrap();
    world
        .run(&["dead", "groups"])
        .exits(0)
        .prints(&["FINGERPRINT", print, "no such user"])
        .says(&["4 dead letters in 2 groups"]);
    let counted = |args: &[&str]| {
        let ran = world.run(&[&["dead", "replay", "--dry-run", "-o", "json"], args].concat()).exits(0).json();
        assert_eq!(ran["dryRun"], true);
        ran["count"].as_u64().unwrap()
    };
    assert_eq!(counted(&["--fingerprint", print]), 4, "one error in two types");
    assert_eq!(counted(&["--fingerprint", &print.to_uppercase(), "--lane", "fast"]), 3);
    assert_eq!(counted(&["--match", "mail:*"]), 3);
    assert_eq!(counted(&["--match", "mail:2"]), 1);
    assert_eq!(counted(&["--since", "1h"]), 4);
    assert_eq!(counted(&["--since", "2h", "--until", "0s"]), 4);
    for act in [&["ls"][..], &["groups"], &["replay"]] {
        let swapped = [&["dead"], act, &["--since", "1h", "--until", "2h"]].concat();
        world.run(&swapped).exits(2).says(&["--since is later than --until"]);
    }
    for filter in ["--match", "--type", "--lane"] {
        world.run(&["dead", "replay", filter, "", "--yes"]).exits(2).says(&["it is empty", "--all"]);
    }
    assert_eq!(counted(&["--until", "2000-01-01T00:00:00Z"]), 0);
    world
        .run(&["dead", "replay", "--match", "mail:2"])
        .exits(2)
        .says(&["Replay 1 dead letter of apps/saas", "--yes"]);
    let done = world
        .run(&["dead", "replay", "--match", "mail:2", "--why", "back", "--yes", "-o", "json"])
        .exits(0)
        .json();
    assert_eq!(done["outcomes"], serde_json::json!({"replayed": 1}));
    // Another job has the key of a discarded one by now.
    let taken = world.run(&["dead", "discard", "--match", "mail:3", "--why", "x", "--yes"]).exits(0);
    taken.prints(&["1 discarded"]);
    world.enqueue(&["mail", r#"{"userId":3}"#]);
    let refused = world.run(&["dead", "replay", "--review", "discarded", "--yes"]).exits(1);
    refused.prints(&["key-conflict", "belongs to another job"]).says(&["1 of 1 not replayed"]);
    world.run(&["dead", "ls", "--lane", "fats"]).exits(4).says(&["has no lane `fats`", "fast, slow"]);
}

#[tokio::test]
async fn a_job_is_replayed_with_another_payload_and_keeps_the_first() {
    let world = World::new().await;
    let id = world.dead_letter("mail", "fast", r#"{"userId":1,"to":"x"}"#).await;
    world.run(&["get", &id, "--original"]).exits(4).says(&["has the payload that it was enqueued with"]);
    world.write("mended.json", r#"{"userId":1,"to":"anna"}"#);
    world
        .run(&["dead", "replay", &id, "--payload", "nosuch"])
        .exits(2)
        .says(&["cannot read --payload nosuch"]);
    world.run(&["dead", "replay", &id, &id, "--payload", "mended.json"]).exits(2).says(&["one job"]);
    world.run_with_input(&["dead", "replay", &id, "--payload", "-"], b"").exits(2).says(&["is empty"]);
    assert_eq!(world.state(&id).await, JobState::Dead);
    world.write("large", &"x".repeat(300_000));
    world
        .run(&["dead", "replay", &id, "--payload", "large"])
        .exits(1)
        .prints(&["payload-too-large", "maxPayload"])
        .says(&["the payload has 292.97 KiB", "`spec.maxPayload` lets through 256.00 KiB"]);
    world
        .run(&["dead", "replay", &id, "--payload", "mended.json", "--why", "typo"])
        .exits(0)
        .prints(&["replayed"]);
    assert_eq!(world.run(&["get", &id, "--payload"]).exits(0).stdout, r#"{"userId":1,"to":"anna"}"#);
    assert_eq!(world.run(&["get", &id, "--original"]).exits(0).stdout, r#"{"userId":1,"to":"x"}"#);
    world.run(&["get", &id]).exits(0).prints(&["PayloadReplaced: typo", "the first one, 21 B"]);
    assert_eq!(world.run(&["get", &id, "-o", "json"]).exits(0).json()["originalBytes"], 21);
    let job = world.claim("fast").await;
    assert_eq!(
        (job.payload.as_slice(), job.key.as_deref()),
        (br#"{"userId":1,"to":"anna"}"#.as_slice(), Some("mail:1"))
    );
    world.run_with_input(&["dead", "replay", "nosuch", "--payload", "-"], b"{}").exits(4);
}

#[tokio::test]
async fn all_dead_letters_are_replayed_page_by_page() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(world.dead_letter("report", "slow", "{}").await);
    }
    let page = world.run(&["dead", "ls", "--limit", "2", "-o", "json"]).exits(0).json();
    assert_eq!(page["jobs"].as_array().unwrap().len(), 2);
    let cursor = page["cursor"].as_str().unwrap();
    let rest = world.run(&["dead", "ls", "--limit", "2", "--cursor", cursor, "-o", "json"]).exits(0).json();
    assert_eq!(rest["jobs"].as_array().unwrap().len(), 1);
    world.run(&["dead", "replay", "--all"]).exits(2).says(&["Replay 3 dead letters of apps/saas", "--yes"]);
    let replayed = world.run(&["dead", "replay", "--all", "--yes", "-o", "json"]).exits(0).json();
    assert_eq!(replayed["outcomes"], serde_json::json!({"replayed": 3}));
    for id in &ids {
        assert_eq!(world.state(id).await, JobState::Ready);
    }
    world.run(&["dead", "replay", "--all", "--yes"]).exits(0).says(&["no dead letters"]);
}

/// Killed at random and begun anew: every letter is replayed once. A rate is kept meanwhile.
#[tokio::test]
async fn ten_thousand_replays_killed_at_random_replay_each_letter_once() {
    const MANY: usize = 10_000;
    let world = World::new().await;
    let ids = world.many_dead("report", "slow", MANY).await;
    let began = Instant::now();
    let mut kills = 0;
    loop {
        let mut child = world
            .command()
            .args(["dead", "replay", "--type", "report", "--rate", "10000/s", "--why", "again", "--yes"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let left = |dead: u64| usize::try_from(dead).unwrap();
        let before = left(world.queue.stats().await.unwrap().dead);
        // Some way in, by what it has done rather than by the clock.
        let stop_at = before.saturating_sub(1 + rand_below(2_500));
        let ended = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if kills < 5 && left(world.queue.stats().await.unwrap().dead) < stop_at {
                child.kill().unwrap();
                child.wait().unwrap();
                kills += 1;
                break None;
            }
            assert!(began.elapsed() < DEADLINE, "the replay hangs");
            tokio::task::yield_now().await;
        };
        if let Some(status) = ended {
            assert!(status.success());
            break;
        }
    }
    assert!(kills >= 3, "it was killed {kills} times only");
    assert!(began.elapsed() >= Duration::from_millis(700), "faster than its rate");
    assert_eq!(world.queue.stats().await.unwrap().dead, 0);
    for job in world.queue.get(&ids, false).await.unwrap().into_iter().flatten() {
        assert_eq!(job.state, JobState::Ready);
        assert_eq!(job.history.iter().filter(|entry| entry.outcome == "replay").count(), 1, "{}", job.id);
    }
}

/// The queue answers at most 200 at once.
#[tokio::test]
async fn a_list_is_as_long_as_asked_for() {
    let world = World::new().await;
    world.many_dead("report", "slow", 203).await;
    let list = |args: &[&str]| {
        let all = [&["dead", "ls", "-o", "json"], args].concat();
        let page = world.run(&all).exits(0).json();
        let jobs = page["jobs"].as_array().unwrap();
        let ids: Vec<String> = jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect();
        (ids, page["cursor"].as_str().map(str::to_owned))
    };
    let (all, end) = list(&["--limit", "1000"]);
    assert_eq!((all.len(), end), (203, None));
    let (most, cursor) = list(&["--limit", "201"]);
    let (rest, _) = list(&["--limit", "201", "--cursor", &cursor.expect("there are more")]);
    assert_eq!([most, rest].concat(), all, "201 and the other two, none twice");
    world.run(&["dead", "ls", "--cursor", "zzz"]).exits(2).says(&["`zzz` is not a cursor"]);
}

#[tokio::test]
async fn a_type_that_the_queue_does_not_have_is_a_slip_unless_letters_of_it_are_left() {
    let world = World::new().await;
    for args in
        [&["dead", "ls"][..], &["dead", "replay"], &["dead", "groups"], &["dead", "discard", "--why", "x"]]
    {
        let refused = world.run(&[args, &["--type", "mial"]].concat()).exits(4);
        refused.says(&["apps/saas has no job type `mial`", "mail, report"]);
    }
    world.run(&["dead", "ls", "--type", "mail"]).exits(0).says(&["no dead letters"]);
    let left = world.dead_letter("mail", "fast", r#"{"userId":1}"#).await;
    world.write("queue.yaml", &QUEUE.replace("name: mail", "name: letter"));
    world.run(&["apply", "-f", "queue.yaml"]).exits(0);
    world.run(&["dead", "ls", "--type", "mail"]).exits(0).prints(&[&left]);
}
