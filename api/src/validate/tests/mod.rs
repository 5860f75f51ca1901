//! The whole of validation on real manifests.

mod endings;
mod gates;
mod refusals;

use super::{reason, *};
use crate::policy::{Backoff, Handler, Jitter, JobTypePolicy, KeyPart, LanePolicy, QueuePolicy, RetryPolicy};
use crate::testing::{POOL, QUEUE, SAAS, load, pool_with, queue_with, source};
use crate::worker_pool::{LaneOrder, ScalingMode};

fn saas() -> QueuePolicy {
    job_queue(&load(SAAS).queues[0], source()).unwrap()
}

fn only_type(from: &str, to: &str) -> JobTypePolicy {
    job_queue(&queue_with(from, to), source()).unwrap().job_types.remove("t").unwrap()
}

#[test]
fn a_plain_policy_is_what_a_manifest_without_a_word_means() {
    let resolved = only_type("t, lane", "t, lane");
    assert_eq!(resolved, JobTypePolicy::new("fast", resolved.handler.clone()));
}

#[test]
fn the_saas_workload_resolves_as_its_table_says() {
    let policy = saas();
    assert_eq!(policy.queue, "apps/saas");
    assert_eq!((policy.max_payload, policy.lease_ms, policy.paused), (262_144, 15_000, false));
    let lanes: Vec<(&str, u64)> = policy.lanes.iter().map(|l| (l.name.as_str(), l.start_within_ms)).collect();
    assert_eq!(
        lanes,
        [
            ("user-fast", 10_000),
            ("user-medium", 60_000),
            ("outbound-webhooks", 60_000),
            ("batch-fast", 900_000),
            ("batch-slow", 86_400_000),
        ]
    );
    let schedule = |name: &str| match &policy.job_types[name].retry {
        RetryPolicy { limit, backoff: Backoff::Schedule(delays), jitter } => {
            (*limit, delays.clone(), *jitter)
        }
        other => panic!("{other:?}"),
    };
    let minutes = |m: &[u64]| m.iter().map(|m| m * 60_000).collect::<Vec<_>>();
    assert_eq!(schedule("password-reset"), (3, minutes(&[1, 5, 15]), Jitter::Percent(10)));
    assert_eq!(schedule("image-thumbnail"), (2, vec![0, 30_000], Jitter::Full));
    let stripe = vec![5_000, 25_000, 125_000, 625_000, 3_120_000];
    assert_eq!(schedule("stripe-event"), (5, stripe, Jitter::Percent(20)));
    assert_eq!(schedule("webhook-delivery"), (6, minutes(&[1, 5, 15, 60, 240, 1440]), Jitter::None));
    let exponential = Backoff::Exponential { first_ms: 30_000, factor: 2.0, max_ms: 600_000 };
    let sync = RetryPolicy { limit: 3, backoff: exponential, jitter: Jitter::Full };
    assert_eq!(policy.job_types["analytics-sync"].retry, sync);

    let reset = &policy.job_types["password-reset"];
    assert_eq!(
        (reset.priority, reset.timeout_ms, reset.owner.as_deref()),
        (1, 10_000, Some("team-identity"))
    );
    assert_eq!(reset.key.as_ref().unwrap().len(), 6);
    assert_eq!(reset.key.as_ref().unwrap()[1], KeyPart::Path(vec!["userId".to_owned()]));
}

#[test]
fn a_job_type_goes_over_its_lane_and_the_lane_over_the_defaults() {
    let policy = saas();
    let pdf = &policy.job_types["pdf-report"];
    assert_eq!(pdf.timeout_ms, 900_000, "by the lane");
    let Handler::Exec(exec) = &pdf.handler else { panic!("by the lane") };
    assert_eq!((exec.command.len(), exec.permanent_exit_codes.as_slice()), (2, [2].as_slice()));
    let Handler::Http(receipt) = &policy.job_types["receipt-email"].handler else { panic!("by the lane") };
    assert_eq!(receipt.url, "http://saas.apps.svc:8080/mailer");
    let Handler::Http(stripe) = &policy.job_types["stripe-event"].handler else { panic!("its own") };
    assert_eq!(stripe.url, "http://saas.apps.svc:8080/stripe");
    assert_eq!(policy.job_types["stripe-event"].timeout_ms, 60_000, "by the defaults");
    let Handler::Http(webhook) = &policy.job_types["webhook-delivery"].handler else { panic!("its own") };
    assert_eq!(
        webhook.signing.as_ref().map(|s| (s.name.as_str(), s.key.as_str())),
        Some(("customer-webhooks", "hmac"))
    );
}

/// Every field, written in any of the three places in every combination: the innermost wins, whole.
#[test]
fn every_field_is_replaced_whole_in_every_combination() {
    let values = [
        "timeout: 1s",
        "giveUpAfter: 1h",
        "crashBudget: 1",
        "completed: {keep: 1}",
        "retry: {limit: 1}",
        "dead: {keepReviewedFor: 1s}",
    ];
    let figure = |t: &JobTypePolicy| {
        [
            t.timeout_ms,
            t.give_up_after_ms,
            u64::from(t.crash_budget),
            t.completed.keep,
            u64::from(t.retry.limit),
            t.dead.keep_reviewed_for_ms.unwrap_or_default(),
        ]
    };
    let (units, built_in) = ([1_000, 3_600_000, 1, 1, 1, 1_000], [300_000, 604_800_000, 3, 1000, 10, 0]);
    for places in 0..8_usize {
        for (index, value) in values.iter().enumerate() {
            let write = |place: usize, n: &str| {
                if places & (1 << place) == 0 { String::new() } else { value.replacen('1', n, 1) }
            };
            let text = QUEUE
                .replace("spec:\n", &format!("spec:\n  defaults: {{{}}}\n", write(0, "2")))
                .replace("{name: fast}", &format!("{{name: fast, {}}}", write(1, "3")))
                .replace("lane: fast,", &format!("lane: fast, {},", write(2, "4")).replace(", ,", ","))
                .replace("fast, }", "fast}");
            let policy = job_queue(&load(&text).queues[0], source()).unwrap();
            let wins = [(4, 4), (2, 3), (1, 2)].iter().find(|(place, _)| places & place != 0);
            let expected = wins.map_or(built_in[index], |(_, n)| n * units[index]);
            assert_eq!(figure(&policy.job_types["t"])[index], expected, "{value} in {places:03b}");
        }
    }
}

#[test]
fn defaults_hold_where_nothing_is_written() {
    let policy = job_queue(&queue_with("metadata", "metadata"), source()).unwrap();
    assert_eq!(policy.queue, "default/q");
    assert_eq!((policy.lease_ms, policy.max_payload), (15_000, 262_144));
    assert_eq!(policy.lanes[0].start_within_ms, 60_000);
    let job_type = &policy.job_types["t"];
    assert_eq!((job_type.priority, job_type.key_for_ms, job_type.crash_budget), (5, 86_400_000, 3));
    assert_eq!((job_type.timeout_ms, job_type.give_up_after_ms), (300_000, 604_800_000));
    assert_eq!((job_type.completed.keep, job_type.completed.for_ms), (1000, 86_400_000));
    let backoff = Backoff::Exponential { first_ms: 5_000, factor: 2.0, max_ms: 3_600_000 };
    assert_eq!(job_type.retry, RetryPolicy { limit: 10, backoff, jitter: Jitter::Full });
    assert_eq!((&job_type.key, job_type.per_worker, &job_type.owner), (&None, None, &None));
}

#[test]
fn a_limit_beyond_the_schedule_and_a_limit_of_zero_stand() {
    let retry = only_type("lane: fast,", "lane: fast, retry: {limit: 7, backoff: {schedule: [1s]}},").retry;
    assert_eq!((retry.limit, retry.backoff), (7, Backoff::Schedule(vec![1_000])));
    assert_eq!(only_type("lane: fast,", "lane: fast, retry: {limit: 0},").retry.limit, 0);
}

#[test]
fn all_problems_are_found_in_one_pass() {
    let text = QUEUE
        .replace("{name: slow}", "{name: slow, timeout: 0s}")
        .replace("lane: fast,", "lane: fats, key: '{',");
    let problems = job_queue(&load(&text).queues[0], source()).unwrap_err();
    let fields: Vec<&str> = problems.iter().map(|p| p.field.as_str()).collect();
    assert_eq!(fields, ["spec.lanes[1].timeout", "spec.jobTypes[0].lane", "spec.jobTypes[0].key"]);
    let message = problems[1].to_string();
    assert!(
        message.contains(r#""fats": no lane of this queue has this name (did you mean "fast"?)"#),
        "{message}"
    );
}

#[test]
fn credentials_are_not_repeated() {
    let problems = job_queue(&queue_with("http://h/", "http://user:hunter2@h/"), source()).unwrap_err();
    assert!(!format!("{problems:?}").contains("hunter2"), "{problems:?}");
    let headers = r#"url: http://h/, headers: {Authorization: "hunter2\n"}"#;
    let problems = job_queue(&queue_with("url: http://h/", headers), source()).unwrap_err();
    assert!(!format!("{problems:?}").contains("hunter2"), "{problems:?}");
}

#[test]
fn a_pool_resolves_to_plain_figures() {
    let (manifests, policy) = (load(SAAS), saas());
    let plan = worker_pool(&manifests.pools[0]).unwrap();
    pool_against(&plan, &policy).unwrap();
    assert_eq!((plan.queue.as_str(), plan.concurrency, plan.replicas), ("apps/saas", 20, 0));
    assert_eq!(plan.lanes, ["user-fast", "user-medium"]);
    let ScalingPlan { mode, min, max, depth_per_replica, idle_after_ms, .. } = plan.scaling;
    assert_eq!(
        (mode, min, max, depth_per_replica, idle_after_ms),
        (ScalingMode::Auto, 0, 20, Some(200), 120_000)
    );
    assert_eq!(plan.oldest_age_ms(&policy), 5_000, "half of the tightest promise");
    assert_eq!(plan.drain_timeout_ms(&policy), 60_000, "the longest timeout");
    let slow = worker_pool(&manifests.pools[1]).unwrap();
    assert_eq!(slow.drain_timeout_ms(&policy), 1_200_000, "as written");

    let manual = pool_with("queue: q", "queue: q\n  replicas: 3\n  scaling: {mode: Manual}");
    assert_eq!(worker_pool(&manual).unwrap().replicas, 3);
}

#[test]
fn order_and_weights_reach_the_workers() {
    let plan = worker_pool(&pool_with("queue: q", "queue: q")).unwrap();
    assert_eq!((plan.order, plan.worker_lanes().as_str()), (LaneOrder::Strict, "fast"));
    let lanes = "[{name: fast, weight: 6}, {name: slow}]\n  order: Weighted";
    let plan = worker_pool(&pool_with("[{name: fast}]", lanes)).unwrap();
    assert_eq!((plan.order, plan.weights.as_slice()), (LaneOrder::Weighted, [6, 1].as_slice()));
    assert_eq!(plan.worker_lanes(), "fast:6,slow");
}

#[test]
fn critical_is_carried_into_the_policy_and_absent_where_it_is_not() {
    let queue = queue_with("{name: fast}", "{name: fast, critical: true}");
    let policy = job_queue(&queue, source()).unwrap();
    assert_eq!(policy.lanes.iter().map(|lane| lane.critical).collect::<Vec<_>>(), [true, false]);
    // A policy that was written before the field existed reads, and one that does not use it is written as before.
    let mut lane = serde_json::to_value(&policy.lanes[0]).unwrap();
    assert_eq!(lane["critical"], true);
    lane.as_object_mut().unwrap().remove("critical");
    assert!(!serde_json::from_value::<LanePolicy>(lane).unwrap().critical);
    assert_eq!(serde_json::to_value(&policy.lanes[1]).unwrap().get("critical"), None);
}

#[test]
fn a_critical_lane_that_shares_the_only_slot_is_warned_of() {
    let policy = job_queue(&queue_with("{name: fast}", "{name: fast, critical: true}"), source()).unwrap();
    let warnings = |lanes: &str| {
        let plan = worker_pool(&pool_with("[{name: fast}]", lanes)).unwrap();
        pool_warnings(&plan, &policy)
    };
    let found = warnings("[{name: slow}, {name: fast}]\n  concurrency: 1");
    assert_eq!(
        found.iter().map(|w| (w.field.as_str(), w.reason)).collect::<Vec<_>>(),
        [("spec.concurrency", reason::NO_SLOT_TO_KEEP)]
    );
    assert!(found[0].message.contains("\"fast\""), "{}", found[0]);
    assert_eq!(warnings("[{name: slow}, {name: fast}]\n  concurrency: 2"), []);
    assert_eq!(warnings("[{name: fast}]\n  concurrency: 1"), [], "no other work");
    assert_eq!(warnings("[{name: slow}]\n  concurrency: 1"), [], "no critical lane");
}

#[test]
fn a_pool_of_another_queue_or_lane_is_refused() {
    let policy = job_queue(&load(QUEUE).queues[0], source()).unwrap();
    let plan = worker_pool(&pool_with("{name: fast}", "{name: fasst}")).unwrap();
    let problems = pool_against(&plan, &policy).unwrap_err();
    assert_eq!(
        (problems[0].field.as_str(), problems[0].reason),
        ("spec.lanes[0].name", reason::UNKNOWN_LANE)
    );
    assert!(problems[0].message.contains("did you mean \"fast\"?"), "{}", problems[0]);
    let plan = worker_pool(&pool_with("queue: q", "queue: other")).unwrap();
    assert_eq!(pool_against(&plan, &policy).unwrap_err()[0].reason, reason::UNKNOWN_QUEUE);
}

#[test]
fn what_is_unwise_is_said_and_accepted() {
    for (from, to, field, reason) in [
        (
            "lane: fast,",
            "lane: fast, timeout: 8d,",
            "spec.jobTypes[0].timeout",
            reason::TIMEOUT_AFTER_GIVE_UP,
        ),
        (
            "lane: fast,",
            "lane: fast, giveUpAfter: 1h,",
            "spec.jobTypes[0].giveUpAfter",
            reason::GIVES_UP_EARLY,
        ),
        (
            "lane: fast,",
            "lane: fast, completed: {keep: 0},",
            "spec.jobTypes[0].completed.keep",
            reason::KEEPS_NOTHING,
        ),
        ("lane: fast,", "lane: fast, key: constant,", "spec.jobTypes[0].key", reason::CONSTANT_KEY),
        ("lane: fast,", "lane: fast, onConflict: Replace,", "spec.jobTypes[0].keyFor", reason::KEY_KEPT),
        (
            "lane: fast,",
            "lane: fast, retry: {limit: 1, backoff: {exponential: {first: 2h}}},",
            "spec.jobTypes[0].retry.backoff.exponential.first",
            reason::BACKOFF_CAPPED,
        ),
    ] {
        let queue = queue_with(from, to);
        let policy = job_queue(&queue, source()).unwrap();
        let warnings = job_queue_warnings(&queue, &policy);
        let found: Vec<_> = warnings.iter().map(|w| (w.field.as_str(), w.reason)).collect();
        assert_eq!(found, [("spec.lanes[1].name", reason::UNUSED_LANE), (field, reason)], "{warnings:#?}");
    }
    let policy = job_queue(&load(QUEUE).queues[0], source()).unwrap();
    let plan = worker_pool(&pool_with("queue: q", "queue: q\n  drainTimeout: 1s")).unwrap();
    assert_eq!(pool_warnings(&plan, &policy)[0].reason, reason::DRAINS_EARLY);
    let manifests = load(SAAS);
    assert_eq!(job_queue_warnings(&manifests.queues[0], &saas()), []);
    assert_eq!(worker_pool(&load(POOL).pools[0]).unwrap().namespace, "default");
}
