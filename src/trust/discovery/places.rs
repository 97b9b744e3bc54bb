//! Asks a registry what is attached to an image. Every place is asked at the same time: the referrers API, the
//! referrers tag that replaces it, and the tags of the schemes.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use super::listing::{ListedReferrer, MAX_LISTED, ReferrersList};
use super::{Trouble, clip, manifest_form, manifest_of, parse, referrer_place, refused, trouble, unanswered};
use crate::oci::{Digest, Manifest, Page, Reference, Repository, referrers_tag};
use crate::runtime::counted;
use crate::trust::scheme::Origin;
use crate::trust::source::{SignatureSource, SourceError, UnparsedManifest};

/// The maximum number of pages of a referrers list that are requested.
const MAX_PAGES: usize = 10;

/// Reads what is attached to one image.
pub(in crate::trust) struct AttachmentReader<'a, S> {
    pub(in crate::trust) source: &'a S,
    pub(in crate::trust) repository: &'a Repository,
    /// The digest of the image.
    pub(in crate::trust) digest: Digest,
}

/// The answer of the registry about one place.
pub(in crate::trust) enum PlaceAnswer {
    /// The manifest that a tag with this suffix names.
    Tagged(&'static str, Box<TaggedManifest>),
    /// The list of the referrers API.
    Api(ListAnswer),
    /// The list of the referrers tag.
    ReferrersTag(ListAnswer),
}

/// The manifest that a tag names, and its place for messages; `None` if there is no such tag.
pub(in crate::trust) type TaggedManifest = Result<Option<(Arc<str>, Manifest)>, Trouble>;

/// The entries of a list, and what could not be read.
pub(in crate::trust) type ListAnswer = (Vec<ListedReferrer>, Vec<Trouble>);

/// The answers of all places, in the order in which they come.
pub(in crate::trust) type PlaceAnswers<'a> = FuturesUnordered<BoxFuture<'a, PlaceAnswer>>;

/// How many places are asked: the tags with these suffixes, the API and the referrers tag.
pub(in crate::trust) fn place_count(suffixes: &[&'static str]) -> usize {
    suffixes.len() + 2
}

impl<S> Clone for AttachmentReader<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for AttachmentReader<'_, S> {}

impl<'a, S: SignatureSource> AttachmentReader<'a, S> {
    /// Asks all places. The referrers tag too, whatever the API answers: registries that gained the API later do not
    /// list what was pushed before.
    pub(in crate::trust) fn ask(self, suffixes: &[&'static str]) -> PlaceAnswers<'a> {
        let answers: PlaceAnswers<'a> = FuturesUnordered::new();
        answers.push(Box::pin(async move { PlaceAnswer::Api(self.listed_by_api().await) }));
        for suffix in suffixes.iter().copied() {
            answers
                .push(Box::pin(async move { PlaceAnswer::Tagged(suffix, self.tagged_manifest(suffix).await.into()) }));
        }
        answers.push(Box::pin(async move { PlaceAnswer::ReferrersTag(self.listed_by_tag().await) }));
        answers
    }

    /// The manifest that a tag with this suffix names, and its place for messages.
    async fn tagged_manifest(self, suffix: &str) -> Result<Option<(Arc<str>, Manifest)>, Trouble> {
        let tag = format!("{}-{}{suffix}", self.digest.algorithm().name(), self.digest.hex());
        let Some(fetched) = self.tagged(&tag).await? else { return Ok(None) };
        let place: Arc<str> = format!("tag {tag}").into();
        match parse(fetched) {
            Ok(manifest) => Ok(Some((place, manifest))),
            Err(invalid) => Err(trouble(&invalid, &place, place.to_string())),
        }
    }

    /// The list in the pages of the API, including those after a page that cannot be read.
    async fn listed_by_api(self) -> ListAnswer {
        let (mut listed, mut trouble, mut seen) = (Vec::new(), Vec::new(), vec![Page::default()]);
        while let Some(page) = seen.last() {
            let (bytes, next) = match self.source.referrers(self.repository, &self.digest, page).await {
                Ok(Some(answer)) => answer,
                Ok(None) if seen.len() == 1 => break,
                Ok(None) => {
                    let why = "a page of the referrers list is missing";
                    trouble.push(Trouble::Unanswered(SourceError::new(why, true)));
                    break;
                }
                Err(error) => {
                    trouble.push(unanswered("the referrers", &error));
                    break;
                }
            };
            self.read_list("the registry's list of referrers", &bytes, &mut listed, &mut trouble);
            let Some(next) = next else { break };
            if seen.contains(&next) || seen.len() == MAX_PAGES || listed.len() > MAX_LISTED {
                trouble.push(Trouble::Limit("the referrers list does not end".into()));
                break;
            }
            seen.push(next);
        }
        (listed, trouble)
    }

    /// The list of the referrers tag.
    async fn listed_by_tag(self) -> ListAnswer {
        let tag = referrers_tag(&self.digest);
        let (mut listed, mut trouble) = (Vec::new(), Vec::new());
        match self.tagged(&tag).await {
            Ok(None) => {}
            Ok(Some(fetched)) => self.read_list(&format!("tag {tag}"), &fetched.bytes, &mut listed, &mut trouble),
            Err(error) => trouble.push(error),
        }
        (listed, trouble)
    }

    /// Reads a list. GitLab takes the referrers tag for the digest and answers with the image itself, which is not a
    /// list.
    fn read_list(self, name: &str, bytes: &Bytes, listed: &mut Vec<ListedReferrer>, trouble: &mut Vec<Trouble>) {
        if Digest::of(self.digest.algorithm(), bytes) == self.digest {
            return;
        }
        match ReferrersList::read(bytes) {
            Ok(list) => {
                listed.extend(list.entries);
                if list.unreadable > 0 {
                    let why = format!("{name}: {} cannot be read", counted(list.unreadable, "entry", "entries"));
                    trouble.push(Trouble::Unanswered(SourceError::new(why, false)));
                }
            }
            // An answer that is not a list says nothing about signatures.
            Err(why) => {
                trouble.push(Trouble::Unanswered(SourceError::new(clip(format!("{name} is unusable: {why}")), false)));
            }
        }
    }

    /// The manifest that a tag names. An answer that is not a manifest, such as a maintenance page of a proxy, does not
    /// tell what the tag names: the question stays open, as in the resolver.
    async fn tagged(self, tag: &str) -> Result<Option<UnparsedManifest>, Trouble> {
        // A sha512 digest with a suffix is too long for a tag: nothing can be there.
        let Ok(tag) = tag.parse() else { return Ok(None) };
        let reference = Reference::Tag(tag);
        let answer = self.source.manifest(self.repository, &reference).await.and_then(|answer| match answer {
            Some(fetched) => manifest_of(fetched).map(Some),
            None => Ok(None),
        });
        answer.map_err(|error| unanswered(&format!("tag {reference}"), &error))
    }

    /// A referrer; and how many bytes were received.
    pub(super) async fn referrer(self, digest: Digest) -> (usize, Result<Manifest, Trouble>) {
        let place = referrer_place(digest);
        let form = manifest_form(Origin::Referrer, &place, digest);
        match self.source.manifest(self.repository, &Reference::Digest(digest)).await {
            Ok(Some(fetched)) => {
                let bytes = fetched.bytes.len();
                let manifest = parse(fetched).and_then(|manifest| manifest.named(digest));
                (bytes, manifest.map_err(|invalid| trouble(&invalid, &place, form)))
            }
            Ok(None) => {
                let why = "is listed as a referrer but is not in the repository";
                (0, Err(Trouble::Broken(refused(&place, form, why))))
            }
            Err(error) => (error.received, Err(unanswered(&format!("referrer {}", digest.short()), &error))),
        }
    }
}
