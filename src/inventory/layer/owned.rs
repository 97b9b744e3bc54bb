//! Which files of a layer belong to packages of the distribution.
//!
//! Such files were built and are patched by the distribution, so the packages of programming languages that they state
//! are left out, as Trivy does: their versions would match advisories that the distribution has fixed. Only lists in the
//! same layer count: a file that a later layer puts in the same place is not the distribution's.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::inventory::InstalledPackage;
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
const MAX_FILES: usize = 4_000_000;

#[derive(Default)]
pub(super) struct OwnedFiles {
    count: usize,
    files: PathSet,
    /// RPM: the files by the distributions that the packages' vendors build, as long as it is unknown which one it is.
    by_family: BTreeMap<DistributionFamily, PathSet>,
    /// RPM: the distributions that the vendors of packages with release files build.
    releases: BTreeSet<DistributionFamily>,
    /// dpkg: the lists by package, as long as it is unknown whose packages they are.
    lists: HashMap<String, PathSet>,
    /// The packages of dpkg from the distribution: `NAME` and `NAME:ARCHITECTURE`.
    official: HashSet<String>,
}

impl OwnedFiles {
    /// Adds the files of packages of apk.
    pub(super) fn add(&mut self, files: &[String]) {
        let files = self.within_limit(files);
        files.iter().for_each(|file| insert(&mut self.files, file));
    }

    /// Adds the files of a package of RPM.
    pub(super) fn add_rpm(&mut self, package: &InstalledPackage, files: &[String]) {
        let Some(family) = package.rpm_family() else { return };
        if files.iter().any(|file| SystemFile::at(file) == Some(SystemFile::Release)) {
            self.releases.insert(family);
        }
        let files = self.within_limit(files);
        let known = self.by_family.entry(family).or_default();
        files.iter().for_each(|file| insert(known, file));
    }

    /// The files that may still be kept.
    fn within_limit<'f>(&mut self, files: &'f [String]) -> &'f [String] {
        let files = &files[..files.len().min(MAX_FILES.saturating_sub(self.count))];
        self.count += files.len();
        files
    }

    /// The files of the packages that the distribution's builder made: the vendor of its release files or, without any, the
    /// only known vendor. Empty if that is unclear.
    fn own_files(by_family: BTreeMap<DistributionFamily, PathSet>, releases: &BTreeSet<DistributionFamily>) -> PathSet {
        let is_own = |family: &DistributionFamily| releases.is_empty() || releases.contains(family);
        let mut own = by_family.into_iter().filter(|(family, _)| is_own(family));
        own.next().filter(|_| own.next().is_none()).map(|(_, files)| files).unwrap_or_default()
    }

    /// Adds the list of a package of dpkg, `NAME.md5sums` or `NAME:ARCHITECTURE.md5sums`.
    pub(super) fn add_list(&mut self, path: &str, files: &[String]) {
        let files = self.within_limit(files);
        let name = file_name(path).trim_end_matches(".md5sums");
        let list = self.lists.entry(name.to_owned()).or_default();
        files.iter().for_each(|file| insert(list, file));
    }

    /// Adds packages of dpkg.
    pub(super) fn add_packages(&mut self, packages: &[InstalledPackage]) {
        for package in packages.iter().filter(|package| package.built_by() == BuiltBy::Distribution) {
            self.official.insert(package.name.clone());
            self.official.insert(format!("{}:{}", package.name, package.architecture));
        }
    }

    /// The paths of all files that belong to packages of the distribution.
    pub(super) fn finish(self) -> PathSet {
        let Self { mut files, by_family, releases, lists, official, .. } = self;
        files.merge(Self::own_files(by_family, &releases));
        if PYTHON.iter().any(|package| official.contains(*package)) {
            files.extend(WITHOUT_LIST);
        }
        lists.into_iter().filter(|(name, _)| official.contains(name)).for_each(|(_, list)| files.merge(list));
        files
    }
}

/// Adds a file, unless the distribution has no files in its directory.
fn insert(files: &mut PathSet, file: &str) {
    if !LOCAL.iter().any(|folder| file.starts_with(folder)) {
        files.insert(&path_text(file.as_bytes()));
    }
}
