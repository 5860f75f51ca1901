//! `dead`.

use lanekeeper_queue::types::JobState;

use crate::support::World;

#[tokio::test]
async fn dead_letters_are_listed_shown_replayed_and_removed() {
    let world = World::new().await;
    world.run(&["dead", "ls"]).exits(0).says(&["no dead letters"]);
    let first = world.dead_letter("mail", "fast", r#"{"userId":1}"#).await;
    let second = world.dead_letter("report", "slow", "{}").await;
    let list = world.run(&["dead", "ls"]).exits(0);
    list.prints(&[&first, &second, "PermanentError", "HttpStatus: no such user"]);
    let mails = world.run(&["dead", "ls", "--type", "mail", "-o", "json"]).exits(0).json();
    assert_eq!(mails["jobs"].as_array().unwrap().len(), 1);
    world.run(&["dead", "show", &first]).exits(0).prints(&["dead because", "PermanentError", "w-1"]);
    world.run(&["dead", "replay", "--type", "mail", "--dry-run"]).exits(0).prints(&[&first]);
    world.run(&["dead", "replay", &first]).exits(0).prints(&["replayed"]);
    let job = world.queue.get(std::slice::from_ref(&first), false).await.unwrap().remove(0).unwrap();
    assert_eq!(job.state, JobState::Ready);
    world.run(&["dead", "replay", &first]).exits(1).prints(&["wrong-state"]);
    world.run(&["dead", "show", &first]).exits(4).says(&["not a dead letter", "ready"]);
    world.run(&["dead", "replay", "nosuch"]).exits(4);
    world.run(&["dead", "rm", &second]).exits(2).says(&["--yes"]);
    world.run(&["dead", "rm", &second, "--yes"]).exits(0).prints(&["deleted"]);
    world.run(&["get", &second]).exits(4);
}

#[tokio::test]
async fn all_dead_letters_are_replayed_page_by_page() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(world.dead_letter("report", "slow", "{}").await);
    }
    let page = world.run(&["dead", "ls", "--limit", "2", "-o", "json"]).exits(0).json();
    assert_eq!(page["jobs"].as_array().unwrap().len(), 2);
    let cursor = page["cursor"].as_str().unwrap();
    let rest = world.run(&["dead", "ls", "--limit", "2", "--cursor", cursor, "-o", "json"]).exits(0).json();
    assert_eq!(rest["jobs"].as_array().unwrap().len(), 1);
    world.run(&["dead", "replay", "--all"]).exits(2).says(&["Replay 3 dead letters of apps/saas", "--yes"]);
    let replayed = world.run(&["dead", "replay", "--all", "--yes", "-o", "json"]).exits(0).json();
    assert_eq!(replayed.as_array().unwrap().len(), 3);
    assert!(ids.iter().all(|id| replayed.to_string().contains(id)));
    world.run(&["dead", "replay", "--all", "--yes"]).exits(0).says(&["no dead letters"]);
}
