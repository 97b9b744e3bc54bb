//! Clients beyond a limit of connections or requests.

use super::*;

#[tokio::test]
async fn clients_wait_beyond_the_connection_limit() {
    let fixture = Fixture::plain(Limits { max_connections: 1, ..Limits::default() }).await;
    let mut first = fixture.connect().await;
    assert!(ask_once(&mut first, "/").await.contains("connection: close"), "a crowded gate asks clients to close");
    let mut first = fixture.connect().await;
    let held = ask_once(&mut first, "/endless").await;
    assert!(held.starts_with("HTTP/1.1 200"));
    let second = ask_and_close(fixture.connect().await, "/", "");
    let mut second = std::pin::pin!(second);
    assert!(tokio::time::timeout(SHORT, second.as_mut()).await.is_err(), "no response beyond the limit");
    drop(first);
    assert!(second.await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn requests_beyond_the_limit_get_503() {
    let fixture = Fixture::plain(Limits { max_requests_in_flight: Some(1), ..Limits::default() }).await;
    let mut first = fixture.connect().await;
    let waiting = ask_once(&mut first, "/wait");
    let refused = async {
        fixture.service.started.notified().await;
        let refused = fixture.ask(b"", "").await;
        fixture.service.release.notify_one();
        refused
    };
    let (waited, refused) = tokio::join!(waiting, refused);
    assert!(waited.starts_with("HTTP/1.1 200"));
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 1"), "{refused}");
    assert!(fixture.ask(b"", "").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_client_beyond_its_share_of_connections_gets_503() {
    let fixture = Fixture::plain(Limits { max_connections_per_address: Some(1), ..Limits::default() }).await;
    let mut first = fixture.connect().await;
    assert!(ask_once(&mut first, "/endless").await.starts_with("HTTP/1.1 200"));
    let refused = fixture.ask(b"", "").await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 1"), "{refused}");
    assert!(refused.contains("max_connections_per_address") && refused.contains("connection: close"), "{refused}");
    drop(first);
    until(async || fixture.ask(b"", "").await.starts_with("HTTP/1.1 200")).await;
}

#[tokio::test]
async fn a_stopping_gate_reports_it_to_clients_beyond_their_share() {
    let fixture = Fixture::plain(Limits { max_connections_per_address: Some(1), ..Limits::default() }).await;
    let mut first = fixture.connect().await;
    assert!(ask_once(&mut first, "/endless").await.starts_with("HTTP/1.1 200"));
    fixture.tasks.stop();
    let refused = fixture.ask(b"", "").await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("shutting down"), "{refused}");
}

/// Repeats a step until it succeeds: the gate may notice the end of a connection a moment after the client. It gets
/// that moment, because a connection that follows at once counts in addition to the one before.
pub(super) async fn until(step: impl AsyncFn() -> bool) {
    let repeated = async {
        while !step().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, repeated).await.expect("it succeeds in time");
}

#[tokio::test]
async fn behind_a_proxy_each_client_has_its_own_share_of_connections() {
    let limits = || Limits { max_connections_per_address: Some(1), ..Limits::default() };
    let fixture = Fixture::start(behind(&["127.0.0.1/32"], ProxyHeader::ProxyProtocol), limits()).await;
    let open = async |fixture: &Fixture, preamble: &str| {
        let mut stream = fixture.connect().await;
        stream.write_all(preamble.as_bytes()).await.unwrap();
        assert!(ask_once(&mut stream, "/endless").await.starts_with("HTTP/1.1 200"), "{preamble}");
        stream
    };
    let of = |last: u8| format!("PROXY TCP4 192.0.2.{last} 127.0.0.1 4096 5000\r\n");
    let first = open(&fixture, &of(1)).await;
    let refused = fixture.ask(of(1).as_bytes(), "").await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("max_connections_per_address"), "{refused}");
    assert!(fixture.ask(of(2).as_bytes(), "").await.starts_with("HTTP/1.1 200"), "another client");
    drop(first);
    until(async || fixture.ask(of(1).as_bytes(), "").await.starts_with("HTTP/1.1 200")).await;
    // The connections of the proxy itself are those of many clients, also where it names them in a header.
    let _own = [open(&fixture, "PROXY UNKNOWN\r\n").await, open(&fixture, "PROXY UNKNOWN\r\n").await];
    let fixture = Fixture::start(behind(&["127.0.0.0/8"], ProxyHeader::XForwardedFor), limits()).await;
    let _all = [open(&fixture, "").await, open(&fixture, "").await, open(&fixture, "").await];
    let fixture = Fixture::start(behind(&["192.0.2.0/24"], ProxyHeader::XForwardedFor), limits()).await;
    let _one = open(&fixture, "").await;
    let refused = fixture.ask(b"", "X-Forwarded-For: 192.0.2.7\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 503"), "a client cannot claim to be a proxy: {refused}");
}
