//! Reports the trusted roots in use: how old they are and when their keys end. A root whose keys have ended is logged
//! as an error and makes `/readyz` degraded.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;

use crate::policy::{RuleSet, TrustedRoot};
use crate::runtime::{Clock, Metrics, Readiness};

/// The topic of trusted roots in `/readyz`.
const TOPIC: &str = "trusted roots";

/// Reports on the trusted roots of the current rules.
pub(super) struct RootReporter {
    clock: Clock,
    readiness: Readiness,
    written: Family<RootLabel, Gauge>,
    newest_key: Family<RootLabel, Gauge>,
    next_end: Family<RootLabel, Gauge>,
    end: Family<RootLabel, Gauge>,
    /// The last logged state, so that each state is logged once.
    reported: Mutex<Option<String>>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct RootLabel {
    root: String,
}

impl RootReporter {
    pub(super) fn new(clock: Clock, readiness: Readiness, metrics: &Metrics) -> Self {
        let gauge = |name: &str, help: &str| metrics.register_with_unit(name, help, Unit::Seconds, Family::default());
        Self {
            clock,
            readiness,
            written: gauge(
                "trusted_root_written_timestamp",
                "When the file of a trusted root of Sigstore was written, in seconds since the epoch",
            ),
            newest_key: gauge(
                "trusted_root_newest_key_timestamp",
                "When the newest key of a trusted root becomes valid, in seconds since the epoch",
            ),
            next_end: gauge(
                "trusted_root_next_end_timestamp",
                "When the next key of a trusted root ends, in seconds since the epoch; absent without an end",
            ),
            end: gauge(
                "trusted_root_expiry_timestamp",
                "When the last key of a trusted root ends, in seconds since the epoch; absent without an end",
            ),
            reported: Mutex::default(),
        }
    }

    /// Reports on the roots of these rules as they are now. Keys expire without a change of the rules, so this is
    /// repeated.
    pub(super) fn report(&self, rules: &RuleSet) {
        let (now, roots) = (self.clock.now(), rules.trusted_roots());
        self.measure(&roots, now);
        let describe = |root: &TrustedRoot| format!("{}: {}", root.name(), root.describe(now));
        self.readiness.inform(TOPIC, roots.iter().map(describe).collect());
        let ended = roots.iter().filter_map(|root| Some(format!("{}: {}", root.name(), root.ended(now)?)));
        let ended: Vec<_> = ended.collect();
        let ended = (!ended.is_empty()).then(|| ended.join("; "));
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if *reported != ended {
            match &ended {
                Some(why) => {
                    tracing::error!("trusted root has expired; get a new one with `pullgate trust update`: {why}");
                }
                None => tracing::info!("all trusted roots in use are valid again"),
            }
            reported.clone_from(&ended);
        }
        self.readiness.degraded(TOPIC, ended);
    }

    fn measure(&self, roots: &[TrustedRoot], now: Timestamp) {
        type Time = fn(&TrustedRoot, Timestamp) -> Option<Timestamp>;
        let all: [(&Family<RootLabel, Gauge>, Time); 4] = [
            (&self.written, |root, _| root.written()),
            (&self.newest_key, |root, _| root.newest_key()),
            (&self.next_end, TrustedRoot::next_end),
            (&self.end, |root, _| root.until()),
        ];
        for (family, time) in all {
            // The metrics of a root that is no longer in use must be removed.
            family.clear();
            for root in roots {
                if let Some(time) = time(root, now) {
                    family.get_or_create(&RootLabel { root: root.name().to_owned() }).set(time.as_second());
                }
            }
        }
    }
}
