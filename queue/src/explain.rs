//! `explain`: the one source of "why is it stuck?".
