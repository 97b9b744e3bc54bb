//! What is installed in an image and which vulnerabilities are known in it, whatever the policy says. Used by
//! `pullgate va`.

use std::sync::Arc;

use jiff::Timestamp;

use super::Inspector;
use crate::gate::judge::platforms::manifest_if_there;
use crate::gate::{GateError, Target};
use crate::inventory::Inventory;
use crate::oci::{Content, Digest, ImageName, Manifest, Reference, Tag};
use crate::policy::{AssessmentContext, ImageHistory, Observed, Selection, Subject, VaEvidence, VaExemptions, VaRule};
use crate::scope::Scope;

/// One image that was examined.
#[derive(Clone, Debug)]
pub struct ScannedImage {
    /// The image's digest.
    pub digest: Digest,
    /// The platform, if an index states it.
    pub platform: Option<String>,
    /// What is known about its vulnerabilities.
    pub evidence: Arc<Observed<VaEvidence>>,
    /// What is installed in it; or why that cannot be read.
    pub inventory: Result<Arc<Inventory>, String>,
    /// When the layers were read, if they were.
    pub read_at: Option<Timestamp>,
}

/// The rule and the exemptions by which the issues of an image count.
#[derive(Clone, Debug)]
pub struct AppliedVaRule {
    /// The rule.
    pub rule: VaRule,
    /// The exemptions that apply to the image.
    pub exemptions: VaExemptions,
    /// What the gate remembers about the image.
    pub history: ImageHistory,
    /// The time at which they were looked up.
    pub at: Timestamp,
}

impl AppliedVaRule {
    /// What an assessment under the rule depends on besides the evidence.
    pub fn context(&self) -> AssessmentContext<'_> {
        AssessmentContext { exemptions: &self.exemptions, history: &self.history, now: self.at }
    }
}

impl Inspector {
    /// Examines an image, or the relevant images of an index, with all that a rule needs to judge them.
    ///
    /// # Errors
    /// If the image is not available: it is unknown, or the upstream does not respond.
    pub async fn scan(
        &self,
        target: &Target,
        reference: &Reference,
        rule: &VaRule,
    ) -> Result<Vec<ScannedImage>, GateError> {
        let manifest = self.resolver.resolve(&target.upstream, &target.name, reference, None).await?.manifest;
        if let Content::Image { .. } = &manifest.content {
            return Ok(self.scan_image(target, &manifest, None, rule).await?.into_iter().collect());
        }
        let mut scanned = Vec::new();
        for child in self.platforms.relevant_children(target, &manifest).await? {
            let Some(image) = manifest_if_there(&self.resolver, target, child.digest).await? else { continue };
            let platform = child.platform.as_ref().map(ToString::to_string);
            scanned.extend(self.scan_image(target, &image, platform, rule).await?);
        }
        Ok(scanned)
    }

    /// What is known about an image of one platform. Its layers are read if that is allowed.
    async fn scan_image(
        &self,
        target: &Target,
        image: &Arc<Manifest>,
        platform: Option<String>,
        rule: &VaRule,
    ) -> Result<Option<ScannedImage>, GateError> {
        let account = rule.account.as_deref();
        let Some(subject) = self.evidence.va_subject(target, image, account).await? else { return Ok(None) };
        let scanner = self.va.scanner();
        let inventory = match scanner.inventory(&subject).await {
            Ok(inventory) => inventory.ok_or_else(|| "the layers were not read".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let read_at = if inventory.is_ok() { scanner.read_at(&subject).await } else { None };
        let evidence = self.evidence.va_of_subject(target, rule, &subject).await;
        Ok(Some(ScannedImage { digest: image.digest, platform, evidence, inventory, read_at }))
    }

    /// The rule by which the vulnerabilities of a known tag count: the first of the rules without a scope that checks
    /// them. Without one, every issue counts. Also returns the subject of a pull by the tag.
    pub(super) fn known_rule(&self, name: &ImageName, tag: &Tag) -> (Subject, VaRule) {
        let subject = Subject::new(name.clone(), Reference::Tag(tag.clone()), Scope::default());
        let selected = match self.rulebook.rules().select(&subject) {
            Selection::Entries { enforced, audited } => enforced.into_iter().chain(audited).collect(),
            Selection::Deny(_) => Vec::new(),
        };
        let mut rules = selected.iter().filter_map(|selected| selected.rule.as_deref()?.va.clone());
        let rule = rules.next().unwrap_or_else(VaRule::ibm);
        (subject, rule)
    }
}
