//! Damage, full memory, foreign credentials, library upgrades, crashes of Redis.

use super::common::*;
use lanekeeper_api::policy::{ConcurrencyKey, KeyPart, QueuePolicy};
use lanekeeper_queue::client::{Safety, install_library, safety};
use lanekeeper_queue::testing::{TestRedis, clock};
use lanekeeper_queue::types::*;
use lanekeeper_queue::{Error, Queue, RedisOptions, library_source, worker_acl};

#[tokio::test]
async fn missing_and_damaged_records_stop_nobody() {
    let bed = Bed::new().await;
    let w = worker("w");
    let jobs = bed.key("j");
    let mut made = Vec::new();
    for n in 0..8 {
        made.push(bed.accept(job("mail", [n])).await);
    }
    bed.poke(&["HDEL", &jobs, &made[0]]).await;
    bed.poke(&["HSET", &jobs, &made[1], ""]).await;
    bed.poke(&["HSET", &jobs, &made[2], "junk"]).await;
    bed.poke(&["HSET", &jobs, &made[3], "\x05"]).await;
    let report = bed.accept(job("report", "x")).await;
    let foreign: Vec<u8> = bed.raw(&["HGET", &jobs, &report]).await.unwrap();
    let _: u64 = redis::cmd("HSET")
        .arg(&jobs)
        .arg(&made[4])
        .arg(foreign)
        .query_async(&mut bed.queue.connection())
        .await
        .unwrap();
    let claimed = bed.claim(&w, &["fast"], 5).await;
    assert_eq!(ids(&claimed), made[5..], "slots are filled in spite of the damaged");
    assert_eq!(bed.queue.stats().await.unwrap().damaged, 5);
    assert_eq!(bed.queue.get(&made, true).await.unwrap().iter().flatten().count(), 4);

    // Leased jobs whose records go.
    bed.poke(&["HDEL", &jobs, &claimed[0].id]).await;
    bed.poke(&["HSET", &jobs, &claimed[1].id, "junk"]).await;
    let done: Vec<Settlement> = claimed.iter().map(|job| settlement(job, success())).collect();
    // A success needs no record, and is one all the same; anything else would have to put the job back in line.
    assert_eq!(bed.queue.settle(&w, &done[..1]).await.unwrap(), [Settled::Done]);
    let again = settlement(&claimed[1], retry(0));
    assert_eq!(
        bed.queue.settle(&w, &[again, done[2].clone()]).await.unwrap(),
        [Settled::Stale, Settled::Done]
    );
    let left: u64 = bed.raw(&["HLEN", &bed.key("l")]).await.unwrap();
    assert_eq!(left, 0);
    assert_eq!(bed.queue.stats().await.unwrap().lanes[0].types.iter().map(|t| t.running).sum::<u64>(), 0);
}

#[tokio::test]
async fn sweeps_repair_running_entries_that_lost_their_other_half() {
    let bed = Bed::new().await;
    let (w, s) = (worker("w"), worker("s"));
    let unleased = bed.running(&w, job("mail", "1")).await;
    let unrecorded = bed.running(&w, job("mail", "2")).await;
    let junk = bed.running(&w, job("mail", "3")).await;
    bed.poke(&["HDEL", &bed.key("l"), &unleased.id]).await;
    bed.poke(&["HDEL", &bed.key("j"), &unrecorded.id]).await;
    bed.poke(&["HSET", &bed.key("l"), &junk.id, "junk"]).await;
    for job in [&unleased, &unrecorded, &junk] {
        bed.expire(&job.id).await;
    }
    bed.poke(&["ZADD", &bed.key("r"), "1", "stranger"]).await;
    bed.calm().await;
    let swept = bed.queue.sweep(&s, 100).await.unwrap();
    assert!(swept.expired.is_empty());
    assert_eq!(bed.queue.stats().await.unwrap().damaged, 4);
    assert_eq!(bed.raw::<u64>(&["ZCARD", &bed.key("r")]).await.unwrap(), 0);
    let again = bed.claim(&w, &["fast"], 5).await;
    assert_eq!(ids(&again), [&unleased.id, &junk.id], "live jobs are back in line");
}

#[tokio::test]
async fn dead_letters_without_records_can_be_deleted() {
    let bed = Bed::new().await;
    let id = bed.dead(job("mail", "x")).await;
    bed.poke(&["HDEL", &bed.key("j"), &id]).await;
    let page = bed.queue.dead_list(&DeadFilter::default(), 10, None).await.unwrap();
    assert_eq!((page.jobs.len(), page.unreadable), (0, vec![id.clone()]), "it is counted, so it is listed");
    assert_eq!(bed.queue.dead_discard(&[id], "me", "").await.unwrap()[0].outcome, "not-found");
    assert_eq!(bed.queue.stats().await.unwrap().dead, 0);
}

#[tokio::test]
async fn a_full_redis_refuses_new_jobs_only() {
    let redis =
        TestRedis::start_with(&["--maxmemory", "6mb", "--maxmemory-policy", "noeviction"]).await.unwrap();
    let bed = Bed::on(redis, |_| {}).await;
    let (w, s) = (worker("w"), worker("s"));
    let died = bed.dead(job("mail", "x")).await;
    // Large calls first, then small ones: what a call brings counts against the memory as well.
    for bytes in [10_000, 10] {
        let error = loop {
            match bed.queue.enqueue(&vec![job("mail", vec![7; bytes]); if bytes > 10 { 20 } else { 1 }]).await
            {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::OutOfMemory(_)), "{error}");
    }
    assert!(matches!(
        bed.queue.dead_replay(std::slice::from_ref(&died), "me", "").await,
        Err(Error::OutOfMemory(_))
    ));
    assert!(bed.queue.stats().await.unwrap().lanes[0].types.iter().any(|t| t.ready > 10));
    let first = bed.claim(&w, &["fast"], 1).await.remove(0);
    bed.beat(&w, &[&first]).await;
    bed.queue.sweep(&s, 10).await.unwrap();
    assert_eq!(bed.settle(&w, &first, dead("no")).await, Settled::Done);
    let mut drained = 0;
    let mut done: Vec<Settlement> = Vec::new();
    loop {
        let (settled, reply) = bed.queue.settle_and_claim(&w, &done, &want(&["fast"], 20)).await.unwrap();
        assert!(settled.iter().all(|s| *s == Settled::Done));
        drained += reply.jobs.len();
        done = reply
            .jobs
            .iter()
            .map(|job| settlement(job, Outcome::Success { result: vec![], follow_ups: vec![] }))
            .collect();
        if done.is_empty() {
            break;
        }
    }
    assert!(drained > 10);
    bed.queue.cancel(std::slice::from_ref(&died), "ops").await.unwrap();
    assert_eq!(bed.queue.dead_discard(&[died], "me", "").await.unwrap()[0].outcome, "discarded");
    bed.queue.find(&Find { limit: 5, ..Find::default() }).await.unwrap();
    let mut policy = bed.policy.clone();
    policy.source.generation = 2;
    for kind in policy.job_types.values_mut() {
        kind.completed.keep = 0;
    }
    bed.queue.configure(&policy, false).await.unwrap();
    while bed.queue.sweep(&s, 200).await.unwrap().more {}
    bed.accept(job("mail", "there is room again")).await;
}

async fn with_user(bed: &Bed, rules: Vec<String>) -> RedisOptions {
    let mut cmd = redis::cmd("ACL");
    cmd.arg("SETUSER").arg(&rules);
    let _: redis::Value = cmd.query_async(&mut bed.queue.connection()).await.unwrap();
    RedisOptions::new(bed.redis.url().replace("redis://", "redis://lk-worker:p%40ss@"))
}

#[tokio::test]
async fn a_workers_credentials_are_enough_for_its_work_and_for_nothing_else() {
    let bed = Bed::new().await;
    let other = bed.redis.queue("apps/saas2").await.unwrap();
    other.configure(&bed.policy, false).await.unwrap();
    let options = with_user(&bed, worker_acl(bed.queue.name(), "lk-worker", "p@ss")).await;
    let mine = Bed {
        queue: Queue::connect(&options, bed.queue.name().clone()).await.unwrap(),
        redis: bed.redis,
        policy: bed.policy,
    };
    let (w, s) = (worker("w"), worker("s"));
    // Everything that a worker does, every branch of it.
    mine.queue.policy().await.unwrap().unwrap();
    let claimed = mine.running(&w, with(job("report", "x"), |o| o.key = Some("r".into()))).await;
    assert_eq!(mine.beat(&w, &[&claimed]).await.lost.len(), 0);
    assert_eq!(mine.queue.leases_of(&w).await.unwrap().len(), 1);
    assert_eq!(mine.settle(&w, &claimed, retry(1)).await, Settled::Done);
    mine.accept(with(job("mail", "x"), |o| (o.delay, o.key) = (Some(1), Some("k".into())))).await;
    mine.queue.sweep(&s, 10).await.unwrap();
    mine.accept(with(job("mail", "k"), |o| o.key = Some("r2".into()))).await;
    mine.queue.enqueue(&[job("mail", "1"), job("limited", "2"), job("reset", "3")]).await.unwrap();
    let jobs = mine.claim(&w, &["fast", "slow"], 50).await;
    let outcomes = [
        success(),
        dead("x"),
        Outcome::Release { why: "x".into() },
        Outcome::Snooze { delay_ms: 1, why: "y".into(), holds: Holds::Key },
    ];
    for (job, outcome) in jobs.iter().zip(outcomes) {
        assert_eq!(mine.settle(&w, job, outcome).await, Settled::Done);
    }
    mine.queue.sweep(&s, 10).await.unwrap();
    mine.queue.stats().await.unwrap();
    mine.queue.get(&["x".into()], true).await.unwrap();
    mine.queue.leave(&w).await.unwrap();
    mine.queue.enqueue(&[job("mail", "1")]).await.unwrap();
    mine.queue.pass_on(&["fast".into()]).await.unwrap();
    mine.queue.position("x").await.unwrap();
    let mut waker = lanekeeper_queue::Waker::connect(&options, mine.queue.name().clone()).await.unwrap();
    waker.wait(&["fast".into()], std::time::Duration::from_millis(10)).await.unwrap();
    assert_eq!(mine.queue.stats().await.unwrap().damaged, 0);

    // And what it must not.
    let theirs = mine.queue.with_name(other.name().clone());
    let refused = theirs.enqueue(&[job("mail", "x")]).await.expect_err("another queue");
    assert!(refused.to_string().contains("key"), "{refused}");
    for command in [
        vec!["CONFIG", "GET", "*"],
        vec!["EVAL", "return 1", "0"],
        vec!["FUNCTION", "FLUSH"],
        vec!["FUNCTION", "LOAD", "REPLACE", "#!lua name=x\n"],
        vec!["SCRIPT", "FLUSH"],
        vec!["ACL", "LIST"],
        vec!["FLUSHALL"],
        vec!["KEYS", "*"],
        vec!["SCAN", "0"],
        vec!["SHUTDOWN"],
        vec!["GET", "lk:{apps/saas2}:p"],
        vec!["GET", "elsewhere"],
        vec!["PUBLISH", "elsewhere", "x"],
        vec!["HGETALL", "lk:{apps/saas2}:j"],
        vec!["CLIENT", "LIST"],
        vec!["MONITOR"],
    ] {
        let error = mine.raw::<redis::Value>(&command).await.expect_err(&command.join(" "));
        assert_eq!(error.code(), Some("NOPERM"), "{command:?}: {error}");
    }
    // A missing library is not the worker's to load: it says so.
    let mut admin = other.connection();
    let _: redis::Value = redis::cmd("FUNCTION").arg("FLUSH").query_async(&mut admin).await.unwrap();
    assert!(matches!(mine.queue.stats().await, Err(Error::NoLibrary)));
    assert!(matches!(safety(&mut mine.queue.connection()).await.unwrap(), Safety::Unknown { .. }));
}

#[tokio::test]
async fn applying_the_acl_again_takes_added_rights_away() {
    let bed = Bed::new().await;
    let rules = worker_acl(bed.queue.name(), "lk-worker", "p@ss");
    with_user(&bed, rules.clone()).await;
    bed.poke(&["ACL", "SETUSER", "lk-worker", "+@all", "~*", ">other"]).await;
    let options = with_user(&bed, rules).await;
    let queue = Queue::connect(&options, bed.queue.name().clone()).await.unwrap();
    assert!(redis::cmd("FLUSHALL").query_async::<redis::Value>(&mut queue.connection()).await.is_err());
}

#[tokio::test]
async fn a_flushed_library_comes_back_with_the_next_call_of_someone_who_may() {
    let bed = Bed::new().await;
    bed.poke(&["FUNCTION", "FLUSH"]).await;
    let id = bed.accept(job("mail", "x")).await;
    bed.poke(&["FUNCTION", "FLUSH"]).await;
    assert_eq!(bed.state(&id).await, JobState::Ready);
}

#[tokio::test]
async fn libraries_are_upgraded_and_never_downgraded() {
    let bed = Bed::new().await;
    let mut conn = bed.queue.connection();
    assert!(!install_library(&mut conn).await.unwrap(), "already there");
    let load = |source: String| {
        let mut conn = bed.queue.connection();
        async move {
            assert_ne!(source, library_source());
            clock::load(&mut conn, &source).await.unwrap();
        }
    };
    load(under_number(0)).await;
    assert!(install_library(&mut conn).await.unwrap(), "an older one is replaced");
    load(library_source().replacen(", '", ", 'x", 1)).await;
    assert!(install_library(&mut conn).await.unwrap(), "another build of the same version is replaced");
    load(under_number(99)).await;
    assert!(!install_library(&mut conn).await.unwrap(), "a newer one stays");
    let (version, _): (i64, String) = bed.raw(&["FCALL", "lk_version", "0"]).await.unwrap();
    assert_eq!(version, 99);
    bed.accept(job("mail", "and serves")).await;
}

#[tokio::test]
async fn an_upgrade_under_load_breaks_no_call() {
    let bed = Bed::new().await;
    let queue = bed.queue.clone();
    let load = tokio::spawn(async move {
        for n in 0..300u32 {
            let jobs: Vec<NewJob> = (0..5).map(|_| job("mail", n.to_le_bytes())).collect();
            queue.enqueue(&jobs).await.unwrap();
        }
    });
    let mut admin = bed.redis.options().connect().await.unwrap();
    while !load.is_finished() {
        let mut cmd = redis::cmd("FUNCTION");
        cmd.arg("LOAD").arg("REPLACE").arg(library_source());
        let _: redis::Value = cmd.query_async(&mut admin).await.unwrap();
    }
    load.await.unwrap();
    let stats = bed.queue.stats().await.unwrap();
    assert_eq!(stats.lanes[0].types.iter().map(|t| t.enqueued_total).sum::<u64>(), 1_500);
}

#[tokio::test]
async fn what_was_accepted_is_there_after_a_crash_of_redis() {
    let mut bed = Bed::new().await;
    let w = worker("w");
    let running = bed.running(&w, job("mail", "r")).await;
    let ready = bed.accept(job("mail", "x")).await;
    bed.redis.written().await.unwrap();
    bed.redis.kill();
    assert!(bed.queue.enqueue(&[job("mail", "lost?")]).await.is_err());
    bed.redis.restart().await.unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while bed.queue.stats().await.is_err() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(bed.settle(&w, &running, success()).await, Settled::Done, "functions and leases survive");
    assert_eq!(bed.claim(&w, &["fast"], 1).await[0].id, ready);
}

#[tokio::test]
async fn an_unreachable_redis_is_told_within_seconds() {
    let mut redis = TestRedis::start().await.unwrap();
    redis.kill();
    let started = tokio::time::Instant::now();
    let error = Queue::connect(&redis.options(), "a/b".parse().unwrap()).await.err().expect("nobody listens");
    assert!(matches!(error, Error::Redis(_)), "{error}");
    assert!(started.elapsed() < std::time::Duration::from_secs(10));
}

#[tokio::test]
async fn safety_is_told_from_the_servers_settings() {
    let redis = TestRedis::start().await.unwrap();
    let mut conn = redis.options().connect().await.unwrap();
    assert_eq!(safety(&mut conn).await.unwrap(), Safety::Safe);
    let _: redis::Value = redis::cmd("CONFIG")
        .arg("SET")
        .arg("maxmemory-policy")
        .arg("allkeys-lru")
        .query_async(&mut conn)
        .await
        .unwrap();
    let Safety::Unsafe { why } = safety(&mut conn).await.unwrap() else { panic!() };
    assert!(why.contains("allkeys-lru"), "{why}");
}

#[tokio::test]
async fn foreign_keys_under_the_prefix_make_an_error_and_no_half_written_job() {
    let bed = Bed::new().await;
    let later = with(job("mail", "x"), |o| o.delay = Some(60_000));
    for (key, refused) in [("q:mail", job("mail", "x")), ("s:mail", later)] {
        bed.poke(&["SET", &bed.key(key), "not a sorted set"]).await;
        assert!(bed.queue.enqueue(&[job("report", "x"), refused.clone()]).await.is_err());
        assert_eq!(
            bed.raw::<u64>(&["EXISTS", &bed.key("j"), &bed.key("q:report")]).await.unwrap(),
            0,
            "{key}"
        );
        bed.poke(&["DEL", &bed.key(key)]).await;
    }
    bed.accept(job("mail", "x")).await;
}

/// Sweeps of workers also finish what policies began: without the operator nobody else does.
#[tokio::test]
async fn a_workers_credentials_are_enough_to_tidy_up_after_policies() {
    let keyed = |has_key: bool| {
        move |policy: &mut QueuePolicy| {
            let key = vec![KeyPart::Path(vec!["v".into()])];
            policy.job_types.get_mut("mail").unwrap().concurrency_key =
                has_key.then_some(ConcurrencyKey { key, limit: None, rate_limit: None });
        }
    };
    let mut bed = Bed::with(keyed(true)).await;
    let options = with_user(&bed, worker_acl(bed.queue.name(), "lk-worker", "p@ss")).await;
    let theirs = Queue::connect(&options, bed.queue.name().clone()).await.unwrap();
    let w = worker("w");
    let last = bed.running(&w, job("report", "x")).await;
    let jobs: Vec<NewJob> = (0..1_200).map(|n| job("mail", format!(r#"{{"v":"{n}"}}"#))).collect();
    bed.queue.enqueue_all(&jobs).await.unwrap();
    bed.change(keyed(false)).await;
    bed.change(|policy| drop(policy.job_types.remove("report"))).await;
    bed.settle(&w, &last, success()).await;
    // Its retention is over.
    for (command, key) in [("HDEL", "j"), ("HDEL", "a"), ("ZREM", "f:report")] {
        bed.poke(&[command, &bed.key(key), &last.id]).await;
    }
    while theirs.sweep(&worker("s"), 100).await.unwrap().more {}
    let types: Vec<String> = bed.raw(&["SMEMBERS", &bed.key("t")]).await.unwrap();
    assert!(!types.contains(&"report".to_owned()), "{types:?}");
    assert_eq!(bed.queue.stats().await.unwrap().damaged, 0);
    let left: Vec<String> = bed.raw(&["KEYS", &bed.key("y:mail:*")]).await.unwrap();
    assert_eq!(left, [""; 0]);
}
