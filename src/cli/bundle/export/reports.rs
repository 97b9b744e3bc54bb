//! The reports of other scanners about the images of a bundle: files in the directories of `va.reports`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::ExportArgs;
use crate::cli::CommandError;
use crate::cli::bundle::archive::BundleWriter;
use crate::cli::bundle::layout::{BundleLayer, MAX_REPORT_BYTES, MAX_REPORTS, REPORT_TYPE};
use crate::cli::output::counted;
use crate::oci::Digest;
use crate::runtime::{Clock, read_plain_file, rounded_size};
use crate::va::{MAX_REPORT, report_subjects, reports_about};

/// The directories to read; none without `--with-reports`.
pub(super) fn directories(args: &ExportArgs) -> Result<Vec<PathBuf>, CommandError> {
    if !args.with_reports {
        return Ok(Vec::new());
    }
    let config = crate::cli::config::load_or_error(args.gate.config.as_deref())?;
    match config.va.reports.is_empty() {
        true => Err("--with-reports: va.reports names no directory, so this gate has no reports".to_owned().into()),
        false => Ok(config.va.reports),
    }
}

/// Writes the files that are about images with these digests. Unreadable files are named, because they may be about
/// these images, too.
pub(super) fn write(
    directories: &[PathBuf],
    images: &BTreeSet<Digest>,
    writer: &mut BundleWriter,
) -> Result<Vec<BundleLayer>, String> {
    let found = reports_about(directories, images, Clock::system().now());
    found.problems.iter().for_each(|problem| eprintln!("warning: not exported: {problem}"));
    let mut layers: Vec<BundleLayer> = Vec::new();
    for path in &found.files {
        let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let bytes = read_plain_file(path, MAX_REPORT).map_err(|error| failed(&error))?;
        // It may have been replaced since, and an import refuses a report on other images.
        let is_about = report_subjects(&bytes, images).map_err(|error| failed(&error))?.has_image;
        let (digest, size) = (Digest::sha256(&bytes), bytes.len() as u64);
        if !is_about || writer.has(digest) {
            continue;
        }
        writer.put_blob(digest, size, &mut |write| write(&bytes).map_err(|error| error.to_string()))?;
        layers.push(BundleLayer { media_type: REPORT_TYPE, digest, size, title: crate::api::report_file_name(digest) });
        check_size(layers.len(), layers.iter().map(|layer| layer.size).sum())?;
    }
    Ok(layers)
}

/// Refuses more reports than an import reads.
fn check_size(count: usize, bytes: u64) -> Result<(), String> {
    if count <= MAX_REPORTS && bytes <= MAX_REPORT_BYTES {
        return Ok(());
    }
    let most = counted(MAX_REPORTS, "file", "files");
    Err(format!(
        "the reports on these images are more than {most} or {}; export fewer images at once",
        rounded_size(MAX_REPORT_BYTES)
    ))
}
