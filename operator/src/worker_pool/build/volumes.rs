//! Volumes of a worker pod and where they appear. Names that begin with `lanekeeper-` are the operator's.

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, KeyToPath, SecretVolumeSource, Volume, VolumeMount};
use lanekeeper_api::worker_pool::PoolVolume;

use super::ValidatedPool;

/// Where the copied worker lies.
pub(super) const WORKER_BINARY: &str = "/lanekeeper/lanekeeper-worker";
/// Signing secrets lie in `<dir>/<secret>/<key>`.
pub(super) const SIGNING_DIR: &str = "/var/run/lanekeeper/secrets";
/// The certificate authority of Redis.
pub(super) const CA_FILE: &str = "/var/run/lanekeeper/redis/ca.crt";

const BINARY_DIR: &str = "/lanekeeper";
const CA_DIR: &str = "/var/run/lanekeeper/redis";
const TMP: &str = "/tmp";

const BINARY_VOLUME: &str = "lanekeeper-bin";
const CA_VOLUME: &str = "lanekeeper-redis-ca";
const TMP_VOLUME: &str = "lanekeeper-tmp";

/// Every volume of the pod.
pub(super) fn volumes(pool: &ValidatedPool) -> Vec<Volume> {
    let mut volumes: Vec<Volume> = pool.template.volumes.iter().map(users).collect();
    if wants_tmp(pool) {
        volumes.push(scratch(TMP_VOLUME));
    }
    if pool.template.image.is_some() {
        volumes.push(scratch(BINARY_VOLUME));
    }
    if let Some(ca) = &pool.credentials.ca {
        let item = KeyToPath { key: ca.key.clone(), path: "ca.crt".to_owned(), mode: None };
        volumes.push(secret(CA_VOLUME.to_owned(), &ca.name, Some(vec![item]), false));
    }
    // Optional: one missing signing key must hold up its own jobs only, which fail with that reason, not the pool.
    volumes.extend(
        pool.signing_secrets.iter().enumerate().map(|(n, name)| secret(signing_volume(n), name, None, true)),
    );
    volumes
}

/// The operator's own mounts in the worker container.
pub(super) fn own_mounts(pool: &ValidatedPool) -> Vec<VolumeMount> {
    let mut mounts = Vec::new();
    if wants_tmp(pool) {
        mounts.push(mount(TMP_VOLUME, TMP, false));
    }
    if pool.template.image.is_some() {
        mounts.push(binary_mount(true));
    }
    if pool.credentials.ca.is_some() {
        mounts.push(mount(CA_VOLUME, CA_DIR, true));
    }
    mounts.extend(
        pool.signing_secrets
            .iter()
            .enumerate()
            .map(|(n, name)| mount(&signing_volume(n), &format!("{SIGNING_DIR}/{name}"), true)),
    );
    mounts
}

/// Where the worker is copied to.
pub(super) fn binary_mount(read_only: bool) -> VolumeMount {
    mount(BINARY_VOLUME, BINARY_DIR, read_only)
}

/// The root is read-only; programs expect a place for scratch files, unless the user brings one.
fn wants_tmp(pool: &ValidatedPool) -> bool {
    !pool.template.volume_mounts.iter().any(|mount| mount.mount_path.trim_end_matches('/') == TMP)
}

fn signing_volume(number: usize) -> String {
    format!("lanekeeper-signing-{number}")
}

fn users(volume: &PoolVolume) -> Volume {
    Volume {
        name: volume.name.clone(),
        config_map: volume.config_map.clone(),
        secret: volume.secret.clone(),
        empty_dir: volume.empty_dir.clone(),
        persistent_volume_claim: volume.persistent_volume_claim.clone(),
        ..Volume::default()
    }
}

fn scratch(name: &str) -> Volume {
    Volume { name: name.to_owned(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }
}

fn secret(volume: String, name: &str, items: Option<Vec<KeyToPath>>, optional: bool) -> Volume {
    let source = SecretVolumeSource {
        secret_name: Some(name.to_owned()),
        items,
        optional: optional.then_some(true),
        ..SecretVolumeSource::default()
    };
    Volume { name: volume, secret: Some(source), ..Volume::default() }
}

fn mount(volume: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

#[cfg(test)]
mod tests {
    use lanekeeper_api::policy::SecretKey;

    use super::super::tests::pool;
    use super::*;

    #[test]
    fn every_mount_has_its_volume_and_the_other_way_round() {
        let mut pool = pool();
        pool.template.image = Some("app:2".to_owned());
        pool.signing_secrets = ["mailer".to_owned(), "billing".to_owned()].into();
        pool.credentials.ca = Some(SecretKey { name: "r".to_owned(), key: "tls.ca".to_owned() });
        let mut named: Vec<String> = volumes(&pool).into_iter().map(|volume| volume.name).collect();
        let mut mounted: Vec<String> = own_mounts(&pool).into_iter().map(|mount| mount.name).collect();
        named.sort();
        mounted.sort();
        assert_eq!(named, mounted);
        assert_eq!(named.len(), 5);
    }

    #[test]
    fn a_signing_secret_lies_under_its_name() {
        let mut pool = pool();
        pool.signing_secrets = ["mailer".to_owned()].into();
        let paths: Vec<String> = own_mounts(&pool).into_iter().map(|mount| mount.mount_path).collect();
        assert!(paths.contains(&"/var/run/lanekeeper/secrets/mailer".to_owned()));
    }

    #[test]
    fn a_tmp_of_the_users_own_is_not_covered() {
        let mut pool = pool();
        pool.template.volume_mounts = vec![mount("scratch", "/tmp/", false)];
        assert!(own_mounts(&pool).is_empty());
        assert!(volumes(&pool).is_empty());
    }
}
