//! What is known about a generation.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::oci::{Algorithm, Digest, Hasher};

/// The name of the file.
pub(super) const NAME: &str = "manifest.json";

/// The names of the sources that Trivy's databases are.
pub(in super::super) const TRIVY_DB: &str = "trivy-db";
pub(in super::super) const JAVA_DB: &str = "trivy-java-db";

/// The format of a database.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatabaseKind {
    /// Probabilities of exploitation (EPSS), as a table.
    Epss,
    /// Published Java archives by checksum: trivy-java-db, schema 1.
    JavaDb,
    /// Known exploited vulnerabilities (KEV), as a table.
    Kev,
    /// OSV records, compiled to an index.
    Osv,
    /// trivy-db, schema 2.
    TrivyDb,
}

impl DatabaseKind {
    /// Whether this can be the name of a source of this kind.
    pub(in super::super) fn is_name(self, source: &str) -> bool {
        match self {
            Self::Epss => source == "epss",
            Self::JavaDb => source == JAVA_DB,
            Self::Kev => source == "kev",
            Self::Osv => {
                let others = [Self::Epss, Self::JavaDb, Self::Kev, Self::TrivyDb];
                !others.iter().any(|other| other.is_name(source))
            }
            Self::TrivyDb => source == TRIVY_DB,
        }
    }

    /// What its rows are, in words.
    pub fn rows(self) -> &'static str {
        match self {
            Self::Epss | Self::Kev => "vulnerabilities",
            Self::JavaDb => "archives",
            Self::Osv | Self::TrivyDb => "advisories",
        }
    }

    /// The names of its files. The first one is the database.
    pub(in super::super) fn files(self) -> &'static [&'static str] {
        match self {
            Self::Epss | Self::Kev => &[super::super::cve_table::TABLE],
            Self::JavaDb => &[super::super::java_db::DATABASE, super::super::trivy_db::METADATA],
            Self::Osv => &[super::super::osv::INDEX],
            Self::TrivyDb => &[super::super::trivy_db::DATABASE, super::super::trivy_db::METADATA],
        }
    }
}

/// A generation of a database.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct GenerationManifest {
    /// The source: `trivy-db`, `osv-pypi`, `trivy-java-db`, `kev`, `epss`.
    pub source: String,
    /// The format.
    pub kind: DatabaseKind,
    /// When the source built the database. Its age counts from here.
    pub built: Timestamp,
    /// When it was fetched or imported.
    pub fetched: Timestamp,
    /// Where it is from: `ghcr.io/aquasecurity/trivy-db:2@sha256:…`, a URL as it is shown, or a path.
    pub from: String,
    /// The entity tag that the web server stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Advisories, each for one package; the number of CVEs in a feed, or of Java archives.
    pub rows: u64,
    /// Its files, the database first.
    pub files: Vec<GenerationFile>,
}

/// A file of a generation.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct GenerationFile {
    /// `trivy.db`.
    pub name: String,
    /// The size in bytes.
    pub size: u64,
    /// The digest.
    pub digest: Digest,
}

impl GenerationManifest {
    /// The name of the generation: when it was built, and what it consists of. `20260102T030405Z-3f2a9c0d1e4b`.
    pub fn id(&self) -> String {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        for file in &self.files {
            hasher.update(file.digest.as_bytes());
        }
        format!("{}-{}", self.built.strftime("%Y%m%dT%H%M%SZ"), hasher.finish().short())
    }

    /// The size of all files in bytes.
    pub fn size(&self) -> u64 {
        self.files.iter().fold(0, |size, file| size.saturating_add(file.size))
    }
}
