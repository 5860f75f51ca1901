//! The database: one SQLite file, shared by the endpoints and read by `verify`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::{analytics, customer, faults, mailer, stripe};

/// Errors of the database and the files beside it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite refused.
    #[error("database: {0}")]
    Database(#[from] rusqlite::Error),
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The thread that did the work ended early.
    #[error("the work was cut off: {0}")]
    CutOff(#[from] tokio::task::JoinError),
}

impl Error {
    /// Adds the path to an I/O error.
    pub fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}

/// The open database.
#[derive(Debug, Clone)]
pub struct Store {
    conn: Arc<Mutex<Connection>>,
}

impl Store {
    /// Opens the database file, creating it with its tables where it is missing.
    ///
    /// # Errors
    /// When the file cannot be opened or holds something else.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let conn = Connection::open(path)?;
        conn.busy_timeout(Duration::from_secs(10))?;
        // Readers of other processes do not block writers; a power cut loses no answered request.
        conn.pragma_update(None, "journal_mode", "WAL")?;
        conn.pragma_update(None, "synchronous", "FULL")?;
        for schema in [mailer::SCHEMA, customer::SCHEMA, stripe::SCHEMA, analytics::SCHEMA, faults::SCHEMA] {
            conn.execute_batch(schema)?;
        }
        customer::seed(&conn)?;
        Ok(Self { conn: Arc::new(Mutex::new(conn)) })
    }

    /// Runs `work` in a transaction on this thread; committed when it answers `Ok`.
    ///
    /// # Errors
    /// What `work` answered, or SQLite's word on the commit.
    pub fn write<R, E: From<Error>>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut conn = self.conn.lock().unwrap_or_else(PoisonError::into_inner);
        // Immediate: two writers that both read first would otherwise meet in a deadlock.
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(Error::from)?;
        let done = work(&tx)?;
        tx.commit().map_err(Error::from)?;
        Ok(done)
    }

    /// [`Store::write`] on a thread that may block.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub async fn write_async<R, E>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<R, E> + Send + 'static,
    ) -> Result<R, E>
    where
        R: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let store = self.clone();
        tokio::task::spawn_blocking(move || store.write(work)).await.map_err(Error::from)?
    }

    /// The number that a query without parameters answers.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn number(&self, sql: &str) -> Result<u64, Error> {
        self.write(|tx| {
            Ok(tx.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(Error::from)?.unsigned_abs())
        })
    }
}
