//! `Link` headers (RFC 8288), which lead to the next page of a list.
//!
//! A partial list must never be mistaken for the complete one, so a link that cannot be followed is an error.

use http::header::{self, HeaderMap};
use percent_encoding::percent_decode_str;
use url::Url;

use crate::oci::Page;

const MALFORMED: &str = "a malformed Link header";

/// The query of the link with the relation `next`, if there is one.
///
/// The next page is requested from the same list of the same upstream. Only the query of the link is used; its path
/// must end like that of `list`, the URL of the list. Proxies in front of registries change hosts, ports and the start
/// of paths.
///
/// # Errors
/// The header is malformed, or the next page is elsewhere or the same as the first one; described as text for people.
pub(in crate::upstream) fn next_page(headers: &HeaderMap, list: &Url) -> Result<Option<Page>, &'static str> {
    for value in headers.get_all(header::LINK) {
        let mut rest = value.to_str().map_err(|_| MALFORMED)?;
        while let Some((target, rel)) = take_link(&mut rest)? {
            if rel.split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case("next")) {
                return follow(list, target).map(Some);
            }
        }
    }
    Ok(None)
}

fn follow(list: &Url, target: &str) -> Result<Page, &'static str> {
    let to = list.join(target).map_err(|_| "a next page that is not a URL")?;
    if endpoint(&to) != endpoint(list) {
        return Err("a next page that belongs to another list");
    }
    let query = to.query().filter(|query| !query.is_empty()).ok_or("a next page that is the first page")?;
    Page::from_query(query).map_err(|_| "a next page with a malformed query")
}

/// The last two segments of the path, decoded: `tags/list` or `referrers/<digest>`.
fn endpoint(url: &Url) -> Vec<String> {
    let segments = url.path().rsplit('/').take(2);
    segments.map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned()).collect()
}

/// Splits the first link off a header value: its target and its relations.
fn take_link<'a>(rest: &mut &'a str) -> Result<Option<(&'a str, String)>, &'static str> {
    let text = rest.trim_start_matches([' ', '\t', ',']);
    if text.is_empty() {
        return Ok(None);
    }
    let (target, after) = text.strip_prefix('<').and_then(|text| text.split_once('>')).ok_or(MALFORMED)?;
    *rest = after;
    let mut relations = None;
    while let Some((name, value)) = take_parameter(rest)? {
        // RFC 8288, section 3.3: only the first one counts.
        if name.eq_ignore_ascii_case("rel") {
            relations.get_or_insert(value);
        }
    }
    Ok(Some((target, relations.unwrap_or_default())))
}

/// Splits off `; name`, `; name=value` or `; name="value"`, with optional spaces anywhere.
fn take_parameter<'a>(rest: &mut &'a str) -> Result<Option<(&'a str, String)>, &'static str> {
    let text = rest.trim_start();
    let Some(text) = text.strip_prefix(';') else {
        *rest = text;
        return if text.is_empty() || text.starts_with(',') { Ok(None) } else { Err(MALFORMED) };
    };
    let (name, after) = text.split_at(text.find([';', ',', '=']).unwrap_or(text.len()));
    let Some(value) = after.strip_prefix('=').map(str::trim_start) else {
        *rest = after;
        return Ok(Some((name.trim(), String::new())));
    };
    if let Some(quoted) = value.strip_prefix('"') {
        let (value, after) = unquote(quoted).ok_or(MALFORMED)?;
        *rest = after;
        return Ok(Some((name.trim(), value)));
    }
    let (value, after) = value.split_at(value.find([';', ',']).unwrap_or(value.len()));
    *rest = after;
    // Single quotes are not quotes in HTTP, but some registries use them.
    Ok(Some((name.trim(), value.trim().trim_matches('\'').to_owned())))
}

/// The rest of a quoted string (RFC 9110, section 5.6.4), and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let (mut value, mut chars) = (String::new(), text.chars());
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(chars.next()?),
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(values: &[&str]) -> Result<Option<String>, &'static str> {
        let list = Url::parse("https://registry.test/v2/team/app/tags/list?n=2").unwrap();
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::LINK, value.parse().unwrap());
        }
        Ok(next_page(&headers, &list)?.map(|page| page.to_query().join("&")))
    }

    #[test]
    fn next_pages_are_followed_in_any_spelling() {
        for rel in [
            "rel=\"next\"",
            "rel=next",
            "rel=\"Next\"",
            "REL = next",
            "rel = \"NEXT\" ",
            "rel='next'",
            "rel=\"last next\"",
            "rel=\"ne\\xt\"",
            "title=\"a;,<>\\\"\"; rel=next",
            "crossorigin; rel=next; type=\"application/json\"",
        ] {
            let wanted = Ok(Some("n=2&last=c".to_owned()));
            assert_eq!(next(&[&format!("</v2/team/app/tags/list?n=2&last=c>; {rel}")]), wanted, "{rel}");
            assert_eq!(next(&[&format!("<?n=2&last=c>;{rel}, <https://x.test/y>; rel=up")]), wanted, "{rel}");
            assert_eq!(next(&["</?n=1>; rel=\"prev\"", &format!("<?n=2&last=c>;{rel}")]), wanted, "{rel}");
            assert_eq!(next(&[&format!("</a?n=1>; rel=prev , <?n=2&last=c> ; {rel}")]), wanted, "{rel}");
        }
    }

    #[test]
    fn only_the_query_of_the_target_is_used() {
        for target in [
            "https://evil.test/v2/team/app/tags/list?cursor=a%2Bb==",
            "http://registry.test:99/artifactory/api/docker/v2/app/tags/list?cursor=a%2Bb==",
            "/tags/list?cursor=a%2Bb==",
            "list?cursor=a%2Bb==#fragment",
            "?cursor=a%2Bb==",
        ] {
            assert_eq!(next(&[&format!("<{target}>; rel=next")]), Ok(Some("cursor=a%2Bb==".to_owned())), "{target}");
        }
    }

    #[test]
    fn the_digest_of_a_referrers_list_may_be_encoded() {
        let list = Url::parse("https://registry.test/v2/a/referrers/sha256:12").unwrap();
        let link = |target: &str| {
            let value = format!("<{target}>; rel=next").parse().unwrap();
            next_page(&HeaderMap::from_iter([(header::LINK, value)]), &list)
        };
        assert!(link("/v2/a/referrers/sha256%3A12?next=1").is_ok_and(|page| page.is_some()));
        assert!(link("/v2/a/referrers/sha256:13?next=1").is_err());
    }

    #[test]
    fn without_a_next_page_the_list_ends() {
        assert_eq!(next(&[]), Ok(None));
        for end in
            ["", " , ", "</x>; rel=\"prev\"", "<https://x.test>; rel=preconnect; next", "</x?n=2>; rel=up; rel=next"]
        {
            assert_eq!(next(&[end]), Ok(None), "{end}");
        }
    }

    #[test]
    fn links_that_cannot_be_followed_are_errors() {
        for bad in [
            "nonsense",
            "<",
            "/v2/team/app/tags/list?n=2; rel=next",
            "<?n=2>; rel=\"next",
            "<?n=2> rel=next",
            "<?n=x>; rel=next",
            "<?last=%00>; rel=next",
            "</v2/team/app/tags/list>; rel=next",
            "</v2/team/app/tags/list?>; rel=next",
            "</v2/pages?token=x>; rel=next",
            "<https://[/?n=2>; rel=next",
        ] {
            assert!(next(&[bad]).is_err(), "{bad}");
        }
        assert!(next(&[&format!("<?x={}>; rel=next", "y".repeat(4096))]).is_err());
    }
}
