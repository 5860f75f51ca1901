//! What handlers tell of their jobs while they run.

use serde::{Deserialize, Serialize};

/// Longest checkpoint, in bytes.
pub const MAX_CHECKPOINT: usize = 16 * 1024;

/// How far a job is, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Progress {
    /// How much is done; whole, below 2^53.
    pub done: u64,
    /// Of how much; absent or 0 when that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// What is counted (`rows`, `MiB`), at most 32 bytes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// What is being done, at most 512 bytes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What a handler tells: either, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Note {
    /// How far the job is; absent: as before.
    pub progress: Option<Progress>,
    /// For the next attempt, at most [`MAX_CHECKPOINT`] bytes; empty takes the last one away; absent: as before.
    pub checkpoint: Option<Vec<u8>>,
}

impl Note {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.progress.is_none() && self.checkpoint.is_none()
    }

    /// What this one says, and of the rest what an older one says.
    #[must_use]
    pub fn over(self, older: Self) -> Self {
        Self { progress: self.progress.or(older.progress), checkpoint: self.checkpoint.or(older.checkpoint) }
    }

    /// About how many bytes it takes on its way.
    #[must_use]
    pub fn weight(&self) -> usize {
        let progress = self.progress.as_ref().map_or(0, |told| 64 + told.unit.len() + told.message.len());
        progress + self.checkpoint.as_ref().map_or(0, |left| 16 + left.len())
    }
}

/// Progress as it was told last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgressTold {
    /// How much is done.
    pub done: u64,
    /// Of how much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// What is counted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// What is being done.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When it was told, server time ms.
    pub told_ms: u64,
}

impl ProgressTold {
    /// In words: `350 of 1000 rows (35 %), writing`.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut text = self.done.to_string();
        if let Some(total) = self.total {
            text.push_str(&format!(" of {total}"));
        }
        if !self.unit.is_empty() {
            text.push_str(&format!(" {}", self.unit));
        }
        // A handler that has done more than it said has miscounted: a share would only confuse.
        if let Some(total) = self.total.filter(|total| self.done <= *total) {
            text.push_str(&format!(" ({} %)", u128::from(self.done) * 100 / u128::from(total.max(1))));
        }
        match (self.message.is_empty(), self.done == 0 && self.total.is_none()) {
            (true, _) => text,
            (false, true) => self.message.clone(),
            (false, false) => format!("{text}, {}", self.message),
        }
    }
}

/// A checkpoint as seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointLeft {
    /// Its size.
    pub bytes: u64,
    /// When it was left, server time ms.
    pub left_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_in_words() {
        let told = |done, total, unit: &str, message: &str| {
            let (unit, message) = (unit.to_owned(), message.to_owned());
            ProgressTold { done, total, unit, message, told_ms: 1 }.sentence()
        };
        assert_eq!(told(350, Some(1000), "rows", "writing"), "350 of 1000 rows (35 %), writing");
        assert_eq!(
            told(u64::MAX, Some(u64::MAX), "", ""),
            "18446744073709551615 of 18446744073709551615 (100 %)"
        );
        assert_eq!(told(7, None, "files", ""), "7 files");
        assert_eq!(told(0, None, "", "waiting for the vendor"), "waiting for the vendor");
        assert_eq!(told(u64::MAX, Some(1), "", ""), "18446744073709551615 of 1");
    }

    #[test]
    fn a_newer_note_keeps_what_it_says_nothing_of() {
        let older = Note { progress: Some(Progress::default()), checkpoint: Some(b"a".to_vec()) };
        let newer = Note { progress: None, checkpoint: Some(Vec::new()) };
        let both = newer.over(older.clone());
        assert_eq!((both.progress, both.checkpoint), (older.progress, Some(Vec::new())));
    }
}
