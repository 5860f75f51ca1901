//! The live view: redrawn in place on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use super::observe::Seen;
use crate::traffic::run::Progress;

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Where the view is drawn.
pub(super) struct Screen {
    terminal: bool,
    /// Lines drawn last, to be drawn over.
    drawn: usize,
    last_line: Option<Duration>,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), drawn: 0, last_line: None }
    }

    /// Writes a line that stays.
    pub(super) fn say(&mut self, line: &str) {
        self.erase();
        let _ = writeln!(std::io::stdout(), "demo: {line}");
    }

    /// Draws the view anew.
    pub(super) fn draw(&mut self, at: Duration, seen: &Seen, traffic: &Progress) {
        if self.terminal {
            let text = table(at, seen, traffic);
            self.erase();
            self.drawn = text.lines().count();
            let _ = write!(std::io::stdout(), "{text}");
            let _ = std::io::stdout().flush();
        } else if self.last_line.is_none_or(|last| at.saturating_sub(last) >= LINE_EVERY) {
            self.last_line = Some(at);
            let _ = writeln!(std::io::stdout(), "{}", line(at, seen, traffic));
        }
    }

    fn erase(&mut self) {
        if self.drawn > 0 {
            let _ = write!(std::io::stdout(), "\x1b[{}A\x1b[J", self.drawn);
            self.drawn = 0;
        }
    }
}

/// One lane, added up over its job types.
struct Lane {
    name: String,
    due: u64,
    later: u64,
    running: u64,
    done: u64,
    dead: u64,
    oldest_ms: u64,
}

fn lanes(seen: &Seen) -> Vec<Lane> {
    let Some(stats) = &seen.stats else { return Vec::new() };
    let lane = |lane: &lanekeeper_queue::types::LaneStats| {
        let sum = |of: fn(&lanekeeper_queue::types::TypeStats) -> u64| lane.types.iter().map(of).sum();
        let oldest = lane.types.iter().filter_map(|t| t.oldest_due_ms).min();
        Lane {
            name: lane.name.clone(),
            due: sum(|t| t.ready),
            later: sum(|t| t.scheduled),
            running: sum(|t| t.running),
            done: sum(|t| t.succeeded_total),
            dead: sum(|t| t.dead),
            oldest_ms: oldest.map_or(0, |at| stats.now_ms.saturating_sub(at)),
        }
    };
    stats.lanes.iter().map(lane).collect()
}

fn table(at: Duration, seen: &Seen, traffic: &Progress) -> String {
    let mut out = format!(
        "{:>4} s   offered {} of {}\n\n{:<20}{:>7}{:>9}{:>7}{:>9}{:>8}{:>6}\n",
        at.as_secs(),
        traffic.offered,
        traffic.planned,
        "lane",
        "due",
        "oldest",
        "later",
        "running",
        "done",
        "dead"
    );
    for l in lanes(seen) {
        let oldest = if l.due == 0 { "-".into() } else { format!("{:.1} s", l.oldest_ms as f64 / 1000.0) };
        out += &format!(
            "{:<20}{:>7}{oldest:>9}{:>7}{:>9}{:>8}{:>6}\n",
            l.name, l.due, l.later, l.running, l.done, l.dead
        );
    }
    out += &format!("\n{:<20}{:>9}{:>9}{:>6}   why\n", "pool", "replicas", "desired", "busy");
    for (name, pool) in &seen.pools {
        // A cut sentence keeps the row on one line, which is what erasing counts on.
        let why: String = pool.message.chars().take(56).collect();
        out += &format!("{name:<20}{:>9}{:>9}{:>6}   {why}\n", pool.replicas, pool.desired, pool.busy);
    }
    out
}

fn line(at: Duration, seen: &Seen, traffic: &Progress) -> String {
    let all = lanes(seen);
    let sum = |of: fn(&Lane) -> u64| all.iter().map(of).sum::<u64>();
    let pools: Vec<String> =
        seen.pools.iter().map(|(name, pool)| format!("{name} {}", pool.replicas)).collect();
    format!(
        "{:>4} s  offered {}/{}  due {}  later {}  running {}  done {}  dead {}  |  {}",
        at.as_secs(),
        traffic.offered,
        traffic.planned,
        sum(|l| l.due),
        sum(|l| l.later),
        sum(|l| l.running),
        sum(|l| l.done),
        sum(|l| l.dead),
        pools.join("  ")
    )
}
