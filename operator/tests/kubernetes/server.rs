//! One API server for all tests of this binary: etcd and kube-apiserver on free ports of the loopback interface.
//!
//! A shell stands over the two and reads from this process: when the process ends, however it ends, the pipe closes, and
//! the shell stops them and removes their folder.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ListParams, Patch, PatchParams};
use kube::config::AuthInfo;
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Api, Client, Config};
use lanekeeper_api::job_queue::JobQueue;
use lanekeeper_api::worker_pool::WorkerPool;
use serde::Deserialize;
use tokio::sync::OnceCell;

const TIER: &str = "apiserver";
const ADMIN: &str = "admin-token";
const OPERATOR: &str = "operator-token";
const START_DEADLINE: Duration = Duration::from_secs(90);

/// Stops what it started when it is told to, or when the pipe closes.
const SUPERVISOR: &str = r#"
cd "$DIR" || exit 1
# At once: kube-apiserver would wait for an etcd that is gone, and nothing here is to be kept.
stop() { kill -9 "$api" "$etcd" 2>/dev/null; wait; cd /; rm -rf "$DIR"; }
"$BIN/etcd" --data-dir="$DIR/etcd" --unsafe-no-fsync --log-level=error \
  --listen-client-urls="http://127.0.0.1:$ETCD" --advertise-client-urls="http://127.0.0.1:$ETCD" \
  --listen-peer-urls="http://127.0.0.1:$PEER" --initial-advertise-peer-urls="http://127.0.0.1:$PEER" \
  --initial-cluster="default=http://127.0.0.1:$PEER" >etcd.log 2>&1 </dev/null &
etcd=$!
"$BIN/kube-apiserver" --etcd-servers="http://127.0.0.1:$ETCD" --bind-address=127.0.0.1 --secure-port="$PORT" \
  --cert-dir="$DIR/certs" --token-auth-file="$DIR/tokens" --authorization-mode=RBAC \
  --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$DIR/sa.key" \
  --service-account-signing-key-file="$DIR/sa.key" --service-cluster-ip-range=10.0.0.0/24 \
  --disable-admission-plugins=ServiceAccount --endpoint-reconciler-type=none --profiling=false \
  >apiserver.log 2>&1 </dev/null &
api=$!
cat >/dev/null
stop
"#;

/// A server that runs.
pub(crate) struct Server {
    port: u16,
    folder: PathBuf,
    // Holds the pipe open.
    _supervisor: Child,
}

static SERVER: OnceCell<Server> = OnceCell::const_new();

/// The server, started by the first test that asks; `None` where the tier is left out by name.
pub(crate) async fn server() -> Option<&'static Server> {
    let skipped = std::env::var("LANEKEEPER_SKIP").unwrap_or_default();
    if skipped.split(',').any(|tier| tier.trim() == TIER) {
        println!("SKIPPED: LANEKEEPER_SKIP names the tier {TIER}");
        return None;
    }
    Some(SERVER.get_or_init(Server::start).await)
}

impl Server {
    async fn start() -> Self {
        let bin = binaries();
        let folder = tempfile::Builder::new().prefix("lanekeeper-apiserver-").tempdir().unwrap().keep();
        let tokens = format!("{ADMIN},admin,admin,\"system:masters\"\n{OPERATOR},operator,operator\n");
        std::fs::write(folder.join("tokens"), tokens).unwrap();
        let key = folder.join("sa.key");
        let made = Command::new("openssl").args(["genrsa", "-out"]).arg(&key).arg("2048").output();
        assert!(made.expect("openssl is needed").status.success(), "openssl genrsa failed");
        let port = free_port();
        let supervisor = Command::new("sh")
            .args(["-c", SUPERVISOR])
            .env("DIR", &folder)
            .env("BIN", &bin)
            .env("PORT", port.to_string())
            .env("ETCD", free_port().to_string())
            .env("PEER", free_port().to_string())
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell is needed");
        let server = Self { port, folder, _supervisor: supervisor };
        server.wait_until_ready().await;
        server.install().await;
        server
    }

    async fn wait_until_ready(&self) {
        let deadline = Instant::now() + START_DEADLINE;
        let namespaces: Api<Namespace> = Api::all(self.admin());
        loop {
            if namespaces.get("kube-system").await.is_ok() {
                return;
            }
            if Instant::now() > deadline {
                let log = std::fs::read_to_string(self.folder.join("apiserver.log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(30).collect();
                panic!("kube-apiserver is not ready; the end of its log, newest first:\n{}", tail.join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The project's custom resources, and the rights of the operator.
    async fn install(&self) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let client = self.admin();
        for file in ["../crds/jobqueues.yaml", "../crds/workerpools.yaml", "tests/kubernetes/rbac.yaml"] {
            let text = std::fs::read_to_string(root.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
            for object in documents(&text) {
                let resource = resource_of(&object);
                let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
                let name = object.metadata.name.clone().unwrap();
                let params = PatchParams::apply("test").force();
                api.patch(&name, &params, &Patch::Apply(&object))
                    .await
                    .unwrap_or_else(|e| panic!("{file}: {e}"));
            }
        }
        let deadline = Instant::now() + START_DEADLINE;
        let (queues, pools): (Api<JobQueue>, Api<WorkerPool>) = (Api::all(client.clone()), Api::all(client));
        while queues.list_metadata(&ListParams::default()).await.is_err()
            || pools.list_metadata(&ListParams::default()).await.is_err()
        {
            assert!(Instant::now() < deadline, "the custom resources are not served");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A client that may do everything.
    pub(crate) fn admin(&self) -> Client {
        self.client(ADMIN)
    }

    /// A client with the operator's rights.
    pub(crate) fn operator(&self) -> Client {
        self.client(OPERATOR)
    }

    /// A kubeconfig with the operator's rights.
    pub(crate) fn kubeconfig(&self) -> String {
        serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.port), "insecure-skip-tls-verify": true}}],
            "users": [{"name": "u", "user": {"token": OPERATOR}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]
        })
        .to_string()
    }

    fn client(&self, token: &str) -> Client {
        let url = format!("https://127.0.0.1:{}", self.port).parse().unwrap();
        let mut config = Config::new(url);
        // Its certificate is its own, made at its start.
        config.accept_invalid_certs = true;
        config.auth_info = AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() };
        drop(rustls::crypto::ring::default_provider().install_default());
        Client::try_from(config).unwrap()
    }
}

/// The documents of a YAML text.
pub(crate) fn documents(text: &str) -> Vec<DynamicObject> {
    serde_yaml::Deserializer::from_str(text)
        .map(|document| DynamicObject::deserialize(document).unwrap())
        .collect()
}

/// The resource of an object, by the usual plural.
pub(crate) fn resource_of(object: &DynamicObject) -> ApiResource {
    let types = object.types.as_ref().unwrap();
    let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
    let plural = format!("{}s", types.kind.to_lowercase());
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: types.api_version.clone(),
        kind: types.kind.clone(),
        plural,
    }
}

fn binaries() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let bin = match (std::env::var_os("LANEKEEPER_TEST_BIN"), std::env::var_os("KC_ROOT")) {
        (Some(bin), _) => PathBuf::from(bin),
        (None, Some(root)) => PathBuf::from(root).join("bin"),
        (None, None) => home().join(".cache/one-node-kubernetes/bin"),
    };
    for name in ["etcd", "kube-apiserver"] {
        assert!(
            bin.join(name).is_file(),
            "{name} is not in {}: run `tests/cluster/cluster.sh build`, or set LANEKEEPER_TEST_BIN, or leave this tier \
             out with LANEKEEPER_SKIP={TIER}",
            bin.display()
        );
    }
    bin
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
