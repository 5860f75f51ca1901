//! `saas-app verify`.

use std::io::Write;
use std::process::ExitCode;

use super::{Fate, Findings, holds, verify};
use crate::account;
use crate::args::VerifyArgs;
use crate::connect;
use crate::files::Files;
use crate::store::Store;
use crate::table;
use crate::traffic::ledger;

/// Prints what was found; exit code 1 when something is wrong.
///
/// # Errors
/// When the ledger, the database or the queue cannot be read.
pub async fn run(args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let entries = ledger::read(&args.ledger)?;
    let files = Files::open(&args.data.data)?;
    let store = Store::open(&files.database())?;
    let findings = if let Some(redis) = &args.redis {
        let queue = connect::queue(redis, &args.queue).await?;
        let ids: Vec<String> =
            entries.iter().filter_map(|entry| entry.accepted().map(str::to_owned)).collect();
        let jobs = account::look_up(&queue, &ids).await?;
        verify(&entries, &Fate::Known(&jobs), &store, &files)?
    } else {
        verify(&entries, &Fate::Supposed, &store, &files)?
    };
    print(&findings, &mut std::io::stdout())?;
    Ok(if holds(&findings) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The findings for people.
///
/// # Errors
/// When the output is closed.
pub fn print(findings: &Findings, out: &mut dyn Write) -> std::io::Result<()> {
    let mut table = table::new(&["effects of", "done", "right", "wrong"]);
    for (name, found) in findings {
        table.add_row([
            name.clone(),
            found.done.to_string(),
            found.right.to_string(),
            found.wrong.len().to_string(),
        ]);
    }
    writeln!(out, "{table}")?;
    for wrong in findings.values().flat_map(|found| &found.wrong).take(20) {
        writeln!(out, "  {wrong}")?;
    }
    Ok(())
}
