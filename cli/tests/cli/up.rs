//! `up`: the local mode, from the first job to the last process.

use std::process::Command;

use lanekeeper_queue::testing::TestRedis;

use crate::local_mode::{MANIFEST, Place, Up, children, lives, redis_answers, workers, working};
use crate::support::{Ran, command, wait_for};

#[test]
fn from_the_first_job_to_an_orderly_end_and_on_from_there() {
    let place = Place::new();
    let mut up = Up::start(place.path());
    assert!(workers(place.path()).is_empty(), "nothing waits, nothing runs");
    place
        .run(&["enqueue", "touch", r#"{"a":1}"#, "--wait", "--timeout", "30s"])
        .exits(0)
        .prints(&["succeeded", r#"{"a":1}"#]);
    wait_for("the worker that ran it", || (!workers(place.path()).is_empty()).then_some(()));
    place.run(&["status"]).exits(0).prints(&["queue apps/saas", "apps/pool", "touch"]);
    place.run(&["status", "saas"]).exits(0);
    place
        .run(&["status", "nosuch"])
        .exits(4)
        .says(&["no queue default/nosuch in the local mode", "apps/saas"]);
    wait_for("no worker once idle", || workers(place.path()).is_empty().then_some(()));
    let later = place.enqueue(&["touch", "{}", "--delay", "1h"]);
    let running = place.enqueue(&["sleep", "{}"]);
    wait_for("the running job", || place.run(&["get", &running]).stdout.contains("running on").then_some(()));
    let pids = working(place.path(), 2);
    up.signal("-INT");
    assert_eq!(up.ended(), Some(0), "{}", up.log());
    assert!(up.log().contains("draining: 1 worker left, 1 job running"), "{}", up.log());
    assert!(up.log().contains("draining") && up.log().contains("private Redis stopped"), "{}", up.log());
    assert!(pids.iter().all(|pid| !lives(*pid)) && !redis_answers(place.path()), "a process was left behind");
    place.run(&["status"]).exits(2).says(&["no local mode runs"]);

    let mut up = Up::start(place.path());
    place.run(&["get", &later]).exits(0).prints(&["scheduled"]);
    place.run(&["get", &running]).exits(0).prints(&["succeeded"]);
    up.signal("-TERM");
    assert_eq!(up.ended(), Some(0), "{}", up.log());
}

#[test]
fn a_killed_local_mode_leaves_no_worker_and_the_next_one_picks_its_redis_up() {
    let place = Place::new();
    let up = Up::start(place.path());
    let id = place.enqueue(&["forever", "{}"]);
    wait_for("the running job", || place.run(&["get", &id]).stdout.contains("running on").then_some(()));
    let pids = working(place.path(), 2);
    up.signal("-KILL");
    wait_for("the end of every worker", || pids.iter().all(|pid| !lives(*pid)).then_some(()));
    place.run(&["status"]).exits(3).says(&["not running; it was killed"]);
    assert!(redis_answers(place.path()));
    let mut up = Up::start(place.path());
    assert!(up.log().contains("picked up"), "{}", up.log());
    place.run(&["get", &id]).exits(0);
    place.run(&["cancel", &id]).exits(0);
    up.signal("-INT");
    assert_eq!(up.ended(), Some(0), "{}", up.log());
    assert!(!redis_answers(place.path()));
}

#[test]
fn a_second_signal_ends_at_once() {
    let place = Place::new();
    let mut up = Up::start(place.path());
    let id = place.enqueue(&["forever", "{}"]);
    wait_for("the running job", || place.run(&["get", &id]).stdout.contains("running on").then_some(()));
    let pids = working(place.path(), 2);
    up.signal("-INT");
    wait_for("draining", || up.log().contains("draining").then_some(()));
    up.signal("-INT");
    assert_eq!(up.ended(), Some(0), "{}", up.log());
    assert!(up.log().contains("stopped at once"), "{}", up.log());
    assert!(pids.iter().all(|pid| !lives(*pid)) && !redis_answers(place.path()));
}

#[test]
fn a_killed_redis_is_started_again_with_what_it_had() {
    let place = Place::new();
    let mut up = Up::start(place.path());
    let id = place.enqueue(&["touch", "{}", "--delay", "1h"]);
    let redis: Vec<u64> = children(u64::from(up.child.id()));
    // Written within a second: the append-only file is synced that often.
    wait_for("the synced file", || {
        let sizes = std::fs::read_dir(place.path().join(".lanekeeper/redis/appendonlydir")).unwrap();
        sizes
            .filter_map(Result::ok)
            .any(|file| {
                std::fs::read(file.path())
                    .is_ok_and(|bytes| bytes.windows(id.len()).any(|window| window == id.as_bytes()))
            })
            .then_some(())
    });
    for pid in redis {
        assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
    }
    wait_for("Redis again", || up.log().contains("started again").then_some(()));
    place.run(&["get", &id]).exits(0).prints(&["scheduled"]);
    place.run(&["enqueue", "touch", "{}", "--wait", "--timeout", "30s"]).exits(0);
    up.signal("-INT");
    assert_eq!(up.ended(), Some(0), "{}", up.log());
    assert!(!redis_answers(place.path()));
}

#[test]
fn a_state_directory_has_one_local_mode() {
    let place = Place::new();
    let mut up = Up::start(place.path());
    let refused = place.run(&["up", "-f", "queue.yaml"]).exits(2);
    refused.says(&["already runs", &format!("pid {}", up.child.id())]);
    up.signal("-INT");
    assert_eq!(up.ended(), Some(0));
}

#[test]
fn why_knows_pools_in_the_local_mode() {
    let place = Place::new();
    let mut up = Up::start(place.path());
    place.because("pool/pool", "Idle");
    let lost = place.enqueue(&["lost", "{}"]);
    place.because(&lost, "NoPool");
    for _ in 0..2 {
        place.enqueue(&["forever", "{}"]);
    }
    let waiting = place.enqueue(&["touch", "{}"]);
    place.because(&waiting, "PoolAtMax");
    place.because("fast", "PoolAtMax");
    place.because("pool", "PoolAtMax");
    place.run(&["why", "pool/nosuch"]).exits(4);
    up.signal("-INT");
    up.signal("-INT");
    assert!(up.ended().is_some());
}

#[test]
fn changed_manifests_are_taken_over_and_broken_ones_are_not() {
    let place = Place::new();
    let mut up = Up::start(place.path());
    place.run(&["enqueue", "added", "{}"]).exits(1);
    std::fs::write(
        place.path().join("queue.yaml"),
        MANIFEST.replace("name: lost", "name: lost\n    lanne: x"),
    )
    .unwrap();
    wait_for("a told problem", || up.log().contains("lanne").then_some(()));
    std::fs::write(place.path().join("queue.yaml"), MANIFEST.replace("name: lost", "name: added")).unwrap();
    wait_for("the new type", || (place.run(&["enqueue", "added", "{}"]).code == 0).then_some(()));
    up.signal("-INT");
    assert_eq!(up.ended(), Some(0), "{}", up.log());
}

#[test]
fn what_cannot_start_says_why() {
    let place = Place::new();
    std::fs::write(
        place.path().join("queue.yaml"),
        MANIFEST.replace("lanes: [{name: fast}]", "lanes: [{name: fsat}]"),
    )
    .unwrap();
    place.run(&["up", "-f", "queue.yaml"]).exits(2).says(&["queue.yaml:", "fsat"]);
    std::fs::write(place.path().join("queue.yaml"), MANIFEST).unwrap();
    let without =
        command(place.path()).args(["up", "-f", "queue.yaml"]).env("PATH", "/nowhere").output().unwrap();
    Ran::from(without).exits(2).says(&["redis-server is not installed", "--redis"]);
    place
        .run(&["up", "-f", "queue.yaml", "--redis", "redis://127.0.0.1:1"])
        .exits(3)
        .says(&["cannot reach redis://127.0.0.1:1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_may_lose_jobs_is_told_closed_and_reopened() {
    let redis =
        TestRedis::start_with(&["--appendonly", "no", "--maxmemory-policy", "allkeys-lru"]).await.unwrap();
    let place = Place::new();
    let mut up = Up::start_with(place.path(), &["--redis", &redis.url()]);
    wait_for("the warning", || up.log().contains("may lose jobs").then_some(()));
    let log = up.log();
    for part in [&redis.url(), "appendonly yes", "allkeys-lru", "closed to workers", "allowUnsafe"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert!(log.contains("apps/saas  policy version "), "told before anyone could listen: {log}");
    let waiting = place.enqueue(&["touch", "{}"]);
    let set = |name: &'static str, value: &'static str| {
        let options = redis.options();
        async move {
            let mut conn = options.connect().await.unwrap();
            redis::cmd("CONFIG").arg(&["SET", name, value]).exec_async(&mut conn).await.unwrap();
        }
    };
    set("maxmemory-policy", "noeviction").await;
    set("appendonly", "yes").await;
    wait_for("the open queue", || up.log().contains("open to workers again").then_some(()));
    wait_for("the job", || place.run(&["get", &waiting]).stdout.contains("succeeded").then_some(()));
    up.signal("-INT");
    assert_eq!(up.ended(), Some(0), "{}", up.log());
}

#[test]
fn jobs_that_nothing_will_run_any_more_are_told() {
    let place = Place::new();
    let queue = MANIFEST.split("---").next().unwrap();
    let both = format!("{MANIFEST}---{}", queue.replace("name: saas", "name: other"));
    std::fs::write(place.path().join("queue.yaml"), &both).unwrap();
    let mut up = Up::start(place.path());
    place.enqueue(&["lost", "{}", "-q", "apps/saas"]);
    place.enqueue(&["touch", "{}", "-q", "apps/other"]);
    place.enqueue(&["touch", "{}", "-q", "apps/other", "--delay", "1h"]);
    let without = MANIFEST.replace("name: lost", "name: added");
    std::fs::write(place.path().join("queue.yaml"), without).unwrap();
    for warning in [
        "1 job of type `lost` waits in apps/saas, which no longer has that type",
        "2 jobs wait in apps/other, which is in no manifest any more",
    ] {
        wait_for(warning, || up.log().contains(warning).then_some(()));
    }
    let why = place.run(&["why", "lost", "-q", "apps/saas"]).exits(0);
    why.prints(&["UnknownType: 1 job of type lost waits", "until the JobQueue has the job type again"]);
    up.signal("-INT");
    assert_eq!(up.ended(), Some(0), "{}", up.log());
}
