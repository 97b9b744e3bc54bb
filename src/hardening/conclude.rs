//! Draws conclusions about an image from the observations of all layers.

use std::collections::{BTreeSet, HashSet};

use super::places::must_be_enabled;
use super::{FileObservation, HardeningCheck, HardeningFinding, MAX_FINDINGS, ServerProgram, Superusers};
use crate::oci::Digest;

/// What was observed about a file of an image.
#[derive(Clone, Copy, Debug)]
pub struct ObservedFile<'a> {
    /// The path, without a leading `/`.
    pub path: &'a str,
    /// The layer that contains the file.
    pub layer: Digest,
    /// What was observed.
    pub observed: &'a [FileObservation],
    /// The layer that deletes or replaces the file; `None` if containers see it.
    pub gone: Option<Digest>,
}

/// The findings about an image's files, and its superusers. Required settings may be in any file that containers see.
/// In files that they do not see, only secrets count.
pub fn file_findings(files: &[ObservedFile<'_>]) -> (Vec<HardeningFinding>, Superusers) {
    let visible: Vec<_> = files.iter().filter(|file| file.gone.is_none()).collect();
    let enabled: BTreeSet<&str> = visible
        .iter()
        .flat_map(|file| file.observed)
        .filter_map(|observed| match observed {
            FileObservation::Enables(target) => Some(&**target),
            _ => None,
        })
        .collect();
    let visible: Vec<_> =
        visible.into_iter().filter(|file| !must_be_enabled(file.path) || enabled.contains(file.path)).collect();
    let mut findings: Vec<HardeningFinding> = visible.iter().flat_map(|file| unsafe_in(file)).collect();
    findings.extend(missing_settings(&visible));
    findings.extend(hidden_secrets(files, &findings));
    bound(&mut findings);
    let superusers = visible.iter().flat_map(|file| file.observed).filter_map(|observed| match observed {
        FileObservation::Superuser(name) => Some(name.clone()),
        _ => None,
    });
    (findings, superusers.collect())
}

/// The secrets and unsafe settings of one file.
fn unsafe_in(file: &ObservedFile<'_>) -> Vec<HardeningFinding> {
    let finding = |observed: &FileObservation| match observed {
        FileObservation::Unsafe { check, line, detail } => Some(HardeningFinding {
            check: *check,
            path: Some(file.path.to_owned()),
            line: *line,
            detail: detail.clone(),
            layer: Some(file.layer),
        }),
        _ => None,
    };
    file.observed.iter().filter_map(finding).collect()
}

/// A required setting that no file contains, at the first file that configures the program.
fn missing_settings(visible: &[&ObservedFile<'_>]) -> Vec<HardeningFinding> {
    let programs = [ServerProgram::Apache, ServerProgram::Mysql, ServerProgram::Nginx, ServerProgram::NginxTls];
    let mut findings = Vec::new();
    for program in programs {
        let configures = |file: &&&ObservedFile<'_>| file.observed.contains(&FileObservation::Configures(program));
        let Some(main) = visible.iter().find(configures) else { continue };
        for (check, name) in program.required() {
            let is_about = |observed: &FileObservation| match observed {
                FileObservation::Satisfies(known) => known == check,
                FileObservation::Unsafe { check: known, .. } => known == check,
                _ => false,
            };
            if !visible.iter().any(|file| file.observed.iter().any(is_about)) {
                findings.push(HardeningFinding {
                    check: *check,
                    path: Some(main.path.to_owned()),
                    line: None,
                    detail: format!("{name} is not specified"),
                    layer: Some(main.layer),
                });
            }
        }
    }
    findings
}

/// The secrets of files that containers do not see, unless they see the same secret at the same place.
fn hidden_secrets(files: &[ObservedFile<'_>], visible: &[HardeningFinding]) -> Vec<HardeningFinding> {
    let key = |finding: &HardeningFinding| (finding.path.clone(), finding.check, finding.detail.clone());
    let visible: HashSet<_> = visible.iter().map(key).collect();
    let mut hidden = Vec::new();
    for (file, by) in files.iter().filter_map(|file| Some((file, file.gone?))) {
        let secrets =
            unsafe_in(file).into_iter().filter(|finding| finding.check.is_secret() && !visible.contains(&key(finding)));
        hidden.extend(secrets.map(|secret| HardeningFinding {
            check: HardeningCheck::SecretDeletedFile,
            detail: format!("{}; deleted or replaced by the layer {}", secret.detail, by.short()),
            ..secret
        }));
    }
    hidden
}

/// Sorts the findings, and keeps as many as a report can hold.
fn bound(findings: &mut Vec<HardeningFinding>) {
    findings.sort_by(|one, other| (one.check, &one.path, one.line).cmp(&(other.check, &other.path, other.line)));
    findings.dedup();
    if let Some(more) = findings.len().checked_sub(MAX_FINDINGS).filter(|more| *more > 0) {
        findings.truncate(MAX_FINDINGS);
        let detail = match more {
            1 => "1 finding is left out".to_owned(),
            more => format!("{more} findings are left out"),
        };
        findings.push(HardeningFinding {
            check: HardeningCheck::FilesUnchecked,
            path: None,
            line: None,
            detail,
            layer: None,
        });
    }
}
