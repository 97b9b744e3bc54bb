//! Reports of other scanners on their way from one gate to another. They are files, which the commands carry. The gate
//! counts them, records their import, and waits until they are in use before it judges the images that came with them.

use std::collections::BTreeSet;

use crate::audit::{RecordedDecision, RecordedEndpoint, RecordedMethod};
use crate::gate::inspector::Inspector;
use crate::gate::operations::Operations;
use crate::gate::operator::{NotRecorded, OperatorAct};
use crate::oci::{Content, Digest, Manifest};

/// The name that an import gives to a file of reports with this digest. The sender of a bundle does not choose it.
pub fn report_file_name(digest: Digest) -> String {
    format!("report-{}.json", digest.hex())
}

/// The digests by which reports name the image of a manifest: its own, and that of its configuration.
pub fn report_names(manifest: &Manifest) -> impl Iterator<Item = Digest> + use<> {
    let config = match &manifest.content {
        Content::Image { config, .. } => Some(config.digest),
        Content::Index(_) => None,
    };
    [manifest.digest].into_iter().chain(config)
}

impl Inspector {
    /// How many files of reports and VEX statements are about images with these digests: of manifests, configurations
    /// and indexes.
    pub fn count_reports(&self, images: &BTreeSet<Digest>) -> usize {
        self.va.count_reports_about(images)
    }
}

impl Operations {
    /// Records that reports of a bundle are about to be put into use.
    ///
    /// # Errors
    /// The record cannot be written, and the configuration requires it: they must not be put into use.
    pub async fn record_reports(&self, reports: &[Digest], caller: &str) -> Result<(), NotRecorded> {
        let act = OperatorAct {
            endpoint: RecordedEndpoint::BundleReports,
            method: RecordedMethod::Post,
            decision: RecordedDecision::ImportReports,
            image: String::new(),
            reasons: reports.iter().map(ToString::to_string).collect(),
        };
        act.record(&self.audit, caller, self.clock.now()).await
    }

    /// Waits for a limited time until reports that were imported are in use, so that images are judged by them.
    ///
    /// # Errors
    /// Why they are not in use after that time.
    pub async fn await_reports(&self, reports: &[Digest]) -> Result<(), String> {
        if reports.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = reports.iter().map(|digest| report_file_name(*digest)).collect();
        let waited = self.va.await_reports(&names).await;
        waited.map_err(|why| format!("the reports of the bundle are not in use: {why}; repeat the import"))
    }
}
