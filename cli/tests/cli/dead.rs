//! `dead`.

use lanekeeper_queue::types::{DeadReason, EnqueueOptions, JobState, NewJob, Outcome, Spends};

use crate::support::{QUEUE, World, error};

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

/// The queue answers at most 200 at once.
#[tokio::test]
async fn a_list_is_as_long_as_asked_for() {
    let world = World::new().await;
    let options = EnqueueOptions { job_type: "report".into(), ..EnqueueOptions::default() };
    let jobs = vec![NewJob { payload: b"{}".to_vec(), options }; 203];
    world.queue.enqueue_all(&jobs).await.unwrap();
    for _ in 0..203 {
        let job = world.claim("slow").await;
        let outcome = Outcome::Dead {
            reason: DeadReason::PermanentError,
            error: error("no such user"),
            spends: Spends::Try,
        };
        world.settle(&job, outcome).await;
    }
    let list = |args: &[&str]| {
        let all = [&["dead", "ls", "-o", "json"], args].concat();
        let page = world.run(&all).exits(0).json();
        let jobs = page["jobs"].as_array().unwrap();
        let ids: Vec<String> = jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect();
        (ids, page["cursor"].as_str().map(str::to_owned))
    };
    let (all, end) = list(&["--limit", "1000"]);
    assert_eq!((all.len(), end), (203, None));
    let (most, cursor) = list(&["--limit", "201"]);
    let (rest, _) = list(&["--limit", "201", "--cursor", &cursor.expect("there are more")]);
    assert_eq!([most, rest].concat(), all, "201 and the other two, none twice");
    world.run(&["dead", "ls", "--cursor", "zzz"]).exits(2).says(&["`zzz` is not a cursor"]);
}

#[tokio::test]
async fn a_type_that_the_queue_does_not_have_is_a_slip_unless_letters_of_it_are_left() {
    let world = World::new().await;
    for args in [["dead", "ls"], ["dead", "replay"], ["dead", "rm"]] {
        let refused = world.run(&[&args[..], &["--type", "mial"]].concat()).exits(4);
        refused.says(&["apps/saas has no job type `mial`", "mail, report"]);
    }
    world.run(&["dead", "ls", "--type", "mail"]).exits(0).says(&["no dead letters"]);
    let left = world.dead_letter("mail", "fast", r#"{"userId":1}"#).await;
    world.write("queue.yaml", &QUEUE.replace("name: mail", "name: letter"));
    world.run(&["apply", "-f", "queue.yaml"]).exits(0);
    world.run(&["dead", "ls", "--type", "mail"]).exits(0).prints(&[&left]);
}
