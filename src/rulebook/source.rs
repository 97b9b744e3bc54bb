//! Sources of policy documents, and what they hold at one moment.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;
use std::ffi::OsString;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::markup::Problem;
use crate::oci::{Algorithm, Digest, Hasher};
use crate::policy::{CONFIGURATION, Document, Materials};
use crate::runtime::Tasks;

/// A place that holds policy documents: a directory, or objects of an API.
pub trait DocumentSource: Send + Sync {
    /// The name of the source in messages: `directory /etc/pullgate/policies`.
    fn name(&self) -> String;

    /// Everything that the source holds at this moment. Blocks.
    ///
    /// # Errors
    /// If anything cannot be read completely: a policy that is skipped would be a hole.
    fn snapshot(&self) -> Result<Snapshot, DocumentSourceError>;

    /// Notifies `changed` after every change, from a task that ends at shutdown. It may notify without a change, which
    /// costs a reading.
    fn watch(&self, tasks: &Tasks, changed: Arc<Notify>);
}

/// Why a source cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DocumentSourceError(Box<dyn Error + Send + Sync>);

impl DocumentSourceError {
    /// The error of one kind of source.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(error.into())
    }
}

/// What a source holds at one moment.
pub struct Snapshot {
    /// The documents. Their paths give their place in the source, and begin with a prefix that identifies the source.
    pub documents: Vec<Document>,
    /// The files and secrets that documents may refer to.
    pub materials: Box<dyn Materials>,
    /// Warnings about parts of the source, other than documents, that may not have the intended effect.
    pub warnings: Vec<Problem>,
}

impl Snapshot {
    /// One snapshot of several sources. A document finds files in its own source, and secrets in all of them; if two
    /// sources have the same secret, the data of the first is used.
    pub(super) fn merge(snapshots: Vec<Self>) -> Self {
        let (mut documents, mut warnings) = (Vec::new(), Vec::new());
        let mut all = AllMaterials::default();
        for (source, snapshot) in snapshots.into_iter().enumerate() {
            all.owners.extend(snapshot.documents.iter().map(|document| (document.path.clone(), source)));
            documents.extend(snapshot.documents);
            warnings.extend(snapshot.warnings);
            all.of.push(snapshot.materials);
        }
        Self { documents, materials: Box::new(all), warnings }
    }
}

/// The materials of several sources.
#[derive(Default)]
struct AllMaterials {
    of: Vec<Box<dyn Materials>>,
    /// The source of each document, by its path.
    owners: HashMap<String, usize>,
}

impl AllMaterials {
    /// The materials of the source that holds a document. What the configuration names is read by the first source.
    fn owner(&self, document: &str) -> Result<&dyn Materials, String> {
        let source = match document {
            CONFIGURATION => self.of.first(),
            _ => self.owners.get(document).and_then(|owner| self.of.get(*owner)),
        };
        source.map(|source| &**source).ok_or_else(|| "this document is from no source".into())
    }
}

impl Materials for AllMaterials {
    fn file(&self, document: &str, path: &str) -> Result<Vec<u8>, String> {
        self.owner(document)?.file(document, path)
    }

    fn modified(&self, document: &str, path: &str) -> Option<Timestamp> {
        self.owner(document).ok()?.modified(document, path)
    }

    fn folder(&self, document: &str, path: &str) -> Result<Vec<OsString>, String> {
        self.owner(document)?.folder(document, path)
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        self.of.iter().find_map(|materials| materials.secret(namespace, name))
    }

    fn secret_namespaces(&self) -> Vec<String> {
        self.of.iter().flat_map(|materials| materials.secret_namespaces()).collect()
    }
}

/// Materials, and a digest of each file, directory and secret that was read from them.
pub(super) struct ReadMaterials<'a> {
    from: &'a dyn Materials,
    read: RefCell<BTreeSet<Digest>>,
}

impl<'a> ReadMaterials<'a> {
    pub(super) fn new(from: &'a dyn Materials) -> Self {
        Self { from, read: RefCell::default() }
    }

    /// Adds what was read to a hash, in whatever order it was read.
    pub(super) fn update(&self, hasher: &mut Hasher) {
        self.read.borrow().iter().for_each(|digest| hasher.update(digest.as_bytes()));
    }

    fn note<'b>(&self, kind: &str, names: [&str; 2], content: impl Iterator<Item = &'b [u8]>) {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut add = |part: &[u8]| {
            hasher.update(format!("{} ", part.len()).as_bytes());
            hasher.update(part);
        };
        [kind, names[0], names[1]].iter().for_each(|name| add(name.as_bytes()));
        content.for_each(add);
        self.read.borrow_mut().insert(hasher.finish());
    }
}

impl Materials for ReadMaterials<'_> {
    fn file(&self, document: &str, path: &str) -> Result<Vec<u8>, String> {
        let content = self.from.file(document, path)?;
        self.note("file", [document, path], std::iter::once(&*content));
        Ok(content)
    }

    fn modified(&self, document: &str, path: &str) -> Option<Timestamp> {
        self.from.modified(document, path)
    }

    fn folder(&self, document: &str, path: &str) -> Result<Vec<OsString>, String> {
        let names = self.from.folder(document, path)?;
        self.note("folder", [document, path], names.iter().map(|name| name.as_encoded_bytes()));
        Ok(names)
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        let data = self.from.secret(namespace, name)?;
        self.note("secret", [namespace, name], data.iter().flat_map(|(key, value)| [key.as_bytes(), value.as_slice()]));
        Some(data)
    }

    fn secret_namespaces(&self) -> Vec<String> {
        let namespaces = self.from.secret_namespaces();
        self.note("namespaces", ["", ""], namespaces.iter().map(String::as_bytes));
        namespaces
    }
}
