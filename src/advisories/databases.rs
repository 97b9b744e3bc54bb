//! The databases in use, opened.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rustix::fs::FlockOperation;

use super::cve_table::CveTable;
use super::details::DetailCache;
use super::generations::{AdvisoryStore, DatabaseKind, GenerationManifest};
use super::import::source_of;
use super::java_db::JavaDb;
use super::osv::{INDEX, OsvIndex};
use super::trivy_db::TrivyDb;
use super::{DatabaseError, OsvRows, TrivyRows};
use crate::oci::Digest;
use crate::policy::DatedDatabase;

/// The generations in use of all sources. The value never changes; after an update, it is replaced by a newly opened
/// one.
///
/// What is found in it is valid for this [`generation`](Self::generation) only.
#[derive(Clone, Debug, Default)]
pub struct Databases {
    trivy: Option<Arc<TrivyDb>>,
    osv: Vec<Arc<OsvIndex>>,
    java: Option<Arc<JavaDb>>,
    kev: Option<Arc<CveTable>>,
    epss: Option<Arc<CveTable>>,
    details: Arc<DetailCache>,
    status: Vec<SourceStatus>,
    generation: String,
}

/// A source of advisories.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SourceStatus {
    /// `trivy-db`, `osv-pypi`, `trivy-java-db`, `kev`, `epss`; the configured origin, if it was never fetched.
    pub source: String,
    /// Whether its database is in use.
    pub state: SourceState,
    /// The generation in use. `None` if no generation can be used.
    pub generation: Option<GenerationManifest>,
    /// The generation before it, if it is kept.
    pub previous: Option<GenerationManifest>,
}

/// Whether the database of a source is in use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SourceState {
    /// The newest generation is in use.
    Ready,
    /// The newest generation is damaged, and the one before it is in use.
    Degraded {
        /// What is wrong with the newest one.
        problem: String,
    },
    /// No generation can be used: nothing is known about the packages that the source covers.
    Unusable {
        /// What is wrong.
        problem: String,
    },
}

impl SourceStatus {
    /// Whether the source lists vulnerabilities of packages, and not only something about vulnerabilities (KEV, EPSS)
    /// or about packages (Java archives).
    pub fn has_advisories(&self) -> bool {
        [DatabaseKind::Osv, DatabaseKind::TrivyDb].into_iter().any(|kind| self.is_of(kind))
    }

    /// Whether the source is of this kind.
    pub fn is_of(&self, kind: DatabaseKind) -> bool {
        kind.is_name(&self.source)
    }

    /// How long ago the source built the database that is in use.
    pub fn age(&self, now: Timestamp) -> Option<SignedDuration> {
        self.generation.as_ref().map(|generation| now.duration_since(generation.built))
    }
}

impl Databases {
    /// The trivy-db, if there is one.
    pub fn trivy(&self) -> Option<&dyn TrivyRows> {
        self.trivy.as_deref().map(|database| database as &dyn TrivyRows)
    }

    /// The indexes of OSV records.
    pub fn osv(&self) -> impl Iterator<Item = &dyn OsvRows> {
        self.osv.iter().map(|index| &**index as &dyn OsvRows)
    }

    /// The same databases without what was read from them: to be compared with later ones.
    #[must_use]
    pub fn without_details(&self) -> Self {
        Self { details: Arc::default(), ..self.clone() }
    }

    /// The indexes of OSV records with their generations, in the order of the sources.
    pub(super) fn osv_sources(&self) -> impl Iterator<Item = (&GenerationManifest, &OsvIndex)> {
        // Both lists are in this order, and what is open has a generation.
        let generations = self.status.iter().filter_map(|source| source.generation.as_ref());
        generations.filter(|generation| generation.kind == DatabaseKind::Osv).zip(self.osv.iter().map(|index| &**index))
    }

    /// The trivy-db with its generation.
    pub(super) fn trivy_source(&self) -> Option<(&GenerationManifest, &TrivyDb)> {
        let mut generations = self.status.iter().filter_map(|source| source.generation.as_ref());
        generations.find(|generation| generation.kind == DatabaseKind::TrivyDb).zip(self.trivy.as_deref())
    }

    /// The published Java archives, if there is such a database.
    pub(super) fn java(&self) -> Option<&JavaDb> {
        self.java.as_deref()
    }

    /// The known exploited vulnerabilities, and the probabilities of exploitation.
    pub(super) fn feeds(&self) -> (Option<&CveTable>, Option<&CveTable>) {
        (self.kev.as_deref(), self.epss.as_deref())
    }

    /// What was read about vulnerabilities.
    pub(super) fn details(&self) -> &DetailCache {
        &self.details
    }

    /// Whether any source of advisories exists, usable or not.
    pub fn has_advisories(&self) -> bool {
        self.status.iter().any(SourceStatus::has_advisories)
    }

    /// Identifies the content of all databases together: results that were computed with the same identifier are the
    /// same. Empty if there is no database.
    pub fn generation(&self) -> &str {
        &self.generation
    }

    /// All sources, in the order of their names.
    pub fn status(&self) -> &[SourceStatus] {
        &self.status
    }

    /// The sources of advisories without a usable generation. As long as one exists, no image with packages that it
    /// covers is clean.
    pub fn unusable(&self) -> impl Iterator<Item = &SourceStatus> {
        let advisories = self.status.iter().filter(|source| source.has_advisories());
        advisories.filter(|source| matches!(source.state, SourceState::Unusable { .. }))
    }

    /// Adds the configured sources of advisories that were never fetched, as unusable sources: their advisories are
    /// unknown. Each is a kind with an image reference, or a URL as it is shown. An import of the same data counts as
    /// fetched.
    pub fn expect(&mut self, sources: &[(DatabaseKind, String)]) {
        for (kind, from) in sources {
            if is_fetched(&self.status, *kind, from) {
                continue;
            }
            let problem = "it is configured but has not been fetched yet; run `pullgate db update`".to_owned();
            tracing::error!(source = from, "an advisory database is configured but has not been fetched yet");
            let state = SourceState::Unusable { problem };
            self.status.push(SourceStatus { source: from.clone(), state, generation: None, previous: None });
        }
    }

    /// When the oldest database of advisories in use was built.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.advisories().map(|database| database.built).min()
    }

    /// The newest database of advisories in use.
    pub fn newest(&self) -> Option<DatedDatabase> {
        self.advisories().max_by_key(|database| database.built)
    }

    /// The databases of advisories in use, by name.
    pub fn advisories(&self) -> impl Iterator<Item = DatedDatabase> {
        self.status.iter().filter(|source| source.has_advisories()).filter_map(|source| {
            let built = source.generation.as_ref()?.built;
            Some(DatedDatabase { source: source.source.clone(), built })
        })
    }

    /// The trivy-db if asked for, and the indexes of OSV records at these places in [`osv`](Self::osv).
    pub(super) fn dated(&self, trivy: bool, osv: &BTreeSet<usize>) -> Vec<DatedDatabase> {
        // Both lists are in the order of the sources, and every open database has a generation.
        let (mut dated, mut place) = (Vec::new(), 0);
        for database in self.advisories() {
            let is_osv = DatabaseKind::Osv.is_name(&database.source);
            let is_wanted = if is_osv { osv.contains(&place) } else { trivy };
            place += usize::from(is_osv);
            if is_wanted {
                dated.push(database);
            }
        }
        dated
    }
}

/// Whether a database from this origin exists, usable or not.
pub fn is_fetched(known: &[SourceStatus], kind: DatabaseKind, from: &str) -> bool {
    let named = named_after(from);
    known.iter().any(|status| {
        let is_from = status.generation.as_ref().is_some_and(|generation| generation.from == from);
        kind.is_name(&status.source) && (kind != DatabaseKind::Osv || is_from || Some(&status.source) == named.as_ref())
    })
}

/// An open database.
pub(super) enum Open {
    Trivy(TrivyDb),
    Osv(OsvIndex),
    Java(JavaDb),
    Kev(CveTable),
    Epss(CveTable),
}

impl AdvisoryStore {
    /// Opens the generations in use, after their files have been compared with their digests: this reads all of them,
    /// about a second for each gigabyte. A damaged generation is replaced by the one before it, with an error in the
    /// log.
    ///
    /// # Errors
    /// The directory cannot be read. What is wrong with a source is in its [`SourceState`].
    pub fn load(&self) -> Result<Databases, DatabaseError> {
        let _lock = self.lock(FlockOperation::LockShared)?;
        let mut databases = Databases::default();
        let mut identity = String::new();
        for source in self.sources()? {
            let (status, open) = self.load_source(&source);
            if let Some(generation) = &status.generation {
                identity.push_str(&format!("{source}/{}\n", generation.id()));
            }
            match open {
                Some(Open::Trivy(database)) => databases.trivy = Some(Arc::new(database)),
                Some(Open::Osv(index)) => databases.osv.push(Arc::new(index)),
                Some(Open::Java(database)) => databases.java = Some(Arc::new(database)),
                Some(Open::Kev(table)) => databases.kev = Some(Arc::new(table)),
                Some(Open::Epss(table)) => databases.epss = Some(Arc::new(table)),
                None => {}
            }
            databases.status.push(status);
        }
        if !identity.is_empty() {
            databases.generation = Digest::sha256(identity.as_bytes()).short();
        }
        databases.details = Arc::new(DetailCache::new(databases.trivy.is_some(), !databases.osv.is_empty()));
        Ok(databases)
    }

    /// What is known about all sources, without reading their databases: a damaged file is not noticed, but an index
    /// that another version of this program made is.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn status(&self) -> Result<Vec<SourceStatus>, DatabaseError> {
        let _lock = self.lock(FlockOperation::LockShared)?;
        let status = |source: String| {
            let read = |generation: &str| {
                let manifest = self.manifest(&source, generation)?;
                if manifest.kind == DatabaseKind::Osv {
                    OsvIndex::open(&self.folder(&source, generation).join(INDEX))?;
                }
                Ok(manifest)
            };
            self.choose(&source, read, GenerationManifest::clone).0
        };
        Ok(self.sources()?.into_iter().map(status).collect())
    }

    fn load_source(&self, source: &str) -> (SourceStatus, Option<Open>) {
        let open = |generation: &str| {
            let manifest = self.verify(source, generation)?;
            let database = open(&self.folder(source, generation), manifest.kind)?;
            Ok((manifest, database))
        };
        let (status, chosen) = self.choose(source, open, |(manifest, _)| manifest.clone());
        match &status.state {
            SourceState::Ready => {}
            SourceState::Degraded { problem } => {
                tracing::error!(source, problem, "the advisory database is damaged; the previous one is in use");
            }
            SourceState::Unusable { problem } => {
                tracing::error!(source, problem, "the advisory database cannot be used");
            }
        }
        (status, chosen.map(|(_, database)| database))
    }

    /// The first of a source's generations that `open` can open, newest first.
    fn choose<T>(
        &self,
        source: &str,
        open: impl Fn(&str) -> Result<T, DatabaseError>,
        manifest: impl Fn(&T) -> GenerationManifest,
    ) -> (SourceStatus, Option<T>) {
        let mut status = SourceStatus {
            source: source.to_owned(),
            state: SourceState::Unusable { problem: "there is no database".to_owned() },
            generation: None,
            previous: None,
        };
        let kept = match self.current(source) {
            Ok(kept) => kept.unwrap_or_default(),
            Err(error) => {
                status.state = SourceState::Unusable { problem: error.to_string() };
                return (status, None);
            }
        };
        if kept.current.is_empty() {
            return (status, None);
        }
        let previous = kept.previous.as_deref();
        let problem = match open(&kept.current) {
            Ok(opened) => {
                status.state = SourceState::Ready;
                status.generation = Some(manifest(&opened));
                status.previous = previous.and_then(|previous| self.manifest(source, previous).ok());
                return (status, Some(opened));
            }
            Err(error) => error.to_string(),
        };
        match previous.map(open) {
            Some(Ok(opened)) => {
                status.state = SourceState::Degraded { problem };
                status.generation = Some(manifest(&opened));
                (status, Some(opened))
            }
            _ => {
                status.state = SourceState::Unusable { problem };
                (status, None)
            }
        }
    }
}

/// The name of the source of a zip archive of OSV records: `osv-pypi` for `https://HOST/PyPI/all.zip`.
fn named_after(url: &str) -> Option<String> {
    let ecosystem = url.strip_suffix("/all.zip")?.rsplit('/').next()?;
    Some(source_of(&[ecosystem.to_owned()]))
}

/// Opens the database of a generation.
///
/// # Errors
/// A file is missing or damaged.
pub(super) fn open(folder: &Path, kind: DatabaseKind) -> Result<Open, DatabaseError> {
    Ok(match kind {
        DatabaseKind::TrivyDb => Open::Trivy(TrivyDb::open(folder)?),
        DatabaseKind::Epss => Open::Epss(CveTable::open(folder)?),
        DatabaseKind::JavaDb => Open::Java(JavaDb::open(folder)?),
        DatabaseKind::Kev => Open::Kev(CveTable::open(folder)?),
        DatabaseKind::Osv => Open::Osv(OsvIndex::open(&folder.join(INDEX))?),
    })
}
