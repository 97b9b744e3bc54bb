//! Parses policy documents: three dialects produce the same typed rules, and all problems are reported together.
//!
//! This module does not read from disk. Documents are passed as [`Document`]s, and key files and secrets come from
//! [`Materials`]. A rule set is created only if no document has an error, so a mistake never removes a policy.

mod authority;
mod envelope;
mod exemption;
mod ibm;
mod ignore_files;
mod lint;
mod material;
mod native;
mod roots;
mod secrets;
mod shadow;
mod simple;
mod va;

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::sync::Arc;

use jiff::Timestamp;

use envelope::{Dialect, FoundDocuments};
pub use lint::can_be_an_image;
use secrets::Secrets;

use super::keys::trusted_root::TrustedRoot;
use super::rules::rule::Mode;
use super::rules::ruleset::{RuleSet, RuleSetBuilder};
use super::signatures::authority::{Authority, Canonical, NotaryRoot, NotaryTrust, Scheme};
use crate::markup::{Fields, Node, Place, Problem, Problems, read_yaml};

/// The authority that exists in every configuration: Docker Content Trust with any signer.
pub const NOTARY: &str = "notary";

/// The name that stands for no authority at all: `trust: reject` denies every image.
const REJECT: &str = "reject";

/// A text with policy documents from any source.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Document {
    /// The path that problems show: `policies/default.yaml`. It must be unique among the documents that are read
    /// together.
    pub path: String,
    /// Any number of YAML documents, or JSON. At most 1 MiB.
    pub text: String,
}

/// The source of key files and secrets.
pub trait Materials {
    /// The bytes of a file that the document at `document` references. `path` is the path as written in the document.
    ///
    /// # Errors
    /// The reason why the file cannot be read, for the problem's message.
    fn file(&self, document: &str, path: &str) -> Result<Vec<u8>, String>;

    /// When the content of such a file was last changed, if that is known.
    fn modified(&self, _document: &str, _path: &str) -> Option<Timestamp> {
        None
    }

    /// The names of the files in a directory that the document at `document` references, sorted, without hidden files.
    ///
    /// # Errors
    /// The reason why the directory cannot be read, for the problem's message.
    fn folder(&self, document: &str, path: &str) -> Result<Vec<OsString>, String>;

    /// The data of a secret that is stored outside the documents.
    fn secret(&self, namespace: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>>;

    /// The namespaces that have such secrets. A cluster-wide IBM document refers to secrets of the requesting
    /// namespace, so its meaning can differ between these namespaces.
    fn secret_namespaces(&self) -> Vec<String>;
}

/// An implementation without files and secrets.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMaterials;

impl Materials for NoMaterials {
    fn file(&self, _: &str, _: &str) -> Result<Vec<u8>, String> {
        Err("files are not available here".into())
    }

    fn folder(&self, _: &str, _: &str) -> Result<Vec<OsString>, String> {
        Err("files are not available here".into())
    }

    fn secret(&self, _: &str, _: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        None
    }

    fn secret_namespaces(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The name under which messages and [`Materials`] know the configuration, which is not a document.
pub const CONFIGURATION: &str = "configuration";

/// The configuration for reading documents.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The names of the default authorities. Any one of them satisfies a bare `trust.enabled: true` of the IBM
    /// dialects. `notary` is Docker Content Trust.
    pub default_authorities: Vec<String>,
    /// Authorities of the configuration. Documents can refer to them by name.
    pub authorities: Vec<Arc<Authority>>,
    /// The paths of the trusted roots for authorities that need one and name none.
    pub trusted_roots: Vec<String>,
    /// The paths of Trivy's ignore files, whose exemptions apply to all images.
    pub ignore_files: Vec<String>,
    /// Whether `va.enabled: true` of the IBM dialects counts only issues with a published fix, which matches the
    /// reports of IBM's own advisor.
    pub ibm_fixable_only: bool,
    /// Docker Content Trust of authorities that name neither a root nor what to do on the first use.
    pub notary: NotaryTrust,
    /// The time for warnings about keys whose validity has ended; `None` for no such warnings.
    pub now: Option<Timestamp>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default_authorities: vec![NOTARY.into()],
            authorities: Vec::new(),
            trusted_roots: Vec::new(),
            ignore_files: Vec::new(),
            ibm_fixable_only: false,
            notary: NotaryTrust::default(),
            now: None,
        }
    }
}

impl Settings {
    /// The canonical encoding: different settings have different encodings, in every process. Settings that only affect
    /// warnings are not part of it.
    pub fn encode(&self) -> Vec<u8> {
        // Without `..`, so that the compiler reports a new setting that is not encoded.
        let Self { default_authorities, authorities, trusted_roots, ignore_files, ibm_fixable_only, notary, now: _ } =
            self;
        let notary = Authority::new(NOTARY, Scheme::Notary(notary.clone()));
        Canonical::default()
            .set("default authorities", default_authorities)
            .set("authorities", authorities.iter().map(|authority| authority.id().to_string()))
            .set("trusted roots", trusted_roots)
            .set("ignore files", ignore_files)
            .set("ibm fixable only", ibm_fixable_only.then_some("yes"))
            .field("notary", notary.id().to_string())
            .0
    }
}

/// The result of reading documents.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The rules; `None` if any problem is an error.
    pub rules: Option<RuleSet>,
    /// All problems, ordered by file and line.
    pub problems: Vec<Problem>,
    /// The content of each document, in the order of the documents.
    pub files: Vec<ParsedFile>,
}

/// The content of one [`Document`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParsedFile {
    /// The path of the document.
    pub path: String,
    /// The number of YAML documents of any kind.
    pub documents: usize,
    /// The number of policies and exemptions, including those in lists.
    pub policies: usize,
}

impl RuleSet {
    /// Reads documents. Reports every problem of every document. Returns rules only if no problem is an error.
    pub fn parse(documents: &[Document], materials: &dyn Materials, settings: &Settings) -> Parsed {
        let problems = Problems::default();
        check_settings(settings, &problems);
        let read = |document: &Document| read_yaml(&document.text, problems.file(&document.path), &problems);
        let trees: Vec<Vec<Node>> = documents.iter().map(read).collect();
        let mut found = FoundDocuments::default();
        let mut files = Vec::with_capacity(documents.len());
        for (document, roots) in documents.iter().zip(&trees) {
            let before = found.len();
            roots.iter().for_each(|root| envelope::sort(root, &problems, &mut found));
            let policies = found.len() - before;
            files.push(ParsedFile { path: document.path.clone(), documents: roots.len(), policies });
        }
        // As a cluster lists them, so that the same policy wins among entries that are equally specific.
        found.policies.sort_by(|one, other| (&one.namespace, one.name).cmp(&(&other.namespace, other.name)));
        let secrets = Secrets::read(&found.secrets, materials);
        let context = Context::new(materials, secrets, settings, &problems);
        let rules = rules(&found, &context);
        drop(context);
        drop(found);
        Parsed { rules: (!problems.any_error()).then_some(rules), problems: problems.into_sorted(), files }
    }
}

impl Authority {
    /// Reads an authority of the configuration: its name and its mapping (`cosign: …`, `notation: …`, `notary: …` or
    /// `gpg: …`). The format is that of `pullgate.io/v1` documents without secrets. `notary` is what the configuration
    /// says about Docker Content Trust. Returns `None` after reporting an error.
    pub fn of_configuration(
        name: &str,
        fields: &Fields<'_>,
        materials: &dyn Materials,
        notary: &NotaryTrust,
    ) -> Option<Self> {
        authority::of_configuration(name, fields, materials).map(|authority| authority.with_notary_defaults(notary))
    }

    /// A placeholder for an authority whose mistakes were reported, so that references to it are not reported as well.
    /// `None` if no authority can have its name.
    pub fn with_mistake(name: &str) -> Option<Self> {
        let why = "its definition has a mistake".to_owned();
        (![NOTARY, REJECT].contains(&name)).then(|| Self::new(name, Scheme::Unusable { why }))
    }
}

impl NotaryRoot {
    /// Reads a root: a `root.json`, or certificates or public keys in PEM.
    ///
    /// # Errors
    /// What is wrong with it, never its content.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        material::notary_root(bytes)
    }
}

/// What documents can refer to.
struct Context<'a> {
    materials: &'a dyn Materials,
    problems: &'a Problems,
    secrets: Secrets<'a>,
    settings: &'a Settings,
    /// The trusted roots of the configuration.
    roots: Vec<TrustedRoot>,
    /// The authorities of the configuration, with these roots.
    authorities: Vec<Arc<Authority>>,
}

impl<'a> Context<'a> {
    fn new(materials: &'a dyn Materials, secrets: Secrets<'a>, settings: &'a Settings, problems: &'a Problems) -> Self {
        let roots = roots::read(settings, materials, problems);
        let place = Place::whole(problems.file("configuration"));
        let completed = |authority: &Arc<Authority>| {
            lint::validity(authority, settings.now, problems, place);
            Arc::new(roots::completed(authority, &roots, problems, place))
        };
        let authorities = settings.authorities.iter().map(completed).collect();
        Self { materials, problems, secrets, settings, roots, authorities }
    }
}

fn check_settings(settings: &Settings, problems: &Problems) {
    let place = Place::whole(problems.file("configuration"));
    for name in &settings.default_authorities {
        if name != NOTARY && !settings.authorities.iter().any(|authority| authority.name() == name) {
            problems.error(place, format!("trust.default_authorities: no authority is called {name:?}"));
        }
    }
    if settings.authorities.iter().any(|authority| authority.name() == NOTARY) {
        problems.error(place, "\"notary\" cannot be the name of an authority: it means Docker Content Trust");
    }
}

fn rules(found: &FoundDocuments<'_>, context: &Context<'_>) -> RuleSet {
    let policies = &found.policies;
    let mut builder = RuleSetBuilder::default();
    let mut seen = HashMap::new();
    for policy in policies {
        if let Some(first) = seen.insert(policy.identity(), policy) {
            policy.problems.error_hint(
                policy.at,
                format!("duplicate {}: also at {}", policy.label(), first.place()),
                "a cluster keeps only one of them; remove the other",
            );
        }
        let (mode, entries) = match policy.dialect {
            Dialect::Cise | Dialect::Portieris => (Mode::Enforce, ibm::entries(policy, context)),
            Dialect::Pullgate => native::entries(policy, context),
        };
        builder.add(policy.namespace.clone(), mode, entries);
    }
    shadow::check(policies);
    builder.exempt(exemption::all(&found.exemptions, context));
    builder.build()
}

#[cfg(test)]
mod tests;
