//! The images that an image may be built on: `baseImages` of a rule.

use super::pattern::Pattern;
use super::ruleset::own_spellings;
use super::subject::Subject;
use super::vulnerability::BaseImage;
use crate::oci::{ImageReference, Reference};
use crate::scope::Scope;

/// The images that an image may be built on, by patterns like the names of `repositories`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BaseImageRule {
    /// If not empty, one of these must match.
    pub(super) allow: Vec<Pattern>,
    /// None of these may match.
    pub(super) deny: Vec<Pattern>,
}

/// What a rule says about a base image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BaseImageVerdict {
    Admitted,
    Denied,
    /// The rule lists the images that are admitted, and this one is not among them.
    NotAllowed,
}

impl BaseImageRule {
    /// The rule with these patterns.
    pub fn new(allow: &[&str], deny: &[&str]) -> Self {
        let patterns = |texts: &[&str]| texts.iter().map(|text| Pattern::new(text)).collect();
        Self { allow: patterns(allow), deny: patterns(deny) }
    }

    /// Whether the rule lists the images that are admitted, so that an image must name one.
    pub(super) fn requires_one(&self) -> bool {
        !self.allow.is_empty()
    }

    /// What the rule says about a base image. A name that cannot be parsed is not allowed.
    pub(super) fn judge(&self, base: &BaseImage) -> BaseImageVerdict {
        let Ok(reference) = base.name.parse::<ImageReference>() else { return BaseImageVerdict::NotAllowed };
        let by_tag = Subject::new(reference.name.clone(), reference.reference(), Scope::CLUSTER);
        let mut spellings = own_spellings(&by_tag);
        if let Some(digest) = base.digest.or(reference.digest) {
            let by_digest = Subject::new(reference.name, Reference::Digest(digest), Scope::CLUSTER);
            spellings.extend(own_spellings(&by_digest));
        }
        let matches = |patterns: &[Pattern]| {
            patterns.iter().any(|pattern| spellings.iter().any(|spelling| pattern.matches(spelling)))
        };
        match (matches(&self.deny), self.allow.is_empty() || matches(&self.allow)) {
            (true, _) => BaseImageVerdict::Denied,
            (false, true) => BaseImageVerdict::Admitted,
            (false, false) => BaseImageVerdict::NotAllowed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    #[test]
    fn base_images_are_matched_by_all_their_spellings() {
        let digest = Digest::sha256(b"base");
        for (allow, deny, name, expected) in [
            (&["debian:*"][..], &[][..], "docker.io/library/debian:12", BaseImageVerdict::Admitted),
            (&["docker.io/library/debian:12"], &[], "debian:12", BaseImageVerdict::Admitted),
            (&["debian:12"], &[], "debian:11", BaseImageVerdict::NotAllowed),
            (&["registry.acme.com/*"], &[], "registry.acme.com.evil.io/x", BaseImageVerdict::NotAllowed),
            (&[], &["*/*alpine*"], "docker.io/library/alpine:3", BaseImageVerdict::Denied),
            (&["*"], &["alpine:*"], "alpine", BaseImageVerdict::Denied),
            (&[], &["alpine:*"], "debian", BaseImageVerdict::Admitted),
            (&[], &["alpine:*"], "not a name", BaseImageVerdict::NotAllowed),
        ] {
            let base = BaseImage { name: name.into(), digest: None };
            assert_eq!(BaseImageRule::new(allow, deny).judge(&base), expected, "{allow:?} {deny:?} {name}");
        }
        let rule = BaseImageRule::new(&[&format!("debian@{digest}")], &[]);
        let base = |digest| BaseImage { name: "debian:12".into(), digest };
        assert_eq!(rule.judge(&base(Some(digest))), BaseImageVerdict::Admitted);
        assert_eq!(rule.judge(&base(None)), BaseImageVerdict::NotAllowed);
    }
}
