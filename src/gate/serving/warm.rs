//! Recent decisions, reused for identical requests: many nodes often pull one image at the same time.
//!
//! A decision is a pure function of rules, facts, evidence and time. It may be reused until one of them changes: the
//! [`Epoch`] tracks changes of the first three, and `until` is the earliest expiry of time-limited inputs.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use crate::audit::{DecisionParts, DecisionText};
use crate::cache::{CopyPlace, ManifestCopies};
use crate::gate::judge::judgement::Validity;
use crate::gate::{Answer, Gate, GateError, ReadMethod, Requester};
use crate::oci::{Digest, Manifest, media_type};
use crate::policy::Permit;
use crate::runtime::{ALLOCATION, Bounded, BusyCounter, Clock, Epoch, Moment, Tasks, budget};

/// The maximum time for which an admission without reservations is reused.
const ADMITTED_FOR: SignedDuration = SignedDuration::from_secs(60);
/// The maximum time for which all other decisions are reused.
const OTHERS_FOR: SignedDuration = SignedDuration::from_secs(1);
/// The part of the memory for decisions that holds what they share, in bytes.
const SHARED: u64 = 1024 * 1024;
/// The memory of a refusal in addition to its record, in bytes.
const REFUSAL_WEIGHT: usize = 1024;
/// The maximum number of manifests that wait to be copied.
const MAX_WAITING: usize = 256;
/// The memory of the terms of a permit besides its notes, in bytes.
const TERMS_WEIGHT: usize = 192;

/// Reusable decisions, by the hash of the text of everything in a request that they depend on. They are small, so that
/// many images fit: a decision contains no manifest, only the permit for it, and shares data that is not about its
/// image with other decisions.
pub(in crate::gate) struct WarmAnswers {
    answers: Bounded<WarmKey, Arc<WarmAnswer>>,
    /// For each shape of a record, an answer that has it. Others share its memory.
    examples: Bounded<Arc<str>, Arc<WarmAnswer>>,
    copies: Arc<ManifestCopies>,
    queue: Arc<Mutex<CopyQueue>>,
    tasks: Tasks,
    epoch: Epoch,
    clock: Clock,
}

/// Manifests that are about to be copied. Writing may wait for the disk, so it happens on another thread.
#[derive(Default)]
struct CopyQueue {
    waiting: Vec<(Arc<WarmAnswer>, Bytes)>,
    is_running: bool,
}

/// SHA-256 of the text of a request: smaller than the text, and collisions cannot be found.
type WarmKey = [u8; 32];

/// A reusable decision.
pub struct WarmAnswer {
    outcome: WarmOutcome,
    /// The requested image, as the record has it.
    image: Box<str>,
    common: Arc<CommonPart>,
    period: ReusePeriod,
    /// Where the admitted manifest was copied, once it was.
    copy: OnceLock<CopyPlace>,
    /// The memory that it shares with no other answer, in addition to its own size, in bytes.
    unshared: u32,
}

/// What decisions about many images have in common.
struct CommonPart {
    /// Everything in the record that is not about the image.
    shape: Arc<str>,
    /// The counters of such decisions, by the fields of the shape.
    counters: Vec<BusyCounter>,
}

/// The outcome of a reusable decision.
pub enum WarmOutcome {
    /// A manifest was admitted.
    Admitted {
        /// The media type of the manifest.
        media_type: Cow<'static, str>,
        /// Whether the manifest lists others.
        is_index: bool,
        /// The permit that admitted it.
        permit: Permit,
    },
    /// The request was refused.
    Refused(Box<WarmRefusal>),
}

/// A refusal that may be reused.
#[derive(Debug)]
pub struct WarmRefusal {
    /// Why the request was refused.
    pub error: GateError,
    /// The digest that was judged.
    digest: Option<Digest>,
}

/// The state when the decision started, taken before anything that may change was read.
#[derive(Clone, Copy, Debug)]
pub(in crate::gate) struct Basis {
    pub(in crate::gate) moment: Moment,
    pub(in crate::gate) time: Timestamp,
}

/// How long a decision may be reused. Times are in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReusePeriod {
    moment: Moment,
    from: i64,
    until: i64,
}

impl ReusePeriod {
    pub(super) fn new(Basis { moment, time }: Basis, validity: Validity) -> Self {
        let longest = if validity.is_clean { ADMITTED_FOR } else { OTHERS_FOR };
        let most = time.saturating_add(longest).unwrap_or(time);
        let until = validity.until.map_or(most, |until| until.min(most));
        Self { moment, from: time.as_millisecond(), until: until.as_millisecond() }
    }

    /// Whether nothing has changed since the decision was made.
    pub(super) fn holds(&self, epoch: &Epoch, clock: &Clock) -> bool {
        let now = clock.now().as_millisecond();
        // If the clock was set back, the age of a decision is unknown.
        (self.from..self.until).contains(&now) && epoch.is_now(&self.moment)
    }
}

impl Gate {
    /// The decision on an earlier request with the same key, if nothing has changed since. Send it only after
    /// [`repeat`] has recorded it.
    ///
    /// [`repeat`]: Self::repeat
    pub fn recall(&self, key: &str) -> Option<Arc<WarmAnswer>> {
        self.warm.recall(key)
    }

    /// The manifest of a decision that was [recalled](Self::recall), if it is available without waiting. It is
    /// verified, so it is what was judged.
    pub fn manifest_at_once(&self, warm: &WarmAnswer) -> Option<Bytes> {
        self.warm.manifest(warm).or_else(|| self.cache.manifest_at_once(warm.admitted()?))
    }

    /// Whether a decision that was [recalled](Self::recall) earlier may still be reused.
    pub fn still_holds(&self, warm: &WarmAnswer) -> bool {
        self.warm.holds(warm)
    }

    /// Records a reused decision for another request. Returns false and does nothing if the record would have to wait;
    /// the request must then be decided again.
    pub fn repeat(&self, warm: &WarmAnswer, requester: &Requester, method: ReadMethod) -> bool {
        let record = requester.record(warm.record(), method.into(), self.clock.now(), 0);
        let is_recorded = self.audit.try_write(&record);
        if is_recorded {
            warm.counters().iter().for_each(|counter| _ = counter.inc());
        }
        is_recorded
    }
}

impl WarmOutcome {
    /// The outcome, if it may be reused: outcomes that depend on the current state of an upstream may not. `digest` is
    /// what was judged.
    pub(in crate::gate) fn of(answer: &Result<Answer, GateError>, digest: Option<Digest>) -> Option<Self> {
        match answer {
            Ok(Answer::Manifest { manifest, permit, stale: None }) => {
                let media_type = media_type::constant(&manifest.media_type);
                let is_index = !manifest.children().is_empty();
                Some(Self::Admitted { media_type, is_index, permit: permit.clone() })
            }
            Err(error) if error.is_settled() => {
                Some(Self::Refused(WarmRefusal { error: error.clone(), digest }.into()))
            }
            _ => None,
        }
    }

    /// The heap memory that it takes, in bytes. Denials that were not enforced, and warnings, are also in the record.
    fn outside(&self) -> usize {
        match self {
            Self::Admitted { permit, .. } => {
                (permit.would_deny().len() + permit.warnings().len()) * REFUSAL_WEIGHT + TERMS_WEIGHT
            }
            Self::Refused(_) => REFUSAL_WEIGHT,
        }
    }
}

impl CommonPart {
    fn weight(&self) -> usize {
        let counters = self.counters.len() * size_of::<BusyCounter>() + ALLOCATION;
        size_of::<Self>() + ALLOCATION + self.shape.len() + ALLOCATION + counters
    }
}

impl WarmAnswer {
    pub(in crate::gate) fn new(
        outcome: WarmOutcome,
        record: DecisionText,
        counters: Vec<BusyCounter>,
        basis: Basis,
        validity: Validity,
    ) -> Self {
        let DecisionText { image, shape, .. } = record;
        let common = CommonPart { shape, counters };
        let unshared = u32::try_from(outcome.outside() + common.weight()).unwrap_or(u32::MAX);
        let (common, period) = (Arc::new(common), ReusePeriod::new(basis, validity));
        Self { outcome, image, common, period, copy: OnceLock::new(), unshared }
    }

    /// The outcome of the decision.
    pub fn outcome(&self) -> &WarmOutcome {
        &self.outcome
    }

    /// The permit, if the request was admitted.
    fn admitted(&self) -> Option<&Permit> {
        match &self.outcome {
            WarmOutcome::Admitted { permit, .. } => Some(permit),
            WarmOutcome::Refused(_) => None,
        }
    }

    /// The decision, as records have it.
    pub(in crate::gate) fn record(&self) -> DecisionParts<'_> {
        let (digest, until) = match &self.outcome {
            WarmOutcome::Admitted { permit, .. } => (Some(permit.digest()), permit.until()),
            WarmOutcome::Refused(refusal) => (refusal.digest, None),
        };
        DecisionParts { image: &self.image, digest, until, shape: &self.common.shape }
    }

    /// What counts such decisions.
    fn counters(&self) -> &[BusyCounter] {
        &self.common.counters
    }

    /// Shares the memory of what is the same in another answer whose record has the same shape.
    fn share(&mut self, other: &Self) {
        self.common = other.common.clone();
        let is_left = match (&mut self.outcome, &other.outcome) {
            (WarmOutcome::Admitted { permit, .. }, WarmOutcome::Admitted { permit: other, .. }) => {
                !permit.share_terms(other)
            }
            _ => true,
        };
        self.unshared = if is_left { u32::try_from(self.outcome.outside()).unwrap_or(u32::MAX) } else { 0 };
    }

    /// The memory of the decision, in bytes.
    fn weight(&self) -> usize {
        let repository = |permit: &Permit| permit.name().repository.as_str().len() + ALLOCATION;
        let repository = self.admitted().map_or(0, repository);
        size_of::<Self>() + ALLOCATION + self.image.len() + ALLOCATION + repository + self.unshared as usize
    }
}

impl WarmAnswers {
    pub(in crate::gate) fn new(copies: Arc<ManifestCopies>, tasks: Tasks, epoch: Epoch, clock: Clock) -> Self {
        Self {
            copies,
            queue: Arc::default(),
            tasks,
            answers: Bounded::new(budget::REPEATED - SHARED, |_, warm| warm.weight()),
            examples: Bounded::new(SHARED, |_, warm| warm.weight()),
            epoch,
            clock,
        }
    }

    /// The decision on an identical request, if it is still valid.
    pub(super) fn recall(&self, key: &str) -> Option<Arc<WarmAnswer>> {
        self.answers.get(&hash(key)).filter(|warm| self.holds(warm))
    }

    /// The manifest of an admission, if its copy is available without waiting.
    fn manifest(&self, warm: &WarmAnswer) -> Option<Bytes> {
        self.copies.read(*warm.copy.get()?, warm.admitted()?.digest())
    }

    /// Stores a decision for requests with the same key, with a copy of the admitted manifest. A decision that no
    /// longer holds is not stored: most first pulls of an image learn facts that their own decision did not begin with.
    pub(in crate::gate) fn keep(&self, key: &str, mut answer: WarmAnswer, manifest: Option<&Arc<Manifest>>) {
        if !self.holds(&answer) {
            return;
        }
        let key = hash(key);
        if let Some(place) = self.copy_of(&key, &answer) {
            answer.copy = place.into();
        }
        let example = self.examples.get(&*answer.common.shape);
        if let Some(example) = &example {
            answer.share(example);
        }
        let answer = Arc::new(answer);
        if example.is_none() {
            self.examples.insert(answer.common.shape.clone(), answer.clone());
        }
        if let Some(manifest) = manifest.filter(|_| answer.copy.get().is_none()) {
            self.copy_soon(&answer, manifest);
        }
        self.answers.insert(key, answer);
    }

    /// Has the manifest of an answer copied. If too many wait, it is read from the cache.
    fn copy_soon(&self, answer: &Arc<WarmAnswer>, manifest: &Manifest) {
        let mut queue = lock(&self.queue);
        if queue.waiting.len() >= MAX_WAITING || !self.copies.takes(&manifest.bytes) {
            return;
        }
        queue.waiting.push((answer.clone(), manifest.bytes.clone()));
        if !std::mem::replace(&mut queue.is_running, true) {
            let (queue, copies) = (self.queue.clone(), self.copies.clone());
            self.tasks.spawn_blocking(move || copy_waiting(&queue, &copies));
        }
    }

    /// The copy of the same manifest for an earlier decision on the same request.
    fn copy_of(&self, key: &WarmKey, answer: &WarmAnswer) -> Option<CopyPlace> {
        let (earlier, digest) = (self.answers.get(key)?, answer.admitted()?.digest());
        let is_same = earlier.admitted().is_some_and(|permit| permit.digest() == digest);
        earlier.copy.get().copied().filter(|place| is_same && self.copies.is_recent(*place))
    }

    /// Whether nothing has changed since the decision was made.
    fn holds(&self, warm: &WarmAnswer) -> bool {
        warm.period.holds(&self.epoch, &self.clock)
    }
}

/// Copies manifests until none waits.
fn copy_waiting(queue: &Mutex<CopyQueue>, copies: &ManifestCopies) {
    loop {
        let waiting = {
            let mut queue = lock(queue);
            queue.is_running = !queue.waiting.is_empty();
            std::mem::take(&mut queue.waiting)
        };
        if waiting.is_empty() {
            return;
        }
        for (answer, manifest) in waiting {
            // It is set only here, and an answer waits once.
            _ = copies.add(&manifest).map(|place| answer.copy.set(place));
        }
    }
}

fn lock(queue: &Mutex<CopyQueue>) -> MutexGuard<'_, CopyQueue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hash(key: &str) -> WarmKey {
    let mut hash = WarmKey::default();
    hash.copy_from_slice(Digest::sha256(key.as_bytes()).as_bytes());
    hash
}

#[cfg(test)]
mod tests;
