//! `WWW-Authenticate`: the authentication challenges of a registry (RFC 9110 §11.6.1; distribution, "Token
//! Authentication").
//!
//! The parser is lenient and therefore hand-written: registries send unquoted URLs, which the grammar does not allow,
//! and several challenges in one header.

use http::header::{self, HeaderMap};

/// The maximum number of bytes parsed from the headers.
const MAX_LENGTH: usize = 8 * 1024;

/// A challenge of a scheme that this client supports.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::upstream) enum Challenge {
    /// A user name and password with each request.
    Basic,
    /// A token from the service at `realm`.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// The challenge to answer: a token if one is offered, because a stolen token is less valuable than a password.
    pub(in crate::upstream) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let found: Vec<_> = values.filter(|text| text.len() <= MAX_LENGTH).flat_map(parse).collect();
        found.iter().find(|challenge| matches!(challenge, Self::Bearer { .. })).or(found.first()).cloned()
    }

    /// How long its texts are, in bytes.
    pub(in crate::upstream) fn bytes(&self) -> usize {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        match self {
            Self::Basic => 0,
            Self::Bearer { realm, service, scope } => realm.len() + length(service) + length(scope),
        }
    }
}

/// All challenges in one header.
fn parse(text: &str) -> Vec<Challenge> {
    let mut schemes: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() && after.is_empty() {
            break;
        }
        let after = after.trim_start_matches([' ', '\t']);
        match (after.strip_prefix('='), schemes.last_mut()) {
            (Some(after), Some((_, parameters))) => {
                let (value, after) = value(after.trim_start_matches([' ', '\t']));
                parameters.push((word.to_ascii_lowercase(), value));
                rest = after;
            }
            (Some(after), None) => rest = after,
            (None, _) => {
                schemes.push((word.to_ascii_lowercase(), Vec::new()));
                rest = after;
            }
        }
    }
    schemes.into_iter().filter_map(|(scheme, parameters)| challenge(&scheme, &parameters)).collect()
}

fn challenge(scheme: &str, parameters: &[(String, String)]) -> Option<Challenge> {
    let parameter = |key: &str| {
        let value = parameters.iter().find(|(k, _)| k == key).map(|(_, value)| value.clone());
        value.filter(|value| !value.is_empty())
    };
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: parameter("realm")?,
            service: parameter("service"),
            scope: parameter("scope"),
        }),
        _ => None,
    }
}

/// A quoted string or a token, and what follows.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in quoted.char_indices() {
        match c {
            c if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (value, &quoted[at + 1..]),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_parsed_leniently() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            let (service, scope) = (service.map(str::to_owned), scope.map(str::to_owned));
            Some(Challenge::Bearer { realm: realm.into(), service, scope })
        };
        for (texts, wanted) in [
            (&["Basic realm=\"x\""][..], Some(Challenge::Basic)),
            (&["basic"], Some(Challenge::Basic)),
            (
                &["Bearer realm=\"https://a/t\",service=\"s\",scope=\"repository:a:pull,push\""],
                bearer("https://a/t", Some("s"), Some("repository:a:pull,push")),
            ),
            (&["bearer realm=https://a/t?x=1, service=s"], bearer("https://a/t?x=1", Some("s"), None)),
            (&["BEARER Realm = \"https://a/t\" , scope=\"\""], bearer("https://a/t", None, None)),
            (&["Bearer realm=\"a,b\\\"c\",,error=\"invalid_token\""], bearer("a,b\"c", None, None)),
            (&["Basic realm=\"x, Bearer realm=y\""], Some(Challenge::Basic)),
            (&["Basic realm=\"x\", Bearer realm=\"https://a\",service=s"], bearer("https://a", Some("s"), None)),
            (&["Basic realm=\"x\"", "Bearer realm=\"https://a\""], bearer("https://a", None, None)),
            (&["Negotiate", "Basic"], Some(Challenge::Basic)),
            (&["Bearer service=\"s\""], None),
            (&["Negotiate dG9rZW4="], None),
            (&["Bearer realm=\"unclosed"], bearer("unclosed", None, None)),
            (&["=x"], None),
            (&["realm=x"], None),
            (&[""], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for text in texts {
                headers.append(header::WWW_AUTHENTICATE, text.parse().unwrap());
            }
            assert_eq!(Challenge::from_headers(&headers), wanted, "{texts:?}");
        }
    }
}
