//! What a document is, by `apiVersion` and `kind`, and whose it is. A document that may be a policy and is not read as
//! one is an error, for it would vanish without a word; anything else is skipped with a note.

use std::sync::Arc;

use super::super::problem::Reporter;
use super::super::ruleset::DEFAULT_NAMESPACE;
use super::super::yaml::{Node, Position, Value};
use super::fields::Fields;
use super::spelling::{distance, nearest};
use crate::scope::Scope;

/// How a policy document is to be read.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Dialect {
    /// `securityenforcement.admission.cloud.ibm.com/v1beta1`, with what Portieris added to it before 0.10.
    Cise,
    /// `portieris.cloud.ibm.com/v1`.
    Portieris,
    /// `pullgate.io/v1`.
    Pullgate,
}

impl Dialect {
    const ALL: [(&'static str, Self); 3] = [
        ("securityenforcement.admission.cloud.ibm.com/v1beta1", Self::Cise),
        ("portieris.cloud.ibm.com/v1", Self::Portieris),
        ("pullgate.io/v1", Self::Pullgate),
    ];

    fn of(api_version: &str) -> Option<Self> {
        Self::ALL.iter().find(|(name, _)| *name == api_version).map(|(_, dialect)| *dialect)
    }
}

/// API groups of others with kinds of the same names.
const FOREIGN_GROUPS: [&str; 2] = ["config.openshift.io", "policy.sigstore.dev"];

/// What the API server writes into metadata, and what is for people or other tools.
const IGNORED_METADATA: &[&str] = &[
    "annotations",
    "clusterName",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// The documents that matter.
#[derive(Debug, Default)]
pub(super) struct Found<'a> {
    pub(super) policies: Vec<PolicyObject<'a>>,
    pub(super) secrets: Vec<SecretObject<'a>>,
}

/// A policy document.
#[derive(Debug)]
pub(super) struct PolicyObject<'a> {
    pub(super) dialect: Dialect,
    pub(super) name: &'a str,
    /// `None` for a ClusterImagePolicy.
    pub(super) namespace: Option<Arc<str>>,
    pub(super) spec: Option<Fields<'a>>,
    pub(super) at: Position,
    pub(super) report: Reporter<'a>,
}

impl PolicyObject<'_> {
    /// Kind and name.
    pub(super) fn label(&self) -> String {
        format!("{}/{}", if self.namespace.is_some() { "ImagePolicy" } else { "ClusterImagePolicy" }, self.name)
    }

    /// What a cluster keeps only one of.
    pub(super) fn identity(&self) -> (Dialect, Option<Arc<str>>, &str) {
        (self.dialect, self.namespace.clone(), self.name)
    }

    /// File and line.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.report.file(), self.at.line)
    }
}

/// A `Secret` document.
#[derive(Debug)]
pub(super) struct SecretObject<'a> {
    pub(super) namespace: String,
    pub(super) name: &'a str,
    pub(super) fields: Fields<'a>,
}

/// Puts a document where it belongs.
pub(super) fn sort<'a>(root: &'a Node, report: Reporter<'a>, found: &mut Found<'a>) {
    sort_as(root, None, report, found);
}

/// `inherited` is what the items of a typed list are, where they do not say it themselves.
fn sort_as<'a>(root: &'a Node, inherited: Option<(&'a str, &'a str)>, report: Reporter<'a>, found: &mut Found<'a>) {
    let Some(fields) = Fields::of(root, "a document", report) else { return };
    let says = fields.get("apiVersion").is_some() || fields.get("kind").is_some();
    let (api, kind) = match (fields.text("apiVersion"), fields.text("kind")) {
        (Some(api), Some(kind)) => (api, kind),
        _ if inherited.is_some() && !says => inherited.unwrap_or_default(),
        _ => return untyped(&fields),
    };
    let dialect = Dialect::of(api);
    match (dialect, api, kind) {
        (Some(_), _, "ClusterImagePolicyList" | "ImagePolicyList") | (None, "v1", "List" | "SecretList") => {
            let item = kind.strip_suffix("List").filter(|item| !item.is_empty()).map(|item| (api, item));
            fields.list("items").iter().for_each(|root| sort_as(root, item, report, found));
        }
        (Some(dialect), _, "ClusterImagePolicy" | "ImagePolicy") => {
            refuse_merge_keys(root, report);
            found.policies.extend(policy(dialect, kind, fields));
        }
        (None, "v1", "Secret") => {
            refuse_merge_keys(root, report);
            found.secrets.extend(secret(fields));
        }
        _ => other(api, kind, &fields),
    }
}

/// A document that does not say what it is. One that could be a policy must not be passed over.
fn untyped(fields: &Fields<'_>) {
    let suspicious = |entry: &&super::super::yaml::Entry| {
        entry.merge || ["spec", "repositories", "items", "apiVersion", "kind"].contains(&&*entry.key)
    };
    match fields.entries().iter().find(suspicious) {
        Some(_) => fields.report.error(fields.at, "a document needs apiVersion and kind"),
        None => fields.report.note(fields.at, "no Kubernetes object: skipped"),
    }
}

/// Merge keys are read differently by different parsers (go-yaml v2 lets a later one override, v3 does not).
fn refuse_merge_keys(root: &Node, report: Reporter<'_>) {
    if let Some(at) = root.merge_key() {
        report.error_hint(at, "merge keys (<<) are not read in policies", "write the keys out");
    }
}

/// Neither ours nor a secret: skipped, unless it may be a policy that was meant for us.
fn other(api: &str, kind: &str, fields: &Fields<'_>) {
    let report = fields.report;
    let group = api.split('/').next().unwrap_or_default();
    let known = || Dialect::ALL.map(|(name, _)| name).join(", ");
    if Dialect::of(api).is_some() {
        let hint = "the kinds are ClusterImagePolicy and ImagePolicy";
        report.error_hint(fields.at, format!("unknown kind {kind:?} of {api}"), hint);
    } else if let Some(meant) = meant_api(api) {
        report.error_hint(fields.at, format!("unknown apiVersion {api:?}"), format!("did you mean {meant:?}?"));
    } else if FOREIGN_GROUPS.contains(&group) {
        let name = fields.get("metadata").and_then(|metadata| metadata.find("name")).and_then(Node::as_text);
        let name = name.unwrap_or_default();
        report.warn(fields.at, format!("{kind}/{name} of {api} is not read"), format!("read are: {}", known()));
    } else if looks_like_policy(kind) {
        let message = format!("apiVersion {api:?} has no kind {kind:?} that is known here");
        report.error_hint(fields.at, message, format!("use one of {}", known()));
    } else if fields.get("items").is_some_and(holds_policy) {
        let hint = "a list is apiVersion: v1, kind: List";
        report.error_hint(fields.at, format!("{kind:?} of {api} is no list, but holds a policy"), hint);
    } else {
        report.note(fields.at, format!("{kind} is no policy: skipped"));
    }
}

fn holds_policy(items: &Node) -> bool {
    match &items.value {
        Value::List(items) => {
            items.iter().any(|item| item.find("kind").and_then(Node::as_text).is_some_and(looks_like_policy))
        }
        _ => false,
    }
}

/// The `apiVersion` that was meant: another version of one of ours, or one that differs by a few characters.
fn meant_api(api: &str) -> Option<&'static str> {
    let names = Dialect::ALL.map(|(name, _)| name);
    let group = |name: &'static str| name.split('/').next().unwrap_or_default();
    let lower = api.to_ascii_lowercase();
    let same = |name: &&'static str| {
        let word = group(name).split('.').next().unwrap_or_default();
        distance(lower.split('/').next().unwrap_or_default(), group(name)) <= 3 || lower.contains(word)
    };
    nearest(api, &names).or_else(|| names.into_iter().find(same))
}

fn looks_like_policy(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    ["clusterimagepolicy", "imagepolicy"].iter().any(|ours| distance(&kind, ours) <= 3)
}

fn policy<'a>(dialect: Dialect, kind: &str, fields: Fields<'a>) -> Option<PolicyObject<'a>> {
    fields.only(&["apiVersion", "kind", "metadata", "spec", "status"]);
    let metadata = metadata(&fields)?;
    let namespace = if kind == "ImagePolicy" { Some(namespace(&metadata)?) } else { None };
    if namespace.is_none() && metadata.get("namespace").is_some() {
        let hint = "kind: ImagePolicy is for one namespace";
        metadata.report.warn(metadata.at, "a ClusterImagePolicy has no namespace: this one is ignored", hint);
    }
    Some(PolicyObject {
        dialect,
        name: metadata.required("name").filter(|name| is_object_name(name, &metadata))?,
        namespace,
        spec: fields.map("spec"),
        at: fields.at,
        report: fields.report,
    })
}

fn secret(fields: Fields<'_>) -> Option<SecretObject<'_>> {
    let metadata = metadata(&fields)?;
    let name = metadata.required("name").filter(|name| is_object_name(name, &metadata))?;
    Some(SecretObject { namespace: namespace(&metadata)?.as_ref().into(), name, fields })
}

fn metadata<'a>(fields: &Fields<'a>) -> Option<Fields<'a>> {
    let Some(metadata) = fields.map("metadata") else {
        fields.report.error(fields.at, "metadata with a name is missing");
        return None;
    };
    metadata.only(IGNORED_METADATA);
    Some(metadata)
}

/// RFC 1123 subdomain, as the API server demands; names are printed in messages and header lines.
fn is_object_name(name: &str, metadata: &Fields<'_>) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    let valid = name.len() <= 253 && name.split('.').all(part);
    if !valid {
        metadata.report.error(metadata.at, format!("{name:?} is no name of a Kubernetes object"));
    }
    valid
}

/// The namespace; `default` where none is named, as kubectl does it.
fn namespace(metadata: &Fields<'_>) -> Option<Arc<str>> {
    let Some(name) = metadata.text("namespace") else {
        let message = format!("metadata names no namespace: taken as {DEFAULT_NAMESPACE:?}, as kubectl would");
        metadata.report.note(metadata.at, message);
        return Some(DEFAULT_NAMESPACE.into());
    };
    match name.parse::<Scope>() {
        Ok(scope) if scope != Scope::CLUSTER => Some(name.into()),
        _ => {
            metadata.report.error(metadata.at, format!("{name:?} is no namespace"));
            None
        }
    }
}
