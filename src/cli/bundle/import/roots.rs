//! The trusted roots of a bundle, written to files for the operator to compare.
//!
//! A bundle's sender must not choose where anything is written: each file is named by the digest of its content, must
//! be a trusted root, and replaces no other file.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::cli::bundle::archive::BundleArchive;
use crate::cli::bundle::layout::MAX_ROOT;
use crate::oci::{Descriptor, Digest};
use crate::policy::TrustedRoot;
use crate::runtime::parent_folder;

/// The verified trusted roots of a bundle.
#[derive(Debug, Default)]
pub(super) struct CarriedRoots(Vec<(Digest, Vec<u8>)>);

impl CarriedRoots {
    /// Reads the roots, each of which must be a trusted root. Nothing is written.
    pub(super) fn read(archive: &BundleArchive, described: &[Descriptor]) -> Result<Self, String> {
        let mut roots = Vec::new();
        for root in described {
            let bytes = archive.small_blob(root.digest, MAX_ROOT)?;
            let name = format!("the trusted root {}", root.digest);
            let parsed = TrustedRoot::from_json(&name, &bytes);
            parsed.map_err(|why| archive.wrong(format!("{name} {why}; nothing is imported")))?;
            let digest = Digest::sha256(&bytes);
            if !roots.iter().any(|(known, _)| *known == digest) {
                roots.push((digest, bytes));
            }
        }
        Ok(Self(roots))
    }

    /// Writes the roots to a directory, as `trusted_root-SHA256.json`. Returns the files.
    ///
    /// # Errors
    /// A file cannot be written, or has the name already and other content.
    pub(super) fn write(&self, folder: &Path) -> Result<Vec<(PathBuf, Digest)>, String> {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut written = Vec::new();
        for (digest, bytes) in &self.0 {
            let path = folder.join(format!("trusted_root-{}.json", digest.hex()));
            write_new(&path, bytes, 0o600).map_err(|error| format!("{}: {error}", path.display()))?;
            written.push((path, *digest));
        }
        Ok(written)
    }
}

/// Writes a file atomically, and only if no file of that name has other content.
pub(super) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(parent_folder(path))?;
    file.write_all(bytes)?;
    // Whatever the umask is.
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists && has_content(path, bytes) => Ok(()),
        Err(error) => Err(error.error),
    }
}

fn has_content(path: &Path, bytes: &[u8]) -> bool {
    let is_file = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
    is_file && std::fs::read(path).is_ok_and(|content| content == bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(bytes: &[u8]) -> CarriedRoots {
        CarriedRoots(vec![(Digest::sha256(bytes), bytes.to_vec())])
    }

    #[test]
    fn an_existing_file_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let first = root(b"one").write(folder.path()).unwrap();
        assert_eq!(std::fs::read(&first[0].0).unwrap(), b"one");
        assert_eq!(root(b"one").write(folder.path()).unwrap(), first, "a repeated import is not a mistake");
        std::fs::write(&first[0].0, "other").unwrap();
        root(b"one").write(folder.path()).expect_err("the file is another one");
        assert_eq!(std::fs::read(&first[0].0).unwrap(), b"other");
        // A link that leads elsewhere is not followed.
        let (victim, second) = (folder.path().join("victim"), folder.path().join("x"));
        std::fs::create_dir(&second).unwrap();
        let name = format!("trusted_root-{}.json", Digest::sha256(b"two").hex());
        std::os::unix::fs::symlink(&victim, second.join(name)).unwrap();
        root(b"two").write(&second).expect_err("a link is there");
        assert!(!victim.exists());
    }
}
