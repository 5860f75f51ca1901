//! Manifests that cannot work are refused by `kubectl apply`, with a sentence that names the field and helps.

use anyhow::ensure;
use lanekeeper_tests::scenario;
use serde_json::{Value, json};

#[test]
fn what_cannot_work_is_refused_at_apply() {
    scenario::run("refusals", async |world| {
        let line = format!("-n {} apply --dry-run=server -f -", world.namespace);
        for (kind, good) in [("JobQueue", queue()), ("WorkerPool", pool())] {
            let said = world.cluster.kubectl_with(&line, &good.to_string()).await?;
            ensure!(said.code == Some(0), "the good {kind} is refused: {}", said.err);
        }
        let mut wrong = Vec::new();
        for (manifest, path, value, words) in cases() {
            let mut manifest = if manifest == "queue" { queue() } else { pool() };
            put(&mut manifest, path, value);
            let said = world.cluster.kubectl_with(&line, &manifest.to_string()).await?;
            let refusal = said.err.replace('\n', " ");
            if said.code == Some(0) || !words.iter().all(|word| refusal.contains(word)) {
                wrong.push(format!(
                    "{path} = {}: wanted {words:?}, got {:?}: {refusal}",
                    at(&manifest, path),
                    said.code
                ));
            }
        }
        ensure!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
        Ok(())
    });
}

fn queue() -> Value {
    json!({
        "apiVersion": "lanekeeper.dev/v1beta1", "kind": "JobQueue", "metadata": {"name": "q"},
        "spec": {
            "redis": {}, "deletionPolicy": "Retain", "maxPayload": "256Ki", "lease": "15s",
            "defaults": {"timeout": "1m", "retry": {"backoff": {"schedule": ["1m"]}, "jitter": "10%"}},
            "lanes": [{"name": "fast", "startWithin": "10s", "handler": {"exec": {"command": ["/bin/true"]}}}],
            "jobTypes": [{"name": "a", "lane": "fast", "priority": 5, "key": "a:{id}", "owner": "team"}],
        },
    })
}

fn pool() -> Value {
    json!({
        "apiVersion": "lanekeeper.dev/v1beta1", "kind": "WorkerPool", "metadata": {"name": "p"},
        "spec": {
            "queue": "q", "lanes": [{"name": "fast"}], "concurrency": 10, "order": "Strict",
            "scaling": {"mode": "Auto", "minReplicas": 0, "maxReplicas": 10, "idleAfter": "2m"},
            "drainTimeout": "1m", "template": {"env": []},
        },
    })
}

/// Manifest, where, what, and words that the refusal has to have.
fn cases() -> Vec<(&'static str, &'static str, Value, &'static [&'static str])> {
    let exec = json!({"exec": {"command": ["/bin/true"]}});
    let both = json!({"exec": {"command": ["/bin/true"]}, "http": {"url": "http://x"}});
    vec![
        ("queue", "/spec/unknown", json!(1), &["unknown field", "spec.unknown"]),
        ("queue", "/spec/lanes/0/handler", json!({"htpp": {}}), &["htpp"]),
        ("queue", "/spec/lanes/0/handler", both, &["spec.lanes[0].handler", "exactly one"]),
        ("queue", "/spec/lanes/0/handler", Value::Null, &["needs a handler"]),
        ("queue", "/spec/lanes/0/handler", json!({"http": {"url": "ftp://x"}}), &["url"]),
        ("queue", "/spec/lanes/0/handler", json!({"exec": {"command": []}}), &["command"]),
        ("queue", "/spec/lanes/0/startWithin", json!("10 parsecs"), &["spec.lanes[0].startWithin"]),
        ("queue", "/spec/lanes/0/startWithin", json!(10), &["startWithin"]),
        ("queue", "/spec/lanes/0/name", json!("Not_A_Name"), &["spec.lanes[0].name"]),
        ("queue", "/spec/lanes", json!([]), &["spec.lanes"]),
        (
            "queue",
            "/spec/lanes",
            json!([{"name": "fast", "handler": exec}, {"name": "fast", "handler": exec}]),
            &["Duplicate", "fast"],
        ),
        ("queue", "/spec/jobTypes/0/lane", json!("slow"), &["lane", "one of spec.lanes"]),
        ("queue", "/spec/jobTypes/0/priority", json!(10), &["spec.jobTypes[0].priority"]),
        ("queue", "/spec/jobTypes/0/key", json!("a:{id"), &["spec.jobTypes[0].key", "every { needs its }"]),
        ("queue", "/spec/defaults/retry/backoff", json!({}), &["backoff"]),
        ("queue", "/spec/defaults/retry/jitter", json!("200%"), &["jitter"]),
        ("queue", "/spec/defaults/timeout", json!("0s"), &["timeout"]),
        ("queue", "/spec/lease", json!("100ms"), &["spec.lease", "from 1s to 10m"]),
        ("queue", "/spec/maxPayload", json!("1Gi"), &["spec.maxPayload"]),
        ("queue", "/spec/deletionPolicy", json!("Maybe"), &["deletionPolicy", "Retain"]),
        ("queue", "/spec/redis", json!({"workerSecretRef": {"name": "s", "key": "k"}}), &["adminSecretRef"]),
        ("queue", "/metadata/name", json!("n".repeat(53)), &["at most 52 characters"]),
        ("pool", "/spec/queue", json!(""), &["spec.queue"]),
        ("pool", "/spec/lanes", json!([]), &["spec.lanes"]),
        ("pool", "/spec/concurrency", json!(0), &["spec.concurrency"]),
        ("pool", "/spec/order", json!("Random"), &["spec.order", "Strict"]),
        ("pool", "/spec/scaling/minReplicas", json!(11), &["minReplicas must not be above maxReplicas"]),
        ("pool", "/spec/scaling/mode", json!("Magic"), &["spec.scaling.mode"]),
        ("pool", "/spec/scaling/idleAfter", json!("soon"), &["spec.scaling.idleAfter"]),
        ("pool", "/spec/template", json!({"hostNetwork": true}), &["hostNetwork"]),
        ("pool", "/spec/template/env", json!([{"name": "LANEKEEPER_QUEUE", "value": "x"}]), &["LANEKEEPER_"]),
    ]
}

/// Sets a field whose parent is there.
fn put(manifest: &mut Value, path: &str, value: Value) {
    let (parent, field) = path.rsplit_once('/').expect("a path has a slash");
    let parent =
        manifest.pointer_mut(parent).unwrap_or_else(|| panic!("{path} has no parent in the good manifest"));
    match parent {
        Value::Array(items) => items[field.parse::<usize>().expect("an index")] = value,
        other => other[field] = value,
    }
}

fn at(manifest: &Value, path: &str) -> String {
    manifest.pointer(path).map(Value::to_string).unwrap_or_default()
}
