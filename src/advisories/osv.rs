//! OSV records (ossf.github.io/osv-schema), compiled to an index.
//!
//! Records come as zip archives with one JSON file for each record, as osv.dev publishes them for each ecosystem, or as
//! a directory of such files. [`compile()`] reads them one at a time and writes an index file, from which a look-up
//! reads a few hundred bytes. A record that cannot be read fails the compilation: the index would call its packages
//! clean.

mod block;
mod changes;
mod compile;
mod encoding;
mod index;
mod record;
#[cfg(test)]
mod tests;
mod zip;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use jiff::Timestamp;

pub(super) use self::block::StoredTexts;
pub(super) use self::compile::{OsvCompiler, OsvContents};
pub use self::index::OsvIndex;
#[cfg(test)]
pub(super) use self::tests::sample_zip;
use super::meter::Meter;
use super::{DamagedDatabase, DatabaseError};

/// The name of the index file.
pub(super) const INDEX: &str = "osv.index";
/// The maximum size of a record, in bytes. The largest known have less than 5 MiB.
const MAX_RECORD: u64 = 16 << 20;
/// The maximum depth of directories that are searched for records.
const MAX_FOLDERS: usize = 16;

/// Compiles a zip archive of records, or a directory, into an index file. `covered` names the ecosystems whose records
/// are complete (see [`OsvCompiler::finish`]), and `now` decides which records are withdrawn.
///
/// # Errors
/// A record or the archive is damaged, there are no records, a limit is exceeded, the index cannot be written, or the
/// work was cancelled.
pub(super) fn compile(
    source: &Path,
    index: &Path,
    covered: &[String],
    now: Timestamp,
    meter: &mut Meter<'_>,
) -> Result<OsvContents, DatabaseError> {
    let mut compiler = OsvCompiler::new(index, now)?;
    if source.is_dir() {
        add_folder(source, 0, &mut compiler, meter)?;
    } else {
        let file = File::open(source).map_err(|error| DatabaseError::io(source, error))?;
        zip::for_each(&file, MAX_RECORD, &mut |entry| {
            meter.unpacked(entry.size)?;
            match (is_record(&entry.name), entry.content) {
                (false, _) => compiler.ignore(),
                (true, content) => compiler.add(&entry.name, content)?,
            }
            Ok(())
        })?;
    }
    compiler.finish(covered)
}

fn is_record(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

/// Adds the records in a directory and its subdirectories. Symbolic links and hidden directories are not followed.
fn add_folder(
    folder: &Path,
    depth: usize,
    compiler: &mut OsvCompiler,
    meter: &mut Meter<'_>,
) -> Result<(), DatabaseError> {
    let failed = |error| DatabaseError::io(folder, error);
    if depth > MAX_FOLDERS {
        return Err(failed(io::Error::other(format!("directories are nested more than {MAX_FOLDERS} deep"))));
    }
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
        let name = path.display().to_string();
        if kind.is_dir() {
            if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                add_folder(&path, depth + 1, compiler, meter)?;
            }
        } else if kind.is_file() && is_record(&name) {
            let content = read_record(&path, meter)?;
            compiler.add(&name, content)?;
        } else {
            compiler.ignore();
        }
    }
    Ok(())
}

fn read_record(path: &Path, meter: &mut Meter<'_>) -> Result<Result<Vec<u8>, DamagedDatabase>, DatabaseError> {
    let mut content = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_RECORD + 1).read_to_end(&mut content));
    read.map_err(|error| DatabaseError::io(path, error))?;
    meter.unpacked(content.len() as u64)?;
    let is_bounded = content.len() as u64 <= MAX_RECORD;
    Ok(if is_bounded { Ok(content) } else { Err(DamagedDatabase(format!("it has more than {MAX_RECORD} bytes"))) })
}
