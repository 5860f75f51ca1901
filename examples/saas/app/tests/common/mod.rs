//! A running application, and the few lines of HTTP that talk to it.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a helper that fails must fail the test")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use saas_app::app::{App, Effects, Part, Settings};
use saas_app::clock;
use saas_app::faults::Faults;
use saas_app::serve::serve;
use saas_app::signature::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const SECRET: &str = "whsec_dGVzdHMga25vdyB0aGlzIHNlY3JldA==";

/// The application on a port of its own, over a folder of its own.
pub(crate) struct Site {
    pub(crate) app: App,
    pub(crate) stop: CancellationToken,
    address: SocketAddr,
    secret: Secret,
    settings: Settings,
    served: tokio::task::JoinHandle<()>,
    folder: tempfile::TempDir,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    headers: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)))
            .map(|(_, v)| v)
    }
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::with(&Part::ALL, 0.0, 0, 5).await
    }

    pub(crate) async fn start_failing(share: f64) -> Self {
        Self::with(&Part::ALL, share, 0, 5).await
    }

    pub(crate) async fn start_slow(slowest_ms: u64) -> Self {
        Self::with(&Part::ALL, 0.0, slowest_ms, 5).await
    }

    pub(crate) async fn start_parts(parts: &[Part]) -> Self {
        Self::with(parts, 0.0, 0, 5).await
    }

    pub(crate) async fn start_patient() -> Self {
        Self::with(&Part::ALL, 0.0, 0, 0).await
    }

    async fn with(parts: &[Part], share: f64, slowest_ms: u64, customer_rate: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            data: folder.path().join("data"),
            faults: Faults { seed: 1, share },
            webhook_secret: Some(Secret::parse(SECRET).unwrap()),
            slowest_ms,
            customer_rate,
        };
        Self::open(folder, settings, parts).await
    }

    async fn open(folder: tempfile::TempDir, settings: Settings, parts: &[Part]) -> Self {
        let app = App::open(settings.clone()).unwrap();
        let stop = CancellationToken::new();
        let port_file = folder.path().join("port");
        let _ = std::fs::remove_file(&port_file);
        let (shared, token, told, parts) = (app.clone(), stop.clone(), port_file.clone(), parts.to_vec());
        let served = tokio::spawn(async move {
            serve(shared, &parts, "127.0.0.1:0".parse().unwrap(), Some(&told), token).await.unwrap();
        });
        let deadline = Instant::now() + Duration::from_secs(20);
        let port: u16 = loop {
            if let Some(port) = std::fs::read_to_string(&port_file).ok().and_then(|text| text.parse().ok()) {
                break port;
            }
            assert!(Instant::now() < deadline, "the application did not start");
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Self { app, stop, address, secret: Secret::parse(SECRET).unwrap(), settings, served, folder }
    }

    /// Stops it and starts it anew over the same folder.
    pub(crate) async fn restart(self) -> Self {
        self.stop.cancel();
        self.served.await.unwrap();
        Self::open(self.folder, self.settings, &Part::ALL).await
    }

    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.send("POST", path, headers, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    pub(crate) async fn effects(&self) -> Effects {
        serde_json::from_str(&self.get("/effects").await.body).unwrap()
    }

    /// The headers of a signed message, as a worker sends them.
    pub(crate) fn signed(&self, id: &str, body: &str) -> Vec<(&'static str, String)> {
        let timestamp = clock::now_ms() / 1000;
        let signature = self.secret.sign(id, timestamp, body.as_bytes());
        vec![
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-signature", signature),
        ]
    }

    /// Delivers one signed webhook.
    pub(crate) async fn hook(&self, event: &str, customer: &str) -> Answer {
        let body = format!(r#"{{"eventId":"{event}","customerId":"{customer}","type":"invoice.paid"}}"#);
        self.post("/customer", &pairs(&self.signed(event, &body)), &body).await
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += "\r\n";
        request += body;
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, body: body.to_owned(), headers: head.to_owned() }
    }
}

pub(crate) fn pairs<'a>(headers: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    headers.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// Runs futures at the same time on this task.
pub(crate) async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut pinned: Vec<_> = futures.into_iter().map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(|cx| {
        for (future, output) in &mut pinned {
            if output.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *output = Some(value);
            }
        }
        if pinned.iter().all(|(_, output)| output.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    pinned.into_iter().map(|(_, output)| output.unwrap()).collect()
}
