//! `verify` sees what is missing, doubled, broken, or there although it must not be.

#![allow(clippy::unwrap_used, reason = "a helper that fails must fail the test")]

mod common;

use common::Site;
use saas_app::traffic::ledger::{Entry, Outcome};
use saas_app::traffic::plan::{Intent, Options, plan};
use saas_app::verify::{Fate, Findings, holds, verify};

fn ledger() -> Vec<Entry> {
    let jobs = plan(&Options { seed: 5, run: "v".into(), seconds: 0, rate: 0 });
    let accepted = jobs.into_iter().filter(|job| matches!(job.intent, Intent::Work | Intent::Poison));
    let entry = |(number, job): (usize, saas_app::traffic::plan::Planned)| Entry {
        outcome: Outcome::Accepted,
        id: Some(format!("v-{number}")),
        job_type: job.job_type.into(),
        intent: job.intent,
        reason: None,
        payload: job.payload,
    };
    accepted.enumerate().map(entry).collect()
}

/// Does every job once, as the workers would.
async fn work(site: &Site, ledger: &[Entry]) {
    for entry in ledger {
        let text = |field: &str| entry.payload[field].as_str().unwrap_or_default();
        let body = entry.payload.to_string();
        let status = match entry.job_type.as_str() {
            "webhook-delivery" => site.hook(text("eventId"), text("customerId")).await.status,
            "stripe-event" => site.post("/stripe", &[], &body).await.status,
            "analytics-sync" => site.post("/analytics", &[], &body).await.status,
            "image-thumbnail" => site.post("/thumbnails", &[], &body).await.status,
            "pdf-report" => {
                let request = serde_json::from_value(entry.payload.clone()).unwrap();
                saas_app::report::write(&site.app.files, &request).map_or(500, |_| 200)
            }
            _ => {
                let key =
                    format!("email:{}:{}:{}", entry.payload["userId"], text("templateId"), text("eventId"));
                site.post("/mailer", &[("idempotency-key", &key)], &body).await.status
            }
        };
        let expected = if entry.intent == Intent::Work { 200..300 } else { 400..500 };
        assert!(expected.contains(&status), "{status} for {entry:?}");
    }
}

fn check(site: &Site, ledger: &[Entry]) -> Findings {
    verify(ledger, &Fate::Supposed, &site.app.store, &site.app.files).unwrap()
}

#[tokio::test]
async fn what_was_done_once_holds_and_each_kind_of_damage_is_found() {
    let site = Site::start_patient().await;
    let ledger = ledger();
    assert!(!holds(&check(&site, &ledger)), "nothing is done yet");
    work(&site, &ledger).await;
    let findings = check(&site, &ledger);
    assert!(holds(&findings), "{findings:#?}");
    assert!(findings.values().all(|found| found.right == found.done && found.done > 0), "{findings:#?}");

    let wrong = |name: &str| check(&site, &ledger).remove(name).unwrap().wrong.len();
    let run = |sql: &'static str| {
        site.app.store.write(|tx| tx.execute(sql, []).map_err(saas_app::store::Error::from)).unwrap()
    };
    assert_eq!(wrong("books"), 0);
    run(
        "INSERT INTO outbox (key, recipient, subject, body, sent_ms) SELECT key, recipient, subject, body, 0 FROM outbox WHERE key LIKE '%:receipt:%' LIMIT 1",
    );
    assert_eq!(wrong("receipt-email"), 1, "a mail that went out twice");
    assert_eq!(wrong("books"), 1);
    run("DELETE FROM deliveries WHERE event_id = (SELECT event_id FROM deliveries LIMIT 1)");
    assert_eq!(wrong("webhook-delivery"), 1, "a webhook that nobody received");
    run(
        "UPDATE analytics_batches SET events = events + 1 WHERE batch_timestamp = (SELECT batch_timestamp FROM analytics_batches LIMIT 1)",
    );
    assert_eq!(wrong("analytics-sync"), 1, "a batch that was added up wrongly");

    let of = |name: &str| ledger.iter().find(|entry| entry.job_type == name).unwrap().payload.clone();
    let thumbnail = of("image-thumbnail");
    let path = site.app.files.thumbnail(
        thumbnail["imageId"].as_str().unwrap(),
        u32::try_from(thumbnail["size"].as_u64().unwrap()).unwrap(),
    );
    image::RgbImage::new(7, 7).save(&path).unwrap();
    assert_eq!(wrong("image-thumbnail"), 1, "a thumbnail of the wrong size");
    let report = of("pdf-report");
    let path =
        site.app.files.report(report["customerId"].as_str().unwrap(), report["period"].as_str().unwrap());
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(wrong("pdf-report"), 1, "a report cut short");
}
