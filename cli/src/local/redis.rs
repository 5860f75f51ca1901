//! The private Redis of the local mode: loopback only, an append-only file in the state directory, no eviction.
//!
//! It runs in a process group of its own, so that Ctrl-C reaches `up` alone and workers can still settle while
//! they drain. One that a killed `up` left behind is recognised by its data directory and picked up.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::failure::{Failure, Result};

/// Long enough to load a large append-only file; a server that ends is noticed at once.
const START_DEADLINE: Duration = Duration::from_secs(120);
const STOP_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(25);

/// A Redis of our own.
#[derive(Debug)]
pub(crate) struct PrivateRedis {
    dir: PathBuf,
    port: u16,
    /// Absent when a server left behind was picked up.
    child: Option<Child>,
}

impl PrivateRedis {
    /// Picks up the server left behind in `dir`, or starts one there.
    pub(crate) async fn start(dir: &Path, wanted_port: Option<u16>) -> Result<Self> {
        let remembered =
            std::fs::read_to_string(dir.join("port")).ok().and_then(|text| text.trim().parse().ok());
        if let Some(port) = remembered
            && is_ours(port, dir).await
        {
            // Two servers on one append-only file would ruin it: this one is used or stopped, never passed over.
            let mut left = Self { dir: dir.to_owned(), port, child: None };
            left.wait_until_serving().await?;
            if wanted_port.is_none_or(|wanted| wanted == port) {
                return Ok(left);
            }
            left.stop().await?;
        }
        let port = match wanted_port {
            Some(port) => port,
            None => free_port(remembered)?,
        };
        // Before it starts, so that it is found again even if we are killed at once.
        std::fs::write(dir.join("port"), port.to_string()).map_err(|error| {
            Failure::failed(format!("cannot write {}: {error}", dir.join("port").display()))
        })?;
        let mut private = Self { dir: dir.to_owned(), port, child: Some(spawn(dir, port)?) };
        private.wait_until_serving().await?;
        Ok(private)
    }

    /// Starts it again if it has ended; true when it had.
    pub(crate) async fn revive(&mut self) -> Result<bool> {
        let ended = match &mut self.child {
            Some(child) => child.try_wait().is_ok_and(|status| status.is_some()),
            None => connect(self.port).await.is_err(),
        };
        if ended {
            self.child = Some(spawn(&self.dir, self.port)?);
            self.wait_until_serving().await?;
        }
        Ok(ended)
    }

    async fn wait_until_serving(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            // Whoever took the port in between answers, too, but keeps its data elsewhere.
            if answers(self.port).await && is_ours(self.port, &self.dir).await {
                return Ok(());
            }
            let ended = match &mut self.child {
                Some(child) => child.try_wait(),
                None => Ok(None),
            };
            let ended =
                ended.map_err(|error| Failure::failed(format!("cannot watch redis-server: {error}")))?;
            if let Some(status) = ended {
                return Err(self.did_not_start(&format!("ended with {status}")));
            }
            if Instant::now() > deadline {
                if let Some(child) = &mut self.child {
                    // It must not outlive the command that could not use it.
                    let _ = child.kill().await;
                }
                let what = format!("did not answer within {}s", START_DEADLINE.as_secs());
                return Err(self.did_not_start(&what));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn did_not_start(&self, what: &str) -> Failure {
        let log = self.dir.join("redis.log");
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let last: Vec<String> = text.lines().rev().take(5).map(str::to_owned).collect();
        Failure::failed(format!("redis-server {what} (port {}, data in {})", self.port, self.dir.display()))
            .details(last.into_iter().rev())
            .advice(format!("see {}; --port names another port", log.display()))
    }

    /// Whether it was already running.
    pub(crate) fn picked_up(&self) -> bool {
        self.child.is_none()
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        url(self.port)
    }

    /// Writes everything to disk and ends it.
    pub(crate) async fn stop(mut self) -> Result<()> {
        if let Ok(mut conn) = connect(self.port).await {
            // The reply to SHUTDOWN is the closed connection.
            let _: std::result::Result<(), _> = ::redis::cmd("SHUTDOWN").query_async(&mut conn).await;
        }
        let deadline = Instant::now() + STOP_DEADLINE;
        while Instant::now() < deadline {
            let gone = match &mut self.child {
                Some(child) => child.try_wait().is_ok_and(|status| status.is_some()),
                None => connect(self.port).await.is_err(),
            };
            if gone {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
        if let Some(child) = &mut self.child {
            // With an append-only file at most the last second is at stake.
            let _ = child.kill().await;
        }
        Err(Failure::failed(format!(
            "the private Redis on port {} did not stop in {}s",
            self.port,
            STOP_DEADLINE.as_secs()
        )))
    }
}

fn url(port: u16) -> String {
    format!("redis://127.0.0.1:{port}")
}

async fn connect(port: u16) -> ::redis::RedisResult<MultiplexedConnection> {
    let config = ::redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(2)))
        .set_response_timeout(Some(Duration::from_secs(5)));
    ::redis::Client::open(url(port))?.get_multiplexed_async_connection_with_config(&config).await
}

async fn answers(port: u16) -> bool {
    let Ok(mut conn) = connect(port).await else { return false };
    let pong: ::redis::RedisResult<String> = ::redis::cmd("PING").query_async(&mut conn).await;
    pong.is_ok()
}

/// Whether the server on `port` keeps its data in `dir`; it says so even while it loads them.
async fn is_ours(port: u16, dir: &Path) -> bool {
    let Ok(mut conn) = connect(port).await else { return false };
    let config: ::redis::RedisResult<(String, String)> =
        ::redis::cmd("CONFIG").arg("GET").arg("dir").query_async(&mut conn).await;
    config.is_ok_and(|(_, theirs)| Path::new(&theirs) == dir)
}

/// The port used before, if it is free; else any.
fn free_port(remembered: Option<u16>) -> Result<u16> {
    let bound = remembered
        .and_then(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok())
        .map_or_else(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)), Ok)
        .and_then(|listener| listener.local_addr());
    bound
        .map(|at| at.port())
        .map_err(|error| Failure::failed(format!("no free port on the loopback interface: {error}")))
}

fn spawn(dir: &Path, port: u16) -> Result<Child> {
    let log = dir.join("redis.log");
    let settings: [(&str, &str); 9] = [
        ("--bind", "127.0.0.1"),
        ("--port", &port.to_string()),
        ("--dir", &dir.to_string_lossy()),
        ("--appendonly", "yes"),
        ("--appendfsync", "everysec"),
        ("--maxmemory-policy", "noeviction"),
        ("--save", ""),
        ("--daemonize", "no"),
        ("--logfile", &log.to_string_lossy()),
    ];
    let mut command = Command::new("redis-server");
    for (name, value) in settings {
        command.arg(name).arg(value);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::invalid("redis-server is not installed (not found in PATH)").advice(
            "install Redis 7.0 or later (Debian and Ubuntu: apt install redis-server; macOS: brew install redis), \
             or name a running one with --redis",
        ),
        _ => Failure::failed(format!("cannot start redis-server: {error}")),
    })
}
