//! `password-reset` and `receipt-email`: mails, sent exactly once per idempotency key.
//!
//! The key, the mail and the answer are written in one transaction, so a repeated request (a worker that was
//! killed after the mail went out, a replay) gets the stored answer and sends nothing.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use ring::digest;
use rusqlite::{OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};

use crate::answer::{Refusal, Stored, header, payload};
use crate::app::App;
use crate::clock;

/// Tables of this module. `outbox` is what the relay was handed: nothing but the mailer's own care keeps it
/// free of doubles, which is what `verify` looks at.
pub const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS mails (
    key TEXT PRIMARY KEY,
    request BLOB NOT NULL,
    result TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    recipient TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    sent_ms INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS outbox_by_key ON outbox (key);";

/// Payload of both job types.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Whose mail it is.
    pub user_id: u64,
    /// Which template.
    pub template_id: String,
    /// What it tells of.
    pub event_id: String,
    /// Address of the receiver.
    pub to: String,
    /// What the template's placeholders stand for.
    #[serde(default)]
    pub vars: BTreeMap<String, String>,
}

struct Template {
    id: &'static str,
    subject: &'static str,
    body: &'static str,
}

const TEMPLATES: [Template; 2] = [
    Template {
        id: "password-reset",
        subject: "Reset your password, {name}",
        body: "Hello {name},\n\nopen this link within the hour to choose a new password:\n{link}\n",
    },
    Template {
        id: "receipt",
        subject: "Your receipt {number}",
        body: "Hello {name},\n\nwe received {amount}. Receipt {number} is in your account.\n",
    },
];

/// A mail ready to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mail {
    pub(crate) to: String,
    pub(crate) subject: String,
    pub(crate) body: String,
}

fn compose(request: &Request) -> Result<Mail, Refusal> {
    let found = TEMPLATES.iter().find(|template| template.id == request.template_id);
    let template =
        found.ok_or_else(|| Refusal::Malformed(format!("no template {:?}", request.template_id)))?;
    let address = request.to.split_once('@').is_some_and(|(user, host)| {
        !user.is_empty() && host.contains('.') && !request.to.contains(char::is_whitespace)
    });
    if !address {
        return Err(Refusal::Malformed(format!("to: {:?} is not a mail address", request.to)));
    }
    Ok(Mail {
        to: request.to.clone(),
        subject: fill(template.subject, &request.vars)?,
        body: fill(template.body, &request.vars)?,
    })
}

/// Puts values in place of `{name}`. A value is never looked at for placeholders itself.
fn fill(template: &str, vars: &BTreeMap<String, String>) -> Result<String, Refusal> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, (name, after))) =
        rest.split_once('{').and_then(|(before, tail)| Some((before, tail.split_once('}')?)))
    {
        let value = vars.get(name).ok_or_else(|| Refusal::Malformed(format!("vars.{name} is missing")))?;
        out.push_str(before);
        out.push_str(value);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// Routes of this endpoint.
pub fn routes() -> Router<App> {
    Router::new().route("/mailer", post(handle))
}

async fn handle(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Result<Stored, Refusal> {
    let key = header(&headers, "idempotency-key")?.to_owned();
    let mail = compose(&payload(&body)?)?;
    let now_ms = clock::now_ms();
    app.store.write_async(move |tx| send(tx, &key, &body, &mail, now_ms)).await
}

/// Hands the mail to the relay unless that was done under the key before.
pub(crate) fn send(
    tx: &Transaction<'_>,
    key: &str,
    request: &[u8],
    mail: &Mail,
    now_ms: u64,
) -> Result<Stored, Refusal> {
    let request = digest::digest(&digest::SHA256, request);
    let sent: Option<(Vec<u8>, String)> = tx
        .query_row("SELECT request, result FROM mails WHERE key = ?1", [key], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    if let Some((earlier, result)) = sent {
        if earlier != request.as_ref() {
            let what = "was used for another payload: nothing was sent";
            return Err(Refusal::Malformed(format!("the Idempotency-Key {key:?} {what}")));
        }
        return Ok(Stored { result, replayed: true });
    }
    let sent_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    tx.execute(
        "INSERT INTO outbox (key, recipient, subject, body, sent_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![key, mail.to, mail.subject, mail.body, sent_ms],
    )?;
    let message = format!("mail-{}", tx.last_insert_rowid());
    let result =
        serde_json::json!({"messageId": message, "subject": mail.subject, "sentMs": sent_ms}).to_string();
    tx.execute(
        "INSERT INTO mails (key, request, result) VALUES (?1, ?2, ?3)",
        params![key, request.as_ref(), result],
    )?;
    Ok(Stored { result, replayed: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(template: &str, to: &str, vars: &[(&str, &str)]) -> Request {
        let vars = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Request { user_id: 7, template_id: template.into(), event_id: "e1".into(), to: to.into(), vars }
    }

    #[test]
    fn a_template_is_filled_once() {
        let vars = [("name", "{link}"), ("link", "https://example.test/r/1")];
        let mail = compose(&request("password-reset", "a@example.test", &vars)).unwrap();
        assert_eq!(mail.subject, "Reset your password, {link}");
        assert!(mail.body.contains("\nhttps://example.test/r/1\n"), "{}", mail.body);
    }

    #[test]
    fn what_cannot_be_sent_names_the_field() {
        let say = |request: &Request| compose(request).unwrap_err().to_string();
        assert!(say(&request("nope", "a@example.test", &[])).contains("nope"));
        assert!(say(&request("receipt", "nobody", &[])).contains("to:"));
        assert!(say(&request("receipt", "a@example.test", &[])).contains("vars.number"));
    }
}
