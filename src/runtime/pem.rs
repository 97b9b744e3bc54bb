//! Descriptions of what is wrong with a PEM file.

use rustls::pki_types::pem::Error;

/// What is wrong with a PEM file. The library's own text has bytes as numbers.
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
    fn bytes_are_shown_as_text() {
        let problem = |pem: &str| pem_problem(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap_err());
        let cut = problem("-----BEGIN CERTIFICATE-----\nAAAA\n");
        assert_eq!(cut, "the file is cut off: the line -----END CERTIFICATE----- is missing");
        assert_eq!(problem("-----BEGIN CERT\nAAAA\n"), "a line -----BEGIN has no dashes at its end");
        assert_eq!(problem("text"), "no items found");
    }
}
