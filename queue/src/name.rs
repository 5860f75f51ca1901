//! Names of queues and of every Redis key.

use std::fmt;

/// `namespace/name` of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueName(String);

impl QueueName {
    /// Joins namespace and name.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self(format!("{namespace}/{name}"))
    }

    /// The part before the slash.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// The part after the slash.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(_, name)| name)
    }

    /// The queue whose policy lives under this key, if the key is that of a policy.
    pub(crate) fn from_policy_key(key: &str) -> Option<Self> {
        key.strip_prefix("lk:{")?.strip_suffix("}:p")?.parse().ok()
    }

    /// Pattern of the keys under which policies live.
    pub(crate) const POLICY_KEYS: &'static str = "lk:{*}:p";

    /// The root key, whose braces keep the whole queue in one cluster slot.
    #[must_use]
    pub fn root(&self) -> String {
        format!("lk:{{{}}}", self.0)
    }

    /// The channel on which the operator hears that a queue needs a look.
    #[must_use]
    pub fn wake_channel(&self) -> String {
        format!("{}:wake", self.root())
    }

    /// The channel on which one boot of a worker hears that a job it runs is to be stopped.
    #[must_use]
    pub fn calls_channel(&self, boot: &str) -> String {
        format!("{}:x:{boot}", self.root())
    }

    /// The hash of idempotency keys and their owners: looked at from outside the function library, never written.
    pub(crate) fn keys_hash(&self) -> String {
        format!("{}:k", self.root())
    }

    /// The hash of job records: looked at from outside the function library, never written.
    #[must_use]
    pub fn jobs_hash(&self) -> String {
        format!("{}:j", self.root())
    }

    /// The hash of what became of jobs: looked at from outside the function library, never written.
    pub(crate) fn pasts_hash(&self) -> String {
        format!("{}:a", self.root())
    }

    /// The list of wake tokens of a lane: the only key that is changed from outside the function library, by `BLPOP`.
    #[must_use]
    pub fn wake_list(&self, lane: &str) -> String {
        format!("{}:w:{lane}", self.root())
    }
}

impl std::str::FromStr for QueueName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |part: &str| {
            !part.is_empty()
                && part.len() <= 253
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        };
        match text.split_once('/') {
            Some((namespace, name)) if plain(namespace) && plain(name) => Ok(Self::new(namespace, name)),
            _ => Err(format!("{text:?} is no queue name: write <namespace>/<name>")),
        }
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
