//! The paths of IBM's API.
//!
//! IBM's clients encode names as one component (`us.icr.io%2Fns%2Fapp:1`); Portieris and scripts write them unencoded
//! (`us.icr.io/ns/app:1`). Both are accepted.

use percent_encoding::percent_decode_str;

use crate::server::admin::READING;

/// A call of the API.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum IbmCall {
    /// `report/account`: reports on all known images.
    AccountReport,
    /// `report/account/status`: their summaries.
    AccountStatus,
    /// `report/image/NAME`.
    ImageReport(String),
    /// `report/image/status/NAME`.
    ImageStatus(String),
    /// A call about exemptions.
    Exemptions(ExemptionCall),
}

/// A call about exemptions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum ExemptionCall {
    /// `exemptions/account`: all.
    All,
    /// `exemptions/deleteAll`.
    DeleteAll,
    /// `exempt/image`, `exempt/image/RESOURCE`: those of exactly this scope; `None` is the account.
    Of(Option<String>),
    /// `exemptions/image/IMAGE`: those that apply to an image.
    OfImage(String),
    /// `exemptions/images`: those that apply to each of several images.
    OfImages,
    /// `exempt/image/issue/TYPE/ID`, `exempt/image/RESOURCE/issue/TYPE/ID`.
    One(NamedIssue),
    /// `exempt/types`.
    Types,
}

/// An issue in a scope.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct NamedIssue {
    /// The scope; `None` is the account.
    pub(super) resource: Option<String>,
    /// The kind: `cve`, `sn`, `configuration`, `package`.
    pub(super) kind: String,
    /// The identifier.
    pub(super) id: String,
}

impl IbmCall {
    /// Parses a path after `/va/api/`; `None` if there is no such call.
    ///
    /// # Errors
    /// A message, if a part of the path is not encoded correctly.
    pub(super) fn parse(path: &str) -> Result<Option<Self>, String> {
        let Some(path) = path.strip_prefix("v3/").or_else(|| path.strip_prefix("v4/")) else { return Ok(None) };
        Ok(match path {
            "report/account" => Some(Self::AccountReport),
            "report/account/status" => Some(Self::AccountStatus),
            _ => match path.strip_prefix("report/image/") {
                Some(rest) => match rest.strip_prefix("status/") {
                    Some(name) => named(name)?.map(Self::ImageStatus),
                    None => named(rest)?.map(Self::ImageReport),
                },
                None => ExemptionCall::parse(path)?.map(Self::Exemptions),
            },
        })
    }
}

impl ExemptionCall {
    /// The methods that the call supports.
    pub(super) fn methods(&self) -> &'static str {
        match self {
            Self::All | Self::Of(_) | Self::OfImage(_) | Self::Types => READING,
            Self::DeleteAll | Self::OfImages => "POST",
            Self::One(_) => "GET, HEAD, POST, DELETE",
        }
    }

    fn parse(path: &str) -> Result<Option<Self>, String> {
        Ok(match path {
            "exempt/image" => Some(Self::Of(None)),
            "exempt/types" => Some(Self::Types),
            "exemptions/account" => Some(Self::All),
            "exemptions/deleteAll" => Some(Self::DeleteAll),
            "exemptions/images" => Some(Self::OfImages),
            _ => match (path.strip_prefix("exemptions/image/"), path.strip_prefix("exempt/image/")) {
                (Some(image), _) => named(image)?.map(Self::OfImage),
                (None, Some(rest)) => match NamedIssue::parse(rest)? {
                    Some(issue) => Some(Self::One(issue)),
                    None => named(rest)?.map(|resource| Self::Of(Some(resource))),
                },
                (None, None) => None,
            },
        })
    }
}

impl NamedIssue {
    /// Parses `issue/TYPE/ID`, or the same after a resource, which may contain slashes.
    ///
    /// # Errors
    /// A message, if the resource is empty: it must not become the account.
    fn parse(path: &str) -> Result<Option<Self>, String> {
        let (resource, issue) = match (path.strip_prefix("issue/"), path.rsplit_once("/issue/")) {
            (Some(issue), _) => (None, issue),
            (None, Some((resource, issue))) => (Some(resource), issue),
            (None, None) => return Ok(None),
        };
        let Some((kind, id)) = issue.split_once('/') else { return Ok(None) };
        let resource = match resource.map(named).transpose()? {
            Some(name) if name.as_ref().is_none_or(|name| name.trim_matches('/').is_empty()) => {
                return Err("the resource before /issue/ is empty; leave it out to mean the account".to_owned());
            }
            resource => resource.flatten(),
        };
        let (Some(kind), Some(id)) = (named(kind)?, named(id)?) else { return Ok(None) };
        Ok(Some(Self { resource, kind, id }))
    }
}

/// A decoded name; `None` if it is empty.
fn named(text: &str) -> Result<Option<String>, String> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| "the name is not UTF-8".to_owned())?;
    Ok(Some(decoded.into_owned()).filter(|name| !name.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_ibms_clients_and_of_portieris() {
        let image = |name: &str| Some(IbmCall::ImageReport(name.into()));
        let status = |name: &str| Some(IbmCall::ImageStatus(name.into()));
        for (path, call) in [
            ("v4/report/account", Some(IbmCall::AccountReport)),
            ("v4/report/account/status", Some(IbmCall::AccountStatus)),
            ("v3/report/account", Some(IbmCall::AccountReport)),
            ("v4/report/image/us.icr.io%2Fns%2Fapp:1", image("us.icr.io/ns/app:1")),
            ("v4/report/image/us.icr.io%2Fns%2Fapp%3A1", image("us.icr.io/ns/app:1")),
            ("v4/report/image/us.icr.io/ns/app:1", image("us.icr.io/ns/app:1")),
            ("v4/report/image/status/us.icr.io%2Fns%2Fapp@sha256:ab", status("us.icr.io/ns/app@sha256:ab")),
            ("v3/report/image/status/icr.io/sam/ida:latest", status("icr.io/sam/ida:latest")),
            ("v4/report/image/status%2Fapp", image("status/app")),
            ("v4/report/image/a+b", image("a+b")),
            ("v4/report/image/", None),
            ("v4/report/image/status/", None),
            ("v4/report", None),
            ("v5/report/account", None),
            ("v4", None),
            ("", None),
        ] {
            assert_eq!(IbmCall::parse(path).unwrap(), call, "{path}");
        }
        assert!(IbmCall::parse("v4/report/image/%ff").is_err());
    }

    #[test]
    fn exemptions_are_named_by_scope_and_issue() {
        let one = |resource: Option<&str>, id: &str| {
            let resource = resource.map(str::to_owned);
            Some(ExemptionCall::One(NamedIssue { resource, kind: "cve".into(), id: id.into() }))
        };
        for (path, call) in [
            ("exempt/types", Some(ExemptionCall::Types)),
            ("exempt/image", Some(ExemptionCall::Of(None))),
            ("exempt/image/birds", Some(ExemptionCall::Of(Some("birds".into())))),
            (
                "exempt/image/us.icr.io%2Fbirds%2Fblue%3A1",
                Some(ExemptionCall::Of(Some("us.icr.io/birds/blue:1".into()))),
            ),
            ("exempt/image/birds/issue", Some(ExemptionCall::Of(Some("birds/issue".into())))),
            ("exempt/image/issue/cve/CVE-2020-0001", one(None, "CVE-2020-0001")),
            ("exempt/image/birds/issue/cve/CVE-2020-0001", one(Some("birds"), "CVE-2020-0001")),
            ("exempt/image/us.icr.io/birds/blue/issue/cve/a%2Fb", one(Some("us.icr.io/birds/blue"), "a/b")),
            ("exempt/image/", None),
            ("exempt/nothing", None),
            ("exemptions/account", Some(ExemptionCall::All)),
            ("exemptions/deleteAll", Some(ExemptionCall::DeleteAll)),
            ("exemptions/images", Some(ExemptionCall::OfImages)),
            ("exemptions/image/birds%2Fblue", Some(ExemptionCall::OfImage("birds/blue".into()))),
        ] {
            assert_eq!(ExemptionCall::parse(path).unwrap(), call, "{path}");
            assert_eq!(IbmCall::parse(&format!("v4/{path}")).unwrap(), call.map(IbmCall::Exemptions), "{path}");
        }
        for path in ["exempt/image//issue/cve/CVE-2020-0001", "exempt/image///issue/cve/a"] {
            assert!(ExemptionCall::parse(path).is_err(), "{path}");
        }
    }

    /// The table of docs/reports.md has every call, and no other.
    #[test]
    fn documented_calls_are_those_that_are_answered() {
        let page = include_str!("../../../../docs/reports.md");
        let section = page.split("\n## IBM's API\n").nth(1).unwrap();
        let calls = section.lines().filter(|line| line.starts_with("| `")).map(|line| line.split('|').nth(1).unwrap());
        let words = calls.flat_map(|cell| cell.split(['`', ' ', ',']).filter(|word| word.contains('/')));
        let mut kinds = std::collections::BTreeSet::new();
        for word in words {
            let named = word.replace("NAME", "a.test/b:1").replace("IMAGE", "a.test/b:1").replace("TYPE", "cve");
            let named = named.replace("/ID", "/CVE-2024-1");
            for path in [named.replace("[/RESOURCE]", ""), named.replace("[/RESOURCE]", "/ns")] {
                let call = IbmCall::parse(&format!("v4/{path}")).unwrap();
                let call = call.unwrap_or_else(|| panic!("docs/reports.md has {path}, which is not a call"));
                let text = format!("{call:?}").replace("Exemptions(", "");
                kinds.insert(text.split(['(', ')', ' ']).next().unwrap_or_default().to_owned());
            }
        }
        let all = [
            "AccountReport",
            "AccountStatus",
            "All",
            "DeleteAll",
            "ImageReport",
            "ImageStatus",
            "Of",
            "OfImage",
            "OfImages",
            "One",
            "Types",
        ];
        assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), all);
    }
}
