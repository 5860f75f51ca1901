//! The parts put together: settings, shared state, routes.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::answer::Refusal;
use crate::customer::{self, Throttle};
use crate::faults::Faults;
use crate::files::Files;
use crate::signature::Secret;
use crate::store::{Error, Store};
use crate::{analytics, mailer, notices, stripe, thumbnail};

/// One endpoint, which may be served alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `POST /mailer` and `POST /notices`.
    Mailer,
    /// `POST /customer`.
    Customer,
    /// `POST /stripe`.
    Stripe,
    /// `POST /thumbnails`.
    Thumbnail,
    /// `POST /analytics`.
    Analytics,
}

impl Part {
    /// Every endpoint.
    pub const ALL: [Self; 5] = [Self::Mailer, Self::Customer, Self::Stripe, Self::Thumbnail, Self::Analytics];
}

/// What the application can be told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folder of the database and the files.
    pub data: PathBuf,
    /// Which events fail at first.
    pub faults: Faults,
    /// Secret that customers' webhooks are signed with; absent: signatures are not looked at.
    pub webhook_secret: Option<Secret>,
    /// How slow a customer may be at most, ms; 0 answers at once.
    pub slowest_ms: u64,
    /// Requests a second that one customer takes before it throttles.
    pub customer_rate: u32,
}

/// State shared by the endpoints.
#[derive(Debug, Clone)]
pub struct App {
    /// The database.
    pub store: Store,
    /// The files.
    pub files: Files,
    /// Which events fail at first.
    pub faults: Faults,
    /// Secret that customers' webhooks are signed with.
    pub webhook_secret: Option<Secret>,
    /// How slow a customer may be at most, ms.
    pub slowest_ms: u64,
    /// What customers have taken lately.
    pub throttle: Arc<Throttle>,
    /// Scaling is CPU-bound: more at once than there are cores only makes each of them slower.
    pub cores: Arc<Semaphore>,
}

impl App {
    /// Opens the data folder and the database.
    ///
    /// # Errors
    /// When either cannot be opened.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        let files = Files::open(&settings.data)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            store: Store::open(&files.database())?,
            files,
            faults: settings.faults,
            webhook_secret: settings.webhook_secret,
            slowest_ms: settings.slowest_ms,
            throttle: Arc::new(Throttle::new(settings.customer_rate)),
            cores: Arc::new(Semaphore::new(cores)),
        })
    }

    /// The routes of these endpoints, with `/healthz` and `/effects`.
    pub fn router(self, parts: &[Part]) -> Router {
        let base = Router::new().route("/healthz", get(|| async { "ok\n" })).route("/effects", get(effects));
        let all = parts.iter().fold(base, |router, part| match part {
            Part::Mailer => router.merge(mailer::routes()).merge(notices::routes()),
            Part::Customer => router.merge(customer::routes()),
            Part::Stripe => router.merge(stripe::routes()),
            Part::Thumbnail => router.merge(thumbnail::routes()),
            Part::Analytics => router.merge(analytics::routes()),
        });
        all.layer(DefaultBodyLimit::max(1024 * 1024)).with_state(self)
    }
}

/// How much the handlers have done, for tests and for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Effects {
    /// Mails handed to the relay.
    pub mails_sent: u64,
    /// Idempotency keys under which they were sent: the same number, or a mail went out twice.
    pub mail_keys: u64,
    /// Webhooks that customers took.
    pub webhooks_delivered: u64,
    /// Stripe events booked.
    pub stripe_events: u64,
    /// Analytics batches added up.
    pub analytics_batches: u64,
    /// Thumbnails on disk.
    pub thumbnails: u64,
    /// Reports on disk.
    pub reports: u64,
}

impl Effects {
    /// Counts them.
    ///
    /// # Errors
    /// When the database or a folder cannot be read.
    pub fn count(store: &Store, files: &Files) -> Result<Self, Error> {
        Ok(Self {
            mails_sent: store.number("SELECT count(*) FROM outbox")?,
            mail_keys: store.number("SELECT count(*) FROM mails")?,
            webhooks_delivered: store.number("SELECT count(*) FROM deliveries")?,
            stripe_events: store.number("SELECT count(*) FROM stripe_events")?,
            analytics_batches: store.number("SELECT count(*) FROM analytics_batches")?,
            thumbnails: files.count("thumbnails")?,
            reports: files.count("reports")?,
        })
    }
}

async fn effects(State(app): State<App>) -> Result<Json<Effects>, Refusal> {
    let counted = tokio::task::spawn_blocking(move || Effects::count(&app.store, &app.files)).await;
    Ok(Json(counted.map_err(Error::from)??))
}
