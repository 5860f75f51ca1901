//! The manifests of the examples: they load without a warning, and say what they promise.

#![allow(clippy::unwrap_used, reason = "a helper that fails must fail the test")]

use std::path::{Path, PathBuf};

use lanekeeper_api::manifest::{self, Manifests};
use lanekeeper_api::policy::{
    Backoff, ConcurrencyKey, Handler, Jitter, KeyPart, OnThrottle, QueuePolicy, Source,
};
use lanekeeper_api::validate;
use saas_app::demo::overlay;

fn examples(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(below)
}

fn checked(manifests: Manifests) -> Manifests {
    let found = manifest::check(&manifests, true);
    assert!(
        found.errors.is_empty() && found.warnings.is_empty(),
        "{:#?} {:#?}",
        found.errors,
        found.warnings
    );
    manifests
}

fn policy(manifests: &Manifests) -> QueuePolicy {
    let nobody = Source { owner: String::new(), uid: String::new(), created_ms: 0, generation: 0 };
    validate::job_queue(&manifests.queues[0], nobody).unwrap()
}

const S: u64 = 1_000;
const M: u64 = 60 * S;
const H: u64 = 60 * M;

#[test]
fn the_saas_example_says_what_the_workload_table_says() {
    let manifests = checked(manifest::load(&[examples("saas")]).unwrap());
    let policy = policy(&manifests);
    assert_eq!(policy.queue, "apps/saas");
    let lanes: Vec<_> = policy.lanes.iter().map(|lane| (lane.name.as_str(), lane.start_within_ms)).collect();
    let expected = [
        ("user-fast", 10 * S),
        ("user-medium", M),
        ("outbound-webhooks", M),
        ("batch-fast", 15 * M),
        ("batch-slow", 24 * H),
    ];
    assert_eq!(lanes, expected);

    let table: [(&str, &str, Option<u32>, &[u64]); 6] = [
        ("password-reset", "user-fast", None, &[M, 5 * M, 15 * M]),
        ("image-thumbnail", "user-fast", Some(2), &[0, 30 * S]),
        ("receipt-email", "user-medium", None, &[M, 5 * M, 15 * M]),
        ("stripe-event", "user-medium", None, &[5 * S, 25 * S, 125 * S, 625 * S, 52 * M]),
        ("webhook-delivery", "outbound-webhooks", None, &[M, 5 * M, 15 * M, H, 4 * H, 24 * H]),
        ("pdf-report", "batch-slow", Some(1), &[5 * M, 15 * M, 30 * M, H, 2 * H]),
    ];
    for (name, lane, per_worker, backoff) in table {
        let job_type = &policy.job_types[name];
        assert_eq!((job_type.lane.as_str(), job_type.per_worker), (lane, per_worker), "{name}");
        assert_eq!(job_type.retry.backoff, Backoff::Schedule(backoff.to_vec()), "{name}");
        assert_eq!(job_type.retry.limit as usize, backoff.len(), "{name}");
    }
    assert_eq!(policy.job_types.len(), 8);
    let on_dead = policy.job_types["webhook-delivery"].on_dead.as_ref();
    assert_eq!(on_dead.map(|on_dead| on_dead.r#type.as_str()), Some("customer-notice"));
    assert_eq!(policy.job_types["analytics-sync"].retry.limit, 3);
    assert_eq!(
        (policy.job_types["password-reset"].priority, policy.job_types["receipt-email"].priority),
        (1, 5)
    );
    for name in ["password-reset", "webhook-delivery"] {
        assert_eq!(policy.job_types[name].timeout_ms, 10 * S, "{name}");
    }
    assert!(!matches!(policy.job_types["stripe-event"].retry.jitter, Jitter::None));
    let Handler::Http(webhook) = &policy.job_types["webhook-delivery"].handler else { panic!("HTTP") };
    assert!(webhook.signing.is_some());
    assert_eq!(webhook.on_throttle, OnThrottle::Key);
    let keyed =
        policy.job_types.iter().filter_map(|(name, t)| Some((name.as_str(), t.concurrency_key.as_ref()?)));
    let customer = vec![KeyPart::Text("customer:".to_owned()), KeyPart::Path(vec!["customerId".to_owned()])];
    let expected = ConcurrencyKey { key: customer, limit: Some(10), rate_limit: None };
    assert_eq!(keyed.collect::<Vec<_>>(), [("webhook-delivery", &expected)]);
    let bounded = policy.lanes.iter().filter_map(|lane| Some((lane.name.as_str(), lane.concurrency?)));
    assert_eq!(bounded.collect::<Vec<_>>(), [("batch-slow", 2)]);
    assert!(policy.job_types.values().all(|job_type| job_type.owner.is_some()));
    // A death brings its job under an id of its own: one per death without a key.
    let keyless: Vec<_> =
        policy.job_types.iter().filter(|(_, t)| t.key.is_none()).map(|(name, _)| name).collect();
    assert_eq!(keyless, ["customer-notice"]);

    let slots: Vec<_> = manifests.pools.iter().map(|pool| validate::worker_pool(pool).unwrap()).collect();
    let slots: Vec<_> = slots.iter().map(|plan| (plan.name.as_str(), plan.concurrency)).collect();
    let expected = [
        ("user-fast", 20),
        ("user-medium", 20),
        ("outbound-webhooks", 50),
        ("batch-fast", 5),
        ("batch-slow", 1),
    ];
    assert_eq!(slots, expected);
}

#[test]
fn the_overlay_fits_and_changes_only_where_and_how_fast() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("overlay.yaml");
    let filled =
        overlay::fill(&examples("saas"), 4711, Path::new("/bin/saas-app"), Path::new("/data")).unwrap();
    std::fs::write(&file, filled).unwrap();
    let plain = policy(&manifest::load(&[examples("saas")]).unwrap());
    let demo = policy(&checked(manifest::load_with(&[examples("saas")], &[file]).unwrap()));
    assert_eq!(plain.lanes, demo.lanes);
    for (name, job_type) in &demo.job_types {
        let there = &plain.job_types[name];
        assert_eq!(
            (&job_type.key, &job_type.concurrency_key, &job_type.lane, job_type.priority),
            (&there.key, &there.concurrency_key, &there.lane, there.priority),
            "{name}"
        );
        assert_eq!(job_type.retry.limit, there.retry.limit, "{name}: as many tries, only sooner");
        match &job_type.handler {
            Handler::Http(http) => {
                assert!(http.url.starts_with("http://127.0.0.1:4711/"), "{name}: {}", http.url);
                let Handler::Http(other) = &there.handler else { panic!("{name}") };
                assert_eq!(http.url.rsplit('/').next(), other.url.rsplit('/').next(), "{name}");
                assert_eq!((&http.signing, http.on_throttle), (&other.signing, other.on_throttle), "{name}");
            }
            Handler::Exec(exec) => assert_eq!(exec.command, ["/bin/saas-app", "report"]),
        }
    }
}

#[test]
fn the_hello_example_is_one_lane_one_type_and_one_pool() {
    let manifests = checked(manifest::load(&[examples("hello")]).unwrap());
    let policy = policy(&manifests);
    assert_eq!((policy.queue.as_str(), policy.lanes.len(), policy.job_types.len()), ("default/hello", 1, 1));
    assert_eq!(manifests.pools.len(), 1);
    let lines = std::fs::read_to_string(examples("hello/hello.yaml")).unwrap();
    let told = lines.lines().filter(|line| !line.starts_with('#') && *line != "---").count();
    assert!(told <= 10, "the ten-line version has {told} lines");
}
