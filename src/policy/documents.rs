//! Policy documents become rules: three dialects, one typed rule, and all problems at once.
//!
//! Nothing is read from disk here: texts come as [`Source`]s, key files and secrets through [`Materials`]. A rule set is
//! made only when no document has an error, so that a mistake never makes a policy vanish.

mod authority;
mod envelope;
mod fields;
mod ibm;
mod lint;
mod material;
mod native;
mod secrets;
mod shadow;
mod simple;
mod spelling;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use envelope::{Dialect, Found, PolicyObject};
use secrets::Secrets;

use super::problem::{Problem, Problems, Reporter};
use super::rule::{Authority, Mode};
use super::ruleset::{RuleSet, RuleSetBuilder};
use super::yaml::{self, Position};

/// The authority that every configuration has: Docker Content Trust, signed by anyone.
pub(super) const NOTARY: &str = "notary";

/// A document file, read whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Source {
    /// What problems call it.
    pub path: String,
    /// Its text: any number of YAML documents, or JSON. At most 1 MiB.
    pub text: String,
}

/// Where key files and secrets come from.
pub trait Materials {
    /// The bytes of a file that a document names, its path as written there.
    ///
    /// # Errors
    /// Why it cannot be read, for the problem's message.
    fn file(&self, path: &str) -> Result<Vec<u8>, String>;

    /// The data of a secret that is kept outside of the documents.
    fn secret(&self, namespace: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>>;

    /// The namespaces that have such secrets. A cluster-wide IBM document names secrets of the namespace that asks, so
    /// it means something else in each of them.
    fn secret_namespaces(&self) -> Vec<String>;
}

/// No files and no secrets.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMaterials;

impl Materials for NoMaterials {
    fn file(&self, _: &str) -> Result<Vec<u8>, String> {
        Err("no files are to be had here".into())
    }

    fn secret(&self, _: &str, _: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        None
    }

    fn secret_namespaces(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What the configuration says about documents.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Names of authorities of which any one satisfies a bare `trust.enabled: true` of the IBM dialects. `notary` is
    /// Docker Content Trust.
    pub default_authorities: Vec<String>,
    /// Authorities of the configuration, which documents may name.
    pub authorities: Vec<Arc<Authority>>,
    /// Whether `va.enabled: true` of the IBM dialects counts only issues with a published fix, as IBM's own advisor
    /// reports them.
    pub ibm_fixable_only: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { default_authorities: vec![NOTARY.into()], authorities: Vec::new(), ibm_fixable_only: false }
    }
}

/// What a reading gives.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The rules; `None` where a problem is an error.
    pub rules: Option<RuleSet>,
    /// Everything there is to say, in the order of files and lines.
    pub problems: Vec<Problem>,
    /// What each source holds, in their order.
    pub files: Vec<ParsedFile>,
}

/// What one source holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParsedFile {
    /// The source's path.
    pub path: String,
    /// How many documents, of whatever kind.
    pub documents: usize,
    /// How many policies, those in lists included.
    pub policies: usize,
}

impl RuleSet {
    /// Reads documents. Every problem of every file is reported; there are rules only when none of them is an error.
    pub fn parse(sources: &[Source], materials: &dyn Materials, settings: &Settings) -> Parsed {
        let problems = Problems::default();
        check_settings(settings, &problems);
        let files: Vec<_> = sources.iter().map(|source| (&*source.path, read(source, &problems))).collect();
        let mut found = Found::default();
        let mut held = Vec::with_capacity(files.len());
        for (path, roots) in &files {
            let before = found.policies.len();
            roots.iter().for_each(|root| envelope::sort(root, Reporter::new(path, &problems), &mut found));
            let policies = found.policies.len() - before;
            held.push(ParsedFile { path: (*path).to_owned(), documents: roots.len(), policies });
        }
        let secrets = Secrets::read(&found.secrets, materials);
        let rules = rules(&found.policies, &Context { materials, secrets, settings });
        Parsed { rules: (!problems.any_error()).then_some(rules), problems: problems.into_sorted(), files: held }
    }
}

impl Authority {
    /// Reads an authority of the configuration: its name, and its table (`cosign: …`, `notation: …`, `notary: …` or
    /// `gpg: …`) as JSON. It is written as in `pullgate.io/v1` documents.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(name: &str, json: &str, materials: &dyn Materials) -> Result<Self, Vec<Problem>> {
        authority::of_configuration(name, json, materials)
    }
}

/// What documents may refer to.
struct Context<'a> {
    materials: &'a dyn Materials,
    secrets: Secrets<'a>,
    settings: &'a Settings,
}

fn check_settings(settings: &Settings, problems: &Problems) {
    let report = Reporter::new("configuration", problems);
    let place = Position::default();
    for name in &settings.default_authorities {
        if name != NOTARY && !settings.authorities.iter().any(|authority| authority.name() == name) {
            report.error(place, format!("trust.default_authorities names {name:?}, which is no authority"));
        }
    }
    if settings.authorities.iter().any(|authority| authority.name() == NOTARY) {
        report.error(place, "an authority may not be called \"notary\": that is Docker Content Trust");
    }
}

fn read(source: &Source, problems: &Problems) -> Vec<yaml::Node> {
    let (roots, faults) = yaml::parse(&source.text);
    let report = Reporter::new(&source.path, problems);
    faults.into_iter().for_each(|fault| report.error(fault.at, fault.message));
    roots
}

fn rules(policies: &[PolicyObject<'_>], context: &Context<'_>) -> RuleSet {
    let mut builder = RuleSetBuilder::default();
    let mut seen = HashMap::new();
    for policy in policies {
        if let Some(first) = seen.insert(policy.identity(), policy) {
            policy.report.error_hint(
                policy.at,
                format!("{} stands twice: also at {}", policy.label(), first.place()),
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
    builder.build()
}

#[cfg(test)]
mod tests;
