//! `pullgate certs init`: a development CA and a server certificate.
//!
//! It never replaces a CA or a certificate that it did not make, unless told to.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType, date_time_ymd,
};
use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;
use x509_cert::der::{DecodePem as _, Encode as _, Tag, Tagged as _};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{SubjectAltName, SubjectKeyIdentifier};

use super::Exit;
use crate::runtime::Clock;

const DAY: u64 = 24 * 60 * 60;
const CA_DAYS: u64 = 3650;
/// A server certificate with less left than this is renewed.
const RENEW_DAYS: u64 = 30;

/// Commands about certificates.
#[derive(Debug, clap::Subcommand)]
pub(super) enum CertsCommand {
    /// Make a development CA and a server certificate.
    Init(InitArgs),
}

pub(super) fn run(command: &CertsCommand) -> Exit {
    let CertsCommand::Init(args) = command;
    match init(args, Clock::system().now()) {
        Ok(done) => {
            print!("{done}");
            Exit::Ok
        }
        Err(error) => super::fail(error),
    }
}

/// Makes a development CA and a server certificate for this gate.
#[derive(Args, Clone, Debug)]
pub struct InitArgs {
    /// Where the files go
    #[arg(long, default_value = "certs", value_name = "DIR")]
    pub dir: PathBuf,
    /// A DNS name or address by which clients reach the gate, besides localhost and this machine's name; repeatable
    #[arg(long = "name", value_name = "NAME")]
    pub names: Vec<String>,
    /// How long the server certificate is valid
    #[arg(long, default_value_t = 825, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
    /// Replace an existing CA and certificate, whoever made them
    #[arg(long)]
    pub force: bool,
}

/// Makes what is missing: `ca.crt`, `ca.key`, `server.crt`, `server.key`. An existing CA is used again. A server
/// certificate of that CA is renewed when it ends within 30 days or lacks a name, and keeps the names it has.
///
/// # Errors
/// When a file is in the way, cannot be used or cannot be written, or a name is no DNS name or address.
pub fn init(args: &InitArgs, now: Timestamp) -> Result<Initialised, CertsError> {
    let files = Files::of(&args.dir);
    fs::create_dir_all(&args.dir).map_err(|source| CertsError::Io { path: args.dir.clone(), source })?;
    let ca = if !args.force && (files.ca.exists() || files.ca_key.exists()) {
        Outcome::Kept
    } else {
        make_ca(&files, now)?;
        Outcome::Made
    };
    let authority = Authority::load(&files, now)?;
    let mut names: BTreeSet<String> = default_names().into_iter().chain(args.names.iter().cloned()).collect();
    let server = if args.force || !files.server.exists() {
        Outcome::Made
    } else {
        let existing = ServerCertificate::load(&files, &authority)?;
        let outcome = existing.outcome(&names, now);
        names.extend(existing.names);
        outcome
    };
    if server != Outcome::Kept {
        make_server(&files, &authority, &names, args.days, now)?;
    }
    Ok(Initialised { dir: fs::canonicalize(&args.dir).unwrap_or_else(|_| args.dir.clone()), ca, server, names })
}

/// What was done. Its text says that, and what to do next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Initialised {
    /// Where the files are.
    pub dir: PathBuf,
    /// The CA.
    pub ca: Outcome,
    /// The server certificate.
    pub server: Outcome,
    /// Every name in the server certificate.
    pub names: BTreeSet<String>,
}

/// What became of a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It was there and is good.
    Kept,
    /// It was made.
    Made,
    /// It was there and a new one was made in its place.
    Renewed,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kept => "kept",
            Self::Made => "made",
            Self::Renewed => "renewed",
        })
    }
}

impl fmt::Display for Initialised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dir = self.dir.display();
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        writeln!(f, "{:<8} {dir}/ca.crt, ca.key          (keep the key to yourself)", self.ca)?;
        writeln!(f, "{:<8} {dir}/server.crt, server.key  for {}", self.server, names.join(", "))?;
        write!(
            f,
            "
In pullgate.toml:
    tls = {{ certificate = \"{dir}/server.crt\", key = \"{dir}/server.key\" }}

Clients must trust ca.crt. With the gate at GATE:5000:
    containerd  ca = \"/etc/containerd/certs.d/pullgate-ca.crt\"  below [host.\"https://GATE:5000\"] in each hosts.toml
    docker      cp {dir}/ca.crt /etc/docker/certs.d/GATE:5000/ca.crt
    podman      cp {dir}/ca.crt /etc/containers/certs.d/GATE:5000/ca.crt
    curl        curl --cacert {dir}/ca.crt https://GATE:5000/v2/
This CA is for development; see certs/README.md.
"
        )
    }
}

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// The CA has expired.
    #[error("{}: the CA expired on {until}; `--force` makes a new one, which clients must then be given", path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// When it expired.
        until: Timestamp,
    },
    /// The certificate is someone else's.
    #[error("{}: not made by the CA beside it, so it stays; `--force` replaces it", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// A name cannot be put into a certificate.
    #[error("{0:?} is neither a DNS name nor an address")]
    Name(String),
    /// A file is there and cannot be used.
    #[error("{}: {what}; `--force` replaces it", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

struct Files {
    ca: PathBuf,
    ca_key: PathBuf,
    server: PathBuf,
    server_key: PathBuf,
}

impl Files {
    fn of(dir: &Path) -> Self {
        let file = |name| dir.join(name);
        Self { ca: file("ca.crt"), ca_key: file("ca.key"), server: file("server.crt"), server_key: file("server.key") }
    }
}

/// The CA, as its files have it.
struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn load(files: &Files, now: Timestamp) -> Result<Self, CertsError> {
        let certificate = certificate(&files.ca)?;
        let until = not_after(&certificate);
        if now >= until {
            return Err(CertsError::Expired { path: files.ca.clone(), until });
        }
        let key_error = |what: &str| CertsError::Unusable { path: files.ca_key.clone(), what: what.to_owned() };
        let key = KeyPair::from_pem(&read(&files.ca_key)?).map_err(|_| key_error("no usable key in PEM"))?;
        if certificate.tbs_certificate.subject_public_key_info.subject_public_key.raw_bytes() != key.der_bytes() {
            return Err(key_error("not the key of ca.crt"));
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(&certificate)
            .ok_or_else(|| CertsError::Unusable { path: files.ca.clone(), what: "its name is unusual".to_owned() })?;
        if let Ok(Some((_, SubjectKeyIdentifier(id)))) = certificate.tbs_certificate.get() {
            params.key_identifier_method = KeyIdMethod::PreSpecified(id.as_bytes().to_vec());
        }
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }
}

/// A server certificate that is there already.
struct ServerCertificate {
    names: BTreeSet<String>,
    until: Timestamp,
    has_key: bool,
}

impl ServerCertificate {
    fn load(files: &Files, authority: &Authority) -> Result<Self, CertsError> {
        let certificate = certificate(&files.server)?;
        if certificate.tbs_certificate.issuer != authority.certificate.tbs_certificate.subject {
            return Err(CertsError::Foreign { path: files.server.clone() });
        }
        let names = match certificate.tbs_certificate.get::<SubjectAltName>() {
            Ok(Some((_, SubjectAltName(names)))) => names.iter().filter_map(name_text).collect(),
            _ => BTreeSet::new(),
        };
        Ok(Self { names, until: not_after(&certificate), has_key: files.server_key.exists() })
    }

    fn outcome(&self, wanted: &BTreeSet<String>, now: Timestamp) -> Outcome {
        let soon = now.saturating_add(Duration::from_secs(RENEW_DAYS * DAY)).unwrap_or(Timestamp::MAX);
        let good = self.has_key && self.until > soon && wanted.is_subset(&self.names);
        if good { Outcome::Kept } else { Outcome::Renewed }
    }
}

fn make_ca(files: &Files, now: Timestamp) -> Result<(), CertsError> {
    let key = KeyPair::generate()?;
    // Clients that meet two CAs of one name and different keys report bad signatures, so each has its own name.
    let id: String = Sha256::digest(key.der_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let mut params = valid_for(CA_DAYS, now);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("pullgate development CA {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    write(&files.ca_key, &key.serialize_pem(), 0o600)?;
    write(&files.ca, &certificate.pem(), 0o644)
}

fn make_server(
    files: &Files,
    authority: &Authority,
    names: &BTreeSet<String>,
    days: u32,
    now: Timestamp,
) -> Result<(), CertsError> {
    let key = KeyPair::generate()?;
    let mut params = valid_for(u64::from(days), now);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "pullgate");
    params.subject_alt_names = names.iter().map(|name| subject_alt_name(name)).collect::<Result<_, _>>()?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &authority.issuer)?;
    write(&files.server_key, &key.serialize_pem(), 0o600)?;
    write(&files.server, &certificate.pem(), 0o644)
}

/// Valid from an hour ago, because clocks differ.
fn valid_for(days: u64, now: Timestamp) -> CertificateParams {
    let epoch = date_time_ymd(1970, 1, 1);
    let now = epoch + Duration::from_secs(u64::try_from(now.as_second()).unwrap_or_default());
    let mut params = CertificateParams::default();
    params.not_before = now - Duration::from_secs(3600);
    params.not_after = now + Duration::from_secs(days * DAY);
    params
}

fn default_names() -> Vec<String> {
    let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST).to_string(), IpAddr::from(Ipv6Addr::LOCALHOST).to_string()];
    let mut names = vec!["localhost".to_owned()];
    names.extend(loopback);
    // The kernel's own file, so that no system call needs a crate; elsewhere `--name` says it.
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_ascii_lowercase();
    if subject_alt_name(&host).is_ok() {
        names.push(host);
    }
    names
}

fn subject_alt_name(name: &str) -> Result<SanType, CertsError> {
    if let Ok(address) = name.parse() {
        return Ok(SanType::IpAddress(address));
    }
    let labels = name.strip_prefix("*.").unwrap_or(name);
    let good = rustls::pki_types::DnsName::try_from(labels).is_ok();
    let dns = name.try_into().ok().filter(|_| good).ok_or_else(|| CertsError::Name(name.to_owned()))?;
    Ok(SanType::DnsName(dns))
}

fn name_text(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
        GeneralName::IpAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(bytes.as_bytes()).map(IpAddr::from).ok();
            let v6 = || <[u8; 16]>::try_from(bytes.as_bytes()).map(IpAddr::from).ok();
            v4.or_else(v6).map(|address| address.to_string())
        }
        _ => None,
    }
}

/// The subject as rcgen writes it, so that what is signed names its issuer byte for byte. `None` for string types that
/// no CA of today uses, and for names of several parts in one.
fn distinguished_name(certificate: &Certificate) -> Option<DistinguishedName> {
    let mut name = DistinguishedName::new();
    for part in &certificate.tbs_certificate.subject.0 {
        let [attribute] = part.0.as_slice() else { return None };
        let oid: Vec<u64> = attribute.oid.arcs().map(u64::from).collect();
        let text = std::str::from_utf8(attribute.value.value()).ok()?;
        let value = match attribute.value.tag() {
            Tag::PrintableString => DnValue::PrintableString(text.try_into().ok()?),
            Tag::Utf8String => DnValue::Utf8String(text.to_owned()),
            _ => return None,
        };
        name.push(DnType::from_oid(&oid), value);
    }
    // What was read must be what will be written.
    let complete = name.iter().count() == certificate.tbs_certificate.subject.0.len();
    (complete && certificate.tbs_certificate.subject.to_der().is_ok()).then_some(name)
}

fn certificate(path: &Path) -> Result<Certificate, CertsError> {
    let pem = read(path)?;
    Certificate::from_pem(pem.as_bytes()).map_err(|error| CertsError::Unusable {
        path: path.to_owned(),
        what: format!("no certificate in PEM: {error}"),
    })
}

fn not_after(certificate: &Certificate) -> Timestamp {
    let seconds = certificate.tbs_certificate.validity.not_after.to_unix_duration().as_secs();
    i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or(Timestamp::MAX)
}

fn read(path: &Path) -> Result<String, CertsError> {
    fs::read_to_string(path).map_err(|source| CertsError::Io { path: path.to_owned(), source })
}

/// Beside it first and then renamed, so that a running gate reads the old file or the new one.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), CertsError> {
    let error = |source| CertsError::Io { path: path.to_owned(), source };
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(error(source)),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new).map_err(error)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(error)?;
    fs::rename(&new, path).map_err(error)
}

#[cfg(test)]
mod tests;
