//! Time stamps (RFC 3161), in DER.

use super::*;

impl Instance {
    /// A response of the time-stamping authority (RFC 3161) for a signature.
    pub(crate) fn timestamp(&self, signature: &[u8], at: i64) -> Vec<u8> {
        self.timestamp_with(&self.stamper, &self.stamper_der, signature, at)
    }

    /// A time stamp by somebody whose certificate is meant for signing code.
    pub(crate) fn timestamp_by_leaf(&self, leaf: &Leaf, signature: &[u8], at: i64) -> Vec<u8> {
        self.timestamp_with(&leaf.key, &leaf.der, signature, at)
    }

    fn timestamp_with(&self, key: &KeyPair, certificate: &[u8], signature: &[u8], at: i64) -> Vec<u8> {
        let sha_256 = sequence(&[&oid(&[2, 16, 840, 1, 101, 3, 4, 2, 1])]);
        let tst_info = oid(&[1, 2, 840, 113_549, 1, 9, 16, 1, 4]);
        let imprint = sequence(&[&sha_256, &der(0x04, &sha256(signature))]);
        let compact: String = time(at).chars().filter(char::is_ascii_digit).collect();
        let gen_time = der(0x18, format!("{compact}Z").as_bytes());
        let info = sequence(&[&der(2, &[1]), &oid(&[1, 2, 3, 4]), &imprint, &der(2, &[7]), &gen_time]);
        let attribute = |kind: &[u64], value: &[u8]| sequence(&[&oid(kind), &der(0x31, value)]);
        let attributes = [
            attribute(&[1, 2, 840, 113_549, 1, 9, 3], &tst_info),
            attribute(&[1, 2, 840, 113_549, 1, 9, 4], &der(0x04, &sha256(&info))),
        ]
        .concat();
        let made = key.sign(&der(0x31, &attributes)).unwrap();
        let parsed = x509_cert::Certificate::from_der(certificate).unwrap().tbs_certificate;
        let signer = sequence(&[&parsed.issuer.to_der().unwrap(), &parsed.serial_number.to_der().unwrap()]);
        let ecdsa = sequence(&[&oid(&[1, 2, 840, 10045, 4, 3, 2])]);
        let signer_info =
            sequence(&[&der(2, &[1]), &signer, &sha_256, &der(0xa0, &attributes), &ecdsa, &der(0x04, &made)]);
        let content = sequence(&[&tst_info, &der(0xa0, &der(0x04, &info))]);
        let signed_data = sequence(&[&der(2, &[3]), &der(0x31, &sha_256), &content, &der(0x31, &signer_info)]);
        let token = sequence(&[&oid(&[1, 2, 840, 113_549, 1, 7, 2]), &der(0xa0, &signed_data)]);
        sequence(&[&sequence(&[&der(2, &[0])]), &token])
    }
}

/// One element in DER.
pub(super) fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let head = match length {
        0..=0x7f => vec![tag, u8::try_from(length).unwrap()],
        0x80..=0xff => vec![tag, 0x81, u8::try_from(length).unwrap()],
        _ => [&[tag, 0x82][..], &u16::try_from(length).unwrap().to_be_bytes()].concat(),
    };
    [head, content.to_vec()].concat()
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    der(0x30, &parts.concat())
}

fn oid(arcs: &[u64]) -> Vec<u8> {
    let mut content = vec![u8::try_from(arcs[0] * 40 + arcs[1]).unwrap()];
    for arc in &arcs[2..] {
        let digits = (0..10).rev().map(|place| (arc >> (7 * place)) & 0x7f).skip_while(|digit| *digit == 0);
        let mut digits: Vec<u8> = digits.map(|digit| u8::try_from(digit).unwrap() | 0x80).collect();
        if digits.is_empty() {
            digits.push(0x80);
        }
        *digits.last_mut().unwrap() &= 0x7f;
        content.extend(digits);
    }
    der(0x06, &content)
}
