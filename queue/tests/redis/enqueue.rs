//! lk_enqueue: what is accepted, what is refused and in which words.

use super::common::*;
use lanekeeper_queue::types::*;
use lanekeeper_queue::{Error, MAX_JOBS_PER_CALL};
use redis::Value;

/// Enqueues with raw options; `(id, outcome, last)`.
async fn raw(bed: &Bed, options: impl AsRef<[u8]>, payload: &[u8]) -> (Option<String>, String, String) {
    let mut cmd = redis::cmd("FCALL");
    cmd.arg("lk_enqueue").arg(1).arg(bed.queue.name().root()).arg(options.as_ref()).arg(payload);
    let mut replies: Vec<(Option<String>, String, String)> =
        cmd.query_async(&mut bed.queue.connection()).await.unwrap();
    replies.remove(0)
}

async fn refused(bed: &Bed, options: impl AsRef<[u8]>, reason: &str, words: &str) {
    let shown = String::from_utf8_lossy(options.as_ref()).into_owned();
    let (id, outcome, sentence) = raw(bed, options, b"{}").await;
    assert_eq!((id, outcome.as_str()), (None, format!("rejected:{reason}").as_str()), "{shown}: {sentence}");
    assert!(sentence.contains(words), "{shown}: {sentence:?} lacks {words:?}");
}

#[tokio::test]
async fn any_client_can_enqueue_with_one_command() {
    let bed = Bed::new().await;
    let (id, outcome, state) = raw(&bed, r#"{"type":"mail"}"#, b"{}").await;
    assert_eq!((outcome.as_str(), state.as_str()), ("queued", "ready"));
    assert_eq!(bed.state(&id.unwrap()).await, JobState::Ready);
    let (_, outcome, state) = raw(&bed, r#" {"type":"mail","delay":5000,"priority":0}"#, b"").await;
    assert_eq!((outcome.as_str(), state.as_str()), ("scheduled", "scheduled"));
}

#[tokio::test]
async fn invalid_options_are_refused_in_words() {
    let bed = Bed::new().await;
    let cases: &[(&str, &str)] = &[
        ("", "not a JSON object"),
        ("[]", "not a JSON object"),
        ("{", "not valid JSON"),
        ("{\"type\":NaN}", "not valid JSON"),
        ("{}", "type is missing"),
        (r#"{"type":7}"#, "type must be a string"),
        (r#"{"type":null}"#, "type must be a string"),
        (r#"{"type":"mail","colour":1}"#, "unknown option colour"),
        (r#"{"type":"mail","id":""}"#, "option id"),
        (r#"{"type":"mail","id":"a b"}"#, "option id"),
        (r#"{"type":"mail","id":"a\u0000"}"#, "option id"),
        (r#"{"type":"mail","key":"a\u0000"}"#, "option key"),
        (r#"{"type":"mail","id":7}"#, "option id"),
        (r#"{"type":"mail","key":""}"#, "option key"),
        (r#"{"type":"mail","key":false}"#, "option key"),
        (r#"{"type":"mail","priority":10}"#, "priority"),
        (r#"{"type":"mail","priority":-1}"#, "priority"),
        (r#"{"type":"mail","priority":1.5}"#, "priority"),
        (r#"{"type":"mail","priority":"1"}"#, "priority"),
        (r#"{"type":"mail","delay":-1}"#, "delay"),
        (r#"{"type":"mail","delay":0.5}"#, "delay"),
        (r#"{"type":"mail","delay":1e300}"#, "delay"),
        (r#"{"type":"mail","delay":315360000001}"#, "delay"),
        (r#"{"type":"mail","runAt":-5}"#, "runAt"),
        (r#"{"type":"mail","runAt":4000000000000}"#, "ten years"),
        (r#"{"type":"mail","runAt":9223372036854775808}"#, "runAt"),
        (r#"{"type":"mail","delay":1,"runAt":1}"#, "exclude"),
        (r#"{"type":"mail","meta":"x"}"#, "meta"),
        (r#"{"type":"mail","meta":{"a":1}}"#, "meta"),
        (r#"{"type":"mail","meta":["a"]}"#, "meta"),
        (r#"{"type":"mail","meta":null}"#, "meta"),
    ];
    for (options, words) in cases {
        refused(&bed, options, "invalid-options", words).await;
    }
    refused(&bed, format!(r#"{{"type":"mail","id":"{}"}}"#, "x".repeat(129)), "invalid-options", "option id")
        .await;
    refused(&bed, format!(r#"{{"type":"mail","key":"{}"}}"#, "x".repeat(513)), "invalid-options", "512")
        .await;
    refused(
        &bed,
        format!(r#"{{"type":"mail","meta":{{"a":"{}"}}}}"#, "x".repeat(5000)),
        "invalid-options",
        "4096",
    )
    .await;
    refused(&bed, b"{\"type\":\"mail\",\"key\":\"\xff\"}", "invalid-options", "UTF-8").await;
    refused(&bed, b"{\"type\":\"mail\",\"meta\":{\"a\":\"\xc0\x80\"}}", "invalid-options", "UTF-8").await;
    refused(&bed, "[".repeat(5000), "invalid-options", "not a JSON object").await;
    refused(&bed, format!(r#"{{"type":{}"#, "[".repeat(5000)), "invalid-options", "not valid JSON").await;
    refused(&bed, r#"{"type":"nope"}"#, "unknown-type", "no job type nope").await;
    // The reply is text whatever the options were.
    refused(&bed, b"{\"type\":\"\xff\"}", "unknown-type", "no job type ?").await;
    refused(&bed, b"{\"type\":\"mail\",\"\xff\":1}", "invalid-options", "unknown option ?").await;
    let stats = bed.queue.stats().await.unwrap();
    assert!(stats.lanes.iter().flat_map(|l| &l.types).all(|t| t.enqueued_total == 0 && t.ready == 0));
}

#[tokio::test]
async fn options_of_one_job_never_reach_another() {
    let bed = Bed::new().await;
    // The same text is decoded once: what is kept must not carry anything of the job.
    let (first, ..) = raw(&bed, r#"{"type":"mail","delay":60000}"#, b"").await;
    let (second, ..) = raw(&bed, r#"{"type":"mail","delay":60000}"#, b"").await;
    assert_ne!(first, second);
    let (_, outcome, _) = raw(&bed, r#"{"type":"mail","id":"mine"}"#, b"").await;
    assert_eq!(outcome, "queued");
    let (id, outcome, state) = raw(&bed, r#"{"type":"mail","id":"mine"}"#, b"").await;
    assert_eq!((id.as_deref(), outcome.as_str(), state.as_str()), (Some("mine"), "duplicate", "ready"));
}

#[tokio::test]
async fn one_bad_pair_does_not_spoil_the_others() {
    let bed = Bed::new().await;
    let jobs = [job("mail", "1"), job("nope", "2"), job("mail", vec![0; 300_000]), job("report", "4")];
    let outcomes = bed.queue.enqueue(&jobs).await.unwrap();
    assert!(matches!(outcomes[0], Enqueued::Accepted { .. }));
    assert!(matches!(&outcomes[1], Enqueued::Rejected { reason, .. } if reason == "unknown-type"));
    assert!(matches!(&outcomes[2], Enqueued::Rejected { reason, message }
        if reason == "payload-too-large" && message.contains("300000") && message.contains("262144")));
    assert!(matches!(outcomes[3], Enqueued::Accepted { .. }));
}

#[tokio::test]
async fn a_call_is_bounded_in_jobs_and_bytes() {
    let bed = Bed::with(|p| p.max_payload = 2 << 20).await;
    let many = vec![job("mail", "x"); MAX_JOBS_PER_CALL + 1];
    assert!(refusal(bed.queue.enqueue(&many).await).contains("at most 200 jobs"));
    let large = vec![job("mail", vec![0; 600 * 1024]); 2];
    assert!(refusal(bed.queue.enqueue(&large).await).contains("at most 1048576 bytes"));
    assert!(bed.raw::<Value>(&["FCALL", "lk_enqueue", "1", &bed.queue.name().root(), "x"]).await.is_err());
    assert!(bed.raw::<Value>(&["FCALL", "lk_enqueue", "1", &bed.queue.name().root()]).await.is_err());
    assert!(bed.raw::<Value>(&["FCALL", "lk_enqueue", "1", "lk:{apps/saas}:j", "{}", ""]).await.is_err());
    let outcomes =
        bed.queue.enqueue_all(&[many.as_slice(), &large, &[job("mail", vec![0; 2 << 20])]].concat()).await;
    let outcomes = outcomes.unwrap();
    assert_eq!(outcomes.len(), MAX_JOBS_PER_CALL + 4);
    assert!(outcomes[..MAX_JOBS_PER_CALL + 3].iter().all(|o| matches!(o, Enqueued::Accepted { .. })));
    assert!(
        matches!(&outcomes[MAX_JOBS_PER_CALL + 3], Enqueued::Rejected { reason, .. } if reason == "payload-too-large")
    );
}

#[tokio::test]
async fn a_queue_without_policy_is_an_error_of_the_call() {
    let bed = Bed::new().await;
    let other = bed.queue.with_name("apps/other".parse().unwrap());
    let error = other.enqueue(&[job("mail", "x")]).await.expect_err("no policy");
    assert!(matches!(&error, Error::NoPolicy(name) if name.to_string() == "apps/other"), "{error}");
    assert!(matches!(other.stats().await, Err(Error::NoPolicy(_))));
    assert_eq!(other.policy().await.unwrap(), None);
}

#[tokio::test]
async fn a_paused_or_closed_queue_accepts_and_hands_nothing_out() {
    let mut bed = Bed::new().await;
    let w = worker("w1");
    bed.change(|p| p.paused = true).await;
    let id = bed.accept(job("mail", "x")).await;
    let reply = bed.claim_reply(&w, &want(&["fast"], 5)).await;
    assert_eq!((reply.jobs.len(), reply.held.as_deref()), (0, Some("paused")));
    assert!(bed.queue.stats().await.unwrap().paused);
    bed.change(|p| (p.paused, p.closed) = (false, Some("RedisUnsafe".into()))).await;
    bed.accept(job("mail", "y")).await;
    assert_eq!(bed.claim_reply(&w, &want(&["fast"], 5)).await.held.as_deref(), Some("closed"));
    assert_eq!(bed.queue.stats().await.unwrap().closed.as_deref(), Some("RedisUnsafe"));
    bed.change(|p| p.closed = None).await;
    assert_eq!(bed.claim(&w, &["fast"], 5).await[0].id, id);
}

#[tokio::test]
async fn ids_sort_by_time_and_differ_between_queues() {
    let bed = Bed::new().await;
    let outcomes = bed.queue.enqueue(&vec![job("mail", "x"); 200]).await.unwrap();
    let one = bed.accept(job("mail", "x")).await;
    let mut made: Vec<String> = outcomes
        .into_iter()
        .map(|o| match o {
            Enqueued::Accepted { id, .. } => id,
            other => panic!("{other:?}"),
        })
        .chain([one])
        .collect();
    assert!(made.is_sorted());
    made.dedup();
    assert_eq!(made.len(), 201);
    let other = bed.redis.queue("apps/other").await.unwrap();
    other.configure(&QueuePolicyOf::named("apps/other"), false).await.unwrap();
    let Enqueued::Accepted { id, .. } = other.enqueue(&[job("mail", "x")]).await.unwrap().remove(0) else {
        panic!()
    };
    assert_ne!(id[11..], made[0][11..], "queues have salts of their own");
}

struct QueuePolicyOf;
impl QueuePolicyOf {
    fn named(name: &str) -> lanekeeper_api::policy::QueuePolicy {
        lanekeeper_api::policy::QueuePolicy { queue: name.into(), ..policy() }
    }
}

#[tokio::test]
async fn server_made_ids_never_overwrite_a_record() {
    let bed = Bed::new().await;
    let id = bed.accept(job("mail", "x")).await;
    // Every id of the coming seconds cannot be forged, but a clock that went back is the same as a record that is there:
    // the id is checked against the records. Here: the same user id in one call and in two.
    let twice = [
        with(job("mail", "1"), |o| o.id = Some("a".into())),
        with(job("mail", "2"), |o| o.id = Some("a".into())),
    ];
    let outcomes = bed.queue.enqueue(&twice).await.unwrap();
    assert_eq!(outcomes[0], Enqueued::Accepted { id: "a".into(), state: JobState::Ready });
    assert_eq!(outcomes[1], Enqueued::Duplicate { id: "a".into(), state: JobState::Ready });
    let again = bed.put(with(job("mail", "3"), |o| o.id = Some(id.clone()))).await;
    assert_eq!(again, Enqueued::Duplicate { id, state: JobState::Ready });
    assert_eq!(bed.job("a").await.payload.unwrap(), b"1");
}

#[tokio::test]
async fn meta_and_priority_travel_with_the_job() {
    let bed = Bed::new().await;
    let made = with(job("mail", "x"), |o| {
        o.meta = [("traceparent", "00-ab"), ("ü", "ß")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        o.priority = Some(3);
    });
    let claimed = bed.running(&worker("w"), made.clone()).await;
    assert_eq!(claimed.meta, made.options.meta);
    assert_eq!(bed.job(&claimed.id).await.priority, 3);
    assert_eq!(bed.job(&bed.accept(job("reset", "x")).await).await.priority, 1, "the type's own");
}

/// Calls of the library that Redis has run.
async fn calls(bed: &Bed) -> u64 {
    let info: String = bed.raw(&["INFO", "commandstats"]).await.unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_fcall:calls=")).unwrap();
    line.split(',').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn jobs_of_one_moment_share_calls_and_have_outcomes_of_their_own() {
    let bed = Bed::new().await;
    let before = calls(&bed).await;
    let all = (0..300).map(|n| {
        let queue = bed.queue.clone();
        let name = match n {
            n if n % 3 == 0 => "nope".to_owned(),
            _ => "mail".to_owned(),
        };
        async move {
            let new = with(job(&name, n.to_string()), |o| o.id = Some(format!("job-{}", n / 2)));
            (n, queue.enqueue(&[new]).await.unwrap().remove(0))
        }
    });
    for (n, outcome) in futures::future::join_all(all).await {
        let id = format!("job-{}", n / 2);
        match outcome {
            Enqueued::Rejected { reason, .. } => assert!(n % 3 == 0 && reason == "unknown-type", "{n}"),
            Enqueued::Accepted { id: got, .. } => {
                assert_eq!(got, id);
                assert_eq!(bed.job(&id).await.payload.unwrap(), n.to_string().as_bytes());
            }
            Enqueued::Duplicate { id: got, .. } => assert!(n % 2 == 1 && got == id, "{n}"),
            other => panic!("{other:?}"),
        }
    }
    let made = calls(&bed).await - before;
    assert!(made <= 10, "{made} calls for 300 jobs");
}

#[tokio::test]
async fn who_gives_up_before_the_call_stores_nothing_and_holds_up_nobody() {
    let bed = Bed::new().await;
    let enqueue = |n: usize| {
        let queue = bed.queue.clone();
        async move { queue.enqueue(&[job("mail", n.to_string())]).await }
    };
    let mut all: Vec<_> = (0..10).map(|n| Box::pin(enqueue(n))).collect();
    for one in &mut all {
        // The first ones are on their way now, the others wait for them.
        assert!(futures::poll!(one).is_pending());
    }
    let rest = all.split_off(6);
    drop(all.split_off(4));
    drop(all.remove(0));
    for one in all.into_iter().chain(rest) {
        assert!(matches!(one.await.unwrap()[0], Enqueued::Accepted { .. }));
    }
    let ready = bed.queue.stats().await.unwrap().lanes[0].types.iter().map(|t| t.ready).sum::<u64>();
    assert!(
        ready == 7 || ready == 8,
        "{ready}: 7 that were awaited, and perhaps the first one, which was under way"
    );
}

#[tokio::test]
async fn all_who_share_a_call_hear_of_its_failure() {
    let redis = lanekeeper_queue::testing::TestRedis::start().await.unwrap();
    let queue = redis.queue("apps/none").await.unwrap();
    let all = (0..50).map(|_| {
        let queue = queue.clone();
        async move { queue.enqueue(&[job("mail", "x")]).await }
    });
    for outcome in futures::future::join_all(all).await {
        assert!(matches!(outcome, Err(lanekeeper_queue::Error::NoPolicy(_))), "{outcome:?}");
    }
}
