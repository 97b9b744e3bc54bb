//! Feeds about CVEs: which are exploited, and how probably they will be.
//!
//! - KEV, the catalog of Known Exploited Vulnerabilities of the CISA, as JSON:
//!   `https://www.cisa.gov/sites/default/files/feeds/known_exploited_vulnerabilities.json`
//! - EPSS, the Exploit Prediction Scoring System of FIRST, as CSV:
//!   `https://epss.empiricalsecurity.com/epss_scores-current.csv.gz`
//!
//! Both are checked line by line, and kept as a table. A single unreadable line fails the import: otherwise its
//! vulnerability would seem not to be exploited.

use std::collections::BTreeMap;
use std::io::{BufRead, Read};

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize;

use super::DamagedDatabase;
use super::cve_table::{CveKey, MAX_ENTRIES};
use crate::runtime::counted;

/// The largest catalog, in bytes. It has about 1.5 MB.
const MAX_CATALOG: u64 = 64 << 20;
/// The longest line of a file with scores, in bytes. They have about 40.
const MAX_LINE: u64 = 4096;
/// The beginning of a file with scores.
pub(super) const EPSS_START: &[u8] = b"#model_version:";

/// What a feed states.
#[derive(Debug)]
pub(super) struct FeedContents {
    /// When it was made.
    pub(super) built: Timestamp,
    /// A number for each CVE: for EPSS the probability, as the bits of a 32-bit float.
    pub(super) entries: BTreeMap<CveKey, u32>,
}

/// Reads the catalog of known exploited vulnerabilities.
///
/// # Errors
/// It is not the whole catalog, or an entry does not match its schema.
pub(super) fn read_kev(content: &mut dyn Read) -> Result<FeedContents, DamagedDatabase> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Catalog {
        date_released: Timestamp,
        count: usize,
        vulnerabilities: Vec<KnownExploited>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct KnownExploited {
        #[serde(rename = "cveID")]
        cve_id: String,
        #[serde(rename = "dateAdded")]
        _date_added: Date,
    }
    let mut text = Vec::new();
    content.take(MAX_CATALOG + 1).read_to_end(&mut text).map_err(|error| DamagedDatabase(error.to_string()))?;
    if text.len() as u64 > MAX_CATALOG {
        return Err(DamagedDatabase(format!("the catalog has more than {MAX_CATALOG} bytes")));
    }
    let catalog: Catalog = serde_json::from_slice(&text).map_err(|error| {
        DamagedDatabase(format!("it is not the catalog of known exploited vulnerabilities: {error}"))
    })?;
    let Catalog { date_released: built, count, vulnerabilities } = catalog;
    if count != vulnerabilities.len() || count == 0 {
        let found = counted(vulnerabilities.len(), "entry", "entries");
        return Err(DamagedDatabase(format!("the catalog has {found}, but states {count}")));
    }
    let mut entries = BTreeMap::new();
    for KnownExploited { cve_id, .. } in vulnerabilities {
        let key = CveKey::parse(&cve_id).ok_or_else(|| DamagedDatabase(format!("{cve_id:?} is not a CVE")))?;
        entries.insert(key, 1);
    }
    Ok(FeedContents { built, entries })
}

/// Reads scores, unpacked.
///
/// # Errors
/// A line does not match the format, or the file has no scores.
pub(super) fn read_epss(content: &mut dyn BufRead) -> Result<FeedContents, DamagedDatabase> {
    let mut lines = EpssLines { content, number: 0 };
    let first = lines.next()?.unwrap_or_default();
    let built = first.strip_prefix("#model_version:").and_then(|rest| rest.split_once(",score_date:"));
    let built = built.and_then(|(_, date)| score_date(date.trim())).ok_or_else(|| lines.wrong())?;
    if lines.next()?.as_deref().map(str::trim_end) != Some("cve,epss,percentile") {
        return Err(lines.wrong());
    }
    let mut entries = BTreeMap::new();
    while let Some(line) = lines.next()? {
        let (key, score) = score(&line).ok_or_else(|| lines.wrong())?;
        entries.insert(key, score.to_bits());
        if entries.len() > MAX_ENTRIES {
            return Err(DamagedDatabase(format!("it has more than {MAX_ENTRIES} scores")));
        }
    }
    if entries.is_empty() {
        return Err(DamagedDatabase("it has no scores".to_owned()));
    }
    Ok(FeedContents { built, entries })
}

/// `CVE-2024-1234,0.00043,0.10123`: the CVE, the probability and the share of CVEs with a lower one.
fn score(line: &str) -> Option<(CveKey, f32)> {
    let mut fields = line.trim_end().split(',');
    let (cve, score, percentile) = (fields.next()?, fields.next()?, fields.next()?);
    let is_share = |share: &f32| (0.0..=1.0).contains(share);
    percentile.parse().ok().filter(is_share)?;
    let score = score.parse().ok().filter(is_share)?;
    fields.next().is_none().then_some((CveKey::parse(cve)?, score))
}

/// `2025-06-01T00:00:00+0000`, or with `Z` at the end.
fn score_date(text: &str) -> Option<Timestamp> {
    match text.strip_suffix("+0000") {
        Some(time) => format!("{time}Z").parse().ok(),
        None => text.parse().ok(),
    }
}

struct EpssLines<'a> {
    content: &'a mut dyn BufRead,
    number: u64,
}

impl EpssLines<'_> {
    fn next(&mut self) -> Result<Option<String>, DamagedDatabase> {
        let mut line = String::new();
        let read = (&mut *self.content).take(MAX_LINE).read_line(&mut line);
        self.number += 1;
        match read {
            Ok(0) => Ok(None),
            Ok(_) if line.len() as u64 == MAX_LINE => Err(self.wrong()),
            Ok(_) => Ok(Some(line)),
            Err(error) => Err(DamagedDatabase(format!("line {}: {error}", self.number))),
        }
    }

    fn wrong(&self) -> DamagedDatabase {
        DamagedDatabase(format!("line {} is not a valid EPSS row", self.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kev(text: &str) -> Result<FeedContents, DamagedDatabase> {
        read_kev(&mut text.as_bytes())
    }

    fn epss(text: &str) -> Result<FeedContents, DamagedDatabase> {
        read_epss(&mut text.as_bytes())
    }

    #[test]
    fn catalogs_are_read_whole_or_not_at_all() {
        let entry = r#"{"cveID": "CVE-2021-44228", "vendorProject": "Apache", "dateAdded": "2021-12-10"}"#;
        let catalog = |count: u32, entries: &str| {
            format!(
                r#"{{"title": "x", "catalogVersion": "2026.05.01", "dateReleased": "2026-05-01T14:00:21.1234Z", "count": {count}, "vulnerabilities": [{entries}]}}"#
            )
        };
        let read = kev(&catalog(1, entry)).unwrap();
        assert_eq!(read.built.to_string(), "2026-05-01T14:00:21.1234Z");
        assert!(read.entries.contains_key(&CveKey::parse("CVE-2021-44228").unwrap()));
        for (what, text) in [
            ("another number", catalog(2, entry)),
            ("empty", catalog(0, "")),
            ("no CVE", catalog(1, &entry.replace("CVE-2021", "XVE-2021"))),
            ("no date", catalog(1, &entry.replace("2021-12-10", "soon"))),
            ("cut", catalog(1, entry)[..100].to_owned()),
            ("something else", "[]".to_owned()),
        ] {
            assert!(kev(&text).is_err(), "{what}");
        }
    }

    #[test]
    fn scores_are_read_line_by_line() {
        let head = "#model_version:v2025.03.14,score_date:2026-05-01T00:00:00+0000\ncve,epss,percentile\n";
        let rows = "CVE-1999-0001,0.01141,0.77547\nCVE-2024-12345,1,1\n";
        let read = epss(&format!("{head}{rows}")).unwrap();
        assert_eq!(read.built.to_string(), "2026-05-01T00:00:00Z");
        let score = read.entries[&CveKey::parse("CVE-1999-0001").unwrap()];
        assert_eq!(f32::from_bits(score), 0.01141);
        let newer = head.replace("+0000", "Z");
        assert_eq!(epss(&format!("{newer}{rows}")).unwrap().entries.len(), 2);
        for (what, text) in [
            ("no head", rows.to_owned()),
            ("no scores", head.to_owned()),
            ("above 1", format!("{head}CVE-2024-1234,1.01,0\n")),
            ("below 0", format!("{head}CVE-2024-1234,-0.1,0\n")),
            ("no number", format!("{head}CVE-2024-1234,NaN,0\n")),
            ("a missing field", format!("{head}CVE-2024-1234,0.5\n")),
            ("a field too many", format!("{head}CVE-2024-1234,0.5,0.5,1\n")),
            ("no CVE", format!("{head}x,0.5,0.5\n")),
            ("a cut line", format!("{head}{rows}CVE-2024-1")),
        ] {
            assert!(epss(&text).is_err(), "{what}");
        }
    }
}
