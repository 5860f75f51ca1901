//! One thing that is wrong, and the collector that finds all of them in one pass.

use std::collections::HashSet;
use std::fmt;

use super::reason;

/// One thing that is wrong with an object, or, from the `*_warnings` functions, merely unwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field, such as `spec.jobTypes[3].lane`.
    pub field: String,
    /// The value found there, shortened; empty where none is or where it may be secret.
    pub value: String,
    /// What is wrong and what to do, one sentence.
    pub message: String,
    /// A constant of [`reason`].
    pub reason: &'static str,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.value.is_empty() {
            write!(f, "{}: {}", self.field, self.message)
        } else {
            write!(f, "{}: {:?}: {}", self.field, self.value, self.message)
        }
    }
}

impl std::error::Error for Problem {}

/// Longest value shown in a problem.
const SHOWN: usize = 120;

/// Collects problems; every check adds to it and goes on.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    pub(crate) fn add(
        &mut self,
        reason: &'static str,
        field: impl Into<String>,
        value: impl fmt::Display,
        message: impl Into<String>,
    ) {
        let value = value.to_string();
        let value = match value.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}…", &value[..end]),
            None => value,
        };
        self.0.push(Problem { field: field.into(), value, message: message.into(), reason });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_inner(self) -> Vec<Problem> {
        self.0
    }

    /// `Ok` when nothing was found.
    pub(crate) fn done<T>(self, value: T) -> Result<T, Vec<Problem>> {
        if self.0.is_empty() { Ok(value) } else { Err(self.0) }
    }

    /// A number within bounds, both included.
    pub(crate) fn range(&mut self, field: &str, value: i64, min: i64, max: i64) {
        if !(min..=max).contains(&value) {
            self.add(reason::INVALID_VALUE, field, value, format!("must be from {min} to {max}"));
        }
    }

    /// A list of at most `max` items.
    pub(crate) fn at_most(&mut self, field: &str, count: usize, max: usize) {
        if count > max {
            self.add(reason::TOO_MANY, field, count, format!("may have at most {max} items"));
        }
    }

    /// A text of at most `max` characters that is not empty.
    pub(crate) fn text(&mut self, field: &str, value: &str, max: usize) {
        if value.is_empty() {
            self.add(reason::MISSING, field, "", "must not be empty");
        } else if value.chars().count() > max {
            self.add(reason::INVALID_VALUE, field, value, format!("may have at most {max} characters"));
        }
    }

    /// A duration longer than nothing.
    pub(crate) fn positive(&mut self, field: &str, value: crate::duration::Duration) {
        if value.is_zero() {
            self.add(reason::INVALID_VALUE, field, value, "must be longer than zero, for example 10s");
        }
    }

    /// Names that must differ; `field` makes the path of the n-th.
    pub(crate) fn unique<'a>(
        &mut self,
        names: impl Iterator<Item = &'a str>,
        field: impl Fn(usize) -> String,
        kind: &str,
    ) {
        let mut seen = HashSet::new();
        for (index, name) in names.enumerate() {
            if !seen.insert(name) {
                let message = format!("another {kind} has this name already: names must be unique");
                self.add(reason::DUPLICATE_NAME, field(index), name, message);
            }
        }
    }
}
