//! What something else overwrote, and what people are told of it. Dead letters are counted, so they must be told.

use crate::support::{QUEUE, World, worker};

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

#[tokio::test]
async fn a_job_whose_past_is_damaged_is_told_so_and_how_to_mend_it() {
    let world = World::new().await;
    let id = world.dead_letter("report", "slow", "{}").await;
    let mut conn = world.queue.connection();
    let pasts = format!("{}:a", world.queue.name().root());
    redis::cmd("HSET").arg(&pasts).arg(&id).arg("garbage").exec_async(&mut conn).await.unwrap();
    let look = format!("redis-cli HGET '{pasts}' {id}");
    for command in ["get", "why"] {
        let ran = world.run(&[command, &id]).exits(1);
        let ran = ran.says(&["the past of job", "7 B", &look, "delete it with HDEL", "also if it had ended"]);
        assert!(!ran.stderr.contains(&world.queue.name().jobs_hash()), "{}", ran.stderr);
    }
    world.run(&["dead", "replay", &id]).exits(1).prints(&["damaged", "cannot be read"]);
    redis::cmd("HDEL").arg(&pasts).arg(&id).exec_async(&mut conn).await.unwrap();
    world.run(&["get", &id]).exits(0);
}

#[tokio::test]
async fn entries_that_were_put_back_are_not_told_as_lost_records() {
    let world = World::new().await;
    world.enqueue(&["report", "{}"]);
    let mut conn = world.queue.connection();
    let line = format!("{}:q:report", world.queue.name().root());
    redis::cmd("DEL").arg(line).exec_async(&mut conn).await.unwrap();
    while world.queue.stats().await.unwrap().damaged == 0 {
        world.queue.sweep(&worker(), 10).await.unwrap();
    }
    let ran = world.run(&["status"]).exits(0).prints(&["damage met so far: 1", "put right"]);
    assert!(!ran.stdout.contains("record"), "{}", ran.stdout);
}

#[tokio::test]
async fn a_policy_version_that_is_none_is_told_and_apply_repairs_it() {
    let world = World::new().await;
    let id = world.enqueue(&["report", "{}"]);
    let meta = format!("{}:m", world.queue.name().root());
    let mut conn = world.queue.connection();
    world.write("queue.yaml", QUEUE);
    for wrong in ["abc", "-5", "99999999999999999999"] {
        redis::cmd("HSET").arg(&meta).arg("v").arg(wrong).exec_async(&mut conn).await.unwrap();
        for command in [&["status"][..], &["why", &id], &["enqueue", "report"]] {
            let ran = world.run(command).exits(1);
            let ran =
                ran.says(&["the policy of queue apps/saas", "cannot be read", &meta, "lanekeeper apply"]);
            for untrue in ["there is no queue", "different versions"] {
                assert!(!ran.stderr.contains(untrue), "{command:?}: {}", ran.stderr);
            }
        }
        let applied = world.run(&["apply", "-f", "queue.yaml"]).exits(0);
        applied.prints(&["changed"]).says(&["cannot be read and is to be replaced"]);
        world.run(&["status"]).exits(0);
    }
}
