//! The content on this node's disk, the digests that its manifests reference, and the order in which content can be
//! deleted.
//!
//! A manifest is kept while its bytes are on disk, and a blob is kept for the manifests on disk that reference it. An
//! index is deleted after the manifests that it lists, because their trust may come from it. None of this is useful to
//! another node.

use std::collections::HashSet;

use jiff::Timestamp;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::database::Database;
use super::readers::ReadConnections;
use super::writer::{NewRows, Writer};
use super::{StoreError, hashes, json, time_of};
use crate::oci::{Content, Digest, Manifest};

/// One piece of content on disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StoredContent {
    /// The digest of the content.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Whether it is a manifest.
    pub is_manifest: bool,
    /// The last recorded time of use.
    pub used_at: Timestamp,
}

/// The amount of content on disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ContentTotals {
    /// The number of blobs.
    pub blobs: u64,
    /// The size of all blobs in bytes.
    pub blob_bytes: u64,
    /// The number of manifests.
    pub manifests: u64,
    /// The size of all manifests in bytes.
    pub manifest_bytes: u64,
}

/// Content that is now on disk and is about to be recorded.
#[derive(Clone, Debug)]
pub struct NewContent {
    content: StoredContent,
    /// The digests that it references, each with whether it is a manifest.
    parts: Vec<(Digest, bool)>,
}

impl NewContent {
    /// Creates the record of a blob.
    pub fn blob(digest: Digest, size: u64, used_at: Timestamp) -> Self {
        Self { content: StoredContent { digest, size, is_manifest: false, used_at }, parts: Vec::new() }
    }

    /// Creates the record of a manifest and of the digests that it references.
    pub fn manifest(manifest: &Manifest, used_at: Timestamp) -> Self {
        let (digest, size) = (manifest.digest, manifest.bytes.len() as u64);
        let is_index = matches!(manifest.content, Content::Index(_));
        let parts = manifest.descriptors().map(|part| (part.digest, is_index)).collect();
        Self { content: StoredContent { digest, size, is_manifest: true, used_at }, parts }
    }

    /// Creates the record of a manifest that cannot be parsed, so the digests that it references are unknown.
    pub fn unreadable_manifest(digest: Digest, size: u64, used_at: Timestamp) -> Self {
        Self { content: StoredContent { digest, size, is_manifest: true, used_at }, parts: Vec::new() }
    }

    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.content.size
    }

    /// The number of rows.
    pub(super) fn rows(&self) -> u64 {
        1 + self.parts.len() as u64
    }

    fn row(&self) -> (String, u64, bool, i64) {
        let StoredContent { digest, size, is_manifest, used_at } = self.content;
        (digest.hex(), size, is_manifest, used_at.as_millisecond())
    }

    fn part_rows(&self) -> impl Iterator<Item = (String, String, bool)> {
        self.parts.iter().map(|(part, is_manifest)| (self.content.digest.hex(), part.hex(), *is_manifest))
    }
}

/// Whether a manifest on disk with another digest than `?1` references the content of the outer row `contents`.
const IS_NAMED: &str = "EXISTS (SELECT 1 FROM content_parts WHERE part = contents.digest \
    AND manifest IS NOT (SELECT id FROM contents WHERE digest = ?1))";

/// Less than any hash, and the hash of nothing.
const NO_HASH: &[u8] = &[];

/// Facts that are specific to this node's disk. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NodeStore {
    pub(super) database: Database,
    rows: Writer,
}

impl NodeStore {
    pub(super) fn new(database: Database, rows: Writer) -> Self {
        Self { rows, database }
    }

    fn readers(&self) -> &ReadConnections {
        &self.database.readers
    }

    /// Records content that is now on disk, together with that of other callers. Returns false if it was recorded
    /// before; only its time of use is then updated.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn record(&self, content: NewContent) -> Result<bool, StoreError> {
        self.rows.write(NewRows::Content(content)).await
    }

    /// Records when contents were used. Returns those that are no longer on disk.
    pub async fn touch_contents(&self, used: &[(Digest, Timestamp)]) -> Result<Vec<Digest>, StoreError> {
        let times: Vec<_> = used.iter().map(|(digest, at)| (digest.hex(), at.as_millisecond())).collect();
        let times = json(&times);
        let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(
            "UPDATE contents SET used_at = used.at FROM \
             (SELECT unhex(value->>0) AS digest, value->>1 AS at FROM json_each(?1)) AS used \
             WHERE contents.digest = used.digest",
        )
        .bind(&times)
        .execute(&mut *transaction)
        .await?;
        let absent = sqlx::query(
            "SELECT unhex(value->>0) FROM json_each(?1) \
             WHERE NOT EXISTS (SELECT 1 FROM contents WHERE digest = unhex(value->>0))",
        )
        .bind(&times)
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        absent.iter().map(|row| hash_of(row.try_get(0)?)).collect()
    }

    /// Forgets contents whose files are about to be deleted, and their references.
    pub async fn forget_contents(&self, digests: &[Digest]) -> Result<(), StoreError> {
        let digests = hashes(digests);
        let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
        for sql in [
            "DELETE FROM content_parts WHERE manifest IN (SELECT id FROM contents WHERE digest IN \
             (SELECT unhex(value) FROM json_each(?1)))",
            "DELETE FROM contents WHERE digest IN (SELECT unhex(value) FROM json_each(?1))",
        ] {
            sqlx::query(sql).bind(&digests).execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// The amount of content on disk.
    pub async fn content_totals(&self) -> Result<ContentTotals, StoreError> {
        let rows = sqlx::query("SELECT is_manifest, COUNT(*), SUM(size) FROM contents GROUP BY is_manifest")
            .fetch_all(&self.readers().patient())
            .await?;
        let mut totals = ContentTotals::default();
        for row in &rows {
            let (count, bytes) = (unsigned(row.try_get(1)?), unsigned(row.try_get(2)?));
            match row.try_get::<i64, _>(0)? {
                0 => (totals.blobs, totals.blob_bytes) = (count, bytes),
                _ => (totals.manifests, totals.manifest_bytes) = (count, bytes),
            }
        }
        Ok(totals)
    }

    /// Blobs that no manifest on disk references, least recently used first.
    pub async fn unnamed_blobs(&self, limit: u32) -> Result<Vec<StoredContent>, StoreError> {
        let sql = format!(
            "SELECT digest, size, is_manifest, used_at FROM contents WHERE is_manifest = 0 AND NOT {IS_NAMED} \
             ORDER BY used_at LIMIT ?2"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(NO_HASH).bind(i64::from(limit));
        query.fetch_all(self.readers()).await?.iter().map(content_of).collect()
    }

    /// Manifests that list no manifest on disk and are not pinned, least recently used first. They can be deleted in
    /// this order. If `unused_since` is given, only manifests that were not used since then.
    pub async fn oldest_manifests(
        &self,
        unused_since: Option<Timestamp>,
        skip: u32,
        limit: u32,
    ) -> Result<Vec<StoredContent>, StoreError> {
        let rows = sqlx::query(
            "SELECT digest, size, is_manifest, used_at FROM contents WHERE is_manifest = 1 AND used_at < ?1 \
             AND NOT EXISTS (SELECT 1 FROM pinned_manifests WHERE manifest = contents.digest) AND NOT EXISTS \
             (SELECT 1 FROM content_parts AS child JOIN contents AS here ON here.digest = child.part AND here.is_manifest = 1 \
             WHERE child.manifest = contents.id AND child.is_manifest = 1) ORDER BY used_at LIMIT ?2 OFFSET ?3",
        )
        .bind(unused_since.map_or(i64::MAX, Timestamp::as_millisecond))
        .bind(i64::from(limit))
        .bind(i64::from(skip))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(content_of).collect()
    }

    /// The content that is deleted together with a manifest: the manifest itself, and the blobs on disk that no other
    /// manifest on disk references.
    pub async fn parts_of(&self, manifest: Digest) -> Result<Vec<StoredContent>, StoreError> {
        let sql = format!(
            "SELECT digest, size, is_manifest, used_at FROM contents WHERE digest = ?1 OR (is_manifest = 0 AND digest IN \
             (SELECT part FROM content_parts WHERE manifest = (SELECT id FROM contents WHERE digest = ?1)) \
             AND NOT {IS_NAMED})"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(manifest.as_bytes());
        query.fetch_all(self.readers()).await?.iter().map(content_of).collect()
    }

    /// The contents after the given one, in the order of their digests, for iterating over all contents.
    pub async fn contents_after(&self, after: Option<Digest>, limit: u32) -> Result<Vec<StoredContent>, StoreError> {
        let rows = sqlx::query(
            "SELECT digest, size, is_manifest, used_at FROM contents WHERE digest > ?1 ORDER BY digest LIMIT ?2",
        )
        .bind(after.as_ref().map_or(NO_HASH, Digest::as_bytes))
        .bind(i64::from(limit))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(content_of).collect()
    }

    /// The digests among these whose content is on disk.
    pub async fn present(&self, digests: &[Digest]) -> Result<HashSet<Digest>, StoreError> {
        let rows = sqlx::query("SELECT digest FROM contents WHERE digest IN (SELECT unhex(value) FROM json_each(?1))")
            .bind(hashes(digests))
            .fetch_all(self.readers())
            .await?;
        rows.iter().map(|row| hash_of(row.try_get(0)?)).collect()
    }
}

/// Returns which of these digests are recorded, and inserts contents and the digests that they reference: three JSON
/// arrays. A manifest that was damaged is recorded as a blob, until it is fetched again. The order of the join is
/// fixed: IN would make a table of the digests. One text, so that it is sent to the thread of the database once.
const INSERT: &str = "SELECT digest FROM json_each(?) CROSS JOIN contents ON contents.digest = unhex(value); \
    INSERT INTO contents (digest, size, is_manifest, used_at) \
    SELECT unhex(value->>0), value->>1, value->>2, value->>3 FROM json_each(?) WHERE true \
    ON CONFLICT (digest) DO UPDATE SET used_at = excluded.used_at, \
    is_manifest = MAX(is_manifest, excluded.is_manifest); \
    INSERT INTO content_parts (manifest, part, is_manifest) \
    SELECT contents.id, unhex(value->>1), value->>2 FROM json_each(?) JOIN contents ON contents.digest = unhex(value->>0) \
    WHERE true ON CONFLICT DO NOTHING";

impl NewContent {
    /// Writes the rows of several contents. Returns for each whether it was not recorded before.
    pub(super) async fn write(gathered: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<bool>, sqlx::Error> {
        if gathered.is_empty() {
            return Ok(Vec::new());
        }
        let digests: Vec<_> = gathered.iter().map(|new| new.content.digest).collect();
        let contents: Vec<_> = gathered.iter().map(|new| new.row()).collect();
        let parts: Vec<_> = gathered.iter().flat_map(|new| new.part_rows()).collect();
        let insert = sqlx::query(INSERT).bind(hashes(&digests)).bind(json(&contents)).bind(json(&parts));
        let known = insert.fetch_all(connection).await?;
        let mut known: HashSet<Vec<u8>> = known.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        Ok(digests.iter().map(|digest| known.insert(digest.as_bytes().to_vec())).collect())
    }
}

pub(super) fn content_of(row: &SqliteRow) -> Result<StoredContent, StoreError> {
    Ok(StoredContent {
        digest: hash_of(row.try_get(0)?)?,
        size: unsigned(row.try_get(1)?),
        is_manifest: row.try_get::<i64, _>(2)? != 0,
        used_at: time_of(row.try_get(3)?),
    })
}

/// The digest with a stored hash.
pub(super) fn hash_of(hash: &[u8]) -> Result<Digest, StoreError> {
    Digest::from_bytes(hash).map_err(|_| StoreError::Row("an invalid hash"))
}

/// Converts a count or a size, which is never negative.
pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}
