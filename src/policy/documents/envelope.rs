//! The kind of a document, by `apiVersion` and `kind`, and its Kubernetes namespace. A document that may be a policy
//! but is not read as one is an error, because it would be dropped silently; anything else is skipped with a note.

use std::sync::Arc;

use super::super::rules::ruleset::DEFAULT_NAMESPACE;
use crate::markup::{Fields, Member, Node, Place, Problems, Value, distance, nearest, refuse_merge_keys};
use crate::scope::Scope;

/// The dialect of a policy document.
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

/// The keys of metadata: what the API server writes, and what is for people or other tools.
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

/// The documents of interest.
#[derive(Debug, Default)]
pub(super) struct FoundDocuments<'a> {
    pub(super) policies: Vec<PolicyObject<'a>>,
    pub(super) secrets: Vec<SecretObject<'a>>,
    pub(super) exemptions: Vec<ExemptionObject<'a>>,
}

impl FoundDocuments<'_> {
    /// The number of policies and exemptions.
    pub(super) fn len(&self) -> usize {
        self.policies.len() + self.exemptions.len()
    }
}

/// A policy document.
#[derive(Debug)]
pub(super) struct PolicyObject<'a> {
    pub(super) dialect: Dialect,
    pub(super) name: &'a str,
    /// `None` for a ClusterImagePolicy.
    pub(super) namespace: Option<Arc<str>>,
    pub(super) spec: Option<Fields<'a>>,
    pub(super) at: Place,
    pub(super) problems: &'a Problems,
}

impl PolicyObject<'_> {
    /// Kind and name.
    pub(super) fn label(&self) -> String {
        format!("{}/{}", if self.namespace.is_some() { "ImagePolicy" } else { "ClusterImagePolicy" }, self.name)
    }

    /// Warns of a document without entries.
    pub(super) fn warn_no_entries(&self, at: Place, hint: &str) {
        self.problems.warn(at, format!("{} has no repositories: it matches nothing", self.label()), hint);
    }

    /// What is unique in a cluster.
    pub(super) fn identity(&self) -> (Dialect, Option<Arc<str>>, &str) {
        (self.dialect, self.namespace.clone(), self.name)
    }

    /// File and line.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.problems.name(self.at.file), self.at.line)
    }
}

/// An `Exemption` document.
#[derive(Debug)]
pub(super) struct ExemptionObject<'a> {
    pub(super) name: &'a str,
    pub(super) spec: Fields<'a>,
}

/// A `Secret` document.
#[derive(Debug)]
pub(super) struct SecretObject<'a> {
    pub(super) namespace: String,
    pub(super) name: &'a str,
    pub(super) fields: Fields<'a>,
}

/// Sorts a document by its kind.
pub(super) fn sort<'a>(root: &'a Node, problems: &'a Problems, found: &mut FoundDocuments<'a>) {
    sort_as(root, None, problems, found);
}

/// `inherited` is the type of a list's items, for items without their own type.
fn sort_as<'a>(
    root: &'a Node,
    inherited: Option<(&'a str, &'a str)>,
    problems: &'a Problems,
    found: &mut FoundDocuments<'a>,
) {
    let Some(fields) = Fields::of(root, "a document", problems) else { return };
    let says = fields.get("apiVersion").is_some() || fields.get("kind").is_some();
    let (api, kind) = match (fields.text("apiVersion"), fields.text("kind")) {
        (Some(api), Some(kind)) => (api, kind),
        _ if inherited.is_some() && !says => inherited.unwrap_or_default(),
        _ => return untyped(&fields),
    };
    let dialect = Dialect::of(api);
    match (dialect, api, kind) {
        (Some(_), _, "ClusterImagePolicyList" | "ImagePolicyList")
        | (Some(Dialect::Pullgate), _, "ExemptionList")
        | (None, "v1", "List" | "SecretList") => {
            let item = kind.strip_suffix("List").filter(|item| !item.is_empty()).map(|item| (api, item));
            fields.list("items").iter().for_each(|root| sort_as(root, item, problems, found));
        }
        (Some(dialect), _, "ClusterImagePolicy" | "ImagePolicy") => {
            refuse_merge_keys(root, problems);
            found.policies.extend(policy(dialect, kind, &fields));
        }
        (Some(Dialect::Pullgate), _, "Exemption") => {
            refuse_merge_keys(root, problems);
            found.exemptions.extend(exemption(&fields));
        }
        (None, "v1", "Secret") => {
            refuse_merge_keys(root, problems);
            found.secrets.extend(secret(fields));
        }
        _ => other(api, kind, &fields),
    }
}

/// A document without a type. One that could be a policy must not be skipped.
fn untyped(fields: &Fields<'_>) {
    let suspicious = |entry: &&Member| {
        entry.merge.is_some() || ["spec", "repositories", "items", "apiVersion", "kind"].contains(&&*entry.key)
    };
    match fields.members().iter().find(suspicious) {
        Some(_) => fields.error("a document needs apiVersion and kind"),
        None => fields.problems.note(fields.at, "not a Kubernetes object: skipped"),
    }
}

/// A document that is neither ours nor a secret: skipped, unless it may be a policy meant for pullgate.
fn other(api: &str, kind: &str, fields: &Fields<'_>) {
    let problems = fields.problems;
    let group = api.split('/').next().unwrap_or_default();
    let known = || Dialect::ALL.map(|(name, _)| name).join(", ");
    if Dialect::of(api).is_some() {
        let hint = "the kinds are ClusterImagePolicy and ImagePolicy, and Exemption in pullgate.io/v1";
        problems.error_hint(fields.at, format!("unknown kind {kind:?} of {api}"), hint);
    } else if let Some(meant) = meant_api(api) {
        problems.error_hint(fields.at, format!("unknown apiVersion {api:?}"), format!("did you mean {meant:?}?"));
    } else if FOREIGN_GROUPS.contains(&group) {
        let name = fields.get("metadata").and_then(|metadata| metadata.find("name")).and_then(Node::as_text);
        let name = name.unwrap_or_default();
        problems.warn(fields.at, format!("{kind}/{name} of {api} is ignored"), format!("supported: {}", known()));
    } else if looks_like_policy(kind) {
        let message = format!("apiVersion {api:?} has no kind {kind:?} that is supported");
        problems.error_hint(fields.at, message, format!("use one of {}", known()));
    } else if fields.get("items").is_some_and(holds_policy) {
        let hint = "a list is apiVersion: v1, kind: List";
        problems.error_hint(fields.at, format!("{kind:?} of {api} is not a list, but holds a policy"), hint);
    } else {
        problems.note(fields.at, format!("{kind} is not a policy: skipped"));
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

fn policy<'a>(dialect: Dialect, kind: &str, fields: &Fields<'a>) -> Option<PolicyObject<'a>> {
    fields.only(&["apiVersion", "kind", "metadata", "spec", "status"]);
    let metadata = metadata(fields)?;
    let namespace = if kind == "ImagePolicy" { Some(namespace(&metadata)?) } else { None };
    if namespace.is_none() && metadata.get("namespace").is_some() {
        let hint = "kind: ImagePolicy is for one namespace";
        metadata.warn("a ClusterImagePolicy has no namespace: this one is ignored", hint);
    }
    Some(PolicyObject {
        dialect,
        name: metadata.required("name").filter(|name| is_object_name(name, &metadata))?,
        namespace,
        spec: fields.map("spec"),
        at: fields.at,
        problems: fields.problems,
    })
}

/// An exemption applies to requests from all Kubernetes namespaces, so one that names a namespace would apply to more
/// than its author expects.
fn exemption<'a>(fields: &Fields<'a>) -> Option<ExemptionObject<'a>> {
    fields.only(&["apiVersion", "kind", "metadata", "spec", "status"]);
    let metadata = metadata(fields)?;
    if metadata.get("namespace").is_some() {
        let hint = "remove it; spec.scope says which images are exempt";
        metadata
            .error_hint("an Exemption is not in a Kubernetes namespace: it applies to requests from all of them", hint);
        return None;
    }
    let name = metadata.required("name").filter(|name| is_object_name(name, &metadata))?;
    fields.needs("spec")?;
    Some(ExemptionObject { name, spec: fields.map("spec")? })
}

fn secret(fields: Fields<'_>) -> Option<SecretObject<'_>> {
    let metadata = metadata(&fields)?;
    let name = metadata.required("name").filter(|name| is_object_name(name, &metadata))?;
    Some(SecretObject { namespace: namespace(&metadata)?.as_ref().into(), name, fields })
}

fn metadata<'a>(fields: &Fields<'a>) -> Option<Fields<'a>> {
    let Some(metadata) = fields.map("metadata") else {
        fields.error("metadata with a name is missing");
        return None;
    };
    metadata.only(IGNORED_METADATA);
    Some(metadata)
}

/// An RFC 1123 subdomain, as the API server requires; names are printed in messages and header lines.
fn is_object_name(name: &str, metadata: &Fields<'_>) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    let valid = name.len() <= 253 && name.split('.').all(part);
    if !valid {
        metadata.error(format!("{name:?} is not a valid name of a Kubernetes object"));
    }
    valid
}

/// The namespace; `default` if none is named, as in kubectl.
fn namespace(metadata: &Fields<'_>) -> Option<Arc<str>> {
    let Some(name) = metadata.text("namespace") else {
        let message = format!("metadata names no namespace: {DEFAULT_NAMESPACE:?} is used, as by kubectl");
        metadata.problems.note(metadata.at, message);
        return Some(DEFAULT_NAMESPACE.into());
    };
    match name.parse::<Scope>() {
        Ok(scope) if scope != Scope::CLUSTER => Some(name.into()),
        _ => {
            metadata.error(format!("{name:?} is not a valid namespace"));
            None
        }
    }
}
