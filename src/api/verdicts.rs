//! The `verdicts` call: what was admitted and is judged otherwise now.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::query::parameter;
use crate::gate::{ListedVerdicts, Livescan};
use crate::oci::{Digest, Tag};
use crate::store::{PullingClient, StoredVerdict, VerdictFilter, VerdictOutcome};

/// Which verdicts are listed, and since when.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VerdictsRequest {
    /// Which verdicts.
    pub which: ListedChange,
    /// How far back: changes since then, or images that were pulled since then. In seconds.
    pub since_seconds: u64,
}

/// Which verdicts are listed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ListedChange {
    /// Those that changed.
    Changed,
    /// Those of images that were admitted and would be denied now.
    WouldDeny,
}

impl VerdictsRequest {
    /// The URL query of this request.
    pub fn to_query(self) -> String {
        let which = match self.which {
            ListedChange::Changed => "changed",
            ListedChange::WouldDeny => "would-deny",
        };
        format!("which={which}&since={}", self.since_seconds)
    }

    /// Parses the query of a URL; `None` if it does not say which verdicts and since when.
    pub fn from_query(query: &str) -> Option<Self> {
        let which = match &*parameter(query, "which")? {
            "changed" => ListedChange::Changed,
            "would-deny" => ListedChange::WouldDeny,
            _ => return None,
        };
        Some(Self { which, since_seconds: parameter(query, "since")?.parse().ok()? })
    }
}

/// Verdicts on images that were admitted.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct VerdictsAnswer {
    /// The verdicts, the most recently pulled image first.
    pub verdicts: Vec<VerdictAnswer>,
    /// Whether there are more than these.
    pub more: bool,
    /// How many verdicts are still to be judged again under the current databases and rules.
    pub outdated: u64,
}

/// The verdict on one image in one repository for one namespace.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct VerdictAnswer {
    /// Upstream and repository.
    pub repository: String,
    /// The tag by which it was pulled last; `None` if only by its digest.
    pub tag: Option<String>,
    /// The digest of the manifest.
    pub digest: Digest,
    /// `image`, `index`, `artifact` or `attachment`.
    pub kind: String,
    /// The namespace whose rules apply; empty for the cluster-wide rules.
    pub namespace: String,
    /// When a pull was last recorded.
    pub last_pulled: Timestamp,
    /// The verdict.
    pub now: OutcomeAnswer,
    /// When it was found.
    pub judged: Timestamp,
    /// Why the image cannot be judged now, if it cannot: then `now` is the last verdict that was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
    /// The verdict before the last change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<OutcomeAnswer>,
    /// When it changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<Timestamp>,
    /// Why it changed: `databases`, `rules` or `other`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The generation of the advisory databases with which it changed; empty if there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_databases: Option<String>,
    /// Who pulled the image, the last client first. Not every pull is recorded, and at most 64 clients are kept.
    pub clients: Vec<ClientAnswer>,
}

/// A decision, and what it was made from.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct OutcomeAnswer {
    /// `admit`, `deny` or `would-deny`.
    pub decision: String,
    /// The denial as clients receive it, without the name of the gate; empty for an admission.
    pub reason: String,
    /// The generation of the advisory databases; empty if there were none.
    pub databases: String,
    /// The fingerprint of the rules.
    pub rules: String,
}

/// A client that pulled an image.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ClientAnswer {
    /// Its address.
    pub address: String,
    /// The common name in its certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When a pull of it was last recorded.
    pub last_pulled: Timestamp,
}

/// Lists verdicts.
///
/// # Errors
/// A message, if the database cannot be read.
pub async fn verdicts(livescan: &Livescan, request: &VerdictsRequest) -> Result<VerdictsAnswer, String> {
    let since = livescan.ago(Duration::from_secs(request.since_seconds));
    let filter = match request.which {
        ListedChange::Changed => VerdictFilter::ChangedSince(since),
        ListedChange::WouldDeny => VerdictFilter::DeniedPulledSince(since),
    };
    let ListedVerdicts { list, outdated } = livescan.verdicts(filter).await.map_err(|error| error.to_string())?;
    let verdicts = list.verdicts.into_iter().map(|(verdict, clients)| VerdictAnswer::new(verdict, clients));
    Ok(VerdictsAnswer { verdicts: verdicts.collect(), more: list.is_cut, outdated })
}

impl VerdictAnswer {
    fn new(verdict: StoredVerdict, clients: Vec<PullingClient>) -> Self {
        let cause = verdict.cause().map(str::to_owned);
        let (before, changed) = verdict.change.unzip();
        Self {
            repository: verdict.name.to_string(),
            tag: verdict.tag.as_ref().map(Tag::to_string),
            digest: verdict.digest,
            kind: verdict.kind.as_str().to_owned(),
            namespace: verdict.scope.to_string(),
            last_pulled: verdict.pulled_at,
            now: verdict.outcome.into(),
            judged: verdict.decided_at,
            doubt: verdict.doubt,
            before: before.map(OutcomeAnswer::from),
            changed,
            cause,
            changed_databases: verdict.changed_basis.map(|basis| basis.databases),
            clients: clients.into_iter().map(ClientAnswer::from).collect(),
        }
    }
}

impl From<VerdictOutcome> for OutcomeAnswer {
    fn from(outcome: VerdictOutcome) -> Self {
        let VerdictOutcome { decision, reason, basis } = outcome;
        Self { decision: decision.to_string(), reason, databases: basis.databases, rules: basis.rules }
    }
}

impl From<PullingClient> for ClientAnswer {
    fn from(client: PullingClient) -> Self {
        Self { address: client.address, name: client.name, last_pulled: client.pulled_at }
    }
}
