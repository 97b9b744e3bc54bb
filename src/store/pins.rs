//! Images that are never evicted from this disk. A pin keeps manifests; a blob is kept by the manifests that name it.

use jiff::Timestamp;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection, Row};

use super::database::{DURABLE, USUAL};
use super::{NodeStore, StoreError, digest_of, hashes, time_of};
use crate::oci::Digest;

/// The content that the pins of the outer statement keep; `?1` is the name of one of them, or NULL for all.
const KEPT: &str = "WITH kept AS (SELECT manifest FROM pinned_manifests WHERE ?1 IS NULL OR image = ?1) \
    SELECT COALESCE(SUM(size), 0) FROM contents WHERE digest IN (SELECT manifest FROM kept) \
    OR digest IN (SELECT part FROM content_parts WHERE is_manifest = 0 AND manifest IN \
    (SELECT id FROM contents WHERE digest IN (SELECT manifest FROM kept)))";

/// An image that is never evicted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PinnedImage {
    /// The name by which it was pinned, such as `docker.io/library/nginx:1.27`. There is one pin for each name.
    pub image: String,
    /// The digest that the name referred to when it was pinned.
    pub digest: Digest,
    /// Why it is pinned.
    pub reason: Option<String>,
    /// Who pinned it.
    pub by: Option<String>,
    /// When it was pinned.
    pub created: Timestamp,
}

impl NodeStore {
    /// Pins an image: these manifests are no longer candidates for eviction. Replaces an earlier pin of the same name.
    /// The pin survives a power failure when this returns without an error.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn pin(&self, pin: &PinnedImage, manifests: &[Digest]) -> Result<(), StoreError> {
        let mut connection = self.database.writer.acquire().await?;
        sqlx::query(DURABLE).execute(&mut *connection).await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        remove(&mut transaction, &pin.image).await?;
        sqlx::query("INSERT INTO pins (image, digest, reason, pinned_by, created_at) VALUES (?1, ?2, ?3, ?4, ?5)")
            .bind(&pin.image)
            .bind(pin.digest.to_string())
            .bind(&pin.reason)
            .bind(&pin.by)
            .bind(pin.created.as_millisecond())
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "INSERT OR IGNORE INTO pinned_manifests (image, manifest) SELECT ?1, unhex(value) FROM json_each(?2)",
        )
        .bind(&pin.image)
        .bind(hashes(manifests))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        sqlx::query(USUAL).execute(&mut *connection).await?;
        Ok(())
    }

    /// Removes a pin. Returns false if there is no pin with this name.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn unpin(&self, image: &str) -> Result<bool, StoreError> {
        let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
        let was_pinned = remove(&mut transaction, image).await?;
        transaction.commit().await?;
        Ok(was_pinned)
    }

    /// All pins in the order of their names, each with the size in bytes of the content on disk that it keeps.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn pins(&self) -> Result<Vec<(PinnedImage, u64)>, StoreError> {
        let rows = sqlx::query("SELECT image, digest, reason, pinned_by, created_at FROM pins ORDER BY image")
            .fetch_all(&self.database.readers)
            .await?;
        let mut pins = Vec::with_capacity(rows.len());
        for row in &rows {
            let pin = pinned_image(row)?;
            let bytes = self.kept_bytes(Some(&pin.image)).await?;
            pins.push((pin, bytes));
        }
        Ok(pins)
    }

    /// The number of pins, and the size in bytes of the content on disk that they keep together.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn pin_totals(&self) -> Result<(u64, u64), StoreError> {
        let row = sqlx::query("SELECT COUNT(*) FROM pins").fetch_one(&self.database.readers).await?;
        let pins = u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or_default();
        Ok((pins, if pins == 0 { 0 } else { self.kept_bytes(None).await? }))
    }

    async fn kept_bytes(&self, image: Option<&str>) -> Result<u64, StoreError> {
        let row = sqlx::query(KEPT).bind(image).fetch_one(&self.database.readers.patient()).await?;
        Ok(u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or_default())
    }
}

async fn remove(connection: &mut SqliteConnection, image: &str) -> Result<bool, StoreError> {
    sqlx::query("DELETE FROM pinned_manifests WHERE image = ?1").bind(image).execute(&mut *connection).await?;
    let removed = sqlx::query("DELETE FROM pins WHERE image = ?1").bind(image).execute(&mut *connection).await?;
    Ok(removed.rows_affected() > 0)
}

fn pinned_image(row: &SqliteRow) -> Result<PinnedImage, StoreError> {
    Ok(PinnedImage {
        image: row.try_get(0)?,
        digest: digest_of(row.try_get(1)?)?,
        reason: row.try_get(2)?,
        by: row.try_get(3)?,
        created: time_of(row.try_get(4)?),
    })
}
