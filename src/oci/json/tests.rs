use super::*;

fn read(text: &str) -> Result<Value, String> {
    parse(text.as_bytes(), &["layers", "mediaType", "size"], &["annotations"]).map_err(|e| e.to_string())
}

#[test]
fn ordinary_documents_are_accepted() {
    let text = r#"{"layers":[{"size":1}],"annotations":{"Layers":"x","layers":"y"},"other":null,"f":1.5,"t":true}"#;
    assert_eq!(read(text).unwrap(), serde_json::from_str::<Value>(text).unwrap());
}

#[test]
fn ambiguous_documents_are_rejected() {
    for (text, part) in [
        (r#"{"layers":[],"layers":[]}"#, "duplicate key"),
        (r#"{"a":{"b":1,"b":1}}"#, "duplicate key"),
        (r#"{"annotations":{"x":"1","x":"2"}}"#, "duplicate key"),
        (r#"{"lay\u0065rs":[],"layers":[]}"#, "duplicate key"),
        (r#"{"Layers":[]}"#, "the key \"Layers\" as \"layers\""),
        (r#"{"x":[{"\u017fize":1}]}"#, "as \"size\", and others do not"),
        (r#"{"mediatype":""}"#, "as \"mediaType\", and others do not"),
        (r#"{} {}"#, "trailing"),
        (r#"{"a":"\ud800"}"#, "hex escape"),
        ("\u{feff}{}", "expected value"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
    assert!(read(&"[".repeat(100_000)).is_err());
    let dense =
        |values: usize| parse_dense(format!("[{}123]", "123,".repeat(values - 2)).as_bytes(), &[], &[], usize::MAX);
    assert!(dense(MAX_VALUES).is_ok());
    assert!(dense(MAX_VALUES + 1).unwrap_err().to_string().contains("too many values"));
}

/// Objects in objects, which take the most memory for their text.
fn chains(bytes: usize) -> String {
    let chain = format!("{}0{}", "{\"\":".repeat(100), "}".repeat(100));
    vec![&*chain; bytes / (chain.len() + 1)].join(",")
}

/// The values that were parsed before the document was refused.
fn values_before_refusal(text: &str, per_byte: usize) -> usize {
    let budget = ValueBudget::new(text.as_bytes(), per_byte);
    let error = Strict::new(&budget).parse(text.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("too many values for its size"), "{error}");
    assert!(budget.memory.get() <= budget.limit);
    budget.values.get()
}

#[test]
fn few_values_of_a_document_that_would_take_much_memory_are_parsed() {
    let four_mib = 4 << 20;
    for (junk, most) in [
        (chains(four_mib), 60_000),
        (vec![r#"{"":0}"#; four_mib / 7].join(","), 100_000),
        (vec![r#"[0]"#; four_mib / 4].join(","), 400_000),
    ] {
        let text = format!(r#"{{"schemaVersion":2,"manifests":[],"x":[{junk}]}}"#);
        let values = values_before_refusal(&text, USUAL);
        assert!(values < most, "{values}");
    }
    let values = values_before_refusal(&format!("[{}]", chains(1 << 20)), DENSE);
    assert!(values < 45_000, "{values}");
}

#[test]
fn unneeded_values_are_checked_and_dropped() {
    let members = |text: &str| parse_members(text.as_bytes(), &["layers"], &["free"], &["a", "b"]);
    let text = format!(r#"{{"a":{{"c":[1]}},"x":[{}],"y":{{"a":1}}}}"#, chains(1 << 20));
    assert_eq!(members(&text).unwrap(), serde_json::json!({"a": {"c": [1]}}));
    assert_eq!(
        members(r#"{"x":{"free":{"Layers":1}},"b":[{"x":"y"}]}"#).unwrap(),
        serde_json::json!({"b": [{"x": "y"}]})
    );
    for (text, part) in [
        (r#"{"x":[{"k":1,"k":2}]}"#, "duplicate key"),
        (r#"{"x":1,"x":2}"#, "duplicate key"),
        (r#"{"x":[{"Layers":1}]}"#, "the key \"Layers\" as \"layers\""),
        (r#"{"x":1} 2"#, "trailing"),
    ] {
        let error = members(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    let many = format!(r#"{{"x":[{}1]}}"#, "1,".repeat(MAX_VALUES));
    assert!(members(&many).unwrap_err().to_string().contains("too many values"));
}

#[test]
fn ordinary_large_documents_are_parsed() {
    let layer = format!(
        r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{}","size":7143,"platform":{{"architecture":"ppc64le","os":"linux"}}}}"#,
        "0".repeat(64)
    );
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, vec![&*layer; 16_000].join(","));
    assert!(index.len() > 3 << 20 && index.len() <= 4 << 20, "{}", index.len());
    parse(index.as_bytes(), &["layers"], &[]).unwrap();
    let property = r#"{"name":"syft:location:0:path","value":"/var/lib/dpkg/status"}"#;
    let properties = vec![property; 33_400].join(",");
    let list = format!(r#"{{"bomFormat":"CycloneDX","components":[{properties}]}}"#);
    let dense = |most: usize| parse_dense(list.as_bytes(), &[], &[], most);
    assert!(dense(256 << 20).is_ok(), "a signed list of packages with 100,000 values");
    assert!(dense(8 << 20).unwrap_err().to_string().contains("they take over 8192 KiB"));
    assert!(parse_members(list.as_bytes(), &[], &[], &["bomFormat"]).is_ok());
}

#[test]
fn members_of_lenient_json_are_seen() {
    let keys = |text: &str| {
        let mut keys = Vec::new();
        each_member(text.as_bytes(), |key, value| keys.push(format!("{key}={}", value.get()))).map(|()| keys)
    };
    assert_eq!(keys(r#" {"a":[1,{"b":2}],"a":null} "#).unwrap(), [r#"a=[1,{"b":2}]"#, "a=null"]);
    assert_eq!(keys("{}").unwrap(), [""; 0]);
    for text in ["[1]", "1", "", "{", "{} {}", r#"{"a":}"#] {
        assert!(keys(text).is_err(), "{text}");
    }
    let mut first = Vec::new();
    each_member_of_first(br#"{"a":1} trailing"#, |key, _| first.push(key.to_owned())).unwrap();
    assert_eq!(first, ["a"]);
}
