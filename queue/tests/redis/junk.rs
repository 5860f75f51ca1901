//! Whatever a field holds that something else wrote: no call stumbles over it, and one that refuses has changed nothing.

use super::half::{CALLS, Scene};
use lanekeeper_queue::Result;
use lanekeeper_queue::types::*;

/// Values that nothing of the library writes: a text, a number beyond what doubles hold, a list in which nothing has the type it
/// should have, pasts of a job that hold no attempt where one should be or a state that there is not, a success without its time, and
/// bytes that are no text.
fn junk() -> [Vec<u8>; 7] {
    let list = (1, 0, "x", "x", "x", "x", "x", (5, "x"), "x", "x", 5, (5,));
    let past = (1, 0, 0, 1, 0, 1, 0, (5,));
    let [list, past] = [rmp_serde::to_vec(&list), rmp_serde::to_vec(&past)].map(std::result::Result::unwrap);
    let [unknown, timeless] = [b"\x92\x01\x09".to_vec(), b"\x92\x01\x03".to_vec()];
    let number = b"99999999999999999999".to_vec();
    [b"some thing".to_vec(), number, list, past, unknown, timeless, b"\xff\xfe".to_vec()]
}

/// Fields that stand in hashes of other times.
const ABSENT: [(&str, &str); 15] = [
    ("g", "o:fast"),
    ("g", "f:fast"),
    ("g", "h:fast"),
    ("g", "h:slow"),
    ("g", "t:slow"),
    ("g", "ungrouped:limited"),
    ("g", "doubted:limited"),
    ("g", "abandoned:mail"),
    ("m", "rc"),
    ("m", "rb"),
    ("m", "rn"),
    ("m", "x"),
    ("m", "back"),
    ("m", "b:fast"),
    ("m", "lp"),
];

pub(super) const READS: [&str; 10] = [
    "status",
    "get",
    "find",
    "find by key",
    "position",
    "standing of the key",
    "dead letters",
    "groups of dead letters",
    "leases",
    "replaceable policy",
];

impl Scene {
    /// All fields of all hashes.
    async fn fields(&self) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        for name in self.bed.raw::<Vec<String>>(&["KEYS", &self.bed.key("*")]).await.unwrap() {
            if self.bed.raw::<String>(&["TYPE", &name]).await.unwrap() == "hash" {
                let fields: Vec<Vec<u8>> = self.bed.raw(&["HKEYS", &name]).await.unwrap();
                found.extend(fields.into_iter().map(|field| (name.clone(), field)));
            }
        }
        // Most jobs here have no past yet.
        let jobs: Vec<Vec<u8>> = self.bed.raw(&["HKEYS", &self.bed.key("j")]).await.unwrap();
        let pasts: Vec<_> = jobs.into_iter().map(|id| (self.bed.key("a"), id)).collect();
        found.extend(pasts.into_iter().filter(|past| !found.contains(past)).collect::<Vec<_>>());
        for (key, field) in ABSENT {
            found.push((self.bed.key(key), field.as_bytes().to_vec()));
        }
        found
    }

    pub(super) async fn read(&self, call: &str) -> Result<()> {
        let (queue, [waits, limited]) = (&self.bed.queue, &self.waiting);
        match call {
            "status" => queue.stats().await.map(drop),
            "get" => queue.get(&[waits.clone(), self.dead[0].clone()], true).await.map(drop),
            "find" => queue.find(&Find { limit: 100, ..Find::default() }).await.map(drop),
            "find by key" => queue
                .find(&Find { key: Some("mail-waits".into()), limit: 1, ..Find::default() })
                .await
                .map(drop),
            "position" => queue.position(waits).await.map(drop),
            "standing of the key" => queue.key_standing(limited).await.map(drop),
            "dead letters" => queue.dead_list(&DeadFilter::default(), 100, None).await.map(drop),
            "groups of dead letters" => queue.dead_groups(&DeadFilter::default(), |_| {}).await.map(drop),
            "leases" => queue.leases_of(&self.worker).await.map(drop),
            "replaceable policy" => queue.replaceable_policy().await.map(drop),
            other => self.call(other).await,
        }
    }

    async fn put(&self, (name, field): &(String, Vec<u8>), value: &[u8]) {
        let conn = &mut self.bed.queue.connection();
        let () = redis::cmd("HSET").arg(name).arg(field).arg(value).query_async(conn).await.unwrap();
    }
}

#[tokio::test]
async fn a_field_that_holds_something_else_fails_no_call() {
    let scene = Scene::set().await;
    let whole = scene.keys().await;
    let (mut stumbled, mut half) = (Vec::new(), Vec::new());
    for field in scene.fields().await {
        for value in junk() {
            let said = |call| format!("{call} at {} {:?}", field.0, String::from_utf8_lossy(&field.1));
            scene.restore(&whole).await;
            scene.put(&field, &value).await;
            let before = scene.keys().await;
            let mut changed = false;
            for call in READS.into_iter().chain(CALLS) {
                if changed {
                    scene.restore(&before).await;
                }
                changed = CALLS.contains(&call);
                let Err(error) = scene.read(call).await else { continue };
                let error = error.to_string();
                if ["attempt to", "bad argument", "user_function", "unexpected reply"]
                    .iter()
                    .any(|sign| error.contains(sign))
                {
                    stumbled.push(format!("{}: {error}", said(call)));
                } else if scene.keys().await != before {
                    half.push(format!("{}: {error}", said(call)));
                } else {
                    // Nothing to put back: it has changed nothing.
                    changed = false;
                }
            }
        }
    }
    assert!(stumbled.is_empty(), "{} of calls: {stumbled:#?}", stumbled.len());
    assert!(half.is_empty(), "{half:#?}");
}
