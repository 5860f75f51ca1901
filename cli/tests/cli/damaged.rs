//! Dead letters whose records something else overwrote: counted, so they must be told.

use crate::support::World;

async fn overwrite(world: &World, id: &str) {
    let mut conn = world.queue.connection();
    let hash = world.queue.name().jobs_hash();
    redis::cmd("HSET").arg(hash).arg(id).arg("garbage").exec_async(&mut conn).await.unwrap();
}

#[tokio::test]
async fn a_dead_letter_that_cannot_be_read_is_listed() {
    let world = World::new().await;
    let id = world.dead_letter("report", "slow", "{}").await;
    overwrite(&world, &id).await;
    world.run(&["status"]).exits(0).prints(&["1 dead letter"]);
    let ran =
        world.run(&["dead", "ls"]).exits(0).says(&["1 dead letter cannot be read", &id, "lanekeeper get"]);
    assert!(!ran.stderr.contains("no dead letters"), "{}", ran.stderr);
    let json = world.run(&["dead", "ls", "-o", "json"]).exits(0).json();
    assert_eq!((json["jobs"].as_array().unwrap().len(), json["unreadable"][0].as_str()), (0, Some(&*id)));
    // Beside others, over pages, with a filter that cards answer.
    let fine = world.dead_letter("report", "slow", "{}").await;
    for rest in [&[][..], &["--limit", "1", "--oldest-first"], &["--review", "open"]] {
        let ran = world.run(&[&["dead", "ls"], rest].concat()).exits(0);
        let _ = ran.prints(&[&fine]).says(&["1 dead letter cannot be read", &id]);
    }
    let json = world.run(&["dead", "ls", "--limit", "1", "-o", "json"]).exits(0).json();
    assert!(json["jobs"][0]["id"] == *fine && json.get("unreadable").is_none(), "{json}");
}

#[tokio::test]
async fn acts_on_a_dead_letter_that_cannot_be_read_say_so() {
    let world = World::new().await;
    let id = world.dead_letter("report", "slow", "{}").await;
    overwrite(&world, &id).await;
    for act in [&["replay"][..], &["ack", "--why", "x"], &["discard", "--why", "x"]] {
        let [name, rest @ ..] = act else { unreachable!() };
        let command = [&["dead", name, id.as_str()][..], rest].concat();
        world.run(&command).exits(1).prints(&["damaged", "cannot be read"]);
        world.run(&[&command[..], &["--dry-run"]].concat()).exits(1).says(&["would answer damaged"]);
    }
    world.write("mended", "{}");
    world.run(&["dead", "replay", &id, "--payload", "mended"]).exits(1).prints(&["damaged"]);
    world.run(&["dead", "replay", "J9"]).exits(4).prints(&["not-found"]);
}
