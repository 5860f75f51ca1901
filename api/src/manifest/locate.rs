//! On which line does a field stand?
//!
//! The YAML library tells positions only in errors. So the document is read once more by a reader that fails on
//! purpose when it gets to the field, and the position of that failure is the answer: exact, also behind anchors and
//! in flow style, and paid for only when there is an error to report.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Into a mapping.
    Key(String),
    /// Into a list.
    Index(usize),
}

/// Splits `spec.lanes[3].name`. Keys with dots in them come out in pieces, which [`line`] answers with the line of
/// what encloses them.
pub(crate) fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let (key, indices) = part.split_once('[').unwrap_or((part, ""));
        if !key.is_empty() {
            steps.push(Step::Key(key.to_owned()));
        }
        let indices = indices.split('[').filter_map(|index| index.strip_suffix(']'));
        steps.extend(indices.filter_map(|index| index.parse().ok()).map(Step::Index));
    }
    steps
}

/// Line, from 1, of the field in the document with that number (from 0), or of the nearest thing around it.
pub(crate) fn line(text: &str, document: usize, path: &[Step]) -> Option<usize> {
    (0..=path.len()).rev().find_map(|length| exact(text, document, &path[..length]))
}

fn exact(text: &str, document: usize, path: &[Step]) -> Option<usize> {
    let document = serde_yaml::Deserializer::from_str(text).nth(document)?;
    let error = Target(path).deserialize(document).err()?;
    // Any other error would have been reported when the document was first read.
    if error.to_string().contains(FOUND) { error.location().map(|location| location.line()) } else { None }
}

/// Message of the failure on purpose.
const FOUND: &str = "lanekeeper found the field";

/// Reads along the path and fails at its end.
struct Target<'a>(&'a [Step]);

impl<'de> DeserializeSeed<'de> for Target<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Target<'_> {
    fn end<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.0.is_empty() { Err(E::custom(FOUND)) } else { Ok(()) }
    }
}

/// Whatever a leaf is, the path either ends there or is not in this document.
macro_rules! leaf {
    ($($method:ident: $type:ty),*) => {$(
        fn $method<E: serde::de::Error>(self, _: $type) -> Result<(), E> {
            self.end()
        }
    )*};
}

impl<'de> Visitor<'de> for Target<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    leaf!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_i128: i128, visit_u128: u128, visit_f64: f64, visit_str: &str);

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.end()
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<(), E> {
        self.end()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.end()?;
        let (wanted, rest) = match self.0.split_first() {
            Some((Step::Index(index), rest)) => (Some(*index), rest),
            _ => (None, self.0),
        };
        let mut index = 0;
        loop {
            let more = if wanted == Some(index) {
                list.next_element_seed(Target(rest))?.is_some()
            } else {
                list.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.end()?;
        let (wanted, rest) = match self.0.split_first() {
            Some((Step::Key(key), rest)) => (Some(key.as_str()), rest),
            _ => (None, self.0),
        };
        while let Some(found) = map.next_key_seed(Key { wanted, last: rest.is_empty() })? {
            if found {
                map.next_value_seed(Target(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// Reads a key; fails at the wanted one if the path ends there, so that the line is the key's and not its value's.
struct Key<'a> {
    wanted: Option<&'a str>,
    last: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<bool, E> {
        let found = self.wanted == Some(key);
        if found && self.last { Err(E::custom(FOUND)) } else { Ok(found) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a: 1\n---\n# comment\nspec:\n  lanes:\n  - name: x\n    startWithin: 5s\n  - {name: y,\n     startWithin: 6s}\n  labels:\n    a.b/c: d\n";

    fn at(path: &str) -> Option<usize> {
        line(TEXT, 1, &steps(path))
    }

    #[test]
    fn finds_keys_items_and_flow_style() {
        assert_eq!(line(TEXT, 0, &steps("a")), Some(1));
        assert_eq!(at("spec"), Some(4));
        assert_eq!(at("spec.lanes"), Some(5));
        assert_eq!(at("spec.lanes[0]"), Some(6));
        assert_eq!(at("spec.lanes[0].startWithin"), Some(7));
        assert_eq!(at("spec.lanes[1].name"), Some(8));
        assert_eq!(at("spec.lanes[1].startWithin"), Some(9));
    }

    #[test]
    fn answers_with_the_nearest_enclosing_line() {
        assert_eq!(at("spec.lanes[1].timeout"), Some(8));
        assert_eq!(at("spec.lanes[7].name"), Some(5));
        assert_eq!(at("spec.labels.a.b/c"), Some(10));
        assert_eq!(at("spec.queue"), Some(4));
        assert_eq!(line(TEXT, 5, &steps("spec")), None);
    }
}
