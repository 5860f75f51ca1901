//! The installed shape: committed files, and what Kubernetes asks of a schema.

use std::path::Path;

use serde_json::Value;

use super::{documents, file_name, reference, template, yaml};

/// The committed files are the snapshot.
#[test]
fn committed_files_are_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files: Vec<(String, String)> = vec![("docs/reference.md".to_owned(), reference())];
    for document in documents() {
        let name = file_name(&document);
        files.push((format!("crds/{name}"), yaml(&document)));
        files.push((format!("charts/lanekeeper/templates/crds/{name}"), template(&document)));
    }
    for (file, content) in files {
        let found = std::fs::read_to_string(root.join(&file)).unwrap_or_default();
        assert!(found == content, "{file} is out of date: run `make crds`");
    }
}

fn visit(path: &str, value: &Value, see: &mut impl FnMut(&str, &Value)) {
    see(path, value);
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| visit(&format!("{path}/{key}"), value, see))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, value)| visit(&format!("{path}/{i}"), value, see));
        }
        _ => {}
    }
}

#[test]
fn nothing_is_nullable_and_every_format_is_known() {
    for document in documents() {
        visit("", &document, &mut |path, value| {
            assert_ne!(value.get("nullable"), Some(&Value::Bool(true)), "{path}");
            assert!(value.get("anyOf").is_none() && value.get("oneOf").is_none(), "{path} is not structural");
            if let Some(format) = value.get("format").and_then(Value::as_str) {
                assert!(["int32", "int64", "date-time"].contains(&format), "{path}: {format}");
            }
        });
    }
}

/// Rules cost by the longest list they may meet, so our own lists, maps and texts say how long they get.
#[test]
fn our_own_lists_maps_and_texts_are_bounded() {
    for document in documents() {
        let spec = &document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        visit("", spec, &mut |path, value| {
            // Below these are types of Kubernetes, which no rule of ours looks into.
            let kubernetes =
                path.matches("/template/properties/").count() > 0 && path.matches("/properties/").count() > 2;
            let bound = match value.get("type").and_then(Value::as_str) {
                Some("array") => "maxItems",
                Some("object") if value.get("additionalProperties").is_some() => "maxProperties",
                Some("string") if value.get("enum").is_none() => "maxLength",
                _ => return,
            };
            assert!(kubernetes || value.get(bound).is_some(), "{path} has no {bound}");
        });
    }
}

#[test]
fn columns_names_and_subresources_are_as_designed() {
    let columns = |document: &Value| {
        let columns = document["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap().clone();
        columns.iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let [queue, pool] = documents().try_into().unwrap();
    assert_eq!(columns(&queue), ["Ready", "Depth", "Oldest", "Running", "Dead", "Age"]);
    assert_eq!(columns(&pool), ["Ready", "Desired", "Replicas", "Busy", "Oldest", "Reason", "Age"]);
    assert_eq!(
        (&queue["spec"]["names"]["shortNames"][0], &pool["spec"]["names"]["shortNames"][0]),
        (&"jq".into(), &"wp".into())
    );
    let scale = &pool["spec"]["versions"][0]["subresources"]["scale"];
    assert_eq!(scale["specReplicasPath"], ".spec.replicas");
    assert_eq!(scale["labelSelectorPath"], ".status.selector");
    for document in [queue, pool] {
        assert_eq!(document["spec"]["names"]["categories"][0], "lanekeeper");
        assert!(document["spec"]["versions"][0]["subresources"]["status"].is_object());
        let conditions = document
            .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/conditions");
        assert_eq!(conditions.unwrap()["x-kubernetes-list-map-keys"][0], "type");
    }
}
