//! `analytics-sync`: batches of counted events, added up exactly once per batch.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use rusqlite::{OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};

use crate::answer::{Refusal, Stored, payload};
use crate::app::App;

/// Tables of this module.
pub const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS analytics_batches (
    batch_timestamp TEXT PRIMARY KEY,
    events INTEGER NOT NULL,
    result TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS analytics_totals (
    event TEXT PRIMARY KEY,
    total INTEGER NOT NULL
) WITHOUT ROWID;";

/// Payload of the job type.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Batch {
    /// Start of the quarter of an hour that was counted, as in `2026-03-01T08:15:00Z`.
    pub batch_timestamp: String,
    /// How often each event happened.
    pub events: BTreeMap<String, u32>,
}

/// Routes of this endpoint.
pub fn routes() -> Router<App> {
    Router::new().route("/analytics", post(handle))
}

async fn handle(State(app): State<App>, body: Bytes) -> Result<Stored, Refusal> {
    let batch: Batch = payload(&body)?;
    if batch.batch_timestamp.len() != 20 || !batch.batch_timestamp.ends_with('Z') {
        let what = format!("batchTimestamp: {:?} is not like 2026-03-01T08:15:00Z", batch.batch_timestamp);
        return Err(Refusal::Malformed(what));
    }
    app.store.write_async(move |tx| add(tx, &batch)).await
}

fn add(tx: &Transaction<'_>, batch: &Batch) -> Result<Stored, Refusal> {
    let known: Option<String> = tx
        .query_row(
            "SELECT result FROM analytics_batches WHERE batch_timestamp = ?1",
            [&batch.batch_timestamp],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(result) = known {
        return Ok(Stored { result, replayed: true });
    }
    for (event, count) in &batch.events {
        tx.execute(
            "INSERT INTO analytics_totals (event, total) VALUES (?1, ?2)
             ON CONFLICT DO UPDATE SET total = total + excluded.total",
            params![event, count],
        )?;
    }
    let events: i64 = batch.events.values().map(|count| i64::from(*count)).sum();
    let result = serde_json::json!({"batch": batch.batch_timestamp, "events": events}).to_string();
    tx.execute(
        "INSERT INTO analytics_batches (batch_timestamp, events, result) VALUES (?1, ?2, ?3)",
        params![batch.batch_timestamp, events, result],
    )?;
    Ok(Stored { result, replayed: false })
}
