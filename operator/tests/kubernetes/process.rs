//! The operator's own process: probes, figures, the lease, an end in order.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use lanekeeper_api::job_queue::JobQueue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::bed::{Bed, eventually, when};
use super::manifests::QUEUE;

/// A process that dies with the test.
struct Operator {
    child: Child,
    port: u16,
    _kubeconfig: tempfile::NamedTempFile,
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Operator {
    fn start(bed: &Bed, identity: &str) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bed.server.kubeconfig()).unwrap();
        let port = super::server::free_port();
        let child = Command::new(env!("CARGO_BIN_EXE_lanekeeper-operator"))
            .env_clear()
            .env("KUBECONFIG", file.path())
            .env("LANEKEEPER_NAMESPACES", &bed.namespace)
            .env("LANEKEEPER_REDIS_URL", bed.redis.url())
            .env("LANEKEEPER_WORKER_IMAGE", "worker:test")
            .env("LANEKEEPER_LISTEN", format!("127.0.0.1:{port}"))
            .env("POD_NAMESPACE", &bed.namespace)
            .env("POD_NAME", identity)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, port, _kubeconfig: file }
    }

    /// Status line and body of a GET.
    async fn get(&self, path: &str) -> Result<(u16, String), String> {
        let ask = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
            let request = format!("GET {path} HTTP/1.1\r\nhost: o\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut reply = String::new();
            stream.read_to_string(&mut reply).await?;
            Ok::<_, std::io::Error>(reply)
        };
        let reply = ask.await.map_err(|error| error.to_string())?;
        let status = reply.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(reply.clone())?;
        Ok((status, reply))
    }

    async fn ready(&self) {
        eventually("the operator is ready", async || {
            let (status, _) = self.get("/readyz").await?;
            when(status == 200, status)
        })
        .await;
    }

    async fn figure(&self, line: &str) {
        eventually(line, async || {
            let (_, text) = self.get("/metrics").await?;
            when(text.lines().any(|found| found == line), text)
        })
        .await;
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

async fn holder(bed: &Bed) -> Option<String> {
    bed.api::<Lease>().get_opt("lanekeeper-operator").await.unwrap()?.spec?.holder_identity
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_serves_figures_hands_over_and_ends_in_order() {
    let Some(bed) = Bed::new("process").await else { return };
    let mut first = Operator::start(&bed, "first");
    first.figure("lanekeeper_leader 1").await;
    first.ready().await;
    assert_eq!(first.get("/livez").await.unwrap().0, 200);
    let second = Operator::start(&bed, "second");
    second.ready().await;
    assert_eq!(holder(&bed).await.as_deref(), Some("first"), "the second stands by, ready");

    bed.apply(QUEUE).await;
    bed.condition::<JobQueue>("saas", "Ready", "True", "PolicyApplied").await;
    bed.enqueue("saas", "mail").await;
    let labels = format!("namespace=\"{}\",queue=\"saas\",lane=\"fast\",type=\"mail\"", bed.namespace);
    first.figure(&format!("lanekeeper_queue_depth{{{labels}}} 1")).await;
    first.figure(&format!("lanekeeper_jobs_enqueued_total{{{labels}}} 1")).await;

    first.signal("TERM");
    let ended = tokio::task::spawn_blocking(move || first.child.wait().unwrap());
    let status = tokio::time::timeout(Duration::from_secs(20), ended).await.expect("an end in time").unwrap();
    assert!(status.success(), "{status}");
    second.figure("lanekeeper_leader 1").await;
    assert_eq!(holder(&bed).await.as_deref(), Some("second"));

    // One that dies without a word is followed once its lease has stood still.
    second.signal("KILL");
    let third = Operator::start(&bed, "third");
    third.figure("lanekeeper_leader 1").await;
}
