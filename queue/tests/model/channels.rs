//! The channels of workers: what the library tells them.

use std::collections::BTreeSet;

use futures::StreamExt as _;
use lanekeeper_queue::types::{HandedOver, WorkerIdentity};
use lanekeeper_queue::{RedisOptions, Result};
use redis::aio::PubSub;
use tokio::sync::Mutex;

use crate::bench::Bench;

/// What is said here comes after all that was said before, so that nobody has to wait for what does not come.
const END: &str = "end";

/// One connection that is subscribed to the channels of all workers that listen.
pub struct Channels {
    subscribed: PubSub,
    boots: BTreeSet<String>,
}

impl Channels {
    pub async fn open(options: &RedisOptions) -> Mutex<Self> {
        let mut subscribed = options.client().unwrap().get_async_pubsub().await.unwrap();
        subscribed.subscribe(END).await.unwrap();
        Mutex::new(Self { subscribed, boots: BTreeSet::new() })
    }
}

impl Bench {
    /// The worker subscribes to its channel, or gives that up; once that is certain.
    pub async fn listen(&self, boot: &str, on: bool) {
        let channel = self.queue().name().calls_channel(boot);
        let mut channels = self.channels().lock().await;
        if on && channels.boots.insert(boot.to_owned()) {
            channels.subscribed.subscribe(channel).await.unwrap();
        } else if !on && channels.boots.remove(boot) {
            channels.subscribed.unsubscribe(channel).await.unwrap();
        }
    }

    /// Nobody listens any more.
    pub async fn hush(&self) {
        let boots = self.channels().lock().await.boots.clone();
        for boot in boots {
            self.listen(&boot, false).await;
        }
    }

    /// The jobs that workers were told of since the last look, in the order of the messages.
    pub async fn told(&self) -> Result<Vec<(String, HandedOver)>> {
        let mut channels = self.channels().lock().await;
        if channels.boots.is_empty() {
            return Ok(Vec::new());
        }
        let mut conn = self.queue().connection();
        let _: u32 = redis::cmd("PUBLISH").arg(END).arg("").query_async(&mut conn).await.unwrap();
        let all = self.queue().name().calls_channel("");
        let (mut told, mut messages) = (Vec::new(), channels.subscribed.on_message());
        loop {
            let message = messages.next().await.expect("the connection to Redis ended");
            let Some(boot) = message.get_channel_name().strip_prefix(&all) else { return Ok(told) };
            let worker = WorkerIdentity {
                name: "told".into(),
                boot: boot.to_owned(),
                pool: String::new(),
                node: String::new(),
            };
            let handed = self.queue().handed_over(&worker, message.get_payload_bytes()).await?;
            // What says something else is a cancellation.
            told.extend(handed.map(|handed| (boot.to_owned(), handed)));
        }
    }
}
