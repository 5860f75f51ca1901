//! Settlements and options as any client may send them: what the typed client never says.

use super::common::*;
use lanekeeper_queue::types::*;

type Settled4 = (u64, u64, String, Vec<String>);

#[tokio::test]
async fn one_word_for_many_jobs_is_for_successes_without_a_result() {
    let bed = Bed::new().await;
    let w = worker("w");
    let identity = identity(&w);
    bed.queue.enqueue(&vec![job("mail", "x"); 6]).await.unwrap();
    let claimed = bed.claim(&w, &["fast"], 6).await;
    let pair = |n: usize| [claimed[n].id.as_str(), claimed[n + 1].id.as_str()];
    let token = claimed[0].token;
    let release = rmp_serde::to_vec(&[(pair(0), token, 7, "l", "drain")]).unwrap();
    let with_result = rmp_serde::to_vec(&[(pair(2), token, 7, "s", "{}", ["", ""])]).unwrap();
    let without = rmp_serde::to_vec(&[(pair(4), token, 7, "s", "", ["", ""])]).unwrap();
    for (words, letters) in [(release, "ds"), (with_result, "ds"), (without, "dd")] {
        let reply: Settled4 = fcall(&bed, "lk_settle", &[&identity, &words]).await.unwrap();
        assert_eq!(reply.2, letters);
    }
}

#[tokio::test]
async fn options_are_bounded_in_bytes() {
    let bed = Bed::new().await;
    let plain = br#"{"type":"mail"}"#;
    for (bytes, outcome) in [(16_384, "queued"), (16_385, "rejected:invalid-options")] {
        let options = [plain.as_slice(), &vec![b' '; bytes - plain.len()]].concat();
        let reply: Vec<(redis::Value, String, String)> =
            fcall(&bed, "lk_enqueue", &[&options, b"x"]).await.unwrap();
        assert_eq!(reply[0].1, outcome, "{bytes}: {}", reply[0].2);
    }
}

/// The code of the error that a call must end with.
async fn code(bed: &Bed, function: &str, arguments: &[&[u8]]) -> String {
    let shown: Vec<_> =
        arguments.iter().take(8).map(|a| String::from_utf8_lossy(&a[..a.len().min(40)])).collect();
    let error =
        fcall::<redis::Value>(bed, function, arguments).await.expect_err(&format!("{function} {shown:?}"));
    error.code().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn calls_with_arguments_that_are_missing_odd_or_too_many_are_refused() {
    let bed = Bed::new().await;
    let me = identity(&worker("w"));
    let me = me.as_slice();
    let nobody = rmp_serde::to_vec(&("boot", "w", "pool")).unwrap();
    let cases: &[(&str, &[&[u8]])] = &[
        ("lk_enqueue", &[]),
        ("lk_enqueue", &[b"{}", b"", b"{}"]),
        ("lk_find", &[b"", b"", b"", b"1"]),
        ("lk_find", &[b"", b"", b"", b"1", b"", b""]),
        ("lk_find", &[b"", b"", b"", b"x", b""]),
        ("lk_find", &[b"", b"", b"", b"0", b""]),
        ("lk_find", &[b"", b"", b"", b"nan", b""]),
        ("lk_dead_list", &[b"", b"ids", b"1"]),
        ("lk_dead_list", &[b"", b"ids", b"1", b"", b""]),
        ("lk_dead_list", &[b"", b"all", b"1", b""]),
        ("lk_dead_list", &[b"", b"ids", b"0", b""]),
        ("lk_dead_list", &[b"", b"ids", b"nan", b""]),
        ("lk_dead_list", &[b"", b"ids", b"x", b""]),
        ("lk_dead_list", &[b"[]", b"ids", b"1", b""]),
        ("lk_dead_list", &[b"{}\0x", b"ids", b"1", b""]),
        ("lk_events", &[b""]),
        ("lk_events", &[b"", b"1", b""]),
        ("lk_events", &[b"", b"x"]),
        ("lk_events", &[b"", b"0"]),
        ("lk_events", &[b"", b"nan"]),
        ("lk_events", &[b"1", b"1"]),
        ("lk_sweep", &[me]),
        ("lk_sweep", &[me, b"x"]),
        ("lk_sweep", &[me, b"0"]),
        ("lk_sweep", &[me, b"nan"]),
        ("lk_sweep", &[&nobody, b"1"]),
        ("lk_leave", &[&nobody]),
        ("lk_leave", &[]),
        ("lk_leases", &[b"boot"]),
        ("lk_leases", &[b"boot", b"0", b"0"]),
        ("lk_leases", &[b"boot", b"x"]),
        ("lk_get", &[b"0"]),
        ("lk_cancel", &[b"me"]),
        ("lk_cancel", &[b"\xff", b"id"]),
        ("lk_dead_ack", &[b"me", b"why", b""]),
        ("lk_dead_ack", &[b"me", b"\xff", b"", b"id"]),
        ("lk_dead_ack", &[b"me", b"why", b"id"]),
        ("lk_dead_discard", &[b"me", b"why", b"x 5", b"id"]),
        ("lk_dead_replay", &[b"me", b"why", b"oa 5.5", b"id"]),
        ("lk_dead_replay", &[b"me", b"why", b" 5", b"id"]),
        ("lk_dead_edit", &[b"me", b"why", b"id"]),
        ("lk_dead_edit", &[b"me", b"why", b"id", b"payload", b"more"]),
        ("lk_pause", &[b"me"]),
        ("lk_pause", &[b"me", b"\xff"]),
        ("lk_pause", &[b"me", b"why", b"nope"]),
        ("lk_resume", &[]),
        ("lk_resume", &[b"\xff"]),
        ("lk_resume", &[b"me", b"nope"]),
        ("lk_extend", &[me, b"", b"junk\xc1"]),
        ("lk_extend", &[me, b"", b"", b"junk"]),
        ("lk_settle", &[me, b"junk"]),
        ("lk_claim", &[me, b"", b"junk"]),
        ("lk_claim", &[me, b""]),
        ("lk_configure", &[b"{}", b"cli", b"u", b"1", b"1"]),
        ("lk_configure", &[b"{}", b"cli", b"u", b"1", b"1", b"0", b"0"]),
    ];
    for (function, arguments) in cases {
        assert_eq!(code(&bed, function, arguments).await, "LKARGS", "{function} {arguments:?}");
    }
    let wishes: [&[u8]; 4] = [
        b"\x93\xa1x\x90\x80",
        b"\x93\x01\x01\x80",
        b"\x93\x01\x90\x01",
        b"\x93\xcb\x7f\xf8\0\0\0\0\0\0\x90\x80",
    ];
    for wish in wishes {
        assert_eq!(code(&bed, "lk_claim", &[me, b"", wish]).await, "LKARGS", "{wish:x?}");
    }
    let policy = serde_json::to_vec(&bed.policy).unwrap();
    for (owner, created, generation) in [("", "1", "1"), ("cli", "x", "1"), ("cli", "1", "x")] {
        let arguments: [&[u8]; 6] =
            [&policy, owner.as_bytes(), b"u", created.as_bytes(), generation.as_bytes(), b"1"];
        assert_eq!(
            code(&bed, "lk_configure", &arguments).await,
            "LKPOLICY",
            "{owner} {created} {generation}"
        );
    }
}

#[tokio::test]
async fn calls_are_bounded_in_what_they_name() {
    let bed = Bed::new().await;
    let me = identity(&worker("w"));
    let lane: &[u8] = b"fast";
    // (function, what stands before the list, most of the list, code beyond)
    let bounds: &[(&str, &[&[u8]], usize, &str)] = &[
        ("lk_get", &[b"0"], 200, "LKARGS"),
        ("lk_cancel", &[b"me"], 200, "LKARGS"),
        ("lk_dead_ack", &[b"me", b"why", b""], 200, "LKARGS"),
        ("lk_pause", &[b"me", b"why"], 64, "LKLIMIT"),
        ("lk_resume", &[b"me"], 64, "LKLIMIT"),
        ("lk_pass_on", &[], 64, "LKLIMIT"),
    ];
    for (function, before, most, beyond) in bounds {
        let names: Vec<Vec<u8>> = (0..=*most).map(|n| n.to_string().into_bytes()).collect();
        let lanes = function.ends_with('e') || *function == "lk_pass_on";
        let list: Vec<&[u8]> = names.iter().map(|name| if lanes { lane } else { name.as_slice() }).collect();
        let arguments = |count: usize| [before, &list[..count]].concat();
        fcall::<redis::Value>(&bed, function, &arguments(*most)).await.unwrap();
        assert_eq!(code(&bed, function, &arguments(most + 1)).await, *beyond, "{function}");
    }
    let entry = |n: usize| (n.to_string(), 1, 7, "s", "", "");
    let entries = |count: usize| rmp_serde::to_vec(&(0..count).map(entry).collect::<Vec<_>>()).unwrap();
    let named = |count: usize| {
        let names: Vec<String> = (0..count).map(|n| n.to_string()).collect();
        rmp_serde::to_vec(&[(names, 1, 7, "s", "", "")]).unwrap()
    };
    for words in [&entries as &dyn Fn(usize) -> Vec<u8>, &named] {
        fcall::<redis::Value>(&bed, "lk_settle", &[&me, &words(200)]).await.unwrap();
        assert_eq!(code(&bed, "lk_settle", &[&me, &words(201)]).await, "LKLIMIT");
    }
    let held = |count: usize| {
        rmp_serde::to_vec(&(0..count).map(|n| (n.to_string(), 1)).collect::<Vec<_>>()).unwrap()
    };
    fcall::<redis::Value>(&bed, "lk_extend", &[&me, b"", &held(1_000)]).await.unwrap();
    assert_eq!(code(&bed, "lk_extend", &[&me, b"", &held(1_001)]).await, "LKLIMIT");
    // A note may be any length: here as a list of one text and nothing else.
    let notes = |bytes: usize| rmp_serde::to_vec(&["x".repeat(bytes - 6)]).unwrap();
    assert_eq!(notes(1 << 21).len(), 1 << 21);
    fcall::<redis::Value>(&bed, "lk_extend", &[&me, b"", b"", &notes(1 << 21)]).await.unwrap();
    assert_eq!(code(&bed, "lk_extend", &[&me, b"", b"", &notes((1 << 21) + 1)]).await, "LKLIMIT");
}

/// How many jobs a wish gets, which may hold any msgpack.
async fn claimed(bed: &Bed, wish: &impl serde::Serialize) -> usize {
    let me = identity(&worker("w"));
    let reply: Vec<redis::Value> =
        fcall(bed, "lk_claim", &[&me, b"", &rmp_serde::to_vec(wish).unwrap()]).await.unwrap();
    (reply.len() - 8) / 4
}

#[tokio::test]
async fn wishes_are_bounded_and_rounded_down() {
    let none = serde_json::json!({});
    for (slots, jobs) in [(1.9, 1), (-3.0, 0), (0.0, 0), (1e300, 200), (201.0, 200)] {
        let bed = Bed::new().await;
        bed.queue.enqueue_all(&vec![job("mail", "x"); 201]).await.unwrap();
        assert_eq!(claimed(&bed, &(slots, ["fast"], &none)).await, jobs, "{slots}");
    }
    let bed = Bed::new().await;
    bed.queue.enqueue_all(&vec![job("mail", "x"); 20]).await.unwrap();
    for (most, jobs) in [(1.5, 1), (-1.0, 0), (0.0, 0)] {
        assert_eq!(claimed(&bed, &(5, ["fast"], serde_json::json!({"mail": most}))).await, jobs, "{most}");
    }
    // Shares that are no list say nothing; one that is no number is none.
    assert_eq!(claimed(&bed, &(2, ["fast"], &none, 0, "shares")).await, 2);
    assert_eq!(claimed(&bed, &(2, ["fast"], &none, 0, ["x"])).await, 2);
    // Lanes beyond the first 64 are not looked at.
    let mut lanes = vec!["slow"; 64];
    lanes.push("fast");
    assert_eq!(claimed(&bed, &(2, &lanes, &none)).await, 0);
    lanes.remove(0);
    assert_eq!(claimed(&bed, &(2, &lanes, &none)).await, 2);
}

#[tokio::test]
async fn a_heartbeat_without_words_of_the_worker_shows_nobody() {
    let bed = Bed::new().await;
    let me = identity(&worker("w"));
    for (info, known) in [(b"".as_slice(), 0), (b"x", 1)] {
        fcall::<redis::Value>(&bed, "lk_extend", &[&me, info, b""]).await.unwrap();
        assert_eq!(bed.raw::<usize>(&["HLEN", &bed.key("h")]).await.unwrap(), known);
    }
    fcall::<redis::Value>(&bed, "lk_extend", &[&me, &[b'x'; 20_000], b""]).await.unwrap();
    let bytes: usize = bed.raw(&["HSTRLEN", &bed.key("h"), "boot-w"]).await.unwrap();
    assert!((16_385..16_420).contains(&bytes), "{bytes}");
    for junk in [serde_json::json!([7]), serde_json::json!([["x"]]), serde_json::json!([[7, 1]])] {
        let held = rmp_serde::to_vec(&junk).unwrap();
        let (_, _, lost, _): (u64, u64, Vec<String>, Vec<String>) =
            fcall(&bed, "lk_extend", &[&me, b"", &held]).await.unwrap();
        assert_eq!(lost.len(), 1, "{junk}");
    }
}

#[tokio::test]
async fn numbers_of_notes_and_settlements_that_are_none_are_zero() {
    let bed = Bed::new().await;
    let w = worker("w");
    let me = identity(&w);
    let running = bed.running(&w, job("mail", "x")).await;
    let held = rmp_serde::to_vec(&[(&running.id, running.token)]).unwrap();
    for (done, seen) in [(f64::NAN, 0), (-5.0, 0), (2.9, 2), (1e300, 1 << 53)] {
        let notes = rmp_serde::to_vec(&[(1, ((done, 7, "rows", "text"), [0; 0]))]).unwrap();
        fcall::<redis::Value>(&bed, "lk_extend", &[&me, b"", &held, &notes]).await.unwrap();
        assert_eq!(bed.job(&running.id).await.progress.unwrap().done, seen, "{done}");
    }
    // A note of no job that is held, and what is no note.
    for notes in [serde_json::json!([[2, [["x"], []]]]), serde_json::json!([[1, "x"], [1, 7], 7, ["x", []]])]
    {
        let notes = rmp_serde::to_vec(&notes).unwrap();
        fcall::<redis::Value>(&bed, "lk_extend", &[&me, b"", &held, &notes]).await.unwrap();
        assert_eq!(bed.job(&running.id).await.progress.unwrap().done, 1 << 53);
    }
    let word = (&running.id, running.token, "version", "r", "soon", "t", 7, 7, 7);
    let reply: Settled4 =
        fcall(&bed, "lk_settle", &[&me, &rmp_serde::to_vec(&[word]).unwrap()]).await.unwrap();
    assert_eq!(reply.2, "d");
    let attempt = bed.job(&running.id).await.history.remove(0);
    assert_eq!((attempt.outcome.as_str(), attempt.policy_version, attempt.error), ("retry", 0, None));
    assert_eq!(bed.state(&running.id).await, JobState::Ready, "no delay");
}

#[tokio::test]
async fn words_that_make_no_sense_settle_nothing() {
    let bed = Bed::new().await;
    let w = worker("w");
    let me = identity(&w);
    let running = bed.running(&w, job("mail", "x")).await;
    let (id, token) = (&running.id, running.token);
    for words in [
        serde_json::json!([7]),
        serde_json::json!([[id, "token", 7, "s", "", ""]]),
        serde_json::json!([[id, token, 7, "?", "", ""]]),
        serde_json::json!([[id, token, 7]]),
        serde_json::json!([[7, token, 7, "s", "", ""]]),
        serde_json::json!([[[], token, 7, "s", "", ""]]),
        serde_json::json!([[id, token, 7, "x", "NoReason", "t", "permanent", "c", "m"]]),
    ] {
        let reply: Settled4 =
            fcall(&bed, "lk_settle", &[&me, &rmp_serde::to_vec(&words).unwrap()]).await.unwrap();
        assert_eq!(reply.2, "s", "{words}");
        assert_eq!(bed.state(id).await, JobState::Running, "{words}");
    }
}

#[tokio::test]
async fn a_call_names_one_queue() {
    let bed = Bed::new().await;
    let root = bed.queue.name().root();
    for function in ["lk_stats", "lk_destroy", "lk_configure", "lk_enqueue"] {
        let policy = serde_json::to_string(&bed.policy).unwrap();
        for roots in
            [vec![root.as_str(), root.as_str()], vec!["lk:apps/saas"], vec![&root[..4]], vec!["lk:{a}x"]]
        {
            let mut call = redis::cmd("FCALL");
            call.arg(function).arg(roots.len()).arg(&roots);
            call.arg(match function {
                "lk_configure" => vec![policy.as_str(), "cli", "u", "1", "1", "1"],
                "lk_enqueue" => vec![r#"{"type":"mail"}"#, ""],
                _ => vec![],
            });
            let error = call.query_async::<redis::Value>(&mut bed.queue.connection()).await;
            assert_eq!(error.unwrap_err().code(), Some("LKARGS"), "{function} {roots:?}");
        }
    }
}

#[tokio::test]
async fn one_word_of_a_sweeper_for_many_jobs_names_the_worker_that_lost_each() {
    let bed = Bed::new().await;
    let mut lost = Vec::new();
    for name in ["w1", "w2"] {
        let running = bed.running(&worker(name), job("mail", name)).await;
        bed.expire(&running.id).await;
        lost.push((running.id, name));
    }
    bed.calm().await;
    let sweeper = worker("s");
    let taken = bed.queue.sweep(&sweeper, 10).await.unwrap().expired;
    let names: Vec<&str> = taken.iter().map(|one| one.job.id.as_str()).collect();
    let word = rmp_serde::to_vec(&[(names, taken[0].job.token, 7, "s", "", ["", ""])]).unwrap();
    let reply: Settled4 = fcall(&bed, "lk_settle", &[&identity(&sweeper), &word]).await.unwrap();
    assert_eq!(reply.2, "dd");
    for (id, name) in lost {
        assert_eq!(bed.job(&id).await.history[0].worker, name);
    }
}

#[tokio::test]
async fn gates_that_something_else_overwrote_cost_no_answer() {
    let bed = Bed::new().await;
    let w = worker("w");
    let running = bed.running(&w, job("mail", "x")).await;
    bed.poke(&["SET", &bed.key("g"), "x"]).await;
    let answer = [settlement(&running, success())];
    assert!(
        refusal(bed.queue.settle_and_claim(&w, &answer, &want(&["fast"], 1)).await).contains(&bed.key("g"))
    );
    bed.poke(&["DEL", &bed.key("g")]).await;
    assert_eq!(bed.settle(&w, &running, success()).await, Settled::Done);
}
