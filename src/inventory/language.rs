//! Packages of programming languages, read from the files that installers and compilers leave behind.
//!
//! [`language_file`] recognises a file by its path and its first bytes; [`LanguageFile::read`] reads its packages. The
//! same files count as for `trivy image`: what is installed, not lock files, which also state what was never installed.
//! Names and versions are those that the file states, as Trivy prints them.
//!
//! | files | packages |
//! |---|---|
//! | `package.json` | npm |
//! | `*.dist-info/METADATA`, `*.egg-info`, `EGG-INFO/PKG-INFO`, `*.egg` | Python |
//! | `specifications/*.gemspec` | Ruby |
//! | `installed.json` | PHP (Composer) |
//! | `*.deps.json` | .NET (NuGet) |
//! | `opt/bitnami/**/.spdx-*.spdx` | components of Bitnami |
//! | `*.spdx`, `*.spdx.json`, `*.cdx`, `*.cdx.json` | the packages that the SBOM names |
//! | ELF, PE and Mach-O executables and shared libraries | Go modules, Rust crates (`cargo auditable`), .NET in a single file |
//! | `lib/modules` of `jlink` | modules besides the JDK's are a problem |
//! | `*.phar`, scripts of PHP that an archive follows | PHP (Composer) |
//! | `*.jmod`, `*.jar`, `*.war`, `*.ear`, `*.par`, `*.pex`, `*.pyz`, `*.pyzw`, and archives in them | Java, Python |
//!
//! A file that no runtime would load is not a package and is skipped: a `package.json` that is not JSON, a text without
//! a name. A file that a runtime may load and that cannot be read completely is reported as a problem.

use crate::inventory::spool::Spool;
use crate::inventory::{ArchiveChecksum, Ecosystem, InstalledPackage, ReadSeek, UnnamedArchive};

mod archive;
mod bitnami;
mod composer;
mod dotnet;
mod executable;
mod gem;
mod go;
mod jimage;
mod json;
mod npm;
mod phar;
mod python;
mod rust;
mod sbom;
mod text;
mod window;
mod zip;

/// The largest size of a text file that is read, in bytes. Real ones have a few kilobytes; long descriptions and
/// licence texts reach a megabyte.
const MAX_TEXT_BYTES: u64 = 16 << 20;

/// The largest size of a list of packages in JSON, in bytes. Real ones reach two megabytes.
const MAX_JSON_BYTES: u64 = 4 << 20;

/// The largest size of an executable that is read, in bytes. Libraries for machine learning exceed 2 GiB.
const MAX_EXECUTABLE_BYTES: u64 = 8 << 30;

/// The largest size of an archive that is read, in bytes.
const MAX_ARCHIVE_BYTES: u64 = 4 << 30;

/// The longest name, version or licence, in bytes.
const MAX_FIELD_BYTES: usize = 1024;

/// The number of licences that are kept of one package.
const MAX_LICENSES: usize = 64;

/// A file that states packages of a programming language.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LanguageFile {
    /// A Java archive, an egg, a program of Python in one file, or a script that may have an archive at its end.
    Archive,
    /// `.spdx-NAME.spdx` of a component of Bitnami.
    Bitnami,
    /// `vendor/composer/installed.json` of Composer.
    Composer,
    /// `PROGRAM.deps.json` of .NET.
    DotNet,
    /// An executable or shared library.
    Executable,
    /// `specifications/NAME-VERSION.gemspec` of RubyGems.
    Gem,
    /// `lib/modules` of a runtime of Java.
    JavaImage,
    /// `package.json` of Node.js.
    Npm,
    /// A program of PHP in one file.
    Phar,
    /// Core metadata of a Python distribution: `METADATA`, `PKG-INFO`, `*.egg-info`.
    Python,
    /// A list of packages in the format of SPDX or CycloneDX.
    Sbom,
}

/// Recognises a file by its path in the image (without a leading `/`) and its first bytes, up to 4096 of them.
pub(super) fn language_file(path: &str, first_bytes: &[u8]) -> Option<LanguageFile> {
    let (_, name) = split_path(path);
    if name == "package.json" {
        Some(LanguageFile::Npm)
    } else if bitnami::is_list(path) {
        Some(LanguageFile::Bitnami)
    } else if composer::is_list(path) {
        Some(LanguageFile::Composer)
    } else if dotnet::is_list(path) {
        Some(LanguageFile::DotNet)
    } else if python::is_metadata(path) {
        Some(LanguageFile::Python)
    } else if gem::is_specification(path) {
        Some(LanguageFile::Gem)
    } else if phar::is_phar(path, first_bytes) {
        Some(LanguageFile::Phar)
    } else if jimage::is_image(path, first_bytes) {
        Some(LanguageFile::JavaImage)
    } else if archive::is_archive(path, first_bytes) {
        Some(LanguageFile::Archive)
    } else if sbom::is_list(path) && !first_bytes.contains(&0) {
        Some(LanguageFile::Sbom)
    } else {
        executable::is_executable(first_bytes).then_some(LanguageFile::Executable)
    }
}

/// The kind of target that a link at this path must have to be read by its own name: a file, or a directory whose name
/// decides what the files in it are.
pub(super) fn kind_of_link(path: &str) -> Option<LanguageFile> {
    let (_, name) = split_path(path);
    match name {
        "specifications" => Some(LanguageFile::Gem),
        _ if python::is_metadata_folder(name) => Some(LanguageFile::Python),
        // A link to an SBOM does not mean that its packages are installed here.
        _ => language_file(path, b"").filter(|kind| *kind != LanguageFile::Sbom),
    }
}

/// How many of the last bytes [`ends_as_archive`] gets.
pub(super) const MAX_END: u64 = archive::MAX_END;

/// Whether a file of `size` bytes that is nothing else ends as an archive with libraries, by its first and its last
/// bytes. Files that start as an archive and are not named as one are data.
pub(super) fn ends_as_archive(first_bytes: &[u8], last_bytes: &[u8], size: u64) -> bool {
    !first_bytes.starts_with(b"PK") && archive::ends_as_archive(first_bytes, last_bytes, size)
}

/// Whether the name of a file or directory decides, with that of the directory above or the file in it, that a file is
/// read.
pub(super) fn is_known_by_place(name: &str) -> bool {
    name.ends_with(".gemspec")
        || name == "specifications"
        || python::is_metadata_folder(name)
        || python::is_metadata_file(name)
}

impl LanguageFile {
    /// The largest size that is read, in bytes. A larger file is a gap.
    pub(super) fn max_bytes(self) -> u64 {
        match self {
            Self::Archive | Self::JavaImage | Self::Phar => MAX_ARCHIVE_BYTES,
            Self::Executable => MAX_EXECUTABLE_BYTES,
            Self::Bitnami | Self::Composer | Self::DotNet => MAX_JSON_BYTES,
            Self::Gem | Self::Npm | Self::Python | Self::Sbom => MAX_TEXT_BYTES,
        }
    }

    /// Reads the packages that the file states, as far as the limits allow. `path` is its path in the image,
    /// `by_content` what [`Self::by_content`] says about it, `content` and `size` its content and the number of its
    /// bytes. `spool` keeps large archives in archives while they are read, and limits the work for all files of a
    /// layer.
    pub(super) fn read(
        self,
        path: &str,
        by_content: Option<Self>,
        content: &mut dyn ReadSeek,
        size: u64,
        limits: PackageLimits,
        spool: &Spool<'_>,
    ) -> LanguagePackages {
        let mut found = LanguagePackages { limits, ..LanguagePackages::default() };
        if size > self.max_bytes() {
            found.problem(format!("the file has more than {} bytes", self.max_bytes()));
            return found;
        }
        let mut read_text = |parse: fn(&str, &str, &mut LanguagePackages)| match text::read(content, size) {
            Ok(text) => parse(path, &text, &mut found),
            Err(problem) => found.problem(problem),
        };
        match self {
            Self::Archive => {
                archive::read(path, content, size, spool, &mut found);
                let first_bytes = window::read_up_to(content, 0, 256).unwrap_or_default();
                if phar::is_script(&first_bytes) {
                    phar::read(path, content, &mut found);
                }
            }
            Self::Bitnami => read_text(bitnami::read),
            Self::Composer => read_text(composer::read),
            Self::DotNet => read_text(dotnet::read),
            Self::Executable => executable::read(path, content, size, &mut found),
            Self::Gem => read_text(gem::read),
            Self::JavaImage => jimage::read(content, &mut found),
            Self::Npm => read_text(npm::read),
            Self::Phar => phar::read(path, content, &mut found),
            Self::Python => read_text(python::read),
            // It is not the SBOM that its name suggests; see below.
            Self::Sbom if by_content.is_some() => {}
            Self::Sbom => read_text(sbom::read),
        }
        // The name is not decisive: a program runs under any name, and Java and Python load an archive that follows a
        // program.
        if by_content == Some(Self::Executable) && self != Self::Executable {
            executable::read(path, content, size, &mut found);
        }
        if by_content.is_some() && self != Self::Archive {
            archive::read(path, content, size, spool, &mut found);
        }
        found
    }

    /// The kind of a file with these first bytes, whatever its name: a program or an archive. `None` for anything else.
    pub(super) fn by_content(first_bytes: &[u8]) -> Option<Self> {
        if executable::is_executable(first_bytes) {
            return Some(Self::Executable);
        }
        first_bytes.starts_with(zip::FIRST_ENTRY).then_some(Self::Archive)
    }
}

/// How many packages of a file are kept, and the bytes of their texts. A file that states more has a problem.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PackageLimits {
    pub(super) packages: usize,
    pub(super) bytes: usize,
}

/// What was read from a file.
#[derive(Debug, Default)]
pub(super) struct LanguagePackages {
    limits: PackageLimits,
    /// The packages, without their layer.
    pub(super) packages: Vec<InstalledPackage>,
    /// Java archives that do not prove what they are, with their paths alone.
    pub(super) unnamed: Vec<UnnamedArchive>,
    /// Why the file may state more packages, once for each reason. Each is a gap.
    pub(super) problems: Vec<String>,
}

/// The number of problems that are reported for one file: an archive may have many damaged entries.
const MAX_PROBLEMS: usize = 8;

impl LanguagePackages {
    /// Adds a package. One whose name or version is too long for a real one becomes a problem instead.
    fn add(&mut self, ecosystem: Ecosystem, name: &str, version: &str, licenses: &[String], path: &str) {
        if name.len() > MAX_FIELD_BYTES || version.len() > MAX_FIELD_BYTES {
            self.problem(format!("a name or version of {} bytes", name.len().max(version.len())));
            return;
        }
        let licenses = licenses.iter().filter(|license| license.len() <= MAX_FIELD_BYTES).take(MAX_LICENSES);
        let package = InstalledPackage {
            licenses: licenses.cloned().collect(),
            path: Some(path.to_owned()),
            ..InstalledPackage::new(ecosystem, name.to_owned(), version.to_owned())
        };
        if self.has_room_for(package.text_bytes()) {
            self.packages.push(package);
        }
    }

    /// Adds a Java archive that does not prove what it is.
    fn add_unnamed(&mut self, path: &str, sha1: ArchiveChecksum, is_optional: bool) {
        let archive = UnnamedArchive { path: path.to_owned(), file: String::new(), layer: None, sha1, is_optional };
        if self.has_room_for(archive.text_bytes()) {
            self.unnamed.push(archive);
        }
    }

    /// Counts something with texts of this length. Without room for it, there is a problem.
    fn has_room_for(&mut self, bytes: usize) -> bool {
        match (self.limits.packages.checked_sub(1), self.limits.bytes.checked_sub(bytes)) {
            (Some(packages), Some(bytes)) => {
                self.limits = PackageLimits { packages, bytes };
                true
            }
            _ => {
                self.problem("the file states too many packages".to_owned());
                false
            }
        }
    }

    /// Reports that something could not be read.
    fn problem(&mut self, mut problem: String) {
        problem.truncate(problem.floor_char_boundary(MAX_FIELD_BYTES));
        if self.problems.len() < MAX_PROBLEMS && !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }
}

/// The directory and the name of the file at `path`.
fn split_path(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

#[cfg(test)]
mod tests;
