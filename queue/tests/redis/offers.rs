//! Room that workers offer: jobs that come later are handed to them by the call that brings them.

use lanekeeper_queue::types::{
    ClaimReply, ClaimRequest, Enqueued, HandedOver, JobState, Offer, WorkerIdentity,
};
use lanekeeper_queue::{QueueName, RedisOptions};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use crate::common::{Bed, ids, job, success, want, with, worker};

/// A worker that has subscribed to its calls.
struct Ear {
    messages: UnboundedReceiver<Vec<u8>>,
    task: JoinHandle<()>,
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ear {
    async fn of(bed: &Bed, worker: &WorkerIdentity) -> Self {
        Self::on(bed.redis.options(), bed.queue.name(), worker).await
    }

    async fn on(options: RedisOptions, queue: &QueueName, worker: &WorkerIdentity) -> Self {
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
    async fn handed(&mut self, bed: &Bed, worker: &WorkerIdentity) -> Vec<HandedOver> {
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

fn offer(lanes: &[&str], slots: u32, heard: u64) -> ClaimRequest {
    ClaimRequest { offer: Some(Offer { stands: true, epoch: 1, heard }), ..want(lanes, slots) }
}

async fn claims(bed: &Bed, worker: &WorkerIdentity, want: &ClaimRequest) -> ClaimReply {
    bed.claim_reply(worker, want).await
}

async fn tokens(bed: &Bed) -> u64 {
    bed.raw(&["LLEN", &bed.key("w:fast")]).await.unwrap()
}

fn handed_ids(handed: &[HandedOver]) -> Vec<&str> {
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
    let bed = Bed::still(|_| {}).await;
    let w = worker("w");
    let mut ear = Ear::of(&bed, &w).await;
    claims(&bed, &w, &offer(&["fast"], 3, 0)).await;
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
async fn gates_limits_and_order_hold_for_what_is_handed_over() {
    let bed = Bed::still(|policy| policy.lanes.iter_mut().for_each(|lane| lane.concurrency = Some(2))).await;
    let w = worker("w");
    let mut ear = Ear::of(&bed, &w).await;
    let mut wish = offer(&["slow", "fast"], 9, 0);
    wish.type_limits.insert("mail".into(), 1);
    claims(&bed, &w, &wish).await;
    let mails = bed.queue.enqueue(&vec![job("mail", b""); 2]).await.unwrap();
    let handed = ear.handed(&bed, &w).await;
    assert_eq!(handed_ids(&handed), [id_of(&mails[0])], "one is this worker's limit");
    // What waits there is held: a job that comes after it is not handed over either, and somebody is woken for it.
    bed.accept(job("mail", b"")).await;
    assert!(ear.handed(&bed, &w).await.is_empty());
    // The lane has room for two.
    let reports = bed.queue.enqueue(&vec![job("report", b""); 3]).await.unwrap();
    let handed = ear.handed(&bed, &w).await;
    assert_eq!(handed_ids(&handed), [id_of(&reports[0]), id_of(&reports[1])]);

    let bed = Bed::still(|_| {}).await;
    let mut ear = Ear::of(&bed, &w).await;
    claims(&bed, &w, &offer(&["slow", "fast"], 9, 0)).await;
    bed.queue.pause("ada", "", &[]).await.unwrap();
    bed.accept(job("mail", b"")).await;
    assert!(ear.handed(&bed, &w).await.is_empty(), "the queue is paused");
    bed.queue.resume("ada", &[]).await.unwrap();
    assert_eq!(bed.claim(&w, &["fast"], 9).await.len(), 1);
    claims(&bed, &w, &offer(&["slow", "fast"], 9, 0)).await;
    let (mail, report) = (job("mail", b""), job("report", b""));
    let both = bed.queue.enqueue(&[mail, report]).await.unwrap();
    let handed = ear.handed(&bed, &w).await;
    assert_eq!(handed_ids(&handed), [id_of(&both[1]), id_of(&both[0])], "in the order of the worker's lanes");
}

#[tokio::test]
async fn workers_take_turns() {
    let bed = Bed::still(|_| {}).await;
    let (a, b) = (worker("a"), worker("b"));
    let mut ears = [Ear::of(&bed, &a).await, Ear::of(&bed, &b).await];
    for (at, w) in [&a, &b].into_iter().enumerate() {
        bed.at(at as u64).await;
        claims(&bed, w, &offer(&["fast"], 9, 0)).await;
    }
    for at in 0..6 {
        bed.at(10 + at).await;
        bed.accept(job("mail", b"")).await;
    }
    assert_eq!(ears[0].handed(&bed, &a).await.len(), 3);
    assert_eq!(ears[1].handed(&bed, &b).await.len(), 3);
    // More than one worker has room for goes to two; more than eight are claimed.
    claims(&bed, &a, &offer(&["fast"], 2, 3)).await;
    claims(&bed, &b, &offer(&["fast"], 2, 3)).await;
    bed.queue.enqueue(&vec![job("mail", b""); 4]).await.unwrap();
    assert_eq!(handed_ids(&ears[0].handed(&bed, &a).await).len(), 2);
    assert_eq!(handed_ids(&ears[1].handed(&bed, &b).await).len(), 2);
    claims(&bed, &a, &offer(&["fast"], 20, 5)).await;
    bed.queue.enqueue(&vec![job("mail", b""); 9]).await.unwrap();
    assert!(ears[0].handed(&bed, &a).await.is_empty());
}

#[tokio::test]
async fn damage_costs_an_offer_and_nothing_else() {
    let bed = Bed::still(|_| {}).await;
    let w = worker("w");
    let mut ear = Ear::of(&bed, &w).await;
    for broken in [["HSET", "of", &w.boot, "x"].as_slice(), &["SET", "of", "x"], &["SET", "oz", "x"]] {
        claims(&bed, &w, &offer(&["fast"], 3, 0)).await;
        let mut command: Vec<String> = broken.iter().map(ToString::to_string).collect();
        command[1] = bed.key(broken[1]);
        bed.poke(&command.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let id = bed.accept(job("mail", b"")).await;
        assert_eq!((bed.state(&id).await, tokens(&bed).await), (JobState::Ready, 1), "{broken:?}");
        assert_eq!(claims(&bed, &w, &offer(&["fast"], 3, 0)).await.jobs.len(), 1, "{broken:?}");
        claims(&bed, &w, &offer(&["fast"], 3, 0)).await;
        let next = bed.accept(job("mail", b"")).await;
        assert_eq!(handed_ids(&ear.handed(&bed, &w).await), [next.as_str()], "{broken:?}");
        bed.queue.leave(&w).await.unwrap();
    }
}

#[tokio::test]
async fn producers_that_may_not_publish_hand_nothing_over() {
    let bed = Bed::still(|_| {}).await;
    let w = worker("w");
    let _ear = Ear::of(&bed, &w).await;
    claims(&bed, &w, &offer(&["fast"], 3, 0)).await;
    bed.poke(&[
        "ACL",
        "SETUSER",
        "shop",
        "on",
        ">secret",
        "~*",
        "+@all",
        "resetchannels",
        &format!("&{}", bed.key("wake")),
    ])
    .await;
    let url = bed.redis.url().replace("redis://", "redis://shop:secret@");
    let shop =
        lanekeeper_queue::Queue::connect(&RedisOptions::new(&url), bed.queue.name().clone()).await.unwrap();
    let sent = shop.enqueue(&[job("mail", b"")]).await.unwrap();
    assert_eq!(sent.len(), 1);
    assert_eq!(tokens(&bed).await, 1);
}
