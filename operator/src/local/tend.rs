//! Keeps policies in their Redis: after an outage the server may have come back without them.

use std::collections::BTreeSet;
use std::time::Duration;

use lanekeeper_queue::QueueName;

use super::engine::Engine;
use super::{LocalError, LocalEvent, LocalEventKind, LocalPhase};

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Looks at every queue, for ever: tells when its Redis is lost or back, and applies its policy again as long as
/// it cannot be read.
pub(super) async fn run(engine: &Engine) {
    let mut lost: BTreeSet<QueueName> = BTreeSet::new();
    loop {
        tokio::time::sleep(EVERY).await;
        let desired = engine.desired();
        lost.retain(|name| desired.queues.contains_key(name));
        for (name, queue) in &desired.queues {
            let error = engine.fleet.view(name).and_then(|view| view.borrow().error.clone());
            match error {
                Some(error) => {
                    if lost.insert(name.clone()) {
                        engine.tell(LocalEvent::now(LocalEventKind::RedisLost, name, error));
                    }
                    if matches!(engine.phase(), LocalPhase::Starting | LocalPhase::Running) {
                        again(engine, name, engine.apply(name, queue).await);
                    }
                }
                None if lost.remove(name) => {
                    engine.tell(LocalEvent::now(
                        LocalEventKind::RedisBack,
                        name,
                        "figures can be read again",
                    ));
                }
                None => {}
            }
        }
    }
}

fn again(engine: &Engine, name: &QueueName, applied: Result<(), LocalError>) {
    match applied {
        Err(error @ LocalError::Foreign { .. }) => {
            engine.tell(LocalEvent::now(LocalEventKind::PolicyRefused, name, error.to_string()));
        }
        // The Redis is still away, which has been told.
        Err(error) => tracing::debug!(queue = %name, %error, "policy not applied yet"),
        Ok(()) => {}
    }
}
