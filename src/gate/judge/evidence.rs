//! Gathers evidence for one rule: trust first, then vulnerabilities unless trust already denies.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::exemptions::ExemptionBook;
use super::history::{Histories, Unremembered};
use super::inherited::InheritingImage;
use super::layers::Layers;
use super::origin::Origins;
use super::platforms::{Platforms, manifest_if_there};
use crate::gate::{GateError, Target};
use crate::oci::{Content, Digest, Manifest, Reference};
use crate::policy::{
    Authority, ChildFinding, ExemptedImage, ExemptionRecord, ImageHistory, Kind, Mode, Observed, Rule, Selected,
    Subject, TrustEvidence, TrustFindings, VaEvidence, VaExemptions, VaFindings, VaRule, Verdict, trust_verdict,
};
use crate::resolve::Resolver;
use crate::runtime::Clock;
use crate::trust::{AskedAhead, PinError, TagPins, Trust};
use crate::va::{Va, VaSubject};

/// The maximum number of indexes that are examined as parents of an image.
const MAX_PARENTS: usize = 16;

/// What is known about one manifest, limited to what one rule requires.
#[derive(Debug, Default)]
pub(in crate::gate) struct GatheredEvidence {
    pub(in crate::gate) trust: TrustFindings,
    pub(in crate::gate) va: Option<VaFindings>,
    /// The exemptions that apply to the image.
    pub(in crate::gate) exemptions: VaExemptions,
    /// What the gate remembers about the image, if the rule needs it.
    pub(in crate::gate) history: ImageHistory,
}

impl GatheredEvidence {
    /// When the first part of the evidence expires; `None` if no part expires by itself.
    pub(super) fn until(&self) -> Option<Timestamp> {
        // An exemption that expires never turns a denial into an admission, and a permit expires with the exemptions
        // that it needs.
        let Self { trust: TrustFindings { own, inherited, children }, va, exemptions: _, history: _ } = self;
        let others = inherited.iter().chain(children).map(|(_, evidence)| evidence);
        let trust =
            std::iter::once(own).chain(others).flat_map(TrustEvidence::iter).filter_map(|(_, found)| found.until);
        let va = va.iter().flat_map(VaFindings::evidence).filter_map(|found| found.until);
        trust.chain(va).min()
    }

    /// The exemptions that exempt an issue of the image at this time, without duplicates, at most `limit`.
    pub(super) fn used_exemptions(&self, now: Timestamp, limit: usize) -> Vec<Arc<ExemptionRecord>> {
        let of = |exemptions: &VaExemptions, evidence: &VaEvidence| exemptions.used_for(evidence.issues(), now);
        let mut used = match &self.va {
            None => Vec::new(),
            Some(VaFindings::Image(evidence)) => of(&self.exemptions, &evidence.value),
            Some(VaFindings::Children(children)) => {
                let of_child =
                    |child: &ChildFinding| of(&self.exemptions.for_child(child.digest), &child.evidence.value);
                children.iter().flat_map(of_child).collect()
            }
        };
        let mut seen = HashSet::new();
        used.retain(|record| seen.insert(Arc::as_ptr(record)));
        used.truncate(limit);
        used
    }

    /// Whether another attempt may find out more about vulnerabilities because no source has answered yet. A rule may
    /// admit such evidence, but its expiry is not known.
    pub(super) fn is_temporary(&self) -> bool {
        self.va.iter().flat_map(VaFindings::evidence).any(|found| found.value.is_unanswered())
    }
}

/// Gathers evidence from trust and VA.
pub(in crate::gate) struct EvidenceGatherer {
    pub(in crate::gate) resolver: Resolver,
    pub(in crate::gate) trust: Arc<Trust>,
    pub(in crate::gate) va: Arc<Va>,
    pub(in crate::gate) exemptions: Arc<ExemptionBook>,
    pub(in crate::gate) layers: Layers,
    pub(in crate::gate) platforms: Arc<Platforms>,
    pub(in crate::gate) histories: Histories,
    pub(in crate::gate) origins: Origins,
    pub(in crate::gate) clock: Clock,
}

impl EvidenceGatherer {
    /// The digest that an authority of the enforced entries has signed for a tag. Audited entries do not pin a digest.
    ///
    /// Where it cannot be found out what an authority has signed, the tag may be resolved nevertheless if an entry can
    /// admit without this authority. That it is unknown is part of the evidence then.
    ///
    /// # Errors
    /// The tag must not be resolved.
    pub(super) async fn pin(
        &self,
        target: &Target,
        reference: &Reference,
        mode: Mode,
        enforced: &[Selected],
    ) -> Result<TagPins, PinError> {
        let rules = enforced.iter().filter(|_| mode == Mode::Enforce).filter_map(|selected| selected.rule.as_ref());
        let pinning = rules.filter(|rule| !rule.keeps_tags);
        let authorities: Vec<_> = pinning.flat_map(|rule| rule.authorities()).collect();
        if authorities.is_empty() {
            return Ok(TagPins::default());
        }
        let pins = Box::pin(self.trust.pin(&target.upstream, &target.name, reference, &authorities)).await?;
        let unknown: Vec<_> = pins.unknown.iter().map(|(authority, _)| authority.clone()).collect();
        let admits = |entry: &Selected| entry.rule.as_ref().is_none_or(|rule| rule.may_be_met_without(&unknown));
        match pins.unknown.first() {
            Some((_, error)) if !enforced.iter().any(admits) => Err(PinError::Unknown(error.clone())),
            _ => Ok(pins),
        }
    }

    /// Asks what is attached to a manifest while it is fetched, where its digest is known and the manifest is not: by
    /// the reference or a pin. Only for the entry that is judged first.
    pub(super) async fn ask_ahead(
        &self,
        target: &Target,
        reference: &Reference,
        pinned: Option<Digest>,
        mode: Mode,
        enforced: &[Selected],
    ) -> Option<AskedAhead> {
        let named = if let Reference::Digest(digest) = reference { Some(*digest) } else { None };
        let first = enforced.first().filter(|_| mode == Mode::Enforce && !target.known_only);
        let (digest, authorities) = (pinned.or(named)?, first?.rule.as_ref()?.authorities());
        // Questions about digests that do not exist would use up a limit on requests.
        if authorities.is_empty() || target.upstream.config().pull_limit.is_some() {
            return None;
        }
        // If the database cannot be read, nothing is requested ahead of time.
        if self.resolver.is_known(&target.name, digest).await.unwrap_or(true) {
            return None;
        }
        let asked = self.trust.ask_ahead(&target.upstream, &target.name, reference, digest, &authorities);
        Some(Box::pin(asked).await)
    }

    /// Gathers the evidence that the selected entry requires, for the manifest of a subject.
    pub(super) async fn evidence(
        &self,
        target: &Target,
        subject: &Subject,
        selected: &Selected,
        kind: Kind,
        manifest: &Arc<Manifest>,
    ) -> Result<GatheredEvidence, GateError> {
        match &selected.rule {
            // Boxed to keep the future small for requests under rules that require no evidence.
            Some(rule) if kind != Kind::Attachment => {
                Box::pin(self.gather(target, subject, rule, kind, manifest)).await
            }
            _ => Ok(GatheredEvidence::default()),
        }
    }

    async fn gather(
        &self,
        target: &Target,
        subject: &Subject,
        rule: &Rule,
        kind: Kind,
        manifest: &Arc<Manifest>,
    ) -> Result<GatheredEvidence, GateError> {
        let trust = self.trust_findings(target, &subject.reference, rule, kind, manifest).await?;
        let va = match &rule.va {
            Some(va) if passes(rule, kind, &trust, self.clock.now()) => {
                self.va_findings(target, va, kind, manifest).await?
            }
            _ => None,
        };
        let exemptions = match &va {
            Some(findings) => self.exemptions_of(target, subject, manifest.digest, findings).await?,
            None => VaExemptions::default(),
        };
        let image = (&target.name, &target.scope);
        let history = self.histories.of(rule.va.as_ref(), image, manifest.digest, va.as_ref(), Unremembered::Remember);
        let history = history.await;
        Ok(GatheredEvidence { trust, va, exemptions, history })
    }

    /// The exemptions that apply to a manifest, and to the children of an index. Those of an index apply to its
    /// children too.
    pub(in crate::gate) async fn exemptions_of(
        &self,
        target: &Target,
        subject: &Subject,
        digest: Digest,
        findings: &VaFindings,
    ) -> Result<VaExemptions, GateError> {
        let mut image = ExemptedImage::new(subject, digest);
        if self.exemptions.has_digests() {
            image.digests.extend(self.parents(target, digest).await?);
            if let VaFindings::Children(children) = findings {
                image.children = children.iter().map(|child| child.digest).collect();
            }
        }
        Ok(self.exemptions.of_image(&image))
    }

    /// Signatures of the manifest; if they do not suffice, also those of indexes that list it and of an index's
    /// children.
    async fn trust_findings(
        &self,
        target: &Target,
        reference: &Reference,
        rule: &Rule,
        kind: Kind,
        manifest: &Arc<Manifest>,
    ) -> Result<TrustFindings, GateError> {
        let authorities = rule.authorities_by_need();
        let admits = |findings: &TrustFindings| passes(rule, kind, findings, self.clock.now());
        let with_own = |own: &TrustEvidence| TrustFindings { own: own.clone(), ..Default::default() };
        let is_enough = |own: &TrustEvidence| admits(&with_own(own));
        let mut findings = with_own(&self.ask_trust(target, reference, manifest, &authorities, is_enough).await);
        if authorities.is_empty() || admits(&findings) {
            return Ok(findings);
        }
        if rule.signed.counts_for_children() {
            let image = InheritingImage { target, reference, digest: manifest.digest, authorities: &authorities };
            self.inherit(image, &mut findings, admits).await?;
        }
        if !rule.signed.counts_for_index() || admits(&findings) {
            return Ok(findings);
        }
        for child in self.platforms.relevant_children(target, manifest).await? {
            let Some(image) = manifest_if_there(&self.resolver, target, child.digest).await? else { continue };
            let evidence = self.ask_trust(target, reference, &image, &authorities, |_| false).await;
            findings.children.push((child.digest, evidence));
        }
        Ok(findings)
    }

    pub(super) async fn ask_trust(
        &self,
        target: &Target,
        reference: &Reference,
        manifest: &Arc<Manifest>,
        authorities: &[Arc<Authority>],
        is_enough: impl Fn(&TrustEvidence) -> bool + Send + Sync,
    ) -> TrustEvidence {
        if target.known_only {
            return self.trust.known(&target.name, reference, manifest.digest, authorities).await;
        }
        self.trust.evidence(&target.upstream, &target.name, reference, manifest, authorities, is_enough).await
    }

    async fn va_findings(
        &self,
        target: &Target,
        rule: &VaRule,
        kind: Kind,
        manifest: &Arc<Manifest>,
    ) -> Result<Option<VaFindings>, GateError> {
        match (&manifest.content, kind) {
            (Content::Image { .. }, Kind::Image) => {
                let evidence = self.va_of_image(target, rule, manifest).await?;
                Ok(evidence.map(VaFindings::Image))
            }
            (Content::Index(_), _) => {
                let mut findings = Vec::new();
                for child in self.platforms.relevant_children(target, manifest).await? {
                    let Some(image) = manifest_if_there(&self.resolver, target, child.digest).await? else { continue };
                    let Some(evidence) = self.va_of_image(target, rule, &image).await? else { continue };
                    let platform = child.platform.as_ref().map_or_else(|| child.digest.short(), ToString::to_string);
                    findings.push(ChildFinding { digest: child.digest, platform, evidence });
                }
                Ok(Some(VaFindings::Children(findings)))
            }
            (Content::Image { .. }, _) => Ok(None),
        }
    }

    /// The vulnerability evidence for an image; `None` for an index.
    async fn va_of_image(
        &self,
        target: &Target,
        rule: &VaRule,
        image: &Arc<Manifest>,
    ) -> Result<Option<Arc<Observed<VaEvidence>>>, GateError> {
        let Some(subject) = self.va_subject(target, image, rule.account.as_deref()).await? else { return Ok(None) };
        Ok(Some(self.va_of_subject(target, rule, &subject).await))
    }

    /// The vulnerability evidence for a subject, with all that the rule needs. Boxed, so that the compiler does not
    /// look through all sources from each caller.
    pub(in crate::gate) fn va_of_subject<'a>(
        &'a self,
        target: &'a Target,
        rule: &'a VaRule,
        subject: &'a VaSubject,
    ) -> BoxFuture<'a, Arc<Observed<VaEvidence>>> {
        let gather = async move {
            let evidence = self.va.evidence(subject).await;
            match rule.needs_origin() {
                true => self.origins.add(target, subject.manifest(), rule, evidence).await,
                false => evidence,
            }
        };
        gather.boxed()
    }

    /// What is known about an image of a tag under a rule, and what else its assessment depends on, without reading
    /// layers or sending requests. `top` is the digest that the tag refers to: that of the image, or of an index that
    /// lists it.
    pub(in crate::gate) async fn known(
        &self,
        target: &Target,
        subject: &Subject,
        rule: &VaRule,
        top: Digest,
        image: &Arc<Manifest>,
    ) -> Result<(Arc<Observed<VaEvidence>>, VaExemptions, ImageHistory), GateError> {
        let evidence = match self.va_subject(target, image, rule.account.as_deref()).await? {
            Some(mut asked) => {
                // What was found for requests is in memory.
                asked.is_background = false;
                self.va_of_subject(target, rule, &asked).await
            }
            // An index was not built on anything.
            None => Arc::new(Observed { value: VaEvidence::Unscanned, at: self.clock.now(), until: None }),
        };
        let (digest, platform) = (image.digest, String::new());
        let findings = VaFindings::Children(vec![ChildFinding { digest, platform, evidence: evidence.clone() }]);
        let exemptions = self.exemptions_of(target, subject, top, &findings).await?.for_child(digest);
        let image = (&target.name, &target.scope);
        let history = self.histories.of(Some(rule), image, top, Some(&findings), Unremembered::Suppose).await;
        Ok((evidence, exemptions, history))
    }

    /// An image as a subject of vulnerability evidence, whose layers may be read; `None` for an index.
    pub(in crate::gate) async fn va_subject(
        &self,
        target: &Target,
        image: &Arc<Manifest>,
        account: Option<&str>,
    ) -> Result<Option<VaSubject>, GateError> {
        let Some(mut subject) = VaSubject::new(target.name.clone(), image.clone()) else { return Ok(None) };
        subject.parents = self.parents(target, image.digest).await?;
        subject.account = account.map(str::to_owned);
        (subject.may_ask, subject.is_background) = (!target.known_only, target.known_only);
        subject.blobs = (!target.known_only).then(|| self.layers.reader(target));
        Ok(Some(subject))
    }

    /// The known indexes of the repository that list an image: a statement about an index applies to its images.
    async fn parents(&self, target: &Target, image: Digest) -> Result<Vec<Digest>, GateError> {
        let mut parents = Vec::new();
        for naming in self.resolver.naming(&target.name, image).await?.iter().take(MAX_PARENTS) {
            let known = self.resolver.known_manifest(&target.name, *naming).await;
            if known.is_some_and(|manifest| matches!(manifest.content, Content::Index(_))) {
                parents.push(*naming);
            }
        }
        Ok(parents)
    }
}

fn passes(rule: &Rule, kind: Kind, findings: &TrustFindings, now: Timestamp) -> bool {
    trust_verdict(rule, kind, findings, now)
        .iter()
        .all(|verdict| matches!(verdict, Verdict::Pass(_) | Verdict::Skipped))
}
