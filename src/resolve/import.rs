//! Facts that an operator imports for a repository, stored as if the repository had delivered them.

use std::sync::Arc;

use jiff::Timestamp;

use super::{ResolveError, Resolver};
use crate::oci::{Digest, ImageName, Manifest, Tag};
use crate::store::AttachedList;

/// What became of an imported tag.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TagImport {
    /// The tag refers to the imported digest now.
    Set,
    /// The tag was seen later to refer to another digest, which it still does.
    Newer(Digest),
}

impl Resolver {
    /// Makes a manifest in the cache known as if the repository had delivered it. Nothing is stored about it until a
    /// request is [admitted](Self::admitted) to it.
    pub fn deliver(&self, name: &ImageName, manifest: &Arc<Manifest>) {
        self.inner.facts.learn_manifest(name, manifest);
        self.inner.manifests.insert((name.clone(), manifest.digest), manifest.clone());
    }

    /// Forgets that a manifest was [delivered](Self::deliver), unless it is stored that the repository has it.
    pub fn withdraw(&self, name: &ImageName, digest: Digest) {
        self.inner.manifests.remove(&(name.clone(), digest));
        self.inner.facts.withdraw(name, digest);
    }

    /// Records what a repository listed as attached to a manifest, unless a newer list is recorded.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn import_attached(
        &self,
        name: &ImageName,
        subject: Digest,
        list: &AttachedList,
        at: Timestamp,
    ) -> Result<(), ResolveError> {
        Ok(self.inner.facts.import_attached(name, subject, list, at).await?)
    }

    /// What a tag would become if it was [imported](Self::import_tag).
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn would_import_tag(
        &self,
        name: &ImageName,
        tag: &Tag,
        (digest, at): (Digest, Timestamp),
    ) -> Result<TagImport, ResolveError> {
        let known = self.inner.facts.tag(name, tag).await?;
        let newer = known.filter(|(known, seen)| *known != digest && *seen > at);
        Ok(newer.map_or(TagImport::Set, |(known, _)| TagImport::Newer(known)))
    }

    /// Makes a tag refer to a manifest that was admitted. `at` is when the tag was seen to do so. With `force`, even if
    /// the tag was later seen to refer to another digest.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn import_tag(
        &self,
        name: &ImageName,
        tag: &Tag,
        manifest: &Arc<Manifest>,
        (at, force): (Timestamp, bool),
    ) -> Result<TagImport, ResolveError> {
        let import = self.would_import_tag(name, tag, (manifest.digest, at)).await?;
        if import != TagImport::Set && !force {
            return Ok(import);
        }
        let known = self.inner.facts.tag(name, tag).await?;
        let at = known.map_or(at, |(_, seen)| at.max(seen));
        self.inner.facts.import_tag(name, tag, manifest, at).await;
        Ok(TagImport::Set)
    }
}
