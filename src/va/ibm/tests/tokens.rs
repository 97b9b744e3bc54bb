//! Tokens of IBM Cloud.

use super::*;

#[tokio::test]
async fn one_token_is_shared_until_it_expires() {
    let fixture = scripted(&[(200, r#"{"status":"OK"}"#)]).await;
    let ask = || futures_util::future::join_all((0..20).map(|_| fixture.fetch()));
    ask().await;
    assert_eq!(fixture.server.exchanges(), 1);
    fixture.clock.advance(SignedDuration::from_secs(3600 - 61));
    ask().await;
    assert_eq!(fixture.server.exchanges(), 1);
    // One minute before its expiry.
    fixture.clock.advance(SignedDuration::from_secs(1));
    ask().await;
    assert_eq!(fixture.server.exchanges(), 2);
}

#[tokio::test]
async fn a_rejected_token_is_replaced_once() {
    let fixture = scripted(&[(401, ""), (200, r#"{"status":"OK"}"#)]).await;
    assert_eq!(report(fixture.fetch().await).issues, []);
    assert_eq!(fixture.server.exchanges(), 2);
    let last = fixture.server.seen.lock().unwrap()[1].1["authorization"].clone();
    assert_eq!(last, "Bearer token-2");
}

#[tokio::test]
async fn without_a_token_there_is_no_answer() {
    for (status, body, part) in [
        (400, json!({"errorCode": "BXNIM0415E"}), "IAM answered 400"),
        (200, json!({"token": "x"}), "not a token"),
        (200, json!([]), "not a token"),
    ] {
        let fixture = fixture(vec![(200, "{}".into())], (status, body)).await;
        let text = why(fixture.fetch().await);
        assert!(text.contains(part), "{text}");
        assert_eq!(fixture.server.requests(), 0);
        assert!(!text.contains("key+"), "{text}");
    }
}

#[tokio::test]
async fn the_key_is_read_for_every_token() {
    let file = NamedTempFile::new().unwrap();
    let fixture = scripted(&[(200, r#"{"status":"OK"}"#)]).await;
    let config = Config { api_key: Secret::File(file.path().into()), ..fixture.client.0.config.clone() };
    let client = IbmClient::new(config, fixture.clock.clone(), &Metrics::default()).unwrap();
    let name = image("icr.io");
    let fetch = || client.fetch(&name, manifest(), None);
    assert!(why(fetch().await.value).contains("empty"));
    std::fs::write(file.path(), "first\n").unwrap();
    report(fetch().await.value);
    assert!(fixture.server.forms.lock().unwrap()[0].ends_with("apikey=first"));
}
