//! Which options of an enqueue are accepted.

use crate::types::EnqueueOptions;

/// Ten years.
pub(super) const MAX_DELAY_MS: u64 = 315_360_000_000;
/// Latest moment, ms since the epoch.
const MAX_RUN_AT_MS: u64 = 5_000_000_000_000;

/// Whether the options make sense by themselves.
pub(super) fn valid(options: &EnqueueOptions) -> bool {
    let id = options
        .id
        .as_ref()
        .is_none_or(|id| (1..=128).contains(&id.len()) && id.bytes().all(|byte| (33..=126).contains(&byte)));
    let key = options.key.as_ref().is_none_or(|key| (1..=512).contains(&key.len()) && !key.contains('\0'));
    let bytes: usize = options.meta.iter().map(|(name, value)| name.len() + value.len()).sum();
    id && key
        && options.priority.is_none_or(|priority| priority <= 9)
        && options.delay.is_none_or(|delay| delay <= MAX_DELAY_MS)
        && options.run_at.is_none_or(|at| at <= MAX_RUN_AT_MS)
        && !(options.delay.is_some() && options.run_at.is_some())
        && options.meta.len() <= 32
        && bytes <= 4096
}
