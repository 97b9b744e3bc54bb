use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use http::HeaderMap;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::upstream::ServiceAnswer;

/// A registry that answers `/v2/` and everything else.
struct Services {
    ping: Result<Option<&'static str>, SourceError>,
    list: Result<Option<String>, SourceError>,
}

impl RegistryServices for Services {
    fn document<'a>(
        &'a self,
        repository: &'a Repository,
        address: ServiceAddress<'a>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Option<ServiceAnswer>, SourceError>> {
        assert_eq!(repository.as_str(), "team/app");
        let ServiceAddress::Registry(path) = address else { panic!("{address:?}") };
        let answer = match path {
            "/v2/" => self.ping.clone().map(|announced| {
                let mut headers = HeaderMap::new();
                announced.map(|value| headers.insert(ANNOUNCEMENT, value.parse().unwrap()));
                Some(ServiceAnswer { headers, bytes: Bytes::new() })
            }),
            path => {
                assert_eq!(path, format!("/extensions/v2/team/app/signatures/{}", Digest::sha256(b"x")));
                assert_eq!(limit, MAX_LIST);
                let list = self.list.clone();
                list.map(|list| list.map(|list| ServiceAnswer { headers: HeaderMap::new(), bytes: list.into() }))
            }
        };
        ready(answer).boxed()
    }
}

async fn read(services: &Services) -> Vec<Result<Bytes, SourceError>> {
    let found = signatures(services, &"team/app".parse().unwrap(), Digest::sha256(b"x")).await;
    found.into_iter().map(|one| one.map(|found| found.signature.unwrap())).collect()
}

fn signature(content: &str) -> serde_json::Value {
    json!({"schemaVersion": 2, "name": "sha256:…@x", "type": "atomic", "content": STANDARD.encode(content)})
}

fn error(temporary: bool) -> SourceError {
    SourceError::new("no answer", temporary)
}

#[tokio::test]
async fn atomic_signatures_of_version_2_are_read() {
    let mut old = signature("old");
    old["schemaVersion"] = json!(1);
    let mut other = signature("other");
    other["type"] = json!("cosign");
    let list = json!({"signatures": [signature("one"), old, other, signature("two")], "more": 1}).to_string();
    let services = Services { ping: Ok(Some("1")), list: Ok(Some(list)) };
    assert_eq!(read(&services).await, [Ok(Bytes::from("one")), Ok(Bytes::from("two"))]);
}

#[tokio::test]
async fn only_a_registry_that_announces_signatures_is_asked() {
    for ping in [Ok(None), Ok(Some("0")), Ok(Some("true")), Err(error(false))] {
        assert_eq!(read(&Services { ping, list: Err(error(true)) }).await, []);
    }
    assert_eq!(read(&Services { ping: Ok(Some("1")), list: Ok(None) }).await, []);
}

#[tokio::test]
async fn a_registry_that_does_not_answer_is_not_empty() {
    for services in [
        Services { ping: Err(error(true)), list: Ok(None) },
        Services { ping: Ok(Some("1")), list: Err(error(true)) },
        Services { ping: Ok(Some("1")), list: Err(error(false)) },
        Services { ping: Ok(Some("1")), list: Ok(Some("<html>".into())) },
        Services { ping: Ok(Some("1")), list: Ok(Some("{}".into())) },
        Services { ping: Ok(Some("1")), list: Ok(Some(json!({"signatures": [{}]}).to_string())) },
    ] {
        let found = read(&services).await;
        assert!(found.len() == 1 && found[0].is_err(), "{found:?}");
    }
}

#[tokio::test]
async fn the_number_of_signatures_is_bounded() {
    let all: Vec<_> = (0..10_000).map(|index| signature(&index.to_string())).collect();
    let found = read_list(json!({"signatures": all}).to_string().as_bytes());
    assert_eq!(found.len(), MAX_SIGNATURES + 1);
    let why = found.last().unwrap().clone().unwrap_err().why;
    assert!(why.contains("9872 more signatures"), "{why}");
}

proptest! {
    #[test]
    fn no_list_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[{}\"a-z:0-9,\\[\\] ]{0,80}") {
        read_list(&bytes);
        read_list(text.as_bytes());
    }
}
