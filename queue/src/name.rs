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
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
