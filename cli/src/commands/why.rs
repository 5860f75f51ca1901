//! `lanekeeper why`: gathers what there is to know and asks `explain`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use lanekeeper_api::policy::QueuePolicy;
use lanekeeper_queue::explain::{self, Cause, Explanation, Place, PoolView, Scene};
use lanekeeper_queue::types::{Find, Job, JobState, Stats};
use serde::Serialize;

use super::get::{KeyArg, Owner, kept_sentence, owner, require_readable, server_now};
use crate::args::{OutputArgs, QueueArgs};
use crate::failure::{Failure, Result};
use crate::human::visible;
use crate::target::{self, Opened};
use crate::{out, pools, present};

/// Arguments of `why`.
#[derive(Debug, Args)]
#[command(
    after_help = "The cause is a stable name that programs may match (`-o json`, field `cause`). A name that is both a lane and a \
pool means the lane; lane/NAME, pool/NAME and job/ID leave no doubt. A job type means its lane, one that the\npolicy no longer has the jobs that wait for it.\n\n\
Examples:\n  lanekeeper why 01K…\n  lanekeeper why --key mail:17\n  lanekeeper why user-fast\n  lanekeeper why pool/interactive -o json | jq -r .cause"
)]
pub(crate) struct WhyArgs {
    /// Id of a job, or name of a lane or pool.
    #[arg(
        value_name = "JOB|LANE|POOL",
        required_unless_present = "key",
        conflicts_with = "key",
        value_parser = NonEmptyStringValueParser::new()
    )]
    what: Option<String>,
    #[command(flatten)]
    by_key: KeyArg,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    queue: QueueArgs,
}

/// What is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Job,
    Lane,
    Pool,
    /// A job type that no lane claims any more.
    Type,
}

/// Everything that an answer is made from.
struct Seen {
    policy: QueuePolicy,
    stats: Stats,
    /// None: pools cannot be seen.
    pools: Option<Vec<PoolView>>,
}

/// The answer, for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    queue: String,
    kind: Kind,
    #[serde(flatten)]
    explanation: &'a Explanation,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<&'a Job>,
}

/// Answers.
pub(crate) async fn run(args: &WhyArgs) -> Result<()> {
    let opened = target::open(&args.queue).await?;
    let seen = look(&opened).await?;
    let what = match &args.by_key.key {
        Some(key) => format!("job/{}", owner_id(&opened, key).await?),
        None => args.what.clone().unwrap_or_default(),
    };
    let (kind, name) = subject(&what, &seen);
    let job = if kind == Kind::Job { find(&opened, name).await? } else { None };
    let orphans =
        (kind == Kind::Job && job.is_none()).then(|| explain::orphans(name, &seen.scene())).flatten();
    let (kind, explanation) = match orphans {
        Some(orphans) => (Kind::Type, orphans),
        None => (kind, explain(&opened, kind, name, job.as_ref(), &seen).await?),
    };
    if args.output.json() {
        let queue = opened.queue.name().to_string();
        out::json(&Answer { queue, kind, explanation: &explanation, job: job.as_ref() })?;
    } else {
        out::print(&told(&explanation, job.as_ref()))?;
    }
    if explanation.cause == Cause::Unknown {
        return Err(Failure::not_found(format!(
            "queue {} has no job, lane, pool or type `{name}`",
            opened.queue.name()
        )));
    }
    Ok(())
}

async fn explain(
    opened: &Opened,
    kind: Kind,
    name: &str,
    job: Option<&Job>,
    seen: &Seen,
) -> Result<Explanation> {
    match kind {
        Kind::Job | Kind::Type => explain_job(opened, name, job, seen).await,
        Kind::Lane => explain_lane(opened, name, seen).await,
        Kind::Pool if seen.pools.is_none() => {
            Err(Failure::invalid("pools cannot be seen through a Redis alone")
                .advice("ask where they run: in the directory of the local mode, or with --context"))
        }
        Kind::Pool => Ok(explain::pool(name, &seen.scene())),
    }
}

async fn look(opened: &Opened) -> Result<Seen> {
    let stats = opened.queue.stats().await.map_err(|error| opened.failure(&error))?;
    let stored = opened.queue.policy().await.map_err(|error| opened.failure(&error))?;
    let Some((policy, _)) = stored else {
        return Err(opened.failure(&lanekeeper_queue::Error::NoPolicy(opened.queue.name().clone())));
    };
    let pools = match pools::gather(opened).await {
        Ok(pools) => pools.map(|pools| pools.iter().map(|(name, pool)| pools::view(name, pool)).collect()),
        Err(failure) => {
            // Redis alone still answers most questions, and never says "no pool" out of ignorance.
            out::note(&failure.to_string());
            None
        }
    };
    Ok(Seen { policy, stats, pools })
}

impl Seen {
    fn scene(&self) -> Scene<'_> {
        Scene { policy: &self.policy, stats: &self.stats, pools: self.pools.as_deref() }
    }

    fn has_pool(&self, name: &str) -> bool {
        self.pools.iter().flatten().any(|pool| pool.name == name)
    }
}

/// What a word on the command line means.
fn subject<'a>(what: &'a str, seen: &'a Seen) -> (Kind, &'a str) {
    if let Some((prefix, name)) = what.split_once('/') {
        match prefix {
            "job" => return (Kind::Job, name),
            "lane" => return (Kind::Lane, name),
            "pool" => return (Kind::Pool, name),
            // `namespace/pool`, as the tables show pools.
            _ => return (Kind::Pool, pools::plain(what)),
        }
    }
    if seen.policy.lane(what).is_some() {
        return (Kind::Lane, what);
    }
    if seen.has_pool(what) {
        return (Kind::Pool, what);
    }
    match seen.policy.job_types.get(what) {
        Some(job_type) => (Kind::Lane, &job_type.lane),
        None => (Kind::Job, what),
    }
}

/// The job that has the key. Of one whose record went before its key did there is nothing to explain but that.
async fn owner_id(opened: &Opened, key: &str) -> Result<String> {
    match owner(opened, key).await? {
        Owner::Job(job) => Ok(job.id),
        Owner::Kept(kept) => {
            Err(Failure::not_found(kept_sentence(key, &kept, server_now(&opened.queue).await)))
        }
    }
}

async fn find(opened: &Opened, id: &str) -> Result<Option<Job>> {
    let found = opened.queue.get(&[id.to_owned()], false).await.map_err(|error| opened.failure(&error))?;
    let job = found.into_iter().next().flatten();
    if job.is_none() {
        require_readable(opened, id).await?;
    }
    Ok(job)
}

/// What holds back the first in line, figures alone do not tell: they know nothing of concurrency keys.
async fn explain_lane(opened: &Opened, name: &str, seen: &Seen) -> Result<Explanation> {
    let first = first_in_line(opened, name, seen).await?;
    Ok(explain::lane(name, first.as_ref().map(|(job, place)| (job, place)), &seen.scene()))
}

/// Each type has a line of its own: the first of the lane is the one of their heads before which nobody goes.
async fn first_in_line(opened: &Opened, lane: &str, seen: &Seen) -> Result<Option<(Job, Place)>> {
    let lanes = seen.stats.lanes.iter().filter(|stats| stats.name == lane);
    let mut first: Option<(Job, Place)> = None;
    for stats in lanes.flat_map(|stats| &stats.types).filter(|stats| stats.ready > 0) {
        let (state, job_type) = (Some(JobState::Ready), Some(stats.name.clone()));
        let find = Find { state, job_type, limit: 1, ..Find::default() };
        let found = opened.queue.find(&find).await.map_err(|error| opened.failure(&error))?;
        let Some(job) = found.jobs.into_iter().next() else { continue };
        let place = place(opened, &job.id).await?;
        let ahead = |place: &Place| place.position.map_or(u64::MAX, |position| position.ahead);
        if first.as_ref().is_none_or(|(_, best)| ahead(&place) < ahead(best)) {
            first = Some((job, place));
        }
    }
    Ok(first)
}

async fn place(opened: &Opened, id: &str) -> Result<Place> {
    Ok(Place {
        position: opened.queue.position(id).await.map_err(|error| opened.failure(&error))?,
        key: opened.queue.key_standing(id).await.map_err(|error| opened.failure(&error))?,
    })
}

async fn explain_job(opened: &Opened, id: &str, job: Option<&Job>, seen: &Seen) -> Result<Explanation> {
    let waits = job.is_some_and(|job| job.state == JobState::Ready);
    let place = match waits {
        true => place(opened, id).await?,
        false => Place::default(),
    };
    Ok(explain::job(id, job, &place, &seen.scene()))
}

fn told(explanation: &Explanation, job: Option<&Job>) -> String {
    let mut text = format!("{:?}: {}", explanation.cause, visible(&explanation.sentence));
    for also in &explanation.also {
        text.push_str(&format!("\n  also: {}", visible(also)));
    }
    if let Some(advice) = &explanation.advice {
        text.push_str(&format!("\n  → {}", visible(advice)));
    }
    if let Some(job) = job.filter(|job| !job.history.is_empty()) {
        text.push_str(&format!("\n\n{}", present::job::history(job)));
    }
    text
}
