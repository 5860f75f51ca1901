//! What a handler tells of its job while it runs: progress for people, a checkpoint for the next attempt.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use lanekeeper_queue::types::{MAX_CHECKPOINT, Note, Progress};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Notify;

use super::object::Object;

/// Bytes kept of a progress' unit and of its message.
const UNIT_MOST: usize = 32;
const MESSAGE_MOST: usize = 512;

/// A checkpoint that cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the checkpoint has {bytes} bytes, at most {most} are kept: store the state elsewhere and leave its name"
)]
pub struct CheckpointTooLong {
    bytes: usize,
    most: usize,
}

/// Collects what a handler tells until a heartbeat or the attempt's settlement brings it to Redis. Telling costs next to
/// nothing: of what is told between two heartbeats the last counts.
#[derive(Debug, Default)]
pub struct Notes {
    said: Mutex<Said>,
    told: OnceLock<Arc<Notify>>,
}

#[derive(Debug, Default)]
struct Said {
    /// Told since the last heartbeat.
    new: Note,
    /// With a heartbeat that Redis has not answered yet.
    on_the_way: Note,
}

impl Notes {
    /// Tells how far the job is.
    pub fn progress(&self, progress: Progress) {
        self.tell(Note { progress: Some(progress), checkpoint: None });
    }

    /// Leaves a checkpoint for the next attempt in place of the last one; an empty one takes it away. It is kept over retries,
    /// snoozes, drains, crashes and replays, until the job succeeds or is cancelled.
    ///
    /// # Errors
    /// When it is longer than [`MAX_CHECKPOINT`]; then the last one stays.
    pub fn checkpoint(&self, bytes: impl Into<Vec<u8>>) -> Result<(), CheckpointTooLong> {
        let bytes = bytes.into();
        fits(&bytes, MAX_CHECKPOINT)?;
        self.tell(Note { progress: None, checkpoint: Some(bytes) });
        Ok(())
    }

    /// Tells both, or either.
    pub(crate) fn tell(&self, mut note: Note) {
        if note.is_empty() {
            return;
        }
        if let Some(progress) = &mut note.progress {
            cut(&mut progress.unit, UNIT_MOST);
            cut(&mut progress.message, MESSAGE_MOST);
        }
        {
            let mut said = self.said();
            let older = std::mem::take(&mut said.new);
            said.new = note.over(older);
        }
        if let Some(told) = self.told.get() {
            told.notify_one();
        }
    }

    /// Notifies from now on that something was told.
    pub(crate) fn notify(&self, told: Arc<Notify>) {
        let _ = self.told.set(told);
    }

    /// What is to go with a heartbeat, unless it is more than `most` bytes; `arrived` or `failed` follows.
    pub(crate) fn take(&self, most: usize) -> Option<Note> {
        let mut said = self.said();
        if said.new.is_empty() || said.new.weight() > most {
            return None;
        }
        said.on_the_way = std::mem::take(&mut said.new);
        Some(said.on_the_way.clone())
    }

    /// Whether something waits for a heartbeat.
    pub(crate) fn waits(&self) -> bool {
        !self.said().new.is_empty()
    }

    /// The heartbeat was taken.
    pub(crate) fn arrived(&self) {
        self.said().on_the_way = Note::default();
    }

    /// It may not have been: what it brought goes with the next one.
    pub(crate) fn failed(&self) {
        let mut said = self.said();
        let (older, new) = (std::mem::take(&mut said.on_the_way), std::mem::take(&mut said.new));
        said.new = new.over(older);
    }

    /// What no heartbeat brought for certain, for the settlement of the attempt.
    pub(crate) fn last(&self) -> Option<Note> {
        let mut said = self.said();
        let (older, new) = (std::mem::take(&mut said.on_the_way), std::mem::take(&mut said.new));
        Some(new.over(older)).filter(|note| !note.is_empty())
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What may stand in a note as JSON: `{"progress": {"done": 3, "total": 10, "unit": "rows", "message": "…"}, "checkpoint": …}`. A
/// checkpoint that is a string means its characters, `null` takes the last one away, anything else means its JSON text.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JsonNote<'a> {
    #[serde(default)]
    pub(crate) progress: Option<Object<Progress>>,
    #[serde(borrow, default, deserialize_with = "given")]
    pub(crate) checkpoint: Option<&'a RawValue>,
}

/// `null` is a value too.
pub(crate) fn given<'de: 'a, 'a, D>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    <&'a RawValue>::deserialize(deserializer).map(Some)
}

/// The note that these say, with a checkpoint of at most `most` bytes; or what is wrong with it.
pub(crate) fn note(
    progress: Option<Object<Progress>>,
    left: Option<&RawValue>,
    most: usize,
) -> Result<Note, String> {
    let checkpoint = left.map(|left| bytes_of(left, most)).transpose()?;
    Ok(Note { progress: progress.map(|Object(progress)| progress), checkpoint })
}

fn bytes_of(left: &RawValue, most: usize) -> Result<Vec<u8>, String> {
    let bytes = match left.get() {
        "null" => Vec::new(),
        text if text.starts_with('"') => {
            serde_json::from_str::<String>(text).map_err(|error| error.to_string())?.into_bytes()
        }
        text => text.as_bytes().to_vec(),
    };
    fits(&bytes, most).map_err(|error| error.to_string())?;
    // An environment variable cannot hold one, nor can a program or receiver that was handed a cut text tell.
    if bytes.contains(&0) {
        return Err("the checkpoint holds a NUL: encode binary state, as base64 for instance".to_owned());
    }
    Ok(bytes)
}

/// Cuts a text between characters.
fn cut(text: &mut String, most: usize) {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

fn fits(bytes: &[u8], most: usize) -> Result<(), CheckpointTooLong> {
    if bytes.len() > most { Err(CheckpointTooLong { bytes: bytes.len(), most }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(done: u64) -> Progress {
        Progress { done, ..Progress::default() }
    }

    #[test]
    fn the_last_word_counts_and_none_is_lost() {
        let notes = Notes::default();
        assert_eq!((notes.take(999), notes.last()), (None, None));
        notes.progress(at(1));
        notes.checkpoint("a").unwrap();
        notes.progress(at(2));
        assert_eq!(notes.take(10), None, "no room in this heartbeat");
        let both = Note { progress: Some(at(2)), checkpoint: Some(b"a".to_vec()) };
        assert_eq!(notes.take(999), Some(both.clone()));
        // On its way; the attempt ends before the answer comes.
        notes.progress(at(3));
        assert_eq!(notes.last(), Some(Note { progress: Some(at(3)), ..both.clone() }));
        assert_eq!(notes.last(), None);
        // A heartbeat that failed is made up for, by what is newer where there is something.
        notes.tell(both.clone());
        notes.take(999);
        notes.checkpoint("b").unwrap();
        notes.failed();
        assert_eq!(notes.take(999), Some(Note { checkpoint: Some(b"b".to_vec()), ..both }));
        notes.arrived();
        assert!(!notes.waits() && notes.last().is_none());
    }

    #[test]
    fn long_words_are_cut_at_a_character() {
        let notes = Notes::default();
        notes
            .progress(Progress { unit: "é".repeat(17), message: "é".repeat(9_999), ..Progress::default() });
        let told = notes.last().unwrap().progress.unwrap();
        assert_eq!((told.unit.len(), told.message.len()), (32, 512));
    }

    #[test]
    fn a_long_checkpoint_leaves_the_last_one() {
        let notes = Notes::default();
        notes.checkpoint(vec![b'x'; MAX_CHECKPOINT]).unwrap();
        let error = notes.checkpoint(vec![b'y'; MAX_CHECKPOINT + 1]).unwrap_err();
        assert!(error.to_string().contains("16385 bytes, at most 16384"), "{error}");
        assert_eq!(notes.last().unwrap().checkpoint.unwrap()[0], b'x');
    }

    fn read(text: &str) -> Result<Note, String> {
        let json: JsonNote<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        note(json.progress, json.checkpoint, 10)
    }

    #[test]
    fn checkpoints_are_texts_or_json() {
        let left = |text: &str| read(text).map(|note| note.checkpoint);
        assert_eq!(left(r#"{"checkpoint": "a\nä"}"#), Ok(Some("a\nä".into())));
        assert_eq!(left(r#"{"checkpoint": {"n": 1.0}}"#), Ok(Some(br#"{"n": 1.0}"#.to_vec())));
        assert_eq!(left(r#"{"checkpoint": null}"#), Ok(Some(Vec::new())));
        assert_eq!(left(r#"{"progress": {"done": 3}}"#), Ok(None));
        assert!(left(r#"{"checkpoint": "12345678901"}"#).is_err_and(|why| why.contains("11 bytes")));
        assert!(left(r#"{"checkpoint": "\u0000"}"#).is_err_and(|why| why.contains("NUL")));
        for text in
            [r#"{"progres": {}}"#, r#"{"progress": {"done": -1}}"#, r#"{"progress": {"percent": 1}}"#, "x"]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
