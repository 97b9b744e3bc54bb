//! The rules of policy documents as types. All three dialects use them.

use std::sync::Arc;

use super::va_rule::VaRule;
use crate::policy::signatures::authority::{Authority, AuthorityId};

/// The requirements of one `repositories` entry. A rule without any check admits every image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// The required signatures: content trust in the IBM dialects, named authorities in the pullgate dialect.
    pub trust: Option<Requirement>,
    /// `simple` signing of Portieris, required in addition to `trust`.
    pub simple: Option<Requirement>,
    /// Which signatures of an index and of its images count for each other.
    pub signed: SignedPart,
    /// The requirements for vulnerabilities.
    pub va: Option<VaRule>,
    /// Whether a tag resolves to the registry's digest even if content trust signs another one, which then denies
    /// (`mutateImage: false` of Portieris).
    pub keeps_tags: bool,
}

impl Rule {
    /// Whether the rule requires no check.
    pub fn admits_all(&self) -> bool {
        self.trust.is_none() && self.simple.is_none() && self.va.is_none()
    }

    /// Whether applying the rule to a report may take longer than a millisecond: it evaluates a condition, reads the
    /// licences or the ages of all packages, or compares all packages with bans.
    pub fn may_take_long(&self) -> bool {
        self.va.as_ref().is_some_and(|va| {
            let looks_at_packages = va.licences.is_some() || va.cool_down.packages.is_some();
            va.when.is_some() || looks_at_packages || !va.banned_packages.is_empty()
        })
    }

    /// All authorities that the rule names, without duplicates.
    pub fn authorities(&self) -> Vec<Arc<Authority>> {
        let mut found = Vec::new();
        for requirement in self.trust.iter().chain(&self.simple) {
            requirement.collect(&mut found);
        }
        found
    }
}

impl Rule {
    /// The same, each once for every signer of it that a requirement may need: `allOf: [a, {anyOf: [a, b]}]` may need
    /// two signers of `a`.
    pub fn authorities_by_need(&self) -> Vec<Arc<Authority>> {
        let most = |authority: &Authority| {
            let requirements = self.trust.iter().chain(&self.simple);
            requirements.map(|requirement| requirement.most_signers(authority.id())).max().unwrap_or_default()
        };
        let repeated = |authority: Arc<Authority>| {
            let times = most(&authority).max(1);
            std::iter::repeat_n(authority, times)
        };
        self.authorities().into_iter().flat_map(repeated).collect()
    }

    /// Whether signatures may suffice although nothing is known for these authorities.
    pub fn may_be_met_without(&self, unknown: &[AuthorityId]) -> bool {
        self.trust.iter().chain(&self.simple).all(|requirement| requirement.may_be_met_without(unknown))
    }
}

/// The document and the entry that apply to a subject.
#[derive(Clone, Debug, PartialEq)]
pub struct Selected {
    /// Kind and name: `ClusterImagePolicy/default`.
    pub document: Arc<str>,
    /// The entry's `name`, which is its pattern.
    pub entry: Arc<str>,
    /// What the entry requires. `None` if it has no `policy`; such an entry admits everything.
    pub rule: Option<Arc<Rule>>,
}

impl Selected {
    /// Whether the entry requires any check.
    pub fn asks(&self) -> bool {
        self.rule.as_ref().is_some_and(|rule| !rule.admits_all())
    }

    /// The same entry without its requirements for signatures. Whatever it denies, the entry also denies.
    #[must_use]
    pub fn without_signatures(&self) -> Self {
        let rule = self.rule.as_ref().map(|rule| Arc::new(Rule { trust: None, simple: None, ..Rule::clone(rule) }));
        Self { rule, ..self.clone() }
    }
}

/// Which signatures of an index and of its images count for each other: `signed` of an entry.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SignedPart {
    /// Every image must be signed itself. An index counts as signed if all of its images are, whatever its own
    /// signatures.
    Child,
    /// An index counts as signed if it is signed itself, or if all of its images are. Its signature counts for its
    /// images.
    #[default]
    Either,
    /// An index must be signed itself. Its signature counts for its images.
    Index,
}

impl SignedPart {
    /// Whether the signature of an index counts for the images that it lists.
    pub fn counts_for_children(self) -> bool {
        self != Self::Child
    }

    /// Whether the signatures of all of its images count for an index.
    pub fn counts_for_index(self) -> bool {
        self != Self::Index
    }
}

/// Whether denials are enforced.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Mode {
    /// A denial is only reported.
    Audit,
    /// A denial is enforced.
    #[default]
    Enforce,
}

/// A combination of authorities.
#[derive(Clone, Debug, PartialEq)]
pub enum Requirement {
    /// Each part is evaluated separately, so one signature can satisfy several parts (`simple` of Portieris).
    AllOf(Vec<Self>),
    /// At least one part.
    AnyOf(Vec<Self>),
    /// At least `count` of the parts, each with a different signer. A key with two names counts once.
    AtLeast {
        /// The number of parts that must be met.
        count: usize,
        /// The parts.
        of: Vec<Self>,
    },
    /// Met if a signature of this authority was verified for the image.
    Authority(Arc<Authority>),
    /// Always met (`insecureAcceptAnything` of Portieris).
    Accept,
    /// Never met (`reject` of Portieris).
    Reject,
}

impl Requirement {
    /// All authorities that the requirement names, without duplicates.
    pub(in crate::policy) fn authorities(&self) -> Vec<Arc<Authority>> {
        let mut found = Vec::new();
        self.collect(&mut found);
        found
    }

    /// The maximum number of signers of an authority that this can need.
    fn most_signers(&self, id: &AuthorityId) -> usize {
        let of_parts = |parts: &[Self]| parts.iter().map(|part| part.most_signers(id)).collect::<Vec<_>>();
        match self {
            // One signer may meet several parts.
            Self::AllOf(parts) | Self::AnyOf(parts) => of_parts(parts).into_iter().max().unwrap_or_default(),
            Self::AtLeast { count, of } => {
                let mut needs = of_parts(of);
                needs.sort_unstable_by(|one, other| other.cmp(one));
                needs.into_iter().take((*count).max(1)).sum()
            }
            Self::Authority(authority) => usize::from(authority.id() == id),
            Self::Accept | Self::Reject => 0,
        }
    }

    fn may_be_met_without(&self, unknown: &[AuthorityId]) -> bool {
        let may = |part: &&Self| part.may_be_met_without(unknown);
        match self {
            Self::AllOf(parts) => parts.iter().all(|part| may(&part)),
            Self::AnyOf(parts) => parts.iter().any(|part| may(&part)),
            Self::AtLeast { count, of } => of.iter().filter(may).count() >= *count,
            Self::Authority(authority) => !unknown.contains(authority.id()),
            Self::Accept => true,
            Self::Reject => false,
        }
    }

    fn collect(&self, found: &mut Vec<Arc<Authority>>) {
        match self {
            Self::AllOf(parts) | Self::AnyOf(parts) | Self::AtLeast { of: parts, .. } => {
                parts.iter().for_each(|part| part.collect(found));
            }
            Self::Authority(authority) if !found.iter().any(|known| known.id() == authority.id()) => {
                found.push(authority.clone());
            }
            Self::Authority(_) | Self::Accept | Self::Reject => {}
        }
    }
}

/// The behaviour of a rule when a result is unknown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Behaviour {
    /// Admit.
    Allow,
    /// Deny.
    Deny,
}
