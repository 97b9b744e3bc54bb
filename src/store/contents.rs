//! The contents of this node's disk and their relations, for lists and for removals by operators.

use jiff::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::node::{content_of, hash_of, unsigned};
use super::{NodeStore, StoreError, StoredContent, hashes};
use crate::oci::Digest;

/// How deeply indexes are followed. Clients follow one level.
const MAX_DEPTH: u32 = 8;

/// One piece of content on disk, with what is on disk around it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ListedContent {
    /// The content. A blob is used when a manifest that names it is used.
    pub content: StoredContent,
    /// Whether it is a manifest that lists other manifests.
    pub is_index: bool,
    /// Whether a pin keeps it.
    pub is_pinned: bool,
}

/// Content on disk that a manifest names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NamedContent {
    /// The content.
    pub content: StoredContent,
    /// How many manifests on disk name it.
    pub names: u64,
}

/// The position of content in the order of use, after which a list continues.
pub type UsePosition = (Timestamp, i64);

impl NodeStore {
    /// The contents after the given one, in the order of their digests.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn listed_contents(&self, after: Option<Digest>, limit: u32) -> Result<Vec<ListedContent>, StoreError> {
        let rows = sqlx::query(
            "SELECT digest, size, is_manifest, MAX(used_at, COALESCE((SELECT MAX(naming.used_at) FROM content_parts \
             JOIN contents AS naming ON naming.id = content_parts.manifest \
             WHERE content_parts.part = contents.digest AND content_parts.is_manifest = 0), 0)), \
             EXISTS (SELECT 1 FROM content_parts WHERE manifest = contents.id AND is_manifest = 1), \
             EXISTS (SELECT 1 FROM pinned_manifests WHERE manifest = contents.digest) OR \
             EXISTS (SELECT 1 FROM content_parts JOIN contents AS naming ON naming.id = content_parts.manifest \
             JOIN pinned_manifests ON pinned_manifests.manifest = naming.digest \
             WHERE content_parts.part = contents.digest AND content_parts.is_manifest = 0) \
             FROM contents WHERE digest > ?1 ORDER BY digest LIMIT ?2",
        )
        .bind(after.as_ref().map_or(&[][..], Digest::as_bytes))
        .bind(i64::from(limit))
        .fetch_all(&self.database.readers)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(ListedContent { content: content_of(row)?, is_index: row.try_get(4)?, is_pinned: row.try_get(5)? })
            })
            .collect()
    }

    /// The contents that are removed with this content: for a manifest, the manifests that it lists and the blobs that
    /// it names, except those that another manifest on disk needs. Empty if the content is not on disk.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn whole(&self, digest: Digest) -> Result<Vec<StoredContent>, StoreError> {
        let mut set = vec![digest];
        for _ in 0..MAX_DEPTH {
            let children = self.own_children(&set).await?;
            if children.is_empty() {
                break;
            }
            set.extend(children);
        }
        let rows = sqlx::query(
            "WITH gone AS (SELECT id FROM contents WHERE digest IN (SELECT unhex(value) FROM json_each(?1))) \
             SELECT digest, size, is_manifest, used_at FROM contents WHERE id IN (SELECT id FROM gone) \
             OR is_manifest = 0 AND digest IN (SELECT part FROM content_parts WHERE manifest IN (SELECT id FROM gone)) \
             AND NOT EXISTS (SELECT 1 FROM content_parts WHERE part = contents.digest \
             AND manifest NOT IN (SELECT id FROM gone))",
        )
        .bind(hashes(&set))
        .fetch_all(&self.database.readers)
        .await?;
        rows.iter().map(content_of).collect()
    }

    /// The manifests on disk that only these indexes list, and that are not among them.
    async fn own_children(&self, indexes: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let rows = sqlx::query(
            "WITH gone AS (SELECT id, digest FROM contents WHERE digest IN (SELECT unhex(value) FROM json_each(?1))) \
             SELECT digest FROM contents WHERE is_manifest = 1 AND id NOT IN (SELECT id FROM gone) AND digest IN \
             (SELECT part FROM content_parts WHERE is_manifest = 1 AND manifest IN (SELECT id FROM gone)) \
             AND NOT EXISTS (SELECT 1 FROM content_parts WHERE part = contents.digest \
             AND manifest NOT IN (SELECT id FROM gone))",
        )
        .bind(hashes(indexes))
        .fetch_all(&self.database.readers)
        .await?;
        rows.iter().map(|row| hash_of(row.try_get(0)?)).collect()
    }

    /// The names of the pins that keep any of these contents, in order.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn pins_keeping(&self, digests: &[Digest]) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query(
            "WITH wanted AS (SELECT unhex(value) AS digest FROM json_each(?1)) \
             SELECT DISTINCT image FROM pinned_manifests WHERE manifest IN (SELECT digest FROM wanted) OR manifest IN \
             (SELECT contents.digest FROM content_parts JOIN contents ON contents.id = content_parts.manifest \
             WHERE content_parts.is_manifest = 0 AND content_parts.part IN (SELECT digest FROM wanted)) ORDER BY image",
        )
        .bind(hashes(digests))
        .fetch_all(&self.database.readers)
        .await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Manifests that are not pinned after the given one, least recently used first, each with its position.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn manifests_by_use(
        &self,
        after: Option<UsePosition>,
        limit: u32,
    ) -> Result<Vec<(ListedContent, UsePosition)>, StoreError> {
        let (used_at, id) = after.map_or((i64::MIN, i64::MIN), |(at, id)| (at.as_millisecond(), id));
        let rows = sqlx::query(
            "SELECT digest, size, is_manifest, used_at, \
             EXISTS (SELECT 1 FROM content_parts WHERE manifest = contents.id AND is_manifest = 1), id \
             FROM contents WHERE is_manifest = 1 AND used_at >= ?1 AND (used_at > ?1 OR id > ?2) \
             AND NOT EXISTS (SELECT 1 FROM pinned_manifests WHERE manifest = contents.digest) \
             ORDER BY used_at, id LIMIT ?3",
        )
        .bind(used_at)
        .bind(id)
        .bind(i64::from(limit))
        .fetch_all(&self.database.readers)
        .await?;
        let listed = |row: &SqliteRow| -> Result<_, StoreError> {
            let content = content_of(row)?;
            let listed = ListedContent { content, is_index: row.try_get(4)?, is_pinned: false };
            Ok((listed, (content.used_at, row.try_get(5)?)))
        };
        rows.iter().map(listed).collect()
    }

    /// The contents on disk that a manifest names.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn named_by(&self, manifest: Digest) -> Result<Vec<NamedContent>, StoreError> {
        let rows = sqlx::query(
            "SELECT contents.digest, contents.size, contents.is_manifest, contents.used_at, \
             (SELECT COUNT(*) FROM content_parts AS naming WHERE naming.part = contents.digest) \
             FROM content_parts JOIN contents ON contents.digest = content_parts.part \
             WHERE content_parts.manifest = (SELECT id FROM contents WHERE digest = ?1)",
        )
        .bind(manifest.as_bytes())
        .fetch_all(&self.database.readers)
        .await?;
        let named = |row: &SqliteRow| -> Result<_, StoreError> {
            Ok(NamedContent { content: content_of(row)?, names: unsigned(row.try_get(4)?) })
        };
        rows.iter().map(named).collect()
    }
}
