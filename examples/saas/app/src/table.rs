//! How this program lays out tables.

use comfy_table::{CellAlignment, Table, presets};

/// A table whose first column is text and whose others are figures.
#[must_use]
pub fn new(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
