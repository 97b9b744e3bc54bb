//! A timestamping authority that tests make, honest unless told otherwise.

use cms::cert::IssuerAndSerialNumber;
use cms::content_info::CmsVersion;
use cms::signed_data::{CertificateSet, EncapsulatedContentInfo, SignerInfos};
use der::asn1::SetOfVec;
use rcgen::{CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, KeyPair};
use x509_cert::Certificate;
use x509_cert::serial_number::SerialNumber;

use super::super::*;
use crate::x509::KeyAlgorithm;
use crate::x509::tests::{MadeCertificate, end_entity};

#[derive(Clone)]
pub(in super::super::super) struct TimestampAuthority {
    /// From the signer to the root.
    pub(in super::super::super) chain: Vec<MadeCertificate>,
    pub(in super::super) info: TstInfo,
    pub(in super::super) signed_over: Option<Vec<u8>>,
    pub(in super::super) content_type: ObjectIdentifier,
    pub(in super::super) without_signing_certificate: bool,
    pub(in super::super) named_certificate: Option<Vec<u8>>,
    pub(in super::super) signed_digest: Option<Vec<u8>>,
    pub(in super::super) without_attributes: bool,
    pub(in super::super) break_signature: bool,
}

impl TimestampAuthority {
    pub(in super::super::super) fn new(key: KeyPair) -> Self {
        Self::with_purposes(key, &[ExtendedKeyUsagePurpose::TimeStamping], true)
    }

    pub(in super::super::super) fn with_purposes(
        key: KeyPair,
        purposes: &[ExtendedKeyUsagePurpose],
        critical: bool,
    ) -> Self {
        let root = MadeCertificate::root("O=tsa,CN=root");
        let mut params = end_entity("O=tsa,CN=signer");
        params.extended_key_usages = purposes.to_vec();
        if critical && !purposes.is_empty() {
            // rcgen writes the extension only as one that is not critical.
            let oids: Vec<ObjectIdentifier> = purposes.iter().map(purpose).collect();
            let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 37], oids.to_der().unwrap());
            extension.set_criticality(true);
            params.extended_key_usages.clear();
            params.custom_extensions.push(extension);
        }
        Self::with_chain(vec![root.issue(params, key), root])
    }

    /// An authority with a changed certificate by this root.
    pub(in super::super::super) fn issued_by(
        root: &MadeCertificate,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let mut made = Self::new(KeyPair::generate().unwrap());
        let mut params = made.chain[0].params.clone();
        change(&mut params);
        made.chain = vec![root.issue(params, KeyPair::generate().unwrap()), root.clone()];
        made
    }

    pub(in super::super::super) fn with_chain(chain: Vec<MadeCertificate>) -> Self {
        let imprint = MessageImprint {
            hash_algorithm: AlgorithmIdentifierOwned { oid: ID_SHA_256, parameters: Some(Null.into()) },
            hashed_message: OctetString::new(vec![0; 32]).unwrap(),
        };
        let info = TstInfo {
            version: 1,
            policy: ObjectIdentifier::new_unwrap("1.2.3.4.1"),
            message_imprint: imprint,
            serial_number: Int::new(&[1]).unwrap(),
            gen_time: general_time("20260301000000Z"),
            accuracy: None,
            ordering: false,
            nonce: None,
            tsa: None,
            extensions: None,
        };
        Self {
            chain,
            info,
            signed_over: None,
            content_type: ID_CT_TST_INFO,
            without_signing_certificate: false,
            named_certificate: None,
            signed_digest: None,
            without_attributes: false,
            break_signature: false,
        }
    }

    pub(in super::super::super) fn root(&self) -> &MadeCertificate {
        self.chain.last().unwrap()
    }

    pub(in super::super::super) fn set_time(&mut self, text: &str) {
        self.info.gen_time = general_time(text);
    }

    /// A token over a signature.
    pub(in super::super::super) fn token(&self, signature: &[u8]) -> Vec<u8> {
        let mut info = self.info.clone();
        let over = self.signed_over.as_deref().unwrap_or(signature);
        info.message_imprint.hashed_message = OctetString::new(Sha256::digest(over).to_vec()).unwrap();
        let content = info.to_der().unwrap();
        let signer = self.signer(&content);
        let certificates = self
            .chain
            .iter()
            .map(|made| CertificateChoices::Certificate(Certificate::from_der(made.certificate.der()).unwrap()));
        let signed = SignedData {
            version: CmsVersion::V3,
            digest_algorithms: SetOfVec::try_from(vec![oid_only("2.16.840.1.101.3.4.2.1")]).unwrap(),
            encap_content_info: EncapsulatedContentInfo {
                econtent_type: self.content_type,
                econtent: Some(Any::encode_from(&OctetString::new(content).unwrap()).unwrap()),
            },
            certificates: Some(CertificateSet::try_from(certificates.collect::<Vec<_>>()).unwrap()),
            crls: None,
            signer_infos: SignerInfos::try_from(vec![signer]).unwrap(),
        };
        let content = Any::encode_from(&signed).unwrap();
        ContentInfo { content_type: ID_SIGNED_DATA, content }.to_der().unwrap()
    }

    fn signer(&self, content: &[u8]) -> SignerInfo {
        let leaf = &self.chain[0];
        let digest = self.signed_digest.clone().unwrap_or_else(|| Sha256::digest(content).to_vec());
        let named = self.named_certificate.clone();
        let named = named.unwrap_or_else(|| Sha256::digest(leaf.certificate.der()).to_vec());
        let id = EssCertIdV2 { hash_algorithm: None, cert_hash: OctetString::new(named).unwrap(), issuer_serial: None };
        let certificate = SigningCertificateV2 { certs: vec![id], policies: None };
        let mut attributes = vec![
            attribute(ID_CONTENT_TYPE, Any::encode_from(&self.content_type).unwrap()),
            attribute(ID_MESSAGE_DIGEST, Any::encode_from(&OctetString::new(digest).unwrap()).unwrap()),
        ];
        if !self.without_signing_certificate {
            attributes.push(attribute(ID_AA_SIGNING_CERTIFICATE_V_2, Any::encode_from(&certificate).unwrap()));
        }
        let attributes = SetOfVec::try_from(attributes).unwrap();
        let signed = if self.without_attributes { content.to_vec() } else { attributes.to_der().unwrap() };
        let mut signature = rcgen::SigningKey::sign(&*leaf.key, &signed).unwrap();
        if self.break_signature {
            *signature.last_mut().unwrap() ^= 1;
        }
        let algorithm = match leaf.certificate.key_algorithm() {
            Some(KeyAlgorithm::Rsa(_)) => {
                AlgorithmIdentifierOwned { oid: RSA_ENCRYPTION, parameters: Some(Null.into()) }
            }
            Some(KeyAlgorithm::P384) => oid_only("1.2.840.10045.4.3.3"),
            _ => oid_only("1.2.840.10045.4.3.2"),
        };
        SignerInfo {
            version: CmsVersion::V1,
            sid: SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
                issuer: leaf.certificate.issuer().clone(),
                serial_number: SerialNumber::new(leaf.certificate.serial()).unwrap(),
            }),
            digest_alg: oid_only("2.16.840.1.101.3.4.2.1"),
            signed_attrs: (!self.without_attributes).then_some(attributes),
            signature_algorithm: algorithm,
            signature: OctetString::new(signature).unwrap(),
            unsigned_attrs: None,
        }
    }
}

fn oid_only(oid: &str) -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid: ObjectIdentifier::new(oid).unwrap(), parameters: None }
}

fn general_time(text: &str) -> Any {
    Any::new(Tag::GeneralizedTime, text.as_bytes()).unwrap()
}

fn attribute(oid: ObjectIdentifier, value: Any) -> Attribute {
    Attribute { oid, values: SetOfVec::try_from(vec![value]).unwrap() }
}

fn purpose(purpose: &ExtendedKeyUsagePurpose) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(match purpose {
        ExtendedKeyUsagePurpose::TimeStamping => "1.3.6.1.5.5.7.3.8",
        ExtendedKeyUsagePurpose::CodeSigning => "1.3.6.1.5.5.7.3.3",
        other => panic!("{other:?}"),
    })
}
