//! Judges verdicts again whose basis is not the current one.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio::sync::watch;

use super::Livescan;
use super::order::{FirstSearch, JudgingOrder};
use super::recorder::stored;
use crate::gate::judge::judgement::Judgement;
use crate::oci::{Manifest, Reference, Tag};
use crate::policy::Permit;
use crate::runtime::Tasks;
use crate::store::{Rejudged, StoreError, StoredDecision, StoredVerdict, VerdictBasis, VerdictOutcome};
use crate::va::DatabaseSnapshot;

/// How many verdicts are judged concurrently: some wait for the database while others are matched.
const AT_ONCE: usize = 8;
/// How often outdated verdicts are looked for without a notification.
const LOOK: Duration = Duration::from_secs(60);
/// The wait after the database failed, and the shortest one before verdicts that end by themselves are judged again.
const PAUSE: Duration = Duration::from_secs(5);

impl Livescan {
    /// Judges verdicts again after each change, until shutdown.
    pub(super) async fn judge_again(&self, tasks: &Tasks) {
        let (mut changes, mut before) = (self.epoch.changes(), None);
        tokio::select! {
            () = tasks.stopping() => return,
            () = self.va.scanner().databases().opened() => {}
        }
        loop {
            let wait = match self.pass(&mut changes, &mut before, tasks).await {
                Ok(()) => {
                    self.va.scanner().count_images().await;
                    self.until_next_end().await
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot judge verdicts again; will retry");
                    PAUSE
                }
            };
            tokio::select! {
                () = tasks.stopping() => return,
                changed = changes.changed() => if changed.is_err() { return },
                () = self.records.outdated.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// The time until the first verdict expires, at most a minute.
    async fn until_next_end(&self) -> Duration {
        let end = self.records.store.next_end().await.ok().flatten();
        let left = end.map(|end| end.duration_since(self.clock.now()));
        left.map_or(LOOK, |left| Duration::try_from(left).unwrap_or_default().clamp(PAUSE, LOOK))
    }

    /// Judges all verdicts that have another basis. If the basis changes meanwhile, starts again with the new one.
    /// `before` are the databases of the previous complete run.
    async fn pass(
        &self,
        changes: &mut watch::Receiver<()>,
        before: &mut Option<DatabaseSnapshot>,
        tasks: &Tasks,
    ) -> Result<(), StoreError> {
        changes.mark_unchanged();
        let Some(mut basis) = self.read_basis() else { return Ok(()) };
        let mut order = self.order(self.count_outdated(&basis).await?, before.as_ref());
        let (mut judged, mut stored) = (Vec::new(), 0);
        while !tasks.is_stopping() {
            if changes.has_changed().unwrap_or_default() {
                changes.mark_unchanged();
                let now = self.read_basis().unwrap_or_else(|| basis.clone());
                if now != basis {
                    stored += self.store_page(&std::mem::take(&mut judged)).await?;
                    basis = now;
                    order = self.order(self.count_outdated(&basis).await?, before.as_ref());
                }
            }
            // One page is stored while the next one is judged.
            let is_over = || tasks.is_stopping() || changes.has_changed().unwrap_or_default();
            let next = self.judge_page(&basis, &mut order, &judged, &is_over);
            let (earlier, next) = tokio::join!(self.store_page(&judged), next);
            stored += earlier?;
            judged = next?;
            if judged.is_empty() && !is_over() {
                *before = order.databases.take().or(before.take());
                break;
            }
        }
        if stored > 0 {
            self.count_outdated(&basis).await?;
            tracing::info!(
                verdicts = stored,
                databases = basis.databases,
                rules = basis.rules,
                "verdicts were judged again"
            );
        }
        Ok(())
    }

    /// Counts the verdicts that have another basis.
    async fn count_outdated(&self, basis: &VerdictBasis) -> Result<u64, StoreError> {
        let outdated = self.records.store.count_outdated(basis).await?;
        self.records.metrics.waiting.set(i64::try_from(outdated).unwrap_or(i64::MAX));
        Ok(outdated)
    }

    /// Judges the next page of outdated verdicts, while the page before is stored. Empty if there are none, or
    /// `is_over`.
    async fn judge_page(
        &self,
        basis: &VerdictBasis,
        order: &mut JudgingOrder,
        before: &[Rejudged],
        is_over: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Rejudged>, StoreError> {
        let places = (&self.records.store, self as &dyn FirstSearch);
        let verdicts = order.next(places, (basis, self.clock.now()), before, is_over).await?;
        let work = verdicts.into_iter().map(|verdict| self.rejudge(verdict, basis));
        Ok(stream::iter(work).buffered(AT_ONCE).collect().await)
    }

    /// Stores and reports what was found. Returns the number of verdicts.
    async fn store_page(&self, judged: &[Rejudged]) -> Result<usize, StoreError> {
        if judged.is_empty() {
            return Ok(0);
        }
        let records = &self.records;
        let events = |verdict: &StoredVerdict| records.change_events(verdict);
        let changed = records.store.store_rejudged(judged, self.clock.now(), &events).await?;
        records.changed(&changed);
        records.metrics.judged.inc_by(judged.len() as u64);
        records.metrics.waiting.dec_by(judged.len() as i64);
        Ok(judged.len())
    }

    async fn rejudge(&self, before: StoredVerdict, basis: &VerdictBasis) -> Rejudged {
        let judged = self.judge_stored(&before).await;
        let permit = judged.as_ref().ok().and_then(|judgement| judgement.decision.as_ref().ok());
        let until = permit.and_then(Permit::until);
        let is_new = until.map(Timestamp::as_millisecond) != before.until.map(Timestamp::as_millisecond);
        // Warn once per deadline, before the next pull is denied.
        for warning in permit.filter(|_| is_new).iter().flat_map(|permit| permit.warnings()) {
            tracing::warn!(
                image = %format_args!("{}@{}", before.name, before.digest),
                tag = before.tag.as_ref().map(Tag::as_str),
                namespace = %before.scope,
                "admitted temporarily: {warning}"
            );
        }
        let now = judged.and_then(|judgement| match judgement.doubt() {
            Some(doubt) => Err(doubt),
            None => Ok(outcome(&judgement, basis)),
        });
        Rejudged { until: until.filter(|_| now.is_ok()), before, now, basis: basis.clone() }
    }

    /// Judges an image as if it was pulled again by the same name.
    async fn judge_stored(&self, verdict: &StoredVerdict) -> Result<Judgement, String> {
        let StoredVerdict { name, digest, scope, tag, kind, .. } = verdict;
        let target = self.router.known_target(name, scope);
        let target = target.ok_or_else(|| format!("{} is no longer an upstream of this gate", name.host))?;
        let manifest = self.stored_manifest(verdict).await.ok_or("its manifest is no longer in the cache")?;
        let reference = tag.clone().map_or(Reference::Digest(*digest), Reference::Tag);
        let judged = self.judge.judge_known(&target, &reference, &manifest, *kind).await;
        judged.map_err(|error| error.to_string())
    }

    /// The manifest of a verdict's image, from the cache or as it was kept with the verdict.
    pub(super) async fn stored_manifest(&self, verdict: &StoredVerdict) -> Option<Arc<Manifest>> {
        match self.resolver.known_manifest(&verdict.name, verdict.digest).await {
            Some(manifest) => Some(manifest),
            None => self.copied_manifest(verdict).await,
        }
    }

    async fn copied_manifest(&self, verdict: &StoredVerdict) -> Option<Arc<Manifest>> {
        let copy = self.records.store.manifest_copy(verdict.id).await;
        let (bytes, media_type) =
            copy.inspect_err(|error| tracing::warn!(%error, "a manifest cannot be read")).ok()??;
        let parsed =
            Manifest::parse(bytes.into(), Some(&media_type)).and_then(|manifest| manifest.named(verdict.digest));
        parsed.ok().map(Arc::new)
    }
}

fn outcome(judgement: &Judgement, basis: &VerdictBasis) -> VerdictOutcome {
    let (decision, reason) = match &judgement.decision {
        Ok(permit) => stored(permit),
        Err(denial) => (StoredDecision::Deny, denial.to_string()),
    };
    VerdictOutcome { decision, reason, basis: basis.clone() }
}
