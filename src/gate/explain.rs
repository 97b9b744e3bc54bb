//! Judging as a request would be judged, and telling all of it: `pullgate check`, `va` and `images`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use super::judgement::Finding;
use super::security_status::security_status;
use super::{Gate, GateError, Target};
use crate::oci::{Content, Digest, ImageName, Manifest, Reference};
use crate::policy::{self, Issue, Observed, Opinion, Rule, TrustOutcome, VaEvidence, VaExemptions, VaFindings, VaRule};
use crate::store::KnownImage;
use crate::va::VaSubject;

/// Everything that the gate knows and thinks of one image.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Explanation {
    /// Upstream, repository and reference, by the upstream's own name.
    pub image: String,
    /// The namespace whose rules were asked; empty is cluster-wide.
    pub namespace: String,
    /// The digest that was judged, where it got that far.
    pub digest: Option<Digest>,
    /// `image`, `index`, `artifact` or `attachment`.
    pub kind: Option<String>,
    /// The checks that the deciding entry asks for and that were skipped because of the kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<String>,
    /// `admit`, `would-deny` (admitted in audit mode alone) or `deny`.
    pub decision: String,
    /// The reason as a client would read it; empty when admitted.
    pub message: String,
    /// Denials that are not carried out: of a gate in audit mode, and of audited documents beside enforced ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub would_deny: Vec<String>,
    /// Every entry that speaks for the image, with what was found under it.
    pub rules: Vec<RuleExplanation>,
}

/// One entry, and what was found under it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RuleExplanation {
    /// Kind and name of the document.
    pub document: String,
    /// The entry's pattern.
    pub rule: String,
    /// Whether the entry is in audit mode: then it is only recorded.
    #[serde(default)]
    pub audited: bool,
    /// Whether this entry admits.
    pub admits: bool,
    /// Why not.
    pub message: String,
    /// Every authority that the entry names.
    pub authorities: Vec<AuthorityExplanation>,
    /// Vulnerability assessments: one for an image, one for each child of an index that matters.
    pub assessments: Vec<Assessment>,
}

/// What one authority found.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct AuthorityExplanation {
    /// Its name.
    pub authority: String,
    /// `verified`, `not verified`, `unknown`, or `inherited` from an index.
    pub outcome: String,
    /// Who signed, what failed, or why it is unknown.
    pub details: Vec<String>,
}

/// One vulnerability assessment.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Assessment {
    /// The image's digest.
    pub digest: Digest,
    /// Its platform, where an index says it.
    pub platform: Option<String>,
    /// IBM's word.
    pub status: String,
    /// Who says so.
    pub source: Option<String>,
    /// Why there is no assessment.
    pub why: Option<String>,
    /// All issues of the report.
    pub issues: Vec<IssueExplanation>,
}

/// One issue.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct IssueExplanation {
    /// The issue.
    #[serde(flatten)]
    pub issue: Issue,
    /// Whether it counts under the rule.
    pub blocks: bool,
}

/// One known tag, as `cr images` lists it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ListedImage {
    /// Upstream and repository.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// What it means.
    pub digest: Digest,
    /// IBM's namespace: the first component of the repository.
    pub namespace: String,
    /// When it was made, as its configuration says (RFC 3339); `None` when that is not known here.
    pub created: Option<String>,
    /// All layers together, in bytes; `None` when that is not known here.
    pub size: Option<u64>,
    /// What is known about its vulnerabilities.
    pub security_status: String,
}

impl Gate {
    /// Judges an image for a namespace and tells everything that was found.
    ///
    /// # Errors
    /// When there is nothing to judge: unknown upstream, unknown image, an upstream that does not answer.
    pub async fn explain(&self, target: &Target, reference: &Reference) -> Result<Explanation, GateError> {
        let judgement = self.judge.judge(target, reference).await?;
        let judged = judgement.judged.as_ref();
        let (decision, message) = match &judgement.decision {
            Ok(permit) if permit.is_only_reported() && !permit.would_deny().is_empty() => {
                ("would-deny", permit.would_deny()[0].to_string())
            }
            Ok(_) => ("admit", String::new()),
            Err(denial) => ("deny", denial.to_string()),
        };
        let rules = |findings: &[Finding], is_audited: bool| -> Vec<RuleExplanation> {
            let manifest = judged.map(|judged| &*judged.manifest);
            let explain = |(finding, manifest)| self.explain_rule(finding, manifest, is_audited);
            findings.iter().filter_map(|finding| Some((finding, manifest?))).map(explain).collect()
        };
        Ok(Explanation {
            image: target.describe(reference),
            namespace: target.scope.to_string(),
            digest: judged.map(|judged| judged.manifest.digest),
            kind: judged.map(|judged| judged.kind.kind.as_str().into()),
            skipped: judgement.skipped().into_iter().map(str::to_owned).collect(),
            decision: decision.into(),
            message,
            would_deny: judgement.would_deny().into_iter().map(ToString::to_string).collect(),
            rules: [rules(&judgement.enforced, false), rules(&judgement.audited, true)].concat(),
        })
    }

    fn explain_rule(&self, finding: &Finding, manifest: &Manifest, is_audited: bool) -> RuleExplanation {
        let Finding { opinion: Opinion { selected, outcome }, evidence } = finding;
        RuleExplanation {
            document: selected.document.to_string(),
            rule: selected.entry.to_string(),
            audited: is_audited,
            admits: outcome.is_ok(),
            message: outcome.as_ref().err().map(ToString::to_string).unwrap_or_default(),
            authorities: selected.rule.as_ref().map_or_else(Vec::new, |rule| authorities(rule, &evidence.trust)),
            assessments: self.assessments(selected.rule.as_deref(), evidence, manifest),
        }
    }

    fn assessments(&self, rule: Option<&Rule>, evidence: &Evidence, manifest: &Manifest) -> Vec<Assessment> {
        let Some(rule) = rule.and_then(|rule| rule.va.as_ref()) else { return Vec::new() };
        let assess = |digest, platform, va: &Observed<VaEvidence>| {
            self.assessment(rule, digest, platform, va, &evidence.exemptions)
        };
        match &evidence.va {
            None => Vec::new(),
            Some(VaFindings::Image(va)) => vec![assess(manifest.digest, None, va)],
            Some(VaFindings::Children(children)) => children
                .iter()
                .map(|child| assess(child.digest, Some(child.platform.clone()), &child.evidence))
                .collect(),
        }
    }

    fn assessment(
        &self,
        rule: &VaRule,
        digest: Digest,
        platform: Option<String>,
        evidence: &Observed<VaEvidence>,
        exemptions: &VaExemptions,
    ) -> Assessment {
        let now = self.clock.now();
        let assessed = policy::assess(rule, &evidence.value, exemptions, now);
        let (source, mut issues) = match &evidence.value {
            VaEvidence::Report(report) => (Some(report.source.clone()), report.issues.clone()),
            _ => (None, Vec::new()),
        };
        issues.sort_by_key(|issue| std::cmp::Reverse(issue.severity as u8));
        let explain = |issue: Issue| {
            let blocks = assessed.blocking.contains(&issue);
            let exempt = issue.exempt || exemptions.cover(&issue, now);
            IssueExplanation { blocks, issue: Issue { exempt, ..issue } }
        };
        let issues = issues.into_iter().map(explain).collect();
        Assessment { digest, platform, status: assessed.status.as_str().into(), source, why: assessed.why, issues }
    }

    /// Every tag that is known here, with what is known about it; asks no upstream.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn images(&self) -> Result<Vec<ListedImage>, GateError> {
        let mut listed = Vec::new();
        for KnownImage { name, tag, digest } in self.resolver.images().await? {
            let image = self.known_image(&name, digest).await;
            let namespace = name.repository.as_str().split('/').next().unwrap_or_default().to_owned();
            listed.push(ListedImage {
                repository: name.to_string(),
                tag: tag.to_string(),
                digest,
                namespace,
                created: image.as_ref().and_then(|(_, created)| created.clone()),
                size: image.as_ref().map(|(manifest, _)| size_of(manifest)),
                security_status: self.security_status(&name, image.as_ref().map(|(manifest, _)| manifest)).await,
            });
        }
        Ok(listed)
    }

    /// The image behind a digest, or the child of an index that matters here, with its date: only what is here.
    async fn known_image(&self, name: &ImageName, digest: Digest) -> Option<(Arc<Manifest>, Option<String>)> {
        let mut manifest = self.resolver.known_manifest(name, digest).await?;
        if !manifest.children().is_empty() {
            let pulled = self.resolver.pulled_children(name, &manifest).await.unwrap_or_default();
            let children = super::platforms::relevant(manifest.children(), &pulled, self.platforms());
            manifest = self.resolver.known_manifest(name, children.first()?.digest).await?;
        }
        let Content::Image { config, .. } = &manifest.content else { return None };
        let bytes = self.cache.peek(config.digest, 1024 * 1024).await;
        let created = bytes.and_then(|bytes| oci_spec::image::ImageConfiguration::from_reader(&*bytes).ok());
        let created = created.and_then(|configuration| configuration.created().clone());
        Some((manifest, created))
    }

    /// What is known now about an image's vulnerabilities; no layer is read for it.
    async fn security_status(&self, name: &ImageName, manifest: Option<&Arc<Manifest>>) -> String {
        let subject = manifest.and_then(|manifest| VaSubject::new(name.clone(), manifest.clone()));
        match subject {
            Some(subject) => security_status(&self.judge.evidence.va.evidence(&subject).await.value),
            None => "Not Scanned".into(),
        }
    }
}

fn size_of(manifest: &Manifest) -> u64 {
    match &manifest.content {
        Content::Image { layers, .. } => layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add),
        Content::Index(_) => 0,
    }
}

fn authorities(rule: &Rule, findings: &policy::TrustFindings) -> Vec<AuthorityExplanation> {
    rule.authorities()
        .iter()
        .map(|authority| {
            let inherited = findings.inherited.iter().find_map(|(index, evidence)| {
                let verified = matches!(evidence.outcome(authority.id())?.value, TrustOutcome::Verified { .. });
                verified.then(|| format!("by the index {index} that lists it"))
            });
            let (outcome, details) =
                match (findings.own.outcome(authority.id()).map(|observed| &observed.value), inherited) {
                    (Some(TrustOutcome::Verified { by, .. }), _) => {
                        ("verified", by.iter().map(ToString::to_string).collect())
                    }
                    (_, Some(index)) => ("inherited", vec![index]),
                    (Some(TrustOutcome::Unverified { found }), None) if found.is_empty() => {
                        ("not verified", vec!["no signature was found".into()])
                    }
                    (Some(TrustOutcome::Unverified { found }), None) => ("not verified", found.clone()),
                    (Some(TrustOutcome::Unknown { why, .. }), None) => ("unknown", vec![why.clone()]),
                    (None, None) => ("unknown", vec!["was not asked".into()]),
                };
            AuthorityExplanation { authority: authority.name().to_owned(), outcome: outcome.into(), details }
        })
        .collect()
}
