//! What the gate decides about an image, without serving it. Used by `pullgate check` and `va`.

use jiff::Timestamp;

use super::Inspector;
use crate::gate::judge::evidence::GatheredEvidence;
use crate::gate::judge::judgement::EntryFinding;
use crate::gate::{GateError, Target};
use crate::oci::{Digest, Reference};
use crate::policy::{Denial, ImageHistory, Kind, Opinion, Stage, TrustFindings, VaExemptions, VaFindings};
use crate::scope::Scope;

/// A judgement of one image with all findings.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Upstream, repository and reference, with the upstream's own host name.
    pub image: String,
    /// The scope whose rules apply.
    pub scope: Scope,
    /// The digest that was judged; `None` if nothing was resolved.
    pub digest: Option<Digest>,
    /// What the manifest is.
    pub kind: Option<Kind>,
    /// The checks that the deciding entry requires but that were skipped because of the kind.
    pub skipped: Vec<Stage>,
    /// The decision.
    pub decision: ExplainedDecision,
    /// Denials that are not enforced: those of a gate in audit mode, and those of audited documents.
    pub would_deny: Vec<Denial>,
    /// Why the image is admitted only for now.
    pub warnings: Vec<String>,
    /// Every entry that applies to the image: the enforced entries, then the audited ones.
    pub entries: Vec<ExplainedEntry>,
    /// When the decision was made.
    pub at: Timestamp,
}

/// The decision of an [`Explanation`].
#[derive(Clone, Debug)]
pub enum ExplainedDecision {
    /// The image is served.
    Admitted,
    /// The image is served; the denial is only reported, because the gate is in audit mode.
    OnlyReported(Denial),
    /// The image is not served.
    Denied(Denial),
}

/// One entry and the findings for it.
#[derive(Clone, Debug)]
pub struct ExplainedEntry {
    /// The entry, and whether it admits the image.
    pub opinion: Opinion,
    /// Whether the entry is in audit mode.
    pub is_audited: bool,
    /// The findings about signatures.
    pub trust: TrustFindings,
    /// The findings about vulnerabilities; `None` if they were not checked.
    pub va: Option<VaFindings>,
    /// The exemptions that apply.
    pub exemptions: VaExemptions,
    /// What the gate remembers about the image.
    pub history: ImageHistory,
}

impl Inspector {
    /// Runs assessments for an answer of the admin API away from the threads that serve requests, one answer at a time:
    /// conditions and many issues may take long. `None` if they ended abnormally.
    pub async fn answer_aside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        self.weigher.answer(work).await
    }

    /// Judges an image for a scope and returns all findings.
    ///
    /// # Errors
    /// If the image cannot be judged: the upstream or the image is unknown, or the upstream does not respond.
    pub async fn explain(&self, target: &Target, reference: &Reference) -> Result<Explanation, GateError> {
        let judgement = self.judge.judge(target, reference).await?;
        let judged = judgement.judged.as_ref();
        let decision = match &judgement.decision {
            Ok(permit) => match permit.only_reported() {
                Some(denial) => ExplainedDecision::OnlyReported(denial.clone()),
                None => ExplainedDecision::Admitted,
            },
            Err(denial) => ExplainedDecision::Denied(denial.clone()),
        };
        let (digest, kind) = (judged.map(|judged| judged.manifest.digest), judged.map(|judged| judged.kind.kind));
        let (skipped, would_deny) = (judgement.skipped(), judgement.would_deny().into_iter().cloned().collect());
        let warnings = judgement.decision.as_ref().map(|permit| permit.warnings().to_vec()).unwrap_or_default();
        let explain = |is_audited| move |finding| ExplainedEntry::new(finding, is_audited);
        let enforced = judgement.enforced.into_iter().map(explain(false));
        Ok(Explanation {
            image: target.describe(reference),
            scope: target.scope.clone(),
            digest,
            kind,
            skipped,
            decision,
            would_deny,
            warnings,
            entries: enforced.chain(judgement.audited.into_iter().map(explain(true))).collect(),
            at: judgement.at,
        })
    }
}

impl ExplainedEntry {
    fn new(finding: EntryFinding, is_audited: bool) -> Self {
        let EntryFinding { opinion, evidence } = finding;
        let GatheredEvidence { trust, va, exemptions, history } = evidence;
        Self { opinion, is_audited, trust, va, exemptions, history }
    }
}
