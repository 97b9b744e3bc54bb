//! Exemptions: the calls that list, add and remove them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::gate::{ExemptionBook, ExemptionError, Operations};
use crate::policy::{
    ExemptPackage, ExemptionRecord, ExemptionScope, InvalidExemption, InvalidExemptionScope, IssueType,
};

/// One exemption.
///
/// ```json
/// {"id": "3f2a90c1d4e5", "scope": "birds/bluebird", "issue_type": "cve", "issue_id": "CVE-2024-1234",
///  "expires": "2026-12-31T00:00:00Z", "reason": "not reachable", "by": "ann", "created": "2026-11-26T10:00:00Z"}
/// ```
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ExemptionAnswer {
    /// Identifies the exemption.
    pub id: String,
    /// The images that it applies to.
    pub scope: ExemptionScope,
    /// The kind of issue: `cve`, `sn`, `configuration` or `package`.
    pub issue_type: IssueType,
    /// The issue; absent for a package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issue_id: Option<String>,
    /// The package that it is limited to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// The reason for the exemption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who decided this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When it was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// The document that contains it; absent for one that was added by a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
}

impl From<&ExemptionRecord> for ExemptionAnswer {
    fn from(record: &ExemptionRecord) -> Self {
        Self {
            id: record.id.to_string(),
            scope: record.scope.clone(),
            issue_type: record.issue_type,
            issue_id: record.issue_id.clone(),
            package: record.package.as_ref().map(ToString::to_string),
            expires: record.expires,
            reason: record.reason.clone(),
            by: record.by.clone(),
            created: record.created,
            document: record.document.as_deref().map(str::to_owned),
        }
    }
}

/// An exemption in a list.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ListedExemption {
    /// The exemption.
    #[serde(flatten)]
    pub exemption: ExemptionAnswer,
    /// Whether its scope is wider than the one that the list was asked for.
    pub wider: bool,
    /// Whether it has ended, and so no longer applies.
    pub ended: bool,
}

/// An exemption to add.
///
/// ```json
/// {"scope": "birds/bluebird", "issue_type": "cve", "issue_id": "CVE-2024-1234", "expires": "30d",
///  "reason": "not reachable"}
/// ```
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExemptionRequest {
    /// The images: `*`, `NAMESPACE`, `NAMESPACE/REPOSITORY`, with `:TAG` or `@DIGEST`, optionally after `REGISTRY/`.
    pub scope: String,
    /// The kind of issue: `cve`, `sn`, `configuration` or `package`.
    pub issue_type: String,
    /// The issue; none for a package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issue_id: Option<String>,
    /// The package: a name or a package URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// When it ends: a date, a time as in RFC 3339, or a duration from now such as `30d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// The reason for the exemption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who decided this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl ExemptionRequest {
    /// The exemption without its end, which depends on the gate's clock.
    ///
    /// # Errors
    /// Which field is not valid, and why.
    pub fn record(&self) -> Result<ExemptionRecord, String> {
        let scope = self
            .scope
            .parse()
            .map_err(|invalid: InvalidExemptionScope| format!("scope {:?}: {invalid}", self.scope))?;
        let wrong = |name: &str, text: &str, invalid: InvalidExemption| format!("{name} {text:?}: {invalid}");
        let kind = self.issue_type.parse().map_err(|invalid| wrong("issue type", &self.issue_type, invalid))?;
        let package = |text: &String| {
            let package = text.parse().and_then(ExemptPackage::of_reports);
            package.map_err(|invalid| wrong("package", text, invalid))
        };
        let package = self.package.as_ref().map(package);
        let issue = self.issue_id.as_deref();
        let record = ExemptionRecord::new(scope, kind, issue, package.transpose()?)
            .map_err(|invalid| wrong("issue", issue.unwrap_or_default(), invalid))?;
        record
            .explained(self.by.as_deref(), self.reason.as_deref())
            .map_err(|invalid| format!("reason or author: {invalid}"))
    }
}

/// The exemptions of a scope and of wider scopes; without a scope, all.
pub fn list_exemptions(book: &ExemptionBook, scope: Option<&ExemptionScope>) -> Vec<ListedExemption> {
    let now = book.now();
    let listed = book.list(scope);
    let answer = |record: &ExemptionRecord| ListedExemption {
        exemption: record.into(),
        wider: scope.is_some_and(|scope| record.scope != *scope),
        ended: !record.holds(now),
    };
    listed.iter().map(|record| answer(record)).collect()
}

/// Adds one exemption.
///
/// # Errors
/// If the request is not an exemption, or it cannot be added.
pub async fn add_exemption(
    operations: &Operations,
    request: &ExemptionRequest,
    caller: &str,
) -> Result<ExemptionAnswer, ExemptionError> {
    let record = request.record().map_err(ExemptionError::Invalid)?;
    let expires = request.expires.as_deref().map(|text| operations.exemptions().end_of(text)).transpose()?;
    let added = operations.add_exemptions(vec![ExemptionRecord { expires, ..record.clone() }], caller).await?;
    Ok(added.first().map_or_else(|| (&record).into(), |record| (&**record).into()))
}
