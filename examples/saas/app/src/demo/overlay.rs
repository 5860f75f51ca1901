//! What differs from the manifests on one machine.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

/// `demo/overlay.yaml` with its placeholders filled in.
///
/// # Errors
/// When the file cannot be read, or a path cannot stand in YAML.
pub fn fill(examples: &Path, port: u16, program: &Path, data: &Path) -> anyhow::Result<String> {
    let path = examples.join("demo/overlay.yaml");
    let template = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let quoted = |path: &Path| {
        let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
        // The placeholders stand between double quotes, where YAML knows the escapes of JSON.
        let json = serde_json::to_string(text)?;
        anyhow::Ok(json.trim_matches('"').to_owned())
    };
    Ok(template
        .replace("${SAAS_URL}", &format!("http://127.0.0.1:{port}"))
        .replace("\"${SAAS_APP}\"", &format!("\"{}\"", quoted(program)?))
        .replace("\"${SAAS_DATA}\"", &format!("\"{}\"", quoted(data)?)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Secret {
    string_data: BTreeMap<String, String>,
}

/// The secret that the example signs webhooks with.
///
/// # Errors
/// When the manifest cannot be read.
pub fn webhook_secret(examples: &Path) -> anyhow::Result<String> {
    let path = examples.join("05-secret.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut secret: Secret = serde_yaml::from_str(&text).with_context(|| path.display().to_string())?;
    secret.string_data.remove("hmac").with_context(|| format!("{} has no stringData.hmac", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placeholder_is_filled_and_the_result_is_yaml() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let filled = fill(&examples, 4711, Path::new("/opt/a \"b\"/saas-app"), Path::new("/tmp/x")).unwrap();
        let body: String = filled.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(!body.contains("${"), "{filled}");
        assert!(filled.contains("http://127.0.0.1:4711/mailer"));
        let documents = serde_yaml::Deserializer::from_str(&filled).map(serde_yaml::Value::deserialize);
        assert_eq!(documents.collect::<Result<Vec<_>, _>>().unwrap().len(), 6);
    }

    #[test]
    fn the_examples_secret_is_a_webhook_secret() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        crate::signature::Secret::parse(&webhook_secret(&examples).unwrap()).unwrap();
    }
}
