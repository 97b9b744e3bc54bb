//! `pullgate bundle export`.

mod reports;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use serde_json::json;

use super::archive::{BundleWriter, refuse_stream};
use super::layout::{
    ADVISORIES_TYPE, BundleDocument, BundleLayer, DOCUMENT_TYPE, EMPTY, LAYOUT, MAX_ROOT, ROOT_TYPE, bundle_manifest,
    index,
};
use super::reading::OpenedBundle;
use crate::advisories::{self, AdvisoryStore};
use crate::api::{BundledImage, ContentQuery, PlannedImage, PrefetchRequest, path};
use crate::cli::output::{counted, print_json};
use crate::cli::remote::{ContentClient, progress_bar, run_job};
use crate::cli::{CommandError, Exit, GateArgs, Output, ScopeArgs, fail};
use crate::oci::{Algorithm, Digest, Hasher, MAX_MANIFEST, Manifest};
use crate::runtime::{parent_folder, printable, rounded_size};

/// Arguments of `bundle export`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ExportArgs {
    /// The archive to write. Repeat an interrupted export to continue it.
    #[arg(long, short, value_name = "FILE")]
    file: PathBuf,
    /// The images: docker.io/library/nginx:1.27, by digest, or short names.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// A platform to export from multi-platform images, such as linux/arm64. Can be repeated. Default: the platforms in
    /// the configuration of the gate, or that of its machine.
    #[arg(long, value_name = "PLATFORM")]
    platform: Vec<String>,
    /// Also export the advisory databases in use. Needs the configuration of the gate, on its machine.
    #[arg(long)]
    with_advisories: bool,
    /// Also export the files of `va.reports` that are about the images: reports of other scanners, and VEX statements.
    /// Needs the configuration of the gate, on its machine.
    #[arg(long)]
    with_reports: bool,
    /// Also export the trusted roots of Sigstore that the configuration names.
    #[arg(long)]
    with_trusted_roots: bool,
    #[command(flatten)]
    scope: ScopeArgs,
    #[command(flatten)]
    gate: GateArgs,
    /// The output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Files that travel with the images.
#[derive(Default)]
struct ExtraFiles {
    layers: Vec<BundleLayer>,
    /// The file of each layer.
    files: Vec<PathBuf>,
    /// Where the archive of advisories is until the bundle has it.
    scratch: Option<tempfile::TempDir>,
}

pub(super) fn export(args: &ExportArgs) -> Result<Exit, CommandError> {
    refuse_stream(&args.file)?;
    let mut writer = BundleWriter::open(&args.file)?;
    let extras = ExtraFiles::collect(args)?;
    let directories = reports::directories(args)?;
    let document = match resume(args, &extras, &mut writer)? {
        Some(document) => document,
        None => match plan(args)? {
            Ok(plan) => begin(args, plan, (&extras, &directories), &mut writer)?,
            Err(exit) => {
                if writer.is_new() {
                    let _ = std::fs::remove_file(writer.path());
                }
                return Ok(exit);
            }
        },
    };
    let client = ContentClient::new(&args.gate)?;
    let bar = progress_bar();
    for (layer, file) in extras.layers.iter().zip(&extras.files) {
        copy(&mut writer, layer, file)?;
    }
    for image in &document.images {
        bar.set_message(printable(&image.reference().to_string()).into_owned());
        let result = carry(&client, &mut writer, image, &args.scope.namespace, &bar);
        result.map_err(|error| format!("{}: {error}; repeat the command to continue", image.reference()))?;
    }
    bar.finish_and_clear();
    let reports = OpenedBundle::read(&writer.so_far())?.reports.len();
    let size = writer.finish()?;
    drop(extras.scratch);
    report(args, &document, reports, size);
    Ok(Exit::Ok)
}

fn report(args: &ExportArgs, document: &BundleDocument, reports: usize, size: u64) {
    if args.output == Output::Json {
        print_json(&as_json(args, document, reports, size));
        return;
    }
    for image in &document.images {
        let attached = image.manifests.iter().filter(|manifest| manifest.is_attached).count();
        let platforms = image.manifests.len() - attached;
        let manifests = counted(platforms, "manifest", "manifests");
        println!("{}: {}, {manifests}, {attached} attached", image.reference(), image.digest);
        image.notes.iter().for_each(|note| println!("  note: {}", printable(note)));
    }
    if args.with_reports {
        println!("{} about these images", counted(reports, "file of reports", "files of reports"));
    }
    println!("wrote {} ({})", args.file.display(), rounded_size(size));
}

fn as_json(args: &ExportArgs, document: &BundleDocument, reports: usize, size: u64) -> serde_json::Value {
    let images = document.images.iter().map(|image| {
        let attached = image.manifests.iter().filter(|manifest| manifest.is_attached).count();
        json!({
            "image": image.reference().to_string(), "digest": image.digest,
            "manifests": image.manifests.len() - attached, "attached": attached, "notes": image.notes,
        })
    });
    let images: Vec<serde_json::Value> = images.collect();
    json!({"file": args.file.display().to_string(), "bytes": size, "reports": reports, "images": images})
}

/// What is exported.
struct ExportPlan {
    images: Vec<BundledImage>,
    /// The digests by which reports name the images.
    names: BTreeSet<Digest>,
}

/// What the images need, or the exit code if one of them cannot be exported.
fn plan(args: &ExportArgs) -> Result<Result<ExportPlan, Exit>, CommandError> {
    let request = PrefetchRequest {
        images: args.images.clone(),
        platforms: args.platform.clone(),
        namespace: args.scope.namespace.clone(),
    };
    let planned: Vec<PlannedImage> = run_job(&args.gate, path::BUNDLE_PLAN, &request)?;
    let mut exit = Exit::Ok;
    planned.iter().filter_map(|image| image.error.as_ref()).for_each(|error| exit = fail(error.as_str()));
    let names = planned.iter().flat_map(|image| &image.names).copied().collect();
    let images = planned.into_iter().filter_map(|image| Some(with_note(args, image.bundled?, image.reports))).collect();
    Ok(if exit == Exit::Ok { Ok(ExportPlan { images, names }) } else { Err(exit) })
}

/// The image, with a note if there are reports about it that are not exported. An import repeats it.
fn with_note(args: &ExportArgs, mut image: BundledImage, reports: usize) -> BundledImage {
    if reports > 0 && !args.with_reports {
        let files = counted(reports, "file of reports is", "files of reports are");
        image.notes.push(format!("{files} about it and not in the bundle: `bundle export --with-reports` adds them"));
    }
    image
}

/// The plan of an earlier export to this file, if it can go on.
fn resume(args: &ExportArgs, extras: &ExtraFiles, writer: &mut BundleWriter) -> Result<Option<BundleDocument>, String> {
    if writer.is_new() {
        return Ok(None);
    }
    // It was interrupted before it was known what it would be.
    let Ok(bundle) = OpenedBundle::read(&writer.so_far()) else {
        writer.restart();
        return Ok(None);
    };
    if bundle.document.asked != asked(args, extras) {
        let partial = writer.path().display();
        return Err(format!("{partial} was started for other images, options or advisories; remove it to start over"));
    }
    Ok(Some(bundle.document))
}

/// Writes what the bundle says about itself.
fn begin(
    args: &ExportArgs,
    plan: ExportPlan,
    (extras, directories): (&ExtraFiles, &[PathBuf]),
    writer: &mut BundleWriter,
) -> Result<BundleDocument, String> {
    writer.put("oci-layout", LAYOUT.as_bytes())?;
    // Written before the data that an export needs to be resumed: a resumed export has all of them.
    let reports = reports::write(directories, &plan.names, writer)?;
    let document = BundleDocument::new(asked(args, extras), plan.images);
    let text = serde_json::to_vec(&document).map_err(|error| error.to_string())?;
    let own = BundleLayer {
        media_type: DOCUMENT_TYPE,
        digest: Digest::sha256(&text),
        size: text.len() as u64,
        title: "bundle.json".into(),
    };
    let manifest = bundle_manifest(&[vec![own], extras.layers.clone(), reports].concat());
    writer.put("index.json", &index(&manifest, &document.images))?;
    for bytes in [EMPTY.as_bytes(), &manifest, &text] {
        let digest = Digest::sha256(bytes);
        writer.put_blob(digest, bytes.len() as u64, &mut |write| write(bytes).map_err(|error| error.to_string()))?;
    }
    Ok(document)
}

/// What was asked for, as text.
fn asked(args: &ExportArgs, extras: &ExtraFiles) -> Vec<String> {
    let platforms = args.platform.iter().map(|platform| format!("platform {platform}"));
    let extras = extras.layers.iter().map(|layer| format!("{} {}", layer.title, layer.digest));
    // Not which ones: as with images, those that there were when it began.
    let reports = args.with_reports.then(|| "reports".to_owned());
    args.images
        .iter()
        .cloned()
        .chain(platforms)
        .chain([format!("namespace {}", args.scope.namespace)])
        .chain(extras)
        .chain(reports)
        .collect()
}

/// Fetches the content of an image that the archive does not have.
fn carry(
    client: &ContentClient,
    writer: &mut BundleWriter,
    image: &BundledImage,
    namespace: &str,
    bar: &ProgressBar,
) -> Result<(), String> {
    let query = |digest, size, media_type| ContentQuery {
        name: image.name.clone(),
        digest,
        size,
        media_type,
        namespace: namespace.to_owned(),
        hold: None,
    };
    let mut blobs = BTreeSet::new();
    for manifest in &image.manifests {
        let query = query(manifest.digest, manifest.size, Some(manifest.media_type.clone()));
        fetch(client, writer, &query, bar)?;
        let bytes = writer.so_far().small_blob(manifest.digest, MAX_MANIFEST as u64)?;
        let parsed = Manifest::parse(bytes.into(), Some(&manifest.media_type)).map_err(|error| error.to_string())?;
        if parsed.children().is_empty() {
            blobs.extend(parsed.descriptors().map(|blob| (blob.digest, blob.size)));
        }
    }
    bar.inc_length(blobs.iter().map(|(_, size)| size).sum());
    for (digest, size) in blobs {
        fetch(client, writer, &query(digest, size, None), bar)?;
    }
    Ok(())
}

fn fetch(
    client: &ContentClient,
    writer: &mut BundleWriter,
    query: &ContentQuery,
    bar: &ProgressBar,
) -> Result<(), String> {
    if writer.has(query.digest) {
        bar.inc(query.size);
        return Ok(());
    }
    writer.put_blob(query.digest, query.size, &mut |write| {
        client.receive(query, &mut |piece| {
            bar.inc(piece.len() as u64);
            write(piece)
        })
    })
}

fn copy(writer: &mut BundleWriter, layer: &BundleLayer, file: &Path) -> Result<(), String> {
    if writer.has(layer.digest) {
        return Ok(());
    }
    writer.put_blob(layer.digest, layer.size, &mut |write| {
        each_piece(file, &mut |piece| write(piece)).map_err(|error| format!("{}: {error}", file.display()))
    })
}

impl ExtraFiles {
    fn collect(args: &ExportArgs) -> Result<Self, CommandError> {
        let mut extras = Self::default();
        if !args.with_advisories && !args.with_trusted_roots {
            return Ok(extras);
        }
        let config = crate::cli::config::load_or_error(args.gate.config.as_deref())?;
        if args.with_trusted_roots {
            for (number, root) in config.policy.trusted_roots.iter().map(PathBuf::from).enumerate() {
                let size = std::fs::metadata(&root).map_err(|error| format!("{}: {error}", root.display()))?.len();
                if size > MAX_ROOT {
                    return Err(format!("{}: too large for a trusted root", root.display()).into());
                }
                extras.add(ROOT_TYPE, root, format!("trusted_root-{}.json", number + 1))?;
            }
        }
        if args.with_advisories {
            let store = AdvisoryStore::open(&config.state_dir).map_err(|error| error.to_string())?;
            let folder = parent_folder(&args.file);
            let scratch = tempfile::tempdir_in(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            let archive = scratch.path().join("advisories.tar");
            let mut progress = |_| std::ops::ControlFlow::Continue(());
            advisories::export(&store, &archive, &mut progress).map_err(|error| error.to_string())?;
            extras.add(ADVISORIES_TYPE, archive, "advisories.tar".into())?;
            extras.scratch = Some(scratch);
        }
        Ok(extras)
    }

    fn add(&mut self, media_type: &'static str, file: PathBuf, title: String) -> Result<(), String> {
        let (mut hasher, mut size) = (Hasher::new(Algorithm::Sha256), 0);
        let read = each_piece(&file, &mut |piece| {
            hasher.update(piece);
            size += piece.len() as u64;
            Ok(())
        });
        read.map_err(|error| format!("{}: {error}", file.display()))?;
        self.layers.push(BundleLayer { media_type, digest: hasher.finish(), size, title });
        self.files.push(file);
        Ok(())
    }
}

fn each_piece(file: &Path, take: &mut dyn FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
    use std::io::Read as _;
    let (mut file, mut piece) = (std::fs::File::open(file)?, vec![0; 256 * 1024]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(()),
            read => take(&piece[..read])?,
        }
    }
}
