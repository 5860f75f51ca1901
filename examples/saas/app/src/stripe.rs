//! `stripe-event`: events of the payment provider, booked exactly once per event id.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use rusqlite::{OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};

use crate::answer::{Refusal, Stored, payload, plain_name};
use crate::app::App;
use crate::clock;
use crate::faults::Faults;

/// Tables of this module: the ledger of the customers' balances.
pub const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS stripe_events (
    event_id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    amount_cents INTEGER NOT NULL,
    booked_ms INTEGER NOT NULL,
    result TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS balances (
    customer_id TEXT PRIMARY KEY,
    cents INTEGER NOT NULL
) WITHOUT ROWID;";

/// Payload of the job type.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// The provider's id.
    pub event_id: String,
    /// `charge.succeeded`, `charge.refunded`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Whose money.
    pub customer_id: String,
    /// How much.
    pub amount_cents: u32,
}

/// Routes of this endpoint.
pub fn routes() -> Router<App> {
    Router::new().route("/stripe", post(handle))
}

async fn handle(State(app): State<App>, body: Bytes) -> Result<Stored, Refusal> {
    let event: Event = payload(&body)?;
    plain_name("eventId", &event.event_id)?;
    let signed = match event.kind.as_str() {
        "charge.succeeded" => i64::from(event.amount_cents),
        "charge.refunded" => -i64::from(event.amount_cents),
        other => return Err(Refusal::Malformed(format!("type: nothing is known of {other:?}"))),
    };
    let faults = app.faults;
    let now_ms = clock::now_ms();
    // The try is counted in the same transaction that then answers: a refusal is an answer, not a rollback.
    app.store.write_async(move |tx| Ok::<_, Refusal>(book(tx, faults, &event, signed, now_ms))).await?
}

fn book(
    tx: &Transaction<'_>,
    faults: Faults,
    event: &Event,
    signed: i64,
    now_ms: u64,
) -> Result<Stored, Refusal> {
    let known: Option<String> = tx
        .query_row("SELECT result FROM stripe_events WHERE event_id = ?1", [&event.event_id], |row| {
            row.get(0)
        })
        .optional()?;
    if let Some(result) = known {
        return Ok(Stored { result, replayed: true });
    }
    if faults.strike(tx, "stripe", &event.event_id)? {
        return Err(Refusal::Failed("the ledger is being failed over".into()));
    }
    let balance: i64 = tx.query_row(
        "INSERT INTO balances (customer_id, cents) VALUES (?1, ?2)
         ON CONFLICT DO UPDATE SET cents = cents + excluded.cents RETURNING cents",
        params![event.customer_id, signed],
        |row| row.get(0),
    )?;
    let result = serde_json::json!({"booked": event.event_id, "balanceCents": balance}).to_string();
    let booked_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    tx.execute(
        "INSERT INTO stripe_events (event_id, kind, customer_id, amount_cents, booked_ms, result)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![event.event_id, event.kind, event.customer_id, signed, booked_ms, result],
    )?;
    Ok(Stored { result, replayed: false })
}
