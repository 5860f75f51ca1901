//! Where results go: tables for people, JSON for programs, both on standard output.

use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::failure::{Failure, Result};
use crate::human::visible;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs: one JSON document.
    Json,
}

/// Writes text to standard output and a newline if it lacks one. A reader that went away (`| head`) is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    let newline = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
    write_raw(text.as_bytes()).and_then(|()| write_raw(newline.as_bytes()))
}

/// Writes bytes to standard output as they are.
pub(crate) fn write_raw(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::failed(format!("cannot write to standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Writes one pretty JSON document.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    print(
        &serde_json::to_string_pretty(value)
            .map_err(|error| Failure::failed(format!("cannot print as JSON: {error}")))?,
    )
}

/// Writes one line of JSON: for streams.
pub(crate) fn json_line(value: &impl Serialize) -> Result<()> {
    print(
        &serde_json::to_string(value)
            .map_err(|error| Failure::failed(format!("cannot print as JSON: {error}")))?,
    )
}

/// A note for people that is not a result: standard error.
pub(crate) fn note(text: &str) {
    // Nobody can be told when standard error is gone.
    let _ = writeln!(std::io::stderr().lock(), "{}", visible(text));
}

/// Whether standard output shows colours.
pub(crate) fn colours() -> bool {
    let off = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
        || std::env::var_os("TERM").is_some_and(|t| t == "dumb");
    !off && std::io::stdout().is_terminal()
}

/// An empty table in the project's looks: aligned columns without frames, as kubectl prints.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if !colours() {
        table.force_no_tty();
    }
    table.set_header(header.iter().map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// The table as text, without the blanks that comfy-table leaves at line ends.
pub(crate) fn render(table: &Table) -> String {
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Names and values, one pair per line, values aligned; no line of a value can pass for a field of its own.
pub(crate) fn fields(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let indent = format!("\n{:width$}  ", "");
    let line =
        |(name, value): &(&str, String)| format!("{name:width$}  {}", visible(value).replace('\n', &indent));
    pairs.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A cell.
pub(crate) fn cell(text: impl ToString) -> Cell {
    Cell::new(visible(&text.to_string()))
}

/// A cell that stands out as good.
pub(crate) fn good(text: impl ToString) -> Cell {
    cell(text).fg(Color::Green)
}

/// A cell that stands out as bad.
pub(crate) fn bad(text: impl ToString) -> Cell {
    cell(text).fg(Color::Red)
}

/// A cell that deserves a look.
pub(crate) fn warn(text: impl ToString) -> Cell {
    cell(text).fg(Color::Yellow)
}

/// Ctrl-C from now on, also while nobody waits for it.
pub(crate) fn interrupts() -> Result<tokio::signal::unix::Signal> {
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
        .map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))
}

/// Asks on the terminal; without one, the answer is an error that names the flag.
pub(crate) fn confirm(question: &str, yes: bool) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::invalid(format!("there is no terminal to ask on: {question}"))
            .advice("pass --yes to say so in advance"));
    }
    let mut stderr = std::io::stderr().lock();
    let _ = write!(stderr, "{question} Type yes to go on: ");
    let _ = stderr.flush();
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Failure::failed(format!("cannot read the answer: {error}")))?;
    if matches!(answer.trim(), "y" | "yes") { Ok(()) } else { Err(Failure::failed("nothing was changed")) }
}
