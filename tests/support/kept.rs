//! What lies in a state directory: every file is what its name says, and nothing is half-written at rest.

#![allow(dead_code, reason = "each test binary takes what it needs")]

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use pullgate::oci::Digest;

use crate::support::Answer;

/// The files under `STATE/blobs` by their digests, each hashed. One that goes while it is looked at was evicted.
///
/// # Panics
/// When a file has other bytes than its name says, or a name is no digest.
pub(crate) fn verified(state: &Path) -> Vec<Digest> {
    let mut found = Vec::new();
    for algorithm in entries(&state.join("blobs")).into_iter().filter(|name| name != "partial") {
        for folder in entries(&state.join("blobs").join(&algorithm)) {
            let folder = state.join("blobs").join(&algorithm).join(folder);
            for name in entries(&folder) {
                let digest: Digest = format!("{algorithm}:{name}").parse().expect("content is named by its digest");
                let Some(bytes) = existing(fs::read(folder.join(&name))) else { continue };
                let is = Digest::of(digest.algorithm(), &bytes);
                assert_eq!(is, digest, "{} bytes are kept under a name that is not theirs", bytes.len());
                found.push(digest);
            }
        }
    }
    found
}

/// The names of files that are not whole yet.
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
        read => Some(read.unwrap_or_else(|error| panic!("the state cannot be read: {error}"))),
    }
}

/// Whether an answer for this content is whole and right.
///
/// # Panics
/// When it is anything that no client may be served: wrong bytes in an answer that ended well, an end that looks like
/// one and is none, a failure that does not say what it is.
pub(crate) fn judge(answer: &Answer, digest: &Digest) -> bool {
    match answer.status {
        200 if answer.complete => {
            assert_eq!(Digest::of(digest.algorithm(), &answer.body), *digest, "wrong bytes were served as whole");
            true
        }
        200 => {
            let announced: usize = answer.header("content-length").expect("a length").parse().expect("a number");
            assert!(answer.body.len() < announced, "an answer that was cut has all its bytes");
            false
        }
        // Cut before its head was on the way: a download that fails at once ends the connection.
        0 => false,
        429 | 500..600 => {
            assert!(answer.complete && answer.json()["errors"][0]["code"].is_string(), "{}", answer.text());
            false
        }
        other => panic!("{other} is no answer to a fault: {}", answer.text()),
    }
}
