//! Fetches a trusted root from a TUF repository, as Sigstore publishes it (TUF 1.0.33, section 5: the client workflow).
//!
//! The library `sigstore-tuf` verifies: the chain of roots, signatures, versions, expiry, sizes and hashes. This file
//! determines which root begins the chain, which limits apply, and what an error means for the operator.

use jiff::Timestamp;
use sigstore_tuf::transport::{FetchFuture, Repository, UpdaterConfig};
use sigstore_tuf::{Error, Metadata, Root, Updater};

use super::install::MAX_ROOT;
use super::mirror::check_json;
use super::state::{SourceRecord, TufState};

/// The largest root of a repository, in bytes, as in python-tuf.
pub(super) const MAX_TUF_ROOT: u64 = 512_000;
/// The maximum number of roots that one update verifies. Sigstore's root has changed about three times a year.
const MAX_ROTATIONS: u32 = 256;

/// A trusted root that was fetched and verified.
pub(super) struct FetchedRoot {
    /// The content of its file.
    pub(super) bytes: Vec<u8>,
    /// Where it comes from.
    pub(super) record: SourceRecord,
}

/// What is fetched.
pub(super) struct RootRequest<'a> {
    /// The URL of the repository, for messages.
    pub(super) mirror: &'a str,
    /// The repository's root that begins the chain, if the operator named one.
    pub(super) root: Option<&'a [u8]>,
    /// The name of the trusted root in the repository.
    pub(super) target: &'a str,
}

/// Fetches the current trusted root. Verified documents are kept in `state`, even if a later step fails.
///
/// # Errors
/// What is wrong, and what can be done about it.
pub(super) async fn fetch(
    repository: impl Repository + 'static,
    state: &TufState,
    request: &RootRequest<'_>,
    now: Timestamp,
) -> Result<FetchedRoot, String> {
    let first = first_root(state, request.root)?;
    let explain = |error: Error| explain(request.mirror, &error, now);
    let mut limits = UpdaterConfig::default();
    limits.root_max_length = MAX_TUF_ROOT;
    limits.target_max_length = MAX_ROOT as u64;
    limits.max_root_rotations = MAX_ROTATIONS;
    let updater =
        Updater::new(StrictRepository(repository), &first).map_err(|error| format!("the root: {}", chain(&error)))?;
    let mut updater = updater.with_config(limits).with_store(state.files());
    let refreshed = updater.refresh(now).await;
    // What cannot be kept protects against nothing.
    state.check()?;
    refreshed.map_err(explain)?;
    let bytes = updater.get_target(request.target, now).await;
    state.check()?;
    let bytes = bytes.map_err(explain)?;
    let trusted = updater.trusted();
    let record = SourceRecord {
        mirror: request.mirror.to_owned(),
        checked: now,
        root_version: trusted.root().version,
        root_expires: trusted.root().expires,
        timestamp_version: trusted.timestamp().map_or(0, |timestamp| timestamp.version),
    };
    Ok(FetchedRoot { bytes, record })
}

/// The root that begins the chain: the one that was trusted last, otherwise the operator's.
fn first_root(state: &TufState, given: Option<&[u8]>) -> Result<Vec<u8>, String> {
    let version = |root: &[u8]| {
        check_json(root).map_err(|why| format!("the root {why}"))?;
        let root = Metadata::<Root>::from_slice(root).map_err(|error| format!("the root: {}", chain(&error)))?;
        Ok::<_, String>(root.signed().version)
    };
    let given = given.map(|given| Ok::<_, String>((given, version(given)?))).transpose()?;
    match (state.root()?, given) {
        (None, None) => Err(
            "no root of this repository is known yet; name it with --root FILE. For Sigstore, compare several sources: \
             N.root.json of github.com/sigstore/root-signing, and ~/.sigstore/root/*/root.json of `cosign initialize`"
                .into(),
        ),
        (None, Some((given, _))) => Ok(given.to_vec()),
        (Some(kept), None) => Ok(kept),
        (Some(kept), Some((given, version))) if state.has_had(given, version) => Ok(kept),
        (Some(_), Some((_, version))) => Err(format!(
            "version {version} of the root is not in the chain of the trusted root; to start over with it, remove {}",
            state.folder().display()
        )),
    }
}

/// A repository whose documents have one meaning for every reader.
struct StrictRepository<R>(R);

impl<R: Repository> Repository for StrictRepository<R> {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(async move {
            let Some(bytes) = self.0.fetch_metadata(name, max_length).await? else { return Ok(None) };
            check_json(&bytes).map_err(|why| Error::Malformed(format!("{name} {why}")))?;
            Ok(Some(bytes))
        })
    }

    fn fetch_target<'a>(&'a self, path: &'a str, max_length: u64) -> FetchFuture<'a> {
        self.0.fetch_target(path, max_length)
    }
}

/// The error with a hint. Nothing was installed.
fn explain(mirror: &str, error: &Error, now: Timestamp) -> String {
    let hint = match error {
        Error::Expired { .. } => {
            format!("the mirror serves old documents, or the time of this machine ({now}) is wrong")
        }
        Error::Rollback { .. } => "older documents than before: a replay, or a mirror that lags behind".into(),
        Error::ThresholdNotMet { .. } | Error::BadRootVersion { .. } => {
            "the root does not belong to this repository, or the documents are forged".into()
        }
        Error::TargetNotFound(_) => "--target names the file in the repository".into(),
        Error::Transport { .. } => {
            "check --mirror, and --proxy if there is an egress proxy; --from FILE installs a file without a mirror"
                .into()
        }
        _ => return format!("{mirror}: {}", chain(error)),
    };
    format!("{mirror}: {}; {hint}", chain(error))
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
