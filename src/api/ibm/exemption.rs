//! Exemptions in IBM's shapes.

use serde::{Deserialize, Serialize};

use crate::policy::{ExemptionRecord, ExemptionScope, IssueType};

/// An exemption (`Exemption`). The fields that IBM does not have are left out where they are empty.
///
/// ```json
/// {"account_id": "", "issue_id": "CVE-2024-1", "issue_type": "cve",
///  "scope": {"scope_type": "repository", "namespace": "birds", "repository": "bluebird"}}
/// ```
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct IbmExemption {
    /// Always empty: a gate has no accounts.
    pub account_id: String,
    /// The issue; of the type `package`, the package.
    pub issue_id: String,
    /// The kind of issue.
    pub issue_type: IssueType,
    /// The images that it applies to, if the call asks for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<IbmScope>,
    /// The package that an exemption of an issue is limited to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// When it ends (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

impl From<&ExemptionRecord> for IbmExemption {
    fn from(record: &ExemptionRecord) -> Self {
        let package = record.package.as_ref().map(ToString::to_string);
        let (issue_id, package) = match &record.issue_id {
            Some(issue) => (issue.clone(), package),
            None => (package.unwrap_or_default(), None),
        };
        Self {
            account_id: String::new(),
            issue_id,
            issue_type: record.issue_type,
            scope: Some((&record.scope).into()),
            package,
            expires: record.expires.map(|expires| expires.to_string()),
        }
    }
}

/// The scope of an exemption (`ExemptionScope`).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct IbmScope {
    /// `account`, `namespace`, `repository` or `image`.
    pub scope_type: String,
    /// The first component of the repository.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The other components.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub repository: String,
    /// The tag or the digest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tag: String,
    /// The registry, if the scope names one. IBM has no such field.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub registry: String,
}

impl From<&ExemptionScope> for IbmScope {
    fn from(scope: &ExemptionScope) -> Self {
        let text = scope.to_string();
        let (registry, path) = match text.split_once('/').filter(|_| scope.registry().is_some()) {
            Some((registry, path)) => (registry, path),
            None => ("", text.as_str()),
        };
        let (name, tag) = path.split_once('@').or_else(|| path.split_once(':')).unwrap_or((path, ""));
        let (namespace, repository) = name.split_once('/').unwrap_or((name, ""));
        let scope_type = match (namespace, repository, tag) {
            ("*", ..) => "account",
            (_, "", "") => "namespace",
            (_, _, "") => "repository",
            _ => "image",
        };
        let namespace = if namespace == "*" { "" } else { namespace };
        let [namespace, repository, tag, registry] = [namespace, repository, tag, registry].map(str::to_owned);
        Self { scope_type: scope_type.to_owned(), namespace, repository, tag, registry }
    }
}

/// A kind of issue that can be exempt (`ExemptionTypeInfo`).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct IbmExemptionType {
    /// The name for people.
    pub display_name: String,
    /// The name in calls.
    pub identifier: IssueType,
    /// The same as the display name, for translations.
    #[serde(rename = "translationKey")]
    pub translation_key: String,
    /// A regular expression for identifiers of this kind.
    pub validation_regex: String,
}

impl IbmExemptionType {
    /// All kinds.
    pub fn all() -> Vec<Self> {
        let regex = |kind| match kind {
            IssueType::Cve => r"^[Cc][Vv][Ee]-\S+$",
            IssueType::Configuration | IssueType::Package | IssueType::SecurityNotice => r"^\S+$",
        };
        let info = |kind: IssueType| Self {
            display_name: kind.display_name().to_owned(),
            identifier: kind,
            translation_key: kind.display_name().to_owned(),
            validation_regex: regex(kind).to_owned(),
        };
        IssueType::ALL.into_iter().map(info).collect()
    }
}

/// How many exemptions a call removed (`ExemptionDeletionInfo`).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct IbmDeletion {
    /// Their number.
    pub number_of_exemptions_deleted: usize,
}
