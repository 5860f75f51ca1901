//! What a handler gives back for a job that is done, the jobs it asks for, and how it says that it is not done yet.

use std::collections::BTreeMap;

use lanekeeper_api::duration::Duration;
use lanekeeper_queue::types::{EnqueueOptions, NewJob, Progress};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::notes::{given, note};
use super::object::Object;
use super::{Failure, MAX_TEXT, Notes, code};

/// What a handler gives back for a job that is done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Kept with the job's record; one of more than [`MAX_TEXT`] bytes is left out.
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
    enqueue: Vec<Object<FollowUp<'a>>>,
}

/// An answer that asks to come again later: a JSON object with `snooze`, and what the next attempt is to know.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Later<'a> {
    #[serde(deserialize_with = "delay")]
    snooze: Duration,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    progress: Option<Object<Progress>>,
    #[serde(borrow, default, deserialize_with = "given")]
    checkpoint: Option<&'a RawValue>,
}

/// `5m` as in manifests, or whole milliseconds.
fn delay<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct Delay;
    impl serde::de::Visitor<'_> for Delay {
        type Value = Duration;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a duration such as \"5m\", or whole milliseconds")
        }

        fn visit_u64<E>(self, ms: u64) -> Result<Duration, E> {
            Ok(Duration::from_millis(ms))
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Duration, E> {
            Duration::parse(text).map_err(E::custom)
        }
    }
    deserializer.deserialize_any(Delay)
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

    /// Reads what a handler said. A JSON object with a member `enqueue` asks for jobs, one with `snooze` to come again later;
    /// anything else is the result as it came. `whole`: nothing was cut off. A snooze may leave progress and a checkpoint of at
    /// most `most` bytes in `notes`.
    ///
    /// # Errors
    /// When it asks to come again, or asks for something in a way that cannot be understood, or may ask for it in what was cut
    /// off: then the job must not pass for done.
    pub fn parse(bytes: Vec<u8>, whole: bool, notes: &Notes, most: usize) -> Result<Self, Failure> {
        let asks = asks(&bytes);
        if !asks.for_jobs && !asks.to_wait {
            return Ok(Self::plain(if whole { bytes } else { Vec::new() }));
        }
        let wrong = |why: String| {
            let text = format!("the handler succeeded, but its answer cannot be followed: {why}");
            Failure::permanent(code::ANSWER_INVALID, text)
        };
        if !whole {
            return Err(wrong(format!("it is longer than {MAX_TEXT} bytes and asks for jobs or a snooze")));
        }
        if asks.to_wait {
            let later: Later<'_> =
                serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
            notes.tell(note(later.progress, later.checkpoint, most).map_err(wrong)?);
            let why = later
                .reason
                .unwrap_or_else(|| format!("the handler asked to come again in {}", later.snooze));
            return Err(Failure::snooze(later.snooze.to_std(), why));
        }
        match serde_json::from_slice::<Structured<'_>>(&bytes) {
            Ok(answer) => Ok(Self {
                result: answer.result.map(|raw| raw.get().as_bytes().to_vec()).unwrap_or_default(),
                follow_ups: answer.enqueue.into_iter().map(|Object(job)| job.job()).collect(),
            }),
            Err(error) => Err(wrong(error.to_string())),
        }
    }
}

/// What a text asks for.
#[derive(Debug, Clone, Copy, Default)]
struct Asks {
    for_jobs: bool,
    to_wait: bool,
}

/// Reads names of members into what stays when the reading fails; a value that is cut off ends it.
struct Members<'a>(&'a mut Asks);

impl<'de> serde::de::Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Ok(Some(name)) = map.next_key::<String>() {
            self.0.for_jobs |= name == "enqueue";
            self.0.to_wait |= name == "snooze";
            if map.next_value::<serde::de::IgnoredAny>().is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// Whether the text is a JSON object, or the beginning of one, with a member `enqueue` or `snooze` at its top.
fn asks(bytes: &[u8]) -> Asks {
    let mut found = Asks::default();
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return found;
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    match reader.deserialize_map(Members(&mut found)) {
        // Whatever follows the object, or is missing of it, is for the strict reading to judge.
        Err(error) if !error.is_eof() => named(bytes),
        _ => found,
    }
}

/// Behind what is no JSON nobody can tell members from values: whether the names stand anywhere.
fn named(bytes: &[u8]) -> Asks {
    let names = |name: &[u8]| bytes.windows(name.len()).any(|window| window == name);
    Asks { for_jobs: names(b"\"enqueue\""), to_wait: names(b"\"snooze\"") }
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
        Answer::parse(text.as_bytes().to_vec(), true, &Notes::default(), 10)
    }

    fn cut(bytes: &[u8], whole: bool) -> Result<Answer, Failure> {
        Answer::parse(bytes.to_vec(), whole, &Notes::default(), 10)
    }

    #[test]
    fn a_snooze_comes_again_and_may_leave_a_note() {
        let later = |text: &str| {
            let notes = Notes::default();
            match Answer::parse(text.as_bytes().to_vec(), true, &notes, 10) {
                Err(Failure::Snooze { error, after }) => (after.as_millis(), error.message, notes.last()),
                other => panic!("{text}: {other:?}"),
            }
        };
        assert_eq!(
            later(r#"{"snooze": "1h30m"}"#),
            (5_400_000, "the handler asked to come again in 1h30m".into(), None)
        );
        let text = r#" {"checkpoint": "op-17", "progress": {"done": 1}, "snooze": 2500, "reason": "still renders"} "#;
        let (after, why, note) = later(text);
        assert_eq!((after, why.as_str()), (2_500, "still renders"));
        assert_eq!(note.unwrap().checkpoint, Some(b"op-17".to_vec()));
        for text in [
            r#"{"snooze": "soon"}"#,
            r#"{"snooze": -1}"#,
            r#"{"snooze": 1.5}"#,
            r#"{"snooze": null}"#,
            r#"{"snooze": "5m", "enqueue": []}"#,
            r#"{"snooze": "5m", "progress": [1, 2, "u", "m"]}"#,
            r#"{"snooze": "5m", "result": 1}"#,
            r#"{"snooze": "5m", "checkpoint": "longer than ten"}"#,
            r#"{"snooze": "5m""#,
        ] {
            let Err(Failure::Permanent { error }) = parse(text) else { panic!("{text} passed") };
            assert_eq!(error.code, code::ANSWER_INVALID, "{text}");
        }
        assert_eq!(parse(r#"{"a": {"snooze": "5m"}}"#).unwrap().result.len(), 23, "not at its top");
    }

    #[test]
    fn anything_that_asks_for_nothing_is_the_result_as_it_came() {
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
        assert_eq!(cut(&[0xff, 0], true).unwrap().result, [0xff, 0]);
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
            r#"{"enqueue": [["mail", {"n": 1}, "id", "k", 1, 0, null, {}]]}"#,
            r#"{"enqueue": [[]]}"#,
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
        assert_eq!(cut(br#"{"a": "long"#, false).unwrap(), Answer::default());
        assert!(cut(br#"{"enqueue": [{"type": "ma"#, false).is_err());
        assert!(cut(br#"{"snooze": "5"#, false).is_err());
        assert!(cut(br#"{"a": 1, "enqueue"#, false).is_ok(), "its name was not read to its end");
        assert!(cut(br#"{"a": "long", "enqueue": [], "b": "lo"#, false).is_err());
        assert!(cut(br#"{"a": None, "enqueue": [], "b": "lo"#, false).is_err(), "no JSON: nobody can tell");
        // Names that stand elsewhere ask for nothing.
        for text in [
            r#"{"action": "enqueue", "log": "lo"#,
            r#"{"order": {"snooze": "5m"}, "log": "lo"#,
            r#"{"order": [{"enqueue": []}], "log": {"a": ["lo"#,
            r#"{"order": {"enqueue": [{"#,
        ] {
            assert_eq!(cut(text.as_bytes(), false).unwrap(), Answer::default(), "{text}");
        }
    }
}
