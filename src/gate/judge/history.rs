//! What this gate remembers about images, for the rules that need it.
//!
//! Issues are noted in a repository from the first time that a rule needs it there, and from then on under every rule
//! about vulnerabilities. What is found in an image or a repository that was known before may have been there before,
//! and never counts as new.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use tokio::sync::OnceCell;

use crate::oci::{Digest, ImageName};
use crate::policy::{ImageHistory, Issue, Observed, SeenIssues, VaEvidence, VaFindings, VaRule, seen_earlier};
use crate::runtime::Clock;
use crate::scope::Scope;
use crate::store::{ImageTimes, IssueTimes, NewIssueTimes, RepositoryNoting, StoreError, VerdictStore};

/// Supplies histories.
pub(in crate::gate) struct Histories {
    store: VerdictStore,
    clock: Clock,
    /// Whether the issues of any repository are noted, so that a gate without rules that need it asks nothing.
    is_noting: OnceCell<AtomicBool>,
}

/// How to treat an image or an issue without a history.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unremembered {
    /// It is known from now on, also after a restart.
    Remember,
    /// It counts as first seen now, and nothing is written: listing images does not start their time.
    Suppose,
}

impl Histories {
    pub(in crate::gate) fn new(store: VerdictStore, clock: Clock) -> Self {
        Self { store, clock, is_noting: OnceCell::new() }
    }

    /// The history of an image under a rule; empty if the rule does not need it. Facts that cannot be read or written
    /// are missing from it, and missing facts never release an image.
    pub(super) async fn of(
        &self,
        rule: Option<&VaRule>,
        (name, scope): (&ImageName, &Scope),
        digest: Digest,
        findings: Option<&VaFindings>,
        unremembered: Unremembered,
    ) -> ImageHistory {
        let Some(rule) = rule else { return ImageHistory::default() };
        let is_needed = rule.needs_history();
        if !is_needed && (findings.is_none() || unremembered == Unremembered::Suppose) {
            return ImageHistory::default();
        }
        let read = async {
            // Otherwise, what is found while no rule needs it would look new to the next rule that does.
            match is_needed || self.is_noted(name).await? {
                true => self.read(name, scope, digest, findings, unremembered).await,
                false => Ok(ImageHistory::default()),
            }
        };
        let history = read.await.unwrap_or_else(|error| {
            tracing::warn!(%error, image = %format_args!("{name}@{digest}"), "the stored history of an image cannot be read");
            ImageHistory::default()
        });
        if is_needed { history } else { ImageHistory::default() }
    }

    /// Whether the issues of a repository are noted.
    async fn is_noted(&self, name: &ImageName) -> Result<bool, StoreError> {
        let known = || async { self.store.notes_issues().await.map(AtomicBool::new) };
        let is_noting = self.is_noting.get_or_try_init(known).await?;
        Ok(is_noting.load(Ordering::Relaxed) && self.store.noted_repository(name).await?.is_some())
    }

    async fn read(
        &self,
        name: &ImageName,
        scope: &Scope,
        digest: Digest,
        findings: Option<&VaFindings>,
        unremembered: Unremembered,
    ) -> Result<ImageHistory, StoreError> {
        let rule = self.first_seen_rule(name, scope, digest, unremembered).await?;
        let (mut first_seen, mut in_repository) = (SeenIssues::default(), NewIssueTimes::new());
        for (image, evidence) in images(digest, findings) {
            let issues = evidence.value.issues();
            let mut new = NewIssueTimes::new();
            add_names(&mut new, issues, |issue| rule.in_image(issue));
            add_names(&mut in_repository, issues, |issue| rule.in_repository(issue));
            let mut times = match unremembered {
                Unremembered::Remember => self.store.issue_times(image, &new, rule.now).await?,
                Unremembered::Suppose => or_new(self.store.known_issues(image).await?, &new),
            };
            let earlier = rule.earlier(&issues.iter(), &times, &new);
            if unremembered == Unremembered::Remember && !earlier.is_empty() {
                self.store.issues_seen_earlier(image, &earlier).await?;
            }
            times.extend(earlier);
            // Names beyond an image's limit count as seen long ago. An alias must not age its issue in this way.
            let ids: BTreeSet<&str> = issues.iter().map(|issue| &*issue.id).collect();
            let counts = |(name, at): &(String, Timestamp)| *at != Timestamp::UNIX_EPOCH || ids.contains(&**name);
            // Of several images of an index, the first one counts.
            first_seen.extend(times.into_iter().filter(counts));
        }
        let mut times = match unremembered {
            Unremembered::Remember => self.store.repository_issue_times(name, &in_repository, rule.now).await?,
            Unremembered::Suppose => {
                let issues: Vec<&str> = in_repository.keys().copied().collect();
                or_new(self.store.known_in_repository(name, &issues).await?, &in_repository)
            }
        };
        let earlier = rule.earlier(&issues(digest, findings), &times, &in_repository);
        if unremembered == Unremembered::Remember && !earlier.is_empty() {
            self.store.repository_issues_seen_earlier(name, &earlier).await?;
        }
        times.extend(earlier);
        // Done last: unwritten issues do not count as noted. An incomplete report may lack an issue that is present.
        let is_complete = findings.is_some_and(VaFindings::is_assessed);
        if unremembered == Unremembered::Remember && rule.is_beginning && is_complete {
            self.store.image_noted(name, digest, rule.now).await?;
        }
        Ok(ImageHistory {
            known_since: Some(rule.times.known_since),
            admitted_since: rule.times.admitted_since,
            noted_since: rule.noted_since(),
            first_seen,
            seen_in_repository: times.into_iter().collect(),
        })
    }

    /// Since when an image and its repository are known and noted.
    async fn first_seen_rule(
        &self,
        name: &ImageName,
        scope: &Scope,
        digest: Digest,
        unremembered: Unremembered,
    ) -> Result<FirstSeenRule, StoreError> {
        let mut now = self.clock.now();
        // The repository first: an image that is known from now on was not known before.
        let (repository, times) = match unremembered {
            Unremembered::Remember => {
                let repository = self.store.note_repository(name, now).await?;
                // Another request may have begun it slightly after the time that this one asks about.
                now = now.max(repository.noted_since);
                if let Some(is_noting) = self.is_noting.get() {
                    is_noting.store(true, Ordering::Relaxed);
                }
                (repository, self.store.image_times(name, digest, scope, now).await?)
            }
            Unremembered::Suppose => {
                let repository = match self.store.noted_repository(name).await? {
                    Some(repository) => repository,
                    None => self.store.supposed_noting(name, now).await?,
                };
                let times = self.store.known_image(name, digest, scope).await?.unwrap_or(ImageTimes::from(now));
                (repository, times)
            }
        };
        let was_known = times.known_since < repository.noted_since;
        let is_noted = times.noted_since.is_some_and(|noted| noted >= repository.noted_since);
        let is_beginning = (was_known || repository.known_since.is_some()) && !is_noted;
        Ok(FirstSeenRule { now, times, repository, was_known, is_beginning })
    }
}

/// Determines when an issue counts as first seen if no time is stored for it.
struct FirstSeenRule {
    now: Timestamp,
    times: ImageTimes,
    repository: RepositoryNoting,
    /// Whether the image was known before issues were noted in its repository.
    was_known: bool,
    /// Whether the issues of the image are noted for the first time, and may have been seen before.
    is_beginning: bool,
}

impl FirstSeenRule {
    /// In an image that was known before, an issue counts as seen since it was published, but not before the image was
    /// known.
    fn in_image(&self, issue: &Issue) -> Timestamp {
        match self.is_beginning && self.was_known {
            true => self.published(issue).map_or(self.times.known_since, |at| at.max(self.times.known_since)),
            false => self.now,
        }
    }

    /// Another image that is no longer requested may have had the issue, unless the issue was published after noting
    /// began.
    fn in_repository(&self, issue: &Issue) -> Timestamp {
        let Some(known) = self.repository.known_since.filter(|_| self.is_beginning) else {
            return self.in_image(issue);
        };
        match self.published(issue) {
            Some(at) if !self.was_known && at >= self.repository.noted_since => self.now,
            Some(at) => at.max(known),
            None => known,
        }
    }

    fn published(&self, issue: &Issue) -> Option<Timestamp> {
        issue.published.filter(|at| *at <= self.now)
    }

    /// What is found in the image after this time is new. `None` if the image was not known before.
    fn noted_since(&self) -> Option<Timestamp> {
        let noted = if self.is_beginning { None } else { self.times.noted_since };
        self.was_known.then(|| noted.unwrap_or(self.now))
    }

    /// The times that are later than they should be: because an issue has other names, or was noted for another image
    /// first, although this one was known before. An image that is new changes nothing about what was noted.
    fn earlier<'a>(
        &self,
        issues: &(impl Iterator<Item = &'a Issue> + Clone),
        times: &IssueTimes,
        new: &NewIssueTimes<'_>,
    ) -> IssueTimes {
        if !(self.is_beginning && self.was_known) {
            return seen_earlier(issues, times);
        }
        let begins = |(name, at): (&String, &Timestamp)| {
            let first = new.get(name.as_str()).filter(|first| *first < at)?;
            Some((name.clone(), *first))
        };
        let mut earlier: IssueTimes = times.iter().filter_map(begins).collect();
        let mut all = times.clone();
        all.extend(earlier.clone());
        earlier.extend(seen_earlier(issues, &all));
        earlier
    }
}

/// Adds the times of issues by each of their names: a database may rename an issue, which is not a new one then. The
/// earliest time of a name counts.
fn add_names<'a>(times: &mut NewIssueTimes<'a>, issues: &'a [Issue], at: impl Fn(&Issue) -> Timestamp) {
    for issue in issues {
        let at = at(issue);
        for name in issue.names() {
            let first = times.entry(name).or_insert(at);
            *first = at.min(*first);
        }
    }
}

/// These times, and others for issues that have none.
fn or_new(mut known: IssueTimes, new: &NewIssueTimes<'_>) -> IssueTimes {
    for (issue, at) in new {
        known.entry((*issue).to_owned()).or_insert(*at);
    }
    known
}

fn issues(digest: Digest, findings: Option<&VaFindings>) -> impl Iterator<Item = &Issue> + Clone {
    images(digest, findings).into_iter().flat_map(|(_, evidence)| evidence.value.issues())
}

fn images(digest: Digest, findings: Option<&VaFindings>) -> Vec<(Digest, &Observed<VaEvidence>)> {
    match findings {
        None => Vec::new(),
        Some(VaFindings::Image(evidence)) => vec![(digest, evidence)],
        Some(VaFindings::Children(children)) => children.iter().map(|child| (child.digest, &*child.evidence)).collect(),
    }
}
