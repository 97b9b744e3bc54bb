//! Secrets that documents name: `Secret` documents, and those that are kept next to them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Materials;
use super::envelope::SecretObject;
use crate::markup::Fields;

/// All secrets, by namespace and name. Never printed.
pub(super) struct Secrets<'a> {
    documents: BTreeMap<(String, String), BTreeMap<String, Vec<u8>>>,
    materials: &'a dyn Materials,
}

impl<'a> Secrets<'a> {
    /// Reads the documents. One secret in two places must be the same in both.
    pub(super) fn read(objects: &[SecretObject<'_>], materials: &'a dyn Materials) -> Self {
        let mut documents = BTreeMap::new();
        for object in objects {
            let data = data(&object.fields);
            let other = materials.secret(&object.namespace, object.name);
            let label = format!("Secret {}/{}", object.namespace, object.name);
            if other.is_some_and(|other| other != data) {
                let message = format!("{label} also exists in a directory, with different content");
                object.fields.error(message);
            }
            if documents.insert((object.namespace.clone(), object.name.to_owned()), data).is_some() {
                object.fields.error(format!("duplicate {label}"));
            }
        }
        Self { documents, materials }
    }

    /// The data of a secret.
    pub(super) fn find(&self, namespace: &str, name: &str) -> Option<Cow<'_, BTreeMap<String, Vec<u8>>>> {
        match self.documents.get(&(namespace.to_owned(), name.to_owned())) {
            Some(data) => Some(Cow::Borrowed(data)),
            None => self.materials.secret(namespace, name).map(Cow::Owned),
        }
    }

    /// Every namespace that has a secret.
    pub(super) fn namespaces(&self) -> BTreeSet<String> {
        let documents = self.documents.keys().map(|(namespace, _)| namespace.clone());
        documents.chain(self.materials.secret_namespaces()).collect()
    }
}

/// `data`, in base64, and `stringData`, which overrides it.
fn data(fields: &Fields<'_>) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    if let Some(encoded) = fields.map("data") {
        for member in encoded.members() {
            let Some(text) = encoded.text(&member.key) else { continue };
            let compact: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
            match STANDARD.decode(compact) {
                Ok(bytes) => drop(all.insert(member.key.clone(), bytes)),
                Err(_) => fields.problems.error(member.at, format!("the value of {:?} is not base64", member.key)),
            }
        }
    }
    if let Some(plain) = fields.map("stringData") {
        for member in plain.members() {
            plain.text(&member.key).map(|value| all.insert(member.key.clone(), value.as_bytes().to_vec()));
        }
    }
    all
}
