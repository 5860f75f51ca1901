//! Generates what comes from the Rust types: the custom resource definitions, the chart's copies and the reference.
//!
//! ```text
//! crdgen                                             prints the definitions
//! crdgen --out DIR --helm DIR --docs FILE            writes them, templates for the chart, the reference
//! crdgen --check [DIR…] [--out DIR] [--helm DIR] [--docs FILE]
//!                                                    exits 1 and shows where they differ from what is there
//! ```
#![expect(clippy::print_stdout, reason = "printing is what it does")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lanekeeper_api::crds;

/// One file and what should be in it.
struct Generated {
    path: PathBuf,
    content: String,
}

/// What was asked for.
#[derive(Default)]
struct Plan {
    check: bool,
    files: Vec<Generated>,
    /// Directories that hold nothing but generated YAML.
    owned: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty() {
        for document in crds::documents() {
            print!("---\n{}", crds::yaml(&document));
        }
        return ExitCode::SUCCESS;
    }
    let done = match plan(arguments) {
        Err(message) => {
            eprintln!(
                "crdgen: {message}\nusage: crdgen [--check [DIR…]] [--out DIR] [--helm DIR] [--docs FILE]"
            );
            return ExitCode::from(2);
        }
        Ok(plan) if plan.check => check(&plan),
        Ok(plan) => write(&plan),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn plan(arguments: Vec<String>) -> Result<Plan, String> {
    let mut plan = Plan::default();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--check" => plan.check = true,
            "--out" => plan.directory(value()?.into(), crds::yaml),
            "--helm" => plan.directory(value()?.into(), crds::template),
            "--docs" => plan.files.push(Generated { path: value()?.into(), content: crds::reference() }),
            directory if plan.check && !directory.starts_with('-') => {
                plan.directory(directory.into(), crds::yaml);
            }
            other => return Err(format!("unknown argument {other}")),
        }
    }
    if plan.files.is_empty() { Err("nothing to do".to_owned()) } else { Ok(plan) }
}

impl Plan {
    fn directory(&mut self, directory: PathBuf, content: fn(&serde_json::Value) -> String) {
        for document in crds::documents() {
            let path = directory.join(crds::file_name(&document));
            self.files.push(Generated { path, content: content(&document) });
        }
        self.owned.push(directory);
    }
}

fn write(plan: &Plan) -> Result<(), String> {
    for Generated { path, content } in &plan.files {
        let failed = |error: std::io::Error| format!("{}: cannot be written: {error}", path.display());
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        fs::write(path, content).map_err(failed)?;
        println!("{}", path.display());
    }
    Ok(())
}

fn check(plan: &Plan) -> Result<(), String> {
    let drifts = plan.files.iter().filter_map(drift);
    let strays = plan.owned.iter().flat_map(|directory| strays(plan, directory));
    let messages: Vec<String> = drifts.chain(strays).collect();
    if messages.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{}\ngenerated files are out of date: run `make crds` and commit the result",
        messages.join("\n")
    ))
}

/// The first line that differs.
fn drift(file: &Generated) -> Option<String> {
    let path = file.path.display();
    let Ok(found) = fs::read_to_string(&file.path) else { return Some(format!("{path}: is missing")) };
    if found == file.content {
        return None;
    }
    let mut found = found.lines();
    for (index, wanted) in file.content.lines().enumerate() {
        let there = found.next();
        if there != Some(wanted) {
            let there = there.unwrap_or("(end of file)");
            return Some(format!("{path}:{}: differs\n  - {there}\n  + {wanted}", index + 1));
        }
    }
    let rest = found.next().unwrap_or("(line ends differ)");
    Some(format!("{path}: has more than it should\n  - {rest}"))
}

/// YAML files that nothing generates any more.
fn strays(plan: &Plan, directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let yaml = entries.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    let stray = yaml.filter(|path| !plan.files.iter().any(|file| file.path == *path));
    stray.map(|path| format!("{}: is not generated: remove it", path.display())).collect()
}
