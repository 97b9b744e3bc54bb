//! What a source of vulnerability evidence is.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::VaSubject;
use crate::policy::{Observed, VaEvidence};

/// One source of vulnerability evidence: reports in a directory, a service, a scanner.
///
/// A source never guesses. What it does not know it does not call clean, and what limits kept it from looking at is
/// [incomplete](crate::policy::Report::incomplete).
///
/// It keeps what it found itself, and says until when that holds ([`Observed::until`]). If its knowledge changes before that
/// end, it [advances](crate::runtime::Epoch::advance) the epoch after the change, so that no decision is repeated on what it
/// said before.
pub trait VaSource: Send + Sync {
    /// A short name for the log: `reports`, `ibm`.
    fn name(&self) -> &'static str;

    /// What the source knows about an image.
    fn evidence<'a>(&'a self, subject: &'a VaSubject) -> BoxFuture<'a, SourceAnswer>;
}

/// What one source says about an image.
#[derive(Clone, Debug)]
pub enum SourceAnswer {
    /// This is the evidence; the sources after this one are not asked.
    Decides(Arc<Observed<VaEvidence>>),
    /// The source cannot tell whether it knows the image, for example because a report cannot be read. This is the evidence
    /// unless a later source decides.
    Doubts(Arc<Observed<VaEvidence>>),
    /// The source knows nothing about the image.
    Silent,
}
