//! A development certificate authority and a server certificate that it issues.
//!
//! [`init`] fills one directory with `ca.crt`, `ca.key`, `server.crt` and `server.key`. It never replaces a CA or a
//! certificate that it did not issue, unless [`CertificateRequest::replace`] says so.

mod certificate;
mod files;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use jiff::Timestamp;

use certificate::{DevelopmentCa, IssuedCertificate, machine_names};
use files::CertificateFiles;

/// The certificates that [`init`] is to make.
#[derive(Clone, Debug)]
pub struct CertificateRequest {
    /// The directory of the files.
    pub dir: PathBuf,
    /// DNS names and addresses by which clients reach the server, besides `localhost` and this machine's name.
    pub names: Vec<String>,
    /// How long the server certificate is valid, in days.
    pub days: u32,
    /// Whether an existing CA and certificate are replaced, even if issued by someone else.
    pub replace: bool,
}

/// The result of [`init`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateSet {
    /// The directory of the files, as an absolute path.
    pub dir: PathBuf,
    /// The result for the CA.
    pub ca: CertificateState,
    /// The result for the server certificate.
    pub server: CertificateState,
    /// Every name in the server certificate.
    pub names: BTreeSet<String>,
}

/// The result of [`init`] for one certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CertificateState {
    /// It existed and is still good.
    Kept,
    /// It was issued for the first time, or replaced on request.
    Made,
    /// A new one was issued in place of one that is about to expire or lacks a name.
    Renewed,
}

/// Makes what is missing: `ca.crt`, `ca.key`, `server.crt`, `server.key`. An existing CA is used again. A server
/// certificate of that CA is renewed when it expires within 30 days or lacks a name, and keeps the names that it has.
///
/// # Errors
/// If a file cannot be read, used or written, or a name is neither a DNS name nor an address.
pub fn init(request: &CertificateRequest, now: Timestamp) -> Result<CertificateSet, PkiError> {
    let CertificateRequest { dir, replace, .. } = request;
    let files = CertificateFiles::in_dir(dir);
    fs::create_dir_all(dir).map_err(|source| PkiError::Io { path: dir.clone(), source })?;
    let ca_state = if !replace && (files.ca.exists() || files.ca_key.exists()) {
        CertificateState::Kept
    } else {
        DevelopmentCa::make(&files, now)?;
        CertificateState::Made
    };
    let ca = DevelopmentCa::load(&files, now)?;
    let mut names: BTreeSet<String> = machine_names().into_iter().chain(request.names.iter().cloned()).collect();
    let server_state = if *replace || !files.server.exists() {
        CertificateState::Made
    } else {
        let existing = IssuedCertificate::load(&files, &ca)?;
        let state = existing.state(&names, now);
        names.extend(existing.names);
        state
    };
    if server_state != CertificateState::Kept {
        ca.issue_server_certificate(&files, &names, request.days, now)?;
    }
    let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.clone());
    Ok(CertificateSet { dir, ca: ca_state, server: server_state, names })
}

/// Why [`init`] failed.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The CA has expired.
    #[error("{}: the CA expired on {until}", path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// When it expired.
        until: Timestamp,
    },
    /// Another CA issued the certificate.
    #[error("{}: not issued by the CA in the same folder", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// A name cannot be part of a certificate.
    #[error("{0:?} is neither a DNS name nor an address")]
    Name(String),
    /// A file exists and cannot be used.
    #[error("{}: {what}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The problem with it.
        what: String,
    },
}

#[cfg(test)]
mod tests;
