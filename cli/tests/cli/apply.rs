//! `apply` and `adopt`.

use lanekeeper_queue::testing::TestRedis;

use crate::support::{QUEUE, World, run};

#[tokio::test]
async fn a_policy_is_created_left_alone_and_changed() {
    let world = World::empty().await;
    world.write("queue.yaml", QUEUE);
    world.run(&["apply", "-f", "queue.yaml", "--dry-run"]).exits(0).prints(&["apps/saas created", "dry run"]);
    assert!(world.queue.policy().await.unwrap().is_none(), "a dry run writes nothing");
    world.run(&["apply", "-f", "queue.yaml"]).exits(0).prints(&["queue apps/saas created (policy version"]);
    world.run(&["apply", "-f", "queue.yaml"]).exits(0).prints(&["unchanged"]);
    world.write("queue.yaml", &QUEUE.replace("startWithin: 5s", "startWithin: 9s"));
    let changed = world.run(&["apply", "-f", "queue.yaml"]).exits(0);
    changed.prints(&["apps/saas changed (policy version", "~ lanes.fast.startWithinMs: 5s → 9s"]);
    let json = world.run(&["apply", "-f", "queue.yaml", "-o", "json"]).exits(0).json();
    assert_eq!(json[0]["outcome"], "unchanged");
}

#[tokio::test]
async fn one_invalid_document_stops_all_of_them_and_every_problem_is_told() {
    let world = World::empty().await;
    let broken = QUEUE
        .replace("lane: slow", "lane: slwo")
        .replace("startWithin: 1h", "startWithin: 1x")
        .replace("saas", "other");
    world.write("queue.yaml", &format!("{QUEUE}---{broken}"));
    let ran = world.run(&["apply", "-f", "queue.yaml"]).exits(2);
    ran.says(&["queue.yaml:", "spec.lanes[1].startWithin", "1x", "nothing was changed"]);
    assert!(world.queue.policy().await.unwrap().is_none());
    let unknown = QUEUE.replace("lane: slow", "lane: slwo");
    world.write("queue.yaml", &unknown);
    world.run(&["apply", "-f", "queue.yaml"]).exits(2).says(&["spec.jobTypes[1].lane", "slwo", "slow"]);
    world.write("queue.yaml", &QUEUE.replace("startWithin: 5s", "startsWithin: 5s"));
    world.run(&["apply", "-f", "queue.yaml"]).exits(2).says(&["startsWithin", "queue.yaml:8"]);
    world.write("queue.yaml", "lanes: [");
    world.run(&["apply", "-f", "queue.yaml"]).exits(2).says(&["queue.yaml"]);
    world.run(&["apply", "-f", "nowhere.yaml"]).exits(2).says(&["nowhere.yaml"]);
}

#[tokio::test]
async fn a_redis_that_forgets_or_evicts_is_refused() {
    let redis =
        TestRedis::start_with(&["--appendonly", "no", "--maxmemory-policy", "allkeys-lru"]).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("queue.yaml"), QUEUE).unwrap();
    let apply = ["apply", "-f", "queue.yaml", "--redis", &redis.url()];
    run(dir.path(), &apply).exits(1).says(&["may lose jobs", "allkeys-lru", "allowUnsafe"]);
    std::fs::write(
        dir.path().join("queue.yaml"),
        QUEUE.replace("spec:", "spec:\n  redis: {allowUnsafe: true}"),
    )
    .unwrap();
    run(dir.path(), &apply).exits(0).says(&["warning", "may lose jobs"]);
}

#[tokio::test]
async fn a_queue_that_someone_else_manages_must_be_adopted() {
    let world = World::new().await;
    let (mut policy, _) = world.queue.policy().await.unwrap().unwrap();
    policy.source.owner = "kubernetes:1234".into();
    policy.source.generation = 7;
    world.queue.configure(&policy, true).await.unwrap();
    world.write("queue.yaml", &QUEUE.replace("startWithin: 5s", "startWithin: 9s"));
    let refused = world.run(&["apply", "-f", "queue.yaml"]).exits(1);
    refused.says(&["managed by kubernetes:1234", "nothing was changed", "lanekeeper adopt apps/saas"]);
    world.run(&["adopt", "apps/saas"]).exits(2).says(&["--yes"]);
    world.run(&["adopt", "apps/saas", "--yes"]).exits(0).prints(&["adopted from kubernetes:1234"]);
    world.run(&["apply", "-f", "queue.yaml"]).exits(0).prints(&["changed"]);
    world.run(&["adopt", "apps/none", "--yes"]).exits(4);
}

#[tokio::test]
async fn what_is_wrong_with_a_redis_is_told_apart() {
    let redis = TestRedis::start().await.unwrap();
    let mut conn = redis.options().connect().await.unwrap();
    let set = redis::cmd("CONFIG").arg(&["SET", "requirepass", "right"]).exec_async(&mut conn).await;
    set.unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("queue.yaml"), QUEUE).unwrap();
    let address = format!("127.0.0.1:{}", redis.port());
    let wrong = format!("redis://:wrong@{address}");
    for command in ["apply", "up"] {
        let ran = run(dir.path(), &[command, "-f", "queue.yaml", "--redis", &wrong]).exits(3);
        assert!(!ran.stderr.contains("check that Redis runs"), "{}", ran.stderr);
        ran.says(&[&format!("@{address}"), "refuses the credentials", "user and password"]);
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // The client may have gone.
            let _ = std::io::Read::read(&mut stream, &mut [0; 512]);
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    let url = format!("redis://127.0.0.1:{port}");
    for command in ["apply", "up"] {
        let ran = run(dir.path(), &[command, "-f", "queue.yaml", "--redis", &url]).exits(3);
        assert!(!ran.stderr.contains("Parse error"), "{}", ran.stderr);
        ran.says(&["does not speak the Redis protocol", "check host and port"]);
    }
}

#[tokio::test]
async fn a_damaged_policy_and_a_newer_library_are_told_and_do_not_stop_apply() {
    let world = World::new().await;
    let newer = lanekeeper_queue::library_source().replacen(
        &format!("LIBRARY_FINGERPRINT = {}, '", lanekeeper_queue::LIBRARY_VERSION),
        "LIBRARY_FINGERPRINT = 99, '",
        1,
    );
    let policy = format!("{}:p", world.queue.name().root());
    let mut conn = world.queue.connection();
    redis::cmd("SET").arg(&policy).arg("junk").exec_async(&mut conn).await.unwrap();
    world.write("queue.yaml", QUEUE);
    let apply = || world.run(&["apply", "-f", "queue.yaml"]);
    apply().exits(0).prints(&["changed"]).says(&["cannot be read", "replaced"]);
    redis::cmd("FUNCTION").arg(&["LOAD", "REPLACE", &newer]).exec_async(&mut conn).await.unwrap();
    apply().exits(0).prints(&["unchanged"]).says(&["version 99", "Update this program"]);
}
