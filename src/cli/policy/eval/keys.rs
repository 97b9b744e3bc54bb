//! The keys of a case. One that is not known may be meant to limit something, such as the end of an exemption.

use serde_json::Value;

use crate::markup::nearest;

const CASE: &[&str] = &["id", "expect", "namespace", "image", "digest", "now", "trust", "va", "history", "exemptions"];
const TRUST: &[&str] = &["signers", "simple", "error"];
const VA: &[&str] = &[
    "status",
    "why",
    "incomplete",
    "generated_at",
    "database_built",
    "feeds",
    "source",
    "checks_configuration",
    "past_support",
    "issues",
    "packages",
    "image",
];
const ISSUE: &[&str] = &[
    "id",
    "aliases",
    "kind",
    "severity",
    "severity_source",
    "ratings",
    "score",
    "epss",
    "exploited",
    "malicious",
    "exempt",
    "title",
    "published",
    "first_seen",
    "packages",
    "package",
    "purl",
    "installed",
    "version",
    "fixed",
    "fixed_version",
    "status",
    "path",
    "source",
    "source_version",
];
const AFFECTED: &[&str] = &[
    "name",
    "package",
    "purl",
    "installed",
    "version",
    "fixed",
    "fixed_version",
    "status",
    "path",
    "source",
    "source_version",
];
const PACKAGE: &[&str] = &[
    "name",
    "version",
    "purl",
    "source",
    "source_version",
    "licences",
    "licenses",
    "licence",
    "license",
    "published",
    "path",
];
const IMAGE: &[&str] = &["created", "end_of_life", "distribution", "base", "claimed_base"];
const BASE: &[&str] = &["name", "digest"];
const FEEDS: &[&str] = &["kev", "epss"];
const HISTORY: &[&str] = &["known_since", "admitted_since", "first_seen", "seen_in_repository"];
const EXEMPTION: &[&str] = &[
    "scope",
    "account_id",
    "issue_type",
    "type",
    "issue_id",
    "issue",
    "id",
    "package",
    "expires",
    "until",
    "reason",
    "by",
];
const SCOPE: &[&str] = &["scope_type", "registry", "namespace", "repository", "tag"];

/// Checks the keys of a case. Other keys are allowed unless they nearly match one of the case's own keys.
///
/// # Errors
/// The first key that is not known.
pub(super) fn check(case: &Value) -> Result<(), String> {
    let Some(members) = case.as_object() else { return Ok(()) };
    for key in members.keys().filter(|key| !CASE.contains(&key.as_str())) {
        // A short key resembles others by chance: `note` is not a mistaken `now`. In other letters it is one.
        let same = CASE.iter().copied().find(|known| known.eq_ignore_ascii_case(key));
        let near = || nearest(key, CASE).filter(|_| key.len() > 4);
        if let Some(known) = same.or_else(near) {
            return Err(format!("unknown key {key:?}; did you mean {known:?}?"));
        }
    }
    known(&case["trust"], "trust", TRUST)?;
    known(&case["history"], "history", HISTORY)?;
    let va = &case["va"];
    known(va, "va", VA)?;
    known(&va["image"], "image", IMAGE)?;
    for bases in ["base", "claimed_base", "claimedBase"].map(|name| &va["image"][name]) {
        known(bases, "base", BASE)?;
        each(bases, |base| known(base, "base", BASE))?;
    }
    known(&va["feeds"], "feeds", FEEDS)?;
    each(&va["packages"], |package| known(package, "a package", PACKAGE))?;
    each(&va["issues"], |issue| {
        known(issue, "an issue", ISSUE)?;
        each(&issue["packages"], |package| known(package, "a package of an issue", AFFECTED))
    })?;
    each(&case["exemptions"], |exemption| {
        known(exemption, "an exemption", EXEMPTION)?;
        known(&exemption["scope"], "a scope", SCOPE)
    })
}

fn each(list: &Value, check: impl Fn(&Value) -> Result<(), String>) -> Result<(), String> {
    list.as_array().into_iter().flatten().try_for_each(check)
}

fn known(object: &Value, what: &str, keys: &[&str]) -> Result<(), String> {
    let unknown =
        object.as_object().into_iter().flatten().map(|(key, _)| key).find(|key| !keys.contains(&&*snake(key)));
    match unknown {
        Some(key) => Err(format!("unknown key {key:?} in {what}; known: {}", keys.join(", "))),
        None => Ok(()),
    }
}

/// `generatedAt` as `generated_at`.
fn snake(key: &str) -> String {
    let mut snake = String::with_capacity(key.len() + 2);
    for character in key.chars() {
        if character.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::json;

    use super::super::case::{
        CaseAffected, CaseBase, CaseFeeds, CaseHistory, CaseImage, CasePackage, CaseTrust, CaseVa, EvalCase,
        FullExemption, FullIssue,
    };
    use super::super::exemptions::CaseScope;
    use super::*;

    /// `generated_at` as `generatedAt`.
    fn camel(key: &str) -> String {
        let (first, rest) = key.split_once('_').map_or((key, None), |(first, rest)| (first, Some(rest)));
        let capital = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
        first.to_owned() + &rest.into_iter().flat_map(|rest| rest.split('_')).map(capital).collect::<String>()
    }

    /// Checks that each of these keys is read: no value may be this one, and a key that is not read may have any.
    fn are_read<T: DeserializeOwned>(least: &Value, keys: &[&str]) {
        assert!(serde_json::from_value::<T>(least.clone()).is_ok(), "{least}");
        for name in keys.iter().flat_map(|key| [(*key).to_owned(), camel(key)]) {
            let mut object = least.clone();
            object[&name] = json!([[[]]]);
            assert!(serde_json::from_value::<T>(object).is_err(), "{name} is known, and nothing reads it");
        }
    }

    fn without(keys: &[&'static str], others: &[&str]) -> Vec<&'static str> {
        keys.iter().filter(|key| !others.contains(key)).copied().collect()
    }

    /// Otherwise a part of a case would be ignored without a word.
    #[test]
    fn every_known_key_is_read() {
        // The identifier may be anything, and what is expected is compared with the answer.
        are_read::<EvalCase>(&json!({"image": "a"}), &without(CASE, &["id", "expect"]));
        are_read::<CaseTrust>(&json!({}), TRUST);
        are_read::<CaseVa>(&json!({}), VA);
        are_read::<FullIssue>(&json!({"id": "a"}), ISSUE);
        are_read::<CaseAffected>(&json!({}), AFFECTED);
        are_read::<CasePackage>(&json!({}), PACKAGE);
        are_read::<CaseImage>(&json!({}), IMAGE);
        are_read::<CaseBase>(&json!({"name": "a"}), BASE);
        are_read::<CaseFeeds>(&json!({}), FEEDS);
        are_read::<CaseHistory>(&json!({}), HISTORY);
        // These say who decided, and why, and change nothing.
        are_read::<FullExemption>(&json!({}), &without(EXEMPTION, &["reason", "by"]));
        are_read::<CaseScope>(&json!({"scope_type": "account"}), &without(SCOPE, &["scope_type"]));
    }
}
