//! The reports as a source, each bound to the image that it describes.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::statement::ImageDigests;
use super::{NeedsProof, ReportQuery, Reports};
use crate::oci::Digest;
use crate::policy::{Observed, Report, VaEvidence};
use crate::runtime::Clock;
use crate::va::binding::{Bindings, ConfigBinding};
use crate::va::{DerivedEvidence, SourceAnswer, VaSource, VaSubject};

/// Local reports, with proofs that an image's layers are those of the configuration that a report names. Cheap to
/// clone.
#[derive(Clone)]
pub(in crate::va) struct BoundReports {
    pub(super) reports: Reports,
    pub(super) bindings: Arc<Bindings>,
    clock: Clock,
}

impl BoundReports {
    pub(in crate::va) fn new(reports: Reports, bindings: Arc<Bindings>, clock: Clock) -> Self {
        Self { reports, bindings, clock }
    }

    /// Identifies the files that are in use.
    pub(in crate::va) fn fingerprint(&self) -> String {
        self.reports.fingerprint()
    }

    /// The proof is made only if a report requires it.
    async fn ask(&self, subject: &VaSubject) -> SourceAnswer {
        let query = |config| ReportQuery { manifest: subject.manifest().digest, config, parents: &subject.parents };
        let found = match self.reports.lookup(&query(ConfigBinding::Unproven(subject.config().digest))) {
            Ok(found) => Ok(found),
            Err(NeedsProof) => self.reports.lookup(&query(self.bindings.of(subject).await)),
        };
        match found {
            Ok(None) => SourceAnswer::Silent,
            Ok(Some(evidence)) => match evidence.value {
                VaEvidence::Unavailable { .. } | VaEvidence::Unreadable { .. } => SourceAnswer::Doubts(evidence),
                VaEvidence::Report(_)
                | VaEvidence::Unscanned
                | VaEvidence::NoReport { .. }
                | VaEvidence::Incomplete { .. }
                | VaEvidence::Opaque { .. }
                | VaEvidence::Unsupported { .. }
                | VaEvidence::Pending { .. }
                | VaEvidence::WithOrigin { .. } => SourceAnswer::Decides(evidence),
            },
            Err(NeedsProof) => SourceAnswer::Decides(self.unproven()),
        }
    }

    /// What another source found, with the VEX statements about the image, and with what other documents find in it. The
    /// findings of the reports already include both.
    ///
    /// If it is not known whether the layers are those of the configuration, and a statement names the configuration,
    /// no statement applies.
    pub(in crate::va) async fn with_statements(
        &self,
        subject: &VaSubject,
        evidence: Arc<Observed<VaEvidence>>,
        derived: &DerivedEvidence,
    ) -> Arc<Observed<VaEvidence>> {
        let (VaEvidence::Report(Report { issues: found, .. })
        | VaEvidence::Opaque { issues: found, .. }
        | VaEvidence::Unsupported { issues: found, .. }) = &evidence.value
        else {
            return evidence;
        };
        let Some(basis) = self.statements_basis(subject) else { return evidence };
        if let Some(known) = derived.get(&evidence, &basis) {
            return known;
        }
        let (manifest, config) = (subject.manifest().digest, subject.config().digest);
        let with = |own: &[Digest]| {
            let image = ImageDigests { own, parents: &subject.parents };
            self.reports.with_statements(found, &image)
        };
        let (of_manifest, of_both) = (with(&[manifest]), with(&[manifest, config]));
        let issues = if of_manifest == of_both {
            of_manifest
        } else {
            match self.bindings.of(subject).await {
                ConfigBinding::Proven(_) => of_both,
                ConfigBinding::Refuted(_) => of_manifest,
                ConfigBinding::Unproven(_) => None,
            }
        };
        let Some(issues) = issues else { return evidence };
        let value = evidence.value.clone().with_issues(issues);
        match subject.is_background {
            // It is judged once.
            true => Arc::new(Observed { value, at: evidence.at, until: evidence.until }),
            false => derived.keep(&evidence, &basis, value),
        }
    }

    /// What the statements about an image follow from; `None` if there are none at all.
    fn statements_basis(&self, subject: &VaSubject) -> Option<Arc<str>> {
        let generation = self.reports.generation_of_statements()?;
        let parents = subject.parents.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        Some(format!("statements {generation} {} {parents}", subject.manifest().digest).into())
    }

    /// A report names the configuration, and whether the layers are those of the configuration is not currently known.
    fn unproven(&self) -> Arc<Observed<VaEvidence>> {
        let why = "the image's layers could not be compared with its configuration, which a report is about";
        let value = VaEvidence::Unavailable { why: why.into() };
        Arc::new(Observed { value, at: self.clock.now(), until: None })
    }
}

impl VaSource for BoundReports {
    fn name(&self) -> &'static str {
        "reports"
    }

    fn silence(&self) -> Option<&'static str> {
        self.reports.has_directories().then_some("no file in va.reports is about its digest")
    }

    fn includes_statements(&self) -> bool {
        true
    }

    /// Reports are in memory and may change at any time, so nothing is cached here.
    fn evidence<'a>(&'a self, subject: &'a VaSubject) -> BoxFuture<'a, SourceAnswer> {
        self.ask(subject).boxed()
    }
}
