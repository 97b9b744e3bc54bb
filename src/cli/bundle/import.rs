//! `pullgate bundle import`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use jiff::Timestamp;

use super::archive::BundleArchive;
use super::layout::MAX_ROOT;
use super::reading::OpenedBundle;
use crate::advisories::{self, AdvisoryStore, ImportOptions};
use crate::api::{BundledImage, ContentQuery, ImportOutcome, ImportRequest, ImportedImage, MissingRequest, path};
use crate::cli::remote::{ContentClient, post, progress_bar, run_job};
use crate::cli::{CommandError, Exit, GateArgs, Output, fail};
use crate::oci::{Descriptor, Digest, MAX_MANIFEST, Manifest};
use crate::runtime::{Clock, create_private_dir, printable};

/// The most digests that are asked for at once.
const AT_ONCE: usize = 1000;

/// The source of an advisory database, and when it built the database.
type BuiltDatabase = (String, Timestamp);

/// Arguments of `bundle import`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ImportArgs {
    /// The archive that `bundle export` wrote.
    file: PathBuf,
    /// Only judge the images: they do not become available, and advisory databases are not imported. What is attached to
    /// them, such as signatures, is, because it is needed to judge.
    #[arg(long)]
    dry_run: bool,
    /// Let tags refer to the images of the bundle even if they were seen later to refer to others; also use older advisory
    /// databases.
    #[arg(long)]
    force: bool,
    /// Write the trusted roots of Sigstore in the bundle to this directory. They are used only if `trust.trusted_roots` names
    /// them.
    #[arg(long, value_name = "DIR")]
    trusted_roots: Option<PathBuf>,
    /// The Kubernetes namespace, or other scope, whose rules apply.
    #[arg(long, short, default_value = "", value_name = "NAMESPACE", hide_default_value = true)]
    namespace: String,
    #[command(flatten)]
    gate: GateArgs,
    /// The output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn import(args: &ImportArgs) -> Result<Exit, CommandError> {
    let archive = BundleArchive::open(&args.file)?;
    let wrong = |error: String| format!("{}: {error}", args.file.display());
    let bundle = OpenedBundle::read(&archive).map_err(wrong)?;
    let mut advisories = if args.dry_run { Vec::new() } else { import_files(args, &archive, &bundle)? };
    let client = ContentClient::new(&args.gate)?;
    let bar = progress_bar();
    let (mut results, mut exit) = (Vec::new(), Exit::Ok);
    for image in &bundle.document.images {
        bar.set_message(printable(&image.reference().to_string()).into_owned());
        // The gate waits for the databases before it judges the first image. Later ones need not wait again.
        match import_image(args, &client, &archive, (image, std::mem::take(&mut advisories)), &bar) {
            Ok(result) => {
                exit = worse(exit, exit_of(&result));
                results.push(result);
            }
            Err(error) => exit = worse(exit, fail(format!("{}: {error}", image.reference()))),
        }
    }
    bar.finish_and_clear();
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&results).unwrap_or_default()),
        Output::Table => results.iter().for_each(print),
    }
    Ok(exit)
}

/// A failure is worse than a denial: it is not known what the policy says.
fn worse(one: Exit, other: Exit) -> Exit {
    match (one, other) {
        (Exit::Failure, _) | (_, Exit::Failure) => Exit::Failure,
        (Exit::Ok, other) => other,
        (one, _) => one,
    }
}

fn exit_of(result: &ImportedImage) -> Exit {
    match result.outcome {
        ImportOutcome::Admitted | ImportOutcome::Imported | ImportOutcome::TagKept => Exit::Ok,
        ImportOutcome::Denied => Exit::Denied,
        ImportOutcome::Undecided => Exit::Failure,
    }
}

fn print(result: &ImportedImage) {
    let outcome = match result.outcome {
        ImportOutcome::Admitted => "would be imported",
        ImportOutcome::Denied => "denied",
        ImportOutcome::Imported => "imported",
        ImportOutcome::TagKept => "imported by digest only",
        ImportOutcome::Undecided => "cannot be judged now",
    };
    println!("{}: {outcome} ({})", printable(&result.image), result.digest);
    result.reasons.iter().for_each(|reason| println!("  {}", printable(reason)));
    result.notes.iter().for_each(|note| println!("  note: {}", printable(note)));
}

/// Sends the content that the gate does not have, and has the image judged.
fn import_image(
    args: &ImportArgs,
    client: &ContentClient,
    archive: &BundleArchive,
    (image, advisories): (&BundledImage, Vec<BuiltDatabase>),
    bar: &ProgressBar,
) -> Result<ImportedImage, CommandError> {
    let query = |digest, size, media_type| ContentQuery {
        name: image.name.clone(),
        digest,
        size,
        media_type,
        namespace: args.namespace.clone(),
    };
    let mut blobs = BTreeMap::new();
    for manifest in &image.manifests {
        let bytes = archive.small_blob(manifest.digest, MAX_MANIFEST as u64)?;
        let size = bytes.len() as u64;
        let parsed = Manifest::parse(bytes.clone().into(), Some(&manifest.media_type));
        let parsed = parsed.map_err(|error| format!("manifest {}: {error}", manifest.digest))?;
        if parsed.children().is_empty() {
            blobs.extend(parsed.descriptors().map(|blob| (blob.digest, blob.size)));
        }
        let query = query(manifest.digest, size, Some(manifest.media_type.clone()));
        client.send(&query, io::Cursor::new(bytes), |_| {})?;
    }
    bar.inc_length(blobs.values().sum());
    let missing = missing(args, &blobs.keys().copied().collect::<Vec<_>>())?;
    for (digest, size) in blobs {
        if missing.contains(&digest) {
            let shown = bar.clone();
            client.send(&query(digest, size, None), archive.blob(digest, size)?, move |sent| shown.inc(sent))?;
        } else {
            bar.inc(size);
        }
    }
    let request = ImportRequest {
        image: image.clone(),
        dry_run: args.dry_run,
        force: args.force,
        namespace: args.namespace.clone(),
        advisories,
    };
    run_job(&args.gate, path::BUNDLE_IMPORT, &request)
}

fn missing(args: &ImportArgs, digests: &[Digest]) -> Result<BTreeSet<Digest>, CommandError> {
    let mut missing = BTreeSet::new();
    for some in digests.chunks(AT_ONCE) {
        let request = MissingRequest { digests: some.to_vec() };
        missing.extend(post::<Vec<Digest>>(&args.gate, path::BUNDLE_MISSING, &request)?);
    }
    Ok(missing)
}

/// Imports the advisory databases first, because the images are judged by them; and writes the trusted roots.
fn import_files(
    args: &ImportArgs,
    archive: &BundleArchive,
    bundle: &OpenedBundle,
) -> Result<Vec<BuiltDatabase>, CommandError> {
    let advisories = match &bundle.advisories {
        Some(described) => import_advisories(args, archive, described)?,
        None => Vec::new(),
    };
    match &args.trusted_roots {
        Some(folder) => {
            std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            for (name, described) in &bundle.roots {
                write_root(archive, described, &folder.join(name))?;
            }
        }
        None if !bundle.roots.is_empty() => {
            eprintln!("the bundle has {} trusted roots; --trusted-roots DIR writes them", bundle.roots.len());
        }
        None => {}
    }
    Ok(advisories)
}

fn write_root(archive: &BundleArchive, described: &Descriptor, path: &Path) -> Result<(), String> {
    let bytes = archive.small_blob(described.digest, MAX_ROOT)?;
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let folder = path.parent().unwrap_or(Path::new("."));
    // Appears under its name at once, because a gate may be reading it.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|error| failed(&error))?;
    io::Write::write_all(&mut file, &bytes).map_err(|error| failed(&error))?;
    file.persist(path).map_err(|error| failed(&error))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

fn import_advisories(
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
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    let mut file = std::fs::File::create_new(&path).map_err(failed)?;
    io::copy(&mut archive.blob(described.digest, described.size)?, &mut file).map_err(failed)?;
    let limits = config.va.databases.map(|databases| databases.sources.limits).unwrap_or_default();
    let options = ImportOptions { force: args.force, limits, ..ImportOptions::at(Clock::system().now()) };
    let mut progress = |_| ControlFlow::Continue(());
    let installed = advisories::import(&store, &path, &options, &mut progress);
    let installed = installed.map_err(|error| format!("advisory databases: {error}"))?;
    for installed in &installed {
        eprintln!("{}: built {}, imported", installed.manifest.source, installed.manifest.built);
    }
    Ok(installed.into_iter().map(|one| (one.manifest.source, one.manifest.built)).collect())
}
