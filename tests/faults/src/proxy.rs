//! A network that fails on demand: a TCP proxy on loopback between clients and Redis.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What the network does to replies.
#[derive(Debug, Clone, Default)]
pub struct Weather {
    /// The reply to a call of this function never arrives, and its connection is gone.
    pub cut: Option<&'static str>,
    /// How much later a reply arrives.
    pub delay: Duration,
    /// Of a thousand replies, how many end their connection instead.
    pub resets: u32,
}

#[derive(Default)]
struct Shared {
    weather: Mutex<Weather>,
    cuts: AtomicU64,
    replies: AtomicU64,
}

impl Shared {
    fn weather(&self) -> Weather {
        self.weather.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The running proxy.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

impl Proxy {
    /// Starts one to the server on `port`, in fair weather.
    pub async fn start(port: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (shared, stop) = (Arc::new(Shared::default()), CancellationToken::new());
        let (state, stopped) = (shared.clone(), stop.clone());
        tokio::spawn(async move {
            loop {
                let client = tokio::select! {
                    accepted = listener.accept() => match accepted {
                        Ok((client, _)) => client,
                        Err(_) => return,
                    },
                    () = stopped.cancelled() => return,
                };
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
                carry(client, server, state.clone(), stopped.child_token());
            }
        });
        Ok(Self { address, shared, stop })
    }

    /// How clients reach it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Changes the weather, for connections that are open too.
    pub fn set(&self, weather: Weather) {
        *self.shared.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// Connections ended so far, and replies carried.
    pub fn cuts(&self) -> (u64, u64) {
        (self.shared.cuts.load(Ordering::Relaxed), self.shared.replies.load(Ordering::Relaxed))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Carries both directions until either ends, or the weather does it.
fn carry(client: TcpStream, server: TcpStream, shared: Arc<Shared>, end: CancellationToken) {
    // Both ends are sockets of this machine: what cannot be set would only make the run slower.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let doomed = Arc::new(AtomicBool::new(false));
    let (asks, answers) = (end.clone(), end.clone());
    tokio::spawn(requests(from_client, to_server, shared.clone(), doomed.clone(), asks));
    tokio::spawn(replies(from_server, to_client, shared, doomed, answers));
}

/// The next bytes; none at the end of the stream or of the proxy, which is told to the other direction.
async fn some<'a>(
    from: &mut OwnedReadHalf,
    bytes: &'a mut [u8],
    end: &CancellationToken,
) -> Option<&'a [u8]> {
    let read = tokio::select! { read = from.read(bytes) => read, () = end.cancelled() => return None };
    match read {
        Ok(count) if count > 0 => Some(&bytes[..count]),
        _ => {
            end.cancel();
            None
        }
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: Arc<Shared>,
    doomed: Arc<AtomicBool>,
    end: CancellationToken,
) {
    let mut bytes = vec![0; 64 * 1024];
    while let Some(part) = some(&mut from, &mut bytes, &end).await {
        if shared.weather().cut.is_some_and(|call| holds(part, call.as_bytes())) {
            doomed.store(true, Ordering::Release);
        }
        if to.write_all(part).await.is_err() {
            return end.cancel();
        }
    }
}

async fn replies(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: Arc<Shared>,
    doomed: Arc<AtomicBool>,
    end: CancellationToken,
) {
    let (line, mut due) = tokio::sync::mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let over = end.clone();
    tokio::spawn(async move {
        while let Some((at, bytes)) = due.recv().await {
            tokio::time::sleep_until(at).await;
            if over.is_cancelled() || to.write_all(&bytes).await.is_err() {
                return over.cancel();
            }
        }
    });
    let mut bytes = vec![0; 64 * 1024];
    while let Some(part) = some(&mut from, &mut bytes, &end).await {
        let weather = shared.weather();
        shared.replies.fetch_add(1, Ordering::Relaxed);
        let struck = weather.resets > 0 && rand::random_range(0..1000) < weather.resets;
        if doomed.load(Ordering::Acquire) || struck {
            shared.cuts.fetch_add(1, Ordering::Relaxed);
            return end.cancel();
        }
        if line.send((Instant::now() + weather.delay, part.to_vec())).is_err() {
            return end.cancel();
        }
    }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use lanekeeper_queue::testing::TestRedis;
    use lanekeeper_queue::{Queue, RedisOptions};

    use super::*;
    use crate::stage::work;

    #[tokio::test]
    async fn a_cut_reply_is_lost_though_its_call_happened() {
        let redis = TestRedis::start().await.unwrap();
        let queue = redis.queue("faults/main").await.unwrap();
        queue.configure(&crate::policy::policy("127.0.0.1:1".parse().unwrap()), false).await.unwrap();
        let proxy = Proxy::start(redis.port()).await.unwrap();
        let far = Queue::connect(&RedisOptions::new(proxy.url()), queue.name().clone()).await.unwrap();
        far.stats().await.unwrap();
        proxy.set(Weather { cut: Some("lk_enqueue"), ..Weather::default() });
        far.enqueue(&[work("a".into(), 0, 0)]).await.unwrap_err();
        assert_eq!(proxy.cuts().0, 1);
        assert!(queue.get(&["a".to_owned()], false).await.unwrap()[0].is_some());
    }
}
