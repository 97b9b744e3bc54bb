//! The exemptions of a case.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::case::{CaseExemption, EvalCase, FullExemption};
use crate::policy::{ExemptedImage, ExemptionRecord, ExemptionScope, ExemptionSet, IssueType, Selected, VaExemptions};

/// The exemptions of a case and of the documents that apply to an image. Those of another account of IBM than the
/// rule's do not apply.
///
/// # Errors
/// What is wrong with an exemption of the case.
pub(super) fn of(
    case: &EvalCase,
    documents: &ExemptionSet,
    image: &ExemptedImage<'_>,
    selected: &Selected,
) -> Result<VaExemptions, String> {
    let account = selected.rule.as_ref().and_then(|rule| rule.va.as_ref()?.account.as_deref());
    let own = case.exemptions.iter().flatten().map(|one| exemption(one, account)).collect::<Result<Vec<_>, _>>()?;
    Ok(VaExemptions::for_image(&[documents, &own.into_iter().flatten().collect()], image))
}

fn exemption(exemption: &CaseExemption, account: Option<&str>) -> Result<Vec<ExemptionRecord>, String> {
    let everything = ExemptionScope::EVERYTHING;
    let records = match exemption {
        CaseExemption::Id(id) => ExemptionRecord::listed(&everything, None, Some(id), None, None),
        CaseExemption::Full(FullExemption { account_id, scope, issue_type, id, package, expires }) => {
            let scope = match scope {
                None => Ok(everything),
                Some(None) => return Err("the scope of an exemption is null; leave it out for every image".to_owned()),
                Some(Some(scope)) => scope.0.parse(),
            };
            let scope: ExemptionScope = scope.map_err(|error| format!("the scope of an exemption: {error}"))?;
            let expires = expires.as_ref().map(|expires| expires.0);
            // IBM's API names a package as the issue.
            let (id, package) = match (issue_type, package) {
                (Some(IssueType::Package), None) => (None, id.as_deref()),
                _ => (id.as_deref(), package.as_deref()),
            };
            let records = ExemptionRecord::listed(&scope, *issue_type, id, package, expires);
            let own = account_id.as_deref().filter(|own| !own.is_empty());
            let is_of_other = own.is_some_and(|own| account.is_some_and(|account| account != own));
            records.map(|records| if is_of_other { Vec::new() } else { records })
        }
    };
    records.map_err(|error| format!("an exemption: {error}"))
}

/// The images that an exemption applies to: `birds/bluebird`, or a part of it, in the notation of IBM's API.
#[derive(Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct CaseScope(pub(super) String);

impl TryFrom<Value> for CaseScope {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value {
            Value::String(scope) => Ok(Self(scope)),
            object => {
                let parts: ScopeParts = serde_json::from_value(object).map_err(|error| format!("scope: {error}"))?;
                parts.joined().map(Self)
            }
        }
    }
}

#[derive(Deserialize)]
struct ScopeParts {
    scope_type: String,
    #[serde(default, deserialize_with = "or_empty")]
    registry: String,
    #[serde(default, deserialize_with = "or_empty")]
    namespace: String,
    #[serde(default, deserialize_with = "or_empty")]
    repository: String,
    /// A tag, or a digest.
    #[serde(default, deserialize_with = "or_empty")]
    tag: String,
}

/// Some clients write null for a part that a scope does not have.
fn or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Option::<String>::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl ScopeParts {
    /// The parts that the type needs, which must be there, and no others.
    fn joined(&self) -> Result<String, String> {
        let Self { scope_type, registry, namespace, repository, tag } = self;
        let needed = match &**scope_type {
            "account" => 0,
            "namespace" => 1,
            "repository" => 2,
            "image" => 3,
            other => return Err(format!("scope_type {other:?} is not account, namespace, repository or image")),
        };
        for (at, (name, text)) in
            [("namespace", namespace), ("repository", repository), ("tag", tag)].iter().enumerate()
        {
            match (at < needed, text.is_empty()) {
                (true, true) => return Err(format!("a scope of type {scope_type} needs {name}")),
                (false, false) => return Err(format!("a scope of type {scope_type} has no {name}")),
                _ => {}
            }
        }
        let mark = if tag.contains(':') { "@" } else { ":" };
        let path = match needed {
            0 => "*".to_owned(),
            1 => namespace.clone(),
            2 => format!("{namespace}/{repository}"),
            _ => format!("{namespace}/{repository}{mark}{tag}"),
        };
        Ok(if registry.is_empty() { path } else { format!("{registry}/{path}") })
    }
}
