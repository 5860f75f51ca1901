//! Groups of dead letters, and how far an act on them is.

use std::collections::HashMap;

use indicatif::{ProgressBar, ProgressStyle};
use lanekeeper_queue::types::{DeadGroup, Job};

use super::job::last_error;
use crate::human::relative;
use crate::out::{cell, render, table};

/// Largest first.
pub(crate) fn groups(groups: &[DeadGroup], examples: &HashMap<String, Job>, now_ms: u64) -> String {
    let mut rows = table(&["COUNT", "TYPE", "FINGERPRINT", "FIRST", "LAST", "EXAMPLE", "ERROR"]);
    for group in groups {
        rows.add_row(vec![
            cell(group.count),
            cell(&group.job_type),
            cell(&group.fingerprint),
            cell(relative(now_ms, group.first_ms)),
            cell(relative(now_ms, group.last_ms)),
            cell(&group.example),
            cell(examples.get(&group.example).map_or_else(String::new, last_error)),
        ]);
    }
    render(&rows)
}

/// On standard error, and only on a terminal.
pub(crate) fn bar(total: u64) -> ProgressBar {
    styled(ProgressBar::new(total), "{bar:30} {human_pos}/{human_len} {msg} ({eta} left)")
}

/// The same where nobody knows how much there is.
pub(crate) fn spinner() -> ProgressBar {
    styled(ProgressBar::new_spinner(), "{spinner} {msg} ({elapsed})")
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template);
    style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
}
