//! A private Redis that a test may kill and restart.

use std::io;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rand::Rng;
use tempfile::TempDir;

use crate::client::{Queue, install_library};
use crate::connection::RedisOptions;
use crate::name::QueueName;

/// How often a server is started that ends at once: what another one forked may hold the port for a moment after a kill.
const TRIES: u32 = 3;

/// Longest wait for a server to answer.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// A `redis-server` of one test: append-only file synced every second, data in a folder of its own, loopback only. Killed
/// and removed on drop.
pub struct TestRedis {
    folder: TempDir,
    port: u16,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl TestRedis {
    /// Starts a server.
    ///
    /// # Errors
    /// When `redis-server` is not installed or does not answer.
    pub async fn start() -> io::Result<Self> {
        Self::start_with(&[]).await
    }

    /// Starts a server with more arguments, such as `["--maxmemory", "20mb"]`; later ones win.
    ///
    /// # Errors
    /// As `start`.
    pub async fn start_with(arguments: &[&str]) -> io::Result<Self> {
        let mut server = Self {
            folder: tempfile::Builder::new().prefix("lanekeeper-redis-").tempdir()?,
            port: free_port()?,
            arguments: arguments.iter().map(ToString::to_string).collect(),
            child: None,
        };
        server.restart().await?;
        Ok(server)
    }

    /// `redis://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The port, the same over restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder with its data.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Options to connect.
    #[must_use]
    pub fn options(&self) -> RedisOptions {
        RedisOptions::new(self.url())
    }

    /// A queue on this server, with the function library loaded and no policy yet.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn queue(&self, name: &str) -> crate::client::Result<Queue> {
        let name: QueueName = name.parse().map_err(crate::client::Error::Refused)?;
        let queue = Queue::connect(&self.options(), name).await?;
        install_library(&mut queue.connection()).await?;
        // A library with a fault put in on purpose, for scripts/lua-mutants.py.
        if let Ok(file) = std::env::var("LANEKEEPER_LIBRARY_FILE") {
            let source =
                std::fs::read_to_string(file).map_err(|e| crate::client::Error::Refused(e.to_string()))?;
            super::clock::load(&mut queue.connection(), &source).await?;
        }
        Ok(queue)
    }

    /// Waits until everything that was answered is in the file's pages. With `everysec` Redis holds writes back for up to two
    /// seconds while an earlier sync is slow; a kill in that time loses what it had answered.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn written(&self) -> crate::client::Result<()> {
        let mut conn = self.options().client()?.get_multiplexed_async_connection().await?;
        loop {
            let info: String = redis::cmd("INFO").arg("persistence").query_async(&mut conn).await?;
            if info.contains("aof_buffer_length:0") {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// `kill -9`: what was not written to the file by then is lost, as in a crash of the process.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Either may fail only when the process is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops the server in good order: it writes everything first.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn stop(&mut self) -> crate::client::Result<()> {
        let mut conn = self.options().client()?.get_multiplexed_async_connection().await?;
        // The server closes the connection instead of answering.
        let _: redis::RedisResult<()> = redis::cmd("SHUTDOWN").arg("SAVE").query_async(&mut conn).await;
        if let Some(mut child) = self.child.take() {
            let waited = tokio::task::spawn_blocking(move || child.wait()).await;
            tracing::debug!(?waited, "redis-server stopped");
        }
        Ok(())
    }

    /// Starts the server again, on the same port and data, after `kill` or `stop` (or kills it first).
    ///
    /// # Errors
    /// When it does not answer in time.
    pub async fn restart(&mut self) -> io::Result<()> {
        for _ in 1..TRIES {
            if self.start_again().await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.start_again().await
    }

    async fn start_again(&mut self) -> io::Result<()> {
        self.kill();
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "everysec", "--dir"])
            .arg(self.folder.path())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.child = Some(command.spawn()?);
        tokio::time::timeout(START_DEADLINE, self.answers())
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "redis-server does not answer"))?
    }

    /// Waits until the server answers PING with PONG (while it loads its data it does not).
    async fn answers(&mut self) -> io::Result<()> {
        let client = self.options().client().map_err(io::Error::other)?;
        loop {
            if let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
                return Err(io::Error::other(format!("redis-server ended at once: {status}")));
            }
            if let Ok(mut conn) = client.get_multiplexed_async_connection().await {
                let pong: redis::RedisResult<String> = redis::cmd("PING").query_async(&mut conn).await;
                if pong.is_ok() {
                    return Ok(());
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that was free a moment ago. `redis-server` cannot choose one itself. Below those that systems give to outgoing
/// connections: another test's must not take it while the server is down.
fn free_port() -> io::Result<u16> {
    loop {
        let port = rand::rng().random_range(10_000..32_000);
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
}
