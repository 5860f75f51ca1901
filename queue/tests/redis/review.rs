//! What people do with dead letters: acknowledge, discard, replay, with another payload; and what damage does to them.

use super::common::*;
use super::dead::*;
use lanekeeper_api::policy::KeyPart;
use lanekeeper_queue::types::*;

fn outcomes(acted: &[Acted]) -> Vec<&str> {
    acted.iter().map(|one| one.outcome.as_str()).collect()
}

#[tokio::test]
async fn an_acknowledged_letter_stays_dead_and_says_who_saw_it() {
    let bed = Bed::new().await;
    let id = died(&bed, with(job("mail", "x"), |o| o.key = Some("k".into())), &"e".repeat(3_000)).await;
    let open = bed.job(&id).await;
    assert_eq!(open.review, Some(Review { state: ReviewState::Open, by: None, at_ms: None, why: None }));
    let acked =
        bed.queue.dead_ack(&[id.clone(), "nope".into()], "anna", "mail server is down").await.unwrap();
    assert_eq!(outcomes(&acked), ["acknowledged", "not-found"]);
    let seen = bed.job(&id).await;
    let review = seen.review.clone().unwrap();
    assert_eq!((review.state, review.by.as_deref()), (ReviewState::Acknowledged, Some("anna")));
    assert_eq!(review.why.as_deref(), Some("mail server is down"));
    assert!(review.at_ms >= seen.finished_ms);
    assert_eq!((seen.state, seen.fingerprint, seen.attempts), (JobState::Dead, open.fingerprint, 1));
    assert_eq!(seen.history[0].error.as_ref().unwrap().message.len(), 3_000, "still what it died of");
    let again = bed.queue.dead_ack(&[id.clone()], "bert", "").await.unwrap().remove(0);
    assert_eq!((again.outcome.as_str(), again.state), ("wrong-state", Some(JobState::Dead)));
    let Enqueued::Duplicate { state, .. } =
        bed.put(with(job("mail", "y"), |o| o.key = Some("k".into()))).await
    else {
        panic!("it keeps its key")
    };
    assert_eq!(state, JobState::Dead);
    assert_eq!(bed.queue.stats().await.unwrap().dead, 1);
    let live = bed.accept(job("mail", "z")).await;
    assert_eq!(outcomes(&bed.queue.dead_ack(&[live], "anna", "").await.unwrap()), ["wrong-state"]);
}

#[tokio::test]
async fn a_discard_leaves_the_dead_letters_frees_the_key_and_keeps_the_record() {
    let bed = Bed::new().await;
    let keyed = || with(job("mail", "secret"), |o| o.key = Some("k".into()));
    let id = died(&bed, keyed(), "no user").await;
    let live = bed.accept(job("mail", "y")).await;
    let acted = bed
        .queue
        .dead_discard(&[id.clone(), live.clone(), "nope".into()], "anna", "a test account")
        .await
        .unwrap();
    assert_eq!(outcomes(&acted), ["discarded", "wrong-state", "not-found"]);
    assert_eq!((acted[0].state, acted[1].state), (Some(JobState::Discarded), Some(JobState::Ready)));
    let kept = bed.job(&id).await;
    assert_eq!((kept.state, kept.payload.as_deref()), (JobState::Discarded, Some(b"secret".as_slice())));
    let review = kept.review.unwrap();
    assert_eq!(
        (review.state, review.by.as_deref(), review.why.as_deref()),
        (ReviewState::Discarded, Some("anna"), Some("a test account"))
    );
    assert_eq!(kept.dead_reason, Some(DeadReason::PermanentError));
    assert!(ids_of(&bed, &DeadFilter::default(), 10).await.is_empty());
    let discarded = DeadFilter { state: Some(ReviewState::Discarded), ..DeadFilter::default() };
    assert_eq!(ids_of(&bed, &discarded, 10).await, [id.clone()]);
    let found = Find { state: Some(JobState::Discarded), limit: 10, ..Find::default() };
    assert_eq!(bed.queue.find(&found).await.unwrap().jobs.len(), 1);
    let of = |job_type: &str| Find { job_type: Some(job_type.into()), ..found.clone() };
    assert_eq!(bed.queue.find(&of("mail")).await.unwrap().jobs.len(), 1);
    assert_eq!(bed.queue.find(&of("report")).await.unwrap().jobs.len(), 0);
    let stats = bed.queue.stats().await.unwrap();
    assert_eq!((stats.dead, stats.damaged), (0, 0));
    assert_eq!(outcomes(&bed.queue.dead_ack(&[id.clone()], "anna", "").await.unwrap()), ["wrong-state"]);
    assert_eq!(outcomes(&bed.queue.dead_discard(&[id.clone()], "anna", "").await.unwrap()), ["wrong-state"]);
    assert_eq!(outcomes(&bed.queue.cancel(&[id.clone()], "ops").await.unwrap()), ["wrong-state"]);
    // The key is free, and whoever has it now stands in the way of taking the discard back.
    let next = bed.accept(keyed()).await;
    let replayed = bed.queue.dead_replay(&[id.clone()], "anna", "").await.unwrap().remove(0);
    assert_eq!((replayed.outcome.as_str(), replayed.state), ("key-conflict", Some(JobState::Discarded)));
    bed.queue.cancel(&[next], "ops").await.unwrap();
    assert_eq!(outcomes(&bed.queue.dead_replay(&[id.clone()], "anna", "").await.unwrap()), ["replayed"]);
    assert_eq!(bed.state(&id).await, JobState::Ready);
    assert!(ids_of(&bed, &discarded, 10).await.is_empty());
    assert_eq!(bed.raw::<u64>(&["HLEN", &bed.key("dc")]).await.unwrap(), 0, "no card is left");
    assert_eq!(bed.raw::<u64>(&["EXISTS", &bed.key("dx"), &bed.key("dx:mail")]).await.unwrap(), 0);
}

#[tokio::test]
async fn only_discarded_letters_are_trimmed_and_only_where_the_policy_says_so() {
    let mut bed = Bed::new().await;
    let s = worker("s");
    let open = died(&bed, job("mail", "x"), "a").await;
    let seen = died(&bed, job("mail", "x"), "a").await;
    let gone = many(&bed, "mail", "fast", 30, |_| "a".into()).await;
    let other = died(&bed, job("report", "x"), "a").await;
    bed.queue.dead_ack(&[seen.clone()], "anna", "").await.unwrap();
    bed.queue.dead_discard(&gone, "anna", "").await.unwrap();
    bed.queue.dead_discard(&[other.clone()], "anna", "").await.unwrap();
    assert_eq!(bed.queue.sweep(&s, 100).await.unwrap().trimmed, 0, "absent: for ever");
    bed.change(|p| p.job_types.get_mut("mail").unwrap().dead.keep_reviewed_for_ms = Some(3_600_000)).await;
    assert_eq!(bed.queue.sweep(&s, 100).await.unwrap().trimmed, 0, "too young");
    bed.change(|p| p.job_types.get_mut("mail").unwrap().dead.keep_reviewed_for_ms = Some(0)).await;
    // An entry whose id was taken again since.
    bed.poke(&["ZADD", &bed.key("dx:mail"), "1", &open]).await;
    let swept = bed.queue.sweep(&s, 21).await.unwrap();
    assert_eq!((swept.trimmed, swept.more), (21, true));
    assert_eq!(bed.queue.sweep(&s, 100).await.unwrap().trimmed, 10);
    assert_eq!(bed.maybe_job(&gone[0]).await, None);
    assert_eq!(bed.state(&open).await, JobState::Dead);
    assert_eq!(bed.state(&seen).await, JobState::Dead);
    assert_eq!(bed.state(&other).await, JobState::Discarded, "its type says nothing");
    for (key, left) in [("j", 3), ("a", 3), ("dc", 3)] {
        assert_eq!(bed.raw::<u64>(&["HLEN", &bed.key(key)]).await.unwrap(), left, "{key}");
    }
    assert_eq!(bed.raw::<u64>(&["ZCARD", &bed.key("dx")]).await.unwrap(), 1);
    assert_eq!(bed.queue.stats().await.unwrap().damaged, 0);
}

#[tokio::test]
async fn a_replay_says_who_and_why_and_shortens_what_the_job_died_of() {
    let bed = Bed::new().await;
    let id = died(&bed, job("mail", "x"), &"e".repeat(3_000)).await;
    bed.queue.dead_ack(&[id.clone()], "anna", "looking").await.unwrap();
    bed.queue.dead_replay(&[id.clone()], "bert", "fixed").await.unwrap();
    let history = bed.job(&id).await.history;
    assert_eq!(
        history.iter().map(|a| a.outcome.as_str()).collect::<Vec<_>>(),
        ["dead", "acknowledge", "replay"]
    );
    assert_eq!(
        (history[2].worker.as_str(), history[2].error.as_ref().unwrap().message.as_str()),
        ("bert", "fixed")
    );
    assert_eq!(history[0].error.as_ref().unwrap().message.len(), 1024);
    assert!(history[0].ran() && !history[1].ran() && !history[2].ran());
    // Dead again: open again.
    let claimed = bed.claim(&worker("w"), &["fast"], 1).await.remove(0);
    assert_eq!(claimed.attempt, 2);
    bed.settle(&worker("w"), &claimed, dead("again")).await;
    assert_eq!(bed.job(&id).await.review.unwrap().state, ReviewState::Open);
}

#[tokio::test]
async fn a_replay_with_another_payload_keeps_the_first_one_and_the_key() {
    let bed = Bed::with(|p| {
        p.max_payload = 100;
        p.job_types.get_mut("mail").unwrap().key = Some(vec![KeyPart::Path(vec!["n".into()])]);
    })
    .await;
    let w = worker("w");
    let payloads: [&[u8]; 3] = [b"{\"n\":1}", b"\xff\x00 no JSON", b""];
    let id = died(&bed, job("mail", payloads[0]), "bad payload").await;
    let large = bed.queue.dead_edit(&id, "anna", "", &[b'x'; 101]).await.unwrap();
    assert_eq!((large.outcome.as_str(), large.state), ("payload-too-large", Some(JobState::Dead)));
    assert_eq!(bed.job(&id).await.payload.as_deref(), Some(payloads[0]));
    for (n, payload) in payloads.into_iter().enumerate().skip(1) {
        let edited = bed.queue.dead_edit(&id, "anna", "mended by hand", payload).await.unwrap();
        assert_eq!((edited.outcome.as_str(), edited.state), ("replayed", Some(JobState::Ready)));
        let found = bed.job(&id).await;
        assert_eq!(found.payload.as_deref(), Some(payload));
        assert_eq!((found.original.as_deref(), found.original_bytes), (Some(payloads[0]), Some(7)));
        assert_eq!((found.payload_bytes, found.key.as_deref()), (payload.len() as u64, Some("1")));
        let mark = found.history.last().unwrap();
        let error = mark.error.as_ref().unwrap();
        assert_eq!(
            (mark.outcome.as_str(), error.code.as_str(), error.message.as_str()),
            ("replay", "PayloadReplaced", "mended by hand")
        );
        let Enqueued::Duplicate { id: owner, .. } = bed.put(job("mail", "{\"n\":1}")).await else {
            panic!("its key")
        };
        assert_eq!(owner, id);
        let claimed = bed.claim(&w, &["fast"], 1).await.remove(0);
        assert_eq!((claimed.payload.as_slice(), claimed.attempt), (payload, u32::try_from(n).unwrap() + 1));
        assert_eq!(claimed.key.as_deref(), Some("1"));
        bed.settle(&w, &claimed, dead("bad payload")).await;
    }
    assert_eq!(bed.queue.dead_edit("nope", "anna", "", b"x").await.unwrap().outcome, "not-found");
    // A job without key or anything else in its record, and an empty first payload.
    let plain = died(&bed, job("report", ""), "empty").await;
    bed.queue.dead_edit(&plain, "anna", "", b"full").await.unwrap();
    let found = bed.job(&plain).await;
    assert_eq!(
        (found.payload.as_deref(), found.original.as_deref()),
        (Some(b"full".as_slice()), Some(b"".as_slice()))
    );
    assert_eq!(found.key, None);
    assert_eq!(bed.queue.dead_edit(&plain, "anna", "", b"x").await.unwrap().outcome, "wrong-state");
    let view = bed.queue.get(&[plain], false).await.unwrap().remove(0).unwrap();
    assert_eq!((view.original_bytes, view.original), (Some(0), None));
}

#[tokio::test]
async fn lost_and_damaged_cards_cost_nothing_and_are_made_anew() {
    let bed = Bed::new().await;
    let s = worker("s");
    let all = many(&bed, "mail", "fast", 40, |n| format!("{} 1", ["a", "b"][n % 2])).await;
    bed.queue.dead_discard(&all[..4], "anna", "").await.unwrap();
    bed.queue.dead_ack(&all[4..8], "anna", "").await.unwrap();
    let states =
        [None, Some(ReviewState::Open), Some(ReviewState::Acknowledged), Some(ReviewState::Discarded)];
    let filters =
        || states.map(|state| DeadFilter { state, lane: Some("fast".into()), ..DeadFilter::default() });
    let mut before = Vec::new();
    for filter in filters() {
        before.push((ids_of(&bed, &filter, 7).await, groups(&bed, &filter).await));
    }
    assert_eq!(before.iter().map(|(ids, _)| ids.len()).collect::<Vec<_>>(), [36, 32, 4, 4]);
    let cards = bed.key("dc");
    for junk in [None, Some("junk"), Some("\u{1}")] {
        match junk {
            None => bed.poke(&["DEL", &cards]).await,
            Some(junk) => {
                for id in &all {
                    bed.poke(&["HSET", &cards, id, junk]).await;
                }
            }
        }
        for (filter, (ids, by_error)) in filters().into_iter().zip(&before) {
            assert_eq!(&ids_of(&bed, &filter, 7).await, ids, "{junk:?}");
            assert_eq!(&groups(&bed, &filter).await, by_error, "{junk:?}");
        }
        assert!(bed.job(&all[0]).await.fingerprint.is_some());
    }
    // Lost ones are noticed by their number.
    bed.poke(&["DEL", &cards]).await;
    while bed.queue.sweep(&s, 200).await.unwrap().more {}
    assert_eq!(bed.raw::<u64>(&["HLEN", &cards]).await.unwrap(), 40);
    for (filter, (ids, by_error)) in filters().into_iter().zip(&before) {
        assert_eq!((&ids_of(&bed, &filter, 7).await, &groups(&bed, &filter).await), (ids, by_error));
    }
    assert_eq!(bed.queue.stats().await.unwrap().damaged, 0);
    // Letters without a readable job neither count nor keep sweeps looking for their cards.
    bed.poke(&["HDEL", &cards, &all[9]]).await;
    bed.poke(&["HSET", &bed.key("j"), &all[9], "junk"]).await;
    let left: u64 = groups(&bed, &filters()[0]).await.iter().map(|group| group.count).sum();
    assert_eq!(left, 35);
    while bed.queue.sweep(&s, 200).await.unwrap().more {}
    assert!(!bed.queue.sweep(&s, 200).await.unwrap().more);
    assert_eq!(
        outcomes(&bed.queue.dead_discard(&[all[9].clone()], "anna", "").await.unwrap()),
        ["not-found"]
    );
    assert_eq!(bed.queue.stats().await.unwrap().dead, 35);
}

#[tokio::test]
async fn lost_indexes_of_discarded_letters_are_mended() {
    let bed = Bed::new().await;
    let s = worker("s");
    let all = many(&bed, "mail", "fast", 20, |_| "a".into()).await;
    bed.queue.dead_discard(&all[..10], "anna", "").await.unwrap();
    let discarded = DeadFilter { state: Some(ReviewState::Discarded), ..DeadFilter::default() };
    let before = ids_of(&bed, &discarded, 200).await;
    for lost in [vec!["dx"], vec!["dx:mail"], vec!["dx", "dx:mail"]] {
        for key in lost {
            bed.poke(&["DEL", &bed.key(key)]).await;
        }
        while bed.queue.sweep(&s, 200).await.unwrap().more {}
        assert_eq!(ids_of(&bed, &discarded, 200).await, before);
        let of_type = DeadFilter { job_type: Some("mail".into()), ..discarded.clone() };
        assert_eq!(ids_of(&bed, &of_type, 200).await, before);
        assert_eq!(bed.queue.stats().await.unwrap().dead, 10);
    }
}

/// Whoever replays by pages may die between any two calls, and start over.
#[tokio::test]
async fn replays_that_are_killed_and_begun_anew_replay_each_letter_once() {
    let bed = Bed::new().await;
    let all = many(&bed, "mail", "fast", 1_000, |_| "down".into()).await;
    let filter = DeadFilter { oldest_first: true, ..DeadFilter::of_type(Some("mail")) };
    let mut runs = 0;
    loop {
        let (mut cursor, mut pages) = (None, 0);
        let done = loop {
            let page = bed.queue.dead_ids(&filter, 50, cursor.as_deref()).await.unwrap();
            if !page.ids.is_empty() {
                bed.queue.dead_replay(&page.ids, "anna", "").await.unwrap();
            }
            cursor = page.cursor;
            pages += 1;
            if cursor.is_none() || pages > runs % 5 {
                break cursor.is_none();
            }
        };
        runs += 1;
        if done {
            break;
        }
    }
    assert!(runs > 2);
    for job in bed.queue.get(&all, false).await.unwrap().into_iter().flatten() {
        assert_eq!(job.state, JobState::Ready);
        assert_eq!(job.history.iter().filter(|entry| entry.outcome == "replay").count(), 1, "{}", job.id);
    }
    assert_eq!(bed.queue.stats().await.unwrap().dead, 0);
}

#[tokio::test]
async fn a_key_whose_job_was_called_off_or_discarded_stands_in_the_way_of_no_replay() {
    let bed = Bed::new().await;
    let keyed = || with(job("mail", "x"), |o| o.key = Some("k".into()));
    let id = died(&bed, keyed(), "no user").await;
    let cancelled = bed.accept(job("mail", "c")).await;
    bed.queue.cancel(&[cancelled.clone()], "ops").await.unwrap();
    let discarded = died(&bed, job("mail", "d"), "no user").await;
    bed.queue.dead_discard(&[discarded.clone()], "anna", "").await.unwrap();
    for owner in [cancelled, discarded] {
        // As damage may leave it.
        bed.poke(&["HSET", &bed.key("k"), "k", &owner]).await;
        assert_eq!(outcomes(&bed.queue.dead_replay(&[id.clone()], "anna", "").await.unwrap()), ["replayed"]);
        let w = worker("w");
        let again = bed.claim(&w, &["fast"], 1).await.remove(0);
        bed.settle(&w, &again, self::dead("no user")).await;
    }
}

#[tokio::test]
async fn what_people_decided_outlasts_the_attempts_of_a_long_history() {
    let bed = Bed::new().await;
    let w = worker("w");
    let id = bed.accept(job("mail", "x")).await;
    let round = async |outcome| {
        let claimed = bed.claim(&w, &["fast"], 1).await.remove(0);
        bed.settle(&w, &claimed, outcome).await;
    };
    for _ in 0..6 {
        round(Outcome::Retry { delay_ms: 0, spends: Spends::Nothing, error: error("again") }).await;
    }
    round(self::dead("no user")).await;
    bed.queue.dead_ack(&[id.clone()], "ada", "known").await.unwrap();
    for _ in 0..20 {
        bed.queue.dead_replay(&[id.clone()], "bob", "").await.unwrap();
        round(self::dead("no user")).await;
    }
    let found = bed.job(&id).await;
    assert_eq!((found.history.len(), found.history_dropped), (30, 18));
    let count = |outcome: &str| found.history.iter().filter(|entry| entry.outcome == outcome).count();
    assert_eq!((count("acknowledge"), count("replay"), count("dead")), (1, 20, 4));
    assert_eq!(found.history[5].worker, "ada");
    let last: Vec<_> = found.history[25..].iter().map(|entry| entry.outcome.as_str()).collect();
    assert_eq!(last, ["dead", "replay", "dead", "replay", "dead"], "how it ended stays as a whole");
    // Where there is nothing else, the oldest word goes.
    for _ in 0..10 {
        bed.queue.dead_replay(&[id.clone()], "bob", "").await.unwrap();
        round(self::dead("no user")).await;
    }
    let found = bed.job(&id).await;
    assert_eq!((found.history.len(), found.history_dropped), (30, 38));
    assert!(found.history.iter().all(|entry| entry.outcome != "acknowledge"));
}

#[tokio::test]
async fn what_a_filter_found_is_left_alone_once_it_is_something_else() {
    let bed = Bed::still(|_| {}).await;
    let (mut ids, mut since) = (Vec::new(), 0);
    for _ in 0..4 {
        ids.push(died(&bed, job("mail", "x"), "no").await);
        since = bed.job(&ids[0]).await.finished_ms.unwrap();
    }
    let [first, second, third, fourth] = ids.as_slice() else { unreachable!() };
    let act = async |act, id: &str, state, until_ms| {
        let meant = Meant { state, until_ms };
        let acted = bed.queue.dead_act(act, &[id.to_owned()], "anna", "by filter", Some(&meant)).await;
        outcomes(&acted.unwrap())[0].to_owned()
    };
    let (open, acknowledged, discarded) =
        (Some(ReviewState::Open), Some(ReviewState::Acknowledged), Some(ReviewState::Discarded));
    bed.at(1_000).await;
    // Somebody discarded it meanwhile, or acknowledged it.
    bed.queue.dead_discard(&[first.clone()], "bert", "do not run").await.unwrap();
    bed.queue.dead_ack(&[second.clone()], "bert", "mine").await.unwrap();
    for state in [None, open, acknowledged] {
        assert_eq!(act(DeadAct::Replay, first, state, since + 5_000).await, "wrong-state", "{state:?}");
    }
    for one in [DeadAct::Replay, DeadAct::Discard, DeadAct::Acknowledge] {
        assert_eq!(act(one, second, open, since).await, "wrong-state", "{one:?}");
        assert_eq!(act(one, third, acknowledged, since).await, "wrong-state", "{one:?}");
        assert_eq!(act(one, third, open, since - 1).await, "wrong-state", "{one:?}: it died later");
    }
    assert_eq!(act(DeadAct::Replay, first, discarded, since).await, "wrong-state", "discarded later");
    assert_eq!(act(DeadAct::Acknowledge, fourth, open, since).await, "acknowledged");
    assert_eq!(act(DeadAct::Discard, second, None, since).await, "discarded");
    assert_eq!(act(DeadAct::Replay, fourth, acknowledged, since).await, "replayed");
    assert_eq!(act(DeadAct::Replay, third, open, since).await, "replayed");
    let taken_back = bed.job(first).await.finished_ms.unwrap();
    assert_eq!(act(DeadAct::Replay, first, discarded, taken_back).await, "replayed");
    // It died again, which was not there to be meant.
    let w = worker("w");
    for again in bed.claim(&w, &["fast"], 9).await {
        bed.settle(&w, &again, dead("again")).await;
    }
    assert_eq!(act(DeadAct::Replay, third, None, since).await, "wrong-state");
    assert_eq!(bed.state(third).await, JobState::Dead);
}
