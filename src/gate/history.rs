//! What this gate remembers about images, for the rules that need it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::oci::{Digest, ImageName};
use crate::policy::{ImageHistory, Issue, Observed, SeenIssues, VaEvidence, VaFindings, VaRule, seen_earlier};
use crate::runtime::Clock;
use crate::scope::Scope;
use crate::store::{ImageTimes, StoreError, VerdictStore};

/// Supplies histories.
pub(super) struct Histories {
    pub(super) store: VerdictStore,
    pub(super) clock: Clock,
}

/// What becomes of what is not known yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unremembered {
    /// It is known from now on, also after a restart.
    Remember,
    /// It counts as first seen now, and nothing is written: listing images does not start their time.
    Suppose,
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
        unremembered: Unremembered,
    ) -> ImageHistory {
        if !rule.is_some_and(VaRule::needs_history) {
            return ImageHistory::default();
        }
        let read = self.read(name, scope, digest, findings, unremembered).await;
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
        unremembered: Unremembered,
    ) -> Result<ImageHistory, StoreError> {
        let now = self.clock.now();
        let (mut first_seen, mut names) = (SeenIssues::default(), BTreeSet::new());
        for (image, evidence) in images(digest, findings) {
            let VaEvidence::Report(report) = &evidence.value else { continue };
            // A database may rename an issue, which is not a new one then.
            let aliases = report.issues.iter().flat_map(|issue| issue.names().skip(1));
            let mut known = BTreeSet::new();
            let all = report.issues.iter().map(|issue| &*issue.id).chain(aliases);
            let issues: Vec<&str> = all.filter(|name| known.insert(*name)).collect();
            names.extend(known);
            let mut times = match unremembered {
                Unremembered::Remember => self.store.issue_times(image, issues.into_iter(), now).await?,
                Unremembered::Suppose => or_now(self.store.known_issues(image).await?, &issues, now),
            };
            let earlier = seen_earlier(&report.issues.iter(), &times);
            if unremembered == Unremembered::Remember && !earlier.is_empty() {
                self.store.issues_seen_earlier(image, &earlier).await?;
            }
            times.extend(earlier);
            // Names beyond the limit of an image count as seen long ago. An alias must not make its issue that old.
            let ids: BTreeSet<&str> = report.issues.iter().map(|issue| &*issue.id).collect();
            let counts = |(name, at): &(String, Timestamp)| *at != Timestamp::UNIX_EPOCH || ids.contains(&**name);
            // Of several images of an index, the first one counts.
            first_seen.extend(times.into_iter().filter(counts));
        }
        let names: Vec<&str> = names.into_iter().collect();
        let (ImageTimes { known_since, admitted_since }, mut seen_in_repository) = match unremembered {
            Unremembered::Remember => (
                self.store.image_times(name, digest, scope, now).await?,
                self.store.repository_issue_times(name, &names, now).await?,
            ),
            Unremembered::Suppose => (
                self.store.known_image(name, digest, scope).await?.unwrap_or(ImageTimes::from(now)),
                or_now(self.store.known_in_repository(name, &names).await?, &names, now),
            ),
        };
        let earlier = seen_earlier(&issues(digest, findings), &seen_in_repository);
        if unremembered == Unremembered::Remember && !earlier.is_empty() {
            self.store.repository_issues_seen_earlier(name, &earlier).await?;
        }
        seen_in_repository.extend(earlier);
        let seen_in_repository = seen_in_repository.into_iter().collect();
        Ok(ImageHistory { known_since: Some(known_since), admitted_since, first_seen, seen_in_repository })
    }
}

/// These times, and the present one for issues that have none.
fn or_now(mut known: BTreeMap<String, Timestamp>, issues: &[&str], now: Timestamp) -> BTreeMap<String, Timestamp> {
    for issue in issues {
        known.entry((*issue).to_owned()).or_insert(now);
    }
    known
}

fn issues(digest: Digest, findings: Option<&VaFindings>) -> impl Iterator<Item = &Issue> + Clone {
    images(digest, findings).into_iter().flat_map(|(_, evidence)| match &evidence.value {
        VaEvidence::Report(report) => &report.issues[..],
        _ => &[],
    })
}

fn images(digest: Digest, findings: Option<&VaFindings>) -> Vec<(Digest, &Observed<VaEvidence>)> {
    match findings {
        None => Vec::new(),
        Some(VaFindings::Image(evidence)) => vec![(digest, evidence)],
        Some(VaFindings::Children(children)) => children.iter().map(|child| (child.digest, &*child.evidence)).collect(),
    }
}
