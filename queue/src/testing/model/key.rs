//! Idempotency keys from payloads.

use lanekeeper_api::policy::KeyPart;
use serde_json::Value;

const MAX_INTEGER: i64 = 1 << 53;
const MAX_KEY: usize = 512;

/// The key, unless a placeholder names anything but a string or an integer below 2^53.
pub(super) fn render(parts: &[KeyPart], payload: &[u8]) -> Option<String> {
    let doc: Value = serde_json::from_slice(payload).ok().filter(Value::is_object)?;
    let mut key = String::new();
    for part in parts {
        match part {
            KeyPart::Text(text) => key.push_str(text),
            KeyPart::Path(path) => key.push_str(&value_at(&doc, path)?),
        }
    }
    (1..=MAX_KEY).contains(&key.len()).then_some(key)
}

/// What the payload says of a class; true and false are words there.
pub(super) fn class(path: &[String], payload: &[u8]) -> Option<String> {
    let doc: Value = serde_json::from_slice(payload).ok().filter(Value::is_object)?;
    let boolean = member(&doc, path)?.as_bool().map(|said| said.to_string());
    boolean.or_else(|| value_at(&doc, path))
}

fn member<'a>(doc: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(doc, |at, name| at.as_object()?.get(name))
}

fn value_at(doc: &Value, path: &[String]) -> Option<String> {
    match member(doc, path)? {
        Value::String(text) => Some(text.replace('%', "%25").replace(':', "%3A").replace('\0', "%00")),
        Value::Number(number) => {
            let n = number.as_i64()?;
            (n > -MAX_INTEGER && n < MAX_INTEGER).then(|| n.to_string())
        }
        _ => None,
    }
}
