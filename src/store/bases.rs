//! Images that other images may have been built on.

use sqlx::Row;

use super::{FactStore, StoreError, digest_of, hashes};
use crate::oci::{Digest, ImageName};

impl FactStore {
    /// Images that a request was admitted to and that have the lowest of these layers and, besides their configuration,
    /// nothing but these layers. In which order, their manifests say. At most `limit`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn images_within(&self, layers: &[Digest], limit: u32) -> Result<Vec<(ImageName, Digest)>, StoreError> {
        let Some(lowest) = layers.first() else { return Ok(Vec::new()) };
        let rows = sqlx::query(
            "SELECT members.host, members.repository, members.manifest_digest FROM links JOIN members \
             ON members.host = links.host AND members.repository = links.repository \
             AND members.member = unhex(substr(links.digest, 8)) \
             WHERE links.digest = ?1 AND members.is_manifest = 0 AND 1 >= (SELECT COUNT(*) FROM members AS others \
             WHERE others.host = members.host AND others.repository = members.repository \
             AND others.manifest = members.manifest AND others.member NOT IN (SELECT unhex(value) FROM json_each(?2))) \
             LIMIT ?3",
        )
        .bind(lowest.to_string())
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
