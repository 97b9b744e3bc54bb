use proptest::prelude::*;

use super::*;

fn one(text: &str) -> Value {
    let (mut roots, faults) = parse(text, FileId::default());
    assert_eq!(faults, [], "{text}");
    roots.pop().map_or(Value::Null, |node| node.value)
}

/// A value without its places.
fn bare(text: &str) -> String {
    fn write(value: &Value) -> String {
        match value {
            Value::List(items) => format!("{:?}", items.iter().map(|item| write(&item.value)).collect::<Vec<_>>()),
            Value::Map(entries) => {
                format!("{:?}", entries.iter().map(|e| (&e.key, write(&e.node.value))).collect::<Vec<_>>())
            }
            scalar => format!("{scalar:?}"),
        }
    }
    write(&one(text))
}

fn fault(text: &str) -> String {
    let (_, faults) = parse(text, FileId::default());
    faults.first().map(|fault| format!("{}:{} {}", fault.at.line, fault.at.column, fault.message)).unwrap_or_default()
}

#[test]
fn plain_scalars_as_go_yaml_v2_resolves_them() {
    for word in ["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"] {
        assert_eq!(one(word), Value::Bool(true), "{word}");
    }
    for word in ["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"] {
        assert_eq!(one(word), Value::Bool(false), "{word}");
    }
    for word in ["yES", "tRUE", "oN", "nO", "t", "nil", "NuLL", "1.2.3", "v1", "0x", "--1", "1__x", "e5", ".", "+"] {
        assert_eq!(one(word), Value::Text(word.into()), "{word}");
    }
    for (word, number) in [("0", 0), ("-7", -7), ("+7", 7), ("1_000", 1000), ("0x1F", 31), ("0b11", 3), ("017", 15)] {
        assert_eq!(one(word), Value::Int(number), "{word}");
    }
    for word in ["1.5", ".5", "1.", "1e3", "-1.5E-3", ".inf", "-.Inf", ".NaN", "99999999999999999999"] {
        assert!(matches!(one(word), Value::Float(_)), "{word}");
    }
    assert_eq!((one("-1.5E-3"), one("1.")), (Value::Float(-0.0015), Value::Float(1.0)));
    for word in ["~", "null", "Null", "NULL", ""] {
        assert_eq!(one(&format!("a: {word}")).kind(), "a mapping");
        assert_eq!(bare(&format!("a: {word}")), bare("a: null"), "{word}");
    }
    for text in ["\"true\"", "'true'", "!!str true", "|-\n  true", ">-\n  true"] {
        assert_eq!(one(text), Value::Text("true".into()), "{text}");
    }
}

#[test]
fn json_and_several_documents() {
    assert_eq!(bare(r#"{"a": [1, "x", null, true]}"#), bare("a:\n- 1\n- 'x'\n- ~\n- yes\n"));
    assert_eq!(parse("---\n---\na: 1\n---\n# nothing\n---\nb: 2\n...\n", FileId::default()).0.len(), 2);
    assert_eq!(one("\u{feff}a: 1\r\nb: 2\r\n").kind(), "a mapping");
}

#[test]
fn positions() {
    let (roots, _) = parse("a:\n  - b: x\n    c: y\n", FileId::default());
    let list = roots[0].find("a").unwrap();
    let Value::List(items) = &list.value else { panic!() };
    assert_eq!(items[0].find("c").unwrap().at, Place { line: 3, column: 8, ..Place::default() });
}

#[test]
fn refused() {
    assert_eq!(fault("a: 1\nb: 2\na: 3\n"), "3:1 duplicate key \"a\": also at 1:1");
    assert_eq!(fault("a: 1\n\"a\": 3\n"), "2:1 duplicate key \"a\": also at 1:1");
    assert!(fault("a: !custom x").contains("tag !custom is not supported"));
    assert!(fault("a: !!bool maybe").contains("is not"));
    assert!(fault("a: !!binary eA==").contains("not supported"));
    assert!(fault("[x]: y").ends_with("a key must be plain text"));
    assert!(fault("a: {{ .Values.x }}").contains("a key must be plain text; if this is a template"));
    assert!(fault("a: &a [*a]").contains("unfinished value"));
    assert!(fault("a: *b").contains("not YAML"));
    assert!(fault("a: [1").contains("not YAML"));
    assert!(fault("a: 1\n...\nb: 2\n").contains("must begin with `---`"));
    assert_eq!(parse("a: 1\n...\n---\nb: 2\n", FileId::default()).0.len(), 2);
    assert!(fault(&"[".repeat(100)).contains("nested deeper"));
    assert!(fault(&"#".repeat(MAX_FILE + 1)).contains("larger than"));
}

#[test]
fn a_template_is_to_be_rendered_first() {
    for (text, is_template) in [
        ("{{- if .Values.x }}\na: 1\n{{- end }}\n", true),
        ("a:\n  b: 1\n  {{ if .Values.x }}\nc: 2\n", true),
        ("a:\n  {{- range .Values.x }}\n  - b\n  {{- end }}\n", true),
        ("a: {{ .Values.x }}\n", true),
        ("a: '{{ x }}'\nb\n", false),
    ] {
        assert_eq!(fault(text).ends_with("render it first (helm template)"), is_template, "{text}: {}", fault(text));
    }
}

#[test]
fn aliases_are_copied_within_a_budget() {
    assert_eq!(bare("a: &x {b: 1}\nc: *x\n"), bare("a: {b: 1}\nc: {b: 1}\n"));
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", ")));
    }
    assert!(fault(&bomb).contains("aliases expand to more than"));
    let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), vec!["*a"; 1000].join(", "));
    assert!(fault(&text).contains("aliases expand to more than"));
}

/// As go-yaml v2 and v3 and libyaml's users expand them: none of these differs between them.
#[test]
fn merge_keys_are_expanded() {
    for (merged, same) in [
        ("a: &a {b: 1}\nc: {<<: *a}\n", "a: {b: 1}\nc: {b: 1}\n"),
        ("a: &a {b: 1, c: 2}\nc:\n  <<: *a\n  b: 3\n", "a: {b: 1, c: 2}\nc: {c: 2, b: 3}\n"),
        ("c: {x: 1, <<: {b: 1, c: {d: 1}}, c: {e: 1}}", "c: {x: 1, b: 1, c: {e: 1}}"),
        (
            "a: &a {b: 1}\nb: &b {b: 2, c: 3}\nc: {<<: [*a, *b, {d: 4}]}\n",
            "a: {b: 1}\nb: {b: 2, c: 3}\nc: {b: 1, c: 3, d: 4}\n",
        ),
        ("a: &a {b: 1}\nb: &b {<<: *a, c: 2}\nc: {<<: *b}\n", "a: {b: 1}\nb: {b: 1, c: 2}\nc: {b: 1, c: 2}\n"),
        ("c: {<<: []}", "c: {}"),
    ] {
        assert_eq!(bare(merged), bare(same), "{merged}");
    }
    let (roots, _) = parse("a: &a {b: 1}\nc:\n  <<: *a\n", FileId::default());
    let merged = &roots[0].find("c").unwrap().members()[0];
    assert_eq!((merged.at.line, merged.at.column), (1, 8), "errors name the place that has to be changed");
    assert_eq!(bare("c: {\"<<\": {b: 1}}"), bare("c: {'<<': {b: 1}}"), "in quotes it is a key like any other");
}

#[test]
fn merge_keys_that_parsers_read_differently_stay() {
    for (text, expected) in [
        ("a: &a {b: 1}\nc:\n  b: 2\n  <<: *a\n", "4:3 \"b\" occurs before it"),
        ("c: {<<: null}", "1:5 its value must be a mapping"),
        ("c: {<<: x}", "1:5 its value must be a mapping"),
        ("a: &a 5\nc: {<<: [*a]}", "2:5 its value must be a mapping"),
        ("c: {<<: [[{b: 1}]]}", "1:5 its value must be a mapping"),
        ("a: [{b: {<<: 1}}]", "1:10 its value must be a mapping"),
        ("a: &a {<<: 1}\nc: {<<: *a}", "1:8 its value must be a mapping"),
    ] {
        let (roots, faults) = parse(text, FileId::default());
        let (at, why) = roots[0].merge_key().unwrap_or_else(|| panic!("{text}"));
        let said = format!("{}:{} {why}", at.line, at.column);
        assert!(said.starts_with(expected) && faults.is_empty(), "{text}: {said} {faults:?}");
    }
    assert_eq!(parse("c: {\"<<\": 1}", FileId::default()).0[0].merge_key(), None);
    assert_eq!(fault("c: {<<: {a: 1}, <<: {b: 1}}"), "1:17 duplicate key \"<<\": also at 1:5");
}

#[test]
fn merge_keys_are_expanded_within_the_budget() {
    let mut bomb = String::from("a0: &a0 {k: x}\n");
    for i in 1..40 {
        bomb.push_str(&format!("a{i}: &a{i} {{<<: *a{0}, l{i}: *a{0}, r{i}: *a{0}}}\n", i - 1));
    }
    assert!(fault(&bomb).contains("aliases expand to more than"));
}

/// All of these are the same to libyaml; a tab in a text stays.
#[test]
fn tabs_after_a_colon() {
    for (tabs, spaces) in [
        ("a:\ttrue\nb:\t\t-1\nc: \td\n", "a: true\nb: -1\nc: d\n"),
        ("a:\n  b:\tc\n  d:\t{e:\tf}\n", "a:\n  b: c\n  d: {e: f}\n"),
        ("a:\t# comment\n  b: c\n", "a:\n  b: c\n"),
        ("a:\t&x b\nc:\t*x\nd:\t!!str 1\n", "a: b\nc: b\nd: '1'\n"),
        ("- a:\tb\n  c:\td\n", "- a: b\n  c: d\n"),
        ("a:\t|\n  x:\ty\n", "a: \"x:\\ty\\n\"\n"),
        ("a:\t\"x:\ty\"\n", "a: \"x:\\ty\"\n"),
        ("a:\tx:\ty\n", ""),
        ("a:\t- x\n", ""),
        ("a:\n\tb: x\n", ""),
    ] {
        match spaces {
            "" => assert_ne!(fault(tabs), "", "{tabs:?}"),
            _ => assert_eq!(bare(tabs), bare(spaces), "{tabs:?}"),
        }
    }
    let (roots, _) = parse("a:\tb\n", FileId::default());
    assert_eq!(roots[0].find("a").unwrap().at.column, 4);
}

proptest! {
    #[test]
    fn never_panics(text in any::<String>(), yaml in "([ \n:\\-\\[\\]{}&*!|>'\"?,#a<~%@0]{1,2}){0,60}") {
        parse(&text, FileId::default());
        parse(&yaml, FileId::default());
    }
}

/// No megabyte of anything holds the reader up.
#[test]
fn large_nonsense_is_read_in_linear_time() {
    let units = [
        "[",
        "{",
        "[a, ",
        "{a: ",
        "- ",
        "? ",
        "a: ",
        "&a ",
        "'",
        "\"",
        "|\n",
        "a:\n ",
        ": ",
        "!",
        "%",
        "\t",
        "---\n",
        "a,",
        "[]\n",
        "a\n",
        "- a\n",
        "{a: 1}, ",
        "\\",
        "\"\\",
        "a: &b c\n",
        "a b ",
        "\n",
        "\r",
        "- - ",
        "# x\n",
        "]",
        "...\n",
    ];
    for unit in units {
        let text = unit.repeat(100_000 / unit.len());
        let begin = std::time::Instant::now();
        parse(&text, FileId::default());
        let time = begin.elapsed();
        println!("{unit:?} {time:?}");
        assert!(time < std::time::Duration::from_secs(10), "{unit:?}: {time:?}");
    }
}
