//! `--rate 50/s`.

use std::str::FromStr;
use std::time::Duration;

/// Jobs per call at most, as the library bounds them.
const MOST: u64 = 200;

/// So many in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    count: u64,
    per_ms: u64,
}

impl Rate {
    /// Jobs per call: some ten calls a second, or fewer with one job each.
    pub(super) fn batch(self) -> u32 {
        u32::try_from((self.count * 100 / self.per_ms).clamp(1, MOST)).expect("at most 200")
    }

    /// How long so many jobs take.
    pub(super) fn time_for(self, jobs: usize) -> Duration {
        Duration::from_micros(jobs as u64 * self.per_ms * 1000 / self.count)
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (count, unit) = text.split_once('/')?;
            let per_ms = match unit {
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                _ => return None,
            };
            let count = count.parse().ok().filter(|count| (1..=1_000_000).contains(count))?;
            Some(Self { count, per_ms })
        };
        read().ok_or_else(|| format!("`{text}` is no rate: write 50/s, 600/m or 1000/h, from 1 to 1000000"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_by_batches_and_pauses() {
        for (text, batch, per_second) in
            [("50/s", 5, 50), ("1/s", 1, 1), ("6000/m", 10, 100), ("1000000/s", 200, 1_000_000)]
        {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate.batch(), batch, "{text}");
            assert_eq!(rate.time_for(per_second), Duration::from_secs(1), "{text}");
        }
        assert_eq!("1/h".parse::<Rate>().unwrap().time_for(1), Duration::from_secs(3600));
        for text in ["", "50", "/s", "0/s", "-1/s", "1.5/s", "50/d", "1000001/s"] {
            assert!(text.parse::<Rate>().unwrap_err().contains("50/s"), "{text}");
        }
    }
}
