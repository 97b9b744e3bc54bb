//! Images on their way from one gate to another: what a bundle says about an image, and what is attached to it now. For
//! the other direction, see `import`.

mod import;
mod outcome;
mod received;
mod reports;

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use import::{BundleImport, ImportedImage};
pub use outcome::ImportOutcome;
pub use received::MAX_MANIFESTS as MAX_BUNDLED_MANIFESTS;
pub use reports::{report_file_name, report_names};

use crate::gate::inspector::Inspector;
use crate::gate::{GateError, Target};
use crate::oci::{
    Descriptor, Digest, ImageName, ImageReference, Page, Reference, Tag, parse_whole_referrers, referrers_tag,
    write_referrers,
};
use crate::runtime::counted;
use crate::scope::Scope;
use crate::store::AttachedList;
use crate::upstream::Error;

/// The ends of the tags under which cosign attaches signatures, attestations and SBOMs.
const SUFFIXES: [&str; 3] = [".sig", ".att", ".sbom"];
/// The maximum number of pages of a list of referrers.
const MAX_PAGES: usize = 10;
/// The largest list of referrers that is carried, in bytes.
const MAX_LIST: usize = 64 * 1024;

/// The largest description of an image in a bundle, as JSON, in bytes.
pub const MAX_BUNDLED_IMAGE: usize = 16 * 1024 * 1024;

/// An image in a bundle.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BundledImage {
    /// Registry and repository.
    pub name: ImageName,
    /// The tag; `None` for an image that was exported by digest.
    pub tag: Option<Tag>,
    /// The digest of the image, or of its index.
    pub digest: Digest,
    /// When the tag was last seen to refer to the digest.
    pub seen: Timestamp,
    /// The manifests that the bundle contains: of the image, of its platforms, and of what is attached to these.
    pub manifests: Vec<BundledManifest>,
    /// What the repository listed as attached to these manifests.
    pub attached: Vec<BundledList>,
    /// What could not be exported.
    pub notes: Vec<String>,
}

impl BundledImage {
    /// Registry, repository and tag or digest.
    pub fn reference(&self) -> ImageReference {
        let digest = self.tag.is_none().then_some(self.digest);
        ImageReference { name: self.name.clone(), tag: self.tag.clone(), digest }
    }
}

/// A manifest in a bundle.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BundledManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The media type with which the registry served it.
    pub media_type: String,
    /// Whether it is attached to the image, and no part of it.
    pub is_attached: bool,
}

/// What a repository listed as attached to a manifest.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BundledList {
    /// The manifest.
    pub subject: Digest,
    /// The list.
    pub list: AttachedList,
}

/// An advisory database in a bundle.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BundledDatabase {
    /// The source: `trivy-db`, `osv-pypi`.
    pub source: String,
    /// When the source built it, as it states.
    pub built: Timestamp,
    /// The digests of its files.
    pub digests: Vec<Digest>,
    /// The number of its rows: advisories, vulnerabilities or archives.
    pub rows: u64,
}

impl fmt::Display for BundledDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: built {}, {}", self.source, self.built, counted(self.rows, "row", "rows"))?;
        self.digests.iter().try_for_each(|digest| write!(f, ", {digest}"))
    }
}

impl Inspector {
    /// What the repository lists now as attached to a manifest, and what could not be found out. An unavailable list is
    /// not an empty list: it is missing, and nothing is concluded from it.
    ///
    /// # Errors
    /// If the upstream is unknown, or does not serve the scope.
    pub async fn list_attached(
        &self,
        image: &ImageReference,
        subject: Digest,
        scope: &Scope,
    ) -> Result<(BundledList, Vec<String>), GateError> {
        let target = self.target_of(image, scope)?;
        let (mut list, mut notes) = (AttachedList::default(), Vec::new());
        match referrers(&target, subject).await {
            Ok(entries) => {
                let text = String::from_utf8_lossy(&write_referrers(&entries)).into_owned();
                match text.len() <= MAX_LIST {
                    true => list.referrers = Some(text),
                    false => notes.push(format!("the list of what is attached to {subject} is too long")),
                }
            }
            Err(error) => notes.push(format!("the list of what is attached to {subject} is unavailable: {error}")),
        }
        for suffix in SUFFIXES {
            match tagged(&target, subject, suffix).await {
                Ok(digest) => _ = list.tags.insert(suffix.to_owned(), digest),
                Err(error) => notes.push(format!("the tag {suffix} of {subject} is unavailable: {error}")),
            }
        }
        Ok((BundledList { subject, list }, notes))
    }

    /// When a tag was last seen to refer to the digest that it refers to now; without a tag, now.
    pub async fn tag_seen(&self, name: &ImageName, tag: Option<&Tag>) -> Timestamp {
        let known = match tag {
            Some(tag) => self.resolver.known_tag(name, tag).await.ok().flatten(),
            None => None,
        };
        known.map_or_else(|| self.clock.now(), |(_, seen)| seen)
    }
}

/// The referrers of a manifest: those that the API lists, and those that the referrers tag lists. An offline gate
/// treats manifests outside the list as not attached, so a list that may be incomplete is an error.
async fn referrers(target: &Target, subject: Digest) -> Result<Vec<Descriptor>, Error> {
    let repository = &target.name.repository;
    let wrong = |what: &str| Error::Protocol(format!("{}: {what}", target.upstream.host()));
    let (mut entries, mut page) = (Vec::new(), Page::default());
    for number in 1.. {
        match target.upstream.referrers(repository, &subject, &page).await {
            Ok(list) => {
                let listed = parse_whole_referrers(&list.bytes);
                entries.extend(listed.map_err(|refused| wrong(&format!("the list of referrers: {refused}")))?);
                match list.next {
                    None => break,
                    Some(_) if number == MAX_PAGES => return Err(wrong("the list does not end")),
                    Some(next) => page = next,
                }
            }
            Err(Error::NotFound { .. }) if number == 1 => break,
            Err(Error::NotFound { .. }) => return Err(wrong("a page of the list is missing")),
            Err(error) => return Err(error),
        }
    }
    if let Ok(tag) = referrers_tag(&subject).parse() {
        match target.upstream.manifest(repository, &Reference::Tag(tag)).await {
            // GitLab answers a request for the tag with the manifest that the tag refers to.
            Ok(fetched) if Digest::of(subject.algorithm(), &fetched.bytes) == subject => {}
            Ok(fetched) => {
                let listed = parse_whole_referrers(&fetched.bytes);
                entries.extend(listed.map_err(|refused| wrong(&format!("the referrers tag: {refused}")))?);
            }
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let mut seen = BTreeSet::new();
    entries.retain(|entry| seen.insert(entry.digest));
    Ok(entries)
}

/// The digest of a tag that attaches something to a manifest; `None` if there is no such tag.
async fn tagged(target: &Target, subject: Digest, suffix: &str) -> Result<Option<Digest>, Error> {
    let tag = format!("{}-{}{suffix}", subject.algorithm().name(), subject.hex());
    // A sha512 digest with a suffix is too long for a tag: nothing can be there.
    let Ok(tag) = tag.parse() else { return Ok(None) };
    match target.upstream.manifest(&target.name.repository, &Reference::Tag(tag)).await {
        Ok(fetched) => Ok(Some(Digest::sha256(&fetched.bytes))),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
