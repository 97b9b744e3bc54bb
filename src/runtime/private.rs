//! Creates files and directories that only this user can access, whatever the umask. State records what clients pulled,
//! and who they are.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Creates a directory with mode 0700, and its parents with default permissions. An existing directory is left
/// unchanged.
///
/// # Errors
/// The same as [`fs::create_dir_all`].
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
        // Restores owner bits that the umask removed.
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(0o700)),
    }
}

/// Opens a file, which is created with mode 0600. An existing regular file loses the permissions of other users.
///
/// # Errors
/// The same as [`OpenOptions::open`]; also if the mode cannot be changed.
pub fn open_private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.mode(0o600).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.permissions().mode() & 0o777 != 0o600 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn new_and_existing_files_are_accessible_only_to_their_owner() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, old, new) = (dir.path().join("a/b"), dir.path().join("old"), dir.path().join("new"));
        create_private_dir(&folder).unwrap();
        create_private_dir(&folder).unwrap();
        assert_eq!(mode(&folder), 0o700);
        fs::write(&old, "x").unwrap();
        fs::set_permissions(&old, Permissions::from_mode(0o666)).unwrap();
        for path in [&old, &new] {
            open_private(File::options().create(true).append(true), path).unwrap();
            assert_eq!(mode(path), 0o600, "{}", path.display());
        }
        assert!(create_private_dir(&old).is_err(), "a file is not a directory");
        open_private(File::options().write(true), Path::new("/dev/null")).unwrap();
    }
}
