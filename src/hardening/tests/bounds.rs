//! What is found is bounded, and takes a bounded time.

use super::*;

#[test]
fn findings_are_bounded() {
    let token = format!("ghp_{}\n", letters(36));
    assert_eq!(found("app/a", &token.repeat(20_000)).len(), MAX_OBSERVATIONS);
    let long = format!("[mysqld]\nuser=root{}\n", " ".repeat(10_000)).repeat(80);
    for (path, text) in [
        ("etc/my.cnf", long.as_str()),
        ("etc/nginx/nginx.conf", &"autoindex on;".repeat(50_000)),
        ("etc/apache2/apache2.conf", &"Options Indexes\n".repeat(50_000)),
        ("etc/passwd", &"root::0:0:\n".repeat(50_000)),
        ("etc/ssh/sshd_config", &"Match a\nPermitRootLogin yes\n".repeat(30_000)),
        ("root/.netrc", &"machine a login b password c1\n".repeat(30_000)),
        ("root/.ssh/authorized_keys", &"ssh-rsa AAAA a\n".repeat(50_000)),
        ("app/.env", &"DB_PASSWORD=hunter2\n".repeat(50_000)),
    ] {
        let observed = CheckedFile::at(path).unwrap().examine(path, text.as_bytes());
        assert!((1..=MAX_OBSERVATIONS).contains(&observed.len()), "{path}: {}", observed.len());
        assert!(observed.iter().all(|one| one.text_bytes() <= MAX_DETAIL), "{path}");
    }
    let large = CheckedFile::at("etc/my.cnf").unwrap();
    assert!(!large.is_read(MAX_FILE + 1, b""));
    assert!(matches!(large.unread(MAX_FILE + 1), Some(FileObservation::Unsafe { check: Check::FilesUnchecked, .. })));
    assert_eq!(CheckedFile::at("app/data").unwrap().unread(MAX_FILE + 1), None, "a large file without a telling name");
    for (more, said) in [(5, "5 findings are left out"), (1, "1 finding is left out")] {
        let many: Vec<_> =
            (0..MAX_FINDINGS + more).map(|at| (format!("app/{at}"), check_mode("app/x", 0o4755))).collect();
        let files: Vec<_> = many.iter().map(|(path, facts)| observed(path, facts)).collect();
        let findings = file_findings(&files).0;
        assert_eq!(findings.len(), MAX_FINDINGS + 1);
        assert_eq!(findings.last().unwrap().detail, said);
    }
}

/// Contents on which a careless search takes time that grows with the square of their length.
#[test]
fn hostile_files_do_not_take_longer_than_others() {
    for (path, part) in [
        ("app/a", "-----BEGIN PRIVATE KEY-----"),
        ("app/a", "-----BEGIN "),
        ("app/a.json", "-----BEGIN PRIVATE KEY-----A-----END "),
        ("app/a", "ghp_"),
        ("app/a", "AccountKey="),
        ("app/a", "pypi-AgEIcHlwaS5vcmc"),
        ("root/.netrc", "password "),
        ("etc/nginx/nginx.conf", "a \"\\"),
        ("etc/nginx/nginx.conf", "a "),
        ("etc/apache2/apache2.conf", "Options \\\n"),
        ("etc/my.cnf", "[["),
        ("app/.env", "A_"),
        ("root/.docker/config.json", "{\"a\":"),
        ("etc/passwd", ":"),
        ("root/.ssh/authorized_keys", "a "),
    ] {
        let text = part.repeat(usize::try_from(MAX_FILE).unwrap() / part.len());
        let began = std::time::Instant::now();
        let observed = CheckedFile::at(path).unwrap().examine(path, text.as_bytes());
        assert!(observed.len() <= MAX_OBSERVATIONS, "{path} {part}");
        // Without optimisation, a linear search takes a tenth of this.
        assert!(began.elapsed().as_secs() < 10, "{path} {part}: {:?}", began.elapsed());
    }
}
