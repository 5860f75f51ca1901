//! What a response means.

use std::time::{Duration, UNIX_EPOCH};

use lanekeeper_queue::types::Progress;
use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::MAX_CHECKPOINT;
use crate::handler::notes::{given, note};
use crate::handler::object::Object;
use crate::handler::{Answer, Failure, MAX_TEXT, Notes, code};

/// Most of an error's body that goes into the history.
const MAX_ERROR_BODY: usize = 4 * 1024;
/// Most of it that is read: a checkpoint may stand in it.
const MAX_READ: usize = 32 * 1024;
/// A receiver that has sent its status gets this long for the body. The status has decided already.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// What status and headers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Success,
    Hold(Duration),
    Retry,
    /// To where, if the answer says so.
    Redirect(Option<String>),
    Permanent,
}

/// Reads status and `Retry-After`, whose date form is measured against `now_ms`.
pub(super) fn classify(status: StatusCode, headers: &HeaderMap, now_ms: u64) -> Verdict {
    let code = status.as_u16();
    match code {
        200..=299 => Verdict::Success,
        429 | 503 => retry_after(headers, now_ms).map_or(Verdict::Retry, Verdict::Hold),
        408 | 425 | 500..=599 => Verdict::Retry,
        300..=399 => {
            let to = headers.get(LOCATION).and_then(|v| v.to_str().ok()).and_then(|v| v.split('?').next());
            Verdict::Redirect(to.map(str::to_owned))
        }
        _ => Verdict::Permanent,
    }
}

/// Seconds or an HTTP date; a date in the past holds for nothing, and more seconds than a number takes for as long as may be.
fn retry_after(headers: &HeaderMap, now_ms: u64) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::MAX);
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let date = date.duration_since(UNIX_EPOCH).ok()?;
    Some(date.saturating_sub(Duration::from_millis(now_ms)))
}

/// A response body, as far as it was read.
pub(super) struct Body {
    bytes: Vec<u8>,
    whole: bool,
}

/// Reads at most `limit` bytes; the rest is cut off with the connection.
pub(super) async fn body(mut response: Response, limit: usize) -> Body {
    let mut bytes = Vec::new();
    let read = async {
        while let Ok(chunk) = response.chunk().await {
            let Some(chunk) = chunk else { return true };
            let room = limit - bytes.len();
            bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                return false;
            }
        }
        false
    };
    let whole = tokio::time::timeout(BODY_TIMEOUT, read).await.unwrap_or(false);
    Body { bytes, whole }
}

impl Verdict {
    /// How much of the body is worth reading.
    pub(super) fn keeps(&self) -> usize {
        if *self == Self::Success { MAX_TEXT } else { MAX_READ }
    }

    /// The attempt's end.
    pub(super) fn conclude(
        self,
        status: StatusCode,
        host: &str,
        body: Body,
        notes: &Notes,
    ) -> Result<Answer, Failure> {
        let wrong = match self {
            Self::Hold(_) | Self::Retry => heed(&body, notes).err(),
            _ => None,
        };
        // What the worker says, then what the receiver said: the first line alone may go into logs.
        let says = || {
            let kept = &body.bytes[..body.bytes.len().min(MAX_ERROR_BODY)];
            let wrong =
                wrong.as_ref().map_or_else(String::new, |why| format!("; its note is left out: {why}"));
            format!("{host} answered {status}{wrong}\n{}", String::from_utf8_lossy(kept).trim())
                .trim_end()
                .to_owned()
        };
        match self {
            // Half an answer is worse than none: the work is done either way, which the status has said.
            Self::Success => Answer::parse(body.bytes, body.whole, notes, MAX_CHECKPOINT),
            Self::Hold(after) => match Failure::transient(code::HTTP_STATUS, says()) {
                Failure::Retry { error, .. } => Err(Failure::Retry { error, retry_after: Some(after) }),
                other => Err(other),
            },
            Self::Retry => Err(Failure::transient(code::HTTP_STATUS, says())),
            Self::Redirect(Some(to)) => Err(Failure::permanent(
                code::HTTP_REDIRECT,
                format!("{host} answered {status} to {to}: redirects are not followed, name the final URL"),
            )),
            Self::Redirect(None) => Err(Failure::permanent(
                code::HTTP_REDIRECT,
                format!("{host} answered {status}, which is no success; answer with a status of 2xx"),
            )),
            Self::Permanent => Err(Failure::permanent(code::HTTP_STATUS, says())),
        }
    }
}

/// What an answer that is tried again may leave for the next attempt; whatever else it says is its own.
#[derive(Deserialize)]
struct Left<'a> {
    #[serde(default)]
    progress: Option<Object<Progress>>,
    #[serde(borrow, default, deserialize_with = "given")]
    checkpoint: Option<&'a RawValue>,
}

/// Takes down the note in the body, if there is one; or says what is wrong with it.
fn heed(body: &Body, notes: &Notes) -> Result<(), String> {
    // An error page of some proxy, or an object that speaks of other things, is no note.
    if body.bytes.trim_ascii_start().first() != Some(&b'{') {
        return Ok(());
    }
    let Ok(left) = serde_json::from_slice::<Left<'_>>(&body.bytes) else { return Ok(()) };
    notes.tell(note(left.progress, left.checkpoint, MAX_CHECKPOINT)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lanekeeper_queue::types::ErrorClass;

    fn class(status: u16, retry_after: Option<&str>) -> Verdict {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(RETRY_AFTER, value.parse().unwrap());
        }
        // 1994-11-06T08:49:37Z
        classify(StatusCode::from_u16(status).unwrap(), &headers, 784_111_777_000)
    }

    #[test]
    fn statuses_mean_what_the_contract_says() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(class(status, None), Verdict::Success, "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504, 599] {
            assert_eq!(class(status, None), Verdict::Retry, "{status}");
        }
        for status in [400, 401, 403, 404, 409, 410, 422, 499] {
            assert_eq!(class(status, None), Verdict::Permanent, "{status}");
        }
        for status in [301, 302, 303, 304, 307, 308] {
            assert!(matches!(class(status, None), Verdict::Redirect(_)), "{status}");
        }
    }

    #[test]
    fn retry_after_counts_for_429_and_503_only() {
        assert_eq!(class(429, Some("30")), Verdict::Hold(Duration::from_secs(30)));
        assert_eq!(class(503, Some(" 0 ")), Verdict::Hold(Duration::ZERO));
        assert_eq!(class(503, Some("99999999999999999999")), Verdict::Hold(Duration::MAX));
        assert_eq!(class(503, Some("")), Verdict::Retry);
        assert_eq!(class(500, Some("30")), Verdict::Retry);
        assert_eq!(class(408, Some("30")), Verdict::Retry);
    }

    #[test]
    fn retry_after_may_be_a_date() {
        assert_eq!(class(429, Some("Sun, 06 Nov 1994 08:50:07 GMT")), Verdict::Hold(Duration::from_secs(30)));
        assert_eq!(class(429, Some("Sun, 06 Nov 1994 08:00:00 GMT")), Verdict::Hold(Duration::ZERO));
        assert_eq!(class(429, Some("soon")), Verdict::Retry);
        assert_eq!(class(429, Some("-5")), Verdict::Retry);
    }

    #[test]
    fn conclusions_name_host_and_status() {
        let body = || Body { bytes: b"no such user".to_vec(), whole: true };
        let end = |verdict: Verdict, status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            verdict.conclude(status, "mailer:80", body(), &Notes::default()).unwrap_err()
        };
        let failure = end(Verdict::Permanent, 404);
        assert_eq!(failure.error().class, ErrorClass::Permanent);
        assert_eq!(failure.error().message, "mailer:80 answered 404 Not Found\nno such user");
        let redirect =
            |to: Option<&str>| end(Verdict::Redirect(to.map(str::to_owned)), 302).error().message.clone();
        assert!(redirect(Some("http://x/")).contains("to http://x/"));
        assert!(!redirect(None).contains("final URL"), "there is none to name");
        assert_eq!(end(Verdict::Retry, 500).error().class, ErrorClass::Transient);
        assert!(matches!(end(Verdict::Hold(Duration::from_secs(3)), 429),
            Failure::Retry { retry_after: Some(after), .. } if after.as_secs() == 3));
    }

    #[test]
    fn an_answer_that_is_tried_again_may_leave_a_checkpoint() {
        let end = |status: u16, text: &str| {
            let (notes, body) = (Notes::default(), Body { bytes: text.into(), whole: true });
            let status = StatusCode::from_u16(status).unwrap();
            let failure =
                classify(status, &HeaderMap::new(), 0).conclude(status, "h", body, &notes).unwrap_err();
            (failure.error().message.clone(), notes.last())
        };
        let text = r#"{"error": "busy", "checkpoint": "page 3", "progress": {"done": 3, "total": 9}}"#;
        for status in [408, 429, 500, 503] {
            let (_, note) = end(status, text);
            let note = note.unwrap();
            assert_eq!(note.checkpoint.as_deref(), Some(&b"page 3"[..]), "{status}");
            assert_eq!(note.progress.unwrap().total, Some(9));
        }
        assert_eq!(end(422, text).1, None, "no next attempt");
        for text in ["<html>", r#"{"progress": "half"}"#, r#"{"error": "busy"}"#, "[]", ""] {
            assert_eq!(end(503, text).1, None, "{text}");
        }
        let (message, note) = end(503, &format!(r#"{{"checkpoint": "{}"}}"#, "x".repeat(5_000)));
        assert_eq!(note, None);
        assert!(message.contains("5000 bytes, at most 4096") && message.len() < 4_500, "{message}");
    }
}
