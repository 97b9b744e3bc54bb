//! The keys that are read of a document.

use crate::va::reports::letter_case::KnownKeys;

/// Those of the document.
pub(super) static DOCUMENT: KnownKeys = KnownKeys {
    plain: &["bomFormat", "specVersion"],
    objects: &[
        ("components", &COMPONENT),
        ("compositions", &COMPOSITION),
        ("metadata", &METADATA),
        ("vulnerabilities", &VULNERABILITY),
    ],
    maps: &[],
};
static METADATA: KnownKeys =
    KnownKeys { plain: &["timestamp"], objects: &[("component", &COMPONENT), ("tools", &TOOLS)], maps: &[] };
static TOOLS: KnownKeys = KnownKeys { plain: &["name", "version"], objects: &[("components", &TOOL)], maps: &[] };
static TOOL: KnownKeys = KnownKeys::flat(&["name", "version"]);
static COMPONENT: KnownKeys = KnownKeys {
    plain: &["bom-ref", "group", "name", "purl", "type", "version"],
    objects: &[
        ("components", &COMPONENT),
        ("evidence", &EVIDENCE),
        ("hashes", &HASH),
        ("licenses", &LICENCE),
        ("properties", &PROPERTY),
    ],
    maps: &[],
};
static EVIDENCE: KnownKeys = KnownKeys { plain: &[], objects: &[("occurrences", &OCCURRENCE)], maps: &[] };
static OCCURRENCE: KnownKeys = KnownKeys::flat(&["location"]);
static HASH: KnownKeys = KnownKeys::flat(&["alg", "content"]);
static LICENCE: KnownKeys = KnownKeys { plain: &["expression"], objects: &[("license", &NAMED_LICENCE)], maps: &[] };
static NAMED_LICENCE: KnownKeys = KnownKeys::flat(&["id", "name"]);
static PROPERTY: KnownKeys = KnownKeys::flat(&["name", "value"]);
static COMPOSITION: KnownKeys = KnownKeys::flat(&["aggregate", "assemblies", "dependencies", "vulnerabilities"]);
static VULNERABILITY: KnownKeys = KnownKeys {
    plain: &["bom-ref", "description", "id", "published", "recommendation"],
    objects: &[
        ("advisories", &ADVISORY),
        ("affects", &AFFECTED),
        ("analysis", &ANALYSIS),
        ("ratings", &RATING),
        ("references", &REFERENCE),
        ("source", &SOURCE),
    ],
    maps: &[],
};
static ADVISORY: KnownKeys = KnownKeys::flat(&["url"]);
static AFFECTED: KnownKeys = KnownKeys { plain: &["ref"], objects: &[("versions", &VERSION)], maps: &[] };
static VERSION: KnownKeys = KnownKeys::flat(&["status", "version"]);
static ANALYSIS: KnownKeys = KnownKeys::flat(&["lastUpdated", "state"]);
static RATING: KnownKeys =
    KnownKeys { plain: &["method", "score", "severity", "vector"], objects: &[("source", &SOURCE)], maps: &[] };
static REFERENCE: KnownKeys = KnownKeys::flat(&["id"]);
static SOURCE: KnownKeys = KnownKeys::flat(&["name", "url"]);
