//! Stores of signatures.

use super::*;

#[test]
fn stores_come_from_the_most_specific_scope_that_has_one() {
    let policy = json!({
        "default": [signed_by()],
        "transports": {"docker": {"a.io/x": [signed_by()], "a.io/x/y:v1": [signed_by()]}}
    });
    let registries = [
        "default-docker:\n  lookaside: https://default.example.com/\n  lookaside-staging: file:///staging\n",
        "docker:\n  a.io: {sigstore: 'file:///a'}\n  a.io/x: {use-sigstore-attachments: true}\n  a.io/z: {lookaside: 'http://z.example.com'}\n  a.io/w: {lookaside: 'ftp://w'}\n  busybox: {lookaside: 'https://ignored'}\n",
    ];
    let (text, notes) = imported(&policy, &registries);
    let rules = rules(&text);
    for (image, store) in [
        ("b.io/c:v1", Some("https://default.example.com/")),
        ("a.io/c:v1", Some("file:///a")),
        ("a.io/x:v1", Some("file:///a")),
        ("a.io/x/y:v1", Some("file:///a")),
        ("a.io/z:v1", Some("http://z.example.com/")),
        ("a.io/z/y:v1", Some("http://z.example.com/")),
        ("a.io/w:v1", None),
    ] {
        assert_eq!(store_of(&rules, image).as_deref(), store, "{image}\n{text}");
    }
    assert!(notes.contains("\"busybox\" does not begin with a registry's host"), "{notes}");
    assert!(notes.contains("\"ftp://w\" is not an https, http or file URL"), "{notes}");
}

/// Where no file names a store, containers/image reads one of its own. Without it, a signature there would be missed.
#[test]
fn without_a_lookaside_the_default_store_is_read() {
    let policy = json!({"default": [signed_by()], "transports": {"docker": {"b.io": [{"type": "reject"}]}}});
    let registries = ["docker:\n  a.io: {lookaside: 'https://s.example.com'}\n  a.io/x: {lookaside: ''}\n"];
    let policy = ContainersPolicy::parse(policy.to_string().as_bytes()).unwrap();
    let mut stores = SignatureStores::default();
    stores.add("a.yaml", registries[0]).unwrap();
    for (is_root, home, store) in [
        (true, Some("/root"), Some("file:///var/lib/containers/sigstore")),
        (true, None, Some("file:///var/lib/containers/sigstore")),
        (false, Some("/home/a b"), Some("file:///home/a%20b/.local/share/containers/sigstore")),
        (false, None, None),
    ] {
        let default = default_store(is_root, home.map(Path::new));
        let document = ImportedDocument::new(&policy, &stores, default.as_deref());
        let rules = rules(&document.text);
        assert_eq!(store_of(&rules, "c.io/d:v1").as_deref(), store);
        assert_eq!(store_of(&rules, "a.io/d:v1").as_deref(), Some("https://s.example.com/"));
        assert_eq!(store_of(&rules, "a.io/x:v1").as_deref(), Some("https://s.example.com/"));
        let notes = document.notes.join("\n");
        let stated =
            store.map(|store| format!("the default: no lookaside is named, so signatures are read from {store}"));
        assert!(stated.is_none_or(|stated| notes.contains(&stated)) && !notes.contains("b.io"), "{notes}");
    }
    let (text, _) = imported(&json!({"default": [signed_by()]}), &[]);
    assert!(store_of(&rules(&text), "a.io/b:v1").is_some_and(|store| store.ends_with("/containers/sigstore")));
}

/// A store that a document cannot name does not make the whole document unusable, and no password gets into the notes.
#[test]
fn stores_that_documents_cannot_name_are_left_out() {
    for (store, why) in [
        ("https://u:hush@s.example.com/x", "s.example.com contains credentials"),
        ("https://u@s.example.com", "contains credentials"),
        ("https://s.example.com/?a=b", "a query or a fragment"),
        ("file:///store#a", "a query or a fragment"),
    ] {
        let registries = format!("default-docker: {{lookaside: '{store}'}}");
        let (text, notes) = imported(&json!({"default": [signed_by()]}), &[&registries]);
        assert_eq!(store_of(&rules(&text), "a.io/b:v1"), None, "{store}");
        assert!(notes.contains(why) && !notes.contains("hush") && !text.contains("hush"), "{store}: {notes}");
    }
}
