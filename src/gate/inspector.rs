//! What the gate knows and would decide, without serving anything. Used by commands, the admin API and prefetch.

pub(super) mod explain;
pub(super) mod images;
pub(super) mod scan;

use std::sync::Arc;

use super::judge::ManifestJudge;
use super::judge::evidence::EvidenceGatherer;
use super::judge::exemptions::ExemptionBook;
use super::judge::platforms::{IndexParts, Platforms};
use super::judge::weighing::OpinionWeigher;
use super::router::Router;
use super::{GateError, Target};
use crate::cache::Cache;
use crate::oci::{ImageReference, Manifest, Platform};
use crate::policy::{ExemptedImage, VaExemptions};
use crate::resolve::Resolver;
use crate::rulebook::Rulebook;
use crate::runtime::Clock;
use crate::scope::Scope;
use crate::va::Va;

/// Answers questions about images: `explain`, `scan`, `images`, and what a bundle of an image needs. It serves nothing
/// and changes nothing.
pub struct Inspector {
    pub(super) router: Router,
    pub(super) judge: Arc<ManifestJudge>,
    pub(super) evidence: Arc<EvidenceGatherer>,
    pub(super) weigher: OpinionWeigher,
    pub(super) va: Arc<Va>,
    pub(super) platforms: Arc<Platforms>,
    pub(super) exemptions: Arc<ExemptionBook>,
    pub(super) rulebook: Arc<Rulebook>,
    pub(super) resolver: Resolver,
    pub(super) cache: Arc<Cache>,
    pub(super) clock: Clock,
}

impl Inspector {
    /// An image as an operator writes it.
    ///
    /// # Errors
    /// It is not a valid name, or clients mean another image by it.
    pub fn image(&self, text: &str) -> Result<ImageReference, GateError> {
        self.router.image(text)
    }

    /// The target of an image reference, for commands.
    ///
    /// # Errors
    /// If no such upstream is configured, or it does not serve the scope.
    pub fn target_of(&self, image: &ImageReference, scope: &Scope) -> Result<Target, GateError> {
        self.router.target_of(image, scope)
    }

    /// The exemptions that apply to an image now.
    pub fn exemptions_of(&self, image: &ExemptedImage<'_>) -> VaExemptions {
        self.exemptions.of_image(image)
    }

    /// The platforms that the configuration names.
    pub fn platforms(&self) -> &[Platform] {
        self.platforms.configured()
    }

    /// The children of an index to fetch for these platforms; if none are given, those that decide about it.
    ///
    /// # Errors
    /// If a required manifest or configuration cannot be read now.
    pub async fn index_parts(
        &self,
        image: &ImageReference,
        scope: &Scope,
        index: &Manifest,
        platforms: &[Platform],
    ) -> Result<IndexParts, GateError> {
        let target = self.target_of(image, scope)?;
        self.platforms.parts(&target, index, platforms).await
    }
}
