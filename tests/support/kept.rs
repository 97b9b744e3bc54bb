//! Checks of a state directory: every file matches its digest, and at rest none is incomplete.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use pullgate::oci::Digest;

use crate::support::Answer;

/// The digests of the files under `STATE/blobs`, each verified. A file that disappears in the meantime was evicted.
///
/// # Panics
/// A file does not match its name, or a name is not a digest.
pub(crate) fn verified(state: &Path) -> Vec<Digest> {
    let mut found = Vec::new();
    for algorithm in entries(&state.join("blobs")).into_iter().filter(|name| name != "partial") {
        for folder in entries(&state.join("blobs").join(&algorithm)) {
            let folder = state.join("blobs").join(&algorithm).join(folder);
            for name in entries(&folder) {
                let digest: Digest = format!("{algorithm}:{name}").parse().expect("content is named by its digest");
                let Some(bytes) = existing(fs::read(folder.join(&name))) else { continue };
                let is = Digest::of(digest.algorithm(), &bytes);
                assert_eq!(is, digest, "{} bytes are stored under a wrong digest", bytes.len());
                found.push(digest);
            }
        }
    }
    found
}

/// The names of incomplete files.
pub(crate) fn partial(state: &Path) -> Vec<String> {
    entries(&state.join("blobs/partial"))
}

fn entries(folder: &Path) -> Vec<String> {
    let Some(entries) = existing(fs::read_dir(folder)) else { return Vec::new() };
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name that is text")).collect()
}

fn existing<T>(read: std::io::Result<T>) -> Option<T> {
    match read {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        read => Some(read.unwrap_or_else(|error| panic!("cannot read the state: {error}"))),
    }
}

/// Whether a response for this content is complete and correct.
///
/// # Panics
/// The response must never be sent to a client: wrong content in a complete response, an end that is not recognisable
/// as early, or a failure without a reason.
pub(crate) fn judge(answer: &Answer, digest: &Digest) -> bool {
    match answer.status {
        200 if answer.complete => {
            assert_eq!(Digest::of(digest.algorithm(), &answer.body), *digest, "wrong content was served as complete");
            true
        }
        200 => {
            let announced: usize = answer.header("content-length").expect("a length").parse().expect("a number");
            assert!(answer.body.len() < announced, "a response that was cut has all its bytes");
            false
        }
        // Cut before the headers were sent: a download that fails immediately closes the connection.
        0 => false,
        429 | 500..600 => {
            assert!(answer.complete && answer.json()["errors"][0]["code"].is_string(), "{}", answer.text());
            false
        }
        other => panic!("status {other} is not a valid response to a fault: {}", answer.text()),
    }
}
