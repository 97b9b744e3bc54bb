//! `pullgate policy`: check documents, show which entry wins, import policies of podman and skopeo, and replay
//! decisions for given evidence. Offline.

mod command;
mod eval;
mod import;
mod unread;

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

pub(super) use command::{PolicyCommand, run};
pub use eval::eval;
pub use import::import;

use super::output::counted;
use super::{Output, problem_json};
use crate::markup::ProblemSeverity;
use crate::oci::{ImageName, ImageReference, docker_hub_repository};
use crate::policy::{EvidenceSources, RuleSet, Selected, Selection, Settings, Subject};
use crate::rulebook::{Directory, DocumentSource};
use crate::scope::Scope;

/// Success; there may be warnings and notes.
pub const EXIT_OK: u8 = 0;
/// Something cannot be read, or a case of `policy eval` is malformed.
pub const EXIT_FAILURE: u8 = 1;
/// `policy check` found an error, or a case of `policy eval` has another decision than it expects.
pub const EXIT_FINDINGS: u8 = 2;
/// `policy match` and `policy eval`: the documents have errors, or the namespace is not valid.
pub const EXIT_CONFIGURATION: u8 = 78;

/// The JSON Schema (draft 7) of documents of `pullgate.io/v1`. A test compares it with the parser.
const SCHEMA: &str = include_str!("../../docs/policy.schema.json");

/// Where a command prints.
pub struct Streams<'a> {
    /// Standard output.
    pub out: &'a mut dyn Write,
    /// Standard error.
    pub err: &'a mut dyn Write,
}

/// `policy check PATH`: all problems of all documents of a directory, or of one file. With the `sources` of a gate,
/// also entries that can only deny or match no image there. Exit codes: 0 without errors, 2 with, 1 when anything
/// cannot be read.
///
/// # Errors
/// When the output cannot be written.
pub fn check(
    dir: &Path,
    settings: &Settings,
    sources: Option<&EvidenceSources>,
    output: Output,
    streams: &mut Streams<'_>,
) -> io::Result<u8> {
    let (snapshot, unreadable) = Directory::or_file(dir).examine();
    for error in &unreadable {
        writeln!(streams.err, "pullgate: {error}")?;
    }
    // What can be read may have mistakes, too.
    if snapshot.documents.is_empty() && !unreadable.is_empty() {
        return Ok(EXIT_FAILURE);
    }
    let mut parsed = RuleSet::parse(&snapshot.documents, &*snapshot.materials, settings);
    parsed.problems.extend(snapshot.warnings);
    parsed.problems.extend(unread::ignore_files(dir, settings));
    if let (Some(rules), Some(sources)) = (&parsed.rules, sources) {
        // One file alone need not have an entry for each registry.
        if dir.is_dir() {
            parsed.problems.extend(rules.unselected(sources));
        }
        parsed.problems.extend(rules.problems_with(sources));
    }
    for problem in &parsed.problems {
        match output {
            Output::Json => writeln!(streams.out, "{}", problem_json(problem))?,
            Output::Table => writeln!(streams.out, "{problem}")?,
        }
    }
    if output == Output::Table {
        let count = |severity| parsed.problems.iter().filter(|problem| problem.severity == severity).count();
        let (errors, warnings) = (count(ProblemSeverity::Error) + unreadable.len(), count(ProblemSeverity::Warning));
        let rules = parsed.rules.as_ref().filter(|_| unreadable.is_empty()).map(|rules| {
            let policies = counted(rules.documents(), "policy", "policies");
            format!("{policies} with {}: ", counted(rules.len(), "entry", "entries"))
        });
        let (errors, warnings) = (counted(errors, "error", "errors"), counted(warnings, "warning", "warnings"));
        writeln!(streams.out, "{}{errors}, {warnings}", rules.unwrap_or_default())?;
    }
    Ok(match parsed.rules {
        _ if !unreadable.is_empty() => EXIT_FAILURE,
        Some(_) => EXIT_OK,
        None => EXIT_FINDINGS,
    })
}

/// `policy match --policies DIR [--namespace NS] IMAGE...`: which document and entry win. If the registries of a gate
/// are known, images are named as this gate names them. Exit codes: 0 whatever the outcomes, 78 if the documents have
/// errors or the namespace is not valid, 1 if the directory cannot be read.
///
/// # Errors
/// When the output cannot be written.
pub fn match_images(
    policies: &Path,
    namespace: &str,
    images: &[String],
    settings: &Settings,
    sources: Option<&EvidenceSources>,
    output: Output,
    streams: &mut Streams<'_>,
) -> io::Result<u8> {
    let rules = match load(policies, settings, streams.err)? {
        Ok(rules) => rules,
        Err(code) => return Ok(code),
    };
    let Ok(scope) = namespace.parse::<Scope>() else {
        writeln!(streams.err, "pullgate: {namespace:?} is not a valid namespace")?;
        return Ok(EXIT_CONFIGURATION);
    };
    for image in images {
        if let Some(note) = not_served(image, sources) {
            writeln!(streams.err, "{note}")?;
        }
        let found = match_one(&rules, image, &scope, sources);
        match output {
            Output::Json => writeln!(streams.out, "{found}")?,
            Output::Table => {
                let text = |key: &str| found[key].as_str().unwrap_or("-").to_owned();
                let (source, document) = (text("source"), text("document"));
                let (outcome, entry, message) = (text("outcome"), text("repository"), text("message"));
                writeln!(streams.out, "{image}\t{outcome}\t{source}/{document}\t{entry}\t{message}")?;
            }
        }
    }
    Ok(EXIT_OK)
}

/// The rules of a directory; else its problems on `err`, and the exit code.
fn load(dir: &Path, settings: &Settings, err: &mut dyn Write) -> io::Result<Result<RuleSet, u8>> {
    let snapshot = match Directory::or_file(dir).snapshot() {
        Ok(snapshot) => snapshot,
        Err(error) => {
            writeln!(err, "pullgate: {error}")?;
            return Ok(Err(EXIT_FAILURE));
        }
    };
    let parsed = RuleSet::parse(&snapshot.documents, &*snapshot.materials, settings);
    let unread = unread::ignore_files(dir, settings);
    for problem in parsed.problems.iter().chain(&unread).filter(|problem| problem.severity != ProblemSeverity::Note) {
        writeln!(err, "{problem}")?;
    }
    Ok(parsed.rules.ok_or(EXIT_CONFIGURATION))
}

fn match_one(rules: &RuleSet, image: &str, scope: &Scope, sources: Option<&EvidenceSources>) -> Value {
    let answer = |source: &str, document: Option<&str>, entry: Option<&str>, outcome: &str, message: &str| {
        json!({
            "image": image, "namespace": scope.to_string(), "source": source, "document": document,
            "repository": entry, "outcome": outcome, "message": message,
        })
    };
    let Ok(reference) = image.parse::<ImageReference>() else {
        return answer("none", None, None, "deny", &invalid_name(image));
    };
    let reference = match named_by_gate(reference, sources) {
        Ok(reference) => reference,
        Err(refused) => return answer("none", None, None, "deny", &refused),
    };
    let all = subject(reference, scope.clone());
    let (enforced, audited) = match rules.select(&all) {
        Selection::Entries { enforced, audited } => (enforced, audited),
        Selection::Deny(_) => return answer("none", None, None, "deny", &rules.no_match_message(image, scope)),
    };
    // The digest takes precedence; a tag next to it counts only if the gate knows that it refers to the digest.
    let own = match rules.select(&Subject { known_tags: Vec::new(), ..all }) {
        Selection::Entries { enforced, audited } => enforced.into_iter().chain(audited).next(),
        Selection::Deny(_) => None,
    };
    let Some(selected) = own.as_ref().or(enforced.first()).or(audited.first()) else {
        return answer("none", None, None, "deny", &rules.no_match_message(image, scope));
    };
    let (source, document) = selected.document.split_once('/').unwrap_or(("none", ""));
    let (outcome, message) = checks(selected);
    let by_tag = enforced.iter().filter(|one| *one != selected).map(|one| {
        let (_, message) = checks(one);
        format!("; if the gate knows the tag, also {} {:?}: {message}", one.document, one.entry)
    });
    let message = std::iter::once(message).chain(by_tag).collect::<String>();
    let mut found = answer(source, Some(document), Some(&selected.entry), outcome, &message);
    if !audited.is_empty() && !enforced.is_empty() {
        found["audited"] = audited.iter().map(|one| format!("{} {:?}", one.document, one.entry)).collect();
    }
    found
}

/// Portieris' wording.
fn invalid_name(image: &str) -> String {
    format!("Deny \"{image}\", invalid image name")
}

/// An image by the name that the policies of a gate see: with the host of its upstream, also if a client writes an
/// alias. Without the registries of a gate, the name that was written.
///
/// # Errors
/// If Docker Hub cannot have a repository of this name.
fn named_by_gate(reference: ImageReference, sources: Option<&EvidenceSources>) -> Result<ImageReference, String> {
    let upstream = sources.and_then(|sources| sources.registry(&reference.name.host));
    // Policies are written for several gates: an image of a registry that this one does not serve keeps its name.
    let Some(host) = upstream.map(|upstream| upstream.host.clone()) else { return Ok(reference) };
    let path = reference.name.repository.as_str();
    let repository = if host.is_docker_hub() { docker_hub_repository(path) } else { path.parse() };
    let repository = repository.map_err(|invalid| invalid.to_string())?;
    Ok(ImageReference { name: ImageName { host, repository }, ..reference })
}

/// Says that a gate does not serve the registry of an image, so that no policy decides about it.
fn not_served(image: &str, sources: Option<&EvidenceSources>) -> Option<String> {
    let sources = sources.filter(|sources| !sources.registries.is_empty())?;
    let reference = image.parse::<ImageReference>().ok()?;
    let host = &reference.name.host;
    let note = || format!("note: {image}: {host} is not an upstream of this gate, which refuses its images");
    sources.registry(host).is_none().then(note)
}

/// The subject of an image reference. A tag next to a digest is a known name of that digest.
fn subject(reference: ImageReference, scope: Scope) -> Subject {
    let asked = reference.reference();
    let mut subject = Subject::new(reference.name, asked, scope);
    if reference.digest.is_some() {
        subject.known_tags.extend(reference.tag);
    }
    subject
}

fn checks(selected: &Selected) -> (&'static str, String) {
    let Some(rule) = selected.rule.as_ref().filter(|rule| !rule.admits_all()) else {
        return ("allow", "no checks".into());
    };
    let names = [("trust", rule.trust.is_some()), ("simple", rule.simple.is_some()), ("va", rule.va.is_some())];
    let asked: Vec<_> = names.iter().filter(|(_, asked)| *asked).map(|(name, _)| *name).collect();
    ("rule", format!("checks: {}", asked.join(", ")))
}

#[cfg(test)]
mod tests;
