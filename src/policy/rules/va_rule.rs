//! The conditions of a rule other than signatures: `va` of a policy entry.

use jiff::SignedDuration;

use super::banned::BannedPackage;
use super::base_image::BaseImageRule;
use super::exemption::VaExemptions;
use super::licence::LicenceRule;
use super::rule::Behaviour;
use crate::policy::condition::Condition;
use crate::policy::vulnerability::epss::Epss;
use crate::policy::vulnerability::severity::Severity;

/// The requirements of a rule for what is in an image. All of them must be met.
#[derive(Clone, Debug, PartialEq)]
pub struct VaRule {
    /// The lowest severity that counts.
    pub severity: Severity,
    /// The sources whose severity counts, the preferred one first. An issue that none of them has rated has an unknown
    /// severity. Empty: the severity that the report states.
    pub severity_sources: Vec<String>,
    /// Whether a vulnerability counts because of its severity only if a fix is published.
    pub fixable_only: bool,
    /// How long an issue without a published fix does not count, from the earlier of the dates on which it was
    /// published and first seen.
    pub ignore_unfixed_for: Option<SignedDuration>,
    /// The severity from which configuration issues that the gate itself finds count, besides `severity`. `None`: they
    /// do not count.
    pub configuration: Option<Severity>,
    /// The key because of which a report of a source that does not check configurations is not enough.
    pub needs_configuration: Option<&'static str>,
    /// Identifiers of issues that always count, unless they are exempt, regardless of the rest of the rule.
    pub always_block: Vec<String>,
    /// Issues that do not count.
    pub ignore: VaExemptions,
    /// How long an issue does not count.
    pub grace: Grace,
    /// How long a previously admitted image is served after a new issue is found in it.
    pub admitted_grace: Option<SignedDuration>,
    /// Whether issues that are known to be exploited are admitted. [`Behaviour::Deny`] requires that the catalogue is
    /// imported. `None`: such issues count, and a catalogue that is missing is accepted.
    pub exploited: Option<Behaviour>,
    /// The probability of exploitation from which an issue counts.
    pub epss: Option<Epss>,
    /// Whether packages that are known to be malware are admitted.
    pub malicious: Behaviour,
    /// The licences that packages may have.
    pub licences: Option<LicenceRule>,
    /// How old an image and its packages must be.
    pub cool_down: CoolDown,
    /// Packages that an image must not contain.
    pub banned_packages: Vec<BannedPackage>,
    /// The images that an image may be built on.
    pub base_images: Option<BaseImageRule>,
    /// Whether a distribution that is no longer supported is admitted.
    pub end_of_life: Behaviour,
    /// Denies an image for which it is true.
    pub when: Option<Condition>,
    /// The behaviour for an image that no source knows.
    pub unscanned: Unscanned,
    /// The behaviour when the assessment is known to be incomplete.
    pub incomplete: Behaviour,
    /// The behaviour for an image in which nothing was recognised.
    pub opaque: Behaviour,
    /// The behaviour for content that cannot be assessed at all: artifacts, unknown systems.
    pub unsupported: Behaviour,
    /// The behaviour when no source answers.
    pub unavailable: Behaviour,
    /// The maximum age of a report. An older report counts as missing, but its findings still deny.
    pub max_report_age: Option<SignedDuration>,
    /// The maximum age of the advisory databases and feeds that were used. As for `max_report_age`.
    pub max_database_age: Option<SignedDuration>,
    /// `ICCRVA.account` of IBM: the account whose exemptions apply.
    pub account: Option<String>,
}

impl VaRule {
    /// The rule for `va.enabled: true` of the IBM dialects: every issue counts unless the source exempts it.
    /// Configuration issues that the gate itself finds do not count. Unsupported content is admitted, and so is a
    /// distribution that is no longer supported. Any other unknown result is denied.
    pub fn ibm() -> Self {
        Self {
            severity: Severity::Unknown,
            severity_sources: Vec::new(),
            fixable_only: false,
            ignore_unfixed_for: None,
            configuration: None,
            needs_configuration: None,
            always_block: Vec::new(),
            ignore: VaExemptions::default(),
            grace: Grace::default(),
            admitted_grace: None,
            exploited: None,
            epss: None,
            malicious: Behaviour::Deny,
            licences: None,
            cool_down: CoolDown::default(),
            banned_packages: Vec::new(),
            base_images: None,
            end_of_life: Behaviour::Allow,
            when: None,
            unscanned: Unscanned::Deny,
            incomplete: Behaviour::Deny,
            opaque: Behaviour::Deny,
            unsupported: Behaviour::Allow,
            unavailable: Behaviour::Deny,
            max_report_age: None,
            max_database_age: None,
            account: None,
        }
    }
}

impl VaRule {
    /// Whether a condition of the rule depends on what the gate remembers about the image.
    pub fn needs_history(&self) -> bool {
        let by_first_seen = self.grace.from == GraceStart::FirstSeen && !self.grace.lengths.is_empty();
        let times = [self.ignore_unfixed_for, self.admitted_grace, self.cool_down.image];
        by_first_seen || times.iter().any(Option::is_some) || self.when.is_some()
    }

    /// Whether a condition of the rule depends on what the gate finds out about the origin of the image: when it was
    /// created, and what it was built on.
    pub fn needs_origin(&self) -> bool {
        self.needs_bases() || self.cool_down.image.is_some()
    }

    /// Whether a condition of the rule depends on what the image was built on.
    pub fn needs_bases(&self) -> bool {
        self.base_images.is_some() || self.when.as_ref().is_some_and(|when| when.mentions("image"))
    }

    /// Whether the rule is one of the IBM dialects, under which every issue counts, whatever its severity.
    pub(in crate::policy) fn is_ibm(&self) -> bool {
        self.severity == Severity::Unknown
    }
}

/// The behaviour for an image that no source knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unscanned {
    /// Admit.
    Allow,
    /// Deny.
    Deny,
    /// Deny for now: clients are told to try again, because a report is expected.
    Wait,
}

/// How long an issue does not count: for each severity, from when it was published or first seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grace {
    /// The beginning.
    pub from: GraceStart,
    /// The length for each severity. A severity that is not listed has no grace period.
    pub lengths: Vec<(Severity, SignedDuration)>,
}

impl Grace {
    /// The length for a severity.
    pub fn length(&self, severity: Severity) -> Option<SignedDuration> {
        self.lengths.iter().find(|(listed, _)| *listed == severity).map(|(_, length)| *length)
    }
}

/// When the grace period of an issue begins. An issue without a known time has no grace period.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum GraceStart {
    /// When the issue was first found in the image, or in another one of its repository.
    FirstSeen,
    /// When the vulnerability was published.
    #[default]
    Published,
}

/// How old an image and its packages must be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CoolDown {
    /// The minimum age of an image, since the gate first saw it.
    pub image: Option<SignedDuration>,
    /// The minimum age of each version of a package whose date of publication is known.
    pub packages: Option<SignedDuration>,
    /// Whether an image whose packages are not known is denied because of `packages`.
    pub needs_packages: bool,
}
