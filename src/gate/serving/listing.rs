//! Lists of tags and referrers, which are names and not content. The JSON is rebuilt from the parsed upstream response.

use std::collections::HashSet;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};

use crate::gate::{Answer, GateError, Target};
use crate::oci::{
    Descriptor, Digest, Page, Reference, RequestedName, media_type, parse_referrers, referrers_tag, write_referrers,
};
use crate::policy::{self, ListingPermit, Mode, Selection};
use crate::rulebook::Rulebook;
use crate::upstream::{Error, TagList};

/// How much of a tag list is buffered before the response starts, in bytes. A list that fits is known to be complete,
/// and an error within it still gets its own status code.
const HEAD: usize = 64 * 1024;

/// A page of tags or referrers, ready to be sent.
pub struct ListPage {
    /// The JSON.
    pub body: ListBody,
    /// The media type.
    pub media_type: &'static str,
    /// The parameters for the next page.
    pub next: Option<Page>,
    /// Whether the page contains only referrers of the requested type.
    pub is_filtered: bool,
}

/// The JSON of a list.
pub enum ListBody {
    /// The complete list.
    Whole(Bytes),
    /// The beginning of the list; the rest follows as the upstream delivers it.
    Tags(Box<TagWriter>),
}

/// Answers requests for lists.
pub(in crate::gate) struct Listings(Arc<Rulebook>);

impl Listings {
    pub(in crate::gate) fn new(rulebook: Arc<Rulebook>) -> Self {
        Self(rulebook)
    }

    /// A page of tags. `name` is the repository's name as the client knows it.
    pub(in crate::gate) async fn tags(
        &self,
        target: &Target,
        name: &RequestedName,
        page: &Page,
    ) -> Result<Answer, GateError> {
        let permit = self.admit_listing(target)?;
        let mut list = target.upstream.tags(&permit.name().repository, page).await?;
        let next = list.next.take();
        let body = TagWriter::begin(name, list).await?;
        let list = ListPage { body, media_type: "application/json", next, is_filtered: false };
        Ok(Answer::List(list))
    }

    /// A page of referrers, limited to the type that the page requests, if any.
    pub(in crate::gate) async fn referrers(
        &self,
        target: &Target,
        digest: Digest,
        page: &Page,
    ) -> Result<Answer, GateError> {
        let permit = self.admit_listing(target)?;
        let is_first = page.last.is_none() && page.opaque.is_empty();
        let (mut entries, mut next) = match is_first {
            // Referrers pushed before the registry supported the API are listed only in the tag.
            true => {
                let (api, tag) =
                    tokio::join!(listed_by_api(target, &permit, digest, page), listed_by_tag(target, &permit, digest));
                listed_in_both(api, tag)?
            }
            false => listed_by_api(target, &permit, digest, page).await?,
        };
        if let Some(wanted) = &page.artifact_type {
            entries.retain(|entry| entry.artifact_type.as_ref() == Some(wanted));
            next.iter_mut().for_each(|next| next.artifact_type = Some(wanted.clone()));
        }
        let body = ListBody::Whole(write_referrers(&entries));
        let is_filtered = page.artifact_type.is_some();
        Ok(Answer::List(ListPage { body, media_type: media_type::OCI_INDEX, next, is_filtered }))
    }

    /// A repository may be listed if any rule selects it: lists hold names, not content, and users need them to see why
    /// an image is denied.
    fn admit_listing(&self, target: &Target) -> Result<ListingPermit, GateError> {
        let rules = self.0.rules();
        match rules.select_repository(&target.name, &target.scope) {
            Selection::Entries { enforced, audited } => {
                let selected = [enforced, audited].concat();
                let nothing = || GateError::Denied(policy::no_match_in(&target.name, "no rule selects it".into()));
                policy::admit_listing(&target.name, &selected).ok_or_else(nothing)
            }
            Selection::Deny(_) if rules.mode() == Mode::Audit => Ok(policy::admit_listing_unmatched(&target.name)),
            Selection::Deny(message) => Err(GateError::Denied(policy::no_match_in(&target.name, message))),
        }
    }
}

/// The entries of a page, and the parameters for the next page.
type ListedPage = (Vec<Descriptor>, Option<Page>);

/// The referrers from both sources, each once. A failure of one source must not hide the entries of the other; if the
/// other has none, the failure is returned.
fn listed_in_both(api: Result<ListedPage, Error>, tag: Result<Vec<Descriptor>, Error>) -> Result<ListedPage, Error> {
    match (api, tag) {
        (Ok((mut entries, next)), Ok(more)) => {
            let mut seen: HashSet<Digest> = entries.iter().map(|entry| entry.digest).collect();
            entries.extend(more.into_iter().filter(|entry| seen.insert(entry.digest)));
            Ok((entries, next))
        }
        (Ok(listed), Err(_)) if !listed.0.is_empty() || listed.1.is_some() => Ok(listed),
        (Err(_), Ok(entries)) if !entries.is_empty() => Ok((entries, None)),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// The referrers from the API; empty if the registry does not support it.
async fn listed_by_api(
    target: &Target,
    permit: &ListingPermit,
    digest: Digest,
    page: &Page,
) -> Result<ListedPage, Error> {
    match target.upstream.referrers(&permit.name().repository, &digest, page).await {
        Ok(list) => Ok((list.entries, list.next)),
        Err(Error::NotFound { .. }) => Ok((Vec::new(), None)),
        Err(error) => Err(error),
    }
}

/// The referrers listed in the tag; empty if there is no such tag.
async fn listed_by_tag(target: &Target, permit: &ListingPermit, digest: Digest) -> Result<Vec<Descriptor>, Error> {
    let tag = referrers_tag(&digest);
    let not_a_list = |why: &str| {
        Error::Protocol(format!("{}: the tag {tag} is not a list of referrers: {why}", target.upstream.host()))
    };
    let reference = Reference::Tag(tag.parse().map_err(|_| not_a_list("it is not a valid tag"))?);
    match target.upstream.manifest(&permit.name().repository, &reference).await {
        // GitLab answers a request for the tag with the manifest that the tag refers to.
        Ok(fetched) if Digest::of(digest.algorithm(), &fetched.bytes) == digest => Ok(Vec::new()),
        Ok(fetched) => parse_referrers(&fetched.bytes).map_err(|refused| not_a_list(&refused.to_string())),
        Err(Error::NotFound { .. }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Writes `{"name":…,"tags":[…]}` while the tags arrive.
pub struct TagWriter {
    list: TagList,
    /// Text that is written but not yet sent.
    text: String,
    is_first: bool,
}

impl TagWriter {
    async fn begin(name: &RequestedName, list: TagList) -> Result<ListBody, Error> {
        // Repository names and tags contain no characters that JSON would have to escape.
        let text = format!("{{\"name\":\"{name}\",\"tags\":[");
        let mut writer = Self { list, text, is_first: true };
        while writer.text.len() < HEAD {
            if !writer.advance().await? {
                return Ok(ListBody::Whole(writer.text.into()));
            }
        }
        Ok(ListBody::Tags(Box::new(writer)))
    }

    /// Writes more; `false` at the end.
    async fn advance(&mut self) -> Result<bool, Error> {
        let Some(tags) = self.list.next().await else {
            self.text.push_str("]}");
            return Ok(false);
        };
        for tag in tags? {
            let comma = if mem::take(&mut self.is_first) { "" } else { "," };
            self.text.extend([comma, "\"", tag.as_str(), "\""]);
        }
        Ok(true)
    }

    /// The complete text as a stream. An error ends the stream.
    pub fn into_stream(self: Box<Self>) -> impl Stream<Item = Result<Bytes, Error>> + Send {
        stream::try_unfold(Some(self), |writer| async {
            let Some(mut writer) = writer else { return Ok(None) };
            let has_more = !writer.text.is_empty() || writer.advance().await?;
            let piece = Bytes::from(mem::take(&mut writer.text));
            Ok(Some((piece, has_more.then_some(writer))))
        })
    }
}
