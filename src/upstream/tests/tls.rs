//! Certificates, and servers that speak another protocol.

use super::*;

/// A certificate for 127.0.0.1 and localhost, and a server that uses it.
pub(super) async fn tls_registry(world: &World) -> (Listening, String) {
    serve_as(world, rcgen::IsCa::NoCa).await
}

async fn serve_as(world: &World, is_ca: rcgen::IsCa) -> (Listening, String) {
    let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    params.is_ca = is_ca;
    let own = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&own).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(own.serialize_der());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listening = world.registry.serve(listener, Some(Arc::new(server)), &world.tasks).unwrap();
    (listening, certificate.pem())
}

#[tokio::test]
async fn certificates_are_verified_except_for_insecure_hosts() {
    let (world, storage) = (World::new().await, World::new().await);
    let ((own, pem), (other, _)) = (tls_registry(&world).await, tls_registry(&storage).await);
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, pem).unwrap();
    let config = Config { url: format!("https://{}", own.address()), attempts: 1, ..world.config() };
    let get = async |config: Config| world.upstream(config).manifest(&repository(), &tag()).await.map(|_| ());
    get(Config { ca: Some(ca), ..config.clone() }).await.unwrap();
    let error = get(config.clone()).await.unwrap_err();
    assert!(matches!(&error, Error::Unavailable(text) if text.contains("certificate")), "{error}");
    assert!(error.to_string().contains("name its file as `ca`"), "{error}");
    let insecure = Config { insecure: true, ..config.clone() };
    get(insecure.clone()).await.unwrap();
    let to = |scheme: &str, port: u16| Fault::redirect(&format!("{scheme}://localhost:{port}{{path}}"));
    world.registry.inject(On::manifests().times(1), to("https", other.address().port()));
    let error = get(insecure).await.unwrap_err();
    assert!(matches!(&error, Error::Unavailable(text) if text.contains("certificate")), "{error}");
    let insecure = Config { insecure: true, ..config };
    world.registry.inject(On::manifests().times(1), to("http", storage.listening.address().port()));
    assert!(matches!(get(insecure).await, Err(Error::Refused(_))), "never from https to http");
    assert_eq!(storage.registry.requests().len(), 0);
}

/// `openssl req -x509` makes such certificates.
#[tokio::test]
async fn a_certificate_of_an_authority_in_place_of_a_servers_is_named() {
    let world = World::new().await;
    let (own, _pem) = serve_as(&world, rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained)).await;
    let config = Config { url: format!("https://{}", own.address()), attempts: 1, ..world.config() };
    let error = world.upstream(config).manifest(&repository(), &tag()).await.unwrap_err().to_string();
    assert!(error.contains("it is that of an authority, not of a server"), "{error}");
}

/// The certificate is for other names than the one in the URL.
#[tokio::test]
async fn a_certificate_for_another_name_is_explained() {
    let world = World::new().await;
    let (own, pem) = serve_as(&world, rcgen::IsCa::NoCa).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, pem).unwrap();
    let url = format!("https://other.test:{}", own.address().port());
    let config = Config { url: url.clone(), ca: Some(ca), attempts: 1, ..world.config() };
    let upstream = world.upstream_in(config, &Network::fixed(&[("other.test", "127.0.0.1")]));
    let error = upstream.manifest(&repository(), &tag()).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("registry.test at {url}: ")), "{error}");
    assert!(error.contains("; write a name of the certificate in the URL"), "{error}");
}

/// The alert of a server that has only older versions (RFC 8446, section 6.2).
#[tokio::test]
async fn a_server_with_an_old_version_of_tls_is_named() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (world, listener) = (World::new().await, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let url = format!("https://{}", listener.local_addr().unwrap());
    let upstream = world.upstream(Config { url, attempts: 1, insecure: true, ..world.config() });
    let (repository, tag) = (repository(), tag());
    let refuse = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        // An alert of TLS 1.0 with two bytes: fatal, protocol_version.
        stream.write_all(&[21, 3, 1, 0, 2, 2, 70]).await.unwrap();
        stream
    };
    let (answer, _stream) = tokio::join!(upstream.manifest(&repository, &tag), refuse);
    let error = answer.unwrap_err().to_string();
    assert!(error.contains("; it must offer TLS 1.2 or 1.3"), "{error}");
}

/// A portal or a log-in page has an answer for every path.
#[tokio::test]
async fn a_web_page_is_not_a_registry() {
    let world = World::new().await;
    let upstream = world.upstream(world.config());
    assert!(!upstream.ping().await.unwrap(), "it asks for no credentials");
    let page = Fault::header(header::CONTENT_TYPE, "Text/HTML; charset=utf-8");
    world.registry.inject(On::path("/v2/"), page);
    let error = upstream.ping().await.unwrap_err().to_string();
    assert!(error.contains("answers /v2/ with a web page"), "{error}");
}

/// As `openssl s_server` and many load balancers do. Others answer in their own way: `tests/gate/hints.rs`.
#[tokio::test]
async fn a_server_that_hangs_up_may_expect_tls() {
    use tokio::io::AsyncReadExt as _;
    let (world, listener) = (World::new().await, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap();
    let upstream = world.upstream(Config { url: format!("http://{address}"), attempts: 1, ..world.config() });
    let (repository, tag) = (repository(), tag());
    let hang_up = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
    };
    let (answer, ()) = tokio::join!(upstream.manifest(&repository, &tag), hang_up);
    let error = answer.unwrap_err().to_string();
    assert!(error.ends_with(&format!("; if it expects TLS, set `url` to https://{address}")), "{error}");
}

#[tokio::test]
async fn missing_tls_handshakes_time_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World::new().await;
    let upstream = world.upstream(Config {
        url: format!("https://{}", listener.local_addr().unwrap()),
        attempts: 1,
        insecure: true,
        connect_timeout: Duration::from_millis(100),
        tls_timeout: Duration::from_millis(100),
        ..world.config()
    });
    let error = upstream.manifest(&repository(), &tag()).await.unwrap_err();
    assert!(error.to_string().contains("no TLS connection within"), "{error}");
}
