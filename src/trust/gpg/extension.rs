//! Signatures that the image's own registry serves: the extension that it announces with
//! `X-Registry-Supports-Signatures` (containers/image, `docs/signature-protocols.md`, "docker/distribution API
//! extension"). OpenShift's registry has it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;

use super::{Found, MAX_SIGNATURES};
use crate::oci::{Digest, Repository};
use crate::runtime::counted;
use crate::trust::source::{RegistryServices, SourceError};
use crate::upstream::ServiceAddress;

const ANNOUNCEMENT: &str = "x-registry-supports-signatures";
/// The largest answer to `/v2/`, in bytes. Its body is not used.
const MAX_PING: usize = 64 * 1024;
/// The largest list of signatures, in bytes.
const MAX_LIST: usize = 4 * 1024 * 1024;

/// The signatures that a registry serves for a manifest, and what is not known about them. There are none if the
/// registry does not announce that it serves any.
pub(super) async fn signatures(
    registry: &dyn RegistryServices,
    repository: &Repository,
    digest: Digest,
) -> Vec<Result<Found, SourceError>> {
    let list = async {
        if !announces(registry, repository).await? {
            return Ok(None);
        }
        let path = format!("/extensions/v2/{repository}/signatures/{digest}");
        registry.document(repository, ServiceAddress::Registry(&path), MAX_LIST).await
    };
    match list.await {
        Ok(Some(answer)) => read_list(&answer.bytes),
        Ok(None) => Vec::new(),
        Err(error) => vec![Err(error)],
    }
}

/// A registry that refuses `/v2/` does not announce anything. One that does not answer may do so later.
async fn announces(registry: &dyn RegistryServices, repository: &Repository) -> Result<bool, SourceError> {
    match registry.document(repository, ServiceAddress::Registry("/v2/"), MAX_PING).await {
        Ok(answer) => Ok(answer.is_some_and(|answer| {
            answer.headers.get(ANNOUNCEMENT).is_some_and(|announced| announced.as_bytes() == b"1")
        })),
        Err(error) if error.temporary => Err(error),
        Err(_) => Ok(false),
    }
}

/// The list as the registry sends it. It is not signed, so other members are ignored.
#[derive(Deserialize)]
struct SignatureList {
    signatures: Vec<ListedSignature>,
}

#[derive(Deserialize)]
struct ListedSignature {
    #[serde(rename = "schemaVersion")]
    version: u64,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    content: String,
}

/// Reads the signatures of version 2 and type `atomic`. Others are not simple signatures.
fn read_list(bytes: &[u8]) -> Vec<Result<Found, SourceError>> {
    let list: SignatureList = match serde_json::from_slice(bytes) {
        Ok(list) => list,
        Err(error) => {
            let why = format!("the registry's list of signatures is unusable: {error}");
            return vec![Err(SourceError::new(why, false))];
        }
    };
    let ours = list.signatures.iter().filter(|one| one.version == 2 && one.kind == "atomic").enumerate();
    let read = |(index, ListedSignature { content, .. }): (usize, &ListedSignature)| {
        let signature = STANDARD.decode(content).map(Bytes::from).map_err(|_| "is not base64".into());
        Ok(Found { place: "the registry's signatures".into(), form: format!("signature {}", index + 1), signature })
    };
    let rest = ours.clone().count().saturating_sub(MAX_SIGNATURES);
    let limit = (rest > 0).then(|| {
        let more = counted(rest, "more signature, which was", "more signatures, which were");
        let why = format!("the registry has {more} not examined");
        Err(SourceError::new(why, false))
    });
    ours.take(MAX_SIGNATURES).map(read).chain(limit).collect()
}

#[cfg(test)]
mod tests;
