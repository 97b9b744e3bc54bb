//! `Exemption` documents of `pullgate.io/v1`. Every unknown key is an error.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::envelope::ExemptionObject;
use super::{CONFIGURATION, Context, ignore_files, lint};
use crate::markup::{Fields, Place, ProblemSeverity};
use crate::policy::rules::exemption::{
    ExemptPackage, ExemptionRecord, ExemptionScope, ExemptionSet, MAX_EXEMPTIONS, expiry,
};

/// The exemptions of all documents and ignore files.
pub(super) fn all(objects: &[ExemptionObject<'_>], context: &Context<'_>) -> ExemptionSet {
    let mut records = ignore_files::read(context.settings, context.materials, context.problems);
    records.extend(of_documents(objects, context.settings.now));
    if records.len() > MAX_EXEMPTIONS {
        let place = Place::whole(context.problems.file(CONFIGURATION));
        let message =
            format!("the documents and ignore files have {} exemptions; at most {MAX_EXEMPTIONS}", records.len());
        context.problems.error(place, message);
    }
    records.into_iter().collect()
}

fn of_documents(objects: &[ExemptionObject<'_>], now: Option<Timestamp>) -> Vec<ExemptionRecord> {
    let mut known: HashMap<Arc<str>, &str> = HashMap::new();
    let mut names = HashSet::new();
    let mut records = Vec::new();
    for object in objects {
        if !names.insert(object.name) {
            let message =
                format!("two documents are called Exemption/{}: a cluster keeps only one of them", object.name);
            object.spec.warn(message, "give each a name of its own");
        }
        let Some(record) = record(object, now) else { continue };
        if let Some(first) = known.insert(record.id.clone(), object.name) {
            object.spec.error_hint(format!("exempts the same as Exemption/{first}"), "remove one of them");
        }
        records.push(record);
    }
    records
}

/// `None` after an error was reported.
fn record(object: &ExemptionObject<'_>, now: Option<Timestamp>) -> Option<ExemptionRecord> {
    let spec = &object.spec;
    lint::empty_keys(spec.members(), spec.problems);
    spec.only(&["scope", "issueType", "issueId", "package", "expires", "reason", "by"]);
    let required = ["scope", "issueType"].map(|key| spec.required(key));
    let (scope, kind) = (spec.value("scope"), spec.value("issueType"));
    let package = spec.get("package").map(|_| spec.value("package"));
    let expires = spec.get("expires").map(|_| end(spec, now));
    let [Some(_), Some(_)] = required else { return None };
    let (package, expires) =
        (package.map_or(Some(None), |found| found.map(Some))?, expires.map_or(Some(None), |found| found.map(Some))?);
    let scope: ExemptionScope = scope?;
    if let Some(name) = scope.docker_hub_namespace() {
        let message =
            format!("scope docker.io/{name} is the namespace {name}, without the official image of that name");
        let hint = format!("for the image write docker.io/library/{name}");
        spec.report_key(ProblemSeverity::Note, "scope", &message, Some(&hint));
    }
    if let Some(Err(invalid)) = package.clone().map(ExemptPackage::of_reports) {
        spec.report_key(ProblemSeverity::Warning, "package", &invalid.to_string(), None);
    }
    let record = ExemptionRecord::new(scope, kind?, spec.text("issueId"), package)
        .and_then(|record| record.explained(spec.text("by"), spec.text("reason")));
    let record = record.map_err(|invalid| spec.error(format!("Exemption/{}: {invalid}", object.name))).ok()?;
    Some(ExemptionRecord { expires, document: Some(format!("Exemption/{}", object.name).into()), ..record })
}

/// The end of an exemption. `None` after an error was reported.
fn end(spec: &Fields<'_>, now: Option<Timestamp>) -> Option<Timestamp> {
    let text = spec.text("expires")?;
    match expiry(text) {
        Ok(end) => {
            if now.is_some_and(|now| end <= now) {
                let message = format!("the exemption has no effect: it ended on {end}");
                spec.report_key(
                    ProblemSeverity::Warning,
                    "expires",
                    &message,
                    Some("remove the document, or extend it"),
                );
            }
            Some(end)
        }
        Err(invalid) => {
            spec.report_key(ProblemSeverity::Error, "expires", &format!("{text:?}: {invalid}"), None);
            None
        }
    }
}
