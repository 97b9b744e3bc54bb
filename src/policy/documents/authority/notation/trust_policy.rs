//! Trust policies: `trustpolicy.json` or `trustpolicy.oci.json` of notation's configuration directory, unchanged
//! (notaryproject specifications, trust-store-trust-policy.md, "OCI Trust Policy").

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Lookup, material};
use super::trust_store::{self, TrustStoreKind};
use super::{identities, read};
use crate::markup::{Fields, Node, Problems, read_yaml, text_of};
use crate::oci::{ImageName, ImageReference, is_registry};
use crate::policy::signatures::authority::{
    CheckAction, NotationChecks, NotationStatement, RegistryScope, StoredCertificate, TimestampRule,
};

/// The maximum number of statements in a trust policy.
const MAX_STATEMENTS: usize = 1000;

/// The checks that a level consists of, with their names in `override`.
const CHECKS: [&str; 4] = ["authenticity", "authenticTimestamp", "expiry", "revocation"];

/// The levels with what they do about [`CHECKS`] ("Signature Verification details"). `skip` is not among them.
const LEVELS: [(&str, [CheckAction; 4]); 3] = {
    use CheckAction::{Enforce, Log};
    [("strict", [Enforce; 4]), ("permissive", [Enforce, Log, Log, Log]), ("audit", [Log; 4])]
};

/// Where a trust policy and its trust stores are.
#[derive(Clone, Copy)]
struct PolicyFolder<'a> {
    /// The policy document that names them.
    document: &'a str,
    trust_store: &'a str,
    lookup: Lookup<'a>,
}

/// Reads the statements of the trust policy that an authority names.
pub(super) fn read(fields: &Fields<'_>, lookup: Lookup<'_>) -> Option<Vec<NotationStatement>> {
    fields.needs("trustPolicy")?;
    let source = fields.map("trustPolicy")?;
    let text = material(&source, read::plain_text, lookup)?;
    let document = fields.problems.name(fields.at.file);
    let trust_store = fields.required("trustStore")?;
    let name = source.text("file").map_or_else(|| format!("{document}: trustPolicy"), str::to_owned);
    let roots = read_yaml(&text, fields.problems.file(&name), fields.problems);
    let [root] = &roots[..] else {
        source.error("the trust policy must be one JSON object");
        return None;
    };
    let policy = Fields::of(root, "the trust policy", fields.problems)?;
    policy.only(&["version", "trustPolicies"]);
    if policy.required("version")? != "1.0" {
        policy.error_hint("the version of the trust policy is not supported", "write \"version\": \"1.0\"");
        return None;
    }
    let list = policy.maps("trustPolicies", "a trust policy statement");
    if list.is_empty() || list.len() > MAX_STATEMENTS {
        policy.error(format!("trustPolicies must have 1 to {MAX_STATEMENTS} statements"));
        return None;
    }
    let folder = PolicyFolder { document: &document, trust_store, lookup };
    let statements: Vec<_> = list.iter().map(|fields| statement(fields, folder)).collect::<Option<_>>()?;
    check_unique(&statements, &policy);
    Some(statements)
}

/// No two statements share a name or a scope.
fn check_unique(statements: &[NotationStatement], policy: &Fields<'_>) {
    let (mut names, mut scopes) = (BTreeSet::new(), BTreeMap::new());
    for statement in statements {
        let name = &*statement.name;
        if !names.insert(name) {
            policy.error(format!("two statements are called {name:?}"));
        }
        let own: Vec<_> = match &statement.scope {
            RegistryScope::All => vec!["*".to_owned()],
            RegistryScope::Repositories(names) => names.iter().map(ToString::to_string).collect(),
        };
        if let Some((other, scope)) = own.iter().find_map(|scope| Some((scopes.get(scope)?, scope))) {
            let hint = "one registry scope belongs to one statement";
            policy.error_hint(format!("the statements {other:?} and {name:?} share the scope {scope}"), hint);
        }
        scopes.extend(own.into_iter().map(|scope| (scope, name)));
    }
}

fn statement(fields: &Fields<'_>, folder: PolicyFolder<'_>) -> Option<NotationStatement> {
    fields.only(&["name", "registryScopes", "signatureVerification", "trustStores", "trustedIdentities"]);
    let name = fields.required("name")?;
    let scope = scope(fields)?;
    fields.needs("signatureVerification")?;
    let verification = fields.map("signatureVerification")?;
    verification.only(&["level", "override", "verifyTimestamp"]);
    let level = verification.required("level")?;
    if level == "skip" {
        skip(fields, &verification, &scope);
        return Some(NotationStatement { name: name.to_owned(), scope, checks: None });
    }
    let checks = checks(fields, &verification, level, folder)?;
    if checks.authenticity == CheckAction::Log {
        let message = format!("statement {name:?} has level {}: signatures by anyone count", checks.level);
        fields.warn(message, "use the level strict or permissive to enforce who signs");
    }
    Some(NotationStatement { name: name.to_owned(), scope, checks: Some(checks) })
}

/// A statement that requires no signature.
fn skip(fields: &Fields<'_>, verification: &Fields<'_>, scope: &RegistryScope) {
    if fields.get("trustStores").is_some() || fields.get("trustedIdentities").is_some() {
        fields.error("the level skip uses no trustStores and no trustedIdentities; remove them");
    }
    if verification.get("override").is_some() {
        verification.error("the level skip cannot be overridden");
    }
    match scope {
        RegistryScope::All => {
            let hint = "name the repositories, or use the level audit";
            verification.error_hint("the level skip cannot be used with the scope *", hint);
        }
        RegistryScope::Repositories(_) => {
            let hint = "images of its scopes need no signature of this authority";
            verification.warn("the level is skip", hint);
        }
    }
}

fn scope(fields: &Fields<'_>) -> Option<RegistryScope> {
    let list = fields.list("registryScopes");
    if list.is_empty() {
        fields.error("registryScopes is missing or empty");
        return None;
    }
    let is_all = |node: &Node| node.as_text() == Some("*");
    match list {
        [only] if is_all(only) => return Some(RegistryScope::All),
        _ if list.iter().any(is_all) => {
            fields.error("\"*\" must be the only registry scope");
            return None;
        }
        _ => {}
    }
    let names: Option<Vec<_>> = list.iter().map(|node| repository(node, fields.problems)).collect();
    Some(RegistryScope::Repositories(names?))
}

/// `HOST/REPOSITORY`, as the upstream's own name.
fn repository(node: &Node, problems: &Problems) -> Option<ImageName> {
    let text = text_of(node, "a registry scope", problems)?;
    let parsed = match text.split_once('/') {
        None => None,
        Some((host, _)) if is_registry(host) => {
            let plain = |image: &ImageReference| image.tag.is_none() && image.digest.is_none();
            text.parse::<ImageReference>().ok().filter(plain).map(|image| image.name)
        }
        // Not a short name of Docker Hub: scopes are fully qualified.
        Some((host, path)) => match (host.parse(), path.parse()) {
            (Ok(host), Ok(repository)) => Some(ImageName { host, repository }),
            _ => None,
        },
    };
    if parsed.is_none() {
        let hint = "write HOST/REPOSITORY without a scheme, tag or wildcard, such as docker.io/library/nginx";
        problems.error_hint(node.at, format!("{text:?} is not a registry scope"), hint);
    }
    parsed
}

fn checks(
    fields: &Fields<'_>,
    verification: &Fields<'_>,
    level: &str,
    folder: PolicyFolder<'_>,
) -> Option<NotationChecks> {
    let Some(&(_, mut actions)) = LEVELS.iter().find(|(known, _)| *known == level) else {
        let message = format!("level must be one of strict, permissive, audit, skip, not {level:?}");
        verification.error(message);
        return None;
    };
    let level = [level.to_owned(), overrides(verification, &mut actions)?].concat();
    let [authenticity, authentic_timestamp, expiry, revocation] = actions;
    let rules = [("always", TimestampRule::Always), ("afterCertExpiry", TimestampRule::AfterCertificateExpiry)];
    let timestamps = verification.choice("verifyTimestamp", &rules);
    let [authorities, signing_authorities, timestamp_authorities] = trust_stores(fields, folder)?;
    let identities_list = fields.list("trustedIdentities");
    if identities_list.is_empty() {
        let hint = "write \"x509.subject: C=…, ST=…, O=…\", or \"*\" for every certificate of the trust stores";
        fields.error_hint("trustedIdentities is missing or empty", hint);
        return None;
    }
    Some(NotationChecks {
        level,
        authenticity,
        authentic_timestamp,
        expiry,
        revocation,
        timestamps: timestamps.unwrap_or(TimestampRule::Always),
        authorities,
        signing_authorities,
        timestamp_authorities,
        identities: identities(identities_list, fields.problems)?,
    })
}

/// Applies `override`; returns it as text for messages.
fn overrides(verification: &Fields<'_>, actions: &mut [CheckAction; 4]) -> Option<String> {
    let Some(overrides) = verification.map("override") else { return Some(String::new()) };
    overrides.only(&CHECKS);
    let known = [("enforce", CheckAction::Enforce), ("log", CheckAction::Log), ("skip", CheckAction::Skip)];
    let mut texts = Vec::new();
    for (check, action) in CHECKS.into_iter().zip(actions) {
        if overrides.get(check).is_none() {
            continue;
        }
        let chosen = overrides.choice(check, &known)?;
        if chosen == CheckAction::Skip && check != "revocation" {
            overrides.error_hint(format!("{check} cannot be skipped"), "write enforce or log");
            return None;
        }
        *action = chosen;
        texts.push(format!("{check}: {chosen}"));
    }
    Some(if texts.is_empty() { String::new() } else { format!(" with {}", texts.join(", ")) })
}

/// The certificates of the trust stores, by type, in the order `ca`, `signingAuthority`, `tsa`.
fn trust_stores(fields: &Fields<'_>, folder: PolicyFolder<'_>) -> Option<[Vec<StoredCertificate>; 3]> {
    let [mut ca, mut signing_authority, mut tsa] = [const { Vec::new() }; 3];
    let mut is_complete = true;
    for node in fields.list("trustStores") {
        let store = text_of(node, "a trust store", fields.problems)?;
        match trust_store::open(store, folder.trust_store, folder.document, folder.lookup) {
            Ok((TrustStoreKind::Ca, certificates)) => ca.extend(certificates),
            Ok((TrustStoreKind::SigningAuthority, certificates)) => signing_authority.extend(certificates),
            Ok((TrustStoreKind::Tsa, certificates)) => tsa.extend(certificates),
            Err(why) => {
                is_complete = false;
                let hint = "certificates are files of trustStore/x509/TYPE/NAME, in PEM or DER";
                fields.problems.error_hint(node.at, format!("trust store {why}"), hint);
            }
        }
    }
    if is_complete && ca.is_empty() && signing_authority.is_empty() {
        fields.error_hint("trustStores names no certificates of signers", "add a store: \"ca:NAME\"");
        return None;
    }
    is_complete.then_some([ca, signing_authority, tsa])
}
