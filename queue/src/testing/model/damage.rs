//! Damage by hand or by a lost key, and what sweeps make of it.
//!
//! Where a job stands follows from its record, its past and its lease; so whatever index is lost comes back as it was. What
//! stands in one place only is lost with it, and the model says what that means: who is told so by `Model::damages`.

use super::given::Given;
use super::groups::Group;
use super::op::Damage;
use super::state::{Job, Model, Owner, Place};
use crate::types::WorkerIdentity;

/// Most jobs of a queue that is damaged: sweeps look at a few jobs at a time.
const MOST_JOBS: usize = 100;

impl Damage {
    fn key(name: &str, rest: &str) -> Self {
        Self::Key(if rest.is_empty() { name.to_owned() } else { format!("{name}:{rest}") })
    }

    fn entry(name: &str, rest: &str, member: &str) -> Self {
        let key = if rest.is_empty() { name.to_owned() } else { format!("{name}:{rest}") };
        Self::Entry(key, member.to_owned())
    }
}

impl Model {
    /// Whether sweeps would do nothing now but mend, and the model can tell what comes of that.
    #[must_use]
    pub fn is_calm(&self, now_us: u64) -> bool {
        let now_ms = now_us / 1_000;
        self.stored.is_some()
            && !self.went_back
            && self.jobs.len() <= MOST_JOBS
            && self.leases.values().all(|lease| lease.expires_ms > now_ms)
            && self.next_due().is_none_or(|due| due > now_ms)
            && self.too_old_or_many(now_ms) == 0
            && self.pressure() == 0
            && self.key_checks.values().all(|at| *at > now_ms)
            && !self.has_unsorted()
    }

    /// What can be damaged. Not `yg`: jobs whose key was lost go by turns that come out of what repair met first, and may go one
    /// claim later; `queue/tests/redis/groups.rs` plays that alone.
    #[must_use]
    pub fn damages(&self) -> Vec<Damage> {
        let mut all: Vec<Damage> = ["n", "r", "d", "dx", "dc", "t", "c", "k", "kx", "l", "h", "o", "g"]
            .map(|name| Damage::key(name, ""))
            .into();
        for (id, job) in &self.jobs {
            let kind = job.job_type.as_str();
            for (name, of_types) in indexes_of(job.place) {
                let rest = if *of_types { kind } else { "" };
                all.extend([Damage::key(name, rest), Damage::entry(name, rest, id)]);
            }
            if matches!(job.place, Place::Dead | Place::Discarded) {
                all.extend([Damage::Card(id.clone()), Damage::entry("dc", "", id)]);
            }
            if job.place == Place::Schedule {
                all.push(Damage::entry("n", "", kind));
            }
            if self.leases.contains_key(id) {
                all.push(Damage::entry("r", "", id));
            }
            if self.leases.contains_key(id) && !untold(job) {
                all.push(Damage::Lease(id.clone()));
            }
            if let (Some(_), Group::Of(group)) = (self.key_rules(kind), &job.group) {
                let line = format!("{kind}:{group}");
                all.extend([Damage::key("y", &line), Damage::entry("y", &line, id)]);
                for name in ["yt", "yp", "yr"] {
                    all.extend([Damage::key(name, kind), Damage::entry(name, kind, group)]);
                }
            }
        }
        if self.leases.keys().any(|id| untold(&self.jobs[id])) {
            all.retain(|damage| *damage != Damage::key("l", ""));
        }
        if self.has_orphaned_totals() {
            all.retain(|damage| *damage != Damage::key("t", ""));
        }
        all.extend(self.keys.keys().map(|key| Damage::entry("k", "", key)));
        all.extend(self.key_checks.keys().map(|key| Damage::entry("kx", "", key)));
        all
    }

    /// Whether a type without jobs is known by its name alone, and its totals with it. They outlive the name and come back with
    /// the type, should a later policy have it again: nobody is told of them in between.
    fn has_orphaned_totals(&self) -> bool {
        let used = |name: &String| self.jobs.values().any(|job| job.job_type == *name);
        let mut gone =
            self.types.iter().filter(|(name, _)| !self.policy().job_types.contains_key(*name) && !used(name));
        gone.any(|(_, totals)| *totals != Default::default())
    }

    /// The damage, and as many sweeps as it takes.
    pub(super) fn damage(&mut self, damage: &Damage, now_us: u64, given: &Given) {
        let sweeper = WorkerIdentity {
            name: String::new(),
            boot: String::new(),
            pool: String::new(),
            node: String::new(),
        };
        self.sweep(&sweeper, 200, now_us, &Given::default());
        match damage {
            Damage::Key(key) => self.lose(key, None, now_us),
            Damage::Entry(key, member) => self.lose(key, Some(member), now_us),
            Damage::Lease(id) => self.lose("l", Some(id), now_us),
            Damage::Card(_) => {}
        }
        // Lost leases put jobs back before anyone counts anew how many of their keys run: those may stand aside till a claim looks.
        self.regard_groups(now_us, false);
        self.doubt_groups();
        self.forget_silent_offers();
        if given.damaged < self.damaged {
            self.broken =
                Some(format!("the count of damage fell from {} to {}", self.damaged, given.damaged));
        }
        self.damaged = given.damaged;
    }

    /// What the loss of a key, or of one of its members, changes for good. Of all other indexes: nothing.
    fn lose(&mut self, key: &str, member: Option<&str>, now_us: u64) {
        let hit = |name: &String| member.is_none_or(|member| name == member);
        let now_ms = now_us / 1_000;
        match key {
            // Nobody knows any more when they end.
            "r" => {
                let expires_ms = now_ms + self.lease_ms(now_ms);
                let leases = self.leases.iter_mut().filter(|(id, _)| hit(id));
                leases.for_each(|(_, lease)| lease.expires_ms = expires_ms);
            }
            // The jobs wait again, as if nobody had taken them.
            "l" => {
                let lost: Vec<String> = self.leases.keys().filter(|id| hit(id)).cloned().collect();
                for id in lost {
                    self.leases.remove(&id);
                    if let Some(job) = self.jobs.get_mut(&id) {
                        job.wait(job.due_ms, now_ms);
                    }
                }
            }
            "k" => self.lose_keys(hit, now_ms),
            // When a key is over stands beside its owner too, as long as there is a record that tells who that was.
            "kx" => {
                let (jobs, keys) = (&self.jobs, &self.keys);
                let known = |key: &String| {
                    let owner = keys.get(key).filter(|owner| owner.until_ms.is_some());
                    owner
                        .and_then(|owner| jobs.get(&owner.id))
                        .is_some_and(|job| job.place == Place::Succeeded)
                };
                self.key_checks.retain(|key, _| !hit(key) || known(key));
            }
            "c" => self.types.values_mut().for_each(|counters| *counters = Default::default()),
            "t" => {
                let policy = &self.stored.as_ref().expect("damage is done to queues that are there").policy;
                let jobs = &self.jobs;
                let used = |name: &String| jobs.values().any(|job| job.job_type == *name);
                self.types.retain(|name, _| policy.job_types.contains_key(name) || used(name));
            }
            "h" => self.workers.clear(),
            "o" => self.jobs.values_mut().for_each(|job| (job.progress, job.checkpoint) = (None, None)),
            "g" => self.gates = Default::default(),
            _ => {}
        }
    }

    /// Jobs that live or are dead say which key is theirs; of those that succeeded, the time at which the key is over.
    fn lose_keys(&mut self, hit: impl Fn(&String) -> bool, now_ms: u64) {
        self.keys.retain(|key, owner| {
            let job = self.jobs.get(&owner.id);
            let kept = job.is_some_and(|job| match owner.until_ms {
                Some(until_ms) => {
                    job.place == Place::Succeeded
                        && until_ms > now_ms
                        && self.key_checks.get(key) == Some(&until_ms)
                }
                None => job.place.is_live() || job.place == Place::Dead,
            });
            !hit(key) || kept
        });
        let jobs = self.jobs.iter().filter(|(_, job)| job.place.is_live() || job.place == Place::Dead);
        for (id, key) in jobs.filter_map(|(id, job)| Some((id, job.key.as_ref()?))) {
            self.keys.entry(key.clone()).or_insert_with(|| Owner { id: id.clone(), until_ms: None });
        }
    }
}

/// Whether only its lease tells claims that the job has notes: they look for those of jobs that were tried before. A checkpoint
/// is a help and no promise, so nobody says what becomes of it without that lease.
fn untold(job: &Job) -> bool {
    job.history.is_empty() && (job.progress.is_some() || job.checkpoint.is_some())
}

/// The indexes in which a job stands, and whether they are of its type.
fn indexes_of(place: Place) -> &'static [(&'static str, bool)] {
    match place {
        Place::Line => &[("q", true)],
        Place::Schedule => &[("s", true)],
        Place::Succeeded | Place::Cancelled => &[("f", true)],
        Place::Dead => &[("d", true), ("d", false)],
        Place::Discarded => &[("dx", true), ("dx", false)],
        Place::Leased => &[],
    }
}
