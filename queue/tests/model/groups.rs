//! The generator's hand on concurrency keys: types that have them, their bounds, and payloads that name keys.

use lanekeeper_api::policy::{ConcurrencyKey, JobTypePolicy, KeyPart, LimitBy, RateLimit};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Types that mostly have one.
pub const GROUPED: [&str; 2] = ["tenant", "vendor"];

/// A key with bounds, or none.
pub fn change_key(rng: &mut StdRng, spec: &mut JobTypePolicy) {
    let Some(bounds) = &mut spec.concurrency_key else {
        spec.concurrency_key = Some(new_key(rng));
        return;
    };
    match rng.random_range(0..10) {
        0 => spec.concurrency_key = None,
        1 => bounds.key = template(rng),
        2..6 => bounds.limit = limit(rng),
        _ => bounds.rate_limit = rate(rng),
    }
}

pub fn new_key(rng: &mut StdRng) -> ConcurrencyKey {
    ConcurrencyKey { key: template(rng), limit: limit(rng), rate_limit: rate(rng) }
}

fn template(rng: &mut StdRng) -> Vec<KeyPart> {
    let path = |name: &str| KeyPart::Path(vec![name.to_owned()]);
    match rng.random_range(0..12) {
        0 => vec![KeyPart::Text("v:".into()), path("v")],
        1 => vec![path("v"), path("tier")],
        // What the news of a death have.
        2 => vec![KeyPart::Path(vec!["payload".to_owned(), "v".to_owned()])],
        _ => vec![path("v")],
    }
}

fn limit(rng: &mut StdRng) -> Option<u32> {
    *[None, Some(1), Some(1), Some(2), Some(3), Some(10)].choose(rng).expect("not empty")
}

fn rate(rng: &mut StdRng) -> Option<RateLimit> {
    let classes = [("gold", 10), ("tin", 1), ("a%3Ab", 4), ("true", 2)];
    let by = LimitBy {
        path: vec!["tier".into()],
        limits: classes.into_iter().map(|(class, limit)| (class.to_owned(), limit)).collect(),
    };
    let rate = RateLimit {
        limit: rng.random_range(1..=6),
        per_ms: *[1, 50, 1_000, 60_000, 3_600_000].choose(rng).expect("not empty"),
        burst: rng.random_bool(0.5).then(|| rng.random_range(1..=3)),
        by: rng.random_bool(0.5).then_some(by),
    };
    rng.random_bool(0.5).then_some(rate)
}

/// Of few keys, so that they meet again; now and then one that is none.
pub fn payload(rng: &mut StdRng) -> Vec<u8> {
    let vendor = match rng.random_range(0..40) {
        0 => "null",
        1 => "\"\"",
        2 => "1.5",
        _ => ["1", "2", "2", "\"c:d\""].choose(rng).copied().unwrap_or_default(),
    };
    let tier = match rng.random_range(0..20) {
        0 => ",\"tier\":true",
        1 => "",
        2 => ",\"tier\":\"a:b\"",
        3..10 => ",\"tier\":\"gold\"",
        10..14 => ",\"tier\":\"tin\"",
        _ => ",\"tier\":\"none\"",
    };
    format!("{{\"v\":{vendor}{tier}}}").into_bytes()
}
