//! Answers in place of upstreams that are offline: from the cache, for the repository that delivered the content, and
//! from the lists of attachments that were imported.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::{ResolveError, Resolved, Resolver};
use crate::oci::{Digest, ImageName, MAX_MANIFEST, Reference, Tag};
use crate::upstream::{OfflineAnswer, OfflineContent, RawManifest, Upstream};

impl OfflineContent for Resolver {
    fn manifest<'a>(
        &'a self,
        name: &'a ImageName,
        reference: &'a Reference,
    ) -> BoxFuture<'a, OfflineAnswer<RawManifest>> {
        Box::pin(async move {
            match reference {
                Reference::Digest(digest) => self.here(name, *digest).await,
                Reference::Tag(tag) => self.attached_by_tag(name, tag).await,
            }
        })
    }

    fn blob<'a>(&'a self, name: &'a ImageName, digest: Digest, limit: usize) -> BoxFuture<'a, OfflineAnswer<Bytes>> {
        Box::pin(async move {
            // For evidence, it is enough that a manifest of the repository names the blob. Clients need more: the
            // repository must have delivered it.
            let is_linked = self.inner.facts.has_blob(name, digest).await.unwrap_or_default();
            let is_named = async || self.inner.facts.naming(name, digest).await.is_ok_and(|named| !named.is_empty());
            match is_linked || is_named().await {
                true => self.inner.cache.peek(digest, limit).await.map_or(OfflineAnswer::Unknown, OfflineAnswer::Here),
                false => OfflineAnswer::Unknown,
            }
        })
    }

    fn referrers<'a>(&'a self, name: &'a ImageName, digest: Digest) -> BoxFuture<'a, OfflineAnswer<Bytes>> {
        Box::pin(async move {
            let list = self.inner.facts.attached_list(name, digest).await.ok().flatten();
            match list.and_then(|list| list.referrers) {
                Some(referrers) => OfflineAnswer::Here(referrers.into()),
                None => OfflineAnswer::Unknown,
            }
        })
    }
}

impl Resolver {
    /// What a tag of an offline upstream refers to, without an end: only an import changes that, and it advances the
    /// epoch.
    pub(super) async fn offline_tag(
        &self,
        upstream: &Arc<Upstream>,
        name: &ImageName,
        tag: &Tag,
        digest: Digest,
    ) -> Result<Resolved, ResolveError> {
        let manifest = self.manifest(upstream, name, digest).await?;
        Box::pin(self.inner.facts.learn_signed_tag(name, tag, &manifest)).await;
        Ok(Resolved { manifest, stale: None, fresh_until: None })
    }

    async fn here(&self, name: &ImageName, digest: Digest) -> OfflineAnswer<RawManifest> {
        let Ok(Some(known)) = self.inner.facts.manifest(name, digest).await else { return OfflineAnswer::Unknown };
        match self.inner.cache.peek(digest, MAX_MANIFEST).await {
            Some(bytes) => OfflineAnswer::Here(RawManifest { bytes, content_type: Some(known.media_type.to_string()) }),
            None => OfflineAnswer::Unknown,
        }
    }

    /// The manifest of a tag that lists attachments of a manifest, if an imported list contains them.
    async fn attached_by_tag(&self, name: &ImageName, tag: &Tag) -> OfflineAnswer<RawManifest> {
        let Some((subject, suffix)) = subject_of(tag) else { return OfflineAnswer::Unknown };
        let Ok(Some(list)) = self.inner.facts.attached_list(name, subject).await else { return OfflineAnswer::Unknown };
        match list.tags.get(suffix) {
            // The list of the referrers tag is part of the list of referrers.
            None if suffix.is_empty() && list.referrers.is_some() => OfflineAnswer::Absent,
            None => OfflineAnswer::Unknown,
            Some(None) => OfflineAnswer::Absent,
            Some(Some(digest)) => self.here(name, *digest).await,
        }
    }
}

/// The manifest to which a tag attaches something, and the end of the tag: `sha256-HEX.sig`. The tags of other
/// algorithms do not state the whole digest.
fn subject_of(tag: &Tag) -> Option<(Digest, &str)> {
    let rest = tag.as_str().strip_prefix("sha256-")?;
    let (hex, suffix) = rest.split_at_checked(64)?;
    let is_suffix = suffix.is_empty() || suffix.starts_with('.');
    Some((format!("sha256:{hex}").parse().ok()?, suffix)).filter(|_| is_suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_attachments_state_a_digest() {
        let digest = Digest::sha256(b"x");
        let tag = |text: &str| text.replace('H', &digest.hex()).parse::<Tag>().unwrap();
        for (text, suffix) in [("sha256-H", ""), ("sha256-H.sig", ".sig"), ("sha256-H.att", ".att")] {
            assert_eq!(subject_of(&tag(text)), Some((digest, suffix)), "{text}");
        }
        for text in ["1", "sha256-H-1", "sha256-", "sha512-H", "xsha256-H"] {
            assert_eq!(subject_of(&tag(text)), None, "{text}");
        }
    }
}
