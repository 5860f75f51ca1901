//! One line of NDJSON.

use std::collections::BTreeMap;

use lanekeeper_queue::types::{EnqueueOptions, NewJob};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A line as written. The payload keeps its bytes: numbers are not re-rendered, keys not reordered.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Line<'a> {
    #[serde(rename = "type")]
    job_type: String,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
    #[serde(default)]
    payload_text: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    priority: Option<u8>,
    #[serde(default)]
    delay: Option<u64>,
    #[serde(default)]
    run_at: Option<u64>,
    #[serde(default)]
    meta: BTreeMap<String, String>,
}

/// Why a line is not a job.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// `invalid-json` or `line-too-long`.
    pub(super) reason: &'static str,
    /// One sentence.
    pub(super) message: String,
}

impl Line<'_> {
    /// Reads a line.
    pub(super) fn parse(text: &[u8]) -> Result<NewJob, Problem> {
        let invalid = |message: String| Problem { reason: "invalid-json", message };
        if text.len() > super::read::LONGEST_LINE {
            let message =
                format!("longer than {} bytes, more than one call may carry", super::read::LONGEST_LINE);
            return Err(Problem { reason: "line-too-long", message });
        }
        let text = std::str::from_utf8(text).map_err(|error| invalid(format!("not UTF-8: {error}")))?;
        let line: Line<'_> = serde_json::from_str(text).map_err(|error| invalid(describe(&error)))?;
        let payload = match (line.payload, line.payload_text) {
            (Some(_), Some(_)) => {
                return Err(invalid("has both payload and payloadText: give one".to_owned()));
            }
            (Some(raw), None) => raw.get().as_bytes().to_vec(),
            (None, Some(text)) => text.into_bytes(),
            (None, None) => b"{}".to_vec(),
        };
        let options = EnqueueOptions {
            job_type: line.job_type,
            id: line.id,
            key: line.key,
            priority: line.priority,
            delay: line.delay,
            run_at: line.run_at,
            meta: line.meta,
        };
        Ok(NewJob { payload, options })
    }
}

/// serde's message, with the column instead of a line that is always 1.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    format!("{text} (column {})", error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_keeps_its_bytes() {
        let job =
            Line::parse(br#"{"type":"t","payload":{ "b":1.0, "a":12345678901234567890123 },"delay":5}"#)
                .unwrap();
        assert_eq!(job.payload, br#"{ "b":1.0, "a":12345678901234567890123 }"#);
        assert_eq!(job.options.delay, Some(5));
        assert_eq!(Line::parse(br#"{"type":"t","payloadText":"a\nb"}"#).unwrap().payload, b"a\nb");
        assert_eq!(Line::parse(br#"{"type":"t"}"#).unwrap().payload, b"{}");
    }

    #[test]
    fn a_broken_line_says_what_is_wrong_and_where() {
        for (text, part) in [
            (&br#"{"type":"t","payload":{}"#[..], "EOF"),
            (br#"{"payload":{}}"#, "missing field `type`"),
            (br#"{"type":"t","prio":1}"#, "unknown field `prio`"),
            (br#"{"type":"t","priority":"high"}"#, "invalid type"),
            (br#"{"type":"t","payload":1,"payloadText":"1"}"#, "both"),
            (b"\xff", "UTF-8"),
            (b"[]", "column"),
        ] {
            let problem = Line::parse(text).unwrap_err();
            assert!(problem.message.contains(part), "{}", problem.message);
        }
    }
}
