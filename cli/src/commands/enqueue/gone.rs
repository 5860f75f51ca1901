//! `enqueue --wait` of a job whose record is gone: what became of it all the same.
//!
//! A record goes by itself when its job succeeded or was cancelled and its type's `completed` keeps no more of them, and some time
//! after a dead letter was discarded. Of these only a success is no event, so a job that was taken and of which no event speaks
//! has succeeded, unless something else may have taken its record.

use lanekeeper_queue::types::{Event, JobState};

use crate::target::Opened;

/// Events of one call.
const PAGE: u32 = 1000;
/// A queue keeps at least so many: where as many came since, older ones may be gone.
const KEPT: usize = 10_000;
/// Before the first event.
const BEGINNING: &str = "0-0";

/// What is told of a job without a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// How it ended.
    Ended(JobState),
    /// A person has to look: its record could not be read, or had gone before the job ended.
    Damaged,
    /// Nothing, and nothing was missed.
    Nothing,
    /// Nothing, but events of that time are no longer kept.
    Missed,
}

/// Where the events end now. It is asked for before a job is sent, so that what happened to an earlier one of the same id is not
/// taken for its news.
pub(super) async fn mark(opened: &Opened) -> String {
    // A queue that is only about to be made has no events; any other trouble is met again by whoever reads them.
    let last = opened.queue.events(None, 1).await.unwrap_or_default().pop();
    last.map_or_else(|| BEGINNING.to_owned(), |event| event.id)
}

/// How a job ended that has no record any more, or why that is not known. `key`: its idempotency key, as far as that is known;
/// `unseen`: Redis was away since the job was seen last.
pub(super) async fn fate(
    opened: &Opened,
    id: &str,
    key: Option<&str>,
    mark: &str,
    unseen: bool,
) -> lanekeeper_queue::Result<Result<JobState, &'static str>> {
    if let Some(key) = key
        && opened.queue.kept_key(key).await?.is_some_and(|kept| kept.id == id)
    {
        return Ok(Ok(JobState::Succeeded));
    }
    Ok(decide(news(opened, id, mark).await?, unseen))
}

fn decide(word: Word, unseen: bool) -> Result<JobState, &'static str> {
    match word {
        Word::Ended(state) => Ok(state),
        Word::Nothing if unseen => {
            Err("Redis was away meanwhile, and may have lost the job with its last writes")
        }
        Word::Nothing => Ok(JobState::Succeeded),
        Word::Damaged => Err("its record was damaged before (`lanekeeper events` tells of it)"),
        Word::Missed => Err("so much happened meanwhile that the events of that time are no longer kept"),
    }
}

/// What the events since the mark say of the job, the last of them first.
async fn news(opened: &Opened, id: &str, mark: &str) -> lanekeeper_queue::Result<Word> {
    let (mut after, mut read, mut word) = (mark.to_owned(), 0, Word::Nothing);
    loop {
        let page = opened.queue.events(Some(&after), PAGE).await?;
        read += page.len();
        word = page.iter().filter(|event| event.job.as_deref() == Some(id)).fold(word, heard);
        match page.last() {
            Some(last) if page.len() == PAGE as usize => after = last.id.clone(),
            _ => break,
        }
    }
    Ok(if word == Word::Nothing && read >= KEPT { Word::Missed } else { word })
}

fn heard(word: Word, event: &Event) -> Word {
    match event.kind.as_str() {
        "cancelled" => Word::Ended(JobState::Cancelled),
        "dead" | "acknowledged" => Word::Ended(JobState::Dead),
        "discarded" => Word::Ended(JobState::Discarded),
        "replayed" => Word::Nothing,
        "damaged" => Word::Damaged,
        // A lease that expired and the like: the job went on.
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kinds: &[&str]) -> Word {
        kinds.iter().fold(Word::Nothing, |word, kind| {
            let (job, name, detail) = (Some("j1".to_owned()), None, None);
            heard(word, &Event { id: "1-0".into(), at_ms: 1, kind: (*kind).to_owned(), job, name, detail })
        })
    }

    #[test]
    fn a_job_without_a_record_succeeded_unless_something_else_is_told() {
        assert_eq!(decide(told(&[]), false), Ok(JobState::Succeeded));
        assert_eq!(decide(told(&["lease-expired"]), false), Ok(JobState::Succeeded));
        assert_eq!(decide(told(&["cancelled"]), true), Ok(JobState::Cancelled));
        assert_eq!(decide(told(&["dead", "discarded"]), false), Ok(JobState::Discarded));
        assert_eq!(decide(told(&["dead", "replayed"]), false), Ok(JobState::Succeeded));
    }

    #[test]
    fn nobody_claims_a_success_that_is_not_certain() {
        assert!(decide(told(&[]), true).is_err_and(|why| why.contains("away")));
        assert!(decide(told(&["damaged"]), false).is_err_and(|why| why.contains("damaged")));
        assert!(decide(Word::Missed, false).is_err_and(|why| why.contains("no longer kept")));
    }
}
