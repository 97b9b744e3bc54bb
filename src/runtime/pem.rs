//! The content of PEM files, and descriptions of problems with it.

use rustls::pki_types::pem::Error;

/// The start of a certificate container in PEM (RFC 7468, section 8).
const PKCS7: &[u8] = b"-----BEGIN PKCS7-----";

/// The part of a PEM file that the parser gets: without the byte order mark that some editors write, which would hide
/// the first block.
pub fn pem_text(file: &[u8]) -> &[u8] {
    file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file)
}

/// The actual format of a file without the required PEM, and the command that converts it; empty if unknown. `command`
/// is the openssl command for the required content: `x509`, `pkey`.
pub fn instead_of_pem(file: &[u8], command: &str) -> String {
    // The content of a sequence in DER (X.690, section 8.1.3) begins after the bytes of its length.
    let content = match file {
        [0x30, length @ 0x80..=0x84, rest @ ..] => rest.get(usize::from(length & 0x7f)..),
        [0x30, _, rest @ ..] => Some(rest),
        _ => None,
    };
    let has = |wanted: &[u8]| file.windows(wanted.len()).any(|part| part == wanted);
    match (file, content) {
        ([0xff, 0xfe, ..] | [0xfe, 0xff, ..], _) => ": it is UTF-16; save it as UTF-8".to_owned(),
        // Version 3 (RFC 7292, section 4).
        (_, Some([2, 1, 3, ..])) => ": it is PKCS#12; `openssl pkcs12 -in FILE -nodes` writes PEM".to_owned(),
        (_, Some([2 | 0x30, ..])) => format!(": it is DER; `openssl {command} -inform der -in FILE` writes PEM"),
        _ if has(PKCS7) => {
            ": it is PKCS#7; `openssl pkcs7 -print_certs -in FILE` writes only the certificates".to_owned()
        }
        _ if command == "pkey" && has(b"PUBLIC KEY-----") => {
            ": it is a public key, and the private one is needed".to_owned()
        }
        _ if command == "pkey" && has(b"-----BEGIN CERTIFICATE-----") => {
            ": it is a certificate without its key".to_owned()
        }
        _ => String::new(),
    }
}

/// The problem with a PEM file. The library's own message shows bytes as numbers.
pub fn pem_problem(error: &Error) -> String {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match error {
        Error::MissingSectionEnd { end_marker } => {
            format!("the file is cut off: the line -----END {}----- is missing", shown(end_marker))
        }
        Error::IllegalSectionStart { .. } => "a line -----BEGIN has no dashes at its end".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    #[test]
    fn files_of_other_formats_are_recognised() {
        for (file, wanted) in [
            (&[0x30, 0x82, 1, 2, 0x30, 0x82][..], "it is DER; `openssl x509 -inform der"),
            (&[0x30, 0x2e, 2, 1, 0], "it is DER"),
            (&[0x30, 0x82, 1, 2, 2, 1, 3, 0x30], "it is PKCS#12"),
            (&[0x30, 0x80, 2, 1, 3, 0x30], "it is PKCS#12"),
            (&[0xff, 0xfe, b'-', 0], "it is UTF-16"),
            (b"text\n-----BEGIN PKCS7-----\n", "it is PKCS#7"),
            (b"text", ""),
            (b"0", ""),
            (b"0123", ""),
            (b"", ""),
        ] {
            let found = instead_of_pem(file, "x509");
            assert!(found.contains(wanted) && found.is_empty() == wanted.is_empty(), "{file:?} {found}");
        }
        for (file, wanted) in [
            (&b"-----BEGIN PUBLIC KEY-----\n"[..], "it is a public key"),
            (b"-----BEGIN RSA PUBLIC KEY-----\n", "it is a public key"),
            (b"-----BEGIN CERTIFICATE-----\n", "it is a certificate without its key"),
        ] {
            assert!(instead_of_pem(file, "pkey").contains(wanted), "{wanted}");
            assert_eq!(instead_of_pem(file, "x509"), "");
        }
        assert_eq!(pem_text("\u{feff}-----".as_bytes()), b"-----");
    }

    #[test]
    fn bytes_are_shown_as_text() {
        let problem = |pem: &str| pem_problem(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap_err());
        let cut = problem("-----BEGIN CERTIFICATE-----\nAAAA\n");
        assert_eq!(cut, "the file is cut off: the line -----END CERTIFICATE----- is missing");
        assert_eq!(problem("-----BEGIN CERT\nAAAA\n"), "a line -----BEGIN has no dashes at its end");
        assert_eq!(problem("text"), "no items found");
    }
}
