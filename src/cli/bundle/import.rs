//! `pullgate bundle import`.

mod databases;
mod reports;
mod roots;
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use indicatif::ProgressBar;
use jiff::Timestamp;

use self::reports::CarriedReports;
use self::roots::CarriedRoots;
use self::session::ImportSession;
use super::archive::BundleArchive;
use super::reading::OpenedBundle;
use crate::api::{BundledImage, ContentQuery, ImportOutcome, ImportRequest, ImportedImage, path};
use crate::cli::output::{counted, print_json};
use crate::cli::remote::{ContentClient, progress_bar, run_job};
use crate::cli::{CommandError, Exit, GateArgs, Output, ScopeArgs, fail};
use crate::oci::{Digest, MAX_MANIFEST, Manifest};
use crate::runtime::printable;

/// The source of an advisory database, and when it built the database.
type BuiltDatabase = (String, Timestamp);

/// What must be in use before the first image is judged.
#[derive(Clone, Debug, Default)]
struct ImportedEvidence {
    advisories: Vec<BuiltDatabase>,
    reports: Vec<Digest>,
}

/// Arguments of `bundle import`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ImportArgs {
    /// The archive that `bundle export` wrote.
    file: PathBuf,
    /// Only judge the images: they do not become available, and advisory databases and reports are not imported.
    /// Signatures and other evidence about them are stored, because they are needed to judge.
    #[arg(long)]
    dry_run: bool,
    /// Let tags refer to the images of the bundle even if they were seen later to refer to others; also use older
    /// advisory databases.
    #[arg(long)]
    force: bool,
    /// Put the advisory databases of the bundle into use. They decide which vulnerabilities this gate knows, for all
    /// images.
    #[arg(long)]
    with_advisories: bool,
    /// Write the reports of the bundle to the first directory of `va.reports`, as report-SHA256.json, and use them.
    /// They decide which vulnerabilities their images have; VEX statements that name no image apply to all images of
    /// this gate.
    #[arg(long)]
    with_reports: bool,
    /// Make room by evicting images of offline upstreams, which can only be imported again. Otherwise they stay, and an
    /// import for which there is no room fails.
    #[arg(long)]
    evict: bool,
    /// Write the trusted roots of Sigstore in the bundle to this directory, as trusted_root-SHA256.json. Existing files
    /// are not replaced. They are used only if `trust.trusted_roots` names them; compare their digests before.
    #[arg(long, value_name = "DIR")]
    trusted_roots: Option<PathBuf>,
    #[command(flatten)]
    scope: ScopeArgs,
    #[command(flatten)]
    gate: GateArgs,
    /// The output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn import(args: &ImportArgs) -> Result<Exit, CommandError> {
    let archive = BundleArchive::open(&args.file)?;
    let bundle = OpenedBundle::read(&archive)?;
    if bundle.document.images.is_empty() {
        return Err(archive.wrong("it has no images").into());
    }
    let roots = match args.trusted_roots {
        Some(_) => CarriedRoots::read(&archive, &bundle.roots)?,
        None => CarriedRoots::default(),
    };
    let reports = CarriedReports::read(args, &archive, &bundle)?;
    // Before the session, which ends if it is idle for long.
    let advisories = databases::import_or_name(args, &archive, bundle.advisories.as_ref())?;
    let evidence = ImportedEvidence { advisories, reports: reports.put_into_use(args, &archive)? };
    let session = ImportSession::begin(&args.gate, args.evict)?;
    let imported = import_images(args, &archive, &bundle, &session, evidence);
    // Also after a failure: the gate keeps what the import brought until it ends.
    let ended = session.end();
    let (mut results, mut exit) = imported?;
    let lost = ended.unwrap_or_else(|error| {
        exit = fail(format!("cannot check whether everything is still in the cache: {error}"));
        BTreeSet::new()
    });
    for (result, digests) in results.iter_mut().filter(|(result, digests)| is_lost(result, digests, &lost)) {
        let count = digests.intersection(&lost).count();
        result.outcome = ImportOutcome::Evicted;
        let pieces = counted(count, "piece of its content is", "pieces of its content are");
        result.reasons.push(format!("{pieces} no longer in the cache; repeat the import"));
        exit = Exit::Failure;
    }
    match args.output {
        Output::Json => {
            let results: Vec<_> = results.iter().map(|(result, _)| result).collect();
            print_json(&results);
        }
        Output::Table => results.iter().for_each(|(result, _)| print(result)),
    }
    let kept = results.iter().filter(|(result, _)| result.outcome == ImportOutcome::TagKept).count();
    if kept > 0 {
        let tags = counted(kept, "tag was not moved, because it was", "tags were not moved, because they were");
        eprintln!("{tags} seen later to refer to another image; --force moves what the bundle has");
    }
    write_roots(args, &bundle, &roots)?;
    Ok(exit)
}

/// The result for an image, and the digests of its content.
type ImageResult = (ImportedImage, BTreeSet<Digest>);

fn import_images(
    args: &ImportArgs,
    archive: &BundleArchive,
    bundle: &OpenedBundle,
    session: &ImportSession<'_>,
    mut evidence: ImportedEvidence,
) -> Result<(Vec<ImageResult>, Exit), CommandError> {
    let client = ContentClient::new(&args.gate)?;
    let bar = progress_bar();
    let (mut results, mut exit) = (Vec::new(), Exit::Ok);
    for image in &bundle.document.images {
        bar.set_message(printable(&image.reference().to_string()).into_owned());
        // The gate waits for databases and reports before it judges the first image. Later ones need not wait again.
        let import = ImageImport { args, client: &client, archive, session, bar: &bar };
        match import.run(image, evidence.clone()) {
            Ok((result, digests)) => {
                evidence = ImportedEvidence::default();
                exit = worse(exit, exit_of(&result));
                results.push((result, digests));
            }
            Err(error) => exit = worse(exit, fail(format!("{}: {error}", image.reference()))),
        }
    }
    bar.finish_and_clear();
    Ok((results, exit))
}

/// Whether an image was imported, and some of its content is gone.
fn is_lost(result: &ImportedImage, digests: &BTreeSet<Digest>, lost: &BTreeSet<Digest>) -> bool {
    result.outcome.is_available() && !digests.is_disjoint(lost)
}

/// Writes the trusted roots, or says that there are some.
fn write_roots(args: &ImportArgs, bundle: &OpenedBundle, roots: &CarriedRoots) -> Result<(), String> {
    let Some(folder) = args.trusted_roots.as_ref().filter(|_| !args.dry_run) else {
        if !bundle.roots.is_empty() {
            let roots = counted(bundle.roots.len(), "trusted root", "trusted roots");
            eprintln!("the bundle has {roots} that this import does not use; --trusted-roots DIR writes them to files");
        }
        return Ok(());
    };
    for (path, digest) in roots.write(folder)? {
        eprintln!("wrote {} ({digest})", path.display());
        eprintln!("  compare this digest with the one from the operators of that Sigstore before you use the file");
    }
    Ok(())
}

/// A failure is worse than a denial: the decision of the policy is unknown.
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
        ImportOutcome::Evicted | ImportOutcome::Undecided => Exit::Failure,
    }
}

fn print(result: &ImportedImage) {
    println!("{}: {} ({})", printable(&result.image), result.outcome.words(), result.digest);
    result.reasons.iter().for_each(|reason| println!("  {}", printable(reason)));
    result.notes.iter().for_each(|note| println!("  note: {}", printable(note)));
}

/// What the import of one image needs.
struct ImageImport<'a> {
    args: &'a ImportArgs,
    client: &'a ContentClient,
    archive: &'a BundleArchive,
    session: &'a ImportSession<'a>,
    bar: &'a ProgressBar,
}

impl ImageImport<'_> {
    /// Sends the content that the gate does not have, and has the image judged.
    fn run(&self, image: &BundledImage, evidence: ImportedEvidence) -> Result<ImageResult, CommandError> {
        let Self { args, client, archive, session, bar } = self;
        let query = |digest, size, media_type| ContentQuery {
            name: image.name.clone(),
            digest,
            size,
            media_type,
            namespace: args.scope.namespace.clone(),
            hold: Some(session.number()),
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
        let missing = session.missing(&blobs.keys().copied().collect::<Vec<_>>())?;
        for (digest, size) in &blobs {
            if missing.contains(digest) {
                let shown = (*bar).clone();
                client
                    .send(&query(*digest, *size, None), archive.blob(*digest, *size)?, move |sent| shown.inc(sent))?;
            } else {
                bar.inc(*size);
            }
        }
        let digests = image.manifests.iter().map(|manifest| manifest.digest).chain(blobs.into_keys()).collect();
        let request = ImportRequest {
            image: image.clone(),
            dry_run: args.dry_run,
            force: args.force,
            namespace: args.scope.namespace.clone(),
            advisories: evidence.advisories,
            reports: evidence.reports,
            hold: session.number(),
        };
        Ok((run_job(&args.gate, path::BUNDLE_IMPORT, &request)?, digests))
    }
}
