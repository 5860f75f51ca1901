//! The chart's copies: templates, so that `helm upgrade` upgrades the definitions, as Helm's own `crds/` never does.

use serde_json::Value;

use super::{HEADER, body};

/// What stands under `metadata`, besides the name: the chart's labels, and the annotation that lets the definitions
/// (and with them every queue) survive an uninstall.
const METADATA: &str = r#"  labels:
    {{- include "lanekeeper.labels" . | nindent 4 }}
  {{- if .Values.crds.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
"#;

/// A definition as a template of the chart, behind `crds.install` and `crds.keep`.
#[must_use]
pub fn template(document: &Value) -> String {
    let body = escape(&body(document));
    // `metadata` holds the name alone, and `spec` follows it.
    let (metadata, spec) = body.split_once("\nspec:\n").unwrap_or((&body, ""));
    format!(
        "{{{{- /* {HEADER} */ -}}}}\n{{{{- if .Values.crds.install }}}}\n{metadata}\n{METADATA}spec:\n{spec}{{{{- end \
         }}}}\n"
    )
}

/// Braces that Helm would take for its own.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("{{").into_iter().chain(rest.find("}}")).min() {
        let (before, from) = rest.split_at(at);
        let (braces, after) = from.split_at(2);
        escaped.push_str(before);
        escaped.push_str(&format!("{{{{ \"{braces}\" }}}}"));
        rest = after;
    }
    escaped.push_str(rest);
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_braces_once() {
        assert_eq!(escape("a {{b}} {c}"), r#"a {{ "{{" }}b{{ "}}" }} {c}"#);
        assert_eq!(escape("{{{"), r#"{{ "{{" }}{"#);
    }

    #[test]
    fn wraps_the_definition() {
        let document = &crate::crds::documents()[0];
        let text = template(document);
        assert!(
            text.contains("{{- if .Values.crds.install }}\napiVersion: apiextensions.k8s.io/v1\n"),
            "{text}"
        );
        assert!(text.contains("  name: jobqueues.lanekeeper.dev\n  labels:\n    {{- include"), "{text}");
        assert!(text.contains("  {{- end }}\nspec:\n  group: lanekeeper.dev\n"), "{text}");
        assert!(text.ends_with("\n{{- end }}\n"), "{text}");
    }
}
