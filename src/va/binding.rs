//! Checks whether the layers of a manifest are those of the configuration that it names.
//!
//! Anyone can list other layers under a scanned configuration, and not every client compares them: podman 4 does not. A
//! report that names a configuration counts for a manifest only if the layers are proven to be those of the
//! configuration, by the digests of their uncompressed content (OCI image specification, config.md, `rootfs.diff_ids`).

use futures_util::{FutureExt, StreamExt, stream};

use super::VaSubject;
use super::layers::LayerReadings;
use super::lazy::{manifest_problem, table_problem};
use crate::cache::{BlobFinding, BlobReader, CacheError};
use crate::oci::layer_types::is_tar_type;
use crate::oci::{Descriptor, Digest, json, looks_like_manifest, media_type};
use crate::runtime::{Clock, Tasks};
use crate::store::{FactStore, Memo};

/// The largest configuration that is read, in bytes.
const MAX_CONFIG: u64 = 4 * 1024 * 1024;
/// How many layers of one manifest are read concurrently.
const AT_ONCE: usize = 4;

/// The digest of a configuration, and whether a manifest's layers are known to be those of the configuration.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum ConfigBinding {
    /// The layers are those of the configuration.
    Proven(Digest),
    /// The layers have not been read.
    Unproven(Digest),
    /// The layers differ, or cannot be compared: a report on the configuration says nothing about the manifest.
    Refuted(Digest),
}

impl ConfigBinding {
    /// The configuration's digest.
    pub(super) fn digest(self) -> Digest {
        match self {
            Self::Proven(digest) | Self::Unproven(digest) | Self::Refuted(digest) => digest,
        }
    }
}

/// Proves bindings. Proofs depend only on verified bytes, so they never expire.
pub(super) struct Bindings {
    proofs: Memo<BlobFinding<bool>>,
    layers: LayerReadings,
    clock: Clock,
}

impl Bindings {
    pub(super) fn new(layers: LayerReadings, store: &FactStore, clock: &Clock, tasks: &Tasks) -> Self {
        let proofs = Memo::new("binding-2", store.clone(), clock.clone(), tasks.clone());
        Self { proofs, layers, clock: clock.clone() }
    }

    /// The binding of a subject's configuration. If nothing is known yet and the subject may be read, all layers are
    /// read once, through the cache. Otherwise, or if the layers cannot be read now, the binding remains unproven; if
    /// they cannot be read at all, it is refuted.
    pub(super) async fn of(&self, subject: &VaSubject) -> ConfigBinding {
        let config = subject.config().digest;
        match self.compare(subject).await {
            Ok(true) => ConfigBinding::Proven(config),
            Err(error) if error.is_temporary() => ConfigBinding::Unproven(config),
            Ok(false) | Err(_) => ConfigBinding::Refuted(config),
        }
    }

    /// Whether the layers of a subject are known to be those of its configuration. They are read as for
    /// [`Bindings::of`].
    ///
    /// # Errors
    /// If nothing is known, and a part of the image, which the error names, cannot be read.
    pub(super) async fn compare(&self, subject: &VaSubject) -> Result<bool, CacheError> {
        match &subject.blobs {
            Some(reader) => self.prove(reader, subject).boxed().await,
            None => self.known(subject).await,
        }
    }

    async fn prove(&self, reader: &BlobReader, subject: &VaSubject) -> Result<bool, CacheError> {
        let (bytes, asked) = (reader.clone(), subject.clone());
        let (layers, clock) = (self.layers.clone(), self.clock.clone());
        let gather = || async move { BlobFinding::observed(is_bound(&layers, &bytes, &asked).await, &clock) };
        let key = subject.manifest().digest.to_string().into();
        BlobFinding::known(self.proofs.obtain_from(reader.name(), key, BlobFinding::is_known, gather).await)
    }

    async fn known(&self, subject: &VaSubject) -> Result<bool, CacheError> {
        BlobFinding::known(self.proofs.known(&subject.manifest().digest.to_string().into()).await)
    }
}

async fn is_bound(readings: &LayerReadings, reader: &BlobReader, subject: &VaSubject) -> Result<bool, CacheError> {
    let (config, layers) = (subject.config(), subject.layers());
    if config.size > MAX_CONFIG || manifest_problem(subject.manifest()).is_some() {
        return Ok(false);
    }
    if !layers.iter().all(|layer| is_tar_type(&media_type::essence(&layer.media_type))) {
        return Ok(false);
    }
    let config = reader.whole(config).await.map_err(|error| error.of("configuration", config.digest))?;
    let ids = diff_ids(&config).filter(|ids| ids.len() == layers.len() && !looks_like_manifest(&config));
    let Some(ids) = ids else { return Ok(false) };
    // The smallest layer is checked first, and alone: for layers of another image, this usually reveals a difference
    // early.
    let mut pairs: Vec<_> = layers.iter().zip(ids).collect();
    pairs.sort_by_key(|(layer, _)| layer.size);
    if let Some((layer, wanted)) = pairs.first()
        && !is_unpacked_to(readings, reader, layer, *wanted).await?
    {
        return Ok(false);
    }
    let checks: Vec<_> =
        pairs.into_iter().map(|(layer, wanted)| is_unpacked_to(readings, reader, layer, wanted)).collect();
    let mut checks = stream::iter(checks).buffer_unordered(AT_ONCE);
    while let Some(check) = checks.next().await {
        if !check? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the uncompressed content of a layer has this digest.
async fn is_unpacked_to(
    readings: &LayerReadings,
    reader: &BlobReader,
    layer: &Descriptor,
    wanted: Digest,
) -> Result<bool, CacheError> {
    let named = |error: CacheError| error.of("layer", layer.digest);
    let read = readings.of(reader, layer, wanted.algorithm()).await.map_err(named)?;
    // A layer that was not read to its end proves nothing, either way.
    if read.ended_early {
        return Err(named(CacheError::Busy));
    }
    Ok(read.diff_id == Some(wanted) && table_problem(layer, read.table.as_ref()).is_none())
}

/// The `diff_ids` of a configuration (image-spec, config.md, "rootfs"), if every client reads the same ones.
fn diff_ids(config: &[u8]) -> Option<Vec<Digest>> {
    let config = json::parse(config, &["rootfs", "diff_ids"], &["Labels"]).ok()?;
    let ids = config.get("rootfs")?.get("diff_ids")?.as_array()?;
    ids.iter().map(|id| id.as_str().and_then(|id| id.parse().ok())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unambiguous_diff_ids_are_used() {
        let id = Digest::sha256(b"layer");
        let read = |text: &str| diff_ids(text.replace("ID", &id.to_string()).as_bytes());
        assert_eq!(read(r#"{"os":"linux","rootfs":{"type":"layers","diff_ids":["ID","ID"]}}"#), Some(vec![id, id]));
        assert_eq!(read(r#"{"rootfs":{"diff_ids":[]}}"#), Some(Vec::new()));
        for other in [
            "{}",
            "no JSON",
            r#"{"rootfs":{"diff_ids":["ID",1]}}"#,
            r#"{"rootfs":{"diff_ids":["sha256:short"]}}"#,
            r#"{"rootfs":{"diff_ids":["ID"],"DIFF_ids":[]}}"#,
            r#"{"rootfs":{"diff_ids":["ID"]},"rootfs":{"diff_ids":[]}}"#,
            r#"{"rootf\u017f":{"diff_ids":["ID"]}}"#,
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
