//! What `up` shows while it runs.

use std::collections::BTreeMap;

use lanekeeper_api::policy::QueuePolicy;

use super::state::UpState;
use crate::present::figures::{QueueView, pools};
use crate::redact::redact;

/// The whole text that is redrawn: figures of every queue, then the pools.
pub(crate) fn render(
    state: &UpState,
    policies: &BTreeMap<String, QueuePolicy>,
    errors: &BTreeMap<String, String>,
) -> String {
    let mut parts = vec![format!(
        "local mode {} (pid {}, {})",
        state.phase.to_lowercase(),
        state.pid,
        redact(&state.redis)
    )];
    // First, since a low terminal cuts the end off.
    if !state.pools.is_empty() {
        parts.push(pools(&state.pools));
    }
    for (name, stats) in &state.queues {
        if let Some(error) = errors.get(name) {
            parts.push(format!("queue {name}: {}", redact(error)));
        }
        if let Some(stats) = stats {
            let mut stats = stats.clone();
            // Pools say enough about workers here.
            stats.workers.clear();
            parts.push(QueueView::new(name.clone(), stats, policies.get(name), BTreeMap::new()).render());
        }
    }
    parts.join("\n\n")
}
