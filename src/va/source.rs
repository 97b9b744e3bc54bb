//! The interface of sources of vulnerability evidence.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::VaSubject;
use crate::policy::{Observed, VaEvidence};

/// One source of vulnerability evidence: reports in a directory, a service, a scanner.
///
/// A source never guesses. It does not report an image as clean without knowing that, and it reports parts that limits
/// kept it from examining as [incomplete](crate::policy::Report::incomplete).
///
/// A source keeps its own findings and states how long they are valid ([`Observed::until`]). If its knowledge changes
/// earlier, it [advances](crate::runtime::Epoch::advance) the epoch after the change, so that no decision based on the
/// earlier findings is reused.
pub trait VaSource: Send + Sync {
    /// A short name for the log: `reports`, `ibm`, or the configured name of a scanner.
    fn name(&self) -> &str;

    /// Why the source may know nothing about an image, and the remedy; `None` if there is nothing to report.
    fn silence(&self) -> Option<&'static str> {
        None
    }

    /// Whether what the source finds already includes what VEX documents of the operator say.
    fn includes_statements(&self) -> bool {
        false
    }

    /// What the source knows about an image.
    fn evidence<'a>(&'a self, subject: &'a VaSubject) -> BoxFuture<'a, SourceAnswer>;
}

/// What one source says about an image.
#[derive(Clone, Debug)]
pub enum SourceAnswer {
    /// This is the evidence; later sources are not queried.
    Decides(Arc<Observed<VaEvidence>>),
    /// The source cannot tell whether it knows the image, for example because a report cannot be read. This is the
    /// evidence unless a later source decides.
    Doubts(Arc<Observed<VaEvidence>>),
    /// The source knows nothing about the image.
    Silent,
}
