//! The images that an image may be built on: `baseImages` of a rule.

use super::ruleset::own_spellings;
use crate::oci::{ImageReference, Reference};
use crate::policy::matching::pattern::Pattern;
use crate::policy::matching::subject::Subject;
use crate::policy::vulnerability::{BaseImage, ImageFacts};
use crate::scope::Scope;

/// The images that an image may be built on, by patterns like the names of `repositories`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BaseImageRule {
    /// If not empty, one of these must match.
    pub(in crate::policy) allow: Vec<Pattern>,
    /// None of these may match.
    pub(in crate::policy) deny: Vec<Pattern>,
}

/// A rule's requirements for the base images of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::policy) enum BaseImageVerdict<'a> {
    Admitted,
    /// The rule denies this one.
    Denied(&'a BaseImage),
    /// The rule lists the images that are admitted, and none of those that the image was built on is among them, not
    /// even this nearest one.
    NotAllowed(&'a BaseImage),
    /// The rule lists the images that are admitted, and it is not known what the image was built on.
    Unknown,
}

impl BaseImageRule {
    /// The rule with these patterns.
    pub fn new(allow: &[&str], deny: &[&str]) -> Self {
        let patterns = |texts: &[&str]| texts.iter().map(|text| Pattern::new(text)).collect();
        Self { allow: patterns(allow), deny: patterns(deny) }
    }

    /// The rule's verdict on the base images of an image and on the image itself. Its author's claims can only deny it.
    /// A name that cannot be parsed is not allowed.
    pub(in crate::policy) fn judge<'a>(&self, image: &'a ImageFacts) -> BaseImageVerdict<'a> {
        let ImageFacts { bases, claimed_base, names, .. } = image;
        let mut stated = bases.iter().chain(claimed_base).chain(names);
        let is_denied = |base: &&BaseImage| matches(&self.deny, base).is_none_or(|matches| matches);
        match stated.find(is_denied) {
            Some(base) if matches(&self.deny, base).is_none() => return BaseImageVerdict::NotAllowed(base),
            Some(base) => return BaseImageVerdict::Denied(base),
            None => {}
        }
        let is_allowed = |base: &BaseImage| self.allows(base);
        match bases.first() {
            _ if self.allow.is_empty() || bases.iter().chain(names).any(is_allowed) => BaseImageVerdict::Admitted,
            Some(nearest) => BaseImageVerdict::NotAllowed(nearest),
            None => BaseImageVerdict::Unknown,
        }
    }

    /// Whether the rule lists an image by this name among those that are admitted.
    pub(in crate::policy) fn allows(&self, base: &BaseImage) -> bool {
        matches(&self.allow, base) == Some(true)
    }
}

/// Whether a pattern matches a spelling of a name; `None` if the name cannot be parsed.
fn matches(patterns: &[Pattern], base: &BaseImage) -> Option<bool> {
    let reference: ImageReference = base.name.parse().ok()?;
    let by_tag = Subject::new(reference.name.clone(), reference.reference(), Scope::CLUSTER);
    let mut spellings = own_spellings(&by_tag);
    if let Some(digest) = base.digest.or(reference.digest) {
        let by_digest = Subject::new(reference.name, Reference::Digest(digest), Scope::CLUSTER);
        spellings.extend(own_spellings(&by_digest));
    }
    Some(patterns.iter().any(|pattern| spellings.iter().any(|spelling| pattern.matches(spelling))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    fn base(name: &str) -> BaseImage {
        BaseImage { name: name.into(), digest: None }
    }

    fn built_on(bases: &[&str]) -> ImageFacts {
        ImageFacts { bases: bases.iter().map(|name| base(name)).collect(), ..ImageFacts::default() }
    }

    #[test]
    fn base_images_are_matched_by_all_their_spellings() {
        let (admitted, denied, not_allowed) = ("admitted", "denied", "not allowed");
        fn word(verdict: BaseImageVerdict<'_>) -> &'static str {
            match verdict {
                BaseImageVerdict::Admitted => "admitted",
                BaseImageVerdict::Denied(_) => "denied",
                BaseImageVerdict::NotAllowed(_) => "not allowed",
                BaseImageVerdict::Unknown => "unknown",
            }
        }
        for (allow, deny, name, expected) in [
            (&["debian:*"][..], &[][..], "docker.io/library/debian:12", admitted),
            (&["docker.io/library/debian:12"], &[], "debian:12", admitted),
            (&["debian:12"], &[], "debian:11", not_allowed),
            (&["registry.acme.com/*"], &[], "registry.acme.com.evil.io/x", not_allowed),
            (&[], &["*/*alpine*"], "docker.io/library/alpine:3", denied),
            (&["*"], &["alpine:*"], "alpine", denied),
            (&[], &["alpine:*"], "debian", admitted),
            (&[], &["alpine:*"], "not a name", not_allowed),
        ] {
            let (rule, image) = (BaseImageRule::new(allow, deny), built_on(&[name]));
            assert_eq!(word(rule.judge(&image)), expected, "{allow:?} {deny:?} {name}");
        }
        let digest = Digest::sha256(b"base");
        let rule = BaseImageRule::new(&[&format!("debian@{digest}")], &[]);
        let of = |digest| ImageFacts {
            bases: vec![BaseImage { name: "debian:12".into(), digest }],
            ..ImageFacts::default()
        };
        assert_eq!(rule.judge(&of(Some(digest))), BaseImageVerdict::Admitted);
        assert!(matches!(rule.judge(&of(None)), BaseImageVerdict::NotAllowed(_)));
    }

    #[test]
    fn claims_of_authors_can_only_deny() {
        let rule = BaseImageRule::new(&["debian:*"], &["alpine:*"]);
        let claims = |bases: &[&str], claim: &str| ImageFacts { claimed_base: Some(base(claim)), ..built_on(bases) };
        assert_eq!(rule.judge(&claims(&[], "debian:12")), BaseImageVerdict::Unknown);
        let image = claims(&["fedora:42"], "debian:12");
        assert_eq!(rule.judge(&image), BaseImageVerdict::NotAllowed(&base("fedora:42")));
        let image = claims(&["debian:12"], "alpine:3");
        assert_eq!(rule.judge(&image), BaseImageVerdict::Denied(&base("alpine:3")));
    }

    #[test]
    fn one_allowed_image_below_is_enough_and_one_denied_is_too_many() {
        let rule = BaseImageRule::new(&["debian:*"], &["debian:7"]);
        assert_eq!(rule.judge(&built_on(&["r.io/java:21", "debian:12"])), BaseImageVerdict::Admitted);
        let image = built_on(&["debian:12", "debian:7"]);
        assert_eq!(rule.judge(&image), BaseImageVerdict::Denied(&base("debian:7")));
        let itself = |name: &str| ImageFacts { names: vec![base(name)], ..ImageFacts::default() };
        assert_eq!(rule.judge(&itself("debian:12")), BaseImageVerdict::Admitted, "a base image itself");
        let image = itself("debian:7");
        assert_eq!(rule.judge(&image), BaseImageVerdict::Denied(&base("debian:7")));
        assert_eq!(rule.judge(&itself("r.io/app:1")), BaseImageVerdict::Unknown);
    }
}
