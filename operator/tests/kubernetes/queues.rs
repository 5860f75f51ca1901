//! A JobQueue becomes a policy and credentials, and its status says what holds.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use lanekeeper_api::job_queue::JobQueue;
use lanekeeper_queue::QueueName;
use lanekeeper_queue::client::{Queue, RedisOptions};
use serde_json::json;

use super::bed::{Bed, OWNER, edit, eventually, when};
use super::manifests::{QUEUE, queue_with};

async fn ready(bed: &Bed) {
    bed.condition::<JobQueue>("saas", "Ready", "True", "PolicyApplied").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_lands_in_redis_and_says_so() {
    let Some(bed) = Bed::new("lands").await else { return };
    let _operator = bed.operator("one").await;
    bed.apply(QUEUE).await;
    ready(&bed).await;
    for kind in ["RedisReachable", "RedisSafe"] {
        let object = bed.queue_object("saas").await.unwrap();
        assert_eq!(object.condition(kind).unwrap().status, "True", "{kind}");
    }
    let object = bed.queue_object("saas").await.unwrap();
    let (policy, version) = bed.queue("saas").await.policy().await.unwrap().unwrap();
    assert_eq!(policy.source.owner, OWNER);
    assert_eq!(Some(&policy.source.uid), object.metadata.uid.as_ref());
    assert_eq!(Some(policy.source.generation), object.metadata.generation);
    assert_eq!(policy.queue, format!("{}/saas", bed.namespace));
    assert_eq!(object.status.unwrap().policy_version, Some(version));
    bed.event("saas", "PolicyApplied").await;

    bed.enqueue("saas", "mail").await;
    eventually("the waiting job shows in the status", async || {
        let status = bed.queue_object("saas").await.unwrap().status.unwrap();
        when(status.depth == Some(1) && status.oldest.is_some() && status.lanes.len() == 1, status)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_reaches_redis_and_an_invalid_one_leaves_the_last_good_policy() {
    let Some(bed) = Bed::new("edits").await else { return };
    let _operator = bed.operator("one").await;
    bed.apply(QUEUE).await;
    ready(&bed).await;
    edit(&bed.api::<JobQueue>(), "saas", json!({"spec": {"paused": true}})).await;
    bed.condition::<JobQueue>("saas", "Paused", "True", "PausedBySpec").await;
    let (paused, version) = bed.queue("saas").await.policy().await.unwrap().unwrap();
    assert!(paused.paused);

    // The schema cannot see that this is no port.
    bed.apply(&QUEUE.replace("http://mailer/jobs", "http://mailer:99999/jobs")).await;
    let said = bed.condition::<JobQueue>("saas", "Ready", "False", "InvalidValue").await;
    assert!(said.message.contains("spec.jobTypes[0].handler.http.url"), "{}", said.message);
    assert_eq!(bed.queue("saas").await.policy().await.unwrap().unwrap(), (paused, version));
    bed.event("saas", "InvalidValue").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_get_an_account_that_can_do_their_work_and_no_more() {
    let Some(mut bed) = Bed::new("accounts").await else { return };
    let _operator = bed.operator("one").await;
    bed.apply(QUEUE).await;
    ready(&bed).await;
    let url = bed.secret_value("saas-lanekeeper-worker", "url").await.unwrap();
    assert!(url.contains(&format!("lanekeeper.{}.saas:", bed.namespace)), "{url}");
    let worker = |name: &str| {
        let name = QueueName::new(&bed.namespace, name);
        let options = RedisOptions::new(url.clone());
        async move { Queue::connect(&options, name).await }
    };
    worker("saas").await.unwrap().stats().await.unwrap();
    worker("other").await.unwrap().stats().await.expect_err("another queue's keys");
    let flushed: redis::RedisResult<()> =
        redis::cmd("FLUSHALL").query_async(&mut worker("saas").await.unwrap().connection()).await;
    flushed.expect_err("an admin's command");

    // Accounts live in Redis' memory: after a crash it is made again, under the same password.
    bed.redis.kill();
    bed.redis.restart().await.unwrap();
    eventually("the account is back", async || match worker("saas").await {
        Ok(queue) => queue.stats().await.map(drop).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_of_its_own_is_found_through_its_secret() {
    let Some(bed) = Bed::new("own-redis").await else { return };
    let _operator = bed.operator_with("one", None).await;
    bed.apply(QUEUE).await;
    bed.condition::<JobQueue>("saas", "Ready", "False", "NoDefaultRedis").await;
    let secret = |url: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: r}}\nstringData: {{admin: '{url}', worker: '{url}'}}\n"
        )
    };
    bed.apply(&queue_with(
        "redis: {adminSecretRef: {name: r, key: admin}, workerSecretRef: {name: r, key: worker}}",
    ))
    .await;
    let said = bed.condition::<JobQueue>("saas", "Ready", "False", "SecretMissing").await;
    assert!(said.message.contains("spec.redis.adminSecretRef"), "{}", said.message);
    bed.apply(&secret("http://:hunter2@nowhere")).await;
    let said = bed.condition::<JobQueue>("saas", "Ready", "False", "SecretInvalid").await;
    assert!(!said.message.contains("hunter2"), "{}", said.message);
    bed.apply(&secret(&bed.redis.url())).await;
    ready(&bed).await;
    let made = bed.api::<Secret>().get_opt("saas-lanekeeper-worker").await.unwrap();
    assert!(made.is_none(), "the workers have a URL of the user's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_may_lose_jobs_closes_the_queue_unless_that_is_accepted() {
    let arguments = ["--appendonly", "no", "--maxmemory-policy", "allkeys-lru"];
    let Some(bed) = Bed::with_redis("unsafe", &arguments).await else { return };
    let _operator = bed.operator("one").await;
    bed.apply(QUEUE).await;
    let said = bed.condition::<JobQueue>("saas", "RedisSafe", "False", "RedisUnsafe").await;
    assert!(said.message.contains("allkeys-lru"), "{}", said.message);
    bed.condition::<JobQueue>("saas", "Ready", "False", "RedisUnsafe").await;
    let (policy, _) = bed.queue("saas").await.policy().await.unwrap().unwrap();
    assert_eq!(policy.closed.as_deref(), Some("RedisUnsafe"));

    bed.apply(&queue_with("redis: {allowUnsafe: true}")).await;
    ready(&bed).await;
    bed.condition::<JobQueue>("saas", "RedisSafe", "False", "RedisUnsafeAllowed").await;
    let (policy, _) = bed.queue("saas").await.policy().await.unwrap().unwrap();
    assert_eq!(policy.closed, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_begins_to_evict_closes_its_queues_before_the_next_regular_look() {
    let Some(bed) = Bed::new("evicts").await else { return };
    let _operator = bed.operator("one").await;
    bed.apply(QUEUE).await;
    ready(&bed).await;
    let queue = bed.queue("saas").await;
    let set = async |policy: &str| {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("maxmemory-policy").arg(policy);
        let _: () = set.query_async(&mut queue.connection()).await.unwrap();
    };
    let reason = async || queue.policy().await.unwrap().unwrap().0.closed;
    // Changes of status wake the reconciler too: only what is set when all is quiet is found by the looks between, or after 13.5 s
    // by the regular one. Twice, so that chance cannot have put a regular look there.
    let quiet = Duration::from_secs(4);
    let mut slowest = Duration::ZERO;
    for _ in 0..2 {
        tokio::time::sleep(quiet).await;
        set("allkeys-lru").await;
        let began = Instant::now();
        eventually("the queue is closed", async || {
            reason().await.filter(|why| why == "RedisUnsafe").ok_or("open")
        })
        .await;
        slowest = slowest.max(began.elapsed());
        set("noeviction").await;
        eventually("the queue is open", async || reason().await.map_or(Ok(()), Err)).await;
    }
    println!("evicting Redis: closed after at most {:.1} s", slowest.as_secs_f64());
    assert!(slowest < Duration::from_secs(9), "{slowest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_away_is_said_and_noticed_when_it_is_back() {
    let Some(mut bed) = Bed::new("away").await else { return };
    let _operator = bed.operator("one").await;
    bed.apply(QUEUE).await;
    ready(&bed).await;
    bed.redis.kill();
    bed.condition::<JobQueue>("saas", "RedisReachable", "False", "RedisUnreachable").await;
    let status = bed.queue_object("saas").await.unwrap().status.unwrap();
    assert_eq!(status.depth, None, "absent, not zero");
    bed.redis.restart().await.unwrap();
    ready(&bed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_another_owner_is_left_alone() {
    let Some(bed) = Bed::new("foreign").await else { return };
    // Someone else's operator, on the same Redis and for the same name.
    let first = bed.operator("one").await;
    bed.apply(QUEUE).await;
    ready(&bed).await;
    first.stop().await;
    let queue = bed.queue("saas").await;
    let (mut policy, _) = queue.policy().await.unwrap().unwrap();
    policy.source.owner = "kubernetes:elsewhere".to_owned();
    queue.configure(&policy, true).await.unwrap();

    let _second = bed.operator("two").await;
    let said = bed.condition::<JobQueue>("saas", "Ready", "False", "ForeignOwner").await;
    assert!(said.message.contains("kubernetes:elsewhere"), "{}", said.message);
    assert!(said.message.contains("lanekeeper adopt"), "{}", said.message);
    assert_eq!(queue.policy().await.unwrap().unwrap().0.source.owner, "kubernetes:elsewhere");
    bed.event("saas", "ForeignOwner").await;
}
