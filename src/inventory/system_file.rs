//! Files of a distribution that the inventory reads, by their paths.

use super::paths::{file_name, parent};

/// What a file of the distribution contains.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SystemFile {
    /// Names the distribution or its version; read as text.
    Release,
    /// Whether Ubuntu's extended support is enabled, in JSON.
    UbuntuPro,
    /// Packages of dpkg: the whole database, or one package of a distroless image.
    DpkgStatus,
    /// Changes that dpkg applies to its database when it runs next.
    DpkgUpdate,
    /// The files of a package of dpkg.
    DpkgFiles,
    /// The licences of a package of dpkg.
    DpkgCopyright,
    /// Settings of dpkg, which may say that its database is in another place.
    DpkgSettings,
    /// The database of apk.
    Apk,
    /// The database of RPM, in any of its formats.
    Rpm,
    /// Changes that have not been written to a database of RPM yet.
    RpmJournal,
    /// Macros of rpm, which may say that its database is in another place.
    RpmMacros,
    /// The packages of a distroless image of Azure Linux, as text.
    RpmManifest,
    /// The repositories that a layer of Red Hat was built from, in JSON.
    ContentManifest,
    /// The Dockerfile that a layer of Red Hat was built by.
    BuildDockerfile,
}

/// Files that name the distribution. Links between them are followed.
pub(super) const RELEASES: &[&str] = &[
    "etc/almalinux-release",
    "etc/alpine-release",
    "etc/apk/repositories",
    "etc/centos-release",
    "etc/debian_version",
    "etc/fedora-release",
    "etc/lsb-release",
    "etc/oracle-release",
    "etc/os-release",
    "etc/redhat-release",
    "etc/rocky-release",
    "etc/system-release",
    "usr/lib/fedora-release",
    "usr/lib/os-release",
    "usr/lib/system-release",
];

/// Databases of packages.
pub(super) const DATABASES: &[(&str, SystemFile)] = &[
    ("lib/apk/db/installed", SystemFile::Apk),
    ("usr/lib/apk/db/installed", SystemFile::Apk),
    ("usr/lib/sysimage/rpm/Packages", SystemFile::Rpm),
    ("usr/lib/sysimage/rpm/Packages.db", SystemFile::Rpm),
    ("usr/lib/sysimage/rpm/rpmdb.sqlite", SystemFile::Rpm),
    ("usr/share/rpm/Packages", SystemFile::Rpm),
    ("usr/share/rpm/Packages.db", SystemFile::Rpm),
    ("usr/share/rpm/rpmdb.sqlite", SystemFile::Rpm),
    ("var/lib/dpkg/status", SystemFile::DpkgStatus),
    ("var/lib/rpm/Packages", SystemFile::Rpm),
    ("var/lib/rpm/Packages.db", SystemFile::Rpm),
    ("var/lib/rpm/rpmdb.sqlite", SystemFile::Rpm),
    ("var/lib/rpmmanifest/container-manifest-2", SystemFile::RpmManifest),
];

/// Contains a directory for each package of dpkg.
pub(super) const DOCUMENTATION: &str = "usr/share/doc";
const UBUNTU_PRO: &str = "var/lib/ubuntu-advantage/status.json";
const STATUS_DIRECTORY: &str = "var/lib/dpkg/status.d";
const UPDATES_DIRECTORY: &str = "var/lib/dpkg/updates";
/// Stands for all files of distroless images that state a package of dpkg.
pub(super) const ANY_STATUS: &str = "var/lib/dpkg/status.d/*";

impl SystemFile {
    pub(super) fn at(path: &str) -> Option<Self> {
        if RELEASES.contains(&path) {
            return Some(Self::Release);
        }
        if let Some((_, kind)) = DATABASES.iter().find(|(database, _)| *database == path) {
            return Some(*kind);
        }
        let is_rpm = |path| DATABASES.iter().any(|(database, kind)| *database == path && *kind == Self::Rpm);
        match (parent(path), file_name(path)) {
            _ if path == UBUNTU_PRO => Some(Self::UbuntuPro),
            (folder, "copyright") if parent(folder) == DOCUMENTATION => Some(Self::DpkgCopyright),
            (STATUS_DIRECTORY | "var/lib/dpkg/info", name) if name.ends_with(".md5sums") => Some(Self::DpkgFiles),
            (UPDATES_DIRECTORY, name) if name.bytes().all(|byte| byte.is_ascii_digit()) => Some(Self::DpkgUpdate),
            (STATUS_DIRECTORY, _) => Some(Self::DpkgStatus),
            ("root/buildinfo/content_manifests" | "usr/share/buildinfo", name) if name.ends_with(".json") => {
                Some(Self::ContentManifest)
            }
            ("root/buildinfo", name) if name.starts_with("Dockerfile") => Some(Self::BuildDockerfile),
            ("etc/dpkg", "dpkg.cfg") | ("etc/dpkg/dpkg.cfg.d", _) => Some(Self::DpkgSettings),
            (folder, ".dpkg.cfg") if is_home(folder) => Some(Self::DpkgSettings),
            ("etc/rpm" | "usr/lib/rpm/macros.d", name) if name.starts_with("macros") => Some(Self::RpmMacros),
            (folder, ".rpmmacros") if is_home(folder) => Some(Self::RpmMacros),
            (folder, "macros") if folder.strip_suffix("/.config/rpm").is_some_and(is_home) => Some(Self::RpmMacros),
            _ => database_of_journal(path).is_some_and(is_rpm).then_some(Self::RpmJournal),
        }
    }

    /// What a file is if a link in the usual place of a database leads to it: its directory has the name of the usual
    /// one (`srv/dpkg/status`). `None` for files in the usual places.
    pub(super) fn behind_link(path: &str) -> Option<Self> {
        if Self::at(path).is_some() {
            return None;
        }
        usual_places(path).first().and_then(|place| Self::at(place))
    }

    fn is_of_database(self) -> bool {
        matches!(
            self,
            Self::Apk | Self::DpkgStatus | Self::DpkgUpdate | Self::Rpm | Self::RpmJournal | Self::RpmManifest
        )
    }

    /// Whether packages can be missed without the file. Others that cannot be read are gaps.
    pub(super) fn is_essential(self) -> bool {
        !matches!(self, Self::DpkgCopyright | Self::DpkgFiles)
    }

    /// The maximum size that is read, in bytes.
    pub(super) fn max_bytes(self) -> u64 {
        const MIB: u64 = 1024 * 1024;
        match self {
            Self::Release => MIB / 16,
            Self::UbuntuPro | Self::ContentManifest | Self::BuildDockerfile => MIB,
            Self::DpkgCopyright | Self::DpkgSettings | Self::RpmMacros => MIB,
            Self::DpkgFiles | Self::RpmManifest => 16 * MIB,
            Self::DpkgStatus | Self::Apk => 64 * MIB,
            Self::Rpm => 1024 * MIB,
            Self::DpkgUpdate | Self::RpmJournal => u64::MAX,
        }
    }
}

/// Whether the directory is usually a user's home.
fn is_home(directory: &str) -> bool {
    directory == "root" || parent(directory) == "home"
}

/// Directories of databases.
const DIRECTORIES: [&str; 7] = [
    "lib/apk",
    "usr/lib/apk",
    "usr/lib/sysimage/rpm",
    "usr/share/rpm",
    "var/lib/dpkg",
    "var/lib/rpm",
    "var/lib/rpmmanifest",
];

/// The paths in the usual directories of databases that a file would have if links there led to its directory.
pub(super) fn usual_places(path: &str) -> Vec<String> {
    let (name, folder) = (file_name(path), file_name(parent(path)));
    let may_be = DATABASES.iter().any(|(database, _)| file_name(database) == name)
        || matches!(folder, "status.d" | "updates")
        || database_of_journal(name).is_some();
    let directories = DIRECTORIES.iter().filter(|_| may_be);
    let place = |directory: &&str| {
        let (above, rest) = path.rsplit_once(&format!("{}/", file_name(directory)))?;
        let place = format!("{directory}/{rest}");
        let is_whole = above.is_empty() || above.ends_with('/');
        Some(place).filter(|place| is_whole && SystemFile::at(place).is_some_and(SystemFile::is_of_database))
    };
    directories.filter_map(place).collect()
}

/// The database that a journal of SQLite belongs to.
pub(super) fn database_of_journal(path: &str) -> Option<&str> {
    path.strip_suffix("-wal").or_else(|| path.strip_suffix("-journal"))
}

/// The root of another system whose database is at the path, such as `srv/root` of `srv/root/var/lib/dpkg/status`.
pub(super) fn root_of_other_system(path: &str) -> Option<&str> {
    let root = |(database, _): &(&str, _)| path.strip_suffix(database);
    let of_distroless = || match SystemFile::behind_link(path)? {
        SystemFile::DpkgStatus => parent(path).strip_suffix(STATUS_DIRECTORY),
        _ => None,
    };
    let root = DATABASES.iter().find_map(root).or_else(of_distroless)?.strip_suffix('/');
    root.filter(|_| SystemFile::at(path).is_none())
}

/// Whether the path is that of a release file or a database, or of a directory that contains one. A link there decides
/// which file is read.
pub(super) fn leads_to_system_file(path: &str) -> bool {
    let watched = RELEASES.iter().copied().chain(DATABASES.iter().map(|(path, _)| *path)).chain([ANY_STATUS]);
    let is_above = |file: &str| file.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    watched.into_iter().any(is_above)
}

/// Whether the file or directory name is part of the path of a release file or a database.
pub(super) fn is_part_of_system_file(name: &str) -> bool {
    let mut paths = RELEASES.iter().copied().chain(DATABASES.iter().map(|(path, _)| *path));
    name == "updates" || paths.any(|path| path.split('/').any(|part| part == name)) || name == "status.d"
}

/// Whether a link to this directory gives the files of a database other paths, which no distribution does.
pub(super) fn is_directory_of_databases(path: &str) -> bool {
    path == UPDATES_DIRECTORY || file_name(path) == "status.d"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_recognised_by_path() {
        for (path, kind) in [
            ("etc/os-release", Some(SystemFile::Release)),
            ("var/lib/dpkg/status", Some(SystemFile::DpkgStatus)),
            ("var/lib/dpkg/status-old", None),
            ("var/lib/dpkg/updates/0001", Some(SystemFile::DpkgUpdate)),
            ("var/lib/dpkg/updates/tmp.i", None),
            ("var/lib/dpkg/status.d/base", Some(SystemFile::DpkgStatus)),
            ("var/lib/dpkg/status.d/base.md5sums", Some(SystemFile::DpkgFiles)),
            ("var/lib/dpkg/info/libc6:amd64.md5sums", Some(SystemFile::DpkgFiles)),
            ("var/lib/dpkg/info/libc6:amd64.list", None),
            ("usr/share/doc/libc6/copyright", Some(SystemFile::DpkgCopyright)),
            ("usr/share/doc/libc6/examples/copyright", None),
            ("var/lib/rpm/rpmdb.sqlite-wal", Some(SystemFile::RpmJournal)),
            ("var/lib/rpm/rpmdb.sqlite-shm", None),
            ("root/buildinfo/content_manifests/x.json", Some(SystemFile::ContentManifest)),
            ("root/buildinfo/Dockerfile-ubi8-8.5-1", Some(SystemFile::BuildDockerfile)),
            ("srv/var/lib/dpkg/status", None),
            ("etc/dpkg/dpkg.cfg", Some(SystemFile::DpkgSettings)),
            ("etc/dpkg/dpkg.cfg.d/docker", Some(SystemFile::DpkgSettings)),
            ("home/app/.dpkg.cfg", Some(SystemFile::DpkgSettings)),
            ("root/.rpmmacros", Some(SystemFile::RpmMacros)),
            ("etc/rpm/macros.dist", Some(SystemFile::RpmMacros)),
            ("usr/lib/rpm/macros.d/macros.python", Some(SystemFile::RpmMacros)),
            ("root/.config/rpm/macros", Some(SystemFile::RpmMacros)),
            ("opt/.config/rpm/macros", None),
            ("usr/lib/rpm/macros", None),
            ("srv/.rpmmacros", None),
        ] {
            assert_eq!(SystemFile::at(path), kind, "{path}");
        }
        for (path, kind) in [
            ("usr/lib/sysimage/dpkg/status", Some(SystemFile::DpkgStatus)),
            ("dpkg/status", Some(SystemFile::DpkgStatus)),
            ("srv/dpkg/status.d/base", Some(SystemFile::DpkgStatus)),
            ("srv/dpkg/status.d/base.md5sums", None),
            ("srv/dpkg/updates/0001", Some(SystemFile::DpkgUpdate)),
            ("srv/rpm/rpmdb.sqlite", Some(SystemFile::Rpm)),
            ("srv/lib/rpmmanifest/container-manifest-2", Some(SystemFile::RpmManifest)),
            ("srv/lib/rpmmanifest/container-manifest-1", None),
            ("srv/rpm/Packages.db-wal", Some(SystemFile::RpmJournal)),
            ("srv/apk/db/installed", Some(SystemFile::Apk)),
            ("srv/xdpkg/status", None),
            ("srv/dpkg/x/status", None),
            ("srv/status", None),
            ("var/lib/dpkg/status", None),
        ] {
            assert_eq!(SystemFile::behind_link(path), kind, "{path}");
        }
        assert_eq!(usual_places("srv/apk/db/installed"), ["lib/apk/db/installed", "usr/lib/apk/db/installed"]);
        for path in ["lib", "usr", "usr/lib", "var/lib/rpm", "etc/os-release", "var/lib/dpkg/status.d"] {
            assert!(leads_to_system_file(path), "{path}");
        }
        for path in ["bin", "li", "usr/lib64", "etc/passwd"] {
            assert!(!leads_to_system_file(path), "{path}");
        }
    }

    #[test]
    fn other_systems_are_recognised_by_their_databases() {
        for (path, root) in [
            ("srv/root/var/lib/dpkg/status", Some("srv/root")),
            ("a/usr/lib/sysimage/rpm/rpmdb.sqlite", Some("a")),
            ("srv/root/var/lib/dpkg/status.d/base", Some("srv/root")),
            ("srv/root/var/lib/dpkg/status.d/base.md5sums", None),
            ("srv/var/lib/rpmmanifest/container-manifest-2", Some("srv")),
            ("var/lib/dpkg/status.d/base", None),
            ("var/lib/dpkg/status", None),
            ("usr/lib/apk/db/installed", None),
            ("x-var/lib/dpkg/status-old", None),
            ("srv/avar/lib/dpkg/status", None),
        ] {
            assert_eq!(root_of_other_system(path), root, "{path}");
        }
    }
}
