//! Texts that the library's decoder takes for JSON and that are none.

use lanekeeper_api::policy::{ConcurrencyKey, KeyPart, OnDead};

use super::common::*;

type Answer = (redis::Value, String, String);

async fn enqueue(bed: &Bed, options: &[u8], payload: &[u8]) -> (String, String) {
    let mut reply: Vec<Answer> = fcall(bed, "lk_enqueue", &[options, payload]).await.unwrap();
    let (_, outcome, words) = reply.remove(0);
    (outcome, words)
}

#[tokio::test]
async fn nothing_hides_behind_a_nul() {
    let id = || vec![KeyPart::Path(vec!["id".into()])];
    let bed = Bed::with(|policy| {
        policy.job_types.get_mut("mail").unwrap().key = Some(id());
        policy.job_types.get_mut("reset").unwrap().concurrency_key =
            Some(ConcurrencyKey { key: id(), limit: Some(1), rate_limit: None });
    })
    .await;
    let (outcome, words) = enqueue(&bed, b"{\"type\":\"report\"}\0,\"delay\":600000}", b"x").await;
    assert_eq!((outcome.as_str(), words.contains("NUL")), ("rejected:invalid-options", true), "{words}");
    for kind in ["mail", "reset"] {
        let options = format!(r#"{{"type":"{kind}"}}"#);
        let (outcome, words) = enqueue(&bed, options.as_bytes(), b"{\"id\":\"7\"}\0{\"id\":8}").await;
        assert!(
            outcome.starts_with("rejected:key-field") && words.contains("NUL"),
            "{kind}: {outcome} {words}"
        );
        assert_eq!(enqueue(&bed, options.as_bytes(), br#"{"id":"7"}"#).await.0, "queued");
    }
    assert_eq!(
        enqueue(&bed, br#"{"type":"report"}"#, b"{}\0{}").await.0,
        "queued",
        "bytes are free without keys"
    );
}

#[tokio::test]
async fn an_empty_array_is_no_object() {
    let bed = Bed::new().await;
    for (meta, outcome) in [
        ("[]", "rejected:invalid-options"),
        ("[ ]", "rejected:invalid-options"),
        (r#"{},"meta" : []"#, "rejected:invalid-options"),
        (r#"[],"meta":{}"#, "queued"),
        ("{}", "queued"),
        (" { }", "queued"),
    ] {
        let options = format!(r#"{{"type":"mail","meta":{meta}}}"#);
        assert_eq!(enqueue(&bed, options.as_bytes(), b"x").await.0, outcome, "{meta}");
    }
}

#[tokio::test]
async fn a_call_for_the_policy_names_one_queue() {
    let bed = Bed::new().await;
    let root = bed.queue.name().root();
    for roots in [vec![], vec![root.as_str(), root.as_str()]] {
        let mut call = redis::cmd("FCALL");
        call.arg("lk_policy").arg(roots.len()).arg(&roots);
        let refused = call.query_async::<redis::Value>(&mut bed.queue.connection()).await.unwrap_err();
        assert_eq!(refused.code(), Some("LKARGS"), "{refused}");
    }
}

#[tokio::test]
async fn news_of_a_death_are_json_whatever_the_payload_was() {
    let bed = Bed::with(|policy| {
        policy.job_types.get_mut("mail").unwrap().on_dead = Some(OnDead { r#type: "report".into() });
    })
    .await;
    let w = worker("w");
    for (payload, kept) in [
        (b"{\n\t\"a\" :\r\n 1}".as_slice(), Some(serde_json::json!({"a": 1}))),
        (b"{\"a\":\"x\ty\nz\r\"}", Some(serde_json::json!({"a": "x y z "}))),
        (b"{\"a\":\"\x7f\"}", Some(serde_json::json!({"a": "\u{7f}"}))),
        (b"{\"a\":\"\x01\"}", None),
        (b"{\"a\":\"\x1f\"}", None),
        (b"{\"a\":\"\x0b\x0c\"}", None),
        (b"{\"a\":1}\0{}", None),
        (b"{\"a\":\"\x08\"}", None),
        (b"{\"a\":\"\x0e\"}", None),
    ] {
        bed.dead(job("mail", payload)).await;
        let news = bed.claim(&w, &["slow"], 1).await.remove(0);
        let told: serde_json::Value = serde_json::from_slice(&news.payload).expect("JSON");
        assert_eq!(told.get("payload"), kept.as_ref(), "{payload:?}");
        bed.settle(&w, &news, success()).await;
    }
}
