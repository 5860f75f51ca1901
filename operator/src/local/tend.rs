//! Keeps policies in their Redis: after an outage the server may have come back without them, and whether it keeps
//! jobs can change at any time.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lanekeeper_queue::QueueName;

use super::engine::Engine;
use super::{LocalError, LocalEvent, LocalEventKind, LocalPhase};

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// Time between two looks at what every Redis promises: one that begins to evict is closed to workers within 5 s.
const SAFETY_EVERY: Duration = Duration::from_secs(3);

/// Looks at every queue, for ever: tells when its Redis is lost or back, and applies its policy again as long as
/// it cannot be read, and when its Redis starts or ceases to keep jobs.
pub(super) async fn run(engine: &Engine) {
    let mut lost: BTreeSet<QueueName> = BTreeSet::new();
    let mut refused: BTreeSet<QueueName> = BTreeSet::new();
    let mut judged = Instant::now();
    loop {
        tokio::time::sleep(EVERY).await;
        let due = judged.elapsed() >= SAFETY_EVERY;
        if due {
            judged = Instant::now();
        }
        let desired = engine.desired();
        lost.retain(|name| desired.queues.contains_key(name));
        refused.retain(|name| desired.queues.contains_key(name));
        for (name, queue) in &desired.queues {
            let error = engine.fleet.view(name).and_then(|view| view.borrow().error.clone());
            let away = error.is_some();
            let back = !away && lost.remove(name);
            if let Some(error) = error
                && lost.insert(name.clone())
            {
                engine.tell(LocalEvent::now(LocalEventKind::RedisLost, name, error));
            }
            if back {
                let message = "figures can be read again";
                engine.tell(LocalEvent::now(LocalEventKind::RedisBack, name, message));
            }
            if !matches!(engine.phase(), LocalPhase::Starting | LocalPhase::Running) {
                continue;
            }
            if away || ((due || back) && engine.promises_otherwise(name, queue).await) {
                again(engine, name, engine.apply_again(name).await, &mut refused);
            }
        }
    }
}

fn again(
    engine: &Engine,
    name: &QueueName,
    applied: Result<(), LocalError>,
    refused: &mut BTreeSet<QueueName>,
) {
    match applied {
        Err(error @ LocalError::Foreign { .. }) => {
            if refused.insert(name.clone()) {
                engine.tell(LocalEvent::now(LocalEventKind::PolicyRefused, name, error.to_string()));
            }
        }
        // The Redis is still away, which has been told.
        Err(error) => tracing::debug!(queue = %name, %error, "policy not applied yet"),
        Ok(()) => {
            refused.remove(name);
        }
    }
}
