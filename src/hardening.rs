//! Checks of an image's configuration and of its files for what is known to be unsafe: a root user, secrets, programs
//! with the rights of others, unsafe settings of servers. IBM's Vulnerability Advisor calls them configuration issues.
//!
//! A layer is read once ([`crate::inventory`]), and each file that may matter is examined then: [`CheckedFile::at`]
//! says which, [`CheckedFile::examine`] and [`check_mode`] return what was observed. Observations are small: a check, a
//! line and a few words, never the content of the file. A secret is described by its kind and by the beginning of its
//! hash. When all layers are known, [`file_findings`] draws the conclusions that depend on several files, and
//! [`image_findings`] checks the configuration of the image.
//!
//! Contents are untrusted. All limits are below; a file that is not read because of a limit is a finding itself if its
//! name says that it matters.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::oci::Digest;

mod accounts;
mod apache;
mod check;
mod ciphers;
mod conclude;
mod credentials;
mod file;
mod image;
mod mysql;
mod nginx;
mod placeholder;
mod places;
mod private_key;
mod secrets;
mod sshd;

pub use check::HardeningCheck;
pub use conclude::{ObservedFile, file_findings};
pub use file::{CheckedFile, check_mode, enabled_file};
pub use image::{ImageSettings, image_findings};

/// The largest file that is examined, in bytes.
pub const MAX_FILE: u64 = 1024 * 1024;
/// The maximum number of observations about one file.
const MAX_OBSERVATIONS: usize = 32;
/// The maximum length of a detail, in bytes.
const MAX_DETAIL: usize = 200;
/// The maximum number of findings about one image.
const MAX_FINDINGS: usize = 10_000;

/// Something unsafe in an image.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HardeningFinding {
    /// What was checked.
    pub check: HardeningCheck,
    /// The file, without a leading `/`. `None` if it is the image's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The line in the file, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// What was found, in a few words: `PermitRootLogin yes`. Never a secret.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The layer that contains the file, by the digest of its uncompressed content (`diff_id`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<Digest>,
}

/// What was observed about a file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileObservation {
    /// A link in a directory of enabled configuration files leads to this file.
    Enables(String),
    /// A required setting is present. See [`ServerProgram::required`].
    Satisfies(HardeningCheck),
    /// An account with the rights of the superuser, by its name.
    Superuser(String),
    /// Something unsafe.
    Unsafe {
        /// What was checked.
        check: HardeningCheck,
        /// The line in the file, from 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        line: Option<u32>,
        /// What was found, in a few words.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
    },
    /// The file configures this program.
    Configures(ServerProgram),
}

impl FileObservation {
    /// Something unsafe in a line.
    fn unsafe_line(check: HardeningCheck, line: usize, detail: impl Into<String>) -> Self {
        Self::Unsafe { check, line: u32::try_from(line).ok(), detail: shortened(detail.into()) }
    }

    /// Something unsafe about the file as a whole.
    fn unsafe_file(check: HardeningCheck, detail: impl Into<String>) -> Self {
        Self::Unsafe { check, line: None, detail: shortened(detail.into()) }
    }

    /// Stands for observations that were too many to be kept.
    pub fn left_out() -> Self {
        Self::unsafe_file(HardeningCheck::FilesUnchecked, "the layer has too many findings: the rest is omitted")
    }

    /// The length of all texts, in bytes.
    pub fn text_bytes(&self) -> usize {
        match self {
            Self::Enables(text) | Self::Superuser(text) => text.len(),
            Self::Unsafe { detail, .. } => detail.len(),
            Self::Satisfies(_) | Self::Configures(_) => 0,
        }
    }

    /// Whether this remains true of the image if the file is deleted by a later layer: a secret can still be read from
    /// the layer.
    pub fn is_secret(&self) -> bool {
        matches!(self, Self::Unsafe { check, .. } if check.is_secret())
    }

    /// Whether files of the distribution's packages may be like this: their permissions are reviewed, and their keys
    /// are for tests.
    pub fn may_be_packaged(&self) -> bool {
        matches!(self, Self::Unsafe { check, .. } if check.may_be_packaged())
    }
}

/// A program whose configuration must contain some settings, because their defaults are unsafe.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerProgram {
    /// The Apache HTTP Server.
    Apache,
    /// The server of MySQL or MariaDB.
    Mysql,
    /// NGINX.
    Nginx,
    /// NGINX with TLS.
    NginxTls,
}

impl ServerProgram {
    /// The settings that must be present, with their names.
    fn required(self) -> &'static [(HardeningCheck, &'static str)] {
        match self {
            Self::Apache => &[
                (HardeningCheck::ApacheServerTokens, "ServerTokens"),
                (HardeningCheck::ApacheTraceEnable, "TraceEnable"),
            ],
            Self::Mysql => &[
                (HardeningCheck::MysqlLogError, "log_error"),
                (HardeningCheck::MysqlSkipShowDatabase, "skip-show-database"),
                (HardeningCheck::MysqlSslCa, "ssl-ca"),
                (HardeningCheck::MysqlSslCert, "ssl-cert"),
                (HardeningCheck::MysqlSslKey, "ssl-key"),
            ],
            Self::Nginx => &[(HardeningCheck::NginxServerTokens, "server_tokens")],
            Self::NginxTls => &[(HardeningCheck::NginxAddHeader, "add_header Strict-Transport-Security")],
        }
    }
}

/// The accounts with the rights of the superuser. `root` is always one of them, even if no file says so.
pub type Superusers = BTreeSet<String>;

/// A text that is short enough to be kept.
fn shortened(mut text: String) -> String {
    if text.len() > MAX_DETAIL {
        text.truncate(text.floor_char_boundary(MAX_DETAIL - 3));
        text.push('…');
    }
    text
}

/// Describes a secret by the beginning of its hash: enough to compare it with another one, too little to restore it.
/// Only for secrets that cannot be guessed; a password can be found by its hash.
fn fingerprint(secret: &[u8]) -> String {
    format!("sha256 {}", &Digest::sha256(secret).hex()[..12])
}

/// The lines of a text with their numbers, from 1, without line ends and surrounding blanks.
fn numbered_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()))
}

#[cfg(test)]
mod tests;
