//! Chance that repeats: every draw follows from a seed, so a run can be told again.

/// A small generator (splitmix64). The figures drive traffic and failures; nothing secret hangs on them.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Starts from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Starts from a seed and a text: the same pair always draws the same.
    #[must_use]
    pub fn of(seed: u64, text: &str) -> Self {
        // FNV-1a over the text, stirred once by the generator itself.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let mut dice = Self(hash);
        dice.0 = dice.draw();
        dice
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..bound`; 0 when the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.draw() % bound }
    }

    /// Uniform in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// Uniform in `0.0..1.0`.
    pub fn share(&mut self) -> f64 {
        // 53 bits are what a double holds exactly.
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.share() < probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_and_text_draw_the_same() {
        assert_eq!(Dice::of(7, "evt-1").draw(), Dice::of(7, "evt-1").draw());
        assert_ne!(Dice::of(7, "evt-1").draw(), Dice::of(7, "evt-2").draw());
        assert_ne!(Dice::of(7, "evt-1").draw(), Dice::of(8, "evt-1").draw());
    }

    #[test]
    fn chance_keeps_its_share() {
        let hits = (0..10_000).filter(|n| Dice::of(1, &format!("evt-{n}")).chance(0.2)).count();
        assert!((1_800..2_200).contains(&hits), "{hits} of 10000");
    }
}
