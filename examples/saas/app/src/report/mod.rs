//! `pdf-report`: a customer's usage statement as a PDF file. An exec handler: payload on standard input,
//! answer on standard output, exit code 65 for what another try cannot help, 75 for what it may.

mod lines;
mod pdf;

use std::io::{Read, Write};

use serde::{Deserialize, Serialize};

pub use pdf::whole;

use crate::answer::{Refusal, plain_name};
use crate::files::{Files, write_whole};
use crate::store::Error;

/// Exit code for malformed input (`EX_DATAERR`): permanent.
pub const EXIT_PERMANENT: u8 = 65;
/// Exit code for anything that may pass (`EX_TEMPFAIL`): tried again.
pub const EXIT_RETRY: u8 = 75;
/// Largest payload that is read.
const MAX_INPUT: u64 = 1024 * 1024;

/// Payload of the job type.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Whose report.
    pub customer_id: String,
    /// The month, as in `2026-03`.
    pub period: String,
}

/// The report that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// File name within the reports folder.
    pub file: String,
    /// Number of pages.
    pub pages: usize,
    /// Size of the file.
    pub bytes: usize,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The payload is at fault.
    #[error(transparent)]
    Payload(#[from] Refusal),
    /// The machine is at fault.
    #[error(transparent)]
    Machine(#[from] Error),
    /// Standard input or output is at fault.
    #[error("standard input or output: {0}")]
    Pipe(#[from] std::io::Error),
}

impl Failure {
    /// What the process ends with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Payload(Refusal::Malformed(_)) => EXIT_PERMANENT,
            Self::Payload(_) | Self::Machine(_) | Self::Pipe(_) => EXIT_RETRY,
        }
    }
}

/// Reads a request, writes the report, answers with where it lies.
///
/// # Errors
/// [`Failure`], whose exit code says whether another try can help.
pub fn run(files: &Files, input: impl Read, mut output: impl Write) -> Result<(), Failure> {
    let mut payload = Vec::new();
    input.take(MAX_INPUT).read_to_end(&mut payload)?;
    let request: Request = crate::answer::payload(&payload)?;
    let report = write(files, &request)?;
    serde_json::to_writer(&mut output, &report).map_err(std::io::Error::from)?;
    writeln!(output)?;
    Ok(())
}

/// Writes the report of one customer and month. Written again, it is the same byte for byte.
///
/// # Errors
/// [`Failure`].
pub fn write(files: &Files, request: &Request) -> Result<Report, Failure> {
    let customer = plain_name("customerId", &request.customer_id)?;
    let period = month(&request.period)?;
    let statement = lines::Statement::of(customer, period);
    let (bytes, pages) = pdf::render(&statement);
    write_whole(&files.report(customer, period), &bytes)?;
    Ok(Report { file: format!("{customer}-{period}.pdf"), pages, bytes: bytes.len() })
}

fn month(period: &str) -> Result<&str, Refusal> {
    let number = |text: &str, digits: usize| {
        (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit()))
            .then(|| text.parse::<u32>().ok())?
    };
    let parts = period.split_once('-').and_then(|(year, month)| Some((number(year, 4)?, number(month, 2)?)));
    match parts {
        Some((_, 1..=12)) => Ok(period),
        _ => Err(Refusal::Malformed(format!("period must be a month like 2026-03, not {period:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_on(payload: &str) -> (tempfile::TempDir, Result<String, Failure>) {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path()).unwrap();
        let mut out = Vec::new();
        let done = run(&files, payload.as_bytes(), &mut out).map(|()| String::from_utf8(out).unwrap());
        (folder, done)
    }

    #[test]
    fn the_report_reads_back_with_every_page_and_the_total() {
        let (folder, told) = run_on(r#"{"customerId":"cust-7","period":"2026-03"}"#);
        let told: Report = serde_json::from_str(&told.unwrap()).unwrap();
        let path = folder.path().join("reports").join(&told.file);
        let document = lopdf::Document::load(&path).unwrap();
        let pages: Vec<u32> = document.get_pages().keys().copied().collect();
        assert_eq!(pages.len(), told.pages);
        assert!(told.pages >= 2, "a report has several pages, not {}", told.pages);
        let text = document.extract_text(&pages).unwrap();
        let statement = lines::Statement::of("cust-7", "2026-03");
        for expected in ["cust-7", "2026-03", &pdf::money(statement.total_cents())] {
            assert!(text.contains(expected), "{expected} is not in the text");
        }
        for line in &statement.lines {
            assert!(text.contains(&line.reference), "{} is not in the table", line.reference);
        }
        whole(&std::fs::read(&path).unwrap()).unwrap();
    }

    #[test]
    fn malformed_payloads_are_permanent() {
        let payloads = [
            "",
            "not json",
            r#"{"customerId":"cust-7"}"#,
            r#"{"customerId":"../../x","period":"2026-03"}"#,
            r#"{"customerId":"cust-7","period":"2026-13"}"#,
            r#"{"customerId":"cust-7","period":"+026-03"}"#,
        ];
        for payload in payloads {
            let (_folder, done) = run_on(payload);
            assert_eq!(done.unwrap_err().exit_code(), EXIT_PERMANENT, "{payload}");
        }
    }

    #[test]
    fn a_disk_that_refuses_is_worth_another_try() {
        let (folder, _) = run_on("{}");
        std::fs::remove_dir_all(folder.path().join("reports")).unwrap();
        let files = Files::open(folder.path()).unwrap();
        std::fs::remove_dir_all(folder.path().join("reports")).unwrap();
        let request = Request { customer_id: "cust-7".into(), period: "2026-03".into() };
        assert_eq!(write(&files, &request).unwrap_err().exit_code(), EXIT_RETRY);
    }
}
