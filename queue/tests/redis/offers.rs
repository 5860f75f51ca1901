//! Room that workers offer: jobs that come later are handed to them by the call that brings them.

use lanekeeper_queue::types::{
    ClaimReply, ClaimRequest, Enqueued, HandedOver, JobState, Offer, WorkerIdentity,
};
use lanekeeper_queue::{QueueName, RedisOptions};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use lanekeeper_api::policy::{ConcurrencyKey, KeyPart, QueuePolicy, RateLimit};

use crate::common::{Bed, ids, job, success, want, with, worker};

/// A worker that has subscribed to its calls.
pub(crate) struct Ear {
    messages: UnboundedReceiver<Vec<u8>>,
    task: JoinHandle<()>,
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ear {
    pub(crate) async fn of(bed: &Bed, worker: &WorkerIdentity) -> Self {
        Self::on(bed.redis.options(), bed.queue.name(), worker).await
    }

    pub(crate) async fn on(options: RedisOptions, queue: &QueueName, worker: &WorkerIdentity) -> Self {
        let channel = queue.calls_channel(&worker.boot);
        let (send, messages) = unbounded_channel();
        let (ready, subscribed) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let mut ready = Some(ready);
            let heard = |message: Option<Vec<u8>>| match message {
                Some(message) => send.send(message).unwrap_or_default(),
                None => ready.take().map_or((), |ready| ready.send(()).unwrap_or_default()),
            };
            lanekeeper_queue::hear(&options, &channel, heard).await.unwrap_or_default();
        });
        subscribed.await.unwrap();
        Self { messages, task }
    }

    /// What has come so far; `calls` comes after all that was said before.
    pub(crate) async fn handed(&mut self, bed: &Bed, worker: &WorkerIdentity) -> Vec<HandedOver> {
        let _: u32 =
            bed.raw(&["PUBLISH", &bed.queue.name().calls_channel(&worker.boot), "end"]).await.unwrap();
        let mut handed = Vec::new();
        loop {
            let message = self.messages.recv().await.unwrap();
            match bed.queue.handed_over(worker, &message).await.unwrap() {
                Some(one) => handed.push(one),
                None => return handed,
            }
        }
    }
}

pub(crate) fn offer(lanes: &[&str], slots: u32, heard: u64) -> ClaimRequest {
    ClaimRequest { offer: Some(Offer { stands: true, epoch: 1, heard }), ..want(lanes, slots) }
}

/// A bed whose worker has subscribed and offered so much room.
pub(crate) async fn waiting(slots: u32) -> (Bed, WorkerIdentity, Ear) {
    let bed = Bed::still(|_| {}).await;
    let w = worker("w");
    let ear = Ear::of(&bed, &w).await;
    claims(&bed, &w, &offer(&["fast"], slots, 0)).await;
    (bed, w, ear)
}

pub(crate) async fn claims(bed: &Bed, worker: &WorkerIdentity, want: &ClaimRequest) -> ClaimReply {
    bed.claim_reply(worker, want).await
}

pub(crate) async fn tokens(bed: &Bed) -> u64 {
    bed.raw(&["LLEN", &bed.key("w:fast")]).await.unwrap()
}

pub(crate) fn handed_ids(handed: &[HandedOver]) -> Vec<&str> {
    handed.iter().flat_map(|one| ids(&one.claim.jobs)).collect()
}

fn id_of(sent: &Enqueued) -> &str {
    let Enqueued::Accepted { id, .. } = sent else { panic!("{sent:?}") };
    id
}

#[tokio::test]
async fn a_job_is_handed_to_whoever_offers_room_as_if_it_had_claimed() {
    let bed = Bed::still(|_| {}).await;
    let w = worker("w");
    let mut ear = Ear::of(&bed, &w).await;
    assert!(claims(&bed, &w, &offer(&["fast"], 2, 0)).await.jobs.is_empty());
    bed.at(700).await;
    let id = bed.accept(with(job("mail", b"hello"), |o| o.meta = [("a".into(), "b".into())].into())).await;
    let handed = ear.handed(&bed, &w).await;
    let [one] = handed.as_slice() else { panic!("{handed:?}") };
    assert_eq!((one.epoch, one.claim.waits, &one.claim.held), (1, false, &None));
    let got = &one.claim.jobs[0];
    assert_eq!((got.id.as_str(), got.lane.as_str(), got.attempt), (id.as_str(), "fast", 1));
    assert_eq!((got.payload.as_slice(), got.meta["a"].as_str()), (b"hello".as_slice(), "b"));
    assert_eq!((got.claimed_ms, got.due_ms), (one.claim.now_ms, one.claim.now_ms));
    assert_eq!(tokens(&bed).await, 0, "nobody else is woken");
    assert_eq!(bed.state(&id).await, JobState::Running);
    let stats = bed.queue.stats().await.unwrap();
    let mail = stats.lanes.iter().flat_map(|lane| &lane.types).find(|ty| ty.name == "mail").unwrap();
    assert_eq!((mail.running, mail.ready), (1, 0));
    bed.settle(&w, got, success()).await;
    assert_eq!(bed.state(&id).await, JobState::Succeeded);

    // The second slot, and then there is none.
    let (second, third) = (bed.accept(job("mail", b"")).await, bed.accept(job("mail", b"")).await);
    assert_eq!(handed_ids(&ear.handed(&bed, &w).await), [second.as_str()]);
    assert_eq!((bed.state(&third).await, tokens(&bed).await), (JobState::Ready, 1));
}

#[tokio::test]
async fn what_was_not_heard_of_takes_up_room_until_it_was() {
    let (bed, w, mut ear) = waiting(3).await;
    bed.accept(job("mail", b"")).await;
    bed.accept(job("mail", b"")).await;
    // A claim that was made before both were heard of has room for one.
    bed.queue.enqueue(&vec![job("mail", b""); 20]).await.unwrap();
    assert_eq!(claims(&bed, &w, &offer(&["fast"], 3, 0)).await.jobs.len(), 1);
    assert_eq!(claims(&bed, &w, &offer(&["fast"], 3, 1)).await.jobs.len(), 2);
    assert_eq!(claims(&bed, &w, &offer(&["fast"], 3, 2)).await.jobs.len(), 3);
    assert_eq!(handed_ids(&ear.handed(&bed, &w).await).len(), 2);
    // A new subscription counts anew.
    let anew = Offer { stands: true, epoch: 2, heard: 0 };
    let anew = ClaimRequest { offer: Some(anew), ..want(&["fast"], 3) };
    assert_eq!(claims(&bed, &w, &anew).await.jobs.len(), 3);
}

#[tokio::test]
async fn an_offer_ends_with_a_claim_that_makes_none_with_its_worker_and_where_nobody_listens() {
    let bed = Bed::still(|_| {}).await;
    let w = worker("w");
    let mut ear = Ear::of(&bed, &w).await;
    let none = |offers: bool| ClaimRequest {
        offer: Some(Offer { stands: offers, epoch: 1, heard: 0 }),
        ..want(&["fast"], 0)
    };
    claims(&bed, &w, &offer(&["fast"], 3, 0)).await;
    claims(&bed, &w, &none(false)).await;
    let first = bed.accept(job("mail", b"")).await;
    assert_eq!(bed.state(&first).await, JobState::Ready);
    assert_eq!(bed.claim(&w, &["fast"], 1).await.len(), 1);

    claims(&bed, &w, &offer(&["fast"], 3, 0)).await;
    bed.queue.leave(&w).await.unwrap();
    let second = bed.accept(job("mail", b"")).await;
    assert_eq!(bed.state(&second).await, JobState::Ready);
    assert_eq!(bed.claim(&w, &["fast"], 1).await.len(), 1);

    claims(&bed, &w, &offer(&["fast"], 3, 0)).await;
    assert!(ear.handed(&bed, &w).await.is_empty());
    drop(ear);
    let channel = bed.queue.name().calls_channel(&w.boot);
    while bed.raw::<(String, u32)>(&["PUBSUB", "NUMSUB", &channel]).await.unwrap().1 > 0 {
        tokio::task::yield_now().await;
    }
    let third = bed.accept(job("mail", b"")).await;
    assert_eq!((bed.state(&third).await, tokens(&bed).await), (JobState::Ready, 1));
}

#[tokio::test]
async fn only_what_nothing_holds_back_is_handed_over() {
    let bed = Bed::still(|_| {}).await;
    let w = worker("w");
    let mut ear = Ear::of(&bed, &w).await;
    let mut wish = offer(&["slow", "fast"], 9, 0);
    wish.type_limits.insert("mail".into(), 2);
    claims(&bed, &w, &wish).await;
    let mails = bed.queue.enqueue(&vec![job("mail", b""); 2]).await.unwrap();
    assert_eq!(handed_ids(&ear.handed(&bed, &w).await), [id_of(&mails[0]), id_of(&mails[1])]);
    // This worker's limit; and what comes after one that waits stands behind it, of whatever type.
    bed.accept(job("mail", b"")).await;
    assert!(ear.handed(&bed, &w).await.is_empty());
    assert_eq!(tokens(&bed).await, 1);
    assert_eq!(bed.claim(&worker("x"), &["fast"], 9).await.len(), 1);

    // The last slot is kept: the worker may have been woken for a job of a lane that goes first.
    claims(&bed, &w, &offer(&["slow", "fast"], 4, 2)).await;
    bed.accept(job("mail", b"")).await;
    assert_eq!(ear.handed(&bed, &w).await.len(), 1);
    bed.queue.enqueue(&vec![job("mail", b""); 2]).await.unwrap();
    assert_eq!(ear.handed(&bed, &w).await.len(), 1);
    bed.accept(job("mail", b"")).await;
    assert!(ear.handed(&bed, &w).await.is_empty());
    assert_eq!(bed.claim(&worker("x"), &["fast"], 9).await.len(), 1);

    // What is for later, and what comes while the queue or its lane is held.
    claims(&bed, &w, &offer(&["slow", "fast"], 9, 5)).await;
    bed.accept(with(job("mail", b""), |o| o.delay = Some(50))).await;
    for lanes in [vec![], vec!["fast".to_owned()]] {
        bed.queue.pause("ada", "", &lanes).await.unwrap();
        bed.accept(job("mail", b"")).await;
        assert!(ear.handed(&bed, &w).await.is_empty(), "{lanes:?}");
        bed.queue.resume("ada", &lanes).await.unwrap();
        assert_eq!(bed.claim(&worker("x"), &["fast"], 9).await.len(), 1, "{lanes:?}");
    }
    let none_of_its_lanes = bed.accept(job("mail", b"")).await;
    assert_eq!(handed_ids(&ear.handed(&bed, &w).await), [none_of_its_lanes.as_str()]);
    claims(&bed, &w, &offer(&["slow"], 9, 6)).await;
    bed.accept(job("mail", b"")).await;
    assert!(ear.handed(&bed, &w).await.is_empty());
}

#[tokio::test]
async fn lanes_with_gates_and_types_with_concurrency_keys_stand_in_line() {
    type Change = fn(&mut QueuePolicy);
    let changes: [Change; 3] = [
        |policy| policy.lanes.iter_mut().for_each(|lane| lane.concurrency = Some(5)),
        |policy| {
            let rate = RateLimit { limit: 100, per_ms: 1_000, burst: None, by: None };
            policy.lanes.iter_mut().for_each(|lane| lane.rate_limit = Some(rate.clone()));
        },
        |policy| {
            let key = vec![KeyPart::Path(vec!["v".into()])];
            let bound = ConcurrencyKey { key, limit: Some(3), rate_limit: None };
            policy.job_types.get_mut("mail").unwrap().concurrency_key = Some(bound);
        },
    ];
    for change in changes {
        let bed = Bed::still(change).await;
        let w = worker("w");
        let mut ear = Ear::of(&bed, &w).await;
        claims(&bed, &w, &offer(&["fast"], 9, 0)).await;
        bed.accept(job("mail", br#"{"v": 1}"#)).await;
        assert!(ear.handed(&bed, &w).await.is_empty());
        assert_eq!(tokens(&bed).await, 1);
        assert_eq!(claims(&bed, &w, &offer(&["fast"], 9, 0)).await.jobs.len(), 1);
    }
}

#[tokio::test]
async fn a_worker_hears_with_its_heartbeat_how_much_was_handed_to_it() {
    let bed = Bed::still(|_| {}).await;
    let w = worker("w");
    let _ear = Ear::of(&bed, &w).await;
    assert_eq!(bed.beat(&w, &[]).await.handed, None);
    claims(&bed, &w, &offer(&["fast"], 9, 0)).await;
    bed.accept(job("mail", b"")).await;
    assert_eq!(bed.beat(&w, &[]).await.handed, Some((1, 1)));
    bed.queue.destroy().await.unwrap();
}

#[tokio::test]
async fn an_offer_holds_under_the_policy_it_was_made_under_and_while_its_worker_lives() {
    let mut bed = Bed::still(|_| {}).await;
    let w = worker("w");
    let mut ear = Ear::of(&bed, &w).await;
    claims(&bed, &w, &offer(&["fast"], 9, 0)).await;
    bed.change(|policy| policy.job_types.get_mut("mail").unwrap().per_worker = Some(1)).await;
    bed.accept(job("mail", b"")).await;
    assert!(ear.handed(&bed, &w).await.is_empty(), "the worker may not know of a limit");
    assert_eq!(bed.claim(&worker("x"), &["fast"], 9).await.len(), 1);

    claims(&bed, &w, &offer(&["fast"], 9, 0)).await;
    bed.beat(&w, &[]).await;
    bed.queue.sweep(&worker("s"), 10).await.unwrap();
    bed.accept(job("mail", b"")).await;
    assert_eq!(ear.handed(&bed, &w).await.len(), 1);
    bed.poke(&["DEL", &bed.key("h")]).await;
    bed.queue.sweep(&worker("s"), 10).await.unwrap();
    bed.accept(job("mail", b"")).await;
    assert!(ear.handed(&bed, &w).await.is_empty(), "nobody has heard of this worker");
}

#[tokio::test]
async fn jobs_of_several_types_are_handed_over_in_one_call_with_their_keys() {
    let bed = Bed::still(|_| {}).await;
    let w = worker("w");
    let mut ear = Ear::of(&bed, &w).await;
    claims(&bed, &w, &offer(&["slow", "fast"], 9, 0)).await;
    let keyed = with(job("mail", b"a"), |o| o.key = Some("k".into()));
    let sent = bed.queue.enqueue(&[keyed.clone(), job("report", b"b"), keyed.clone()]).await.unwrap();
    let handed = ear.handed(&bed, &w).await;
    assert_eq!(handed_ids(&handed), [id_of(&sent[0]), id_of(&sent[1])]);
    assert!(matches!(&sent[2], Enqueued::Duplicate { id, .. } if id == id_of(&sent[0])));
    let first = &handed[0].claim.jobs[0];
    assert_eq!(first.key.as_deref(), Some("k"));
    assert_ne!(first.token, handed[1].claim.jobs[0].token);
    bed.settle(&w, first, success()).await;
    let again = bed.queue.enqueue(&[keyed]).await.unwrap();
    assert!(matches!(&again[0], Enqueued::Duplicate { state: JobState::Succeeded, .. }), "{again:?}");
    assert_eq!(bed.queue.leases_of(&w).await.unwrap().len(), 1);
}

#[tokio::test]
async fn producers_that_may_not_hand_over_enqueue_all_the_same() {
    let bed = Bed::still(|_| {}).await;
    let w = worker("w");
    let mut ear = Ear::of(&bed, &w).await;
    let wake = format!("&{}", bed.key("wake"));
    for rights in [["resetchannels", &wake], ["allchannels", "-pubsub"], ["allchannels", "-exists"]] {
        claims(&bed, &w, &offer(&["fast"], 3, 0)).await;
        let user = ["ACL", "SETUSER", "shop", "reset", "on", ">secret", "~*", "+@all"];
        bed.poke(&[user.as_slice(), &rights].concat()).await;
        let url = bed.redis.url().replace("redis://", "redis://shop:secret@");
        let name = bed.queue.name().clone();
        let shop = lanekeeper_queue::Queue::connect(&RedisOptions::new(&url), name).await.unwrap();
        shop.enqueue(&[job("mail", b"")]).await.unwrap();
        assert!(ear.handed(&bed, &w).await.is_empty(), "{rights:?}");
        assert_eq!(tokens(&bed).await, 1, "{rights:?}");
        assert_eq!(claims(&bed, &w, &offer(&["fast"], 3, 0)).await.jobs.len(), 1, "{rights:?}");
    }
}
