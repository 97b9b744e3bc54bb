//! The digests that tags refer to now and referred to before.

use std::cmp::Ordering;
use std::fmt;

use jiff::Timestamp;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Row, Sqlite};

use super::facts::latest_plausible;
use super::{FactStore, StoreError, digest_of, time_of};
use crate::oci::{Digest, ImageName, Tag};

/// A known tag.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KnownImage {
    /// Upstream and repository.
    pub name: ImageName,
    /// The tag.
    pub tag: Tag,
    /// The digest that the tag refers to.
    pub digest: Digest,
}

impl KnownImage {
    /// The place of the tag in the list.
    pub fn position(&self) -> TagPosition {
        TagPosition { repository: self.name.to_string(), tag: self.tag.to_string() }
    }
}

/// A place in the list of known tags. It need not be that of a tag that is known, or that can exist.
///
/// Tags are ordered by registry, repository and tag, byte by byte.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TagPosition {
    /// Registry and repository.
    pub repository: String,
    /// The tag.
    pub tag: String,
}

impl TagPosition {
    /// Registry, repository and tag.
    fn parts(&self) -> (&str, &str, &str) {
        let (host, repository) = self.repository.split_once('/').unwrap_or((&self.repository, ""));
        (host, repository, &self.tag)
    }
}

impl fmt::Display for TagPosition {
    /// `REPOSITORY:TAG`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

impl Ord for TagPosition {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for TagPosition {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Names of tags of one repository, as they are stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TagNames {
    /// The registry.
    pub host: String,
    /// The repository.
    pub repository: String,
    /// The tags, separated by spaces.
    tags: String,
}

impl TagNames {
    /// The tags.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.tags.split(' ')
    }

    /// The place of the last of these tags in the list.
    pub fn last(&self) -> TagPosition {
        let tag = self.tags().max().unwrap_or_default().to_owned();
        TagPosition { repository: format!("{}/{}", self.host, self.repository), tag }
    }
}

/// The result of the last lookup of a tag.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredTag {
    /// The digest of the manifest.
    pub digest: Digest,
    /// The time of the lookup.
    pub checked_at: Timestamp,
    /// The media type of the manifest, if the repository delivered it.
    pub media_type: Option<String>,
}

impl FactStore {
    /// Records the current digest of a tag if an earlier digest is recorded and is not newer. Does not add a row.
    pub async fn move_tag(
        &self,
        name: &ImageName,
        tag: &Tag,
        digest: Digest,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        of_tag(
            "UPDATE tags SET digest = ?4, checked_at = ?5 WHERE host = ?1 AND repository = ?2 AND tag = ?3 \
             AND (checked_at <= ?5 OR checked_at > ?6)",
            name,
            tag,
        )
        .bind(digest.to_string())
        .bind(now.as_millisecond())
        .bind(latest_plausible(now))
        .execute(&self.database.writer)
        .await?;
        Ok(())
    }

    /// The result of the last lookup of a tag.
    pub async fn tag(&self, name: &ImageName, tag: &Tag) -> Result<Option<StoredTag>, StoreError> {
        let sql = "SELECT tags.digest, checked_at, media_type FROM tags LEFT JOIN manifests ON manifests.host = tags.host \
                   AND manifests.repository = tags.repository AND manifests.digest = tags.digest \
                   WHERE tags.host = ?1 AND tags.repository = ?2 AND tag = ?3";
        let row = of_tag(sql, name, tag).fetch_optional(self.readers()).await?;
        row.map(|row| {
            Ok(StoredTag {
                digest: digest_of(row.try_get(0)?)?,
                checked_at: time_of(row.try_get(1)?),
                media_type: row.try_get(2)?,
            })
        })
        .transpose()
    }

    /// Forgets the digest of a tag, because the upstream reports that the tag does not exist. Facts learned after `now`
    /// are kept.
    pub async fn forget_tag(&self, name: &ImageName, tag: &Tag, now: Timestamp) -> Result<(), StoreError> {
        of_tag(
            "DELETE FROM tags WHERE host = ?1 AND repository = ?2 AND tag = ?3 AND (checked_at <= ?4 OR checked_at > ?5)",
            name,
            tag,
        )
        .bind(now.as_millisecond())
        .bind(latest_plausible(now))
        .execute(&self.database.writer)
        .await?;
        Ok(())
    }

    /// The tags of a digest that were seen since `since`: its own tags and those of the indexes that list it.
    pub async fn tags_of(&self, name: &ImageName, digest: Digest, since: Timestamp) -> Result<Vec<Tag>, StoreError> {
        let rows = sqlx::query(
            "SELECT tag FROM tag_history WHERE host = ?1 AND repository = ?2 AND seen_at >= ?4 AND (digest = ?3 OR digest IN \
             (SELECT manifest_digest FROM members WHERE host = ?1 AND repository = ?2 AND member = ?5 AND is_manifest = 1)) \
             GROUP BY tag ORDER BY MAX(seen_at) DESC LIMIT 100",
        )
        .bind(name.host.as_str())
        .bind(name.repository.as_str())
        .bind(digest.to_string())
        .bind(since.as_millisecond())
        .bind(digest.as_bytes())
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|row| tag_of(row.try_get(0)?)).collect()
    }

    /// The digests of the tags that name what is attached to a manifest (`sha256-HEX`, `sha256-HEX.sig`), as cosign and
    /// the referrers tag schema name them.
    pub async fn attached_by_tag(&self, name: &ImageName, subject: Digest) -> Result<Vec<Digest>, StoreError> {
        let tag = format!("{}-{}", subject.algorithm().name(), subject.hex());
        let rows = sqlx::query(
            "SELECT DISTINCT digest FROM tags WHERE host = ?1 AND repository = ?2 AND (tag = ?3 OR (tag > ?3 || '.' \
             AND tag < ?3 || '/'))",
        )
        .bind(name.host.as_str())
        .bind(name.repository.as_str())
        .bind(tag)
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|row| digest_of(row.try_get(0)?)).collect()
    }

    /// The names of known tags in order of registry, repository and tag, for going through all of them: a page of those
    /// after a tag. It takes a row for each repository and not for each tag, because a row costs much more than a name
    /// in it.
    pub async fn tag_names(&self, after: Option<&TagPosition>, limit: usize) -> Result<Vec<TagNames>, StoreError> {
        let (host, repository, tag) = after.map(TagPosition::parts).unwrap_or_default();
        let sql = "SELECT host, repository, group_concat(tag, ' ') FROM \
                   (SELECT host, repository, tag FROM tags WHERE (host, repository, tag) > (?1, ?2, ?3) \
                   ORDER BY host, repository, tag LIMIT ?4) GROUP BY host, repository ORDER BY host, repository";
        let query = sqlx::query(sql).bind(host).bind(repository).bind(tag);
        let rows = query.bind(i64::try_from(limit).unwrap_or(i64::MAX)).fetch_all(self.readers()).await?;
        let names = |row: &sqlx::sqlite::SqliteRow| {
            Ok(TagNames { host: row.try_get(0)?, repository: row.try_get(1)?, tags: row.try_get(2)? })
        };
        rows.iter().map(names).collect()
    }

    /// Known tags with their digests, ordered by registry, repository and tag: at most `limit` of those after a tag.
    pub async fn images(&self, after: Option<&TagPosition>, limit: usize) -> Result<Vec<KnownImage>, StoreError> {
        let (host, repository, tag) = after.map(TagPosition::parts).unwrap_or_default();
        let sql = "SELECT host, repository, tag, digest FROM tags WHERE (host, repository, tag) > (?1, ?2, ?3) \
                   ORDER BY host, repository, tag LIMIT ?4";
        let query = sqlx::query(sql).bind(host).bind(repository).bind(tag);
        let rows = query.bind(i64::try_from(limit).unwrap_or(i64::MAX)).fetch_all(self.readers()).await?;
        let known = |row: &sqlx::sqlite::SqliteRow| {
            let invalid = |_| StoreError::Row("an invalid name");
            Ok(KnownImage {
                name: ImageName {
                    host: row.try_get::<String, _>(0)?.parse().map_err(invalid)?,
                    repository: row.try_get::<String, _>(1)?.parse().map_err(invalid)?,
                },
                tag: tag_of(row.try_get(2)?)?,
                digest: digest_of(row.try_get(3)?)?,
            })
        };
        rows.iter().map(known).collect()
    }
}

fn tag_of(text: &str) -> Result<Tag, StoreError> {
    text.parse().map_err(|_| StoreError::Row("an invalid tag"))
}

/// Creates a statement whose first three parameters are the host, the repository and the tag.
fn of_tag<'q>(sql: &'static str, name: &'q ImageName, tag: &'q Tag) -> Query<'q, Sqlite, SqliteArguments> {
    sqlx::query(sql).bind(name.host.as_str()).bind(name.repository.as_str()).bind(tag.as_str())
}
