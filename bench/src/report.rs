//! Collects figures and shows them.

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde::Serialize;

/// One figure beside its raw limit.
pub(crate) struct Measured {
    /// Lanekeeper's.
    pub ours: f64,
    /// The raw limit's, in the same repeat.
    pub raw: f64,
    /// Which raw limit.
    pub raw_name: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    unit: &'static str,
    ours: Vec<f64>,
    raw: Vec<f64>,
    raw_name: Option<&'static str>,
    /// Median of ours/raw per repeat.
    ratio: Option<f64>,
}

/// Every figure of a run.
#[derive(Default, Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    fn row(&mut self, name: &str, unit: &'static str) -> &mut Row {
        let at = self.rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
            let row = Row { name: name.into(), unit, ours: vec![], raw: vec![], raw_name: None, ratio: None };
            self.rows.push(row);
            self.rows.len() - 1
        });
        &mut self.rows[at]
    }

    /// Adds a repeat of a figure that has a raw limit.
    pub(crate) fn add(&mut self, name: &str, unit: &'static str, measured: Measured) {
        let row = self.row(name, unit);
        row.ours.push(measured.ours);
        row.raw.push(measured.raw);
        row.raw_name = Some(measured.raw_name);
        let ratios: Vec<f64> = row.ours.iter().zip(&row.raw).map(|(ours, raw)| ours / raw).collect();
        row.ratio = Some(median(&ratios));
    }

    /// Adds a figure that has none.
    pub(crate) fn add_alone(&mut self, name: &str, unit: &'static str, ours: f64) {
        self.row(name, unit).ours.push(ours);
    }

    /// Medians, as a Markdown table.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN).set_header(["workload", "Lanekeeper", "raw limit", "ratio", "unit"]);
        for row in &self.rows {
            let raw =
                row.raw_name.map_or("-".into(), |name| format!("{} ({name})", figure(median(&row.raw))));
            let ratio = row.ratio.map_or("-".into(), |ratio| format!("{ratio:.2}×"));
            table.add_row([row.name.clone(), figure(median(&row.ours)), raw, ratio, row.unit.into()]);
        }
        for column in [1, 2, 3] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        format!("{table}\n")
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn figure(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        small if small < 1.0 && small > 0.0 => format!("{value:.3}"),
        _ => format!("{value:.2}"),
    }
}
