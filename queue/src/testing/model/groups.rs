//! Concurrency keys: the jobs of a type that share a key form a group, which has bounds of its own and takes turns with the
//! others of its type. Who goes next among them see `next.rs`.

use std::collections::{BTreeMap, BTreeSet};

use lanekeeper_api::policy::{ConcurrencyKey, QueuePolicy};

use super::gates::Wait;
use super::given::Given;
use super::key;
use super::rate::Rate;
use super::state::{Job, Model, Place};
use super::waits::{NEVER, Waits, perhaps_aside};
use crate::types::KeyStanding;

/// Which group a job is in, whether or not its type has groups at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Group {
    /// That of a key, rendered at the enqueue.
    Of(String),
    /// None, for its payload gives none, so that nothing bounds it; such jobs take turns with the groups as if they were one.
    Outside,
    /// It came when its type had no key. When it has one, the library says from when on it is which of the two above.
    Open,
}

impl Group {
    /// The name under which it takes turns.
    pub(super) fn turn_name(&self) -> &str {
        if let Self::Of(key) = self { key } else { "" }
    }
}

/// Type and key.
pub(super) type Name = (String, String);

/// What groups remember.
#[derive(Debug, Clone, Default)]
pub(super) struct Groups {
    /// Patience that a dependency asked for.
    holds: BTreeMap<Name, Wait>,
    /// Theoretical arrival times, µs.
    arrivals: BTreeMap<Name, u64>,
    /// Those with an arrival time that said nothing when all were last regarded, for a slower rate made it, or with a hold from
    /// before the clock went back. When time has caught up with it, it counts again, and nobody notices before a claim looks.
    unsound: BTreeSet<Name>,
    /// What the last job that was enqueued said of the class of its key's rate.
    pub(super) classes: BTreeMap<Name, Option<String>>,
    /// Those of them that the library may have forgotten, for no job of the key lives.
    unsure: BTreeSet<Name>,
    /// Those of which jobs are in line.
    pub(super) waits: BTreeMap<Name, Waits>,
    /// Types that came to have a key, and how often somebody has looked at their lines since: the first look sorts them, the
    /// second finds nothing to sort.
    unsorted: BTreeMap<String, u8>,
    /// The number of turns that begin with this call, µs: the time, unless the clock went back, for numbers of turns only rise.
    pub(super) turn_us: u64,
    /// The highest number of any turn.
    last_turn_us: u64,
    /// The clock went back with this call: who may go need not be who may have gone, and nobody looked.
    stepped: bool,
    /// Sweeps may be looking at all jobs, for they met one whose group was not known.
    pub(super) sought: bool,
}

impl Groups {
    /// Whether nobody has looked at the type's line since it came to have a key.
    fn never_sorted(&self, job_type: &str) -> bool {
        self.unsorted.get(job_type) == Some(&0)
    }

    /// A call begins; `stepped`: the clock went back since the last.
    pub(super) fn begin(&mut self, now_us: u64, stepped: bool) {
        self.stepped = stepped;
        self.turn_us = now_us.max(self.last_turn_us + 1);
        self.last_turn_us = self.turn_us;
    }

    /// The turn of a group that this call served, which was the `n`th.
    pub(super) fn served(&mut self, n: usize) -> u64 {
        let turn_us = self.turn_us + n as u64;
        self.last_turn_us = self.last_turn_us.max(turn_us);
        turn_us
    }

    fn sorted(&mut self, looked_at: impl Fn(&String) -> bool) {
        self.unsorted.retain(|name, looks| {
            *looks += u8::from(looked_at(name));
            *looks < 2
        });
    }
}

impl Model {
    /// The bounds of the groups of a type; none where it has no groups.
    pub(super) fn key_rules(&self, job_type: &str) -> Option<&ConcurrencyKey> {
        self.policy().job_types.get(job_type)?.concurrency_key.as_ref()
    }

    fn running_of(&self, (job_type, key): &Name) -> usize {
        let jobs = self.leases.keys().filter_map(|id| self.jobs.get(id));
        jobs.filter(|job| job.job_type == *job_type && matches!(&job.group, Group::Of(of) if of == key))
            .count()
    }

    fn rate_of(&self, name: &Name) -> Option<Rate> {
        let spec = self.key_rules(&name.0)?.rate_limit.as_ref()?;
        let class = self.groups.classes.get(name).and_then(Option::as_ref);
        let own = spec.by.as_ref().zip(class).and_then(|(by, class)| by.limits.get(class));
        let rate = Rate::of(spec);
        Some(own.map_or(rate, |limit| rate.with_limit(*limit)))
    }

    fn is_unsound(&self, name: &Name, now_us: u64) -> bool {
        if self.groups.holds.get(name).is_some_and(|hold| hold.is_unsound(now_us / 1_000)) {
            return true;
        }
        let arrival = self.groups.arrivals.get(name);
        arrival.zip(self.rate_of(name)).is_some_and(|(arrival, rate)| !rate.is_sound(*arrival, now_us))
    }

    /// How many jobs of a group may go, at most `most`; where none may, until when, where that is a matter of time (ms).
    pub(super) fn group_room(&self, name: &Name, mut most: usize, now_us: u64) -> Result<usize, Option<u64>> {
        let Some(rules) = self.key_rules(&name.0).filter(|_| !name.1.is_empty()) else { return Ok(most) };
        if let Some(until_ms) = self.groups.holds.get(name).and_then(|hold| hold.end(now_us / 1_000)) {
            return Err(Some(until_ms));
        }
        if let Some(limit) = rules.limit {
            most = most.min((limit as usize).saturating_sub(self.running_of(name)));
            if most == 0 {
                return Err(None);
            }
        }
        let Some(rate) = self.rate_of(name) else { return Ok(most) };
        rate.room(self.groups.arrivals.get(name).copied().unwrap_or(0), now_us, most).map_err(Some)
    }

    /// Jobs of a group were handed out.
    pub(super) fn group_spent(&mut self, name: &Name, count: usize, now_us: u64) {
        if let Some(rate) = self.rate_of(name) {
            let arrival = self.groups.arrivals.entry(name.clone()).or_default();
            *arrival = rate.spent(*arrival, now_us, count);
        }
    }

    /// A dependency asked for patience for the group of this job.
    pub(super) fn hold_group(&mut self, job_type: &str, group: &Group, delay_ms: u64, now_ms: u64) {
        if let (Some(_), Group::Of(key)) = (self.key_rules(job_type), group) {
            let hold = self.groups.holds.entry((job_type.to_owned(), key.clone())).or_default();
            *hold = Wait::new(delay_ms, hold.end(now_ms), now_ms);
        }
    }

    /// Where the groups with jobs in line stand after a call, or a part of one.
    pub(super) fn regard_groups(&mut self, now_us: u64, lazily: bool) {
        if self.stored.is_none() {
            return;
        }
        let mut names: BTreeSet<Name> = BTreeSet::new();
        for job in self.jobs.values().filter(|job| job.place == Place::Line) {
            if self.key_rules(&job.job_type).is_some() {
                names.insert((job.job_type.clone(), job.group.turn_name().to_owned()));
            }
        }
        let mut before = std::mem::take(&mut self.groups.waits);
        let unsound = std::mem::take(&mut self.groups.unsound);
        for name in names {
            let room = self.group_room(&name, 1, now_us);
            let was = before.remove(&name);
            let perhaps = match was {
                Some(Waits::Turn { .. }) => unsound.contains(&name),
                was => was.and_then(|was| perhaps_aside(was, now_us)).is_some(),
            };
            if self.is_unsound(&name, now_us) {
                self.groups.unsound.insert(name.clone());
            }
            // Its jobs may stand in no line of their own before somebody looks.
            let lazily = lazily || self.groups.stepped || self.groups.never_sorted(&name.0);
            let now = (now_us, self.groups.turn_us);
            self.groups.waits.insert(name, Waits::after(was, room, now, lazily, perhaps));
        }
    }

    /// A claim looks at the groups of a type: those that may go have their turns by now.
    pub(super) fn look_at_groups(&mut self, job_type: &str) {
        let turn_us = self.groups.turn_us;
        self.groups.sorted(|name| name == job_type);
        let own = self.groups.waits.iter_mut().filter(|((kind, _), _)| kind == job_type);
        for (_, waits) in own {
            if let Waits::Turn { from_us, to_us } = waits {
                *to_us = (*to_us).min(turn_us.max(*from_us));
            }
        }
    }

    /// A job in line makes way for another: for a moment its group may have had none there.
    pub(super) fn group_left(&mut self, job: &Job) {
        let turn_us = self.groups.turn_us;
        let name = (job.job_type.clone(), job.group.turn_name().to_owned());
        if let Some(Waits::Turn { to_us, .. }) = self.groups.waits.get_mut(&name) {
            *to_us = turn_us.max(*to_us);
        }
    }

    /// Where time alone keeps all groups of the lane that have jobs in line, until when.
    pub(super) fn groups_open(&self, lane: &str, now_us: u64) -> Option<u64> {
        let mut opens = None;
        for (_, job) in self.lane_line(lane) {
            let name = (job.job_type.clone(), job.group.turn_name().to_owned());
            match self.group_room(&name, 1, now_us) {
                Ok(_) => opens = opens.into_iter().chain([self.perhaps_aside(&name, now_us)?]).min(),
                Err(till) => opens = opens.into_iter().chain(till).min(),
            }
        }
        opens
    }

    /// Whether a job in line may go, and no time, past or to come, has to do with it.
    pub(super) fn goes_for_good(&self, job: &Job) -> bool {
        let Some(rules) = self.key_rules(&job.job_type) else { return true };
        let Group::Of(key) = &job.group else { return true };
        let name = (job.job_type.clone(), key.clone());
        rules.rate_limit.is_none()
            && !self.groups.holds.contains_key(&name)
            && self.group_room(&name, 1, 0).is_ok()
    }

    /// Until when a group may stand aside although it may go.
    pub(super) fn perhaps_aside(&self, name: &Name, now_us: u64) -> Option<u64> {
        perhaps_aside(*self.groups.waits.get(name)?, now_us)
    }

    /// Whether somebody may look at the lane once more although nothing of it may go, for a line was just sorted.
    pub(super) fn looks_again(&self, lane: &str) -> bool {
        let of_lane = |name: &String| self.policy().job_types.get(name).is_some_and(|spec| spec.lane == lane);
        self.groups.unsorted.keys().any(of_lane)
    }

    /// Whether nobody may have sorted a line since its type came to have a key.
    pub(super) fn has_unsorted(&self) -> bool {
        let waits = |job: &Job| job.place == Place::Line && self.groups.never_sorted(&job.job_type);
        self.jobs.values().any(waits)
    }

    /// A policy took the place of this one: types that lost their key forget all of their groups, and jobs of those that have
    /// one now may be in any order among them until somebody looks.
    pub(super) fn note_groups(&mut self, old: Option<&QueuePolicy>) {
        let keyed = |policy: &QueuePolicy, name: &String| {
            policy.job_types.get(name).is_some_and(|spec| spec.concurrency_key.is_some())
        };
        let new = &self.stored.as_ref().expect("it was written a moment ago").policy;
        let groups = &mut self.groups;
        let stays = |(job_type, _): &Name| keyed(new, job_type);
        groups.holds.retain(|name, _| stays(name));
        groups.arrivals.retain(|name, _| stays(name));
        groups.classes.retain(|name, _| stays(name));
        groups.unsure.retain(stays);
        groups.unsorted.retain(|name, _| keyed(new, name));
        let came = new.job_types.keys().filter(|name| keyed(new, name));
        let came = came.filter(|name| !old.is_some_and(|old| keyed(old, name)));
        groups.unsorted.extend(came.map(|name| (name.clone(), 0)));
    }

    /// What a sweep does: sorts lines, and forgets what says nothing any more, unless the clock goes back.
    pub(super) fn sweep_groups(&mut self, now_us: u64) {
        let groups = &mut self.groups;
        groups.sorted(|_| true);
        groups.arrivals.retain(|_, arrival_us| *arrival_us > now_us);
        groups.holds.retain(|_, hold| hold.until_ms > now_us / 1_000);
        let lives = |(job_type, key): &Name| {
            let own =
                |job: &Job| job.job_type == *job_type && matches!(&job.group, Group::Of(of) if of == key);
            self.jobs.values().any(|job| job.place.is_live() && own(job))
        };
        let idle = |name: &&Name| !self.groups.arrivals.contains_key(*name) && !lives(name);
        let unsure: Vec<Name> = self.groups.classes.keys().filter(idle).cloned().collect();
        self.groups.unsure.extend(unsure);
    }

    /// An enqueue of a job of a key says what the class of its rate is.
    pub(super) fn set_class(&mut self, name: Name, class: Option<String>) {
        self.groups.unsure.remove(&name);
        self.groups.classes.insert(name, class);
    }

    /// Keys of which only the library can say whether it knows their class.
    #[must_use]
    pub fn unsure_classes(&self) -> Vec<(String, String)> {
        self.groups.unsure.iter().cloned().collect()
    }

    /// Sweeps put groups back that had lost their turns, and until then take one for idle whose jobs stand in no line.
    pub(super) fn doubt_groups(&mut self) {
        let idle = |name: &&Name| !self.groups.arrivals.contains_key(*name);
        self.groups.unsure.extend(self.groups.classes.keys().filter(idle).cloned());
        for waits in self.groups.waits.values_mut() {
            match waits {
                Waits::Turn { from_us, to_us } => (*from_us, *to_us) = (0, NEVER),
                Waits::Aside { from_us, .. } => *from_us = Some(0),
            }
        }
    }

    /// Jobs of which only the library can say in which group they are.
    #[must_use]
    pub fn open_jobs(&self) -> Vec<String> {
        if self.stored.is_none() {
            return Vec::new();
        }
        let open = |job: &Job| {
            job.group == Group::Open && !job.place.is_finished() && self.key_rules(&job.job_type).is_some()
        };
        self.jobs.iter().filter(|(_, job)| open(job)).map(|(id, _)| id.clone()).collect()
    }

    /// Takes over what the library said of the groups of such jobs; whether it was something else than it may say.
    pub(super) fn settle_groups(&mut self, given: &Given) -> Option<String> {
        for name in &given.forgotten {
            if self.groups.unsure.remove(name) {
                self.groups.classes.remove(name);
            }
        }
        let mut wrong = None;
        for id in self.open_jobs() {
            let Some(said) = given.groups.get(&id) else { continue };
            let job = &self.jobs[&id];
            let payload = job.original.as_ref().unwrap_or(&job.payload);
            let own = self.key_rules(&job.job_type).and_then(|rules| key::render(&rules.key, payload));
            let group = match said.as_str() {
                "" if own.is_none() => Group::Outside,
                _ if own.as_ref() == Some(said) => Group::Of(said.clone()),
                _ => {
                    wrong = Some(format!("job {id} is in the group {said:?}, its payload says {own:?}"));
                    continue;
                }
            };
            if let Some(job) = self.jobs.get_mut(&id) {
                job.group = group;
            }
        }
        wrong
    }

    /// What bounds the key of a job in line.
    pub(super) fn key_standing(&self, id: &str, now_us: u64, given: &Given) -> Option<KeyStanding> {
        let job = self.jobs.get(id).filter(|job| job.place == Place::Line)?;
        let (rules, Group::Of(key)) = (self.key_rules(&job.job_type)?, &job.group) else { return None };
        // Whoever looks at the line next sorts it: until then this job, or those before it, may not stand in their key's line.
        let unsorted = self.groups.never_sorted(&job.job_type);
        let seen = if unsorted { given.ahead? } else { u64::MAX };
        let name = (job.job_type.clone(), key.clone());
        let lane = self.rules(&job.job_type).lane;
        let rank = |(id, job): (&String, &Job)| (self.order.rank(job, lane), id.clone());
        let own = rank(self.jobs.get_key_value(id)?);
        let same = |other: &Job| {
            other.place == Place::Line && other.job_type == job.job_type && other.group == job.group
        };
        let arrival = self.groups.arrivals.get(&name).copied().unwrap_or(0);
        let held = self.groups.holds.get(&name).copied();
        let before = self.jobs.iter().filter(|(_, job)| same(job)).filter(|each| rank(*each) < own).count();
        Some(KeyStanding {
            key: key.clone(),
            running: self.running_of(&name) as u64,
            limit: rules.limit.map(u64::from),
            held_until_ms: held.and_then(|hold| hold.end(now_us / 1_000)),
            rate_opens_ms: self.rate_of(&name).and_then(|rate| rate.room(arrival, now_us, 1).err()),
            ahead: (before as u64).min(seen),
        })
    }

    /// Moments at which a key may go again, ms.
    pub(super) fn group_moments(&self) -> impl Iterator<Item = u64> {
        let opens = self.groups.waits.values().filter_map(|waits| match waits {
            Waits::Aside { till_ms, .. } => *till_ms,
            Waits::Turn { .. } => None,
        });
        self.groups
            .holds
            .values()
            .map(|hold| hold.until_ms)
            .chain(opens)
            .chain(self.groups.arrivals.values().map(|us| us / 1_000))
    }
}
