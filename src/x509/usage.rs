//! What the extensions of a certificate say about its use.

use der::Decode;
use der::oid::db::rfc5280::{
    ID_CE_CERTIFICATE_POLICIES, ID_CE_INHIBIT_ANY_POLICY, ID_CE_POLICY_CONSTRAINTS, ID_CE_POLICY_MAPPINGS,
    ID_CE_SUBJECT_ALT_NAME,
};
use der::oid::{AssociatedOid, ObjectIdentifier};
use x509_cert::TbsCertificate;
use x509_cert::ext::pkix::crl::dp::DistributionPoint;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    AuthorityInfoAccessSyntax, BasicConstraints, CrlDistributionPoints, ExtendedKeyUsage, KeyUsage,
};

use super::InvalidX509;

/// The access method of an OCSP responder (RFC 6960, section 3.1).
const OCSP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1");

/// Extensions that restrict certificate policies or names of servers, which nothing here relies on.
const WITHOUT_EFFECT: &[ObjectIdentifier] = &[
    ID_CE_CERTIFICATE_POLICIES,
    ID_CE_INHIBIT_ANY_POLICY,
    ID_CE_POLICY_CONSTRAINTS,
    ID_CE_POLICY_MAPPINGS,
    ID_CE_SUBJECT_ALT_NAME,
];

/// The extensions of a certificate (RFC 5280, section 4.2) that limit its use or say where its status is published. The
/// flag of each is whether it is critical.
#[derive(Clone, Debug, Default)]
pub struct CertificateUsage {
    /// Whether it is a certificate authority, and how many others may be below it.
    pub basic_constraints: Option<(bool, BasicConstraints)>,
    /// What its key may be used for.
    pub key_usage: Option<(bool, KeyUsage)>,
    /// The purposes of its key.
    pub purposes: Option<(bool, Vec<ObjectIdentifier>)>,
    /// A critical extension that is not understood. Such a certificate must not be used.
    pub unknown_critical: Option<ObjectIdentifier>,
    /// The URLs of revocation lists.
    pub revocation_lists: Vec<String>,
    /// The URLs of OCSP responders.
    pub ocsp_responders: Vec<String>,
}

impl CertificateUsage {
    pub(super) fn of(certificate: &TbsCertificate) -> Result<Self, InvalidX509> {
        let basic_constraints = extension::<BasicConstraints>(certificate, "basicConstraints")?;
        let key_usage = extension::<KeyUsage>(certificate, "keyUsage")?;
        let purposes = extension::<ExtendedKeyUsage>(certificate, "extKeyUsage")?;
        let points = extension::<CrlDistributionPoints>(certificate, "cRLDistributionPoints")?;
        let access = extension::<AuthorityInfoAccessSyntax>(certificate, "authorityInfoAccess")?;
        let known = [BasicConstraints::OID, KeyUsage::OID, ExtendedKeyUsage::OID];
        let mut critical = certificate.extensions.iter().flatten().filter(|extension| extension.critical);
        Ok(Self {
            basic_constraints,
            key_usage,
            purposes: purposes.map(|(critical, purposes)| (critical, purposes.0)),
            unknown_critical: critical
                .find(|extension| !known.contains(&extension.extn_id) && !WITHOUT_EFFECT.contains(&extension.extn_id))
                .map(|extension| extension.extn_id),
            revocation_lists: points.map(|(_, points)| point_urls(&points.0)).unwrap_or_default(),
            ocsp_responders: access.map(|(_, access)| responder_urls(&access)).unwrap_or_default(),
        })
    }

    /// Whether it is a certificate authority.
    pub fn is_authority(&self) -> bool {
        self.basic_constraints.as_ref().is_some_and(|(_, constraints)| constraints.ca)
    }

    /// Whether it says where its revocation is published.
    pub fn is_revocable(&self) -> bool {
        !self.revocation_lists.is_empty() || !self.ocsp_responders.is_empty()
    }
}

fn extension<'a, T: Decode<'a> + AssociatedOid>(
    certificate: &'a TbsCertificate,
    name: &'static str,
) -> Result<Option<(bool, T)>, InvalidX509> {
    certificate.get::<T>().map_err(|_| InvalidX509::Extension(name))
}

/// The URLs of distribution points.
pub(super) fn point_urls(points: &[DistributionPoint]) -> Vec<String> {
    let names = points.iter().filter_map(|point| match &point.distribution_point {
        Some(DistributionPointName::FullName(names)) => Some(names),
        _ => None,
    });
    names.flatten().filter_map(url).collect()
}

fn responder_urls(access: &AuthorityInfoAccessSyntax) -> Vec<String> {
    access.0.iter().filter(|one| one.access_method == OCSP).filter_map(|one| url(&one.access_location)).collect()
}

fn url(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::UniformResourceIdentifier(url) => Some(url.to_string()),
        _ => None,
    }
}
