//! Images that other images may have been built on.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use sqlx::Row;

use super::{FactStore, StoreError, digest_of, hashes, json};
use crate::oci::{Digest, ImageName};
use crate::policy::Observed;

/// The topic of what layers are unpacked to. Statements name it too, so that they use its index.
const UNPACKED: &str = "unpacked-1";
/// The maximum number of layers known to have the same content as one of these.
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

    /// The digests of the uncompressed content of these layers, and of all other known layers with the same content.
    /// Layers that were never unpacked here are left out.
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

    /// Admitted images whose topmost layer is one of `alike`, and that consist of nothing but these and their
    /// configuration. The order of their layers is in their manifests. At most `limit`. Images in the repository of
    /// `name` are left out unless they have fewer layers than `layers`.
    ///
    /// Whether the repository delivered the layers does not matter: clients do not fetch what they have.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn images_within(
        &self,
        name: &ImageName,
        layers: &[Digest],
        alike: &[Digest],
        limit: u32,
    ) -> Result<Vec<(ImageName, Digest)>, StoreError> {
        // Members include the configuration, and no layer twice.
        let most = layers.iter().collect::<HashSet<_>>().len();
        let rows = sqlx::query(
            "WITH tops AS (SELECT DISTINCT host, repository, manifest, manifest_digest FROM image_tops \
             WHERE layer IN (SELECT unhex(value) FROM json_each(?1))) \
             SELECT tops.host, tops.repository, tops.manifest_digest FROM tops CROSS JOIN members \
             ON members.host = tops.host AND members.repository = tops.repository AND members.manifest = tops.manifest \
             GROUP BY tops.host, tops.repository, tops.manifest \
             HAVING 1 >= SUM(members.member NOT IN (SELECT unhex(value) FROM json_each(?1))) \
             AND NOT (tops.host = ?3 AND tops.repository = ?4 AND COUNT(*) > ?5) LIMIT ?2",
        )
        .bind(hashes(alike))
        .bind(i64::from(limit))
        .bind(name.host.as_str())
        .bind(name.repository.as_str())
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

    use super::*;
    use crate::oci::Manifest;
    use crate::store::database::migrations;
    use crate::store::{NewFacts, Store};

    fn name(repository: &str) -> ImageName {
        ImageName { host: "docker.io".parse().unwrap(), repository: repository.parse().unwrap() }
    }

    fn digest(text: &str) -> Digest {
        Digest::sha256(text.as_bytes())
    }

    fn image(config: &str, layers: &str) -> Manifest {
        let descriptor = |text: &str| format!(r#"{{"mediaType":"x","digest":"{}","size":1}}"#, digest(text));
        let layers: Vec<String> = layers.split(' ').map(descriptor).collect();
        let text = format!(r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#, descriptor(config), layers.join(","));
        Manifest::parse(Bytes::from(text), None).unwrap()
    }

    /// The base images of an image of the repository `app` with the layers a, b and c.
    async fn below(store: &Store) -> Vec<(ImageName, Digest)> {
        let layers = ["a", "b", "c"].map(digest);
        let mut found = store.facts.images_within(&name("app"), &layers, &layers, 9).await.unwrap();
        found.sort_by_key(|(name, digest)| (name.to_string(), digest.to_string()));
        found
    }

    #[tokio::test]
    async fn images_below_another_one_are_found_until_they_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        for (repository, config, layers, second, is_below) in [
            ("base", "1", "a", 1, true),
            ("base", "2", "a b", 3, true),
            ("other", "3", "a b c", 3, true),
            ("other", "4", "a d", 3, false),
            ("other", "5", "d a", 3, false),
            ("app", "6", "a b", 3, true),
            ("app", "7", "a b c", 3, false),
        ] {
            let (name, image) = (name(repository), image(config, layers));
            store.facts.record(NewFacts::new(at(second)).manifest(&name, &image, at(second))).await.unwrap();
            assert_eq!(below(&store).await.contains(&(name, image.digest)), is_below, "{config}");
        }
        store.forget_before(at(2)).await.unwrap();
        assert_eq!(below(&store).await.len(), 3, "all but the oldest one");
        store.forget_before(at(9)).await.unwrap();
        assert!(below(&store).await.is_empty());
    }

    #[tokio::test]
    async fn images_of_an_earlier_version_are_found_by_any_of_their_layers() {
        let dir = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new().filename(dir.path().join("pullgate.db")).create_if_missing(true);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
        let mut first = migrations();
        first.migrations.to_mut().truncate(16);
        first.run(&pool).await.unwrap();
        for (image, member) in [("base", "1"), ("base", "a"), ("base", "b"), ("no base", "2"), ("no base", "d")] {
            let sql = "INSERT INTO members (host, repository, manifest, member, is_manifest) \
                       VALUES ('docker.io', 'base', unhex(?1), unhex(?2), 0)";
            sqlx::query(sql).bind(digest(image).hex()).bind(digest(member).hex()).execute(&pool).await.unwrap();
        }
        pool.close().await;
        let store = Store::open(dir.path()).await.unwrap();
        assert_eq!(below(&store).await, [(name("base"), digest("base"))]);
    }
}
