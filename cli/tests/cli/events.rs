//! What happened in a queue, for people who watch.

use crate::support::{World, wait_for};

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

#[tokio::test]
async fn following_outlives_a_restart_of_redis() {
    let mut world = World::new().await;
    let file = |name: &str| world.dir.path().join(name);
    let (out, err) = (file("out"), file("err"));
    let mut following = world
        .command()
        .args(["events", "--follow"])
        .stdout(std::fs::File::create(&out).unwrap())
        .stderr(std::fs::File::create(&err).unwrap())
        .spawn()
        .unwrap();
    let has = |file: &std::path::Path, part: &str| {
        std::fs::read_to_string(file).unwrap().contains(part).then_some(())
    };
    wait_for("a first look", || has(&out, "policy"));
    world.redis.stop().await.unwrap();
    wait_for("the note", || has(&err, "is away"));
    world.redis.restart().await.unwrap();
    world.run(&["pause", "apps/saas", "--why", "vendor is down"]).exits(0);
    wait_for("what came after it", || has(&out, "vendor is down"));
    assert_eq!(std::fs::read_to_string(&err).unwrap().matches("is away").count(), 1);
    let pid = following.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert!(following.wait().unwrap().success());
}
