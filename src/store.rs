//! Durable state that is not content, in one SQLite database in WAL mode.
//!
//! It has four parts, and no statement reads tables of two of them. [`FactStore`] holds what repositories said and
//! delivered, and evidence: facts that several gates could share. [`NodeStore`] holds what is on this node's disk.
//! [`VerdictStore`] holds what this gate decided. [`ExemptionStore`] holds what commands have exempted.
//!
//! Rows are written after the content that they name, so a crash leaves content without rows and never rows without
//! content. Nothing here is asked on the hot path: callers keep bounded caches in front.

mod attached;
mod bases;
mod contents;
mod database;
mod evidence;
mod exemptions;
mod facts;
mod file_health;
mod forget;
mod journal;
mod memo;
mod new_facts;
mod node;
mod notary;
mod pins;
mod readers;
mod reserve;
mod state_dir;
mod tags;
mod verdicts;
mod writer;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use sqlx::migrate::MigrateError;

pub use attached::AttachedList;
pub use contents::{ListedContent, NamedContent};
use database::Database;
pub use database::check_schema;
pub use exemptions::ExemptionStore;
pub use facts::FactStore;
pub use file_health::{check_pages, lost_content};
pub use memo::{Evidence, Memo};
pub use new_facts::NewFacts;
pub use node::{NewContent, NodeStore, StoredContent};
pub use notary::{NotaryRecord, NotaryRole, StoredRoot, stored_notary_roots};
pub use pins::PinnedImage;
use readers::READ_TIMEOUT;
pub use reserve::has_room;
pub use state_dir::{StateDir, StateDirError};
pub use tags::{KnownImage, StoredTag, TagPosition};
pub use verdicts::{
    AdmittedPull, ImageTimes, IssueTimes, NewEvent, NewIssueTimes, PullingClient, QueuedEvent, Rejudged,
    RepositoryNoting, RequestedImage, StoredDecision, StoredVerdict, VerdictBasis, VerdictFilter, VerdictList,
    VerdictOutcome, VerdictPage, VerdictStore,
};
use writer::Writer;

use crate::oci::Digest;
use crate::runtime::{Epoch, Readiness, Tasks};

/// The name of the database in the state directory.
const DATABASE: &str = "pullgate.db";

/// The database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    /// Facts that several gates could share.
    pub facts: FactStore,
    /// What is on this node's disk.
    pub node: NodeStore,
    /// What this gate decided.
    pub verdicts: VerdictStore,
    /// Exemptions that were added by commands.
    pub exemptions: ExemptionStore,
    rows: Writer,
    database: Database,
    /// The state directory.
    state: PathBuf,
}

impl Store {
    /// Opens the database `pullgate.db` in the state directory and brings it to this version's schema.
    ///
    /// # Errors
    /// When the file is damaged, cannot be written, or was written by a newer version.
    pub async fn open(state: &Path) -> Result<Self, StoreError> {
        let path = state.join(DATABASE);
        let database = match Database::open(&path).await {
            Err(error @ (StoreError::Open { .. } | StoreError::Migrate { .. })) if reserve::give_up(state) => {
                tracing::warn!(%error, "using the disk space reserved for starting on a full disk");
                let again = Database::open(&path).await;
                if again.is_err() {
                    // The version that has closed the database may be started again.
                    reserve::keep(state);
                }
                again?
            }
            opened => opened?,
        };
        let state = state.to_owned();
        reserve::keep(&state);
        let rows = Writer::new(database.clone());
        let facts = FactStore::new(database.clone(), rows.clone());
        let node = NodeStore::new(database.clone(), rows.clone());
        let (verdicts, exemptions) = (VerdictStore::new(database.clone()), ExemptionStore::new(database.clone()));
        Ok(Self { facts, node, verdicts, exemptions, rows, database, state })
    }

    /// The same store, which moves this epoch on whenever it forgets facts.
    #[must_use]
    pub fn with_epoch(self, epoch: Epoch) -> Self {
        Self { facts: self.facts.with_epoch(epoch), ..self }
    }

    /// From now on, a read that the disk does not answer fails after ten seconds, and `/readyz` says so; it also says if
    /// the file is damaged. Reads that go through whole tables, such as those of maintenance and of `cache status`, take
    /// as long as they take.
    pub fn limit_reads(&self, readiness: &Readiness) {
        self.database.readers.limit(readiness.clone());
        self.database.health.report_to(readiness.clone());
    }

    /// The bytes that all rows take in the database file. Reads only its header.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn live_bytes(&self) -> Result<u64, StoreError> {
        self.database.live_bytes().await
    }

    /// Gives free pages back to the file system. Returns by how many bytes the file became smaller.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn shrink(&self) -> Result<u64, StoreError> {
        self.database.shrink().await
    }

    /// Refuses every write, as a full or read-only disk does. For tests.
    #[cfg(test)]
    pub(crate) async fn forbid_writing(&self, forbid: bool) {
        let sql = if forbid { "PRAGMA query_only = ON" } else { "PRAGMA query_only = OFF" };
        sqlx::query(sql).execute(&self.database.writer).await.expect("a pragma");
    }

    /// Keeps every write waiting for as long as the returned connection lives. For tests.
    #[cfg(test)]
    pub(crate) async fn hold_writes(&self) -> sqlx::pool::PoolConnection<sqlx::Sqlite> {
        self.database.writer.acquire().await.expect("a connection")
    }

    /// Writes what requests left behind, and closes the database, so that its journal is folded in.
    pub async fn close(&self) {
        self.rows.flush().await;
        self.database.close().await;
        // A disk that hangs must not hold up a thread of the caller.
        let state = self.state.clone();
        if let Err(error) = Tasks::new().spawn_blocking(move || reserve::keep(&state)).await {
            tracing::debug!(%error, "no space is reserved for a start on a full disk");
        }
    }
}

fn digest_of(text: &str) -> Result<Digest, StoreError> {
    text.parse().map_err(|_| StoreError::Row("an invalid digest"))
}

fn time_of(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MIN)
}

/// Rows as a JSON array, for statements that read many of them by `json_each`.
fn json<T: Serialize + ?Sized>(rows: &T) -> String {
    // Names, digests, numbers and text: nothing that JSON could refuse.
    serde_json::to_string(rows).unwrap_or_default()
}

/// Hashes as a JSON array of hexadecimal texts, for statements that read them by `unhex`.
fn hashes(digests: &[Digest]) -> String {
    json(&digests.iter().map(Digest::hex).collect::<Vec<_>>())
}

/// Why durable state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file holds what this program does not write.
    #[error(
        "{path}: the database is damaged: {why}; stop the gate, and put a copy in its place, or move it away together with its -wal and -shm files: exemptions, pins, imported tags, the remembered notary roots and the times at which issues were first seen are lost with it; everything else can be fetched again"
    )]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Migration failed.
    #[error("{path}: the database cannot be migrated to this version's schema: {error}")]
    Migrate {
        /// The database file.
        path: PathBuf,
        /// What failed.
        error: MigrateError,
    },
    /// A newer pullgate wrote it.
    #[error(
        "{path}: the database was written by a newer pullgate (schema {version}); run that version, or give this one its own `state_dir`"
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The schema step that this version does not know.
        version: i64,
    },
    /// It cannot be opened.
    #[error(
        "{path}: the database cannot be opened: {error}; is its disk full or read-only? If the file is damaged, move it away, or put a copy in its place: exemptions, pins, imported tags, the remembered notary roots and the times at which issues were first seen are lost with it; everything else can be fetched again"
    )]
    Open {
        /// The database file.
        path: PathBuf,
        /// What failed.
        error: sqlx::Error,
    },
    /// A statement takes longer than this many seconds. A write may still succeed.
    #[error("the database has not answered within {0} s")]
    Late(u64),
    /// A row holds what this program does not write.
    #[error("the database holds {0}")]
    Row(&'static str),
    /// A statement failed: disk full, read-only, damaged.
    #[error("the database failed: {0}")]
    Sql(#[source] sqlx::Error),
    /// Rows were not written for an unknown reason: the process is ending.
    #[error("the database did not answer")]
    Unanswered,
    /// A transaction of several requests failed: disk full, read-only, damaged.
    #[error("the database failed: {0}")]
    Write(Arc<sqlx::Error>),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Io(error) if error.kind() == ErrorKind::TimedOut => Self::Late(READ_TIMEOUT.as_secs()),
            error => Self::Sql(error),
        }
    }
}

#[cfg(test)]
mod tests;
