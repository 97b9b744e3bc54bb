use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use der::asn1::{BitString, OctetString};
use der::oid::db::rfc6960::ID_PKIX_OCSP_BASIC;
use der::{Decode, Encode};
use proptest::prelude::*;
use rcgen::{CertificateParams, CrlDistributionPoint, ExtendedKeyUsagePurpose, RevocationReason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_ocsp::{
    BasicOcspResponse, CertStatus, OcspRequest, OcspResponse, OcspResponseStatus, ResponderId, ResponseBytes,
    ResponseData, RevokedInfo, SingleResponse, Version,
};

use super::super::tests::made::now;
use super::*;
use crate::http_client::Network;
use crate::x509::tests::{MadeCertificate, end_entity, key, ocsp_responder, revocation_list, signed_list, time_at};

/// A web server on loopback that answers by path, and remembers what it was asked.
#[derive(Clone, Default)]
struct Site {
    answers: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Site {
    /// Serves, and returns the port.
    async fn serve(&self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let site = self.clone();
        Tasks::new().spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 64 * 1024];
                let read = stream.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                site.asked.lock().unwrap().push(path.clone());
                let answer = site.answers.lock().unwrap().get(&path).cloned();
                let (status, body) = answer.map_or(("404 Not Found", vec![]), |body| ("200 OK", body));
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
            }
        });
        port
    }

    fn put(&self, path: &str, body: Vec<u8>) {
        self.answers.lock().unwrap().insert(path.into(), body);
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

/// A chain of two whose signer names a list and a responder, at a host with a public address.
struct Published {
    site: Site,
    clock: Clock,
    revocation: RevocationChecker,
    root: MadeCertificate,
    signer: MadeCertificate,
}

impl Published {
    async fn new(change: impl FnOnce(&mut CertificateParams, u16)) -> Self {
        Self::at("93.184.216.34", RevocationConfig::default(), change).await
    }

    async fn at(address: &str, config: RevocationConfig, change: impl FnOnce(&mut CertificateParams, u16)) -> Self {
        let (site, clock) = (Site::default(), Clock::manual(now()));
        let port = site.serve().await;
        let config = RevocationConfig { proxy: Some(String::new()), ..config };
        let network = Network::fixed(&[("ca.test", address)]);
        let fetcher = RevocationFetcher::with_network(&config, clock.clone(), &Tasks::new(), &network).unwrap();
        let revocation = RevocationChecker { fetcher: Some(fetcher), clock: clock.clone() };
        let root = MadeCertificate::root("O=root");
        let mut params = end_entity("O=signer");
        change(&mut params, port);
        let signer = root.issue(params, key(&rcgen::PKCS_ECDSA_P256_SHA256));
        Self { site, clock, revocation, root, signer }
    }

    fn forget(&self) {
        self.revocation.fetcher.as_ref().unwrap().forget();
    }

    async fn status(&self, signed_at: Option<Timestamp>) -> ChainStatus {
        let chain = [self.signer.certificate.clone(), self.root.certificate.clone()];
        self.revocation.status(&chain, &[], signed_at).await
    }

    fn list(&self, revoked: &[(&MadeCertificate, RevocationReason)]) -> Vec<u8> {
        signed_list(&self.root, &revocation_list(1, revoked))
    }
}

fn list_at(path: &'static str) -> impl FnOnce(&mut CertificateParams, u16) {
    move |params, port| {
        params.crl_distribution_points =
            vec![CrlDistributionPoint { uris: vec![format!("http://ca.test:{port}{path}")] }];
    }
}

fn responder_at(path: &'static str) -> impl FnOnce(&mut CertificateParams, u16) {
    move |params, port| params.custom_extensions.push(ocsp_responder(&format!("http://ca.test:{port}{path}")))
}

fn is_unknown(status: &ChainStatus, part: &str) -> bool {
    matches!(status, ChainStatus::Unknown { why, temporary: true } if why.contains(part))
}

#[tokio::test]
async fn published_lists_are_requested_and_remembered() {
    let published = Published::new(list_at("/a.crl")).await;
    assert!(is_unknown(&published.status(None).await, "answered 404"));
    assert!(is_unknown(&published.status(None).await, "answered 404"), "and is not asked again at once");
    assert_eq!(published.site.asked(), ["/a.crl"]);
    published.site.put("/a.crl", published.list(&[]));
    published.clock.advance(jiff::SignedDuration::from_secs(31));
    let good = ChainStatus::Good { until: Some(time_at(2026, 12, 31)) };
    assert_eq!(published.status(None).await, good);
    assert_eq!(published.status(None).await, good);
    assert_eq!(published.site.asked(), ["/a.crl"]);
    // A list that is still valid is used while no newer one is available.
    published.site.answers.lock().unwrap().clear();
    published.clock.advance(jiff::SignedDuration::from_hours(2));
    assert_eq!(published.status(None).await, good);
    assert_eq!(published.site.asked(), ["/a.crl"]);
    published.site.put("/a.crl", published.list(&[(&published.signer, RevocationReason::Superseded)]));
    published.clock.advance(jiff::SignedDuration::from_secs(31));
    assert!(matches!(published.status(None).await, ChainStatus::Revoked(why) if why.contains("(Superseded)")));
}

#[tokio::test]
async fn lists_that_say_nothing_about_the_certificate_leave_it_unknown() {
    let published = Published::new(list_at("/a.crl")).await;
    let mut outdated = revocation_list(1, &[]);
    outdated.next_update = rcgen::date_time_ymd(2026, 6, 1);
    let mut authorities_only = revocation_list(1, &[]);
    authorities_only.issuing_distribution_point = Some(rcgen::CrlIssuingDistributionPoint {
        distribution_point: CrlDistributionPoint { uris: vec!["http://a/".into()] },
        scope: Some(rcgen::CrlScope::CaCertsOnly),
    });
    for (list, part) in [
        (signed_list(&MadeCertificate::root("O=root"), &revocation_list(1, &[])), "is not signed by O=root"),
        (signed_list(&published.root, &outdated), "the list ended at"),
        (signed_list(&published.root, &authorities_only), "does not cover this certificate"),
        (b"<html>".to_vec(), "not a certificate revocation list"),
        (vec![0; 8 * 1024 * 1024 + 1], "larger than"),
    ] {
        published.site.put("/a.crl", list);
        let status = published.status(None).await;
        assert!(is_unknown(&status, part), "{part}: {status:?}");
        published.forget();
    }
}

/// A certificate must not be able to send requests into the gate's own network.
#[tokio::test]
async fn private_addresses_are_asked_only_if_the_configuration_names_the_host() {
    let published = Published::at("10.0.0.1", RevocationConfig::default(), list_at("/a.crl")).await;
    published.site.put("/a.crl", published.list(&[]));
    assert!(is_unknown(&published.status(None).await, "a private address"));
    assert_eq!(published.site.asked(), [""; 0]);
    let config = RevocationConfig { private_hosts: vec!["CA.test".into()], ..RevocationConfig::default() };
    let published = Published::at("10.0.0.1", config, list_at("/a.crl")).await;
    published.site.put("/a.crl", published.list(&[]));
    assert!(matches!(published.status(None).await, ChainStatus::Good { .. }));
    for url in ["https://ca.test/a", "ldap://ca.test/a", "http://user:pass@ca.test/a", "file:///etc/passwd", "x"] {
        let named = Published::new(|params, _| {
            params.crl_distribution_points = vec![CrlDistributionPoint { uris: vec![url.into()] }];
        });
        let status = named.await.status(None).await;
        assert!(matches!(status, ChainStatus::Unknown { .. }), "{url}: {status:?}");
    }
}

/// Signs OCSP answers.
struct Responder<'a> {
    by: &'a MadeCertificate,
    certificates: Vec<&'a MadeCertificate>,
}

impl Responder<'_> {
    fn answer(
        &self,
        about: &MadeCertificate,
        issuer: &MadeCertificate,
        change: impl FnOnce(&mut SingleResponse),
    ) -> Vec<u8> {
        let request = ocsp::request(&about.certificate, &issuer.certificate).unwrap();
        let request = OcspRequest::from_der(&request).unwrap();
        let time = |year, month, day| {
            let time = std::time::UNIX_EPOCH
                + std::time::Duration::from_secs(u64::try_from(time_at(year, month, day).as_second()).unwrap());
            x509_ocsp::OcspGeneralizedTime::try_from(time).unwrap()
        };
        let mut single = SingleResponse {
            cert_id: request.tbs_request.request_list[0].req_cert.clone(),
            cert_status: CertStatus::good(),
            this_update: time(2026, 6, 1),
            next_update: Some(time(2026, 7, 1)),
            single_extensions: None,
        };
        change(&mut single);
        let data = ResponseData {
            version: Version::V1,
            responder_id: ResponderId::ByName(self.by.certificate.subject().clone()),
            produced_at: time(2026, 6, 1),
            responses: vec![single],
            response_extensions: None,
        };
        let signature = rcgen::SigningKey::sign(&*self.by.key, &data.to_der().unwrap()).unwrap();
        let algorithm = AlgorithmIdentifierOwned {
            oid: der::oid::ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2"),
            parameters: None,
        };
        let decode = |made: &&MadeCertificate| x509_cert::Certificate::from_der(made.certificate.der()).unwrap();
        let basic = BasicOcspResponse {
            tbs_response_data: data,
            signature_algorithm: algorithm,
            signature: BitString::from_bytes(&signature).unwrap(),
            certs: Some(self.certificates.iter().map(decode).collect()),
        };
        let response = OctetString::new(basic.to_der().unwrap()).unwrap();
        let response_bytes = Some(ResponseBytes { response_type: ID_PKIX_OCSP_BASIC, response });
        OcspResponse { response_status: OcspResponseStatus::Successful, response_bytes }.to_der().unwrap()
    }
}

#[tokio::test]
async fn responders_answer_for_their_issuer() {
    let published = Published::new(responder_at("/ocsp")).await;
    let (root, signer) = (&published.root, &published.signer);
    let direct = Responder { by: root, certificates: vec![] };
    let mut params = end_entity("O=responder");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
    let delegate = root.issue(params.clone(), key(&rcgen::PKCS_ECDSA_P256_SHA256));
    let delegated = Responder { by: &delegate, certificates: vec![&delegate] };
    let stranger = MadeCertificate::root("O=root").issue(params, key(&rcgen::PKCS_ECDSA_P256_SHA256));
    let foreign = Responder { by: &stranger, certificates: vec![&stranger] };
    let other_use = root.issue(end_entity("O=responder"), key(&rcgen::PKCS_ECDSA_P256_SHA256));
    let misused = Responder { by: &other_use, certificates: vec![&other_use] };
    let revoked = |single: &mut SingleResponse| {
        let info =
            RevokedInfo { revocation_time: single.this_update, revocation_reason: Some(CrlReason::KeyCompromise) };
        single.cert_status = CertStatus::revoked(info);
    };
    let good = ChainStatus::Good { until: Some(time_at(2026, 7, 1)) };
    let why = |part: &'static str| Err::<ChainStatus, _>(part);
    for (answer, expected) in [
        (direct.answer(signer, root, |_| {}), Ok(good.clone())),
        (delegated.answer(signer, root, |_| {}), Ok(good)),
        (direct.answer(signer, root, revoked), Ok(ChainStatus::Revoked(String::new()))),
        (foreign.answer(signer, root, |_| {}), why("is signed neither by the issuer nor by its responder")),
        (misused.answer(signer, root, |_| {}), why("is signed neither by the issuer nor by its responder")),
        (direct.answer(signer, root, |s| s.cert_status = CertStatus::unknown()), why("does not know this certificate")),
        (direct.answer(signer, root, |s| s.next_update = None), why("has no end of validity")),
        (direct.answer(signer, root, |s| s.next_update = Some(s.this_update)), why("is outdated")),
        (direct.answer(&delegate, root, |_| {}), why("is not about this certificate")),
        (OcspResponse::try_later().to_der().unwrap(), why("the responder refused: TryLater")),
        (b"<html>".to_vec(), why("cannot be read")),
    ] {
        published.site.put("/ocsp", answer);
        let status = published.status(None).await;
        match (expected, &status) {
            (Ok(ChainStatus::Revoked(_)), ChainStatus::Revoked(why)) => {
                assert!(why.contains("(KeyCompromise)"), "{why}");
            }
            (Ok(expected), status) => assert_eq!(*status, expected),
            (Err(part), status) => assert!(is_unknown(status, part), "{part}: {status:?}"),
        }
        published.forget();
    }
}

/// A list is asked where the responder cannot say, and a signature from before the key became invalid still counts.
#[tokio::test]
async fn lists_are_asked_after_responders() {
    let published = Published::new(|params, port| {
        responder_at("/ocsp")(params, port);
        list_at("/a.crl")(params, port);
    })
    .await;
    published.site.put("/a.crl", published.list(&[]));
    assert!(matches!(published.status(None).await, ChainStatus::Good { .. }));
    assert_eq!(published.site.asked(), ["/ocsp", "/a.crl"]);
    let published = Published::new(list_at("/a.crl")).await;
    let mut list = revocation_list(1, &[(&published.signer, RevocationReason::KeyCompromise)]);
    list.revoked_certs[0].invalidity_date = Some(rcgen::date_time_ymd(2026, 4, 1));
    published.site.put("/a.crl", signed_list(&published.root, &list));
    for (signed_at, counts) in [(None, false), (Some(time_at(2026, 3, 31)), true), (Some(time_at(2026, 4, 1)), false)] {
        let status = published.status(signed_at).await;
        assert_eq!(matches!(status, ChainStatus::Good { .. }), counts, "{signed_at:?}: {status:?}");
    }
}

/// A list of changes counts with the complete list before it. Only a hold can be lifted.
#[test]
fn lists_of_changes() {
    let root = MadeCertificate::root("O=root");
    let signer = root.issue(end_entity("O=signer"), key(&rcgen::PKCS_ECDSA_P256_SHA256));
    let entry = |reason| (&signer, reason);
    let complete = |number, revoked: &[(&MadeCertificate, RevocationReason)]| {
        RevocationList::from_der(&signed_list(&root, &revocation_list(number, revoked))).unwrap()
    };
    let subject =
        RevocationSubject { certificate: &signer.certificate, issuer: &root.certificate, signed_at: None, now: now() };
    use RevocationReason::{CertificateHold, KeyCompromise, RemoveFromCrl};
    for (before, after, counts) in [
        (vec![], vec![], true),
        (vec![], vec![entry(KeyCompromise)], false),
        (vec![entry(CertificateHold)], vec![], false),
        (vec![entry(CertificateHold)], vec![entry(RemoveFromCrl)], true),
        (vec![entry(KeyCompromise)], vec![entry(RemoveFromCrl)], false),
        (vec![entry(CertificateHold)], vec![entry(KeyCompromise)], false),
    ] {
        let status = subject.by_lists(&complete(1, &before), Some(&complete(2, &after)));
        assert_eq!(matches!(status, ChainStatus::Good { .. }), counts, "{before:?} {after:?}");
    }
}

proptest! {
    /// A changed answer is refused, or it says the same.
    #[test]
    fn every_byte_of_an_ocsp_answer_counts(at in 0usize..2000, bit in 0u8..8) {
        static MADE: std::sync::LazyLock<(MadeCertificate, MadeCertificate, Vec<u8>)> = std::sync::LazyLock::new(|| {
            let root = MadeCertificate::root("O=root");
            let signer = root.issue(end_entity("O=signer"), key(&rcgen::PKCS_ECDSA_P256_SHA256));
            let answer = Responder { by: &root, certificates: vec![] }.answer(&signer, &root, |_| {});
            (root, signer, answer)
        });
        let (root, signer, answer) = &*MADE;
        let read = |bytes: &[u8]| ocsp::read(bytes, &signer.certificate, &root.certificate, now());
        let expected = read(answer).unwrap();
        let mut changed = answer.clone();
        let at = at % changed.len();
        changed[at] ^= 1 << bit;
        if let Ok(read) = read(&changed) {
            prop_assert_eq!(read, expected);
        }
        let _ = read(&changed[..at]);
    }
}
