//! Jobs that are handed to a worker by the call that enqueues them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lanekeeper_queue::types::JobState;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{Bed, Engine, Settings, does, done, eventually, policy};

/// In the payloads of jobs whose messages are lost.
const MARK: &[u8] = b"this message is lost";

/// A way to Redis on which one message that contains [`MARK`] does not arrive; nor does what comes after it, and the connection
/// is closed unless this is to happen `quietly`.
async fn lossy(port: u16, quietly: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let lost = Arc::new(AtomicUsize::new(0));
    let losing = Arc::clone(&lost);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            tokio::spawn(pass(client, server, quietly, Arc::clone(&losing)));
        }
    });
    (address, lost)
}

async fn pass(mut client: TcpStream, mut server: TcpStream, quietly: bool, lost: Arc<AtomicUsize>) {
    let (mut request, mut reply) = (vec![0; 65_536], vec![0; 65_536]);
    let mut deaf = false;
    loop {
        tokio::select! {
            read = client.read(&mut request) => {
                let Ok(n @ 1..) = read else { return };
                server.write_all(&request[..n]).await.unwrap();
            }
            read = server.read(&mut reply) => {
                let Ok(n @ 1..) = read else { return };
                let marked = reply[..n].windows(MARK.len()).any(|window| window == MARK);
                if marked && lost.fetch_add(1, Ordering::SeqCst) == 0 {
                    if !quietly {
                        return;
                    }
                    deaf = true;
                }
                if !deaf && client.write_all(&reply[..n]).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn claims(engine: &Engine) -> u64 {
    let text = engine.probe("/metrics").await.1;
    let name = "lanekeeper_worker_claim_duration_seconds_count ";
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
}

/// Waits until jobs are handed to this worker; they are no more than a few.
async fn is_handed_jobs(bed: &Bed, engine: &Engine) {
    eventually("jobs are handed over", async || {
        let before = claims(engine).await;
        let ids = bed.enqueue("mail", &[b""]).await;
        let job = bed.becomes(&ids[0], JobState::Succeeded).await;
        claims(engine).await == before && job.history[0].started_ms == job.enqueued_ms
    })
    .await;
}

#[tokio::test]
async fn an_idle_worker_is_handed_jobs_without_a_claim() {
    let bed = Bed::new(&policy()).await;
    let engine = bed.engine(Settings::default(), does(|_| async { done() }));
    is_handed_jobs(&bed, &engine).await;
    // Room that was used up is offered anew once it is free again.
    for _ in 0..5 {
        let ids = bed.enqueue("mail", &[b"".as_slice(); 5]).await;
        for id in ids {
            bed.becomes(&id, JobState::Succeeded).await;
        }
    }
    is_handed_jobs(&bed, &engine).await;
    engine.stop().await.unwrap();
    let ids = bed.enqueue("mail", &[b""]).await;
    assert_eq!(bed.job(&ids[0]).await.state, JobState::Ready, "its offer ended with it");
}

/// A message is lost: its job is handed back, and whoever has it next loses no try for that.
async fn survives_a_lost_message(quietly: bool) {
    let mut policy = policy();
    policy.lease_ms = 30_000;
    let bed = Bed::new(&policy).await;
    let (address, lost) = lossy(bed.redis.port(), quietly).await;
    let effects = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&effects);
    let settings = Settings { redis: Some(format!("redis://{address}")), ..Settings::default() };
    let engine = bed.engine(
        settings,
        does(move |_| {
            seen.fetch_add(1, Ordering::SeqCst);
            async { done() }
        }),
    );
    is_handed_jobs(&bed, &engine).await;
    let before = effects.load(Ordering::SeqCst);
    let began = Instant::now();
    let ids = bed.enqueue("mail", &[MARK]).await;
    let job = bed.becomes(&ids[0], JobState::Succeeded).await;
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "the lease did not have to run out: {:?}",
        began.elapsed()
    );
    assert_eq!((job.tries, job.crashes, effects.load(Ordering::SeqCst)), (0, 0, before + 1), "{job:?}");
    assert!(lost.load(Ordering::SeqCst) > 0, "a message was lost");
    // Messages arrive again.
    is_handed_jobs(&bed, &engine).await;
    engine.stop().await.unwrap();
}

#[tokio::test]
async fn a_message_that_is_lost_with_its_connection_costs_nothing() {
    survives_a_lost_message(false).await;
}

#[tokio::test]
async fn a_connection_on_which_messages_stay_away_is_made_anew() {
    survives_a_lost_message(true).await;
}

#[tokio::test]
async fn a_worker_that_leaves_while_jobs_come_hands_back_what_it_was_handed() {
    let bed = Bed::new(&policy()).await;
    let mut engine = bed.engine(Settings::default(), does(|_| async { done() }));
    let mut ids = Vec::new();
    for _ in 0..20 {
        is_handed_jobs(&bed, &engine).await;
        let enqueuing = async {
            let mut ids = Vec::new();
            for _ in 0..60 {
                ids.extend(bed.enqueue("mail", &[b""]).await);
            }
            ids
        };
        let leaving = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            engine.stop().await.unwrap();
        };
        ids.extend(tokio::join!(enqueuing, leaving).0);
        engine = bed.engine(Settings::default(), does(|_| async { done() }));
    }
    for id in ids {
        let job = bed.becomes(&id, JobState::Succeeded).await;
        assert_eq!((job.crashes, job.tries), (0, 0), "{job:?}");
    }
    engine.stop().await.unwrap();
}
