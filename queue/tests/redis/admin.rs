//! The operator's hand: dead letters, find, retention, destroy.

use std::collections::BTreeSet;
use std::time::Duration;

use super::common::*;
use futures::StreamExt;
use lanekeeper_api::policy::Retention;
use lanekeeper_queue::types::*;

#[tokio::test]
async fn dead_letters_are_listed_newest_first_by_pages() {
    let bed = Bed::new().await;
    let mut mails = Vec::new();
    for n in 0..7 {
        mails.push(bed.dead(job("mail", [n])).await);
        bed.dead(job("report", [n])).await;
    }
    mails.reverse();
    let all = bed.queue.dead_list(&DeadFilter::default(), 100, None).await.unwrap();
    assert_eq!((all.jobs.len(), all.cursor), (14, None));
    assert!(all.jobs.is_sorted_by(|a, b| a.finished_ms >= b.finished_ms));
    assert_eq!(all.jobs[0].dead_reason, Some(DeadReason::PermanentError));
    assert!(all.jobs[0].payload.is_none());

    let mut listed = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page =
            bed.queue.dead_list(&DeadFilter::of_type(Some("mail")), 3, cursor.as_deref()).await.unwrap();
        listed.extend(page.jobs.into_iter().map(|job| job.id));
        // The letter that the cursor names may go meanwhile.
        if listed.len() == 3 {
            bed.queue.dead_discard(&[listed[2].clone()], "me", "").await.unwrap();
        }
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(listed, mails);
}

#[tokio::test]
async fn pages_of_jobs_that_died_in_one_millisecond_neither_skip_nor_repeat() {
    let bed = Bed::new().await;
    let w = worker("w");
    bed.queue.enqueue(&vec![job("mail", "x"); 100]).await.unwrap();
    let jobs = bed.claim(&w, &["fast"], 100).await;
    let done: Vec<Settlement> = jobs.iter().map(|job| settlement(job, dead("x"))).collect();
    bed.queue.settle(&w, &done).await.unwrap();
    let mut seen = BTreeSet::new();
    let mut cursor = None;
    loop {
        let page = bed.queue.dead_list(&DeadFilter::default(), 9, cursor.as_deref()).await.unwrap();
        for job in &page.jobs {
            assert!(seen.insert(job.id.clone()), "{} twice", job.id);
        }
        let last = page.jobs.last().map(|job| job.id.clone());
        cursor = page.cursor;
        match (cursor.is_some(), last) {
            (true, Some(id)) => drop(bed.queue.dead_replay(&[id], "me", "").await.unwrap()),
            _ => break,
        }
    }
    assert_eq!(seen.len(), 100);
}

#[tokio::test]
async fn a_replay_gives_all_tries_back_and_keeps_the_history() {
    let bed = Bed::new().await;
    let w = worker("w");
    let id = bed.dead(with(job("mail", "\0x"), |o| o.priority = Some(2))).await;
    let before = bed.job(&id).await;
    let replayed = bed.queue.dead_replay(&[id.clone(), "nope".into()], "alice", "").await.unwrap();
    assert_eq!(
        replayed[0],
        Acted { id: id.clone(), outcome: "replayed".into(), state: Some(JobState::Ready) }
    );
    assert_eq!(replayed[1].outcome, "not-found");
    let found = bed.job(&id).await;
    assert_eq!((found.state, found.tries, found.attempts, found.dead_reason), (JobState::Ready, 0, 1, None));
    assert_eq!((found.enqueued_ms, found.priority, found.finished_ms), (before.enqueued_ms, 2, None));
    let mark = found.history.last().unwrap();
    assert_eq!((mark.outcome.as_str(), mark.worker.as_str()), ("replay", "alice"));
    let again = bed.queue.dead_replay(std::slice::from_ref(&id), "alice", "").await.unwrap().remove(0);
    assert_eq!((again.outcome.as_str(), again.state), ("wrong-state", Some(JobState::Ready)));
    let claimed = bed.claim(&w, &["fast"], 1).await.remove(0);
    assert_eq!((claimed.attempt, claimed.payload.as_slice()), (2, b"\0x".as_slice()));
    assert!(claimed.enqueued_ms >= before.finished_ms.unwrap(), "giveUpAfter counts from the replay");
    let stats = bed.queue.stats().await.unwrap();
    assert_eq!((stats.dead, stats.lanes[0].types.iter().map(|t| t.dead).sum::<u64>()), (0, 0));
}

#[tokio::test]
async fn jobs_are_found_by_key_state_and_type() {
    let bed = Bed::new().await;
    let w = worker("w");
    let running = bed.running(&w, job("mail", "r")).await.id;
    let done = bed.running(&w, job("mail", "s")).await;
    bed.settle(&w, &done, success()).await;
    let dead = bed.dead(job("report", "d")).await;
    let cancelled = bed.accept(job("mail", "c")).await;
    bed.queue.cancel(&[cancelled.clone()], "ops").await.unwrap();
    let later = bed.accept(with(job("mail", "l"), |o| o.delay = Some(60_000))).await;
    let ready = bed.accept(with(job("mail", "k"), |o| o.key = Some("the key".into()))).await;

    let find = |state, kind: Option<&str>, key: Option<&str>| {
        let find = Find {
            state,
            job_type: kind.map(str::to_owned),
            key: key.map(str::to_owned),
            limit: 50,
            cursor: None,
        };
        let queue = bed.queue.clone();
        async move {
            let page = queue.find(&find).await.unwrap();
            assert_eq!(page.cursor, None);
            page.jobs.into_iter().map(|job| job.id).collect::<Vec<_>>()
        }
    };
    use JobState::*;
    for (state, id) in [
        (Running, &running),
        (Succeeded, &done.id),
        (Dead, &dead),
        (Cancelled, &cancelled),
        (Scheduled, &later),
        (Ready, &ready),
    ] {
        assert_eq!(find(Some(state), None, None).await, [id.as_str()], "{state:?}");
    }
    assert_eq!(find(None, None, None).await.len(), 6);
    assert_eq!(find(None, Some("report"), None).await, [dead]);
    assert_eq!(find(Some(Dead), Some("mail"), None).await, Vec::<String>::new());
    assert_eq!(find(None, None, Some("the key")).await, [ready]);
    assert_eq!(find(Some(Dead), None, Some("the key")).await, Vec::<String>::new());
    assert_eq!(find(None, None, Some("no key")).await, Vec::<String>::new());
}

#[tokio::test]
async fn finding_goes_page_by_page_over_all_types() {
    let bed = Bed::new().await;
    let mut expected = BTreeSet::new();
    for n in 0..25 {
        expected.insert(bed.accept(job(["mail", "report", "limited"][n % 3], "x")).await);
        if n % 5 == 0 {
            expected.insert(bed.accept(with(job("mail", "x"), |o| o.delay = Some(60_000))).await);
        }
    }
    let mut seen = BTreeSet::new();
    let mut find = Find { limit: 4, ..Find::default() };
    loop {
        let page = bed.queue.find(&find).await.unwrap();
        assert!(page.jobs.len() <= 4);
        for job in page.jobs {
            assert!(seen.insert(job.id));
        }
        find.cursor = page.cursor;
        if find.cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_page_goes_on_behind_a_job_that_has_moved_meanwhile() {
    let bed = Bed::new().await;
    let first = bed.accept(job("mail", "1")).await;
    bed.tick().await;
    let second = bed.accept(job("mail", "2")).await;
    let mut find =
        Find { limit: 1, job_type: Some("mail".into()), state: Some(JobState::Ready), ..Find::default() };
    let page = bed.queue.find(&find).await.unwrap();
    assert_eq!(page.jobs[0].id, first);
    let far = (NOON_MS * 2).to_string();
    bed.poke(&["ZADD", &bed.key("q:mail"), &far, &first]).await;
    find.cursor = page.cursor;
    assert_eq!(bed.queue.find(&find).await.unwrap().jobs[0].id, second);
}

#[tokio::test]
async fn finished_jobs_are_kept_in_bounded_numbers() {
    let bed = Bed::with(|p| {
        p.job_types.get_mut("mail").unwrap().completed = Retention { keep: 2, for_ms: 86_400_000 };
        p.job_types.get_mut("report").unwrap().completed = Retention { keep: 0, for_ms: 86_400_000 };
    })
    .await;
    let w = worker("w");
    let mut done = Vec::new();
    for n in 0..4 {
        let claimed = bed.running(&w, job("mail", [n])).await;
        bed.settle(&w, &claimed, success()).await;
        done.push(claimed.id);
    }
    assert_eq!(bed.maybe_job(&done[0]).await, None);
    assert_eq!(bed.maybe_job(&done[1]).await, None);
    assert!(bed.maybe_job(&done[2]).await.is_some() && bed.maybe_job(&done[3]).await.is_some());
    let unkept = bed.running(&w, job("report", "x")).await;
    bed.settle(&w, &unkept, success()).await;
    assert_eq!(bed.maybe_job(&unkept.id).await, None);
    let dead = bed.dead(job("report", "x")).await;
    assert_eq!(bed.state(&dead).await, JobState::Dead, "the dead are never trimmed");
}

#[tokio::test]
async fn finished_jobs_go_by_age_and_a_lowered_bound_is_reached_by_sweeps() {
    let mut bed = Bed::new().await;
    let w = worker("w");
    bed.queue.enqueue(&vec![job("mail", "x"); 150]).await.unwrap();
    let jobs = bed.claim(&w, &["fast"], 150).await;
    let done: Vec<Settlement> = jobs.iter().map(|job| settlement(job, success())).collect();
    bed.queue.settle(&w, &done).await.unwrap();
    bed.change(|p| p.job_types.get_mut("mail").unwrap().completed.keep = 100).await;
    let swept = bed.queue.sweep(&w, 30).await.unwrap();
    assert_eq!((swept.trimmed, swept.more), (30, true));
    assert_eq!(bed.queue.sweep(&w, 100).await.unwrap().trimmed, 20);
    bed.change(|p| p.job_types.get_mut("mail").unwrap().completed.for_ms = 0).await;
    assert_eq!(bed.queue.sweep(&w, 200).await.unwrap().trimmed, 100);
    let records: u64 = bed.raw(&["HLEN", &bed.key("j")]).await.unwrap();
    assert_eq!(records, 0);
}

#[tokio::test]
async fn destroying_a_queue_leaves_nothing_of_it_and_all_of_the_others() {
    let bed = Bed::new().await;
    let w = worker("w");
    let other = bed.redis.queue("apps/other").await.unwrap();
    other.configure(&bed.policy, false).await.unwrap();
    other.enqueue(&[job("mail", "theirs")]).await.unwrap();
    bed.dead(with(job("report", "d"), |o| o.key = Some("k".into()))).await;
    let done = bed.running(&w, with(job("mail", "s"), |o| o.key = Some("s".into()))).await;
    bed.settle(&w, &done, success()).await;
    bed.running(&w, job("mail", "r")).await;
    bed.accept(with(job("mail", "l"), |o| o.delay = Some(60_000))).await;
    bed.accept(job("mail", "w")).await;
    bed.beat(&w, &[]).await;
    let mut pubsub = bed.redis.options().client().unwrap().get_async_pubsub().await.unwrap();
    pubsub.subscribe(bed.queue.name().wake_channel()).await.unwrap();
    assert_eq!(bed.queue.destroy().await.unwrap(), 5);
    let told =
        tokio::time::timeout(Duration::from_secs(5), pubsub.on_message().next()).await.unwrap().unwrap();
    assert_eq!(told.get_payload::<String>().unwrap(), "policy", "workers and operator look again");
    let left: Vec<String> = bed.raw(&["KEYS", "*"]).await.unwrap();
    assert!(left.iter().all(|key| key.starts_with(&other.name().root())), "{left:?}");
    assert_eq!(bed.queue.destroy().await.unwrap(), 0);
    assert_eq!(other.stats().await.unwrap().lanes[0].types.iter().map(|t| t.ready).sum::<u64>(), 1);
    assert_eq!(
        lanekeeper_queue::client::queues(&mut bed.queue.connection()).await.unwrap(),
        [other.name().clone()]
    );
}

#[tokio::test]
async fn payloads_are_given_only_when_asked_for() {
    let bed = Bed::new().await;
    let id = bed.accept(job("mail", "secret")).await;
    let found = bed.queue.get(&[id.clone(), "nope".into(), id], false).await.unwrap();
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
    assert!(found[0].as_ref().unwrap().payload.is_none());
    assert_eq!(found[0].as_ref().unwrap().payload_bytes, 6);
    assert!(bed.queue.get(&[], true).await.unwrap().is_empty());
}

#[tokio::test]
async fn every_function_says_what_is_wrong_where_there_is_no_queue() {
    let bed = Bed::new().await;
    let identity = b"\x94\xa1b\xa1w\xa1p\xa1n".as_slice();
    let claim = b"\x93\x01\x91\xa4fast\x80".as_slice();
    let calls: [(&str, &[&[u8]]); 22] = [
        ("lk_enqueue", &[b"{\"type\":\"mail\"}", b"x"]),
        ("lk_claim", &[identity, b"", claim]),
        ("lk_settle", &[identity, b""]),
        ("lk_extend", &[identity, b"info", b""]),
        ("lk_sweep", &[identity, b"10"]),
        ("lk_stats", &[]),
        ("lk_get", &[b"0", b"id"]),
        ("lk_find", &[b"", b"", b"", b"10", b""]),
        ("lk_position", &[b"id"]),
        ("lk_group", &[b"id"]),
        ("lk_cancel", &[b"me", b"id"]),
        ("lk_dead_list", &[b"", b"jobs", b"10", b""]),
        ("lk_dead_ack", &[b"me", b"why", b"", b"id"]),
        ("lk_dead_replay", &[b"me", b"why", b"", b"id"]),
        ("lk_dead_edit", &[b"me", b"why", b"id", b"{}"]),
        ("lk_dead_discard", &[b"me", b"why", b"", b"id"]),
        ("lk_leases", &[b"boot", b"0"]),
        ("lk_leave", &[identity]),
        ("lk_pass_on", &[b"fast"]),
        ("lk_pause", &[b"me", b"why"]),
        ("lk_resume", &[b"me"]),
        ("lk_events", &[b"", b"10"]),
    ];
    for (root, code) in [("lk:{apps/nobody}", "NOPOLICY"), ("lk:apps/saas", "LKARGS"), ("lk:{}", "LKARGS")] {
        for (function, args) in &calls {
            let mut call = redis::cmd("FCALL");
            call.arg(function).arg(1).arg(root).arg(*args);
            let refused = call.query_async::<redis::Value>(&mut bed.queue.connection()).await.unwrap_err();
            assert_eq!(refused.code(), Some(code), "{function} on {root}: {refused}");
        }
    }
    let left: Vec<String> = bed.raw(&["KEYS", "lk:*nobody*"]).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
    // The same calls on the queue that is there are understood.
    for (function, args) in &calls {
        let mut call = redis::cmd("FCALL");
        call.arg(function).arg(1).arg(bed.queue.name().root()).arg(*args);
        let answered = call.query_async::<redis::Value>(&mut bed.queue.connection()).await;
        assert!(answered.is_ok(), "{function}: {answered:?}");
    }
}

#[tokio::test]
async fn a_page_goes_on_behind_the_place_of_the_last_job_wherever_that_is_by_now() {
    let bed = Bed::new().await;
    let made = [bed.accept(job("mail", "1")).await, bed.accept(job("mail", "2")).await];
    let find = Find { state: Some(JobState::Ready), limit: 1, ..Find::default() };
    let first = bed.queue.find(&find).await.unwrap();
    assert_eq!(first.jobs[0].id, made[0]);
    bed.poke(&["ZINCRBY", &bed.key("q:mail"), "1000000", &made[0]]).await;
    let second = bed.queue.find(&Find { cursor: first.cursor, ..find }).await.unwrap();
    assert_eq!(second.jobs[0].id, made[1]);
}

#[tokio::test]
async fn wake_lists_go_with_their_queue_also_where_only_its_policy_names_their_lanes() {
    let bed = Bed::new().await;
    bed.accept(job("mail", "x")).await;
    bed.poke(&["HDEL", &bed.key("m"), "b:fast"]).await;
    bed.queue.destroy().await.unwrap();
    assert_eq!(bed.raw::<Vec<String>>(&["KEYS", "*"]).await.unwrap(), [""; 0]);
}
