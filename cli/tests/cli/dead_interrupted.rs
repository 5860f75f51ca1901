//! Replays that do not come to their end, and how they are gone on with.

use std::process::Stdio;
use std::time::Instant;

use lanekeeper_queue::types::JobState;

use crate::support::{DEADLINE, Ran, World};

/// Runs a replay of 20 letters and interrupts it once it has begun.
async fn interrupted(world: &World, args: &[&str]) -> Ran {
    ended_by("-INT", world, args).await
}

/// The same, ended by that signal.
async fn ended_by(signal: &str, world: &World, args: &[&str]) -> Ran {
    let child = world.command().args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while world.queue.stats().await.unwrap().dead == 20 {
        assert!(started.elapsed() < DEADLINE, "nothing was replayed");
        tokio::task::yield_now().await;
    }
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
    child.wait_with_output().unwrap().into()
}

#[tokio::test]
async fn an_interrupted_replay_says_how_far_it_came_and_how_to_go_on() {
    let world = World::new().await;
    world.many_dead("report", "slow", 20).await;
    let ran = interrupted(&world, &["dead", "replay", "--all", "--rate", "1/s", "--yes"]).await;
    let ran =
        ran.exits(1).says(&["interrupted", "of 20 dead letters replayed", "the same command with --until"]);
    let until = ran.stderr.split("--until ").nth(1).unwrap().split(' ').next().unwrap();
    let left = world.queue.stats().await.unwrap().dead;
    assert!((1..20).contains(&left));
    // What died since then is not meant.
    let later = world.dead_letter("mail", "fast", r#"{"userId":1}"#).await;
    let rest = world.run(&["dead", "replay", "--until", until, "--yes", "-o", "json"]).exits(0).json();
    assert_eq!(rest["outcomes"]["replayed"].as_u64(), Some(left));
    assert_eq!(world.state(&later).await, JobState::Dead);
}

/// One that is killed can tell nothing any more, so it told before.
#[tokio::test]
async fn a_killed_replay_has_told_how_to_go_on() {
    let world = World::new().await;
    world.many_dead("report", "slow", 20).await;
    let args = ["dead", "replay", "--type", "report", "--since", "1h", "--rate", "1/s", "--yes"];
    let ran = ended_by("-KILL", &world, &args).await;
    let advice = ran.stderr.lines().find(|line| line.starts_with("should this be killed")).expect("advice");
    let bounds: Vec<&str> = advice.split(' ').skip_while(|word| *word != "--since").take(4).collect();
    assert!(
        matches!(bounds[..], ["--since", since, "--until", _] if since.parse::<u64>().is_ok()),
        "{advice}"
    );
    let left = world.queue.stats().await.unwrap().dead;
    assert!((1..20).contains(&left));
    // What was replayed dies again.
    let again = world.many_dead_again("slow", 20 - left).await;
    let command = [&["dead", "replay", "--type", "report", "--yes", "-o", "json"], &bounds[..]].concat();
    let rest = world.run(&command).exits(0).json();
    assert_eq!(rest["outcomes"]["replayed"].as_u64(), Some(left), "nothing twice");
    for id in again {
        assert_eq!(world.state(&id).await, JobState::Dead);
    }
}

/// What a run has listed waits for its turn as long as the rate says.
#[tokio::test]
async fn what_somebody_discards_while_a_replay_runs_is_not_replayed() {
    let world = World::new().await;
    world.many_dead("report", "slow", 20).await;
    let replay = ["dead", "replay", "--type", "report", "--rate", "1/s", "--yes", "-o", "json"];
    let child = world.command().args(replay).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while world.queue.stats().await.unwrap().dead == 20 {
        assert!(started.elapsed() < DEADLINE, "nothing was replayed");
        tokio::task::yield_now().await;
    }
    let discard = ["dead", "discard", "--type", "report", "--why", "do not run", "--yes", "-o", "json"];
    let discarded = world.run(&discard).exits(0).json()["outcomes"]["discarded"].as_u64().unwrap();
    let ran: Ran = child.wait_with_output().unwrap().into();
    let replayed = ran.exits(0).json()["outcomes"]["replayed"].as_u64().unwrap();
    assert_eq!(replayed + discarded, 20);
    let stand = world.run(&["dead", "groups", "--review", "discarded", "-o", "json"]).exits(0).json();
    assert_eq!(stand["groups"][0]["count"].as_u64(), Some(discarded), "{stand}");
}

/// What was replayed may die again: naming all ids once more would replay it twice.
#[tokio::test]
async fn an_interrupted_replay_by_ids_names_those_that_remain() {
    let world = World::new().await;
    let ids = world.many_dead("report", "slow", 20).await;
    let named: Vec<&str> = ids.iter().map(String::as_str).collect();
    let ran = interrupted(&world, &[&["dead", "replay", "--rate", "1/s"], named.as_slice()].concat()).await;
    let ran = ran.exits(1).says(&["interrupted", "of 20 dead letters replayed", "not sent: "]);
    let named = ran.stderr.split("not sent: ").nth(1).unwrap().lines().next().unwrap();
    let mut dead = Vec::new();
    for id in &ids {
        if world.state(id).await == JobState::Dead {
            dead.push(id.as_str());
        }
    }
    assert_eq!(named.split(' ').collect::<Vec<_>>(), dead, "{}", ran.stderr);
}
