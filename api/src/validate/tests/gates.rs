//! Gates: what is written reaches Redis under the names its library reads, and nothing else does.

use kube::core::cel::validate_cel;
use serde_json::{Value, json};

use super::*;
use crate::duration::Duration;
use crate::job_queue::{CircuitSpec, RateLimitSpec};
use crate::policy::{HttpHandler, OnThrottle};

/// [`QUEUE`] with texts replaced, accepted by CEL and by us; what is stored of it.
fn stored(replaced: &[(&str, &str)]) -> Value {
    let text = replaced.iter().fold(QUEUE.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    });
    let queue = load(&text).queues.remove(0).object;
    validate_cel(&queue).unwrap();
    serde_json::to_value(job_queue(&queue, source()).unwrap()).unwrap()
}

#[test]
fn gates_of_lanes_are_stored_under_the_names_the_library_reads() {
    let lane = "{name: fast, concurrency: 40, rateLimit: {limit: 100, per: 1m, burst: 5}, \
                circuit: {failures: 10, probeAfter: 30s}}";
    let policy = stored(&[
        ("{name: fast}", lane),
        (
            "{name: slow}",
            "{name: slow, circuit: {failures: 3}, \
                rateLimit: {limit: 2, per: 1d}}",
        ),
    ]);
    assert_eq!(
        policy["lanes"],
        json!([
            {
                "name": "fast", "startWithinMs": 60_000, "concurrency": 40,
                "rateLimit": {"limit": 100, "perMs": 60_000, "burst": 5},
                "circuit": {"failures": 10, "probeAfterMs": 30_000},
            },
            {
                "name": "slow", "startWithinMs": 60_000, "rateLimit": {"limit": 2, "perMs": 86_400_000},
                "circuit": {"failures": 3, "probeAfterMs": 10_000},
            },
        ])
    );
}

#[test]
fn concurrency_keys_are_stored_with_their_limits_by_value_escaped_as_redis_renders_them() {
    let key = "lane: fast, concurrencyKey: {key: 'customer:{customer.id}', limit: 10, rateLimit: {limit: 100, per: 1s, \
               burst: 20, by: {field: customer.plan, limits: {premium: 1000, 'a:b%': 5}}}},";
    let policy = stored(&[("lane: fast,", key)]);
    assert_eq!(
        policy["jobTypes"]["t"]["concurrencyKey"],
        json!({
            "key": [{"text": "customer:"}, {"path": ["customer", "id"]}], "limit": 10,
            "rateLimit": {
                "limit": 100, "perMs": 1_000, "burst": 20,
                "by": {"path": ["customer", "plan"], "limits": {"premium": 1000, "a%3Ab%25": 5}},
            },
        })
    );
    let only_rate =
        stored(&[("lane: fast,", "lane: fast, concurrencyKey: {key: c, rateLimit: {limit: 1, per: 1s}},")]);
    assert_eq!(
        only_rate["jobTypes"]["t"]["concurrencyKey"],
        json!({"key": [{"text": "c"}], "rateLimit": {"limit": 1, "perMs": 1_000}})
    );
}

#[test]
fn what_a_retry_after_holds_is_stored_where_it_is_not_the_default() {
    let http = |policy: &Value| policy["jobTypes"]["t"]["handler"]["http"].clone();
    let plain = http(&stored(&[]));
    assert_eq!(plain, json!({"url": "http://h/"}), "nothing that an older worker did not know");
    assert_eq!(serde_json::from_value::<HttpHandler>(plain).unwrap(), HttpHandler::to("http://h/"));
    let lane = stored(&[("url: http://h/", "url: http://h/, onThrottle: Lane, maxHold: 1d")]);
    assert_eq!(http(&lane), json!({"url": "http://h/", "onThrottle": "Lane", "maxHoldMs": 86_400_000}));
    let key = [
        ("url: http://h/", "url: http://h/, onThrottle: Key"),
        ("lane: fast,", "lane: fast, concurrencyKey: {key: 'c:{id}', limit: 1},"),
    ];
    assert_eq!(http(&stored(&key))["onThrottle"], "Key");
}

#[test]
fn policies_without_gates_are_written_and_read_as_before() {
    let policy = stored(&[]);
    assert_eq!(policy["lanes"][0], json!({"name": "fast", "startWithinMs": 60_000}));
    assert_eq!(policy["jobTypes"]["t"].get("concurrencyKey"), None);
    let read: QueuePolicy = serde_json::from_value(policy).unwrap();
    assert_eq!(read.lanes[0], LanePolicy::new("fast", 60_000));
    assert_eq!(read.job_types["t"].concurrency_key, None);
    let Handler::Http(http) = &read.job_types["t"].handler else { panic!("http") };
    assert_eq!((http.on_throttle, http.max_hold_ms), (OnThrottle::Job, 900_000));
}

/// The handler may come from the lane or the defaults: every type that ends up with it needs a key.
#[test]
fn a_handler_that_holds_keys_needs_one_on_every_type_that_uses_it() {
    let handler = "handler: {http: {url: http://h/, onThrottle: Key}}";
    let lane = format!("{{name: fast, {handler}}}");
    let keyed = "{name: k, lane: fast, concurrencyKey: {key: c, limit: 1}}";
    let types =
        format!("jobTypes:\n  - {keyed}\n  - {{name: plain, lane: fast}}\n  - {{name: t, lane: fast,");
    let text = QUEUE.replace("{name: fast}", &lane).replace("jobTypes:\n  - {name: t, lane: fast,", &types);
    let problems = job_queue(&load(&text).queues[0], source()).unwrap_err();
    assert_eq!(
        problems.iter().map(|p| (p.field.as_str(), p.reason)).collect::<Vec<_>>(),
        [("spec.jobTypes[1].concurrencyKey", reason::MISSING_CONCURRENCY_KEY)],
        "the first has a key, the last a handler of its own"
    );
}

/// Figures beyond their bounds, which the schema refuses where there is an API server.
#[test]
fn figures_of_gates_have_bounds_without_a_schema_too() {
    let mut queue = queue_with(
        "lane: fast,",
        "lane: fast, concurrencyKey: {key: c, limit: 1, rateLimit: {limit: 1, per: 1s, burst: 1, by: {field: p, limits: {a: 1}}}},",
    );
    let rate = RateLimitSpec { limit: 0, per: Duration::from_secs(1), burst: Some(1_000_001) };
    queue.spec.lanes[0].concurrency = Some(0);
    queue.spec.lanes[0].rate_limit = Some(rate);
    queue.spec.lanes[0].circuit = Some(CircuitSpec { failures: 1001, probe_after: Duration::from_secs(1) });
    let key = queue.spec.job_types[0].concurrency_key.as_mut().unwrap();
    key.limit = Some(100_001);
    let rate = key.rate_limit.as_mut().unwrap();
    (rate.limit, rate.burst) = (1_000_001, Some(0));
    rate.by.as_mut().unwrap().limits.insert("b".into(), 0);
    let problems = job_queue(&queue, source()).unwrap_err();
    assert!(problems.iter().all(|p| p.reason == reason::INVALID_VALUE), "{problems:#?}");
    assert_eq!(
        problems.iter().map(|p| p.field.as_str()).collect::<Vec<_>>(),
        [
            "spec.lanes[0].concurrency",
            "spec.lanes[0].rateLimit.limit",
            "spec.lanes[0].rateLimit.burst",
            "spec.lanes[0].circuit.failures",
            "spec.jobTypes[0].concurrencyKey.limit",
            "spec.jobTypes[0].concurrencyKey.rateLimit.limit",
            "spec.jobTypes[0].concurrencyKey.rateLimit.burst",
            "spec.jobTypes[0].concurrencyKey.rateLimit.by.limits.b",
        ]
    );
}
