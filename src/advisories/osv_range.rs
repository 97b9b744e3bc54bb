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
    /// The version without its local part (`1.11.0` of `1.11.0+cu118`), if it has one: PEP 440 leaves it out where a
    /// version must be equal to another one, or at most as high.
    public: Option<(&'a str, PackageVersion<'a>)>,
}

impl<'a> InstalledVersion<'a> {
    /// Parses a version. One without a place in the order of its scheme is only found where a record lists it, or
    /// affects every version.
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

    /// Whether the version has a place in the order of its scheme.
    pub(super) fn is_ordered(&self) -> bool {
        self.parsed.is_ordered()
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
/// A version of the record cannot be read, or the record states commits only; or the installed version has no place in
/// the order, and the record states bounds.
pub(super) fn affects<T: AsRef<str>>(
    affected: &OsvAffected<T>,
    installed: &InstalledVersion<'_>,
) -> Result<Option<OsvFix>, UnreadableVersion> {
    if version_ranges(affected).next().is_none() && affected.versions.is_empty() {
        // Nothing limits what is affected, or only commits do.
        let is_unlimited = affected.ranges.is_empty();
        return if is_unlimited {
            Ok(Some(OsvFix::default()))
        } else {
            Err(UnreadableVersion::Range("commits".to_owned()))
        };
    }
    let is_listed = || affected.versions.iter().any(|listed| installed.is(listed.as_ref()));
    if !installed.is_ordered() {
        let is_affected = is_listed() || contains_all(affected, installed)?;
        return Ok(is_affected.then(OsvFix::default));
    }
    let mut is_affected = false;
    for range in version_ranges(affected) {
        is_affected |= contains(range, installed)?;
    }
    if !is_affected && !is_listed() {
        return Ok(None);
    }
    let mut fix: Option<(&str, PackageVersion<'_>)> = None;
    for fixed in stated_fixes(affected) {
        let parsed = ordered(installed.scheme, fixed.as_ref())?;
        let is_next = fix.as_ref().is_none_or(|(_, known)| parsed.compare(known).is_lt());
        if is_next && parsed.compare(&installed.parsed).is_gt() {
            fix = Some((fixed.as_ref(), parsed));
        }
    }
    Ok(Some(OsvFix { version: fix.map(|(version, _)| version.to_owned()) }))
}

/// Whether a record states a fixed version that is not later than this one. A version may also be unaffected because it
/// is outside of all ranges. A fixed version that cannot be read does not count.
pub(super) fn has_installed_fix<T: AsRef<str>>(affected: &OsvAffected<T>, installed: &InstalledVersion<'_>) -> bool {
    let is_installed = |fixed: &T| {
        let fixed = BoundVersion::parse(installed.scheme, fixed.as_ref());
        fixed.is_ok_and(|fixed| fixed.compare((installed.text, &installed.parsed)).is_le())
    };
    stated_fixes(affected).any(is_installed)
}

/// The ranges of versions. Others are ranges of commits, which installed packages do not state.
fn version_ranges<T: AsRef<str>>(affected: &OsvAffected<T>) -> impl Iterator<Item = &OsvRange<T>> {
    affected.ranges.iter().filter(|range| range.kind.as_ref() != "GIT")
}

/// The fixed versions that a record states, other than commits.
fn stated_fixes<T: AsRef<str>>(affected: &OsvAffected<T>) -> impl Iterator<Item = &T> {
    version_ranges(affected).flat_map(|range| &range.events).filter_map(|event| event.fixed.as_ref())
}

/// Whether one of the ranges contains all versions. Otherwise, only the place of a version in the order could decide.
fn contains_all<T: AsRef<str>>(
    affected: &OsvAffected<T>,
    installed: &InstalledVersion<'_>,
) -> Result<bool, UnreadableVersion> {
    let mut is_bounded = false;
    for range in version_ranges(affected) {
        let mut bounds = range.events.iter().flat_map(|event| {
            let limit = event.limit.as_ref().filter(|limit| (**limit).as_ref() != "*");
            event.fixed.iter().chain(&event.last_affected).chain(limit)
        });
        let has_end = bounds.next().is_some();
        let mut starts = range.events.iter().filter_map(|event| event.introduced.as_ref());
        if !has_end && starts.any(|start| start.as_ref() == "0") {
            return Ok(true);
        }
        is_bounded |= !range.events.is_empty();
    }
    if is_bounded { Err(UnreadableVersion::version(installed.text)) } else { Ok(false) }
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

/// An event of a range.
struct RangeEvent<'a> {
    bound: BoundVersion<'a>,
    effect: Effect,
    /// Whether the installed version is in the part that it changes.
    applies: bool,
}

/// The events of a range in the order of the record, apart from limits.
fn events<'a, T: AsRef<str>>(
    range: &'a OsvRange<T>,
    installed: &'a InstalledVersion<'_>,
) -> impl Iterator<Item = Result<RangeEvent<'a>, UnreadableVersion>> {
    let all = range.events.iter().flat_map(|event| {
        [
            (&event.introduced, Effect::Begins),
            (&event.fixed, Effect::EndsBefore),
            (&event.last_affected, Effect::EndsAfter),
        ]
    });
    let stated = all.filter_map(|(bound, effect)| {
        let bound: &str = bound.as_ref()?.as_ref();
        Some((bound, effect)).filter(|_| bound != "*")
    });
    stated.map(move |(bound, effect)| {
        let bound = BoundVersion::parse(installed.scheme, bound)?;
        let applies = match effect {
            Effect::EndsAfter => bound.compare(installed.public()).is_lt(),
            Effect::Begins | Effect::EndsBefore => bound.compare((installed.text, &installed.parsed)).is_le(),
        };
        Ok(RangeEvent { bound, effect, applies })
    })
}

fn contains<T: AsRef<str>>(range: &OsvRange<T>, installed: &InstalledVersion<'_>) -> Result<bool, UnreadableVersion> {
    if !is_before_a_limit(range, installed)? {
        return Ok(false);
    }
    let mut last: Option<RangeEvent<'_>> = None;
    let mut is_tied = false;
    for event in events(range, installed) {
        let event = event?;
        if !event.applies {
            continue;
        }
        // The latest event before the version decides.
        let order = last.as_ref().map_or(Ordering::Greater, |known| event.bound.compare_bound(&known.bound));
        match (order, &last) {
            (Ordering::Less, _) => continue,
            (Ordering::Equal, Some(known)) => {
                is_tied |= (known.effect == Effect::Begins) != (event.effect == Effect::Begins);
            }
            _ => is_tied = false,
        }
        last = Some(event);
    }
    if is_tied {
        contains_between(range, installed)
    } else {
        Ok(last.is_some_and(|last| last.effect == Effect::Begins))
    }
}

/// Whether the version is before any of the limits, of which there may be none.
fn is_before_a_limit<T: AsRef<str>>(
    range: &OsvRange<T>,
    installed: &InstalledVersion<'_>,
) -> Result<bool, UnreadableVersion> {
    let (mut has_limit, mut is_before) = (false, false);
    for limit in range.events.iter().filter_map(|event| event.limit.as_ref()) {
        let limit: &str = limit.as_ref();
        has_limit = true;
        is_before |= limit == "*"
            || BoundVersion::parse(installed.scheme, limit)?.compare((installed.text, &installed.parsed)).is_gt();
    }
    Ok(is_before || !has_limit)
}

/// The same where something begins and ends at one version. If one part ends there and another begins, what follows is
/// affected. If a part is empty, because it ends where it begins, nothing is: records say so of packages that were
/// never affected.
fn contains_between<T: AsRef<str>>(
    range: &OsvRange<T>,
    installed: &InstalledVersion<'_>,
) -> Result<bool, UnreadableVersion> {
    let mut all: Vec<RangeEvent<'_>> = Vec::new();
    for event in events(range, installed) {
        let event = event?;
        // Maven's order has cycles, with which `sort_by` may panic.
        let at = all.partition_point(|known| known.bound.compare_bound(&event.bound).is_le());
        all.insert(at, event);
    }
    let mut rest = &all[..];
    let mut is_affected = false;
    while let Some(first) = rest.first() {
        let others = rest[1..].iter().take_while(|event| event.bound.compare_bound(&first.bound).is_eq());
        let (here, later) = rest.split_at(1 + others.count());
        rest = later;
        let begins = here.iter().filter(|event| event.applies && event.effect == Effect::Begins).count();
        let ends = here.iter().filter(|event| event.applies && event.effect != Effect::Begins).count();
        // The last version that is affected is this one.
        let ends_after_it = here.iter().any(|event| !event.applies && event.effect == Effect::EndsAfter);
        is_affected = match (begins, ends) {
            (0, 0) => is_affected,
            (0, _) => false,
            (_, 0) => true,
            _ => is_affected || begins > ends || ends_after_it || ends_first(later),
        };
    }
    Ok(is_affected)
}

/// Whether the next that happens in these events, which are in order, is that something ends. What is empty is passed
/// over.
fn ends_first(events: &[RangeEvent<'_>]) -> bool {
    let at_one_version = events.chunk_by(|a, b| a.bound.compare_bound(&b.bound).is_eq());
    let mut begun = at_one_version.map(|here| {
        let begins = here.iter().filter(|event| event.effect == Effect::Begins).count();
        begins.cmp(&(here.len() - begins))
    });
    begun.find(|order| order.is_ne()).is_some_and(Ordering::is_lt)
}

/// A version in a range; `None` for `0`, which is before every version.
struct BoundVersion<'a>(Option<PackageVersion<'a>>);

impl<'a> BoundVersion<'a> {
    fn parse(scheme: VersionScheme, text: &'a str) -> Result<Self, UnreadableVersion> {
        Ok(Self(if text == "0" { None } else { Some(ordered(scheme, text)?) }))
    }

    /// Compares with a version, given as its text and parsed.
    fn compare(&self, (text, version): (&str, &PackageVersion<'_>)) -> Ordering {
        compare_with_zero(self.0.as_ref(), Some(version).filter(|_| text != "0"))
    }

    fn compare_bound(&self, other: &BoundVersion<'_>) -> Ordering {
        compare_with_zero(self.0.as_ref(), other.0.as_ref())
    }
}

/// Parses a version that must have a place in the order.
fn ordered(scheme: VersionScheme, text: &str) -> Result<PackageVersion<'_>, UnreadableVersion> {
    let version = PackageVersion::parse(scheme, text)?;
    if version.is_ordered() { Ok(version) } else { Err(UnreadableVersion::version(text)) }
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

    /// The schema's rule for limits, and that what begins and ends at one version is empty, but does not end what
    /// follows.
    #[test]
    fn limits_and_several_events_at_one_version() {
        let (begin, fixed, last, limit) = ("introduced", "fixed", "last", "limit");
        for (events, affected, others) in [
            (&[(begin, "0"), (limit, "1.0"), (limit, "3.0")][..], &["0.9", "2.0"][..], &["3.0", "4.0"][..]),
            (&[(begin, "0"), (limit, "1.0"), (limit, "*")], &["0.9", "2.0"], &[]),
            (&[(begin, "0"), (limit, "1.0"), (begin, "2.0")], &["0.9"], &["1.0", "2.5"]),
            (&[(begin, "0"), (fixed, "1.0"), (limit, "3.0")], &["0.9"], &["1.0", "4.0"]),
            (&[(limit, "3.0")], &[], &["1.0"]),
            (&[(begin, "0"), (fixed, "0")], &[], &["0", "1.5"]),
            (&[(fixed, "1.0"), (begin, "1.0")], &[], &["0.9", "1.0", "1.5"]),
            (&[(begin, "1.0"), (fixed, "1.0"), (begin, "2.0"), (fixed, "2.0")], &[], &["1.0", "1.5", "2.5"]),
            (&[(begin, "1.0"), (fixed, "1.0"), (begin, "2.0"), (fixed, "3.0")], &["2.0"], &["1.0", "1.5", "3.0"]),
            (&[(begin, "1.0"), (fixed, "1.0"), (begin, "2.0")], &["2.0"], &["1.0", "1.5"]),
            (&[(begin, "1.0"), (fixed, "1.0"), (fixed, "2.0")], &["1.0", "1.5"], &["0.9", "2.0"]),
            (&[(begin, "1.0"), (fixed, "1.0"), (begin, "1.0")], &["1.0", "1.5"], &["0.9"]),
            (
                &[(begin, "0.12"), (fixed, "0.13"), (begin, "0.13"), (fixed, "0.14")],
                &["0.12", "0.13"],
                &["0.11", "0.14"],
            ),
            (&[(begin, "0"), (fixed, "1.0"), (begin, "1.0")], &["0.9", "1.0", "9.0"], &[]),
            (&[(begin, "1.0"), (last, "1.0")], &["1.0"], &["0.9", "1.1"]),
            (&[(begin, "0"), (last, "1.0"), (begin, "1.0"), (fixed, "2.0")], &["0.9", "1.0", "1.5"], &["2.0"]),
            (&[(begin, "1.0"), (fixed, "1.0"), (last, "1.0")], &["1.0"], &["0.9", "1.1"]),
        ] {
            let record = OsvAffected { ranges: vec![range("ECOSYSTEM", events)], ..OsvAffected::default() };
            for scheme in [VersionScheme::Python, VersionScheme::Apk] {
                let is_affected = |version: &&str| of(&record, scheme, version).unwrap().is_some();
                assert!(affected.iter().all(is_affected), "{affected:?} of {events:?}");
                assert!(!others.iter().any(is_affected), "none of {others:?} of {events:?}");
            }
        }
    }

    /// By Maven's order, `1.sp` is before `1-alpha`, that before `1`, and that before `1.sp`: `sort_by` panics with
    /// such lists.
    #[test]
    fn events_of_an_order_with_cycles_do_not_panic() {
        let installed = InstalledVersion::parse(VersionScheme::Maven, "2").unwrap();
        for count in [48, 64] {
            let cycle = (0..count).map(|n: usize| ("introduced", ["1.sp", "1-alpha", "1"][n * n / 2 % 3]));
            let range = range("ECOSYSTEM", &cycle.collect::<Vec<_>>());
            assert_eq!(contains_between(&range, &installed), Ok(true), "{count}");
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

    /// Versions of Python that PEP 440 does not allow are before and after none.
    #[test]
    fn versions_without_a_place_in_the_order_are_found_in_lists() {
        let both = [("introduced", "4.0"), ("fixed", "5.0")];
        for (events, versions, version, expected) in [
            (&both[..], &[][..], "4.2-SNAPSHOT", Err(())),
            (&both, &["4.2-SNAPSHOT"], "4.2-snapshot", Ok(true)),
            (&both, &["4.1"], "4.2-SNAPSHOT", Err(())),
            (&[], &["4.1", "4.1-SNAPSHOT"], "4.2-SNAPSHOT", Ok(false)),
            (&[("introduced", "0")], &[], "4.2-SNAPSHOT", Ok(true)),
            (&[("introduced", "0"), ("limit", "*")], &[], "4.2-SNAPSHOT", Ok(true)),
            (&[("introduced", "0"), ("fixed", "1.0")], &[], "4.2-SNAPSHOT", Err(())),
            (&[("introduced", "1.0")], &[], "4.2-SNAPSHOT", Err(())),
            (&[("introduced", "0"), ("fixed", "latest")], &[], "1.0", Err(())),
            (&[("introduced", "4.x")], &[], "1.0", Err(())),
            (&[("introduced", "0"), ("last", "unfixed")], &[], "1.0", Err(())),
            (&both, &[], "4.2.20240131123456789012", Ok(true)),
            (&[("introduced", "0"), ("fixed", "99999999999999999999999.0")], &[], "1.0", Ok(true)),
        ] {
            let record = OsvAffected {
                ranges: if events.is_empty() { Vec::new() } else { vec![range("ECOSYSTEM", events)] },
                versions: versions.iter().map(|version| (*version).to_owned()).collect(),
                ..OsvAffected::default()
            };
            let found = of(&record, VersionScheme::Python, version).map(|fix| fix.is_some()).map_err(|_| ());
            assert_eq!(found, expected, "{version} of {record:?}");
        }
    }

    #[test]
    fn incomparable_versions_are_an_error() {
        let with = |ranges| OsvAffected { ranges, ..OsvAffected::default() };
        let unreadable = with(vec![range("SEMVER", &[("introduced", "0"), ("fixed", "nonsense")])]);
        assert!(of(&unreadable, VersionScheme::Semver, "1.0.0").is_err());
        let commits = with(vec![range("GIT", &[("introduced", "0"), ("fixed", "abc")])]);
        assert!(of(&commits, VersionScheme::Semver, "1.0.0").is_err());
        assert_eq!(of(&with(Vec::new()), VersionScheme::Semver, "1.0.0"), Ok(Some(OsvFix::default())));
    }
}
