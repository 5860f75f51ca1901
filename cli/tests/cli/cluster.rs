//! A queue found by the kubeconfig's context. The API server is a scripted one; tests/ has a real cluster.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::{Ran, World};

const GROUP: &str = "/apis/lanekeeper.dev/v1beta1/namespaces/apps";

/// An API server that answers GET by path, and 404 to everything else.
struct ApiServer {
    port: u16,
}

impl ApiServer {
    fn start(answers: BTreeMap<String, Value>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let answers = Arc::new(answers);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answers = answers.clone();
                std::thread::spawn(move || serve(stream, &answers));
            }
        });
        Self { port }
    }
}

/// One connection, as long as the client keeps it.
fn serve(stream: TcpStream, answers: &BTreeMap<String, Value>) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).is_ok_and(|read| read == 0) {
                return;
            }
        }
        let target = head.split_whitespace().nth(1).unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        let missing = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "message": "none", "code": 404});
        let (status, body) = answers.get(path).map_or(("404 Not Found", &missing), |body| ("200 OK", body));
        let body = body.to_string();
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
        // GET has no body.
        let _ = reader.by_ref().take(0).read(&mut []);
    }
}

fn list(kind: &str, items: &[Value]) -> Value {
    json!({"kind": format!("{kind}List"), "apiVersion": "v1", "metadata": {}, "items": items})
}

fn object(kind: &str, name: &str, rest: Value) -> Value {
    let mut object = json!({"apiVersion": if kind == "Pod" || kind == "Secret" { "v1" } else { "lanekeeper.dev/v1beta1" },
        "kind": kind, "metadata": {"name": name, "namespace": "apps"}});
    object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    object
}

/// A cluster with the queue `apps/saas` of a world, one pool on its lane `fast`, and this pod.
struct Cluster {
    world: World,
}

impl Cluster {
    async fn new(pod_status: Value) -> Self {
        let world = World::new().await;
        let queue = object("JobQueue", "saas", json!({"spec": {"lanes": [{"name": "fast"}]}}));
        let pool = object(
            "WorkerPool",
            "interactive",
            json!({"spec": {"queue": "saas", "lanes": [{"name": "fast"}]}, "status": {"replicas": 1, "desired": 1, "reason": "Backlog"}}),
        );
        let url = base64(world.redis.url().as_bytes());
        let pod = object("Pod", "interactive-1", json!({"spec": {"containers": []}, "status": pod_status}));
        let answers = BTreeMap::from([
            (format!("{GROUP}/jobqueues"), list("JobQueue", std::slice::from_ref(&queue))),
            (format!("{GROUP}/jobqueues/saas"), queue),
            (format!("{GROUP}/workerpools"), list("WorkerPool", &[pool])),
            ("/api/v1/namespaces/apps/pods".to_owned(), list("Pod", &[pod])),
            (
                "/api/v1/namespaces/apps/secrets/saas-lanekeeper-worker".to_owned(),
                object("Secret", "saas-lanekeeper-worker", json!({"data": {"url": url}})),
            ),
        ]);
        let server = ApiServer::start(answers);
        kubeconfig(&world, &format!("http://127.0.0.1:{}", server.port));
        Self { world }
    }

    fn run(&self, args: &[&str]) -> Ran {
        run(&self.world, args)
    }
}

fn kubeconfig(world: &World, server: &str) {
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "apps"}}]});
    world.write("kubeconfig", &config.to_string());
}

/// The binary with the kubeconfig and no Redis named.
fn run(world: &World, args: &[&str]) -> Ran {
    let mut command = world.command();
    command.env_remove("LANEKEEPER_REDIS_URL").env("KUBECONFIG", world.dir.path().join("kubeconfig"));
    command.args(args).output().unwrap().into()
}

/// Standard base 64, as Secrets are written.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |group: u32, at: u32| char::from(DIGITS[(group >> (18 - 6 * at) & 63) as usize]);
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().chain([0, 0].iter()).take(3).fold(0u32, |all, byte| all << 8 | u32::from(*byte));
        let digits = chunk.len() as u32 + 1;
        text.extend((0..4).map(|at| if at < digits { digit(group, at) } else { '=' }));
    }
    text
}

#[tokio::test]
async fn the_context_leads_to_the_queue_its_redis_and_its_pools() {
    let cluster =
        Cluster::new(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})).await;
    let id = cluster.run(&["enqueue", "mail", r#"{"userId":1}"#, "-o", "json"]).exits(0).json()["id"].clone();
    cluster.run(&["get", id.as_str().unwrap()]).exits(0).prints(&["mail:1"]);
    cluster.run(&["status"]).exits(0).prints(&["queue apps/saas", "apps/interactive", "1/1", "Backlog"]);
    let report = cluster.run(&["enqueue", "report", "-o", "json"]).exits(0).json()["id"].clone();
    cluster.run(&["why", report.as_str().unwrap()]).exits(0).prints(&["NoPool"]);
    cluster.run(&["status", "-q", "nosuch"]).exits(4).says(&["no JobQueue apps/nosuch in cluster here"]);
    cluster.run(&["status", "--context", "there"]).exits(2).says(&["no context `there`", "here"]);
}

#[tokio::test]
async fn why_tells_of_pods_that_no_node_takes_or_that_cannot_start() {
    let unschedulable = json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}]});
    let cluster = Cluster::new(unschedulable).await;
    let id = cluster.run(&["enqueue", "mail", r#"{"userId":1}"#, "-o", "json"]).exits(0).json()["id"].clone();
    let told = cluster.run(&["why", id.as_str().unwrap()]).exits(0);
    told.prints(&["PodsUnschedulable", "0/3 nodes are available", "interactive-1"]);
    let pull = json!({"phase": "Pending", "containerStatuses": [{"name": "worker", "image": "x", "imageID": "", "ready": false,
        "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]});
    let cluster = Cluster::new(pull).await;
    cluster.run(&["enqueue", "mail", r#"{"userId":1}"#]).exits(0);
    cluster.run(&["why", "fast"]).exits(0).prints(&["PodsFailing", "no such image"]);
    cluster.run(&["why", "pool/interactive"]).exits(0).prints(&["PodsFailing"]);
}

#[tokio::test]
async fn a_cluster_that_cannot_be_reached_exits_3() {
    let world = World::empty().await;
    kubeconfig(&world, "http://127.0.0.1:1");
    run(&world, &["status"]).exits(3).says(&["cannot list JobQueues in cluster here", "--context"]);
}
