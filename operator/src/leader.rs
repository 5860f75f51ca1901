//! Leader election by a Lease, after client-go's algorithm.
//!
//! Leadership is for economy, not for correctness: policies are fenced by their generation and `/scale` by a resource
//! version, so two leaders do no harm. A holder's lease is judged by how long *this* process has seen it
//! unchanged, on a monotonic clock: clocks of two nodes are never compared.
//!
//! ```text
//! standby ──free, or unchanged for 15 s──► leading ──not renewed for 10 s, or another holder──► lost (exit)
//!                                             └──shutdown──► released (the next takes over within 2 s)
//! ```

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::clock;
use crate::kubernetes::time::timestamp;

/// How long a lease is left alone after its last visible renewal.
const LEASE_DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for so long gives up, before anyone else may take over.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Time between looks and between renewals.
const PERIOD: Duration = Duration::from_secs(2);
/// Bound of one API call.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);

/// How leadership ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Another holds the lease, or it could not be renewed: stop at once.
    Lost,
    /// Asked to stop; the lease is free.
    Released,
}

/// What to do about the lease just read.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// There is none.
    Create,
    /// Free, or its holder is gone: `transitions` is the new count.
    Take { transitions: i32 },
    /// Ours.
    Renew,
    /// Another's, and alive as far as we know.
    Wait,
}

/// The lease as last seen to change.
#[derive(Debug, Default)]
struct Observed {
    holder: Option<String>,
    renewed: Option<MicroTime>,
    at: Option<Instant>,
}

impl Observed {
    /// Notes what was read; the instant moves only when the holder or the renewal time did.
    fn note(&mut self, spec: &LeaseSpec, now: Instant) {
        if self.at.is_none() || self.holder != spec.holder_identity || self.renewed != spec.renew_time {
            self.holder.clone_from(&spec.holder_identity);
            self.renewed.clone_from(&spec.renew_time);
            self.at = Some(now);
        }
    }
}

/// Decides on a lease. Pure.
fn step(identity: &str, spec: Option<&LeaseSpec>, observed: &Observed, now: Instant) -> Step {
    let Some(spec) = spec else { return Step::Create };
    let transitions = spec.lease_transitions.unwrap_or(0).saturating_add(1);
    match spec.holder_identity.as_deref() {
        None | Some("") => Step::Take { transitions },
        Some(holder) if holder == identity => Step::Renew,
        Some(_) => {
            let duration = spec
                .lease_duration_seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .map_or(LEASE_DURATION, Duration::from_secs);
            match observed.at {
                Some(at) if now.duration_since(at) >= duration => Step::Take { transitions },
                _ => Step::Wait,
            }
        }
    }
}

/// One candidate for one Lease.
pub struct Elector {
    leases: Api<Lease>,
    name: String,
    identity: String,
    observed: Observed,
    /// When the attempt began that made or kept it the holder: nobody else counts from an earlier instant.
    renewed: Instant,
}

impl Elector {
    /// A candidate named `identity` for the Lease `namespace/name`.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            observed: Observed::default(),
            renewed: Instant::now(),
        }
    }

    /// Waits until the lease is ours. False: asked to stop before.
    pub async fn acquire(&mut self, stop: &CancellationToken) -> bool {
        loop {
            match self.attempt().await {
                Ok(true) => {
                    info!(lease = self.name, identity = self.identity, "leading");
                    return true;
                }
                Ok(false) => debug!(lease = self.name, holder = ?self.observed.holder, "standing by"),
                Err(error) => warn!(lease = self.name, %error, "cannot read or write the lease"),
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                () = sleep(PERIOD) => {}
            }
        }
    }

    /// Keeps the lease until it is lost or `stop` is cancelled, and frees it in the second case.
    pub async fn hold(&mut self, stop: &CancellationToken) -> Ended {
        self.hold_at(PERIOD, RENEW_DEADLINE, stop).await
    }

    async fn hold_at(&mut self, period: Duration, deadline: Duration, stop: &CancellationToken) -> Ended {
        loop {
            let end = self.renewed + deadline;
            tokio::select! {
                () = stop.cancelled() => {
                    self.release().await;
                    return Ended::Released;
                }
                () = sleep_until(end.min(Instant::now() + period)) => {}
            }
            // The deadline holds during an attempt too: one that hangs must not lead on into another's lease.
            match timeout_at(end, self.attempt()).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => {
                    warn!(lease = self.name, holder = ?self.observed.holder, "another instance leads");
                    return Ended::Lost;
                }
                Ok(Err(error)) if Instant::now() < end => {
                    warn!(lease = self.name, %error, "cannot renew the lease");
                }
                Ok(Err(_)) | Err(_) => {
                    warn!(lease = self.name, "the lease was not renewed in time");
                    return Ended::Lost;
                }
            }
        }
    }

    /// One look and, where it is ours to take, one write. The write carries the resource version that was read.
    async fn attempt(&mut self) -> Result<bool, Error> {
        let began = Instant::now();
        let lease = bounded(self.leases.get_opt(&self.name)).await?;
        let spec = lease.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
        let now = Instant::now();
        if let Some(spec) = &spec {
            self.observed.note(spec, now);
        }
        let transitions = match step(&self.identity, spec.as_ref(), &self.observed, now) {
            Step::Wait => return Ok(false),
            Step::Create => 0,
            Step::Take { transitions } => transitions,
            Step::Renew => spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0),
        };
        let acquired = spec
            .as_ref()
            .filter(|spec| spec.holder_identity.as_deref() == Some(&self.identity))
            .and_then(|spec| spec.acquire_time.clone());
        let wanted = self.record(lease.as_ref(), transitions, acquired);
        let written = if lease.is_some() {
            bounded(self.leases.replace(&self.name, &PostParams::default(), &wanted)).await
        } else {
            bounded(self.leases.create(&PostParams::default(), &wanted)).await
        };
        match written {
            Ok(lease) => {
                self.observed.note(&lease.spec.unwrap_or_default(), Instant::now());
                self.renewed = began;
                Ok(true)
            }
            // Someone was quicker; the next look shows who.
            Err(Error::Api(error)) if is_conflict(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn record(&self, lease: Option<&Lease>, transitions: i32, acquired: Option<MicroTime>) -> Lease {
        let now = MicroTime(timestamp(clock::wall_ms()));
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: lease.and_then(|lease| lease.metadata.resource_version.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
                acquire_time: acquired.or_else(|| Some(now.clone())),
                renew_time: Some(now),
                lease_transitions: Some(transitions),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Frees the lease if it is still ours, so that another instance need not wait for its end.
    async fn release(&self) {
        let released = async {
            let Some(mut lease) = bounded(self.leases.get_opt(&self.name)).await? else { return Ok(()) };
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() != Some(&self.identity) {
                return Ok(());
            }
            spec.holder_identity = None;
            spec.acquire_time = None;
            spec.renew_time = None;
            lease.metadata.managed_fields = None;
            bounded(self.leases.replace(&self.name, &PostParams::default(), &lease)).await.map(|_| ())
        };
        match released.await {
            Ok::<(), Error>(()) => info!(lease = self.name, "released"),
            Err(error) => warn!(lease = self.name, %error, "cannot release the lease; it runs out by itself"),
        }
    }
}

/// Why a look at the lease failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("no answer within {CALL_TIMEOUT:?}")]
    Timeout,
}

async fn bounded<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    timeout(CALL_TIMEOUT, call).await.map_err(|_| Error::Timeout)?.map_err(Error::Api)
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            renew_time: Some(MicroTime(timestamp(clock::wall_ms()))),
            lease_transitions: Some(3),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_live_holder_is_left_alone_until_its_lease_stood_still_for_its_duration() {
        let (spec, mut observed, start) = (held_by("a"), Observed::default(), Instant::now());
        observed.note(&spec, start);
        assert_eq!(step("b", Some(&spec), &observed, start), Step::Wait);
        for (seconds, expected) in [(14, Step::Wait), (15, Step::Take { transitions: 4 })] {
            let now = start + Duration::from_secs(seconds);
            observed.note(&spec, now);
            assert_eq!(step("b", Some(&spec), &observed, now), expected);
        }
    }

    #[test]
    fn a_renewal_starts_the_wait_again() {
        let (mut observed, start) = (Observed::default(), Instant::now());
        observed.note(&held_by("a"), start);
        let renewed = LeaseSpec { renew_time: None, ..held_by("a") };
        observed.note(&renewed, start + Duration::from_secs(14));
        assert_eq!(step("b", Some(&renewed), &observed, start + Duration::from_secs(28)), Step::Wait);
    }

    #[test]
    fn a_free_lease_is_taken_and_our_own_is_renewed() {
        let observed = Observed::default();
        let free = LeaseSpec { holder_identity: None, ..held_by("a") };
        assert_eq!(step("b", None, &observed, Instant::now()), Step::Create);
        assert_eq!(step("b", Some(&free), &observed, Instant::now()), Step::Take { transitions: 4 });
        assert_eq!(step("a", Some(&held_by("a")), &observed, Instant::now()), Step::Renew);
    }

    #[tokio::test]
    async fn an_attempt_that_hangs_does_not_outlast_the_deadline() {
        // It takes connections and never answers.
        let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap()).parse().unwrap();
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::try_from(kube::Config::new(url)).unwrap();
        let mut elector = Elector::new(client, "apps", "lease", "a");
        let (period, deadline) = (Duration::from_millis(20), Duration::from_millis(200));
        let ended = elector.hold_at(period, deadline, &CancellationToken::new()).await;
        assert_eq!(ended, Ended::Lost);
        let late = elector.renewed.elapsed().saturating_sub(deadline);
        assert!(late < CALL_TIMEOUT / 2, "{late:?} late");
    }
}
