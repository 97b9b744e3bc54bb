//! Evidence for one rule: trust first, and vulnerabilities only where trust does not deny.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Gate, GateError, Target};
use crate::oci::{Content, Descriptor, Digest, Manifest, Platform};
use crate::policy::{
    Authority, ChildFinding, Kind, Rule, Selected, TrustFindings, VaFindings, VaRule, Verdict, trust_verdict,
};
use crate::resolve::ResolveError;

/// The most children of an index that one request looks at.
const MAX_CHILDREN: usize = 32;

/// What is known about one manifest, as far as one rule asks.
#[derive(Default)]
pub(super) struct Evidence {
    pub(super) trust: TrustFindings,
    pub(super) va: Option<VaFindings>,
}

impl Gate {
    /// What the winning rule asks for.
    pub(super) async fn evidence(
        &self,
        target: &Target,
        selected: &Selected,
        kind: Kind,
        manifest: &Arc<Manifest>,
    ) -> Result<Evidence, GateError> {
        match &selected.rule {
            // Boxed, so that a request under a rule that asks for nothing is a small future.
            Some(rule) if kind != Kind::Attachment => Box::pin(self.gather(target, rule, kind, manifest)).await,
            _ => Ok(Evidence::default()),
        }
    }

    async fn gather(
        &self,
        target: &Target,
        rule: &Rule,
        kind: Kind,
        manifest: &Arc<Manifest>,
    ) -> Result<Evidence, GateError> {
        let trust = self.trust_findings(target, rule, kind, manifest).await?;
        let va = match &rule.va {
            Some(va) if passes(rule, kind, &trust, self.clock.now()) => {
                self.va_findings(target, va, kind, manifest).await?
            }
            _ => None,
        };
        Ok(Evidence { trust, va })
    }

    /// Signatures of the manifest; where they do not suffice, of indexes that list it and of an index's children.
    async fn trust_findings(
        &self,
        target: &Target,
        rule: &Rule,
        kind: Kind,
        manifest: &Arc<Manifest>,
    ) -> Result<TrustFindings, GateError> {
        let authorities = rule.authorities();
        let mut findings =
            TrustFindings { own: self.ask_trust(target, manifest, &authorities).await, ..Default::default() };
        if authorities.is_empty() || passes(rule, kind, &findings, self.clock.now()) {
            return Ok(findings);
        }
        for parent in self.resolver.naming(&target.name, manifest.digest).await?.iter() {
            let Some(index) = self.manifest_if_there(target, *parent).await? else { continue };
            // An image may name the same digest as a layer; its signature says nothing of what those bytes would run.
            if !matches!(index.content, Content::Index(_)) {
                continue;
            }
            findings.inherited.push((*parent, self.ask_trust(target, &index, &authorities).await));
            if passes(rule, kind, &findings, self.clock.now()) {
                return Ok(findings);
            }
        }
        for child in self.relevant_children(target, manifest).await? {
            let Some(image) = self.manifest_if_there(target, child.digest).await? else { continue };
            findings.children.push((child.digest, self.ask_trust(target, &image, &authorities).await));
        }
        Ok(findings)
    }

    /// A mirror may keep an index and not every platform of it. Nobody can pull what it has not, and nothing is known of
    /// it: it speaks neither for nor against the rest.
    async fn manifest_if_there(&self, target: &Target, digest: Digest) -> Result<Option<Arc<Manifest>>, GateError> {
        match self.resolver.manifest(&target.upstream, &target.name, digest).await {
            Ok(manifest) => Ok(Some(manifest)),
            Err(ResolveError::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn ask_trust(
        &self,
        target: &Target,
        manifest: &Arc<Manifest>,
        authorities: &[Arc<Authority>],
    ) -> crate::policy::TrustEvidence {
        self.trust.evidence(&target.upstream, &target.name, manifest, authorities).await
    }

    async fn va_findings(
        &self,
        target: &Target,
        rule: &VaRule,
        kind: Kind,
        manifest: &Arc<Manifest>,
    ) -> Result<Option<VaFindings>, GateError> {
        let account = rule.account.as_deref();
        match (&manifest.content, kind) {
            (Content::Image { config, .. }, Kind::Image) => {
                let evidence = self.va.evidence(&target.name, manifest.digest, config.digest, account).await;
                Ok(Some(VaFindings::Image(evidence)))
            }
            (Content::Index(_), _) => {
                let mut findings = Vec::new();
                for child in self.relevant_children(target, manifest).await? {
                    let Some(image) = self.manifest_if_there(target, child.digest).await? else { continue };
                    let Content::Image { config, .. } = &image.content else { continue };
                    let evidence = self.va.evidence(&target.name, child.digest, config.digest, account).await;
                    let platform = child.platform.as_ref().map_or_else(|| child.digest.short(), ToString::to_string);
                    findings.push(ChildFinding { digest: child.digest, platform, evidence });
                }
                Ok(Some(VaFindings::Children(findings)))
            }
            (Content::Image { .. }, _) => Ok(None),
        }
    }

    /// The children of an index that matter here: those that were pulled through this gate, and those of the platforms
    /// that the configuration names; when neither says anything, those of this machine's platform.
    async fn relevant_children(&self, target: &Target, manifest: &Manifest) -> Result<Vec<Descriptor>, GateError> {
        if manifest.children().is_empty() {
            return Ok(Vec::new());
        }
        let pulled = self.resolver.pulled_children(&target.name, manifest).await?;
        Ok(relevant(manifest.children(), &pulled, &self.config.platforms))
    }
}

fn passes(rule: &Rule, kind: Kind, findings: &TrustFindings, now: Timestamp) -> bool {
    trust_verdict(rule, kind, findings, now)
        .iter()
        .all(|verdict| matches!(verdict, Verdict::Pass(_) | Verdict::Skipped))
}

pub(super) fn relevant(children: &[Descriptor], pulled: &[Digest], platforms: &[Platform]) -> Vec<Descriptor> {
    let of = |wanted: &[Platform]| {
        let is_wanted = |child: &&Descriptor| {
            pulled.contains(&child.digest)
                || child.platform.as_ref().is_some_and(|has| wanted.iter().any(|want| is_platform(want, has)))
        };
        children.iter().filter(is_wanted).cloned().collect::<Vec<_>>()
    };
    let mut chosen = of(platforms);
    if chosen.is_empty() {
        chosen = of(&[this_platform()]);
    }
    // Each is judged again when it is pulled; one request must not use up a pull quota.
    chosen.truncate(MAX_CHILDREN);
    chosen
}

/// A platform without a variant means every variant.
fn is_platform(wanted: &Platform, has: &Platform) -> bool {
    wanted.os == has.os
        && wanted.architecture == has.architecture
        && (wanted.variant.is_none() || wanted.variant == has.variant)
}

fn this_platform() -> Platform {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    };
    Platform { os: "linux".into(), architecture: architecture.into(), variant: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(platform: &str) -> Descriptor {
        Descriptor {
            media_type: String::new(),
            digest: Digest::sha256(platform.as_bytes()),
            size: 1,
            platform: platform.parse().ok(),
            artifact_type: None,
            urls: Vec::new(),
            has_data: false,
            annotations: Vec::new(),
        }
    }

    #[test]
    fn children_that_matter() {
        let here = this_platform().to_string();
        let children = [child(&here), child("linux/s390x"), child("linux/arm/v7"), child("unknown/unknown")];
        let chosen = |pulled: &[&Descriptor], platforms: &[&str]| -> Vec<String> {
            let pulled: Vec<_> = pulled.iter().map(|child| child.digest).collect();
            let platforms: Vec<_> = platforms.iter().map(|p| p.parse().unwrap()).collect();
            let relevant = relevant(&children, &pulled, &platforms);
            relevant.iter().map(|child| child.platform.as_ref().unwrap().to_string()).collect()
        };
        assert_eq!(chosen(&[], &[]), [&*here], "nothing is said: this machine's");
        assert_eq!(chosen(&[&children[1]], &[]), ["linux/s390x"], "what was pulled");
        assert_eq!(chosen(&[], &["linux/arm"]), ["linux/arm/v7"], "what is configured, any variant");
        assert_eq!(chosen(&[&children[1]], &["linux/arm/v7"]), ["linux/s390x", "linux/arm/v7"], "both");
        assert_eq!(
            chosen(&[], &["windows/amd64"]),
            [&*here],
            "configured platforms that the index has not say nothing"
        );
    }
}
