//! From matched advisories to a report that policies weigh.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::advisories::{Databases, ImageFindings, MatchedAdvisory, ReferenceList};
use crate::inventory::{Gap, InstalledPackage, Inventory, LinuxDistribution};
use crate::oci::Digest;
use crate::policy::{
    AffectedPackage, DatedDatabase, DeclaredLicence, Epss, ImageFacts, Issue, IssueKind, OWN_SCANNER, PackageList,
    Purl, Report, ReportGap, ReportPackage, Severity, VaEvidence,
};
use crate::va::reports::ratings;
use crate::va::{configuration, feeds};

/// The most gaps that a report names in words.
const MAX_NAMED: usize = 3;
/// What to do about layers that cannot be read.
const LAYER_ADVICE: &str = "; build the image again with plain tar layers, or add a report of another scanner";
/// The most gaps that a report lists.
const MAX_GAPS: usize = 1000;
/// The most other places of a package that an issue lists. Further ones are one entry without a path, so that no exemption
/// for paths covers them.
const MAX_PLACES: usize = 64;

/// What evidence is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    /// A decision. What only reports show is left out.
    Decision,
    /// A decision, and reports about the image.
    Report,
}

/// The evidence about an image. An image in which nothing was recognised, or only a part could be examined, is never
/// complete.
pub(super) fn evidence(
    databases: &Databases,
    inventory: &Arc<Inventory>,
    findings: ImageFindings,
    (purpose, now): (Purpose, Timestamp),
) -> VaEvidence {
    if inventory.is_opaque() {
        return opaque(databases, inventory);
    }
    let incomplete = gaps(inventory.gaps.iter().chain(&findings.gaps));
    let ended = findings.end_of_life.filter(|end| *end <= now).map(|end| Gap {
        place: "etc/os-release".into(),
        problem: format!("support of the release ended at {end}: newer vulnerabilities are not listed"),
    });
    let made = oldest(databases, &findings).map(|oldest| oldest.built);
    let image = ImageFacts {
        end_of_life: findings.end_of_life,
        distribution: inventory.distribution.as_ref().map(release),
        database_built: made,
        databases: findings.databases.clone(),
        feeds: feeds::of(databases, &findings.gaps),
        ..ImageFacts::default()
    };
    let mut purls = PackagePurls { inventory, known: HashMap::new() };
    let issues = issues(inventory, &findings, &mut purls, purpose);
    let gaps = ended
        .into_iter()
        .chain(findings.gaps)
        .take(MAX_GAPS)
        .map(|Gap { place, problem }| ReportGap { place, problem });
    let (source, gaps) = (source(databases), gaps.collect());
    VaEvidence::Report(Report {
        source,
        generated_at: made,
        issues,
        incomplete,
        is_only_past_support: false,
        gaps,
        checks_configuration: true,
        image,
        packages: Some(packages(inventory, purpose)),
    })
}

/// The oldest database in which packages of the image were looked up. An image with nothing to look up is as well known as
/// the newest database makes it: an old one of any ecosystem would deny it for no reason.
pub(super) fn oldest(databases: &Databases, findings: &ImageFindings) -> Option<DatedDatabase> {
    let oldest = findings.databases.iter().min_by_key(|database| database.built);
    oldest.cloned().or_else(|| databases.newest())
}

/// All packages of an image. For a decision they are made only if the rule looks at them.
fn packages(inventory: &Arc<Inventory>, purpose: Purpose) -> PackageList {
    let package = |inventory: &Inventory, package: &InstalledPackage| ReportPackage {
        name: package.name.clone(),
        version: package.version.clone(),
        purl: purl(inventory, package),
        licences: package.licenses.iter().map(|written| declared(inventory, written)).collect(),
        published: package.built,
        path: package.path.clone(),
        source_name: package.source.as_ref().map(|source| source.name.clone()),
        source_version: package.source.as_ref().map(|source| source.version.clone()),
    };
    let make = move |inventory: &Inventory| inventory.packages.iter().map(|one| package(inventory, one)).collect();
    match purpose {
        Purpose::Report => PackageList::from_iter::<Vec<_>>(make(inventory)),
        Purpose::Decision => {
            let inventory = inventory.clone();
            PackageList::lazy(inventory.packages.len(), move || make(&inventory))
        }
    }
}

fn purl(inventory: &Inventory, package: &InstalledPackage) -> Option<Purl> {
    let distribution = inventory.distribution.as_ref();
    let simple = package.with_purl_parts(distribution, |parts| {
        Purl::of_simple_parts(parts.kind, (parts.namespace, parts.name), parts.version, &parts.qualifiers)
    });
    simple.or_else(|| Purl::of(&package.package_url(distribution)?))
}

/// A licence that a package declares.
fn declared(inventory: &Inventory, written: &str) -> DeclaredLicence {
    DeclaredLicence { written: written.to_owned(), expression: inventory.licences.get(written).cloned() }
}

/// The evidence about an image in which nothing was recognised.
fn opaque(databases: &Databases, inventory: &Inventory) -> VaEvidence {
    let why = "no distribution and no package was recognised in the image".to_owned();
    let issues = configuration::issues(&inventory.findings);
    match gaps(inventory.gaps.iter()) {
        Some(gaps) => VaEvidence::Report(Report {
            source: source(databases),
            generated_at: databases.newest().map(|newest| newest.built),
            incomplete: Some(format!("{why}; {gaps}")),
            checks_configuration: true,
            issues,
            ..Report::default()
        }),
        None => VaEvidence::Opaque { why, issues, image: ImageFacts::default() },
    }
}

/// `debian 12`; only the name for a rolling release.
fn release(distribution: &LinuxDistribution) -> String {
    format!("{} {}", distribution.id, distribution.version).trim_end().to_owned()
}

/// `pullgate 0.1.0 (trivy-db of 2026-11-25, osv-pypi of 2026-11-24)`.
fn source(databases: &Databases) -> String {
    let named = databases.status().iter().filter_map(|status| {
        let built = status.generation.as_ref()?.built;
        Some(format!("{} of {}", status.source, built.strftime("%Y-%m-%d")))
    });
    format!("{OWN_SCANNER} {} ({})", env!("CARGO_PKG_VERSION"), named.collect::<Vec<_>>().join(", "))
}

/// The gaps in words; `None` if there are none.
pub(super) fn gaps<'a>(gaps: impl Iterator<Item = &'a Gap>) -> Option<String> {
    let mut names_layer = false;
    let mut text = |(index, gap): (usize, &Gap)| match gap.place.parse::<Digest>() {
        Ok(layer) => {
            names_layer |= index < MAX_NAMED;
            format!("layer {}: {}", layer.short(), gap.problem)
        }
        Err(_) => format!("{}: {}", gap.place, gap.problem),
    };
    let all: Vec<String> = gaps.enumerate().map(&mut text).collect();
    let named = all.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>().join("; ");
    let advice = if names_layer { LAYER_ADVICE } else { "" };
    match all.len().saturating_sub(MAX_NAMED) {
        0 if all.is_empty() => None,
        0 => Some(format!("{named}{advice}")),
        more => Some(format!("{named}; +{more}{advice}")),
    }
}

/// One issue for each vulnerability, with all packages that it affects.
fn issues(
    inventory: &Inventory,
    findings: &ImageFindings,
    purls: &mut PackagePurls<'_>,
    purpose: Purpose,
) -> Vec<Issue> {
    let mut issues: BTreeMap<&str, IssueOfMatches<'_>> = BTreeMap::new();
    for found in &findings.matches {
        let Some(package) = inventory.packages.get(found.package) else { continue };
        let copies = findings.copies.get(&found.package).map_or(&[][..], Vec::as_slice);
        let mut affected = affected(package, found, purls.of(found.package));
        if purpose == Purpose::Report {
            (affected.severity, affected.severity_source) = (Some(found.severity), found.severity_source.clone());
        }
        issues.entry(&found.id).or_insert_with(|| IssueOfMatches::new(found)).add(found, affected, inventory, copies);
    }
    let of_packages = issues.into_values().map(|issue| issue.finish(purpose));
    of_packages.chain(configuration::issues(&inventory.findings)).collect()
}

/// The package URLs of packages, each computed once.
struct PackagePurls<'a> {
    inventory: &'a Inventory,
    known: HashMap<usize, Option<Purl>>,
}

impl PackagePurls<'_> {
    fn of(&mut self, index: usize) -> Option<Purl> {
        let inventory = self.inventory;
        let compute = || purl(inventory, inventory.packages.get(index)?);
        self.known.entry(index).or_insert_with(compute).clone()
    }
}

/// An issue that several matches add to.
struct IssueOfMatches<'a> {
    issue: Issue,
    aliases: BTreeSet<&'a str>,
    /// Lists that were added: packages share them.
    references: Vec<&'a ReferenceList>,
}

impl<'a> IssueOfMatches<'a> {
    fn new(found: &MatchedAdvisory) -> Self {
        let issue = Issue {
            title: found.title.clone(),
            published: found.published,
            severity_source: found.severity_source.clone(),
            ..Issue::new(found.id.clone(), IssueKind::Vulnerability, found.severity)
        };
        Self { issue, aliases: BTreeSet::new(), references: Vec::new() }
    }

    /// Adds a package, and its copies in other places.
    fn add(&mut self, found: &'a MatchedAdvisory, affected: AffectedPackage, inventory: &Inventory, copies: &[usize]) {
        let issue = &mut self.issue;
        // A vulnerability can have another severity for each package: the worst counts.
        if rank(found.severity) > rank(issue.severity) {
            issue.severity = found.severity;
            issue.severity_source.clone_from(&found.severity_source);
        }
        let stated = found.severity_source.as_ref().map(|source| (source, found.severity));
        for (source, severity) in found.ratings.iter().map(|(source, rated)| (source, *rated)).chain(stated) {
            ratings::rate(&mut issue.ratings, source, severity);
        }
        issue.exploited |= found.exploited;
        issue.epss = issue.epss.max(found.epss.and_then(Epss::new));
        let aliases = &mut self.aliases;
        issue.aliases.extend(found.aliases.iter().filter(|alias| aliases.insert(alias.as_str())).cloned());
        for list in &found.references {
            if !self.references.iter().any(|known| known.is_same(list)) {
                self.references.push(list);
            }
        }
        if let Some(score) = &found.score {
            issue.score = Some(issue.score.take().map_or(score.clone(), |known| known.worse(score.clone())));
        }
        for copy in copies.iter().take(MAX_PLACES).filter_map(|copy| inventory.packages.get(*copy)) {
            let place = AffectedPackage { path: copy.path.clone(), layer: copy.layer, ..affected.clone() };
            issue.packages.push(place);
        }
        if copies.len() > MAX_PLACES {
            issue.packages.push(AffectedPackage { path: None, layer: None, ..affected.clone() });
        }
        issue.packages.push(affected);
    }

    fn finish(mut self, purpose: Purpose) -> Issue {
        let rating = (Some(self.issue.severity), self.issue.severity_source.clone());
        for package in &mut self.issue.packages {
            if (package.severity, &package.severity_source) == (rating.0, &rating.1) {
                (package.severity, package.severity_source) = (None, None);
            }
        }
        let lists = self.references.iter().filter(|_| purpose == Purpose::Report);
        let mut seen = HashSet::new();
        for list in lists.map(|list| list.read()) {
            match list {
                Ok(addresses) => {
                    self.issue.references.extend(addresses.iter().filter(|one| seen.insert((*one).clone())).cloned());
                }
                // No decision follows from them, so this is not a gap.
                Err(error) => {
                    tracing::warn!(%error, issue = self.issue.id, "the references of a vulnerability cannot be read");
                }
            }
        }
        self.issue
    }
}

fn rank(severity: Severity) -> u8 {
    severity as u8
}

fn affected(package: &InstalledPackage, found: &MatchedAdvisory, purl: Option<Purl>) -> AffectedPackage {
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
        database: Some(found.source.clone()).filter(|name| !name.is_empty()),
        ..AffectedPackage::default()
    }
}

/// The approximate memory of evidence, in bytes.
pub(in crate::va) fn weight(evidence: &VaEvidence) -> usize {
    let VaEvidence::Report(report) = evidence else { return 256 };
    let issue = |issue: &Issue| {
        let texts = issue.title.as_ref().map_or(0, String::len)
            + issue.aliases.iter().chain(&issue.references).map(|text| text.len() + 32).sum::<usize>()
            + issue.ratings.keys().map(|source| source.len() + 64).sum::<usize>();
        size_of::<Issue>() + texts + issue.packages.len() * (size_of::<AffectedPackage>() + 256)
    };
    let gaps: usize = report.gaps.iter().map(|gap| gap.place.len() + gap.problem.len() + 64).sum();
    let package = |package: &ReportPackage| {
        let length =
            |licence: &DeclaredLicence| licence.written.len() + licence.expression.as_ref().map_or(0, String::len);
        let licences = package.licences.iter().map(|licence| length(licence) + 64).sum::<usize>();
        size_of::<ReportPackage>() + licences + 512
    };
    let packages = report.packages.as_ref().map_or(0, |packages| match packages.made() {
        Ok(made) => made.iter().map(package).sum::<usize>(),
        // It holds the inventory, and may be made later.
        Err(expected) => expected * (size_of::<ReportPackage>() + size_of::<InstalledPackage>() + 1024),
    });
    512 + gaps + packages + report.issues.iter().map(issue).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::FixStatus;

    fn finding(id: &str, package: usize, references: &ReferenceList) -> MatchedAdvisory {
        MatchedAdvisory {
            id: id.into(),
            aliases: vec!["GHSA-1".into()],
            package,
            fixed: Some("2".into()),
            status: FixStatus::Fixed,
            severity: Severity::High,
            severity_source: None,
            ratings: Vec::new(),
            source: "ghsa".into(),
            title: None,
            published: None,
            modified: None,
            score: None,
            exploited: false,
            epss: None,
            references: vec![references.clone()],
        }
    }

    /// Each source keeps its own severity, the worst of several, whichever counts by default.
    #[test]
    fn issues_have_the_severities_of_all_sources() {
        let references = ReferenceList::default();
        let inventory = Inventory {
            packages: serde_json::from_value(json!([{"ecosystem": "npm", "name": "x", "version": "1"}])).unwrap(),
            ..Inventory::default()
        };
        let rated = |severity, by: &str, ratings: &[(&str, Severity)]| MatchedAdvisory {
            severity,
            severity_source: Some(by.to_owned()),
            ratings: ratings.iter().map(|(source, severity)| ((*source).to_owned(), *severity)).collect(),
            ..finding("CVE-1", 0, &references)
        };
        let findings = ImageFindings {
            matches: vec![
                rated(Severity::Low, "debian", &[("nvd", Severity::High), ("redhat", Severity::Unknown)]),
                rated(Severity::Medium, "debian", &[("nvd", Severity::High), ("osv", Severity::Critical)]),
            ],
            ..ImageFindings::default()
        };
        let mut purls = PackagePurls { inventory: &inventory, known: HashMap::new() };
        let issue = issues(&inventory, &findings, &mut purls, Purpose::Report).remove(0);
        let expected = [("debian", Severity::Medium), ("nvd", Severity::High), ("osv", Severity::Critical)];
        assert_eq!(issue.ratings, expected.map(|(source, severity)| (source.to_owned(), severity)).into());
        assert_eq!((issue.severity, issue.severity_source.as_deref()), (Severity::Medium, Some("debian")));
        let own = issue.packages.iter().map(|package| (package.severity, package.severity_source.as_deref()));
        let expected = [(Some(Severity::Low), Some("debian")), (None, None)];
        assert_eq!(own.collect::<Vec<_>>(), expected, "that of a package is stated where it differs");
    }

    #[test]
    fn packages_have_their_licences_as_expressions() {
        let inventory: Inventory = serde_json::from_value(json!({
            "distribution": null, "gaps": [], "licences": {"GPL-2": "GPL-2.0-only"},
            "packages": [{"ecosystem": "npm", "name": "x", "version": "1", "licenses": ["GPL-2", "MIT"]}],
        }))
        .unwrap();
        let licences: Vec<_> = ["GPL-2", "MIT"].iter().map(|text| declared(&inventory, text)).collect();
        assert_eq!(licences, ["GPL-2", "MIT"].map(|text| DeclaredLicence::new(text.to_owned())));
        let found = evidence(
            &Databases::default(),
            &Arc::new(inventory),
            ImageFindings::default(),
            (Purpose::Report, Timestamp::UNIX_EPOCH),
        );
        let VaEvidence::Report(Report { packages: Some(packages), .. }) = found else { panic!("{found:?}") };
        assert_eq!(packages[0].licences, licences);
    }

    /// An image may contain a package any number of times: what is listed stays bounded, and no exemption of the listed
    /// paths covers the others.
    #[test]
    fn copies_are_listed_up_to_a_limit() {
        let package = |path: usize| json!({"ecosystem": "npm", "name": "x", "version": "1", "path": format!("{path}")});
        let packages: Vec<_> = (0..1000).map(package).collect();
        let inventory =
            Inventory { packages: serde_json::from_value(json!(packages)).unwrap(), ..Inventory::default() };
        let addresses: Arc<[String]> = Arc::from(["https://x".to_owned(), "https://y".to_owned()]);
        let references = ReferenceList::from(addresses.clone());
        let listed = |copies: usize| {
            let findings = ImageFindings {
                matches: vec![finding("CVE-1", 0, &references), finding("CVE-1", 999, &references)],
                copies: HashMap::from([(0, (1..=copies).collect())]),
                ..ImageFindings::default()
            };
            let mut purls = PackagePurls { inventory: &inventory, known: HashMap::new() };
            issues(&inventory, &findings, &mut purls, Purpose::Report).remove(0)
        };
        let paths = |issue: &Issue| issue.packages.iter().map(|package| package.path.clone()).collect::<Vec<_>>();
        let few = listed(2);
        assert_eq!(paths(&few), ["1", "2", "0", "999"].map(|path| Some(path.to_owned())));
        assert_eq!((&few.references[..], &few.aliases[..]), (&addresses[..], &["GHSA-1".to_owned()][..]));
        let many = paths(&listed(998));
        assert_eq!((many.len(), many.iter().filter(|path| path.is_none()).count()), (MAX_PLACES + 3, 1));
    }
}
