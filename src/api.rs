//! The admin API: the requests and answers that the server and the command line exchange as JSON.
//!
//! Every call is below `/api/v1/`, and IBM's calls are below `/va/api/`. This module says what each call takes and
//! gives, and turns the gate's own values into answers. A test holds the JSON of each answer, because other programs
//! read it.

mod bundle;
mod check;
mod contents;
mod counts;
mod exemptions;
mod forget;
/// IBM's Vulnerability Advisor API.
pub mod ibm;
mod images;
mod jobs;
mod pins;
mod query;
mod remedy;
mod scan;
mod security_status;
mod verdicts;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::cache::{
    CachedContent, Collected, ContentKind, Forecast, ForecastContent, RemovalCause, RemovedContent,
    Status as CacheStatus, Verified,
};
pub use bundle::{
    AdvisoriesRequest, BundledDatabase, BundledImage, ContentQuery, HoldAnswer, HoldRequest, ImportOutcome,
    ImportRequest, ImportedImage, MissingRequest, PlannedImage, ReleaseAnswer, ReleaseRequest, ReportsRequest,
    report_file_name, report_names,
};
pub use check::{
    AssessmentAnswer, AuthorityAnswer, CheckAnswer, CheckRequest, Decision, IssueAnswer, RuleAnswer, SignatureAnswer,
    SignerAnswer, check,
};
pub use contents::{ContentListRequest, RemovalRequest, contents, remove_content};
pub use counts::AssessmentCounts;
pub use exemptions::{ExemptionAnswer, ExemptionRequest, ListedExemption, add_exemption, list_exemptions};
pub use forget::{ForgetRequest, ForgottenRole, forget};
pub use images::{ImageAnswer, ImageListRequest};
pub use jobs::{JobState, PrefetchRequest, PrefetchedImage};
pub use pins::{PinAnswer, PinRequest, pin, pins, unpin};
pub use query::{encode, parameter};
pub use remedy::{PackageUpgrade, other_identifiers, remedies, upgrades, vendor_link};
pub use scan::{ImageScan, PackageAnswer, scan, scan_image};
pub use verdicts::{
    ClientAnswer, ListedChange, OutcomeAnswer, VerdictAnswer, VerdictsAnswer, VerdictsRequest, verdicts,
};

/// Why there is no assessment, if evaluating the rules failed.
const ABNORMAL_END: &str = "the assessment ended abnormally; see the log";

/// The paths of the calls, below [`path::PREFIX`].
pub mod path {
    /// The beginning of every path.
    pub const PREFIX: &str = "/api/v1/";
    /// `POST` of an [`AdvisoriesRequest`](super::AdvisoriesRequest): records that advisory databases of a bundle are
    /// about to be put into use.
    pub const BUNDLE_ADVISORIES: &str = "bundle/advisories";
    /// With the query of a [`ContentQuery`](super::ContentQuery). `PUT`: stores the body, which is verified. `POST`:
    /// the content, if a client could pull it.
    pub const BUNDLE_CONTENT: &str = "bundle/content";
    /// `POST` of a [`HoldRequest`](super::HoldRequest): begins an import, whose content is not evicted until it ends;
    /// [`HoldAnswer`](super::HoldAnswer).
    pub const BUNDLE_HOLD: &str = "bundle/hold";
    /// `POST` of an [`ImportRequest`](super::ImportRequest): begins a job whose result is an
    /// [`ImportedImage`](super::ImportedImage).
    pub const BUNDLE_IMPORT: &str = "bundle/import";
    /// `POST` of a [`MissingRequest`](super::MissingRequest): those of the digests whose content is not on disk.
    pub const BUNDLE_MISSING: &str = "bundle/missing";
    /// `POST` of a [`PrefetchRequest`](super::PrefetchRequest): begins a job whose result is a list of
    /// [`PlannedImage`](super::PlannedImage).
    pub const BUNDLE_PLAN: &str = "bundle/plan";
    /// `POST` of a [`ReleaseRequest`](super::ReleaseRequest): ends an import; [`ReleaseAnswer`](super::ReleaseAnswer).
    pub const BUNDLE_RELEASE: &str = "bundle/release";
    /// `POST` of a [`ReportsRequest`](super::ReportsRequest): records that reports of a bundle are about to be put into
    /// use.
    pub const BUNDLE_REPORTS: &str = "bundle/reports";
    /// `GET`: a [`CacheStatus`](super::CacheStatus).
    pub const CACHE: &str = "cache";
    /// `GET` with the query of a [`ContentListRequest`](super::ContentListRequest): a list of
    /// [`CachedContent`](super::CachedContent). `DELETE` with that of a [`RemovalRequest`](super::RemovalRequest):
    /// [`RemovedContent`](super::RemovedContent).
    pub const CACHE_CONTENTS: &str = "cache/contents";
    /// `POST`: collects garbage; [`Collected`](super::Collected). `GET`: what that would remove;
    /// [`Forecast`](super::Forecast).
    pub const CACHE_GC: &str = "cache/gc";
    /// `GET`: a list of [`PinAnswer`](super::PinAnswer). `POST` of a [`PinRequest`](super::PinRequest): the pin.
    /// `DELETE` with the query `image=`: removes a pin.
    pub const CACHE_PINS: &str = "cache/pins";
    /// `POST`: begins a job whose result is [`Verified`](super::Verified).
    pub const CACHE_VERIFY: &str = "cache/verify";
    /// `GET` with the query of a [`CheckRequest`](super::CheckRequest): a [`CheckAnswer`](super::CheckAnswer).
    pub const CHECK: &str = "check";
    /// `GET`, with the query `scope=` or without: a list of [`ListedExemption`](super::ListedExemption). `POST` of an
    /// [`ExemptionRequest`](super::ExemptionRequest): the added [`ExemptionAnswer`](super::ExemptionAnswer). `DELETE`
    /// with `/` and an identifier after it: the removed one.
    pub const EXEMPTIONS: &str = "exemptions";
    /// The beginning of every path of IBM's API; a version follows.
    pub const IBM_PREFIX: &str = "/va/api/";
    /// `GET`, optionally with the query of an [`ImageListRequest`](super::ImageListRequest): a list of
    /// [`ImageAnswer`](super::ImageAnswer).
    pub const IMAGES: &str = "images";
    /// `GET` with the job's number after it: a [`JobState`](super::JobState).
    pub const JOBS: &str = "jobs/";
    /// `POST` of a [`PrefetchRequest`](super::PrefetchRequest): begins a job whose result is a list of
    /// [`PrefetchedImage`](super::PrefetchedImage).
    pub const PREFETCH: &str = "prefetch";
    /// `POST` of a [`CheckRequest`](super::CheckRequest): begins a job whose result is a list of
    /// [`ImageScan`](super::ImageScan).
    pub const SCAN: &str = "scan";
    /// `POST` of a [`ForgetRequest`](super::ForgetRequest): a list of [`ForgottenRole`](super::ForgottenRole).
    pub const TRUST_FORGET: &str = "trust/forget";
    /// `GET` with the query of a [`VerdictsRequest`](super::VerdictsRequest): a
    /// [`VerdictsAnswer`](super::VerdictsAnswer).
    pub const VERDICTS: &str = "verdicts";
    /// `POST`: reads the configuration, policies and certificates again and reopens the audit file;
    /// [`Reloaded`](super::Reloaded). Status 422 if any of them is refused.
    pub const RELOAD: &str = "reload";
}

/// The answer to a reload.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Reloaded {
    /// Whether everything was reloaded.
    pub reloaded: bool,
    /// The settings of the configuration that have changed and are in use now: `gate.mode`, `upstream docker.io`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// What the gate no longer serves: `upstream docker.io`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
    /// The certificates in use, also those that were in use before: `127.0.0.1:5000, until 2027-01-01T00:00:00Z`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<String>,
    /// Whether other rules are in use now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rules_changed: bool,
    /// The settings that differ from those in use because they need a restart: `cache.max_size`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs_restart: Vec<String>,
    /// What is in use but probably not intended, such as no policy, or a registry without its password.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The parts that are refused, so that their previous versions stay in use, and why: `configuration`, `policy`,
    /// `certificates`, and `audit` if the audit file cannot be reopened.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, String>,
    /// If a part is refused, the other parts: they were reloaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_use: Vec<String>,
    /// The same as `refused` in words, as in every answer to a call that failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

impl Reloaded {
    /// The parts that are read with every reload.
    pub const PARTS: [&str; 4] = ["audit", "certificates", "configuration", "policy"];

    /// Says which parts are refused, and why.
    pub fn refusing(self, refused: BTreeMap<String, String>) -> Self {
        let others = Self::PARTS.into_iter().filter(|part| !refused.is_empty() && !refused.contains_key(*part));
        let in_use = others.map(str::to_owned).collect();
        let error = refused.iter().map(|(part, why)| format!("{part}: {why}")).collect::<Vec<_>>().join("\n");
        Self { reloaded: refused.is_empty(), in_use, error, refused, ..self }
    }
}

/// The answer of a call that failed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ErrorAnswer {
    /// What is wrong, in words.
    pub error: String,
}

#[cfg(test)]
mod tests;
