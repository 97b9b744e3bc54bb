//! Reads the certificate of a keyless signer.

use std::collections::BTreeMap;

use x509_cert::der::asn1::{ObjectIdentifier, Utf8StringRef};
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::policy::{FulcioClaim, Keyless};

/// The arc of Fulcio's extensions (fulcio, docs/oid-info.md).
const FULCIO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1");
/// The type of names that are neither email addresses nor URLs.
const OTHER_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.7");
/// The numbers of the extensions with the issuer: plain text, and its successor in DER.
const ISSUERS: [u32; 2] = [1, 8];

/// The parts of a certificate that policies compare.
#[derive(Clone, Debug)]
pub(super) struct CertificateClaims {
    /// Who signed: an email address, a URL, a host, or a user name.
    pub(super) identity: String,
    /// The OIDC issuer that vouches for the identity.
    pub(super) issuer: String,
    /// Fulcio's extensions by their number.
    extensions: BTreeMap<u32, Vec<u8>>,
}

impl CertificateClaims {
    /// Reads a certificate whose chain was verified.
    ///
    /// # Errors
    /// It does not state exactly one identity and one issuer.
    pub(super) fn read(der: &[u8]) -> Result<Self, String> {
        let malformed = |_| "its certificate is malformed".to_owned();
        let certificate = x509_cert::Certificate::from_der(der).map_err(malformed)?;
        let names: Option<(bool, SubjectAltName)> = certificate.tbs_certificate.get().map_err(malformed)?;
        let identity = match names.as_ref().map_or(&[][..], |(_, names)| &names.0) {
            [name] => name_text(name).ok_or("its certificate names an identity of an unknown kind")?,
            names => return Err(format!("its certificate names {} identities instead of one", names.len())),
        };
        let mut extensions = BTreeMap::new();
        for extension in certificate.tbs_certificate.extensions.iter().flatten() {
            let Some(number) = fulcio_number(extension.extn_id) else { continue };
            if extensions.insert(number, extension.extn_value.as_bytes().to_vec()).is_some() {
                return Err(format!("its certificate has the extension {} twice", extension.extn_id));
            }
        }
        let [plain, current] = ISSUERS.map(|number| extensions.get(&number));
        let issuer = match (current, plain) {
            (Some(der), _) => utf8_string(der),
            // Old certificates have plain text only; some issuers write it in DER nevertheless.
            (None, Some(plain)) => utf8_string(plain).or_else(|| String::from_utf8(plain.clone()).ok()),
            (None, None) => return Err("its certificate names no issuer".into()),
        };
        Ok(Self { identity, issuer: issuer.ok_or("its certificate names an unreadable issuer")?, extensions })
    }

    /// Whether a policy accepts the signer.
    ///
    /// # Errors
    /// The first condition that is not met, with the certificate's actual value.
    pub(super) fn check(&self, wanted: &Keyless) -> Result<(), String> {
        let Self { identity, issuer, .. } = self;
        if !wanted.issuer.matches(issuer) || !wanted.identity.matches(identity) {
            let Keyless { identity: i, issuer: by, .. } = wanted;
            return Err(format!("was made by {identity:?} (issuer {issuer:?}), not by {i} (issuer {by})"));
        }
        for (claim, wanted) in &wanted.claims {
            let name = claim.name();
            match self.claim(*claim) {
                Some(text) if wanted.matches(&text) => {}
                Some(text) => return Err(format!("its certificate says {name} {text:?}, not {wanted}")),
                None => return Err(format!("its certificate does not say {name}, which must be {wanted}")),
            }
        }
        Ok(())
    }

    fn claim(&self, claim: FulcioClaim) -> Option<String> {
        let value = self.extensions.get(&claim.number())?;
        if claim.is_plain_text() { String::from_utf8(value.clone()).ok() } else { utf8_string(value) }
    }
}

/// The last number of an identifier directly below Fulcio's arc.
fn fulcio_number(oid: ObjectIdentifier) -> Option<u32> {
    (oid.parent() == Some(FULCIO)).then(|| oid.arcs().last()).flatten()
}

fn utf8_string(der: &[u8]) -> Option<String> {
    Utf8StringRef::from_der(der).ok().map(|text| text.as_str().to_owned())
}

fn name_text(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::Rfc822Name(name) | GeneralName::DnsName(name) | GeneralName::UniformResourceIdentifier(name) => {
            Some(name.as_str().to_owned())
        }
        GeneralName::OtherName(other) if other.type_id == OTHER_NAME => utf8_string(&other.value.to_der().ok()?),
        _ => None,
    }
}
