//! Serves endpoints until it is told to stop, and then finishes what it has begun.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::app::{App, Part};
use crate::files::write_whole;
use crate::store::Error;

/// How long requests that have begun may still take after the order to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The port file cannot be written.
    #[error(transparent)]
    PortFile(#[from] Error),
    /// The listener broke.
    #[error("serving: {0}")]
    Serve(#[from] std::io::Error),
}

/// Serves these endpoints until `stop`. With port 0 the system picks one; `port_file` then tells which.
///
/// # Errors
/// [`Failure`].
pub async fn serve(
    app: App,
    parts: &[Part],
    address: SocketAddr,
    port_file: Option<&Path>,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let listener = TcpListener::bind(address).await.map_err(|source| Failure::Listen { address, source })?;
    let bound = listener.local_addr()?;
    if let Some(path) = port_file {
        write_whole(path, bound.port().to_string().as_bytes())?;
    }
    tracing::info!(address = %bound, "listening");
    let told = stop.clone();
    let serving = axum::serve(listener, app.router(parts))
        .with_graceful_shutdown(async move { told.cancelled().await })
        .into_future();
    tokio::select! {
        done = serving => done?,
        // A request that hangs must not keep the process; it is answered to nobody and tried again elsewhere.
        () = async { stop.cancelled().await; tokio::time::sleep(GRACE).await } => {
            tracing::warn!("requests were still open after {GRACE:?}");
        }
    }
    Ok(())
}
