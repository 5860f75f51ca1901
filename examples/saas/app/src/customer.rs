//! `webhook-delivery`: the customers' endpoints, with the manners that such endpoints have.
//!
//! They check signatures, answer slowly, throttle with 429 and `Retry-After`, fail now and then, and some of
//! them are gone for good (410) until the customer opens them again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};

use crate::answer::{Refusal, Stored, payload, plain_name};
use crate::app::App;
use crate::clock;
use crate::dice::Dice;
use crate::faults::Faults;
use crate::store;

/// Tables of this module.
pub const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS closed_customers (
    customer_id TEXT PRIMARY KEY,
    closed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deliveries (
    event_id TEXT PRIMARY KEY,
    customer_id TEXT NOT NULL,
    received_ms INTEGER NOT NULL,
    result TEXT NOT NULL
) WITHOUT ROWID;";

/// Customers whose endpoints are gone from the start.
pub const CLOSED: [&str; 3] = ["cust-404", "cust-410", "cust-451"];

/// Closes [`CLOSED`] in a new database; one that was opened again stays open.
///
/// # Errors
/// When SQLite refuses.
pub fn seed(conn: &Connection) -> Result<(), store::Error> {
    for customer in CLOSED {
        conn.execute("INSERT OR IGNORE INTO closed_customers VALUES (?1, 1)", [customer])?;
    }
    Ok(())
}

/// The customer has repaired its endpoint: deliveries succeed from now on. False when it was not closed.
///
/// # Errors
/// When SQLite refuses.
pub fn reopen(tx: &Transaction<'_>, customer_id: &str) -> Result<bool, store::Error> {
    let sql = "UPDATE closed_customers SET closed = 0 WHERE customer_id = ?1 AND closed = 1";
    Ok(tx.execute(sql, [customer_id])? == 1)
}

/// Payload of the job type.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// What happened.
    pub event_id: String,
    /// Whom it is told.
    pub customer_id: String,
    /// `invoice.paid`, …
    #[serde(rename = "type")]
    pub kind: String,
}

/// Counts what each customer took in the running second (a bucket that fills again at `rate` a second).
#[derive(Debug)]
pub struct Throttle {
    rate: u32,
    buckets: Mutex<HashMap<String, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Requests there is room for, in thousandths.
    room: u64,
    at_ms: u64,
}

impl Throttle {
    /// Every customer takes `rate` requests a second, and as many at once; 0 throttles nobody.
    #[must_use]
    pub fn new(rate: u32) -> Self {
        Self { rate, buckets: Mutex::default() }
    }

    /// Takes one request, or says in how many seconds there is room.
    ///
    /// # Errors
    /// [`Refusal::Throttled`].
    pub fn take(&self, customer_id: &str, now_ms: u64) -> Result<(), Refusal> {
        if self.rate == 0 {
            return Ok(());
        }
        let rate = u64::from(self.rate);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket =
            buckets.entry(customer_id.to_owned()).or_insert(Bucket { room: rate * 1000, at_ms: now_ms });
        let refilled = bucket.room + now_ms.saturating_sub(bucket.at_ms).saturating_mul(rate);
        *bucket = Bucket { room: refilled.min(rate * 1000), at_ms: now_ms.max(bucket.at_ms) };
        if bucket.room < 1000 {
            let wait_ms = (1000 - bucket.room).div_ceil(rate);
            return Err(Refusal::Throttled { seconds: wait_ms.div_ceil(1000).max(1) });
        }
        bucket.room -= 1000;
        Ok(())
    }
}

/// How long a customer takes for an event: mostly short, one in ten takes up to the slowest.
#[must_use]
pub fn takes_ms(seed: u64, event_id: &str, slowest_ms: u64) -> u64 {
    let mut dice = Dice::of(seed, &format!("slow/{event_id}"));
    if dice.chance(0.1) { dice.between(slowest_ms / 2, slowest_ms) } else { dice.between(0, slowest_ms / 8) }
}

/// Routes of this endpoint.
pub fn routes() -> Router<App> {
    Router::new().route("/customer", post(handle))
}

async fn handle(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Result<Stored, Refusal> {
    if let Some(secret) = &app.webhook_secret {
        secret.check(&headers, &body, clock::now_ms())?;
    }
    let hook: Hook = payload(&body)?;
    plain_name("customerId", &hook.customer_id)?;
    app.throttle.take(&hook.customer_id, clock::now_ms())?;
    tokio::time::sleep(Duration::from_millis(takes_ms(app.faults.seed, &hook.event_id, app.slowest_ms)))
        .await;
    let faults = app.faults;
    let now_ms = clock::now_ms();
    // As for stripe: a refusal is an answer, so the counted try is committed with it.
    app.store.write_async(move |tx| Ok::<_, Refusal>(deliver(tx, faults, &hook, now_ms))).await?
}

fn deliver(tx: &Transaction<'_>, faults: Faults, hook: &Hook, now_ms: u64) -> Result<Stored, Refusal> {
    let known: Option<String> = tx
        .query_row("SELECT result FROM deliveries WHERE event_id = ?1", [&hook.event_id], |row| row.get(0))
        .optional()?;
    if let Some(result) = known {
        return Ok(Stored { result, replayed: true });
    }
    let closed: Option<bool> = tx
        .query_row("SELECT closed FROM closed_customers WHERE customer_id = ?1", [&hook.customer_id], |row| {
            row.get(0)
        })
        .optional()?;
    if closed == Some(true) {
        return Err(Refusal::Gone(format!("{} has closed this endpoint", hook.customer_id)));
    }
    if faults.strike(tx, "customer", &hook.event_id)? {
        return Err(Refusal::Failed("the customer's application crashed".into()));
    }
    let result = serde_json::json!({"received": hook.event_id}).to_string();
    let received_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    tx.execute(
        "INSERT INTO deliveries (event_id, customer_id, received_ms, result) VALUES (?1, ?2, ?3, ?4)",
        params![hook.event_id, hook.customer_id, received_ms, result],
    )?;
    Ok(Stored { result, replayed: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customer_takes_its_rate_and_no_more() {
        let throttle = Throttle::new(10);
        let taken = (0..30).filter(|_| throttle.take("cust-1", 1_000).is_ok()).count();
        assert_eq!(taken, 10);
        assert!(throttle.take("cust-2", 1_000).is_ok(), "another customer has room of its own");
        assert!(matches!(throttle.take("cust-1", 1_050), Err(Refusal::Throttled { seconds: 1 })));
        assert!(throttle.take("cust-1", 1_100).is_ok(), "a tenth of a second makes room for one");
    }

    #[test]
    fn slowness_stays_within_its_bound() {
        let times: Vec<u64> = (0..2_000).map(|n| takes_ms(1, &format!("e{n}"), 1_000)).collect();
        assert!(times.iter().all(|ms| *ms <= 1_000));
        let slow = times.iter().filter(|ms| **ms >= 500).count();
        assert!((120..280).contains(&slow), "{slow}");
        assert_eq!(takes_ms(1, "e1", 0), 0);
    }
}
