//! Configuration issues: unsafe settings in an image's configuration and files, as issues that policies weigh and
//! exemptions name. The checks are in `hardening`; `catalogue` has their identifiers and texts.

use serde_json::Value;

use crate::cache::{BlobReader, CacheError};
use crate::hardening::{HardeningCheck, HardeningFinding, ImageSettings, Superusers, image_findings};
use crate::oci::{Descriptor, json};
use crate::policy::{AffectedPackage, Issue, IssueKind, OWN_CHECKS};
use catalogue::{CheckText, checks};

mod catalogue;

/// The largest configuration of an image that is read, in bytes.
const MAX_CONFIG: u64 = 4 * 1024 * 1024;
/// The keys of an image's configuration that are read (image-spec, config.md).
const KEYS: [&str; 9] = ["os", "config", "User", "Env", "Entrypoint", "Cmd", "ExposedPorts", "history", "created_by"];

/// Reads the configuration that a manifest names; `Err` with the reason if clients may understand it differently.
///
/// # Errors
/// If the blob cannot be read.
pub(super) async fn read(
    reader: &BlobReader,
    config: &Descriptor,
) -> Result<Result<ImageSettings, String>, CacheError> {
    if config.size > MAX_CONFIG {
        return Ok(Err(format!("the configuration has {} bytes; at most {MAX_CONFIG} are read", config.size)));
    }
    Ok(parse(&reader.whole(config).await?))
}

fn parse(config: &[u8]) -> Result<ImageSettings, String> {
    let document = json::parse(config, &KEYS, &["Labels", "ExposedPorts", "Volumes"])
        .map_err(|error| format!("the configuration is ambiguous or invalid JSON: {error}"))?;
    let run = document.get("config").unwrap_or(&Value::Null);
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let texts = |value: Option<&Value>| match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect::<Option<Vec<String>>>()
            .ok_or("a list in the configuration contains values other than strings"),
        Some(_) => Err("a field of the configuration that must be a list is not one"),
    };
    let is_text = |value: Option<&Value>| value.is_none_or(|value| value.is_string() || value.is_null());
    if !document.is_object() || !is_text(document.get("os")) || !is_text(run.get("User")) {
        return Err("the configuration has fields of the wrong type".into());
    }
    let ports = run.get("ExposedPorts").and_then(Value::as_object);
    let history = document.get("history").and_then(Value::as_array).into_iter().flatten();
    Ok(ImageSettings {
        os: text(document.get("os")),
        user: text(run.get("User")),
        env: texts(run.get("Env"))?,
        command: [texts(run.get("Entrypoint"))?, texts(run.get("Cmd"))?].concat(),
        exposed_ports: ports.into_iter().flat_map(|ports| ports.keys().cloned()).collect(),
        history: history.map(|step| text(step.get("created_by"))).collect(),
    })
}

/// The findings about a configuration that was read, or that could not be.
pub(super) fn findings(settings: Result<ImageSettings, String>, superusers: &Superusers) -> Vec<HardeningFinding> {
    let unreadable = |detail| {
        vec![HardeningFinding { check: HardeningCheck::ImageUnreadable, path: None, line: None, detail, layer: None }]
    };
    settings.map_or_else(unreadable, |settings| image_findings(&settings, superusers))
}

/// One issue for each check that found something, with all places.
pub(super) fn issues(findings: &[HardeningFinding]) -> Vec<Issue> {
    let issue = |text: &CheckText| {
        let places: Vec<AffectedPackage> =
            findings.iter().filter(|finding| finding.check == text.check).map(place).collect();
        (!places.is_empty()).then(|| Issue {
            title: Some(text.practice.to_owned()),
            severity_source: Some(OWN_CHECKS.to_owned()),
            corrective_action: Some(text.action.to_owned()),
            packages: places,
            ..Issue::new(text.id(), IssueKind::Configuration, text.severity)
        })
    };
    checks().filter_map(issue).collect()
}

/// Where something was found.
fn place(finding: &HardeningFinding) -> AffectedPackage {
    let HardeningFinding { path, line, detail, layer, .. } = finding;
    let detail = match line {
        Some(line) if detail.is_empty() => format!("line {line}"),
        Some(line) => format!("line {line}: {detail}"),
        None => detail.clone(),
    };
    AffectedPackage {
        name: path.clone().unwrap_or_else(|| "the image's configuration".into()),
        path: path.clone(),
        layer: *layer,
        detail: Some(detail).filter(|detail| !detail.is_empty()),
        ..AffectedPackage::default()
    }
}

#[cfg(test)]
mod tests;
