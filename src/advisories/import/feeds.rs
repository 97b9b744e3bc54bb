//! Feeds about CVEs: KEV and EPSS, from files and web servers.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::super::cve_table;
use super::super::feed::{EPSS_START, FeedContents, read_epss, read_kev};
use super::super::generations::{DatabaseKind, GenerationManifest, Staged, Staging};
use super::super::meter::Meter;
use super::super::section::FileSection;
use super::super::{DamagedDatabase, DatabaseError};
use super::ImportJob;
use super::fetch::WebOrigin;

/// Whether this is a compressed file with EPSS scores.
pub(super) fn is_packed_epss(file: &File) -> bool {
    let mut start = vec![0; EPSS_START.len()];
    let packed = FileSection { file, at: 0, end: 64 * 1024 };
    MultiGzDecoder::new(BufReader::new(packed)).read_exact(&mut start).is_ok() && start == EPSS_START
}

impl ImportJob<'_> {
    /// Reads a feed of a file, compressed with gzip or not.
    pub(super) fn feed(
        &self,
        kind: DatabaseKind,
        path: &Path,
        meter: &mut Meter<'_>,
    ) -> Result<Vec<Staged>, DatabaseError> {
        Ok(vec![self.feed_in(self.store.stage()?, kind, path, WebOrigin::default(), meter)?])
    }

    pub(super) fn feed_in(
        &self,
        staging: Staging,
        kind: DatabaseKind,
        path: &Path,
        origin: WebOrigin,
        meter: &mut Meter<'_>,
    ) -> Result<Staged, DatabaseError> {
        let FeedContents { built, entries } = self.feed_contents(kind, path, meter)?;
        cve_table::write(&staging.path().join(cve_table::TABLE), &entries)?;
        let manifest = GenerationManifest {
            source: if kind == DatabaseKind::Kev { "kev" } else { "epss" }.to_owned(),
            kind,
            built,
            fetched: self.options.now,
            from: self.from.clone(),
            etag: origin.etag,
            rows: entries.len() as u64,
            files: vec![staging.describe(cve_table::TABLE)?],
        };
        staging.complete(manifest)
    }

    fn feed_contents(
        &self,
        kind: DatabaseKind,
        path: &Path,
        meter: &mut Meter<'_>,
    ) -> Result<FeedContents, DatabaseError> {
        let failed = |error| DatabaseError::io(path, error);
        let mut file = BufReader::new(File::open(path).map_err(failed)?);
        let is_packed = file.fill_buf().map_err(failed)?.starts_with(&[0x1F, 0x8B]);
        let text: Box<dyn Read> = if is_packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        // One byte more than is allowed is enough to notice that there are too many.
        let most = meter.most_unpacked().saturating_add(1);
        let mut text = BufReader::new(text.take(most));
        let read = if kind == DatabaseKind::Kev { read_kev(&mut text) } else { read_epss(&mut text) };
        meter.unpacked(most - text.get_ref().limit())?;
        read.map_err(|DamagedDatabase(problem)| self.wrong(&problem))
    }
}
