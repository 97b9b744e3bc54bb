//! Portieris' `simple` signing: the list of `requirements`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use url::Url;

use super::Context;
use super::authority::gpg::{Names, base_url, identity, may_get_password};
use super::material;
use crate::markup::Fields;
use crate::policy::keys::keyring::KeyRing;
use crate::policy::rules::rule::Requirement;
use crate::policy::signatures::authority::gpg::{SignatureStore, SignedIdentity, SimpleSigner, StoreCredentials};
use crate::policy::signatures::authority::{Authority, Scheme};

/// The `simple` part of an entry, before secrets are looked up in a namespace.
#[derive(Debug)]
pub(super) struct Simple<'a> {
    requirements: Vec<One<'a>>,
    store: Option<Url>,
    store_secret: Option<&'a str>,
}

/// One of its requirements; all of them must be met.
#[derive(Debug)]
enum One<'a> {
    Accept,
    Reject,
    SignedBy { secret: &'a str, namespace: Option<&'a str>, identity: SignedIdentity },
}

impl<'a> Simple<'a> {
    /// Reads `simple`; `None` where its list of requirements is empty, which turns it off.
    pub(super) fn read(fields: &Fields<'a>) -> Option<Self> {
        fields.only(&["requirements", "storeURL", "storeSecret"]);
        let items = fields.maps("requirements", "a requirement of simple");
        let requirements: Vec<_> = items.iter().filter_map(requirement_of).collect();
        let store = fields.text("storeURL").and_then(|text| store_url(fields, text));
        if fields.list("requirements").is_empty() {
            let hint = "add requirements, or remove simple";
            fields.warn("simple has no effect without requirements", hint);
            return None;
        }
        let store_secret = fields.text("storeSecret");
        match &store {
            None if store_secret.is_some() => {
                fields.warn("storeSecret has no effect without storeURL", "remove it, or add storeURL");
            }
            Some(url) if store_secret.is_some() && !may_get_password(url) => {
                let message = "storeSecret is sent only to an https store: images that this entry selects are denied";
                fields.warn(message, "use https in storeURL");
            }
            Some(url) if url.scheme() == "http" => {
                let message = "storeURL is not encrypted: anyone on the network can hide signatures";
                fields.warn(message, "use https");
            }
            _ => {}
        }
        Some(Self { requirements, store, store_secret: store_secret.filter(|_| fields.get("storeURL").is_some()) })
    }

    /// The names of secrets that are looked up in the namespace of the request.
    pub(super) fn request_secrets(&self) -> BTreeSet<&'a str> {
        let secrets = self.requirements.iter().filter_map(|one| match one {
            One::SignedBy { secret, namespace: None, .. } => Some(*secret),
            _ => None,
        });
        secrets.chain(self.store_secret).collect()
    }

    /// The names of secrets that are missing for a request from this namespace.
    pub(super) fn missing(&self, namespace: Option<&str>, context: &Context<'_>) -> Vec<&'a str> {
        let missing = self.requirements.iter().filter_map(|one| match one {
            One::SignedBy { secret, namespace: fixed, .. } => {
                let found = fixed.or(namespace).is_some_and(|from| context.secrets.find(from, secret).is_some());
                (!found).then_some(*secret)
            }
            _ => None,
        });
        let is_missing = |secret: &&str| namespace.is_none_or(|from| context.secrets.find(from, secret).is_none());
        missing.chain(self.store_secret.filter(is_missing)).collect()
    }

    /// The secrets that are there for a request from this namespace and cannot be used: the namespace of each, and why.
    pub(super) fn unusable(&self, namespace: &str, context: &Context<'_>) -> Vec<(String, String)> {
        let is_there = |from: &str, secret: &&str| context.secrets.find(from, secret).is_some();
        let keys = self.requirements.iter().filter_map(|one| match one {
            One::SignedBy { secret, namespace: fixed, .. } => {
                let from = fixed.unwrap_or(namespace);
                let why = is_there(from, secret).then(|| keyring(secret, Some(from), context).err());
                Some((from.to_owned(), why??))
            }
            _ => None,
        });
        let is_sent = self.store.as_ref().is_some_and(may_get_password);
        let store = self.store_secret.filter(|secret| is_sent && is_there(namespace, secret));
        let store = store.and_then(|_| Some((namespace.to_owned(), self.store(Some(namespace), context).err()?)));
        keys.chain(store).collect()
    }

    /// The requirement for a request from this namespace.
    pub(super) fn requirement(&self, namespace: Option<&str>, context: &Context<'_>) -> Requirement {
        let one = |one: &One<'_>| match one {
            One::Accept => Requirement::Accept,
            One::Reject => Requirement::Reject,
            One::SignedBy { secret, namespace: fixed, identity } => {
                let keyring = keyring(secret, fixed.or(namespace), context);
                let scheme = match keyring.and_then(|keyring| Ok((keyring, self.store(namespace, context)?))) {
                    Ok((keyring, store)) => Scheme::Gpg(Box::new(SimpleSigner {
                        keyrings: vec![keyring.into()],
                        identity: identity.clone(),
                        store,
                    })),
                    Err(why) => Scheme::Unusable { why },
                };
                Requirement::Authority(Arc::new(Authority::new(*secret, scheme)))
            }
        };
        Requirement::AllOf(self.requirements.iter().map(one).collect())
    }

    /// The store, with its credentials. `storeSecret` has the data `username` and `password`.
    fn store(&self, namespace: Option<&str>, context: &Context<'_>) -> Result<Option<SignatureStore>, String> {
        let Some(base) = self.store.clone() else { return Ok(None) };
        let Some(secret) = self.store_secret else { return Ok(Some(SignatureStore { base, credentials: None })) };
        if !may_get_password(&base) {
            return Err("storeSecret is sent only to an https store".into());
        }
        let data = find("storeSecret", secret, namespace, context)?;
        let read = |key: &str| {
            let value = data.get(key).ok_or_else(|| format!("secret {secret:?} not defined: it has no {key:?}"))?;
            material::password(value).map_err(|why| format!("secret {secret:?}: {key}: {why}"))
        };
        let credentials = Some(StoreCredentials { username: read("username")?, password: read("password")? });
        Ok(Some(SignatureStore { base, credentials }))
    }
}

fn store_url(fields: &Fields<'_>, text: &str) -> Option<Url> {
    base_url(text).map_err(|why| fields.error(format!("storeURL {why}"))).ok()
}

fn keyring(secret: &str, namespace: Option<&str>, context: &Context<'_>) -> Result<KeyRing, String> {
    let data = find("keySecret", secret, namespace, context)?;
    let key = data.get("key").ok_or_else(|| format!("secret {secret:?} not defined: it has no \"key\""))?;
    material::key_ring(key).map_err(|why| format!("secret {secret:?}: {why}"))
}

fn find<'a>(
    what: &str,
    secret: &str,
    namespace: Option<&str>,
    context: &'a Context<'_>,
) -> Result<Cow<'a, BTreeMap<String, Vec<u8>>>, String> {
    let data = namespace.and_then(|namespace| context.secrets.find(namespace, secret));
    data.ok_or_else(|| {
        let from = namespace.map(|namespace| format!(" in namespace {namespace:?}")).unwrap_or_default();
        format!("could not get {what} from your cluster, secret {secret:?} not found{from}")
    })
}

fn requirement_of<'a>(fields: &Fields<'a>) -> Option<One<'a>> {
    fields.only(&["type", "keySecret", "keySecretNamespace", "signedIdentity"]);
    match fields.required("type")? {
        "insecureAcceptAnything" => Some(One::Accept),
        "reject" => Some(One::Reject),
        "signedBy" => Some(One::SignedBy {
            secret: fields.required("keySecret")?,
            namespace: fields.text("keySecretNamespace"),
            identity: identity(fields.map("signedIdentity"), Names::Portieris)?,
        }),
        other => {
            let hint = "the types are insecureAcceptAnything, reject and signedBy";
            fields.error_hint(format!("unknown type of requirement {other:?}"), hint);
            None
        }
    }
}
