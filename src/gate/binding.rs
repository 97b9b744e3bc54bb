//! Whether a manifest lists the layers of the configuration that it names.
//!
//! Anyone can list other layers under a scanned configuration, and not every client compares them: podman 4 does not. A
//! report that speaks of a configuration counts for a manifest only where the layers are proven to be that
//! configuration's, by the digests of what they unpack to.

use std::sync::Arc;

use futures_util::{StreamExt, stream};

use super::layers::{Found, Layers};
use super::{Gate, GateError, Target};
use crate::cache::CacheError;
use crate::oci::layer_types::{is_read_lazily, is_tar_type};
use crate::oci::{Content, Descriptor, Digest, Manifest, json, looks_like_manifest, media_type};
use crate::policy::{Observed, VaEvidence};
use crate::runtime::{Clock, Tasks};
use crate::store::{Memo, Store};
use crate::va::{ConfigBinding, NeedsProof, Subject};

/// The largest configuration that is read, in bytes.
const MAX_CONFIG: u64 = 4 * 1024 * 1024;
/// How many layers of one manifest are read at the same time.
const AT_ONCE: usize = 4;
/// The most indexes that are looked at as parents of an image.
const MAX_PARENTS: usize = 16;

/// Proves bindings. They depend on verified bytes alone, so a proof holds for ever.
pub(super) struct Bindings {
    layers: Layers,
    proofs: Memo<Found<bool>>,
    clock: Clock,
}

impl Bindings {
    pub(super) fn new(layers: Layers, store: &Store, clock: &Clock, tasks: &Tasks) -> Self {
        let proofs = Memo::new("binding-1", store.clone(), clock.clone(), tasks.clone());
        Self { layers, proofs, clock: clock.clone() }
    }

    /// Whether the layers are the configuration's. Reads all of them once, through the cache.
    async fn prove(&self, target: &Target, image: &Arc<Manifest>) -> Result<bool, CacheError> {
        let (layers, on, asked, clock) = (self.layers.clone(), target.clone(), image.clone(), self.clock.clone());
        let gather = || async move { Found::observed(is_bound(&layers, &on, &asked).await, &clock) };
        Found::known(self.proofs.obtain(image.digest.to_string().into(), Found::is_known, gather).await)
    }

    /// What is proven already, as far as reports need it.
    pub(super) async fn known(&self, image: &Manifest, config: Digest) -> ConfigBinding {
        match self.proofs.known(&image.digest.to_string().into()).await.map(|known| known.value.clone()) {
            Some(Found::Known(true)) => ConfigBinding::Proven(config),
            Some(Found::Known(false)) => ConfigBinding::Refuted(config),
            Some(Found::Unread(_)) | None => ConfigBinding::Unproven(config),
        }
    }
}

impl Gate {
    /// What is known about an image's vulnerabilities. The proof of its configuration is made only where a report asks
    /// for it.
    pub(super) async fn va_of_image(
        &self,
        target: &Target,
        image: &Arc<Manifest>,
        config: &Descriptor,
        account: Option<&str>,
    ) -> Result<Arc<Observed<VaEvidence>>, GateError> {
        let parents = self.parents(target, image.digest).await?;
        let subject = |config| Subject { manifest: image.digest, config, parents: &parents };
        let unproven = subject(ConfigBinding::Unproven(config.digest));
        if let Ok(evidence) = self.va.evidence(&target.name, &unproven, account).await {
            return Ok(evidence);
        }
        let binding = match Box::pin(self.bindings.prove(target, image)).await {
            Ok(true) => ConfigBinding::Proven(config.digest),
            Err(error) if error.is_temporary() => return Ok(self.va.unproven()),
            Ok(false) | Err(_) => ConfigBinding::Refuted(config.digest),
        };
        let proven = self.va.evidence(&target.name, &subject(binding), account).await;
        Ok(proven.unwrap_or_else(|NeedsProof| self.va.unproven()))
    }

    /// The indexes of the repository that are known to list an image: what is said of an index is said of its images.
    async fn parents(&self, target: &Target, image: Digest) -> Result<Vec<Digest>, GateError> {
        let mut parents = Vec::new();
        for naming in self.resolver.naming(&target.name, image).await?.iter().take(MAX_PARENTS) {
            let known = self.resolver.known_manifest(&target.name, *naming).await;
            if known.is_some_and(|manifest| matches!(manifest.content, Content::Index(_))) {
                parents.push(*naming);
            }
        }
        Ok(parents)
    }
}

async fn is_bound(layers: &Layers, target: &Target, image: &Manifest) -> Result<bool, CacheError> {
    let Content::Image { config, layers: named } = &image.content else { return Ok(false) };
    if config.size > MAX_CONFIG {
        return Ok(false);
    }
    let is_read_alike =
        |layer: &Descriptor| is_tar_type(&media_type::essence(&layer.media_type)) && !is_read_lazily(layer);
    if !named.iter().all(is_read_alike) {
        return Ok(false);
    }
    let config = layers.whole(target, config).await?;
    let ids = diff_ids(&config).filter(|ids| ids.len() == named.len() && !looks_like_manifest(&config));
    let Some(ids) = ids else { return Ok(false) };
    // The smallest first, and alone: what is not the configuration's is mostly seen before much was read.
    let mut pairs: Vec<_> = named.iter().zip(ids).collect();
    pairs.sort_by_key(|(layer, _)| layer.size);
    if let Some((layer, wanted)) = pairs.first()
        && !unpacks_to(layers, target, layer, *wanted).await?
    {
        return Ok(false);
    }
    let checks: Vec<_> = pairs.into_iter().map(|(layer, wanted)| unpacks_to(layers, target, layer, wanted)).collect();
    let mut checks = stream::iter(checks).buffer_unordered(AT_ONCE);
    while let Some(check) = checks.next().await {
        if !check? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn unpacks_to(layers: &Layers, target: &Target, layer: &Descriptor, wanted: Digest) -> Result<bool, CacheError> {
    let found = layers.diff_id(target, layer, wanted.algorithm()).await?;
    Ok(found == Some(wanted))
}

/// The `diff_ids` of a configuration (image-spec, config.md, "rootfs"), where every client reads the same ones.
fn diff_ids(config: &[u8]) -> Option<Vec<Digest>> {
    let config = json::parse(config, &["rootfs", "diff_ids"], &["Labels"]).ok()?;
    let ids = config.get("rootfs")?.get("diff_ids")?.as_array()?;
    ids.iter().map(|id| id.as_str().and_then(|id| id.parse().ok())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diff_ids_that_every_client_reads_alike() {
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
