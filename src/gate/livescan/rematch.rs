//! Judges verdicts again that have another basis than the current one.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio::sync::watch;

use super::Livescan;
use super::recorder::stored;
use crate::gate::judgement::Judgement;
use crate::oci::{Manifest, Reference, Tag};
use crate::policy::Permit;
use crate::runtime::Tasks;
use crate::store::{Rejudged, StoreError, StoredDecision, StoredVerdict, VerdictBasis, VerdictOutcome, VerdictPage};

/// How many verdicts are read, judged and stored together. Small, so that the first changes are reported soon.
const PAGE: u32 = 64;
/// How many verdicts are judged concurrently: some wait for the database while others are matched.
const AT_ONCE: usize = 8;
/// How often outdated verdicts are looked for without a notification.
const LOOK: Duration = Duration::from_secs(60);
/// The wait after the database failed, and the shortest one before verdicts that end by themselves are judged again.
const PAUSE: Duration = Duration::from_secs(5);

impl Livescan {
    /// Judges verdicts again after each change, until shutdown.
    pub(super) async fn judge_again(&self, tasks: &Tasks) {
        let mut changes = self.epoch.changes();
        tokio::select! {
            () = tasks.stopping() => return,
            () = self.va.scanner().databases().opened() => {}
        }
        loop {
            let wait = match self.pass(&mut changes, tasks).await {
                Ok(()) => self.until_next_end().await,
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

    /// How long no verdict ends by itself, at most a minute.
    async fn until_next_end(&self) -> Duration {
        let end = self.records.store.next_end().await.ok().flatten();
        let left = end.map(|end| end.duration_since(self.clock.now()));
        left.map_or(LOOK, |left| Duration::try_from(left).unwrap_or_default().clamp(PAUSE, LOOK))
    }

    /// Judges all verdicts that have another basis. If the basis changes meanwhile, begins again with the new one.
    async fn pass(&self, changes: &mut watch::Receiver<()>, tasks: &Tasks) -> Result<(), StoreError> {
        let records = &self.records;
        changes.mark_unchanged();
        let Some(mut basis) = self.read_basis() else { return Ok(()) };
        let (mut page, mut judged, mut stored) = (VerdictPage::default(), Vec::new(), 0);
        records.metrics.waiting.set(count(records.store.count_outdated(&basis).await?));
        while !tasks.is_stopping() {
            if changes.has_changed().unwrap_or_default() {
                changes.mark_unchanged();
                let now = self.read_basis().unwrap_or_else(|| basis.clone());
                if now != basis {
                    stored += self.store_page(&std::mem::take(&mut judged)).await?;
                    (basis, page) = (now, VerdictPage::default());
                    records.metrics.waiting.set(count(records.store.count_outdated(&basis).await?));
                }
            }
            // One page is stored while the next one is judged.
            let (before, next) = tokio::join!(self.store_page(&judged), self.judge_page(&basis, &mut page));
            stored += before?;
            judged = next?;
            if judged.is_empty() {
                break;
            }
        }
        if stored > 0 {
            records.metrics.waiting.set(count(records.store.count_outdated(&basis).await?));
            tracing::info!(
                verdicts = stored,
                databases = basis.databases,
                rules = basis.rules,
                "verdicts were judged again"
            );
        }
        Ok(())
    }

    /// Judges the next page of outdated verdicts. Empty if there are none.
    async fn judge_page(&self, basis: &VerdictBasis, page: &mut VerdictPage) -> Result<Vec<Rejudged>, StoreError> {
        let verdicts = self.records.store.outdated(basis, self.clock.now(), page, PAGE).await?;
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
        // Whoever runs the image learns before the next pull that it will be denied. It is said once for each end.
        for warning in permit.filter(|_| is_new).iter().flat_map(|permit| permit.warnings()) {
            tracing::warn!(
                image = %format_args!("{}@{}", before.name, before.digest),
                tag = before.tag.as_ref().map(Tag::as_str),
                namespace = %before.scope,
                "admitted only for now: {warning}"
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
        let manifest = match self.resolver.known_manifest(name, *digest).await {
            Some(manifest) => manifest,
            None => self.copied_manifest(verdict).await.ok_or("its manifest is no longer in the cache")?,
        };
        let reference = tag.clone().map_or(Reference::Digest(*digest), Reference::Tag);
        let judged = self.judge.judge_known(&target, &reference, &manifest, *kind).await;
        judged.map_err(|error| error.to_string())
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

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
