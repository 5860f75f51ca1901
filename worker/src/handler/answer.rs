//! What a handler gives back for a job that is done, and the jobs it asks for.

use std::collections::BTreeMap;

use lanekeeper_queue::types::{EnqueueOptions, NewJob};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Failure, MAX_TEXT, code};

/// What a handler gives back for a job that is done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Kept with the job's record, at most [`MAX_TEXT`] bytes.
    pub result: Vec<u8>,
    /// Jobs to enqueue together with the success, at most 100.
    pub follow_ups: Vec<NewJob>,
}

/// An answer that asks for jobs: a JSON object with `enqueue`, and `result` or nothing else.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Structured<'a> {
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    enqueue: Vec<FollowUp<'a>>,
}

/// One job that an answer asks for: the options of `lk_enqueue`, and the payload, any JSON value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct FollowUp<'a> {
    r#type: String,
    #[serde(borrow)]
    payload: &'a RawValue,
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

impl Answer {
    /// An answer that asks for nothing.
    #[must_use]
    pub fn plain(result: Vec<u8>) -> Self {
        Self { result, follow_ups: Vec::new() }
    }

    /// Reads what a handler said. A JSON object with a member `enqueue` asks for jobs; anything else is the result as it came.
    /// `whole`: nothing was cut off.
    ///
    /// # Errors
    /// When it asks for jobs in a way that cannot be understood, or may ask for jobs in what was cut off: then the job must
    /// not pass for done.
    pub fn parse(bytes: Vec<u8>, whole: bool) -> Result<Self, Failure> {
        if !asks_for_jobs(&bytes) {
            return Ok(Self::plain(if whole { bytes } else { Vec::new() }));
        }
        let wrong = |why: String| {
            let text = format!("the handler succeeded, but its answer cannot be followed: {why}");
            Failure::permanent(code::ANSWER_INVALID, text)
        };
        if !whole {
            return Err(wrong(format!("it is longer than {MAX_TEXT} bytes and asks for jobs")));
        }
        match serde_json::from_slice::<Structured<'_>>(&bytes) {
            Ok(answer) => Ok(Self {
                result: answer.result.map(|raw| raw.get().as_bytes().to_vec()).unwrap_or_default(),
                follow_ups: answer.enqueue.into_iter().map(FollowUp::job).collect(),
            }),
            Err(error) => Err(wrong(error.to_string())),
        }
    }
}

/// Whether the text is a JSON object, or the beginning of one, with a member `enqueue` at its top.
fn asks_for_jobs(bytes: &[u8]) -> bool {
    /// Names of the members; a value that is cut off ends the reading.
    #[derive(Default)]
    struct Names(bool);
    impl<'de> Deserialize<'de> for Names {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(Visitor)
        }
    }
    struct Visitor;
    impl<'de> serde::de::Visitor<'de> for Visitor {
        type Value = Names;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
            let mut found = false;
            while let Ok(Some(name)) = map.next_key::<String>() {
                found |= name == "enqueue";
                if map.next_value::<serde::de::IgnoredAny>().is_err() {
                    break;
                }
            }
            Ok(Names(found))
        }
    }
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return false;
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    // Whatever follows the object, or is missing of it, is for the strict reading to judge.
    Names::deserialize(&mut reader).map_or_else(|_| cut_off(bytes), |names| names.0)
}

/// An object that ends in the middle of a member: whether that member, or one before it, may be `enqueue`.
fn cut_off(bytes: &[u8]) -> bool {
    bytes.windows(9).any(|window| window == b"\"enqueue\"")
}

impl FollowUp<'_> {
    fn job(self) -> NewJob {
        NewJob {
            payload: self.payload.get().as_bytes().to_vec(),
            options: EnqueueOptions {
                job_type: self.r#type,
                id: self.id,
                key: self.key,
                priority: self.priority,
                delay: self.delay,
                run_at: self.run_at,
                meta: self.meta,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Answer, Failure> {
        Answer::parse(text.as_bytes().to_vec(), true)
    }

    #[test]
    fn anything_without_enqueue_is_the_result_as_it_came() {
        for text in [
            "",
            "done",
            "[1]",
            "{}",
            r#"{"result": 1}"#,
            "{",
            r#"{"a": {"enqueue": []}}"#,
            "{\"a\"",
            "\u{feff}{}",
        ] {
            assert_eq!(parse(text).unwrap(), Answer::plain(text.into()), "{text}");
        }
        assert_eq!(Answer::parse(vec![0xff, 0], true).unwrap().result, [0xff, 0]);
    }

    #[test]
    fn jobs_are_asked_for_with_their_payloads_as_written() {
        let answer = parse(
            r#" {"enqueue": [{"type": "mail", "payload": {"n": 1.10, "big": 9223372036854775808}, "key": "k", "delay": 5},
                 {"type": "sms", "payload": "text", "meta": {"traceparent": "00-a"}}], "result": {"ok": true}} "#,
        )
        .unwrap();
        assert_eq!(answer.result, br#"{"ok": true}"#);
        assert_eq!(answer.follow_ups[0].payload, br#"{"n": 1.10, "big": 9223372036854775808}"#);
        assert_eq!(answer.follow_ups[0].options.key.as_deref(), Some("k"));
        assert_eq!(answer.follow_ups[0].options.delay, Some(5));
        assert_eq!(answer.follow_ups[1].payload, br#""text""#);
        assert_eq!(answer.follow_ups[1].options.meta["traceparent"], "00-a");
        assert!(parse(r#"{"enqueue": []}"#).unwrap().follow_ups.is_empty());
    }

    #[test]
    fn what_asks_for_jobs_and_cannot_be_understood_is_no_success() {
        for text in [
            r#"{"enqueue": [{"payload": 1}]}"#,
            r#"{"enqueue": [{"type": "mail"}]}"#,
            r#"{"enqueue": {"type": "mail", "payload": 1}}"#,
            r#"{"enqueue": [{"type": "mail", "payload": 1, "dely": 5}]}"#,
            r#"{"enqueue": [], "results": 1}"#,
            r#"{"enqueue": [{"type": "mail", "payload": 1}"#,
            r#"{"enqueue": []} and more"#,
        ] {
            let Err(Failure::Permanent { error }) = parse(text) else { panic!("{text} passed") };
            assert_eq!(error.code, code::ANSWER_INVALID, "{text}");
        }
    }

    #[test]
    fn what_was_cut_off_may_not_have_asked_for_jobs() {
        assert_eq!(Answer::parse(br#"{"a": "long"#.to_vec(), false).unwrap(), Answer::default());
        assert!(Answer::parse(br#"{"enqueue": [{"type": "ma"#.to_vec(), false).is_err());
        assert!(
            Answer::parse(br#"{"a": 1, "enqueue"#.to_vec(), false).is_ok(),
            "its name was not read to its end"
        );
    }
}
