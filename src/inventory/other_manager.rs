//! Records of package managers for which no advisories are matched: the packages that they installed are unknown.

use super::paths::{file_name, parent};

/// Directories in which each package has its own directory, with or without a database.
const STORES: [&str; 2] = ["nix/store", "gnu/store"];

/// The directory in which a package manager other than dpkg, apk and RPM records its packages, if the file is such a
/// record:
/// of Nix, Guix, pacman, opkg, Portage, XBPS, Homebrew or Conda.
pub(super) fn records_of_other_manager(path: &str) -> Option<&str> {
    let is_in = |folder: &&&str| path.strip_prefix(**folder).is_some_and(|rest| rest.starts_with('/'));
    if let Some(store) = STORES.iter().find(is_in) {
        return Some(store);
    }
    let (folder, name) = (parent(path), file_name(path));
    let above = parent(folder);
    match name {
        "db.sqlite" => ["nix/var/nix/db", "var/guix/db"].contains(&folder).then_some(folder),
        "status" => ["usr/lib/opkg", "var/lib/opkg"].contains(&folder).then_some(folder),
        "desc" => (above == "var/lib/pacman/local").then_some(above),
        "CONTENTS" => (parent(above) == "var/db/pkg").then(|| parent(above)),
        "INSTALL_RECEIPT.json" => (file_name(parent(above)) == "Cellar").then(|| parent(above)),
        _ if folder == "var/db/xbps" && name.starts_with("pkgdb-") => Some(folder),
        _ => (file_name(folder) == "conda-meta" && name.ends_with(".json")).then_some(folder),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_recognised_by_their_paths() {
        for (path, folder) in [
            ("nix/store/abc-openssl-1.0.1/lib/libssl.so.1", Some("nix/store")),
            ("nix/var/nix/db/db.sqlite", Some("nix/var/nix/db")),
            ("gnu/store/abc-zlib/lib/libz.so", Some("gnu/store")),
            ("var/lib/pacman/local/openssl-1.0-1/desc", Some("var/lib/pacman/local")),
            ("usr/lib/opkg/status", Some("usr/lib/opkg")),
            ("var/db/pkg/dev-libs/openssl-3.0/CONTENTS", Some("var/db/pkg")),
            ("var/db/xbps/pkgdb-0.38.plist", Some("var/db/xbps")),
            (
                "home/linuxbrew/.linuxbrew/Cellar/openssl@3/3.0.0/INSTALL_RECEIPT.json",
                Some("home/linuxbrew/.linuxbrew/Cellar"),
            ),
            ("opt/conda/conda-meta/openssl-1.0-0.json", Some("opt/conda/conda-meta")),
            ("opt/conda/conda-meta/history", None),
            ("nix/storeroom/x", None),
            ("var/lib/dpkg/status", None),
            ("usr/lib/opkg/info/x.control", None),
            ("srv/desc", None),
            ("CONTENTS", None),
            ("status", None),
        ] {
            assert_eq!(records_of_other_manager(path), folder, "{path}");
        }
    }
}
