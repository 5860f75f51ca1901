//! Every refusal, by our own checks and by the CEL rules alike.

use kube::core::cel::{validate_cel, validate_cel_schema, validate_cel_update};
use serde_json::json;

use crate::job_queue::JobTypeSpec;
use crate::testing::{Dice, SAAS, load, pool_with, queue_with, source};
use crate::validate::{job_queue, parse_key, reason, worker_pool};

/// What to write instead of what, where the problem shows, its reason, and whether schema rules see it too.
type Refusal = (&'static str, &'static str, &'static str, &'static str, bool);

const QUEUE_REFUSALS: [Refusal; 35] = [
    ("name: q", "name: q_q", "metadata.name", reason::INVALID_NAME, false),
    (
        "name: q",
        "name: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "metadata.name",
        reason::INVALID_NAME,
        true,
    ),
    ("lane: fast,", "lane: fats,", "spec.jobTypes[0].lane", reason::UNKNOWN_LANE, true),
    ("{name: slow}", "{name: fast}", "spec.lanes[1].name", reason::DUPLICATE_NAME, false),
    ("name: t,", "name: -t,", "spec.jobTypes[0].name", reason::INVALID_NAME, false),
    ("{name: slow}", "{name: Slow}", "spec.lanes[1].name", reason::INVALID_NAME, false),
    (", handler: {http: {url: http://h/}}", "", "spec.jobTypes[0].handler", reason::MISSING_HANDLER, true),
    (
        "handler: {http: {url: http://h/}}",
        "handler: {}",
        "spec.jobTypes[0].handler",
        reason::NOT_EXACTLY_ONE,
        true,
    ),
    (
        "http: {url: http://h/}",
        "http: {url: http://h/}, exec: {command: [a]}",
        "spec.jobTypes[0].handler",
        reason::NOT_EXACTLY_ONE,
        true,
    ),
    (
        "http: {url: http://h/}",
        "exec: {command: ['']}",
        "spec.jobTypes[0].handler.exec.command[0]",
        reason::MISSING,
        true,
    ),
    (
        "http: {url: http://h/}",
        "exec: {command: [a], env: {LANEKEEPER_X: y}}",
        "spec.jobTypes[0].handler.exec.env.LANEKEEPER_X",
        reason::RESERVED_NAME,
        true,
    ),
    (
        "http: {url: http://h/}",
        "exec: {command: [a], permanentExitCodes: [75]}",
        "spec.jobTypes[0].handler.exec.permanentExitCodes[0]",
        reason::INVALID_VALUE,
        true,
    ),
    ("http://h/", "ftp://h/", "spec.jobTypes[0].handler.http.url", reason::INVALID_VALUE, false),
    ("http://h/", "http:///x", "spec.jobTypes[0].handler.http.url", reason::INVALID_VALUE, false),
    ("http://h/", "'http://h:99999/'", "spec.jobTypes[0].handler.http.url", reason::INVALID_VALUE, false),
    (
        "url: http://h/",
        "url: http://h/, headers: {Webhook-Id: x}",
        "spec.jobTypes[0].handler.http.headers.Webhook-Id",
        reason::RESERVED_NAME,
        true,
    ),
    (
        "url: http://h/",
        r#"url: http://h/, headers: {A: "x\ny"}"#,
        "spec.jobTypes[0].handler.http.headers.A",
        reason::INVALID_VALUE,
        false,
    ),
    (
        "url: http://h/",
        "url: http://h/, signing: {secretRef: {name: s, key: ..}}",
        "spec.jobTypes[0].handler.http.signing.secretRef.key",
        reason::INVALID_NAME,
        false,
    ),
    ("lane: fast,", "lane: fast, key: 'a:{b',", "spec.jobTypes[0].key", reason::KEY_TEMPLATE, true),
    ("lane: fast,", "lane: fast, timeout: 0s,", "spec.jobTypes[0].timeout", reason::INVALID_VALUE, true),
    (
        "lane: fast,",
        "lane: fast, giveUpAfter: 0ms,",
        "spec.jobTypes[0].giveUpAfter",
        reason::INVALID_VALUE,
        true,
    ),
    (
        "lane: fast,",
        "lane: fast, completed: {for: 0s},",
        "spec.jobTypes[0].completed.for",
        reason::INVALID_VALUE,
        true,
    ),
    (
        "lane: fast,",
        "lane: fast, dead: {keepReviewedFor: 0s},",
        "spec.jobTypes[0].dead.keepReviewedFor",
        reason::INVALID_VALUE,
        true,
    ),
    (
        "{name: slow}",
        "{name: slow, startWithin: 0s}",
        "spec.lanes[1].startWithin",
        reason::INVALID_VALUE,
        true,
    ),
    (
        "{name: slow}",
        "{name: slow, retry: {backoff: {schedule: []}}}",
        "spec.lanes[1].retry.backoff.schedule",
        reason::MISSING,
        false,
    ),
    (
        "{name: slow}",
        "{name: slow, retry: {backoff: {}}}",
        "spec.lanes[1].retry.backoff",
        reason::NOT_EXACTLY_ONE,
        true,
    ),
    (
        "{name: slow}",
        "{name: slow, retry: {backoff: {exponential: {}, schedule: [1s]}}}",
        "spec.lanes[1].retry.backoff",
        reason::NOT_EXACTLY_ONE,
        true,
    ),
    (
        "{name: slow}",
        "{name: slow, retry: {backoff: {exponential: {first: 0s}}}}",
        "spec.lanes[1].retry.backoff.exponential.first",
        reason::INVALID_VALUE,
        true,
    ),
    ("spec:\n", "spec:\n  maxPayload: 2Mi\n", "spec.maxPayload", reason::INVALID_VALUE, true),
    ("spec:\n", "spec:\n  maxPayload: '0'\n", "spec.maxPayload", reason::INVALID_VALUE, true),
    ("spec:\n", "spec:\n  capacity: {}\n", "spec.capacity", reason::INVALID_VALUE, true),
    ("spec:\n", "spec:\n  capacity: {bytes: 1000Ki}\n", "spec.capacity.bytes", reason::INVALID_VALUE, true),
    ("spec:\n", "spec:\n  lease: 500ms\n", "spec.lease", reason::INVALID_VALUE, true),
    ("spec:\n", "spec:\n  lease: 11m\n", "spec.lease", reason::INVALID_VALUE, true),
    (
        "spec:\n",
        "spec:\n  redis: {workerSecretRef: {name: s, key: k}}\n",
        "spec.redis.workerSecretRef",
        reason::REDIS_REFERENCE,
        true,
    ),
];

/// What gates refuse, in the manner of [`QUEUE_REFUSALS`].
const GATE_REFUSALS: [Refusal; 10] = [
    (
        "{name: slow}",
        "{name: slow, rateLimit: {limit: 1, per: 0s}}",
        "spec.lanes[1].rateLimit.per",
        reason::INVALID_VALUE,
        true,
    ),
    (
        "{name: slow}",
        "{name: slow, rateLimit: {limit: 1, per: 32d}}",
        "spec.lanes[1].rateLimit.per",
        reason::INVALID_VALUE,
        false,
    ),
    (
        "{name: slow}",
        "{name: slow, circuit: {failures: 5, probeAfter: 0s}}",
        "spec.lanes[1].circuit.probeAfter",
        reason::INVALID_VALUE,
        true,
    ),
    (
        "lane: fast,",
        "lane: fast, concurrencyKey: {key: 'c:{id}'},",
        "spec.jobTypes[0].concurrencyKey",
        reason::NO_BOUND,
        true,
    ),
    (
        "lane: fast,",
        "lane: fast, concurrencyKey: {key: 'c:{id', limit: 1},",
        "spec.jobTypes[0].concurrencyKey.key",
        reason::KEY_TEMPLATE,
        true,
    ),
    (
        "lane: fast,",
        "lane: fast, concurrencyKey: {key: c, rateLimit: {limit: 1, per: 1s, by: {field: plan, limits: {}}}},",
        "spec.jobTypes[0].concurrencyKey.rateLimit.by.limits",
        reason::MISSING,
        true,
    ),
    (
        "lane: fast,",
        "lane: fast, concurrencyKey: {key: c, rateLimit: {limit: 1, per: 1s, by: {field: '{plan}', limits: {a: 1}}}},",
        "spec.jobTypes[0].concurrencyKey.rateLimit.by.field",
        reason::INVALID_VALUE,
        false,
    ),
    (
        "url: http://h/",
        "url: http://h/, onThrottle: Key",
        "spec.jobTypes[0].concurrencyKey",
        reason::MISSING_CONCURRENCY_KEY,
        false,
    ),
    (
        "url: http://h/",
        "url: http://h/, maxHold: 500ms",
        "spec.jobTypes[0].handler.http.maxHold",
        reason::INVALID_VALUE,
        true,
    ),
    (
        "url: http://h/",
        "url: http://h/, maxHold: 25h",
        "spec.jobTypes[0].handler.http.maxHold",
        reason::INVALID_VALUE,
        true,
    ),
];

#[test]
fn queues_are_refused_for_one_named_reason_and_cel_agrees() {
    for (from, to, field, reason, cel) in QUEUE_REFUSALS.into_iter().chain(GATE_REFUSALS) {
        let queue = queue_with(from, to);
        let problems = job_queue(&queue, source()).unwrap_err();
        let found: Vec<_> = problems.iter().map(|p| (p.field.as_str(), p.reason)).collect();
        assert_eq!(found, [(field, reason)], "{to}: {problems:#?}");
        assert_eq!(validate_cel(&queue).is_err(), cel, "CEL on {to}: {:?}", validate_cel(&queue));
    }
}

const POOL_REFUSALS: [Refusal; 14] = [
    ("queue: q", "queue: Q", "spec.queue", reason::INVALID_NAME, false),
    ("[{name: fast}]", "[{name: fast}, {name: fast}]", "spec.lanes[1].name", reason::DUPLICATE_NAME, false),
    ("[{name: fast}]", "[]", "spec.lanes", reason::MISSING, false),
    (
        "[{name: fast}]",
        "[{name: fast}, {name: slow, weight: 3}]\n  order: Deadline",
        "spec.lanes[1].weight",
        reason::WEIGHT_NOT_WEIGHTED,
        true,
    ),
    (
        "queue: q",
        "queue: q\n  scaling: {minReplicas: 11}",
        "spec.scaling.minReplicas",
        reason::MIN_ABOVE_MAX,
        true,
    ),
    (
        "queue: q",
        "queue: q\n  scaling: {oldestAge: 0s}",
        "spec.scaling.oldestAge",
        reason::INVALID_VALUE,
        true,
    ),
    ("queue: q", "queue: q\n  replicas: 1", "spec.replicas", reason::REPLICAS_NOT_MANUAL, true),
    ("queue: q", "queue: q\n  drainTimeout: 0s", "spec.drainTimeout", reason::INVALID_VALUE, true),
    ("queue: q", "queue: q\n  template: {image: 'a b'}", "spec.template.image", reason::INVALID_VALUE, false),
    (
        "queue: q",
        "queue: q\n  template: {env: [{name: LANEKEEPER_X}]}",
        "spec.template.env[0].name",
        reason::RESERVED_NAME,
        true,
    ),
    (
        "queue: q",
        "queue: q\n  template: {labels: {lanekeeper.dev/x: y}}",
        "spec.template.labels",
        reason::RESERVED_NAME,
        true,
    ),
    (
        "queue: q",
        "queue: q\n  template: {volumes: [{name: v}]}",
        "spec.template.volumes[0]",
        reason::NOT_EXACTLY_ONE,
        true,
    ),
    (
        "queue: q",
        "queue: q\n  template: {volumes: [{name: lanekeeper-v, emptyDir: {}}]}",
        "spec.template.volumes[0].name",
        reason::RESERVED_NAME,
        true,
    ),
    (
        "queue: q",
        "queue: q\n  template: {volumeMounts: [{name: v, mountPath: /v}]}",
        "spec.template.volumeMounts[0].name",
        reason::MISSING,
        false,
    ),
];

#[test]
fn pools_are_refused_for_one_named_reason_and_cel_agrees() {
    for (from, to, field, reason, cel) in POOL_REFUSALS {
        let pool = pool_with(from, to);
        let problems = worker_pool(&pool).unwrap_err();
        let found: Vec<_> = problems.iter().map(|p| (p.field.as_str(), p.reason)).collect();
        assert_eq!(found, [(field, reason)], "{to}: {problems:#?}");
        assert_eq!(validate_cel(&pool).is_err(), cel, "CEL on {to}: {:?}", validate_cel(&pool));
    }
}

#[test]
fn cel_accepts_what_we_accept() {
    let manifests = load(SAAS);
    for queue in &manifests.queues {
        validate_cel(&queue.object).unwrap();
    }
    for pool in &manifests.pools {
        worker_pool(pool).unwrap();
        validate_cel(&pool.object).unwrap();
    }
}

#[test]
fn weights_count_with_order_weighted_and_a_weight_of_one_anywhere() {
    for lanes in [
        "[{name: fast, weight: 6}, {name: slow}]\n  order: Weighted",
        "[{name: fast, weight: 1}]\n  order: Deadline",
        "[{name: fast, weight: 1}]",
    ] {
        let pool = pool_with("[{name: fast}]", lanes);
        worker_pool(&pool).unwrap();
        validate_cel(&pool).unwrap();
    }
}

#[test]
fn a_pool_keeps_its_queue() {
    let (old, new) = (pool_with("queue: q", "queue: q"), pool_with("queue: q", "queue: other"));
    validate_cel_update(&old, &old).unwrap();
    let errors = validate_cel_update(&new, &old).unwrap_err();
    assert!(format!("{errors:?}").contains("queue cannot be changed"), "{errors:?}");
}

/// The template reader and the schema's rule are two texts of one grammar.
#[test]
fn cel_and_the_template_reader_agree_on_keys() {
    let mut dice = Dice(1);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..400 {
        let key = dice.text(&["a", "{", "}", ".", ":", "é", " ", "{a}", "{b.c}"], 6);
        if key.is_empty() {
            continue;
        }
        let value = json!({"name": "t", "lane": "l", "key": key});
        let ours = parse_key(&key).is_ok();
        assert_eq!(validate_cel_schema::<JobTypeSpec>(&value, None).is_ok(), ours, "{key:?}");
        *if ours { &mut good } else { &mut bad } += 1;
    }
    assert!(good > 50 && bad > 50, "{good} good, {bad} bad");
}
