//! Files that the gate writes must not be files that it reads, nor its other files.

use std::path::{Component, Path, PathBuf};

use super::PreflightFindings;
use crate::upstream::{Auth, Secret};

/// What pullgate writes in a state directory besides the audit file and the socket. Files below are its own, too.
const STATE_FILES: [&str; 9] = [
    "advisories",
    "blobs",
    "lock",
    "next.sock",
    "pullgate.db",
    "pullgate.db-journal",
    "pullgate.db-shm",
    "pullgate.db-wal",
    "scans",
];

pub(super) fn check(found: &mut PreflightFindings<'_>) {
    let config = found.config;
    let (audit, socket) = (resolved(&config.audit.file), resolved(&config.admin.socket));
    let reserved = reserved(found);
    for (key, path) in [("audit.file", &audit), ("admin.socket", &socket)] {
        let taken = reserved.iter().find(|(_, other)| path.starts_with(other));
        if let Some((what, _)) = taken {
            let message = format!("{}: this is {what}", path.display());
            found.error(key, &message, Some("name a file that is used for nothing else"));
        }
    }
    if audit == socket {
        let message = format!("{}: this is also admin.socket", audit.display());
        found.error("audit.file", &message, Some("name a file that is used for nothing else"));
    }
}

/// The files and directories that the gate reads or manages, with what they are.
fn reserved(found: &PreflightFindings<'_>) -> Vec<(String, PathBuf)> {
    let config = found.config;
    let mut all = vec![("the configuration".to_owned(), PathBuf::from(config.places.file()))];
    all.push(("in policy.dir".to_owned(), config.policy_dir.clone()));
    let state = |name: &str| (format!("pullgate's own {name}"), config.state_dir.join(name));
    all.extend(STATE_FILES.map(state));
    let mut named = |key: &str, path: Option<&PathBuf>| all.extend(path.map(|path| (key.to_owned(), path.clone())));
    for tls in config.listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
        named("the certificate of a listener", Some(&tls.certificate));
        named("the key of a listener", Some(&tls.key));
        named("the client_ca of a listener", tls.client_ca.as_ref());
    }
    named("admin.token_file", config.admin.token_file.as_ref());
    named("events.secret_file", config.events.secret_file.as_ref());
    named("events.token_file", config.events.token_file.as_ref());
    named("events.ca", config.events.ca.as_ref());
    named("tracing.ca", config.tracing.ca.as_ref());
    config.va.reports.iter().for_each(|reports| named("in va.reports", Some(reports)));
    named("trust.notary_root", config.notary_root.as_ref());
    for root in &config.policy.trusted_roots {
        named("in trust.trusted_roots", Some(&root.into()));
    }
    for upstream in &config.upstreams {
        named("the CA of an upstream", upstream.ca.as_ref());
        if let Auth::Basic { password: Secret::File(file), .. }
        | Auth::Iam { api_key: Secret::File(file) }
        | Auth::DockerConfig { file } = &upstream.auth
        {
            named("the credentials of an upstream", Some(file));
        }
    }
    all.into_iter().map(|(what, path)| (what, resolved(&path))).collect()
}

/// The path without links and `..`, as far as it exists.
pub(super) fn resolved(path: &Path) -> PathBuf {
    if let Ok(whole) = path.canonicalize() {
        return whole;
    }
    let mut plain = PathBuf::new();
    for component in std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).components() {
        match component {
            Component::ParentDir => _ = plain.pop(),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    let folder = plain.parent().and_then(|parent| parent.canonicalize().ok());
    match (folder, plain.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => plain,
    }
}
