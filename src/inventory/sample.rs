//! Builds layers for tests.

use std::sync::Arc;

use md5::{Digest as _, Md5};

use super::{LayerInventory, LayerLimits, LayerReading, read_layer, read_layer_again};
use crate::oci::{Algorithm, Digest};

/// An entry of a layer.
#[derive(Clone, Debug)]
pub(super) enum SampleEntry {
    File(String, u32, Vec<u8>),
    Directory(String),
    Symlink(String, String),
    HardLink(String, String),
    /// A character device.
    Device(String),
}

/// A file that nobody may execute.
pub(super) fn file(path: &str, content: impl AsRef<[u8]>) -> SampleEntry {
    SampleEntry::File(path.to_owned(), 0o644, content.as_ref().to_vec())
}

/// A program that states no packages.
pub(super) fn program(path: &str) -> SampleEntry {
    SampleEntry::File(path.to_owned(), 0o755, b"#!/bin/sh\n".to_vec())
}

pub(super) fn directory(path: &str) -> SampleEntry {
    SampleEntry::Directory(path.to_owned())
}

pub(super) fn symlink(path: &str, target: &str) -> SampleEntry {
    SampleEntry::Symlink(path.to_owned(), target.to_owned())
}

pub(super) fn hard_link(path: &str, target: &str) -> SampleEntry {
    SampleEntry::HardLink(path.to_owned(), target.to_owned())
}

/// A character device, which only root can create.
pub(super) fn device(path: &str) -> SampleEntry {
    SampleEntry::Device(path.to_owned())
}

/// A package of Node.js in this directory.
pub(super) fn node_package(directory: &str, name: &str, version: &str) -> SampleEntry {
    file(&format!("{directory}/package.json"), format!(r#"{{"name": "{name}", "version": "{version}"}}"#))
}

/// A database of dpkg with these packages.
pub(super) fn dpkg_status(packages: &[(&str, &str)]) -> SampleEntry {
    let entry = |(name, version): &(&str, &str)| {
        format!("Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n\n")
    };
    file("var/lib/dpkg/status", packages.iter().map(entry).collect::<String>())
}

/// A line of dpkg's lists of files (`*.md5sums`).
pub(super) fn md5_line(path: &str, content: &[u8]) -> String {
    let checksum: [u8; 16] = Md5::digest(content).into();
    format!("{:032x}  {path}\n", u128::from_be_bytes(checksum))
}

/// A zip archive with one entry, which is not compressed.
pub(super) fn zip(name: &str, content: &[u8]) -> Vec<u8> {
    let mut checksum = flate2::Crc::new();
    checksum.update(content);
    let short = |number: usize| u16::try_from(number).unwrap().to_le_bytes().to_vec();
    let long = |number: usize| u32::try_from(number).unwrap().to_le_bytes().to_vec();
    let sizes = [checksum.sum().to_le_bytes().to_vec(), long(content.len()), long(content.len())].concat();
    // Version, flags, method, time and date, then what both headers have.
    let common = [short(20), short(0), short(0), long(0), sizes, short(name.len()), short(0)].concat();
    let local = [b"PK\x03\x04", &common[..], name.as_bytes(), content].concat();
    let directory = [b"PK\x01\x02", &short(20)[..], &common, &[0; 14], name.as_bytes()].concat();
    let end = [short(0), short(0), short(1), short(1), long(directory.len()), long(local.len()), short(0)].concat();
    [&local[..], &directory, b"PK\x05\x06", &end].concat()
}

/// The entries as a tar.
pub(super) fn archive(entries: &[SampleEntry]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        match entry {
            SampleEntry::File(path, mode, content) => {
                header.set_mode(*mode);
                header.set_size(content.len() as u64);
                builder.append_data(&mut header, path, &content[..]).unwrap();
            }
            SampleEntry::Directory(path) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                builder.append_data(&mut header, format!("{path}/"), &b""[..]).unwrap();
            }
            SampleEntry::Symlink(path, target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                builder.append_link(&mut header, path, target).unwrap();
            }
            SampleEntry::HardLink(path, target) => {
                header.set_entry_type(tar::EntryType::Link);
                builder.append_link(&mut header, path, target).unwrap();
            }
            SampleEntry::Device(path) => {
                header.set_entry_type(tar::EntryType::Char);
                builder.append_data(&mut header, path, &b""[..]).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

/// Reads a layer that is in memory.
pub(super) fn read(bytes: &[u8]) -> LayerReading {
    let limits = LayerLimits::of(bytes.len() as u64);
    let reading = read_layer(bytes, Algorithm::Sha256, &limits, &std::env::temp_dir()).unwrap();
    if reading.unread.is_empty() {
        return reading;
    }
    read_layer_again(bytes, Algorithm::Sha256, &limits, &std::env::temp_dir(), &reading.unread).unwrap()
}

/// A layer with these entries. It has survived serialisation.
pub(super) fn layer(entries: &[SampleEntry]) -> (Digest, Arc<LayerInventory>) {
    let reading = read(&archive(entries));
    let text = serde_json::to_string(&reading.contents).unwrap();
    let back: LayerInventory = serde_json::from_str(&text).unwrap();
    assert_eq!(back, reading.contents);
    (reading.diff_id.unwrap(), Arc::new(back))
}
