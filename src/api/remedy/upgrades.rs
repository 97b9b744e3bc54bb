//! What resolves all issues of an image together: one version for each package, where each issue by itself names another.

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
    /// The greatest of the versions that fix an issue.
    pub fixed: String,
    /// How many issues it resolves.
    pub issues: usize,
}

/// The upgrades that resolve these issues, those of most issues first. A package whose fixed versions cannot be compared is
/// left out: another version might resolve only some of its issues. So is what has no fix.
pub fn upgrades<'a>(issues: impl Iterator<Item = &'a Issue>) -> Vec<PackageUpgrade> {
    let mut found: Vec<(&AffectedPackage, Option<&str>, usize)> = Vec::new();
    for issue in issues {
        let mut of_issue: Vec<usize> = Vec::new();
        for package in issue.packages.iter().filter(|package| package.fixed.is_some()) {
            let is_same = |(known, ..): &(&AffectedPackage, Option<&str>, usize)| {
                known.name == package.name && known.installed == package.installed && kind(known) == kind(package)
            };
            let fixed = package.fixed.as_deref().and_then(|fixed| the_fix(fixed, package.installed.as_deref()));
            let place = found.iter().position(is_same).unwrap_or(found.len());
            match found.get_mut(place) {
                Some((_, known, _)) => {
                    *known = known.zip(fixed).and_then(|(known, fixed)| later(package, known, fixed));
                }
                None => found.push((package, fixed, 0)),
            }
            if !of_issue.contains(&place) {
                of_issue.push(place);
            }
        }
        of_issue.into_iter().for_each(|place| found[place].2 += 1);
    }
    let upgrade = |(package, fixed, issues): (&AffectedPackage, Option<&str>, usize)| {
        let (name, installed) = (package.name.clone(), package.installed.clone().unwrap_or_default());
        Some(PackageUpgrade { name, installed, fixed: fixed?.to_owned(), issues })
    };
    let mut all: Vec<PackageUpgrade> = found.into_iter().filter_map(upgrade).collect();
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
            // Not comparable: naming one could be wrong.
            issue(vec![package("huggingface", "model", Some("b"))]),
            issue(vec![package("huggingface", "model", Some("a"))]),
            issue(vec![package("gem", "rack", Some("4.0.1, 4.1.1"))]),
        ];
        let found: Vec<String> = upgrades(issues.iter())
            .into_iter()
            .map(|one| format!("{} {} -> {} ({})", one.name, one.installed, one.fixed, one.issues))
            .collect();
        assert_eq!(found, ["Django 3.2.0 -> 3.2.25 (3)", "x 3.2.0 -> 4.0.0 (1)"]);
    }
}
