//! Overlays: documents that change parts of manifests of the same kind, namespace and name.
//!
//! A JSON merge patch (RFC 7386: mappings merge, null removes, all else replaces), with one addition: a list whose
//! items have names merges by name. An overlay that changes nothing because nothing matches is an error: it would be
//! a setting silently ignored.

use serde_json::Value;

use super::document::{Document, KINDS};
use super::error::{ManifestError, reason};
use super::locate::Step;
use super::schema::Completeness;
use crate::validate::similar;

/// Merges a patch into the document it names.
pub(crate) fn apply(bases: &mut [Document], mut patch: Document) -> Result<(), Vec<ManifestError>> {
    if !KINDS.contains(&patch.kind.as_str()) {
        let message = "an overlay can change a JobQueue or a WorkerPool, nothing else";
        return Err(vec![patch.error(&[], "", reason::KIND, message)]);
    }
    patch.fit(Completeness::Patch)?;
    let title = patch.title();
    let Some(base) = bases.iter().position(|base| base.title() == title) else {
        let names = bases.iter().filter(|base| base.kind == patch.kind);
        let names: Vec<String> = names.map(|base| format!("{}/{}", base.namespace, base.name)).collect();
        let wanted = format!("{}/{}", patch.namespace, patch.name);
        let hint = similar::hint(&wanted, names.iter().map(String::as_str));
        let message = format!("no manifest of this kind and name is loaded{hint}");
        return Err(vec![patch.error(&[], "", reason::NO_MATCH, message)]);
    };
    let mut errors = Vec::new();
    let mut merge = Merge { path: Vec::new(), misses: Vec::new() };
    for part in ["metadata", "spec"] {
        merge.path = vec![Step::Key(part.to_owned())];
        if let Some(change) = patch.value.get(part) {
            merge.value(&mut bases[base].value[part], change);
        }
    }
    for (path, name, hint) in merge.misses {
        let message = format!("the manifest has no item of this name in that list{hint}");
        errors.push(patch.error(&path, name, reason::NO_MATCH, message));
    }
    bases[base].origin.overlaid(&patch.origin);
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

struct Merge {
    path: Vec<Step>,
    /// Items of the patch that match nothing: where, which, and a hint.
    misses: Vec<(Vec<Step>, String, String)>,
}

impl Merge {
    fn value(&mut self, base: &mut Value, patch: &Value) {
        match (base, patch) {
            (Value::Object(base), Value::Object(patch)) => {
                for (key, change) in patch {
                    if change.is_null() {
                        base.remove(key);
                        continue;
                    }
                    self.path.push(Step::Key(key.clone()));
                    self.value(base.entry(key.as_str()).or_insert(Value::Null), change);
                    self.path.pop();
                }
            }
            (Value::Array(base), Value::Array(patch)) if named(base) && named(patch) => {
                self.list(base, patch)
            }
            (base, patch) => *base = without_nulls(patch),
        }
    }

    fn list(&mut self, base: &mut [Value], patch: &[Value]) {
        for (index, change) in patch.iter().enumerate() {
            self.path.push(Step::Index(index));
            match base.iter_mut().find(|item| item["name"] == change["name"]) {
                Some(item) => self.value(item, change),
                None => {
                    let name = change["name"].as_str().unwrap_or_default();
                    let hint = similar::hint(name, base.iter().filter_map(|item| item["name"].as_str()));
                    self.misses.push((self.path.clone(), name.to_owned(), hint));
                }
            }
            self.path.pop();
        }
    }
}

fn named(items: &[Value]) -> bool {
    !items.is_empty() && items.iter().all(|item| item["name"].is_string())
}

/// RFC 7386: a null within what is new stands for nothing.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(fields.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        other => other.clone(),
    }
}
