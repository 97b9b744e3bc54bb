//! The signature part of a decision: whether the known signatures meet a requirement.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::distinct::distinct;
use super::verdict::Verdict;
use super::ways::Ways;
use crate::oci::Digest;
use crate::policy::matching::subject::Kind;
use crate::policy::observed::Observed;
use crate::policy::rules::rule::{Requirement, Rule, SignedPart};
use crate::policy::signatures::authority::Authority;
use crate::policy::signatures::evidence::{SignatureFinding, TrustEvidence, TrustFindings, TrustOutcome};
use crate::policy::signatures::same_signer::SameSigner;

/// The signature part of a decision. The gate evaluates it first and looks up vulnerabilities only if it passes.
/// Returns the verdicts of `trust` and `simple`. Evidence that has expired at `now` does not count.
pub fn trust_verdict(rule: &Rule, kind: Kind, findings: &TrustFindings, now: Timestamp) -> [Verdict; 2] {
    // Over all authorities of the rule, as in the search for their signatures.
    let same = SameSigner::among(&rule.authorities());
    [&rule.trust, &rule.simple].map(|requirement| match requirement {
        None => Verdict::Skipped,
        Some(_) if kind == Kind::Attachment => Verdict::Skipped,
        Some(requirement) => verdict_of_findings((requirement, &same), rule.signed, kind, findings, now),
    })
}

/// Evaluates the signatures of the manifest itself, then those of the indexes that list it, then (for an index) those
/// of every child, as far as the rule counts them.
fn verdict_of_findings(
    (requirement, same): (&Requirement, &SameSigner),
    signed: SignedPart,
    kind: Kind,
    findings: &TrustFindings,
    now: Timestamp,
) -> Verdict {
    let verdict = |evidence: &TrustEvidence| verdict(requirement, SignerEvidence { evidence, same }, now);
    let judge = |(_, evidence): &(Digest, TrustEvidence)| verdict(evidence);
    let children = || of_children(findings.children.iter().map(judge).collect());
    if signed == SignedPart::Child && kind == Kind::Index {
        let none = || Verdict::Fail(vec!["each image of the index must be signed, and none was found".into()]);
        return children().unwrap_or_else(none);
    }
    let own = verdict(&findings.own);
    if matches!(own, Verdict::Pass(_)) {
        return own;
    }
    let inherited = findings.inherited.iter().filter(|_| signed.counts_for_children()).map(judge);
    let children = signed.counts_for_index().then(children).flatten();
    let others: Vec<_> = inherited.chain(children).collect();
    if let Some(pass) = others.iter().find(|verdict| matches!(verdict, Verdict::Pass(_))) {
        return pass.clone();
    }
    // If a parent could not be examined, it is unknown whether the child is trusted.
    match others.into_iter().find(|verdict| matches!(verdict, Verdict::Unknown { .. })) {
        Some(unknown) if matches!(own, Verdict::Fail(_)) => unknown,
        _ => own,
    }
}

/// Every child must be trusted; `None` if there are no children. One failed child decides, even if others are unknown.
fn of_children(children: Vec<Verdict>) -> Option<Verdict> {
    let (mut ends, mut failures, mut unknowns, mut may_help) = (Vec::new(), Vec::new(), Vec::new(), false);
    if children.is_empty() {
        return None;
    }
    for child in children {
        match child {
            Verdict::Pass(until) => ends.extend(until),
            Verdict::Fail(reasons) => failures.extend(reasons),
            Verdict::Unknown { reasons, temporary } => {
                may_help |= temporary;
                unknowns.extend(reasons);
            }
            Verdict::Skipped => {}
        }
    }
    Some(match (failures.is_empty(), unknowns.is_empty()) {
        (true, true) => Verdict::Pass(ends.into_iter().min()),
        (true, false) => Verdict::Unknown { reasons: unknowns, temporary: may_help },
        (false, _) => Verdict::Fail([failures, unknowns].concat()),
    })
}

fn verdict(requirement: &Requirement, evidence: SignerEvidence<'_>, now: Timestamp) -> Verdict {
    let standing = standing(requirement, evidence, now);
    match standing.state {
        State::Met => Verdict::Pass(met_until(requirement, evidence, now)),
        State::NotRequired => Verdict::Pass(None),
        State::Open => Verdict::Unknown { reasons: standing.reasons, temporary: standing.temporary },
        State::Unmet => Verdict::Fail(standing.reasons),
    }
}

/// The earliest expiry of evidence at which the requirement is no longer met.
fn met_until(requirement: &Requirement, evidence: SignerEvidence<'_>, now: Timestamp) -> Option<Timestamp> {
    let ends: BTreeSet<_> =
        evidence.evidence.iter().filter_map(|(_, observed)| observed.until).filter(|end| *end > now).collect();
    ends.into_iter().find(|end| standing(requirement, evidence, *end).state != State::Met)
}

/// Whether an observation is no longer valid.
pub(in crate::policy) fn has_ended<T>(observed: &Observed<T>, now: Timestamp) -> bool {
    observed.until.is_some_and(|until| until <= now)
}

/// Whether a requirement is met.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Met,
    /// No signature is required.
    NotRequired,
    /// Not everything is known, so the requirement may be met.
    Open,
    Unmet,
}

/// The state of a requirement, and the signers that it depends on.
#[derive(Debug)]
struct Standing {
    state: State,
    /// The ways in which the known signers meet the requirement; empty if it is not met.
    signers: Ways,
    /// As above, including others that may also have signed; empty if the requirement cannot be met.
    possible: Ways,
    /// What is missing or unknown.
    reasons: Vec<String>,
    /// Whether a retry may reveal additional signers.
    temporary: bool,
}

impl Standing {
    fn unmet(reasons: Vec<String>) -> Self {
        Self { state: State::Unmet, signers: Ways::none(), possible: Ways::none(), reasons, temporary: false }
    }

    fn open(possible: BTreeSet<String>, reason: String, temporary: bool) -> Self {
        let possible = Ways::One(possible);
        Self { state: State::Open, signers: Ways::none(), possible, reasons: vec![reason], temporary }
    }

    fn is_met(&self) -> bool {
        self.state == State::Met
    }
}

/// The evidence for one manifest, and which keys belong to one signer.
#[derive(Clone, Copy)]
struct SignerEvidence<'a> {
    evidence: &'a TrustEvidence,
    same: &'a SameSigner,
}

fn standing(requirement: &Requirement, evidence: SignerEvidence<'_>, now: Timestamp) -> Standing {
    let parts = |parts: &[Requirement]| parts.iter().map(|part| standing(part, evidence, now)).collect();
    match requirement {
        Requirement::Accept => met([].into()),
        Requirement::Reject => Standing::unmet(vec!["the policy rejects every image here".into()]),
        Requirement::Authority(authority) => {
            let of_keys = of_authority(authority, evidence.evidence.outcome(authority.id()), now);
            let of_signers = |keys: Ways| Ways::One(evidence.same.signers(keys.signers()));
            let [signers, possible] = [of_keys.signers, of_keys.possible].map(of_signers);
            Standing { signers, possible, ..of_keys }
        }
        Requirement::AllOf(all) => of_required(parts(all), |parts, _| all_of(parts)),
        Requirement::AnyOf(any) => of_required(parts(any), |parts, _| at_least(1, parts)),
        Requirement::AtLeast { count, of } => of_required(parts(of), |parts, left_out| {
            // Where all must sign, all others must.
            let needed = if *count >= of.len() { count.saturating_sub(left_out) } else { *count };
            at_least(needed, parts)
        }),
    }
}

/// Combines the parts that require a signature. A part that requires none is left out: it never takes the place of a
/// signature. If no part requires one, the combination does not either. `combine` also gets the number of parts left
/// out.
fn of_required(parts: Vec<Standing>, combine: impl FnOnce(Vec<Standing>, usize) -> Standing) -> Standing {
    let total = parts.len();
    let required: Vec<_> = parts.into_iter().filter(|part| part.state != State::NotRequired).collect();
    if required.is_empty() && total > 0 {
        return Standing { state: State::NotRequired, ..met([].into()) };
    }
    let left_out = total - required.len();
    combine(required, left_out)
}

fn met(signers: BTreeSet<String>) -> Standing {
    let signers = Ways::One(signers);
    Standing { state: State::Met, possible: signers.clone(), signers, reasons: Vec::new(), temporary: false }
}

fn of_authority(authority: &Authority, outcome: Option<&Observed<TrustOutcome>>, now: Timestamp) -> Standing {
    let name = authority.name();
    let Some(observed) = outcome else {
        return Standing::open(authority.signers(), format!("{name}: was not queried"), true);
    };
    if has_ended(observed, now) {
        return Standing::open(authority.signers(), format!("{name}: must be verified again"), true);
    }
    match &observed.value {
        TrustOutcome::Verified { by, unseen, .. } => {
            let signers: BTreeSet<_> = by.iter().map(|signatory| signatory.id.clone()).collect();
            let mut standing = met(signers.clone());
            if let Some(unseen) = unseen {
                standing.possible = Ways::One(&signers | &authority.signers());
                standing.reasons.push(format!("{name}: others may have signed too: {}", unseen.why));
                standing.temporary = unseen.temporary;
            }
            standing
        }
        TrustOutcome::NotRequired { .. } => Standing { state: State::NotRequired, ..met([].into()) },
        TrustOutcome::Unverified { found } if found.is_empty() => Standing::unmet(vec![format!("{name}: not signed")]),
        TrustOutcome::Unverified { found } => Standing::unmet(vec![format!("{name}: {}", joined(found))]),
        TrustOutcome::Unknown { why, temporary, found } if found.is_empty() => {
            Standing::open(authority.signers(), format!("{name}: {why}"), *temporary)
        }
        TrustOutcome::Unknown { why, temporary, found } => {
            Standing::open(authority.signers(), format!("{name}: {why}; {}", joined(found)), *temporary)
        }
    }
}

fn joined(found: &[SignatureFinding]) -> String {
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Evaluates each part separately. An empty list of parts is never met.
fn all_of(parts: Vec<Standing>) -> Standing {
    let worst = if parts.iter().any(|part| part.state == State::Unmet) || parts.is_empty() {
        State::Unmet
    } else if parts.iter().all(Standing::is_met) {
        State::Met
    } else {
        State::Open
    };
    // A part that needs no signature takes no signer.
    combined(worst, parts, |ways| Ways::Every(ways.into_iter().filter(|part| *part != Ways::none()).collect()))
}

/// Why these parts can never be enough.
fn too_few(needed: usize, parts: usize) -> String {
    let signatures = if needed == 1 { "1 signature is".to_owned() } else { format!("{needed} signatures are") };
    let parts = if parts == 1 { "1 part".to_owned() } else { format!("{parts} parts") };
    format!("{signatures} required, and only {parts} can have one here")
}

/// Requires enough parts. No signer counts for two of them, or for two parts within them.
fn at_least(count: usize, parts: Vec<Standing>) -> Standing {
    let needed = count.max(1);
    let met = parts.iter().filter(|part| part.is_met());
    let signed = met.clone().count();
    let signers = distinct(&met.clone().map(|part| part.signers.signers()).collect::<Vec<_>>());
    let possible = Ways::at_least(needed, parts.iter().map(|part| part.possible.clone()).collect());
    let state = if Ways::at_least(needed, met.map(|part| part.signers.clone()).collect()).exist() == Some(true) {
        State::Met
    } else if possible.exist() != Some(false) {
        State::Open
    } else {
        State::Unmet
    };
    let too_few = (parts.len() < needed).then(|| too_few(needed, parts.len()));
    let mut combined = combined(state, parts, |ways| Ways::at_least(needed, ways));
    if state == State::Unmet {
        combined.reasons.extend(too_few);
    }
    if signers < needed && signed > signers {
        let short =
            format!("{needed} different keys or identities must sign, and only {signers} did, under {signed} names");
        combined.reasons.insert(0, short);
    } else if signers >= needed && state != State::Met {
        combined.reasons.insert(0, "a key or identity counts toward only one part".into());
    }
    combined
}

/// Combines the parts. The reasons why the whole requirement is not met come first.
fn combined(state: State, mut parts: Vec<Standing>, combine: impl Fn(Vec<Ways>) -> Ways) -> Standing {
    parts.sort_by_key(|part| (part.state == State::Unmet) != (state == State::Unmet));
    let reasons = |part: &Standing| if state == State::Met && !part.is_met() { vec![] } else { part.reasons.clone() };
    let mut reasons: Vec<_> = parts.iter().flat_map(reasons).collect();
    if state == State::Unmet {
        if reasons.is_empty() && parts.is_empty() {
            reasons.push("no authority is named".into());
        }
        return Standing::unmet(reasons);
    }
    let temporary = parts.iter().any(|part| part.temporary);
    let (signers, possible) = parts.into_iter().map(|part| (part.signers, part.possible)).unzip();
    let signers = if state == State::Met { combine(signers) } else { Ways::none() };
    Standing { state, signers, possible: combine(possible), reasons, temporary }
}

#[cfg(test)]
mod tests;
