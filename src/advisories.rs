//! Advisory databases, and which advisories apply to an inventory.
//!
//! A database is a file that the operator fetches or imports; none is part of the program. It is read through
//! bounds-checked readers, because its bytes are not trusted to be well-formed. [`find()`] matches an inventory against
//! one generation of the databases and has no opinion: policies weigh the findings.

mod bolt;
mod changes;
mod cve_table;
mod databases;
mod details;
mod end_of_life;
mod error;
mod feed;
mod find;
mod generations;
mod import;
mod java_archives;
mod java_db;
mod join;
mod library;
mod looked_up;
mod meter;
mod osv;
mod osv_match;
mod osv_range;
mod package_key;
mod rating;
mod rebuilt;
mod red_hat;
mod references;
mod release;
mod rows;
mod section;
mod system;
#[cfg(test)]
mod tests;
mod trivy_db;

pub use changes::{ChangedNames, PackageNames, changed_names};
pub use databases::{Databases, SourceState, SourceStatus, is_fetched};
use details::KnownRows;
pub use error::DatabaseError;
pub use find::{ImageFindings, find, rate};
pub use generations::{AdvisoryStore, DatabaseKind, GenerationManifest, InstalledGeneration};
pub use import::{
    DatabaseTransport, FetchedFile, ImportOptions, WebAnswer, WebSource, export, fetch_file, fetch_image, import,
    import_if,
};
pub use java_archives::name_archives;
pub use meter::{DatabaseLimits, DatabaseProgress};
pub use references::ReferenceList;
pub use release::support_ends;
use rows::IndexPart;
pub use rows::{
    DamagedDatabase, OsvAffected, OsvDetail, OsvEvent, OsvRange, OsvRow, OsvRows, OsvSeverity, TrivyCvss, TrivyDetail,
    TrivyRow, TrivyRows, TrivySource,
};

use jiff::Timestamp;

pub(crate) use crate::policy::FixStatus;
use crate::policy::{CvssScore, Severity};

/// A vulnerability that affects a package of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct MatchedAdvisory {
    /// `CVE-2024-1234`, or the source's own identifier: `GHSA-…`, `GO-2024-…`, `DSA-…`.
    pub id: String,
    /// Other identifiers of the same vulnerability, including vendors' advisories (`DSA-…`, `ALSA-…`).
    pub aliases: Vec<String>,
    /// The index of the package in [`Inventory::packages`](crate::inventory::Inventory::packages): the first one, if
    /// the image contains the package several times (see [`ImageFindings::copies`]).
    pub package: usize,
    /// The first version without the vulnerability; several, one for each branch, are separated by `, `.
    pub fixed: Option<String>,
    /// Whether and how the vendor will fix it.
    pub status: FixStatus,
    /// The severity.
    pub severity: Severity,
    /// Which source rated it: `debian`, `nvd`, `ghsa`. `None` if that is not known.
    pub severity_source: Option<String>,
    /// The severities that other sources give, with their names. A source can have several, for several records.
    pub ratings: Vec<(String, Severity)>,
    /// The source of the advisory: `debian`, `ghsa`, `osv`. If several list the vulnerability, the distribution's own
    /// comes first, then other sources of trivy-db. Empty if the database does not name it.
    pub source: String,
    /// A summary in one line.
    pub title: Option<String>,
    /// When the vulnerability was published.
    pub published: Option<Timestamp>,
    /// When the source last changed its description.
    pub modified: Option<Timestamp>,
    /// The worst score that any source gives.
    pub score: Option<CvssScore>,
    /// Whether it is known to be exploited (KEV). False if no such feed is in use.
    pub exploited: bool,
    /// The probability that it will be exploited (EPSS): the highest of its CVEs.
    pub epss: Option<f64>,
    /// Addresses with more information: a list of each record, shared with all that it is about.
    pub references: Vec<ReferenceList>,
}

impl MatchedAdvisory {
    /// A vulnerability of which nothing else is known.
    fn new(id: impl Into<String>, package: usize, source: &str) -> Self {
        Self {
            id: id.into(),
            aliases: Vec::new(),
            package,
            fixed: None,
            status: FixStatus::Unknown,
            severity: Severity::Unknown,
            severity_source: None,
            ratings: Vec::new(),
            source: source.to_owned(),
            title: None,
            published: None,
            modified: None,
            score: None,
            exploited: false,
            epss: None,
            references: Vec::new(),
        }
    }
}
