//! `policy eval`: decisions for given evidence, one case per line. The decision is the gate's; only the evidence is made
//! here.

use std::io::{self, BufRead, Read};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{EXIT_FAILURE, EXIT_OK, Streams, invalid_name, load, subject};
use crate::oci::{Digest, ImageReference};
use crate::policy::{
    AffectedPackage, Authority, Denial, Issue, IssueKind, Kind, NotaryTrust, Observed, Opinion, Opinions, Question,
    Report, RuleSet, Scheme, Selected, Selection, Settings, Severity, Signatory, SignatureFinding, TrustEvidence,
    TrustFindings, TrustOutcome, VaEvidence, VaExemptions, VaFindings, Verdict, decide, deciding, no_match,
    trust_verdict, weigh,
};
use crate::scope::Scope;

/// The longest line, in bytes.
const MAX_LINE: u64 = 1024 * 1024;

/// `policy eval --policies DIR < cases.jsonl`: one decision per line. A malformed case gives a denial with an `error`
/// for its `id`, and exit code 1 at the end; otherwise the code is 0, or 78 if the documents have errors.
///
/// # Errors
/// If the cases cannot be read or the output cannot be written.
pub fn eval(
    policies: &Path,
    settings: &Settings,
    reader: &mut dyn BufRead,
    streams: &mut Streams<'_>,
) -> io::Result<u8> {
    let rules = match load(policies, settings, streams.err)? {
        Ok(rules) => rules,
        Err(code) => return Ok(code),
    };
    let mut code = EXIT_OK;
    while let Some(line) = next_line(reader)? {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let answer = answer(&rules, &line).unwrap_or_else(|(id, why)| {
            code = EXIT_FAILURE;
            let mut answer = line_of(&id, "deny", None, false, &format!("malformed case: {why}"));
            answer["error"] = why.into();
            answer
        });
        writeln!(streams.out, "{answer}")?;
    }
    Ok(code)
}

/// The next line. A line that is too long is cut, and so malformed.
fn next_line(reader: &mut dyn BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = Read::take(&mut *reader, MAX_LINE).read_until(b'\n', &mut line)?;
    if read as u64 == MAX_LINE && line.last() != Some(&b'\n') {
        line.truncate(64);
        skip_line(reader)?;
    }
    Ok((read > 0).then_some(line))
}

fn skip_line(reader: &mut dyn BufRead) -> io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        let end = buffer.iter().position(|&c| c == b'\n');
        let (used, done) = end.map_or((buffer.len(), buffer.is_empty()), |at| (at + 1, true));
        reader.consume(used);
        if done {
            return Ok(());
        }
    }
}

/// One case.
#[derive(Deserialize)]
struct EvalCase {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    namespace: Option<String>,
    image: String,
    #[serde(default)]
    digest: Option<String>,
    #[serde(default)]
    trust: Option<EvalTrust>,
    #[serde(default)]
    va: Option<EvalVa>,
}

/// Who signed. `signers: null` means that there is no trust data.
#[derive(Default, Deserialize)]
struct EvalTrust {
    #[serde(default)]
    signers: Option<Vec<String>>,
    #[serde(default)]
    simple: Option<Vec<String>>,
    #[serde(default)]
    error: Option<String>,
}

/// An assessment in IBM's terms.
#[derive(Deserialize)]
struct EvalVa {
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    issues: Issues,
}

/// A count, or a list.
#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Issues {
    #[default]
    None,
    Count(usize),
    Each(Vec<CaseIssue>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum CaseIssue {
    Id(String),
    Full {
        id: String,
        #[serde(default)]
        severity: Option<String>,
        #[serde(default)]
        package: Option<String>,
        #[serde(default)]
        fixed: Option<String>,
        #[serde(default)]
        exempt: bool,
    },
}

/// The answer, or the case's `id` and what is wrong with it.
fn answer(rules: &RuleSet, line: &[u8]) -> Result<Value, (Value, String)> {
    let value: Value = serde_json::from_slice(line).map_err(|error| (Value::Null, error.to_string()))?;
    let id = value.get("id").cloned().unwrap_or_default();
    judge(rules, value).map_err(|why| (id, why))
}

fn judge(rules: &RuleSet, value: Value) -> Result<Value, String> {
    let case: EvalCase = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let scope: Scope = case.namespace.as_deref().unwrap_or_default().parse().map_err(|e| format!("namespace: {e}"))?;
    let digest = case.digest.as_deref().map(str::parse::<Digest>).transpose().map_err(|e| format!("digest: {e}"))?;
    let Ok(reference) = case.image.parse::<ImageReference>() else {
        return Ok(line_of(&case.id, "deny", Some("policy"), false, &invalid_name(&case.image)));
    };
    // The evidence is about some content; if the case does not name it, any digest will do.
    let digest = reference.digest.or(digest).unwrap_or_else(|| Digest::sha256(case.image.as_bytes()));
    let subject = subject(reference, scope);
    let (enforced, audited) = match rules.select(&subject) {
        Selection::Entries { enforced, audited } => (enforced, audited),
        Selection::Deny(_) => {
            let denial = no_match(&subject, rules.no_match_message(&case.image, &subject.scope));
            return Ok(denied(&case.id, &denial, false));
        }
    };
    let weighed =
        |entries: Vec<Selected>| entries.into_iter().map(|one| opinion(&case, &subject, digest, one)).collect();
    let (enforced, audited): (Vec<_>, Vec<_>) = (weighed(enforced), weighed(audited));
    let (enforced_opinions, audited_opinions) = (opinions(&enforced), opinions(&audited));
    let decision = decide(&Opinions {
        subject: &subject,
        digest,
        mode: rules.mode(),
        enforced: &enforced_opinions,
        audited: &audited_opinions,
    });
    let consulted = deciding(&enforced, &audited, |(opinion, _)| opinion).is_some_and(|(_, consulted)| *consulted);
    Ok(match decision {
        Ok(permit) => {
            let message = match permit.would_deny().first() {
                Some(denial) => format!("audit mode: {denial}"),
                None => format!("admitted by {} \"{}\"", permit.document(), permit.rule()),
            };
            line_of(&case.id, "admit", None, consulted, &message)
        }
        Err(denial) => denied(&case.id, &denial, consulted),
    })
}

fn opinions(weighed: &[(Opinion, bool)]) -> Vec<&Opinion> {
    weighed.iter().map(|(opinion, _)| opinion).collect()
}

/// The outcome of an entry for a case, and whether it needed vulnerabilities.
fn opinion(case: &EvalCase, subject: &crate::policy::Subject, digest: Digest, selected: Selected) -> (Opinion, bool) {
    let evidence = EvalEvidence::of(case, &selected);
    let outcome = weigh(&evidence.question(subject, digest, &selected));
    (Opinion { selected, outcome }, evidence.va.is_some())
}

fn denied(id: &Value, denial: &Denial, va_consulted: bool) -> Value {
    line_of(id, "deny", Some(denial.stage.as_str()), va_consulted, &denial.to_string())
}

fn line_of(id: &Value, decision: &str, stage: Option<&str>, va_consulted: bool, message: &str) -> Value {
    json!({"id": id, "decision": decision, "stage": stage, "va_consulted": va_consulted, "message": message})
}

/// The evidence of a case, as the gate would have found it.
#[derive(Default)]
struct EvalEvidence {
    trust: TrustFindings,
    /// `None` if none is needed: the rule has no `va`, or signatures deny first.
    va: Option<VaFindings>,
    /// A case lists no exemptions but those of its issues.
    exemptions: VaExemptions,
}

impl EvalEvidence {
    fn of(case: &EvalCase, selected: &Selected) -> Self {
        let none = EvalTrust::default();
        let trust = case.trust.as_ref().unwrap_or(&none);
        let mut own = TrustEvidence::default();
        let Some(rule) = &selected.rule else { return Self::default() };
        for authority in rule.authorities() {
            own.insert(authority.id().clone(), observed(outcome(&authority, trust)));
        }
        let trust = TrustFindings { own, ..TrustFindings::default() };
        let passes = trust_verdict(rule, Kind::Image, &trust, Timestamp::UNIX_EPOCH)
            .iter()
            .all(|verdict| matches!(verdict, Verdict::Pass(_) | Verdict::Skipped));
        let asked = passes && rule.va.is_some();
        let va = asked.then(|| VaFindings::Image(Arc::new(observed(assessment(case.va.as_ref())))));
        Self { trust, va, exemptions: VaExemptions::default() }
    }

    fn question<'a>(
        &'a self,
        subject: &'a crate::policy::Subject,
        digest: Digest,
        selected: &'a Selected,
    ) -> Question<'a> {
        let Self { trust, va, exemptions } = self;
        let (kind, va, now) = (Kind::Image, va.as_ref(), Timestamp::UNIX_EPOCH);
        Question { subject, digest, kind, selected, trust, va, exemptions, now }
    }
}

fn observed<T>(value: T) -> Observed<T> {
    Observed { value, at: Timestamp::UNIX_EPOCH, until: None }
}

/// An authority verified if the list has its name; Docker Content Trust verified if there is trust data by all required
/// signers. A missing secret is represented by its name: the evidence says that it verified.
fn outcome(authority: &Authority, trust: &EvalTrust) -> TrustOutcome {
    if let Some(why) = &trust.error {
        return TrustOutcome::unknown(why, false);
    }
    let listed = |name: &str| [&trust.signers, &trust.simple].into_iter().flatten().flatten().any(|n| n == name);
    let verified = listed(authority.name())
        || match authority.scheme() {
            Scheme::Notary(NotaryTrust { signers, .. }) => trust.signers.as_ref().is_some_and(|found| {
                let all = signers.iter().all(|signer| found.contains(&signer.name));
                all && (!signers.is_empty() || authority.name() == "notary")
            }),
            Scheme::Unusable { .. } => authority.name().split(',').all(listed),
            _ => false,
        };
    if verified {
        let signatory = |id| Signatory::assumed(id, authority);
        let by = authority.signers().into_iter().map(signatory).collect();
        return TrustOutcome::Verified { by, found: Vec::new(), unseen: None };
    }
    match authority.scheme() {
        Scheme::Unusable { why } => TrustOutcome::unknown(why, false),
        Scheme::Notary(NotaryTrust { signers, .. }) if trust.signers.is_some() && !signers.is_empty() => {
            let wanted: Vec<_> = signers.iter().map(|signer| &*signer.name).collect();
            trust_data(&format!("is not signed by all of {}", wanted.join(", ")))
        }
        Scheme::Notary(_) => trust_data("is not valid, or missing"),
        _ => TrustOutcome::Unverified { found: Vec::new() },
    }
}

fn trust_data(why: &str) -> TrustOutcome {
    TrustOutcome::Unverified { found: vec![SignatureFinding::refused("the case", "trust data", why)] }
}

/// IBM's status as evidence. With `OK` and `WARN`, no issue counts. With `FAIL`, its older name `BLOCK`, and every
/// unknown status, some issue does: if none is listed that could, one that always counts is added.
fn assessment(va: Option<&EvalVa>) -> VaEvidence {
    let Some(EvalVa { status: Some(status), issues }) = va else { return VaEvidence::Unscanned };
    let mut issues = listed(issues);
    match &**status {
        "UNSCANNED" => return VaEvidence::Unscanned,
        "INCOMPLETE" => return VaEvidence::Incomplete { why: String::new() },
        "UNSUPPORTED" => return VaEvidence::Unsupported { why: String::new() },
        "OK" => issues.clear(),
        "WARN" => {
            issues.iter_mut().for_each(|issue| issue.exempt = true);
            if issues.is_empty() {
                issues.push(Issue { exempt: true, ..issue("exempt issue") });
            }
        }
        _ if issues.iter().all(|issue| issue.exempt) => issues.push(issue(&format!("status {status}"))),
        _ => {}
    }
    VaEvidence::Report(Report {
        source: "policy eval".into(),
        generated_at: Some(Timestamp::UNIX_EPOCH),
        issues,
        ..Report::default()
    })
}

fn listed(issues: &Issues) -> Vec<Issue> {
    let each = |one: &CaseIssue| match one {
        CaseIssue::Id(id) => issue(id),
        CaseIssue::Full { id, severity, package, fixed, exempt } => Issue {
            kind: IssueKind::Vulnerability,
            severity: severity.as_deref().and_then(|text| text.parse().ok()).unwrap_or(Severity::Unknown),
            packages: vec![AffectedPackage {
                name: package.clone().unwrap_or_default(),
                fixed: fixed.clone(),
                ..AffectedPackage::default()
            }],
            exempt: *exempt,
            ..issue(id)
        },
    };
    match issues {
        Issues::None => Vec::new(),
        Issues::Count(count) => (1..=(*count).min(1000)).map(|n| issue(&format!("issue {n}"))).collect(),
        Issues::Each(list) => list.iter().map(each).collect(),
    }
}

/// An issue that counts under every rule.
fn issue(id: &str) -> Issue {
    Issue::new(id, IssueKind::Configuration, Severity::Unknown)
}
