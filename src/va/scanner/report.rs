//! From matched advisories to a report that policies weigh.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::advisories::{Databases, ImageFindings, MatchedAdvisory, ReferenceList};
use crate::inventory::{Gap, InstalledPackage, Inventory};
use crate::oci::Digest;
use crate::policy::{
    AffectedPackage, CvssScore, DatedDatabase, DeclaredLicence, Epss, ImageFacts, Issue, IssueKind, OWN_SCANNER,
    PackageList, Purl, Report, ReportGap, ReportPackage, Severity, VaEvidence,
};
use crate::va::end_of_support::release_name;
use crate::va::reports::ratings;
use crate::va::{configuration, feeds};

/// The maximum number of gaps that a report names in words.
const MAX_NAMED: usize = 3;
/// What to do about layers that cannot be read.
const LAYER_ADVICE: &str = "; build the image again with plain tar layers, or add a report of another scanner";
/// The maximum number of gaps that a report lists.
const MAX_GAPS: usize = 1000;
/// The maximum number of other places of a package that an issue lists. Further ones are one entry without a path, so
/// that no exemption for paths covers them.
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
    let made = oldest(databases, &findings).map(|oldest| oldest.built);
    let ImageFindings { matches, copies, gaps: unjudged, end_of_life, databases: listing } = findings;
    let incomplete = gaps(inventory.gaps.iter().chain(&unjudged));
    let ended = end_of_life.filter(|end| *end <= now).map(|end| Gap {
        place: "etc/os-release".into(),
        problem: format!("support of the release ended on {end}: newer vulnerabilities are not listed"),
    });
    let image = ImageFacts {
        end_of_life,
        distribution: inventory.distribution.as_ref().map(release_name),
        database_built: made,
        databases: listing,
        feeds: feeds::of(databases, &unjudged),
        ..ImageFacts::default()
    };
    let issues = issues(inventory, (matches, &copies), purpose);
    let gaps =
        ended.into_iter().chain(unjudged).take(MAX_GAPS).map(|Gap { place, problem }| ReportGap { place, problem });
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

/// The oldest database in which packages of the image were looked up. An image with nothing to look up is as well known
/// as the newest database makes it: an old one of any ecosystem would deny it for no reason.
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

/// The packages of which an image has copies in other places, by the index of the first.
type Copies = HashMap<usize, Vec<usize>>;

/// One issue for each vulnerability, with all packages that it affects, in the order of their identifiers. The texts of
/// the matches become those of the issues: copying them would take as long as matching.
fn issues(inventory: &Inventory, (matches, copies): (Vec<MatchedAdvisory>, &Copies), purpose: Purpose) -> Vec<Issue> {
    let mut purls = PackagePurls::new(inventory);
    let mut issues: Vec<Option<IssueOfMatches>> = Vec::with_capacity(matches.len());
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for mut found in matches {
        let Some(package) = inventory.packages.get(found.package) else { continue };
        let copies = copies.get(&found.package).map_or(&[][..], Vec::as_slice);
        let purl = purls.of(found.package, package);
        let mut affected = affected(package, &mut found, purl);
        if purpose == Purpose::Report {
            (affected.severity, affected.severity_source) = (Some(found.severity), found.severity_source.clone());
        }
        let place = *places.entry(std::mem::take(&mut found.id)).or_insert(issues.len());
        if place == issues.len() {
            issues.push(Some(IssueOfMatches::new(&mut found)));
        }
        if let Some(issue) = &mut issues[place] {
            issue.add(found, affected, (inventory, copies), purpose);
        }
    }
    let of_configuration = configuration::issues(&inventory.findings);
    let mut all = Vec::with_capacity(places.len() + of_configuration.len());
    all.extend(places.into_iter().filter_map(|(id, place)| Some(issues[place].take()?.finish(id))));
    all.extend(of_configuration);
    all
}

/// The package URLs of packages. That of the last one is known: matches are ordered by package.
struct PackagePurls<'a> {
    inventory: &'a Inventory,
    last: Option<(usize, Option<Purl>)>,
}

impl<'a> PackagePurls<'a> {
    fn new(inventory: &'a Inventory) -> Self {
        Self { inventory, last: None }
    }

    fn of(&mut self, index: usize, package: &InstalledPackage) -> Option<Purl> {
        match &self.last {
            Some((last, known)) if *last == index => known.clone(),
            _ => {
                let made = purl(self.inventory, package);
                self.last = Some((index, made.clone()));
                made
            }
        }
    }
}

/// An issue that several matches add to. It gets its identifier at the end.
struct IssueOfMatches {
    issue: Issue,
    /// The aliases of the issue, once a second match has some.
    aliases: HashSet<String>,
    /// Lists that were added: packages share them.
    references: Vec<ReferenceList>,
}

impl IssueOfMatches {
    fn new(found: &mut MatchedAdvisory) -> Self {
        let issue = Issue {
            title: found.title.take(),
            published: found.published,
            ..Issue::new(String::new(), IssueKind::Vulnerability, found.severity)
        };
        Self { issue, aliases: HashSet::new(), references: Vec::new() }
    }

    /// Adds a package, and its copies in other places.
    fn add(
        &mut self,
        mut found: MatchedAdvisory,
        affected: AffectedPackage,
        (inventory, copies): (&Inventory, &[usize]),
        purpose: Purpose,
    ) {
        self.rate(&mut found, purpose);
        let issue = &mut self.issue;
        issue.exploited |= found.exploited;
        issue.epss = issue.epss.max(found.epss.and_then(Epss::new));
        issue.score = issue.score.take().into_iter().chain(found.score).reduce(CvssScore::worse);
        if issue.packages.is_empty() {
            // Most issues are in one package, and a vector has room for four by itself.
            issue.packages.reserve_exact(1 + copies.len().min(MAX_PLACES + 1));
        }
        for copy in copies.iter().take(MAX_PLACES).filter_map(|copy| inventory.packages.get(*copy)) {
            let place = AffectedPackage { path: copy.path.clone(), layer: copy.layer, ..affected.clone() };
            issue.packages.push(place);
        }
        if copies.len() > MAX_PLACES {
            issue.packages.push(AffectedPackage { path: None, layer: None, ..affected.clone() });
        }
        issue.packages.push(affected);
        // No decision needs them.
        let lists = found.references.into_iter().filter(|_| purpose == Purpose::Report);
        for list in lists {
            if !self.references.iter().any(|known| known.is_same(&list)) {
                self.references.push(list);
            }
        }
        self.add_aliases(found.aliases);
    }

    /// Adds the severities that sources give.
    fn rate(&mut self, found: &mut MatchedAdvisory, purpose: Purpose) {
        let issue = &mut self.issue;
        for (source, severity) in &found.ratings {
            ratings::rate(&mut issue.ratings, source, *severity);
        }
        let (mut source, mut severity) = (found.severity_source.take(), found.severity);
        if let Some(source) = source.as_ref().filter(|_| purpose == Purpose::Report) {
            ratings::rate(&mut issue.ratings, source, severity);
        }
        // A vulnerability can have another severity for each package: the worst counts.
        if issue.packages.is_empty() || rank(severity) > rank(issue.severity) {
            std::mem::swap(&mut issue.severity_source, &mut source);
            std::mem::swap(&mut issue.severity, &mut severity);
        }
        // A decision takes the severity of the issue for that of its own source, so only those of others are listed.
        if let Some(source) = source.filter(|_| purpose == Purpose::Decision)
            && issue.severity_source.as_ref() != Some(&source)
        {
            ratings::rate(&mut issue.ratings, &source, severity);
        }
    }

    /// Adds names, which are all different.
    fn add_aliases(&mut self, aliases: Vec<String>) {
        let Self { issue, aliases: known, .. } = self;
        if issue.aliases.is_empty() {
            issue.aliases = aliases;
            return;
        }
        if known.is_empty() {
            known.extend(issue.aliases.iter().cloned());
        }
        for alias in aliases {
            if !known.contains(&alias) {
                known.insert(alias.clone());
                issue.aliases.push(alias);
            }
        }
    }

    fn finish(mut self, id: String) -> Issue {
        self.issue.id = id;
        let rating = (Some(self.issue.severity), self.issue.severity_source.clone());
        for package in &mut self.issue.packages {
            if (package.severity, &package.severity_source) == (rating.0, &rating.1) {
                (package.severity, package.severity_source) = (None, None);
            }
        }
        let mut seen = HashSet::new();
        for list in self.references.iter().map(ReferenceList::read) {
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

/// A package with what a match says about it, which is taken from the match.
fn affected(package: &InstalledPackage, found: &mut MatchedAdvisory, purl: Option<Purl>) -> AffectedPackage {
    AffectedPackage {
        name: package.name.clone(),
        installed: Some(package.version.clone()),
        fixed: found.fixed.take(),
        ecosystem: purl.as_ref().map(|purl| purl.kind().to_owned()),
        purl,
        source: package.source.as_ref().map(|source| source.name.clone()),
        path: package.path.clone(),
        layer: package.layer,
        status: Some(found.status),
        database: Some(std::mem::take(&mut found.source)).filter(|name| !name.is_empty()),
        ..AffectedPackage::default()
    }
}

/// The approximate memory of evidence, in bytes.
pub(in crate::va) fn weight(evidence: &VaEvidence) -> usize {
    let issue = |issue: &Issue| {
        let texts = issue.title.as_ref().map_or(0, String::len)
            + issue.aliases.iter().chain(&issue.references).map(|text| text.len() + 32).sum::<usize>()
            + issue.ratings.keys().map(|source| source.len() + 64).sum::<usize>();
        size_of::<Issue>() + texts + issue.packages.len() * (size_of::<AffectedPackage>() + 256)
    };
    let VaEvidence::Report(report) = evidence else {
        return 256 + evidence.issues().iter().map(issue).sum::<usize>();
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
        let matches = vec![
            rated(Severity::Low, "debian", &[("nvd", Severity::High), ("redhat", Severity::Unknown)]),
            rated(Severity::Medium, "debian", &[("nvd", Severity::High), ("osv", Severity::Critical)]),
        ];
        let issue = issues(&inventory, (matches, &Copies::new()), Purpose::Report).remove(0);
        let expected = [("debian", Severity::Medium), ("nvd", Severity::High), ("osv", Severity::Critical)];
        assert_eq!(issue.ratings, expected.map(|(source, severity)| (source.to_owned(), severity)).into());
        assert_eq!((issue.severity, issue.severity_source.as_deref()), (Severity::Medium, Some("debian")));
        let own = issue.packages.iter().map(|package| (package.severity, package.severity_source.as_deref()));
        let expected = [(Some(Severity::Low), Some("debian")), (None, None)];
        assert_eq!(own.collect::<Vec<_>>(), expected, "that of a package is stated where it differs");
    }

    /// What a decision leaves out changes no severity, by whichever source a rule asks for it.
    #[test]
    fn decisions_have_the_severities_of_reports() {
        use Severity::{Critical, High, Low, Medium, Unknown};
        let (references, inventory) = (
            ReferenceList::default(),
            Inventory {
                packages: serde_json::from_value(json!([{"ecosystem": "npm", "name": "x", "version": "1"}])).unwrap(),
                ..Inventory::default()
            },
        );
        let rated = |(by, severity, other): &(&str, Severity, Option<Severity>)| MatchedAdvisory {
            severity: *severity,
            severity_source: (!by.is_empty()).then(|| (*by).to_owned()),
            ratings: other.iter().map(|severity| ("a".to_owned(), *severity)).collect(),
            ..finding("CVE-1", 0, &references)
        };
        let by = |issue: &Issue, source: &str| {
            let is_stated = issue.severity_source.as_deref() == Some(source);
            if is_stated { Some(issue.severity) } else { issue.ratings.get(source).copied() }
        };
        for matches in [
            &[("a", High, None)][..],
            &[("a", Low, None), ("a", High, None)],
            &[("a", High, None), ("b", Critical, None), ("c", Low, None)],
            &[("a", Medium, None), ("b", High, None), ("a", Critical, None), ("b", Low, None)],
            &[("a", Low, Some(Medium)), ("b", High, None)],
            &[("", High, Some(Low)), ("b", Critical, Some(Medium))],
            &[("a", Unknown, None), ("b", Low, None)],
        ] {
            let of = |purpose| {
                let found = (matches.iter().map(rated).collect(), &Copies::new());
                issues(&inventory, found, purpose).remove(0)
            };
            let (report, decision) = (of(Purpose::Report), of(Purpose::Decision));
            assert_eq!(decision.severity, report.severity, "{matches:?}");
            for source in ["a", "b", "c"] {
                assert_eq!(by(&decision, source), by(&report, source), "{source} of {matches:?}");
            }
        }
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
            let matches = vec![finding("CVE-1", 0, &references), finding("CVE-1", 999, &references)];
            let copies = Copies::from([(0, (1..=copies).collect())]);
            issues(&inventory, (matches, &copies), Purpose::Report).remove(0)
        };
        let paths = |issue: &Issue| issue.packages.iter().map(|package| package.path.clone()).collect::<Vec<_>>();
        let few = listed(2);
        assert_eq!(paths(&few), ["1", "2", "0", "999"].map(|path| Some(path.to_owned())));
        assert_eq!((&few.references[..], &few.aliases[..]), (&addresses[..], &["GHSA-1".to_owned()][..]));
        let many = paths(&listed(998));
        assert_eq!((many.len(), many.iter().filter(|path| path.is_none()).count()), (MAX_PLACES + 3, 1));
    }
}
