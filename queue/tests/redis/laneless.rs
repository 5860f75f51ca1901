//! What remains of a type that left the policy: its jobs end as ever, and wait for it where they have not.

use super::common::*;
use lanekeeper_queue::types::*;

const DAY_MS: u64 = 86_400_000;

fn keyed(kind: &str, n: usize) -> NewJob {
    with(job(kind, n.to_string()), |o| o.key = Some(format!("k{n}")))
}

/// A bed with `count` running jobs of `mail`, a dead one and a waiting one, whose type is gone then.
async fn orphaned(w: &WorkerIdentity, count: usize) -> (Bed, Vec<Claimed>, String, String) {
    let mut bed = Bed::still(|_| {}).await;
    let died = bed.dead(job("mail", "died")).await;
    let jobs: Vec<NewJob> = (0..count).map(|n| keyed("mail", n)).collect();
    bed.queue.enqueue(&jobs).await.unwrap();
    let running = bed.claim(w, &["fast"], 20).await;
    assert_eq!(running.len(), count);
    let waiting = bed.accept(job("mail", "waits")).await;
    bed.change(|policy| drop(policy.job_types.remove("mail"))).await;
    (bed, running, died, waiting)
}

#[tokio::test]
async fn attempts_of_a_type_that_is_gone_end_in_every_way() {
    let w = worker("w");
    let (bed, running, _, waiting) = orphaned(&w, 6).await;
    let lane_hold = Outcome::Snooze { delay_ms: 5_000, why: "429".into(), holds: Holds::Lane };
    let ends = [
        (success(), JobState::Succeeded),
        (retry(0), JobState::Ready),
        (dead("no"), JobState::Dead),
        (Outcome::Release { why: "drain".into() }, JobState::Ready),
        (lane_hold, JobState::Scheduled),
    ];
    for (job, (outcome, state)) in running.iter().zip(ends) {
        assert_eq!(bed.settle(&w, job, outcome).await, Settled::Done);
        assert_eq!((bed.state(&job.id).await, bed.job(&job.id).await.lane), (state, None));
    }
    let last = &running[5];
    bed.expire(&last.id).await;
    bed.calm().await;
    let taken = bed.queue.sweep(&worker("s"), 10).await.unwrap().expired.remove(0);
    assert_eq!((taken.job.id.as_str(), taken.job.lane.as_str()), (last.id.as_str(), ""));
    assert_eq!(bed.settle(&worker("s"), &taken.job, retry(0)).await, Settled::Done);
    let place = bed.queue.position(&waiting).await.unwrap().unwrap();
    assert_eq!((place.ahead, place.waiting), (3, 4), "behind those that came before");
    let stats = bed.queue.stats().await.unwrap();
    let mail = &stats.lanes.iter().find(|lane| lane.name.is_empty()).unwrap().types[0];
    assert_eq!((mail.ready, mail.scheduled, mail.running, mail.dead), (4, 1, 0, 2));
    assert_eq!((stats.gates.len(), stats.damaged), (0, 0));
}

#[tokio::test]
async fn letters_of_a_type_that_is_gone_are_found_and_replayed() {
    let w = worker("w");
    let (bed, _, died, waiting) = orphaned(&w, 0).await;
    let of_type = DeadFilter::of_type(Some("mail"));
    assert_eq!(super::dead::ids_of(&bed, &of_type, 10).await, [died.clone()]);
    let of_lane = DeadFilter { lane: Some("fast".into()), ..DeadFilter::default() };
    assert!(super::dead::ids_of(&bed, &of_lane, 10).await.is_empty(), "it is in no lane");
    bed.queue.dead_discard(&[died.clone()], "ada", "").await.unwrap();
    bed.at(900 * DAY_MS).await;
    assert_eq!(bed.queue.sweep(&w, 10).await.unwrap().trimmed, 0, "kept for ever");
    assert_eq!(bed.queue.dead_replay(&[died.clone()], "ada", "").await.unwrap()[0].outcome, "replayed");
    let acted = bed.queue.cancel(&[died, waiting], "ops").await.unwrap();
    assert!(acted.iter().all(|one| one.outcome == "cancelled"));
}

#[tokio::test]
async fn what_a_type_that_is_gone_has_finished_is_kept_for_a_day() {
    let w = worker("w");
    let (bed, running, ..) = orphaned(&w, 1).await;
    bed.settle(&w, &running[0], success()).await;
    for (ms, known) in [(DAY_MS - 1, true), (DAY_MS, false)] {
        bed.at(ms).await;
        let put = bed.put(keyed("report", 0)).await;
        assert_eq!(matches!(put, Enqueued::Duplicate { state: JobState::Succeeded, .. }), known, "{put:?}");
        bed.queue.sweep(&w, 10).await.unwrap();
        assert_eq!(bed.maybe_job(&running[0].id).await.is_some(), known, "after {ms} ms");
    }
}

#[tokio::test]
async fn a_type_is_forgotten_only_when_nothing_of_it_is_left() {
    let mut bed = Bed::still(|_| {}).await;
    let w = worker("w");
    let known = async |bed: &Bed| bed.raw::<bool>(&["SISMEMBER", &bed.key("t"), "mail"]).await.unwrap();
    let counted = async |bed: &Bed| bed.raw::<bool>(&["HEXISTS", &bed.key("c"), "e:mail"]).await.unwrap();
    let running = bed.running(&w, job("mail", "x")).await;
    let mail = bed.policy.job_types["mail"].clone();
    bed.change(|policy| drop(policy.job_types.remove("mail"))).await;
    assert!(known(&bed).await && counted(&bed).await, "one runs");
    bed.settle(&w, &running, retry(60_000)).await;
    bed.change(|_| {}).await;
    assert!(known(&bed).await && counted(&bed).await, "one is scheduled");
    bed.queue.cancel(&[running.id], "ops").await.unwrap();
    bed.change(|_| {}).await;
    assert!(known(&bed).await && counted(&bed).await, "one is kept");
    bed.at(DAY_MS).await;
    bed.queue.sweep(&w, 10).await.unwrap();
    bed.change(|_| {}).await;
    assert!(!known(&bed).await && !counted(&bed).await);
    let left: Vec<String> = bed.raw(&["HKEYS", &bed.key("c")]).await.unwrap();
    assert!(left.iter().all(|field| !field.ends_with(":mail")), "{left:?}");
    bed.change(|policy| drop(policy.job_types.insert("mail".into(), mail))).await;
    assert!(known(&bed).await);
}

#[tokio::test]
async fn searches_go_through_types_by_name() {
    let names: Vec<String> = (0..12).map(|n| format!("t{:02}", (n * 7) % 12)).collect();
    let bed = Bed::with(|policy| {
        policy.job_types.extend(names.iter().map(|name| (name.clone(), job_type("fast"))));
    })
    .await;
    for name in &names {
        bed.accept(job(name, "x")).await;
    }
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let find = Find { state: Some(JobState::Ready), limit: 5, cursor, ..Find::default() };
        let page = bed.queue.find(&find).await.unwrap();
        found.extend(page.jobs.into_iter().map(|job| job.job_type));
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert!(found.len() == 12 && found.is_sorted(), "{found:?}");
}

#[tokio::test]
async fn a_lane_that_is_gone_leaves_no_tokens() {
    let mut bed = Bed::new().await;
    let w = worker("w");
    for _ in 0..2 {
        bed.accept(job("report", "x")).await;
    }
    let mut wish = want(&["slow"], 1);
    wish.type_limits.insert("report".into(), 0);
    bed.poke(&["DEL", &bed.key("w:slow")]).await;
    bed.claim_reply(&w, &wish).await;
    let left = async |bed: &Bed| {
        let tokens: u64 = bed.raw(&["LLEN", &bed.key("w:slow")]).await.unwrap();
        let put_back: bool = bed.raw(&["HEXISTS", &bed.key("m"), "b:slow"]).await.unwrap();
        (tokens, put_back)
    };
    assert_eq!(left(&bed).await, (1, true));
    bed.change(|policy| {
        policy.lanes.retain(|lane| lane.name != "slow");
        policy.job_types.get_mut("report").unwrap().lane = "fast".into();
    })
    .await;
    assert_eq!(left(&bed).await, (0, false));
    assert_eq!(bed.claim(&w, &["fast"], 9).await.len(), 2);
}

#[tokio::test]
async fn a_lane_that_comes_back_is_held_by_people_alone() {
    let mut bed = Bed::new().await;
    let (w, slow) = (worker("w"), bed.policy.lanes[1].clone());
    let claimed = bed.running(&w, job("report", "x")).await;
    let held = Outcome::Snooze { delay_ms: 60_000, why: "429".into(), holds: Holds::Lane };
    bed.settle(&w, &claimed, held).await;
    bed.queue.pause("ada", "", &["slow".into(), "fast".into()]).await.unwrap();
    bed.queue.pause("ada", "", &[]).await.unwrap();
    bed.change(|policy| drop(policy.lanes.pop())).await;
    bed.change(|policy| policy.lanes.push(slow)).await;
    let gates = bed.queue.stats().await.unwrap().gates;
    assert!(gates.iter().all(|gate| gate.gate == Gate::Paused), "{gates:?}");
    let paused: Vec<_> = gates.iter().map(|gate| gate.lane.as_deref()).collect();
    assert_eq!(paused, [None, Some("fast"), Some("slow")]);
    let hold: bool = bed.raw(&["HEXISTS", &bed.key("g"), "h:slow"]).await.unwrap();
    assert!(!hold, "what a dependency of another lane said is forgotten");
}

#[tokio::test]
async fn a_type_that_is_gone_is_forgotten_with_its_last_job() {
    let (w, s) = (worker("w"), worker("s"));
    let mut bed = Bed::still(|_| {}).await;
    let last = bed.running(&w, job("mail", "x")).await;
    bed.change(|policy| drop(policy.job_types.remove("mail"))).await;
    let known = async || bed.raw::<bool>(&["SISMEMBER", &bed.key("t"), "mail"]).await.unwrap();
    bed.queue.sweep(&s, 10).await.unwrap();
    assert!(known().await, "it runs");
    // Damage: neither lease nor count say so, and the job comes back.
    bed.poke(&["DEL", &bed.key("l"), &bed.key("c")]).await;
    bed.queue.sweep(&s, 10).await.unwrap();
    assert!(known().await, "its lease has an end");
    for third in 1..=3 {
        bed.at(third * LEASE_MS / 3).await;
        bed.queue.sweep(&s, 10).await.unwrap();
    }
    assert!(bed.queue.position(&last.id).await.unwrap().is_some());
    bed.queue.cancel(&[last.id.clone()], "ops").await.unwrap();
    bed.queue.sweep(&s, 10).await.unwrap();
    assert!(known().await, "its record stands");
    // Of a type that is gone records stand for a day.
    bed.at(DAY_MS + LEASE_MS).await;
    bed.queue.sweep(&s, 10).await.unwrap();
    assert!(!known().await);
    let counts: Vec<String> = bed.raw(&["HKEYS", &bed.key("c")]).await.unwrap();
    assert!(!counts.iter().any(|name| name.ends_with(":mail")), "{counts:?}");
}
