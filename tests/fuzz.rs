//! Arbitrary bytes and mutated valid documents: no parser panics, and every accepted document is interpreted as Go
//! clients would.

#![allow(clippy::unwrap_used, reason = "a failure of the test itself may panic")]

use std::fmt;

use bytes::Bytes;
use proptest::prelude::*;
use pullgate::oci::{Content, Digest, Endpoint, Manifest, Route};
use pullgate::x509::{DistinguishedName, RevocationList, X509Certificate};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// JSON as seen by Go: all members of an object, in order, including duplicates.
#[derive(Clone, Debug)]
enum Go {
    Array(Vec<Self>),
    Null,
    /// A number that fits an `int64`, if it does.
    Number(Option<i64>),
    Object(Vec<(String, Self)>),
    Other,
    Text(String),
}

impl<'de> Deserialize<'de> for Go {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(GoVisitor)
    }
}

struct GoVisitor;

impl<'de> Visitor<'de> for GoVisitor {
    type Value = Go;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Go, E> {
        Ok(Go::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Go, E> {
        Ok(Go::Other)
    }

    fn visit_i64<E>(self, n: i64) -> Result<Go, E> {
        Ok(Go::Number(Some(n)))
    }

    fn visit_u64<E>(self, n: u64) -> Result<Go, E> {
        Ok(Go::Number(i64::try_from(n).ok()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Go, E> {
        Ok(Go::Number(None))
    }

    fn visit_str<E>(self, text: &str) -> Result<Go, E> {
        Ok(Go::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Go, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Go::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Go, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Go::Object(pairs))
    }
}

impl Go {
    /// The field as encoding/json fills it: keys fold, and the last value that is not null wins.
    fn field(&self, name: &str) -> Option<&Self> {
        let Self::Object(pairs) = self else { return None };
        let fold = |text: &str| text.replace('\u{17f}', "s").replace('\u{212a}', "k").to_lowercase();
        pairs
            .iter()
            .rev()
            .find(|(key, value)| fold(key) == fold(name) && !matches!(value, Self::Null))
            .map(|(_, value)| value)
    }

    fn digest(&self) -> Option<&str> {
        match self.field("digest") {
            Some(Self::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn size(&self) -> Option<i64> {
        match self.field("size") {
            Some(Self::Number(n)) => *n,
            _ => None,
        }
    }

    fn list(&self, name: &str) -> Vec<(Option<&str>, Option<i64>)> {
        match self.field(name) {
            Some(Self::Array(items)) => items.iter().map(|item| (item.digest(), item.size())).collect(),
            _ => Vec::new(),
        }
    }
}

fn valid() -> Vec<String> {
    let descriptor = |n: u8, extra: &str| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{}","size":{n}{extra}}}"#,
            Digest::sha256(&[n])
        )
    };
    let platform = r#","platform":{"os":"linux","architecture":"amd64"},"annotations":{"a":"b"}"#;
    vec![
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{},{}],"annotations":{{"k":"v"}}}}"#,
            descriptor(1, ""),
            descriptor(2, ""),
            descriptor(3, platform)
        ),
        format!(
            r#"{{"schemaVersion":2,"manifests":[{},{}],"subject":{}}}"#,
            descriptor(4, platform),
            descriptor(5, ""),
            descriptor(6, "")
        ),
    ]
}

/// Mutations that an attacker might try, on the text, so that duplicates and spellings survive.
fn mutate(text: &str, kind: u8, at: usize, other: usize) -> String {
    let keys = [
        "schemaVersion",
        "mediaType",
        "config",
        "layers",
        "manifests",
        "digest",
        "size",
        "platform",
        "subject",
        "annotations",
    ];
    let key = keys[at % keys.len()];
    let quoted = format!("\"{key}\"");
    let layer = format!(r#"{{"digest":"{}","size":9}}"#, Digest::sha256(b"evil"));
    let value =
        ["null", "[]", "{}", "7", "1.5", "-1", "\"x\"", "true", &format!("[{layer}]"), &layer][other % 10].to_owned();
    let folded = match other % 4 {
        0 => key.to_uppercase(),
        1 => key.replacen('s', "\u{17f}", 1),
        2 => key.replacen('k', "\u{212a}", 1),
        _ => format!("{}{}", key[..1].to_uppercase(), &key[1..]),
    };
    let end = text.rfind('}').unwrap_or_default();
    match kind % 8 {
        0 => format!("{},{quoted}:{value}}}", &text[..end]),
        1 => format!("{},\"{folded}\":{value}}}", &text[..end]),
        2 => text.replacen(&quoted, &format!("\"{folded}\""), 1 + other % 3),
        3 => text.replacen(&quoted, &format!("{quoted}:{value},{quoted}"), 1),
        4 => text.replacen("\"size\":", &format!("\"size\":{value},\"size\":"), 1),
        5 => text.replacen(&format!("{quoted}:"), &format!("{quoted}:{value},\"x\":"), 1),
        6 => text.chars().take(text.chars().count() * (other % 100) / 100).collect(),
        _ => format!("{text}{value}"),
    }
}

fn agrees_with_go(bytes: &[u8]) {
    let Ok(manifest) = Manifest::parse(Bytes::copy_from_slice(bytes), None) else { return };
    let go: Go = serde_json::from_slice(bytes).expect("accepted documents are JSON");
    let own = |d: &pullgate::oci::Descriptor| (Some(d.digest.to_string()), i64::try_from(d.size).ok());
    let theirs = |list: Vec<(Option<&str>, Option<i64>)>| {
        list.into_iter().map(|(d, s)| (d.map(str::to_owned), s)).collect::<Vec<_>>()
    };
    match &manifest.content {
        Content::Index(children) => {
            assert_eq!(children.iter().map(own).collect::<Vec<_>>(), theirs(go.list("manifests")));
            assert!(go.field("layers").is_none() && go.field("config").is_none(), "a client would see an image too");
        }
        Content::Image { config, layers } => {
            assert_eq!(layers.iter().map(own).collect::<Vec<_>>(), theirs(go.list("layers")));
            let theirs = go.field("config").map(|config| (config.digest().map(str::to_owned), config.size()));
            assert_eq!(Some(own(config)), theirs);
            assert!(go.field("manifests").is_none(), "a client would see an index too");
        }
    }
    assert_eq!(manifest.digest, Digest::sha256(bytes));
}

#[test]
fn the_model_detects_attacks() {
    let text = valid().remove(0);
    agrees_with_go(text.as_bytes());
    let attacked: Go = serde_json::from_str(&mutate(&text, 1, 3, 8)).unwrap();
    assert_ne!(attacked.list("layers").len(), 2, "Go takes the layers of the folded key");
    assert!(Manifest::parse(Bytes::from(mutate(&text, 1, 3, 8)), None).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn mutated_manifests_are_refused_or_interpreted_as_in_go(
        which in 0usize..2,
        steps in prop::collection::vec((any::<u8>(), any::<usize>(), any::<usize>()), 1..4),
        flip in prop::option::of((any::<usize>(), any::<u8>())),
    ) {
        let mut text = valid().remove(which);
        for (kind, at, other) in steps {
            text = mutate(&text, kind, at, other);
        }
        let mut bytes = text.into_bytes();
        if let Some((at, byte)) = flip.filter(|_| !bytes.is_empty()) {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        agrees_with_go(&bytes);
    }

    #[test]
    fn arbitrary_bytes_cause_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        agrees_with_go(&bytes);
        let text = String::from_utf8_lossy(&bytes);
        let _ = Route::parse(&text, Some(&text));
        let _ = Route::parse(&format!("/v2/{text}"), None);
    }

    /// An accepted path consists of the parsed parts and nothing else.
    #[test]
    fn accepted_routes_round_trip(path in "/v2/[a-z0-9._/%:A-Z-]{1,60}(/manifests/|/blobs/|/tags/)[a-z0-9:._-]{1,80}") {
        if let Ok(route) = Route::parse(&path, None) {
            let printed = match &route.endpoint {
                None => "/v2/".to_owned(),
                Some(Endpoint::Blob { name, digest }) => format!("/v2/{name}/blobs/{digest}"),
                Some(Endpoint::Manifest { name, reference }) => format!("/v2/{name}/manifests/{reference}"),
                Some(Endpoint::Referrers { name, digest, .. }) => format!("/v2/{name}/referrers/{digest}"),
                Some(Endpoint::Tags { name, .. }) => format!("/v2/{name}/tags/list"),
            };
            prop_assert_eq!(printed, path);
        }
    }
}

proptest! {
    /// Certificates, revocation lists and names come from signatures and from trust stores.
    #[test]
    fn certificates_and_names_never_make_their_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let sequence = [&[0x30, 0x82, 0x01, 0x00][..], &bytes].concat();
        for bytes in [&bytes[..], &sequence] {
            prop_assert!(X509Certificate::from_der(bytes).is_err());
            prop_assert!(RevocationList::from_der(bytes).is_err());
        }
        if let Ok(name) = DistinguishedName::parse(&String::from_utf8_lossy(&bytes)) {
            prop_assert_eq!(DistinguishedName::parse(&name.to_string()), Ok(name));
        }
    }
}
