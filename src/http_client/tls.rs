//! TLS: the certificates that are accepted.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme, WantsVerifier,
};
use rustls_native_certs::CertificateResult;
use x509_cert::der::Decode;

use super::{HttpSettings, InvalidSettings};
use crate::runtime::{instead_of_pem, pem_problem, pem_text, read_plain_file};

/// The largest file of certificate authorities, in bytes. Bundles of whole systems have less than 1 MiB.
const MAX_AUTHORITIES: u64 = 16 * 1024 * 1024;

/// For configured hosts: certificates are verified as for any other host, unless the settings say `insecure`.
pub(super) fn configured_hosts(settings: &HttpSettings) -> Result<ClientConfig, InvalidSettings> {
    if !settings.insecure {
        return named_hosts(settings);
    }
    let (builder, provider) = builder()?;
    let verifier = Arc::new(NoVerification(provider));
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// For hosts named by responses: verified with the system's certificate authorities and those of the settings.
pub(super) fn named_hosts(settings: &HttpSettings) -> Result<ClientConfig, InvalidSettings> {
    let (builder, provider) = builder()?;
    let mut roots = RootCertStore::empty();
    let system = system();
    roots.add_parsable_certificates(system.certs.iter().cloned());
    let pinned = settings.ca.as_deref().map(|path| add_authorities(path, &mut roots)).transpose()?.unwrap_or_default();
    if roots.is_empty() && settings.needs_roots && !settings.insecure {
        return Err(no_roots(system));
    }
    if pinned.is_empty() {
        return Ok(builder.with_root_certificates(roots).with_no_client_auth());
    }
    let no_verifier = |error: rustls::client::VerifierBuilderError| InvalidSettings::NoRoots(error.to_string());
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().map_err(no_verifier)?;
    let verifier = Arc::new(Pinned { inner, pinned });
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Checks that certificate authorities are installed on this machine.
///
/// # Errors
/// [`InvalidSettings::NoRoots`].
pub(crate) fn check_system_roots() -> Result<(), InvalidSettings> {
    let (mut roots, system) = (RootCertStore::empty(), system());
    roots.add_parsable_certificates(system.certs.iter().cloned());
    if roots.is_empty() { Err(no_roots(system)) } else { Ok(()) }
}

fn no_roots(system: &CertificateResult) -> InvalidSettings {
    let causes: Vec<String> = system.errors.iter().map(ToString::to_string).collect();
    InvalidSettings::NoRoots(if causes.is_empty() { "none was found".to_owned() } else { causes.join("; ") })
}

/// Checks that a file contains certificate authorities. Returns whether all of them had ended at this time.
///
/// # Errors
/// [`InvalidSettings::Ca`].
pub(crate) fn check_ca(path: &Path, now: Timestamp) -> Result<bool, InvalidSettings> {
    let added = add_authorities(path, &mut RootCertStore::empty())?;
    let second = u64::try_from(now.as_second()).unwrap_or_default();
    let has_ended = |der: &CertificateDer<'_>| {
        let parsed = x509_cert::Certificate::from_der(der);
        parsed.is_ok_and(|it| it.tbs_certificate.validity.not_after.to_unix_duration().as_secs() < second)
    };
    Ok(added.iter().all(has_ended))
}

/// Adds the certificates of a file, and returns them.
fn add_authorities(path: &Path, roots: &mut RootCertStore) -> Result<Vec<CertificateDer<'static>>, InvalidSettings> {
    let failed = |error: String| InvalidSettings::Ca { path: path.to_owned(), error };
    let mut added = Vec::new();
    let pem = read_plain_file(path, MAX_AUTHORITIES).map_err(|error| failed(error.to_string()))?;
    for certificate in CertificateDer::pem_slice_iter(pem_text(&pem)) {
        let certificate = certificate.map_err(|error| failed(pem_problem(&error)))?;
        roots.add(certificate.clone()).map_err(|error| failed(error.to_string()))?;
        added.push(certificate);
    }
    if added.is_empty() {
        return Err(failed(format!("the file contains no certificate in PEM{}", instead_of_pem(&pem, "x509"))));
    }
    Ok(added)
}

fn builder() -> Result<(ConfigBuilder<ClientConfig, WantsVerifier>, Arc<CryptoProvider>), InvalidSettings> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    Ok((builder.map_err(|error| InvalidSettings::NoRoots(error.to_string()))?, provider))
}

/// The system's certificate authorities. Read once, because reading is slow and all clients use the same ones.
fn system() -> &'static CertificateResult {
    static SYSTEM: OnceLock<CertificateResult> = OnceLock::new();
    SYSTEM.get_or_init(rustls_native_certs::load_native_certs)
}

/// Verifies as usual, and also accepts a self-signed certificate that is itself in the `ca` file. `openssl req -x509`
/// creates such certificates, and the documentation of many registries recommends them. They are marked as CAs, which
/// is otherwise not allowed for server certificates. The operator configured exactly these bytes; the name and the
/// dates are still checked.
#[derive(Debug)]
struct Pinned {
    inner: Arc<WebPkiServerVerifier>,
    pinned: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.inner.verify_server_cert(certificate, intermediates, name, ocsp, now);
        if verified.is_ok() || !self.pinned.iter().any(|pinned| pinned == certificate) {
            return verified;
        }
        check_dates(certificate, now)?;
        rustls::client::verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn check_dates(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let parsed = x509_cert::Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let validity = parsed.tbs_certificate.validity;
    let seconds = |time: x509_cert::time::Time| time.to_unix_duration().as_secs();
    if now.as_secs() < seconds(validity.not_before) {
        return Err(CertificateError::NotValidYet.into());
    }
    if now.as_secs() > seconds(validity.not_after) {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

/// `insecure = true`: the operator trusts the network. Content is still verified by its digest.
#[derive(Debug)]
struct NoVerification(Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
