//! The reports of a bundle. They decide which vulnerabilities their images have, so they are put into use only if the
//! operator asks for that, and the gate records it first.
//!
//! A bundle's sender chooses neither where they are written nor their names, which are made of their digests, and each
//! must be about an image of the bundle, or contain a VEX statement that names no image.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;

use super::ImportArgs;
use super::roots::write_new;
use crate::api::{ReportsRequest, path, report_file_name, report_names};
use crate::cli::CommandError;
use crate::cli::bundle::archive::BundleArchive;
use crate::cli::bundle::layout::{MAX_REPORT_BYTES, MAX_REPORTS};
use crate::cli::bundle::reading::OpenedBundle;
use crate::cli::output::counted;
use crate::cli::remote::post;
use crate::oci::{Descriptor, Digest, MAX_MANIFEST, Manifest};
use crate::runtime::parent_folder;
use crate::va::{MAX_REPORT, ReportSubjects, report_subjects};

/// The verified reports of a bundle that are to be put into use.
#[derive(Debug, Default)]
pub(super) struct CarriedReports {
    /// The first directory of `va.reports`.
    folder: PathBuf,
    reports: BTreeSet<Digest>,
    /// The number of their VEX statements that name no image.
    on_any: usize,
}

impl CarriedReports {
    /// Examines the reports and finds the directory for them, or returns why they are not used. Writes nothing.
    pub(super) fn read(
        args: &ImportArgs,
        archive: &BundleArchive,
        bundle: &OpenedBundle,
    ) -> Result<Self, CommandError> {
        match &bundle.reports[..] {
            [] if args.with_reports => eprintln!("the bundle has no reports"),
            [] => {}
            _ if args.dry_run => eprintln!("the reports of the bundle are not used in a dry run"),
            reports if !args.with_reports => eprintln!(
                "the bundle has {}, which are not used: --with-reports puts them into use, and then they decide about the \
                 images that they name, and VEX statements that name none about all images",
                counted(reports.len(), "file of reports", "files of reports")
            ),
            reports => return Self::verified(args, archive, bundle, reports),
        }
        Ok(Self::default())
    }

    fn verified(
        args: &ImportArgs,
        archive: &BundleArchive,
        bundle: &OpenedBundle,
        described: &[Descriptor],
    ) -> Result<Self, CommandError> {
        let bytes = described.iter().fold(0, |sum: u64, report| sum.saturating_add(report.size));
        if described.len() > MAX_REPORTS || bytes > MAX_REPORT_BYTES {
            return Err(archive.wrong("it has more reports than are read; nothing is imported").into());
        }
        let config = crate::cli::config::load_or_error(args.gate.config.as_deref())?;
        let folder = config.va.reports.into_iter().next();
        let folder = folder.ok_or("--with-reports: va.reports names no directory, so this gate reads no reports")?;
        let images = names_of_images(archive, bundle)?;
        let (mut reports, mut on_any) = (BTreeSet::new(), 0);
        for report in described {
            let wrong = |why: &str| archive.wrong(format!("the report {} {why}; nothing is imported", report.digest));
            match report_subjects(&archive.small_blob(report.digest, report.size.min(MAX_REPORT))?, &images) {
                Ok(ReportSubjects { has_image: false, .. }) => {
                    return Err(wrong("is not about any image of the bundle").into());
                }
                // A bundle may list a file twice.
                Ok(found) if reports.insert(report.digest) => on_any += found.on_any,
                Ok(_) => {}
                Err(why) => return Err(wrong(&format!("cannot be read: {why}")).into()),
            }
        }
        Ok(Self { folder, reports, on_any })
    }

    /// Writes the reports to the directory, once the gate has recorded it. Returns their digests.
    pub(super) fn put_into_use(self, args: &ImportArgs, archive: &BundleArchive) -> Result<Vec<Digest>, CommandError> {
        let (folder, on_any) = (&self.folder, self.on_any);
        let reports: Vec<Digest> = self.reports.into_iter().collect();
        if reports.is_empty() {
            return Ok(reports);
        }
        let request = ReportsRequest { reports };
        let recorded = post::<IgnoredAny>(&args.gate, path::BUNDLE_REPORTS, &request);
        recorded.map_err(|error| format!("the reports are not imported: {error}"))?;
        create_readable(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        request.reports.iter().try_for_each(|digest| write(folder, archive, *digest))?;
        let files = counted(request.reports.len(), "file of reports", "files of reports");
        eprintln!("wrote {files} to {}", folder.display());
        if on_any > 0 {
            let (one, many) = ("VEX statement names no image and applies", "VEX statements name no image and apply");
            eprintln!("{} to ALL images of this gate, not only to those of the bundle", counted(on_any, one, many));
        }
        Ok(request.reports)
    }
}

/// Creates a directory that the gate can read, with its parents, whatever the umask. Existing directories are not
/// changed.
fn create_readable(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    create_readable(parent_folder(folder))?;
    std::fs::create_dir(folder)?;
    std::fs::set_permissions(folder, Permissions::from_mode(0o755))
}

/// The gate may run as another user than this command, and must be able to read it.
fn write(folder: &Path, archive: &BundleArchive, digest: Digest) -> Result<(), String> {
    let path = folder.join(report_file_name(digest));
    let bytes = archive.small_blob(digest, MAX_REPORT)?;
    write_new(&path, &bytes, 0o644).map_err(|error| format!("{}: {error}", path.display()))
}

/// The digests by which reports name the images of a bundle, from their verified manifests.
fn names_of_images(archive: &BundleArchive, bundle: &OpenedBundle) -> Result<BTreeSet<Digest>, String> {
    let mut names = BTreeSet::new();
    for described in bundle.document.images.iter().flat_map(|image| &image.manifests) {
        if !described.is_attached {
            let bytes = archive.small_blob(described.digest, MAX_MANIFEST as u64)?;
            let manifest = Manifest::parse(bytes.into(), Some(&described.media_type));
            let manifest =
                manifest.map_err(|error| archive.wrong(format!("manifest {}: {error}", described.digest)))?;
            names.extend(report_names(&manifest).chain([described.digest]));
        }
    }
    Ok(names)
}
