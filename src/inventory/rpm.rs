//! The database of RPM in its three formats, and the list of packages in distroless images of Azure Linux.

use std::collections::BTreeSet;
use std::io::SeekFrom;

use jiff::Timestamp;

use super::checksum::PackagedFile;
use super::text::lines;
use super::{Ecosystem, InstalledPackage, ReadSeek, SourcePackage};

mod bdb;
mod header;
mod ndb;
#[cfg(test)]
mod sample;
mod sqlite;
#[cfg(test)]
pub(super) use sample::{VendorFile, half_damaged, of_vendors};

/// The maximum number of problems of one database that are listed.
pub(super) const MAX_PROBLEMS: usize = 8;

/// An installed package, and its files.
#[derive(Debug)]
pub(super) struct RpmPackage {
    pub(super) package: InstalledPackage,
    pub(super) files: Vec<PackagedFile>,
}

/// Reads a database of RPM and passes each package to `each`, or what is wrong with its header. The format is detected
/// by content: SQLite (rpm 4.16 and later), ndb (SUSE) or Berkeley DB (CentOS 8 and earlier). An empty file is an empty
/// database.
///
/// # Errors
/// The database is damaged or in another format, or `each` fails.
pub(super) fn read_database(
    content: &mut dyn ReadSeek,
    size: u64,
    each: &mut dyn FnMut(Result<RpmPackage, String>) -> Result<(), String>,
) -> Result<(), String> {
    if size == 0 {
        return Ok(());
    }
    let mut file = RpmFile { content, size };
    let mut each = |blob: &[u8]| each(header::package(blob));
    let first = file.read(0, 16.min(usize::try_from(size).unwrap_or(16)))?;
    match &*first {
        b"SQLite format 3\0" => sqlite::blobs(&mut file, &mut each),
        [b'R', b'p', b'm', b'P', ..] => ndb::blobs(&mut file, &mut each),
        _ => bdb::blobs(&mut file, &mut each),
    }
}

/// Parses `var/lib/rpmmanifest/container-manifest-2`, the output of `rpm -qa` in ten fields separated by tabs: name,
/// version-release, time of installation, time of build, vendor, `(none)`, size, architecture, epoch, source RPM.
///
/// Also returns what is wrong with lines that have another form.
///
/// # Errors
/// There are more than `limit` packages.
pub(super) fn manifest(content: &[u8], limit: usize) -> Result<(Vec<InstalledPackage>, BTreeSet<String>), String> {
    let package = |line: std::borrow::Cow<'_, str>| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [name, version, _, built, vendor, _, _, architecture, epoch, source] = fields[..] else {
            return Err(format!("a line of the list of packages has {} instead of 10 fields", fields.len()));
        };
        let epoch = epoch.parse().map_err(|_| format!("the epoch of {name} is not a number"))?;
        if name.is_empty() || version.split('-').count() != 2 {
            return Err(format!("the package {name} has no name or no version"));
        }
        Ok(Rpm { name, version, epoch, architecture, source, vendor, built: built.parse().ok(), ..Rpm::default() }
            .package())
    };
    let stated = || lines(content).filter(|line| !line.trim().is_empty());
    if stated().nth(limit).is_some() {
        return Err("the list has too many packages".into());
    }
    let (mut packages, mut problems) = (Vec::new(), BTreeSet::new());
    for line in stated() {
        match package(line) {
            Ok(package) => packages.push(package),
            Err(problem) if problems.len() < MAX_PROBLEMS => drop(problems.insert(problem)),
            Err(_) => {}
        }
    }
    Ok((packages, problems))
}

/// The values of a package as RPM states them. Empty if not stated.
#[derive(Default)]
struct Rpm<'a> {
    name: &'a str,
    /// `VERSION-RELEASE`.
    version: &'a str,
    epoch: u32,
    architecture: &'a str,
    /// The name of the source package's file: `openssl-3.0.7-27.el9.src.rpm`.
    source: &'a str,
    module: &'a str,
    vendor: &'a str,
    license: &'a str,
    /// When it was built, in seconds since 1970.
    built: Option<i64>,
}

impl Rpm<'_> {
    fn package(&self) -> InstalledPackage {
        let stated = |text: &str| Some(text.to_owned()).filter(|text| !matches!(&**text, "" | "(none)"));
        let with_epoch = |version: &str| match self.epoch {
            0 => version.to_owned(),
            epoch => format!("{epoch}:{version}"),
        };
        // The epoch is that of the binary package: the name of the file does not contain one.
        let source = source_name(self.source)
            .filter(|(name, version)| *name != self.name || *version != self.version)
            .map(|(name, version)| SourcePackage { name: name.to_owned(), version: with_epoch(version) });
        InstalledPackage {
            source,
            architecture: stated(self.architecture).unwrap_or_default(),
            module: stated(self.module),
            vendor: stated(self.vendor),
            licenses: stated(self.license).into_iter().collect(),
            built: self.built.and_then(|seconds| Timestamp::from_second(seconds).ok()),
            ..InstalledPackage::new(Ecosystem::Rpm, self.name.to_owned(), with_epoch(self.version))
        }
    }
}

/// The name and the version with release: `openssl`, `3.0.7-27.el9`.
fn source_name(file: &str) -> Option<(&str, &str)> {
    let (name, _architecture) = file.strip_suffix(".rpm").unwrap_or(file).rsplit_once('.')?;
    let (rest, _release) = name.rsplit_once('-')?;
    let (package, _version) = rest.rsplit_once('-')?;
    Some((package, &name[package.len() + 1..]))
}

/// A database file of untrusted content.
struct RpmFile<'a> {
    content: &'a mut dyn ReadSeek,
    size: u64,
}

impl RpmFile<'_> {
    /// Reads `length` bytes at `at`, which must be inside the file.
    fn read(&mut self, at: u64, length: usize) -> Result<Vec<u8>, String> {
        let outside = || format!("{length} bytes at {at} extend beyond the {} bytes of the file", self.size);
        at.checked_add(length as u64).filter(|end| *end <= self.size).ok_or_else(outside)?;
        let mut bytes = vec![0; length];
        self.content
            .seek(SeekFrom::Start(at))
            .and_then(|_| self.content.read_exact(&mut bytes))
            .map_err(|error| format!("the database cannot be read: {error}"))?;
        Ok(bytes)
    }
}

/// Marks pages as used. A damaged database may use one twice, or lead in a circle.
#[derive(Default)]
struct PagesSeen(std::collections::HashSet<u32>);

impl PagesSeen {
    fn add(&mut self, page: u32) -> Result<(), String> {
        if self.0.insert(page) { Ok(()) } else { Err(format!("page {page} is used twice")) }
    }
}

/// Two bytes at `at`, big-endian or little-endian.
fn u16_at(bytes: &[u8], at: usize, big: bool) -> Result<u16, String> {
    let two = at.checked_add(2).and_then(|end| bytes.get(at..end)).and_then(|two| two.first_chunk());
    let two = two.ok_or("a number extends beyond its page")?;
    Ok(if big { u16::from_be_bytes(*two) } else { u16::from_le_bytes(*two) })
}

/// Four bytes at `at`, big-endian or little-endian.
fn u32_at(bytes: &[u8], at: usize, big: bool) -> Result<u32, String> {
    let four = at.checked_add(4).and_then(|end| bytes.get(at..end)).and_then(|four| four.first_chunk());
    let four = four.ok_or("a number extends beyond its page")?;
    Ok(if big { u32::from_be_bytes(*four) } else { u32::from_le_bytes(*four) })
}

#[cfg(test)]
mod tests;
