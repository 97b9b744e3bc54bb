//! Certificates, keys, certificate authorities and secrets.

use std::io;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use super::{PreflightDepth, PreflightFindings, mode};
use crate::config::is_loopback;
use crate::markup::ProblemSeverity;
use crate::runtime::Secret;
use crate::server::{self, TlsError, TlsReport, admin};
use crate::upstream::{self, Auth};
use crate::va::{AdapterAuth, AdapterConfig, ScannerKind};
use crate::{events, http_client, otlp};

/// How long before its end a certificate is reported, unless it is issued for a short time: then in its last third.
const EXPIRES_SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

pub(super) fn check(found: &mut PreflightFindings<'_>) {
    let now = found.now;
    let config = found.config;
    for (index, listener) in config.listeners.iter().enumerate() {
        if let Some(tls) = &listener.tls {
            listener_files(found, &format!("listener[{index}].tls"), tls, now);
        }
    }
    admin_token(found);
    for (index, upstream) in config.upstreams.iter().enumerate() {
        self::upstream(found, &config.places.item("upstream", index), upstream);
    }
    found.connection("trust.revocation", config.revocation.proxy.as_deref(), None);
    if let Some(databases) = &config.va.databases {
        found.connection("va.database", databases.sources.proxy.as_deref(), databases.sources.ca.as_deref());
    }
    if let Some(ibm) = &config.va.ibm {
        found.connection("va.ibm", ibm.proxy.as_deref(), ibm.ca.as_deref());
        secret(found, "va.ibm", "api_key", &ibm.api_key);
    }
    for (index, scanner) in config.va.scanners.iter().enumerate() {
        if let ScannerKind::Adapter(adapter) = &scanner.kind {
            self::adapter(found, &config.places.item("va.scanner", index), adapter);
        }
    }
    found.connection("tracing", None, config.tracing.ca.as_deref());
    match otlp::check(&config.tracing) {
        Ok(None) => {}
        Ok(Some(warning)) => found.warn("tracing", &warning, Some("or unset the variable")),
        Err(error) => found.error("tracing", &error.to_string(), Some("set the variable or the key to a usable value")),
    }
    let events = &config.events;
    found.connection("events", events.proxy.as_deref(), events.ca.as_deref());
    if events.ca.is_none() && events.urls.iter().any(|url| url.starts_with("https://")) {
        installed_authorities(found, "events.urls");
    }
    if let Some(path) = &events.secret_file {
        found.access("events.secret_file", path);
        found.secret("events.secret_file", events::check_secret(path));
    }
    if let Some(path) = &events.token_file {
        found.access("events.token_file", path);
        found.secret("events.token_file", Secret::File(path.clone()).read_line().map(drop));
    }
}

/// Reports that no certificate of a service could be verified.
fn installed_authorities(found: &mut PreflightFindings<'_>, key: &str) {
    if let Err(error) = http_client::check_system_roots() {
        found.error(key, &error.to_string(), None);
    }
}

fn admin_token(found: &mut PreflightFindings<'_>) {
    let config = found.config;
    if let Some(path) = &config.admin.token_file {
        found.access("admin.token_file", path);
    }
    let is_whole = found.depth == PreflightDepth::Everything;
    if let Err(error) = admin::check_token(&config.admin) {
        let hint = "it is a file with at least 16 characters, such as the output of `openssl rand -hex 32`";
        found.error("admin.token_file", &error.to_string(), Some(hint));
    } else if let Some(path) = config.admin.token_file.as_ref().filter(|path| is_whole && is_open_to_all(path)) {
        let message =
            format!("{}: every user of this machine can read this token, and control the gate", path.display());
        found.warn("admin.token_file", &message, Some("chmod o-r"));
    }
    if is_whole && config.admin.token_file.is_some() && !is_loopback(&config.admin.address) {
        let message =
            format!("{}: the admin listener has no TLS, so the token can be read in transit", config.admin.address);
        let hint = "use it within a trusted network only, put a proxy with TLS in front of it, or use the socket";
        found.warn("admin.address", &message, Some(hint));
    }
}

fn listener_files(found: &mut PreflightFindings<'_>, table: &str, tls: &server::TlsConfig, now: Timestamp) {
    found.access(&format!("{table}.certificate"), &tls.certificate);
    found.access(&format!("{table}.key"), &tls.key);
    if let Some(client_ca) = &tls.client_ca {
        found.access(&format!("{table}.client_ca"), client_ca);
    }
    let TlsReport { errors, warnings, validity } = server::check_tls(tls, now);
    for (key, error) in errors {
        let severity = match (&error, found.depth) {
            // As before the restart.
            (TlsError::Expired { .. }, PreflightDepth::Start) => ProblemSeverity::Warning,
            _ => ProblemSeverity::Error,
        };
        found.add(severity, &format!("{table}.{key}"), &error.to_string(), Some(tls_hint(key, &error)));
    }
    if found.depth == PreflightDepth::Everything {
        for (key, warning) in warnings {
            let hint = match key {
                "client_ca" => "name the current certificate of the CA that issues those of clients",
                _ => "clients check the whole chain: the server's certificate, and each one that issued the one before",
            };
            found.warn(&format!("{table}.{key}"), &warning, Some(hint));
        }
    }
    if let Some((from, until)) = validity {
        let (left, lifetime) = (until.duration_since(now), until.duration_since(from));
        if left < EXPIRES_SOON && left < lifetime / 3 {
            let message = format!("{}: the certificate expires soon, on {until}", tls.certificate.display());
            found.warn(&format!("{table}.certificate"), &message, Some("renew it; a running gate reads it again"));
        }
    }
    if is_open_to_all(&tls.key) {
        let message = format!("{}: every user of this machine can read this key", tls.key.display());
        found.warn(&format!("{table}.key"), &message, Some("chmod o-r"));
    }
}

fn tls_hint(key: &str, error: &TlsError) -> &'static str {
    match error {
        TlsError::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            "make it readable for the user that runs pullgate"
        }
        _ if key == "client_ca" => "it is the CA that issues the certificates of clients, in PEM",
        TlsError::Read { .. } => "`pullgate certs init` makes certificate and key for development",
        TlsError::Encrypted { .. } => "write it without a passphrase: `openssl pkey -in KEY -out PLAIN_KEY`",
        TlsError::KeyKind { .. } => "use ECDSA on P-256 or P-384, RSA with 2048 bits or more, or Ed25519",
        TlsError::Key { .. } => "certificate and key must be made together; both are PEM",
        TlsError::Certificate { .. } => "it must contain certificates in PEM, the server's first",
        TlsError::Expired { .. } => "renew it; a gate that starts uses it, degraded, and clients refuse it",
        TlsError::NotYetValid { .. } => "renew it",
    }
}

fn is_open_to_all(path: &Path) -> bool {
    mode(path) & 0o004 != 0
}

fn upstream(found: &mut PreflightFindings<'_>, table: &str, config: &upstream::Config) {
    found.connection(table, config.proxy.as_deref(), config.ca.as_deref());
    if config.url.starts_with("https://") && config.ca.is_none() && !config.insecure && !config.offline {
        installed_authorities(found, &format!("{table}.url"));
    }
    // A URL of another scheme is a mistake that was reported.
    let is_http = config.url.starts_with("https://") || config.url.starts_with("http://");
    if let Err(error) = config.base_url()
        && is_http
    {
        found.error(&format!("{table}.url"), &error.to_string(), Some("such as https://registry.acme.com"));
    }
    let auth = format!("{table}.auth");
    match &config.auth {
        Auth::Anonymous => {}
        Auth::Basic { password, .. } => secret(found, &auth, "password", password),
        Auth::Iam { api_key } => secret(found, &auth, "api_key", api_key),
        Auth::DockerConfig { file } => {
            found.access(&format!("{auth}.file"), file);
            found.secret(&format!("{auth}.file"), config.check_docker_config());
        }
        Auth::Helper { program } => {
            found.secret(&format!("{auth}.program"), upstream::find_helper(program).map(drop));
        }
    }
}

fn adapter(found: &mut PreflightFindings<'_>, table: &str, adapter: &AdapterConfig) {
    found.connection(table, adapter.proxy.as_deref(), adapter.ca.as_deref());
    adapter_auth(found, &format!("{table}.auth"), &adapter.auth);
    // The tables of `registry` no longer have positions; their place is that of the list.
    for registry in adapter.registries.values() {
        adapter_auth(found, &format!("{table}.registry"), &registry.auth);
    }
}

fn adapter_auth(found: &mut PreflightFindings<'_>, table: &str, auth: &AdapterAuth) {
    match auth {
        AdapterAuth::None => {}
        AdapterAuth::ApiKey(key) => secret(found, table, "key", key),
        AdapterAuth::Basic { password, .. } => secret(found, table, "password", password),
        AdapterAuth::Bearer(token) => secret(found, table, "token", token),
    }
}

/// Reads the secret of a table: `NAME_file` or `NAME_env`. Only passwords may have several lines.
fn secret(found: &mut PreflightFindings<'_>, table: &str, name: &str, secret: &Secret) {
    let kind = if matches!(secret, Secret::File(_)) { "file" } else { "env" };
    if let Secret::File(path) = secret {
        found.access(&format!("{table}.{name}_file"), path);
    }
    let read = if name == "password" { secret.read() } else { secret.read_line() };
    found.secret(&format!("{table}.{name}_{kind}"), read.map(drop));
}
