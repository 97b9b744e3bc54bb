//! The certificate chains of a trusted root's authorities, and the time in which each of them counts.
//!
//! The library that verifies signatures takes every certificate of an authority as a trust anchor and checks neither
//! the dates of anchors nor what is above them. So a signer whose issuer had expired would be accepted
//! (CVE-2026-24122). Here the last certificate of a chain is the anchor (protobuf-specs, sigstore_trustroot.proto,
//! `CertificateAuthority`). A certificate below it counts because the anchor vouches for it, and while all certificates
//! from it up to the anchor are valid.

use jiff::Timestamp;
use sigstore_verify::trust_root::TrustedRoot as SigstoreRoot;
use sigstore_verify::types::TimeRange;
use x509_cert::der::asn1::ObjectIdentifier;

use crate::x509::X509Certificate;

/// The purpose of signing code (RFC 5280, section 4.2.1.12), and that of any use.
const PURPOSES: [ObjectIdentifier; 2] =
    [ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3"), ObjectIdentifier::new_unwrap("2.5.29.37.0")];

/// The certificates of an authority: the one that issues to signers first, the anchor last.
pub(super) struct AuthorityChain {
    certificates: Vec<X509Certificate>,
    valid_for: Option<TimeRange>,
}

impl AuthorityChain {
    /// # Errors
    /// There is no certificate, or one is malformed.
    fn read<'a>(
        what: &str,
        certificates: impl Iterator<Item = &'a [u8]>,
        valid_for: Option<TimeRange>,
    ) -> Result<Self, String> {
        let read = |der| X509Certificate::from_der(der).map_err(|error| format!("a certificate of {what}: {error}"));
        let certificates = certificates.map(read).collect::<Result<Vec<_>, _>>()?;
        if certificates.is_empty() {
            return Err(format!("{what} has no certificate"));
        }
        Ok(Self { certificates, valid_for })
    }

    /// Checks that each certificate vouches for the one before it, and may do so (RFC 5280, section 6.1).
    fn check_links(&self, what: &str) -> Result<(), String> {
        // An authority may limit how many others are between it and the signer.
        let may_issue = |certificate: &X509Certificate, below: usize| {
            let constraints = certificate.usage().basic_constraints.as_ref().map(|(_, constraints)| constraints);
            let has_room = |most: Option<u8>| most.is_none_or(|most| usize::from(most) >= below);
            constraints.is_some_and(|constraints| constraints.ca && has_room(constraints.path_len_constraint))
        };
        for (index, pair) in self.certificates.windows(2).enumerate() {
            let [below, above] = pair else { continue };
            if !below.is_issued_by(above) {
                return Err(format!("{what}: \"{below}\" was not issued by the next certificate of its chain"));
            }
            let mut both = [(below, index), (above, index + 1)].into_iter();
            if let Some((wrong, _)) = both.find(|(certificate, count)| !may_issue(certificate, *count)) {
                return Err(format!("{what}: \"{wrong}\" may not issue the certificates below it"));
            }
            let purposes = below.usage().purposes.as_ref().map(|(_, purposes)| purposes);
            let is_for_code = purposes.is_none_or(|purposes| purposes.iter().any(|one| PURPOSES.contains(one)));
            if !is_for_code || below.usage().unknown_critical.is_some() {
                return Err(format!("{what}: \"{below}\" is not for signing code"));
            }
        }
        Ok(())
    }

    /// When the authority counts, as the root states it.
    pub(super) fn valid_for(&self) -> Option<TimeRange> {
        self.valid_for
    }

    /// When the authority ends, with the first of its certificates at the latest; [`Timestamp::MAX`] without an end.
    pub(super) fn until(&self) -> Timestamp {
        self.window_from(0).1
    }

    /// The time in which the certificate at this index counts: that of the authority, of the certificate and of all
    /// above it. A certificate without a well-defined expiration (99991231235959Z; RFC 5280, section 4.1.2.5) ends at
    /// [`Timestamp::MAX`], as does everything that has no end.
    fn window_from(&self, index: usize) -> (Timestamp, Timestamp) {
        let (start, end) = self.valid_for.map_or((Timestamp::MIN, None), |range| (range.start, range.end));
        self.certificates[index..].iter().fold((start, end.unwrap_or(Timestamp::MAX)), |(start, end), certificate| {
            (start.max(certificate.not_before()), end.min(certificate.not_after()))
        })
    }

    /// The same time for the library; `None` if there is no such time.
    fn range_from(&self, index: usize) -> Option<TimeRange> {
        let (start, end) = self.window_from(index);
        (start <= end).then(|| TimeRange::new(start, (end < Timestamp::MAX).then_some(end)))
    }
}

/// The chains of the certificate authorities, in the order of the root.
///
/// # Errors
/// A chain cannot be read, or its certificates do not lead from one to the next.
pub(super) fn certificate_authorities(root: &SigstoreRoot) -> Result<Vec<AuthorityChain>, String> {
    let read = |(index, authority): (usize, &sigstore_verify::trust_root::CertificateAuthority)| {
        let what = format!("certificate authority {} ({})", index + 1, authority.uri);
        let certificates = authority.cert_chain.certificates.iter().map(|one| one.raw_bytes.as_bytes());
        let chain = AuthorityChain::read(&what, certificates, authority.valid_for)?;
        chain.check_links(&what)?;
        Ok(chain)
    };
    root.certificate_authorities.iter().enumerate().map(read).collect()
}

/// The chains of the time-stamping authorities, in the order of the root. The library verifies how they are linked.
///
/// # Errors
/// A chain cannot be read.
pub(super) fn timestamp_authorities(root: &SigstoreRoot) -> Result<Vec<AuthorityChain>, String> {
    let read = |(index, authority): (usize, &sigstore_verify::trust_root::TimestampAuthority)| {
        let what = format!("time-stamping authority {}", index + 1);
        let certificates = authority.cert_chain.certificates.iter().map(|one| one.raw_bytes.as_bytes());
        AuthorityChain::read(&what, certificates, authority.valid_for)
    };
    root.timestamp_authorities.iter().enumerate().map(read).collect()
}

/// The root with each authority limited to the time in which it counts. Each certificate of a chain becomes an
/// authority with one certificate.
pub(super) fn narrowed(
    mut root: SigstoreRoot,
    authorities: &[AuthorityChain],
    stampers: &[AuthorityChain],
) -> SigstoreRoot {
    let mut anchors = Vec::new();
    for (authority, chain) in root.certificate_authorities.iter().zip(authorities) {
        for (index, certificate) in authority.cert_chain.certificates.iter().enumerate() {
            let mut anchor = authority.clone();
            anchor.cert_chain.certificates = vec![certificate.clone()];
            if let Some(range) = chain.range_from(index) {
                anchor.valid_for = Some(range);
                anchors.push(anchor);
            }
        }
    }
    root.certificate_authorities = anchors;
    let mut narrowed = Vec::new();
    for (mut authority, chain) in std::mem::take(&mut root.timestamp_authorities).into_iter().zip(stampers) {
        if let Some(range) = chain.range_from(0) {
            authority.valid_for = Some(range);
            narrowed.push(authority);
        }
    }
    root.timestamp_authorities = narrowed;
    root
}
