//! The `cosign` part of an authority.

use std::collections::BTreeMap;

use super::{Lookup, attestation, gpg, keys_of, material, materials, one_of, pinned};
use crate::markup::{Fields, Node, Value, text_of};
use crate::oci::{ImageName, ImageReference};
use crate::policy::documents::material as read;
use crate::policy::keys::fulcio::FulcioClaim;
use crate::policy::keys::key::PublicKey;
use crate::policy::keys::trusted_root::TrustedRoot;
use crate::policy::signatures::authority::gpg::SignedIdentity;
use crate::policy::signatures::authority::{
    AnchoredRegex, CosignAuthority, CosignSigners, Keyless, PinnedKey, Scheme, TextPattern, TransparencyLog,
};

/// The keys for the identity of the signer; each authority has exactly one of them.
const SIGNERS: [(&str, SignersKind); 3] =
    [("key", SignersKind::Key), ("keys", SignersKind::Keys), ("keyless", SignersKind::Keyless)];

/// The keys of patterns.
const PATTERNS: [(&str, PatternKind); 2] = [("glob", PatternKind::Glob), ("regex", PatternKind::Regex)];

/// How the mapping says who signs.
#[derive(Clone, Copy)]
enum SignersKind {
    Key,
    Keys,
    Keyless,
}

/// How a pattern is written.
#[derive(Clone, Copy)]
enum PatternKind {
    Glob,
    Regex,
}

/// Parses the mapping of `cosign`.
pub(super) fn scheme(fields: &Fields<'_>, lookup: Lookup<'_>) -> Option<Scheme> {
    let others = ["annotations", "attestation", "repository", "signedIdentity", "transparencyLog"];
    fields.only(&[&keys_of(&SIGNERS)[..], &others[..]].concat());
    let (key, kind) = one_of(fields, &SIGNERS)?;
    let (signers, roots) = match kind {
        SignersKind::Key => {
            (CosignSigners::Keys(vec![pinned(&fields.map(key)?, read::public_key, lookup)?]), Vec::new())
        }
        SignersKind::Keys => (CosignSigners::Keys(unique_keys(fields, key, lookup)?), Vec::new()),
        SignersKind::Keyless => {
            let keyless = fields.map(key)?;
            let roots = trusted_root(&keyless, lookup);
            (CosignSigners::Keyless(self::keyless(&keyless)?), roots?)
        }
    };
    let logs = [("ignore", TransparencyLog::Ignore), ("require", TransparencyLog::Require)];
    let log = fields.choice("transparencyLog", &logs);
    let default = match signers {
        CosignSigners::Keys(_) => TransparencyLog::Ignore,
        CosignSigners::Keyless(_) => TransparencyLog::Require,
    };
    Some(Scheme::Cosign(Box::new(CosignAuthority {
        log: log.unwrap_or(default),
        roots,
        annotations: annotations(fields)?,
        repository: repository(fields)?,
        identity: identity(fields)?,
        attestation: match fields.get("attestation") {
            Some(_) => Some(attestation::rule(&fields.map("attestation")?)?),
            None => None,
        },
        signers,
    })))
}

/// The keys, without duplicates. A key with two different limits would be valid longer than one of them allows.
fn unique_keys(fields: &Fields<'_>, list: &str, lookup: Lookup<'_>) -> Option<Vec<PinnedKey<PublicKey>>> {
    let mut once: Vec<PinnedKey<PublicKey>> = Vec::new();
    for pinned in materials(fields, list, |one| pinned(one, read::public_key, lookup))? {
        match once.iter().find(|known| known.key == pinned.key) {
            None => once.push(pinned),
            Some(known) if known.validity == pinned.validity => {
                fields.warn(format!("duplicate key in {list}"), "remove one of them");
            }
            Some(_) => {
                let message = format!("{list} has the {} twice, with different validFrom or validUntil", pinned.key);
                fields.error_hint(message, "remove one of them");
                return None;
            }
        }
    }
    Some(once)
}

/// The root that the authority names; none means those of the configuration.
fn trusted_root(keyless: &Fields<'_>, lookup: Lookup<'_>) -> Option<Vec<TrustedRoot>> {
    let Some(_) = keyless.get("trustedRoot") else { return Some(Vec::new()) };
    let fields = keyless.map("trustedRoot")?;
    let file = fields.get("file").and_then(|_| fields.text("file"));
    let name = file.unwrap_or("the trusted root of the document");
    let root = material(&fields, |bytes| read::trusted_root(name, bytes), lookup)?;
    let document = fields.problems.name(fields.at.file);
    Some(vec![root.written_at(file.and_then(|path| lookup.materials.modified(&document, path)))])
}

/// Where signatures are kept, as `COSIGN_REPOSITORY` names it.
fn repository(fields: &Fields<'_>) -> Option<Option<ImageName>> {
    if fields.get("repository").is_none() {
        return Some(None);
    }
    let ImageReference { name, tag, digest } = fields.value("repository")?;
    if tag.is_some() || digest.is_some() {
        fields.error("repository names a tag or a digest; cosign chooses the tags itself");
        return None;
    }
    Some(Some(name))
}

fn annotations(fields: &Fields<'_>) -> Option<BTreeMap<String, String>> {
    let Some(annotations) = fields.get("annotations").and_then(|_| fields.map("annotations")) else {
        return fields.get("annotations").is_none().then(BTreeMap::new);
    };
    let pair = |key: &str| Some((key.to_owned(), annotations.text(key)?.to_owned()));
    annotations.members().iter().map(|member| pair(&member.key)).collect()
}

/// cosign signs the name of a repository without a tag, and a bundle names no image, so it never counts where an
/// identity is required.
fn identity(fields: &Fields<'_>) -> Option<Option<SignedIdentity>> {
    if fields.get("signedIdentity").is_none() {
        return Some(None);
    }
    let written = fields.map("signedIdentity")?;
    let identity = gpg::identity(Some(written.clone()), gpg::Names::All)?;
    if identity == SignedIdentity::MatchExact {
        let hint = "matchRepository compares the repository";
        written.error_hint("cosign signs the name of a repository without its tag: matchExact never matches", hint);
        return None;
    }
    Some(Some(identity))
}

fn keyless(fields: &Fields<'_>) -> Option<Keyless> {
    fields.only(&["claims", "identity", "issuer", "trustedRoot"]);
    let issuer = pattern(fields.needs("issuer")?, "issuer", fields);
    if let Some(TextPattern::Exact(exact)) = &issuer
        && !exact.contains("://")
    {
        let hint = format!("write https://{exact}");
        let message = format!("the issuer {exact:?} is not a URL, so no certificate of Fulcio has it");
        fields.problems.warn(fields.needs("issuer")?.at, message, hint);
    }
    let identity = pattern(fields.needs("identity")?, "identity", fields)?;
    if let TextPattern::Exact(exact) = &identity
        && exact.contains('*')
    {
        let hint = "write identity: {glob: …} for a pattern";
        fields.problems.error_hint(fields.needs("identity")?.at, "an exact identity has no *", hint);
    }
    let mut claims = BTreeMap::new();
    if fields.get("claims").is_some() {
        let map = fields.map("claims")?;
        map.only(&FulcioClaim::names());
        for member in map.members() {
            let Some(claim) = FulcioClaim::named(&member.key) else { continue };
            claims.insert(claim, pattern(&member.node, claim.name(), &map)?);
        }
    }
    Some(Keyless { issuer: issuer?, identity, claims })
}

/// A text, `{glob: …}` or `{regex: …}`.
fn pattern(node: &Node, name: &'static str, parent: &Fields<'_>) -> Option<TextPattern> {
    let Value::Map(_) = node.value else {
        let text = text_of(node, name, parent.problems)?;
        if text.is_empty() {
            parent.problems.error(node.at, format!("{name} is empty"));
            return None;
        }
        return Some(TextPattern::Exact(text.to_owned()));
    };
    let fields = Fields::of(node, name, parent.problems)?;
    fields.only(&keys_of(&PATTERNS));
    let (key, kind) = one_of(&fields, &PATTERNS)?;
    match kind {
        PatternKind::Glob => {
            let glob = fields.required(key)?;
            warn_open_glob(name, glob, node, parent);
            Some(TextPattern::Glob(glob.to_owned()))
        }
        PatternKind::Regex => {
            let text = fields.required(key)?;
            let invalid = |why| fields.error(format!("regex {text:?}: {why}"));
            let regex = AnchoredRegex::new(text).map_err(invalid).ok()?;
            if regex.matches_everything() {
                let hint = "write the part that all of them have in common";
                parent.problems.warn(node.at, format!("the {name} {text:?} matches everything"), hint);
            }
            Some(TextPattern::Regex(regex))
        }
    }
}

/// `https://github.com/acme*` also matches `https://github.com/acme-evil/…`.
fn warn_open_glob(name: &str, glob: &str, node: &Node, fields: &Fields<'_>) {
    let before = glob.split('*').next().unwrap_or_default();
    if glob.contains('*') && !before.ends_with(['/', '@', ':']) {
        let hint = "end the part before the first * with a slash";
        let others = if name == "identity" { "identities of others" } else { "values that are not meant" };
        fields.problems.warn(node.at, format!("the {name} {glob:?} may match {others}"), hint);
    }
}
