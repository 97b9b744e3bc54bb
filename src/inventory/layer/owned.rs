//! Which files of a layer belong to packages of the distribution.
//!
//! Such files were built and are patched by the distribution, so the packages of programming languages that they state
//! are left out, as Trivy does: their versions would match advisories that the distribution has fixed. Only lists in
//! the same layer count, and the file must have the checksum that the list states: one that somebody puts in the same
//! place, such as a package manager of the language, is not the distribution's. Many package managers write the whole
//! database whenever they install something, so it is in the layer of a file that was replaced.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::inventory::InstalledPackage;
use crate::inventory::checksum::{FileChecksum, PackagedFile};
use crate::inventory::paths::{PathSet, file_name, path_text};
use crate::inventory::system_file::SystemFile;
use crate::inventory::third_party::{BuiltBy, DistributionFamily};

/// Files of Python 2.7 in distroless images, which have no lists of files. They belong to these packages.
const PYTHON: [&str; 2] = ["libpython2.7-minimal", "libpython2.7-stdlib"];
const WITHOUT_LIST: [&str; 3] = [
    "usr/lib/python2.7/argparse.egg-info",
    "usr/lib/python2.7/lib-dynload/Python-2.7.egg-info",
    "usr/lib/python2.7/wsgiref.egg-info",
];

/// Directories in which a distribution's own packages have no files (Debian Policy 9.1, FHS 3.0).
const LOCAL: [&str; 4] = ["home/", "opt/", "srv/", "usr/local/"];

/// The maximum number of files. A file beyond may be reported twice, but is not missed.
const MAX_FILES: usize = 2_000_000;

/// Files of packages.
#[derive(Default)]
pub(super) struct OwnedPaths {
    paths: PathSet,
    /// The paths with their checksums.
    unchanged: PathSet,
}

impl OwnedPaths {
    /// Adds a file, unless the distribution has no files in its directory.
    fn insert(&mut self, file: &PackagedFile) {
        if may_be_owned(&file.path) {
            let path = path_text(file.path.as_bytes());
            if let Some(checksum) = file.checksum {
                self.unchanged.insert(&checksum.at(&path));
            }
            self.paths.insert(&path);
        }
    }

    /// Adds files of which no list states checksums.
    fn add_unlisted(&mut self, paths: &[&str]) {
        self.paths.extend(paths.iter().copied());
        self.unchanged.extend(paths.iter().copied());
    }

    fn merge(&mut self, other: Self) {
        self.paths.merge(other.paths);
        self.unchanged.merge(other.unchanged);
    }

    /// Whether a package has a file at the path, whatever is there now.
    pub(super) fn contains(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    /// Whether a package has a file at the path that has one of these checksums.
    pub(super) fn contains_unchanged(&self, path: &str, checksums: &[FileChecksum]) -> bool {
        self.paths.contains(path)
            && (self.unchanged.contains(path)
                || checksums.iter().any(|checksum| self.unchanged.contains(&checksum.at(path))))
    }
}

/// Whether a package of the distribution can have a file at the path.
pub(super) fn may_be_owned(path: &str) -> bool {
    !LOCAL.iter().any(|directory| path.starts_with(directory))
}

#[derive(Default)]
pub(super) struct OwnedFiles {
    count: usize,
    files: OwnedPaths,
    /// RPM: the files by the distributions that the packages' vendors build, as long as it is unknown which one it is.
    by_family: BTreeMap<DistributionFamily, OwnedPaths>,
    /// RPM: the distributions that the vendors of packages with release files build.
    releases: BTreeSet<DistributionFamily>,
    /// dpkg: the lists by package, as long as it is unknown whose packages they are.
    lists: HashMap<String, OwnedPaths>,
    /// The packages of dpkg from the distribution: `NAME` and `NAME:ARCHITECTURE`.
    official: HashSet<String>,
}

impl OwnedFiles {
    /// Adds the files of packages of apk.
    pub(super) fn add(&mut self, files: &[PackagedFile]) {
        let files = self.within_limit(files);
        files.iter().for_each(|file| self.files.insert(file));
    }

    /// Adds the files of a package of RPM.
    pub(super) fn add_rpm(&mut self, package: &InstalledPackage, files: &[PackagedFile]) {
        let Some(family) = package.rpm_family() else { return };
        if files.iter().any(|file| SystemFile::at(&file.path) == Some(SystemFile::Release)) {
            self.releases.insert(family);
        }
        let files = self.within_limit(files);
        let known = self.by_family.entry(family).or_default();
        files.iter().for_each(|file| known.insert(file));
    }

    /// The files that may still be kept.
    fn within_limit<'f>(&mut self, files: &'f [PackagedFile]) -> &'f [PackagedFile] {
        let files = &files[..files.len().min(MAX_FILES.saturating_sub(self.count))];
        self.count += files.len();
        files
    }

    /// The files of the packages that the distribution's builder made: the vendor of its release files or, without any,
    /// the only known vendor. Empty if that is unclear.
    fn own_files(
        by_family: BTreeMap<DistributionFamily, OwnedPaths>,
        releases: &BTreeSet<DistributionFamily>,
    ) -> OwnedPaths {
        let is_own = |family: &DistributionFamily| releases.is_empty() || releases.contains(family);
        let mut own = by_family.into_iter().filter(|(family, _)| is_own(family));
        own.next().filter(|_| own.next().is_none()).map(|(_, files)| files).unwrap_or_default()
    }

    /// Adds the list of a package of dpkg, `NAME.md5sums` or `NAME:ARCHITECTURE.md5sums`.
    pub(super) fn add_list(&mut self, path: &str, files: &[PackagedFile]) {
        let files = self.within_limit(files);
        let name = file_name(path).trim_end_matches(".md5sums");
        let list = self.lists.entry(name.to_owned()).or_default();
        files.iter().for_each(|file| list.insert(file));
    }

    /// Adds packages of dpkg.
    pub(super) fn add_packages(&mut self, packages: &[InstalledPackage]) {
        for package in packages.iter().filter(|package| package.built_by() == BuiltBy::Distribution) {
            self.official.insert(package.name.clone());
            self.official.insert(format!("{}:{}", package.name, package.architecture));
        }
    }

    /// All files that belong to packages of the distribution.
    pub(super) fn finish(self) -> OwnedPaths {
        let Self { mut files, by_family, releases, lists, official, .. } = self;
        files.merge(Self::own_files(by_family, &releases));
        if PYTHON.iter().any(|package| official.contains(*package)) {
            files.add_unlisted(&WITHOUT_LIST);
        }
        lists.into_iter().filter(|(name, _)| official.contains(name)).for_each(|(_, list)| files.merge(list));
        files
    }
}
