//! Whatever stands in an index that something else wrote there, a number that is no time or a name that is no text: no call stumbles,
//! every client can read the replies, and every accepted job still comes to its end.

use std::collections::BTreeSet;

use super::common::*;
use super::half::{CALLS, Scene};
use super::junk::READS;
use lanekeeper_queue::types::*;

const SCORES: [&str; 5] = ["inf", "-inf", "1e300", "-5", "5.5"];
/// Neither a text nor an id.
const NAME: &[u8] = b"\xff\xfe";

/// A change of one key, and what it is for people.
type Damage = (String, redis::Cmd);

fn command(words: &[&[u8]]) -> redis::Cmd {
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(*word);
    }
    command
}

/// Scores and members of a sorted set.
async fn of_sorted_set(scene: &Scene, key: &str) -> Vec<Damage> {
    let first: Vec<Vec<u8>> = scene.bed.raw(&["ZRANGE", key, "0", "0"]).await.unwrap();
    let mut found = Vec::new();
    for score in SCORES {
        for member in [&first[0], b"zz".as_slice(), NAME] {
            let add = command(&[b"ZADD", key.as_bytes(), score.as_bytes(), member]);
            found.push((format!("{} at {score} in {key}", String::from_utf8_lossy(member)), add));
        }
    }
    found
}

/// A copy of a field under a name that is no text.
async fn of_hash(scene: &Scene, key: &str) -> Damage {
    let fields: Vec<Vec<u8>> = scene.bed.raw(&["HGETALL", key]).await.unwrap();
    (format!("a copy in {key}"), command(&[b"HSET", key.as_bytes(), NAME, &fields[1]]))
}

async fn damages(scene: &Scene) -> Vec<Damage> {
    let mut found = Vec::new();
    for key in scene.bed.raw::<Vec<String>>(&["KEYS", &scene.bed.key("*")]).await.unwrap() {
        let kind: String = scene.bed.raw(&["TYPE", &key]).await.unwrap();
        let named = format!("a name in {key}");
        match kind.as_str() {
            "zset" => found.extend(of_sorted_set(scene, &key).await),
            "hash" => found.push(of_hash(scene, &key).await),
            "set" => found.push((named, command(&[b"SADD", key.as_bytes(), NAME]))),
            "list" => found.push((named, command(&[b"LPUSH", key.as_bytes(), NAME]))),
            "stream" => found.push((
                named,
                command(&[b"XADD", key.as_bytes(), b"*", b"k", NAME, b"j", NAME, b"n", NAME, b"d", NAME]),
            )),
            _ => {}
        }
    }
    found
}

async fn live(scene: &Scene) -> BTreeSet<String> {
    let all = scene.bed.queue.find(&Find { limit: 100, ..Find::default() }).await.unwrap().jobs;
    let ended = [JobState::Succeeded, JobState::Dead, JobState::Cancelled, JobState::Discarded];
    all.into_iter().filter(|job| !ended.contains(&job.state)).map(|job| job.id).collect()
}

/// Lets time pass, takes lost leases over and works off what there is; what stays undone in the end.
async fn undone(scene: &Scene, accepted: &BTreeSet<String>) -> Vec<String> {
    let (bed, w, s) = (&scene.bed, worker("w2"), worker("s"));
    let mut left = accepted.clone();
    for step in 0..60 {
        bed.at(100_000 + step * LEASE_MS / 3).await;
        for lost in bed.queue.sweep(&s, 100).await.unwrap().expired {
            bed.settle(&s, &lost.job, Outcome::Release { why: "lost".into() }).await;
        }
        for job in bed.claim(&w, &["fast", "slow"], 50).await {
            bed.settle(&w, &job, success()).await;
            left.remove(&job.id);
        }
        if left.is_empty() {
            break;
        }
    }
    left.into_iter().collect()
}

#[tokio::test]
async fn whatever_stands_in_an_index_no_call_stumbles() {
    let scene = Scene::set().await;
    let whole = scene.keys().await;
    let mut stumbled = Vec::new();
    for (what, damage) in damages(&scene).await {
        scene.restore(&whole).await;
        damage.exec_async(&mut scene.bed.queue.connection()).await.unwrap();
        for call in READS.into_iter().chain(CALLS) {
            let Err(error) = scene.read(call).await else { continue };
            let error = error.to_string();
            let signs =
                ["attempt to", "bad argument", "user_function", "unexpected reply", "BUSY", "timed out"];
            if signs.iter().any(|sign| error.contains(sign)) {
                stumbled.push(format!("{call}, {what}: {error}"));
            }
        }
        if let Err(error) = scene.bed.queue.events(None, 1000).await {
            stumbled.push(format!("events, {what}: {error}"));
        }
    }
    assert!(stumbled.is_empty(), "{} of calls: {stumbled:#?}", stumbled.len());
}

#[tokio::test]
async fn whatever_stands_in_an_index_every_job_comes_to_its_end() {
    let scene = Scene::set().await;
    let (whole, accepted) = (scene.keys().await, live(&scene).await);
    assert!(accepted.len() >= 8, "{accepted:?}");
    let mut stuck = Vec::new();
    for (what, damage) in damages(&scene).await {
        scene.restore(&whole).await;
        damage.exec_async(&mut scene.bed.queue.connection()).await.unwrap();
        let left = undone(&scene, &accepted).await;
        if !left.is_empty() {
            stuck.push(format!("{what}: {} of {} jobs stay undone", left.len(), accepted.len()));
        }
    }
    assert!(stuck.is_empty(), "{stuck:#?}");
}

#[tokio::test]
async fn a_job_whose_record_or_past_names_no_time_is_due_at_once() {
    let bed = Bed::new().await;
    let (w, far) = (worker("w"), 1_u64 << 52);
    let enqueued = [0x94, 1, 0xa4].into_iter().chain(*b"mail\xcf").chain(far.to_be_bytes()).chain(*b"\x05x");
    let past = [0x93, 1, 0, 0xcf].into_iter().chain(far.to_be_bytes());
    for (key, value) in [("j", enqueued.collect::<Vec<u8>>()), ("a", past.collect())] {
        let id = bed.accept(job("mail", "x")).await;
        let conn = &mut bed.queue.connection();
        let () = redis::cmd("HSET").arg(bed.key(key)).arg(&id).arg(value).query_async(conn).await.unwrap();
        bed.poke(&["ZREM", &bed.key("q:mail"), &id]).await;
        for _ in 0..20 {
            bed.queue.sweep(&w, 100).await.unwrap();
        }
        let claimed = bed.claim(&w, &["fast"], 5).await;
        assert_eq!(ids(&claimed), [&id], "{key}");
        bed.settle(&w, &claimed[0], success()).await;
        assert!(!bed.queue.sweep(&w, 100).await.unwrap().more, "{key}: nothing is left to mend");
    }
}

#[tokio::test]
async fn a_due_time_with_a_fraction_is_one_without() {
    let bed = Bed::still(|_| {}).await;
    let later = with(job("mail", "x"), |options| options.delay = Some(1_000));
    let [first, second] = [bed.accept(later.clone()).await, bed.accept(later).await];
    bed.poke(&["ZINCRBY", &bed.key("s:mail"), "0.5", &first]).await;
    bed.at(2_000).await;
    assert_eq!(ids(&bed.claim(&worker("w"), &["fast"], 5).await), [&first, &second]);
}

#[tokio::test]
async fn next_due_times_that_are_not_are_right_after_a_sweep() {
    let bed = Bed::still(|_| {}).await;
    let later = |delay| with(job("mail", "x"), move |options| options.delay = Some(delay));
    let id = bed.accept(later(1_000)).await;
    // A time as good as any, and one of a type that nobody knows.
    let wrong = (bed.queue.stats().await.unwrap().now_ms + 900_000).to_string();
    bed.poke(&["ZADD", &bed.key("n"), &wrong, "mail", "inf", "zz"]).await;
    bed.queue.sweep(&worker("s"), 100).await.unwrap();
    bed.at(2_000).await;
    assert_eq!(ids(&bed.claim(&worker("w"), &["fast"], 5).await), [&id]);
    assert_eq!(bed.raw::<u64>(&["ZCARD", &bed.key("n")]).await.unwrap(), 0);
}
