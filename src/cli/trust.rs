//! `pullgate trust status|update|forget`: shows, fetches and replaces the trusted roots of Sigstore, and shows the
//! roots of Docker Content Trust that the gate remembers. Except for `forget`, it works on files, without a gate; a
//! running gate uses a changed file within a minute.

mod fetch;
mod forget;
mod install;
mod mirror;
mod notary;
mod state;
mod status;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use sigstore_tuf::transport::Repository as _;

use super::Exit;
use crate::oci::Digest;
use crate::runtime::Clock;
use fetch::MAX_TUF_ROOT;
use install::{NewRoot, Order, install, read_bounded};
use mirror::{HttpMirror, MirrorAccess};
use state::{SourceRecord, TufState};

/// The repository of the public Sigstore instance.
const SIGSTORE: &str = "https://tuf-repo-cdn.sigstore.dev";

/// Shown below the help text of `update`.
const EXAMPLES: &str = "Examples:
  pullgate trust update --root 12.root.json        # the first time, with a verified root
  pullgate trust update                            # from then on
  pullgate trust update --mirror https://tuf.corp.example --root corp-root.json \\
    --to /etc/pullgate/corp.json
  pullgate trust update --from trusted_root.json   # a file, on a machine without a network";

/// Commands about trusted roots.
#[derive(Debug, clap::Subcommand)]
pub(super) enum TrustCommand {
    /// List the trusted roots with their age, their source, their keys and the times of their validity, and the roots
    /// of Docker Content Trust that the gate remembers. Exits with 2 if a trusted root cannot be read or has ended.
    Status(status::StatusArgs),
    /// Make a running gate forget the roots and versions of Docker Content Trust that it has verified for a repository,
    /// for example after its notary server was reinstalled. Until the next pull, older documents are accepted too.
    Forget(forget::ForgetArgs),
    /// Fetch the current trusted root from a TUF repository, or take it from a file, and install it after checking it.
    #[command(after_help = EXAMPLES)]
    Update(Box<UpdateArgs>),
}

/// Fetches or replaces a trusted root.
#[derive(Args, Debug)]
pub(super) struct UpdateArgs {
    /// Take this file instead of fetching one; `cosign trusted-root create` and `gh attestation trusted-root` write
    /// such files.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["mirror", "root", "root_sha256", "target", "proxy", "ca"])]
    from: Option<PathBuf>,
    /// The file to write; by default, the only one in `trust.trusted_roots` of the configuration.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// The TUF repository.
    #[arg(long, value_name = "URL", default_value = SIGSTORE)]
    mirror: String,
    /// The root of that repository (N.root.json) to begin with, a file or a URL. Needed for the first update; a URL
    /// needs --root-sha256.
    #[arg(long, value_name = "FILE|URL")]
    root: Option<String>,
    /// The SHA-256 digest that the file of --root must have, in hexadecimal digits.
    #[arg(long, value_name = "HEX", requires = "root")]
    root_sha256: Option<String>,
    /// The name of the trusted root in the repository.
    #[arg(long, value_name = "NAME", default_value = "trusted_root.json")]
    target: String,
    /// The egress proxy, an http:// URL; by default that of the environment (https_proxy, no_proxy). "" uses none.
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// A file with certificate authorities in PEM that the mirror's certificate may be issued by, besides those of the
    /// system.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The configuration file. Default: ./pullgate.toml, or else /etc/pullgate/pullgate.toml.
    #[arg(long, env = "PULLGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn run(command: &TrustCommand) -> Exit {
    let now = Clock::system().now();
    match command {
        TrustCommand::Status(args) => status::run(args, now),
        TrustCommand::Forget(args) => forget::run(args),
        TrustCommand::Update(args) => {
            let to = match destination(args) {
                Ok(to) => to,
                Err(exit) => return exit,
            };
            let updated = match &args.from {
                Some(from) => update_from_file(from, &to, now),
                None => super::runtime()
                    .map_err(|error| error.to_string())
                    .and_then(|runtime| runtime.block_on(update(args, &to, now))),
            };
            match updated {
                Ok(done) => {
                    println!("{done}");
                    Exit::Ok
                }
                Err(why) => super::fail(why),
            }
        }
    }
}

/// The trusted roots of the configuration, whether they exist or not.
fn configured(config: Option<&Path>) -> Result<Vec<PathBuf>, Exit> {
    let files = super::config::load_without_roots(config)?.policy.trusted_roots;
    Ok(files.into_iter().map(PathBuf::from).collect())
}

/// The file to write: the one that is named, otherwise the only one of the configuration.
fn destination(args: &UpdateArgs) -> Result<PathBuf, Exit> {
    if let Some(to) = &args.to {
        return Ok(to.clone());
    }
    match &configured(args.config.as_deref())?[..] {
        [only] => Ok(only.clone()),
        files => Err(super::fail(format!("trust.trusted_roots names {} files: choose one with --to", files.len()))),
    }
}

fn update_from_file(from: &Path, to: &Path, now: Timestamp) -> Result<String, String> {
    let (source, bytes) = (from.display().to_string(), read_bounded(from)?);
    install(&NewRoot { source: &source, bytes: &bytes, order: Order::ByKeys }, to, now)
}

/// Fetches the current root from the repository, and installs it.
async fn update(args: &UpdateArgs, to: &Path, now: Timestamp) -> Result<String, String> {
    let access = MirrorAccess { proxy: args.proxy.clone(), ca: args.ca.clone() };
    let first = match &args.root {
        Some(root) => Some(first_root(root, args.root_sha256.as_deref(), &access).await?),
        None => None,
    };
    let mirror = HttpMirror::new(&args.mirror, &access, say)?;
    let request = fetch::RootRequest { mirror: &args.mirror, root: first.as_deref(), target: &args.target };
    fetch_and_install(mirror, &request, to, now).await
}

/// The part of an update that does not depend on how the repository is reached.
async fn fetch_and_install(
    repository: impl sigstore_tuf::Repository + 'static,
    request: &fetch::RootRequest<'_>,
    to: &Path,
    now: Timestamp,
) -> Result<String, String> {
    let state = TufState::open(state::folder_of(to))?;
    let fetched = fetch::fetch(repository, &state, request, now).await?;
    let source = format!("{} of {}", request.target, request.mirror);
    let done = install(&NewRoot { source: &source, bytes: &fetched.bytes, order: Order::Signed }, to, now)?;
    state.keep(&fetched.record)?;
    let SourceRecord { root_version, timestamp_version, .. } = fetched.record;
    Ok(format!("{done} (root {root_version}, timestamp {timestamp_version} of {})", request.mirror))
}

/// Reads the root that the operator names, and compares its digest.
async fn first_root(root: &str, sha256: Option<&str>, access: &MirrorAccess) -> Result<Vec<u8>, String> {
    let expected = sha256.map(|hex| format!("sha256:{}", hex.to_ascii_lowercase()).parse::<Digest>());
    let expected = expected.transpose().map_err(|error| format!("--root-sha256: {error}"))?;
    let is_url = root.starts_with("https://") || root.starts_with("http://");
    let bytes = match (root.rsplit_once('/'), expected) {
        (Some((base, name)), Some(_)) if is_url => {
            let fetched = HttpMirror::new(base, access, say)?.fetch_metadata(name, MAX_TUF_ROOT).await;
            fetched.map_err(|error| error.to_string())?.ok_or_else(|| format!("{root}: there is no such file"))?
        }
        _ if is_url => {
            return Err("a root from a URL must be pinned: add --root-sha256, from a source that you trust".into());
        }
        _ => {
            let mut bytes = Vec::new();
            let file = File::open(root).map_err(|error| format!("{root}: {error}"))?;
            file.take(MAX_TUF_ROOT + 1).read_to_end(&mut bytes).map_err(|error| format!("{root}: {error}"))?;
            bytes
        }
    };
    if bytes.len() as u64 > MAX_TUF_ROOT {
        return Err(format!("{root}: larger than {MAX_TUF_ROOT} bytes"));
    }
    match expected.filter(|expected| *expected != Digest::sha256(&bytes)) {
        Some(expected) => Err(format!("{root}: its digest is {}, not {expected}", Digest::sha256(&bytes))),
        None => Ok(bytes),
    }
}

/// Tells the progress of an update.
fn say(document: &str, size: usize) {
    eprintln!("fetched {document} ({size} bytes)");
}

#[cfg(test)]
mod tests;
