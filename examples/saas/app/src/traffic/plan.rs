//! What is enqueued when: a pure function of seed, run, seconds and rate.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::customer::CLOSED;
use crate::dice::Dice;

/// What the generator means by a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Intent {
    /// To be done.
    Work,
    /// To end as a dead letter: no try can help.
    Poison,
    /// To be answered `duplicate`: it was enqueued before.
    Duplicate,
    /// To be rejected: its key cannot be rendered.
    Unusable,
}

/// One job to enqueue.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// When, ms after the start.
    pub at_ms: u64,
    /// Job type.
    pub job_type: &'static str,
    /// Payload.
    pub payload: Value,
    /// Start no earlier than this after the enqueue, ms.
    pub delay_ms: Option<u64>,
    /// What is meant by it.
    pub intent: Intent,
}

/// What a plan follows from.
#[derive(Debug, Clone)]
pub struct Options {
    /// Draws everything.
    pub seed: u64,
    /// Part of every id and event: two runs never share a key.
    pub run: String,
    /// How long the traffic lasts.
    pub seconds: u64,
    /// Jobs a second, on average.
    pub rate: u64,
}

/// Job types with their weight and the least number of jobs that even the shortest run has.
pub const MIX: [(&str, u64, u64); 7] = [
    ("receipt-email", 30, 55),
    ("webhook-delivery", 24, 55),
    ("password-reset", 16, 55),
    ("stripe-event", 14, 55),
    ("image-thumbnail", 8, 55),
    ("analytics-sync", 5, 55),
    ("pdf-report", 3, 6),
];

/// Poisoned jobs of either kind: webhooks to customers that are gone, mails that no template fits.
const POISON: u64 = 4;
/// One job in so many is enqueued again.
const DUPLICATE_EVERY: u64 = 25;
/// A burst begins each so many ms and puts a third of the traffic into half a second.
const BURST_EVERY_MS: u64 = 8_000;

/// The plan, by time.
#[must_use]
pub fn plan(options: &Options) -> Vec<Planned> {
    let mut draw = Draw { dice: Dice::new(options.seed), options, number: 0 };
    let weights: u64 = MIX.iter().map(|(_, weight, _)| weight).sum();
    let wanted = options.seconds * options.rate;
    let mut jobs = Vec::new();
    for (job_type, weight, least) in MIX {
        let count = (wanted * weight / weights).max(least);
        jobs.extend((0..count).map(|_| draw.job(job_type)));
    }
    for _ in 0..POISON {
        jobs.push(draw.closed_customer());
        jobs.push(draw.malformed_mail());
    }
    let again = (jobs.len() as u64 / DUPLICATE_EVERY).max(10);
    for _ in 0..again {
        let original = jobs[draw.dice.below(jobs.len() as u64) as usize].clone();
        if original.intent == Intent::Work {
            let at_ms = draw.dice.between(original.at_ms, draw.end_ms());
            jobs.push(Planned { at_ms, intent: Intent::Duplicate, delay_ms: None, ..original });
        }
    }
    jobs.extend((0..3).map(|_| draw.unusable()));
    // Stable: a duplicate planned for the very time of its original stays behind it.
    jobs.sort_by_key(|job| job.at_ms);
    jobs
}

struct Draw<'a> {
    dice: Dice,
    options: &'a Options,
    number: u64,
}

impl Draw<'_> {
    fn end_ms(&self) -> u64 {
        self.options.seconds * 1000
    }

    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// Two thirds at any time, one third in bursts.
    fn at(&mut self) -> u64 {
        let end = self.end_ms();
        let at = if self.dice.chance(0.33) {
            self.dice.below(end.div_ceil(BURST_EVERY_MS)) * BURST_EVERY_MS + self.dice.below(500)
        } else {
            self.dice.below(end)
        };
        at.min(end)
    }

    fn planned(&mut self, job_type: &'static str, payload: Value) -> Planned {
        let at_ms = self.at();
        let delay_ms = self.dice.chance(0.03).then(|| self.dice.between(500, 3_000));
        Planned { at_ms, job_type, payload, delay_ms, intent: Intent::Work }
    }

    fn job(&mut self, job_type: &'static str) -> Planned {
        let payload = match job_type {
            "receipt-email" => self.mail("receipt"),
            "password-reset" => self.mail("password-reset"),
            "webhook-delivery" => {
                // One large customer gets a third of everything, and throttles in the bursts.
                let customer = if self.dice.chance(0.33) { 1 } else { self.dice.between(2, 60) };
                self.hook(&format!("cust-{customer}"))
            }
            "stripe-event" => {
                let kind = if self.dice.chance(0.1) { "charge.refunded" } else { "charge.succeeded" };
                json!({
                    "eventId": format!("evt_{}_{}", self.options.run, self.next()),
                    "type": kind,
                    "customerId": format!("cust-{}", self.dice.between(1, 60)),
                    "amountCents": self.dice.between(100, 50_000),
                })
            }
            "image-thumbnail" => {
                let size = [64, 96, 128][self.dice.below(3) as usize];
                json!({"imageId": format!("img-{}-{}", self.options.run, self.next()), "size": size})
            }
            "analytics-sync" => self.batch(),
            _ => {
                let period = format!("2026-{:02}", self.dice.between(1, 12));
                json!({"customerId": format!("cust-{}-{}", self.options.run, self.next()), "period": period})
            }
        };
        self.planned(job_type, payload)
    }

    fn mail(&mut self, template: &str) -> Value {
        let (user, number) = (self.dice.between(1, 5_000), self.next());
        json!({
            "userId": user,
            "templateId": template,
            "eventId": format!("{}-{number}", self.options.run),
            "to": format!("user-{user}@example.test"),
            "vars": {
                "name": format!("User {user}"),
                "link": format!("https://app.example.test/reset/{number}"),
                "number": format!("R-{number:06}"),
                "amount": format!("{}.{:02} EUR", self.dice.between(1, 400), self.dice.below(100)),
            },
        })
    }

    fn hook(&mut self, customer: &str) -> Value {
        let kind = ["invoice.paid", "user.created", "user.deleted"][self.dice.below(3) as usize];
        json!({"eventId": format!("{}-{}", self.options.run, self.next()), "customerId": customer, "type": kind})
    }

    /// A quarter of an hour of the past, a new one each time: the backlog after an outage. Each run has a
    /// stretch of its own, somewhere in three centuries.
    fn batch(&mut self) -> Value {
        let quarter = Dice::of(0, &self.options.run).below(10_000_000) + self.next();
        let (day, rest) = (quarter / 96, quarter % 96);
        let stamp = format!(
            "{}-{:02}-{:02}T{:02}:{:02}:00Z",
            2000 + day / 336,
            1 + (day / 28) % 12,
            1 + day % 28,
            rest / 4,
            rest % 4 * 15
        );
        json!({
            "batchTimestamp": stamp,
            "events": {"signup": self.dice.below(20), "login": self.dice.below(900), "export": self.dice.below(9)},
        })
    }

    fn closed_customer(&mut self) -> Planned {
        let customer = CLOSED[self.dice.below(CLOSED.len() as u64) as usize];
        let payload = self.hook(customer);
        Planned { intent: Intent::Poison, delay_ms: None, ..self.planned("webhook-delivery", payload) }
    }

    fn malformed_mail(&mut self) -> Planned {
        let payload = self.mail("spring-sale-2019");
        Planned { intent: Intent::Poison, delay_ms: None, ..self.planned("receipt-email", payload) }
    }

    fn unusable(&mut self) -> Planned {
        let mut payload = self.mail("receipt");
        payload["eventId"] = Value::Null;
        Planned { intent: Intent::Unusable, delay_ms: None, ..self.planned("receipt-email", payload) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, HashSet};

    fn of(seconds: u64) -> Vec<Planned> {
        plan(&Options { seed: 1, run: "r1".into(), seconds, rate: 40 })
    }

    fn work(jobs: &[Planned]) -> BTreeMap<&str, usize> {
        jobs.iter().filter(|job| job.intent == Intent::Work).fold(BTreeMap::new(), |mut counts, job| {
            *counts.entry(job.job_type).or_default() += 1;
            counts
        })
    }

    #[test]
    fn even_the_shortest_run_has_every_type_poison_duplicates_and_unusable_jobs() {
        for seconds in [0, 1, 60] {
            let jobs = of(seconds);
            for (job_type, _, least) in MIX {
                assert!(work(&jobs)[job_type] as u64 >= least, "{job_type} in {seconds} s");
            }
            let count = |intent| jobs.iter().filter(|job| job.intent == intent).count();
            assert_eq!(count(Intent::Poison), 8);
            assert!(count(Intent::Duplicate) >= 5, "{}", count(Intent::Duplicate));
            assert_eq!(count(Intent::Unusable), 3);
            assert!(jobs.iter().all(|job| job.at_ms <= seconds * 1000));
        }
    }

    #[test]
    fn the_same_seed_plans_the_same_and_another_run_shares_no_payload() {
        assert_eq!(of(10), of(10));
        let other = plan(&Options { seed: 1, run: "r2".into(), seconds: 10, rate: 40 });
        let payloads: HashSet<String> = other.iter().map(|job| job.payload.to_string()).collect();
        let shared =
            |job: &&Planned| job.intent == Intent::Work && payloads.contains(&job.payload.to_string());
        assert_eq!(of(10).iter().filter(shared).count(), 0);
    }

    #[test]
    fn only_duplicates_repeat_a_payload_and_they_come_after_it() {
        let jobs = of(20);
        let mut seen = HashSet::new();
        for job in &jobs {
            let fresh = seen.insert((job.job_type, job.payload.to_string()));
            assert_eq!(fresh, job.intent != Intent::Duplicate, "{job:?}");
        }
    }
}
