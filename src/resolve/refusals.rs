//! Manifests that were refused a moment ago. Fetching and parsing a large one again is expensive, and the result would
//! be the same.

use jiff::SignedDuration;

use super::memory::name_weight;
use crate::oci::{ImageName, Reference, Refused};
use crate::runtime::{ALLOCATION, Clock, Expiring, budget, signed_duration};
use crate::upstream::Upstream;

/// How long a refusal is remembered: a proxy may have labelled the manifest wrongly.
const LIFETIME: SignedDuration = SignedDuration::from_secs(60);

/// Refusals, by what was asked for.
pub(super) struct Refusals(Expiring<(ImageName, Reference), Refused>);

impl Refusals {
    pub(super) fn new(clock: Clock) -> Self {
        Self(Expiring::new(budget::REFUSED, clock, |(name, reference), refused| {
            let text = refused.value().to_string().len();
            let tag = if let Reference::Tag(tag) = reference { tag.as_str().len() } else { 0 };
            name_weight(name) + ALLOCATION + tag + text
        }))
    }

    /// The refusal that is remembered, if there is one.
    pub(super) fn check(&self, name: &ImageName, reference: &Reference) -> Result<(), Refused> {
        self.0.get(&(name.clone(), reference.clone())).map_or(Ok(()), Err)
    }

    /// Remembers a refusal; for a tag, no longer than the time for which tags are not checked again.
    pub(super) fn keep(&self, upstream: &Upstream, name: &ImageName, reference: &Reference, refused: &Refused) {
        let lifetime = match reference {
            Reference::Digest(_) => LIFETIME,
            Reference::Tag(_) => LIFETIME.min(signed_duration(upstream.config().tag_ttl)),
        };
        self.0.keep((name.clone(), reference.clone()), refused.clone(), lifetime);
    }
}
