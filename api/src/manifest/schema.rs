//! Walks a document along its schema: unknown fields, types, choices and bounds, all at once.
//!
//! This is what the API server does at `kubectl apply`, with messages that say what to do. Unknown fields are errors
//! here, where the API server would drop them: a misspelt field that is dropped is a policy silently ignored.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::locate::Step;
use crate::duration::Duration;
use crate::job_queue::JitterSpec;
use crate::size::Size;
use crate::validate::reason::{INVALID_VALUE, MISSING};
use crate::validate::similar;
use crate::{crds, duration, job_queue, size};

/// One thing that does not fit the schema.
#[derive(Debug)]
pub(crate) struct Misfit {
    pub(crate) path: Vec<Step>,
    pub(crate) value: String,
    pub(crate) message: String,
    pub(crate) reason: &'static str,
}

/// Whether what is required must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Completeness {
    /// A manifest.
    Whole,
    /// An overlay, which says only what changes; a null in it removes.
    Patch,
}

static SCHEMAS: LazyLock<Vec<(String, Value)>> = LazyLock::new(|| {
    let schema = |crd: &Value| {
        let kind = crd.pointer("/spec/names/kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema").cloned().unwrap_or_default();
        (kind, schema)
    };
    crds::documents().iter().map(schema).collect()
});

/// Fields of `metadata`, which no schema of a custom resource describes.
const METADATA: [&str; 14] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "uid",
];

/// Key of a mapping that stands for a number JSON cannot hold.
const NOT_FINITE: &str = "(a number that JSON cannot hold)";

/// What stands for `.nan`, `.inf` or `-.inf` in a document: [`check`] refuses it wherever it is.
pub(crate) fn not_finite(number: &serde_yaml::Number) -> serde_yaml::Value {
    serde_yaml::Mapping::from_iter([(NOT_FINITE.into(), number.to_string().into())]).into()
}

/// Checks the document of that kind and takes the nulls out of it, which Kubernetes reads as absent.
pub(crate) fn check(kind: &str, document: &mut Value, completeness: Completeness) -> Vec<Misfit> {
    let Some((_, schema)) = SCHEMAS.iter().find(|(name, _)| name == kind) else { return Vec::new() };
    let mut walk = Walk { path: Vec::new(), found: Vec::new(), completeness };
    walk.top(schema, document);
    walk.found
}

struct Walk {
    path: Vec<Step>,
    found: Vec<Misfit>,
    completeness: Completeness,
}

impl Walk {
    fn add(&mut self, reason: &'static str, value: &Value, message: impl Into<String>) {
        let value = match value {
            Value::String(text) => text.chars().take(120).collect(),
            Value::Object(_) | Value::Array(_) | Value::Null => String::new(),
            other => other.to_string(),
        };
        self.found.push(Misfit { path: self.path.clone(), value, message: message.into(), reason });
    }

    fn within(&mut self, step: Step, visit: impl FnOnce(&mut Self)) {
        self.path.push(step);
        visit(self);
        self.path.pop();
    }

    fn top(&mut self, schema: &Value, document: &mut Value) {
        let Some(fields) = document.as_object_mut() else { return };
        for key in ["apiVersion", "kind", "metadata", "spec", "status"] {
            let Some(mut value) = fields.remove(key) else { continue };
            self.within(Step::Key(key.to_owned()), |walk| match key {
                "metadata" => walk.metadata(&value),
                "spec" => walk.value(&schema["properties"]["spec"], &mut value),
                _ => {}
            });
            // What a manifest says of the status is the operator's to write.
            if key != "status" {
                fields.insert(key.to_owned(), value);
            }
        }
        if !fields.contains_key("spec") && self.completeness == Completeness::Whole {
            self.within(Step::Key("spec".to_owned()), |walk| walk.add(MISSING, &Value::Null, "is required"));
        }
        let top = ["apiVersion", "kind", "metadata", "spec"];
        let unknown: Vec<String> =
            fields.keys().filter(|key| !top.contains(&key.as_str())).cloned().collect();
        for key in unknown {
            self.unknown(&key, top.into_iter());
        }
    }

    fn metadata(&mut self, metadata: &Value) {
        for key in metadata.as_object().into_iter().flat_map(Map::keys) {
            if !METADATA.contains(&key.as_str()) {
                self.unknown(key, METADATA.into_iter());
            }
        }
        for field in ["labels", "annotations"] {
            let texts = metadata[field].as_object().into_iter().flatten();
            for (key, value) in texts.filter(|(_, value)| !value.is_string()) {
                self.within(Step::Key(field.to_owned()), |walk| {
                    walk.within(Step::Key(key.clone()), |walk| {
                        walk.add(super::reason::TYPE, value, "must be text: put it in quotes");
                    });
                });
            }
        }
    }

    fn unknown<'a>(&mut self, key: &str, known: impl Iterator<Item = &'a str>) {
        let hint = similar::hint(key, known);
        self.within(Step::Key(key.to_owned()), |walk| {
            let message = format!("there is no such field{hint}");
            walk.add(super::reason::UNKNOWN_FIELD, &Value::Null, message);
        });
    }

    fn value(&mut self, schema: &Value, value: &mut Value) {
        if value.get(NOT_FINITE).is_some() {
            let expected = schema["type"].as_str().unwrap_or_default();
            let (reason, message) = match bounds(schema) {
                Some(bounds) => (INVALID_VALUE, bounds),
                None => (super::reason::TYPE, wrong_type(schema, expected, &Value::from(0))),
            };
            return self.add(reason, &value[NOT_FINITE], message);
        }
        if schema["x-kubernetes-int-or-string"] == true {
            if !value.is_string() && !value.is_number() {
                self.add(super::reason::TYPE, value, "must be a number or text");
            }
            return;
        }
        match (schema["type"].as_str().unwrap_or_default(), &mut *value) {
            ("object", Value::Object(fields)) => self.object(schema, fields),
            ("array", Value::Array(items)) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.within(Step::Index(index), |walk| walk.value(&schema["items"], item));
                }
            }
            ("string", Value::String(text)) => {
                let text = text.clone();
                self.text(schema, &text);
            }
            ("integer", Value::Number(number)) if number.is_i64() || number.is_u64() => {
                self.number(schema, value);
            }
            ("number", Value::Number(_)) => self.number(schema, value),
            ("boolean", Value::Bool(_)) => {}
            (expected, _) => {
                let message = wrong_type(schema, expected, value);
                self.add(super::reason::TYPE, value, message);
            }
        }
    }

    fn object(&mut self, schema: &Value, fields: &mut Map<String, Value>) {
        if self.completeness == Completeness::Whole {
            fields.retain(|_, value| !value.is_null());
        }
        let known = schema["properties"].as_object();
        for (key, value) in fields.iter_mut().filter(|(_, value)| !value.is_null()) {
            match known.and_then(|known| known.get(key)).or(schema.get("additionalProperties")) {
                Some(schema) => self.within(Step::Key(key.clone()), |walk| walk.value(schema, value)),
                None => self.unknown(key, known.into_iter().flat_map(Map::keys).map(String::as_str)),
            }
        }
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for key in required.filter(|key| !fields.contains_key(*key)) {
            // Lists are merged by name, so even a patch must say whose fields these are.
            if self.completeness == Completeness::Whole || key == "name" {
                let about = known.and_then(|known| known.get(key)).and_then(|s| s["description"].as_str());
                let message = match about {
                    Some(about) => format!("is required: {}", sentence(about)),
                    None => "is required".to_owned(),
                };
                self.within(Step::Key(key.to_owned()), |walk| walk.add(MISSING, &Value::Null, message));
            }
        }
    }

    fn text(&mut self, schema: &Value, text: &str) {
        let value = Value::String(text.to_owned());
        if let Some(choices) = schema["enum"].as_array() {
            let choices: Vec<&str> = choices.iter().filter_map(Value::as_str).collect();
            if !choices.contains(&text) {
                let hint = match similar::nearest(text, choices.iter().copied()) {
                    Some(near) => format!(" (did you mean {near:?}?)"),
                    None => String::new(),
                };
                self.add(INVALID_VALUE, &value, format!("must be one of {}{hint}", choices.join(", ")));
            }
        }
        // Each grammar has one reader; its pattern is how the schema names it.
        let error = match schema["pattern"].as_str() {
            Some(duration::PATTERN) => Duration::parse(text).err().map(|e| e.to_string()),
            Some(size::PATTERN) => Size::parse(text).err().map(|e| e.to_string()),
            Some(job_queue::JITTER_PATTERN) => JitterSpec::parse(text).err().map(|e| e.to_string()),
            _ => None,
        };
        if let Some(error) = error {
            // The error names the text already.
            self.add(INVALID_VALUE, &Value::Null, error);
        }
    }

    fn number(&mut self, schema: &Value, value: &Value) {
        let number = value.as_f64().unwrap_or_default();
        let (min, max) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
        if min.is_some_and(|min| number < min) || max.is_some_and(|max| number > max) {
            self.add(INVALID_VALUE, value, bounds(schema).unwrap_or_default());
        }
    }
}

/// What a number must be within, where its schema says so.
fn bounds(schema: &Value) -> Option<String> {
    match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
        (Some(min), Some(max)) => Some(format!("must be from {min} to {max}")),
        (Some(min), None) => Some(format!("must be at least {min}")),
        (None, Some(max)) => Some(format!("must be at most {max}")),
        (None, None) => None,
    }
}

/// The first sentence of a description.
fn sentence(text: &str) -> String {
    let text = text.replace('\n', " ");
    match text.split_once(". ") {
        Some((first, _)) => first.to_owned(),
        None => text.trim_end_matches('.').to_owned(),
    }
}

fn wrong_type(schema: &Value, expected: &str, value: &Value) -> String {
    let pattern = schema["pattern"].as_str();
    let expected = match expected {
        "string" if pattern == Some(duration::PATTERN) => "a duration with its unit, such as 10s or 5m",
        "string" if pattern == Some(size::PATTERN) => "a size in quotes or with its unit, such as 256Ki",
        "string" if value.is_number() || value.is_boolean() => "text: put it in quotes",
        "string" => "text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        _ => "a mapping (key: value)",
    };
    let found = match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    };
    format!("must be {expected}; here is {found}")
}
