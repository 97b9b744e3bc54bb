//! `notary: {server, root, signers, firstUse}`: Docker Content Trust.

use super::{Lookup, material as read, pinned, required_map};
use crate::markup::Fields;
use crate::policy::documents::material;
use crate::policy::signatures::authority::{NotaryTrust, PinnedKey, Scheme, Signer};

/// Reads the mapping of an authority.
pub(super) fn scheme(fields: &Fields<'_>, lookup: Lookup<'_>) -> Option<Scheme> {
    fields.only(&["server", "root", "signers", "firstUse"]);
    let server = fields.text("server");
    if let Some(server) = server.filter(|url| !url.starts_with("https://") && !url.starts_with("http://")) {
        fields.error_hint(format!("server {server:?} is not an http or https URL"), "write https://HOST");
    }
    let root = match fields.get("root") {
        Some(_) => Some(read(&required_map(fields, "root")?, material::notary_root, lookup)?),
        None => None,
    };
    let signer = |signer: Fields<'_>| {
        signer.only(&["name", "key"]);
        let name = signer.required("name")?.to_owned();
        let PinnedKey { key, validity } = pinned(&required_map(&signer, "key")?, material::signer_key, lookup)?;
        Some(Signer { name, key, validity })
    };
    let signers = fields.maps("signers", "a signer").into_iter().map(signer).collect::<Option<_>>()?;
    let first_use = match fields.text("firstUse").map(str::parse) {
        Some(Ok(first_use)) => Some(first_use),
        Some(Err(_)) => {
            fields.error("firstUse is deny or remember");
            None
        }
        None => None,
    };
    Some(Scheme::Notary(NotaryTrust { server: server.map(str::to_owned), root, signers, first_use }))
}
