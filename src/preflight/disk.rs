//! Checks of the room on the disks that the gate writes.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::PreflightFindings;
use crate::markup::ProblemSeverity::{Error, Warning};
use crate::runtime::{parent_folder, resolved_path, rounded_size};
use crate::store;

/// With fewer free bytes, the disk of the audit file counts as full: a thousand records.
const MIN_AUDIT: u64 = 1024 * 1024;

/// What to do about a full disk.
const HINT: &str = "free space, or use another disk";

pub(super) fn check(found: &mut PreflightFindings<'_>) {
    let is_root = found.service.is_none() && rustix::process::geteuid().is_root();
    state_room(found, is_root);
    audit_room(found, is_root);
}

/// The room on the disk of the state directory.
fn state_room(found: &mut PreflightFindings<'_>, is_root: bool) {
    let config = found.config;
    let Some(DiskRoom { free, spare, total }) = DiskRoom::of(&config.state_dir, is_root) else { return };
    if !store::has_room(&config.state_dir, spare) {
        let message = format!("its disk is full: only {} are free, too little to start a gate", rounded_size(spare));
        found.machine(Error, "state_dir", &message, Some(HINT));
    } else if let Some(why) = too_full(free, total, config.cache.min_free) {
        found.machine(Warning, "state_dir", &why, Some(HINT));
    }
    let max_size = config.cache.max_size;
    if max_size > total && config.has_own_cache_size() {
        let message = format!("the disk of `state_dir` has only {}", rounded_size(total));
        found.machine(Warning, "cache.max_size", &message, Some("choose less than the size of the disk"));
    }
}

/// The room on a disk, in bytes.
struct DiskRoom {
    /// What is free for every user.
    free: u64,
    /// The space available to the user of the gate: root can also use the reserved blocks.
    spare: u64,
    total: u64,
}

impl DiskRoom {
    /// For the disk of a path, or of its nearest existing parent directory. `None` if the file system does not report
    /// its size.
    fn of(path: &Path, is_root: bool) -> Option<Self> {
        let path = std::path::absolute(path).ok()?;
        let disk = path.ancestors().find_map(|ancestor| rustix::fs::statvfs(ancestor).ok())?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        let (free, total) = (bytes(disk.f_bavail), bytes(disk.f_blocks));
        let spare = if is_root { bytes(disk.f_bfree) } else { free };
        (total > 0).then_some(Self { free, spare, total })
    }
}

/// Why a disk with this many bytes has no room for the cache.
fn too_full(free: u64, total: u64, min_free: u64) -> Option<String> {
    let kept = min_free.min(total / 10);
    let message = || {
        let (free, kept) = (rounded_size(free), rounded_size(kept));
        format!("its disk is full: {free} are free, and {kept} must stay free (cache.min_free); nothing is cached")
    };
    (free < kept).then(message)
}

/// The room on the disk of the audit file, if it is another one than that of the state directory.
fn audit_room(found: &mut PreflightFindings<'_>, is_root: bool) {
    let config = found.config;
    let folder = resolved_path(parent_folder(&config.audit.file));
    let is_device = config.audit.file.metadata().is_ok_and(|metadata| !metadata.is_file());
    if is_device || is_on_disk_of(&folder, &config.state_dir) {
        return;
    }
    let room = DiskRoom::of(&folder, is_root);
    if let Some(why) = room.and_then(|room| too_full_for_records(room.spare, config.audit.required)) {
        found.machine(Warning, "audit.file", &why, Some(HINT));
    }
}

/// Whether two paths, or their nearest existing parent directories, are on the same disk.
fn is_on_disk_of(path: &Path, other: &Path) -> bool {
    let device = |path: &Path| {
        let path = std::path::absolute(path).ok()?;
        path.ancestors().find_map(|ancestor| ancestor.metadata().ok()).map(|metadata| metadata.dev())
    };
    device(path) == device(other)
}

/// Why a disk with this many bytes has no room for the audit file.
fn too_full_for_records(spare: u64, is_required: bool) -> Option<String> {
    let result = if is_required { "every pull gets 503" } else { "decisions are not recorded" };
    let message = || format!("its disk is full: {} are free; when none is left, {result}", rounded_size(spare));
    (spare < MIN_AUDIT).then(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the cache decides: a tenth of a small disk is enough.
    #[test]
    fn a_disk_counts_as_full_below_the_reserved_space() {
        let gibibyte = 1 << 30;
        assert_eq!(too_full(gibibyte, 100 * gibibyte, gibibyte), None);
        assert_eq!(too_full(50 << 20, 100 << 20, gibibyte), None);
        let full = too_full(5 << 20, 100 << 20, gibibyte).unwrap();
        assert!(full.contains("5MiB are free, and 10MiB must stay free"), "{full}");
        assert!(too_full(gibibyte - 1, 100 * gibibyte, gibibyte).is_some());
    }

    #[test]
    fn a_disk_without_room_for_records_is_reported() {
        assert_eq!(too_full_for_records(1 << 20, true), None);
        assert!(too_full_for_records(0, true).unwrap().contains("every pull gets 503"));
        assert!(too_full_for_records((1 << 20) - 1, false).unwrap().contains("decisions are not recorded"));
        let dir = tempfile::tempdir().unwrap();
        assert!(is_on_disk_of(&dir.path().join("absent/audit"), dir.path()));
        assert!(!is_on_disk_of(Path::new("/proc/self"), dir.path()));
    }

    #[test]
    fn a_file_system_without_a_size_is_not_called_full() {
        assert!(DiskRoom::of(Path::new("/proc/self"), true).is_none());
        let dir = tempfile::tempdir().unwrap();
        let of = |is_root| DiskRoom::of(&dir.path().join("absent/state"), is_root).unwrap();
        let (user, root) = (of(false), of(true));
        assert!(user.spare == user.free && root.free <= root.spare && root.spare <= root.total, "reserved for root");
    }
}
