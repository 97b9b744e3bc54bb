//! The paths of IBM's API.
//!
//! IBM's clients encode names as one component (`us.icr.io%2Fns%2Fapp:1`); Portieris and scripts write them unencoded
//! (`us.icr.io/ns/app:1`). Both are accepted.

use percent_encoding::percent_decode_str;

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
                None => None,
            },
        })
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
}
