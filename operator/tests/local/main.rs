//! The local mode whole: a real Redis, the real worker as child processes.

use std::time::{Duration, Instant};

use clap::Parser;
use lanekeeper_operator::local::{self, LocalError, LocalEventKind, LocalPhase, LocalSnapshot};
use lanekeeper_queue::testing::TestRedis;
use lanekeeper_queue::{Queue, QueueName};
use tokio_util::sync::CancellationToken;

mod world;

use world::{DEADLINE, World, event, kill, manifests, of_type, options, pool, succeeded, yaml};

/// Not a test: the worker process that the host platform starts is this binary with this test's name. The worker
/// runs until it is told to go, or until its standard input closes because its parent died.
#[test]
fn worker_process() {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        run: lanekeeper_worker::args::RunArgs,
    }
    if std::env::var_os("LANEKEEPER_POOL").is_none() {
        return;
    }
    let args = Cli::parse_from(["worker"]).run;
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let done = runtime.block_on(async {
        let shutdown = lanekeeper_worker::Shutdown::on_signals().expect("signals");
        let parent = shutdown.clone();
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            parent.escalate();
        });
        lanekeeper_worker::run(args, shutdown).await
    });
    done.expect("the worker ends cleanly");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_start_workers_from_zero_and_idle_workers_go() {
    let world = World::start(&yaml("", "")).await;
    let running = world.until("it runs", |s| s.phase == LocalPhase::Running).await;
    assert_eq!(pool(&running).replicas, 0);
    let mut events = world.local.events();
    world.enqueue("nap", 300).await;
    event(&mut events, LocalEventKind::ScaledUp).await;
    world.until("all are done", |s| succeeded(s, "nap") == 300).await;
    event(&mut events, LocalEventKind::ScaledToZero).await;
    world.until("the workers are gone", |s| pool(s).workers.is_empty()).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_job_scales_from_zero_within_a_second() {
    let world = World::start(&yaml("", "")).await;
    for round in 1..=5 {
        world.until("no workers", |s| s.phase == LocalPhase::Running && pool(s).workers.is_empty()).await;
        let mut events = world.local.events();
        let start = Instant::now();
        world.enqueue("nap", 1).await;
        event(&mut events, LocalEventKind::ScaledUp).await;
        assert!(start.elapsed() < Duration::from_secs(1), "round {round}: {:?}", start.elapsed());
        world.until("it is done", |s| succeeded(s, "nap") == round).await;
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_of_a_killed_worker_are_done_by_its_successor() {
    let world = World::start(&yaml("", "")).await;
    world.enqueue("sleep", 3).await;
    let busy = world
        .until("they run", |s| pool(s).workers.iter().any(|w| w.pid.is_some()) && pool(s).busy == 3)
        .await;
    let mut events = world.local.events();
    kill(pool(&busy));
    let died = event(&mut events, LocalEventKind::WorkerDied).await;
    assert!(died.message.contains("killed by signal 9"), "{}", died.message);
    let done = world.until("all are done", |s| succeeded(s, "sleep") == 3).await;
    assert_eq!(of_type(&done, "sleep").map(|t| (t.dead, t.running)), Some((0, 0)));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_of_a_pool_that_is_gone_come_back() {
    let mut world = World::start(&yaml("", "")).await;
    world.enqueue("sleep", 1).await;
    let running = world.until("it runs", |s| pool(s).busy == 1).await;
    let queue_only = yaml("", "").split("---").next().expect("the queue").to_owned();
    world.local.reload(manifests(&queue_only)).await.expect("it reloads");
    // Its worker drains. Killing it leaves the lease behind, and no worker is there to sweep it.
    kill(pool(&running));
    let ready = |s: &LocalSnapshot| of_type(s, "sleep").is_some_and(|t| (t.ready, t.running) == (1, 0));
    world.until("the job waits again", ready).await;
    world.redis.kill();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_writes_policies_and_rolls_pools() {
    let world = World::start(&yaml("", "")).await;
    world.enqueue("sleep", 1).await;
    let before = world.until("it runs", |s| pool(s).busy == 1).await;
    let old = pool(&before).workers[0].name.clone();
    let mut events = world.local.events();
    let text = yaml("paused: true", "").replace("concurrency: 5", "concurrency: 7");
    let reloaded = world.local.reload(manifests(&text)).await.expect("it reloads");
    assert_eq!(reloaded.pools, ["apps/fast"]);
    event(&mut events, LocalEventKind::PolicyApplied).await;
    let paused = |s: &LocalSnapshot| s.queues["apps/test"].stats.as_ref().is_some_and(|s| s.paused);
    world.until("it is paused", paused).await;
    world.until("the old worker drained its job", |s| pool(s).workers.iter().all(|w| w.name != old)).await;
    world.until("the job is done", |s| succeeded(s, "sleep") == 1).await;
    let once = world.queue.policy().await.expect("read").expect("there");
    assert_eq!(once.0.source.generation, 2);
    let again = world.local.reload(manifests(&text)).await.expect("it reloads");
    assert!(again.pools_dropped.is_empty());
    let twice = world.queue.policy().await.expect("read").expect("there");
    assert_eq!(once, twice, "the same content is no new generation");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_redis_takes_no_worker_away_and_loses_nothing() {
    let mut world = World::start(&yaml("", "")).await;
    world.enqueue("nap", 1).await;
    world.until("a worker runs", |s| pool(s).ready == 1 && pool(s).replicas == 1).await;
    let mut events = world.local.events();
    world.redis.stop().await.expect("it stops");
    event(&mut events, LocalEventKind::RedisLost).await;
    let frozen = world.until("it is blind", |s| s.queues["apps/test"].error.is_some()).await;
    let replicas = pool(&frozen).replicas;
    // Three times idleAfter: a scaler that read zero would have acted.
    let blind_until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < blind_until {
        let mut seen = world.local.snapshot();
        let _ = tokio::time::timeout(Duration::from_millis(200), seen.changed()).await;
        let seen = world.local.snapshot().borrow().clone();
        assert_eq!(pool(&seen).replicas, replicas, "{:?}", pool(&seen));
        assert!(seen.queues["apps/test"].stats.is_some(), "figures never read as nothing");
    }
    world.redis.restart().await.expect("it comes back");
    event(&mut events, LocalEventKind::RedisBack).await;
    // The connection of this test has died with the server.
    let name = QueueName::new("apps", "test");
    world.queue = Queue::connect(&world.redis.options(), name).await.expect("connected");
    world.enqueue("nap", 20).await;
    world.until("all are done", |s| succeeded(s, "nap") == 21).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_lost_everything_gets_its_policy_again() {
    let mut world = World::start(&yaml("", "")).await;
    let mut conn = world.queue.connection();
    let _: () = redis::cmd("FLUSHALL").query_async(&mut conn).await.expect("flushed");
    let _: () = redis::cmd("FUNCTION").arg("FLUSH").query_async(&mut conn).await.expect("flushed");
    let mut events = world.local.events();
    event(&mut events, LocalEventKind::RedisLost).await;
    event(&mut events, LocalEventKind::RedisBack).await;
    world.enqueue("nap", 1).await;
    world.until("it is done", |s| succeeded(s, "nap") == 1).await;
    world.redis.kill();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_may_lose_jobs_closes_the_queue_unless_allowed() {
    let redis = TestRedis::start_with(&["--appendonly", "no"]).await.expect("redis starts");
    let dir = tempfile::tempdir().expect("a directory");
    for (allow_unsafe, closed) in [(false, Some("RedisUnsafe")), (true, None)] {
        let mut options = options(&redis, &dir, &yaml("", ""));
        options.allow_unsafe = allow_unsafe;
        let local = local::start(options, CancellationToken::new()).await.expect("it starts");
        // Told before `start` answered: the first to ask gets it all the same.
        let mut events = local.events();
        event(&mut events, LocalEventKind::PolicyApplied).await;
        let kind = if allow_unsafe { LocalEventKind::RedisDoubtful } else { LocalEventKind::RedisUnsafe };
        let told = event(&mut events, kind).await;
        assert!(told.message.contains("may lose jobs") && told.message.contains(&redis.url()), "{told:?}");
        let queue =
            Queue::connect(&redis.options(), QueueName::new("apps", "test")).await.expect("connected");
        let (policy, _) = queue.policy().await.expect("read").expect("there");
        assert_eq!(policy.closed.as_deref(), closed);
        local.drain().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_are_there_before_it_are_told() {
    let world = World::start(&yaml("", "")).await;
    world.enqueue("sleep", 1).await;
    let beats =
        |s: &LocalSnapshot| s.queues["apps/test"].stats.as_ref().is_some_and(|s| !s.workers.is_empty());
    world.until("a worker is heard of", beats).await;
    let dir = tempfile::tempdir().expect("a directory");
    let second = local::start(options(&world.redis, &dir, &yaml("", "")), CancellationToken::new()).await;
    let second = second.expect("it starts");
    let told = event(&mut second.events(), LocalEventKind::OtherWorkers).await;
    assert!(told.message.contains("1 worker that this local mode did not start"), "{told:?}");
    second.drain().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_closes_and_opens_as_its_redis_ceases_and_starts_to_keep_jobs() {
    let redis = TestRedis::start_with(&["--appendonly", "no"]).await.expect("redis starts");
    let mut world = World::on(redis, &yaml("", "")).await;
    let mut events = world.local.events();
    let mut conn = world.queue.connection();
    let mut set = async |value: &str| {
        let set = redis::cmd("CONFIG").arg(&["SET", "appendonly", value]).exec_async(&mut conn).await;
        set.expect("set");
    };
    let closed = |s: &LocalSnapshot| s.queues["apps/test"].stats.as_ref().and_then(|s| s.closed.clone());
    event(&mut events, LocalEventKind::RedisUnsafe).await;
    world.enqueue("nap", 1).await;
    world.until("it is closed", |s| closed(s).as_deref() == Some("RedisUnsafe")).await;
    set("yes").await;
    event(&mut events, LocalEventKind::RedisSafe).await;
    world.until("the job is done", |s| succeeded(s, "nap") == 1 && closed(s).is_none()).await;
    set("no").await;
    event(&mut events, LocalEventKind::RedisUnsafe).await;
    world.until("it is closed", |s| closed(s).as_deref() == Some("RedisUnsafe")).await;
    set("yes").await;
    event(&mut events, LocalEventKind::RedisSafe).await;
    // It forgets the setting when it is started again.
    world.redis.kill();
    event(&mut events, LocalEventKind::RedisLost).await;
    world.redis.restart().await.expect("it comes back");
    event(&mut events, LocalEventKind::RedisUnsafe).await;
    world.until("it is closed", |s| closed(s).as_deref() == Some("RedisUnsafe")).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_another_owner_is_left_alone() {
    let redis = TestRedis::start().await.expect("redis starts");
    let queue = redis.queue("apps/test").await.expect("a queue");
    let dir = tempfile::tempdir().expect("a directory");
    let good = options(&redis, &dir, &yaml("", ""));
    let source = lanekeeper_api::policy::Source {
        owner: "kubernetes:7".into(),
        uid: "u".into(),
        created_ms: 1,
        generation: 1,
    };
    let theirs =
        lanekeeper_api::validate::job_queue(&good.manifests.queues[0], source).expect("the policy is good");
    queue.configure(&theirs, false).await.expect("configured");
    let refused = local::start(good, CancellationToken::new()).await.err().expect("it is refused");
    assert!(matches!(&refused, LocalError::Foreign { owner, .. } if owner == "kubernetes:7"), "{refused}");
    assert!(refused.to_string().contains("lanekeeper adopt apps/test"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_refused_before_anything_runs() {
    let redis = TestRedis::start().await.expect("redis starts");
    let dir = tempfile::tempdir().expect("a directory");
    let bad = options(&redis, &dir, &yaml("", "").replace("lanes: [{name: fast}]", "lanes: [{name: slow}]"));
    let refused = local::start(bad, CancellationToken::new()).await.err().expect("it is refused");
    assert!(matches!(refused, LocalError::Manifests(_)), "{refused}");
    assert!(refused.to_string().contains("test.yaml"), "{refused}");
    let mut nowhere = options(&redis, &dir, &yaml("", ""));
    nowhere.redis.url = "redis://user:secret@127.0.0.1:1".into();
    let refused = local::start(nowhere, CancellationToken::new()).await.err().expect("it is refused");
    assert!(matches!(refused, LocalError::Redis { .. }), "{refused}");
    assert!(!refused.to_string().contains("secret"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_word_hands_jobs_back_at_once_and_leaves_no_handler() {
    let world = World::start(&yaml("", "")).await;
    world.enqueue("sleep", 2).await;
    world.until("they run", |s| pool(s).busy == 2).await;
    let draining = tokio::spawn({
        let local = world.local.clone();
        async move { local.drain().await }
    });
    world.until("it drains", |s| s.phase == LocalPhase::Draining).await;
    let start = Instant::now();
    world.local.kill();
    tokio::time::timeout(DEADLINE, draining).await.expect("it ends").expect("without a panic");
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    let stats = world.queue.stats().await.expect("read");
    let sleep = stats.lanes[0].types.iter().find(|t| t.name == "sleep").expect("there");
    assert_eq!((sleep.ready, sleep.running, sleep.dead), (2, 0, 0), "handed back, not lost");
    world.end().await;
}
