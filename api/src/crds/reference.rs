//! The reference for people: every field with type, default and meaning, from the same schema.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::{HEADER, documents};
use crate::{duration, job_queue, size};

/// Fields that lanes and job types share with `spec.defaults`, where they are described.
const SHARED: [&str; 4] = ["retry", "completed", "dead", "handler"];

/// The reference as a Markdown page.
#[must_use]
pub fn reference() -> String {
    let mut page = format!(
        "<!-- {HEADER} -->\n\n# Reference\n\nEvery field of both custom resources. Durations are written `500ms`, \
         `10s`, `5m`, `1h`, `90d` or as a sum such as `1h30m`; sizes in bytes or as `256Ki`, `1Mi`.\n"
    );
    for document in documents() {
        let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let schema = &document["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let (kind, short) = (text("/spec/names/kind"), text("/spec/names/shortNames/0"));
        let about = schema["properties"]["spec"]["description"].as_str().unwrap_or_default();
        let mut section = Section::default();
        section.fields("spec", &schema["properties"]["spec"]);
        section.rules("metadata", schema);
        let mut status = Section::default();
        status.fields("status", &schema["properties"]["status"]);
        let _ = write!(
            page,
            "\n## {kind} (`{short}`)\n\n{}\n\n| field | type | default | meaning |\n|---|---|---|---|\n{}\n### What is \
             refused\n\n{}\n### Status\n\n| field | type | meaning |\n|---|---|---|\n{}",
            one_line(about),
            section.rows(true),
            section.refused,
            status.rows(false),
        );
    }
    page
}

#[derive(Default)]
struct Section {
    rows: Vec<[String; 4]>,
    refused: String,
}

impl Section {
    fn rows(&self, defaults: bool) -> String {
        let row = |[field, kind, default, meaning]: &[String; 4]| {
            if defaults {
                format!("| `{field}` | {kind} | {default} | {meaning} |\n")
            } else {
                format!("| `{field}` | {kind} | {meaning} |\n")
            }
        };
        self.rows.iter().map(row).collect()
    }

    /// Adds the fields of an object and of what it holds.
    fn fields(&mut self, path: &str, schema: &Value) {
        self.rules(path, schema);
        let required: Vec<&str> = strings(&schema["required"]);
        for (name, field) in schema["properties"].as_object().into_iter().flat_map(ordered) {
            let path = format!("{path}.{name}");
            let default =
                if required.contains(&name.as_str()) { "**required**".to_owned() } else { default(field) };
            let mut meaning = cell(field["description"].as_str().unwrap_or_default());
            let shared = SHARED.contains(&name.as_str()) && path.starts_with("spec.") && path.contains("[]");
            if shared {
                let _ = write!(meaning, " Its fields are those of `spec.defaults.{name}`.");
            }
            self.rows.push([path.clone(), kind(field), default, meaning]);
            // Kubernetes describes its own types better.
            if shared || path.starts_with("spec.template.") || path == "status.conditions" {
                self.rules(&path, field);
            } else if field["items"]["properties"].is_object() {
                self.rules(&path, field);
                self.fields(&format!("{path}[]"), &field["items"]);
            } else {
                self.fields(&path, field);
            }
        }
    }

    fn rules(&mut self, path: &str, schema: &Value) {
        // Said once, by the types.
        let duration = schema["pattern"].as_str() == Some(duration::PATTERN);
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            if let (Some(message), false) = (rule["message"].as_str(), duration) {
                let _ = writeln!(self.refused, "- `{path}`: {}", cell(message));
            }
        }
    }
}

/// Plain fields before those that hold others, each in the order of their names.
fn ordered(fields: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut fields: Vec<_> = fields.iter().collect();
    fields.sort_by_key(|(name, field)| {
        (*name != "name", field["properties"].is_object() || field["items"]["properties"].is_object())
    });
    fields
}

fn kind(schema: &Value) -> String {
    let bounds = || match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
        (Some(min), Some(max)) => format!(", {min} to {max}"),
        (Some(min), None) => format!(", at least {min}"),
        _ => String::new(),
    };
    let choices = strings(&schema["enum"]);
    match schema["type"].as_str().unwrap_or_default() {
        _ if schema["x-kubernetes-int-or-string"] == true => "quantity".to_owned(),
        "string" if !choices.is_empty() => {
            choices.iter().map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(" or ")
        }
        "string" => match schema["pattern"].as_str() {
            Some(duration::PATTERN) => "duration",
            Some(size::PATTERN) => "size",
            Some(job_queue::JITTER_PATTERN) => "`none`, `full` or `N%`",
            _ if schema["format"] == "date-time" => "time",
            _ => "text",
        }
        .to_owned(),
        "integer" => format!("whole number{}", bounds()),
        "number" => format!("number{}", bounds()),
        "boolean" => "true or false".to_owned(),
        "array" => {
            let most =
                schema["maxItems"].as_u64().map(|most| format!(", at most {most}")).unwrap_or_default();
            format!(
                "list of {}{most}",
                if schema["items"]["type"] == "object" {
                    "objects".to_owned()
                } else {
                    kind(&schema["items"])
                }
            )
        }
        _ if schema["additionalProperties"]["type"] == "integer" => "map of whole numbers".to_owned(),
        _ if schema["additionalProperties"].is_object() => "map of texts".to_owned(),
        _ => "object".to_owned(),
    }
}

fn default(schema: &Value) -> String {
    match &schema["default"] {
        Value::Null => String::new(),
        Value::Object(_) => "as its fields".to_owned(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Fit for a cell of a table; stars and angle brackets are not to be taken for markup.
fn cell(text: &str) -> String {
    one_line(text).replace('|', "\\|").replace('*', "\\*").replace('<', "&lt;")
}
