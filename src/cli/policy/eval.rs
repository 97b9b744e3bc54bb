//! `policy eval`: decisions for given evidence, one case per line. The decision is the gate's; only the evidence is
//! made here.

mod case;
mod evidence;
mod exemptions;
mod keys;
mod twice;

use std::io::{self, BufRead, Read};
use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{EXIT_FAILURE, EXIT_FINDINGS, EXIT_OK, Streams, invalid_name, load, named_by_gate, subject};
use crate::oci::{Digest, ImageReference};
use crate::policy::{
    Denial, DenialKind, EvidenceSources, ExemptedImage, Opinion, Opinions, Permit, RuleSet, Selected, Selection,
    Settings, decide, deciding, no_match, weigh,
};
use crate::runtime::Clock;
use crate::scope::Scope;
use case::EvalCase;
use evidence::EvalEvidence;

/// The longest line, in bytes.
const MAX_LINE: u64 = 1024 * 1024;

/// `policy eval --policies DIR < cases.jsonl`: one decision per line. A malformed case gives a denial with an `error`
/// for its `id`, and exit code 1 at the end; a case with another decision than it expects is `failed`, and the code is
/// 2. Otherwise the code is 0, or 78 if the documents have errors. Images are named as in
/// [`match_images`](super::match_images).
///
/// # Errors
/// If the cases cannot be read or the output cannot be written.
pub fn eval(
    policies: &Path,
    settings: &Settings,
    sources: Option<&EvidenceSources>,
    reader: &mut dyn BufRead,
    streams: &mut Streams<'_>,
) -> io::Result<u8> {
    let rules = match load(policies, settings, streams.err)? {
        Ok(rules) => rules,
        Err(code) => return Ok(code),
    };
    let now = Clock::system().now();
    let mut code = EXIT_OK;
    while let Some(line) = next_line(reader)? {
        // Some editors and shells begin a file with a byte order mark, and files may have been joined.
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line);
        if line.trim_ascii().is_empty() {
            continue;
        }
        let answer = answer(&rules, sources, line, now).unwrap_or_else(|(id, why)| {
            code = EXIT_FAILURE;
            let mut answer = line_of(&id, "deny", None, false, &format!("malformed case: {why}"));
            answer["error"] = why.into();
            answer
        });
        if code == EXIT_OK && answer["failed"] == true {
            code = EXIT_FINDINGS;
        }
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

/// The answer, or the case's `id` and what is wrong with it.
fn answer(
    rules: &RuleSet,
    sources: Option<&EvidenceSources>,
    line: &[u8],
    now: Timestamp,
) -> Result<Value, (Value, String)> {
    let value: Value = serde_json::from_slice(line).map_err(|error| (Value::Null, error.to_string()))?;
    if !value.is_object() {
        return Err((Value::Null, "a case is a JSON object".to_owned()));
    }
    let id = value.get("id").cloned().unwrap_or_default();
    if let Some(why) = std::str::from_utf8(line).ok().and_then(twice::duplicate_key) {
        return Err((id, why));
    }
    let expected = match value.get("expect").map(|expected| (expected, expected.as_str())) {
        None => None,
        Some((_, Some(word @ ("admit" | "deny")))) => Some(word.to_owned()),
        // A test that is ignored passes.
        Some((other, _)) => return Err((id, format!("expect is \"admit\" or \"deny\", not {other}"))),
    };
    let mut answer = judge(rules, sources, value, now).map_err(|why| (id, why))?;
    if expected.is_some_and(|expected| answer["decision"] != *expected) {
        answer["failed"] = true.into();
    }
    Ok(answer)
}

fn judge(rules: &RuleSet, sources: Option<&EvidenceSources>, value: Value, now: Timestamp) -> Result<Value, String> {
    keys::check(&value)?;
    let case: EvalCase = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let scope: Scope = case.namespace.as_deref().unwrap_or_default().parse().map_err(|e| format!("namespace: {e}"))?;
    let digest = case.digest.as_deref().map(str::parse::<Digest>).transpose().map_err(|e| format!("digest: {e}"))?;
    let Ok(reference) = case.image.parse::<ImageReference>() else {
        return Ok(line_of(&case.id, "deny", Some("policy"), false, &invalid_name(&case.image)));
    };
    let reference = match named_by_gate(reference, sources) {
        Ok(reference) => reference,
        Err(refused) => return Ok(line_of(&case.id, "deny", Some("policy"), false, &refused)),
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
    let image = ExemptedImage::new(&subject, digest);
    let weighed = |entries: Vec<Selected>| -> Result<Vec<(Opinion, bool)>, String> {
        let opinion = |selected: Selected| {
            let exemptions = exemptions::of(&case, rules.exemptions(), &image, &selected)?;
            let evidence = EvalEvidence::of(&case, exemptions, &selected, now)?;
            let outcome = weigh(&evidence.question(&subject, digest, &selected));
            // Whether the entry needed vulnerabilities.
            Ok((Opinion { selected, outcome }, evidence.va.is_some()))
        };
        entries.into_iter().map(opinion).collect()
    };
    let (enforced, audited) = (weighed(enforced)?, weighed(audited)?);
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
        Ok(permit) => admitted(&case.id, &permit, consulted),
        Err(denial) => denied(&case.id, &denial, consulted),
    })
}

fn opinions(weighed: &[(Opinion, bool)]) -> Vec<&Opinion> {
    weighed.iter().map(|(opinion, _)| opinion).collect()
}

/// An admission, with its end and warnings if there are any.
fn admitted(id: &Value, permit: &Permit, va_consulted: bool) -> Value {
    let message = match permit.would_deny().first() {
        Some(denial) => format!("audit mode: {denial}"),
        None => format!("admitted by {} \"{}\"", permit.document(), permit.rule()),
    };
    let mut line = line_of(id, "admit", None, va_consulted, &message);
    if let Some(until) = permit.until() {
        line["until"] = until.to_string().into();
    }
    if !permit.warnings().is_empty() {
        line["warnings"] = permit.warnings().into();
    }
    line
}

/// A denial. `retry` means that it is not final: an assessment is under way or expected, or no source answers.
fn denied(id: &Value, denial: &Denial, va_consulted: bool) -> Value {
    let mut line = line_of(id, "deny", Some(denial.stage.as_str()), va_consulted, &denial.to_string());
    if denial.kind != DenialKind::Policy {
        line["retry"] = true.into();
    }
    line
}

fn line_of(id: &Value, decision: &str, stage: Option<&str>, va_consulted: bool, message: &str) -> Value {
    json!({"id": id, "decision": decision, "stage": stage, "va_consulted": va_consulted, "message": message})
}
