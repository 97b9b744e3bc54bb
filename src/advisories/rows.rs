//! The interface of a vulnerability database for matching: its rows as types, and how they are looked up.
//!
//! The types follow what the sources write: [`trivy-db`](https://github.com/aquasecurity/trivy-db) (schema 2, JSON
//! values of a bbolt file) and [OSV](https://ossf.github.io/osv-schema/). Unknown fields are ignored. A value that
//! cannot be read is an error and never a missing row.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::details::KnownRows;
use super::rating::OsvRating;
use super::references::ReferenceList;

/// The database has bytes that its format does not allow, so an answer would be incomplete.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the advisory database is damaged: {0}")]
pub struct DamagedDatabase(pub String);

/// Look-ups in a `trivy-db`. Each costs a few microseconds.
pub trait TrivyRows: Send + Sync {
    /// The names of the root buckets that start with the prefix, in order: `npm::` yields
    /// `npm::GitHub Security Advisory npm` and other sources. The empty prefix yields all.
    fn buckets(&self, prefix: &str) -> Result<Vec<String>, DamagedDatabase>;

    /// Whether a root bucket has rows of any package.
    fn covers(&self, bucket: &str) -> Result<bool, DamagedDatabase>;

    /// The rows of a package in a root bucket, by their keys (`CVE-2024-1234`, `RHSA-2024:1234`), in order. Empty if
    /// there is no such bucket or package.
    fn rows(&self, bucket: &str, package: &str) -> Result<Vec<(String, TrivyRow)>, DamagedDatabase>;

    /// Where the advisories of a root bucket are from (bucket `data-source`).
    fn source(&self, bucket: &str) -> Result<Option<Arc<TrivySource>>, DamagedDatabase>;

    /// The details of a vulnerability (bucket `vulnerability`).
    fn detail(&self, id: &str) -> Result<Option<Arc<TrivyDetail>>, DamagedDatabase>;

    /// The indexes of the CPEs that a Red Hat repository provides (buckets `Red Hat CPE` / `repository`):
    /// `rhel-9-for-x86_64-baseos-rpms`.
    fn repository_cpes(&self, repository: &str) -> Result<Vec<u64>, DamagedDatabase>;

    /// The indexes of the CPEs of a Red Hat container image (buckets `Red Hat CPE` / `nvr`):
    /// `ubi8-container-8.0-122-x86_64`.
    fn build_cpes(&self, nvr: &str) -> Result<Vec<u64>, DamagedDatabase>;
}

/// An advisory for one package. Sources fill different fields.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TrivyRow {
    /// The version that fixes it; empty if there is no fix.
    pub fixed_version: String,
    /// The first affected version; empty if all earlier versions are affected.
    pub affected_version: String,
    /// 0 unknown, 1 low, 2 medium, 3 high, 4 critical. Set where the package decides the severity (Debian).
    pub severity: u8,
    /// See [`FixStatus`](super::FixStatus): 0 unknown, 1 not affected, 2 affected, 3 fixed, 4 under investigation, 5
    /// will not fix, 6 fix deferred, 7 end of life.
    pub status: u8,
    /// The vendor's identifiers: `DSA-5000-1`, `ELSA-2021-1234`.
    #[serde(rename = "VendorIDs", alias = "VendorIds", deserialize_with = "null_as_default")]
    pub vendor_ids: Vec<String>,
    /// The affected architectures; empty if all are.
    #[serde(deserialize_with = "null_as_default")]
    pub arches: Vec<String>,
    /// Advisories that differ by architecture or product (Red Hat, Rocky, Oracle).
    #[serde(deserialize_with = "null_as_default")]
    pub entries: Vec<TrivyEntry>,
    /// Ranges, one of which contains the version; an empty text contains all.
    #[serde(deserialize_with = "null_as_default")]
    pub vulnerable_versions: Vec<String>,
    /// Ranges without the vulnerability.
    #[serde(deserialize_with = "null_as_default")]
    pub patched_versions: Vec<String>,
    /// Ranges that never had the vulnerability.
    #[serde(deserialize_with = "null_as_default")]
    pub unaffected_versions: Vec<String>,
}

/// A part of an advisory.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TrivyEntry {
    /// The version that fixes it; empty if there is no fix.
    pub fixed_version: String,
    /// The affected architectures; empty if all are.
    #[serde(deserialize_with = "null_as_default")]
    pub arches: Vec<String>,
    /// See [`TrivyRow::status`].
    pub status: u8,
    /// The vendor's identifiers: `RLSA-2023:0001`.
    #[serde(rename = "VendorIDs", alias = "VendorIds", deserialize_with = "null_as_default")]
    pub vendor_ids: Vec<String>,
    /// Red Hat: the indexes of the affected CPEs.
    #[serde(rename = "Affected", deserialize_with = "null_as_default")]
    pub cpes: Vec<u64>,
    /// Red Hat: the vulnerabilities that the advisory is about.
    #[serde(deserialize_with = "null_as_default")]
    pub cves: Vec<TrivyCve>,
}

/// A vulnerability of a Red Hat advisory.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct TrivyCve {
    /// `CVE-2024-1234`; empty if the row's key says it.
    #[serde(rename = "ID")]
    pub id: String,
    /// See [`TrivyRow::severity`].
    #[serde(rename = "Severity")]
    pub severity: u8,
}

/// Where advisories are from.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct TrivySource {
    /// `debian`, `ghsa`, `alpine`.
    #[serde(rename = "ID")]
    pub id: String,
    /// `GitHub Security Advisory npm`.
    #[serde(rename = "Name")]
    pub name: String,
    /// The source whose advisories these extend; empty for most.
    #[serde(rename = "BaseID")]
    pub base_id: String,
}

/// What is known about a vulnerability, whatever the package.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TrivyDetail {
    /// A summary in one line.
    pub title: String,
    /// The severity by the first source that has one: `LOW`, `MEDIUM`, `HIGH`, `CRITICAL`.
    pub severity: String,
    /// The severity by source; see [`TrivyRow::severity`].
    #[serde(deserialize_with = "null_as_default")]
    pub vendor_severity: BTreeMap<String, u8>,
    /// Scores by source.
    #[serde(rename = "CVSS", deserialize_with = "null_as_default")]
    pub cvss: BTreeMap<String, TrivyCvss>,
    /// Addresses with more information.
    #[serde(deserialize_with = "null_as_default")]
    pub references: Arc<[String]>,
    /// When it was published.
    pub published_date: Option<Timestamp>,
    /// When it was last changed.
    pub last_modified_date: Option<Timestamp>,
}

/// The scores that one source gives, by version of CVSS. 0 means no score.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TrivyCvss {
    /// The vector of version 2; empty if not stated.
    pub v2_vector: String,
    /// The vector of version 3; empty if not stated.
    pub v3_vector: String,
    /// The vector of version 4.0; empty if not stated.
    pub v40_vector: String,
    /// The score of version 2; 0 if not stated.
    pub v2_score: f64,
    /// The score of version 3; 0 if not stated.
    pub v3_score: f64,
    /// The score of version 4.0; 0 if not stated.
    pub v40_score: f64,
}

/// Look-ups in an index of OSV records. Withdrawn records are not in it.
pub trait OsvRows: Send + Sync {
    /// Whether the index has any record of this ecosystem: `PyPI`, `Debian:12`, `AlmaLinux:9`.
    fn covers(&self, ecosystem: &str) -> Result<bool, DamagedDatabase>;

    /// The names of the ecosystems that start with the prefix: `SUSE:` yields `SUSE:Linux Enterprise Server 15 SP5` and
    /// others.
    fn ecosystems(&self, prefix: &str) -> Vec<String>;

    /// Calls `visit` with the part of each record that is about the versions of a package, in the order of the records'
    /// identifiers. The names are those of the records, except that the names of `PyPI` are normalised (PEP 503), and
    /// those of `NuGet` and `Packagist` are compared without regard to case. Costs a few microseconds, less if the rows
    /// are among the `known` ones. After an error, records are missing.
    fn each_row(
        &self,
        ecosystem: &str,
        package: &str,
        known: Option<KnownRows<'_>>,
        visit: &mut dyn FnMut(&OsvRow<&str>),
    ) -> Result<(), DamagedDatabase>;

    /// The rest of the record of a row.
    fn detail(&self, row: &OsvRow<&str>) -> Result<Arc<OsvDetail>, DamagedDatabase>;
}

/// What an OSV record says about the versions of one package. Its strings are owned or borrow from what was read: most
/// rows affect no installed version and are dropped at once.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OsvRow<T = String> {
    /// The record: `GO-2024-1234`, `ALSA-2024:1234`.
    pub id: T,
    /// Where the index has the rest of the record.
    pub(super) detail: IndexPart,
    /// Its entries of `affected` about this package.
    pub affected: Vec<OsvAffected<T>>,
}

/// A part of an index file: offset and length in bytes, and the checksum.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct IndexPart {
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) crc: u32,
}

/// An OSV record without its `affected`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct OsvDetail {
    /// `GO-2024-1234`, `ALSA-2024:1234`.
    pub id: String,
    /// Other identifiers of the same vulnerability.
    pub aliases: Vec<String>,
    /// The vulnerabilities that an advisory of a distribution is about.
    pub upstream: Vec<String>,
    /// Identifiers that are related otherwise. AlmaLinux lists the vulnerabilities of an advisory here.
    pub related: Vec<String>,
    /// A summary in one line. AlmaLinux begins it with the severity: `Important: openssl security update`.
    pub summary: String,
    /// When it was published.
    pub published: Option<Timestamp>,
    /// When it was last changed.
    pub modified: Option<Timestamp>,
    /// Severities of the whole record.
    pub severity: Vec<OsvSeverity>,
    /// A word for the severity that the source states elsewhere (`database_specific.severity`): `MODERATE`.
    pub severity_word: Option<String>,
    /// Addresses with more information.
    #[serde(skip)]
    pub references: ReferenceList,
    /// The severity that follows from the above, once it was asked for.
    #[serde(skip)]
    pub(super) rating: OnceLock<OsvRating>,
}

/// A severity: a vector, or a word.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, bound(deserialize = "T: Default + Deserialize<'de>"))]
pub struct OsvSeverity<T = String> {
    /// `CVSS_V2`, `CVSS_V3`, `CVSS_V4`, `Ubuntu`.
    #[serde(rename = "type")]
    pub kind: T,
    /// The vector: `CVSS:3.1/AV:N/…`; or `high` with the type `Ubuntu`.
    pub score: T,
}

/// Which versions of a package are affected.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, bound(deserialize = "T: Default + Deserialize<'de>"))]
pub struct OsvAffected<T = String> {
    /// Ranges of versions.
    pub ranges: Vec<OsvRange<T>>,
    /// Single versions.
    pub versions: Vec<T>,
    /// Severities for this package, before those of the record.
    pub severity: Vec<OsvSeverity<T>>,
    /// A word for the severity that the source states for this package (`ecosystem_specific.severity`, Debian's
    /// `ecosystem_specific.urgency`).
    pub severity_word: Option<T>,
}

/// A range of versions: what begins and ends it, in any order.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, bound(deserialize = "T: Default + Deserialize<'de>"))]
pub struct OsvRange<T = String> {
    /// `SEMVER`, `ECOSYSTEM` or `GIT`.
    #[serde(rename = "type")]
    pub kind: T,
    /// The events.
    pub events: Vec<OsvEvent<T>>,
}

/// An event of a range. One of the fields is set.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, bound(deserialize = "T: Default + Deserialize<'de>"))]
pub struct OsvEvent<T = String> {
    /// The first affected version; `0` is before all versions.
    pub introduced: Option<T>,
    /// The first version that is no longer affected.
    pub fixed: Option<T>,
    /// The last affected version.
    pub last_affected: Option<T>,
    /// The range says nothing from this version on.
    pub limit: Option<T>,
}

/// Reads `null` as an empty list or map: Go writes both.
fn null_as_default<'de, D, T>(input: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(input)?.unwrap_or_default())
}
