//! The keys that are read of a report.

use crate::va::reports::letter_case::KnownKeys;

/// Those of the report.
pub(super) static REPORT: KnownKeys = KnownKeys {
    plain: &[],
    objects: &[
        ("alertsByPackage", &PACKAGE_ALERTS),
        ("descriptor", &DESCRIPTOR),
        ("distro", &SYSTEM),
        ("ignoredMatches", &IGNORED),
        ("matches", &MATCH),
        ("source", &SOURCE),
    ],
    maps: &[],
};
static PACKAGE_ALERTS: KnownKeys = KnownKeys { plain: &[], objects: &[("alerts", &ALERT)], maps: &[] };
static ALERT: KnownKeys = KnownKeys::flat(&["type"]);
static DESCRIPTOR: KnownKeys = KnownKeys {
    plain: &["timestamp", "version"],
    objects: &[("configuration", &CONFIGURATION), ("db", &DATABASE)],
    maps: &[],
};
static CONFIGURATION: KnownKeys = KnownKeys::flat(&["exclude"]);
static DATABASE: KnownKeys =
    KnownKeys { plain: &["built", "error", "valid"], objects: &[("status", &DATABASE_STATUS)], maps: &[] };
static DATABASE_STATUS: KnownKeys = KnownKeys::flat(&["built", "error", "valid"]);
static SYSTEM: KnownKeys = KnownKeys::flat(&["channels", "name", "version"]);
static SOURCE: KnownKeys = KnownKeys { plain: &["type"], objects: &[("target", &TARGET)], maps: &[] };
static TARGET: KnownKeys = KnownKeys::flat(&["imageID", "manifestDigest", "repoDigests", "userInput"]);
static MATCH: KnownKeys = KnownKeys {
    plain: &[],
    objects: &[("artifact", &ARTIFACT), ("relatedVulnerabilities", &VULNERABILITY), ("vulnerability", &VULNERABILITY)],
    maps: &[],
};
static IGNORED: KnownKeys = KnownKeys {
    plain: &[],
    objects: &[
        ("appliedIgnoreRules", &IGNORE_RULE),
        ("artifact", &ARTIFACT),
        ("relatedVulnerabilities", &VULNERABILITY),
        ("vulnerability", &VULNERABILITY),
    ],
    maps: &[],
};
static IGNORE_RULE: KnownKeys =
    KnownKeys { plain: &["match-type", "reason", "vex-status"], objects: &[("package", &IGNORED_PACKAGE)], maps: &[] };
static IGNORED_PACKAGE: KnownKeys = KnownKeys::flat(&["upstream-name"]);
static ARTIFACT: KnownKeys = KnownKeys {
    plain: &["name", "purl", "type", "version"],
    objects: &[("locations", &LOCATION), ("upstreams", &UPSTREAM)],
    maps: &[],
};
static LOCATION: KnownKeys = KnownKeys::flat(&["layerID", "path"]);
static UPSTREAM: KnownKeys = KnownKeys::flat(&["name"]);
static VULNERABILITY: KnownKeys = KnownKeys {
    plain: &["dataSource", "description", "id", "namespace", "severity", "urls"],
    objects: &[("cvss", &SCORE), ("fix", &FIX)],
    maps: &[],
};
static SCORE: KnownKeys = KnownKeys { plain: &["source", "vector"], objects: &[("metrics", &METRICS)], maps: &[] };
static METRICS: KnownKeys = KnownKeys::flat(&["baseScore"]);
static FIX: KnownKeys = KnownKeys::flat(&["state", "versions"]);
