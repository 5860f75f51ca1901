//! Pauses by hand, and what status says of closed gates.

use crate::support::{QUEUE, World, wait_for, worker};
use lanekeeper_queue::types::ClaimRequest;

async fn claims(world: &World) -> usize {
    let lanes = vec!["fast".to_owned(), "slow".to_owned()];
    let want = ClaimRequest { slots: 9, lanes, ..ClaimRequest::default() };
    world.queue.settle_and_claim(&worker(), &[], &want).await.unwrap().1.jobs.len()
}

#[tokio::test]
async fn a_queue_is_paused_once_and_resumed() {
    let world = World::new().await;
    world
        .run(&["pause", "apps/saas", "--why", "vendor is down"])
        .exits(0)
        .prints(&["queue apps/saas is paused"]);
    world
        .run(&["pause", "-q", "apps/saas", "--why", "again"])
        .exits(0)
        .prints(&["was paused already: paused by tester", "ago (vendor is down)"]);
    world.enqueue(&["report", "{}"]);
    assert_eq!(claims(&world).await, 0, "accepted, not started");
    world.run(&["status"]).exits(0).prints(&["PAUSED by tester", "(vendor is down): nothing is started"]);
    world.run(&["resume", "apps/saas"]).exits(0).prints(&["queue apps/saas is resumed"]);
    world.run(&["resume", "apps/saas"]).exits(0).prints(&["was not paused by hand"]);
    assert_eq!(claims(&world).await, 1);
}

#[tokio::test]
async fn lanes_are_paused_by_themselves() {
    let world = World::new().await;
    let json = world.run(&["pause", "saas", "-n", "apps", "--lane", "slow", "-o", "json"]).exits(0).json();
    assert_eq!((&json["queue"], &json["changes"][0]["lane"]), (&"apps/saas".into(), &"slow".into()));
    assert_eq!((&json["changes"][0]["changed"], &json["pauses"][0]["by"]), (&true.into(), &"tester".into()));
    assert_eq!(json["pausedByPolicy"], false);
    world.enqueue(&["report", "{}"]);
    world.enqueue(&["mail", r#"{"userId":1}"#]);
    assert_eq!(claims(&world).await, 1, "the other lane goes on");
    world.run(&["status"]).exits(0).prints(&["HELD BACK", "paused by tester"]);
    let status = world.run(&["status", "-o", "json"]).exits(0).json();
    assert_eq!(
        (&status["stats"]["gates"][0]["lane"], &status["stats"]["paused"]),
        (&"slow".into(), &false.into())
    );
    world
        .run(&["resume", "apps/saas"])
        .exits(0)
        .prints(&["was not paused by hand", "lane slow is paused by tester"]);
    world.run(&["resume", "apps/saas", "--lane", "slow"]).exits(0).prints(&["lane slow is resumed"]);
    assert_eq!(claims(&world).await, 1);
    world.run(&["pause", "apps/saas", "--lane", "slwo"]).exits(2).says(&["no lane slwo"]);
    world.run(&["pause", "apps/none"]).exits(4).says(&["no queue apps/none"]);
}

#[tokio::test]
async fn a_pause_by_the_policy_is_not_lifted_by_hand() {
    let world = World::with(&QUEUE.replace("spec:\n", "spec:\n  paused: true\n")).await;
    let resumed = world.run(&["resume", "apps/saas"]).exits(0);
    resumed.prints(&["was not paused by hand", "set `paused: false` there"]);
}

#[tokio::test]
async fn status_says_what_holds_a_lane_back() {
    let gates = "startWithin: 1h\n    concurrency: 1\n  - name: hourly\n    rateLimit: {limit: 1, per: 1h}";
    let types = "- name: report\n    lane: slow\n  - name: digest\n    lane: hourly";
    let manifest = QUEUE.replace("startWithin: 1h", gates).replace("- name: report\n    lane: slow", types);
    let world = World::with(&manifest).await;
    for kind in ["report", "report", "digest", "digest"] {
        world.enqueue(&[kind, "{}"]);
    }
    world.claim("slow").await;
    world.claim("hourly").await;
    let shown = wait_for("both gates", || {
        let shown = world.run(&["status"]).exits(0).stdout;
        shown.contains("rate spent").then_some(shown)
    });
    assert!(shown.contains("at its concurrency of 1") && shown.contains("rate spent, next in "), "{shown}");
}
