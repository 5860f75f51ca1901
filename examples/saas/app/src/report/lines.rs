//! What stands in a report: the customer's use of the month, line by line.

use crate::dice::Dice;

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Number of the booking.
    pub reference: String,
    /// Day of the month.
    pub day: u32,
    /// What was used.
    pub item: &'static str,
    /// How much of it.
    pub quantity: u64,
    /// What it costs.
    pub cents: u64,
}

/// A customer's month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    /// Whose.
    pub customer: String,
    /// Which month.
    pub period: String,
    /// The table, by day.
    pub lines: Vec<Line>,
}

const ITEMS: [(&str, u64); 5] =
    [("API calls", 2), ("Seats", 900), ("Storage, GB", 5), ("Mails", 1), ("Support, minutes", 80)];

impl Statement {
    /// The month as it follows from customer and period: 60 to 180 lines.
    pub(super) fn of(customer: &str, period: &str) -> Self {
        let mut dice = Dice::of(0, &format!("{customer}/{period}"));
        let count = dice.between(60, 180);
        let mut days: Vec<u32> = (0..count).map(|_| dice.between(1, 28) as u32).collect();
        days.sort_unstable();
        let line = |(number, day): (usize, u32)| {
            let (item, price) = ITEMS[dice.below(ITEMS.len() as u64) as usize];
            let quantity = dice.between(1, 400);
            Line { reference: format!("U-{:04}", number + 1), day, item, quantity, cents: quantity * price }
        };
        let lines = days.into_iter().enumerate().map(line).collect();
        Self { customer: customer.to_owned(), period: period.to_owned(), lines }
    }

    /// Sum of the lines.
    pub(super) fn total_cents(&self) -> u64 {
        self.lines.iter().map(|line| line.cents).sum()
    }
}
