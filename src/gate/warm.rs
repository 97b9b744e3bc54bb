//! Decisions that were made a moment ago, for requests that ask the same again: a fleet asks for one image at once.
//!
//! A decision is a pure function of rules, facts, evidence and time, so it may be repeated exactly as long as none of
//! these changed: each is compared, not flushed. What evidence says of its own end is not looked at again within
//! [`WARM_FOR`], which is why that is short.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::Response;
use jiff::{SignedDuration, Timestamp};
use prometheus_client::metrics::counter::Counter;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::{Answer, Ask, Entry, Gate, GateError, Who};
use crate::audit::Told;
use crate::oci::{Endpoint, Reference};
use crate::policy::{DenialKind, RuleSet};

/// How long a decision is repeated at most.
const WARM_FOR: SignedDuration = SignedDuration::from_secs(1);
/// How much memory they may take, in bytes: few are asked for again within a second.
const MAX_WARM: usize = 16 * 1024 * 1024;
/// What a decision takes beside its manifest, in bytes.
const DECISION_WEIGHT: usize = 2048;

/// Decisions by everything that a request says that they depend on.
pub(super) struct WarmAnswers(Cache<String, Arc<Warm>, Bytewise>);

/// Weighs answers by the memory that they take.
#[derive(Clone)]
struct Bytewise;

impl Weighter<String, Arc<Warm>> for Bytewise {
    fn weight(&self, key: &String, warm: &Arc<Warm>) -> u64 {
        (key.len() + warm.weight()) as u64
    }
}

/// A decision that may be repeated.
pub struct Warm {
    answer: Result<Answer, GateError>,
    told: Told,
    counters: Vec<Counter>,
    stamp: Stamp,
    prepared: OnceLock<Prepared>,
}

/// An answer as it goes to clients.
pub struct Prepared {
    /// Without what is another for each request.
    pub response: Response<Bytes>,
    /// Counts the requests that are answered so.
    pub requests: Counter,
}

/// What a decision was made from.
pub(super) struct Stamp {
    rules: Arc<RuleSet>,
    facts: u64,
    reports: u64,
    made: Timestamp,
}

impl WarmAnswers {
    pub(super) fn new() -> Self {
        Self(Cache::with_weighter(MAX_WARM / DECISION_WEIGHT, MAX_WARM as u64, Bytewise))
    }
}

impl Warm {
    fn weight(&self) -> usize {
        let manifest = match &self.answer {
            Ok(Answer::Manifest { manifest, .. }) => manifest.bytes.len(),
            _ => 0,
        };
        manifest + DECISION_WEIGHT
    }

    /// The answer as it goes to clients, made once.
    pub fn prepared(&self, prepare: impl FnOnce(&Result<Answer, GateError>) -> Prepared) -> &Prepared {
        self.prepared.get_or_init(|| prepare(&self.answer))
    }
}

impl Gate {
    /// The decision on the same request, made a moment ago from what is still the case.
    pub fn recall(&self, key: &str) -> Option<Arc<Warm>> {
        let warm = self.warm.0.get(key)?;
        self.still_holds(&warm).then_some(warm)
    }

    /// Records a decision for another request like the first. False, and nothing is done, when its record would have
    /// to be waited for: then it is decided anew.
    pub fn repeat(&self, warm: &Warm, who: &Who) -> bool {
        let is_recorded = self.audit.try_write(&who.record(&warm.told, self.clock.now(), 0));
        if is_recorded {
            warm.counters.iter().for_each(|counter| _ = counter.inc());
        }
        is_recorded
    }

    /// What decisions are made from now.
    pub(super) fn stamp(&self) -> Stamp {
        let (facts, reports) = (self.resolver.generation(), self.va.generation());
        Stamp { rules: self.rulebook.rules().clone(), facts, reports, made: self.clock.now() }
    }

    /// Keeps a decision by digest for repetition. What depends on an upstream's mood, or on what a tag means now, is
    /// decided anew each time.
    pub(super) fn keep_warm(
        &self,
        ask: &Ask,
        entry: &Entry,
        answer: &Result<Answer, GateError>,
        counters: Vec<Counter>,
        stamp: Stamp,
    ) {
        let by_digest = matches!(ask.route.endpoint, Endpoint::Manifest { reference: Reference::Digest(_), .. });
        let Some(key) = ask.key.as_ref().filter(|_| by_digest) else { return };
        let answer = match answer {
            Ok(Answer::Manifest { manifest, permit, stale: None }) => {
                Ok(Answer::Manifest { manifest: manifest.clone(), permit: permit.clone(), stale: None })
            }
            Err(GateError::Denied(denial)) if denial.kind == DenialKind::Policy => {
                Err(GateError::Denied(denial.clone()))
            }
            _ => return,
        };
        if let Some(told) = entry.recorded() {
            let warm = Warm { answer, told: told.clone(), counters, stamp, prepared: OnceLock::new() };
            self.warm.0.insert(key.clone(), Arc::new(warm));
        }
    }

    fn still_holds(&self, warm: &Warm) -> bool {
        let (stamp, now) = (&warm.stamp, self.clock.now());
        let until = match &warm.answer {
            Ok(Answer::Manifest { permit, .. }) => permit.until(),
            _ => None,
        };
        let age = now.duration_since(stamp.made);
        !age.is_negative()
            && age < WARM_FOR
            && until.is_none_or(|until| now < until)
            && Arc::ptr_eq(&self.rulebook.rules(), &stamp.rules)
            && self.resolver.generation() == stamp.facts
            && self.va.generation() == stamp.reports
    }
}
