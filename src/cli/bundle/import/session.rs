//! One run of `bundle import`, during which the gate evicts nothing that the run needs.

use std::collections::BTreeSet;

use crate::api::{HoldAnswer, HoldRequest, MissingRequest, ReleaseAnswer, ReleaseRequest, path};
use crate::cli::remote::post;
use crate::cli::{CommandError, GateArgs};
use crate::oci::Digest;

/// The maximum number of digests in one query.
const AT_ONCE: usize = 1000;

/// A running import.
#[derive(Debug)]
pub(super) struct ImportSession<'a> {
    gate: &'a GateArgs,
    hold: u64,
}

impl<'a> ImportSession<'a> {
    /// Has the gate keep what this import brings, until it ends.
    pub(super) fn begin(gate: &'a GateArgs, evict: bool) -> Result<Self, CommandError> {
        let answer: HoldAnswer = post(gate, path::BUNDLE_HOLD, &HoldRequest { evict })?;
        Ok(Self { gate, hold: answer.hold })
    }

    /// The number by which the gate knows it.
    pub(super) fn number(&self) -> u64 {
        self.hold
    }

    /// Which of these contents the gate does not have. Those that it has are kept.
    pub(super) fn missing(&self, digests: &[Digest]) -> Result<BTreeSet<Digest>, CommandError> {
        let mut missing = BTreeSet::new();
        for some in digests.chunks(AT_ONCE) {
            let request = MissingRequest { digests: some.to_vec(), hold: Some(self.hold) };
            missing.extend(post::<Vec<Digest>>(self.gate, path::BUNDLE_MISSING, &request)?);
        }
        Ok(missing)
    }

    /// Ends the import. Returns the contents that the gate no longer has.
    pub(super) fn end(self) -> Result<BTreeSet<Digest>, CommandError> {
        let answer: ReleaseAnswer = post(self.gate, path::BUNDLE_RELEASE, &ReleaseRequest { hold: self.hold })?;
        Ok(answer.lost.into_iter().collect())
    }
}
