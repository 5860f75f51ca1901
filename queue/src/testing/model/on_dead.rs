//! The job that tells of a death.

use super::enqueue::Spec;
use super::state::{Job, Model};
use super::waiting::{MESSAGE_OLD, clip};
use crate::types::{AttemptError, DeadReason, EnqueueOptions, NewJob};

/// A string as cjson writes it.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' | '/' => out.extend(['\\', c]),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\0'..='\u{1f}' | '\u{7f}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out + "\""
}

fn obituary(id: &str, job: &Job, reason: DeadReason, error: &AttemptError, payload: Option<&str>) -> Vec<u8> {
    let key = job.key.as_ref().map_or_else(|| "null".to_owned(), |key| quoted(key));
    let (kind, class) = (quoted(&job.job_type), quoted(error.class.name()));
    let (code, message) = (quoted(&clip(&error.code, 64)), quoted(&clip(&error.message, MESSAGE_OLD)));
    let mut text = format!(
        "{{\"job\":{},\"type\":{kind},\"key\":{key},\"reason\":{}",
        quoted(id),
        quoted(reason.name())
    );
    text += &format!(",\"attempts\":{}", job.attempts);
    text += &format!(",\"error\":{{\"class\":{class},\"code\":{code},\"message\":{message}}}");
    if let Some(payload) = payload {
        text = text + ",\"payload\":" + payload;
    }
    (text + "}").into_bytes()
}

impl Model {
    /// The job that `onDead` of the type asks for, if it asks for one and that can be stored.
    pub(super) fn on_dead(
        &self,
        id: &str,
        job: &Job,
        token: u64,
        reason: DeadReason,
        error: &AttemptError,
        now_ms: u64,
    ) -> Option<Spec> {
        let wanted = self.policy().job_types.get(&job.job_type)?.on_dead.as_ref()?;
        let options = EnqueueOptions {
            job_type: wanted.r#type.clone(),
            id: Some(format!("{id}.dead.{token}")),
            ..EnqueueOptions::default()
        };
        let text = std::str::from_utf8(&job.payload).ok();
        let text = text.map(|text| text.replace(['\t', '\n', '\r'], " "));
        let object =
            text.as_deref().filter(|text| serde_json::from_str::<serde_json::Map<_, _>>(text).is_ok());
        let source = obituary(id, job, reason, error, object);
        let read = |payload| {
            let new = NewJob { payload: obituary(id, job, reason, error, payload), options: options.clone() };
            self.read_with(&new, Some(&source), now_ms)
        };
        // The news matters more than what stood in the payload, and than its keys.
        read(object).or_else(|_| read(None)).ok()
    }
}
