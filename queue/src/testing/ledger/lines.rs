//! The history on disk: JSON lines, one file per client or one for all.
//!
//! ```text
//! {"line":"call","client":"w1","call":7,"ms":100,"act":{"act":"settle","job":"a","token":5,"ending":{"as":"success"}}}
//! {"line":"return","client":"w1","call":7,"ms":103,"fate":"ok"}
//! ```
//!
//! A call without a return is unknown. A return may carry what only the reply tells: a claim's grants, an enqueue's id.

use std::collections::HashMap;
use std::io::BufRead;

use serde::{Deserialize, Serialize};

use super::history::{Act, Event, Fate};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Line {
    /// Written before the call is sent.
    Call {
        /// The client.
        client: String,
        /// Number of the call, unique within the client.
        call: u64,
        /// Latest Redis time that the client knows, ms.
        ms: u64,
        /// What it asks for; of a claim or sweep [`Act::Claim`].
        act: Act,
    },
    /// Written before the client acts on the reply.
    Return {
        /// The client.
        client: String,
        /// The call it answers.
        call: u64,
        /// Redis time of the reply, ms.
        ms: u64,
        /// What the client was told.
        fate: Fate,
        /// What happened, where the reply says more than the call; empty: what was asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        acts: Vec<Act>,
    },
}

/// Why a history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("reading the history: {0}")]
    Io(#[from] std::io::Error),
    /// A line is no line of a history, and not a last one torn by a kill.
    #[error("line {line} of the history makes no sense: {why}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        why: serde_json::Error,
    },
    /// A return answers no call.
    #[error(
        "line {line} of the history answers call {call} of {client:?}, which was never made or is answered already"
    )]
    NoCall {
        /// From 1.
        line: usize,
        /// The client.
        client: String,
        /// The call.
        call: u64,
    },
}

/// Reads calls and returns and pairs them. A last line that a kill tore apart counts as not written.
///
/// # Errors
/// When a line cannot be read or makes no sense.
pub fn read(input: impl BufRead) -> Result<Vec<Event>, ReadError> {
    let mut open: HashMap<(String, u64), (u64, Act)> = HashMap::new();
    let mut events = Vec::new();
    let mut torn: Option<ReadError> = None;
    for (at, text) in input.split(b'\n').enumerate() {
        let text = text?;
        if text.is_empty() {
            continue;
        }
        // Only the last line may be torn.
        if let Some(error) = torn.take() {
            return Err(error);
        }
        match serde_json::from_slice(&text) {
            Err(why) => torn = Some(ReadError::Line { line: at + 1, why }),
            Ok(Line::Call { client, call, ms, act }) => {
                open.insert((client, call), (ms, act));
            }
            Ok(Line::Return { client, call, ms, fate, acts }) => {
                let Some((called_ms, act)) = open.remove(&(client.clone(), call)) else {
                    return Err(ReadError::NoCall { line: at + 1, client, call });
                };
                let at_ms = if fate == Fate::Unknown { called_ms } else { ms };
                push(&mut events, &client, at_ms, fate, act, acts);
            }
        }
    }
    for ((client, _), (at_ms, act)) in open {
        events.push(Event { client, at_ms, fate: Fate::Unknown, act });
    }
    Ok(events)
}

fn push(events: &mut Vec<Event>, client: &str, at_ms: u64, fate: Fate, act: Act, acts: Vec<Act>) {
    let event = |act| Event { client: client.to_owned(), at_ms, fate, act };
    if !acts.is_empty() {
        events.extend(acts.into_iter().map(event));
    } else if act != Act::Claim || fate == Fate::Unknown {
        // A claim that was answered with nothing leased nothing.
        events.push(event(act));
    }
}
