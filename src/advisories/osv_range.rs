//! Which versions an OSV record affects (ossf.github.io/osv-schema, section "Evaluation").

use std::cmp::Ordering;

use super::{OsvAffected, OsvRange};
use crate::version::{PackageVersion, UnreadableVersion, VersionScheme};

/// A version that an OSV record affects.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct OsvFix {
    /// The next version without the vulnerability, if there is one.
    pub(super) version: Option<String>,
}

/// The version of a package, which is compared with many records.
#[derive(Debug)]
pub(super) struct InstalledVersion<'a> {
    scheme: VersionScheme,
    text: &'a str,
    parsed: PackageVersion<'a>,
    /// The version without its local part (`1.11.0` of `1.11.0+cu118`), if it has one: PEP 440 leaves it out where a version
    /// must be equal to another one, or at most as high.
    public: Option<(&'a str, PackageVersion<'a>)>,
}

impl<'a> InstalledVersion<'a> {
    /// Parses a version.
    ///
    /// # Errors
    ///
    /// It cannot be compared with others.
    pub(super) fn parse(scheme: VersionScheme, text: &'a str) -> Result<Self, UnreadableVersion> {
        let public = text.split_once('+').filter(|_| scheme == VersionScheme::Python);
        let public = public.map(|(public, _)| Ok((public, PackageVersion::parse(scheme, public)?))).transpose()?;
        Ok(Self { scheme, text, parsed: PackageVersion::parse(scheme, text)?, public })
    }

    fn public(&self) -> (&'a str, &PackageVersion<'a>) {
        self.public.as_ref().map_or((self.text, &self.parsed), |(text, parsed)| (*text, parsed))
    }

    /// Whether a record means this version.
    fn is(&self, listed: &str) -> bool {
        let (public, parsed_public) = self.public();
        if listed == self.text || listed == public {
            return true;
        }
        let listed = PackageVersion::parse(self.scheme, listed);
        listed.is_ok_and(|listed| [&self.parsed, parsed_public].iter().any(|own| listed.compare(own).is_eq()))
    }
}

/// Whether a version is affected, and what fixes it.
///
/// # Errors
///
/// A version of the record cannot be read, or the record states commits only.
pub(super) fn affects<T: AsRef<str>>(
    affected: &OsvAffected<T>,
    installed: &InstalledVersion<'_>,
) -> Result<Option<OsvFix>, UnreadableVersion> {
    let ranges = || affected.ranges.iter().filter(|range| range.kind.as_ref() != "GIT");
    if ranges().next().is_none() && affected.versions.is_empty() {
        // Nothing limits what is affected, or only commits do, which installed packages do not state.
        let is_unlimited = affected.ranges.is_empty();
        return if is_unlimited {
            Ok(Some(OsvFix::default()))
        } else {
            Err(UnreadableVersion::Range("commits".to_owned()))
        };
    }
    let mut is_affected = false;
    for range in ranges() {
        is_affected |= contains(range, installed)?;
    }
    if !is_affected && !affected.versions.iter().any(|listed| installed.is(listed.as_ref())) {
        return Ok(None);
    }
    let mut fix: Option<(&str, PackageVersion<'_>)> = None;
    for fixed in ranges().flat_map(|range| &range.events).filter_map(|event| event.fixed.as_ref()) {
        let parsed = PackageVersion::parse(installed.scheme, fixed.as_ref())?;
        let is_next = fix.as_ref().is_none_or(|(_, known)| parsed.compare(known).is_lt());
        if is_next && parsed.compare(&installed.parsed).is_gt() {
            fix = Some((fixed.as_ref(), parsed));
        }
    }
    Ok(Some(OsvFix { version: fix.map(|(version, _)| version.to_owned()) }))
}

/// What an event does to versions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Effect {
    /// From this version on, they are not affected.
    EndsBefore,
    /// From this version on, they are affected.
    Begins,
    /// After this version, they are not affected.
    EndsAfter,
}

fn contains<T: AsRef<str>>(range: &OsvRange<T>, installed: &InstalledVersion<'_>) -> Result<bool, UnreadableVersion> {
    let (text, parsed) = (installed.text, &installed.parsed);
    let mut last: Option<(BoundVersion<'_>, Effect)> = None;
    for event in &range.events {
        let effects = [
            (&event.introduced, Effect::Begins),
            (&event.fixed, Effect::EndsBefore),
            (&event.last_affected, Effect::EndsAfter),
            (&event.limit, Effect::EndsBefore),
        ];
        for (bound, effect) in effects {
            let Some(bound) = bound.as_ref().map(AsRef::as_ref).filter(|bound| *bound != "*") else { continue };
            let bound = BoundVersion::parse(installed.scheme, bound)?;
            let applies = match effect {
                Effect::EndsAfter => bound.compare(installed.public()).is_lt(),
                Effect::Begins | Effect::EndsBefore => bound.compare((text, parsed)).is_le(),
            };
            // The latest event before the version decides. Of two at one version, the one that affects more.
            let is_latest = last.as_ref().is_none_or(|(known, known_effect)| match bound.compare_bound(known) {
                Ordering::Less => false,
                Ordering::Equal => effect == Effect::Begins || *known_effect != Effect::Begins,
                Ordering::Greater => true,
            });
            if applies && is_latest {
                last = Some((bound, effect));
            }
        }
    }
    Ok(last.is_some_and(|(_, effect)| effect == Effect::Begins))
}

/// A version in a range; `None` for `0`, which is before every version.
struct BoundVersion<'a>(Option<PackageVersion<'a>>);

impl<'a> BoundVersion<'a> {
    fn parse(scheme: VersionScheme, text: &'a str) -> Result<Self, UnreadableVersion> {
        Ok(Self(if text == "0" { None } else { Some(PackageVersion::parse(scheme, text)?) }))
    }

    /// Compares with a version, given as its text and parsed.
    fn compare(&self, (text, version): (&str, &PackageVersion<'_>)) -> Ordering {
        compare_with_zero(self.0.as_ref(), Some(version).filter(|_| text != "0"))
    }

    fn compare_bound(&self, other: &BoundVersion<'_>) -> Ordering {
        compare_with_zero(self.0.as_ref(), other.0.as_ref())
    }
}

fn compare_with_zero(a: Option<&PackageVersion<'_>>, b: Option<&PackageVersion<'_>>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.compare(b),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advisories::OsvEvent;

    fn range(kind: &str, events: &[(&str, &str)]) -> OsvRange {
        let event = |(name, version): &(&str, &str)| {
            let version = Some((*version).to_owned());
            match *name {
                "introduced" => OsvEvent { introduced: version, ..OsvEvent::default() },
                "fixed" => OsvEvent { fixed: version, ..OsvEvent::default() },
                "last" => OsvEvent { last_affected: version, ..OsvEvent::default() },
                _ => OsvEvent { limit: version, ..OsvEvent::default() },
            }
        };
        OsvRange { kind: kind.to_owned(), events: events.iter().map(event).collect() }
    }

    fn of(affected: &OsvAffected, scheme: VersionScheme, version: &str) -> Result<Option<OsvFix>, UnreadableVersion> {
        affects(affected, &InstalledVersion::parse(scheme, version)?)
    }

    #[test]
    fn ranges_and_lists_of_versions_decide() {
        let two = &[("introduced", "0"), ("fixed", "1.2.0"), ("introduced", "2.0.0"), ("fixed", "2.1.3")][..];
        for (events, versions, version, fix) in [
            (two, &[][..], "1.1.9", Some(Some("1.2.0"))),
            (two, &[], "1.2.0", None),
            (two, &[], "2.1.0", Some(Some("2.1.3"))),
            (two, &[], "2.1.3", None),
            (two, &["2.5.0"], "2.5.0", Some(None)),
            (&[("fixed", "1.2.0"), ("introduced", "1.0.0")], &[], "1.1.0", Some(Some("1.2.0"))),
            (&[("introduced", "1.0.0"), ("last", "1.5.0")], &[], "1.5.0", Some(None)),
            (&[("introduced", "1.0.0"), ("last", "1.5.0")], &[], "1.5.1", None),
            (&[("introduced", "0")], &[], "99.0.0", Some(None)),
            (&[("introduced", "0"), ("limit", "2.0.0")], &[], "2.0.0", None),
            (&[("introduced", "0"), ("limit", "*")], &[], "2.0.0", Some(None)),
            (&[("introduced", "1.0.0"), ("fixed", "1.0.0")], &[], "1.0.0", Some(None)),
            (&[], &["1.0.0"], "1.0.1", None),
            (&[], &["v1.0"], "1.0.0", Some(None)),
        ] {
            let affected = OsvAffected {
                ranges: if events.is_empty() { Vec::new() } else { vec![range("SEMVER", events)] },
                versions: versions.iter().map(|version| (*version).to_owned()).collect(),
                ..OsvAffected::default()
            };
            let expected = fix.map(|version| OsvFix { version: version.map(str::to_owned) });
            assert_eq!(of(&affected, VersionScheme::Semver, version), Ok(expected), "{affected:?} {version}");
        }
    }

    #[test]
    fn local_versions_are_affected_like_their_public_ones() {
        let last = [("introduced", "1.0"), ("last", "1.11.0")];
        for (events, versions, version, is_affected) in [
            (&last[..], &[][..], "1.11.0+cu118", true),
            (&last, &[], "1.11.1+cu118", false),
            (&[("introduced", "0"), ("fixed", "1.11.0")], &[], "1.11.0+cu118", false),
            (&[], &["0.5"], "0.5+local", true),
            (&[], &["0.5"], "0.5.1+local", false),
        ] {
            let affected = OsvAffected {
                ranges: if events.is_empty() { Vec::new() } else { vec![range("ECOSYSTEM", events)] },
                versions: versions.iter().map(|version| (*version).to_owned()).collect(),
                ..OsvAffected::default()
            };
            let found = of(&affected, VersionScheme::Python, version).unwrap().is_some();
            assert_eq!(found, is_affected, "{affected:?} {version}");
        }
    }

    #[test]
    fn what_cannot_be_compared_is_an_error() {
        let with = |ranges| OsvAffected { ranges, ..OsvAffected::default() };
        let unreadable = with(vec![range("SEMVER", &[("introduced", "0"), ("fixed", "nonsense")])]);
        assert!(of(&unreadable, VersionScheme::Semver, "1.0.0").is_err());
        let commits = with(vec![range("GIT", &[("introduced", "0"), ("fixed", "abc")])]);
        assert!(of(&commits, VersionScheme::Semver, "1.0.0").is_err());
        assert_eq!(of(&with(Vec::new()), VersionScheme::Semver, "1.0.0"), Ok(Some(OsvFix::default())));
    }
}
