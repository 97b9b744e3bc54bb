//! How one statement of a trust policy judges a signature, without the checks for which another service must be asked
//! (trust-store-trust-policy.md, "Signature Verification", "Steps").

use jiff::Timestamp;

use super::envelope::{SignatureEnvelope, SigningScheme};
use super::timestamp;
use crate::policy::{CertificateSubject, CheckAction, NotationChecks, StoredCertificate, TimestampRule};
use crate::x509::{DistinguishedName, X509Certificate};

/// Why a signature does not count, and what would help.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct SignatureRefusal {
    pub(super) why: String,
    pub(super) hint: Option<String>,
}

impl SignatureRefusal {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), hint: None }
    }

    fn with_hint(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { why: why.into(), hint: Some(hint.into()) }
    }
}

/// A signature that counts unless a certificate is revoked.
#[derive(Debug)]
pub(super) struct Assessment {
    /// The failures that the level does not enforce.
    pub(super) logged: Vec<String>,
    /// The end of what was found out, if it has one.
    pub(super) until: Option<Timestamp>,
    /// The chains whose revocation is to be found out.
    pub(super) questions: Vec<RevocationQuestion>,
    /// The trusted certificate, if the signature is authentic.
    pub(super) anchor: Option<StoredCertificate>,
    /// When it was signed, if a party that the statement trusts vouches for the time.
    pub(super) signed_at: Option<Timestamp>,
}

/// A question about the revocation of the certificates of a chain.
#[derive(Debug)]
pub(super) struct RevocationQuestion {
    /// From the signer's certificate to the root.
    pub(super) chain: Vec<X509Certificate>,
    /// What a revoked certificate, or one whose status cannot be found out, means.
    pub(super) action: CheckAction,
    /// The trusted time of signing: a key that became invalid later was valid then.
    pub(super) signed_at: Option<Timestamp>,
}

/// Applies a statement to a signature whose integrity is verified.
///
/// # Errors
/// The first check that fails and that the statement enforces.
pub(super) fn assess(
    envelope: &SignatureEnvelope,
    checks: &NotationChecks,
    now: Timestamp,
) -> Result<Assessment, SignatureRefusal> {
    let mut assessment =
        Assessment { logged: Vec::new(), until: None, questions: Vec::new(), anchor: None, signed_at: None };
    let authentic = authenticity(envelope, checks);
    assessment.anchor = assessment.apply(checks.authenticity, authentic)?.cloned();
    assessment.apply(checks.expiry, expiry(envelope, now))?;
    if checks.expiry == CheckAction::Enforce {
        assessment.until = envelope.expiry;
    }
    let time = time_of_signing(envelope, checks, now);
    if let Some(time) = assessment.apply(checks.authentic_timestamp, time)? {
        assessment.until = earliest(assessment.until, time.until);
        assessment.signed_at = time.signed_at;
        assessment.questions.extend(time.question);
    }
    let signed_at = match envelope.scheme {
        SigningScheme::SigningAuthority => assessment.anchor.as_ref().map(|_| envelope.signing_time),
        SigningScheme::X509 => assessment.signed_at,
    };
    match (checks.revocation, &assessment.anchor) {
        (CheckAction::Skip, _) => {}
        // The URLs of an unverified certificate may be an attacker's.
        (_, None) => {
            assessment.logged.push("revocation was not checked, because the certificate is not trusted".into());
        }
        (action, Some(_)) => {
            let chain = envelope.chain.clone();
            assessment.questions.push(RevocationQuestion { chain, action, signed_at });
        }
    }
    Ok(assessment)
}

impl Assessment {
    /// The value of a check, or what its failure means.
    fn apply<T>(
        &mut self,
        action: CheckAction,
        result: Result<T, SignatureRefusal>,
    ) -> Result<Option<T>, SignatureRefusal> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(refusal) if action == CheckAction::Enforce => Err(refusal),
            Err(refusal) => {
                self.logged.push(refusal.why);
                Ok(None)
            }
        }
    }
}

/// The earlier of two ends.
pub(super) fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    [one, other].into_iter().flatten().min()
}

/// "Validate Authenticity": a certificate of the chain is in a trust store, and the signer's is one of the identities.
fn authenticity<'a>(
    envelope: &SignatureEnvelope,
    checks: &'a NotationChecks,
) -> Result<&'a StoredCertificate, SignatureRefusal> {
    let (stored, kind) = match envelope.scheme {
        SigningScheme::X509 => (&checks.authorities, "ca"),
        SigningScheme::SigningAuthority => (&checks.signing_authorities, "signingAuthority"),
    };
    let leaf = envelope.leaf();
    let anchor = envelope.chain.iter().find_map(|one| stored.iter().find(|stored| stored.certificate == *one));
    let root = envelope.chain.last().map_or_else(String::new, ToString::to_string);
    let anchor = anchor.ok_or_else(|| {
        let why = format!("no certificate of its chain, from {leaf} to {root}, is in a {kind} trust store");
        let hint = format!("to trust its signer, add the certificate of {root} to a {kind} trust store");
        SignatureRefusal::with_hint(why, hint)
    })?;
    if checks.identities.contains(&CertificateSubject::Any) {
        return Ok(anchor);
    }
    let subject = DistinguishedName::of(leaf.subject()).map_err(|invalid| {
        SignatureRefusal::new(format!("the subject of its certificate, {leaf}, cannot be compared: {invalid}"))
    })?;
    let is_subject = |identity: &CertificateSubject| match identity {
        CertificateSubject::Any => true,
        CertificateSubject::Named(name) => subject.includes(name),
    };
    if checks.identities.iter().any(is_subject) {
        return Ok(anchor);
    }
    let why = format!("was signed by {subject}, which is not a trusted identity");
    Err(SignatureRefusal::with_hint(why, format!("to trust this signer, add \"x509.subject: {subject}\"")))
}

/// "Validate Expiry".
fn expiry(envelope: &SignatureEnvelope, now: Timestamp) -> Result<(), SignatureRefusal> {
    match envelope.expiry {
        Some(expiry) if expiry <= now => {
            Err(SignatureRefusal::with_hint(format!("expired at {expiry}"), "sign the image again"))
        }
        _ => Ok(()),
    }
}

/// What is known about the time of signing.
struct SigningTime {
    signed_at: Option<Timestamp>,
    until: Option<Timestamp>,
    /// About the timestamping authority.
    question: Option<RevocationQuestion>,
}

/// "Validate Authentic Timestamp": the certificates were valid when the signature was made, or are valid now.
fn time_of_signing(
    envelope: &SignatureEnvelope,
    checks: &NotationChecks,
    now: Timestamp,
) -> Result<SigningTime, SignatureRefusal> {
    let chain = &envelope.chain;
    if envelope.scheme == SigningScheme::SigningAuthority {
        check_valid(chain, envelope.signing_time, envelope.signing_time, "when it was signed")?;
        return Ok(SigningTime { signed_at: Some(envelope.signing_time), until: None, question: None });
    }
    let has_expired = chain.iter().any(|certificate| certificate.not_after() < now);
    let is_required =
        !checks.timestamp_authorities.is_empty() && (checks.timestamps == TimestampRule::Always || has_expired);
    if !is_required {
        check_valid(chain, now, now, "now")?;
        let until = chain.iter().map(X509Certificate::not_after).min();
        return Ok(SigningTime { signed_at: None, until, question: None });
    }
    let token = envelope.timestamp.as_ref().ok_or_else(|| {
        let why = "has no timestamp, which the trust policy requires";
        SignatureRefusal::with_hint(why, "sign with a timestamping authority, or remove the tsa trust store")
    })?;
    let verified = timestamp::verify(token, &envelope.signature, &checks.timestamp_authorities)
        .map_err(|why| SignatureRefusal::new(format!("its timestamp does not count: {why}")))?;
    check_valid(chain, verified.earliest, verified.latest, "when it was signed, by its timestamp")?;
    let action = checks.authentic_timestamp;
    let question = RevocationQuestion { chain: verified.chain, action, signed_at: None };
    Ok(SigningTime { signed_at: Some(verified.latest), until: None, question: Some(question) })
}

fn check_valid(
    chain: &[X509Certificate],
    earliest: Timestamp,
    latest: Timestamp,
    when: &str,
) -> Result<(), SignatureRefusal> {
    let is_invalid =
        |certificate: &&X509Certificate| !certificate.is_valid_at(earliest) || !certificate.is_valid_at(latest);
    let Some(invalid) = chain.iter().find(is_invalid) else { return Ok(()) };
    let (begin, end) = (invalid.not_before(), invalid.not_after());
    let why = format!("the certificate of {invalid} was not valid {when}: it is valid from {begin} to {end}");
    Err(SignatureRefusal::with_hint(why, "sign the image again with a valid certificate"))
}
