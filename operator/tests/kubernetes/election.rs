//! One holder of the lease at a time, and a quick handover.

use std::time::{Duration, Instant};

use lanekeeper_operator::leader::{Elector, Ended};
use tokio_util::sync::CancellationToken;

use super::bed::Bed;

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_is_handed_over_at_once_when_it_is_released() {
    let Some(bed) = Bed::new("election").await else { return };
    let candidate = |name: &str| Elector::new(bed.server.operator(), &bed.namespace, "lease", name);
    let never = CancellationToken::new();
    let (mut one, mut two) = (candidate("one"), candidate("two"));
    assert!(one.acquire(&never).await);
    let mut waiting = tokio::spawn(async move { two.acquire(&never).await });
    let stop = CancellationToken::new();
    let holding = tokio::spawn({
        let stop = stop.clone();
        async move { one.hold(&stop).await }
    });
    // Longer than the second's period: it has looked and left the holder alone.
    tokio::time::timeout(Duration::from_secs(3), &mut waiting).await.expect_err("the lease is held");
    let released = Instant::now();
    stop.cancel();
    assert_eq!(holding.await.unwrap(), Ended::Released);
    assert!(waiting.await.unwrap());
    assert!(released.elapsed() < Duration::from_secs(10), "not the whole duration of the lease");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_finds_another_in_its_place_stops() {
    let Some(bed) = Bed::new("usurped").await else { return };
    let never = CancellationToken::new();
    let mut one = Elector::new(bed.server.operator(), &bed.namespace, "lease", "one");
    assert!(one.acquire(&never).await);
    let usurp = serde_json::json!({"spec": {"holderIdentity": "two"}});
    let leases = bed.api::<k8s_openapi::api::coordination::v1::Lease>();
    super::bed::edit(&leases, "lease", usurp).await;
    assert_eq!(one.hold(&never).await, Ended::Lost);
}
