//! Replies of Redis that never arrive: what the call did stands, and nothing is done twice or counted against a job.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::{Bed, Settings, does, done, eventually, policy};
use lanekeeper_queue::types::JobState;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A way to Redis that loses replies on request.
struct Lossy {
    address: SocketAddr,
    to_lose: Arc<AtomicUsize>,
}

impl Lossy {
    /// Loses replies to requests that contain `needle`.
    async fn new(port: u16, needle: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let to_lose = Arc::new(AtomicUsize::new(0));
        let losing = Arc::clone(&to_lose);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tokio::spawn(pass(client, server, needle, Arc::clone(&losing)));
            }
        });
        Self { address, to_lose }
    }

    fn url(&self) -> Option<String> {
        Some(format!("redis://{}", self.address))
    }

    async fn lose(&self, count: usize) {
        self.to_lose.store(count, Ordering::SeqCst);
        eventually("the replies are lost", async || self.to_lose.load(Ordering::SeqCst) == 0).await;
    }
}

/// Passes bytes both ways until a reply is to be lost; then the connection breaks once Redis has answered.
async fn pass(mut client: TcpStream, mut server: TcpStream, needle: &[u8], to_lose: Arc<AtomicUsize>) {
    let (mut request, mut reply) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut request) => {
                let Ok(n @ 1..) = read else { return };
                let lost = request[..n].windows(needle.len()).any(|window| window == needle)
                    && to_lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
                server.write_all(&request[..n]).await.unwrap();
                if lost {
                    let _ = server.read(&mut reply).await;
                    return;
                }
            }
            read = server.read(&mut reply) => {
                let Ok(n @ 1..) = read else { return };
                if client.write_all(&reply[..n]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Works off jobs while replies to `function` are lost; every effect must happen once and cost nothing.
async fn works_through(function: &'static [u8]) {
    let bed = Bed::new(&policy()).await;
    let lossy = Lossy::new(bed.redis.port(), function).await;
    let effects = Arc::new(Mutex::new(HashMap::<String, u32>::new()));
    let seen = Arc::clone(&effects);
    let engine = bed.engine(
        Settings { slots: 5, redis: lossy.url(), ..Settings::default() },
        does(move |peek| {
            *seen.lock().unwrap().entry(peek.id).or_default() += 1;
            async { done() }
        }),
    );
    // Somebody else sweeps as well, and may find the leases that nobody knows of.
    let other = bed
        .engine(Settings { name: "w2", lanes: &["none"], ..Settings::default() }, does(|_| async { done() }));
    let mut ids = Vec::new();
    for _ in 0..4 {
        let payloads = [b"".as_slice(); 25];
        let (enqueued, ()) = tokio::join!(bed.enqueue("mail", &payloads), lossy.lose(1));
        ids.extend(enqueued);
    }
    for id in &ids {
        let job = bed.becomes(id, JobState::Succeeded).await;
        assert_eq!((job.tries, job.crashes), (0, 0), "{job:?}");
        assert_eq!(effects.lock().unwrap()[id], 1, "{job:?}");
        let successes = job.history.iter().filter(|attempt| attempt.outcome == "success").count();
        assert_eq!(successes, 1, "{job:?}");
    }
    other.stop().await.unwrap();
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn a_lost_reply_to_claim_and_settle_doubles_and_costs_nothing() {
    works_through(b"lk_claim").await;
}

#[tokio::test]
async fn a_lost_reply_to_a_heartbeat_costs_nothing() {
    works_through(b"lk_extend").await;
}

#[tokio::test]
async fn a_worker_that_may_not_ask_for_its_leases_still_settles() {
    let bed = Bed::new(&policy()).await;
    let lossy = Lossy::new(bed.redis.port(), b"lk_claim").await;
    let mut admin =
        redis::Client::open(bed.redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    redis::cmd("ACL").arg(&["SETUSER", "default", "-hscan"]).exec_async(&mut admin).await.unwrap();
    let engine =
        bed.engine(Settings { redis: lossy.url(), ..Settings::default() }, does(|_| async { done() }));
    let (lost, ()) = tokio::join!(bed.enqueue("mail", &[b""]), lossy.lose(1));
    let after = bed.enqueue("mail", &[b""]).await;
    bed.becomes(&after[0], JobState::Succeeded).await;
    // The sweep finds the job whose claim was never answered, if there was one.
    let job = bed.becomes(&lost[0], JobState::Succeeded).await;
    assert_eq!((job.tries, job.crashes), (0, 0), "{job:?}");
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn a_lost_wake_up_only_delays() {
    works_through(b"BLPOP").await;
}
