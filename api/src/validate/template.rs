//! Pod fields: what the schema says about our own fields; Kubernetes checks its own types itself.

use super::problem::Problems;
use super::{name, reason};
use crate::worker_pool::{PodTemplate, PoolVolume};

/// Prefix of labels and annotations the operator sets.
const OWN_PREFIX: &str = "lanekeeper.dev/";
/// Prefix of volumes the operator adds.
const OWN_VOLUMES: &str = "lanekeeper-";

pub(crate) fn check(problems: &mut Problems, template: &PodTemplate) {
    if let Some(image) = &template.image {
        problems.text("spec.template.image", image, 512);
        if image.contains(char::is_whitespace) {
            problems.add(reason::INVALID_VALUE, "spec.template.image", image, "must not contain blanks");
        }
    }
    check_lengths(problems, template);
    let maps = [("labels", &template.labels), ("annotations", &template.annotations)];
    for (field, map) in maps {
        for key in map.keys().filter(|key| key.starts_with(OWN_PREFIX)) {
            let message = "keys under lanekeeper.dev/ are set by the operator: choose another prefix";
            problems.add(reason::RESERVED_NAME, format!("spec.template.{field}"), key, message);
        }
    }
    for (index, variable) in template.env.iter().enumerate() {
        if variable.name.starts_with("LANEKEEPER_") {
            let message = "names that begin with LANEKEEPER_ are set by the operator: choose another name";
            let field = format!("spec.template.env[{index}].name");
            problems.add(reason::RESERVED_NAME, field, &variable.name, message);
        }
    }
    let names = template.env.iter().map(|variable| variable.name.as_str());
    problems.unique(names, |index| format!("spec.template.env[{index}].name"), "variable");
    for (index, volume) in template.volumes.iter().enumerate() {
        check_volume(problems, &format!("spec.template.volumes[{index}]"), volume);
    }
    let names = template.volumes.iter().map(|volume| volume.name.as_str());
    problems.unique(names, |index| format!("spec.template.volumes[{index}].name"), "volume");
    check_mounts(problems, template);
}

fn check_lengths(problems: &mut Problems, template: &PodTemplate) {
    for (field, count, max) in [
        ("imagePullSecrets", template.image_pull_secrets.len(), 16),
        ("labels", template.labels.len(), 64),
        ("annotations", template.annotations.len(), 64),
        ("env", template.env.len(), 128),
        ("envFrom", template.env_from.len(), 32),
        ("volumes", template.volumes.len(), 32),
        ("volumeMounts", template.volume_mounts.len(), 64),
        ("nodeSelector", template.node_selector.len(), 32),
        ("tolerations", template.tolerations.len(), 32),
        ("topologySpreadConstraints", template.topology_spread_constraints.len(), 16),
    ] {
        problems.at_most(&format!("spec.template.{field}"), count, max);
    }
}

fn check_volume(problems: &mut Problems, field: &str, volume: &PoolVolume) {
    name::label(problems, &format!("{field}.name"), &volume.name);
    if volume.name.starts_with(OWN_VOLUMES) {
        let message = "volume names that begin with lanekeeper- are the operator's: choose another name";
        problems.add(reason::RESERVED_NAME, format!("{field}.name"), &volume.name, message);
    }
    let kinds = [
        volume.config_map.is_some(),
        volume.secret.is_some(),
        volume.empty_dir.is_some(),
        volume.persistent_volume_claim.is_some(),
    ];
    if kinds.iter().filter(|set| **set).count() != 1 {
        let message = "set exactly one of configMap, secret, emptyDir and persistentVolumeClaim";
        problems.add(reason::NOT_EXACTLY_ONE, field, &volume.name, message);
    }
}

/// A mount of a volume that is not there would only show once pods are refused.
fn check_mounts(problems: &mut Problems, template: &PodTemplate) {
    for (index, mount) in template.volume_mounts.iter().enumerate() {
        if !template.volumes.iter().any(|volume| volume.name == mount.name) {
            let message = "no volume of this pool has this name: add it to spec.template.volumes";
            let field = format!("spec.template.volumeMounts[{index}].name");
            problems.add(reason::MISSING, field, &mount.name, message);
        }
    }
}
