//! Durations, ages, sizes and times as people read and write them, and text that they can look at.

use std::borrow::Cow;

/// `1500` → `1.5s`; two units at most.
pub(crate) fn duration(ms: u64) -> String {
    let (s, rest) = (ms / 1000, ms % 1000);
    if (1..10).contains(&s) && rest >= 100 {
        return format!("{s}.{}s", rest / 100);
    }
    match s {
        0 => format!("{ms}ms"),
        1..=59 => format!("{s}s"),
        60..=3599 => two(s / 60, "m", s % 60, "s"),
        3600..=86_399 => two(s / 3600, "h", s % 3600 / 60, "m"),
        _ => two(s / 86_400, "d", s % 86_400 / 3600, "h"),
    }
}

fn two(big: u64, big_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit}{small}{small_unit}") }
}

/// How long ago `then` was.
pub(crate) fn age(now_ms: u64, then_ms: u64) -> String {
    duration(now_ms.saturating_sub(then_ms))
}

/// `in 5m` or `5m ago`.
pub(crate) fn relative(now_ms: u64, then_ms: u64) -> String {
    if then_ms > now_ms {
        format!("in {}", duration(then_ms - now_ms))
    } else {
        format!("{} ago", age(now_ms, then_ms))
    }
}

/// UTC, to the millisecond.
pub(crate) fn timestamp(ms: u64) -> String {
    i64::try_from(ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| format!("{ms} ms"), |t| format!("{t:.3}"))
}

/// `2048` → `2.0 KiB`.
pub(crate) fn bytes(n: u64) -> String {
    indicatif::HumanBytes(n).to_string()
}

/// `1 job`, `2 jobs`.
pub(crate) fn count(n: u64, one: &str) -> String {
    format!("{} {one}{}", indicatif::HumanCount(n), if n == 1 { "" } else { "s" })
}

/// Text that somebody else wrote, such as a job's result or its key, with control characters other than newline and tab escaped
/// (`\u{1b}`): printed as they are they move the cursor, hide text or speak to the terminal.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    let speaks = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(speaks) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if speaks(c) {
            escaped.extend(c.escape_unicode());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// An RFC 3339 time or ms since the epoch.
pub(crate) fn parse_instant(text: &str) -> Result<u64, String> {
    if let Ok(ms) = text.parse::<u64>() {
        return Ok(ms);
    }
    let at: jiff::Timestamp = text.parse().map_err(|error| {
        format!("`{text}` is not a time: write RFC 3339 such as 2030-01-31T08:00:00Z, or ms since the epoch ({error})")
    })?;
    u64::try_from(at.as_millisecond()).map_err(|_| format!("`{text}` lies before 1970"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well_at_every_scale() {
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1000, "1s"),
            (1500, "1.5s"),
            (59_999, "59s"),
            (60_000, "1m"),
            (90_000, "1m30s"),
            (3_660_000, "1h1m"),
            (90_000_000, "1d1h"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }

    #[test]
    fn nothing_speaks_to_the_terminal() {
        assert_eq!(visible("plain\n\ttext, schön"), "plain\n\ttext, schön");
        assert_eq!(visible("a\u{1b}[31mb\0c\r\u{9b}\u{7f}"), "a\\u{1b}[31mb\\u{0}c\\u{d}\\u{9b}\\u{7f}");
    }

    #[test]
    fn instants_are_rfc_3339_or_ms() {
        assert_eq!(parse_instant("1970-01-01T00:00:01Z"), Ok(1000));
        assert_eq!(parse_instant("1500"), Ok(1500));
        assert!(parse_instant("tomorrow").is_err());
        assert_eq!(timestamp(1500), "1970-01-01T00:00:01.500Z");
    }
}
