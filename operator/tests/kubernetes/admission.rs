//! What cannot work is refused at apply, in words that help.

use super::bed::Bed;
use super::manifests::{POOL, QUEUE, queue_with};

async fn refusal(bed: &Bed, yaml: &str) -> String {
    bed.try_apply(yaml).await.expect_err("refused")
}

#[tokio::test(flavor = "multi_thread")]
async fn good_manifests_are_accepted_with_their_defaults_visible() {
    let Some(bed) = Bed::new("defaults").await else { return };
    bed.apply(QUEUE).await;
    bed.apply(POOL).await;
    let queue = serde_json::to_value(bed.queue_object("saas").await.unwrap()).unwrap();
    assert_eq!(queue["spec"]["lease"], "15s");
    assert_eq!(queue["spec"]["deletionPolicy"], "Retain");
    let pool = serde_json::to_value(bed.pool_object("workers").await.unwrap()).unwrap();
    assert_eq!(pool["spec"]["scaling"]["minReplicas"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_that_cannot_work_are_refused() {
    let Some(bed) = Bed::new("refused-queues").await else { return };
    let both = "{http: {url: 'http://mailer/jobs'}, exec: {command: [a]}}";
    let cases = [
        (
            QUEUE.replace("lane: fast,", "lane: fats,"),
            "every jobTypes[].lane must be the name of one of spec.lanes",
        ),
        (QUEUE.replace("{http: {url: 'http://mailer/jobs'}}", both), "exactly one kind of handler"),
        (
            QUEUE.replace(", handler: {http: {url: 'http://mailer/jobs'}}", ""),
            "every job type needs a handler",
        ),
        (QUEUE.replace("[{name: fast, startWithin: 60s}]", "[{name: fast}, {name: fast}]"), "uplicate"),
        (queue_with("lease: 1h"), "a lease lasts from 1s to 10m"),
        (queue_with("leese: 15s"), "leese"),
    ];
    for (yaml, expected) in cases {
        let said = refusal(&bed, &yaml).await;
        assert!(said.contains(expected), "{expected:?} is not in {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_that_cannot_work_are_refused() {
    let Some(bed) = Bed::new("refused-pools").await else { return };
    let cases = [
        (
            POOL.replace("maxReplicas: 5", "minReplicas: 6, maxReplicas: 5"),
            "minReplicas must not be above maxReplicas",
        ),
        (POOL.replace("concurrency: 2", "replicas: 2"), "replicas counts only with scaling.mode Manual"),
        (
            POOL.replace("{name: fast}", "{name: fast, weight: 6}"),
            "lanes[].weight counts only with order Weighted",
        ),
        (POOL.replace("{name: fast}", "{name: fast, weight: 101}"), "weight"),
        (POOL.replace("concurrency: 2", "order: Random"), "order"),
        (POOL.replace("concurrency: 2", "template: {env: [{name: LANEKEEPER_X, value: y}]}"), "LANEKEEPER_"),
    ];
    for (yaml, expected) in cases {
        let said = refusal(&bed, &yaml).await;
        assert!(said.contains(expected), "{expected:?} is not in {said:?}");
    }
    bed.apply(POOL).await;
    let moved = refusal(&bed, &POOL.replace("queue: saas", "queue: other")).await;
    assert!(moved.contains("queue cannot be changed"), "{moved}");
}
