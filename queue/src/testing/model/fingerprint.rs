//! The fingerprint of a dead letter, character by character: what `dead_letter.lua` does with patterns.

use super::waiting::clip;
use crate::types::{Attempt, ErrorClass};

const READ: usize = 1024;
const COUNTS: usize = 256;

/// Of the error that a job died of.
pub(super) fn fingerprint(history: &[Attempt]) -> String {
    let death = history.iter().rfind(|attempt| attempt.outcome == "dead");
    let said = death.and_then(|death| death.error.as_ref()).map_or_else(Vec::new, |error| {
        let class = match error.class {
            ErrorClass::Transient => "transient",
            ErrorClass::Permanent => "permanent",
            ErrorClass::Ambiguous => "ambiguous",
        };
        let normalized = normalized(&clip(&error.message, READ));
        [class.as_bytes(), b"\n", error.code.as_bytes(), b"\n", &normalized].concat()
    });
    let said = if death.is_none() { b"\n\n".to_vec() } else { said };
    sha1(&said)[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Without what differs from job to job.
pub(super) fn normalized(message: &str) -> Vec<u8> {
    let text = unquoted(&unquoted(&unquoted(message.as_bytes(), b'"'), b'`'), b'\'');
    let mut text = joined(&words(&without_uuids(&text)));
    text = blanks(&text);
    text.truncate(COUNTS);
    text
}

/// Quoted parts become an asterisk. An apostrophe behind a letter or digit opens none.
fn unquoted(text: &[u8], quote: u8) -> Vec<u8> {
    let (mut out, mut at, mut closed) = (Vec::new(), 0, false);
    while at < text.len() {
        // What was quoted a moment ago is used up: it opens nothing.
        let opens = quote != b'\''
            || match at {
                0 => true,
                _ => !text[at - 1].is_ascii_alphanumeric() && !closed,
            };
        let end = text[at + 1..].iter().position(|byte| *byte == quote).map(|end| at + 1 + end);
        if let (true, true, Some(end)) = (text[at] == quote, opens, end) {
            out.push(b'*');
            at = end + 1;
            closed = true;
        } else {
            out.push(text[at]);
            at += 1;
            closed = false;
        }
    }
    out
}

fn without_uuids(text: &[u8]) -> Vec<u8> {
    const SHAPE: &[u8] = b"xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    let is = |part: &[u8]| {
        part.len() == SHAPE.len()
            && part
                .iter()
                .zip(SHAPE)
                .all(|(b, s)| if *s == b'-' { *b == b'-' } else { b.is_ascii_hexdigit() })
    };
    let (mut out, mut at) = (Vec::new(), 0);
    while at < text.len() {
        if is(&text[at..text.len().min(at + SHAPE.len())]) {
            out.push(b'#');
            at += SHAPE.len();
        } else {
            out.push(text[at]);
            at += 1;
        }
    }
    out
}

/// Long words with a digit, durations, and other runs of digits become a `#`.
fn words(text: &[u8]) -> Vec<u8> {
    let of_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let mut out: Vec<u8> = Vec::new();
    for part in text.chunk_by(|a, b| of_word(a) == of_word(b)) {
        let long = part.len() >= 8 && of_word(&part[0]) && part.iter().any(u8::is_ascii_digit);
        if long || is_duration(part) {
            out.push(b'#');
        } else {
            for run in part.chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit()) {
                if run[0].is_ascii_digit() { out.push(b'#') } else { out.extend(run) }
            }
        }
    }
    out
}

/// Numbers, each with a unit.
fn is_duration(word: &[u8]) -> bool {
    let (mut at, mut some) = (0, false);
    while at < word.len() {
        let digits = word[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let unit = &word[at + digits..];
        let length = if unit.starts_with(b"ms") { 2 } else { 1 };
        if digits == 0 || !unit.first().is_some_and(|byte| b"dhms".contains(byte)) {
            return false;
        }
        (at, some) = (at + digits + length, true);
    }
    some
}

/// From a `#` to the last one that only punctuation parts from it: one.
fn joined(text: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < text.len() {
        out.push(text[at]);
        if text[at] == b'#' {
            let run = text[at..].iter().take_while(|byte| b"#.,:/+-".contains(byte)).count();
            at += text[at..at + run].iter().rposition(|byte| *byte == b'#').unwrap_or_default();
        }
        at += 1;
    }
    out
}

fn blanks(text: &[u8]) -> Vec<u8> {
    let white = |byte: &u8| b" \t\r\n\x0b\x0c".contains(byte);
    text.split(white).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(&b' ')
}

/// FIPS 180-4.
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut data = message.to_vec();
    data.push(0x80);
    while data.len() % 64 != 56 {
        data.push(0);
    }
    data.extend((message.len() as u64 * 8).to_be_bytes());
    let mut h: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    for block in data.chunks_exact(64) {
        let mut w: Vec<u32> =
            block.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])).collect();
        for i in 16..80 {
            w.push((w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16]).rotate_left(1));
        }
        let [mut a, mut b, mut c, mut d, mut e] = h;
        for (i, word) in w.iter().enumerate() {
            let (f, k) = match i {
                0..20 => ((b & c) | (!b & d), 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6_u32),
            };
            let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k).wrapping_add(*word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (sum, part) in h.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(part);
        }
    }
    let mut out = [0; 20];
    for (place, word) in out.chunks_exact_mut(4).zip(h) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_sha_1() {
        let hex: String = sha1(b"abc").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "a9993e364706816aba3e25717850c26c9cd0d89d");
    }

    #[test]
    fn numbers_ids_and_quoted_parts_do_not_tell_errors_apart() {
        for (message, left) in [
            ("no user 42", "no user #"),
            ("can't open '/tmp/x' of \"anna\"", "can't open * of *"),
            ("10.0.0.1:6379 refused  the\nconnection", "# refused the connection"),
            ("job 01KAB3XYZ9QRST of sha256 user7", "job # of sha# user#"),
            ("id 6f1b2c3d-aaaa-bbbb-cccc-ddddeeeeffff gone", "id # gone"),
            ("at 2026-11-22T10:00:01Z, 1,234.5 s", "at #T#Z, # s"),
            ("no answer in 16s96ms, 1m or 250ms", "no answer in #, # or #"),
            ("s3 said 5x, m5 mms", "s# said #x, m# mms"),
            ("an `unclosed \"quote", "an `unclosed \"quote"),
            ("", ""),
        ] {
            assert_eq!(String::from_utf8_lossy(&normalized(message)), left, "{message}");
        }
    }
}
