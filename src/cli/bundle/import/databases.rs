//! The advisory databases of a bundle. They decide which vulnerabilities the whole gate knows, so they are put into use
//! only if the operator asks for that, and the gate records it first.

use std::io::{self, Read as _, Write as _};
use std::ops::ControlFlow;

use serde::de::IgnoredAny;

use super::{BuiltDatabase, ImportArgs};
use crate::advisories::{self, AdvisoryStore, GenerationManifest, ImportOptions, SourceStatus};
use crate::api::{AdvisoriesRequest, BundledDatabase, path};
use crate::cli::CommandError;
use crate::cli::bundle::archive::BundleArchive;
use crate::cli::remote::post;
use crate::oci::{Descriptor, Hasher};
use crate::runtime::{Clock, create_private_dir};

/// Puts the databases of a bundle into use, or reports why not.
pub(super) fn import_or_name(
    args: &ImportArgs,
    archive: &BundleArchive,
    described: Option<&Descriptor>,
) -> Result<Vec<BuiltDatabase>, CommandError> {
    match described {
        None if args.with_advisories => Err(archive.wrong("it has no advisory databases").into()),
        None => Ok(Vec::new()),
        Some(_) if args.dry_run => {
            eprintln!("the advisory databases of the bundle are not used in a dry run");
            Ok(Vec::new())
        }
        Some(_) if !args.with_advisories => {
            eprintln!(
                "the bundle has advisory databases, which are not used: --with-advisories puts them into use, and then they \
                 decide which vulnerabilities this gate knows; `pullgate db import` takes databases from elsewhere"
            );
            Ok(Vec::new())
        }
        Some(described) => import(args, archive, described),
    }
}

fn import(
    args: &ImportArgs,
    archive: &BundleArchive,
    described: &Descriptor,
) -> Result<Vec<BuiltDatabase>, CommandError> {
    let config = crate::cli::config::load_or_error(args.gate.config.as_deref())?;
    let state = &config.state_dir;
    create_private_dir(state).map_err(|error| format!("{}: {error}", state.display()))?;
    let store = AdvisoryStore::open(state).map_err(|error| error.to_string())?;
    let scratch = tempfile::tempdir_in(state).map_err(|error| format!("{}: {error}", state.display()))?;
    let path = scratch.path().join("advisories.tar");
    copy(archive, described, &path)?;
    let limits = config.va.databases.map(|databases| databases.sources.limits).unwrap_or_default();
    let options = ImportOptions { force: args.force, limits, ..ImportOptions::at(Clock::system().now()) };
    let in_use = store.status().map_err(|error| error.to_string())?;
    let mut record = |offered: &[&GenerationManifest]| {
        offered.iter().filter_map(|new| shrinks(&in_use, new)).for_each(|warning| eprintln!("warning: {warning}"));
        let request = AdvisoriesRequest { databases: offered.iter().map(|manifest| described_as(manifest)).collect() };
        let recorded = post::<IgnoredAny>(&args.gate, path::BUNDLE_ADVISORIES, &request);
        recorded.map(drop).map_err(|error| format!("nothing is imported: {error}"))
    };
    let mut progress = |_| ControlFlow::Continue(());
    let installed = advisories::import_if(&store, &path, &options, &mut progress, &mut record);
    let installed = installed.map_err(|error| format!("advisory databases: {error}"))?;
    for installed in &installed {
        let GenerationManifest { source, built, rows, kind, .. } = &installed.manifest;
        eprintln!("{source}: built {built}, {rows} {}, {}, imported", kind.rows(), installed.manifest.id());
    }
    Ok(installed.into_iter().map(|one| (one.manifest.source, one.manifest.built)).collect())
}

fn described_as(manifest: &GenerationManifest) -> BundledDatabase {
    BundledDatabase {
        source: manifest.source.clone(),
        built: manifest.built,
        digests: manifest.files.iter().map(|file| file.digest).collect(),
        rows: manifest.rows,
    }
}

/// A warning if a database has far fewer rows than the one in use.
fn shrinks(in_use: &[SourceStatus], new: &GenerationManifest) -> Option<String> {
    let known = in_use.iter().find(|status| status.source == new.source)?.generation.as_ref()?;
    let message = || {
        let (source, rows) = (&new.source, new.kind.rows());
        format!("{source}: {} {rows} instead of the {} of the database in use so far", new.rows, known.rows)
    };
    (new.rows < known.rows / 2).then(message)
}

/// Copies a blob of the archive to a file, and verifies it.
fn copy(archive: &BundleArchive, described: &Descriptor, path: &std::path::Path) -> Result<(), String> {
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    let mut file = std::fs::File::create_new(path).map_err(failed)?;
    let mut source = archive.blob(described.digest, described.size)?;
    let (mut hasher, mut piece) = (Hasher::new(described.digest.algorithm()), vec![0; 256 * 1024]);
    loop {
        match source.read(&mut piece).map_err(|error| archive.wrong(error))? {
            0 => break,
            read => {
                hasher.update(&piece[..read]);
                file.write_all(&piece[..read]).map_err(failed)?;
            }
        }
    }
    match hasher.finish() == described.digest {
        true => Ok(()),
        false => Err(archive.wrong("the advisory databases do not match their digest")),
    }
}
