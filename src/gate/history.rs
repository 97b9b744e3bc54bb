//! What this gate remembers about images, for the rules that need it.

use std::collections::BTreeMap;

use crate::oci::{Digest, ImageName};
use crate::policy::{ImageHistory, Observed, VaEvidence, VaFindings, VaRule};
use crate::runtime::Clock;
use crate::scope::Scope;
use crate::store::{ImageTimes, StoreError, VerdictStore};

/// Supplies histories. What is not known yet is known from then on, also after a restart.
pub(super) struct Histories {
    pub(super) store: VerdictStore,
    pub(super) clock: Clock,
}

impl Histories {
    /// The history of an image under a rule; empty if the rule does not need it. What cannot be read or written is missing
    /// from it, and what is missing never releases an image.
    pub(super) async fn of(
        &self,
        rule: Option<&VaRule>,
        (name, scope): (&ImageName, &Scope),
        digest: Digest,
        findings: Option<&VaFindings>,
    ) -> ImageHistory {
        if !rule.is_some_and(VaRule::needs_history) {
            return ImageHistory::default();
        }
        let read = self.read(name, scope, digest, findings).await;
        read.unwrap_or_else(|error| {
            tracing::warn!(%error, image = %format_args!("{name}@{digest}"), "what is remembered about an image cannot be read");
            ImageHistory::default()
        })
    }

    async fn read(
        &self,
        name: &ImageName,
        scope: &Scope,
        digest: Digest,
        findings: Option<&VaFindings>,
    ) -> Result<ImageHistory, StoreError> {
        let now = self.clock.now();
        let ImageTimes { known_since, admitted_since } = self.store.image_times(name, digest, scope, now).await?;
        let mut first_seen = BTreeMap::new();
        for (image, evidence) in images(digest, findings) {
            let VaEvidence::Report(report) = &evidence.value else { continue };
            let issues = report.issues.iter().map(|issue| &*issue.id);
            for (issue, at) in self.store.issue_times(image, issues, now).await? {
                // Of several images of an index, the first one counts.
                let first = first_seen.entry(issue).or_insert(at);
                *first = at.min(*first);
            }
        }
        Ok(ImageHistory { known_since: Some(known_since), admitted_since, first_seen })
    }
}

fn images(digest: Digest, findings: Option<&VaFindings>) -> Vec<(Digest, &Observed<VaEvidence>)> {
    match findings {
        None => Vec::new(),
        Some(VaFindings::Image(evidence)) => vec![(digest, evidence)],
        Some(VaFindings::Children(children)) => children.iter().map(|child| (child.digest, &*child.evidence)).collect(),
    }
}
