//! The rules for names; the schema's patterns say the same.

use super::problem::Problems;
use super::reason;

/// Longest name of a label-like thing.
const LABEL: usize = 63;
/// Longest name of an object of ours: names of other objects are made from it.
const OBJECT: usize = 52;
/// Longest name of any object.
const SUBDOMAIN: usize = 253;

/// Lanes and volumes: a DNS label.
pub(crate) fn label(problems: &mut Problems, field: &str, name: &str) {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let outer = |b: u8| inner(b) && b != b'-';
    if !fits(name, LABEL, inner, outer, outer) {
        problems.add(
            reason::INVALID_NAME,
            field,
            name,
            "must be 1 to 63 of a-z, 0-9 and -, and begin and end with a letter or digit",
        );
    }
}

/// Job types and owners: what a Kubernetes label value may be.
pub(crate) fn label_value(problems: &mut Problems, field: &str, name: &str) {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let outer = |b: u8| b.is_ascii_alphanumeric();
    if !fits(name, LABEL, inner, outer, outer) {
        problems.add(
            reason::INVALID_NAME,
            field,
            name,
            "must be 1 to 63 of a-z, A-Z, 0-9, -, _ and ., and begin and end with a letter or digit",
        );
    }
}

/// `metadata.name` of our own kinds, and references to it.
pub(crate) fn object(problems: &mut Problems, field: &str, name: &str) {
    if !subdomain_fits(name, OBJECT) {
        problems.add(
            reason::INVALID_NAME,
            field,
            name,
            "must be 1 to 52 of a-z, 0-9, - and ., and begin and end with a letter or digit",
        );
    }
}

/// Names of other objects, such as Secrets.
pub(crate) fn subdomain(problems: &mut Problems, field: &str, name: &str) {
    if !subdomain_fits(name, SUBDOMAIN) {
        problems.add(
            reason::INVALID_NAME,
            field,
            name,
            "must be 1 to 253 of a-z, 0-9, - and ., and begin and end with a letter or digit",
        );
    }
}

/// Keys of a Secret.
pub(crate) fn secret_key(problems: &mut Problems, field: &str, key: &str) {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    // `.` and `..` would leave the directory in which secrets are mounted.
    if !fits(key, SUBDOMAIN, inner, inner, inner) || key == "." || key == ".." {
        problems.add(
            reason::INVALID_NAME,
            field,
            key,
            "must be the key of a Secret: 1 to 253 of a-z, A-Z, 0-9, -, _ and .",
        );
    }
}

fn subdomain_fits(name: &str, max: usize) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
    let outer = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    fits(name, max, inner, outer, outer)
}

fn fits(
    name: &str,
    max: usize,
    inner: impl Fn(u8) -> bool,
    first: impl Fn(u8) -> bool,
    last: impl Fn(u8) -> bool,
) -> bool {
    let bytes = name.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(a), Some(z)) => bytes.len() <= max && first(*a) && last(*z) && bytes.iter().all(|b| inner(*b)),
        _ => false,
    }
}
