//! Which jobs of a lane go next.
//!
//! Within a type with concurrency keys the groups that may go take turns, the one first that has had its turn longest; within
//! a group jobs go by their order. Between the types of a lane, each goes by the first of its jobs that may go, whichever
//! group has the turn. The library looks for that job among a few only, as many as cases of this model ever have groups.

use std::collections::{BTreeMap, VecDeque};

use super::groups::Name;
use super::state::Model;
use super::waits::Waits;

/// A job and what it goes by.
type Ranked = ((u64, u64), String);

/// The jobs of a lane, as one claim sees them.
pub(super) struct Lines(Vec<TypeLine>);

struct TypeLine {
    /// Most jobs of the type that the claim may take.
    left: usize,
    groups: Vec<GroupLine>,
}

/// The line of a group, or of a whole type without groups.
struct GroupLine {
    /// None: of a type without groups.
    name: Option<Name>,
    /// Most jobs of it that may go.
    room: usize,
    /// Its turn counts from a moment in between, µs.
    from_us: u64,
    to_us: u64,
    jobs: VecDeque<Ranked>,
    taken: usize,
    /// It may stand aside although it may go.
    perhaps: bool,
}

impl TypeLine {
    /// The groups of which jobs may go.
    fn going(&self) -> impl Iterator<Item = &GroupLine> {
        self.groups.iter().filter(|group| self.left > 0 && group.room > 0 && !group.jobs.is_empty())
    }

    /// The groups of which one has the turn.
    fn candidates(&self) -> impl Iterator<Item = &GroupLine> {
        let sure = self.going().filter(|group| !group.perhaps);
        let first = sure.map(|group| group.to_us).min().unwrap_or(u64::MAX);
        self.going().filter(move |group| group.from_us <= first)
    }

    /// The job by which the type goes: the first that may go, and the first that certainly does.
    fn ranks(&self) -> (Option<&Ranked>, Option<&Ranked>) {
        let first = |sure: bool| {
            let groups = self.going().filter(|group| !(sure && group.perhaps));
            groups.map(|group| &group.jobs[0]).min()
        };
        (first(false), first(true))
    }
}

impl Lines {
    /// The place of the group whose job goes next: that of `wanted`, if it may be that one's.
    fn next(&self, wanted: Option<&String>) -> Option<(usize, usize)> {
        let heads: Vec<Vec<(&Ranked, bool)>> = self
            .0
            .iter()
            .map(|line| line.candidates().map(|group| (&group.jobs[0], group.perhaps)).collect())
            .collect();
        let ranks: Vec<_> = self.0.iter().map(TypeLine::ranks).collect();
        // A type may go where its best rank is before the worst of each of the others.
        let may_go = |own: usize| {
            let mut others = ranks.iter().enumerate().filter(|(at, _)| *at != own);
            others.all(|(_, (_, worst))| worst.is_none() || ranks[own].0 < *worst)
        };
        let mut may =
            heads.iter().enumerate().flat_map(|(at, heads)| heads.iter().map(move |head| (at, *head)));
        let may: Vec<_> = may.by_ref().filter(|(at, _)| may_go(*at)).collect();
        let chosen = may.iter().find(|(_, (job, _))| Some(&job.1) == wanted);
        let (kind, (job, _)) = chosen.or_else(|| may.iter().find(|(_, (_, perhaps))| !perhaps))?;
        let at = self.0[*kind].groups.iter().position(|group| group.jobs.front() == Some(*job))?;
        Some((*kind, at))
    }
}

impl Model {
    /// The jobs of a lane that go next, in order, at most `slots`; `wanted` is what the library took, which counts where
    /// more than one may go. Groups are served by it.
    pub(super) fn heads(
        &mut self,
        lane: &str,
        slots: usize,
        limits: &BTreeMap<String, u32>,
        now_us: u64,
        wanted: &[String],
    ) -> Vec<String> {
        let kinds: Vec<String> = {
            let types = self.policy().job_types.iter();
            types.filter(|(_, spec)| spec.lane == lane).map(|(name, _)| name.clone()).collect()
        };
        for kind in kinds.iter().filter(|kind| slots > 0 && limits.get(*kind) != Some(&0)) {
            self.look_at_groups(kind);
        }
        let mut lines = self.lines(lane, &kinds, slots, limits, now_us);
        let mut heads = Vec::new();
        while heads.len() < slots {
            let Some((kind, at)) = lines.next(wanted.get(heads.len())) else { break };
            let line = &mut lines.0[kind];
            let group = &mut line.groups[at];
            heads.extend(group.jobs.pop_front().map(|(_, id)| id));
            (line.left, group.room, group.taken) = (line.left - 1, group.room - 1, group.taken + 1);
            // Behind all others, in the order in which they were served.
            let turn = self.groups.served(heads.len());
            if group.name.is_some() {
                (group.from_us, group.to_us, group.perhaps) = (turn, turn, false);
            }
        }
        for group in lines.0.into_iter().flat_map(|line| line.groups).filter(|group| group.taken > 0) {
            let Some(name) = group.name else { continue };
            self.group_spent(&name, group.taken, now_us);
            let turn = Waits::Turn { from_us: group.from_us, to_us: group.to_us };
            self.groups.waits.insert(name, turn);
        }
        heads
    }

    fn lines(
        &self,
        lane: &str,
        kinds: &[String],
        slots: usize,
        limits: &BTreeMap<String, u32>,
        now_us: u64,
    ) -> Lines {
        let mut jobs: BTreeMap<&str, BTreeMap<Option<&str>, VecDeque<Ranked>>> = BTreeMap::new();
        let rules = self.policy().lane(lane);
        for (id, job) in self.lane_line(lane) {
            let group = self.key_rules(&job.job_type).map(|_| job.group.turn_name());
            let line = jobs.entry(&job.job_type).or_default().entry(group).or_default();
            line.push_back((self.order.rank(job, rules), id.clone()));
        }
        let mut lines = Vec::new();
        for kind in kinds {
            let left = limits.get(kind).map_or(slots, |limit| slots.min(*limit as usize));
            let groups = jobs.remove(kind.as_str()).unwrap_or_default();
            let groups = groups
                .into_iter()
                .map(|(key, jobs)| self.group_line(kind, key, jobs, left, now_us))
                .collect();
            lines.push(TypeLine { left, groups });
        }
        Lines(lines)
    }

    fn group_line(
        &self,
        kind: &str,
        key: Option<&str>,
        jobs: VecDeque<Ranked>,
        left: usize,
        now_us: u64,
    ) -> GroupLine {
        let name = key.map(|key| (kind.to_owned(), key.to_owned()));
        let room = name.as_ref().map_or(left, |name| self.group_room(name, left, now_us).unwrap_or(0));
        let perhaps = name.as_ref().is_some_and(|name| self.perhaps_aside(name, now_us).is_some());
        let waits = name.as_ref().and_then(|name| self.groups.waits.get(name));
        let (from_us, to_us) = match waits {
            Some(Waits::Turn { from_us, to_us }) => (*from_us, *to_us),
            Some(Waits::Aside { from_us, .. }) => (from_us.unwrap_or(0), self.groups.turn_us),
            None => (0, 0),
        };
        GroupLine { name, room, from_us, to_us, jobs, taken: 0, perhaps }
    }
}
