//! From matched advisories to a report that policies weigh.

use std::collections::BTreeMap;

use crate::advisories::{Databases, ImageFindings, MatchedAdvisory};
use crate::inventory::{Gap, InstalledPackage, Inventory};
use crate::policy::{AffectedPackage, Issue, IssueKind, Purl, Report, Severity, VaEvidence};

/// The most gaps that a report names.
const MAX_NAMED: usize = 3;

/// The evidence about an image. An image in which nothing was recognised, or only a part could be examined, is never
/// complete.
pub(super) fn evidence(databases: &Databases, inventory: &Inventory, findings: ImageFindings) -> VaEvidence {
    if inventory.is_opaque() {
        let gaps = gaps(inventory.gaps.iter()).map(|gaps| format!("; {gaps}")).unwrap_or_default();
        let why = format!("no distribution and no package was recognised in the image{gaps}");
        return VaEvidence::Incomplete { why };
    }
    let incomplete = gaps(inventory.gaps.iter().chain(&findings.gaps));
    let issues = issues(inventory, findings.matches);
    VaEvidence::Report(Report { source: source(databases), generated_at: databases.oldest(), issues, incomplete })
}

/// `pullgate 0.1.0 (trivy-db of 2026-11-25, osv-pypi of 2026-11-24)`.
fn source(databases: &Databases) -> String {
    let named = databases.status().iter().filter_map(|status| {
        let built = status.generation.as_ref()?.built;
        Some(format!("{} of {}", status.source, built.strftime("%Y-%m-%d")))
    });
    format!("pullgate {} ({})", env!("CARGO_PKG_VERSION"), named.collect::<Vec<_>>().join(", "))
}

/// The gaps in words; `None` if there are none.
fn gaps<'a>(gaps: impl Iterator<Item = &'a Gap>) -> Option<String> {
    let all: Vec<String> = gaps.map(|gap| format!("{}: {}", gap.place, gap.problem)).collect();
    let named = all.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>().join("; ");
    match all.len().saturating_sub(MAX_NAMED) {
        0 if all.is_empty() => None,
        0 => Some(named),
        more => Some(format!("{named}; +{more}")),
    }
}

/// One issue for each vulnerability, with all packages that it affects.
fn issues(inventory: &Inventory, matches: Vec<MatchedAdvisory>) -> Vec<Issue> {
    let mut issues: BTreeMap<String, Issue> = BTreeMap::new();
    for found in matches {
        let Some(package) = inventory.packages.get(found.package) else { continue };
        let affected = affected(inventory, package, &found);
        let issue = issues.entry(found.id.clone()).or_insert_with(|| Issue {
            title: found.title.clone(),
            published: found.published,
            severity_source: found.severity_source.clone(),
            ..Issue::new(found.id.clone(), IssueKind::Vulnerability, found.severity)
        });
        // A vulnerability can have another severity for each package: the worst counts.
        if rank(found.severity) > rank(issue.severity) {
            issue.severity = found.severity;
            issue.severity_source.clone_from(&found.severity_source);
        }
        let is_new = |alias: &String| !issue.aliases.contains(alias);
        let aliases: Vec<String> = found.aliases.into_iter().filter(is_new).collect();
        issue.aliases.extend(aliases);
        let references: Vec<String> =
            found.references.into_iter().filter(|address| !issue.references.contains(address)).collect();
        issue.references.extend(references);
        issue.score = match (issue.score.take(), found.score) {
            (Some(one), Some(other)) => Some(one.worse(other)),
            (one, other) => one.or(other),
        };
        issue.packages.push(affected);
    }
    issues.into_values().collect()
}

fn rank(severity: Severity) -> u8 {
    severity as u8
}

fn affected(inventory: &Inventory, package: &InstalledPackage, found: &MatchedAdvisory) -> AffectedPackage {
    let purl = package.purl(inventory.distribution.as_ref()).and_then(|purl| Purl::parse(&purl));
    AffectedPackage {
        name: package.name.clone(),
        installed: Some(package.version.clone()),
        fixed: found.fixed.clone(),
        ecosystem: purl.as_ref().map(|purl| purl.kind().to_owned()),
        purl,
        source: package.source.as_ref().map(|source| source.name.clone()),
        path: package.path.clone(),
        layer: package.layer,
        status: Some(found.status),
        database: Some(found.source.clone()),
    }
}

/// The approximate memory of evidence, in bytes.
pub(super) fn weight(evidence: &VaEvidence) -> usize {
    let VaEvidence::Report(report) = evidence else { return 256 };
    let issue = |issue: &Issue| {
        let texts = issue.title.as_ref().map_or(0, String::len)
            + issue.aliases.iter().chain(&issue.references).map(|text| text.len() + 32).sum::<usize>();
        size_of::<Issue>() + texts + issue.packages.len() * (size_of::<AffectedPackage>() + 256)
    };
    512 + report.issues.iter().map(issue).sum::<usize>()
}
