//! Reads what the library packs for messages: lists, strings and whole numbers of `MessagePack`, as a reply would bring them.

use redis::Value;

/// Deepest nesting of lists in a message.
const DEPTH: u8 = 4;

/// The epoch and the reply in a message that hands jobs over; none where the message is no such thing.
pub(crate) fn message(bytes: &[u8]) -> Option<(u64, Value)> {
    let (value, rest) = value(bytes, DEPTH)?;
    let Value::Array(parts) = value else { return None };
    match (<[Value; 2]>::try_from(parts).ok()?, rest) {
        ([Value::Int(epoch), reply], []) => Some((u64::try_from(epoch).ok()?, reply)),
        _ => None,
    }
}

/// The first value and what follows it.
fn value(bytes: &[u8], depth: u8) -> Option<(Value, &[u8])> {
    let (&head, rest) = bytes.split_first()?;
    match head {
        0x00..=0x7f => Some((Value::Int(head.into()), rest)),
        0x90..=0x9f => list(usize::from(head & 0x0f), rest, depth),
        0xa0..=0xbf => text(usize::from(head & 0x1f), rest),
        0xc4 | 0xd9 => length::<1>(rest).and_then(|(n, rest)| text(n, rest)),
        0xc5 | 0xda => length::<2>(rest).and_then(|(n, rest)| text(n, rest)),
        0xc6 | 0xdb => length::<4>(rest).and_then(|(n, rest)| text(n, rest)),
        0xcc => length::<1>(rest).and_then(|(n, rest)| whole(n, rest)),
        0xcd => length::<2>(rest).and_then(|(n, rest)| whole(n, rest)),
        0xce => length::<4>(rest).and_then(|(n, rest)| whole(n, rest)),
        0xcf => length::<8>(rest).and_then(|(n, rest)| whole(n, rest)),
        0xd0 => signed::<1>(rest),
        0xd1 => signed::<2>(rest),
        0xd2 => signed::<4>(rest),
        0xd3 => signed::<8>(rest),
        0xdc => length::<2>(rest).and_then(|(n, rest)| list(n, rest, depth)),
        0xdd => length::<4>(rest).and_then(|(n, rest)| list(n, rest, depth)),
        0xe0..=0xff => Some((Value::Int(i64::from(head.cast_signed())), rest)),
        _ => None,
    }
}

fn length<const N: usize>(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<N>()?;
    let number = number.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    Some((usize::try_from(number).ok()?, rest))
}

fn whole(number: usize, rest: &[u8]) -> Option<(Value, &[u8])> {
    Some((Value::Int(i64::try_from(number).ok()?), rest))
}

fn signed<const N: usize>(bytes: &[u8]) -> Option<(Value, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<N>()?;
    let first = i64::from(number[0].cast_signed());
    Some((Value::Int(number[1..].iter().fold(first, |sum, byte| sum << 8 | i64::from(*byte))), rest))
}

fn text(count: usize, rest: &[u8]) -> Option<(Value, &[u8])> {
    let (text, rest) = rest.split_at_checked(count)?;
    Some((Value::BulkString(text.to_vec()), rest))
}

fn list(count: usize, mut rest: &[u8], depth: u8) -> Option<(Value, &[u8])> {
    let depth = depth.checked_sub(1)?;
    // Every element has a byte at least: what claims more is no list.
    let mut items = Vec::with_capacity(count.min(rest.len()));
    for _ in 0..count {
        let (item, after) = value(rest, depth)?;
        items.push(item);
        rest = after;
    }
    Some((Value::Array(items), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_packs_is_read_and_what_it_does_not_is_not() {
        let packed = rmp_serde::to_vec(&(7, (1_700_000_000_000_u64, -1, "text", vec![0_u8; 0], ()))).unwrap();
        assert_eq!(message(&packed), None, "nil is not packed");
        let packed = rmp_serde::to_vec(&(
            7,
            (1_700_000_000_000_u64, -1, -3_000_000_000_i64, "text", (300, "x".repeat(300))),
        ))
        .unwrap();
        let long = Value::Array(vec![Value::Int(300), Value::BulkString(vec![b'x'; 300])]);
        let reply = [
            Value::Int(1_700_000_000_000),
            Value::Int(-1),
            Value::Int(-3_000_000_000),
            Value::BulkString(b"text".to_vec()),
            long,
        ];
        assert_eq!(message(&packed), Some((7, Value::Array(reply.into()))));
        assert_eq!(message(b"cancel"), None);
        assert_eq!(message(b""), None);
        for end in 0..packed.len() {
            assert_eq!(message(&packed[..end]), None, "cut off at {end}");
        }
        assert_eq!(message(&[0x92, 1, 0xdd, 255, 255, 255, 255]), None, "a list that claims to be long");
        assert_eq!(message(&[0x91; 200]), None, "too deep");
    }
}
