//! A mirror over HTTP.

use super::*;

/// A static web site on loopback.
async fn serve(tasks: &Tasks, served: Served) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let path = head.split(' ').nth(1).unwrap().strip_prefix("/tuf/").unwrap().to_owned();
            let (status, body) = match served.all().remove(&path) {
                Some(body) => ("200 OK", body),
                None if path.ends_with(".root.json") => ("403 Forbidden", b"AccessDenied".to_vec()),
                None => ("500 Broken", Vec::new()),
            };
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            // A client that was told too much leaves early.
            let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
        }
    });
    format!("http://{address}/tuf")
}

#[tokio::test]
async fn a_mirror_is_reached_over_http_and_through_a_proxy() {
    let (tasks, repository, folder) = (Tasks::new(), TufRepository::new(), tempfile::tempdir().unwrap());
    let (mirror, to) = (serve(&tasks, repository.served.clone()).await, folder.path().join("root.json"));
    let proxy = ConnectProxy::start(&tasks).await;
    let root = repository.document("1.root.json");
    let args = |proxy: &str, root: Option<&str>, sha256: Option<&str>| UpdateArgs {
        from: None,
        to: None,
        mirror: mirror.clone(),
        root: root.map(str::to_owned),
        root_sha256: sha256.map(str::to_owned),
        target: TARGET.into(),
        proxy: Some(proxy.to_owned()),
        ca: None,
        config: None,
    };
    let now = NOW.parse().unwrap();
    let (url, digest) = (format!("{mirror}/1.root.json"), Digest::sha256(&root).hex().to_string());
    let why = update(&args("", Some(&url), None), &to, now).await.unwrap_err();
    assert!(why.contains("add --root-sha256"), "{why}");
    let why = update(&args("", Some(&url), Some(&"0".repeat(64))), &to, now).await.unwrap_err();
    assert!(why.contains(&format!("its digest is sha256:{digest}, not")), "{why}");
    update(&args("", Some(&url), Some(&digest)), &to, now).await.unwrap();
    assert_eq!(std::fs::read_to_string(&to).unwrap(), SIGSTORE_PRODUCTION_TRUSTED_ROOT);

    let through = format!("http://{}", proxy.address);
    assert!(update(&args(&through, None, None), &to, now).await.unwrap().contains("is up to date"));
    assert!(proxy.heads()[0].starts_with("CONNECT 127.0.0.1:"), "{:?}", proxy.heads());

    repository.served.change("timestamp.json", |bytes| bytes.extend(vec![b' '; 20_000]));
    let why = update(&args("", None, None), &to, now).await.unwrap_err();
    assert!(why.contains("the response is larger than 16384 bytes") && why.contains("check --mirror"), "{why}");
    repository.served.0.lock().unwrap().remove("timestamp.json");
    let why = update(&args("", None, None), &to, now).await.unwrap_err();
    assert!(why.contains("timestamp.json: the mirror answered 500"), "{why}");
}
