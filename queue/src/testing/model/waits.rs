//! When the turn of a group of which jobs wait began, as far as the model can tell.

/// A moment that has not come yet.
pub(super) const NEVER: u64 = u64::MAX;

/// How a group of which jobs are in line stands among the others.
#[derive(Debug, Clone, Copy)]
pub(super) enum Waits {
    /// It may go. Its turn has a number in between, µs (see `Groups::turn_us`): what time alone opened is let in by the next claim that looks.
    Turn { from_us: u64, to_us: u64 },
    /// It may not, until `till_ms` where that is a matter of time. `from_us`: where it may have a turn all the same, because
    /// nobody noticed yet or its time has just come, the earliest.
    Aside { till_ms: Option<u64>, from_us: Option<u64> },
}

impl Waits {
    /// After a call that may have changed what the group may do (`room`: until when it may not); `turn_us`: the number of turns
    /// that begin now; `lazily`: nobody looked at groups one by one; `perhaps`: not at this one either, so that it may stand where it stood.
    pub(super) fn after(
        before: Option<Self>,
        room: Result<usize, Option<u64>>,
        (now_us, turn_us): (u64, u64),
        lazily: bool,
        perhaps: bool,
    ) -> Self {
        let latest = if lazily { NEVER } else { turn_us };
        match (before, room) {
            (Some(Self::Turn { from_us, to_us }), Ok(_)) => Self::Turn { from_us, to_us },
            (Some(Self::Turn { from_us, .. }), Err(till_ms)) => {
                Self::Aside { till_ms, from_us: (lazily || perhaps).then_some(from_us) }
            }
            (Some(Self::Aside { from_us, .. }), Err(till_ms)) => Self::Aside { till_ms, from_us },
            (Some(Self::Aside { till_ms, from_us }), Ok(_)) => match (till_ms, from_us) {
                _ if perhaps => Self::Aside { till_ms, from_us: from_us.or(Some(turn_us)) },
                (_, Some(from_us)) => Self::Turn { from_us, to_us: NEVER },
                (Some(of_ms), None) if of_ms <= now_us / 1_000 => {
                    Self::Turn { from_us: of_ms * 1_000, to_us: NEVER }
                }
                _ => Self::Turn { from_us: turn_us, to_us: latest },
            },
            (None, Ok(_)) => Self::Turn { from_us: turn_us, to_us: latest },
            (None, Err(till_ms)) => Self::Aside { till_ms, from_us: None },
        }
    }
}

/// Rates count in µs, but who stands aside is let in by the millisecond, unless something else happens to it.
pub(super) fn perhaps_aside(waits: Waits, now_us: u64) -> Option<u64> {
    let Waits::Aside { till_ms: Some(till_ms), .. } = waits else { return None };
    (till_ms == now_us / 1_000 + 1).then_some(till_ms)
}
