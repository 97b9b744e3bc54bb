//! The rules of policy documents as types, the same for all three dialects.

use std::sync::Arc;

use jiff::SignedDuration;

use super::authority::Authority;

/// What one `repositories` entry requires. A rule without any check admits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// Who must have signed: content trust in the IBM dialects, named authorities in ours.
    pub trust: Option<Requirement>,
    /// Portieris' `simple` signing, required in addition to `trust`.
    pub simple: Option<Requirement>,
    /// What is required of vulnerabilities.
    pub va: Option<VaRule>,
}

impl Rule {
    /// Whether the rule requires no check.
    pub fn admits_all(&self) -> bool {
        self.trust.is_none() && self.simple.is_none() && self.va.is_none()
    }

    /// Every authority that the rule names, each once.
    pub fn authorities(&self) -> Vec<Arc<Authority>> {
        let mut found = Vec::new();
        for requirement in self.trust.iter().chain(&self.simple) {
            requirement.collect(&mut found);
        }
        found
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
    /// Every part by itself: one signature may satisfy several parts (Portieris' `simple`).
    AllOf(Vec<Self>),
    /// At least one part.
    AnyOf(Vec<Self>),
    /// At least `count` of the parts, each by a different signer: a key under two names counts once.
    AtLeast {
        /// How many parts must be met.
        count: usize,
        /// The parts.
        of: Vec<Self>,
    },
    /// This authority has verified a signature of the image.
    Authority(Arc<Authority>),
    /// Always met (Portieris' `insecureAcceptAnything`).
    Accept,
    /// Never met (Portieris' `reject`).
    Reject,
}

impl Requirement {
    /// Every authority that it names, each once.
    pub(super) fn authorities(&self) -> Vec<Arc<Authority>> {
        let mut found = Vec::new();
        self.collect(&mut found);
        found
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

/// What a rule requires of vulnerabilities.
#[derive(Clone, Debug, PartialEq)]
pub struct VaRule {
    /// The least severity that counts.
    pub severity: Severity,
    /// Whether only issues with a published fix count.
    pub fixable_only: bool,
    /// Issue identifiers that count whatever the rest of the rule says.
    pub always_block: Vec<String>,
    /// What happens to an image that no source knows.
    pub unscanned: Behaviour,
    /// What happens when the assessment is known to be incomplete.
    pub incomplete: Behaviour,
    /// What happens to what cannot be assessed at all: artifacts, unknown systems.
    pub unsupported: Behaviour,
    /// What happens when no source answers.
    pub unavailable: Behaviour,
    /// A report older than this counts as unscanned.
    pub max_report_age: Option<SignedDuration>,
    /// IBM's `ICCRVA.account`: whose exemptions apply.
    pub account: Option<String>,
}

impl VaRule {
    /// `va.enabled: true` of the IBM dialects: every issue that the source reports and does not exempt counts. What is
    /// unsupported is admitted; anything else that is not known is denied.
    pub fn ibm() -> Self {
        Self {
            severity: Severity::Unknown,
            fixable_only: false,
            always_block: Vec::new(),
            unscanned: Behaviour::Deny,
            incomplete: Behaviour::Deny,
            unsupported: Behaviour::Allow,
            unavailable: Behaviour::Deny,
            max_report_age: None,
            account: None,
        }
    }
}

/// What a rule does when something is not known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Behaviour {
    /// Admit.
    Allow,
    /// Deny.
    Deny,
}

/// The severity of an issue. An unknown severity compares as the highest: not knowing is no reason to admit.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Negligible.
    Negligible,
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
    /// Critical.
    Critical,
    /// The source states none.
    Unknown,
}

impl Severity {
    /// Whether an issue of this severity counts under a rule with the threshold `least`. With [`Severity::Unknown`] as
    /// the threshold every issue counts.
    pub fn counts_from(self, least: Self) -> bool {
        least == Self::Unknown || self as u8 >= least as u8
    }

    /// Lower case, as documents write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Negligible => "negligible",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
            Self::Unknown => "unknown",
        }
    }
}

impl std::str::FromStr for Severity {
    type Err = InvalidSeverity;

    fn from_str(text: &str) -> Result<Self, InvalidSeverity> {
        match &*text.to_ascii_lowercase() {
            "negligible" => Ok(Self::Negligible),
            "low" => Ok(Self::Low),
            "medium" | "moderate" => Ok(Self::Medium),
            "high" | "important" => Ok(Self::High),
            "critical" => Ok(Self::Critical),
            "unknown" => Ok(Self::Unknown),
            _ => Err(InvalidSeverity),
        }
    }
}

/// A text is not a severity.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a severity is negligible, low, medium, high or critical")]
pub struct InvalidSeverity;
