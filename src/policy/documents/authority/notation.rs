//! The `notation` authority: Notary Project's own trust policy and trust stores, or certificates and identities.

mod trust_policy;
mod trust_store;

use super::{Lookup, material, materials};
use crate::markup::{Fields, Node, Problems, text_of};
use crate::policy::documents::material as read;
use crate::policy::signatures::authority::{
    CertificateSubject, CheckAction, NotationChecks, NotationStatement, NotationTrust, RegistryScope, RevocationFile,
    Scheme, StoredCertificate, TimestampRule,
};
use crate::x509::DistinguishedName;

/// The attributes that a trusted identity must have (trust-store-trust-policy.md, "Trusted Identities Constraints").
const MANDATORY: [&str; 3] = ["C", "ST", "O"];
/// The prefix of an identity that is a certificate subject.
const X509_SUBJECT: &str = "x509.subject:";

pub(super) fn scheme(fields: &Fields<'_>, lookup: Lookup<'_>) -> Option<Scheme> {
    let trust = if fields.get("trustPolicy").is_some() || fields.get("trustStore").is_some() {
        fields.only(&["trustPolicy", "trustStore", "revocationLists"]);
        trust_policy::read(fields, lookup)?
    } else {
        fields.only(&["certificates", "identities", "revocationLists"]);
        vec![of_certificates(fields, lookup)?]
    };
    let revocation_lists = revocation_lists(fields, lookup)?;
    Some(Scheme::Notation(Box::new(NotationTrust { statements: trust, revocation_lists })))
}

/// `certificates` and `identities`: one statement of level `strict` for all repositories, with one `ca` trust store.
fn of_certificates(fields: &Fields<'_>, lookup: Lookup<'_>) -> Option<NotationStatement> {
    let certificates = materials(fields, "certificates", |one| material(one, read::certificates, lookup))?.concat();
    let mut authorities = Vec::with_capacity(certificates.len());
    for certificate in certificates {
        match trust_store::trusted(certificate.der(), false) {
            Ok(certificate) => authorities.push(StoredCertificate { store: "certificates".into(), certificate }),
            Err(why) => fields.error(format!("a certificate {why}")),
        }
    }
    if fields.list("identities").is_empty() {
        let hint = "write x509.subject: C=…, ST=…, O=…, or \"*\" for every certificate below the trusted ones";
        fields.error_hint("identities of notation is missing", hint);
        return None;
    }
    let checks = NotationChecks {
        level: "strict".into(),
        authenticity: CheckAction::Enforce,
        authentic_timestamp: CheckAction::Enforce,
        expiry: CheckAction::Enforce,
        revocation: CheckAction::Enforce,
        timestamps: TimestampRule::Always,
        authorities,
        signing_authorities: Vec::new(),
        timestamp_authorities: Vec::new(),
        identities: identities(fields.list("identities"), fields.problems)?,
    };
    Some(NotationStatement { name: "certificates".into(), scope: RegistryScope::All, checks: Some(checks) })
}

/// Reads `trustedIdentities`. `*` stands alone, and no identity may include another one.
fn identities(list: &[Node], problems: &Problems) -> Option<Vec<CertificateSubject>> {
    let read = |node: &Node| Some((node.at, identity(node, problems)?));
    let identities: Vec<_> = list.iter().map(read).collect::<Option<_>>()?;
    for (index, (at, identity)) in identities.iter().enumerate() {
        for (_, other) in &identities[..index] {
            match (identity, other) {
                (CertificateSubject::Named(one), CertificateSubject::Named(other)) => {
                    if one.includes(other) || other.includes(one) {
                        let message = format!("the identities {one} and {other} overlap");
                        problems.error_hint(*at, message, "keep the one that you mean");
                    }
                }
                _ => problems.error_hint(*at, "\"*\" must be the only identity", "remove it, or the others"),
            }
        }
    }
    Some(identities.into_iter().map(|(_, identity)| identity).collect())
}

fn identity(node: &Node, problems: &Problems) -> Option<CertificateSubject> {
    let text = text_of(node, "an identity", problems)?;
    if text == "*" {
        return Some(CertificateSubject::Any);
    }
    let Some(name) = text.strip_prefix(X509_SUBJECT) else {
        problems.error(node.at, format!("identity {text:?} must begin with {X509_SUBJECT}, or be *"));
        return None;
    };
    let hint = "write x509.subject: C=…, ST=…, O=…, with a backslash before commas within a value (RFC 4514)";
    match DistinguishedName::parse(name) {
        Ok(name) => {
            let missing: Vec<_> = MANDATORY.into_iter().filter(|attribute| !name.has(attribute)).collect();
            if !missing.is_empty() {
                problems.error_hint(node.at, format!("identity {text:?} has no {}", missing.join(", ")), hint);
                return None;
            }
            Some(CertificateSubject::Named(name))
        }
        Err(invalid) => {
            problems.error_hint(node.at, format!("identity {text:?}: {invalid}"), hint);
            None
        }
    }
}

/// The files of the directory `revocationLists`, in DER or PEM.
fn revocation_lists(fields: &Fields<'_>, lookup: Lookup<'_>) -> Option<Vec<RevocationFile>> {
    let Some(folder) = fields.text("revocationLists") else { return Some(Vec::new()) };
    let document = fields.problems.name(fields.at.file);
    let files = trust_store::files(folder, &document, lookup);
    let files = files.map_err(|why| fields.error(format!("revocationLists: {why}"))).ok()?;
    let list = |(path, bytes): (String, Vec<u8>)| match read::revocation_list(&bytes) {
        Ok(list) => Some(RevocationFile { path, list }),
        Err(why) => {
            fields.error(format!("revocationLists: {path}: {why}"));
            None
        }
    };
    files.into_iter().map(list).collect()
}

#[cfg(test)]
mod tests;
