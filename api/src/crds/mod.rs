//! The custom resource definitions as they are installed, and what else is generated from them.

mod helm;
mod reference;

#[cfg(test)]
mod tests;

use kube::CustomResourceExt;
use serde_json::Value;

use crate::job_queue::JobQueue;
use crate::worker_pool::WorkerPool;

pub use helm::template;
pub use reference::reference;

/// First line of every generated file.
pub(crate) const HEADER: &str = "Generated from the Rust types by crdgen (make crds): do not edit.";

/// Both definitions, as JSON documents in the shape that is installed.
#[must_use]
pub fn documents() -> Vec<Value> {
    [JobQueue::crd(), WorkerPool::crd()]
        .iter()
        .map(|crd| {
            // Plain data without maps of odd keys always serialises.
            let mut document = serde_json::to_value(crd).unwrap_or_default();
            tidy(&mut document);
            document
        })
        .collect()
}

/// A definition as a YAML file.
#[must_use]
pub fn yaml(document: &Value) -> String {
    format!("# {HEADER}\n{}", body(document))
}

fn body(document: &Value) -> String {
    // As above: plain data always serialises.
    serde_yaml::to_string(document).unwrap_or_default()
}

/// File name of a definition: `jobqueues.yaml`.
#[must_use]
pub fn file_name(document: &Value) -> String {
    format!("{}.yaml", document.pointer("/spec/names/plural").and_then(Value::as_str).unwrap_or("crd"))
}

/// What derived schemas have that Kubernetes does not want.
///
/// - `nullable`: without it the API server takes a null as absent, and CEL's `has()` means what it says;
/// - `uint32` and the like: formats Kubernetes does not know, and warns of at every apply;
/// - whole numbers written as `1.0`.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // A property may be called `nullable` or `format`; then it is a schema, not a keyword.
            if fields.get("nullable") == Some(&Value::Bool(true)) {
                fields.remove("nullable");
            }
            let format = match fields.get("format").and_then(Value::as_str) {
                Some("uint8" | "uint16") => Some("int32"),
                Some("uint32" | "uint64" | "uint") => Some("int64"),
                _ => None,
            };
            if let Some(format) = format {
                fields.insert("format".to_owned(), format.into());
            }
            fields.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Number(number) => {
            if let Some(float) = number.as_f64().filter(|_| number.is_f64())
                && float.fract() == 0.0
                && float.abs() < 1e15
            {
                *value = Value::from(float as i64);
            }
        }
        _ => {}
    }
}
