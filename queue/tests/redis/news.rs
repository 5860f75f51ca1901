//! Every kind of event, with what it is about.

use super::common::*;
use lanekeeper_api::policy::{Circuit, ConcurrencyKey, KeyPart, OnDead};
use lanekeeper_queue::types::*;

/// What was told since the event with this id: (kind, name, detail).
async fn since(bed: &Bed, last: &mut Option<String>) -> Vec<(String, String, String)> {
    let events = bed.queue.events(last.as_deref(), 1_000).await.unwrap();
    *last = events.last().map(|event| event.id.clone()).or(last.take());
    let text = |part: Option<String>| part.unwrap_or_default();
    events.into_iter().map(|event| (event.kind, text(event.name), text(event.detail))).collect()
}

fn told(events: &[(String, String, String)]) -> Vec<(&str, &str, &str)> {
    events.iter().map(|(kind, name, detail)| (kind.as_str(), name.as_str(), detail.as_str())).collect()
}

#[tokio::test]
async fn every_word_on_a_dead_letter_and_every_cancellation_is_told() {
    let bed = Bed::new().await;
    let w = worker("w");
    let mut last = None;
    assert_eq!(since(&bed, &mut last).await.len(), 1);
    let id = bed.dead(job("mail", "x")).await;
    bed.queue.dead_ack(&[id.clone()], "ada", "seen").await.unwrap();
    bed.queue.dead_discard(&[id.clone()], &"é".repeat(100), "").await.unwrap();
    bed.queue.dead_replay(&[id.clone()], "bob", "").await.unwrap();
    bed.queue.cancel(&[id.clone()], "eve").await.unwrap();
    bed.queue.cancel(&[bed.accept(job("report", "y")).await], "").await.unwrap();
    let running = bed.running(&w, job("mail", "z")).await;
    bed.queue.cancel(&[running.id.clone()], "eve").await.unwrap();
    bed.settle(&w, &running, retry(0)).await;
    let long = "é".repeat(64);
    assert_eq!(
        told(&since(&bed, &mut last).await),
        [
            ("dead", "mail", "PermanentError"),
            ("acknowledged", "mail", "ada"),
            ("discarded", "mail", long.as_str()),
            ("replayed", "mail", "bob"),
            ("cancelled", "mail", "eve"),
            ("cancelled", "report", "someone"),
            ("cancelled", "mail", "eve"),
        ]
    );
}

#[tokio::test]
async fn every_change_of_a_gate_is_told_once() {
    let bed = Bed::still(|policy| {
        policy.lanes[0].circuit = Some(Circuit { failures: 2, probe_after_ms: 1_000 });
    })
    .await;
    let w = worker("w");
    let mut last = None;
    since(&bed, &mut last).await;
    for _ in 0..2 {
        bed.queue.pause("ada", "vendor", &[]).await.unwrap();
    }
    for _ in 0..2 {
        bed.queue.resume("bob", &[]).await.unwrap();
    }
    let lane = ["fast".to_owned()];
    bed.queue.pause("ada", "", &lane).await.unwrap();
    bed.queue.resume("ada", &lane).await.unwrap();
    let news = since(&bed, &mut last).await;
    let pauses = [
        ("paused", "", "ada: vendor"),
        ("resumed", "", "bob"),
        ("paused", "fast", "ada: "),
        ("resumed", "fast", "ada"),
    ];
    assert_eq!(told(&news), pauses);

    bed.queue.enqueue(&vec![job("mail", "x"); 8]).await.unwrap();
    let running = bed.claim(&w, &["fast"], 5).await;
    let held = |delay_ms| Outcome::Snooze { delay_ms, why: "429".into(), holds: Holds::Lane };
    bed.settle(&w, &running[0], held(500)).await;
    assert_eq!(told(&since(&bed, &mut last).await), [("held", "fast", "Retry-After")]);
    bed.settle(&w, &running[1], held(700)).await;
    assert_eq!(since(&bed, &mut last).await, [], "the same hold, made longer");
    bed.settle(&w, &running[2], retry(60_000)).await;
    assert_eq!(since(&bed, &mut last).await, []);
    bed.settle(&w, &running[3], retry(60_000)).await;
    assert_eq!(told(&since(&bed, &mut last).await), [("circuit-opened", "fast", "")]);
    bed.settle(&w, &running[4], retry(60_000)).await;
    bed.at(1_000).await;
    let probe = bed.claim(&w, &["fast"], 5).await;
    bed.settle(&w, &probe[0], retry(60_000)).await;
    assert_eq!(told(&since(&bed, &mut last).await), [("probe-failed", "fast", "")]);
    bed.at(3_000).await;
    let probe = bed.claim(&w, &["fast"], 5).await;
    bed.settle(&w, &probe[0], success()).await;
    assert_eq!(told(&since(&bed, &mut last).await), [("circuit-closed", "fast", "")]);
    let next = bed.claim(&w, &["fast"], 1).await;
    bed.settle(&w, &next[0], success()).await;
    assert_eq!(since(&bed, &mut last).await, [], "it is closed");
}

#[tokio::test]
async fn news_of_a_death_that_cannot_be_brought_are_told_as_lost() {
    let mut bed = Bed::new().await;
    bed.change(|policy| {
        policy.job_types.get_mut("mail").unwrap().on_dead = Some(OnDead { r#type: "nope".into() });
    })
    .await;
    let mut last = None;
    since(&bed, &mut last).await;
    bed.dead(job("mail", "{}")).await;
    let news = since(&bed, &mut last).await;
    let lost = ("news-lost", "mail", "onDead: a job of type nope cannot be made of it");
    assert_eq!(told(&news), [lost, ("dead", "mail", "PermanentError")]);
    bed.change(|policy| {
        policy.job_types.get_mut("mail").unwrap().on_dead = Some(OnDead { r#type: "report".into() });
    })
    .await;
    bed.dead(job("mail", "{}")).await;
    let kinds: Vec<_> = since(&bed, &mut last).await.into_iter().map(|(kind, ..)| kind).collect();
    assert_eq!(kinds, ["policy", "dead"], "nothing is lost now");
}

/// A bed where the death of a `mail` brings a `report` with both kinds of keys; `limited` brings one as well.
async fn keyed_news() -> Bed {
    Bed::with(|policy| {
        for name in ["mail", "limited"] {
            policy.job_types.get_mut(name).unwrap().on_dead = Some(OnDead { r#type: "report".into() });
        }
        let part = |path: &[&str]| KeyPart::Path(path.iter().map(|step| (*step).to_owned()).collect());
        let report = policy.job_types.get_mut("report").unwrap();
        report.key = Some(vec![KeyPart::Text("news:".into()), part(&["payload", "n"])]);
        report.concurrency_key = Some(ConcurrencyKey {
            key: vec![part(&["payload", "customer"])],
            limit: Some(1),
            rate_limit: None,
        });
    })
    .await
}

/// The key and group of the news of such a job's death, whether it carries the payload, and what is told of it beside the death.
async fn news_of(bed: &Bed, payload: &[u8]) -> (Option<String>, String, bool, Vec<(String, String)>) {
    let mut last = bed.queue.events(None, 1_000).await.unwrap().last().map(|event| event.id.clone());
    bed.dead(job("mail", payload)).await;
    let claimed = bed.claim(&worker("n"), &["slow"], 9).await;
    assert_eq!(claimed.len(), 1, "{}", String::from_utf8_lossy(payload));
    let group: String = bed.raw(&["HGET", &bed.key("yg"), &claimed[0].id]).await.unwrap();
    let news: serde_json::Value = serde_json::from_slice(&claimed[0].payload).unwrap();
    let told = since(bed, &mut last).await.into_iter().filter(|(kind, ..)| kind != "dead");
    let told = told.map(|(kind, _, detail)| (kind, detail)).collect();
    bed.settle(&worker("n"), &claimed[0], success()).await;
    (claimed[0].key.clone(), group, news.get("payload").is_some(), told)
}

#[tokio::test]
async fn news_have_the_keys_that_the_dead_jobs_payload_gives_also_where_it_is_left_out() {
    let bed = keyed_news().await;
    let large = format!("{{\"n\":2,\"customer\":\"ada\",\"x\":\"{}\"}}", "x".repeat(262_144 - 40));
    for (payload, key, carried) in [
        (br#"{"n":1,"customer":"ada"}"#.as_slice(), "news:1", true),
        (large.as_bytes(), "news:2", false),
        (b"{\"n\":3,\"customer\":\"ada\",\"name\":\"M\xfcller\"}", "news:3", false),
        (b"{\"n\":4,\"customer\":\"ada\",\"name\":\"\x01\"}", "news:4", false),
    ] {
        assert_eq!(news_of(&bed, payload).await, (Some(key.into()), "ada".into(), carried, vec![]));
    }
    // Of the deaths of one call the later ones come without their payloads, but not without their keys.
    let w = worker("w");
    let payload = |n: usize| format!("{{\"n\":{n},\"customer\":\"c{n}\",\"x\":\"{}\"}}", "x".repeat(200_000));
    for n in 10..15 {
        bed.accept(job("mail", payload(n))).await;
    }
    let running = bed.claim(&w, &["fast"], 5).await;
    let done: Vec<_> = running.iter().map(|job| settlement(job, dead("no"))).collect();
    bed.queue.settle(&w, &done).await.unwrap();
    let told = bed.claim(&w, &["slow"], 9).await;
    let keys: Vec<_> = told.iter().filter_map(|job| job.key.clone()).collect();
    assert_eq!(keys, ["news:10", "news:11", "news:12", "news:13", "news:14"]);
    assert!(told[0].payload.len() > 200_000 && told[4].payload.len() < 1_000);
}

#[tokio::test]
async fn news_come_without_the_keys_that_nothing_gives_and_this_is_told() {
    let bed = keyed_news().await;
    let unkeyed =
        |detail: &str| vec![("news-unkeyed".to_owned(), format!("onDead: the payload field {detail}"))];
    let takes = "; a key takes strings and integers below 2^53";
    for payload in [&b"[1]"[..], b"", b"plain", b"{\"n\":1,", b"{\"customer\":\"ada\",\"n\":1}\0"] {
        let told = unkeyed(&format!("payload.n is missing{takes}"));
        assert_eq!(news_of(&bed, payload).await, (None, String::new(), false, told));
    }
    // Each key for itself.
    let told = unkeyed(&format!("payload.n is missing{takes}"));
    assert_eq!(news_of(&bed, br#"{"customer":"ada"}"#).await, (None, "ada".into(), true, told));
    let told = unkeyed(&format!("payload.customer is an array or object{takes}"));
    let expected = (Some("news:1".to_owned()), String::new(), true, told);
    assert_eq!(news_of(&bed, br#"{"n":1,"customer":[]}"#).await, expected);
    // Nothing bounds those without a concurrency key, and sweeps find nothing to mend about them.
    for _ in 0..3 {
        bed.dead(job("mail", "x")).await;
    }
    bed.queue.sweep(&worker("s"), 200).await.unwrap();
    assert_eq!(bed.claim(&worker("n"), &["slow"], 9).await.len(), 3);
    assert_eq!(bed.queue.stats().await.unwrap().damaged, 0);
}

#[tokio::test]
async fn what_an_end_brings_and_another_job_stands_for_is_told_of() {
    let path = |field: &str| Some(vec![KeyPart::Path(vec![field.into()])]);
    let bed = Bed::with(|policy| {
        policy.job_types.get_mut("mail").unwrap().on_dead = Some(OnDead { r#type: "report".into() });
        policy.job_types.get_mut("report").unwrap().key = path("type");
        policy.job_types.get_mut("reset").unwrap().key = path("k");
    })
    .await;
    let (w, mut last) = (worker("w"), None);
    since(&bed, &mut last).await;
    let of = |key: &str| job("reset", format!(r#"{{"k":"{key}"}}"#));
    // One of its own key, which its success keeps, one of another's, a new one, and that again.
    let parent = bed.running(&w, of("a")).await;
    let other = bed.accept(with(of("b"), |options| options.delay = Some(60_000))).await;
    let follow_ups = vec![of("c"), of("a"), of("b"), of("c")];
    let outcome = Outcome::Success { result: vec![], follow_ups };
    assert_eq!(bed.settle(&w, &parent, outcome).await, Settled::Done);
    let words = format!(
        "the follow-up job of type reset is a duplicate: job {} (succeeded) stands for it, likewise 2 more",
        parent.id
    );
    assert_eq!(told(&since(&bed, &mut last).await), [("follow-up-duplicate", "reset", words.as_str())]);
    for new in bed.claim(&w, &["fast"], 9).await {
        bed.settle(&w, &new, success()).await;
    }
    let next = bed.running(&w, job("mail", "z")).await;
    let outcome = Outcome::Success { result: vec![], follow_ups: vec![of("b")] };
    bed.settle(&w, &next, outcome).await;
    let words =
        format!("the follow-up job of type reset is a duplicate: job {other} (scheduled) stands for it");
    assert_eq!(told(&since(&bed, &mut last).await), [("follow-up-duplicate", "mail", words.as_str())]);
    // News of the second death finds that of the first.
    let first = bed.dead(job("mail", "x")).await;
    let news = bed.queue.find(&Find { limit: 9, job_type: Some("report".into()), ..Find::default() }).await;
    let news = news.unwrap().jobs[0].id.clone();
    assert!(news.starts_with(&first));
    since(&bed, &mut last).await;
    bed.dead(job("mail", "y")).await;
    let words = format!("onDead: job {news} (ready) stands for it");
    let events = since(&bed, &mut last).await;
    assert!(told(&events).contains(&("news-lost", "mail", words.as_str())), "{events:?}");
}
