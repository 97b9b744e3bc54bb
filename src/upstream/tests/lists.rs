//! Lists of tags and referrers.

use super::*;

#[tokio::test]
async fn missing_referrers_apis_are_recognised() {
    let world = World::new().await;
    let upstream = world.upstream(Config { attempts: 1, ..world.config() });
    let get = async || upstream.referrers(&repository(), &world.image.root, &Page::default()).await.map(|_| ());
    let on = || On::path("*/referrers/*");
    for status in [404, 400, 405, 406, 410, 501].map(|status| StatusCode::from_u16(status).unwrap()) {
        let absent = world.registry.inject(on(), Fault::status(status));
        assert_eq!(get().await, Err(Error::NOT_FOUND), "{status}");
        absent.remove();
    }
    let page = Fault::Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: "<html>".into() };
    let page = world.registry.inject(on(), page);
    assert_eq!(get().await, Err(Error::NOT_FOUND), "a page for people");
    page.remove();
    let answer = |label: &str, body: &'static str| {
        let answer = Fault::Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: body.into() };
        answer.with(header::CONTENT_TYPE, label)
    };
    for fault in [
        Fault::status(StatusCode::UNAUTHORIZED),
        Fault::status(StatusCode::FORBIDDEN),
        Fault::status(StatusCode::CONFLICT),
        Fault::status(StatusCode::TOO_MANY_REQUESTS),
        Fault::status(StatusCode::BAD_GATEWAY),
        Fault::header(header::LINK, "<?n=1>; rel=\"next\""),
        Fault::header(header::LINK, "<?n=x>; rel=\"next\""),
        Fault::header(header::LINK, "nonsense"),
        answer(media_type::OCI_INDEX, "<html>"),
        answer("text/html", "{}"),
    ] {
        let unclear = world.registry.inject(on(), fault.clone());
        let page = Page { n: Some(1), ..Page::default() };
        let list = upstream.referrers(&repository(), &world.image.root, &page).await;
        assert!(list.as_ref().is_err_and(|error| !matches!(error, Error::NotFound { .. })), "{fault:?}: {list:?}");
        unclear.remove();
    }
    for label in ["text/plain", "application/json", "text/html"] {
        let labelled = world.registry.inject(on(), Fault::header(header::CONTENT_TYPE, label));
        assert_eq!(get().await, Ok(()), "lists are recognised with any label: {label}");
        labelled.remove();
    }
}

#[tokio::test]
async fn tag_lists_are_complete_or_errors() {
    let world = World::new().await;
    let upstream = world.upstream(Config { attempts: 1, ..world.config() });
    let all = async || {
        let mut list = upstream.tags(&repository(), &Page::default()).await?;
        let mut count = 0;
        while let Some(tags) = list.next().await {
            count += tags?.len();
        }
        Ok(count)
    };
    assert_eq!(all().await, Ok(1));
    let tags = || On::path("*/tags/list");
    for (link, body) in [
        ("<?n=x>; rel=\"next\"", r#"{"tags":["a"]}"#),
        ("</v2/other>; rel=\"next\"", r#"{"tags":["a"]}"#),
        ("", "<html>"),
        ("", "{}"),
        ("", r#"{"tags":["a","#),
    ] {
        let answer = Fault::Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: body.into() };
        let wrong = world.registry.inject(tags(), answer.with(header::LINK, link));
        assert!(matches!(all().await, Err(Error::Protocol(_))), "{link} {body}");
        wrong.remove();
    }
    let cut = world.registry.inject(tags(), Fault::Cut(10));
    assert!(matches!(all().await, Err(Error::Unavailable(_))));
    cut.remove();
    // The turn is released, whatever happened to the lists.
    for _ in 0..100 {
        assert_eq!(all().await, Ok(1));
    }
}

#[tokio::test]
async fn stalled_tag_lists_time_out() {
    let world = World::new().await;
    let limits = Config { attempts: 1, body_timeout: Duration::from_millis(100), ..world.config() };
    let upstream = world.upstream(limits);
    let stalled = world.registry.inject(On::path("*/tags/list"), Fault::Stall(10));
    let mut list = upstream.tags(&repository(), &Page::default()).await.unwrap();
    assert!(matches!(list.next().await, Some(Err(Error::Unavailable(_)))));
    assert!(list.next().await.is_none(), "nothing follows an error");
    stalled.release();
}
