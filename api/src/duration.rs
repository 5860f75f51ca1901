//! The one grammar for durations: `500ms`, `10s`, `5m`, `1h`, `90d`, and sums such as `1h30m`.
//!
//! The schema's pattern and [`Duration::parse`] accept exactly the same texts: what the API server let in
//! can always be read, so one odd object never stalls a watch. Seven digits and five parts bound every
//! duration below 2^53 ms, which Redis' Lua numbers hold exactly.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

#[cfg(feature = "crd")]
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What the schema accepts.
pub const PATTERN: &str = "^([0-9]{1,7}(ms|s|m|h|d)){1,5}$";
#[cfg(feature = "crd")]
/// CEL rule for durations that must not be zero.
const POSITIVE_RULE: &str = "self.matches('[1-9]')";
#[cfg(feature = "crd")]
/// Longest text that matches [`PATTERN`].
const MAX_LENGTH: u32 = 45;
/// Digits one part may have.
const MAX_DIGITS: usize = 7;
/// Parts a sum may have.
const MAX_PARTS: usize = 5;

/// Units, largest first, with their length in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A duration, written as `10s` or `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Duration(u64);

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a duration: write a whole number of up to seven digits and a unit, such as 500ms, 10s, 5m, 1h, 90d or 1h30m"
)]
pub struct DurationError {
    text: String,
}

impl Duration {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From milliseconds.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// From seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1_000)
    }

    /// In milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// As the standard library's type.
    #[must_use]
    pub const fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }

    /// Whether it is nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Reads a text of the grammar.
    ///
    /// # Errors
    /// The text does not match [`PATTERN`].
    pub fn parse(text: &str) -> Result<Self, DurationError> {
        let broken = || DurationError { text: text.to_owned() };
        let (mut rest, mut total, mut parts) = (text, 0_u64, 0);
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at(digits);
            let unit = tail.bytes().take_while(u8::is_ascii_lowercase).count();
            let (unit, tail) = tail.split_at(unit);
            let (_, ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(broken)?;
            if digits == 0 || digits > MAX_DIGITS {
                return Err(broken());
            }
            total += number.parse::<u64>().map_err(|_| broken())? * ms;
            parts += 1;
            rest = tail;
        }
        if parts == 0 || parts > MAX_PARTS { Err(broken()) } else { Ok(Self(total)) }
    }

    /// Rounded for people to its two largest units: `12s`, `4m5s`, `3d2h`; below a second `0s`.
    #[must_use]
    pub fn rounded(self) -> String {
        let mut left = self.0 - self.0 % 1_000;
        let (mut text, mut units) = (String::new(), 0);
        for (name, ms) in UNITS {
            let count = left / ms;
            left %= ms;
            if count > 0 {
                text.push_str(&format!("{count}{name}"));
            }
            // Two neighbouring units at most: `3d` and its hours, never `3d` and its seconds.
            units += usize::from(count > 0 || units > 0);
            if units == 2 {
                break;
            }
        }
        if text.is_empty() { "0s".to_owned() } else { text }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut left = self.0;
        for (name, ms) in UNITS {
            // People write 24h and 36h; days begin at two.
            let fits = name != "d" || left >= 2 * ms;
            if fits && left / ms > 0 {
                write!(f, "{}{name}", left / ms)?;
                left %= ms;
            }
        }
        Ok(())
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> Self {
        duration.to_std()
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "crd")]
impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PATTERN, "maxLength": MAX_LENGTH })
    }
}

#[cfg(feature = "crd")]
/// Schema of a duration that must be longer than nothing.
pub(crate) fn positive(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = Duration::json_schema(generator);
    schema.insert(
        "x-kubernetes-validations".to_owned(),
        serde_json::json!([{ "rule": POSITIVE_RULE, "message": "must be longer than zero, for example 10s" }]),
    );
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_unit_and_sums() {
        for (text, ms) in [
            ("0s", 0),
            ("500ms", 500),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("90d", 7_776_000_000),
            ("1h30m", 5_400_000),
            ("1d2h3m4s", 93_784_000),
            ("9999999d", 863_999_913_600_000),
        ] {
            assert_eq!(Duration::parse(text).unwrap().as_millis(), ms, "{text}");
        }
    }

    #[test]
    fn refuses_what_the_pattern_refuses() {
        for text in
            ["", "10", "s", "1.5h", "-1s", "1 h", "10S", "1w", "12345678s", "1s1s1s1s1s1s", "5µs", "1h30"]
        {
            assert!(Duration::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn prints_so_that_it_reads_back() {
        for ms in [0, 1, 999, 1_000, 61_000, 5_400_000, 90_061_001, 7_776_000_000, 863_999_913_600_000] {
            let duration = Duration::from_millis(ms);
            assert_eq!(Duration::parse(&duration.to_string()).unwrap(), duration, "{duration}");
        }
        for (seconds, text) in [(5_400, "1h30m"), (86_400, "24h"), (129_600, "36h"), (604_800, "7d")] {
            assert_eq!(Duration::from_secs(seconds).to_string(), text);
        }
    }

    #[test]
    fn rounds_to_two_neighbouring_units() {
        for (ms, text) in [
            (0, "0s"),
            (999, "0s"),
            (12_345, "12s"),
            (245_000, "4m5s"),
            (3_605_000, "1h"),
            (266_400_000, "3d2h"),
        ] {
            assert_eq!(Duration::from_millis(ms).rounded(), text);
        }
    }

    #[test]
    fn errors_say_what_to_write() {
        let error = Duration::parse("ten").unwrap_err().to_string();
        assert!(error.contains("\"ten\"") && error.contains("1h30m"), "{error}");
    }
}
