//! Verifies Notary Project signatures (notation), by the trust policies and trust stores that authorities have.
//!
//! A signature is read once: its envelope (`envelope`), the chain of its certificates (`chain`), and what it signs
//! (`payload`). Each authority's statement for the repository then decides whether it counts (`assess`), with a
//! timestamp where it requires one (`timestamp`). Checks that need other services come last: whether certificates are
//! revoked (`revocation`). Level `skip` requires nothing; failures that the levels `permissive` and `audit` tolerate
//! are logged and stated with the signer.

mod algorithm;
mod assess;
mod chain;
mod envelope;
mod payload;
mod revocation;
mod timestamp;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::Config;
use super::notes::{Notes, clip};
use super::scheme::{Attached, ImageSubject, Origin, SignatureScheme, Sought, Verification};
use crate::oci::{Content, ImageName, Manifest};
use crate::policy::{
    Authority, CheckAction, NotationChecks, NotationStatement, NotationTrust, RevocationFile, Scheme, Signatory,
    SignatoryKind, SignatureFinding, TrustOutcome, key_fingerprint,
};
use assess::{Assessment, assess, earliest};
use chain::ChainPurpose;
use envelope::{EnvelopeForm, SignatureEnvelope};
use revocation::ChainStatus;
pub use revocation::{InvalidRevocationConfig, RevocationChecker, RevocationConfig};

const NAME: &str = "notation";
/// The artifact type of signatures, or the type of their configuration (signature-specification.md, "OCI Signatures").
const SIGNATURE: &str = "application/vnd.cncf.notary.signature";

/// Notary Project signatures.
pub(super) struct Notation {
    revocation: RevocationChecker,
}

impl Notation {
    pub(super) fn new(revocation: &RevocationChecker) -> Self {
        Self { revocation: revocation.clone() }
    }
}

impl SignatureScheme for Notation {
    fn name(&self) -> &'static str {
        NAME
    }

    fn expects(&self, artifact_type: &str) -> bool {
        artifact_type == SIGNATURE
    }

    fn recognises(&self, attached: &Manifest) -> Option<&'static str> {
        is_signature(attached).then_some("a Notary Project signature")
    }

    fn select(&self, attached: &Manifest, origin: Origin) -> Result<Vec<usize>, String> {
        if origin != Origin::Referrer || !is_signature(attached) {
            return Ok(Vec::new());
        }
        match &attached.content {
            Content::Image { layers, .. } => match &layers[..] {
                [layer] if EnvelopeForm::of(&layer.media_type).is_some() => Ok(vec![0]),
                [layer] => Err(format!("its layer is neither JWS nor COSE, but {:?}", layer.media_type)),
                layers => Err(format!("must have one layer, and has {}", layers.len())),
            },
            Content::Index(_) => Err("is an index, not a signature".into()),
        }
    }

    fn verification(&self, image: &ImageSubject, sought: &[Sought]) -> Box<dyn Verification> {
        let part = |Sought { authority, known }: &Sought| NotationPart {
            authority: authority.clone(),
            signed: known.iter().map(|signatory| (signatory.clone(), None)).collect(),
            found: Vec::new(),
            pending: Vec::new(),
            unknown: Vec::new(),
        };
        Box::new(NotationVerification {
            name: image.name.clone(),
            image: image.manifest.clone(),
            now: image.now,
            revocation: self.revocation.clone(),
            parts: sought.iter().map(part).collect(),
        })
    }
}

fn is_signature(attached: &Manifest) -> bool {
    attached.artifact_type.as_deref() == Some(SIGNATURE)
        || matches!(&attached.content, Content::Image { config, .. } if config.media_type == SIGNATURE)
}

/// The signatures of one image, for several authorities.
struct NotationVerification {
    name: ImageName,
    image: Arc<Manifest>,
    now: Timestamp,
    revocation: RevocationChecker,
    parts: Vec<NotationPart>,
}

/// One authority.
struct NotationPart {
    authority: Arc<Authority>,
    /// Everyone who signed, and the end of the signature.
    signed: Vec<(Signatory, Option<Timestamp>)>,
    found: Vec<SignatureFinding>,
    /// Signatures that count unless a certificate is revoked, which is not known yet.
    pending: Vec<PendingSignature>,
    /// Why it is unknown whether signatures count, and whether another attempt may help.
    unknown: Vec<(String, bool)>,
}

/// A signature whose revocation is to be found out.
struct PendingSignature {
    place: Arc<str>,
    form: String,
    /// The signer.
    signatory: Signatory,
    assessment: Assessment,
}

impl Verification for NotationVerification {
    fn read(&mut self, found: &[Attached]) {
        for Attached { layer, bytes, place } in found {
            let Some(form) = EnvelopeForm::of(&layer.media_type) else { continue };
            let opened = SignatureEnvelope::open(form, bytes).and_then(|envelope| {
                chain::check(&envelope.chain, ChainPurpose::CodeSigning)?;
                payload::check(&envelope.payload, &self.image)?;
                Ok(envelope)
            });
            let opened = opened.map_err(clip);
            let form = format!("{} {}", form.name(), layer.digest.short());
            for part in &mut self.parts {
                let authority = part.authority.clone();
                let Some(statement) = statement(&authority, &self.name) else { continue };
                let Some(checks) = &statement.checks else { continue };
                match &opened {
                    Ok(envelope) => part.read(envelope, (statement, checks), (place, &form), self.now),
                    Err(why) => part.found.push(SignatureFinding::refused(&**place, &*form, why)),
                }
            }
        }
    }

    fn confirm(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            for part in &mut self.parts {
                part.confirm(&self.revocation, &self.name).await;
            }
        })
    }

    fn signed(&self, authority: usize) -> Vec<Signatory> {
        self.parts[authority].signed.iter().map(|(signatory, _)| signatory.clone()).collect()
    }

    fn possible(&self, authority: usize) -> BTreeSet<String> {
        let authority = &self.parts[authority].authority;
        match statement(authority, &self.name) {
            Some(NotationStatement { checks: Some(_), .. }) => authority.signers(),
            _ => BTreeSet::new(),
        }
    }

    fn found(&self, authority: usize) -> Vec<SignatureFinding> {
        self.parts[authority].found.clone()
    }

    fn outcome(&self, authority: usize, notes: &Notes) -> TrustOutcome {
        let part = &self.parts[authority];
        match statement(&part.authority, &self.name) {
            None => {
                let why = format!("no statement of the trust policy applies to {}", self.name);
                let hint = format!("add {} to the registryScopes of a statement", self.name);
                TrustOutcome::Unverified {
                    found: vec![SignatureFinding::refused("", "trust policy", why).with_hint(hint)],
                }
            }
            Some(NotationStatement { name, checks: None, .. }) => {
                TrustOutcome::NotRequired { why: format!("statement {name:?} of its trust policy has level skip") }
            }
            Some(_) => part.outcome(self.signed(authority), notes),
        }
    }

    fn verified_until(&self, authority: usize, config: &Config, now: Timestamp) -> Option<Timestamp> {
        let signed = &self.parts[authority].signed;
        let latest = now.saturating_add(config.ttl).unwrap_or(Timestamp::MAX);
        // What rests on bytes and keys alone has no end; whatever ends is looked at again after `ttl` at the latest.
        signed.iter().filter_map(|(_, until)| *until).min().map(|until| until.min(latest))
    }
}

impl NotationPart {
    fn read(
        &mut self,
        envelope: &SignatureEnvelope,
        (statement, checks): (&NotationStatement, &NotationChecks),
        (place, form): (&Arc<str>, &str),
        now: Timestamp,
    ) {
        match assess(envelope, checks, now) {
            Ok(assessment) => {
                let signatory = signatory(envelope, &assessment, &self.authority, statement);
                // One signature of each signer is enough.
                let is_known = self.signed.iter().any(|(known, _)| known.id == signatory.id);
                if !is_known {
                    self.pending.push(PendingSignature {
                        place: place.clone(),
                        form: form.into(),
                        signatory,
                        assessment,
                    });
                }
            }
            Err(refusal) => {
                let finding = SignatureFinding::refused(&**place, form, clip(refusal.why));
                self.found.push(match refusal.hint {
                    Some(hint) => finding.with_hint(clip(hint)),
                    None => finding,
                });
            }
        }
    }

    /// Finds out whether certificates are revoked. Answers that are missing when this future is dropped stay pending.
    async fn confirm(&mut self, revocation: &RevocationChecker, name: &ImageName) {
        while let Some(pending) = self.pending.last() {
            let files = revocation_files(&self.authority);
            let mut verdict = SignatureVerdict::default();
            for question in &pending.assessment.questions {
                let status = revocation.status(&question.chain, files, question.signed_at).await;
                verdict.add(question.action, status);
            }
            let Some(pending) = self.pending.pop() else { return };
            self.conclude(pending, verdict, name);
        }
    }

    fn conclude(&mut self, pending: PendingSignature, verdict: SignatureVerdict, name: &ImageName) {
        let PendingSignature { place, form, mut signatory, assessment } = pending;
        let SignatureVerdict { logged, until, refused, unknown } = verdict;
        if let Some(why) = refused {
            let hint = "sign the image again with a certificate that is not revoked";
            self.found.push(SignatureFinding::refused(&*place, form, clip(why)).with_hint(hint));
            return;
        }
        if let Some((why, temporary)) = unknown {
            let why = clip(format!("cannot determine whether its certificates are revoked: {why}"));
            self.found.push(SignatureFinding::not_judged(&*place, &*form, &*why));
            self.unknown.push((format!("{form}: {why}"), temporary));
            return;
        }
        let logged = [assessment.logged, logged].concat();
        if !logged.is_empty() {
            let logged = clip(logged.join("; "));
            tracing::warn!(image = %name, authority = self.authority.name(), signature = %form, not_enforced = %logged,
                "a signature counts although checks failed, because the trust policy does not enforce them");
            signatory.description = format!("{}; not enforced: {logged}", signatory.description);
        }
        self.found.push(SignatureFinding::verified(&*place, form, &*signatory.id));
        if !self.signed.iter().any(|(known, _)| known.id == signatory.id) {
            self.signed.push((signatory, earliest(assessment.until, until)));
        }
    }

    fn outcome(&self, signed: Vec<Signatory>, notes: &Notes) -> TrustOutcome {
        let mut unknown = self.unknown.clone();
        if !self.pending.is_empty() {
            unknown.push(("the revocation status of the certificates was not determined in time".into(), true));
        }
        if !signed.is_empty() || unknown.is_empty() {
            return notes.outcome(signed, self.found.clone());
        }
        let gaps = notes.gaps.iter().map(|gap| (gap.why.clone(), gap.temporary));
        let all: Vec<_> = unknown.into_iter().chain(gaps).collect();
        let why = all.iter().take(MAX_REASONS).map(|(why, _)| &**why).collect::<Vec<_>>().join("; ");
        let found = SignatureFinding::bounded(self.found.iter().chain(&notes.broken).cloned().collect());
        TrustOutcome::Unknown { why, temporary: all.iter().any(|(_, temporary)| *temporary), found }
    }
}

/// The maximum number of reasons that an outcome states.
const MAX_REASONS: usize = 20;

/// The effect of revoked certificates on a signature.
#[derive(Default)]
struct SignatureVerdict {
    logged: Vec<String>,
    until: Option<Timestamp>,
    refused: Option<String>,
    unknown: Option<(String, bool)>,
}

impl SignatureVerdict {
    fn add(&mut self, action: CheckAction, status: ChainStatus) {
        match (action, status) {
            (_, ChainStatus::Good { until }) => self.until = earliest(self.until, until),
            (CheckAction::Enforce, ChainStatus::Revoked(why)) => self.refused = Some(why),
            (CheckAction::Enforce, ChainStatus::Unknown { why, temporary }) => self.unknown = Some((why, temporary)),
            (_, ChainStatus::Revoked(why) | ChainStatus::Unknown { why, .. }) => self.logged.push(why),
        }
    }
}

fn trust(authority: &Authority) -> Option<&NotationTrust> {
    match authority.scheme() {
        Scheme::Notation(trust) => Some(trust),
        _ => None,
    }
}

fn statement<'a>(authority: &'a Authority, name: &ImageName) -> Option<&'a NotationStatement> {
    trust(authority)?.statement(name)
}

fn revocation_files(authority: &Authority) -> &[RevocationFile] {
    trust(authority).map_or(&[], |trust| &trust.revocation_lists)
}

/// The signer, identified by the key. A signer who is not trusted, which only level `audit` lets pass, is nobody in
/// particular: two such signers count once.
fn signatory(
    envelope: &SignatureEnvelope,
    assessment: &Assessment,
    authority: &Authority,
    statement: &NotationStatement,
) -> Signatory {
    let (leaf, anchor) = (envelope.leaf(), assessment.anchor.as_ref());
    let id = match anchor {
        Some(_) => key_fingerprint(leaf.subject_public_key_info()).to_string(),
        None => authority.signers().into_iter().next().unwrap_or_default(),
    };
    let identity = clip(leaf.to_string());
    let level = statement.checks.as_ref().map_or("", |checks| &checks.level);
    let trusted = anchor.map(|anchor| format!(", trusted by {}", anchor.store)).unwrap_or_default();
    let description = format!("{identity} (notation{trusted}, statement {:?}, level {level})", statement.name);
    Signatory {
        id,
        kind: SignatoryKind::Certificate,
        identity,
        issuer: anchor.map(|anchor| clip(anchor.certificate.to_string())),
        signed_at: assessment.signed_at,
        description,
    }
}

#[cfg(test)]
mod tests;
