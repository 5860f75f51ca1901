//! Handlers: checked where they are written, then taken over as they are.

use super::problem::Problems;
use super::{name, reason};
use crate::job_queue::{ExecHandlerSpec, HandlerSpec, HttpHandlerSpec, OnThrottleSpec, SecretKeyRef};
use crate::policy::{ExecHandler, Handler, HttpHandler, OnThrottle, SecretKey};

/// Longest URL.
const MAX_URL: usize = 2048;
/// Longest header or environment value, and longest argument.
const MAX_VALUE: usize = 4096;
/// Most request headers.
const MAX_HEADERS: usize = 32;
/// Most arguments, variables and exit codes.
const MAX_ITEMS: usize = 64;
/// Shortest and longest bound of a hold, ms.
const MIN_MAX_HOLD_MS: u64 = 1_000;
const MAX_MAX_HOLD_MS: u64 = 86_400_000;
/// Exit code that always means retry.
const RETRY_EXIT: i32 = 75;

/// Headers the worker or its HTTP client sets; prefixes end in `-`.
const RESERVED_HEADERS: [&str; 10] = [
    "webhook-",
    "lanekeeper-",
    "idempotency-key",
    "traceparent",
    "tracestate",
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
];

pub(crate) fn check(problems: &mut Problems, field: &str, handler: &HandlerSpec) {
    match (&handler.http, &handler.exec) {
        (Some(http), None) => check_http(problems, &format!("{field}.http"), http),
        (None, Some(exec)) => check_exec(problems, &format!("{field}.exec"), exec),
        (None, None) => problems.add(
            reason::NOT_EXACTLY_ONE,
            field,
            "",
            "no kind of handler is set: set exactly one, http or exec",
        ),
        (Some(_), Some(_)) => problems.add(
            reason::NOT_EXACTLY_ONE,
            field,
            "",
            "both http and exec are set: set exactly one kind of handler",
        ),
    }
}

/// The handler as the worker reads it; `None` where [`check`] complains.
pub(crate) fn resolve(handler: &HandlerSpec) -> Option<Handler> {
    match (&handler.http, &handler.exec) {
        (Some(http), None) => Some(Handler::Http(HttpHandler {
            url: http.url.clone(),
            headers: http.headers.clone(),
            signing: http.signing.as_ref().map(|signing| SecretKey {
                name: signing.secret_ref.name.clone(),
                key: signing.secret_ref.key.clone(),
            }),
            on_throttle: match http.on_throttle {
                OnThrottleSpec::Job => OnThrottle::Job,
                OnThrottleSpec::Key => OnThrottle::Key,
                OnThrottleSpec::Lane => OnThrottle::Lane,
            },
            max_hold_ms: http.max_hold.as_millis(),
        })),
        (None, Some(exec)) => Some(Handler::Exec(ExecHandler {
            command: exec.command.clone(),
            env: exec.env.clone(),
            permanent_exit_codes: exec.permanent_exit_codes.clone(),
        })),
        _ => None,
    }
}

pub(crate) fn check_secret(problems: &mut Problems, field: &str, secret: &SecretKeyRef) {
    name::subdomain(problems, &format!("{field}.name"), &secret.name);
    name::secret_key(problems, &format!("{field}.key"), &secret.key);
}

fn check_http(problems: &mut Problems, field: &str, http: &HttpHandlerSpec) {
    let url = format!("{field}.url");
    problems.text(&url, &http.url, MAX_URL);
    if let Err(message) = check_url(&http.url) {
        // A URL with credentials in it is not repeated: problems end up in logs and conditions.
        let shown = if http.url.contains('@') { "" } else { &http.url };
        problems.add(reason::INVALID_VALUE, url, shown, message);
    }
    problems.at_most(&format!("{field}.headers"), http.headers.len(), MAX_HEADERS);
    for (header, value) in &http.headers {
        check_header(problems, &format!("{field}.headers.{header}"), header, value);
    }
    if let Some(signing) = &http.signing {
        check_secret(problems, &format!("{field}.signing.secretRef"), &signing.secret_ref);
    }
    if !(MIN_MAX_HOLD_MS..=MAX_MAX_HOLD_MS).contains(&http.max_hold.as_millis()) {
        let message = "a hold lasts from 1s to 24h";
        problems.add(reason::INVALID_VALUE, format!("{field}.maxHold"), http.max_hold, message);
    }
}

fn check_url(url: &str) -> Result<(), &'static str> {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"))
        .ok_or("must begin with http:// or https://")?;
    if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("must not contain blanks");
    }
    if url.contains('#') {
        return Err("must not have a fragment: remove # and what follows");
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("must not contain credentials: sign the requests (signing.secretRef) instead");
    }
    let (host, port) = match authority.rsplit_once(':') {
        // The colons of an IPv6 address stand within brackets.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if host.is_empty() {
        return Err("must name a host, as in http://mailer.apps.svc/jobs");
    }
    match port.map(str::parse::<u16>) {
        None => Ok(()),
        Some(Ok(port)) if port > 0 => Ok(()),
        Some(_) => Err("must have a port from 1 to 65535 after the colon, or no colon"),
    }
}

/// The value is not shown: headers carry tokens.
fn check_header(problems: &mut Problems, field: &str, header: &str, value: &str) {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if header.is_empty() || !header.bytes().all(token) {
        problems.add(reason::INVALID_NAME, field, header, "is not the name of an HTTP header");
        return;
    }
    let lower = header.to_ascii_lowercase();
    let reserved = |r: &str| if r.ends_with('-') { lower.starts_with(r) } else { lower == r };
    if RESERVED_HEADERS.iter().any(|r| reserved(r)) {
        problems.add(reason::RESERVED_NAME, field, header, "this header is set by the worker: remove it");
    }
    if value.len() > MAX_VALUE || value.bytes().any(|b| b.is_ascii_control() && b != b'\t') {
        problems.add(
            reason::INVALID_VALUE,
            field,
            "",
            "the value may have at most 4096 bytes and no line breaks or control characters",
        );
    }
}

fn check_exec(problems: &mut Problems, field: &str, exec: &ExecHandlerSpec) {
    let command = format!("{field}.command");
    problems.at_most(&command, exec.command.len(), MAX_ITEMS);
    match exec.command.first() {
        None => problems.add(reason::MISSING, &command, "", "name the program, as in [/app/report, --stdin]"),
        Some(program) if program.is_empty() => problems.add(
            reason::MISSING,
            format!("{command}[0]"),
            "",
            "the first item is the program and must not be empty",
        ),
        Some(_) => {}
    }
    for (index, argument) in exec.command.iter().enumerate() {
        if argument.len() > MAX_VALUE || argument.contains('\0') {
            let message = "an argument may have at most 4096 bytes and no NUL";
            problems.add(reason::INVALID_VALUE, format!("{command}[{index}]"), argument, message);
        }
    }
    problems.at_most(&format!("{field}.env"), exec.env.len(), MAX_ITEMS);
    for (variable, value) in &exec.env {
        check_variable(problems, &format!("{field}.env.{variable}"), variable, value);
    }
    let codes = format!("{field}.permanentExitCodes");
    problems.at_most(&codes, exec.permanent_exit_codes.len(), MAX_ITEMS);
    for (index, code) in exec.permanent_exit_codes.iter().enumerate() {
        let field = format!("{codes}[{index}]");
        problems.range(&field, i64::from(*code), 1, 255);
        if *code == RETRY_EXIT {
            problems.add(reason::INVALID_VALUE, field, code, "75 always means retry: remove it");
        }
    }
}

/// The value is not shown: environments carry tokens.
fn check_variable(problems: &mut Problems, field: &str, variable: &str, value: &str) {
    if variable.is_empty() || variable.contains(['=', '\0']) {
        problems.add(reason::INVALID_NAME, field, variable, "is not the name of an environment variable");
    }
    if variable.starts_with("LANEKEEPER_") {
        let message = "names that begin with LANEKEEPER_ are set by the worker: choose another name";
        problems.add(reason::RESERVED_NAME, field, variable, message);
    }
    if value.len() > MAX_VALUE || value.contains('\0') {
        problems.add(reason::INVALID_VALUE, field, "", "a value may have at most 4096 bytes and no NUL");
    }
}
