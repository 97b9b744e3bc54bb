use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::sample::NotaryRepository;

#[test]
fn canonical_json_is_that_of_notary() {
    let value = json!({"b": [1, -2, true, null], "a": "line\nbreak \"quoted\" \\ é", "A": {}});
    let text = String::from_utf8(canonical(&value).unwrap()).unwrap();
    assert_eq!(text, "{\"A\":{},\"a\":\"line\nbreak \\\"quoted\\\" \\\\ é\",\"b\":[1,-2,true,null]}");
    assert!(canonical(&json!({"a": 1.5})).is_err());
    assert!(canonical(&json!(18_446_744_073_709_551_615_u64)).is_ok());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z_]{0,8}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// No input makes a parser panic, and none is accepted unsigned.
    #[test]
    fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = SignedDocument::parse(&bytes).map(|envelope| read_all(&envelope));
    }

    #[test]
    fn no_value_makes_a_parser_panic(signed in any_json(), signatures in any_json()) {
        let text = json!({"signed": signed, "signatures": signatures}).to_string();
        let _ = SignedDocument::parse(text.as_bytes()).map(|envelope| read_all(&envelope));
    }

    /// A document in which one byte differs is refused, or says the same.
    #[test]
    fn a_changed_byte_is_noticed(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        thread_local!(static ROOT: (Vec<u8>, Root) = {
            let mut repository = NotaryRepository::new("a.io/b").unwrap();
            repository.publish();
            let bytes = repository.documents["root"].to_vec();
            let root = Root::read(&SignedDocument::parse(&bytes).unwrap()).unwrap();
            (bytes, root)
        });
        ROOT.with(|(bytes, root)| {
            let mut changed = bytes.clone();
            changed[at.index(bytes.len())] = byte;
            let before = SignedDocument::parse(bytes).unwrap();
            if let Ok(after) = SignedDocument::parse(&changed)
                && after.verify(&root.keys, root.role("root")).is_ok()
            {
                assert_eq!(after.message(), before.message());
            }
        });
    }
}

fn read_all(envelope: &SignedDocument) {
    let _ = Root::read(envelope).map(|root| envelope.verify(&root.keys, root.role("root")));
    let _ = Timestamp::read(envelope);
    let _ = TufSnapshot::read(envelope);
    let _ = Targets::read(envelope, "targets");
}
