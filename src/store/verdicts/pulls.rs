//! Pulls of admitted images: the verdict of each, and who pulled it.

use std::sync::Arc;

use jiff::Timestamp;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Row};

use super::events::{self, NewEvent};
use super::{COLUMNS, StoredDecision, StoredVerdict, VerdictOutcome, VerdictStore};
use crate::oci::{Digest, ImageName, Manifest, Tag};
use crate::policy::Kind;
use crate::scope::Scope;
use crate::store::{StoreError, json};

/// The maximum number of clients that are kept for each verdict: the most recent ones.
pub(super) const MAX_CLIENTS: i64 = 64;
/// The largest manifest of which a copy is kept, in bytes. An image with a larger one is not judged again after its
/// content was evicted.
const MAX_COPY: usize = 32 * 1024;

/// How many rows a pull adds.
const ROWS: u64 = 4;

/// One pull of an admitted image.
#[derive(Clone, Debug)]
pub struct AdmittedPull {
    /// The scope of the client.
    pub scope: Scope,
    /// Upstream and repository.
    pub name: ImageName,
    /// The digest of the manifest.
    pub digest: Digest,
    /// The tag by which it was pulled.
    pub tag: Option<Tag>,
    /// What the manifest is.
    pub kind: Kind,
    /// The decision: an admission, or a denial that was not enforced.
    pub outcome: VerdictOutcome,
    /// Whether the entry that decided checked the vulnerabilities of an image that is assessed.
    pub has_checked_va: bool,
    /// When the decision ends by itself.
    pub until: Option<Timestamp>,
    /// The time of the pull.
    pub at: Timestamp,
    /// The address of the client.
    pub client: Arc<str>,
    /// The common name in the client's certificate.
    pub client_name: Option<Arc<str>>,
    /// The manifest; `None` if it is known to be stored, or is too large to be kept with others.
    pub manifest: Option<Arc<Manifest>>,
}

impl AdmittedPull {
    /// Whether a copy of a manifest is kept.
    pub fn keeps_copy_of(manifest: &Manifest) -> bool {
        manifest.bytes.len() <= MAX_COPY
    }
}

/// An image that was asked for, and not served.
#[derive(Clone, Debug)]
pub struct RequestedImage {
    /// Upstream and repository.
    pub name: ImageName,
    /// The digest of the manifest.
    pub digest: Digest,
    /// The time of the request.
    pub at: Timestamp,
}

/// An image is known from the first request on.
const HISTORY: &str = "INSERT INTO image_history (host, repository, digest, known_since, used_at) \
    SELECT value->>0, value->>1, value->>2, value->>3, value->>3 FROM json_each(?1) WHERE true \
    ON CONFLICT (host, repository, digest) DO UPDATE SET known_since = MIN(known_since, excluded.known_since), \
    used_at = MAX(used_at, excluded.used_at)";

const CHECKED: &str = "INSERT INTO checked_admissions (host, repository, digest, scope, admitted_since, used_at) \
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>4 FROM json_each(?1) WHERE true \
    ON CONFLICT (host, repository, digest, scope) DO UPDATE SET \
    admitted_since = MIN(admitted_since, excluded.admitted_since), used_at = MAX(used_at, excluded.used_at)";

/// A pull by digest does not replace the decision for a tag: the entries for the tag may be stricter. Expressions on
/// the right see the row as it was.
const VERDICTS: &str = "INSERT INTO verdicts \
    (host, repository, digest, scope, tag, kind, pulled_at, decision, reason, basis, decided_at, valid_until) \
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, value->>8, value->>9, \
    value->>6, value->>10 FROM json_each(?1) WHERE true \
    ON CONFLICT (host, repository, digest, scope) DO UPDATE SET pulled_at = MAX(pulled_at, excluded.pulled_at), \
    old_decision = IIF(decision <> excluded.decision AND (tag = '' OR excluded.tag <> ''), decision, old_decision), \
    old_reason = IIF(decision <> excluded.decision AND (tag = '' OR excluded.tag <> ''), reason, old_reason), \
    old_basis = IIF(decision <> excluded.decision AND (tag = '' OR excluded.tag <> ''), basis, old_basis), \
    changed_at = IIF(decision <> excluded.decision AND (tag = '' OR excluded.tag <> ''), excluded.decided_at, changed_at), \
    decision = IIF(tag = '' OR excluded.tag <> '', excluded.decision, decision), \
    reason = IIF(tag = '' OR excluded.tag <> '', excluded.reason, reason), \
    basis = IIF(tag = '' OR excluded.tag <> '', excluded.basis, basis), \
    valid_until = IIF(tag = '' OR excluded.tag <> '', excluded.valid_until, valid_until), \
    decided_at = IIF(tag = '' OR excluded.tag <> '', excluded.decided_at, decided_at), \
    doubt = IIF(tag = '' OR excluded.tag <> '', NULL, doubt), \
    kind = excluded.kind, tag = IIF(excluded.tag <> '', excluded.tag, tag) \
    RETURNING id, changed_at IS NOT NULL AND changed_at = decided_at";

const CLIENTS: &str = "INSERT INTO verdict_clients (verdict, address, name, pulled_at) \
    SELECT verdicts.id, new.value->>4, new.value->>5, new.value->>6 FROM json_each(?1) AS new JOIN verdicts \
    ON verdicts.host = new.value->>0 AND verdicts.repository = new.value->>1 AND verdicts.digest = new.value->>2 \
    AND verdicts.scope = new.value->>3 WHERE true \
    ON CONFLICT (verdict, address, name) DO UPDATE SET pulled_at = MAX(pulled_at, excluded.pulled_at)";

/// A manifest is JSON, and therefore text.
const COPIES: &str = "INSERT INTO verdict_manifests (verdict, media_type, bytes) \
    SELECT verdicts.id, new.value->>4, CAST(new.value->>5 AS BLOB) FROM json_each(?1) AS new JOIN verdicts \
    ON verdicts.host = new.value->>0 AND verdicts.repository = new.value->>1 AND verdicts.digest = new.value->>2 \
    AND verdicts.scope = new.value->>3 WHERE true \
    ON CONFLICT (verdict) DO UPDATE SET media_type = excluded.media_type, bytes = excluded.bytes";

const TRIM_CLIENTS: &str = "DELETE FROM verdict_clients WHERE (verdict, address, name) IN \
    (SELECT verdict, address, name FROM (SELECT verdict, address, name, \
    ROW_NUMBER() OVER (PARTITION BY verdict ORDER BY pulled_at DESC) AS place FROM verdict_clients \
    WHERE verdict IN (SELECT value FROM json_each(?1))) WHERE place > ?2)";

impl VerdictStore {
    /// Reports a failed write if the file is damaged.
    pub fn note_failure(&self, error: &StoreError) {
        if let StoreError::Sql(error) = error {
            self.database.health.note(error);
        }
    }

    /// Records that images were asked for.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn images_asked(&self, images: &[RequestedImage]) -> Result<(), StoreError> {
        let rows = images.iter().map(|image| history(&image.name, image.digest, image.at));
        sqlx::query(HISTORY).bind(json(&rows.collect::<Vec<_>>())).execute(&self.database.writer).await?;
        self.database.journal.wrote(images.len() as u64);
        Ok(())
    }

    /// Records pulls. `event` makes the events of a verdict that changed; they are queued in the same transaction.
    /// Returns the verdicts that changed.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn record_pulls(
        &self,
        pulls: &[AdmittedPull],
        event: &(dyn Fn(&StoredVerdict) -> Vec<NewEvent> + Send + Sync),
    ) -> Result<Vec<StoredVerdict>, StoreError> {
        let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
        let connection = &mut *transaction;
        sqlx::query(HISTORY)
            .bind(json(&pulls.iter().map(|pull| history(&pull.name, pull.digest, pull.at)).collect::<Vec<_>>()))
            .execute(&mut *connection)
            .await?;
        let checked = json(&pulls.iter().filter_map(checked).collect::<Vec<_>>());
        sqlx::query(CHECKED).bind(checked).execute(&mut *connection).await?;
        let rows = json(&pulls.iter().map(verdict).collect::<Vec<_>>());
        let rows = sqlx::query(VERDICTS).bind(rows).fetch_all(&mut *connection).await?;
        let (mut written, mut changed) = (Vec::new(), Vec::new());
        for row in &rows {
            let id: i64 = row.try_get(0)?;
            written.push(id);
            changed.extend(row.try_get::<bool, _>(1)?.then_some(id));
        }
        let clients = json(&pulls.iter().map(client).collect::<Vec<_>>());
        sqlx::query(CLIENTS).bind(clients).execute(&mut *connection).await?;
        sqlx::query(TRIM_CLIENTS).bind(json(&written)).bind(MAX_CLIENTS).execute(&mut *connection).await?;
        let copies = json(&pulls.iter().filter_map(copy).collect::<Vec<_>>());
        sqlx::query(COPIES).bind(copies).execute(&mut *connection).await?;
        let changed = if changed.is_empty() { Vec::new() } else { changed_by(pulls, &changed, connection).await? };
        let events: Vec<NewEvent> = changed.iter().flat_map(event).collect();
        events::insert(&events, connection).await?;
        transaction.commit().await?;
        self.database.journal.wrote(ROWS * pulls.len() as u64);
        Ok(changed)
    }
}

/// The verdicts among these that pulls have changed, and not an earlier decision.
async fn changed_by(
    pulls: &[AdmittedPull],
    verdicts: &[i64],
    connection: &mut SqliteConnection,
) -> Result<Vec<StoredVerdict>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM verdicts WHERE id IN (SELECT value FROM json_each(?1)) ORDER BY id");
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(json(verdicts)).fetch_all(connection).await?;
    let mut changed: Vec<StoredVerdict> = rows.iter().map(StoredVerdict::of_row).collect::<Result<_, _>>()?;
    let is_of = |at: Timestamp| pulls.iter().any(|pull| pull.at.as_millisecond() == at.as_millisecond());
    changed.retain(|verdict| is_of(verdict.decided_at));
    Ok(changed)
}

impl VerdictStore {
    /// The manifest of a verdict's image, which may no longer be in the cache: its bytes and its media type.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn manifest_copy(&self, verdict: i64) -> Result<Option<(Vec<u8>, String)>, StoreError> {
        let row = sqlx::query("SELECT bytes, media_type FROM verdict_manifests WHERE verdict = ?1");
        let row = row.bind(verdict).fetch_optional(self.readers()).await?;
        row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
    }
}

fn history(name: &ImageName, digest: Digest, at: Timestamp) -> (&str, &str, Digest, i64) {
    (name.host.as_str(), name.repository.as_str(), digest, at.as_millisecond())
}

/// An admission for which vulnerabilities were checked; a denial that was not enforced does not count.
fn checked(pull: &AdmittedPull) -> Option<(&str, &str, Digest, String, i64)> {
    let ImageName { host, repository } = &pull.name;
    let counts = pull.has_checked_va && pull.outcome.decision == StoredDecision::Admit;
    let at = pull.at.as_millisecond();
    counts.then(|| (host.as_str(), repository.as_str(), pull.digest, pull.scope.to_string(), at))
}

type VerdictRow<'a> =
    (&'a str, &'a str, Digest, String, &'a str, &'static str, i64, &'static str, &'a str, String, Option<i64>);

fn verdict(pull: &AdmittedPull) -> VerdictRow<'_> {
    let VerdictOutcome { decision, reason, basis } = &pull.outcome;
    (
        pull.name.host.as_str(),
        pull.name.repository.as_str(),
        pull.digest,
        pull.scope.to_string(),
        pull.tag.as_ref().map_or("", Tag::as_str),
        pull.kind.as_str(),
        pull.at.as_millisecond(),
        decision.as_str(),
        reason,
        basis.to_text(),
        pull.until.map(Timestamp::as_millisecond),
    )
}

fn copy(pull: &AdmittedPull) -> Option<(&str, &str, Digest, String, &str, &str)> {
    let (manifest, ImageName { host, repository }) = (pull.manifest.as_ref()?, &pull.name);
    let bytes = std::str::from_utf8(&manifest.bytes).ok()?;
    Some((host.as_str(), repository.as_str(), pull.digest, pull.scope.to_string(), &manifest.media_type, bytes))
}

fn client(pull: &AdmittedPull) -> (&str, &str, Digest, String, &str, &str, i64) {
    let name = pull.client_name.as_deref().unwrap_or_default();
    let ImageName { host, repository } = &pull.name;
    let at = pull.at.as_millisecond();
    (host.as_str(), repository.as_str(), pull.digest, pull.scope.to_string(), &pull.client, name, at)
}
