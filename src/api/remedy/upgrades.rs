//! The upgrades that resolve all issues of an image together: one version for each package, although each issue names a
//! different one.

use std::cmp::Ordering;

use super::the_fix;
use crate::policy::{AffectedPackage, Issue, Purl};
use crate::version::{compare, scheme_of};

/// A package, and the version that resolves those of its issues that have a fix.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PackageUpgrade {
    /// The name of the package.
    pub name: String,
    /// The version in the image; empty if the report does not state it.
    pub installed: String,
    /// The greatest of the versions that fix an issue. If they cannot be compared, all of them.
    pub fixed: Vec<String>,
    /// How many issues have a fix.
    pub issues: usize,
}

/// A package, the version that resolves the issues so far if that is clear, and everything that fixes one of them.
struct Fixes<'a> {
    package: &'a AffectedPackage,
    best: Option<&'a str>,
    stated: Vec<&'a str>,
    issues: usize,
}

/// The upgrades that resolve these issues, those of most issues first. Issues without a fix are left out.
pub fn upgrades<'a>(issues: impl Iterator<Item = &'a Issue>) -> Vec<PackageUpgrade> {
    let mut found: Vec<Fixes<'a>> = Vec::new();
    for issue in issues {
        let mut of_issue: Vec<usize> = Vec::new();
        for (package, fixed) in issue.packages.iter().filter_map(|package| Some((package, package.fixed.as_deref()?))) {
            let is_same = |Fixes { package: known, .. }: &Fixes<'_>| {
                known.name == package.name && known.installed == package.installed && kind(known) == kind(package)
            };
            let best = the_fix(fixed, package.installed.as_deref());
            let place = found.iter().position(is_same).unwrap_or(found.len());
            match found.get_mut(place) {
                Some(known) => known.best = known.best.zip(best).and_then(|(a, b)| later(package, a, b)),
                None => found.push(Fixes { package, best, stated: Vec::new(), issues: 0 }),
            }
            let stated = &mut found[place].stated;
            for version in best.map_or_else(|| fixed.split(',').map(str::trim).collect(), |best| vec![best]) {
                if !stated.contains(&version) {
                    stated.push(version);
                }
            }
            if !of_issue.contains(&place) {
                of_issue.push(place);
            }
        }
        of_issue.into_iter().for_each(|place| found[place].issues += 1);
    }
    let upgrade = |Fixes { package, best, stated, issues }: Fixes<'_>| {
        let (name, installed) = (package.name.clone(), package.installed.clone().unwrap_or_default());
        let fixed = best.map_or(stated, |best| vec![best]).into_iter().map(str::to_owned).collect();
        PackageUpgrade { name, installed, fixed, issues }
    };
    let mut all: Vec<PackageUpgrade> = found.into_iter().map(upgrade).collect();
    all.sort_by(|a, b| b.issues.cmp(&a.issues).then_with(|| a.name.cmp(&b.name)));
    all
}

fn kind(package: &AffectedPackage) -> Option<&str> {
    package.purl.as_ref().map(Purl::kind).or(package.ecosystem.as_deref())
}

/// The later of two versions of a package; `None` if they differ and cannot be compared.
fn later<'a>(package: &AffectedPackage, a: &'a str, b: &'a str) -> Option<&'a str> {
    if a == b {
        return Some(a);
    }
    match compare(scheme_of(kind(package)?)?, a, b).ok()? {
        Ordering::Less => Some(b),
        Ordering::Equal | Ordering::Greater => Some(a),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{IssueKind, Severity};

    #[test]
    fn each_package_is_upgraded_once() {
        let package = |kind: &str, name: &str, fixed: Option<&str>| AffectedPackage {
            name: name.into(),
            installed: Some("3.2.0".into()),
            fixed: fixed.map(str::to_owned),
            ecosystem: Some(kind.into()),
            ..AffectedPackage::default()
        };
        let issue = |packages: Vec<AffectedPackage>| Issue {
            packages,
            ..Issue::new("CVE-1", IssueKind::Vulnerability, Severity::High)
        };
        let django = |fixed| package("pypi", "Django", fixed);
        let issues = [
            // The same package in two places is one issue; of several lines, the installed one counts.
            issue(vec![django(Some("2.2.28, 3.2.9, 4.0.4")), django(Some("3.2.9"))]),
            issue(vec![django(Some("3.2.25")), package("npm", "x", Some("4.0.0"))]),
            issue(vec![django(Some("3.2.13"))]),
            issue(vec![django(None)]),
            // Not comparable: naming one of them alone could be wrong.
            issue(vec![package("huggingface", "model", Some("b"))]),
            issue(vec![package("huggingface", "model", Some("a"))]),
            issue(vec![package("gem", "rack", Some("4.0.1, 4.1.1"))]),
        ];
        let found: Vec<String> = upgrades(issues.iter())
            .into_iter()
            .map(|one| format!("{} {} -> {} ({})", one.name, one.installed, one.fixed.join(" or "), one.issues))
            .collect();
        assert_eq!(
            found,
            [
                "Django 3.2.0 -> 3.2.25 (3)",
                "model 3.2.0 -> b or a (2)",
                "rack 3.2.0 -> 4.0.1 or 4.1.1 (1)",
                "x 3.2.0 -> 4.0.0 (1)",
            ]
        );
    }
}
