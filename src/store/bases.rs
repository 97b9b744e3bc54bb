//! Images that other images may have been built on.

use std::collections::HashMap;

use jiff::Timestamp;
use sqlx::Row;

use super::{FactStore, StoreError, digest_of, hashes, json};
use crate::oci::{Digest, ImageName};
use crate::policy::Observed;

/// The topic of what layers are unpacked to. Statements name it too, so that they use its index.
const UNPACKED: &str = "unpacked-1";
/// The most layers that are known to have the same content as one of these.
const MAX_ALIKE: u32 = 4096;

impl FactStore {
    /// Records the digest of the uncompressed content of a layer (`diff_id`), which this gate has computed.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn record_unpacked(&self, layer: Digest, diff_id: Digest, at: Timestamp) -> Result<(), StoreError> {
        let row = Observed { value: diff_id.to_string(), at, until: None };
        self.record_evidence(UNPACKED, &layer.to_string(), row).await
    }

    /// The digests of the uncompressed content of these layers, and of all other known layers with the same content. Layers
    /// that were never unpacked here are left out.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn unpacked_alike(&self, layers: &[Digest]) -> Result<HashMap<Digest, Digest>, StoreError> {
        let sql = "SELECT alike.subject, alike.value FROM json_each(?1) AS named \
                   JOIN evidence AS own ON own.topic = 'unpacked-1' AND own.subject = named.value \
                   JOIN evidence AS alike ON alike.topic = 'unpacked-1' AND alike.value = own.value LIMIT ?2";
        let rows = sqlx::query(sql).bind(json(layers)).bind(i64::from(MAX_ALIKE)).fetch_all(self.readers()).await?;
        rows.iter().map(|row| Ok((digest_of(row.try_get(0)?)?, digest_of(row.try_get(1)?)?))).collect()
    }

    /// Images that a request was admitted to and that have one of the `lowest` layers and, besides their configuration,
    /// nothing but `layers`. In which order, their manifests say. At most `limit`.
    ///
    /// Asks each repository, because an index of all layers would cost a page for each of them with every new image. Whether the
    /// repository delivered the layer does not matter: clients do not fetch what they have.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn images_within(
        &self,
        lowest: &[Digest],
        layers: &[Digest],
        limit: u32,
    ) -> Result<Vec<(ImageName, Digest)>, StoreError> {
        let rows = sqlx::query(
            "WITH RECURSIVE names (host, repository) AS ( \
             SELECT * FROM (SELECT host, repository FROM manifests ORDER BY host, repository LIMIT 1) UNION ALL \
             SELECT next.host, next.repository FROM names JOIN manifests AS next ON next.rowid = COALESCE( \
             (SELECT rowid FROM manifests WHERE host = names.host AND repository > names.repository \
             ORDER BY repository LIMIT 1), \
             (SELECT rowid FROM manifests WHERE host > names.host ORDER BY host, repository LIMIT 1))) \
             SELECT DISTINCT members.host, members.repository, members.manifest_digest \
             FROM names CROSS JOIN json_each(?1) AS lowest CROSS JOIN members INDEXED BY members_by_member \
             ON members.host = names.host AND members.repository = names.repository \
             AND members.member = unhex(lowest.value) WHERE members.is_manifest = 0 \
             AND 1 >= (SELECT COUNT(*) FROM members AS others \
             WHERE others.host = members.host AND others.repository = members.repository \
             AND others.manifest = members.manifest AND others.member NOT IN (SELECT unhex(value) FROM json_each(?2))) \
             LIMIT ?3",
        )
        .bind(hashes(lowest))
        .bind(hashes(layers))
        .bind(i64::from(limit))
        .fetch_all(self.readers())
        .await?;
        let image = |row: &sqlx::sqlite::SqliteRow| {
            let invalid = |_| StoreError::Row("an invalid name");
            let host = row.try_get::<String, _>(0)?.parse().map_err(invalid)?;
            let repository = row.try_get::<String, _>(1)?.parse().map_err(invalid)?;
            Ok((ImageName { host, repository }, digest_of(row.try_get(2)?)?))
        };
        rows.iter().map(image).collect()
    }
}
