//! The view of the file system for a confined program.

use std::env;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};

/// Changes the view of this process and its children, in a separate mount namespace.
#[derive(Clone, Debug, Default, Eq, PartialEq, clap::Args)]
pub(in crate::va::external) struct HiddenPaths {
    /// A directory that the program cannot see, or a file that it cannot use, if it is isolated.
    #[arg(long, value_name = "PATH")]
    pub(in crate::va::external) hide: Vec<PathBuf>,
    /// A directory in it that the program can read.
    #[arg(long, value_name = "DIRECTORY")]
    pub(in crate::va::external) readable: Vec<PathBuf>,
    /// A directory in it that the program can write to.
    #[arg(long, value_name = "DIRECTORY")]
    pub(in crate::va::external) writable: Vec<PathBuf>,
}

impl HiddenPaths {
    /// Each option with its paths.
    pub(super) fn options(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let lists = [("--hide", &self.hide), ("--readable", &self.readable), ("--writable", &self.writable)];
        lists.into_iter().flat_map(|(name, paths)| paths.iter().map(move |path| (name, path.as_path())))
    }

    /// Hides everything, or nothing and says why.
    ///
    /// # Errors
    /// Which path cannot be hidden or shown.
    pub(super) fn apply(&self) -> Result<(), String> {
        let failed = |path: &Path| {
            let path = path.display().to_string();
            move |error: io::Error| format!("{path}: {error}")
        };
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
            .map_err(|error| format!("mounts: {error}"))?;
        let here = env::current_dir().map_err(|error| format!("working directory: {error}"))?;
        // Opened before they are hidden.
        let open = |path: &PathBuf| File::open(path).map(|file| (path.clone(), file)).map_err(failed(path));
        let readable = self.readable.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let writable = self.writable.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let mut covered: Vec<&Path> = Vec::new();
        let result = self.hide.iter().try_for_each(|path| {
            if cover(path).map_err(failed(path))? {
                covered.push(path);
            }
            Ok(())
        });
        let shown = result.and_then(|()| {
            let kinds = [(readable, MountFlags::RDONLY), (writable, MountFlags::empty())];
            for (directories, flags) in kinds {
                for (path, file) in directories {
                    show(&path, &file, flags).map_err(failed(&path))?;
                }
            }
            // The working directory would lead to what is hidden.
            env::set_current_dir(&here).map_err(failed(&here))
        });
        if shown.is_err() {
            for path in covered.into_iter().rev() {
                let _ = unmount(path, UnmountFlags::DETACH);
            }
        }
        shown
    }
}

/// Covers a directory with an empty one, and a file with one that is always empty. Returns whether there was any.
fn cover(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    if fs::metadata(path)?.is_dir() {
        mount("tmpfs", path, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755,size=1m")?;
    } else {
        mount_bind("/dev/null", path)?;
    }
    Ok(true)
}

/// Makes a directory that was opened visible at its path.
fn show(path: &Path, directory: &File, flags: MountFlags) -> io::Result<()> {
    fs::create_dir_all(path)?;
    mount_bind_recursive(format!("/proc/self/fd/{}", directory.as_raw_fd()), path)?;
    Ok(remount(path, flags)?)
}

/// Restrictions of the file system, which a user namespace cannot lift, stay.
fn remount(path: &Path, flags: MountFlags) -> Result<(), Errno> {
    let known = statvfs(path)?.f_flag;
    let kept = [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    let kept = kept.into_iter().filter(|(has, _)| known.contains(*has)).map(|(_, keep)| keep);
    mount_remount(path, MountFlags::BIND | flags | kept.collect(), c"")
}
