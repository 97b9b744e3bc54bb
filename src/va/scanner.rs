//! The scanner that is part of the gate: it reads what an image contains from its layers, and matches that against the
//! advisory databases on this machine. It asks no server.
//!
//! Three stages with a cache each: the inventory of a layer and of an image, which depend only on bytes and never
//! change; the match of an inventory with one generation of the databases, repeated when a database changes; and the
//! policy, which weighs the result for each request (`policy::assess`).

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use jiff::{SignedDuration, Timestamp};

use super::databases::{AdvisoryDatabases, too_old};
use super::derived::DerivedEvidence;
use super::layers::{KnownLayer, LayerReadings};
use super::lazy::{manifest_problem, table_problem};
use super::{SourceAnswer, VaSource, VaSubject, configuration, feeds};
use crate::advisories::{self, Databases};
use crate::cache::{BlobFinding, BlobReader, CacheError};
use crate::inventory::{self, Gap, Inventory, InventoryLayer, LinuxDistribution};
use crate::oci::layer_types::{is_read_lazily, is_tar_type};
use crate::oci::{Algorithm, Descriptor, Digest, media_type};
use crate::policy::{Observed, VaEvidence};
use crate::runtime::{Background, Bounded, Clock, Metrics, Tasks, budget};
use crate::store::{FactStore, Memo};

mod again;
mod metrics;
mod names;
mod report;

use metrics::MatchMetrics;
pub use names::DatabaseSnapshot;
use report::Purpose;

pub(super) use report::weight as evidence_weight;

/// The maximum number of layers of an image that are read. Runtimes support about 500, the limit of overlay file
/// systems.
const MAX_LAYERS: usize = 512;
/// The topic under which inventories are stored.
const INVENTORIES: &str = "inventory-11";
/// How many layers of one image are read concurrently.
const AT_ONCE: usize = 4;

/// Reads images and matches them against advisories. Cheap to clone.
#[derive(Clone)]
pub struct Scanner {
    layers: LayerReadings,
    /// By the digest of the image. They could be merged again from the readings of their layers, which have everything
    /// that merging needs and are many times larger.
    inventories: Arc<Memo<BlobFinding<Arc<Inventory>>>>,
    databases: AdvisoryDatabases,
    store: FactStore,
    matched: Arc<Bounded<Digest, Matched>>,
    background: Background,
    metrics: MatchMetrics,
    clock: Clock,
    tasks: Tasks,
}

/// The evidence from one generation of the databases.
#[derive(Clone)]
struct Matched {
    generation: Arc<str>,
    evidence: Arc<Observed<VaEvidence>>,
}

impl Scanner {
    pub(super) fn new(
        layers: LayerReadings,
        databases: AdvisoryDatabases,
        store: &FactStore,
        clock: &Clock,
        tasks: &Tasks,
        metrics: &Metrics,
    ) -> Self {
        let weigh = |_: &Digest, matched: &Matched| report::weight(&matched.evidence.value);
        Self {
            layers,
            inventories: Arc::new(Memo::new(INVENTORIES, store.clone(), clock.clone(), tasks.clone())),
            databases,
            store: store.clone(),
            matched: Arc::new(Bounded::new(budget::MATCHED, weigh)),
            background: Background::new(),
            metrics: MatchMetrics::new(metrics),
            clock: clock.clone(),
            tasks: tasks.clone(),
        }
    }

    /// What is installed in an image, with archives named by the databases that are open. Layers are read if the
    /// subject allows it; `None` if nothing is known and nothing may be read.
    ///
    /// # Errors
    /// If a layer cannot be read completely.
    pub async fn inventory(&self, subject: &VaSubject) -> Result<Option<Arc<Inventory>>, CacheError> {
        let Some(inventory) = self.facts(subject).await? else { return Ok(None) };
        if inventory.unnamed.is_empty() {
            return Ok(Some(inventory));
        }
        // Names that cannot be looked up yet would be gaps.
        if subject.blobs.is_some() {
            self.databases.opened().await;
        }
        let databases = self.databases.open_ones();
        let work = move || advisories::name_archives(databases.as_deref(), inventory);
        self.tasks.spawn_blocking(work).await.map(Some).map_err(|_| CacheError::Busy)
    }

    /// When the layers of an image were read; `None` if what is installed in it is not known.
    pub async fn read_at(&self, subject: &VaSubject) -> Option<Timestamp> {
        let key = subject.manifest().digest.to_string().into();
        self.inventories.known(&key).await.map(|read| read.at)
    }

    /// The distribution of an image, if what is installed in it is known.
    pub async fn distribution(&self, subject: &VaSubject) -> Option<LinuxDistribution> {
        self.facts(subject).await.ok()??.distribution.clone()
    }

    /// What the layers of an image state.
    async fn facts(&self, subject: &VaSubject) -> Result<Option<Arc<Inventory>>, CacheError> {
        let key: Arc<str> = subject.manifest().digest.to_string().into();
        let Some(reader) = subject.blobs.clone() else {
            let known = self.inventories.known(&key).await;
            return known.map_or(Ok(None), |known| BlobFinding::known(Some(known)).map(Some));
        };
        let (scanner, config, named) = (self.clone(), subject.config().clone(), subject.layers().to_vec());
        let (bytes, manifest) = (reader.clone(), subject.manifest().clone());
        let gather = || async move {
            let read = scanner.read(&bytes, &config, (named, manifest_problem(&manifest))).await;
            if let Ok((inventory, false)) = &read {
                scanner.keep_names(manifest.digest, inventory);
            }
            let ended_early = read.as_ref().is_ok_and(|(_, ended_early)| *ended_early);
            KnownLayer::observed(read.map(|(inventory, _)| inventory), ended_early, &scanner.clock)
        };
        let found = self.inventories.obtain_from(reader.name(), key, BlobFinding::is_known, gather).await;
        BlobFinding::known(found).map(Some)
    }

    /// Reads the configuration, and each layer once, even if the manifest lists it several times, and merges them on a
    /// separate thread. `problem` is that of the manifest itself. Also returns whether a layer took too long.
    async fn read(
        &self,
        reader: &BlobReader,
        config: &Descriptor,
        (named, problem): (Vec<Descriptor>, Option<String>),
    ) -> Result<(Arc<Inventory>, bool), CacheError> {
        if named.len() > MAX_LAYERS {
            let problem = format!("the image has {} layers; at most {MAX_LAYERS} are read", named.len());
            let gap = Gap { place: "the manifest".into(), problem };
            return Ok((Arc::new(Inventory { gaps: vec![gap], ..Inventory::default() }), false));
        }
        let settings = configuration::read(reader, config).await;
        let settings = settings.map_err(|error| error.of("configuration", config.digest))?;
        let mut different: Vec<Descriptor> = Vec::new();
        // A layer that is also listed with annotations is read as these say.
        for layer in named.iter().filter(|layer| is_read_lazily(layer)).chain(&named) {
            if !different.iter().any(|known| known.digest == layer.digest) {
                different.push(layer.clone());
            }
        }
        let reads = different.into_iter().map(|layer| {
            let (layers, reader) = (self.layers.clone(), reader.clone());
            async move {
                let known = layers.of(&reader, &layer, Algorithm::Sha256).await;
                known.map(|known| (layer.digest, known)).map_err(|error| error.of("layer", layer.digest))
            }
        });
        let reads: Vec<Result<(Digest, KnownLayer), CacheError>> =
            stream::iter(reads).buffered(AT_ONCE).collect().await;
        let known: HashMap<Digest, KnownLayer> = reads.into_iter().collect::<Result<_, _>>()?;
        let ended_early = known.values().any(|layer| layer.ended_early);
        let work = move || {
            // Layers that are listed several times share one reading.
            let layers: Vec<&KnownLayer> = named.iter().filter_map(|layer| known.get(&layer.digest)).collect();
            let mut inventory = merge(&layers, &named);
            inventory.findings.extend(configuration::findings(settings, &inventory.superusers));
            inventory.gaps.extend(problem.map(|problem| Gap { place: "the manifest".into(), problem }));
            (Arc::new(inventory), ended_early)
        };
        self.tasks.spawn_blocking(work).await.map_err(|_| CacheError::Busy)
    }

    async fn ask(&self, subject: &VaSubject) -> SourceAnswer {
        if subject.blobs.is_some() {
            self.databases.opened().await;
        }
        let databases = match self.databases.current() {
            Ok(Some(databases)) => databases,
            Ok(None) => return SourceAnswer::Silent,
            Err(why) => return SourceAnswer::Doubts(self.observed(VaEvidence::Unavailable { why })),
        };
        let digest = subject.manifest().digest;
        if subject.is_background {
            return self.match_again(digest, databases).await;
        }
        if let Some(matched) = self.matched.get(&digest)
            && *matched.generation == *databases.generation()
            && matched.evidence.holds(self.clock.now())
        {
            return answer(matched.evidence);
        }
        match self.facts(subject).await {
            Ok(Some(inventory)) => answer(self.matched(digest, databases, inventory).await),
            Ok(None) => SourceAnswer::Silent,
            Err(error) if error.is_temporary() => {
                let why = format!("the image cannot be read now: {error}; the next pull tries again");
                SourceAnswer::Doubts(self.observed(VaEvidence::Unavailable { why }))
            }
            Err(error) => {
                let why = format!("the image cannot be read: {error}; push it again");
                SourceAnswer::Decides(self.observed(VaEvidence::Incomplete { why }))
            }
        }
    }

    /// The evidence of a source, with what the feeds of this gate say about its issues. They say nothing about those
    /// that were added to it, even if it has their data otherwise.
    pub(super) async fn with_feeds(
        &self,
        subject: &VaSubject,
        (evidence, has_additions): (Arc<Observed<VaEvidence>>, bool),
        derived: &DerivedEvidence,
    ) -> Arc<Observed<VaEvidence>> {
        let VaEvidence::Report(report) = &evidence.value else { return evidence };
        if !subject.is_background {
            self.databases.opened().await;
        }
        let databases = self.databases.open_ones().filter(|open| feeds::are_missing(open, report, has_additions));
        let Some(databases) = databases else { return evidence };
        let basis = format!("feeds {}", databases.generation()).into();
        if let Some(known) = derived.get(&evidence, &basis) {
            return known;
        }
        let report = report.clone();
        match self.tasks.spawn_blocking(move || feeds::add(&databases, report)).await {
            Ok(report) => derived.keep(&evidence, &basis, VaEvidence::Report(report)),
            Err(_) => self.observed(VaEvidence::Unavailable { why: "the feeds could not be read".into() }),
        }
    }

    /// The advisory databases of this gate.
    pub fn databases(&self) -> &AdvisoryDatabases {
        &self.databases
    }

    /// What could not be read in an image, in words; with `with_advisories` also what the advisory databases do not
    /// cover, if there are any that can be used.
    ///
    /// # Errors
    /// If matching advisories ended abnormally.
    pub(super) async fn gaps(
        &self,
        inventory: Arc<Inventory>,
        with_advisories: bool,
    ) -> Result<Option<String>, String> {
        let mut found = inventory.gaps.clone();
        if with_advisories {
            self.databases.opened().await;
            if let Ok(Some(databases)) = self.databases.current() {
                let now = self.clock.now();
                let work = self.tasks.spawn_blocking(move || advisories::find(&databases, &inventory, now).gaps);
                found.extend(work.await.map_err(|_| "matching advisories ended abnormally")?);
            }
        }
        Ok(report::gaps(found.iter()))
    }

    /// Matches on a blocking thread, because databases are read from disk.
    async fn matched(
        &self,
        digest: Digest,
        databases: Arc<Databases>,
        inventory: Arc<Inventory>,
    ) -> Arc<Observed<VaEvidence>> {
        let generation: Arc<str> = databases.generation().into();
        let (most, now) = (self.databases.max_age(), self.clock.now());
        let metrics = self.metrics.clone();
        let work = move || metrics.of(|| judge(&databases, inventory, most, (Purpose::Report, now)));
        let Ok(evidence) = self.tasks.spawn_blocking(work).await.map(Arc::new) else {
            return self.observed(VaEvidence::Unavailable { why: "matching advisories ended abnormally".into() });
        };
        self.matched.insert(digest, Matched { generation, evidence: evidence.clone() });
        evidence
    }

    fn observed(&self, value: VaEvidence) -> Arc<Observed<VaEvidence>> {
        Arc::new(Observed { value, at: self.clock.now(), until: None })
    }
}

/// The evidence, which other sources replace if the image could not be judged.
fn answer(evidence: Arc<Observed<VaEvidence>>) -> SourceAnswer {
    match evidence.value {
        VaEvidence::Unavailable { .. } => SourceAnswer::Doubts(evidence),
        VaEvidence::Report(_)
        | VaEvidence::Unscanned
        | VaEvidence::NoReport { .. }
        | VaEvidence::Unreadable { .. }
        | VaEvidence::Incomplete { .. }
        | VaEvidence::Opaque { .. }
        | VaEvidence::Unsupported { .. }
        | VaEvidence::Pending { .. }
        | VaEvidence::WithOrigin { .. } => SourceAnswer::Decides(evidence),
    }
}

/// The databases' findings for an inventory, valid until one of the databases used is older than `most`.
fn judge(
    databases: &Databases,
    inventory: Arc<Inventory>,
    most: Option<SignedDuration>,
    (purpose, now): (Purpose, Timestamp),
) -> Observed<VaEvidence> {
    let inventory = advisories::name_archives(Some(databases), inventory);
    let findings = advisories::find(databases, &inventory, now);
    let oldest = report::oldest(databases, &findings);
    let until = oldest.as_ref().and_then(|oldest| oldest.built.checked_add(most?).ok());
    let value = match oldest.filter(|_| until.is_some_and(|until| until <= now)) {
        Some(oldest) => VaEvidence::Unavailable { why: too_old(&oldest) },
        None => report::evidence(databases, &inventory, findings, (purpose, now)),
    };
    // An old database becomes no younger.
    Observed { at: now, until: until.filter(|until| *until > now), value }
}

/// The inventory of an image with these layers. A layer that clients may read otherwise than as the tar that it is has
/// a gap.
fn merge(readings: &[&KnownLayer], named: &[Descriptor]) -> Inventory {
    let layers: Vec<_> =
        readings.iter().map(|layer| (layer.diff_id.unwrap_or(layer.digest), layer.inventory.clone())).collect();
    let mut inventory = inventory::merge(&layers);
    // People know a layer by its digest in the manifest.
    let digests: HashMap<String, Digest> =
        readings.iter().filter_map(|layer| Some((layer.diff_id?.to_string(), layer.digest))).collect();
    for gap in &mut inventory.gaps {
        if let Some(digest) = digests.get(&gap.place) {
            gap.place = digest.to_string();
        }
    }
    let layer = |layer: &&KnownLayer| InventoryLayer { digest: layer.digest, diff_id: layer.diff_id };
    inventory.layers = readings.iter().map(layer).collect();
    let gap = |(layer, known): (&Descriptor, &&KnownLayer)| {
        Some(Gap { place: layer.digest.to_string(), problem: type_problem(layer, known)? })
    };
    inventory.gaps.extend(named.iter().zip(readings).filter_map(gap));
    inventory.gaps.sort_unstable();
    inventory.gaps.dedup();
    inventory
}

/// Why clients may read a layer otherwise than as the tar that it is.
fn type_problem(layer: &Descriptor, known: &KnownLayer) -> Option<String> {
    if !is_tar_type(&media_type::essence(&layer.media_type)) {
        return Some("the layer is encrypted or of an unknown type".into());
    }
    let why = table_problem(layer, known.table.as_ref())?;
    Some(format!("some clients read this layer by its own table of contents, but {why}"))
}

impl VaSource for Scanner {
    fn name(&self) -> &'static str {
        "scanner"
    }

    fn silence(&self) -> Option<&'static str> {
        match self.databases.current() {
            Ok(None) => {
                Some("the gate's own scanner has no advisory database; run `pullgate db update` or `db import`")
            }
            _ => Some("the gate's own scanner has not read its layers yet"),
        }
    }

    fn evidence<'a>(&'a self, subject: &'a VaSubject) -> BoxFuture<'a, SourceAnswer> {
        self.ask(subject).boxed()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::inventory::LayerTable;
    use crate::oci::{Content, Manifest};

    #[test]
    fn layers_that_clients_read_in_another_way_are_gaps() {
        let digest = Digest::sha256(b"layer");
        let layer = |media_type: &str, annotations: serde_json::Value| json!({"mediaType": media_type, "digest": digest, "size": 2, "annotations": annotations});
        let tar = "application/vnd.oci.image.layer.v1.tar+gzip";
        let lazy = || layer(tar, json!({"containerd.io/snapshot/stargz/toc.digest": digest}));
        let other = layer(tar, json!({"containerd.io/snapshot/stargz/toc.digest": Digest::sha256(b"other")}));
        for (layers, gaps) in [
            (vec![layer(tar, json!({}))], 0),
            (vec![lazy(), lazy()], 0),
            (vec![lazy(), other], 1),
            (vec![layer("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", json!({}))], 1),
        ] {
            let table = Some(LayerTable { text: Some(digest), ..LayerTable::default() });
            let media_type = "application/vnd.oci.image.manifest.v1+json";
            let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 2});
            let manifest =
                json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers}).to_string();
            let manifest = Manifest::parse(manifest.into(), Some(media_type)).unwrap();
            let Content::Image { layers, .. } = &manifest.content else { panic!() };
            let known = KnownLayer { digest, diff_id: None, inventory: Arc::default(), ended_early: false, table };
            let readings: Vec<&KnownLayer> = layers.iter().map(|_| &known).collect();
            assert_eq!(merge(&readings, layers).gaps.len(), gaps, "{layers:?}");
        }
    }

    #[test]
    fn gaps_name_the_layers_of_the_manifest() {
        let (digest, diff_id) = (Digest::sha256(b"layer"), Some(Digest::sha256(b"its content")));
        let inventory = serde_json::from_value(json!({"files": [], "problems": ["it is too large"]})).unwrap();
        let known = KnownLayer { digest, diff_id, inventory: Arc::new(inventory), ended_early: false, table: None };
        let text = report::gaps(merge(&[&known], &[]).gaps.iter()).unwrap();
        assert!(
            text.starts_with(&format!("layer {}: it is too large; build the image again", digest.short())),
            "{text}"
        );
        let other = Gap { place: "a.jar".into(), problem: "is encrypted".into() };
        assert_eq!(report::gaps([other].iter()).unwrap(), "a.jar: is encrypted");
    }
}
