//! Under which name the command line writes policies.

use lanekeeper_api::policy::Source;

use crate::clock;

/// Owner of policies written by `apply` and `up`.
pub(crate) const OWNER: &str = "cli";
const UID: &str = "local";

/// The source of a policy that follows the stored one: the next generation of ours, or the first after another's.
pub(crate) fn source_after(stored: Option<&Source>) -> Source {
    match stored {
        Some(source) if source.owner == OWNER && source.uid == UID => Source { generation: source.generation + 1, ..source.clone() },
        _ => Source { owner: OWNER.to_owned(), uid: UID.to_owned(), created_ms: clock::now_ms(), generation: 1 },
    }
}
