//! Reads what the content of a file states.

use std::collections::BTreeSet;

use super::super::FileFacts;
use super::super::names::Named;
use super::super::owned::may_be_owned;
use super::super::read_as::ReadAs;
use super::Collector;
use crate::inventory::checksum::FileChecksum;
use crate::inventory::distribution::is_ubuntu_pro;
use crate::inventory::language::{LanguageFile, PackageLimits};
use crate::inventory::system_file::SystemFile;
use crate::inventory::{InstalledPackage, ReadSeek, apk, copyright, dpkg, red_hat, rpm, settings};

impl Collector<'_> {
    /// Reads a file of interest, whose checksums tell later whether it is the one that a package of the distribution
    /// installed.
    pub(super) fn read_named(
        &mut self,
        path: &str,
        interest: ReadAs,
        by_content: Option<LanguageFile>,
        content: &mut dyn ReadSeek,
        size: u64,
    ) -> Named {
        let facts = self.facts(path, interest, by_content, content, size);
        match facts {
            Some(facts) if matches!(interest, ReadAs::Language(_)) => {
                let checksums = match may_be_owned(path) {
                    true => FileChecksum::of_content(content, || self.spool.must_end()),
                    false => Vec::new(),
                };
                self.add_owned(facts, checksums)
            }
            facts => self.named(interest, facts),
        }
    }

    /// Adds what a file states that a package of the distribution may own. Without checksums, none does.
    pub(super) fn add_owned(&mut self, facts: FileFacts, checksums: Vec<FileChecksum>) -> Named {
        let named = self.add(facts);
        if let Named::File(index) = named {
            self.checksums.insert(index, checksums);
        }
        named
    }

    /// The statement of the file, if any. `by_content` is its kind according to its first bytes.
    fn facts(
        &mut self,
        path: &str,
        interest: ReadAs,
        by_content: Option<LanguageFile>,
        content: &mut dyn ReadSeek,
        size: u64,
    ) -> Option<FileFacts> {
        let system = match interest {
            ReadAs::Language(file) => {
                let bytes = self.limits.facts.saturating_sub(self.facts);
                // One more than is left, so that the limit of the layer is hit.
                let packages = self.packages_left(true).saturating_add(1);
                let limits = PackageLimits { packages, bytes };
                let found = file.read(path, by_content, content, size, limits, self.spool);
                let (mut packages, mut unnamed, problems) = (found.packages, found.unnamed, found.problems);
                // The file may end up with another name.
                packages.iter_mut().for_each(|package| package.path = package.path.take().filter(|own| own != path));
                unnamed.iter_mut().filter(|archive| archive.path == path).for_each(|archive| archive.path.clear());
                let is_empty = packages.is_empty() && unnamed.is_empty() && problems.is_empty();
                return (!is_empty).then_some(FileFacts::Packages { packages, unnamed, problems });
            }
            ReadAs::System(system) => (system, true),
            // This layer does not determine whether it is the database. Until that is known, no file belongs to its
            // packages.
            ReadAs::BehindLink(system) => (system, false),
        };
        let (system, is_own) = system;
        if by_content.is_some() && system != SystemFile::Rpm {
            return Some(FileFacts::Unreadable(
                "it is a program or an archive, not the file that its name suggests".into(),
            ));
        }
        let found = match system {
            SystemFile::Rpm => Ok(self.rpm_packages(content, size, is_own)),
            _ => {
                let mut bytes = Vec::new();
                let read = content.read_to_end(&mut bytes).map_err(|error| error.to_string());
                read.and_then(|_| self.small_file(path, (system, is_own), &bytes))
            }
        };
        match found {
            Ok(SmallFile::Packages(packages, problems)) => {
                self.behind_links += if is_own { 0 } else { packages.len() };
                let problems = problems.into_iter().collect();
                Some(FileFacts::Packages { packages, unnamed: Vec::new(), problems })
            }
            Ok(SmallFile::Other(facts)) => facts,
            Err(problem) => Some(FileFacts::Unreadable(problem)),
        }
    }

    /// How many packages may follow in separate files, or in files that count as databases only because of a link: an
    /// image may contain whole systems that are not its own.
    fn packages_left(&self, is_own: bool) -> usize {
        let left = self.limits.packages.saturating_sub(self.packages);
        if is_own { left } else { (self.limits.packages / 2).saturating_sub(self.behind_links).min(left) }
    }

    /// The packages in a database of RPM. One that is damaged does not hide the others.
    fn rpm_packages(&mut self, content: &mut dyn ReadSeek, size: u64, is_own: bool) -> SmallFile {
        let (mut packages, left, mut problems) = (Vec::new(), self.packages_left(is_own), BTreeSet::new());
        let mut bytes = self.limits.facts.saturating_sub(self.facts);
        let read = rpm::read_database(content, size, &mut |found| {
            let found = match found {
                Ok(found) => found,
                Err(problem) if problems.len() < rpm::MAX_PROBLEMS => {
                    problems.insert(problem);
                    return Ok(());
                }
                Err(problem) => return Err(problem),
            };
            let rest = bytes.checked_sub(found.package.text_bytes()).filter(|_| packages.len() < left);
            bytes = rest.ok_or("the database has too many packages")?;
            if is_own {
                self.owned.add_rpm(&found.package, &found.files);
            }
            packages.push(found.package);
            Ok(())
        });
        problems.extend(read.err());
        SmallFile::Packages(packages, problems)
    }

    fn small_file(
        &mut self,
        path: &str,
        (system, is_own): (SystemFile, bool),
        content: &[u8],
    ) -> Result<SmallFile, String> {
        Ok(match system {
            SystemFile::Release => {
                SmallFile::Other(Some(FileFacts::Release(String::from_utf8_lossy(content).into_owned())))
            }
            SystemFile::UbuntuPro => SmallFile::Other(is_ubuntu_pro(content).then_some(FileFacts::UbuntuPro)),
            SystemFile::ContentManifest => SmallFile::Other(red_hat::content_sets(content)?.map(FileFacts::Build)),
            SystemFile::BuildDockerfile => SmallFile::Other(red_hat::dockerfile(path, content).map(FileFacts::Build)),
            SystemFile::DpkgFiles => {
                self.owned.add_list(path, &dpkg::files(content));
                SmallFile::Other(None)
            }
            SystemFile::DpkgCopyright => {
                let licenses = copyright::licenses(content);
                SmallFile::Other((!licenses.is_empty()).then_some(FileFacts::Licenses(licenses)))
            }
            SystemFile::DpkgStatus => {
                let database = dpkg::database(content, self.packages_left(is_own))?;
                if is_own {
                    self.owned.add_packages(&database.packages);
                }
                SmallFile::Packages(database.packages, database.problems)
            }
            SystemFile::Apk => {
                let database = apk::database(content, self.packages_left(is_own))?;
                if is_own {
                    self.owned.add(&database.files);
                }
                SmallFile::Packages(database.packages, database.problems)
            }
            SystemFile::RpmManifest => {
                let (packages, problems) = rpm::manifest(content, self.packages_left(is_own))?;
                SmallFile::Packages(packages, problems)
            }
            SystemFile::DpkgSettings => SmallFile::Other(settings::of_dpkg(content).map(FileFacts::Unreadable)),
            SystemFile::RpmMacros => SmallFile::Other(settings::of_rpm(content).map(FileFacts::Unreadable)),
            SystemFile::DpkgUpdate | SystemFile::Rpm | SystemFile::RpmJournal => SmallFile::Other(None),
        })
    }
}

/// What a file states.
enum SmallFile {
    /// Packages, and why there may be more.
    Packages(Vec<InstalledPackage>, BTreeSet<String>),
    Other(Option<FileFacts>),
}
