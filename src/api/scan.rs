//! The `va` command: what is installed in an image, and which vulnerabilities are known in it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ABNORMAL_END, AssessmentAnswer, CheckRequest};
use crate::gate::{AppliedVaRule, GateError, Inspector, ScannedImage};
use crate::inventory::{Gap, InstalledPackage, InventoryLayer, LinuxDistribution};
use crate::oci::{ImageName, ImageReference, Reference};
use crate::policy::{AssessmentContext, DatedDatabase, ExemptedImage, ImageHistory, VaRule, is_own_scanner};
use crate::scope::Scope;

/// One image that was examined: the assessment, and what is installed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ImageScan {
    /// Upstream, repository and digest: `docker.io/library/nginx@sha256:…`.
    #[serde(default)]
    pub id: String,
    /// The image as it was asked for, with the upstream's own host name: `docker.io/library/nginx:1.27`.
    #[serde(default)]
    pub image: String,
    /// When the vulnerabilities were looked up.
    #[serde(default)]
    pub observed_at: Option<Timestamp>,
    /// The assessment under the first rule that checks vulnerabilities, or if there is none, under a rule by which
    /// every issue counts.
    #[serde(flatten)]
    pub assessment: AssessmentAnswer,
    /// When the report was made, or of the gate's own scanner, the oldest advisory database in which the image's
    /// packages were looked up; `None` if that is not known.
    pub generated_at: Option<Timestamp>,
    /// The advisory databases in which the gate's own scanner looked up the image's packages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<DatedDatabase>,
    /// The distribution, if the image contains one.
    pub distribution: Option<LinuxDistribution>,
    /// The distribution and its release as the report states them, if the gate has not read the layers: `debian 12`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported_distribution: Option<String>,
    /// When the support of its release ends or has ended, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_of_life: Option<Timestamp>,
    /// When the gate read the layers, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<Timestamp>,
    /// The layers, lowest first, if they were read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<InventoryLayer>,
    /// All packages.
    pub packages: Vec<PackageAnswer>,
    /// What could not be read or compared with advisories, and may hide packages or vulnerabilities.
    pub gaps: Vec<Gap>,
}

/// One installed package.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct PackageAnswer {
    /// The package.
    #[serde(flatten)]
    pub package: InstalledPackage,
    /// The package URL: `pkg:deb/debian/openssl@3.0.11-1~deb12u2?arch=amd64&distro=debian-12`.
    pub purl: String,
}

/// The names of an image that was examined.
#[derive(Clone, Debug)]
pub struct ScanNames {
    /// Upstream and repository.
    pub repository: ImageName,
    /// The image as it was asked for, with the upstream's own host name.
    pub image: String,
}

/// Examines an image, or the relevant images of an index, whatever the policy says.
///
/// # Errors
/// A message, if the image or the namespace is not a valid name, or the image is unavailable.
pub async fn scan(inspector: &Inspector, request: &CheckRequest) -> Result<Vec<ImageScan>, String> {
    let (image, scope) = request.parse(inspector)?;
    scan_image(inspector, &image, &scope).await.map_err(|error| error.to_string())
}

/// The same for an image by its name.
///
/// # Errors
/// If the image is unavailable: its upstream or the image is unknown, or the upstream does not respond.
pub async fn scan_image(
    inspector: &Inspector,
    image: &ImageReference,
    scope: &Scope,
) -> Result<Vec<ImageScan>, GateError> {
    let target = inspector.target_of(image, scope)?;
    let explanation = inspector.explain(&target, &image.reference()).await?;
    // For a tag, the gate may serve the digest that was signed.
    let reference = explanation.digest.map_or_else(|| image.reference(), Reference::Digest);
    let mut rules = explanation.entries.iter().filter_map(|entry| {
        let rule = entry.opinion.selected.rule.as_deref()?.va.as_ref()?;
        let exemptions = entry.va.as_ref().map(|_| entry.exemptions.clone());
        Some((rule.clone(), exemptions, entry.history.clone()))
    });
    let (rule, found, history) = rules.next().unwrap_or_else(|| (VaRule::ibm(), None, ImageHistory::default()));
    let images = inspector.scan(&target, &reference, &rule).await?;
    let asked = image.reference();
    let exempted = ExemptedImage {
        name: &target.name,
        tags: match &asked {
            Reference::Tag(tag) => std::slice::from_ref(tag),
            Reference::Digest(_) => &[],
        },
        digests: explanation.digest.into_iter().collect(),
        children: images.iter().map(|image| image.digest).collect(),
    };
    // They are not gathered for an image whose signatures do not suffice.
    let exemptions = found.unwrap_or_else(|| inspector.exemptions_of(&exempted));
    let applied = AppliedVaRule { rule, exemptions, history, at: explanation.at };
    let names = ScanNames { repository: target.name.clone(), image: explanation.image };
    let assess = move || images.into_iter().map(|image| ImageScan::new(&names, image, &applied)).collect();
    let assessed = inspector.answer_aside(assess).await;
    // Not a missing report: nothing is known about the image.
    assessed.ok_or_else(|| GateError::Store(ABNORMAL_END.to_owned()))
}

impl ImageScan {
    /// Whether the gate's own scanner judged.
    pub fn is_own(&self) -> bool {
        self.assessment.source.as_deref().is_some_and(is_own_scanner)
    }

    /// When the image was scanned. The gate's own scanner looks vulnerabilities up when it is asked.
    pub fn scanned_at(&self) -> Option<Timestamp> {
        if self.is_own() { self.observed_at } else { self.generated_at.or(self.observed_at) }
    }

    /// The scan of an image under a rule.
    pub fn new(names: &ScanNames, image: ScannedImage, applied: &AppliedVaRule) -> Self {
        let ScannedImage { digest, platform, evidence, inventory, read_at } = image;
        let exemptions = applied.exemptions.for_child(digest);
        let context = AssessmentContext { exemptions: &exemptions, ..applied.context() };
        let assessment = AssessmentAnswer::new(digest, platform, &applied.rule, &evidence.value, &context);
        let (report, facts) = (evidence.value.report(), evidence.value.image());
        let generated_at = report.and_then(|report| report.generated_at);
        let unjudged = report.map_or(&[][..], |report| &report.gaps[..]);
        let (inventory, unread) = match inventory {
            Ok(inventory) => ((*inventory).clone(), None),
            Err(problem) => (Default::default(), Some(Gap { place: digest.to_string(), problem })),
        };
        let (distribution, mut gaps) = (inventory.distribution, inventory.gaps);
        gaps.extend(unread);
        gaps.extend(unjudged.iter().map(|gap| Gap { place: gap.place.clone(), problem: gap.problem.clone() }));
        gaps.sort_unstable();
        gaps.dedup();
        let answer = |package: InstalledPackage| PackageAnswer {
            purl: package.purl(distribution.as_ref()).unwrap_or_default(),
            package,
        };
        let packages = inventory.packages.into_iter().map(answer).collect();
        let reported = facts.and_then(|facts| facts.distribution.clone()).filter(|_| distribution.is_none());
        Self {
            id: format!("{}@{digest}", names.repository),
            image: names.image.clone(),
            observed_at: Some(evidence.at),
            assessment,
            generated_at,
            databases: facts.map(|facts| facts.databases.clone()).unwrap_or_default(),
            distribution,
            reported_distribution: reported,
            end_of_life: facts.and_then(|facts| facts.end_of_life),
            read_at,
            layers: inventory.layers,
            packages,
            gaps,
        }
    }
}
