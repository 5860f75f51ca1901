//! What runs a job.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gates::OnThrottleSpec;
use crate::duration::Duration;
use crate::policy::DEFAULT_MAX_HOLD_MS;

/// What runs a job: exactly one kind.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.http) != has(self.exec)")
    .message("set exactly one kind of handler: http or exec"))]
pub struct HandlerSpec {
    /// POST the payload to a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpHandlerSpec>,
    /// Start a program for every job, payload on its standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecHandlerSpec>,
}

/// POST the payload to a URL.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HttpHandlerSpec {
    /// Where to: an absolute http:// or https:// URL without credentials in it.
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^https?://[^\s/@?#]+([/?][^\s]*)?$"))]
    pub url: String,
    /// Further request headers. Those Lanekeeper sets itself (webhook-*, lanekeeper-*, idempotency-key,
    /// traceparent, host, content-length) cannot be set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[schemars(extend("additionalProperties" = {"type": "string", "maxLength": 4096}))]
    #[x_kube(validation = Rule::new("self.all(name, !name.lowerAscii().matches('^(webhook-.*|lanekeeper-.*|idempotency-key|traceparent|tracestate|host|content-length|transfer-encoding|connection|upgrade)$'))")
        .message("headers that the worker sets itself cannot be set: remove webhook-*, lanekeeper-*, idempotency-key, traceparent, tracestate, host, content-length, transfer-encoding, connection and upgrade"))]
    pub headers: BTreeMap<String, String>,
    /// Secret with which requests are signed after the Standard Webhooks specification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<Signing>,
    /// What an answer 429 or 503 with Retry-After holds back: the job alone, all jobs of its concurrency key (every job
    /// type with this handler needs one), or all jobs of its lane. Key and Lane hold also where the job itself has no time
    /// to wait for as long: it waits with the others and is given up, without another try, when its turn comes.
    #[serde(default)]
    pub on_throttle: OnThrottleSpec,
    /// Longest a Retry-After may hold anything, from 1s to 24h.
    #[serde(default = "default_max_hold")]
    #[schemars(schema_with = "max_hold_schema")]
    pub max_hold: Duration,
}

fn default_max_hold() -> Duration {
    Duration::from_millis(DEFAULT_MAX_HOLD_MS)
}

/// CEL's own durations know no days: the one that fits is spelled out.
fn max_hold_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let mut schema = <Duration as JsonSchema>::json_schema(generator);
    schema.insert(
        "x-kubernetes-validations".to_owned(),
        serde_json::json!([{
            "rule": "self == '1d' || (!self.contains('d') && duration(self) >= duration('1s') && duration(self) <= duration('24h'))",
            "message": "a hold lasts from 1s to 24h",
        }]),
    );
    schema
}

/// How requests are signed.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Signing {
    /// The key of a Secret in the queue's namespace that holds the signing secret.
    pub secret_ref: SecretKeyRef,
}

/// A key of a Secret in the same namespace.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Key within the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// Start a program for every job, without a shell.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ExecHandlerSpec {
    /// Program and arguments; no shell reads them. The payload comes on standard input.
    #[schemars(length(min = 1, max = 64), inner(length(min = 0, max = 4096)))]
    #[x_kube(validation = Rule::new("self[0] != ''").message("the first item is the program and must not be empty"))]
    pub command: Vec<String>,
    /// Environment added to LANEKEEPER_* and PATH; nothing else is inherited.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[schemars(extend("additionalProperties" = {"type": "string", "maxLength": 4096}))]
    #[x_kube(validation = Rule::new("self.all(name, !name.startsWith('LANEKEEPER_'))")
        .message("names that begin with LANEKEEPER_ are set by the worker: choose another name"))]
    pub env: BTreeMap<String, String>,
    /// Exit codes that mean a permanent failure, besides 65. 0 is success and 75 is retry, always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(range(min = 1, max = 255)))]
    #[x_kube(validation = Rule::new("!(75 in self)").message("75 always means retry: remove it"))]
    pub permanent_exit_codes: Vec<i32>,
}
