//! Where a password, a key or a token of the configuration is.

use std::env::VarError;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

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
    /// Reads the secret. It may have several lines: a password can be a JSON document.
    ///
    /// # Errors
    /// Names the file or variable, but never its content.
    pub fn read(&self) -> Result<String, String> {
        self.read_as(flaw)
    }

    /// The same for a key or a token, which has one line.
    ///
    /// # Errors
    /// The same as [`read`](Self::read), and if there are more lines.
    pub fn read_line(&self) -> Result<String, String> {
        // As `ibmcloud iam api-key-create --file` writes it.
        let is_json = |text: &str| {
            (text.starts_with('{') && text.trim_end().ends_with('}'))
                .then_some("it is JSON: write only the value of the key there")
        };
        self.read_as(|text| flaw(text).or_else(|| is_json(text)).or_else(|| more_lines(text)))
    }

    fn read_as(&self, flaw: impl Fn(&str) -> Option<&'static str>) -> Result<String, String> {
        match self {
            Self::Env(name) => {
                let text = std::env::var(name).map_err(|error| match error {
                    VarError::NotPresent => format!("the environment variable {name} is not set"),
                    VarError::NotUnicode(_) => format!("the environment variable {name} is not UTF-8 text"),
                })?;
                flaw(&text).map_or(Ok(text), |why| Err(format!("the environment variable {name}: {why}")))
            }
            Self::File(path) => {
                let wrong = |what: &dyn fmt::Display| format!("{}: {what}", path.display());
                let text = read_plain_text(path, MAX_SECRET).map_err(|error| match error.kind() {
                    ErrorKind::FileTooLarge => wrong(&"the file is too large for a secret"),
                    _ => wrong(&error),
                })?;
                match text.trim_end_matches(['\n', '\r']) {
                    "" => Err(wrong(&"the file is empty")),
                    secret => flaw(secret).map_or_else(|| Ok(secret.to_owned()), |why| Err(wrong(&why))),
                }
            }
        }
    }
}

/// Reads a token that is sent in a header, without white space around it.
///
/// # Errors
/// Why the file, which the message does not name, contains no token that can be sent.
pub fn read_token(path: &Path) -> Result<String, String> {
    let text = read_plain_text(path, MAX_SECRET).map_err(|error| error.to_string())?;
    let token = text.trim();
    flaw(token).or_else(|| more_lines(token)).map_or_else(|| Ok(token.to_owned()), |why| Err(why.to_owned()))
}

/// Why a text cannot be a secret: an editor or a tool has written something else.
fn flaw(text: &str) -> Option<&'static str> {
    let is_odd = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
    if text.starts_with('\u{feff}') {
        Some("it begins with a byte order mark, which is not a part of a secret")
    } else if text.contains(is_odd) {
        Some("it has a control character, so it is not text")
    } else {
        None
    }
}

fn more_lines(text: &str) -> Option<&'static str> {
    text.contains(['\n', '\r']).then_some("it has more than one line")
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_cannot_be_secrets_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let secret = Secret::File(path.clone());
        let json = "{\n\t\"key\": 1\n}";
        for (content, wanted) in [
            ("secret\r\n", Ok("secret")),
            (" a b ", Ok(" a b ")),
            (json, Ok(json)),
            ("\n", Err("the file is empty")),
            ("\u{feff}secret\n", Err("it begins with a byte order mark")),
            ("sec\0ret", Err("it has a control character")),
        ] {
            std::fs::write(&path, content).unwrap();
            match (secret.read(), wanted) {
                (Ok(read), Ok(wanted)) => assert_eq!(read, wanted),
                (Err(error), Err(wanted)) => assert!(error.contains(wanted) && !error.contains("sec\0"), "{error}"),
                (read, _) => panic!("{content:?}: {}", read.is_ok()),
            }
        }
        for (content, wanted) in [
            ("token\n", ""),
            ("one\ntwo\n", "more than one line"),
            ("one\rtwo", "more than one line"),
            ("{\"name\":\"gate\",\"apikey\":\"k\"}", "it is JSON"),
            ("{\n\t\"apikey\": \"k\"\n}\n", "it is JSON"),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = secret.read_line().err().unwrap_or_default();
            assert!(error.contains(wanted) && error.is_empty() == wanted.is_empty(), "{content:?} {error}");
        }
    }

    #[test]
    fn tokens_have_one_line_of_what_a_header_can_carry() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        for (content, wanted) in [
            (" 0123456789 abcdef+/= \r\n", Ok("0123456789 abcdef+/=")),
            ("", Ok("")),
            ("old\nnew\n", Err("more than one line")),
            ("token # for CI\n\n# rotate it\n", Err("more than one line")),
            ("\u{feff}token", Err("byte order mark")),
            ("to\u{301}ken", Ok("to\u{301}ken")),
            ("to\tken", Ok("to\tken")),
            ("to\u{7f}ken", Err("control character")),
        ] {
            std::fs::write(&path, content).unwrap();
            match (read_token(&path), wanted) {
                (Ok(token), Ok(wanted)) => assert_eq!(token, wanted),
                (Err(error), Err(wanted)) => assert!(error.contains(wanted), "{error}"),
                (token, _) => panic!("{content:?}: {token:?}"),
            }
        }
    }
}
