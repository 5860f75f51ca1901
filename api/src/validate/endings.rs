//! `onConflict`, `debounce`, `onDead`: checked where they are written, then resolved.

use super::problem::Problems;
use super::{reason, similar};
use crate::job_queue::{JobTypeSpec, OnConflictSpec};
use crate::policy::{Debounce, JobTypePolicy, OnConflict, OnDead};

pub(crate) fn check(problems: &mut Problems, field: &str, job_type: &JobTypeSpec, all: &[JobTypeSpec]) {
    if let Some(debounce) = &job_type.debounce {
        let field = format!("{field}.debounce");
        problems.positive(&format!("{field}.wait"), debounce.wait);
        problems.positive(&format!("{field}.atMost"), debounce.at_most);
        if debounce.at_most < debounce.wait {
            let message = "is shorter than wait: a job that is put off once would be late already";
            problems.add(
                reason::MIN_ABOVE_MAX,
                format!("{field}.atMost"),
                debounce.at_most.to_string(),
                message,
            );
        }
        if job_type.on_conflict != OnConflictSpec::Replace {
            let message = "needs onConflict: Replace, for each job takes the place of the one before";
            problems.add(reason::INVALID_VALUE, field, "", message);
        }
    }
    let Some(on_dead) = &job_type.on_dead else { return };
    let (field, name) = (format!("{field}.onDead.enqueue.type"), on_dead.enqueue.r#type.as_str());
    match all.iter().find(|other| other.name == name) {
        None => {
            let hint = similar::hint(name, all.iter().map(|other| other.name.as_str()));
            let message = format!(
                "no job type of this queue has this name{hint}: correct the name or add the job type"
            );
            problems.add(reason::UNKNOWN_JOB_TYPE, field, name, message);
        }
        Some(other) if other.on_dead.is_some() => {
            let message = "has an onDead of its own: deaths would bring deaths without end";
            problems.add(reason::ON_DEAD_CHAIN, field, name, message);
        }
        Some(_) => {}
    }
}

pub(crate) fn resolve(policy: &mut JobTypePolicy, job_type: &JobTypeSpec) {
    policy.on_conflict = match job_type.on_conflict {
        OnConflictSpec::Existing => OnConflict::Existing,
        OnConflictSpec::Replace => OnConflict::Replace,
        OnConflictSpec::Reject => OnConflict::Reject,
    };
    policy.debounce = job_type.debounce.as_ref().map(|debounce| Debounce {
        wait_ms: debounce.wait.as_millis(),
        most_ms: debounce.at_most.as_millis(),
    });
    policy.on_dead =
        job_type.on_dead.as_ref().map(|on_dead| OnDead { r#type: on_dead.enqueue.r#type.clone() });
}
