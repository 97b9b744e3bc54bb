//! A service's description of itself (`GET /metadata`).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::va::external::EngineVersion;

/// The types of reports that can be read, the preferred one first.
const REPORT_TYPES: [&str; 2] = [
    "application/vnd.security.vulnerability.report;version=1.1",
    "application/vnd.scanner.adapter.vuln.report.harbor+json;version=1.0",
];
/// The property that says when the database was built.
const UPDATED_AT: &str = "harbor.scanner-adapter/vulnerability-database-updated-at";

/// The metadata of a service.
#[derive(Debug, Deserialize)]
pub(super) struct AdapterMetadata {
    scanner: AdapterScanner,
    capabilities: Vec<AdapterCapability>,
    properties: Option<BTreeMap<String, Value>>,
}

#[derive(Debug, Deserialize)]
struct AdapterScanner {
    name: String,
    #[serde(default)]
    version: Option<String>,
}

#[derive(Debug, Deserialize)]
struct AdapterCapability {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    produces_mime_types: Vec<String>,
}

impl AdapterMetadata {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| format!("/metadata: {error}"))
    }

    /// The type of report to ask for, spelled as the service spells it: some compare it byte by byte.
    ///
    /// # Errors
    /// If the service produces none that can be read.
    pub(super) fn report_type(&self) -> Result<&str, String> {
        let produced = self
            .capabilities
            .iter()
            // A capability of version 1.1 and earlier has no type.
            .filter(|capability| capability.kind.as_deref().is_none_or(|kind| kind == "vulnerability"))
            .flat_map(|capability| &capability.produces_mime_types);
        let plain = |text: &str| text.replace(' ', "").to_ascii_lowercase();
        let find = |wanted: &&str| produced.clone().find(|kind| plain(kind) == **wanted);
        let found = REPORT_TYPES.iter().find_map(find);
        found
            .map(String::as_str)
            .ok_or_else(|| format!("it produces no report of the types {}", REPORT_TYPES.join(", ")))
    }

    /// Whether the service knows capabilities by name, as version 1.2 of the specification introduced.
    pub(super) fn names_capabilities(&self) -> bool {
        self.capabilities.iter().any(|capability| capability.kind.is_some())
    }

    pub(super) fn version(&self) -> EngineVersion {
        let updated = self.properties.as_ref().and_then(|properties| properties.get(UPDATED_AT)?.as_str());
        let program = match &self.scanner.version {
            Some(version) => format!("{} {version}", self.scanner.name),
            None => self.scanner.name.clone(),
        };
        let database = match updated {
            Some(updated) => format!("vulnerability database of {updated}"),
            None => "it does not say how old its database is".to_owned(),
        };
        EngineVersion {
            facts: vec![program.clone(), database],
            program,
            database: updated.unwrap_or_default().to_owned(),
            built: updated.and_then(|text| text.parse::<Timestamp>().ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata(capabilities: &Value) -> AdapterMetadata {
        let scanner = json!({"name": "Trivy", "vendor": "Aqua Security", "version": "0.72.0"});
        let properties = json!({UPDATED_AT: "2026-11-25T00:33:00Z"});
        let text = json!({"scanner": scanner, "capabilities": capabilities, "properties": properties}).to_string();
        AdapterMetadata::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_best_report_is_asked_for_as_the_service_spells_it() {
        let (new, old) = ("application/vnd.security.vulnerability.report; version=1.1", REPORT_TYPES[1]);
        let of = |types: &[&str]| json!([{"consumes_mime_types": [], "produces_mime_types": types}]);
        assert_eq!(metadata(&of(&[old, new])).report_type(), Ok(new));
        assert_eq!(metadata(&of(&[old])).report_type(), Ok(old));
        assert!(!metadata(&of(&[old])).names_capabilities());
        assert!(metadata(&of(&["application/json"])).report_type().is_err());
        let sbom = json!([{"type": "sbom", "produces_mime_types": [new]}]);
        assert!(metadata(&sbom).report_type().is_err() && metadata(&sbom).names_capabilities());
        assert!(AdapterMetadata::parse(b"{}").is_err());
    }

    #[test]
    fn versions_include_the_database() {
        let version = metadata(&json!([])).version();
        assert_eq!((&*version.program, &*version.database), ("Trivy 0.72.0", "2026-11-25T00:33:00Z"));
        assert!(version.built.is_some());
    }
}
