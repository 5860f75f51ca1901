//! Connections that come back, whatever they failed of.

use std::time::Duration;

use super::common::*;
use lanekeeper_queue::{Queue, RedisOptions, worker_acl};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

/// Calls until a call succeeds.
async fn comes_back(queue: &Queue, within: Duration) {
    let deadline = Instant::now() + within;
    while let Err(error) = queue.stats().await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn set_user(bed: &Bed) {
    let mut cmd = redis::cmd("ACL");
    cmd.arg("SETUSER").arg(worker_acl(bed.queue.name(), "lk-worker", "p@ss"));
    let mut conn = bed.redis.options().connect().await.unwrap();
    let _: redis::Value = cmd.query_async(&mut conn).await.unwrap();
}

#[tokio::test]
async fn a_queue_comes_back_when_its_user_does() {
    let mut bed = Bed::new().await;
    set_user(&bed).await;
    let options = RedisOptions::new(bed.redis.url().replace("redis://", "redis://lk-worker:p%40ss@"));
    let queue = Queue::connect(&options, bed.queue.name().clone()).await.unwrap();
    let clone = queue.with_name(bed.queue.name().clone());
    queue.stats().await.unwrap();
    // ACL users live in the memory of the server.
    bed.redis.written().await.unwrap();
    bed.redis.restart().await.unwrap();
    let refused = Instant::now() + Duration::from_secs(2);
    while Instant::now() < refused {
        assert!(queue.stats().await.is_err());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    set_user(&bed).await;
    comes_back(&queue, Duration::from_secs(5)).await;
    clone.stats().await.unwrap();
    let _: redis::Value =
        redis::cmd("PING").query_async(&mut clone.connection()).await.expect("for other crates as well");
}

#[tokio::test]
async fn a_queue_leaves_a_primary_that_became_a_replica() {
    let bed = Bed::new().await;
    bed.accept(job("mail", "x")).await;
    // A new connection reaches the new primary: told by the number of connections that the demoted one was asked for.
    let received = || async {
        let info: String = bed.raw(&["INFO", "stats"]).await.unwrap();
        let line =
            info.lines().find(|line| line.starts_with("total_connections_received")).unwrap().to_owned();
        line.split_once(':').unwrap().1.trim().parse::<u64>().unwrap()
    };
    bed.poke(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let before = received().await;
    assert!(bed.queue.enqueue(&[job("mail", "y")]).await.is_err());
    assert!(received().await > before, "a new connection was made");
}

/// Forwards connections to a port until told to freeze those that are open: they stay open and answer nothing.
async fn proxy(port: u16) -> (u16, watch::Sender<u32>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let own = listener.local_addr().unwrap().port();
    let (freeze, frozen) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut frozen = frozen.clone();
            frozen.mark_unchanged();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let forwarded = tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => true,
                    _ = frozen.changed() => false,
                };
                if !forwarded {
                    let (mut from_client, _held) = client.split();
                    tokio::io::copy(&mut from_client, &mut tokio::io::sink()).await.ok();
                }
            });
        }
    });
    (own, freeze)
}

#[tokio::test]
async fn a_queue_leaves_a_connection_that_answers_nothing() {
    let bed = Bed::new().await;
    let (port, freeze) = proxy(bed.redis.port()).await;
    let options = RedisOptions::new(format!("redis://127.0.0.1:{port}"));
    let queue = Queue::connect(&options, bed.queue.name().clone()).await.unwrap();
    queue.stats().await.unwrap();
    freeze.send_modify(|times| *times += 1);
    assert!(queue.stats().await.is_err(), "nothing answers");
    comes_back(&queue, Duration::from_secs(2)).await;
}
