use std::fs;

use super::super::sample::StoreServer;
use super::*;

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const FOLDER: &str = "team/app@sha256=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Everything that a store gives for the image, with errors as text.
async fn read(store: &SignatureStore) -> Vec<Result<Bytes, SourceError>> {
    let whole = |found: StoredFile| found.unwrap_or_else(|refused| panic!("{refused:?}"));
    read_files(store).await.into_iter().map(|one| one.map(whole)).collect()
}

/// The same with files that are not signatures.
async fn read_files(store: &SignatureStore) -> Vec<Result<StoredFile, SourceError>> {
    let reader = LookasideReader::new(Tasks::new());
    let found = reader.signatures(store, &"team/app".parse().unwrap(), DIGEST.parse().unwrap());
    found.map(|one| one.map(|found| found.signature)).collect().await
}

fn store(base: &Url) -> SignatureStore {
    SignatureStore { base: base.clone(), credentials: None }
}

#[track_caller]
fn assert_gap(found: &[Result<Bytes, SourceError>], part: &str, temporary: bool) {
    let Some(Err(error)) = found.last() else { panic!("{found:?}") };
    assert!(error.why.contains(part) && error.temporary == temporary, "{error:?}");
}

#[tokio::test]
async fn directories_are_read_until_a_number_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("base dir").join(FOLDER);
    fs::create_dir_all(&folder).unwrap();
    for name in ["signature-1", "signature-2", "signature-4", "signature-01", "signature"] {
        fs::write(folder.join(name), name).unwrap();
    }
    for base in [dir.path().join("base dir"), dir.path().join("base dir/")] {
        let found = read(&store(&Url::from_file_path(base).unwrap())).await;
        assert_eq!(found, [Ok(Bytes::from("signature-1")), Ok(Bytes::from("signature-2"))]);
    }
}

#[tokio::test]
async fn a_directory_without_the_image_has_no_signatures() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read(&store(&Url::from_directory_path(dir.path()).unwrap())).await, []);
}

/// A store that is not mounted looks like an empty one, and a broken one looks like a missing file.
#[tokio::test]
async fn an_unreadable_directory_is_not_empty() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Url::from_file_path(dir.path().join("missing")).unwrap();
    assert_gap(&read(&store(&missing)).await, "No such file", true);
    fs::write(dir.path().join("file"), "").unwrap();
    assert_gap(&read(&store(&Url::from_file_path(dir.path().join("file")).unwrap())).await, "signature store", true);
    fs::create_dir_all(dir.path().join(FOLDER).join("signature-1")).unwrap();
    assert_gap(&read(&store(&Url::from_file_path(dir.path()).unwrap())).await, "is not a file", true);
}

/// A file that is too large is named, and does not hide the signatures after it.
#[tokio::test]
async fn a_file_that_is_too_large_does_not_hide_others() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(FOLDER);
    fs::create_dir_all(&folder).unwrap();
    let contents = |path: &str| match path.rsplit_once('-').unwrap().1 {
        "1" => Some(vec![0; MAX_MESSAGE]),
        "2" => Some(vec![0; MAX_MESSAGE + 1]),
        "3" => Some(vec![0; 10 * MAX_MESSAGE]),
        "4" => Some(b"4".to_vec()),
        _ => None,
    };
    for name in ["signature-1", "signature-2", "signature-3", "signature-4"] {
        fs::write(folder.join(name), contents(name).unwrap()).unwrap();
    }
    let tasks = Tasks::new();
    let server = StoreServer::start(&tasks, move |path| {
        contents(path).map_or((404, String::new(), vec![]), |content| (200, String::new(), content))
    });
    for base in [Url::from_file_path(dir.path()).unwrap(), server.await.url("/")] {
        let found = read_files(&store(&base)).await;
        let expected = [Ok(vec![0; MAX_MESSAGE].into()), Err(too_large()), Err(too_large()), Ok(Bytes::from("4"))];
        assert_eq!(found, expected.map(Ok), "{base}");
    }
    assert_eq!(too_large().why, "is larger than 65536 bytes");
}

/// A copy of a signature, as two runs of a pipeline leave it, does not end the store.
#[tokio::test]
async fn a_repeated_file_does_not_hide_others() {
    let tasks = Tasks::new();
    let server = StoreServer::start(&tasks, |path| match path.rsplit_once('-').unwrap().1 {
        "1" | "2" => (200, String::new(), b"same".to_vec()),
        "3" => (200, String::new(), b"good".to_vec()),
        _ => (404, String::new(), vec![]),
    });
    assert_eq!(read(&store(&server.await.url("/"))).await, ["same", "same", "good"].map(|text| Ok(Bytes::from(text))));
}

#[tokio::test]
async fn servers_are_asked_until_a_number_is_missing() {
    let tasks = Tasks::new();
    let server = StoreServer::start(&tasks, |path| match path.rsplit_once('-').unwrap().1 {
        number @ ("1" | "2") => (200, String::new(), number.into()),
        _ => (404, String::new(), b"not here".to_vec()),
    });
    let server = server.await;
    for base in ["", "/", "/sig/store", "/sig/store/"] {
        let found = read(&store(&server.url(base))).await;
        assert_eq!(found, [Ok(Bytes::from("1")), Ok(Bytes::from("2"))]);
    }
    let paths = server.paths();
    assert_eq!(paths[..3], [1, 2, 3].map(|number| format!("/{FOLDER}/signature-{number}")));
    assert_eq!(paths[9], format!("/sig/store/{FOLDER}/signature-1"));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_empty() {
    let tasks = Tasks::new();
    for (status, temporary) in [(500, true), (503, true), (429, true), (401, false), (403, false), (204, false)] {
        let server = StoreServer::start(&tasks, move |path| match path.ends_with("signature-1") {
            true => (200, String::new(), b"1".to_vec()),
            false => (status, String::new(), vec![]),
        });
        let found = read(&store(&server.await.url("/"))).await;
        assert_eq!(found[0], Ok(Bytes::from("1")), "what was found before counts");
        assert_gap(&found, &format!("answered {status}"), temporary);
    }
    let closed: Url = "http://127.0.0.1:1/".parse().unwrap();
    assert_gap(&read(&store(&closed)).await, "the signature store at 127.0.0.1: ", true);
}

/// CVE-2023-46737 (cosign): a store that never ends, or that always answers the same, is not read without end.
#[tokio::test]
async fn cve_2023_46737_endless_signatures_are_not_read() {
    let tasks = Tasks::new();
    let endless = StoreServer::start(&tasks, |path| (200, String::new(), path.as_bytes().to_vec())).await;
    let found = read(&store(&endless.url("/"))).await;
    assert_eq!((found.len(), endless.paths().len()), (MAX_SIGNATURES + 1, MAX_SIGNATURES));
    assert_gap(&found, "more than 128 signatures", false);
    let same = StoreServer::start(&tasks, |_| (200, String::new(), b"<html>".to_vec())).await;
    let found = read(&store(&same.url("/"))).await;
    assert_eq!((found.len(), same.paths().len()), (MAX_SIGNATURES + 1, MAX_SIGNATURES));
    assert_gap(&found, "more than 128 signatures", false);
}

/// CVE-2024-29902 (cosign): a large body is not read whole.
#[tokio::test]
async fn cve_2024_29902_large_bodies_are_not_read() {
    let tasks = Tasks::new();
    let large = StoreServer::start(&tasks, |path| match path.ends_with("signature-1") {
        true => (200, String::new(), vec![0; 64 * MAX_MESSAGE]),
        false => (404, String::new(), vec![]),
    });
    assert_eq!(read_files(&store(&large.await.url("/"))).await, [Ok(Err(too_large()))]);
}

#[tokio::test]
async fn credentials_stay_with_the_store() {
    let tasks = Tasks::new();
    let other = StoreServer::start(&tasks, |_| (404, String::new(), vec![])).await;
    let elsewhere = other.url("/x").to_string();
    let server = StoreServer::start(&tasks, move |_| (302, elsewhere.clone(), vec![])).await;
    let credentials = Some(StoreCredentials { username: "u".into(), password: "p:q".into() });
    assert_eq!(read(&SignatureStore { base: server.url("/"), credentials }).await, []);
    let (own, others) = (server.heads()[0].to_lowercase(), other.heads()[0].to_lowercase());
    let sent = format!("authorization: basic {}", STANDARD.encode("u:p:q")).to_lowercase();
    assert!(own.contains(&sent), "{own}");
    assert!(!others.contains("authorization"), "{others}");
}

#[tokio::test]
async fn redirects_within_the_store_are_followed() {
    let tasks = Tasks::new();
    let server = StoreServer::start(&tasks, |path| match path {
        path if path.starts_with("/moved/") && path.ends_with("-1") => (200, String::new(), b"1".to_vec()),
        path if path.starts_with("/moved/") => (404, String::new(), vec![]),
        path => (301, format!("/moved{path}"), vec![]),
    });
    assert_eq!(read(&store(&server.await.url("/"))).await, [Ok(Bytes::from("1"))]);
    let circle = StoreServer::start(&tasks, |path| (307, path.to_owned(), vec![])).await;
    assert_gap(&read(&store(&circle.url("/"))).await, "redirects too often", false);
    assert_eq!(circle.paths().len(), MAX_REDIRECTS + 1);
}
