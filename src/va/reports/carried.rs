//! Which files are about given images, for bundles that carry them to another gate, and whether carried ones are in
//! use.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use super::document::{self, ReportFile};
use super::index::{File, Index};
use super::scan::{self, MAX_FILE};
use super::{BoundReports, Reports};
use crate::oci::Digest;

/// The largest file that is read, in bytes.
pub const MAX_REPORT: u64 = MAX_FILE;

/// How long to wait until files are in use. Some file systems show them to other machines after a minute.
const WAIT: Duration = Duration::from_secs(90);

/// How often the directories are read meanwhile.
const AGAIN: Duration = Duration::from_secs(5);

/// The files in directories of reports that are about some images.
#[derive(Debug)]
pub struct ReportsAbout {
    /// The files: reports, and VEX statements about these images or about any image.
    pub files: Vec<PathBuf>,
    /// Directories and files that were not read, and why. They may be about the images, too.
    pub problems: Vec<String>,
}

/// Reads all files in these directories, and finds those about images with these digests: of manifests, configurations
/// and indexes.
pub fn reports_about(directories: &[PathBuf], images: &BTreeSet<Digest>, now: Timestamp) -> ReportsAbout {
    let index = scan::scan(directories, &Index::default(), now);
    let broken = index.files.iter().filter_map(|(path, file)| {
        let why = file.content.as_ref().err()?;
        Some(format!("{}: {why}", path.display()))
    });
    let problems = index.left_out.iter().cloned().chain(broken).collect();
    ReportsAbout { files: index.files_about(images).cloned().collect(), problems }
}

/// What a file is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReportSubjects {
    /// Whether the file is about one of the images that were asked for.
    pub has_image: bool,
    /// The number of VEX statements that name no image, and so apply to every image.
    pub on_any: usize,
}

/// What a file with this content is about: one of these images, or any.
///
/// # Errors
/// The content is not a report or a VEX document that this version reads.
pub fn report_subjects(content: &[u8], images: &BTreeSet<Digest>) -> Result<ReportSubjects, String> {
    let file = document::parse(content).map_err(|error| error.to_string())?;
    let on_any = file.statements.iter().filter(|statement| statement.images.is_empty()).count();
    Ok(ReportSubjects { has_image: file.is_about(images), on_any })
}

impl ReportFile {
    /// Whether the report or a statement in it is about one of these images. A statement that names no image is about
    /// any, and without it, what it takes back would be exempt.
    fn is_about(&self, images: &BTreeSet<Digest>) -> bool {
        let mut reported = self.image.own.iter().chain(&self.image.listed);
        let is_stated = || {
            let mut named = self.statements.iter().map(|statement| &statement.images);
            named.any(|named| named.is_empty() || named.iter().any(|image| images.contains(&image.digest)))
        };
        reported.any(|digest| images.contains(digest)) || is_stated()
    }
}

impl Index {
    /// The files that are about one of these images.
    fn files_about(&self, images: &BTreeSet<Digest>) -> impl Iterator<Item = &PathBuf> {
        let is_about = move |file: &File| file.content.as_ref().is_ok_and(|file| file.is_about(images));
        self.files.iter().filter(move |(_, file)| is_about(file)).map(|(path, _)| path)
    }

    /// Whether there are files with all of these names, and what is wrong with the first that is not in use.
    fn of_names(&self, names: &[String]) -> (bool, Option<String>) {
        let found: BTreeMap<_, _> =
            self.files.iter().filter_map(|(path, file)| Some((path.file_name()?, &file.content))).collect();
        let has_all = names.iter().all(|name| found.contains_key(OsStr::new(name)));
        let unread = self.left_out.first().map(|why| format!(", and has not read all of them: {why}"));
        let unread = unread.unwrap_or_default();
        let wrong = names.iter().find_map(|name| match found.get(OsStr::new(name)) {
            Some(Ok(_)) => None,
            Some(Err(why)) => Some(format!("{name}: {why}")),
            None => Some(format!("the gate has not found {name} in the directories of va.reports{unread}")),
        });
        (has_all, wrong)
    }
}

impl BoundReports {
    /// How many files are about images with these digests.
    pub(in crate::va) fn count_about(&self, images: &BTreeSet<Digest>) -> usize {
        self.reports.0.index.load().files_about(images).count()
    }

    /// Waits for a limited time until files with these names are in use, whichever directory they are in.
    ///
    /// # Errors
    /// Why they are not.
    pub(in crate::va) async fn await_files(&self, names: &[String]) -> Result<(), String> {
        self.reports.await_files(names).await
    }
}

impl Reports {
    /// See [`BoundReports::await_files`]. Has the directories read, because new ones, and some file systems, report no
    /// changes.
    pub(super) async fn await_files(&self, names: &[String]) -> Result<(), String> {
        let state = &self.0;
        if !self.has_directories() {
            return Err("va.reports named no directory when the gate started".to_owned());
        }
        let now = || state.index.load().of_names(names);
        let mut scans = state.scans.subscribe();
        let are_found = async {
            while !now().0 {
                state.asked.notify_one();
                let _ = tokio::time::timeout(AGAIN, scans.wait_for(|_| now().0)).await;
            }
        };
        let _ = tokio::time::timeout(WAIT, are_found).await;
        now().1.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A digest that repeats one hex digit, as in the fixtures.
    fn digest(digit: char) -> Digest {
        format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap()
    }

    fn open_vex(products: &str) -> String {
        format!(
            r#"{{"@context": "https://openvex.dev/ns/v0.2.0", "timestamp": "2026-01-01T00:00:00Z", "statements": [
                {{"vulnerability": {{"name": "CVE-2024-1"}}, "products": {products}, "status": "fixed"}}]}}"#
        )
    }

    /// Each format names its images differently; a statement about any image is also about these.
    #[test]
    fn files_are_about_the_images_that_they_name() {
        let (manifest, config, index, other) = (digest('a'), digest('c'), digest('1'), digest('7'));
        let trivy = include_str!("../../../tests/data/va/trivy.json");
        let grype = include_str!("../../../tests/data/va/grype.json");
        let disclosure = include_str!("../../../tests/data/va/cyclonedx-vdr.json");
        let of = |digest: Digest| open_vex(&format!(r#"[{{"@id": "pkg:oci/app@{digest}"}}]"#));
        let (of_config, of_index) = (of(config), of(index));
        let of_package = open_vex(r#"[{"@id": "pkg:deb/debian/openssl@3.0.11-1"}]"#);
        let of_any = open_vex("[]").replace("fixed", "affected");
        for (what, content, about) in [
            ("Trivy", trivy, vec![config]),
            ("Grype", grype, vec![config]),
            ("CycloneDX", disclosure, vec![manifest]),
            ("a statement on an image", &*of_config, vec![config]),
            ("a statement on an index", &*of_index, vec![index]),
            ("a statement on a package", &*of_package, vec![manifest, other]),
            ("a statement that takes back", &*of_any, vec![manifest, other]),
        ] {
            let subjects = |digest: Digest| report_subjects(content.as_bytes(), &BTreeSet::from([digest])).unwrap();
            let is_about = |digest: Digest| subjects(digest).has_image;
            assert_eq!(subjects(other).on_any, usize::from(about.contains(&other)), "{what}");
            assert!(about.iter().all(|digest| is_about(*digest)), "{what}");
            assert_eq!(is_about(other), about.contains(&other), "{what}");
        }
        for content in ["", "[]", "{}", "{\"SchemaVersion\": 2", "apiVersion: v1"] {
            report_subjects(content.as_bytes(), &BTreeSet::from([manifest])).unwrap_err();
        }
    }

    /// A file that cannot be read may be about the images.
    #[test]
    fn files_that_cannot_be_read_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| std::fs::write(folder.path().join(name), content).unwrap();
        write("trivy.json", include_str!("../../../tests/data/va/trivy.json"));
        write("broken.json", "{");
        write("other.json", &open_vex(&format!(r#"[{{"@id": "pkg:oci/app@{}"}}]"#, digest('7'))));
        let (missing, other) = (folder.path().join("missing"), folder.path().join("also-missing"));
        let found = |directories: &[PathBuf]| {
            reports_about(directories, &BTreeSet::from([digest('c')]), "2026-04-01T00:00:00Z".parse().unwrap())
        };
        let all = found(&[folder.path().to_owned(), missing, other]);
        assert_eq!(all.files, [folder.path().join("trivy.json")]);
        let [missing, other, broken] = &all.problems[..] else { panic!("{:?}", all.problems) };
        assert!(missing.contains("/missing: ") && other.contains("also-missing: "), "{missing} {other}");
        assert!(broken.contains("broken.json: "), "{broken}");
        let unreadable = vec!["/reports: Permission denied (os error 13)".to_owned()];
        let index = Index::new(BTreeMap::new(), unreadable, Vec::new(), Timestamp::UNIX_EPOCH);
        let (has_all, wrong) = index.of_names(&["report-1.json".to_owned()]);
        assert!(!has_all && wrong.is_some_and(|why| why.ends_with("/reports: Permission denied (os error 13)")));
        let limited = Index::new(BTreeMap::new(), Vec::new(), vec!["too many".to_owned()], Timestamp::UNIX_EPOCH);
        assert_eq!(limited.left_out, ["too many"]);
    }
}
