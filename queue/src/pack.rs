//! msgpack as Redis' Lua reads it: strings for all bytes, as its `bin` types are unknown there.

/// Starts a list of `len` values.
pub(crate) fn array(out: &mut Vec<u8>, len: usize) {
    let len = u32::try_from(len).expect("lists of a call are bounded to a few hundred");
    rmp::encode::write_array_len(out, len).expect("writing to memory cannot fail");
}

/// Starts a map of `len` pairs.
pub(crate) fn map(out: &mut Vec<u8>, len: usize) {
    let len = u32::try_from(len).expect("maps of a call are bounded to a few hundred");
    rmp::encode::write_map_len(out, len).expect("writing to memory cannot fail");
}

/// Any bytes, as a string.
pub(crate) fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    let len = u32::try_from(value.len()).expect("values of a call are bounded to a few MiB");
    rmp::encode::write_str_len(out, len).expect("writing to memory cannot fail");
    out.extend_from_slice(value);
}

/// A number; Lua holds it exactly below 2^53.
pub(crate) fn uint(out: &mut Vec<u8>, value: u64) {
    rmp::encode::write_uint(out, value.min(1 << 53)).expect("writing to memory cannot fail");
}
