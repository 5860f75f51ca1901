//! `customer-notice`: tells a customer that a webhook could not be delivered. Its jobs come from `onDead` of
//! `webhook-delivery`, written by Redis together with the death, so that none is forgotten.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use serde::Deserialize;

use crate::answer::{Refusal, Stored, header, payload};
use crate::app::App;
use crate::clock;
use crate::mailer::{self, Mail};

/// What Lanekeeper tells of a death.
#[derive(Debug, Deserialize)]
struct Death {
    attempts: u32,
    error: Error,
    /// The dead job's own payload.
    payload: Hook,
}

#[derive(Debug, Deserialize)]
struct Error {
    code: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hook {
    event_id: String,
    customer_id: String,
}

/// Routes of this endpoint.
pub fn routes() -> Router<App> {
    Router::new().route("/notices", post(handle))
}

async fn handle(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Result<Stored, Refusal> {
    let key = header(&headers, "idempotency-key")?.to_owned();
    let mail = compose(&payload(&body)?);
    let now_ms = clock::now_ms();
    app.store.write_async(move |tx| mailer::send(tx, &key, &body, &mail, now_ms)).await
}

fn compose(death: &Death) -> Mail {
    let (hook, tries) = (&death.payload, death.attempts);
    Mail {
        to: format!("webhooks@{}.example.test", hook.customer_id),
        subject: format!("We could not deliver event {}", hook.event_id),
        body: format!(
            "Hello,\n\nyour endpoint did not take event {} (attempts: {tries}, the last: {}).\nIt is kept; tell us when to send it again.\n",
            hook.event_id, death.error.code
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_customer_reads_which_event_and_why() {
        let text = br#"{"job":"1","type":"webhook-delivery","key":"webhook:e1","reason":"TriesExhausted","attempts":7,
            "error":{"class":"transient","code":"HttpStatus","message":"503"},
            "payload":{"eventId":"e1","customerId":"c9","type":"invoice.paid"}}"#;
        let mail = compose(&payload(text).unwrap());
        assert_eq!(mail.to, "webhooks@c9.example.test");
        assert!(
            mail.subject.contains("e1")
                && mail.body.contains("attempts: 7")
                && mail.body.contains("HttpStatus")
        );
    }
}
