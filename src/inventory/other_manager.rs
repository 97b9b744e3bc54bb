//! Records of package managers for which no advisories are matched: the packages that they installed are unknown.

use super::paths::{file_name, parent};

/// Directories in which each package has its own directory, with or without a database.
const STORES: [&str; 2] = ["nix/store", "gnu/store"];
/// Directories of Homebrew with a directory for each package, and in it one for each version.
const CELLARS: [&str; 3] = ["home/linuxbrew/.linuxbrew/Cellar", "opt/homebrew/Cellar", "usr/local/Cellar"];
/// Where Slackware's package tools, which other distributions have, too, keep a file for each package.
const SLACKWARE: &str = "var/lib/pkgtools/packages";

/// The directory in which a package manager other than dpkg, apk and RPM records its packages, if the file is such a
/// record: of Nix, Guix, pacman, opkg, Portage, XBPS, Homebrew, Conda, Spack, vcpkg, Snap, Flatpak, pkgsrc or
/// Slackware.
pub(super) fn records_of_other_manager(path: &str) -> Option<&str> {
    let of_version = |cellar: &str| within(path, cellar).is_some_and(|rest| rest.split('/').nth(2).is_some());
    let mut stores = STORES.iter().filter(|store| within(path, store).is_some());
    let store = stores.next().or_else(|| CELLARS.iter().find(|cellar| of_version(cellar)));
    if let Some(store) = store {
        return Some(store);
    }
    let (folder, name) = (parent(path), file_name(path));
    let above = parent(folder);
    let is_in = |directory: &str| within(folder, directory).is_some();
    match name {
        "db.sqlite" => ["nix/var/nix/db", "var/guix/db"].contains(&folder).then_some(folder),
        "status" if file_name(folder) == "vcpkg" => Some(folder),
        "status" => ["usr/lib/opkg", "var/lib/opkg"].contains(&folder).then_some(folder),
        "desc" => (above == "var/lib/pacman/local").then_some(above),
        "CONTENTS" => (parent(above) == "var/db/pkg").then(|| parent(above)),
        // One file for each package, in a directory that some systems have in another place.
        "+CONTENTS" => Some(above).filter(|above| !above.is_empty()),
        "INSTALL_RECEIPT.json" => (file_name(parent(above)) == "Cellar").then(|| parent(above)),
        "index.json" if file_name(folder) == ".spack-db" => Some(folder),
        "snap.yaml" => (file_name(folder) == "meta" && is_in("snap")).then_some("snap"),
        "metadata" if is_in("var/lib/flatpak/app") || is_in("var/lib/flatpak/runtime") => Some("var/lib/flatpak"),
        _ if folder == SLACKWARE => Some(folder),
        _ if folder == "var/lib/snapd/snaps" && name.ends_with(".snap") => Some(folder),
        _ if folder == "var/db/xbps" && name.starts_with("pkgdb-") => Some(folder),
        _ if file_name(folder) == "conda-meta" && name.ends_with(".json") => Some(folder),
        _ => store_elsewhere(path),
    }
}

/// Whether a link at this path leads to a store of packages in another place.
pub(super) fn is_link_to_store(path: &str) -> bool {
    STORES.iter().any(|store| *store == path || within(store, path).is_some())
}

/// A store of Nix or Guix in another place, to which a link may lead. The names of its packages begin with a hash of 32
/// letters and digits without `e`, `o`, `t` and `u`. A hash without letters after `f` is taken for a hexadecimal number
/// and does not count.
fn store_elsewhere(path: &str) -> Option<&str> {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'z') && !b"eotu".contains(byte);
    let is_hash = |rest: &str| {
        let parts = rest.as_bytes().split_at_checked(32);
        parts.is_some_and(|(hash, rest)| {
            rest.starts_with(b"-") && hash.iter().all(is_digit) && hash.iter().any(|byte| *byte > b'f')
        })
    };
    let mut stores = path.match_indices("/store/").filter(|(at, found)| is_hash(&path[at + found.len()..]));
    stores.next().map(|(at, _)| &path[..at + "/store".len()])
}

/// The rest of a path that is in a directory.
fn within<'p>(path: &'p str, directory: &str) -> Option<&'p str> {
    path.strip_prefix(directory)?.strip_prefix('/')
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
            ("opt/homebrew/Cellar/openssl/1.0.1/lib/libssl.so", Some("opt/homebrew/Cellar")),
            ("home/linuxbrew/.linuxbrew/Cellar/.keepme", None),
            ("srv/Cellar/a/b/c", None),
            ("opt/spack/opt/spack/.spack-db/index.json", Some("opt/spack/opt/spack/.spack-db")),
            ("opt/spack/opt/spack/index.json", None),
            ("opt/vcpkg/installed/vcpkg/status", Some("opt/vcpkg/installed/vcpkg")),
            ("opt/vcpkg/status/x", None),
            ("var/lib/snapd/snaps/core_1.snap", Some("var/lib/snapd/snaps")),
            ("var/lib/snapd/state.json", None),
            ("snap/core/1/meta/snap.yaml", Some("snap")),
            ("src/snap/snap.yaml", None),
            ("var/lib/flatpak/app/org.x/current/active/metadata", Some("var/lib/flatpak")),
            ("var/lib/flatpak/repo/config", None),
            ("usr/pkg/pkgdb/openssl-1.0.1/+CONTENTS", Some("usr/pkg/pkgdb")),
            ("+CONTENTS", None),
            ("var/lib/pkgtools/packages/openssl-1.0.1-x86_64-1", Some("var/lib/pkgtools/packages")),
            ("opt/nix/store/0c5k2mqxg9sn3y1vwz7rf8bhj4lpid6a-openssl-1.0.1/lib/libssl.so", Some("opt/nix/store")),
            ("opt/nix/store/0c5k2mqxg9sn3y1vwz7rf8bhj4lpid6e-openssl/x", None),
            ("opt/nix/store/0c5k2mqxg9sn3y1vwz7rf8bhj4lpid6a", None),
            ("app/store/d41d8cd98f00b204a9800998acf8427a-index.json", None),
            ("app/store/index.js", None),
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
        for (path, is_store) in
            [("nix", true), ("nix/store", true), ("gnu", true), ("nix/store/x", false), ("ni", false)]
        {
            assert_eq!(is_link_to_store(path), is_store, "{path}");
        }
    }
}
