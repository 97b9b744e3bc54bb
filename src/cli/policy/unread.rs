//! Ignore files of Trivy in a policy directory. A gate reads only those that its configuration names.

use std::fs;
use std::path::{Path, PathBuf};

use crate::markup::{Problem, ProblemSeverity};
use crate::policy::Settings;

/// A warning for each ignore file that is not read, so that what it lists is not exempt.
pub(super) fn ignore_files(dir: &Path, settings: &Settings) -> Vec<Problem> {
    let named: Vec<PathBuf> = settings.ignore_files.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
    let is_unread = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        name.contains("trivyignore") && !fs::canonicalize(path).is_ok_and(|path| named.contains(&path))
    };
    // Documents are read from the directory, too, and its errors are those of reading them.
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let mut unread: Vec<PathBuf> = entries.filter(is_unread).collect();
    unread.sort();
    let hint = "name it in `va.ignore_files` of the configuration, and pass that with --config";
    let message = "this ignore file is not read, so what it lists is not exempt";
    let problem =
        |path: PathBuf| Problem::of_file(ProblemSeverity::Warning, path.display().to_string(), message, Some(hint));
    unread.into_iter().map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignore_files_that_no_configuration_names_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in [".trivyignore", ".trivyignore.yaml", "trivyignore.yaml", "team.trivyignore", "policy.yaml"] {
            fs::write(path(name), "").unwrap();
        }
        let ignore_files = vec![path("team.trivyignore").display().to_string()];
        let found = super::ignore_files(dir.path(), &Settings { ignore_files, ..Settings::default() });
        let files: Vec<String> = found.iter().map(|problem| problem.file.clone()).collect();
        let expected = [".trivyignore", ".trivyignore.yaml", "trivyignore.yaml"];
        assert_eq!(files, expected.map(|name| path(name).display().to_string()));
        assert!(found[0].to_string().contains("not read"), "{}", found[0]);
        assert!(super::ignore_files(&path("policy.yaml"), &Settings::default()).is_empty());
    }
}
