//! Whether a tag or a digest is signed, as the docker command and Portieris mean it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{TrustedRepository, trust};
use crate::oci::{Digest, Manifest, Reference, Tag};
use crate::policy::{Authority, Signatory, SignatoryKind, Signer};
use crate::tuf::TufTarget;

/// The outcome, valid for as long as the keys of the signers are.
pub(super) struct Limited<T> {
    pub(super) value: T,
    /// When the first of the keys ends to be valid; `None` if none has an end.
    pub(super) until: Option<Timestamp>,
}

/// Who has signed an image that was asked for by this reference.
///
/// # Errors
/// Why it is not signed.
pub(super) fn signatories(
    repository: &TrustedRepository,
    authority: &Authority,
    reference: &Reference,
    image: &Manifest,
    now: Timestamp,
) -> Result<Limited<Vec<Signatory>>, String> {
    let signed_as = |tag: &Tag| {
        let Limited { value: target, until } = signed_target(repository, authority, tag, now)?;
        if target.digest != image.digest {
            return Err(format!("tag {tag} is signed for {}, but this is {}", target.digest, image.digest));
        }
        if target.length != image.bytes.len() as u64 {
            return Err(format!("tag {tag} is signed for {} bytes, not {}", target.length, image.bytes.len()));
        }
        Ok(Limited { value: signers(repository, authority, tag), until })
    };
    if let Reference::Tag(tag) = reference {
        return signed_as(tag);
    }
    let named = repository.released().into_iter().filter(|(_, target)| target.digest == image.digest);
    let mut why = format!("No signed targets found: no tag is signed for {}", image.digest);
    for (tag, _) in named {
        match signed_as(tag) {
            Ok(signatories) => return Ok(signatories),
            Err(other) => why = other,
        }
    }
    Err(why)
}

/// The digest that is signed for a tag.
///
/// # Errors
/// Why none is.
pub(super) fn signed_digest(
    repository: &TrustedRepository,
    authority: &Authority,
    tag: &Tag,
    now: Timestamp,
) -> Result<Limited<Digest>, String> {
    let Limited { value: target, until } = signed_target(repository, authority, tag, now)?;
    Ok(Limited { value: target.digest, until })
}

/// The target that a tag means, if all signers that the authority names have signed the same.
fn signed_target<'a>(
    repository: &'a TrustedRepository,
    authority: &Authority,
    tag: &Tag,
    now: Timestamp,
) -> Result<Limited<&'a TufTarget>, String> {
    let released = repository.released_as(tag).ok_or_else(|| format!("No valid trust data for {tag}"))?;
    let trust = trust(authority).map_err(|error| error.to_string())?;
    let mut ends = Vec::new();
    for Signer { name, key, validity } in &trust.signers {
        let role = format!("targets/{name}");
        let Some(signed) = repository.signers.get(&role) else {
            return Err(format!("signer {name} has signed nothing: {role} is not there"));
        };
        if !signed.keys.contains(&key.key_fingerprint()) {
            return Err(format!("{role} is not signed with the policy's key for signer {name}"));
        }
        // Only the signer states when a document was signed.
        ends.extend(validity.check(None, now).map_err(|why| format!("signer {name} does not count: {why}"))?);
        match signed.targets.get(tag) {
            None => return Err(format!("signer {name} has not signed tag {tag}")),
            Some(target) if target.digest != released.digest => {
                let (own, other) = (target.digest, released.digest);
                return Err(format!("Incompatible digest {own} of signer {name} for tag {tag}: {other} is released"));
            }
            Some(_) => {}
        }
    }
    Ok(Limited { value: released, until: ends.into_iter().min() })
}

/// The signers of a tag, by their keys: those that the authority names, or those who released it.
fn signers(repository: &TrustedRepository, authority: &Authority, tag: &Tag) -> Vec<Signatory> {
    let first_use = repository.first_use.as_ref().map(|text| format!("; {text}")).unwrap_or_default();
    let signatory = |id: String, identity: String| Signatory {
        description: format!("{identity} (Docker Content Trust, tag {tag}{first_use})"),
        id,
        kind: SignatoryKind::Key,
        identity,
        issuer: None,
        signed_at: None,
    };
    let named = trust(authority).map(|trust| &trust.signers[..]).unwrap_or_default();
    if !named.is_empty() {
        let one = |Signer { name, key, .. }: &Signer| signatory(key.key_fingerprint().to_string(), name.clone());
        return named.iter().map(one).collect();
    }
    let (role, signed) = match &repository.releases {
        Some(releases) if releases.targets.contains_key(tag) => ("targets/releases", releases),
        _ => ("targets", &repository.targets),
    };
    let one = |key: &Digest| signatory(key.to_string(), format!("{role} with key {}", key.short()));
    signed.keys.iter().map(one).collect()
}

impl TrustedRepository {
    /// The target that a tag means: `targets/releases` has the first word.
    fn released_as(&self, tag: &Tag) -> Option<&TufTarget> {
        let released = self.releases.as_ref().and_then(|releases| releases.targets.get(tag));
        released.or_else(|| self.targets.targets.get(tag))
    }

    /// What every tag means.
    fn released(&self) -> BTreeMap<&Tag, &TufTarget> {
        self.targets.targets.iter().chain(self.releases.iter().flat_map(|releases| &releases.targets)).collect()
    }
}
