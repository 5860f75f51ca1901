//! Traffic into a real queue, and the account of it: complete when all is there, and not when a job is gone.

#![allow(clippy::unwrap_used, reason = "a helper that fails must fail the test")]

use std::path::Path;

use lanekeeper_api::manifest;
use lanekeeper_api::policy::Source;
use lanekeeper_api::validate;
use lanekeeper_queue::client::Queue;
use lanekeeper_queue::testing::TestRedis;
use saas_app::account::{Account, account, look_up};
use saas_app::traffic::ledger::{self, Entry, Outcome, Writer};
use saas_app::traffic::plan::{Intent, MIX, Options, plan};
use saas_app::traffic::run::{Progress, run};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The example's queue in a Redis of its own, as yet without workers.
async fn queue(redis: &TestRedis) -> Queue {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let manifests = manifest::load(&[examples]).unwrap();
    let source = Source { owner: "test".into(), uid: "1".into(), created_ms: 1, generation: 1 };
    let policy = validate::job_queue(&manifests.queues[0], source).unwrap();
    let queue = redis.queue("apps/saas").await.unwrap();
    queue.configure(&policy, false).await.unwrap();
    queue
}

async fn traffic(queue: &Queue, run_id: &str, file: &Path) -> (Progress, Vec<Entry>) {
    let plan = plan(&Options { seed: 1, run: run_id.into(), seconds: 1, rate: 40 });
    let mut writer = Writer::create(file).unwrap();
    let (progress, _seen) = watch::channel(Progress::default());
    let done = run(queue, run_id, &plan, &mut writer, &progress, &CancellationToken::new()).await.unwrap();
    (done, ledger::read(file).unwrap())
}

async fn add_up(queue: &Queue, entries: &[Entry]) -> Account {
    let ids: Vec<String> = entries.iter().filter_map(|entry| entry.accepted().map(str::to_owned)).collect();
    account(entries, &look_up(queue, &ids).await.unwrap())
}

#[tokio::test]
async fn every_accepted_job_is_accounted_for_until_one_is_deleted_by_hand() {
    let redis = TestRedis::start().await.unwrap();
    let queue = queue(&redis).await;
    let folder = tempfile::tempdir().unwrap();
    let (progress, entries) = traffic(&queue, "r1", &folder.path().join("ledger")).await;

    assert_eq!((progress.offered, progress.planned), (entries.len(), entries.len()));
    for entry in &entries {
        let expected = match entry.intent {
            Intent::Work | Intent::Poison => Outcome::Accepted,
            Intent::Duplicate => Outcome::Duplicate,
            Intent::Unusable => Outcome::Rejected,
        };
        assert_eq!(entry.outcome, expected, "{entry:?}");
    }
    let whole = add_up(&queue, &entries).await;
    assert_eq!(whole.all.accepted as usize, progress.accepted);
    assert_eq!((whole.all.waiting, whole.all.unaccounted), (whole.all.accepted, 0));
    assert_eq!(
        (whole.duplicates as usize, whole.rejected as usize),
        (progress.duplicates, progress.rejected)
    );
    assert!(
        MIX.iter().all(|(name, _, least)| whole.by_type[*name].accepted >= *least),
        "{:#?}",
        whole.by_type
    );

    let victim = entries.iter().find_map(Entry::accepted).unwrap();
    let gone: i64 = redis::cmd("HDEL")
        .arg(format!("{}:j", queue.name().root()))
        .arg(victim)
        .query_async(&mut queue.connection())
        .await
        .unwrap();
    assert_eq!(gone, 1, "the record of {victim} was there");
    let damaged = add_up(&queue, &entries).await;
    assert_eq!(damaged.unaccounted_ids, [victim]);
    assert_eq!(damaged.all.unaccounted, 1);
}

#[tokio::test]
async fn the_same_run_again_is_nothing_but_duplicates() {
    let redis = TestRedis::start().await.unwrap();
    let queue = queue(&redis).await;
    let folder = tempfile::tempdir().unwrap();
    traffic(&queue, "r1", &folder.path().join("first")).await;
    let (again, _) = traffic(&queue, "r1", &folder.path().join("second")).await;
    assert_eq!((again.accepted, again.duplicates + again.rejected), (0, again.offered));
    let (fresh, _) = traffic(&queue, "r2", &folder.path().join("third")).await;
    assert!(fresh.accepted > 0);
    let refused: Vec<_> = ledger::read(&folder.path().join("third"))
        .unwrap()
        .into_iter()
        .filter_map(|entry| entry.reason)
        .collect();
    assert!(refused.iter().all(|reason| reason.starts_with("key-field")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_killed_while_jobs_are_enqueued_costs_no_certainty() {
    // Synced before every reply: what was accepted is on disk, so that only lost replies are left to get wrong.
    let mut redis = TestRedis::start_with(&["--appendfsync", "always"]).await.unwrap();
    let queue = queue(&redis).await;
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(&Options { seed: 1, run: "k".into(), seconds: 3, rate: 150 });
    let mut writer = Writer::create(&folder.path().join("ledger")).unwrap();
    let (progress, mut seen) = watch::channel(Progress::default());
    let cancel = CancellationToken::new();
    let traffic = run(&queue, "k", &plan, &mut writer, &progress, &cancel);
    let outages = async {
        for tenth in [2, 5, 8] {
            seen.wait_for(|progress| progress.offered * 10 >= plan.len() * tenth).await.unwrap();
            redis.kill();
            redis.restart().await.unwrap();
        }
    };
    let (done, ()) = tokio::join!(traffic, outages);
    assert_eq!(done.unwrap().offered, plan.len());
    let entries = ledger::read(&folder.path().join("ledger")).unwrap();
    let mistaken: Vec<_> = entries
        .iter()
        .filter(|entry| {
            matches!(entry.intent, Intent::Work | Intent::Poison) && entry.outcome != Outcome::Accepted
        })
        .collect();
    assert!(mistaken.is_empty(), "{mistaken:#?}");
    let account = add_up(&queue, &entries).await;
    assert_eq!((account.all.waiting, account.all.unaccounted), (account.all.accepted, 0));
}
