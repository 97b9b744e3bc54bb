//! What operators change: by commands, and through the admin API.

use std::sync::Arc;

use super::exemptions::ExemptionBook;
use super::judge::ManifestJudge;
use super::router::Router;
use crate::audit::Audit;
use crate::cache::Cache;
use crate::resolve::Resolver;
use crate::runtime::{Clock, Epoch};
use crate::trust::Trust;
use crate::va::Va;

/// Does what operators ask for: pins, removal of content, imports of bundles, exemptions, and what is forgotten. Each act is
/// recorded before it is done.
pub struct Operations {
    pub(super) router: Router,
    pub(super) judge: Arc<ManifestJudge>,
    pub(super) trust: Arc<Trust>,
    pub(super) va: Arc<Va>,
    pub(super) exemptions: Arc<ExemptionBook>,
    pub(super) resolver: Resolver,
    pub(super) cache: Arc<Cache>,
    pub(super) audit: Audit,
    pub(super) epoch: Epoch,
    pub(super) clock: Clock,
}

impl Operations {
    /// The exemptions of vulnerabilities, which commands can change.
    pub fn exemptions(&self) -> &Arc<ExemptionBook> {
        &self.exemptions
    }
}
