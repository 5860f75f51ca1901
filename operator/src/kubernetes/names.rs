//! Names that the operator writes into Kubernetes: field managers, labels, annotations, owned objects.

use std::collections::BTreeMap;

/// Field manager of the reconcilers.
pub const RECONCILER: &str = "lanekeeper/reconciler";
/// Field manager of whoever writes `/scale`.
pub const AUTOSCALER: &str = "lanekeeper/autoscaler";
/// The finalizer of JobQueues.
pub const FINALIZER: &str = "lanekeeper.dev/redis";
/// Annotation that lets a JobQueue go whose Redis cannot be cleaned up.
pub const FORCE_DELETE: &str = "lanekeeper.dev/force-delete";
/// Label: the WorkerPool an object belongs to.
pub const POOL_LABEL: &str = "lanekeeper.dev/pool";
/// Label: the JobQueue an object belongs to.
pub const QUEUE_LABEL: &str = "lanekeeper.dev/queue";
/// Pod annotation: changes when the credentials do, and so rolls the pool.
pub const CREDENTIALS_CHECKSUM: &str = "lanekeeper.dev/credentials-checksum";
/// Pod annotation: pods of lower cost go first on the way down.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// Selects what the operator made.
pub const MANAGED_SELECTOR: &str = "app.kubernetes.io/managed-by=lanekeeper";

const NAME_LIMIT: usize = 63;

/// The Deployment of a pool.
#[must_use]
pub fn deployment(pool: &str) -> String {
    format!("{pool}-lanekeeper")
}

/// The Secret that holds the workers' credentials of a queue.
#[must_use]
pub fn worker_secret(queue: &str) -> String {
    format!("{queue}-lanekeeper-worker")
}

/// The ACL user of a queue: a namespace has no dots, so no two queues share one.
#[must_use]
pub fn acl_user(namespace: &str, queue: &str) -> String {
    format!("lanekeeper.{namespace}.{queue}")
}

/// The labels that select a pool's pods. They never change, for a Deployment's selector cannot.
#[must_use]
pub fn selector(pool: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), "lanekeeper-worker".to_owned()),
        ("app.kubernetes.io/instance".to_owned(), label_value(pool)),
    ])
}

/// The labels of everything that belongs to a pool.
#[must_use]
pub fn pool_labels(pool: &str, queue: &str) -> BTreeMap<String, String> {
    let mut labels = selector(pool);
    labels.extend([
        ("app.kubernetes.io/managed-by".to_owned(), "lanekeeper".to_owned()),
        ("app.kubernetes.io/component".to_owned(), "worker".to_owned()),
        ("app.kubernetes.io/part-of".to_owned(), "lanekeeper".to_owned()),
        (POOL_LABEL.to_owned(), label_value(pool)),
        (QUEUE_LABEL.to_owned(), label_value(queue)),
    ]);
    labels
}

/// The labels of what belongs to a queue.
#[must_use]
pub fn queue_labels(queue: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), "lanekeeper".to_owned()),
        ("app.kubernetes.io/instance".to_owned(), label_value(queue)),
        ("app.kubernetes.io/managed-by".to_owned(), "lanekeeper".to_owned()),
        ("app.kubernetes.io/part-of".to_owned(), "lanekeeper".to_owned()),
        (QUEUE_LABEL.to_owned(), label_value(queue)),
    ])
}

/// The value of [`POOL_LABEL`] for a pool.
#[must_use]
pub fn pool_label(pool: &str) -> String {
    label_value(pool)
}

/// The value of [`QUEUE_LABEL`] for a queue.
#[must_use]
pub fn queue_label(queue: &str) -> String {
    label_value(queue)
}

/// A name as a label value: longer ones end in a checksum of the whole.
fn label_value(name: &str) -> String {
    if name.len() <= NAME_LIMIT {
        return name.to_owned();
    }
    let sum = checksum(name.as_bytes());
    let kept: String = name.chars().take(NAME_LIMIT - 1 - sum.len()).collect();
    format!("{}-{sum}", kept.trim_end_matches(['-', '.']))
}

/// FNV-1a, 64 bits, in hex: tells versions apart; it protects nothing.
#[must_use]
pub fn checksum(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_whose_joined_names_look_alike_have_users_of_their_own() {
        assert_ne!(acl_user("a", "b.c"), acl_user("a-b", "c"));
    }

    #[test]
    fn a_label_value_fits_and_tells_long_names_apart() {
        let long = "q".repeat(100);
        let other = format!("{long}x");
        assert!(label_value(&long).len() <= 63);
        assert_ne!(label_value(&long), label_value(&other));
        assert_eq!(label_value("saas"), "saas");
    }

    #[test]
    fn the_selector_is_part_of_the_labels() {
        let labels = pool_labels("p", "q");
        assert!(selector("p").iter().all(|(key, value)| labels.get(key) == Some(value)));
    }
}
