//! Facts that do not depend on this node: what repositories reported and delivered, and evidence.
//!
//! The code does not assume that only one process writes. Every write is an upsert or a conditional statement, and the
//! newest observation wins in any order of arrival. A row with a time more than five minutes in the future loses to any
//! other row.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use sqlx::Row;

use super::database::Database;
use super::forget::Growth;
use super::new_facts::NewFacts;
use super::readers::ReadConnections;
use super::writer::{NewRows, Writer};
use super::{StoreError, digest_of, json};
use crate::oci::{Digest, Host, ImageName};
use crate::runtime::Epoch;

/// A row with a time further in the future than this was written by a wrong clock.
pub(super) const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Facts that several gates can share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FactStore {
    pub(super) database: Database,
    pub(super) growth: Arc<Growth>,
    pub(super) epoch: Epoch,
    rows: Writer,
}

impl FactStore {
    pub(super) fn new(database: Database, rows: Writer) -> Self {
        Self { rows, database, growth: Arc::default(), epoch: Epoch::new() }
    }

    pub(super) fn with_epoch(self, epoch: Epoch) -> Self {
        Self { epoch, ..self }
    }

    pub(super) fn readers(&self) -> &ReadConnections {
        &self.database.readers
    }

    /// Writes facts, together with those of other callers. They are committed when this returns without an error.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn record(&self, facts: NewFacts) -> Result<(), StoreError> {
        self.wrote(facts.rows());
        self.rows.write(NewRows::Facts(facts)).await.map(|_| ())
    }

    /// The media type of a manifest that the repository delivered; `None` if it never delivered the manifest.
    pub async fn manifest(&self, name: &ImageName, digest: Digest) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("SELECT media_type FROM manifests WHERE host = ?1 AND repository = ?2 AND digest = ?3")
            .bind(name.host.as_str())
            .bind(name.repository.as_str())
            .bind(digest.to_string())
            .fetch_optional(self.readers())
            .await?;
        row.map(|row| Ok(row.try_get(0)?)).transpose()
    }

    /// The digests among these that are manifests of the repository, each with whether it was served.
    pub async fn manifests_among(
        &self,
        name: &ImageName,
        digests: &[Digest],
    ) -> Result<Vec<(Digest, bool)>, StoreError> {
        let rows = sqlx::query(
            "SELECT digest, pulled_at IS NOT NULL FROM manifests WHERE host = ?1 AND repository = ?2 \
             AND digest IN (SELECT value FROM json_each(?3))",
        )
        .bind(name.host.as_str())
        .bind(name.repository.as_str())
        .bind(json(digests))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|row| Ok((digest_of(row.try_get(0)?)?, row.try_get(1)?))).collect()
    }

    /// The manifests of the repository that reference this digest, newest first, at most `limit`: indexes for a
    /// manifest, images for a blob.
    pub async fn naming(&self, name: &ImageName, member: Digest, limit: usize) -> Result<Vec<Digest>, StoreError> {
        let rows = sqlx::query(
            "SELECT members.manifest_digest FROM members JOIN manifests ON manifests.host = members.host \
             AND manifests.repository = members.repository AND manifests.digest = members.manifest_digest \
             WHERE members.host = ?1 AND members.repository = ?2 AND members.member = ?3 \
             ORDER BY manifests.seen_at DESC LIMIT ?4",
        )
        .bind(name.host.as_str())
        .bind(name.repository.as_str())
        .bind(member.as_bytes())
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|row| digest_of(row.try_get(0)?)).collect()
    }

    /// Children that indexes of the repository list and that were never fetched, newest index first, at most `limit`.
    pub async fn unseen_children(&self, name: &ImageName, limit: u32) -> Result<Vec<(Digest, Digest)>, StoreError> {
        let rows = sqlx::query(
            "SELECT members.manifest_digest, members.member_digest FROM members \
             JOIN manifests AS parents ON parents.host = members.host \
             AND parents.repository = members.repository AND parents.digest = members.manifest_digest \
             WHERE members.host = ?1 AND members.repository = ?2 AND members.is_manifest = 1 AND NOT EXISTS \
             (SELECT 1 FROM manifests WHERE host = ?1 AND repository = ?2 AND digest = members.member_digest) \
             ORDER BY parents.seen_at DESC LIMIT ?3",
        )
        .bind(name.host.as_str())
        .bind(name.repository.as_str())
        .bind(i64::from(limit))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|row| Ok((digest_of(row.try_get(0)?)?, digest_of(row.try_get(1)?)?))).collect()
    }

    /// Whether the repository itself delivered or confirmed a blob.
    pub async fn has_link(&self, name: &ImageName, digest: Digest) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 FROM links WHERE host = ?1 AND repository = ?2 AND digest = ?3")
            .bind(name.host.as_str())
            .bind(name.repository.as_str())
            .bind(digest.to_string())
            .fetch_optional(self.readers())
            .await?;
        Ok(row.is_some())
    }

    /// Whether any repository of this registry delivered or confirmed a blob.
    pub async fn has_link_at(&self, host: &Host, digest: Digest) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 FROM links WHERE digest = ?1 AND host = ?2 LIMIT 1")
            .bind(digest.to_string())
            .bind(host.as_str())
            .fetch_optional(self.readers())
            .await?;
        Ok(row.is_some())
    }

    /// Those of these manifests that one of the registries delivered. Goes through all manifests of these registries,
    /// so it is for many at a time.
    pub async fn of_registries(&self, digests: &[Digest], hosts: &[Host]) -> Result<HashSet<Digest>, StoreError> {
        let hosts: Vec<&str> = hosts.iter().map(Host::as_str).collect();
        let rows = sqlx::query(
            "SELECT DISTINCT digest FROM manifests WHERE host IN (SELECT value FROM json_each(?2)) \
             AND digest IN (SELECT value FROM json_each(?1))",
        )
        .bind(json(digests))
        .bind(json(&hosts))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|row| digest_of(row.try_get(0)?)).collect()
    }

    /// For each of these digests, in their order, repositories that delivered it, at most `limit`. Goes through all
    /// manifests, so it is for many at a time.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn repositories_of(&self, digests: &[Digest], limit: u32) -> Result<Vec<Vec<String>>, StoreError> {
        let rows = sqlx::query(
            "SELECT digest, name FROM (SELECT digest, name, row_number() OVER (PARTITION BY digest ORDER BY name) AS number \
             FROM (SELECT digest, host || '/' || repository AS name FROM manifests \
             WHERE digest IN (SELECT value FROM json_each(?1)) \
             UNION SELECT digest, host || '/' || repository FROM links \
             WHERE digest IN (SELECT value FROM json_each(?1)))) WHERE number <= ?2",
        )
        .bind(json(digests))
        .bind(i64::from(limit))
        .fetch_all(self.readers())
        .await?;
        let mut found: HashMap<Digest, Vec<String>> = HashMap::new();
        for row in &rows {
            found.entry(digest_of(row.try_get(0)?)?).or_default().push(row.try_get(1)?);
        }
        Ok(digests.iter().map(|digest| found.get(digest).cloned().unwrap_or_default()).collect())
    }
}

/// The latest time that is accepted for a row, in milliseconds.
pub(super) fn latest_plausible(now: Timestamp) -> i64 {
    now.saturating_add(CLOCK_SKEW).unwrap_or(Timestamp::MAX).as_millisecond()
}
