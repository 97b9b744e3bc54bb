//! Facts that are about to be stored.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::sqlite::SqliteConnection;

use super::facts::latest_plausible;
use crate::oci::{Content, Digest, Host, ImageName, Manifest, Repository, Tag};
use crate::policy::Observed;

/// The facts that one request learned. All of them are written in one transaction, together with facts of other
/// requests.
#[derive(Clone, Debug)]
pub struct NewFacts {
    /// The time of writing. A row that is dated far beyond this time loses.
    pub(super) now: Timestamp,
    manifests: Vec<ManifestRow>,
    members: Vec<MemberRow>,
    tops: Vec<TopRow>,
    tags: Vec<TagRow>,
    old_tags: Vec<TagRow>,
    pulls: Vec<DatedRow>,
    links: Vec<LinkRow>,
    evidence: Vec<EvidenceRow>,
}

// The columns of each table, in the order of the statement below. Times are in milliseconds.
type ManifestRow = (Host, Repository, Digest, String, usize, i64, Option<i64>);
type MemberRow = (Host, Repository, Digest, Digest, bool);
type TopRow = (Host, Repository, Digest, Digest);
type TagRow = (Host, Repository, Tag, Digest, i64);
type DatedRow = (Host, Repository, Digest, i64);
type LinkRow = (Host, Repository, Digest, u64, i64);
type EvidenceRow = (&'static str, String, String, i64, Option<i64>);

/// Writes the rows of first pulls. Each table has a parameter, its rows as JSON; `tags` has a second one, the latest
/// plausible time. One text, so that it is sent to the thread of the database once.
const INSERT_MANIFESTS: &str = "INSERT INTO manifests (host, repository, digest, media_type, size, seen_at, pulled_at) \
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6 FROM json_each(?) WHERE true \
    ON CONFLICT (host, repository, digest) DO UPDATE SET seen_at = MAX(seen_at, excluded.seen_at), \
    pulled_at = COALESCE(MAX(pulled_at, excluded.pulled_at), pulled_at, excluded.pulled_at); \
    INSERT INTO members (host, repository, manifest, member, is_manifest) \
    SELECT value->>0, value->>1, unhex(substr(value->>2, 8)), unhex(substr(value->>3, 8)), value->>4 \
    FROM json_each(?) WHERE true ON CONFLICT (host, repository, manifest, member) DO NOTHING; \
    INSERT INTO image_tops (host, repository, manifest, layer) \
    SELECT value->>0, value->>1, unhex(substr(value->>2, 8)), unhex(substr(value->>3, 8)) \
    FROM json_each(?) WHERE true ON CONFLICT (layer, host, repository, manifest) DO NOTHING; \
    INSERT INTO tags (host, repository, tag, digest, checked_at) \
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4 FROM json_each(?) WHERE true \
    ON CONFLICT (host, repository, tag) DO UPDATE SET digest = excluded.digest, checked_at = excluded.checked_at \
    WHERE excluded.checked_at >= checked_at OR checked_at > ?; \
    INSERT INTO tag_history (host, repository, tag, digest, seen_at) \
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4 FROM json_each(?) WHERE true \
    ON CONFLICT (host, repository, digest, tag) DO UPDATE SET seen_at = MAX(seen_at, excluded.seen_at)";

/// Writes all other rows, in the same way; `evidence` has a second parameter, the latest plausible time. Most
/// transactions have none, and a statement costs as much for no row as for several.
const INSERT_OTHERS: &str = "UPDATE manifests SET pulled_at = MAX(COALESCE(pulled_at, 0), pull.at) FROM \
    (SELECT value->>0 AS host, value->>1 AS repository, value->>2 AS digest, value->>3 AS at FROM json_each(?)) AS pull \
    WHERE manifests.host = pull.host AND manifests.repository = pull.repository AND manifests.digest = pull.digest; \
    INSERT INTO links (host, repository, digest, size, seen_at) \
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4 FROM json_each(?) WHERE true \
    ON CONFLICT (host, repository, digest) DO UPDATE SET seen_at = MAX(seen_at, excluded.seen_at); \
    INSERT INTO evidence (topic, subject, value, observed_at, valid_until) \
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4 FROM json_each(?) WHERE true \
    ON CONFLICT (topic, subject) DO UPDATE SET value = excluded.value, observed_at = excluded.observed_at, \
    valid_until = excluded.valid_until WHERE excluded.observed_at >= observed_at OR observed_at > ?";

impl NewFacts {
    /// Creates an empty set of facts.
    pub fn new(now: Timestamp) -> Self {
        Self {
            now,
            manifests: Vec::new(),
            members: Vec::new(),
            tops: Vec::new(),
            tags: Vec::new(),
            old_tags: Vec::new(),
            pulls: Vec::new(),
            links: Vec::new(),
            evidence: Vec::new(),
        }
    }

    /// Adds that the repository delivered a manifest, and which digests it references.
    #[must_use]
    pub fn manifest(mut self, name: &ImageName, manifest: &Manifest, seen: Timestamp) -> Self {
        let ImageName { host, repository } = name;
        let is_index = matches!(manifest.content, Content::Index(_));
        self.manifests.push((
            host.clone(),
            repository.clone(),
            manifest.digest,
            manifest.media_type.clone(),
            manifest.bytes.len(),
            seen.as_millisecond(),
            None,
        ));
        let row = |member: Digest| (host.clone(), repository.clone(), manifest.digest, member, is_index);
        self.members.extend(manifest.descriptors().map(|member| row(member.digest)));
        if let Content::Image { layers, .. } = &manifest.content {
            let top = layers.last().map(|top| (host.clone(), repository.clone(), manifest.digest, top.digest));
            self.tops.extend(top);
        }
        self
    }

    /// Adds that a tag refers to this digest now.
    #[must_use]
    pub fn tag(mut self, name: &ImageName, tag: &Tag, digest: Digest, now: Timestamp) -> Self {
        self.tags.push(tag_row(name, tag, digest, now));
        self.old_tag(name, tag, digest, now)
    }

    /// Adds that a tag referred to this digest when it was seen. It may refer to another digest now.
    #[must_use]
    pub fn old_tag(mut self, name: &ImageName, tag: &Tag, digest: Digest, seen: Timestamp) -> Self {
        self.old_tags.push(tag_row(name, tag, digest, seen));
        self
    }

    /// Adds that a manifest of the repository was served.
    #[must_use]
    pub fn pull(mut self, name: &ImageName, digest: Digest, at: Timestamp) -> Self {
        let (ImageName { host, repository }, at) = (name, at.as_millisecond());
        let is_it = |row: &&mut ManifestRow| row.2 == digest && row.1 == *repository && row.0 == *host;
        match self.manifests.iter_mut().find(is_it) {
            // One row instead of two.
            Some(row) => row.6 = Some(at),
            None => self.pulls.push((host.clone(), repository.clone(), digest, at)),
        }
        self
    }

    /// Adds that the repository itself delivered or confirmed a blob of this size in bytes.
    #[must_use]
    pub fn link(mut self, name: &ImageName, digest: Digest, size: u64, seen: Timestamp) -> Self {
        self.links.push((name.host.clone(), name.repository.clone(), digest, size, seen.as_millisecond()));
        self
    }

    /// Adds evidence under a topic and a subject.
    #[must_use]
    pub fn evidence(mut self, topic: &'static str, subject: &str, evidence: Observed<String>) -> Self {
        let Observed { value, at, until } = evidence;
        let until = until.map(Timestamp::as_millisecond);
        self.evidence.push((topic, subject.to_owned(), value, at.as_millisecond(), until));
        self
    }

    /// The number of rows. Evidence counts by its size, in units of a typical row.
    pub(super) fn rows(&self) -> u64 {
        let evidence: usize = self.evidence.iter().map(|(_, _, value, ..)| 1 + value.len() / 512).sum();
        let names = self.tags.len() + self.old_tags.len();
        (self.manifests.len() + self.members.len() + self.tops.len() + names + self.links.len() + evidence) as u64
    }

    /// Writes the rows of several requests.
    pub(super) async fn write(gathered: &[&Self], connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let Some(now) = gathered.iter().map(|facts| facts.now).max() else { return Ok(()) };
        let latest = latest_plausible(now);
        if gathered.iter().any(|facts| facts.has_manifests()) {
            sqlx::query(INSERT_MANIFESTS)
                .bind(rows_of(gathered, |facts| &facts.manifests))
                .bind(rows_of(gathered, |facts| &facts.members))
                .bind(rows_of(gathered, |facts| &facts.tops))
                .bind(rows_of(gathered, |facts| &facts.tags))
                .bind(latest)
                .bind(rows_of(gathered, |facts| &facts.old_tags))
                .execute(&mut *connection)
                .await?;
        }
        if gathered.iter().any(|facts| facts.has_others()) {
            // Pulls change rows of manifests, which may be those from above.
            sqlx::query(INSERT_OTHERS)
                .bind(rows_of(gathered, |facts| &facts.pulls))
                .bind(rows_of(gathered, |facts| &facts.links))
                .bind(rows_of(gathered, |facts| &facts.evidence))
                .bind(latest)
                .execute(connection)
                .await?;
        }
        Ok(())
    }

    /// Whether there are rows for [`INSERT_MANIFESTS`].
    fn has_manifests(&self) -> bool {
        // Members and topmost layers come with their manifests, and tags are old tags as well.
        !self.manifests.is_empty() || !self.old_tags.is_empty()
    }

    /// Whether there are rows for [`INSERT_OTHERS`].
    fn has_others(&self) -> bool {
        !self.pulls.is_empty() || !self.links.is_empty() || !self.evidence.is_empty()
    }
}

fn tag_row(name: &ImageName, tag: &Tag, digest: Digest, at: Timestamp) -> TagRow {
    (name.host.clone(), name.repository.clone(), tag.clone(), digest, at.as_millisecond())
}

/// The rows of one table as JSON.
fn rows_of<T: Serialize>(gathered: &[&NewFacts], of: impl Fn(&NewFacts) -> &Vec<T>) -> String {
    let rows: Vec<&T> = gathered.iter().flat_map(|facts| of(facts)).collect();
    super::json(&rows)
}
