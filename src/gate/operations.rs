//! What operators change: by commands, and through the admin API.

pub(super) mod bundle;
pub(super) mod contents;
pub(super) mod forget;
pub(super) mod pins;

use std::sync::Arc;

use super::GateError;
use super::judge::ManifestJudge;
use super::judge::exemptions::{ExemptionBook, ExemptionError};
use super::router::Router;
use crate::audit::Audit;
use crate::cache::Cache;
use crate::oci::ImageReference;
use crate::policy::{ExemptionRecord, ExemptionScope};
use crate::resolve::Resolver;
use crate::runtime::{Clock, Epoch};
use crate::trust::Trust;
use crate::va::Va;

/// Carries out operators' requests: pins, removal of content, imports of bundles, exemptions, and forgetting of trust
/// state. Each act is recorded before it is done.
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
    /// An image as an operator writes it.
    ///
    /// # Errors
    /// It is not a valid name, or clients mean another image by it.
    pub fn image(&self, text: &str) -> Result<ImageReference, GateError> {
        self.router.image(text)
    }

    /// The exemptions of vulnerabilities, which commands can change.
    pub fn exemptions(&self) -> &Arc<ExemptionBook> {
        &self.exemptions
    }

    /// Adds exemptions, each in place of an earlier one of the same issue in the same package and scope. When this
    /// returns without an error, they are in force and survive a restart. `caller` is for the audit record.
    ///
    /// # Errors
    /// If one has ended already or names an upstream by an alias, there are too many, or the store or a required audit
    /// record cannot be written. Then none was added.
    pub async fn add_exemptions(
        &self,
        records: Vec<ExemptionRecord>,
        caller: &str,
    ) -> Result<Vec<Arc<ExemptionRecord>>, ExemptionError> {
        records.iter().try_for_each(|record| self.check_scope(&record.scope))?;
        let added = self.exemptions.add(records, caller).await?;
        for record in &added {
            if let Some(doubt) = self.router.doubt_about(&record.scope) {
                tracing::warn!(id = %record.id, scope = %record.scope, "an exemption may not apply to any image: {doubt}");
            }
        }
        Ok(added)
    }

    /// Checks that a scope names its registry, if it names one, as policies do.
    ///
    /// # Errors
    /// If it uses an alias of an upstream, by which exemptions apply to no image.
    pub fn check_scope(&self, scope: &ExemptionScope) -> Result<(), ExemptionError> {
        self.router
            .check_scope(scope)
            .map_err(|why| ExemptionError::Invalid(format!("scope {:?}: {why}", scope.to_string())))
    }
}
