//! The manifests of an image whose content was received, checked against what its bundle says about them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::import::ImportFailure;
use super::{BundledImage, BundledManifest};
use crate::gate::operations::Operations;
use crate::oci::{Digest, MAX_MANIFEST, Manifest, parse_whole_referrers};

/// The maximum number of manifests of an image.
pub const MAX_MANIFESTS: usize = 2000;

/// Manifests by their digests.
pub(super) type Manifests = BTreeMap<Digest, Arc<Manifest>>;

impl Operations {
    /// The manifests of the image, and those that are attached to it, if all of their content is here.
    pub(super) async fn received(&self, image: &BundledImage) -> Result<(Manifests, Manifests), ImportFailure> {
        if image.manifests.len() > MAX_MANIFESTS {
            return Err(ImportFailure::TooMany);
        }
        let (mut own, mut attached) = (Manifests::new(), Manifests::new());
        for described in &image.manifests {
            let manifest = Arc::new(self.received_manifest(described).await?);
            for blob in manifest.descriptors().filter(|_| manifest.children().is_empty()) {
                if self.cache.size_on_disk(blob.digest) != Some(blob.size) {
                    return Err(ImportFailure::Content(blob.digest));
                }
            }
            let group = if described.is_attached { &mut attached } else { &mut own };
            group.insert(described.digest, manifest);
        }
        let reached = reached(image.digest, &own);
        if let Some(digest) = own.keys().find(|digest| !reached.contains(digest)) {
            return Err(ImportFailure::Unrelated(*digest));
        }
        if !own.contains_key(&image.digest) {
            return Err(ImportFailure::Content(image.digest));
        }
        if let Some(list) = image.attached.iter().find(|list| !own.contains_key(&list.subject)) {
            return Err(ImportFailure::Unrelated(list.subject));
        }
        for one in &image.attached {
            let list = one.list.referrers.as_deref().map(|list| parse_whole_referrers(list.as_bytes()));
            list.transpose().map_err(|why| ImportFailure::List { subject: one.subject, why })?;
        }
        let listed: BTreeSet<Digest> = image.attached.iter().flat_map(|one| one.list.digests()).collect();
        match attached.keys().find(|digest| !listed.contains(digest)) {
            Some(digest) => Err(ImportFailure::Unrelated(*digest)),
            None => Ok((own, attached)),
        }
    }

    async fn received_manifest(&self, described: &BundledManifest) -> Result<Manifest, ImportFailure> {
        let digest = described.digest;
        let bytes = self.cache.peek(digest, MAX_MANIFEST).await.ok_or(ImportFailure::Content(digest))?;
        if bytes.len() as u64 != described.size {
            return Err(ImportFailure::Content(digest));
        }
        let manifest = Manifest::parse(bytes, Some(&described.media_type));
        manifest.and_then(|manifest| manifest.named(digest)).map_err(|why| ImportFailure::Manifest { digest, why })
    }

    /// Removes manifests that are listed as attached to the image but are not: they do not state it themselves, or they
    /// are images. Returns notes about them.
    pub(super) fn leave_foreign(&self, image: &BundledImage, attached: &mut Manifests) -> Vec<String> {
        let mut notes = Vec::new();
        attached.retain(|digest, manifest| {
            let why = match is_attached_to(image, manifest) {
                true if self.judge.claims_no_image(manifest) => return true,
                true => "is an image",
                false => "does not say to what",
            };
            notes.push(format!("{digest} is listed as attached, but {why}; it is left out"));
            false
        });
        notes
    }
}

/// Whether a manifest itself says that it is attached to the image: by its `subject`, or by a tag that names it.
fn is_attached_to(image: &BundledImage, manifest: &Manifest) -> bool {
    image.attached.iter().any(|one| {
        let is_subject = manifest.subject.as_ref().is_some_and(|subject| subject.digest == one.subject);
        is_subject || one.list.tags.values().flatten().any(|tagged| *tagged == manifest.digest)
    })
}

/// The manifests that lead from this one to others, directly or through indexes.
fn reached(root: Digest, manifests: &Manifests) -> BTreeSet<Digest> {
    let (mut reached, mut open) = (BTreeSet::new(), vec![root]);
    while let Some(digest) = open.pop() {
        if reached.insert(digest)
            && let Some(manifest) = manifests.get(&digest)
        {
            open.extend(manifest.children().iter().map(|child| child.digest));
        }
    }
    reached
}
