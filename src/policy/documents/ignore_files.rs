//! Trivy's ignore files, which the configuration names (aquasecurity/trivy, `pkg/result/ignore.go`): `.trivyignore`
//! with an identifier in each line, and `.trivyignore.yaml`. They apply to all images.
//!
//! What Trivy skips silently is an error here, such as an unknown key that may be meant to limit an exemption.

use std::sync::Arc;

use jiff::Timestamp;

use super::{CONFIGURATION, Materials, Settings, lint};
use crate::markup::{Fields, Place, ProblemSeverity, Problems, read_yaml};
use crate::policy::rules::exemption::{
    ExemptPackage, ExemptionRecord, ExemptionScope, InvalidExemption, IssueType, PathPattern, expiry,
};
use crate::policy::vulnerability::{IssueKind, is_cve};

/// How the end of an exemption is written after an identifier.
const END: &str = "exp:";
/// How a comment starts.
const COMMENT: &str = "#";
/// The sections of the YAML form that are read, with the kind of their issues.
const SECTIONS: [(&str, IssueKind); 3] = [
    ("vulnerabilities", IssueKind::Vulnerability),
    ("misconfigurations", IssueKind::Configuration),
    ("secrets", IssueKind::Configuration),
];

/// Reads the files. Every mistake is reported.
pub(super) fn read(settings: &Settings, materials: &dyn Materials, problems: &Problems) -> Vec<ExemptionRecord> {
    settings.ignore_files.iter().flat_map(|path| read_file(path, materials, problems)).collect()
}

fn read_file(path: &str, materials: &dyn Materials, problems: &Problems) -> Vec<ExemptionRecord> {
    let whole = Place::whole(problems.file(path));
    let text =
        materials.file(CONFIGURATION, path).and_then(|bytes| String::from_utf8(bytes).map_err(|_| "not text".into()));
    let text = match text {
        Ok(text) => text,
        Err(why) => {
            problems.error(whole, format!("va.ignore_files: {why}"));
            return Vec::new();
        }
    };
    let reader = IgnoreFile { path: path.into(), whole, problems };
    let is_yaml = [".yaml", ".yml"].iter().any(|extension| path.ends_with(extension));
    if is_yaml { reader.yaml(&text) } else { reader.lines(&text) }
}

/// A file that is being read.
struct IgnoreFile<'a> {
    path: Arc<str>,
    /// The file as a whole.
    whole: Place,
    problems: &'a Problems,
}

impl IgnoreFile<'_> {
    fn lines(&self, text: &str) -> Vec<ExemptionRecord> {
        let numbered = text.trim_start_matches('\u{feff}').lines().zip(1..);
        numbered.flat_map(|(line, number)| self.line(line, Place { line: number, column: 1, ..self.whole })).collect()
    }

    /// `CVE-2024-1234 exp:2026-12-31 # why`. The file does not say whether another identifier is that of a
    /// vulnerability or of a configuration issue. As in Trivy, `#` within a word is a part of it.
    fn line(&self, line: &str, at: Place) -> Vec<ExemptionRecord> {
        let is_start = |at: &usize| line[..*at].chars().next_back().is_none_or(char::is_whitespace);
        let start = line.match_indices(COMMENT).map(|(at, _)| at).find(is_start);
        let (content, comment) = start.map_or((line, None), |at| (&line[..at], Some(&line[at + COMMENT.len()..])));
        let mut words = content.split_whitespace();
        let Some(id) = words.next() else { return Vec::new() };
        let mut end = None;
        for word in words {
            if end.is_some() || !word.starts_with(END) {
                return self.refuse(at, &format!("{word:?}: after an identifier there is only exp:DATE or a comment"));
            }
            end = Some(word);
        }
        // Trivy knows no comments after an identifier: an end counts wherever it is.
        let mut commented = comment.unwrap_or_default().split_whitespace();
        let end = end.or_else(|| commented.find(|word| word.starts_with(END)));
        let expires = match end.map(|word| (word, expiry(&word[END.len()..]))) {
            None => None,
            Some((_, Ok(end))) => Some(end),
            Some((word, Err(invalid))) => return self.refuse(at, &format!("{word:?}: {invalid}")),
        };
        let records = ExemptionRecord::of_identifier(&ExemptionScope::EVERYTHING, id, None);
        let explained = |records: Vec<ExemptionRecord>| {
            records.into_iter().map(|record| record.commented(comment)).collect::<Result<Vec<_>, _>>()
        };
        match records.and_then(explained) {
            Ok(records) => records.into_iter().map(|record| self.dated(record, expires)).collect(),
            Err(invalid) => self.refuse(at, &format!("{id:?}: {invalid}")),
        }
    }

    fn refuse(&self, at: Place, why: &str) -> Vec<ExemptionRecord> {
        self.problems.error(at, why);
        Vec::new()
    }

    fn dated(&self, record: ExemptionRecord, expires: Option<Timestamp>) -> ExemptionRecord {
        ExemptionRecord { expires, document: Some(self.path.clone()), ..record }
    }

    fn yaml(&self, text: &str) -> Vec<ExemptionRecord> {
        let mut records = Vec::new();
        let roots = read_yaml(text, self.whole.file, self.problems);
        if let Some(second) = roots.get(1) {
            self.problems.error(second.at, "Trivy reads only the first document of a file");
        }
        for root in &roots {
            let Some(fields) = Fields::of(root, "the file", self.problems) else { continue };
            fields.only(&[&SECTIONS.map(|(key, _)| key)[..], &["licenses"]].concat());
            if !fields.list("licenses").is_empty() {
                fields.warn("licenses are not read", "allow licences in the va rule of a policy");
            }
            for (key, kind) in SECTIONS {
                let entries = fields.list(key).iter().filter_map(|node| Fields::of(node, "an entry", self.problems));
                records.extend(entries.flat_map(|entry| self.entry(kind, &entry).unwrap_or_default()));
            }
        }
        records
    }

    /// One record for each combination of a package and a path. `None` after an error was reported.
    fn entry(&self, kind: IssueKind, entry: &Fields<'_>) -> Option<Vec<ExemptionRecord>> {
        lint::empty_keys(entry.members(), self.problems);
        entry.only(&["id", "paths", "purls", "expired_at", "statement"]);
        let id = entry.required("id")?;
        let kind = match kind {
            IssueKind::Vulnerability if is_cve(id) => IssueType::Cve,
            IssueKind::Vulnerability => IssueType::SecurityNotice,
            IssueKind::Configuration => IssueType::Configuration,
        };
        let end = |text| expiry(text).map_err(|invalid| wrong(entry, "expired_at", text, &invalid)).ok();
        let expires = match entry.get("expired_at") {
            Some(_) => Some(end(entry.text("expired_at")?)?),
            None => None,
        };
        let packages = all(entry, "purls", |text| match text.parse()? {
            ExemptPackage::Named(_) => Err(InvalidExemption::Purl),
            package @ ExemptPackage::Purl(_) => Ok(package),
        })?;
        let paths = all(entry, "paths", str::parse::<PathPattern>)?;
        for path in entry.texts("paths").into_iter().filter(|path| path.starts_with('/')) {
            let message = format!("{path:?} matches no path: paths in an image begin without /, here and in Trivy");
            entry.warn(message, format!("write {}", path.trim_start_matches('/')));
        }
        let combinations = packages.iter().flat_map(|package| paths.iter().map(move |path| (package, path)));
        let record = |(package, path): (&Option<ExemptPackage>, &Option<PathPattern>)| {
            let record = ExemptionRecord::new(ExemptionScope::EVERYTHING, kind, Some(id), package.clone())?;
            let record = record.commented(entry.text("statement"))?;
            Ok(self.dated(path.iter().fold(record, |record, path| record.at_path(path.clone())), expires))
        };
        let records = combinations.map(record).collect::<Result<Vec<_>, InvalidExemption>>();
        records.map_err(|invalid| entry.error(format!("{id:?}: {invalid}"))).ok()
    }
}

/// The values of a list; a single `None` if there is no such key. A list without values would exempt nothing, so it is
/// an error. `None` after an error was reported.
fn all<T>(
    entry: &Fields<'_>,
    key: &str,
    parse: impl Fn(&str) -> Result<T, InvalidExemption>,
) -> Option<Vec<Option<T>>> {
    if entry.get(key).is_none() {
        return Some(vec![None]);
    }
    let (listed, texts) = (entry.list(key), entry.texts(key));
    if listed.is_empty() || texts.len() != listed.len() {
        entry.error(format!("{key} must be a non-empty list of strings"));
        return None;
    }
    let parsed =
        texts.into_iter().map(|text| parse(text).map(Some).map_err(|invalid| wrong(entry, key, text, &invalid)));
    parsed.collect::<Result<_, _>>().ok()
}

fn wrong(entry: &Fields<'_>, key: &str, text: &str, invalid: &InvalidExemption) {
    entry.report_key(ProblemSeverity::Error, key, &format!("{text:?}: {invalid}"), None);
}
