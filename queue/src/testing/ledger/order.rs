//! I7: first come, first served within a priority. Only first attempts count, and jobs that were due at once are one line,
//! those that waited for a time another, because a promotion may lag.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::judge::Arrival;
use super::report::Violation;
use super::rules::FifoScope;

/// Where a job stands in its line: due, then the queue's sequence.
type Place = (u64, u64);

/// Judges all jobs whose first grant is known.
pub(super) fn judge(arrivals: &[Arrival<'_>], scope: FifoScope, found: &mut Vec<Violation>) {
    let mut line: Vec<&Arrival<'_>> = arrivals.iter().filter(|arrival| arrival.first.is_some()).collect();
    // Jobs of one claim share its time and its token, and it took them in the order of their places.
    line.sort_unstable_by_key(|arrival| (name(arrival, scope), arrival.first, place(arrival)));
    for line in line.chunk_by(|a, b| name(a, scope) == name(b, scope)) {
        one_line(line, found);
    }
}

/// Which line a job stands in.
fn name<'a>(arrival: &Arrival<'a>, scope: FifoScope) -> (&'a str, u8, bool) {
    let within = match scope {
        FifoScope::Type => arrival.job_type,
        FifoScope::Lane => arrival.lane,
    };
    (within, arrival.priority, arrival.waited_for_time())
}

/// `line` is in the order of first grants. A heap holds who waits; its head must not be ahead of who is granted.
fn one_line(line: &[&Arrival<'_>], found: &mut Vec<Violation>) {
    let mut coming: Vec<usize> = (0..line.len()).collect();
    coming.sort_unstable_by_key(|at| Reverse(line[*at].ready_ms));
    let mut waiting: BinaryHeap<Reverse<(Place, usize)>> = BinaryHeap::new();
    for (at, granted) in line.iter().enumerate() {
        let Some((at_ms, token)) = granted.first else { continue };
        // Who came in the very millisecond of the grant may have come after it.
        while let Some(next) = coming.pop_if(|next| line[*next].ready_ms < at_ms) {
            waiting.push(Reverse((place(line[next]), next)));
        }
        // Indexes below `at` were granted before.
        while waiting.peek().is_some_and(|Reverse((_, head))| *head < at) {
            waiting.pop();
        }
        let Some(Reverse((ahead, head))) = waiting.peek().copied() else { continue };
        if ahead < place(granted) {
            found.push(Violation::OutOfOrder {
                job: granted.job.into(),
                token,
                at_ms,
                overtaken: line[head].job.into(),
                ready_ms: line[head].ready_ms,
                overtaken_token: line[head].first.map_or(0, |(_, token)| token),
            });
        }
    }
}

fn place(arrival: &Arrival<'_>) -> Place {
    (arrival.due_ms, arrival.seq)
}
