//! Which dead letters are meant.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use lanekeeper_api::duration::Duration;
use lanekeeper_queue::types::{DeadFilter, ReviewState};

use crate::failure::{Failure, Result};
use crate::human;
use crate::target::Opened;

/// A review state on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum State {
    Open,
    Acknowledged,
    Discarded,
}

impl From<State> for ReviewState {
    fn from(state: State) -> Self {
        match state {
            State::Open => Self::Open,
            State::Acknowledged => Self::Acknowledged,
            State::Discarded => Self::Discarded,
        }
    }
}

/// A moment, or a time before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    At(u64),
    Ago(u64),
}

impl When {
    fn ms(self, now_ms: u64) -> u64 {
        match self {
            Self::At(ms) => ms,
            Self::Ago(ms) => now_ms.saturating_sub(ms),
        }
    }
}

impl std::str::FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return human::parse_instant(text).map(Self::At);
        }
        match text.parse::<Duration>() {
            Ok(duration) => Ok(Self::Ago(duration.as_millis())),
            Err(_) => human::parse_instant(text).map(Self::At).map_err(|_| {
                format!(
                    "`{text}` is no time: write how long ago (2h, 30m), a moment (2030-01-31T08:00:00Z) or ms since the epoch"
                )
            }),
        }
    }
}

/// Hex digits of a fingerprint.
const FINGERPRINT: usize = 12;

/// A whole fingerprint: the queue would find nothing by a part of one, which looks like good news.
fn parse_fingerprint(text: &str) -> std::result::Result<String, String> {
    if text.len() == FINGERPRINT && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(format!(
        "`{text}` is no fingerprint: write its {FINGERPRINT} hex digits, as `lanekeeper dead groups` shows them"
    ))
}

/// A filter that says something: the queue takes an empty one for none, and an unset variable of a shell would mean all.
fn parse_filter(text: &str) -> std::result::Result<String, String> {
    if text.is_empty() {
        return Err("it is empty (an unset variable?): say what to look for, or leave it out; --all means every dead letter".to_owned());
    }
    Ok(text.to_owned())
}

/// Filters of dead letters. All must hold.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Which")]
pub(super) struct FilterArgs {
    /// Of this job type.
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_filter)]
    job_type: Option<String>,
    /// Of this lane, by the present policy.
    #[arg(long, value_parser = parse_filter)]
    lane: Option<String>,
    /// That died of this error, as `dead ls` and `dead groups` show it.
    #[arg(long, value_name = "HEX", value_parser = parse_fingerprint)]
    fingerprint: Option<String>,
    /// In this state of review. Absent: all that nobody discarded.
    #[arg(long, value_enum, value_name = "STATE")]
    review: Option<State>,
    /// That died since then: 2h, 2030-01-31T08:00:00Z or ms since the epoch. Of discarded ones: were discarded.
    #[arg(long, value_name = "TIME")]
    since: Option<When>,
    /// That died until then.
    #[arg(long, value_name = "TIME")]
    until: Option<When>,
    /// Whose idempotency keys fit this pattern; * stands for anything.
    #[arg(long = "match", value_name = "PATTERN", value_parser = parse_filter)]
    key: Option<String>,
}

impl FilterArgs {
    pub(super) fn is_empty(&self) -> bool {
        let Self { job_type, lane, fingerprint, review, since, until, key } = self;
        [job_type, lane, fingerprint, key].iter().all(|text| text.is_none())
            && review.is_none()
            && since.is_none()
            && until.is_none()
    }

    /// The filter at this time.
    pub(super) fn filter(&self, now_ms: u64) -> Result<DeadFilter> {
        let (since_ms, until_ms) =
            (self.since.map(|since| since.ms(now_ms)), self.until.map(|until| until.ms(now_ms)));
        if since_ms.zip(until_ms).is_some_and(|(since, until)| since > until) {
            return Err(Failure::invalid("--since is later than --until: nothing died between them")
                .advice("the earlier one goes to --since, such as --since 2h --until 1h"));
        }
        Ok(DeadFilter {
            lane: self.lane.clone(),
            job_type: self.job_type.clone(),
            fingerprint: self.fingerprint.clone(),
            state: self.review.map(Into::into),
            since_ms,
            until_ms,
            key: self.key.clone(),
            oldest_first: false,
        })
    }

    /// Nothing was found: with a type or lane that the queue does not have, that is a slip rather than good news.
    pub(super) async fn require_names(&self, opened: &Opened) -> Result<()> {
        let policy = opened.queue.policy().await.map_err(|error| opened.failure(&error))?;
        let Some((policy, _)) = policy else { return Ok(()) };
        let types: Vec<&str> = policy.job_types.keys().map(String::as_str).collect();
        let lanes: Vec<&str> = policy.lanes.iter().map(|lane| lane.name.as_str()).collect();
        let unknown = |name: &Option<String>, known: &[&str]| {
            name.clone().filter(|name| !known.contains(&name.as_str()))
        };
        let queue = opened.queue.name();
        if let Some(name) = unknown(&self.job_type, &types) {
            let message = format!("{queue} has no job type `{name}`, and no dead letter of it");
            return Err(Failure::not_found(message).advice(format!("its types are: {}", types.join(", "))));
        }
        if let Some(name) = unknown(&self.lane, &lanes) {
            let message = format!("{queue} has no lane `{name}`");
            return Err(Failure::not_found(message).advice(format!("its lanes are: {}", lanes.join(", "))));
        }
        Ok(())
    }
}

/// Jobs by their ids, by filters, or all.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Ids of the jobs.
    #[arg(value_name = "JOB", value_parser = NonEmptyStringValueParser::new())]
    pub(super) jobs: Vec<String>,
    #[command(flatten)]
    pub(super) filter: FilterArgs,
    /// Every dead letter of the queue.
    #[arg(long, help_heading = "Which")]
    all: bool,
}

impl Which {
    /// Refuses to guess.
    pub(super) fn check(&self) -> Result<()> {
        let ways = [!self.jobs.is_empty(), !self.filter.is_empty(), self.all];
        match ways.iter().filter(|way| **way).count() {
            1 => Ok(()),
            0 => Err(Failure::invalid("which dead letters?").advice(
                "name jobs by their ids, or give filters (--type, --lane, --fingerprint, --review, --since, --until, --match), or --all",
            )),
            _ => Err(Failure::invalid("ids of jobs, filters and --all exclude each other").advice("give one of them")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_whole() {
        assert_eq!(parse_fingerprint("3F9C2a71e0b4"), Ok("3f9c2a71e0b4".to_owned()));
        for wrong in ["zzz", "3f9c", "3f9c2a71e0b4a", "3f9c2a71e0bg", ""] {
            assert!(parse_fingerprint(wrong).unwrap_err().contains("dead groups"), "{wrong}");
        }
    }

    #[test]
    fn times_are_ages_moments_or_ms() {
        assert_eq!("2h".parse(), Ok(When::Ago(7_200_000)));
        assert_eq!("1500".parse(), Ok(When::At(1500)));
        assert_eq!("1970-01-01T00:00:01Z".parse(), Ok(When::At(1000)));
        assert!("yesterday".parse::<When>().unwrap_err().contains("how long ago"));
        assert_eq!((When::Ago(10).ms(4), When::Ago(10).ms(14), When::At(3).ms(9)), (0, 4, 3));
    }
}
