//! IBM's two dialects: CISE's `securityenforcement.admission.cloud.ibm.com/v1beta1` and Portieris'
//! `portieris.cloud.ibm.com/v1`.
//!
//! An unknown key is an error, even where IBM's API server would have dropped it silently, because it may be a check
//! that its author relies on. Two exceptions are known to be harmless, because neither asks for a check:
//! `policies: null` (a mistake in a file that IBM shipped) and `mutateImage` in v1beta1.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::envelope::{Dialect, PolicyObject};
use super::material;
use super::simple::Simple;
use super::{Context, NOTARY, lint};
use crate::markup::{Fields, Node, ProblemSeverity, Value};
use crate::policy::matching::pattern::Pattern;
use crate::policy::rules::rule::{Requirement, Rule, SignedPart};
use crate::policy::rules::ruleset::{Entry, EntryPlace};
use crate::policy::rules::va_rule::VaRule;
use crate::policy::signatures::authority::{Authority, KeyValidity, NotaryTrust, Scheme, Signer};

/// The keys of a `policy`.
const POLICY_KEYS: &[&str] = &["trust", "simple", "va", "vulnerability", "mutateImage"];

/// The entries of a document.
pub(super) fn entries(policy: &PolicyObject<'_>, context: &Context<'_>) -> Vec<Entry> {
    let Some(spec) = &policy.spec else {
        policy.warn_no_entries(policy.at, "write spec.repositories");
        return Vec::new();
    };
    spec.only(&["repositories"]);
    let list = spec.list("repositories");
    if list.is_empty() {
        policy.warn_no_entries(spec.at, "add an entry");
    }
    lint::names(list, policy.problems, ProblemSeverity::Warning);
    list.iter().filter_map(|node| entry(node, policy, context)).collect()
}

fn entry(node: &Node, policy: &PolicyObject<'_>, context: &Context<'_>) -> Option<Entry> {
    let fields = Fields::of(node, "an entry of repositories", policy.problems)?;
    entry_keys(&fields);
    if policy.dialect == Dialect::Portieris && policy.namespace.is_none() {
        // The only kind whose schema does not allow null here, so that the API server never accepted it.
        lint::null_policy(&fields);
    }
    let name = fields.required("name")?;
    let checks = fields.map("policy").map(|fields| Checks::read(&fields, policy));
    let own = policy.namespace.as_deref();
    if let Some(checks) = &checks {
        checks.warn_missing(node, policy, context);
    }
    Some(Entry {
        document: policy.label().into(),
        name: name.into(),
        at: EntryPlace::new(node.at, policy.problems),
        pattern: Pattern::new(name),
        rule: checks.as_ref().map(|checks| Arc::new(checks.rule(own, context))),
        by_namespace: match (&checks, own) {
            (Some(checks), None) => checks.by_namespace(context),
            _ => BTreeMap::new(),
        },
    })
}

/// The keys next to `name`: a check next to `policy` instead of inside it would enforce nothing.
fn entry_keys(fields: &Fields<'_>) {
    for entry in fields.members() {
        match &*entry.key {
            "policies" if entry.node.value == Value::Null => {
                let hint = "the key is called policy; without it, the entry requires no check";
                fields.problems.warn(entry.at, "\"policies\" is not a key, and is empty", hint);
            }
            "policies" => fields.problems.error_hint(entry.at, "\"policies\" is not a key", "did you mean \"policy\"?"),
            key if POLICY_KEYS.contains(&key) => {
                let message = format!("{key:?} is next to policy, where it enforces nothing");
                fields.problems.error_hint(entry.at, message, "indent it under policy");
            }
            _ => fields.known(entry, &["name", "policy"]),
        }
    }
}

/// The checks of an entry, before secrets are looked up in a namespace.
#[derive(Debug)]
struct Checks<'a> {
    trust: Option<IbmTrust<'a>>,
    simple: Option<Simple<'a>>,
    va: Option<IbmVa<'a>>,
    /// `mutateImage: false`.
    keeps_tags: bool,
}

/// `trust.enabled: true`.
#[derive(Debug)]
struct IbmTrust<'a> {
    server: Option<&'a str>,
    secrets: Vec<&'a str>,
}

/// `va.enabled: true`, or `vulnerability.ICCRVA.enabled: true`.
#[derive(Debug)]
struct IbmVa<'a> {
    account: Option<&'a str>,
}

impl<'a> Checks<'a> {
    fn read(fields: &Fields<'a>, policy: &PolicyObject<'_>) -> Self {
        policy_keys(fields, policy.dialect);
        switched_off(fields);
        let keeps_tags = fields.flag("mutateImage") == Some(false) && policy.dialect == Dialect::Portieris;
        Self {
            keeps_tags,
            trust: fields.map("trust").and_then(|trust| IbmTrust::read(&trust)),
            simple: fields.map("simple").and_then(|simple| Simple::read(&simple)),
            va: va(fields),
        }
    }

    /// The rule for requests from this namespace; `None` means one without secrets.
    fn rule(&self, namespace: Option<&str>, context: &Context<'_>) -> Rule {
        Rule {
            trust: self.trust.as_ref().map(|trust| trust.requirement(namespace, context)),
            simple: self.simple.as_ref().map(|simple| simple.requirement(namespace, context)),
            va: self.va.as_ref().map(|va| VaRule {
                account: va.account.map(str::to_owned),
                fixable_only: context.settings.ibm_fixable_only,
                ..VaRule::ibm()
            }),
            signed: SignedPart::Either,
            keeps_tags: self.keeps_tags,
        }
    }

    /// The rules of a cluster-wide entry for the namespaces that have one of the secrets that it names.
    fn by_namespace(&self, context: &Context<'_>) -> BTreeMap<Arc<str>, Arc<Rule>> {
        let mut names = self.simple.as_ref().map(Simple::request_secrets).unwrap_or_default();
        names.extend(self.trust.iter().flat_map(|trust| &trust.secrets));
        if names.is_empty() {
            return BTreeMap::new();
        }
        let has_one = |space: &String| names.iter().any(|name| context.secrets.find(space, name).is_some());
        let namespaces = context.secrets.namespaces().into_iter().filter(has_one);
        namespaces.map(|space| (space.as_str().into(), Arc::new(self.rule(Some(&space), context)))).collect()
    }

    /// Warns of secrets that are missing or cannot be used. Each denies every pull, as in Portieris.
    fn warn_missing(&self, node: &Node, policy: &PolicyObject<'_>, context: &Context<'_>) {
        let own = policy.namespace.as_deref().map(str::to_owned);
        let spaces = own.map_or_else(|| context.secrets.namespaces(), |own| [own].into());
        let found = |name: &str| spaces.iter().any(|space| context.secrets.find(space, name).is_some());
        let mut missing: Vec<&str> = self.trust.iter().flat_map(|trust| &trust.secrets).copied().collect();
        missing.retain(|name| !found(name));
        if let Some(simple) = &self.simple {
            let none = simple.missing(None, context);
            let nowhere =
                |name: &&&str| spaces.iter().all(|space| simple.missing(Some(space), context).contains(*name));
            missing.extend(none.iter().filter(nowhere));
        }
        for name in missing {
            let message = format!("secret {name:?} is missing: images that this entry selects are denied");
            let hint = "add a Secret document, or a directory secrets/NAMESPACE/NAME";
            policy.problems.warn(node.at, message, hint);
        }
        let mut told = BTreeSet::new();
        for (space, why) in spaces.iter().flat_map(|space| self.unusable(space, context)) {
            let message = format!("namespace {space:?}: {why}: images that this entry selects are denied");
            if told.insert(message.clone()) {
                policy.problems.warn(node.at, message, "correct the data of the secret");
            }
        }
    }

    /// The secrets that are there for a request from this namespace and cannot be used: the namespace of each, and why.
    fn unusable(&self, namespace: &str, context: &Context<'_>) -> Vec<(String, String)> {
        let signers = self.trust.iter().flat_map(|trust| &trust.secrets);
        let signers = signers.filter(|name| context.secrets.find(namespace, name).is_some());
        let why = |name: &&str| signer(name, Some(namespace), context).err();
        let signers = signers.filter_map(|name| Some((namespace.to_owned(), why(name)?)));
        let simple = self.simple.iter().flat_map(|simple| simple.unusable(namespace, context));
        signers.chain(simple).collect()
    }
}

fn policy_keys(fields: &Fields<'_>, dialect: Dialect) {
    for entry in fields.members() {
        match (&*entry.key, dialect) {
            ("va", Dialect::Portieris) => {
                let message = "\"va\" is not a key of portieris.cloud.ibm.com/v1, where it would be dropped";
                fields.problems.error_hint(entry.at, message, "write vulnerability: {ICCRVA: {enabled: true}}");
            }
            ("mutateImage", Dialect::Cise) => {
                fields.problems.warn(entry.at, "\"mutateImage\" has no meaning here", "remove it");
            }
            ("simpleStore", _) => {
                let hint = "write storeURL and storeSecret under simple";
                fields.problems.error_hint(entry.at, "unknown key \"simpleStore\" in policy", hint);
            }
            _ => fields.known(entry, POLICY_KEYS),
        }
    }
}

impl<'a> IbmTrust<'a> {
    fn read(fields: &Fields<'a>) -> Option<Self> {
        fields.only(&["enabled", "signerSecrets", "trustServer"]);
        let enabled = fields.flag("enabled");
        let server = fields.text("trustServer");
        if let Some(server) = server.filter(|url| !url.starts_with("https://") && !url.starts_with("http://")) {
            fields.error_hint(format!("trustServer {server:?} is not an http or https URL"), "write https://HOST");
        }
        let secrets: Vec<_> = fields
            .maps("signerSecrets", "an entry of signerSecrets")
            .into_iter()
            .inspect(|secret| secret.only(&["name"]))
            .filter_map(|secret| secret.required("name"))
            .collect();
        (enabled == Some(true)).then_some(Self { server, secrets })
    }

    /// With signers, all of them must have signed by Docker Content Trust; without, one of the configured authorities.
    fn requirement(&self, namespace: Option<&str>, context: &Context<'_>) -> Requirement {
        let server = self.server.map(str::to_owned);
        let notary = |signers| {
            let trust = NotaryTrust { server: server.clone(), signers, ..NotaryTrust::default() };
            Authority::new(NOTARY, Scheme::Notary(trust.with_defaults(&context.settings.notary)))
        };
        if !self.secrets.is_empty() {
            let signers: Result<Vec<_>, _> = self.secrets.iter().map(|name| signer(name, namespace, context)).collect();
            let authority = match signers {
                Ok(signers) => notary(signers),
                Err(why) => Authority::new(self.secrets.join(","), Scheme::Unusable { why }),
            };
            return Requirement::Authority(Arc::new(authority));
        }
        let by_name = |name: &String| match &**name {
            NOTARY => Some(Arc::new(notary(Vec::new()))),
            name => context.authorities.iter().find(|authority| authority.name() == name).cloned(),
        };
        let names = &context.settings.default_authorities;
        Requirement::AnyOf(names.iter().filter_map(by_name).map(Requirement::Authority).collect())
    }
}

/// A signer from a secret with `name` and `publicKey`. The error has Portieris' wording.
fn signer(secret: &str, namespace: Option<&str>, context: &Context<'_>) -> Result<Signer, String> {
    let why = |what: String| format!("could not get signerSecret from your cluster, {what}");
    let data = namespace.and_then(|namespace| context.secrets.find(namespace, secret));
    let data = data.ok_or_else(|| {
        let from = namespace.map(|namespace| format!(" in namespace {namespace:?}")).unwrap_or_default();
        why(format!("secret {secret:?} not found{from}"))
    })?;
    let value = |key: &str| data.get(key).ok_or_else(|| why(format!("secret {secret:?} has no {key:?}")));
    let name = String::from_utf8(value("name")?.clone()).map_err(|_| why(format!("secret {secret:?}: not text")))?;
    let key = material::signer_key(value("publicKey")?).map_err(|what| why(format!("secret {secret:?}: {what}")))?;
    Ok(Signer { name: name.trim().to_owned(), key, validity: KeyValidity::default() })
}

/// Warns of each check that is written and that nothing turns on: its author may think that it is in force.
fn switched_off(policy: &Fields<'_>) {
    let advisor = policy.members().iter().find(|member| member.key == "vulnerability");
    let advisor = advisor.map(|member| member.node.members()).unwrap_or_default();
    for (members, check, switch) in [
        (policy.members(), "trust", "enabled"),
        (policy.members(), "va", "enabled"),
        (policy.members(), "simple", "requirements"),
        (policy.members(), "vulnerability", "ICCRVA"),
        (advisor, "ICCRVA", "enabled"),
    ] {
        for member in members.iter().filter(|member| member.key == check) {
            let is_off = match &member.node.value {
                Value::Null => true,
                // An empty list is reported where it is read.
                Value::Map(_) if switch == "requirements" => false,
                // ICCRVA without a value is reported by itself.
                Value::Map(_) => {
                    member.node.find(switch).is_none_or(|node| node.value == Value::Null && switch == "enabled")
                }
                _ => false,
            };
            if is_off {
                let message = format!("{check} has no effect without {switch}");
                let hint = match switch {
                    "enabled" => "write enabled: true, or enabled: false".to_owned(),
                    _ => format!("write {switch}, or remove {check}"),
                };
                policy.problems.warn(member.at, message, hint);
            }
        }
    }
}

fn va<'a>(policy: &Fields<'a>) -> Option<IbmVa<'a>> {
    let cise = policy.map("va").is_some_and(|va| {
        va.only(&["enabled"]);
        va.flag("enabled") == Some(true)
    });
    let vulnerability = policy.map("vulnerability");
    let advisor = vulnerability.and_then(|vulnerability| {
        vulnerability.only(&["ICCRVA"]);
        vulnerability.map("ICCRVA")
    });
    let account = advisor.as_ref().and_then(|advisor| {
        advisor.only(&["enabled", "account"]);
        advisor.text("account")
    });
    let portieris = advisor.is_some_and(|advisor| advisor.flag("enabled") == Some(true));
    (cise || portieris).then_some(IbmVa { account: account.filter(|_| portieris) })
}
