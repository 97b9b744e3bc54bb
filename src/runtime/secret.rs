//! Where a password, a key or a token of the configuration is.

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;

use super::plain_file::read_plain_text;

/// The maximum size of a secret, in bytes.
const MAX_SECRET: u64 = 64 * 1024;

/// The location of a secret. It does not contain the secret itself, so it can be printed. It is read each time it is
/// needed, so the secret can be changed without a restart.
#[derive(Clone, Eq, PartialEq)]
pub enum Secret {
    /// An environment variable.
    Env(String),
    /// A file; a line break at the end is removed.
    File(PathBuf),
}

impl Secret {
    /// Reads the secret.
    ///
    /// # Errors
    /// Names the file or variable, but never its content.
    pub fn read(&self) -> Result<String, String> {
        match self {
            Self::Env(name) => std::env::var(name).map_err(|_| format!("the environment variable {name} is not set")),
            Self::File(path) => {
                let wrong = |what: &dyn fmt::Display| format!("{}: {what}", path.display());
                let text = read_plain_text(path, MAX_SECRET).map_err(|error| match error.kind() {
                    ErrorKind::FileTooLarge => wrong(&"the file is too large for a secret"),
                    _ => wrong(&error),
                })?;
                match text.trim_end_matches(['\n', '\r']) {
                    "" => Err(wrong(&"the file is empty")),
                    secret => Ok(secret.to_owned()),
                }
            }
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
        }
    }
}
