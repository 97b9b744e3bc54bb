//! Private keys in text: PEM (RFC 7468), OpenSSH, OpenPGP, and PuTTY.

use super::places::{file_name, is_key_name};
use super::{HardeningCheck, fingerprint};

pub(super) const BEGIN: &str = "-----BEGIN ";
pub(super) const PUTTY: &str = "PuTTY-User-Key-File-";

/// The longest label: `ENCRYPTED PRIVATE KEY`, `PGP PRIVATE KEY BLOCK`.
const MAX_LABEL: usize = 40;
/// The longest private key that is recognised, in bytes of text.
const MAX_KEY: usize = 64 * 1024;
/// The shortest private key, in letters of base 64: Ed25519 in PKCS #8 has 64.
const MIN_LETTERS: usize = 60;
/// A key has at least this many different letters.
const MIN_DIFFERENT: usize = 10;

/// The check and a description of the private key that begins at `start`. Certificates, public keys, and keys whose
/// content is missing or replaced by dots do not count.
pub(super) fn at(path: &str, content: &[u8], start: usize) -> Option<(HardeningCheck, String)> {
    let rest = &content[start..];
    if rest.starts_with(PUTTY.as_bytes()) {
        let is_first = content[..start].iter().all(u8::is_ascii_whitespace);
        return is_first.then(|| (HardeningCheck::SshPrivateKey, "PuTTY private key".to_owned()));
    }
    let rest = rest.get(BEGIN.len()..)?;
    let end = find(&rest[..rest.len().min(MAX_LABEL + 5)], b"-----")?;
    let label = std::str::from_utf8(&rest[..end]).ok()?;
    if !label.ends_with("PRIVATE KEY") && !label.ends_with("PRIVATE KEY BLOCK") {
        return None;
    }
    let body = &rest[end + 5..];
    // The next dashes end the key or begin another one, so no byte is searched twice.
    let end = find(&body[..body.len().min(MAX_KEY)], b"-----").filter(|end| body[*end..].starts_with(b"-----END "));
    let body = end.map_or(&[][..], |end| &body[..end]);
    let fingerprint = match letters(body) {
        Some(letters) => format!(" ({})", fingerprint(&letters)),
        // The name says that it is a key, so even a damaged one counts.
        None if is_key_name(path) => String::new(),
        None => return None,
    };
    let is_encrypted = label.starts_with("ENCRYPTED") || find(body, b"ENCRYPTED").is_some();
    let encrypted = if is_encrypted { ", encrypted" } else { "" };
    Some((check_for(path, label, content), format!("{}{encrypted}{fingerprint}", label.to_ascii_lowercase())))
}

fn check_for(path: &str, label: &str, content: &[u8]) -> HardeningCheck {
    let name = file_name(path);
    if name.starts_with("ssh_host_") {
        HardeningCheck::SshHostKey
    } else if label.starts_with("OPENSSH") || path.contains(".ssh/") || name.starts_with("id_") {
        HardeningCheck::SshPrivateKey
    } else if find(content, b"\"service_account\"").is_some() && name.ends_with(".json") {
        HardeningCheck::SecretGcp
    } else {
        HardeningCheck::SecretPrivateKey
    }
}

/// The letters of base 64 of a key; `None` if the text is not a key. Keys inside of strings of programs have `\n`,
/// quotes, and signs between their lines.
fn letters(body: &[u8]) -> Option<Vec<u8>> {
    let mut letters = Vec::new();
    let text = String::from_utf8_lossy(body).replace("\\r", "").replace("\\n", "\n");
    for line in text.lines().map(str::trim) {
        // `Proc-Type: 4,ENCRYPTED`, `Version: GnuPG v2`.
        if line.contains(": ") {
            continue;
        }
        for byte in line.bytes() {
            match byte {
                byte if byte.is_ascii_alphanumeric() || b"+/=".contains(&byte) => letters.push(byte),
                b'"' | b'\'' | b',' | b'\\' | b' ' | b'\t' => {}
                _ => return None,
            }
        }
    }
    let mut different = [false; 256];
    letters.iter().for_each(|letter| different[usize::from(*letter)] = true);
    let is_key = letters.len() >= MIN_LETTERS && different.iter().filter(|seen| **seen).count() >= MIN_DIFFERENT;
    is_key.then_some(letters)
}

fn find(content: &[u8], part: &[u8]) -> Option<usize> {
    content.windows(part.len()).position(|window| window == part)
}
