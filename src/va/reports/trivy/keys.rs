//! The keys that are read of a report.

use crate::va::reports::letter_case::KnownKeys;

/// Those of the report.
pub(super) static REPORT: KnownKeys = KnownKeys {
    plain: &["SchemaVersion", "ArtifactName", "ArtifactType", "CreatedAt", "NotAssessed"],
    objects: &[("Metadata", &METADATA), ("Results", &RESULT), ("Trivy", &PROGRAM)],
    maps: &[],
};
static PROGRAM: KnownKeys = KnownKeys::flat(&["Version"]);
static METADATA: KnownKeys = KnownKeys { plain: &["ImageID", "RepoDigests"], objects: &[("OS", &SYSTEM)], maps: &[] };
static SYSTEM: KnownKeys = KnownKeys::flat(&["EOSL", "Family", "Name", "extended"]);
static RESULT: KnownKeys = KnownKeys {
    plain: &["Class", "Target", "Type"],
    objects: &[
        ("ExperimentalModifiedFindings", &MODIFIED),
        ("Misconfigurations", &MISCONFIGURATION),
        ("Packages", &PACKAGE),
        ("Secrets", &SECRET),
        ("Vulnerabilities", &VULNERABILITY),
    ],
    maps: &[],
};
static PACKAGE: KnownKeys = KnownKeys {
    plain: &[
        "Epoch",
        "FilePath",
        "ID",
        "Licenses",
        "Name",
        "Release",
        "SrcEpoch",
        "SrcName",
        "SrcRelease",
        "SrcVersion",
        "Version",
    ],
    objects: &[("Identifier", &IDENTIFIER)],
    maps: &[],
};
static IDENTIFIER: KnownKeys = KnownKeys::flat(&["PURL"]);
static VULNERABILITY: KnownKeys = KnownKeys {
    plain: &[
        "FixedVersion",
        "InstalledVersion",
        "PkgID",
        "PkgName",
        "PkgPath",
        "PrimaryURL",
        "PublishedDate",
        "References",
        "Severity",
        "SeveritySource",
        "Status",
        "Title",
        "VendorIDs",
        "VendorSeverity",
        "VulnerabilityID",
    ],
    objects: &[("Layer", &LAYER), ("PkgIdentifier", &IDENTIFIER)],
    maps: &[("CVSS", &SCORES)],
};
static LAYER: KnownKeys = KnownKeys::flat(&["DiffID"]);
static SCORES: KnownKeys = KnownKeys::flat(&["V2Score", "V2Vector", "V3Score", "V3Vector", "V40Score", "V40Vector"]);
static MISCONFIGURATION: KnownKeys =
    KnownKeys::flat(&["AVDID", "ID", "Namespace", "Resolution", "Severity", "Status", "Title"]);
static SECRET: KnownKeys = KnownKeys::flat(&["RuleID", "Severity", "Title"]);
static MODIFIED: KnownKeys = KnownKeys { plain: &["Status", "Type"], objects: &[("Finding", &FINDING)], maps: &[] };
/// A vulnerability, a misconfiguration or a secret.
static FINDING: KnownKeys = KnownKeys {
    plain: &[
        "AVDID",
        "FixedVersion",
        "ID",
        "InstalledVersion",
        "Namespace",
        "PkgID",
        "PkgName",
        "PkgPath",
        "PrimaryURL",
        "PublishedDate",
        "References",
        "Resolution",
        "RuleID",
        "Severity",
        "SeveritySource",
        "Status",
        "Title",
        "VendorIDs",
        "VendorSeverity",
        "VulnerabilityID",
    ],
    objects: &[("Layer", &LAYER), ("PkgIdentifier", &IDENTIFIER)],
    maps: &[("CVSS", &SCORES)],
};
