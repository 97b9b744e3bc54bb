//! Keys that belong to one signer, so that one signer does not count twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::authority::Authority;

/// Which keys are known to belong together: an OpenPGP key and its subkeys sign for one signer, even if another
/// authority has only one of these keys.
#[derive(Clone, Debug, Default)]
pub struct SameSigner(BTreeMap<String, String>);

impl SameSigner {
    /// What the keys of these authorities say.
    pub fn among(authorities: &[Arc<Authority>]) -> Self {
        Self::of(authorities.iter().flat_map(|authority| authority.key_sets()))
    }

    /// Joins sets of identifiers of keys. Sets that share a key belong to one signer.
    pub fn of(sets: impl IntoIterator<Item = BTreeSet<String>>) -> Self {
        let mut signers: BTreeMap<String, String> = BTreeMap::new();
        for mut keys in sets.into_iter().filter(|keys| keys.len() > 1) {
            let touched: BTreeSet<String> = keys.iter().filter_map(|key| signers.get(key).cloned()).collect();
            keys.extend(signers.iter().filter(|(_, signer)| touched.contains(*signer)).map(|(key, _)| key.clone()));
            let Some(signer) = keys.first().cloned() else { continue };
            signers.extend(keys.into_iter().map(|key| (key, signer.clone())));
        }
        Self(signers)
    }

    /// The signer who has a key; the key itself where no other key is known to be of the same signer.
    pub(in crate::policy) fn signer(&self, key: &str) -> String {
        self.0.get(key).map_or(key, String::as_str).to_owned()
    }

    /// The signers who have these keys.
    pub fn signers(&self, keys: BTreeSet<String>) -> BTreeSet<String> {
        if self.0.is_empty() { keys } else { keys.iter().map(|key| self.signer(key)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(keys: &str) -> BTreeSet<String> {
        keys.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn sets_that_share_a_key_are_one_signer() {
        let count =
            |sets: &[&str], keys: &str| SameSigner::of(sets.iter().map(|keys| set(keys))).signers(set(keys)).len();
        for (sets, keys, expected) in [
            (&[][..], "a b", 2),
            (&["a b"], "a b", 1),
            (&["a b"], "a b c", 2),
            (&["a b", "c d"], "a b c d", 2),
            (&["a b", "c d", "b c"], "a d", 1),
            (&["c d", "a b", "a d", "e f"], "a b c d e", 2),
        ] {
            assert_eq!(count(sets, keys), expected, "{sets:?} {keys}");
        }
    }
}
