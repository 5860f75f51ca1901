//! Byte sizes: `4096`, `256Ki`, `1Mi`.
//!
//! As with durations, the schema's pattern and [`Size::parse`] accept the same texts.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What the schema accepts.
pub const PATTERN: &str = "^[0-9]{1,9}(Ki|Mi|Gi)?$";
/// Digits before the unit.
const MAX_DIGITS: usize = 9;

/// Units, largest first.
const UNITS: [(&str, u64); 4] = [("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10), ("", 1)];

/// A number of bytes, written as `256Ki`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(u64);

/// Why a text is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a size: write a whole number of bytes, with Ki, Mi or Gi if you like, such as 256Ki"
)]
pub struct SizeError {
    text: String,
}

impl Size {
    /// From bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// In bytes.
    #[must_use]
    pub const fn as_bytes(self) -> u64 {
        self.0
    }

    /// Reads a text of the grammar.
    ///
    /// # Errors
    /// The text does not match [`PATTERN`].
    pub fn parse(text: &str) -> Result<Self, SizeError> {
        let broken = || SizeError { text: text.to_owned() };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(broken)?;
        if digits == 0 || digits > MAX_DIGITS {
            return Err(broken());
        }
        Ok(Self(number.parse::<u64>().map_err(|_| broken())? * factor))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS.iter().find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor));
        let (name, factor) = whole.copied().unwrap_or(("", 1));
        write!(f, "{}{name}", self.0 / factor)
    }
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PATTERN, "maxLength": MAX_DIGITS + 2 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints() {
        for (text, bytes) in
            [("0", 0), ("4095", 4_095), ("256Ki", 262_144), ("1Mi", 1 << 20), ("2Gi", 2 << 30)]
        {
            let size = Size::parse(text).unwrap();
            assert_eq!(size.as_bytes(), bytes);
            assert_eq!(size.to_string(), text);
        }
    }

    #[test]
    fn refuses_other_units() {
        for text in ["", "Ki", "256K", "256kB", "1.5Mi", "-1", "1234567890"] {
            assert!(Size::parse(text).is_err(), "{text}");
        }
    }
}
