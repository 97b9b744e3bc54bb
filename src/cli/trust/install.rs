//! Puts a trusted root in its place: checked, complete when it gets its name, and on disk before success is reported.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use jiff::Timestamp;

use crate::policy::TrustedRoot;
use crate::runtime::{parent_folder, read_plain_file};

/// The largest trusted root, in bytes. Real ones have a few thousand.
pub(super) const MAX_ROOT: usize = 256 * 1024;

/// Whether an older root may replace a newer one.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Order {
    /// The age of a root is that of its newest key: a file has no other date.
    ByKeys,
    /// A repository has signed which root is the current one.
    Signed,
}

/// A trusted root that is to be installed.
pub(super) struct NewRoot<'a> {
    /// Where it comes from, for messages.
    pub(super) source: &'a str,
    /// The content of its file.
    pub(super) bytes: &'a [u8],
    /// How its age is known.
    pub(super) order: Order,
}

/// Replaces a root by one that is usable, has not ended and is not older than the one in use. Returns what was done.
///
/// # Errors
/// The new root does not qualify, the root in use cannot be read, or the file cannot be written.
pub(super) fn install(new: &NewRoot<'_>, to: &Path, now: Timestamp) -> Result<String, String> {
    let NewRoot { source, bytes, order } = *new;
    let root = parse(source, bytes)?;
    if root.has_expired(now) {
        return Err(format!("{source}: all of its keys have expired"));
    }
    let old = if to.exists() { Some(read(to)?) } else { None };
    if let Some(old) = &old {
        if *old == root {
            return Ok(format!("{} is up to date", to.display()));
        }
        if order == Order::ByKeys && root.newest_key() < old.newest_key() {
            let hint = "remove it first if that is intended";
            return Err(format!("{source} is older than {}; {hint}", to.display()));
        }
    }
    write(to, bytes).map_err(|error| format!("{}: {error}", to.display()))?;
    Ok(format!("{} {}", if old.is_some() { "replaced" } else { "wrote" }, to.display()))
}

/// Reads a trusted root from its file.
///
/// # Errors
/// The file cannot be read, or is not a usable root.
pub(super) fn read(path: &Path) -> Result<TrustedRoot, String> {
    let root = parse(&path.display().to_string(), &read_bounded(path)?)?;
    let modified = fs::metadata(path).and_then(|status| status.modified()).ok();
    Ok(root.written_at(modified.and_then(|time| Timestamp::try_from(time).ok())))
}

fn parse(name: &str, bytes: &[u8]) -> Result<TrustedRoot, String> {
    TrustedRoot::from_json(name, bytes).map_err(|why| format!("{name} {why}"))
}

/// The content of a file of at most [`MAX_ROOT`] bytes.
///
/// # Errors
/// The file cannot be read, or is larger.
pub(super) fn read_bounded(path: &Path) -> Result<Vec<u8>, String> {
    read_plain_file(path, MAX_ROOT as u64).map_err(|error| format!("{}: {error}", path.display()))
}

/// Writes a file atomically and durably. Others may read it: the gate may run as another user, and nothing in it is
/// secret.
///
/// # Errors
/// The file or its directory cannot be written.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = parent_folder(path);
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|failed| failed.error)?;
    File::open(folder)?.sync_all()
}
