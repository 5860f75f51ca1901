//! From texts to objects: documents, kinds, names, types.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret as KubeSecret;
use kube::core::ObjectMeta;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{ManifestError, reason};
use super::locate::{self, Step};
use super::read::Text;
use super::schema::{self, Completeness, Misfit};
use super::{Ignored, Loaded, Origin, Secret};
use crate::job_queue::JobQueue;
use crate::validate::reason::{INVALID_VALUE, MISSING};
use crate::validate::similar;
use crate::worker_pool::WorkerPool;
use crate::{API_VERSION, GROUP};

/// Our kinds.
pub(crate) const KINDS: [&str; 2] = ["JobQueue", "WorkerPool"];
/// Namespace of documents that name none.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

/// One document, not yet of a type.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) value: Value,
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) origin: Origin,
}

impl Document {
    /// `JobQueue apps/saas`.
    pub(crate) fn title(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace, self.name)
    }

    pub(crate) fn error(
        &self,
        path: &[Step],
        value: impl Into<String>,
        reason: &'static str,
        message: impl Into<String>,
    ) -> ManifestError {
        self.origin.error(&self.title(), path, value, reason, message)
    }

    fn misfit(&self, misfit: Misfit) -> ManifestError {
        self.error(&misfit.path, misfit.value, misfit.reason, misfit.message)
    }

    /// Checks against the schema, as a whole or as a patch.
    pub(crate) fn fit(&mut self, completeness: Completeness) -> Result<(), Vec<ManifestError>> {
        let misfits = schema::check(&self.kind, &mut self.value, completeness);
        if misfits.is_empty() {
            return Ok(());
        }
        let mut errors: Vec<_> = misfits.into_iter().map(|misfit| self.misfit(misfit)).collect();
        errors.sort_by_key(|error| error.line);
        Err(errors)
    }

    /// The typed object, once [`Document::fit`] is content.
    fn typed<T: DeserializeOwned>(&self) -> Result<T, Vec<ManifestError>> {
        serde_path_to_error::deserialize(&self.value).map_err(|error| {
            let path = locate::steps(&error.path().to_string());
            vec![self.error(&path, "", INVALID_VALUE, error.into_inner().to_string())]
        })
    }
}

/// What the documents of all files are.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    /// Queues, pools and Secrets.
    pub(crate) ours: Vec<Document>,
    pub(crate) ignored: Vec<Ignored>,
    pub(crate) errors: Vec<ManifestError>,
}

/// Splits texts into documents and sorts them by kind.
pub(crate) fn sort(texts: Vec<Text>) -> Sorted {
    let mut sorted = Sorted::default();
    for text in texts {
        let source: Arc<str> = text.content.into();
        if let Some(line) = too_deep(&source) {
            let message = format!("brackets are nested more than {MAX_NESTING} deep: no manifest is");
            let mut error =
                Origin::new(&text.file, 1, Arc::clone(&source)).error("", &[], "", reason::SYNTAX, message);
            error.line = Some(line);
            sorted.errors.push(error);
            continue;
        }
        for (index, document) in serde_yaml::Deserializer::from_str(&source).enumerate() {
            let origin = Origin::new(&text.file, index + 1, Arc::clone(&source));
            match value_of(document) {
                Ok(Value::Null) => {}
                Ok(value) => sorted.add(value, &origin),
                Err((line, message)) => {
                    let mut error = origin.error("", &[], "", reason::SYNTAX, message);
                    error.line = line;
                    sorted.errors.push(error);
                    // After a syntax error the reader cannot tell where the next document begins.
                    break;
                }
            }
        }
    }
    sorted
}

/// Brackets that may be open at once. The YAML reader's time grows with the square of their number.
const MAX_NESTING: usize = 1_000;

/// The line at which more brackets are open than a manifest can mean, wherever they stand.
fn too_deep(text: &str) -> Option<usize> {
    let (mut open, mut line) = (0_usize, 1);
    for byte in text.bytes() {
        match byte {
            b'\n' => line += 1,
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > MAX_NESTING {
            return Some(line);
        }
    }
    None
}

type SyntaxError = (Option<usize>, String);

fn value_of(document: serde_yaml::Deserializer<'_>) -> Result<Value, SyntaxError> {
    let broken = |error: serde_yaml::Error| {
        (error.location().map(|location| location.line()), format!("this is not valid YAML: {error}"))
    };
    let mut value = serde_yaml::Value::deserialize(document).map_err(broken)?;
    value.apply_merge().map_err(broken)?;
    keep_not_finite(&mut value);
    serde_json::to_value(&value).map_err(|error| {
        (None, format!("only plain YAML with text as keys can be read, without tags: {error}"))
    })
}

/// JSON has no `.nan` and no `.inf`: they would become null, and so the default of their field. They stay as what no field can
/// be, for the schema to refuse where they stand.
fn keep_not_finite(value: &mut serde_yaml::Value) {
    match value {
        serde_yaml::Value::Number(number) if !number.is_finite() => *value = schema::not_finite(number),
        serde_yaml::Value::Sequence(items) => items.iter_mut().for_each(keep_not_finite),
        serde_yaml::Value::Mapping(fields) => fields.values_mut().for_each(keep_not_finite),
        serde_yaml::Value::Tagged(tagged) => keep_not_finite(&mut tagged.value),
        _ => {}
    }
}

impl Sorted {
    fn add(&mut self, value: Value, origin: &Origin) {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let group = api_version.split('/').next().unwrap_or_default();
        let key = |key: &str| [Step::Key(key.to_owned())];
        if kind == "List" && value["items"].is_array() {
            for item in value["items"].as_array().into_iter().flatten() {
                self.add(item.clone(), origin);
            }
        } else if !value.is_object() || api_version.is_empty() || kind.is_empty() {
            let message = "is no manifest: it needs apiVersion, kind and metadata.name";
            self.errors.push(origin.error("", &[], "", reason::KIND, message));
        } else if KINDS.contains(&kind.as_str()) && api_version != API_VERSION {
            let message = format!("a {kind} has the apiVersion {API_VERSION}");
            self.errors.push(origin.error("", &key("apiVersion"), api_version, reason::KIND, message));
        } else if group == GROUP && !KINDS.contains(&kind.as_str()) {
            let hint = similar::hint(&kind, KINDS.into_iter());
            let message = format!("{API_VERSION} has no such kind{hint}");
            self.errors.push(origin.error("", &key("kind"), kind, reason::KIND, message));
        } else if KINDS.contains(&kind.as_str()) || (kind == "Secret" && api_version == "v1") {
            self.name(value, kind, origin);
        } else {
            let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            self.ignored.push(Ignored { kind, name, origin: origin.clone() });
        }
    }

    fn name(&mut self, mut value: Value, kind: String, origin: &Origin) {
        let path = [Step::Key("metadata".to_owned()), Step::Key("name".to_owned())];
        let Some(name) = value["metadata"]["name"].as_str().filter(|n| !n.is_empty()).map(str::to_owned)
        else {
            let message = match &value["metadata"]["name"] {
                Value::Number(_) | Value::Bool(_) => "must be text: put it in quotes",
                _ => "is required: give the object a name",
            };
            self.errors.push(origin.error(&kind, &path, "", MISSING, message));
            return;
        };
        let namespace = value["metadata"]["namespace"].as_str().unwrap_or(DEFAULT_NAMESPACE).to_owned();
        value["metadata"]["namespace"] = Value::String(namespace.clone());
        self.ours.push(Document { value, kind, namespace, name, origin: origin.clone() });
    }

    /// Finds objects that are there twice.
    pub(crate) fn check_unique(&mut self) {
        for (index, document) in self.ours.iter().enumerate() {
            let same = |other: &&Document| other.title() == document.title();
            if let Some(first) = self.ours[..index].iter().find(same) {
                let message = format!("is there already, in {}: remove one of the two", first.origin);
                self.errors.push(document.error(&[], "", reason::DUPLICATE, message));
            }
        }
    }
}

/// Objects of each kind.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    pub(crate) queues: Vec<Loaded<JobQueue>>,
    pub(crate) pools: Vec<Loaded<WorkerPool>>,
    pub(crate) secrets: Vec<Loaded<Secret>>,
    pub(crate) errors: Vec<ManifestError>,
}

impl Objects {
    pub(crate) fn add(&mut self, mut document: Document) {
        let result = match document.kind.as_str() {
            "JobQueue" => document.fit(Completeness::Whole).and_then(|()| document.typed()).map(|object| {
                self.queues.push(Loaded { object, origin: document.origin.clone() });
            }),
            "WorkerPool" => document.fit(Completeness::Whole).and_then(|()| document.typed()).map(|object| {
                self.pools.push(Loaded { object, origin: document.origin.clone() });
            }),
            _ => document.typed().map(|secret: KubeSecret| {
                let object = secret_of(&document.namespace, &document.name, secret);
                self.secrets.push(Loaded { object, origin: document.origin.clone() });
            }),
        };
        if let Err(errors) = result {
            self.errors.extend(errors);
        }
    }
}

/// `stringData` wins over `data`, as in Kubernetes.
fn secret_of(namespace: &str, name: &str, secret: KubeSecret) -> Secret {
    let KubeSecret { data, string_data, metadata: ObjectMeta { .. }, .. } = secret;
    let data = data.into_iter().flatten().map(|(key, value)| (key, value.0));
    let texts = string_data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes()));
    Secret { namespace: namespace.to_owned(), name: name.to_owned(), data: data.chain(texts).collect() }
}
