//! Portieris' `simple` signing: the list of `requirements`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Context;
use super::material;
use crate::markup::Fields;
use crate::policy::authority::{Authority, Scheme, SignedIdentity};
use crate::policy::material::KeyRing;
use crate::policy::rule::Requirement;

/// The `simple` part of an entry, before secrets are looked up in a namespace.
#[derive(Debug)]
pub(super) struct Simple<'a> {
    requirements: Vec<One<'a>>,
    store_url: Option<&'a str>,
    store_secret: bool,
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
        let store_url = fields.text("storeURL");
        if fields.list("requirements").is_empty() {
            let hint = "add requirements, or remove simple";
            fields.warn("simple without requirements checks nothing", hint);
            return None;
        }
        let store_secret = fields.text("storeSecret").is_some();
        if store_secret {
            let message = "storeSecret is not supported: images that this entry selects are denied";
            fields.warn(message, "use a lookaside store that can be read without a password");
        }
        Some(Self { requirements, store_url, store_secret })
    }

    /// The names of secrets that are looked up in the namespace of the request.
    pub(super) fn request_secrets(&self) -> BTreeSet<&'a str> {
        let secrets = self.requirements.iter().filter_map(|one| match one {
            One::SignedBy { secret, namespace: None, .. } => Some(*secret),
            _ => None,
        });
        secrets.collect()
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
        missing.collect()
    }

    /// The requirement for a request from this namespace.
    pub(super) fn requirement(&self, namespace: Option<&str>, context: &Context<'_>) -> Requirement {
        let one = |one: &One<'_>| match one {
            One::Accept => Requirement::Accept,
            One::Reject => Requirement::Reject,
            One::SignedBy { secret, namespace: fixed, identity } => {
                let scheme = match self.keyring(secret, fixed.or(namespace), context) {
                    Ok(keyring) => Scheme::Gpg {
                        keyrings: vec![keyring],
                        identity: identity.clone(),
                        store_url: self.store_url.map(str::to_owned),
                    },
                    Err(why) => Scheme::Unusable { why },
                };
                Requirement::Authority(Arc::new(Authority::new(*secret, scheme)))
            }
        };
        Requirement::AllOf(self.requirements.iter().map(one).collect())
    }

    fn keyring(&self, secret: &str, namespace: Option<&str>, context: &Context<'_>) -> Result<KeyRing, String> {
        if self.store_secret {
            return Err("storeSecret is not supported".into());
        }
        let data = namespace.and_then(|namespace| context.secrets.find(namespace, secret));
        let data = data.ok_or_else(|| {
            let from = namespace.map(|namespace| format!(" in namespace {namespace:?}")).unwrap_or_default();
            format!("could not get keySecret from your cluster, secret {secret:?} not found{from}")
        })?;
        let key = data.get("key").ok_or_else(|| format!("secret {secret:?} not defined: it has no \"key\""))?;
        material::key_ring(key).map_err(|why| format!("secret {secret:?}: {why}"))
    }
}

fn requirement_of<'a>(fields: &Fields<'a>) -> Option<One<'a>> {
    fields.only(&["type", "keySecret", "keySecretNamespace", "signedIdentity"]);
    match fields.required("type")? {
        "insecureAcceptAnything" => Some(One::Accept),
        "reject" => Some(One::Reject),
        "signedBy" => Some(One::SignedBy {
            secret: fields.required("keySecret")?,
            namespace: fields.text("keySecretNamespace"),
            identity: identity(fields.map("signedIdentity"))?,
        }),
        other => {
            let hint = "the types are insecureAcceptAnything, reject and signedBy";
            fields.error_hint(format!("unknown type of requirement {other:?}"), hint);
            None
        }
    }
}

/// `signedIdentity`, with the type names that Portieris' code knows. Its documentation names others
/// (`exactReference`, `exactRepository`, `matchRepoDigestOrExact`), which its code rejects.
pub(super) fn identity(fields: Option<Fields<'_>>) -> Option<SignedIdentity> {
    let Some(fields) = fields else { return Some(SignedIdentity::MatchRepoDigestOrExact) };
    let kind = fields.text("type").unwrap_or_default();
    let required = |key| fields.required(key).map(str::to_owned);
    let identity = match kind {
        "" => Some(SignedIdentity::MatchRepoDigestOrExact),
        "matchExact" => Some(SignedIdentity::MatchExact),
        "matchRepository" => Some(SignedIdentity::MatchRepository),
        "matchExactReference" => required("dockerReference").map(SignedIdentity::ExactReference),
        "matchExactRepository" => required("dockerRepository").map(SignedIdentity::ExactRepository),
        "remapIdentity" => {
            let (prefix, signed_prefix) = (required("prefix"), required("signedPrefix"));
            prefix.zip(signed_prefix).map(|(prefix, signed_prefix)| SignedIdentity::Remap { prefix, signed_prefix })
        }
        other => {
            let hint = match other {
                "exactReference" => "Portieris' code calls it matchExactReference",
                "exactRepository" => "Portieris' code calls it matchExactRepository",
                "matchRepoDigestOrExact" => "leave signedIdentity out: this is what happens without it",
                _ => "matchExact, matchRepository, matchExactReference, matchExactRepository or remapIdentity",
            };
            fields.error_hint(format!("unknown type of signedIdentity {other:?}"), hint);
            return None;
        }
    };
    fields.only(&["type", "dockerReference", "dockerRepository", "prefix", "signedPrefix"]);
    identity
}
