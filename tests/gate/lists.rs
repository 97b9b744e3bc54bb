//! Lists of tags and referrers: rewritten, complete, and followed page by page.

use http::{HeaderMap, StatusCode, header};
use pullgate::oci::media_type;
use pullgate::sample::image::{self, Layer};
use pullgate::sample::{Fault, On};
use serde_json::{Value, json};

use crate::harness::{ALLOW_ALL, Gate, TestGate};
use crate::pull::simple;
use crate::support::{Answer, TestRegistry, request};

/// A response from the upstream.
fn answer(label: &str, body: impl Into<bytes::Bytes>) -> Fault {
    let answer = Fault::Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: body.into() };
    answer.with(header::CONTENT_TYPE, label)
}

fn next(list: &Answer) -> Option<&str> {
    list.header("link").and_then(|link| link.split(['<', '>']).nth(1))
}

async fn follow(gate: &Gate, list: &Answer) -> Answer {
    request("GET", &gate.any_url(next(list).expect("a next page")), &[]).await
}

/// The artifact types in a list of referrers, sorted.
fn kinds(list: &Answer) -> Vec<String> {
    assert_eq!(list.status, 200, "{}", list.text());
    assert_eq!(list.header("content-type"), Some(media_type::OCI_INDEX));
    assert_eq!(list.json()["mediaType"], media_type::OCI_INDEX);
    let entries = list.json()["manifests"].as_array().expect("a list").clone();
    let mut kinds: Vec<_> =
        entries.iter().map(|entry| entry["artifactType"].as_str().expect("a type").to_owned()).collect();
    kinds.sort();
    kinds
}

#[tokio::test]
async fn lists_are_served_page_by_page() {
    let registry = TestRegistry::start().await;
    let image = simple("tagged");
    for tag in ["a", "b", "c"] {
        registry.push("team/app", Some(tag), &image);
    }
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let first = gate.get("/team/app/tags/list?n=2").await;
    assert_eq!(first.json(), json!({"name": "registry.test/team/app", "tags": ["a", "b"]}));
    assert!(next(&first).unwrap().starts_with("/v2/registry.test/team/app/tags/list?"));
    let second = follow(&gate, &first).await;
    assert_eq!((second.json()["tags"].clone(), next(&second)), (json!(["c"]), None));
    let by_ns = request("GET", &gate.any_url("/v2/team/app/tags/list?n=2&ns=registry.test"), &[]).await;
    assert_eq!(follow(&gate, &by_ns).await.json(), json!({"name": "team/app", "tags": ["c"]}));
}

/// Whatever a registry calls its next page, the client reaches it through the gate.
#[tokio::test]
async fn next_page_parameters_are_passed_back_unchanged() {
    let registry = TestRegistry::start().await;
    registry.push("team/app", Some("1"), &simple("tagged"));
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    for query in ["n=1&nextToken=a%2Bb%2F%3D%3D", "cursor=a+b==", "continuationToken=%ff", "x=1&pageToken=a/b:c&x=2"] {
        let link = format!("<https://elsewhere.test:99/v2/team/app/tags/list?{query}>; type=x; Rel = \"last Next\"");
        let fault = answer("application/json", r#"{"tags":["1"]}"#).with(header::LINK, &link);
        registry.inject(On::path("*/tags/list").times(1), fault);
        let first = gate.get("/team/app/tags/list").await;
        registry.clear_log();
        assert_eq!(follow(&gate, &first).await.status, 200, "{query}");
        let asked: Vec<_> = registry.requests().into_iter().map(|request| (request.path, request.query)).collect();
        assert_eq!(asked, [("/v2/team/app/tags/list".to_owned(), Some(query.to_owned()))]);
    }
}

#[tokio::test]
async fn unknown_parts_of_upstream_lists_are_removed() {
    let registry = TestRegistry::start().await;
    let image = simple("listed");
    registry.push("team/app", Some("1"), &image);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let script = "<script>alert(1)</script>";
    let tags = json!({"name": script, "x": script, "tags": ["1", script, "2"], "child": [script]}).to_string();
    registry.inject(On::path("*/tags/list").times(1), answer("text/html", tags));
    let list = gate.get("/team/app/tags/list").await;
    assert_eq!(list.json(), json!({"name": "registry.test/team/app", "tags": ["1", "2"]}));
    assert_eq!(list.header("content-type"), Some("application/json"));
    assert_eq!(list.header("x-content-type-options"), Some("nosniff"));
    let referrers = format!("/team/app/referrers/{}", image.root);
    registry.inject(On::path("*/referrers/*").times(1), answer("text/html", r#"{"x":"<script>","manifests":[]}"#));
    let list = gate.get(&referrers).await;
    assert_eq!(kinds(&list), [""; 0]);
    assert!(!list.text().contains("script"));
    assert_eq!(list.header("x-content-type-options"), Some("nosniff"));
    for (path, fault) in [
        ("/team/app/tags/list", answer("text/html", script)),
        ("/team/app/tags/list", answer("application/json", r#"{"tags":["1"]}"#).with(header::LINK, "<?n=x>; rel=next")),
        (&*referrers, answer(media_type::OCI_INDEX, script)),
        (&*referrers, Fault::status(StatusCode::FORBIDDEN)),
    ] {
        registry.inject(On::path("/v2/*").times(1), fault);
        let got = gate.get(path).await;
        assert!([403, 502].contains(&got.status), "{path}: {} {}", got.status, got.text());
        assert_eq!(got.header("content-type"), Some("application/json"));
        assert!(!got.text().contains("script"), "{}", got.text());
    }
}

/// As in GCR and its successor: all tags at once, after a description of every manifest.
fn long_list(tags: usize) -> String {
    let manifests: serde_json::Map<String, Value> = (0..tags)
        .map(|number| {
            (format!("sha256:{number:064x}"), json!({"imageSizeBytes": "1", "tag": [], "timeCreatedMs": "1"}))
        })
        .collect();
    let names: Vec<_> = (0..tags).map(|number| format!("tag-{number}")).collect();
    json!({"child": [], "manifest": manifests, "name": "app", "tags": names}).to_string()
}

#[tokio::test]
async fn tag_lists_may_have_any_length() {
    let registry = TestRegistry::start().await;
    registry.push("team/app", Some("1"), &simple("listed"));
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let body = long_list(60_000);
    assert!(body.len() > 5 << 20);
    let fault = registry.inject(On::path("*/tags/list"), answer("application/json", body.clone()));
    let list = gate.get("/team/app/tags/list").await;
    assert!(list.status == 200 && list.complete);
    let tags = list.json()["tags"].as_array().expect("tags").clone();
    assert_eq!((tags.len(), tags[59_999].as_str()), (60_000, Some("tag-59999")));
    assert_eq!(gate.head("/team/app/tags/list").await.status, 200);
    fault.remove();

    // An interrupted list must not look complete.
    registry.inject(On::path("*/tags/list").times(1), answer("application/json", body.clone()));
    registry.inject(On::path("*/tags/list").times(1), Fault::Cut(body.len() as u64 - 1000));
    let list = gate.get("/team/app/tags/list").await;
    assert!(list.status == 200 && !list.complete);
    registry.inject(On::path("*/tags/list").times(1), answer("application/json", body[..body.len() - 1].to_owned()));
    assert!(!gate.get("/team/app/tags/list").await.complete);
}

#[tokio::test]
async fn the_referrers_tag_is_used_without_a_referrers_api() {
    let registry = TestRegistry::start().await;
    let image = simple("subject");
    registry.push("team/app", Some("1"), &image);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let path = format!("/team/app/referrers/{}", image.root);
    registry.set_referrers_api(false);
    assert_eq!(kinds(&gate.get(&path).await), [""; 0], "neither the API nor the tag exists");
    for kind in ["application/a", "application/b"] {
        registry.push("team/app", None, &image::referrer(&image, kind, &[Layer::of(kind, kind)], &[("key", "value")]));
    }
    registry.push_referrers_tag("team/app", &image.root);
    let list = gate.get(&path).await;
    assert_eq!(
        (kinds(&list), list.header("oci-filters-applied")),
        (vec!["application/a".into(), "application/b".into()], None)
    );
    assert_eq!(list.json()["manifests"][0]["annotations"]["key"], "value");
    let list = gate.get(&format!("{path}?artifactType=application%2Fb")).await;
    assert_eq!(
        (kinds(&list), list.header("oci-filters-applied")),
        (vec!["application/b".into()], Some("artifactType"))
    );

    // Referrers pushed before the API was introduced are only in the tag.
    registry.set_referrers_api(true);
    registry.inject(On::path("*/referrers/*").times(2), answer("text/plain", r#"{"schemaVersion":2,"manifests":[]}"#));
    assert_eq!(kinds(&gate.get(&path).await).len(), 2);
    assert_eq!(kinds(&gate.get(&format!("{path}?artifactType=application%2Fc")).await), [""; 0]);

    // An error from the API hides nothing in the tag.
    for status in [401, 403, 413, 500] {
        let fault = Fault::status(StatusCode::from_u16(status).expect("a status"));
        let failing = registry.inject(On::path("*/referrers/*"), fault);
        assert_eq!(kinds(&gate.get(&path).await).len(), 2, "{status}");
        failing.remove();
    }
    registry.set_referrers_api(false);
    registry.inject(On::path("*/manifests/*").times(1), Fault::status(StatusCode::FORBIDDEN));
    assert_eq!(gate.get(&path).await.status, 403);
    registry.set_referrers_api(true);
    registry.inject(On::path("*/referrers/*"), Fault::too_many_requests(600));
    assert_eq!(kinds(&gate.get(&path).await).len(), 2);
}

/// One tool pushes through the API, another through the tag, so neither list is complete.
#[tokio::test]
async fn referrers_from_api_and_tag_are_merged() {
    let registry = TestRegistry::start().await;
    let image = simple("subject");
    registry.push("team/app", Some("1"), &image);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let path = format!("/team/app/referrers/{}", image.root);
    let entry = |kind: &str, digit: &str| json!({"mediaType": media_type::OCI_MANIFEST, "digest": format!("sha256:{}", digit.repeat(64)), "size": 1, "artifactType": kind});
    let list = |entries: Value| {
        answer(
            media_type::OCI_INDEX,
            json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries}).to_string(),
        )
    };
    let (sbom, bundle) = (entry("application/a", "1"), entry("application/b", "2"));
    let tag = On::path(&format!("*/manifests/{}", image::attachment_tag(&image.root, "")));
    let by_tag = registry.inject(tag, list(json!([sbom, bundle])));
    registry.inject(On::path("*/referrers/*").times(1), list(json!([null, sbom])));
    assert_eq!(kinds(&gate.get(&path).await), ["application/a", "application/b"]);
    by_tag.remove();

    // If the tag has nothing, the API's error is returned.
    let empty = registry.inject(On::path("*/manifests/*"), list(json!([])));
    registry.inject(On::path("*/referrers/*").times(1), Fault::status(StatusCode::UNAUTHORIZED));
    assert_eq!(gate.get(&path).await.status, 403);
    empty.remove();
    // An error with the tag hides nothing in the API either.
    registry.inject(On::path("*/manifests/*").times(1), Fault::status(StatusCode::FORBIDDEN));
    registry.inject(On::path("*/referrers/*").times(1), list(json!([sbom])));
    assert_eq!(kinds(&gate.get(&path).await), ["application/a"]);
}

#[tokio::test]
async fn referrers_tags_that_are_not_lists_are_ignored() {
    let registry = TestRegistry::start().await;
    let image = simple("subject");
    registry.push("team/app", Some("1"), &image);
    registry.set_referrers_api(false);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let (path, tag) = (format!("/team/app/referrers/{}", image.root), image::attachment_tag(&image.root, ""));
    // As in GitLab.
    registry.tag("team/app", &tag, image.root);
    assert_eq!(kinds(&gate.get(&path).await), [""; 0]);
    registry.push("team/app", Some(&tag), &simple("another"));
    let got = gate.get(&path).await;
    assert!(got.status == 502 && got.text().contains("not a list of referrers"), "{}", got.text());
}

#[tokio::test]
async fn the_gate_filters_every_page() {
    let registry = TestRegistry::start().await;
    let image = simple("subject");
    registry.push("team/app", Some("1"), &image);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let entry = |kind: &str, digit: &str| json!({"mediaType": media_type::OCI_MANIFEST, "digest": format!("sha256:{}", digit.repeat(64)), "size": 1, "artifactType": kind});
    let page = json!({"schemaVersion": 2, "manifests": [entry("application/a", "1"), entry("application/b", "2")]});
    // A registry that neither filters nor says so, with a next page.
    let fault = answer(media_type::OCI_INDEX, page.to_string()).with(header::LINK, "<?next=1>; rel=\"next\"");
    registry.inject(On::path("*/referrers/*").times(1), fault);
    let list = gate.get(&format!("/team/app/referrers/{}?artifactType=application%2Fb", image.root)).await;
    assert_eq!(
        (kinds(&list), list.header("oci-filters-applied")),
        (vec!["application/b".into()], Some("artifactType"))
    );
    registry.inject(On::path("*/referrers/*").times(1), answer(media_type::OCI_INDEX, page.to_string()));
    assert_eq!(kinds(&follow(&gate, &list).await), ["application/b"]);
}
