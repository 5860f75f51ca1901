//! Turns a job into a request.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use lanekeeper_api::policy;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Request, Url};
use serde::de::IgnoredAny;

use super::MAX_CHECKPOINT;
use super::signature::{Secrets, sign};
use crate::handler::{Failure, JobContext, code};

/// What every request of a handler has in common.
pub(super) struct Template {
    url: Url,
    headers: HeaderMap,
}

impl Template {
    /// Parses the policy once; a policy that cannot work says why.
    pub(super) fn new(policy: &policy::HttpHandler) -> Result<Self, String> {
        let url = Url::parse(&policy.url).map_err(|e| format!("the handler's URL does not parse: {e}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("the handler's URL has scheme {}, expected http or https", url.scheme()));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &policy.headers {
            let name =
                HeaderName::try_from(name).map_err(|_| format!("header name {name:?} is not valid"))?;
            let value = HeaderValue::try_from(value)
                .map_err(|_| format!("the value of header {name} is not valid"))?;
            headers.insert(name, value);
        }
        Ok(Self { url, headers })
    }

    /// Host and port, for messages.
    pub(super) fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// The unsigned request for one attempt. The contract's own headers win over declared ones.
    pub(super) fn request(&self, job: &JobContext) -> Result<Request, Failure> {
        let mut request = Request::new(Method::POST, self.url.clone());
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(&job.job.payload)));
        headers.extend(self.headers.clone());
        headers.insert(HeaderName::from_static("idempotency-key"), escaped_value(job.idempotency_key())?);
        if let Some(meta) = job.meta_json() {
            headers.insert(HeaderName::from_static("lanekeeper-meta"), escaped_value(&meta)?);
        }
        let mut set = |name: &'static str, value: &str| -> Result<(), Failure> {
            headers.insert(HeaderName::from_static(name), header_value(value)?);
            Ok(())
        };
        set("webhook-id", &job.job.id)?;
        set("webhook-timestamp", &(job.now_ms() / 1000).to_string())?;
        set("lanekeeper-queue", &job.queue)?;
        set("lanekeeper-lane", &job.job.lane)?;
        set("lanekeeper-type", &job.job.job_type)?;
        set("lanekeeper-attempt", &job.job.attempt.to_string())?;
        set("lanekeeper-token", &job.job.token.to_string())?;
        set("lanekeeper-deadline", &job.deadline_ms().to_string())?;
        for name in ["traceparent", "tracestate"] {
            if let Some(value) = job.job.meta.get(name) {
                set(name, value)?;
            }
        }
        if let Some(left) = job.checkpoint() {
            if left.len() <= MAX_CHECKPOINT {
                set("lanekeeper-checkpoint", &BASE64.encode(left))?;
            } else {
                // Left by a handler of another kind: many receivers refuse headers of that size, and with them the job.
                let (id, bytes) = (&job.job.id, left.len());
                tracing::warn!(job = id, bytes, "the checkpoint is too long for a header: not sent");
            }
        }
        *request.body_mut() = Some(job.job.payload.clone().into());
        Ok(request)
    }
}

/// Signs what [`Template::request`] made: id, timestamp and payload.
pub(super) fn add_signature(request: &mut Request, job: &JobContext, secrets: &Secrets) {
    let timestamp =
        request.headers().get("webhook-timestamp").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let signature = sign(secrets, &job.job.id, timestamp, &job.job.payload);
    if let Ok(value) = HeaderValue::try_from(signature) {
        request.headers_mut().insert("webhook-signature", value);
    }
}

/// `application/json` when the payload is JSON, else plain bytes.
fn content_type(payload: &[u8]) -> &'static str {
    if serde_json::from_slice::<IgnoredAny>(payload).is_ok() {
        "application/json"
    } else {
        "application/octet-stream"
    }
}

/// A header value of any text: what HTTP does not allow in one (control characters and what is not ASCII) is
/// percent-escaped. A text that needs none of that stands as it is.
fn header_value(text: &str) -> Result<HeaderValue, Failure> {
    if text.bytes().all(is_plain) {
        return HeaderValue::from_str(text).map_err(|e| Failure::transient(code::HTTP_REQUEST, e));
    }
    escaped_value(text)
}

/// The same for keys: the escape sign itself is always escaped, so that two keys never share a value. A receiver that compares
/// them would take the job of one for that of the other.
fn escaped_value(text: &str) -> Result<HeaderValue, Failure> {
    let mut escaped = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        // Blanks at the ends of a value are lost on the road.
        let at_an_end = at == 0 || at + 1 == text.len();
        if is_plain(byte) && byte != b'%' && !(byte == b' ' && at_an_end) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    HeaderValue::try_from(escaped).map_err(|e| Failure::transient(code::HTTP_REQUEST, e))
}

fn is_plain(byte: u8) -> bool {
    (0x20..0x7f).contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::testing::context;
    use std::time::Duration;

    fn template(url: &str) -> Result<Template, String> {
        Template::new(&policy::HttpHandler {
            headers: [("x-team".into(), "a".into()), ("Lanekeeper-Token".into(), "forged".into())].into(),
            ..policy::HttpHandler::to(url)
        })
    }

    #[test]
    fn a_request_carries_the_contract() {
        let mut job = context(br#"{"a":1}"#, Duration::from_secs(10));
        job.job.meta.insert("traceparent".into(), "00-aa-bb-01".into());
        job.job.meta.insert("tenant".into(), "ä".into());
        job.job.key = Some("schön\n100%".into());
        job.job.checkpoint = Some(b"page \xff".to_vec());
        let request = template("http://u:pw@h:81/jobs?x=1").unwrap().request(&job).unwrap();
        let get = |name: &str| request.headers().get(name).unwrap().to_str().unwrap();
        assert_eq!(request.method(), Method::POST);
        assert_eq!(get("webhook-id"), "01J0");
        assert_eq!(get("webhook-timestamp"), "1700000001");
        assert_eq!(get("idempotency-key"), "sch%C3%B6n%0A100%25");
        assert_eq!(get("lanekeeper-queue"), "apps/saas");
        assert_eq!(get("lanekeeper-lane"), "fast");
        assert_eq!(get("lanekeeper-type"), "mail");
        assert_eq!(get("lanekeeper-attempt"), "2");
        assert_eq!(get("lanekeeper-token"), "7");
        assert_eq!(get("lanekeeper-deadline"), "1700000011000");
        assert_eq!(get("traceparent"), "00-aa-bb-01");
        assert_eq!(get("lanekeeper-meta"), r#"{"tenant":"%C3%A4"}"#);
        assert_eq!(get("content-type"), "application/json");
        assert_eq!(get("lanekeeper-checkpoint"), "cGFnZSD/");
        assert_eq!(get("x-team"), "a");
        assert_eq!(request.body().unwrap().as_bytes().unwrap(), br#"{"a":1}"#);
    }

    #[test]
    fn two_keys_never_share_a_header() {
        let sent = |key: &str| escaped_value(key).unwrap().to_str().unwrap().to_owned();
        assert_eq!(sent("mail:7 again"), "mail:7 again");
        assert_eq!((sent("a%0Ab"), sent("a\nb")), ("a%250Ab".to_owned(), "a%0Ab".to_owned()));
        // Blanks at the ends are taken away on the road.
        let keys = ["a", " a", "a ", "  a", "a  ", "%20a", "a%20", "%", "%25", "", " ", "%20", "é", "%C3%A9"];
        let mut values: Vec<String> = keys.iter().map(|key| sent(key).trim().to_owned()).collect();
        values.sort();
        values.dedup();
        assert_eq!(values.len(), keys.len(), "{values:?}");
    }

    #[test]
    fn opaque_payloads_are_octet_streams_and_the_id_stands_in_for_the_key() {
        let mut job = context(b"\xff\x00", Duration::from_secs(10));
        job.job.key = None;
        let request = template("http://h/").unwrap().request(&job).unwrap();
        assert_eq!(request.headers()["content-type"], "application/octet-stream");
        assert_eq!(request.headers()["idempotency-key"], "01J0");
    }

    #[test]
    fn a_host_for_messages_has_no_password() {
        assert_eq!(template("http://u:pw@h:81/jobs").unwrap().host(), "h:81");
        assert!(template("ftp://h/").is_err_and(|why| why.contains("ftp")));
        assert!(template("not a url").is_err());
    }
}
