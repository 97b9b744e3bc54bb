use std::fs;

use super::sample::{WITHOUT_CHECKSUM, sha1, write};
use super::*;

const BUILT: &str = "2026-05-01T00:00:00Z";

#[test]
fn archives_are_named_by_their_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let versions: Vec<String> = (0..500).map(|version| format!("10.1.{version}")).collect();
    let texts: Vec<String> = versions.iter().map(|version| format!("tomcat {version}")).collect();
    let tomcat =
        versions.iter().zip(&texts).map(|(version, text)| ("org.apache.tomcat", "catalina", &**version, &**text));
    let archives: Vec<_> = tomcat.chain([("org.springframework", "spring-core", "6.1.0", "spring")]).collect();
    write(folder.path(), BUILT, &archives);
    let java = JavaDb::open(folder.path()).unwrap();
    assert_eq!(java.check(), Ok(501 + WITHOUT_CHECKSUM));
    let found = |text: &str| java.artifact(&sha1(text)).unwrap().map(|artifact| (artifact.name, artifact.version));
    let named = |name: &str, version: &str| Some((name.to_owned(), version.to_owned()));
    assert_eq!(found("spring"), named("org.springframework:spring-core", "6.1.0"));
    for (version, text) in versions.iter().zip(&texts) {
        assert_eq!(found(text), named("org.apache.tomcat:catalina", version));
    }
    assert_eq!(found("mine"), None);
}

#[test]
fn another_schema_and_damage_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let open = || JavaDb::open(folder.path()).and_then(|java| java.check());
    assert!(open().is_err(), "there is no database");
    write(folder.path(), BUILT, &[("g", "a", "1", "x")]);
    assert_eq!(open(), Ok(1 + WITHOUT_CHECKSUM));
    let (database, metadata) = (folder.path().join(DATABASE), folder.path().join("metadata.json"));
    let bytes = fs::read(&database).unwrap();
    let text = fs::read_to_string(&metadata).unwrap();
    fs::write(&metadata, text.replace("\"Version\":1", "\"Version\":2")).unwrap();
    assert!(open().unwrap_err().to_string().contains("schema 2"));
    fs::write(&metadata, text).unwrap();
    // The index leads to a row with another checksum.
    let at = bytes.windows(20).rposition(|part| part == sha1("x").as_bytes()).unwrap();
    let mut changed = bytes.clone();
    changed[at] ^= 1;
    fs::write(&database, &changed).unwrap();
    let java = JavaDb::open(folder.path()).unwrap();
    let other: ArchiveChecksum = {
        let mut hex = sha1("x").to_string();
        let first = u8::from_str_radix(&hex[..2], 16).unwrap() ^ 1;
        hex.replace_range(..2, &format!("{first:02x}"));
        serde_json::from_value(hex.into()).unwrap()
    };
    let answers = [java.artifact(&sha1("x")), java.artifact(&other)];
    assert!(answers.iter().any(Result::is_err), "{answers:?}");
    assert!(answers.iter().all(|answer| !matches!(answer, Ok(Some(_)))), "{answers:?}");
    for cut in [bytes.len() / 2, 4096, 100, 0] {
        fs::write(&database, &bytes[..cut]).unwrap();
        assert!(open().is_err(), "{cut}");
    }
}
