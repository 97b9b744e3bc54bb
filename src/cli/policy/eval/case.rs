//! The cases of `policy eval` as they are written. docs/conditions.md describes them.
//!
//! Names may be written in snake case or camel case.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::exemptions::CaseScope;
use crate::policy::{Epss, FixStatus, IssueType, expiry};

/// One case.
#[derive(Deserialize)]
pub(super) struct EvalCase {
    #[serde(default)]
    pub(super) id: Value,
    #[serde(default)]
    pub(super) namespace: Option<String>,
    pub(super) image: String,
    #[serde(default)]
    pub(super) digest: Option<String>,
    #[serde(default)]
    pub(super) now: Option<CaseTime>,
    #[serde(default)]
    pub(super) trust: Option<CaseTrust>,
    #[serde(default)]
    pub(super) va: Option<CaseVa>,
    #[serde(default)]
    pub(super) history: Option<CaseHistory>,
    #[serde(default)]
    pub(super) exemptions: Option<Vec<CaseExemption>>,
}

/// Who signed. `signers: null` means that there is no trust data.
#[derive(Default, Deserialize)]
pub(super) struct CaseTrust {
    #[serde(default)]
    pub(super) signers: Option<Vec<String>>,
    #[serde(default)]
    pub(super) simple: Option<Vec<String>>,
    #[serde(default)]
    pub(super) error: Option<String>,
}

/// An assessment in IBM's terms, and what else a report says. Absent dates are those of a report made just now; `null`
/// means that they are unknown.
#[derive(Default, Deserialize)]
pub(super) struct CaseVa {
    #[serde(default)]
    pub(super) status: Option<String>,
    #[serde(default)]
    pub(super) why: Option<String>,
    #[serde(default)]
    pub(super) incomplete: Option<String>,
    #[serde(default, alias = "generatedAt", deserialize_with = "stated")]
    pub(super) generated_at: Option<Option<CaseTime>>,
    #[serde(default, alias = "databaseBuilt", deserialize_with = "stated")]
    pub(super) database_built: Option<Option<CaseTime>>,
    /// Who made the report.
    #[serde(default)]
    pub(super) source: Option<String>,
    #[serde(default, alias = "checksConfiguration")]
    pub(super) checks_configuration: Option<bool>,
    /// Whether the report says that the support of the distribution has ended.
    #[serde(default, alias = "pastSupport")]
    pub(super) past_support: bool,
    #[serde(default)]
    pub(super) issues: CaseIssues,
    #[serde(default)]
    pub(super) packages: Option<Vec<CasePackage>>,
    #[serde(default)]
    pub(super) image: Option<CaseImage>,
    #[serde(default, deserialize_with = "stated")]
    pub(super) feeds: Option<Option<CaseFeeds>>,
}

/// A count, or a list.
#[derive(Default, Deserialize)]
#[serde(try_from = "Value")]
pub(super) enum CaseIssues {
    #[default]
    None,
    Count(usize),
    Each(Vec<CaseIssue>),
}

impl TryFrom<Value> for CaseIssues {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value {
            Value::Null => Ok(Self::None),
            Value::Number(number) => {
                let count = number.as_u64().and_then(|count| usize::try_from(count).ok());
                count.map(Self::Count).ok_or_else(|| format!("issues: {number} is not a count"))
            }
            list => serde_json::from_value(list).map(Self::Each).map_err(|error| format!("issues: {error}")),
        }
    }
}

/// An identifier, or an object.
#[derive(Deserialize)]
#[serde(try_from = "Value")]
pub(super) enum CaseIssue {
    Id(String),
    Full(Box<FullIssue>),
}

impl TryFrom<Value> for CaseIssue {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value {
            Value::String(id) => Ok(Self::Id(id)),
            object => {
                serde_json::from_value(object).map(|full| Self::Full(Box::new(full))).map_err(|error| error.to_string())
            }
        }
    }
}

/// An issue. Its only package can be written in the issue itself.
#[derive(Deserialize)]
pub(super) struct FullIssue {
    pub(super) id: String,
    #[serde(default)]
    pub(super) aliases: Vec<String>,
    #[serde(default)]
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) severity: Option<String>,
    #[serde(default, alias = "severitySource")]
    pub(super) severity_source: Option<String>,
    /// Severities by source.
    #[serde(default)]
    pub(super) ratings: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) score: Option<f64>,
    #[serde(default)]
    pub(super) epss: Option<Epss>,
    #[serde(default)]
    pub(super) exploited: bool,
    #[serde(default)]
    pub(super) malicious: bool,
    #[serde(default)]
    pub(super) exempt: bool,
    #[serde(default)]
    pub(super) title: Option<String>,
    #[serde(default)]
    pub(super) published: Option<CaseTime>,
    #[serde(default, alias = "firstSeen")]
    pub(super) first_seen: Option<CaseTime>,
    #[serde(default)]
    pub(super) packages: Vec<CaseAffected>,
    #[serde(default)]
    pub(super) package: Option<String>,
    #[serde(flatten)]
    pub(super) versions: CaseVersions,
}

/// A package that an issue affects.
#[derive(Default, Deserialize)]
pub(super) struct CaseAffected {
    #[serde(default, alias = "package")]
    pub(super) name: Option<String>,
    #[serde(flatten)]
    pub(super) versions: CaseVersions,
}

/// What an issue or an affected package says about the package besides its name.
#[derive(Default, Deserialize, Eq, PartialEq)]
pub(super) struct CaseVersions {
    #[serde(default)]
    pub(super) purl: Option<String>,
    #[serde(default, alias = "version")]
    pub(super) installed: Option<String>,
    #[serde(default, alias = "fixed_version", alias = "fixedVersion")]
    pub(super) fixed: Option<String>,
    #[serde(default)]
    pub(super) status: Option<FixStatus>,
    /// In the file system of the image.
    #[serde(default)]
    pub(super) path: Option<String>,
    /// The source package that it was built from.
    #[serde(default)]
    pub(super) source: Option<String>,
    #[serde(default, alias = "sourceVersion")]
    pub(super) source_version: Option<String>,
}

/// A package in the image.
#[derive(Deserialize)]
pub(super) struct CasePackage {
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) version: Option<String>,
    #[serde(default)]
    pub(super) purl: Option<String>,
    /// The source package that it was built from.
    #[serde(default)]
    pub(super) source: Option<String>,
    #[serde(default, alias = "sourceVersion")]
    pub(super) source_version: Option<String>,
    #[serde(default, alias = "licenses", alias = "licence", alias = "license")]
    pub(super) licences: Texts,
    #[serde(default)]
    pub(super) published: Option<CaseTime>,
    #[serde(default)]
    pub(super) path: Option<String>,
}

/// One text, or a list.
#[derive(Default, Deserialize)]
#[serde(untagged)]
pub(super) enum Texts {
    #[default]
    None,
    One(String),
    Each(Vec<String>),
}

impl Texts {
    pub(super) fn list(&self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::One(text) => vec![text.clone()],
            Self::Each(list) => list.clone(),
        }
    }
}

/// What is known about the image besides its issues.
#[derive(Default, Deserialize)]
pub(super) struct CaseImage {
    #[serde(default)]
    pub(super) created: Option<CaseTime>,
    #[serde(default, alias = "endOfLife")]
    pub(super) end_of_life: Option<CaseTime>,
    #[serde(default)]
    pub(super) distribution: Option<String>,
    /// The proven base images.
    #[serde(default)]
    pub(super) base: Option<CaseBases>,
    /// The base image that the author of the image states.
    #[serde(default, alias = "claimedBase")]
    pub(super) claimed_base: Option<CaseBase>,
}

/// One base image, or a list with the nearest first.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum CaseBases {
    One(CaseBase),
    Each(Vec<CaseBase>),
}

/// The name of a base image, or an object.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum CaseBase {
    Name(String),
    Full {
        name: String,
        #[serde(default)]
        digest: Option<crate::oci::Digest>,
    },
}

/// When each feed was published; absent or `null` if it is not imported.
#[derive(Default, Deserialize)]
pub(super) struct CaseFeeds {
    #[serde(default)]
    pub(super) kev: Option<CaseTime>,
    #[serde(default)]
    pub(super) epss: Option<CaseTime>,
}

/// What the gate remembers about the image.
#[derive(Default, Deserialize)]
pub(super) struct CaseHistory {
    #[serde(default, alias = "knownSince")]
    pub(super) known_since: Option<CaseTime>,
    #[serde(default, alias = "admittedSince")]
    pub(super) admitted_since: Option<CaseTime>,
    #[serde(default, alias = "firstSeen")]
    pub(super) first_seen: BTreeMap<String, CaseTime>,
    #[serde(default, alias = "seenInRepository")]
    pub(super) seen_in_repository: BTreeMap<String, CaseTime>,
}

/// The identifier of an issue, or an object.
#[derive(Deserialize)]
#[serde(try_from = "Value")]
pub(super) enum CaseExemption {
    Id(String),
    Full(FullExemption),
}

impl TryFrom<Value> for CaseExemption {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value {
            Value::String(id) => Ok(Self::Id(id)),
            object => serde_json::from_value(object).map(Self::Full).map_err(|error| format!("an exemption: {error}")),
        }
    }
}

/// An exemption as documents write it, or IBM's API.
#[derive(Deserialize)]
pub(super) struct FullExemption {
    /// The account of IBM; empty if it has none.
    #[serde(default, alias = "accountId")]
    pub(super) account_id: Option<String>,
    /// Every image if it is absent.
    #[serde(default, deserialize_with = "stated")]
    pub(super) scope: Option<Option<CaseScope>>,
    /// What the identifier says if it is absent.
    #[serde(default, alias = "issueType", alias = "type")]
    pub(super) issue_type: Option<IssueType>,
    #[serde(default, alias = "issueId", alias = "issue_id", alias = "issue")]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) package: Option<String>,
    #[serde(default, alias = "until")]
    pub(super) expires: Option<CaseTime>,
}

/// A time in RFC 3339, a date (its first instant in UTC), or seconds since 1970.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct CaseTime(pub(super) Timestamp);

impl TryFrom<Value> for CaseTime {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let parsed = match &value {
            Value::Number(number) => number.as_i64().and_then(|seconds| Timestamp::from_second(seconds).ok()),
            Value::String(text) => text.parse::<Timestamp>().ok().or_else(|| {
                let date: Date = text.parse().ok()?;
                date.to_zoned(TimeZone::UTC).map_or_else(|_| expiry(text).ok(), |time| Some(time.timestamp()))
            }),
            _ => None,
        };
        parsed.map(Self).ok_or_else(|| format!("{value} is not a time such as 2026-03-01T00:00:00Z"))
    }
}

/// A value that is stated, even if it is `null`.
fn stated<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
