//! I14: everything has ended within a bound after the last fault was healed.

use super::evidence::Record;
use super::life::Life;
use super::phase::End;
use super::report::Violation;
use super::rules::Liveness;

/// Judges one job. The bound counts from when it could be started, if that was after the heal.
pub(super) fn judge(
    life: Option<&Life<'_>>,
    record: Option<&Record>,
    dumped_ms: u64,
    rules: Liveness,
) -> Option<Violation> {
    let ready_ms = life.and_then(|life| life.ready_ms).or(record.map(|record| record.due_ms))?;
    let deadline_ms = rules.healed_ms.max(ready_ms).saturating_add(rules.bound_ms);
    if let Some(record) = record
        && End::of(record.state).is_none()
    {
        return (dumped_ms >= deadline_ms).then(|| Violation::Unfinished {
            job: record.job.clone(),
            state: record.state,
            deadline_ms: Some(deadline_ms),
        });
    }
    let life = life?;
    let ended_ms = life.sure_end_ms.filter(|ended_ms| *ended_ms > deadline_ms)?;
    Some(Violation::FinishedLate { job: life.job.into(), ended_ms, deadline_ms })
}
