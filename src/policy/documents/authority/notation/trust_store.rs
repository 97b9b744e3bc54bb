//! Trust stores: directories of certificates, `x509/TYPE/NAME` (notaryproject specifications,
//! trust-store-trust-policy.md, "Trust Store").

use std::ffi::OsString;

use super::super::Lookup;
use super::read;
use crate::policy::signatures::authority::StoredCertificate;
use crate::x509::X509Certificate;

/// The types of trust stores.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum TrustStoreKind {
    /// Certificate authorities and signing certificates.
    Ca,
    /// Signing authorities, which vouch for the time of signing themselves.
    SigningAuthority,
    /// Timestamping authorities.
    Tsa,
}

impl TrustStoreKind {
    const ALL: [(&str, Self); 3] = [("ca", Self::Ca), ("signingAuthority", Self::SigningAuthority), ("tsa", Self::Tsa)];
}

/// Reads the trust store that a trust policy calls `TYPE:NAME`, below the directory `root`.
///
/// # Errors
/// The problem with the name, the directory or a file in it.
pub(super) fn open(
    store: &str,
    root: &str,
    document: &str,
    lookup: Lookup<'_>,
) -> Result<(TrustStoreKind, Vec<StoredCertificate>), String> {
    let (kind, name) = store.split_once(':').ok_or_else(|| format!("{store:?} is not TYPE:NAME"))?;
    let types = || TrustStoreKind::ALL.map(|(name, _)| name).join(", ");
    let known = TrustStoreKind::ALL.iter().find(|(known, _)| *known == kind);
    let (_, of_kind) = known.ok_or_else(|| format!("{store:?}: the type must be one of {}", types()))?;
    let is_plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-');
    if name.is_empty() || !name.bytes().all(is_plain) || matches!(name, "." | "..") {
        return Err(format!("{store:?}: a name has letters, digits, dots, dashes and underscores"));
    }
    let folder = format!("{}/x509/{kind}/{name}", root.trim_end_matches('/'));
    let mut certificates = Vec::new();
    for (path, bytes) in files(&folder, document, lookup).map_err(|why| format!("{store:?}: {why}"))? {
        let found = read::certificates_or_der(&bytes).map_err(|why| format!("{store:?}: {path}: {why}"))?;
        for der in found {
            let certificate = trusted(&der, *of_kind == TrustStoreKind::Tsa);
            let certificate = certificate.map_err(|why| format!("{store:?}: {path}: {why}"))?;
            certificates.push(StoredCertificate { store: store.to_owned(), certificate });
        }
    }
    Ok((*of_kind, certificates))
}

/// A certificate that may be trusted: an authority or one that signed itself, and a root if `must_be_root`.
///
/// # Errors
/// Why it may not.
pub(super) fn trusted(der: &[u8], must_be_root: bool) -> Result<X509Certificate, String> {
    let certificate = X509Certificate::from_der(der).map_err(|invalid| invalid.to_string())?;
    let (is_authority, is_self_signed) = (certificate.usage().is_authority(), certificate.is_self_signed());
    if must_be_root && !(is_authority && is_self_signed) {
        return Err(format!("{certificate}: is not a root certificate, as a timestamping authority must have"));
    }
    if !is_authority && !is_self_signed {
        return Err(format!("{certificate}: is neither a certificate authority nor self-signed"));
    }
    Ok(certificate)
}

/// The files of a directory with their content, at least one.
///
/// # Errors
/// The directory or a file in it cannot be read, or there is no file.
pub(super) fn files(folder: &str, document: &str, lookup: Lookup<'_>) -> Result<Vec<(String, Vec<u8>)>, String> {
    let names = lookup.materials.folder(document, folder).map_err(|why| format!("folder {folder:?}: {why}"))?;
    if names.is_empty() {
        return Err(format!("directory {folder:?} is empty"));
    }
    let read = |name: OsString| {
        let name = name.into_string().map_err(|name| format!("{name:?}: the name is not UTF-8"))?;
        let path = format!("{folder}/{name}");
        let bytes = lookup.materials.file(document, &path).map_err(|why| format!("{path:?}: {why}"))?;
        Ok((path, bytes))
    };
    names.into_iter().map(read).collect()
}
