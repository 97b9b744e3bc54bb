//! Exemptions: issues that an administrator of the gate has decided to ignore, in the model of IBM's Vulnerability
//! Advisor.
//!
//! A CVE is exempt if it is exempt itself, or if all its security notices are. With exemptions for only some of the
//! notices, it is partially exempt, and counts. A database's name for the vulnerability (`GHSA-…`, `DEBIAN-CVE-…`) is
//! not a notice but another name. Whether a source lists such names must not make a difference.

mod invalid;
mod package;
mod record;
mod scope;
mod set;

use std::cmp::Reverse;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use invalid::InvalidExemption;
pub use package::ExemptPackage;
pub use record::{ExemptionRecord, IssueType, MAX_EXEMPTIONS, PathPattern, expiry};
pub use scope::{ExemptionScope, InvalidExemptionScope};
use set::ScopeExemptions;
pub use set::{ExemptedImage, ExemptionSet};

use crate::oci::Digest;
use crate::policy::vulnerability::issue_id::{database_of, may_be_about, package_type_of};
use crate::policy::vulnerability::purl::Purl;
use crate::policy::vulnerability::{AffectedPackage, Issue, IssueKind, is_cve};

/// The exemptions that apply to one image, from all scopes and origins. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VaExemptions {
    scopes: Vec<Arc<ScopeExemptions>>,
    /// For an index, those of the digests of its children.
    children: Vec<(Digest, Arc<ScopeExemptions>)>,
}

/// Whether an issue is exempt, in IBM's terms.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ExemptStatus {
    /// No exemption applies.
    #[default]
    Active,
    /// Exemptions apply to some of its security notices, CVEs or packages. The issue counts.
    Partial,
    /// It does not count.
    Exempt,
}

/// What exemptions say about one issue.
#[derive(Clone, Debug, PartialEq)]
pub struct Coverage {
    /// Whether it is exempt.
    pub status: ExemptStatus,
    /// If it is exempt: when that ends under the present exemptions; [`Timestamp::MAX`] if it has no end.
    pub until: Timestamp,
    /// The exemptions that apply to it: if it is exempt, those that make it so.
    pub used: Vec<Arc<ExemptionRecord>>,
}

impl VaExemptions {
    /// The exemptions of several origins that apply to an image.
    pub fn for_image(origins: &[&ExemptionSet], image: &ExemptedImage<'_>) -> Self {
        let scopes = ExemptionScope::of_image(image.name, image.tags, &image.digests);
        let of =
            |scope: &ExemptionScope| origins.iter().filter_map(|set| set.of_scope(scope).cloned()).collect::<Vec<_>>();
        let of_child = |child: &Digest| {
            let found = ExemptionScope::of_digest(image.name, *child).iter().flat_map(of).collect::<Vec<_>>();
            found.into_iter().map(|found| (*child, found)).collect::<Vec<_>>()
        };
        Self {
            scopes: scopes.iter().flat_map(of).collect(),
            children: image.children.iter().flat_map(of_child).collect(),
        }
    }

    /// The exemptions that apply to a child of the index: those of the index, and those of the child's digest.
    #[must_use]
    pub fn for_child(&self, child: Digest) -> Self {
        let own = self.children.iter().filter(|(digest, _)| *digest == child).map(|(_, own)| own.clone());
        Self { scopes: self.scopes.iter().cloned().chain(own).collect(), children: Vec::new() }
    }

    /// Whether an issue is exempt at this time.
    pub fn cover(&self, issue: &Issue, now: Timestamp) -> bool {
        self.cover_until(issue, now).is_some()
    }

    /// The time until which an issue is exempt under the present exemptions: [`Timestamp::MAX`] if there is no end,
    /// `None` if the issue is not exempt.
    pub(in crate::policy) fn cover_until(&self, issue: &Issue, now: Timestamp) -> Option<Timestamp> {
        let Coverage { status, until, .. } = self.coverage(issue, now);
        (status == ExemptStatus::Exempt).then_some(until)
    }

    /// The same, where only exemptions count that name the issue, and not those of whole packages.
    pub(in crate::policy) fn cover_named_until(&self, issue: &Issue, now: Timestamp) -> Option<Timestamp> {
        let Coverage { status, until, .. } = self.covered(issue, now, false);
        (status == ExemptStatus::Exempt).then_some(until)
    }

    /// These exemptions and other ones. Together they may exempt an issue in all of its packages that neither does
    /// alone.
    #[must_use]
    pub(in crate::policy) fn with(&self, others: &Self) -> Self {
        let scopes = self.scopes.iter().chain(&others.scopes).cloned().collect();
        Self { scopes, children: self.children.clone() }
    }

    /// An issue with only the packages in which it is not exempt, and when the first exemption in the others ends.
    /// `None` if no package is exempt, or all are.
    pub(in crate::policy) fn open_part(&self, issue: &Issue, now: Timestamp) -> Option<(Issue, Timestamp)> {
        if self.scopes.is_empty() || issue.packages.len() < 2 {
            return None;
        }
        let names = NamedExemptions::new(self, issue, now);
        let end = |package| self.way(&names, issue, Some(package), Some(package), now).map(|way| way.end());
        let ends: Vec<Option<Timestamp>> = issue.packages.iter().map(end).collect();
        let first = ends.iter().flatten().min()?;
        let open = issue.packages.iter().zip(&ends).filter(|(_, end)| end.is_none());
        let packages: Vec<_> = open.map(|(package, _)| package.clone()).collect();
        (!packages.is_empty()).then(|| (Issue { packages, ..issue.clone() }, *first))
    }

    /// Whether an issue is exempt: it is if it is exempt in every package that it affects.
    pub fn coverage(&self, issue: &Issue, now: Timestamp) -> Coverage {
        self.covered(issue, now, true)
    }

    /// The identifiers that are missing where an issue is exempt in part: others of the same kind are exempt.
    pub(in crate::policy) fn missing_identifiers<'a>(&'a self, issue: &'a Issue, now: Timestamp) -> Vec<&'a str> {
        let mut missing = Vec::new();
        if self.scopes.is_empty() {
            return missing;
        }
        let names = NamedExemptions::new(self, issue, now);
        for place in issue.places() {
            let is_open = |(_, records): &&IdentifierExemptions<'_>| latest(records.iter().copied(), place).is_none();
            for kind in names.kinds(place).into_iter().chain([names.cves.iter().collect()]) {
                let open: Vec<&str> = kind.iter().copied().filter(is_open).map(|(id, _)| *id).collect();
                let is_partial = open.len() < kind.len();
                missing.extend(open.into_iter().filter(|_| is_partial));
            }
        }
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    /// The exemptions that applied to an issue and have ended, if it is not exempt.
    pub fn ended(&self, issue: &Issue, now: Timestamp) -> Vec<Arc<ExemptionRecord>> {
        if self.cover(issue, now) {
            return Vec::new();
        }
        let before = self.coverage(issue, Timestamp::MIN).used;
        before.into_iter().filter(|record| !record.holds(now)).collect()
    }

    fn covered(&self, issue: &Issue, now: Timestamp, with_packages: bool) -> Coverage {
        let mut coverage = Coverage { status: ExemptStatus::Active, until: Timestamp::MAX, used: Vec::new() };
        if self.scopes.is_empty() {
            return coverage;
        }
        let names = NamedExemptions::new(self, issue, now);
        let places = issue.places();
        let way = |place: &Option<&_>| {
            let package = if with_packages { *place } else { None };
            self.way(&names, issue, *place, package, now)
        };
        let found: Vec<Option<Way<'_>>> = places.iter().map(way).collect();
        let is_exempt = found.iter().all(Option::is_some);
        let ways = found.into_iter().flatten();
        let partly = places.iter().flat_map(|place| names.any(*place)).filter(|_| !is_exempt);
        for record in ways.flat_map(|way| way.used).chain(partly) {
            coverage.until = coverage.until.min(record.end());
            if !coverage.used.iter().any(|known| Arc::ptr_eq(known, record)) {
                coverage.used.push(record.clone());
            }
        }
        coverage.status = match (is_exempt, coverage.used.is_empty()) {
            (true, _) => ExemptStatus::Exempt,
            (false, false) => ExemptStatus::Partial,
            (false, true) => ExemptStatus::Active,
        };
        coverage
    }

    /// The exemptions that make any of these issues exempt. An issue that its source exempts needs none.
    pub fn used_for(&self, issues: &[Issue], now: Timestamp) -> Vec<Arc<ExemptionRecord>> {
        let coverages = issues.iter().filter(|issue| !issue.exempt).map(|issue| self.coverage(issue, now));
        coverages
            .filter(|coverage| coverage.status == ExemptStatus::Exempt)
            .flat_map(|coverage| coverage.used)
            .collect()
    }

    /// The exemptions that exempt an issue in one package for the longest time; of several choices, the fewest. Those
    /// of `whole`, a whole package, count too.
    fn way<'a>(
        &'a self,
        names: &NamedExemptions<'a>,
        issue: &Issue,
        place: Option<&AffectedPackage>,
        whole: Option<&AffectedPackage>,
        now: Timestamp,
    ) -> Option<Way<'a>> {
        let package = whole.filter(|_| issue.kind == IssueKind::Vulnerability).and_then(|place| {
            let all = self.scopes.iter().flat_map(|scope| scope.of_package(place));
            latest(all.filter(|record| record.holds(now)), Some(place))
        });
        let own = latest(names.own().iter().flat_map(|(_, records)| records.iter().copied()), place);
        let single = package.into_iter().chain(own).map(|record| Way { used: vec![record] });
        let several = [&names.cves[..], names.aliases()].into_iter().filter_map(|lists| Way::of_all(lists, place));
        let kinds = names.kinds(place).into_iter().filter_map(|lists| Way::of_all(lists, place));
        single.chain(several).chain(kinds).max_by_key(|way| (way.end(), Reverse(way.used.len())))
    }
}

/// Exemptions that apply to every image that they are used for, whatever their scopes.
impl FromIterator<ExemptionRecord> for VaExemptions {
    fn from_iter<I: IntoIterator<Item = ExemptionRecord>>(records: I) -> Self {
        let everywhere = |record| ExemptionRecord { scope: ExemptionScope::EVERYTHING, ..record };
        let set: ExemptionSet = records.into_iter().map(everywhere).collect();
        let scopes = set.of_scope(&ExemptionScope::EVERYTHING).cloned().into_iter().collect();
        Self { scopes, children: Vec::new() }
    }
}

/// An identifier and its exemptions.
type IdentifierExemptions<'a> = (&'a str, Vec<&'a Arc<ExemptionRecord>>);

/// The exemptions for the identifiers of one issue, in any package.
struct NamedExemptions<'a> {
    /// Those of each CVE.
    cves: Vec<IdentifierExemptions<'a>>,
    /// Those of each other identifier. That of the issue itself, if it is not a CVE, comes first.
    others: Vec<IdentifierExemptions<'a>>,
    has_own: bool,
    /// Whether the issue is a single vulnerability, so that each of its names is a name of all of it.
    is_one: bool,
}

impl<'a> NamedExemptions<'a> {
    fn new(exemptions: &'a VaExemptions, issue: &'a Issue, now: Timestamp) -> Self {
        let of = |name: &'a str, kind: IssueType| -> IdentifierExemptions<'a> {
            let id = name.to_ascii_lowercase();
            let all = exemptions.scopes.iter().flat_map(|scope| scope.of_issue(&id).iter().collect::<Vec<_>>());
            (name, all.filter(|record| record.issue_type == kind && record.holds(now)).collect())
        };
        if issue.kind == IssueKind::Configuration {
            // Each of its names is that of the same check: Trivy's `DS002` is also `AVD-DS-0002`.
            let records = issue.names().flat_map(|name| of(name, IssueType::Configuration).1).collect();
            let others = vec![(&*issue.id, records)];
            return Self { cves: Vec::new(), others, has_own: true, is_one: false };
        }
        let cves: Vec<IdentifierExemptions<'a>> = issue.cves().into_iter().map(|id| of(id, IssueType::Cve)).collect();
        let others = issue.names().filter(|id| !is_cve(id)).map(|id| of(id, IssueType::SecurityNotice)).collect();
        Self { is_one: cves.len() < 2 && !issue.is_malicious(), cves, others, has_own: !is_cve(&issue.id) }
    }

    /// The identifier of a security notice or a configuration issue, which covers all CVEs of the issue.
    fn own(&self) -> Option<&IdentifierExemptions<'a>> {
        self.others.first().filter(|_| self.has_own)
    }

    /// The other identifiers that are not CVEs.
    fn aliases(&self) -> &[IdentifierExemptions<'a>] {
        &self.others[usize::from(self.has_own)..]
    }

    /// The identifiers that may be about a package, by kind: the notices of vendors, and the names that each database
    /// gives the vulnerability. All of one kind are enough.
    fn kinds(&self, place: Option<&AffectedPackage>) -> Vec<Vec<&IdentifierExemptions<'a>>> {
        if !self.is_one || self.others.iter().all(|(_, records)| records.is_empty()) {
            return Vec::new();
        }
        let purl_type = place.and_then(|place| place.purl.as_ref()).map(Purl::kind);
        let stated = place.and_then(|place| place.ecosystem.as_deref());
        let package_type = match (purl_type, stated) {
            (Some(kind), _) => kind,
            // A scanner's own word may be the name of any distribution.
            (None, Some(stated)) => match package_type_of(stated) {
                Some(kind) => kind,
                None => return Vec::new(),
            },
            (None, None) => "",
        };
        let mut kinds: Vec<(Option<String>, Vec<&IdentifierExemptions<'a>>)> = Vec::new();
        for named in self.others.iter().filter(|(id, _)| may_be_about(id, package_type)) {
            let kind = database_of(named.0);
            match kinds.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, all)) => all.push(named),
                None => kinds.push((kind, vec![named])),
            }
        }
        kinds.into_iter().map(|(_, all)| all).collect()
    }

    /// Those of any identifier that apply to a package.
    fn any(&self, place: Option<&AffectedPackage>) -> impl Iterator<Item = &'a Arc<ExemptionRecord>> {
        let all = self.cves.iter().chain(&self.others).flat_map(|(_, records)| records.iter().copied());
        all.filter(move |record| record.covers(place)).collect::<Vec<_>>().into_iter()
    }
}

/// Exemptions that together exempt an issue in one package.
struct Way<'a> {
    used: Vec<&'a Arc<ExemptionRecord>>,
}

impl<'a> Way<'a> {
    /// One exemption for each identifier; `None` if there is no identifier, or if one of them has no exemption.
    fn of_all<'b>(
        lists: impl IntoIterator<Item = &'b IdentifierExemptions<'a>>,
        place: Option<&AffectedPackage>,
    ) -> Option<Self>
    where
        'a: 'b,
    {
        let each = lists.into_iter().map(|(_, records)| latest(records.iter().copied(), place));
        let used = each.collect::<Option<Vec<_>>>()?;
        (!used.is_empty()).then_some(Self { used })
    }

    fn end(&self) -> Timestamp {
        self.used.iter().map(|record| record.end()).min().unwrap_or(Timestamp::MAX)
    }
}

/// The exemption that applies to a package for the longest time.
fn latest<'a>(
    records: impl Iterator<Item = &'a Arc<ExemptionRecord>>,
    place: Option<&AffectedPackage>,
) -> Option<&'a Arc<ExemptionRecord>> {
    records.filter(|record| record.covers(place)).max_by_key(|record| record.end())
}

#[cfg(test)]
pub(in crate::policy) mod tests;
