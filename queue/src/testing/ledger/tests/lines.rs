//! Histories on disk.

use super::super::history::{Act, Event, Fate};
use super::super::{Line, ReadError, read};
use super::story::{enqueue, grant, success};

fn call(call: u64, act: Act) -> Line {
    Line::Call { client: "w1".into(), call, ms: 10 * call, act }
}

fn answer(call: u64, fate: Fate, acts: Vec<Act>) -> Line {
    Line::Return { client: "w1".into(), call, ms: 10 * call + 3, fate, acts }
}

fn written(lines: &[Line]) -> String {
    lines.iter().map(|line| serde_json::to_string(line).expect("a line") + "\n").collect()
}

fn event(at_ms: u64, fate: Fate, act: Act) -> Event {
    Event { client: "w1".into(), at_ms, fate, act }
}

#[test]
fn calls_and_returns_make_events() {
    let text = written(&[
        call(1, enqueue("a", 10)),
        answer(1, Fate::Ok, vec![]),
        call(2, Act::Claim),
        answer(2, Fate::Ok, vec![grant("a", 5), grant("b", 6)]),
        call(3, Act::Claim),
        answer(3, Fate::Ok, vec![]),
        call(4, success("a", 5)),
        answer(4, Fate::Refused, vec![]),
        call(5, success("b", 6)),
        answer(5, Fate::Unknown, vec![]),
        call(6, Act::Claim),
    ]);
    let expected = [
        event(13, Fate::Ok, enqueue("a", 10)),
        event(23, Fate::Ok, grant("a", 5)),
        event(23, Fate::Ok, grant("b", 6)),
        event(43, Fate::Refused, success("a", 5)),
        event(50, Fate::Unknown, success("b", 6)),
        event(60, Fate::Unknown, Act::Claim),
    ];
    assert_eq!(read(text.as_bytes()).expect("a history"), expected);
}

#[test]
fn a_torn_last_line_was_not_written() {
    let text = written(&[call(1, success("a", 5)), answer(1, Fate::Ok, vec![])]);
    let torn = &text[..text.len() - 9];
    assert_eq!(read(torn.as_bytes()).expect("a history"), [event(10, Fate::Unknown, success("a", 5))]);
    let broken = format!("{torn}\n{text}");
    assert!(matches!(read(broken.as_bytes()), Err(ReadError::Line { line: 2, .. })));
}

#[test]
fn an_answer_to_nothing_is_an_error() {
    let text = written(&[answer(7, Fate::Ok, vec![])]);
    assert!(matches!(read(text.as_bytes()), Err(ReadError::NoCall { line: 1, call: 7, .. })));
}
