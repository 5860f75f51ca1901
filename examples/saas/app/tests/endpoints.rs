//! The endpoints' contract, over a real socket.

mod common;

use common::Site;
use saas_app::app::{Effects, Part};

const MAIL: &str = r#"{"userId":7,"templateId":"receipt","eventId":"e1","to":"a@example.test","vars":{"name":"A","number":"R-1","amount":"1.00 EUR"}}"#;

#[tokio::test]
async fn a_mail_goes_out_once_however_often_and_however_concurrently_it_is_asked_for() {
    let site = Site::start().await;
    let asked = (0..40).map(|_| site.post("/mailer", &[("idempotency-key", "email:7:receipt:e1")], MAIL));
    let answers: Vec<_> = common::all(asked).await;
    let first = &answers[0].body;
    assert!(answers.iter().all(|answer| answer.status == 200 && &answer.body == first), "{answers:?}");
    let fresh = answers.iter().filter(|answer| answer.header("idempotent-replayed").is_none()).count();
    assert_eq!(fresh, 1, "one request sent it, the others were answered from the database");
    let effects = site.effects().await;
    assert_eq!((effects.mails_sent, effects.mail_keys), (1, 1));
}

#[tokio::test]
async fn what_was_sent_is_remembered_across_a_restart() {
    let site = Site::start().await;
    let first = site.post("/mailer", &[("idempotency-key", "k")], MAIL).await;
    let site = site.restart().await;
    let second = site.post("/mailer", &[("idempotency-key", "k")], MAIL).await;
    assert_eq!((second.status, second.body), (200, first.body));
    assert_eq!(site.effects().await.mails_sent, 1);
}

#[tokio::test]
async fn mails_that_cannot_be_sent_are_permanent_and_leave_nothing() {
    let site = Site::start().await;
    let key = [("idempotency-key", "k")];
    for body in [
        "",
        "{",
        "{}",
        &MAIL.replace("receipt", "spring-sale-2019"),
        &MAIL.replace("a@example.test", "nobody"),
    ] {
        let answer = site.post("/mailer", &key, body).await;
        assert_eq!(answer.status, 422, "{body}");
        assert!(answer.body.contains("error"), "{}", answer.body);
    }
    assert_eq!(site.post("/mailer", &[], MAIL).await.status, 422, "without a key nothing may be sent");
    site.post("/mailer", &key, MAIL).await;
    let other = MAIL.replace("R-1", "R-2");
    assert_eq!(site.post("/mailer", &key, &other).await.status, 422, "a key stands for one payload");
    assert_eq!(site.effects().await.mails_sent, 1);
}

#[tokio::test]
async fn a_webhook_is_taken_only_with_a_signature_that_holds() {
    let site = Site::start().await;
    let hook = r#"{"eventId":"h1","customerId":"cust-9","type":"invoice.paid"}"#;
    assert_eq!(site.post("/customer", &[], hook).await.status, 401);
    let headers = site.signed("h1", hook);
    let tampered = hook.replace("paid", "void");
    assert_eq!(site.post("/customer", &common::pairs(&headers), &tampered).await.status, 401);
    assert_eq!(site.post("/customer", &common::pairs(&headers), hook).await.status, 200);
    let again = site.post("/customer", &common::pairs(&headers), hook).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(site.effects().await.webhooks_delivered, 1);
}

#[tokio::test]
async fn customers_throttle_and_some_are_gone_until_they_return() {
    let site = Site::start().await;
    let mut statuses = Vec::new();
    for n in 0..20 {
        statuses.push(site.hook(&format!("b{n}"), "cust-1").await);
    }
    let throttled: Vec<_> = statuses.iter().filter(|answer| answer.status == 429).collect();
    assert!(!throttled.is_empty(), "20 requests at once are more than the rate of 5");
    assert!(throttled.iter().all(|answer| answer.header("retry-after") == Some("1")), "{throttled:?}");

    assert_eq!(site.hook("g1", "cust-410").await.status, 410);
    site.app.store.write(|tx| saas_app::customer::reopen(tx, "cust-410")).unwrap();
    assert_eq!(site.hook("g1", "cust-410").await.status, 200);
    let site = site.restart().await;
    assert_eq!(site.hook("g2", "cust-410").await.status, 200, "a restart does not close it again");
}

#[tokio::test]
async fn failing_events_succeed_after_the_planned_number_of_tries_and_are_booked_once() {
    let site = Site::start_failing(1.0).await;
    let mut failed_once = false;
    for n in 0..20 {
        let event = format!(
            r#"{{"eventId":"evt_{n}","type":"charge.succeeded","customerId":"cust-1","amountCents":100}}"#
        );
        let planned = site.app.faults.planned("stripe", &format!("evt_{n}"));
        for _ in 0..planned {
            failed_once = true;
            assert_eq!(site.post("/stripe", &[], &event).await.status, 500);
        }
        assert_eq!(site.post("/stripe", &[], &event).await.status, 200);
        assert_eq!(site.post("/stripe", &[], &event).await.status, 200);
    }
    assert!(failed_once);
    assert_eq!(site.effects().await.stripe_events, 20);
    let balance = site.app.store.number("SELECT cents FROM balances WHERE customer_id = 'cust-1'").unwrap();
    assert_eq!(balance, 2_000, "each event was booked once");
}

#[tokio::test]
async fn a_batch_is_added_up_once_and_a_bad_one_is_permanent() {
    let site = Site::start().await;
    let batch = r#"{"batchTimestamp":"2026-03-01T08:15:00Z","events":{"login":40,"signup":2}}"#;
    common::all((0..10).map(|_| site.post("/analytics", &[], batch))).await;
    assert_eq!(site.app.store.number("SELECT sum(total) FROM analytics_totals").unwrap(), 42);
    for bad in [r#"{"batchTimestamp":"yesterday","events":{}}"#, r#"{"events":{"login":-1}}"#] {
        assert_eq!(site.post("/analytics", &[], bad).await.status, 422);
    }
}

#[tokio::test]
async fn a_thumbnail_is_scaled_on_request() {
    let site = Site::start().await;
    let answer = site.post("/thumbnails", &[], r#"{"imageId":"img-1","size":96}"#).await;
    assert_eq!(answer.status, 200);
    let image = image::open(site.app.files.thumbnail("img-1", 96)).unwrap();
    assert_eq!((image.width(), image.height()), (96, 64));
    assert_eq!(site.post("/thumbnails", &[], r#"{"imageId":"../x","size":96}"#).await.status, 422);
    assert_eq!(site.effects().await.thumbnails, 1);
}

#[tokio::test]
async fn an_endpoint_served_alone_has_no_others() {
    let site = Site::start_parts(&[Part::Mailer]).await;
    assert_eq!(site.get("/healthz").await.status, 200);
    assert_eq!(site.post("/stripe", &[], "{}").await.status, 404);
    assert_eq!(site.effects().await, Effects::default());
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_server_stops() {
    let site = Site::start_slow(400).await;
    let event =
        (0..).map(|n| format!("s{n}")).find(|id| saas_app::customer::takes_ms(1, id, 400) >= 200).unwrap();
    let slow = site.hook(&event, "cust-2");
    tokio::pin!(slow);
    // Begun means that the request is on its way; the stop comes while the customer is still thinking.
    let began = tokio::time::timeout(std::time::Duration::from_millis(100), &mut slow).await;
    assert!(began.is_err(), "the customer takes at least 200 ms");
    site.stop.cancel();
    assert_eq!(slow.await.status, 200);
}
