//! The `http` handler against a real server.

use std::time::Duration;

use crate::common::{context, serve};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use lanekeeper_api::policy::{HttpHandler as Policy, SecretKey};
use lanekeeper_queue::types::ErrorClass;
use lanekeeper_worker::handler::http::{Client, HttpHandler};
use lanekeeper_worker::handler::{Answer, Cause, Failure, Handler, JobContext, MAX_TEXT, code};

fn policy(url: String) -> Policy {
    Policy::to(url)
}

async fn run(url: String, job: &JobContext) -> Result<Answer, Failure> {
    HttpHandler::new(Client::new().unwrap(), policy(url), "/nonexistent".as_ref()).run(job).await
}

#[tokio::test]
async fn a_2xx_is_a_success_and_its_body_the_answer() {
    let echo = |body: Bytes| async move { (StatusCode::CREATED, body) };
    let server = serve(Router::new().route("/jobs", post(echo))).await;
    let job = context(b"\x00\xffpayload", 5);
    let answer = run(format!("http://{server}/jobs"), &job).await.unwrap();
    assert_eq!(answer.result, b"\x00\xffpayload");
}

#[tokio::test]
async fn an_answer_beyond_64_kib_is_left_out_and_the_success_stands() {
    let big = |_: Bytes| async { "x".repeat(MAX_TEXT + 1) };
    let fits = |_: Bytes| async { "x".repeat(MAX_TEXT) };
    let server = serve(Router::new().route("/big", post(big)).route("/fits", post(fits))).await;
    let job = context(b"", 5);
    assert_eq!(run(format!("http://{server}/big"), &job).await.unwrap().result.len(), 0);
    assert_eq!(run(format!("http://{server}/fits"), &job).await.unwrap().result.len(), MAX_TEXT);
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let endless = |_: Bytes| async {
        let chunks =
            futures::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 8192])));
        Body::from_stream(chunks)
    };
    let server = serve(Router::new().route("/", post(endless))).await;
    assert_eq!(run(format!("http://{server}/"), &context(b"", 30)).await.unwrap().result.len(), 0);
}

#[tokio::test]
async fn statuses_decide_and_bodies_explain() {
    let answer = |headers: HeaderMap, _: Bytes| async move {
        let status = headers["lanekeeper-type"].to_str().unwrap().parse::<u16>().unwrap();
        (StatusCode::from_u16(status).unwrap(), [("retry-after", "120")], "because")
    };
    let server = serve(Router::new().route("/", post(answer))).await;
    let ask = async |status: &str| {
        let mut job = context(b"", 5);
        job.job.job_type = status.to_owned();
        run(format!("http://{server}/"), &job).await.unwrap_err()
    };
    let failure = ask("422").await;
    assert!(matches!(&failure, Failure::Permanent { .. }));
    assert!(failure.error().message.ends_with("422 Unprocessable Entity\nbecause"), "{failure:?}");
    assert!(matches!(ask("500").await, Failure::Retry { retry_after: None, .. }));
    assert!(matches!(ask("408").await, Failure::Retry { retry_after: None, .. }));
    let held = Some(Duration::from_secs(120));
    assert!(matches!(ask("429").await, Failure::Retry { retry_after, .. } if retry_after == held));
    assert!(matches!(ask("503").await, Failure::Retry { retry_after, .. } if retry_after == held));
}

#[tokio::test]
async fn a_redirect_is_permanent_and_not_followed() {
    let server = serve(
        Router::new()
            .route("/", post(|| async { (StatusCode::TEMPORARY_REDIRECT, [("location", "/elsewhere")]) }))
            .route("/elsewhere", post(|| async { "followed" })),
    )
    .await;
    let failure = run(format!("http://{server}/"), &context(b"", 5)).await.unwrap_err();
    assert!(
        matches!(&failure, Failure::Permanent { error } if error.code == code::HTTP_REDIRECT),
        "{failure:?}"
    );
}

#[tokio::test]
async fn a_refused_connection_is_transient_and_names_the_host() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failure = run(format!("http://user:secret@{free}/"), &context(b"", 5)).await.unwrap_err();
    let error = failure.error();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Transient, code::HTTP_CONNECT));
    assert!(
        error.message.contains(&free.to_string()) && !error.message.contains("secret"),
        "{}",
        error.message
    );
}

#[tokio::test]
async fn a_receiver_that_hangs_up_after_the_request_leaves_it_ambiguous() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::AsyncReadExt as _;
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 64];
        let _ = socket.read(&mut buffer).await;
    });
    let failure = run(format!("http://{server}/"), &context(b"payload", 5)).await.unwrap_err();
    let error = failure.error();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Ambiguous, code::HTTP_BROKEN), "{error:?}");
}

#[tokio::test]
async fn a_timeout_after_the_request_was_sent_is_ambiguous() {
    let never = |_: Bytes| async { std::future::pending::<()>().await };
    let server = serve(Router::new().route("/", post(never))).await;
    let job = context(b"", 1);
    let ask = run(format!("http://{server}/"), &job);
    tokio::pin!(ask);
    let outcome = tokio::select! {
        outcome = &mut ask => outcome,
        () = tokio::time::sleep_until(job.deadline().into()) => { job.stop.request(Cause::Timeout); ask.await }
    };
    let failure = outcome.unwrap_err();
    assert_eq!(
        (failure.error().class, failure.error().code.as_str()),
        (ErrorClass::Ambiguous, code::TIMEOUT)
    );
}

#[tokio::test]
async fn a_signed_request_verifies_and_a_missing_secret_is_transient() {
    let echo = |headers: HeaderMap, _: Bytes| async move {
        let get = |name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
        format!("{} {} {}", get("webhook-id"), get("webhook-timestamp"), get("webhook-signature"))
    };
    let server = serve(Router::new().route("/", post(echo))).await;
    let secrets = tempfile::tempdir().unwrap();
    let signed = Policy {
        signing: Some(SecretKey { name: "mailer".into(), key: "hmac".into() }),
        ..policy(format!("http://{server}/"))
    };
    let job = context(b"{}", 5);
    let handler = HttpHandler::new(Client::new().unwrap(), signed, secrets.path());
    let failure = handler.run(&job).await.unwrap_err();
    assert_eq!(
        (failure.error().class, failure.error().code.as_str()),
        (ErrorClass::Transient, code::SECRET_MISSING)
    );

    std::fs::create_dir(secrets.path().join("mailer")).unwrap();
    std::fs::write(secrets.path().join("mailer/hmac"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    let answer = String::from_utf8(handler.run(&job).await.unwrap().result).unwrap();
    let (id, timestamp, signature) = {
        let mut parts = answer.split(' ');
        (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap())
    };
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let key = ring::hmac::Key::new(
        ring::hmac::HMAC_SHA256,
        &base64.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap(),
    );
    let mac = base64.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
    ring::hmac::verify(&key, format!("{id}.{timestamp}.{{}}").as_bytes(), &mac).unwrap();
    assert_eq!(id, job.job.id);
}

#[tokio::test]
async fn connections_are_kept_alive() {
    use axum::extract::ConnectInfo;
    use std::net::SocketAddr;
    let peer = |ConnectInfo(peer): ConnectInfo<SocketAddr>, _: Bytes| async move { peer.port().to_string() };
    let server = serve(Router::new().route("/", post(peer))).await;
    let handler = HttpHandler::new(
        Client::new().unwrap(),
        policy(format!("http://{server}/")),
        "/nonexistent".as_ref(),
    );
    let job = context(b"", 5);
    let first = handler.run(&job).await.unwrap();
    assert_eq!(handler.run(&job).await.unwrap(), first);
}
