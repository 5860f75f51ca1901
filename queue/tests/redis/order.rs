//! Who goes next: lanes, priorities, due times, bounds per worker, wake-ups.

use std::time::Duration;

use super::common::*;
use lanekeeper_queue::types::*;
use lanekeeper_queue::{Queue, Waker};

#[tokio::test]
async fn priority_first_then_first_come_first_served_over_all_types_of_a_lane() {
    let bed = Bed::new().await;
    for (kind, payload, priority) in [
        ("mail", "1", None),
        ("limited", "2", None),
        ("reset", "3", None),
        ("mail", "4", Some(0)),
        ("mail", "5", Some(9)),
        ("limited", "6", None),
    ] {
        bed.accept(with(job(kind, payload), |o| o.priority = priority)).await;
    }
    let w = worker("w");
    assert_eq!(sent(&bed.claim(&w, &["fast"], 4).await), ["4", "3", "1", "2"]);
    assert_eq!(sent(&bed.claim(&w, &["fast"], 4).await), ["6", "5"]);
}

#[tokio::test]
async fn jobs_of_one_call_keep_their_order() {
    let bed = Bed::new().await;
    let jobs: Vec<NewJob> = (0..150).map(|n| job("mail", format!("{n:03}"))).collect();
    bed.queue.enqueue(&jobs).await.unwrap();
    let claimed = sent(&bed.claim(&worker("w"), &["fast"], 150).await);
    assert_eq!(claimed.len(), 150);
    assert!(claimed.is_sorted());
}

#[tokio::test]
async fn lanes_are_served_strictly_in_the_workers_order() {
    let bed = Bed::new().await;
    for n in ["f1", "f2"] {
        bed.accept(job("mail", n)).await;
    }
    bed.accept(job("report", "s1")).await;
    let w = worker("w");
    let first = bed.claim(&w, &["slow", "fast"], 2).await;
    assert_eq!(sent(&first), ["s1", "f1"]);
    assert_eq!((first[0].lane.as_str(), first[1].lane.as_str()), ("slow", "fast"));
    assert!(bed.claim(&w, &["slow", "nope"], 2).await.is_empty());
    assert_eq!(sent(&bed.claim(&w, &["fast"], 2).await), ["f2"]);
}

#[tokio::test]
async fn a_worker_never_gets_more_of_a_type_than_it_said() {
    let bed = Bed::new().await;
    for n in 0..5 {
        bed.accept(job("limited", format!("l{n}"))).await;
        bed.accept(job("mail", format!("m{n}"))).await;
    }
    let w = worker("w");
    let mut wish = want(&["fast"], 6);
    wish.type_limits.insert("limited".into(), 2);
    assert_eq!(sent(&bed.claim_reply(&w, &wish).await.jobs), ["l0", "m0", "l1", "m1", "m2", "m3"]);
    wish.type_limits.insert("limited".into(), 0);
    assert_eq!(sent(&bed.claim_reply(&w, &wish).await.jobs), ["m4"]);
    assert!(bed.claim_reply(&w, &wish).await.jobs.is_empty());
    // Alone in its lane the bound holds as well.
    wish.type_limits.insert("limited".into(), 1);
    assert_eq!(sent(&bed.claim_reply(&w, &wish).await.jobs), ["l2"]);
}

#[tokio::test]
async fn delayed_jobs_come_when_due_and_stand_by_their_due_time() {
    let bed = Bed::new().await;
    let w = worker("w");
    let soon = bed.accept(with(job("mail", "soon"), |o| o.delay = Some(300))).await;
    let later = bed.accept(with(job("mail", "later"), |o| o.delay = Some(60_000))).await;
    let reply = bed.claim_reply(&w, &want(&["fast"], 5)).await;
    assert!(reply.jobs.is_empty());
    let due = bed.job(&soon).await.due_ms;
    assert_eq!(reply.next_due_ms, Some(due));
    assert_eq!(bed.state(&soon).await, JobState::Scheduled);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let claimed = loop {
        let reply = bed.claim_reply(&w, &want(&["fast"], 5)).await;
        if !reply.jobs.is_empty() {
            assert_eq!(reply.next_due_ms, Some(bed.job(&later).await.due_ms));
            break reply.jobs;
        }
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(sent(&claimed), ["soon"]);
    assert!(claimed[0].claimed_ms >= claimed[0].due_ms);
    // A moment in the past means now.
    let past = bed.accept(with(job("mail", "past"), |o| o.run_at = Some(5))).await;
    let job = bed.job(&past).await;
    assert_eq!((job.state, job.due_ms), (JobState::Ready, job.enqueued_ms));
}

#[tokio::test]
async fn due_jobs_count_as_ready_before_anyone_promotes_them_and_keep_their_priority() {
    let bed = Bed::new().await;
    let mut due = 0;
    for priority in [7u8, 2] {
        let id = bed
            .accept(with(job("mail", [b'0' + priority]), |o| {
                (o.delay, o.priority) = (Some(50), Some(priority))
            }))
            .await;
        due = bed.job(&id).await.due_ms;
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let stats = loop {
        let stats = bed.queue.stats().await.unwrap();
        let mail = stats.lanes[0].types.iter().find(|t| t.name == "mail").unwrap().clone();
        if mail.ready == 2 {
            break mail;
        }
        assert!(tokio::time::Instant::now() < deadline);
    };
    assert_eq!(stats.scheduled, 0);
    assert!(stats.oldest_due_ms.unwrap() <= due && stats.next_due_ms.is_none());
    let found =
        bed.queue.find(&Find { state: Some(JobState::Ready), limit: 10, ..Find::default() }).await.unwrap();
    assert_eq!(found.jobs.len(), 2);
    assert_eq!(bed.queue.sweep(&worker("s"), 100).await.unwrap().promoted, 2);
    assert_eq!(sent(&bed.claim(&worker("w"), &["fast"], 5).await), ["2", "7"]);
}

#[tokio::test]
async fn more_due_jobs_than_one_call_promotes_come_with_the_next() {
    let bed = Bed::new().await;
    let jobs: Vec<NewJob> = (0..450).map(|_| with(job("mail", "x"), |o| o.delay = Some(1))).collect();
    bed.queue.enqueue_all(&jobs).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let mut total = 0;
    while total < 450 {
        let sweep = bed.queue.sweep(&worker("s"), 100).await.unwrap();
        assert!(sweep.promoted <= 100);
        total += sweep.promoted;
        assert!(total == 450 || sweep.more || sweep.promoted < 100);
        assert!(tokio::time::Instant::now() < deadline, "{total}");
    }
}

#[tokio::test]
async fn moving_a_type_to_another_lane_moves_its_waiting_jobs() {
    let mut bed = Bed::new().await;
    bed.accept(job("mail", "x")).await;
    bed.change(|p| p.job_types.get_mut("mail").unwrap().lane = "slow".into()).await;
    assert!(bed.claim(&worker("w"), &["fast"], 5).await.is_empty());
    assert_eq!(bed.claim(&worker("w"), &["slow"], 5).await[0].lane, "slow");
}

#[tokio::test]
async fn jobs_of_a_type_that_left_the_policy_wait_for_it() {
    let mut bed = Bed::new().await;
    let id = bed.accept(job("mail", "x")).await;
    bed.accept(with(job("mail", "y"), |o| o.delay = Some(60_000))).await;
    let mail = bed.policy.job_types["mail"].clone();
    bed.change(|p| drop(p.job_types.remove("mail"))).await;
    assert!(
        matches!(bed.put(job("mail", "z")).await, Enqueued::Rejected { reason, .. } if reason == "unknown-type")
    );
    assert!(bed.claim(&worker("w"), &["fast", "slow"], 5).await.is_empty());
    assert_eq!(bed.job(&id).await.lane, None);
    let stats = bed.queue.stats().await.unwrap();
    let orphans = stats.lanes.iter().find(|l| l.name.is_empty()).expect("a lane for the laneless");
    assert_eq!((orphans.types[0].ready, orphans.types[0].scheduled), (1, 1));
    bed.change(|p| drop(p.job_types.insert("mail".into(), mail))).await;
    assert_eq!(bed.claim(&worker("w"), &["fast"], 5).await[0].id, id);
}

#[tokio::test]
async fn position_is_exact_among_many_jobs_of_one_moment() {
    let bed = Bed::still(|policy| policy.job_types.get_mut("reset").unwrap().priority = 5).await;
    for kind in ["mail", "reset"] {
        bed.queue.enqueue_all(&vec![job(kind, "x"); 600]).await.unwrap();
    }
    let line: Vec<String> = bed.raw(&["ZRANGE", &bed.key("q:mail"), "0", "-1"]).await.unwrap();
    let other: Vec<String> = bed.raw(&["ZRANGE", &bed.key("q:reset"), "0", "-1"]).await.unwrap();
    for at in [0, 1, 199, 200, 201, 450, 599] {
        let before = other.iter().filter(|id| **id < line[at]).count() + at;
        let place = bed.queue.position(&line[at]).await.unwrap();
        assert_eq!(place, Some(Position { ahead: before as u64, waiting: 1_200 }), "the job at {at}");
    }
}

#[tokio::test]
async fn position_counts_those_that_go_first() {
    let bed = Bed::new().await;
    bed.accept(job("mail", "1")).await;
    bed.accept(job("limited", "2")).await;
    let third = bed.accept(job("mail", "3")).await;
    bed.accept(job("reset", "0")).await;
    bed.accept(job("limited", "4")).await;
    bed.accept(job("report", "other lane")).await;
    assert_eq!(bed.queue.position(&third).await.unwrap(), Some(Position { ahead: 3, waiting: 5 }));
    assert_eq!(bed.queue.position("nope").await.unwrap(), None);
    let late = bed.accept(with(job("mail", "9"), |o| o.delay = Some(60_000))).await;
    assert_eq!(bed.queue.position(&late).await.unwrap(), None);
}

#[tokio::test]
async fn a_claim_is_bounded_in_bytes() {
    let bed = Bed::with(|p| p.max_payload = 1 << 20).await;
    let mut made = Vec::new();
    for n in 0..6u8 {
        made.push(bed.accept(job("mail", vec![n; 1 << 20])).await);
    }
    let w = worker("w");
    let first = bed.claim(&w, &["fast"], 10).await;
    assert_eq!(ids(&first), made[..3], "four would be beyond 4 MiB with their headers");
    let second = bed.claim(&w, &["fast"], 10).await;
    assert_eq!(ids(&second), made[3..], "those put back kept their place");
}

async fn waker(bed: &Bed) -> Waker {
    Waker::connect(&bed.redis.options(), bed.queue.name().clone()).await.unwrap()
}

fn lanes() -> Vec<String> {
    vec!["fast".into(), "slow".into()]
}

#[tokio::test]
async fn a_job_wakes_a_blocked_worker_at_once() {
    let bed = Bed::new().await;
    let mut waker = waker(&bed).await;
    assert!(!waker.wait(&lanes(), Duration::from_millis(20)).await.unwrap());
    let blocked = tokio::spawn(async move { waker.wait(&lanes(), Duration::from_secs(2)).await });
    bed.accept(job("report", "x")).await;
    assert!(blocked.await.unwrap().unwrap());
}

#[tokio::test]
async fn one_job_wakes_about_one_of_fifty_workers() {
    let bed = Bed::new().await;
    let mut blocked = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let mut waker = waker(&bed).await;
        blocked.spawn(async move { waker.wait(&lanes(), Duration::from_secs(2)).await.unwrap() });
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(2);
    loop {
        let info: String = bed.raw(&["INFO", "clients"]).await.unwrap();
        if info.contains("blocked_clients:50") || tokio::time::Instant::now() > deadline {
            break;
        }
    }
    bed.accept(job("mail", "x")).await;
    let woken = blocked.join_all().await.into_iter().filter(|woken| *woken).count();
    assert_eq!(woken, 1);
}

#[tokio::test]
async fn tokens_are_bounded_go_when_the_lane_is_empty_and_pass_on_what_is_left() {
    let bed = Bed::new().await;
    let w = worker("w");
    bed.queue.enqueue(&vec![job("mail", "x"); 200]).await.unwrap();
    let tokens = |queue: Queue| async move {
        let key = queue.name().wake_list("fast");
        redis::cmd("LLEN").arg(key).query_async::<u64>(&mut queue.connection()).await.unwrap()
    };
    assert_eq!(tokens(bed.queue.clone()).await, 64);
    bed.poke(&["DEL", &bed.queue.name().wake_list("fast")]).await;
    assert_eq!(bed.claim(&w, &["fast"], 10).await.len(), 10);
    assert_eq!(tokens(bed.queue.clone()).await, 1, "more waits: another worker is woken");
    assert_eq!(bed.claim(&w, &["fast"], 200).await.len(), 190);
    assert_eq!(tokens(bed.queue.clone()).await, 0, "nothing waits: nobody is woken in vain");
}

#[tokio::test]
async fn a_worker_that_may_not_take_what_waits_wakes_another_and_does_not_spin() {
    let bed = Bed::new().await;
    bed.accept(job("limited", "x")).await;
    let mut waker = waker(&bed).await;
    assert!(waker.wait(&lanes(), Duration::from_secs(1)).await.unwrap());
    let mut wish = want(&["fast"], 5);
    wish.type_limits.insert("limited".into(), 0);
    assert!(bed.claim_reply(&worker("w"), &wish).await.jobs.is_empty());
    assert!(waker.wait(&lanes(), Duration::from_secs(1)).await.unwrap(), "another worker may take it");
    assert!(bed.claim_reply(&worker("w"), &wish).await.jobs.is_empty());
    assert!(!waker.wait(&lanes(), Duration::from_millis(50)).await.unwrap(), "but nobody spins");
}

#[tokio::test]
async fn a_token_taken_in_vain_is_passed_on_while_something_waits() {
    let bed = Bed::new().await;
    let mut waker = waker(&bed).await;
    bed.queue.pass_on(&lanes()).await.unwrap();
    assert!(!waker.wait(&lanes(), Duration::from_millis(20)).await.unwrap(), "nothing waits");
    bed.accept(job("mail", "x")).await;
    assert!(waker.wait(&lanes(), Duration::from_secs(1)).await.unwrap());
    bed.queue.pass_on(&lanes()).await.unwrap();
    bed.queue.pass_on(&lanes()).await.unwrap();
    assert!(waker.wait(&lanes(), Duration::from_secs(1)).await.unwrap());
    assert!(!waker.wait(&lanes(), Duration::from_millis(20)).await.unwrap(), "one token is enough");
}

#[tokio::test]
async fn unpausing_wakes_what_waits() {
    let mut bed = Bed::with(|p| p.paused = true).await;
    bed.accept(job("mail", "x")).await;
    let mut waker = waker(&bed).await;
    assert!(!waker.wait(&lanes(), Duration::from_millis(20)).await.unwrap(), "a paused queue wakes nobody");
    bed.change(|p| p.max_payload += 1).await;
    assert!(!waker.wait(&lanes(), Duration::from_millis(20)).await.unwrap(), "under whatever policy");
    bed.change(|p| p.paused = false).await;
    assert!(waker.wait(&lanes(), Duration::from_secs(1)).await.unwrap());
}

#[tokio::test]
async fn the_operator_hears_when_a_line_fills_and_when_the_policy_changes() {
    use futures::StreamExt;
    let mut bed = Bed::new().await;
    let client = lanekeeper_queue::client::open(&bed.redis.options()).unwrap();
    let mut pubsub = client.get_async_pubsub().await.unwrap();
    pubsub.subscribe(bed.queue.name().wake_channel()).await.unwrap();
    bed.accept(job("mail", "1")).await;
    bed.accept(job("mail", "2")).await;
    bed.change(|p| p.max_payload = 5).await;
    bed.queue.pause("ops", "a deploy", &[]).await.unwrap();
    let mut heard = Vec::new();
    let mut messages = pubsub.on_message();
    while heard.len() < 3 {
        let message = tokio::time::timeout(Duration::from_secs(5), messages.next()).await.unwrap().unwrap();
        heard.push(message.get_payload::<String>().unwrap());
    }
    assert_eq!(heard, ["ready:fast", "policy", "gates"]);
}

#[tokio::test]
async fn a_waker_survives_a_restart_of_redis() {
    let mut bed = Bed::new().await;
    let mut waker = waker(&bed).await;
    bed.redis.written().await.unwrap();
    bed.redis.restart().await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while waker.wait(&lanes(), Duration::from_millis(20)).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline);
    }
}
