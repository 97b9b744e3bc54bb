//! trivy-db, schema 2: a bbolt file of JSON values (github.com/aquasecurity/trivy-db), with its `metadata.json`.
//!
//! Root buckets are named after distributions (`debian 12`) and ecosystems (`npm::GitHub Security Advisory npm`).
//! Inside is a bucket for each package, and in it a row for each advisory. `vulnerability` describes vulnerabilities,
//! `data-source` says where the rows of a bucket come from, and `Red Hat CPE` maps repositories and builds to products.

mod changes;
#[cfg(test)]
pub(super) mod sample;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::bolt::{BoltEntry, BoltFile, Bucket, BucketRoot};
use super::{DamagedDatabase, TrivyDetail, TrivyRow, TrivyRows, TrivySource};

/// The name of the database file.
pub(super) const DATABASE: &str = "trivy.db";
/// The name of the file that describes the database.
pub(super) const METADATA: &str = "metadata.json";
/// The schema that is understood.
pub(super) const SCHEMA: u64 = 2;
/// The maximum size of `metadata.json` in bytes. It has about 150.
const MAX_METADATA: u64 = 64 * 1024;
/// The maximum number of root buckets. There are about 200.
const MAX_BUCKETS: usize = 100_000;

const DETAILS: &str = "vulnerability";
const SOURCES: &str = "data-source";
const RED_HAT_CPE: &str = "Red Hat CPE";

/// The content of `metadata.json`, which is next to trivy-db and to the database of Java archives.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TrivyMetadata {
    #[serde(default)]
    version: u64,
    /// When the database was built.
    pub(super) updated_at: Timestamp,
}

impl TrivyMetadata {
    /// Reads the file in a directory.
    ///
    /// # Errors
    /// It cannot be read, it is not in the format of trivy-db, or its schema is not `schema`.
    pub(super) fn read(directory: &Path, schema: u64) -> Result<Self, DamagedDatabase> {
        let mut text = Vec::new();
        let metadata = File::open(directory.join(METADATA));
        let read = metadata.and_then(|file| file.take(MAX_METADATA).read_to_end(&mut text));
        read.map_err(|error| DamagedDatabase(format!("{METADATA}: {error}")))?;
        let metadata: Self = parse(&text, METADATA)?;
        if metadata.version != schema {
            return Err(DamagedDatabase(format!(
                "it has schema {}, but pullgate reads schema {schema}: fetch the tag `{schema}` of the repository",
                metadata.version
            )));
        }
        Ok(metadata)
    }
}

/// An open trivy-db.
#[derive(Debug)]
pub struct TrivyDb {
    file: BoltFile,
    buckets: BTreeMap<String, RootBucket>,
}

#[derive(Debug)]
struct RootBucket {
    root: BucketRoot,
    source: Option<Arc<TrivySource>>,
}

/// What a full check of a database counted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct TrivyContents {
    /// Advisories, each for one package.
    pub(super) rows: u64,
    /// Descriptions of vulnerabilities.
    pub(super) details: u64,
}

impl TrivyDb {
    /// Opens the database in a directory.
    ///
    /// # Errors
    /// A file is missing or damaged, or it is of another schema.
    pub(super) fn open(directory: &Path) -> Result<Self, DamagedDatabase> {
        TrivyMetadata::read(directory, SCHEMA)?;
        let file = File::open(directory.join(DATABASE));
        let file = file.map_err(|error| DamagedDatabase(format!("{DATABASE}: {error}")))?;
        Self::of(BoltFile::open(file)?)
    }

    fn of(file: BoltFile) -> Result<Self, DamagedDatabase> {
        let mut roots = BTreeMap::new();
        for entry in file.root().walk()? {
            let (name, BoltEntry::Bucket(bucket)) = entry? else { continue };
            let name = text(&name)?;
            if roots.len() == MAX_BUCKETS {
                return Err(DamagedDatabase(format!("it has more than {MAX_BUCKETS} buckets")));
            }
            roots.insert(name, bucket.into_root());
        }
        let mut buckets = BTreeMap::new();
        let sources = roots.get(SOURCES).map(|root| file.bucket_at(root.clone()));
        for (name, root) in &roots {
            let value = sources.as_ref().map(|sources| sources.get(name.as_bytes())).transpose()?.flatten();
            let source =
                value.and_then(BoltEntry::value).map(|value| parse(&value, SOURCES).map(Arc::new)).transpose()?;
            buckets.insert(name.clone(), RootBucket { root: root.clone(), source });
        }
        Ok(Self { file, buckets })
    }

    /// Reads the whole database, and checks that each row is what schema 2 defines. This takes seconds.
    ///
    /// # Errors
    /// A part is damaged.
    pub(super) fn check(&self) -> Result<TrivyContents, DamagedDatabase> {
        let mut contents = TrivyContents::default();
        self.file.check(&mut |path, key, value| {
            let place = || {
                let names: Vec<_> = path.iter().map(Vec::as_slice).chain([key]).map(String::from_utf8_lossy).collect();
                names.join("/")
            };
            let path: Vec<&[u8]> = path.iter().map(Vec::as_slice).collect();
            match path[..] {
                [root] if root == DETAILS.as_bytes() => {
                    parse::<TrivyDetail>(value, &place())?;
                    contents.details += 1;
                }
                [root] if root == SOURCES.as_bytes() => drop(parse::<TrivySource>(value, &place())?),
                [root, b"repository" | b"nvr"] if root == RED_HAT_CPE.as_bytes() => {
                    parse::<Vec<u64>>(value, &place())?;
                }
                [root, _] if root != RED_HAT_CPE.as_bytes() => {
                    parse::<TrivyRow>(value, &place())?;
                    text(key)?;
                    contents.rows += 1;
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(contents)
    }

    fn bucket(&self, name: &str) -> Option<Bucket<'_>> {
        self.buckets.get(name).map(|bucket| self.file.bucket_at(bucket.root.clone()))
    }

    fn cpes(&self, kind: &str, key: &str) -> Result<Vec<u64>, DamagedDatabase> {
        let Some(root) = self.bucket(RED_HAT_CPE) else { return Ok(Vec::new()) };
        let Some(BoltEntry::Bucket(bucket)) = root.get(kind.as_bytes())? else { return Ok(Vec::new()) };
        let value = bucket.get(key.as_bytes())?.and_then(BoltEntry::value);
        Ok(value.map(|value| parse(&value, key)).transpose()?.unwrap_or_default())
    }
}

impl TrivyRows for TrivyDb {
    fn buckets(&self, prefix: &str) -> Result<Vec<String>, DamagedDatabase> {
        let from = self.buckets.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        Ok(from.map(|(name, _)| name).take_while(|name| name.starts_with(prefix)).cloned().collect())
    }

    fn covers(&self, bucket: &str) -> Result<bool, DamagedDatabase> {
        let Some(bucket) = self.bucket(bucket) else { return Ok(false) };
        for entry in bucket.walk()? {
            if matches!(entry?.1, BoltEntry::Bucket(_)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn rows(&self, bucket: &str, package: &str) -> Result<Vec<(String, TrivyRow)>, DamagedDatabase> {
        let mut rows = Vec::new();
        let Some(bucket) = self.bucket(bucket) else { return Ok(rows) };
        let Some(BoltEntry::Bucket(package)) = bucket.get(package.as_bytes())? else { return Ok(rows) };
        for entry in package.walk()? {
            let (id, BoltEntry::Value(value)) = entry? else { continue };
            let id = text(&id)?;
            let row = match only_fixed_version(&value) {
                Some(fixed) => TrivyRow { fixed_version: fixed.to_owned(), ..TrivyRow::default() },
                None => parse(&value, &id)?,
            };
            rows.push((id, row));
        }
        Ok(rows)
    }

    fn source(&self, bucket: &str) -> Result<Option<Arc<TrivySource>>, DamagedDatabase> {
        Ok(self.buckets.get(bucket).and_then(|bucket| bucket.source.clone()))
    }

    fn detail(&self, id: &str) -> Result<Option<Arc<TrivyDetail>>, DamagedDatabase> {
        let Some(bucket) = self.bucket(DETAILS) else { return Ok(None) };
        let value = bucket.get(id.as_bytes())?.and_then(BoltEntry::value);
        value.map(|value| parse(&value, id).map(Arc::new)).transpose()
    }

    fn repository_cpes(&self, repository: &str) -> Result<Vec<u64>, DamagedDatabase> {
        self.cpes("repository", repository)
    }

    fn build_cpes(&self, nvr: &str) -> Result<Vec<u64>, DamagedDatabase> {
        self.cpes("nvr", nvr)
    }
}

/// The fixed version of a row that states nothing else, as most rows do: `{"FixedVersion":"1.2"}`. Parsing them all as
/// JSON is most of the time of matching an image.
fn only_fixed_version(value: &[u8]) -> Option<&str> {
    let fixed = value.strip_prefix(b"{\"FixedVersion\":\"")?.strip_suffix(b"\"}")?;
    let is_plain = fixed.iter().all(|byte| !matches!(byte, b'"' | b'\\' | ..=0x1f));
    std::str::from_utf8(fixed).ok().filter(|_| is_plain)
}

fn text(bytes: &[u8]) -> Result<String, DamagedDatabase> {
    let text = std::str::from_utf8(bytes).map(str::to_owned);
    text.map_err(|_| DamagedDatabase(format!("the name {:?} is not UTF-8", String::from_utf8_lossy(bytes))))
}

fn parse<T: DeserializeOwned>(value: &[u8], place: &str) -> Result<T, DamagedDatabase> {
    serde_json::from_slice(value).map_err(|error| DamagedDatabase(format!("{place}: {error}")))
}
