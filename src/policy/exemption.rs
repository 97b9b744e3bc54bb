//! Exemptions: issues that an administrator of the gate has decided to ignore.

use jiff::Timestamp;

use super::purl::Purl;
use super::vulnerability::{AffectedPackage, Issue, IssueKind, is_cve};

/// The exemptions that apply to one image, from all scopes.
///
/// An issue is exempt if, in every package that it affects, each of its CVEs is exempt. An advisory can cover several
/// CVEs, and an exemption for one of them does not exempt the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VaExemptions(Vec<Exemption>);

/// One exemption: an issue, a package, or an issue in a package.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemption {
    /// `None` means every vulnerability of the package.
    issue: Option<String>,
    /// `None` means every package.
    package: Option<ExemptPackage>,
    expires: Option<Timestamp>,
}

/// The package that an exemption applies to.
#[derive(Clone, Debug, PartialEq)]
pub enum ExemptPackage {
    /// Only by its name, as written in a report.
    Named(String),
    /// By its package URL. A part that the URL omits, such as the version, matches any value. A package without a
    /// package URL in the report does not match.
    Purl(Purl),
}

impl Exemption {
    /// Exempts an issue in every package, by its CVE or by another of its identifiers, such as that of an advisory.
    pub fn of_issue(id: impl Into<String>) -> Self {
        Self { issue: Some(id.into()), package: None, expires: None }
    }

    /// Exempts every vulnerability of a package.
    pub fn of_package(package: ExemptPackage) -> Self {
        Self { issue: None, package: Some(package), expires: None }
    }

    /// Limits the exemption to one package.
    #[must_use]
    pub fn in_package(self, package: ExemptPackage) -> Self {
        Self { package: Some(package), ..self }
    }

    /// Limits the exemption to a time. At that instant it no longer applies.
    #[must_use]
    pub fn until(self, expires: Timestamp) -> Self {
        Self { expires: Some(expires), ..self }
    }

    fn holds(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }

    /// Whether the exemption applies to one identifier of an issue in one package; `None` if the report names no
    /// package.
    fn covers(&self, issue: &Issue, name: &str, place: Option<&AffectedPackage>) -> bool {
        let is_issue = match &self.issue {
            None => issue.kind == IssueKind::Vulnerability,
            Some(id) if is_cve(id) => name.eq_ignore_ascii_case(id),
            Some(id) => issue.is_called(id),
        };
        is_issue && self.package.as_ref().is_none_or(|package| place.is_some_and(|place| package.is(place)))
    }
}

impl ExemptPackage {
    fn is(&self, package: &AffectedPackage) -> bool {
        match self {
            Self::Named(name) => *name == package.name,
            Self::Purl(purl) => package.purl.as_ref().is_some_and(|affected| purl.covers(affected)),
        }
    }
}

impl VaExemptions {
    /// Whether an issue is exempt at this time.
    pub fn cover(&self, issue: &Issue, now: Timestamp) -> bool {
        self.cover_until(issue, now).is_some()
    }

    /// The time until which an issue is exempt under the present exemptions: [`Timestamp::MAX`] if there is no end,
    /// `None` if the issue is not exempt.
    pub(super) fn cover_until(&self, issue: &Issue, now: Timestamp) -> Option<Timestamp> {
        let held: Vec<&Exemption> = self.0.iter().filter(|exemption| exemption.holds(now)).collect();
        if held.is_empty() {
            return None;
        }
        let mut names = issue.cves();
        if names.is_empty() {
            names.push(&issue.id);
        }
        let places: Vec<Option<&AffectedPackage>> = match &issue.packages[..] {
            [] => vec![None],
            packages => packages.iter().map(Some).collect(),
        };
        let end = |place, name: &&str| {
            let covering = held.iter().filter(|exemption| exemption.covers(issue, name, place));
            covering.map(|exemption| exemption.expires.unwrap_or(Timestamp::MAX)).max()
        };
        let ends = places.into_iter().flat_map(|place| names.iter().map(move |name| end(place, name)));
        ends.collect::<Option<Vec<_>>>()?.into_iter().min()
    }
}

impl FromIterator<Exemption> for VaExemptions {
    fn from_iter<I: IntoIterator<Item = Exemption>>(exemptions: I) -> Self {
        Self(exemptions.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Severity;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn issue(id: &str, aliases: &[&str], packages: &[&str]) -> Issue {
        let package = |name: &&str| AffectedPackage {
            name: (*name).into(),
            purl: Purl::parse(&format!("pkg:deb/debian/{name}@1?arch=amd64")),
            ..AffectedPackage::default()
        };
        Issue {
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            packages: packages.iter().map(package).collect(),
            ..Issue::new(id, IssueKind::Vulnerability, Severity::High)
        }
    }

    fn named(name: &str) -> ExemptPackage {
        ExemptPackage::Named(name.into())
    }

    fn purl(text: &str) -> ExemptPackage {
        ExemptPackage::Purl(Purl::parse(text).unwrap())
    }

    #[test]
    fn exemptions_apply_to_the_issues_and_packages_they_name() {
        let one = || issue("CVE-1", &["DSA-1"], &["ssl"]);
        let two = || issue("CVE-1", &["DSA-1"], &["ssl", "tls"]);
        let advisory = || issue("ALAS-1", &["CVE-1", "CVE-2"], &["ssl"]);
        let bare = || issue("CVE-1", &[], &[]);
        let of = |ids: &[&str]| ids.iter().map(|id| Exemption::of_issue(*id)).collect::<Vec<_>>();
        let package = |package| vec![Exemption::of_package(package)];
        for (line, issue, exemptions, covered) in [
            (line!(), one(), vec![], false),
            (line!(), one(), of(&["cve-1"]), true),
            (line!(), one(), of(&["CVE-2"]), false),
            (line!(), one(), of(&["dsa-1"]), true),
            (line!(), issue("CVE-1", &["CVE-2"], &[]), of(&["CVE-2"]), false),
            (line!(), advisory(), of(&["CVE-1"]), false),
            (line!(), advisory(), of(&["CVE-1", "CVE-2"]), true),
            (line!(), advisory(), of(&["ALAS-1"]), true),
            (line!(), one(), package(named("ssl")), true),
            (line!(), one(), package(named("SSL")), false),
            (line!(), two(), package(named("ssl")), false),
            (line!(), two(), [package(named("ssl")), package(named("tls"))].concat(), true),
            (line!(), two(), [package(named("ssl")), of(&["CVE-1"])].concat(), true),
            (line!(), bare(), package(named("ssl")), false),
            (line!(), bare(), of(&["CVE-1"]), true),
            (line!(), one(), package(purl("pkg:deb/debian/ssl")), true),
            (line!(), one(), package(purl("pkg:deb/debian/ssl@1?arch=amd64")), true),
            (line!(), one(), package(purl("pkg:deb/debian/ssl@2")), false),
            (line!(), one(), package(purl("pkg:deb/ubuntu/ssl")), false),
            (line!(), one(), vec![Exemption::of_issue("CVE-1").in_package(named("ssl"))], true),
            (line!(), one(), vec![Exemption::of_issue("CVE-1").in_package(named("tls"))], false),
            (line!(), one(), vec![Exemption::of_issue("CVE-2").in_package(named("ssl"))], false),
        ] {
            let exemptions: VaExemptions = exemptions.into_iter().collect();
            assert_eq!(exemptions.cover(&issue, NOW), covered, "line {line}");
        }
        let unsafe_configuration = Issue { kind: IssueKind::Configuration, ..issue("DS002", &[], &["Dockerfile"]) };
        let cover = |exemption| VaExemptions(vec![exemption]).cover(&unsafe_configuration, NOW);
        assert!(cover(Exemption::of_issue("DS002")));
        assert!(!cover(Exemption::of_package(named("Dockerfile"))), "a configuration issue is not a vulnerability");
        assert!(!VaExemptions(vec![Exemption::of_package(purl("pkg:deb/debian/ssl"))]).cover(
            &Issue { packages: vec![AffectedPackage { name: "ssl".into(), ..Default::default() }], ..one() },
            NOW
        ));
    }

    #[test]
    fn exemption_ends_exactly_at_its_end_time() {
        let two = issue("CVE-1", &[], &["ssl", "tls"]);
        let end = |exemptions: &[Exemption], now| VaExemptions(exemptions.to_vec()).cover_until(&two, now);
        let of_issue = Exemption::of_issue("CVE-1");
        assert_eq!(end(std::slice::from_ref(&of_issue), NOW), Some(Timestamp::MAX));
        assert_eq!(end(&[of_issue.clone().until(at(9))], at(8)), Some(at(9)));
        assert_eq!(end(&[of_issue.clone().until(at(9))], at(9)), None);
        let (ssl, tls) = (Exemption::of_package(named("ssl")), Exemption::of_package(named("tls")));
        let both = [ssl.until(at(5)), tls.until(at(7))];
        assert_eq!(end(&both, NOW), Some(at(5)), "the first package that is no longer exempt");
        assert_eq!(end(&both, at(5)), None);
        let longer = [&both[..], &[of_issue.until(at(6))]].concat();
        assert_eq!(end(&longer, NOW), Some(at(6)), "the longest exemption of each package");
    }
}
