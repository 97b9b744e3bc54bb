//! Which versions an OSV record affects (ossf.github.io/osv-schema, section "Evaluation").

use std::cmp::Ordering;

use super::{OsvAffected, OsvRange};
use crate::version::{UnreadableVersion, VersionScheme, compare};

/// A version that an OSV record affects.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct OsvFix {
    /// The next version without the vulnerability, if there is one.
    pub(super) version: Option<String>,
}

/// Whether a version is affected, and what fixes it.
///
/// # Errors
///
/// A version of the record cannot be read, or the record states commits only.
pub(super) fn affects(
    affected: &OsvAffected,
    scheme: VersionScheme,
    version: &str,
) -> Result<Option<OsvFix>, UnreadableVersion> {
    let ranges: Vec<&OsvRange> = affected.ranges.iter().filter(|range| range.kind != "GIT").collect();
    if ranges.is_empty() && affected.versions.is_empty() {
        // Nothing limits what is affected, or only commits do, which installed packages do not state.
        let is_unlimited = affected.ranges.is_empty();
        return if is_unlimited {
            Ok(Some(OsvFix::default()))
        } else {
            Err(UnreadableVersion::Range("commits".to_owned()))
        };
    }
    let is_same = |listed: &String| {
        let equals = |version: &str| listed == version || compare(scheme, listed, version) == Ok(Ordering::Equal);
        equals(version) || equals(public(scheme, version))
    };
    let mut is_affected = affected.versions.iter().any(is_same);
    for range in &ranges {
        is_affected |= contains(range, scheme, version)?;
    }
    if !is_affected {
        return Ok(None);
    }
    let mut fix: Option<&str> = None;
    for fixed in ranges.iter().flat_map(|range| &range.events).filter_map(|event| event.fixed.as_deref()) {
        let is_next = match fix {
            Some(known) => compare(scheme, fixed, known)?.is_lt(),
            None => true,
        };
        if is_next && compare(scheme, fixed, version)?.is_gt() {
            fix = Some(fixed);
        }
    }
    Ok(Some(OsvFix { version: fix.map(str::to_owned) }))
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

fn contains(range: &OsvRange, scheme: VersionScheme, version: &str) -> Result<bool, UnreadableVersion> {
    let mut last: Option<(&str, Effect)> = None;
    for event in &range.events {
        let effects = [
            (&event.introduced, Effect::Begins),
            (&event.fixed, Effect::EndsBefore),
            (&event.last_affected, Effect::EndsAfter),
            (&event.limit, Effect::EndsBefore),
        ];
        for (bound, effect) in effects {
            let Some(bound) = bound.as_deref().filter(|bound| *bound != "*") else { continue };
            let applies = match effect {
                Effect::EndsAfter => compare_with_zero(scheme, bound, public(scheme, version))?.is_lt(),
                Effect::Begins | Effect::EndsBefore => compare_with_zero(scheme, bound, version)?.is_le(),
            };
            // The latest event before the version decides. Of two at one version, the one that affects more.
            let is_latest = match last {
                Some((known, known_effect)) => match compare_with_zero(scheme, bound, known)? {
                    Ordering::Less => false,
                    Ordering::Equal => effect == Effect::Begins || known_effect != Effect::Begins,
                    Ordering::Greater => true,
                },
                None => true,
            };
            if applies && is_latest {
                last = Some((bound, effect));
            }
        }
    }
    Ok(last.is_some_and(|(_, effect)| effect == Effect::Begins))
}

/// The version without its local part (`1.11.0` of `1.11.0+cu118`): PEP 440 leaves it out where a version must be equal to
/// another one, or at most as high.
fn public(scheme: VersionScheme, version: &str) -> &str {
    match scheme {
        VersionScheme::Python => version.split_once('+').map_or(version, |(public, _)| public),
        _ => version,
    }
}

/// Compares; `0` is before every version.
fn compare_with_zero(scheme: VersionScheme, bound: &str, version: &str) -> Result<Ordering, UnreadableVersion> {
    match (bound, version) {
        ("0", "0") => Ok(Ordering::Equal),
        ("0", _) => Ok(Ordering::Less),
        (_, "0") => Ok(Ordering::Greater),
        _ => compare(scheme, bound, version),
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
            assert_eq!(affects(&affected, VersionScheme::Semver, version), Ok(expected), "{affected:?} {version}");
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
            let found = affects(&affected, VersionScheme::Python, version).unwrap().is_some();
            assert_eq!(found, is_affected, "{affected:?} {version}");
        }
    }

    #[test]
    fn what_cannot_be_compared_is_an_error() {
        let with = |ranges| OsvAffected { ranges, ..OsvAffected::default() };
        let unreadable = with(vec![range("SEMVER", &[("introduced", "0"), ("fixed", "nonsense")])]);
        assert!(affects(&unreadable, VersionScheme::Semver, "1.0.0").is_err());
        let commits = with(vec![range("GIT", &[("introduced", "0"), ("fixed", "abc")])]);
        assert!(affects(&commits, VersionScheme::Semver, "1.0.0").is_err());
        assert_eq!(affects(&with(Vec::new()), VersionScheme::Semver, "1.0.0"), Ok(Some(OsvFix::default())));
    }
}
