//! Progress and checkpoints: told with heartbeats and settlements, fenced, kept for the next attempt, gone with the job.

use super::common::*;
use lanekeeper_queue::types::*;

fn progress(done: u64, total: u64) -> Progress {
    Progress { done, total: Some(total), unit: "rows".into(), message: "writing".into() }
}

fn left(bytes: &[u8]) -> Note {
    Note { progress: None, checkpoint: Some(bytes.to_vec()) }
}

fn told(done: u64) -> Note {
    Note { progress: Some(progress(done, 10)), checkpoint: None }
}

/// Fields in the hash of notes.
async fn stored(bed: &Bed) -> u64 {
    bed.raw(&["HLEN", &bed.key("o")]).await.unwrap()
}

async fn claim_one(bed: &Bed, worker: &WorkerIdentity) -> Claimed {
    bed.claim(worker, &["fast"], 1).await.remove(0)
}

#[tokio::test]
async fn what_a_heartbeat_tells_is_shown_with_its_age() {
    let bed = Bed::new().await;
    let w = worker("w");
    let claimed = bed.running(&w, job("mail", "x")).await;
    assert_eq!(claimed.checkpoint, None);
    let note = Note { progress: Some(progress(3, 10)), checkpoint: Some(b"\x00\xff at 3".to_vec()) };
    let reply = bed.tell(&w, &claimed, note).await;
    assert!(reply.lost.is_empty());
    let found = bed.job(&claimed.id).await;
    let progress = found.progress.unwrap();
    assert_eq!((progress.done, progress.total, progress.told_ms), (3, Some(10), reply.now_ms));
    assert_eq!((progress.unit.as_str(), progress.message.as_str()), ("rows", "writing"));
    assert_eq!(found.checkpoint, Some(CheckpointLeft { bytes: 7, left_ms: reply.now_ms }));
    // Telling one leaves the other as it was; found through the lists as well.
    let later = bed.tell(&w, &claimed, told(4)).await;
    let listed = bed.queue.find(&Find { limit: 5, ..Find::default() }).await.unwrap().jobs.remove(0);
    assert_eq!(listed.progress.map(|p| (p.done, p.told_ms)), Some((4, later.now_ms)));
    assert_eq!(listed.checkpoint.map(|c| c.left_ms), Some(reply.now_ms));
    // A heartbeat without a word changes nothing.
    bed.beat(&w, &[&claimed]).await;
    assert_eq!(bed.job(&claimed.id).await.progress.map(|p| p.done), Some(4));
}

#[tokio::test]
async fn a_checkpoint_goes_from_attempt_to_attempt() {
    let bed = Bed::new().await;
    let w = worker("w");
    let first = bed.running(&w, with(job("mail", "x"), |o| o.key = Some("k".into()))).await;
    // With the settlement itself, without any heartbeat.
    let mut word = settlement(&first, retry(0));
    word.note = Some(left(b"one"));
    bed.queue.settle(&w, &[word]).await.unwrap();
    let second = claim_one(&bed, &w).await;
    assert_eq!(second.checkpoint.as_deref(), Some(&b"one"[..]));
    bed.settle(&w, &second, Outcome::Release { why: "drain".into() }).await;
    let third = claim_one(&bed, &w).await;
    assert_eq!(third.checkpoint.as_deref(), Some(&b"one"[..]), "a release keeps it");
    bed.tell(&w, &third, left(b"two")).await;
    let mut word = settlement(&third, dead("broken"));
    word.note = Some(told(9));
    bed.queue.settle(&w, &[word]).await.unwrap();
    let letter = bed.job(&third.id).await;
    assert_eq!((letter.state, letter.progress.map(|p| p.done)), (JobState::Dead, Some(9)));
    assert_eq!(letter.checkpoint.map(|c| c.bytes), Some(3));
    bed.queue.dead_replay(&[third.id.clone()], "ops", "").await.unwrap();
    let fourth = claim_one(&bed, &w).await;
    assert_eq!(fourth.checkpoint.as_deref(), Some(&b"two"[..]), "a replay keeps it");
    bed.tell(&w, &fourth, left(b"")).await;
    let mut word =
        settlement(&fourth, Outcome::Snooze { delay_ms: 0, why: "later".into(), holds: Holds::Job });
    word.note = Some(left(b"three"));
    bed.queue.settle(&w, &[word]).await.unwrap();
    let fifth = claim_one(&bed, &w).await;
    assert_eq!(fifth.checkpoint.as_deref(), Some(&b"three"[..]));
    bed.settle(&w, &fifth, success()).await;
    let done = bed.job(&fifth.id).await;
    assert_eq!((done.state, done.progress, done.checkpoint), (JobState::Succeeded, None, None));
    assert_eq!(stored(&bed).await, 0);
}

#[tokio::test]
async fn a_takeover_keeps_the_last_checkpoint() {
    let bed = Bed::new().await;
    let (w, s) = (worker("w"), worker("s"));
    let claimed = bed.running(&w, job("mail", "x")).await;
    bed.tell(&w, &claimed, left(b"at 3")).await;
    bed.expire(&claimed.id).await;
    bed.calm().await;
    let expired = bed.queue.sweep(&s, 10).await.unwrap().expired.remove(0);
    // What the dead worker's engine still says changes nothing.
    let late = bed.tell(&w, &claimed, left(b"zombie")).await;
    assert_eq!(late.lost, [claimed.id.clone()]);
    bed.settle(&s, &expired.job, retry(0)).await;
    let next = claim_one(&bed, &s).await;
    assert_eq!(next.checkpoint.as_deref(), Some(&b"at 3"[..]));
}

#[tokio::test]
async fn a_stale_worker_tells_nothing() {
    let bed = Bed::new().await;
    let (w, other) = (worker("w"), worker("other"));
    let first = bed.running(&w, job("mail", "x")).await;
    bed.settle(&w, &first, retry(0)).await;
    let second = claim_one(&bed, &other).await;
    assert_eq!(bed.tell(&w, &first, left(b"stale")).await.lost, [first.id.clone()]);
    let mut word = settlement(&first, retry(0));
    word.note = Some(left(b"stale"));
    assert_eq!(bed.queue.settle(&w, &[word]).await.unwrap(), [Settled::Stale]);
    // The right token under another boot.
    assert_eq!(bed.tell(&w, &second, left(b"stale")).await.lost, [first.id.clone()]);
    assert_eq!(stored(&bed).await, 0);
}

#[tokio::test]
async fn ends_take_notes_along() {
    let mut bed = Bed::new().await;
    let w = worker("w");
    // Cancelled while it runs, and while it waits.
    let running = bed.running(&w, job("mail", "1")).await;
    bed.tell(&w, &running, left(b"x")).await;
    bed.queue.cancel(&[running.id.clone()], "ops").await.unwrap();
    let mut word = settlement(&running, Outcome::Release { why: "cancelled".into() });
    word.note = Some(left(b"y"));
    bed.queue.settle(&w, &[word]).await.unwrap();
    assert_eq!(stored(&bed).await, 0);
    let waiting = bed.running(&w, job("mail", "2")).await;
    bed.tell(&w, &waiting, told(1)).await;
    bed.settle(&w, &waiting, retry(60_000)).await;
    assert_eq!(stored(&bed).await, 1);
    bed.queue.cancel(&[waiting.id.clone()], "ops").await.unwrap();
    assert_eq!(stored(&bed).await, 0);
    // Trimmed as a discarded dead letter.
    let dying = bed.running(&w, job("mail", "3")).await;
    bed.tell(&w, &dying, left(b"x")).await;
    bed.settle(&w, &dying, dead("broken")).await;
    assert_eq!(stored(&bed).await, 1);
    // What is discarded may be taken back, until it is trimmed.
    bed.queue.dead_discard(&[dying.id.clone()], "ops", "").await.unwrap();
    assert_eq!(stored(&bed).await, 1);
    bed.change(|policy| policy.job_types.get_mut("mail").unwrap().dead.keep_reviewed_for_ms = Some(0)).await;
    bed.queue.sweep(&w, 10).await.unwrap();
    assert_eq!(stored(&bed).await, 0);
    // What damage left is found by sweeps.
    bed.poke(&["HSET", &bed.key("o"), "pgone", "x", "cgone", "y"]).await;
    bed.queue.sweep(&w, 10).await.unwrap();
    assert_eq!(stored(&bed).await, 0);
    let (_, claimed) = (bed.accept(job("mail", "4")).await, claim_one(&bed, &w).await);
    bed.tell(&w, &claimed, told(1)).await;
    bed.queue.destroy().await.unwrap();
    let left: Vec<String> = bed.raw(&["KEYS", "*"]).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_reused_id_inherits_nothing() {
    let bed = Bed::new().await;
    let w = worker("w");
    let mine = |body| with(job("mail", body), |o| o.id = Some("mine".into()));
    let claimed = bed.running(&w, mine("1")).await;
    bed.tell(&w, &claimed, left(b"of the first")).await;
    bed.settle(&w, &claimed, retry(60_000)).await;
    bed.poke(&["HDEL", &bed.key("j"), "mine"]).await;
    let again = bed.running(&w, mine("2")).await;
    bed.settle(&w, &again, retry(0)).await;
    assert_eq!(claim_one(&bed, &w).await.checkpoint, None);
}

#[tokio::test]
async fn notes_are_bounded_and_junk_is_no_note() {
    let bed = Bed::new().await;
    let w = worker("w");
    let claimed = bed.running(&w, job("mail", "x")).await;
    bed.tell(&w, &claimed, left(&[b'x'; MAX_CHECKPOINT])).await;
    let long = Progress { done: u64::MAX, total: Some(0), unit: "é".repeat(20), message: "é".repeat(400) };
    let note = Note { progress: Some(long), checkpoint: Some(vec![b'y'; MAX_CHECKPOINT + 1]) };
    bed.tell(&w, &claimed, note).await;
    let found = bed.job(&claimed.id).await;
    let progress = found.progress.unwrap();
    assert_eq!((progress.done, progress.total), (1 << 53, None));
    assert_eq!((progress.unit.len(), progress.message.len()), (32, 512));
    assert_eq!(
        found.checkpoint.map(|c| c.bytes),
        Some(MAX_CHECKPOINT as u64),
        "too long: the last one stays"
    );
    let root = bed.queue.name().root();
    let identity = b"\x94\xa1b\xa1w\xa1p\xa1n".as_slice();
    for (notes, fits) in [
        (&b"\x91\x92\x01\x92\x90\x90"[..], true),
        (b"\x92\xc0\x92\x05\x01", true),
        (b"\x91\x92\xa1x\x92\x90\x90", true),
        (b"\xff", false),
        (&[0x90; 2 * 1024 * 1024 + 1], false),
    ] {
        let mut call = redis::cmd("FCALL");
        call.arg("lk_extend").arg(1).arg(&root).arg(identity).arg("").arg(b"\x91\x92\xa1x\x01").arg(notes);
        let answered = call.query_async::<redis::Value>(&mut bed.queue.connection()).await;
        assert_eq!(answered.is_ok(), fits, "{answered:?}");
    }
    // Damaged by hand: not shown, not handed on, and in nobody's way.
    bed.poke(&[
        "HSET",
        &bed.key("o"),
        &format!("p{}", claimed.id),
        "\u{1}",
        &format!("c{}", claimed.id),
        "junk",
    ])
    .await;
    let found = bed.job(&claimed.id).await;
    assert_eq!((found.progress, found.checkpoint), (None, None));
    bed.settle(&w, &claimed, retry(0)).await;
    assert_eq!(claim_one(&bed, &w).await.checkpoint, None);
}

#[tokio::test]
async fn many_notes_travel_in_one_heartbeat() {
    let bed = Bed::new().await;
    let w = worker("w");
    for n in 0..3 {
        bed.accept(job("mail", n.to_string())).await;
    }
    let jobs = bed.claim(&w, &["fast"], 3).await;
    // Beyond what one call extends, with leases that are nobody's between them.
    let mut held: Vec<Held> = (0..1_500).map(|n| Held { id: format!("no-{n}"), token: 1 }).collect();
    for (job, at) in jobs.iter().zip([0, 999, 1_000]) {
        held[at] = Held { id: job.id.clone(), token: job.token };
    }
    let notes = [(0, told(1)), (5, told(9)), (999, told(2)), (1_000, told(3))];
    bed.queue.extend_telling(&info(&w), &held, &notes).await.unwrap();
    for (job, done) in jobs.iter().zip(1..) {
        assert_eq!(bed.job(&job.id).await.progress.map(|p| p.done), Some(done));
    }
    assert_eq!(stored(&bed).await, 3);
}

#[tokio::test]
async fn queues_that_never_had_notes_ask_for_none() {
    let bed = Bed::new().await;
    let w = worker("w");
    let calls = async || {
        let stats: String = bed.raw(&["INFO", "commandstats"]).await.unwrap();
        let count = |name: &str| {
            let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
            line.map_or(0, |rest| rest.split(',').next().unwrap().parse::<u64>().unwrap())
        };
        ["hmget", "hset", "hdel", "hget", "hexists", "hrandfield"].map(count)
    };
    let round = async || {
        let claimed = bed.running(&w, job("mail", "x")).await;
        bed.settle(&w, &claimed, retry(0)).await;
        let again = claim_one(&bed, &w).await;
        bed.settle(&w, &again, success()).await;
    };
    round().await;
    let before = calls().await;
    round().await;
    let plain: Vec<u64> = calls().await.iter().zip(before).map(|(after, before)| after - before).collect();
    let noted = bed.running(&w, job("mail", "y")).await;
    bed.tell(&w, &noted, told(1)).await;
    bed.settle(&w, &noted, success()).await;
    let before = calls().await;
    round().await;
    let used: Vec<u64> = calls().await.iter().zip(before).map(|(after, before)| after - before).collect();
    // One look-up for the job that was tried before.
    assert_eq!(used, [plain[0] + 1, plain[1], plain[2], plain[3], plain[4], plain[5]]);
}

#[tokio::test]
async fn of_two_words_in_one_heartbeat_the_later_counts() {
    let bed = Bed::new().await;
    let w = worker("w");
    let claimed = bed.running(&w, job("mail", "x")).await;
    let held = Held { id: claimed.id.clone(), token: claimed.token };
    let twice = [held.clone(), held];
    let checkpoint = async |notes: [Note; 2]| {
        let [first, second] = notes;
        bed.queue.extend_telling(&info(&w), &twice, &[(0, first), (1, second)]).await.unwrap();
        bed.job(&claimed.id).await.checkpoint.map(|left| left.bytes)
    };
    assert_eq!(checkpoint([left(b""), left(b"new")]).await, Some(3));
    assert_eq!(checkpoint([left(b"newer"), left(b"")]).await, None);
}
