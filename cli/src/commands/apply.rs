//! `lanekeeper apply`: the function library and the policies, into a Redis, without an operator.
//!
//! Everything is checked before anything is written: the manifests, the Redis, and who manages each queue.

use clap::Args;
use lanekeeper_api::job_queue::JobQueue;
use lanekeeper_api::manifest::{Loaded, Manifests};
use lanekeeper_api::policy::{QueuePolicy, Source};
use lanekeeper_api::validate;
use lanekeeper_operator::local::apply::{OWNER, SAFE_ADVICE, newer_words, stamp};
use lanekeeper_queue::types::Configured;
use lanekeeper_queue::{Queue, RedisOptions, Replaceable, Safety, install_library, newer_library, safety};
use serde::Serialize;

use crate::args::{OutputArgs, WhereArgs};
use crate::failure::{Failure, Result};
use crate::human::count;
use crate::manifests::{self, ManifestArgs};
use crate::present::diff::{self, Change};
use crate::redact::redact;
use crate::target::{self, Target};
use crate::{clock, out};

/// Arguments of `apply`.
#[derive(Debug, Args)]
#[command(
    after_help = "Writes nothing when any document is invalid. WorkerPools are checked and left alone: run workers with \
`lanekeeper-worker`, or let `lanekeeper up` or the operator run them.\n\n\
Examples:\n  lanekeeper apply -f queue.yaml --redis redis://localhost:6379 --dry-run\n  lanekeeper apply -f manifests/ --redis rediss://redis.example:6380 --redis-ca ca.pem"
)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    manifests: ManifestArgs,
    /// Take queues over that someone else manages.
    #[arg(long)]
    adopt: bool,
    /// Check everything and say what would change, but write nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    place: WhereArgs,
}

/// What became of one queue.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Applied {
    queue: String,
    /// `created`, `changed`, `unchanged`; with --dry-run what would be.
    outcome: &'static str,
    policy_version: Option<u64>,
    changes: Vec<Change>,
}

/// A queue that was looked at and may be written.
struct Planned {
    queue: Queue,
    policy: QueuePolicy,
    stored: Replaceable,
}

/// Applies.
pub(crate) async fn run(args: &ApplyArgs) -> Result<()> {
    let manifests::Checked { manifests, warnings } = manifests::load(&args.manifests, false)?;
    warnings.iter().for_each(|warning| out::note(warning));
    let options = redis(args).await?;
    let whereabouts = redact(&options.url);
    let planned = plan(args, &manifests, &options, &whereabouts).await?;
    let mut applied = Vec::new();
    if !args.dry_run
        && let Some(first) = planned.first()
    {
        load_library(&first.queue, &whereabouts).await?;
    }
    for one in planned {
        applied.push(write(args, one, &whereabouts).await?);
    }
    report(args, &applied)?;
    if !manifests.pools.is_empty() {
        out::note(&format!(
            "{} checked and left alone: workers are not run by `apply`",
            count(manifests.pools.len() as u64, "WorkerPool")
        ));
    }
    Ok(())
}

/// The Redis to write to: only one that is named.
async fn redis(args: &ApplyArgs) -> Result<RedisOptions> {
    let advice = "name the Redis with --redis or LANEKEEPER_REDIS_URL";
    if args.place.context.is_some() {
        return Err(Failure::invalid("on a cluster the operator writes the policies")
            .advice("use `kubectl apply -f`, or name a Redis with --redis"));
    }
    match &args.place.redis {
        Some(url) => target::redis_options(url, &args.place),
        None => match target::choose(&args.place).await {
            Ok(Target::Local(_)) => {
                Err(Failure::invalid("a local mode runs here and writes the policies of its own manifests")
                    .advice(format!("change those files, and it follows; or {advice}")))
            }
            _ => Err(Failure::invalid("it is not said where to apply the manifests").advice(advice)),
        },
    }
}

async fn plan(
    args: &ApplyArgs,
    manifests: &Manifests,
    options: &RedisOptions,
    whereabouts: &str,
) -> Result<Vec<Planned>> {
    let mut planned: Vec<Planned> = Vec::new();
    for manifest in &manifests.queues {
        let name = target::queue_name(&manifest.queue_name(), None)?;
        let queue = match planned.first() {
            Some(first) => first.queue.with_name(name),
            None => {
                let queue = Queue::connect(options, name).await;
                let queue = queue.map_err(|error| Failure::queue(&error, whereabouts))?;
                target::require_redis(queue.connection(), whereabouts).await?;
                queue
            }
        };
        require_safety(manifest, &queue, whereabouts).await?;
        let stored = stored(&queue, whereabouts).await?;
        let before = stored.policy.as_ref().map(|(policy, _)| policy);
        let foreign = before.map(|policy| policy.source.owner.as_str()).filter(|owner| *owner != OWNER);
        if let Some(owner) = foreign.filter(|_| !args.adopt) {
            return Err(foreign_failure(queue.name(), owner));
        }
        let nobody = Source { owner: String::new(), uid: String::new(), created_ms: 0, generation: 0 };
        let policy = validate::job_queue(manifest, nobody).map_err(|problems| {
            Failure::invalid(format!("{}: JobQueue {} is invalid", manifest.origin, queue.name()))
                .details(problems.iter().map(ToString::to_string))
        })?;
        let policy = stamp(policy, before, clock::now_ms());
        planned.push(Planned { queue, policy, stored });
    }
    Ok(planned)
}

async fn load_library(queue: &Queue, whereabouts: &str) -> Result<()> {
    let mut conn = queue.connection();
    let failed = |error| Failure::queue(&error, whereabouts);
    install_library(&mut conn).await.map_err(failed)?;
    if let Some(version) = newer_library(&mut conn).await.map_err(failed)? {
        out::note(&format!("warning: {}", newer_words(version)));
    }
    Ok(())
}

/// What is stored; one that cannot be read is told of, as it counts as none.
async fn stored(queue: &Queue, whereabouts: &str) -> Result<Replaceable> {
    let stored = queue.replaceable_policy().await.map_err(|error| Failure::queue(&error, whereabouts))?;
    if let Some(damage) = &stored.damage {
        out::note(&format!(
            "warning: the policy of queue {} in {whereabouts} cannot be read and is to be replaced: {damage}",
            queue.name()
        ));
    }
    Ok(stored)
}

fn foreign_failure(queue: &lanekeeper_queue::QueueName, owner: &str) -> Failure {
    Failure::failed(format!("queue {queue} is managed by {owner}; nothing was changed"))
        .advice(format!("change it there, or take it over: `lanekeeper adopt {queue}`, or --adopt here"))
}

/// Jobs must not be lost to a Redis that forgets: the operator closes such a queue, `apply` refuses it.
async fn require_safety(manifest: &Loaded<JobQueue>, queue: &Queue, whereabouts: &str) -> Result<()> {
    let allowed = manifest.spec.redis.as_ref().is_some_and(|redis| redis.allow_unsafe);
    let safety =
        safety(&mut queue.connection()).await.map_err(|error| Failure::queue(&error, whereabouts))?;
    match safety {
        Safety::Safe => Ok(()),
        Safety::Unsafe { why } if !allowed => {
            Err(Failure::failed(format!("{whereabouts} may lose jobs: {why}; nothing was changed"))
                .advice(SAFE_ADVICE))
        }
        Safety::Unsafe { why } => {
            out::note(&format!("warning: {whereabouts} may lose jobs: {why} (accepted by allowUnsafe)"));
            Ok(())
        }
        Safety::Unknown { why } => {
            out::note(&format!("warning: whether {whereabouts} may lose jobs cannot be told: {why}"));
            Ok(())
        }
    }
}

async fn write(args: &ApplyArgs, planned: Planned, whereabouts: &str) -> Result<Applied> {
    let Planned { queue, mut policy, stored } = planned;
    let before = stored.policy.as_ref().map(|(policy, _)| policy);
    let changes = diff::changes(before, &policy);
    let outcome = match before {
        None if stored.damage.is_some() => "changed",
        None => "created",
        Some(_) if changes.is_empty() => "unchanged",
        Some(_) => "changed",
    };
    let name = queue.name().to_string();
    let stored_version = stored.policy.as_ref().map(|(_, version)| *version);
    if args.dry_run {
        return Ok(Applied { queue: name, outcome, policy_version: stored_version, changes });
    }
    let configured = queue.replace(&stored, &mut policy, args.adopt).await;
    let configured = configured.map_err(|error| Failure::queue(&error, whereabouts))?;
    match configured {
        Configured::Applied { version } | Configured::Unchanged { version } => {
            warn_of_orphans(&queue).await;
            Ok(Applied { queue: name, outcome, policy_version: Some(version), changes })
        }
        Configured::Stale { generation } => Err(Failure::failed(format!(
            "queue {name} was changed by someone else meanwhile (generation {generation})"
        ))
        .advice("apply again")),
        Configured::Foreign { owner } => Err(foreign_failure(queue.name(), &owner)),
    }
}

/// Jobs of types that the policy no longer has wait for ever unless someone is told.
async fn warn_of_orphans(queue: &Queue) {
    // A warning that cannot be computed must not fail what was written.
    let Ok(stats) = queue.stats().await else { return };
    for job_type in stats.lanes.iter().filter(|lane| lane.name.is_empty()).flat_map(|lane| &lane.types) {
        let waiting = job_type.ready + job_type.scheduled;
        if waiting > 0 {
            out::note(&format!(
                "warning: {} of type `{}` waiting in {}, which no longer has that type: kept until it has it again",
                count(waiting, "job"),
                job_type.name,
                queue.name()
            ));
        }
    }
}

fn report(args: &ApplyArgs, applied: &[Applied]) -> Result<()> {
    if args.output.json() {
        return out::json(&applied);
    }
    for one in applied {
        let version =
            one.policy_version.map_or_else(String::new, |version| format!(" (policy version {version})"));
        let dry = if args.dry_run { " (dry run)" } else { "" };
        out::print(&format!("queue {} {}{version}{dry}", one.queue, one.outcome))?;
        for line in diff::lines(&one.changes) {
            out::print(&format!("  {line}"))?;
        }
    }
    Ok(())
}
