//! One line of NDJSON.

use std::collections::BTreeMap;

use lanekeeper_queue::types::{EnqueueOptions, NewJob};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;

/// What a line must be.
const SHAPE: &str = r#"a line is a JSON object such as {"type":"mail","payload":{}}"#;
/// Most characters of a wrong value that are shown.
const SHOWN: usize = 40;

/// A line as written. The payload keeps its bytes: numbers are not re-rendered, keys not reordered. The other fields are
/// read one by one, so that what is wrong with one is told by its name.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Line<'a> {
    #[serde(rename = "type", borrow, default)]
    job_type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
    #[serde(borrow, default)]
    payload_text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    priority: Option<&'a RawValue>,
    #[serde(borrow, default)]
    delay: Option<&'a RawValue>,
    #[serde(borrow, default)]
    run_at: Option<&'a RawValue>,
    #[serde(borrow, default)]
    meta: Option<&'a RawValue>,
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
        if text.len() > super::read::LONGEST_LINE {
            let message =
                format!("longer than {} bytes, more than one call may carry", super::read::LONGEST_LINE);
            return Err(Problem { reason: "line-too-long", message });
        }
        let text = std::str::from_utf8(text).map_err(|error| invalid(format!("not UTF-8: {error}")))?;
        let line = object(text)?;
        let payload_text: Option<String> = read("payloadText", line.payload_text, A_TEXT)?;
        let payload = match (line.payload, payload_text) {
            (Some(_), Some(_)) => {
                return Err(invalid("has both payload and payloadText: give one".to_owned()));
            }
            (Some(raw), None) => raw.get().as_bytes().to_vec(),
            (None, Some(text)) => text.into_bytes(),
            (None, None) => b"{}".to_vec(),
        };
        let job_type = read("type", line.job_type, "the name of a job type, in quotes")?;
        let meta: Option<BTreeMap<String, String>> =
            read("meta", line.meta, r#"an object of texts, such as {"trace":"17"}"#)?;
        let options = EnqueueOptions {
            job_type: job_type.ok_or_else(|| invalid(format!("the field `type` is missing: {SHAPE}")))?,
            id: read("id", line.id, A_TEXT)?,
            key: read("key", line.key, A_TEXT)?,
            priority: read("priority", line.priority, "a whole number from 0 to 9")?,
            delay: read("delay", line.delay, "a whole number of milliseconds from 0 on")?,
            run_at: read("runAt", line.run_at, "a time in whole milliseconds since the epoch")?,
            meta: meta.unwrap_or_default(),
        };
        Ok(NewJob { payload, options })
    }
}

const A_TEXT: &str = "a text in quotes";

fn invalid(message: String) -> Problem {
    Problem { reason: "invalid-json", message }
}

/// The fields of a line that is an object. A list is none, although serde would take its elements for the fields in their order.
fn object(text: &str) -> Result<Line<'_>, Problem> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| invalid(describe(&error)));
    }
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Err(invalid(format!("{SHAPE}, not {}", clipped(text.trim())))),
        Err(error) => Err(invalid(format!("no JSON: {}; {SHAPE}", describe(&error)))),
    }
}

/// The value of a field; none where it is absent or null.
fn read<T: DeserializeOwned>(
    name: &str,
    value: Option<&RawValue>,
    takes: &str,
) -> Result<Option<T>, Problem> {
    let Some(value) = value.map(RawValue::get) else { return Ok(None) };
    let wrong = |_| invalid(format!("the field `{name}` takes {takes}, not {}", clipped(value)));
    serde_json::from_str(value).map(Some).map_err(wrong)
}

fn clipped(value: &str) -> String {
    let shown: String = value.chars().take(SHOWN).collect();
    if shown.len() < value.len() { format!("{shown}…") } else { shown }
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
            (br#"{"payload":{}}"#, "the field `type` is missing"),
            (br#"{"type":null}"#, "the field `type` is missing"),
            (br#"{"type":"t","prio":1}"#, "unknown field `prio`"),
            (br#"{"type":"t","type":"u"}"#, "duplicate field `type`"),
            (br#"{"type":7}"#, "`type` takes the name of a job type, in quotes, not 7"),
            (
                br#"{"type":"t","priority":"high"}"#,
                "`priority` takes a whole number from 0 to 9, not \"high\"",
            ),
            (br#"{"type":"t","delay":[]}"#, "`delay` takes a whole number of milliseconds from 0 on, not []"),
            (br#"{"type":"t","runAt":1.5}"#, "`runAt` takes a time in whole milliseconds"),
            (br#"{"type":"t","meta":{"a":1}}"#, "`meta` takes an object of texts"),
            (br#"{"type":"t","key":7}"#, "`key` takes a text in quotes, not 7"),
            (br#"{"type":"t","payload":1,"payloadText":"1"}"#, "both"),
            (b"\xff", "UTF-8"),
            (b"not json", "(column 2); a line is a JSON object"),
            (b"[]", "a line is a JSON object such as {\"type\":\"mail\",\"payload\":{}}, not []"),
            // serde would take it for the fields in their order.
            (br#"["t"]"#, "a line is a JSON object"),
            (b" 17", "a line is a JSON object"),
        ] {
            let problem = Line::parse(text).unwrap_err();
            assert!(problem.message.contains(part), "{part}: {}", problem.message);
            for rust in ["struct", "u64", "u8", "invalid type", "elements"] {
                assert!(!problem.message.contains(rust), "{}", problem.message);
            }
        }
        let long = format!(r#"{{"type":"t","delay":"{}"}}"#, "ä".repeat(100));
        let problem = Line::parse(long.as_bytes()).unwrap_err();
        assert!(problem.message.ends_with("ää…"), "{}", problem.message);
    }
}
