//! What happened in a queue, for people who watch.

use crate::support::World;

#[tokio::test]
async fn events_are_told_in_their_order() {
    let world = World::new().await;
    world.run(&["events", "apps/saas"]).exits(0).prints(&["policy", "version"]);
    let id = world.enqueue(&["report", "{}"]);
    world.run(&["cancel", &id]).exits(0);
    world.run(&["pause", "apps/saas", "--why", "vendor is down"]).exits(0);
    world.run(&["events", "apps/saas"]).exits(0).prints(&[
        "cancelled",
        &id,
        "paused",
        "tester: vendor is down",
    ]);
    let shown = world.run(&["events", "-q", "apps/saas", "--limit", "2", "-o", "json"]).exits(0);
    let lines: Vec<serde_json::Value> =
        shown.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!((kinds, lines[0]["job"].as_str()), (vec!["cancelled", "paused"], Some(id.as_str())));
    assert!(lines[0]["atMs"].as_u64() <= lines[1]["atMs"].as_u64());
    world.run(&["events", "--limit", "0"]).exits(2);
}
