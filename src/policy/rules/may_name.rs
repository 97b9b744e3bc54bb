//! Which packages a VEX statement that withdraws an exemption may be about.

use super::banned::{forms, key, with_epoch, without_epoch};
use crate::policy::vulnerability::AffectedPackage;
use crate::policy::vulnerability::purl::{Purl, is_of_distribution};
use crate::version::{self, scheme_of};

/// Whether a statement on a package may be about this package of an image. Unlike for [`Purl::covers`], parts that only
/// one side states and spellings that vary between tools are not differences, and the name may be that of the source
/// package. So a statement that withdraws an exemption is not missed because it names the package differently from the
/// statement that granted it.
pub fn may_name(stated: &Purl, package: &AffectedPackage) -> bool {
    let purl = package.purl.as_ref();
    let name = key(stated.name());
    let last = package.name.rsplit(['/', ':']).next().unwrap_or_default();
    let is_itself = name == key(last) || purl.is_some_and(|purl| name == key(purl.name()));
    let is_source = package.source_name().is_some_and(|source| name == key(source));
    purl.is_none_or(|purl| stated.kind() == purl.kind() && may_be_in_namespace(stated, purl))
        && match (is_itself, is_source) {
            (true, _) => may_have_version(stated, &versions(package)),
            (false, true) => may_have_version(stated, &source_versions(package)),
            (false, false) => false,
        }
}

/// Tools name the vendors of RPM packages differently (`redhat`, `rhel`). In npm, a name without a namespace is another
/// one.
fn may_be_in_namespace(a: &Purl, b: &Purl) -> bool {
    match (a.namespace(), b.namespace()) {
        (Some(a), Some(b)) if a.eq_ignore_ascii_case(b) => true,
        (None, None) => true,
        (Some(_), Some(_)) => a.kind() == "rpm",
        _ => a.kind() != "npm",
    }
}

/// The version of a package, as the report and the package URL state it.
fn versions(package: &AffectedPackage) -> Vec<String> {
    let purl = package.purl.as_ref();
    let stated = package.installed.as_deref().into_iter().chain(purl.and_then(Purl::version));
    let stated = stated.filter(|version| !version.trim().is_empty());
    stated.map(|version| with_epoch(version, purl.and_then(|purl| purl.qualifier("epoch")))).collect()
}

/// The version of its source package, which may have another number.
fn source_versions(package: &AffectedPackage) -> Vec<String> {
    let upstream = package.purl.as_ref().and_then(Purl::upstream).and_then(|(_, version)| version);
    package.source_version.as_deref().into_iter().chain(upstream).map(str::to_owned).collect()
}

/// Whether the URL states no version, or one that may be one of these. If none is known, it may be any.
fn may_have_version(stated: &Purl, versions: &[String]) -> bool {
    let Some(version) = stated.version().map(|version| with_epoch(version, stated.qualifier("epoch"))) else {
        return true;
    };
    let is_range = version.contains(['*', '<', '>', '=', '|', '/']);
    versions.is_empty() || is_range || versions.iter().any(|other| may_be_equal(stated.kind(), &version, other))
}

/// Whether two versions are equal except for a part that only one of them states: the epoch, the release of a
/// distribution, or the local part of a version of PyPI. Versions that cannot be compared may be equal.
fn may_be_equal(kind: &str, a: &str, b: &str) -> bool {
    let (mut a, mut b) = (without_rebuild(kind, a), without_rebuild(kind, b));
    if is_of_distribution(kind) && a.contains(':') != b.contains(':') {
        (a, b) = (without_epoch(a), without_epoch(b));
    }
    let is_equal = |a: &str, b: &str| {
        a == b || scheme_of(kind).is_some_and(|scheme| version::is_equal(scheme, a, b).unwrap_or(true))
    };
    forms(kind, a, b).into_iter().any(|form| is_equal(a, form))
        || forms(kind, b, a).into_iter().any(|form| is_equal(form, b))
}

/// A version of Debian without the number of a rebuild (`+b1`), which its source package does not have.
fn without_rebuild<'a>(kind: &str, version: &'a str) -> &'a str {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    let rebuilt = version.rsplit_once("+b").filter(|(_, number)| kind == "deb" && is_number(number));
    rebuilt.map_or(version, |(version, _)| version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(purl: &str, source: Option<&str>) -> AffectedPackage {
        let purl = Purl::parse(purl).unwrap();
        AffectedPackage {
            name: purl.name().to_owned(),
            installed: purl.version().map(str::to_owned),
            source: source.map(str::to_owned),
            purl: Some(purl),
            ..AffectedPackage::default()
        }
    }

    /// Each pair names one package, or may.
    #[test]
    fn a_package_has_many_names() {
        let curl = package("pkg:deb/debian/libcurl4@7.88.1-10%2Bdeb12u3?arch=amd64&distro=debian-12", Some("curl"));
        let dated = package("pkg:deb/debian/libcurl4@7.88.1-10%2Bb1?upstream=curl%407.88.1-10", None);
        let ssl = package(
            "pkg:rpm/redhat/openssl-libs@3.0.7-27.el9?arch=x86_64&epoch=1&upstream=openssl-3.0.7-27.el9.src.rpm",
            None,
        );
        let itself = package("pkg:deb/debian/xz-utils@5.6.1-1%2Bb2", Some("xz-utils"));
        let (npm, go) = (package("pkg:npm/%40acme/x@1.0.0", None), package("pkg:golang/x.test/Y@v1.0.0", None));
        let python = package("pkg:pypi/ruamel-yaml@1.0%2Blocal", None);
        let bare = AffectedPackage { name: "org.acme:x".into(), ..AffectedPackage::default() };
        for (stated, package, expected) in [
            ("pkg:deb/debian/libcurl4", &curl, true),
            ("pkg:deb/libcurl4", &curl, true),
            ("pkg:deb/debian/libcurl4?distro=bookworm", &curl, true),
            ("pkg:deb/debian/libcurl4?arch=arm64", &curl, true),
            ("pkg:deb/debian/libcurl4@7.88.1-10%2Bdeb12u3", &curl, true),
            ("pkg:deb/debian/libcurl4@7.88.1", &curl, true),
            ("pkg:deb/debian/libcurl4@0:7.88.1-10%2Bdeb12u3", &curl, true),
            ("pkg:deb/debian/libcurl4@%3C8", &curl, true),
            ("pkg:deb/debian/curl?arch=source", &curl, true),
            ("pkg:deb/debian/curl", &curl, true),
            ("pkg:deb/debian/curl@7.88.1-10%2Bdeb12u3?arch=source&distro=bookworm", &curl, true),
            ("pkg:deb/debian/curl@7.88.1-10?arch=source", &dated, true),
            ("pkg:deb/debian/curl@7.88.1-9?arch=source", &dated, false),
            ("pkg:deb/debian/libcurl4@7.88.1-10%2Bdeb12u2", &curl, false),
            ("pkg:deb/ubuntu/libcurl4", &curl, false),
            ("pkg:deb/debian/libcurl3-gnutls", &curl, false),
            ("pkg:rpm/debian/libcurl4", &curl, false),
            ("pkg:rpm/rhel/openssl-libs", &ssl, true),
            ("pkg:rpm/redhat/openssl?arch=src", &ssl, true),
            ("pkg:rpm/redhat/openssl@3.0.7-27.el9?arch=src", &ssl, true),
            ("pkg:rpm/redhat/openssl@1:3.0.7-27.el9?arch=src", &ssl, true),
            ("pkg:rpm/redhat/openssl@3.0.7-28.el9?arch=src", &ssl, false),
            ("pkg:rpm/redhat/openssl-libs@3.0.7-27.el9", &ssl, true),
            ("pkg:rpm/redhat/openssl-libs@1:3.0.7-27.el9", &ssl, true),
            ("pkg:rpm/redhat/openssl-libs@3.0.7-27.el9?epoch=2", &ssl, false),
            ("pkg:deb/debian/xz-utils@5.6.1-1?arch=source", &itself, true),
            ("pkg:deb/debian/xz-utils@5.6.0-1", &itself, false),
            ("pkg:npm/%40Acme/x", &npm, true),
            ("pkg:npm/x", &npm, false),
            ("pkg:golang/x.test/y@1.0.0", &go, true),
            ("pkg:golang/x.test/y@1.0.1", &go, false),
            ("pkg:pypi/ruamel.yaml@1.0", &python, true),
            ("pkg:maven/org.acme/x@1", &bare, true),
            ("pkg:maven/org.acme/y@1", &bare, false),
        ] {
            assert_eq!(may_name(&Purl::parse(stated).expect(stated), package), expected, "{stated} {package:?}");
        }
    }
}
