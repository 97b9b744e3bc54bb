//! Packages that a supplier rebuilt with its own fixes: Root.io, Seal Security and RapidFort.
//!
//! The advisories of the distribution or the ecosystem do not say which vulnerabilities such a package has: its version
//! is later than their fixes, or its name is a different one. `trivy-db` has those of the suppliers in buckets that
//! begin with their names.

use std::collections::BTreeSet;

use super::TrivyRows;
use super::find::{AdvisorySearch, TRIVY, source_of};
use super::library::{SourcedBucket, add, buckets_with, names, prefix, rows_of, sourced};
use super::package_key::PackageKey;
use super::release::{major, minor};
use crate::inventory::{Ecosystem, InstalledPackage, LinuxDistribution};

/// A supplier of rebuilt packages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Rebuilder {
    RapidFort,
    RootIo,
    Seal,
}

impl Rebuilder {
    /// Its name, and the word with which the names of its buckets begin.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::RapidFort => ("RapidFort", "rapidfort"),
            Self::RootIo => ("Root.io", "root.io"),
            Self::Seal => ("Seal Security", "seal"),
        }
    }
}

/// Adds what the suppliers say about the packages that they rebuilt, besides the advisories of the distribution or the
/// ecosystem. A package whose supplier has no advisories in any database is a gap.
pub(super) fn find(search: &mut AdvisorySearch<'_>) {
    let is_system = |package: &InstalledPackage| package.ecosystem.is_of_distribution();
    let marked: Vec<_> = search.packages().map(|(index, package)| (index, package, rebuilder_of(package))).collect();
    // As Trivy does: in an image with one of its packages, Root.io's advisories are about all of the distribution's.
    let is_of_root_io =
        marked.iter().any(|(_, package, mark)| is_system(package) && matches!(mark, Some((Rebuilder::RootIo, _))));
    let distribution = search.inventory.distribution.as_ref();
    let (id, release) = distribution.map_or(("", ""), |known| (&*known.id, &*known.version));
    for (index, package, mark) in marked {
        let other = (is_of_root_io && is_system(package)).then_some((Rebuilder::RootIo, false));
        let Some((rebuilder, is_certain)) = mark.or(other) else { continue };
        let place = PackageKey::of_place(&[TRIVY, rebuilder.names().1, id, release]);
        search.known_or(place, index, |search| look_up(search, (index, package), (rebuilder, is_certain)));
    }
}

/// Adds what a supplier says about a package.
fn look_up(
    search: &mut AdvisorySearch<'_>,
    (index, package): (usize, &InstalledPackage),
    (rebuilder, is_certain): (Rebuilder, bool),
) {
    let trivy = search.databases.trivy;
    let buckets = trivy.map_or_else(Vec::new, |trivy| buckets(search, trivy, rebuilder, package));
    if is_certain && buckets.is_empty() {
        let place = package.path.as_deref().unwrap_or(&package.name);
        let InstalledPackage { name, version, .. } = package;
        let supplier = rebuilder.names().0;
        let problem = format!("{name} {version} was rebuilt by {supplier}, whose advisories no database has");
        search.gap(place, problem);
    }
    let Some(trivy) = trivy else { return };
    let (version, names) = if package.ecosystem.is_of_distribution() {
        let (source, version) = source_of(package);
        (version, BTreeSet::from([source.to_owned(), package.name.clone()]))
    } else {
        (&*package.version, names(package))
    };
    for name in &names {
        let rows = rows_of(search, trivy, &buckets, name);
        add(search, index, version, &rows);
    }
}

/// The buckets of a supplier in which a package may be.
fn buckets(
    search: &mut AdvisorySearch<'_>,
    trivy: &dyn TrivyRows,
    rebuilder: Rebuilder,
    package: &InstalledPackage,
) -> Vec<SourcedBucket> {
    let (_, word) = rebuilder.names();
    if let Some(prefix) = prefix(package.ecosystem) {
        return buckets_with(search, &format!("{word} {prefix}"));
    }
    let Some(distribution) = &search.inventory.distribution else { return Vec::new() };
    let mut buckets = Vec::new();
    for name in of_distribution(rebuilder, package, distribution) {
        let covers = trivy.covers(&name);
        if search.readable(TRIVY, covers) == Some(true) {
            buckets.push(sourced(search, trivy, name));
        }
    }
    buckets
}

/// The names of the buckets for a package of a distribution. Those without a release are about rebuilt packages only.
fn of_distribution(rebuilder: Rebuilder, package: &InstalledPackage, distribution: &LinuxDistribution) -> Vec<String> {
    let id = &distribution.id;
    let release = if id == "debian" { major(&distribution.version) } else { minor(&distribution.version) };
    // The version of an RPM package states the release for which it was built.
    let red_hat = format!("Red Hat {}", enterprise_release(source_of(package).1));
    let red_hat = red_hat.trim_end();
    match (rebuilder, package.ecosystem) {
        (Rebuilder::RootIo, _) => vec![format!("root.io {id} {release}")],
        (Rebuilder::Seal, Ecosystem::Apk) => vec!["seal alpine".to_owned()],
        (Rebuilder::Seal, Ecosystem::Deb) => vec!["seal debian".to_owned()],
        (Rebuilder::Seal, _) => vec![format!("seal {red_hat}")],
        (Rebuilder::RapidFort, Ecosystem::Rpm) => {
            vec!["rapidfort Red Hat".to_owned(), format!("rapidfort {red_hat}")]
        }
        (Rebuilder::RapidFort, _) => vec![format!("rapidfort {id}"), format!("rapidfort {id} {release}")],
    }
}

/// `9` of `1.2-3.el9_4`; empty if the version states none.
fn enterprise_release(version: &str) -> &str {
    let rest = version.split_once(".el").map_or("", |(_, rest)| rest);
    rest.split(|next: char| !next.is_ascii_digit()).next().unwrap_or_default()
}

/// Who rebuilt a package, judged by the marks that Trivy knows, and whether that is certain: some of the marks also
/// occur in the names and versions of other packages.
fn rebuilder_of(package: &InstalledPackage) -> Option<(Rebuilder, bool)> {
    let InstalledPackage { ecosystem, name, version, .. } = package;
    let (source, source_version) = source_of(package);
    let states = |is_mark: fn(&str) -> bool| is_mark(version) || is_mark(source_version);
    match ecosystem {
        Ecosystem::Apk | Ecosystem::Deb | Ecosystem::Rpm if begins_with_seal(name) || begins_with_seal(source) => {
            Some((Rebuilder::Seal, true))
        }
        Ecosystem::Deb if states(|version| version.contains(".root.io")) => Some((Rebuilder::RootIo, true)),
        Ecosystem::Apk if states(is_root_io_of_alpine) => Some((Rebuilder::RootIo, true)),
        Ecosystem::Deb if states(is_rapidfort_of_dpkg) => Some((Rebuilder::RapidFort, true)),
        Ecosystem::Rpm if states(is_rapidfort_of_rpm) => Some((Rebuilder::RapidFort, true)),
        Ecosystem::Apk | Ecosystem::Deb | Ecosystem::Rpm => None,
        _ if version.contains("root.io") => Some((Rebuilder::RootIo, true)),
        _ => seal_of_language(*ecosystem, name, version).map(|is_certain| (Rebuilder::Seal, is_certain)),
    }
}

/// Names are compared as Python does, for which `-`, `_` and `.` are the same.
fn begins_with_seal(name: &str) -> bool {
    let parts = name.split_at_checked(4);
    parts.is_some_and(|(word, rest)| word.eq_ignore_ascii_case("seal") && rest.starts_with(['-', '_', '.']))
}

/// `-r10071`, `-r20072`: the release of Alpine's package before `007`.
fn is_root_io_of_alpine(version: &str) -> bool {
    let is_mark = |release: &str| matches!(release.as_bytes(), [b'0'..=b'9', b'0', b'0', b'7', b'0'..=b'9', ..]);
    version.split("-r").skip(1).any(is_mark)
}

/// `1.2-3+rf.1`, `1.2-3rfubuntu1`, `1.2-3.rf`.
fn is_rapidfort_of_dpkg(version: &str) -> bool {
    let is_revision = |rest: &str| !rest.starts_with(|next: char| next.is_ascii_alphabetic());
    version.split("+rf").skip(1).any(is_revision)
        || version.contains("rfubu")
        || version.contains(".rf.")
        || version.ends_with(".rf")
}

/// `1.2-3.rf`, `1.2-3.rf1.el9`, `1.2-3.rfal`.
fn is_rapidfort_of_rpm(version: &str) -> bool {
    // RepoForge's packages end so: `1.2-3.el6.rf`.
    let is_of_repoforge = |before: &str| before.rsplit('.').next().is_some_and(|release| release.starts_with("el"));
    version.match_indices(".rf").any(|(at, mark)| {
        let (before, rest) = (&version[..at], &version[at + mark.len()..]);
        if rest.is_empty() && is_of_repoforge(before) {
            return false;
        }
        let rest = rest.trim_start_matches(|next: char| next.is_ascii_digit());
        let rest = rest.trim_start_matches(|next: char| next.is_ascii_lowercase());
        rest.is_empty() || rest.starts_with(['.', '-'])
    })
}

/// Whether it is certain that Seal Security rebuilt a package; `None` if there is no sign of it. Its own names, and
/// `+sp1` in a version, are certain signs. `-sp1` and names such as `seal-x` occur elsewhere.
fn seal_of_language(ecosystem: Ecosystem, name: &str, version: &str) -> Option<bool> {
    let begins_with_level = |rest: &str| rest.starts_with(|next: char| next.is_ascii_digit());
    let (mark, is_renamed, is_named) = match ecosystem {
        Ecosystem::Maven => ("+sp", name.strip_prefix("seal.sp").is_some_and(begins_with_level), false),
        Ecosystem::PyPi => ("+sp", false, begins_with_seal(name)),
        Ecosystem::Npm => ("-sp", name.starts_with("@seal-security/"), false),
        Ecosystem::Go => ("-sp", name.starts_with("sealsecurity.io/"), false),
        Ecosystem::Gem => (".0.1.sp", false, begins_with_seal(name)),
        _ => return None,
    };
    let version = version.strip_suffix("+incompatible").unwrap_or(version);
    let is_marked = version.rsplit_once(mark).is_some_and(|(_, level)| is_level(level));
    let is_certain = is_renamed || (is_marked && (is_named || mark == "+sp"));
    (is_certain || is_marked || is_named).then_some(is_certain)
}

/// `1`, or `1p2` for a private build.
fn is_level(text: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('p').map_or_else(|| is_number(text), |(level, build)| is_number(level) && is_number(build))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Ecosystem::{Apk, Cargo, Deb, Gem, Go, Maven, Npm, PyPi, Rpm};

    #[test]
    fn rebuilt_packages_are_known_by_their_marks() {
        let of = |ecosystem, name: &str, version: &str| {
            rebuilder_of(&InstalledPackage::new(ecosystem, name.to_owned(), version.to_owned()))
        };
        for (ecosystem, name, version, rebuilder, is_certain) in [
            (Deb, "openssl", "3.0.15-1~deb12u1.root.io.1", Rebuilder::RootIo, true),
            (Apk, "openssl", "3.3.0-r10071", Rebuilder::RootIo, true),
            (PyPi, "django", "4.2+root.io.1", Rebuilder::RootIo, true),
            (Deb, "seal-wget", "1.21-1+deb11u1+sp1", Rebuilder::Seal, true),
            (Rpm, "seal-wget", "1.12-10.el6+sp1", Rebuilder::Seal, true),
            (Apk, "seal-zlib", "1.2.8-r25341999", Rebuilder::Seal, true),
            (Maven, "seal.sp1.org.eclipse.jetty:jetty-http", "9.4.48", Rebuilder::Seal, true),
            (Maven, "org.eclipse.jetty:jetty-http", "9.4.48+sp1", Rebuilder::Seal, true),
            (PyPi, "Django", "4.2.8+sp1p2", Rebuilder::Seal, true),
            (PyPi, "seal_django", "4.2.8+sp1", Rebuilder::Seal, true),
            (PyPi, "seal-django", "4.2.8", Rebuilder::Seal, false),
            (Npm, "@seal-security/ejs", "3.1.8", Rebuilder::Seal, true),
            (Npm, "ejs", "3.1.8-sp1", Rebuilder::Seal, false),
            (Go, "sealsecurity.io/golang.org/x/crypto", "v0.26.0", Rebuilder::Seal, true),
            (Go, "example.com/x", "v2.0.0-sp1+incompatible", Rebuilder::Seal, false),
            (Gem, "seal-rack", "2.0.7.0.1.sp1", Rebuilder::Seal, true),
            (Gem, "rack", "2.0.7.0.1.sp1", Rebuilder::Seal, false),
            (Deb, "curl", "7.88-1ubuntu1+rf.1", Rebuilder::RapidFort, true),
            (Deb, "curl", "7.88-1rfubuntu2", Rebuilder::RapidFort, true),
            (Deb, "curl", "7.88-1.rf", Rebuilder::RapidFort, true),
            (Rpm, "curl", "7.76.1-26.rf1.el9", Rebuilder::RapidFort, true),
            (Rpm, "curl", "7.76.1-26.rfal", Rebuilder::RapidFort, true),
        ] {
            assert_eq!(of(ecosystem, name, version), Some((rebuilder, is_certain)), "{name} {version}");
        }
        for (ecosystem, name, version) in [
            (Maven, "org.jboss:x", "1.0-SP1"),
            (Maven, "org.jboss:x", "1.0.0.SP1"),
            (Npm, "x", "1.0.0-spike1"),
            (PyPi, "sealed", "1.0"),
            (PyPi, "x", "1.0+spam"),
            (Gem, "x", "1.0.sp1"),
            (Cargo, "seal-x", "1.0.0-sp1"),
            (Deb, "x", "1.0+rfc3339-1"),
            (Deb, "libseal-4.1", "4.1.1-1"),
            (Deb, "x", "1.0-1surf1"),
            (Apk, "x", "1.0-r1007"),
            (Apk, "x", "1.0-r0"),
            (Rpm, "x", "1.0-1.rfc3339.el9"),
            (Rpm, "x", "1.0-1.el9"),
        ] {
            assert_eq!(of(ecosystem, name, version), None, "{name} {version}");
        }
    }
}
