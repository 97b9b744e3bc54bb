//! Connections with TLS: certificates, and HTTP/2.

use super::*;

// TLS.

struct Pki {
    dir: TempDir,
    ca: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap().pem();
        let pki = Self { dir: tempfile::tempdir().unwrap(), ca, issuer: Issuer::new(params, key) };
        std::fs::write(pki.path("ca.crt"), &pki.ca).unwrap();
        pki.write_server("first", 2030);
        pki
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn issue(&self, name: &str, names: &[&str], until: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.subject_alt_names.extend(names.iter().map(|name| SanType::DnsName((*name).try_into().unwrap())));
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = date_time_ymd(until, 1, 1);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn write_server(&self, name: &str, until: i32) {
        let (certificate, key) = self.issue(name, &[], until);
        std::fs::write(self.path("server.crt"), certificate).unwrap();
        std::fs::write(self.path("server.key"), key).unwrap();
    }

    fn config(&self) -> Config {
        let (certificate, key) = (self.path("server.crt"), self.path("server.key"));
        Config { tls: Some(TlsConfig { certificate, key, ..TlsConfig::default() }), ..Config::default() }
    }

    fn config_with_clients(&self, names: &[(&str, &str)]) -> Config {
        let mut config = self.config();
        let tls = config.tls.as_mut().unwrap();
        tls.client_ca = Some(self.path("ca.crt"));
        tls.client_names = names.iter().map(|(name, scope)| ((*name).to_owned(), scope.parse().unwrap())).collect();
        config
    }

    async fn connect(
        &self,
        fixture: &Fixture,
        alpn: &[&str],
        identity: Option<(String, String)>,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, fixture.connect().await).await
    }
}

fn server_name(stream: &client::TlsStream<TcpStream>) -> String {
    let der = &stream.get_ref().1.peer_certificates().unwrap()[0];
    ClientCertificate::parse(der).unwrap().common_name.unwrap().to_string()
}

async fn bind_error(config: Config) -> String {
    let config = Config { address: "127.0.0.1:0".to_owned(), ..config };
    let (metrics, readiness) = (Metrics::default(), Readiness::new());
    bind(vec![config], Limits::default(), &clock(), &metrics, &readiness, &mut InheritedSockets::default())
        .await
        .unwrap_err()
        .to_string()
}

#[tokio::test]
async fn renewed_certificates_are_used_from_the_next_handshake_on() {
    let pki = Pki::new();
    let fixture = Fixture::start(pki.config(), Limits::default()).await;
    let old = pki.connect(&fixture, &[], None).await.unwrap();
    assert_eq!(server_name(&old), "first");
    assert!(
        fixture.metrics.render().contains("certificate_expiry_timestamp_seconds{listener=\"127.0.0.1:0\"} 189345600")
    );
    pki.write_server("second", 2031);
    let (intermediate, _) = pki.issue("intermediate", &[], 2029);
    let chain = std::fs::read_to_string(pki.path("server.crt")).unwrap() + &intermediate;
    std::fs::write(pki.path("server.crt"), chain).unwrap();
    fixture.certificates.reload().unwrap();
    let expiry = "certificate_expiry_timestamp_seconds{listener=\"127.0.0.1:0\"} 1861920000";
    assert!(fixture.metrics.render().contains(expiry), "the first certificate of the chain to end: {expiry}");
    let start = "certificate_start_timestamp_seconds{listener=\"127.0.0.1:0\"} ";
    assert!(fixture.metrics.render().contains(start), "{start}");
    let new = pki.connect(&fixture, &[], None).await.unwrap();
    assert_eq!(server_name(&new), "second");
    for stream in [old, new] {
        assert!(ask_and_close(stream, "/", "").await.contains("tls=true"));
    }
}

#[tokio::test]
async fn invalid_new_certificates_keep_the_old_one_in_use() {
    let pki = Pki::new();
    let fixture = Fixture::start(pki.config(), Limits::default()).await;
    let good = std::fs::read(pki.path("server.crt")).unwrap();
    let (other, _) = pki.issue("other", &[], 2030);
    for (bad, says) in [(other.as_str(), "not the key"), ("nonsense", "no certificate"), ("", "no certificate")] {
        std::fs::write(pki.path("server.crt"), bad).unwrap();
        let errors = fixture.certificates.reload().unwrap_err();
        assert!(errors[0].to_string().contains(says), "{}", errors[0]);
        assert!(fixture.readiness.report().degraded.contains_key("certificates"));
        assert!(fixture.certificates.reload().is_err(), "the error is reported until it is fixed");
        assert_eq!(server_name(&pki.connect(&fixture, &[], None).await.unwrap()), "first");
    }
    std::fs::write(pki.path("server.crt"), good).unwrap();
    fixture.certificates.reload().unwrap();
    assert!(fixture.readiness.report().degraded.is_empty());
}

#[tokio::test]
async fn expired_certificates_are_used_by_a_start_and_not_by_a_reload() {
    let pki = Pki::new();
    let fixture = Fixture::start(pki.config(), Limits::default()).await;
    pki.write_server("late", 2025);
    assert!(matches!(fixture.certificates.reload().unwrap_err()[0], TlsError::Expired { .. }));
    assert_eq!(server_name(&pki.connect(&fixture, &[], None).await.unwrap()), "first");
    let fixture = Fixture::start(pki.config(), Limits::default()).await;
    let why = fixture.readiness.report().degraded.remove("certificates").unwrap_or_default();
    assert!(why.contains("server.crt: the certificate expired on 2025-01-01T00:00:00Z"), "{why}");
    pki.write_server("new", 2031);
    fixture.certificates.reload().unwrap();
    assert!(fixture.readiness.report().degraded.is_empty());
    assert_eq!(server_name(&pki.connect(&fixture, &[], None).await.unwrap()), "new");
}

#[tokio::test]
async fn unusable_tls_files_are_named() {
    let pki = Pki::new();
    let missing = |path: &Path| std::fs::remove_file(path).unwrap();
    missing(&pki.path("server.key"));
    assert!(bind_error(pki.config()).await.contains("server.key: No such file"));
    std::fs::write(pki.path("server.key"), "nonsense").unwrap();
    assert!(bind_error(pki.config()).await.contains("server.key: no usable private key"));
}

#[tokio::test]
async fn client_certificates_are_required_and_determine_the_scope() {
    let pki = Pki::new();
    let config = pki.config_with_clients(&[("ci.example", "ci"), ("prod.example", "prod"), ("by-name", "named")]);
    let fixture = Fixture::start(Config { scope: Some("other".parse().unwrap()), ..config }, Limits::default()).await;
    let cases = [
        ("anyone", vec!["ci.example"], "scope=ci certificate=Some(\"anyone\")"),
        ("by-name", vec![], "scope=named"),
        ("anyone", vec!["CI.example"], "scope=other"),
        ("anyone", vec!["ci.example", "prod.example"], ""),
    ];
    for (name, names, expected) in cases {
        let identity = pki.issue(name, &names, 2030);
        let stream = pki.connect(&fixture, &[], Some(identity)).await.unwrap();
        let answer = ask_and_close(stream, "/", "").await;
        assert!(answer.contains(expected) && answer.is_empty() == expected.is_empty(), "{names:?}: {answer}");
    }
    for identity in [None, Some(Pki::new().issue("stranger", &["ci.example"], 2030))] {
        // With TLS 1.3 the client learns of the refusal when it reads.
        if let Ok(stream) = pki.connect(&fixture, &[], identity).await {
            assert_eq!(ask_and_close(stream, "/", "").await, "");
        }
    }
}

#[tokio::test]
async fn http2_is_optional_and_has_lower_priority() {
    let pki = Pki::new();
    let protocol = |stream: client::TlsStream<TcpStream>| stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    let off = Fixture::start(pki.config(), Limits::default()).await;
    assert_eq!(protocol(pki.connect(&off, &["h2", "http/1.1"], None).await.unwrap()), Some(b"http/1.1".to_vec()));
    assert!(pki.connect(&off, &["h2"], None).await.is_err());
    let on = Fixture::start(Config { http2: true, ..pki.config() }, Limits::default()).await;
    assert_eq!(protocol(pki.connect(&on, &["h2", "http/1.1"], None).await.unwrap()), Some(b"http/1.1".to_vec()));
    let (mut client, _) = http2_client(&pki, &on).await;
    assert_eq!(client.send_request(get("/")).await.unwrap().status(), StatusCode::OK);
}

type Http2Client = hyper::client::conn::http2::SendRequest<Empty<Bytes>>;

/// A client that uses HTTP/2, and its connection. It lets 16 KiB of a response arrive before it has read them.
async fn http2_client(pki: &Pki, fixture: &Fixture) -> (Http2Client, JoinHandle<hyper::Result<()>>) {
    let stream = pki.connect(fixture, &["h2"], None).await.unwrap();
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(16 * 1024).initial_connection_window_size(64 * 1024);
    let (client, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    (client, fixture.tasks.spawn(connection))
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("https://localhost{path}")).body(Empty::new()).unwrap()
}

/// All requests of a connection count as one, and a connection counts before its handshake has ended.
#[tokio::test]
async fn a_client_has_a_share_of_connections_over_tls_and_http2() {
    let pki = Pki::new();
    let limits = Limits { max_connections_per_address: Some(1), ..Limits::default() };
    let fixture = Fixture::start(Config { http2: true, ..pki.config() }, limits).await;
    let (mut client, connection) = http2_client(&pki, &fixture).await;
    let endless = client.send_request(get("/endless")).await.unwrap();
    assert_eq!(client.send_request(get("/")).await.unwrap().status(), StatusCode::OK);
    let (mut second, refused) = http2_client(&pki, &fixture).await;
    let answer = second.send_request(get("/")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers().get("connection").is_none(), "HTTP/2 has no such header");
    let status = async |wanted: &str| match pki.connect(&fixture, &[], None).await {
        Ok(stream) => ask_and_close(stream, "/", "").await.starts_with(&format!("HTTP/1.1 {wanted}")),
        // Beyond twice its share, a client is not even answered.
        Err(_) => false,
    };
    // A connection ends when nobody uses it any more.
    drop((endless, client, second));
    connection.abort();
    refused.abort();
    until(async || status("200").await).await;
    let silent = fixture.connect().await;
    until(async || status("503").await).await;
    drop(silent);
    until(async || status("200").await).await;
}

#[tokio::test]
async fn http2_clients_that_read_nothing_time_out_but_slow_ones_do_not() {
    let timeout = Duration::from_millis(500);
    let pki = Pki::new();
    // The gate sends pings after the idle timeout. Both clients answer them.
    let limits = Limits { write_stall_timeout: timeout, idle_timeout: timeout / 5, ..Limits::default() };
    let fixture = Fixture::start(Config { http2: true, ..pki.config() }, limits).await;
    let (chunks, chunk) = mpsc::channel(1);
    chunks.send(Bytes::from(vec![0; 64 << 20])).await.unwrap();
    *fixture.service.pieces.lock().await = Some(chunk);
    let (mut slow, _connection) = http2_client(&pki, &fixture).await;
    let mut read_slowly = slow.send_request(get("/stream")).await.unwrap().into_body();
    let (mut stalled, closed) = http2_client(&pki, &fixture).await;
    let _unread =
        [stalled.send_request(get("/endless")).await.unwrap(), stalled.send_request(get("/endless")).await.unwrap()];
    let mut closed = std::pin::pin!(tokio::time::timeout(LONG, closed));
    loop {
        let frame = async {
            // A whole connection of another client between two frames is what makes this one slow.
            let other = pki.connect(&fixture, &[], None).await.unwrap();
            assert!(ask_and_close(other, "/", "").await.contains("tls=true"));
            read_slowly.frame().await.expect("the response goes on")
        };
        tokio::select! {
            ended = &mut closed => break drop(ended.expect("the client that reads nothing is disconnected")),
            frame = frame => assert!(frame.unwrap().is_data()),
        }
    }
    for _ in 0..16 {
        let frame = read_slowly.frame().await.expect("the response goes on");
        assert!(frame.unwrap().is_data(), "more arrives than was under way");
    }
}

#[tokio::test]
async fn missing_tls_handshakes_time_out() {
    let limits = Limits { tls_handshake_timeout: SHORT, ..Limits::default() };
    let fixture = Fixture::start(Pki::new().config(), limits).await;
    assert_eq!(rest(fixture.connect().await).await, "");
}
