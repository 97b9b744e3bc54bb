use serde_json::json;

use super::*;

const VARIABLES: &[(&str, ValueType)] =
    &[("predicate", ValueType::Any), ("kind", ValueType::Text), ("now", ValueType::Time)];

fn compile(text: &str) -> Result<Condition, Vec<String>> {
    Condition::compile(text, VARIABLES).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn evaluate(text: &str, predicate: &Value) -> Result<bool, String> {
    let condition = compile(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
    let now = "2026-06-01T00:00:00Z".parse().unwrap();
    condition.is_met(&[
        ("predicate", Variable::Json(predicate)),
        ("kind", Variable::Text("https://slsa.dev/provenance/v1")),
        ("now", Variable::Time(now)),
    ])
}

#[test]
fn conditions_are_met_or_not() {
    let predicate = json!({
        "builder": {"id": "https://github.com/acme/build"}, "count": 3, "ratio": 0.5, "done": true, "nothing": null,
        "materials": [{"uri": "git+https://a"}, {"uri": "git+https://b"}], "at": "2026-05-31T12:00:00Z",
    });
    for (text, met) in [
        ("true", true),
        ("predicate.done", true),
        ("predicate.builder.id == 'https://github.com/acme/build'", true),
        ("predicate.builder.id.startsWith(\"https://github.com/acme/\")", true),
        ("predicate.builder.id.matches('^https://gitlab')", false),
        ("predicate['builder']['id'].contains('acme') && kind.endsWith('/v1')", true),
        ("predicate.materials.all(m, m.uri.startsWith('git+https://'))", true),
        ("predicate.materials.exists(m, m.uri == 'git+https://c')", false),
        ("predicate.materials.exists_one(m, m.uri == 'git+https://a')", true),
        ("predicate.materials.map(m, m.uri).size() == 2", true),
        ("size(predicate.materials.filter(m, m.uri != 'git+https://a')) == 1", true),
        ("predicate.materials[0].uri == 'git+https://a'", true),
        ("'git+https://a' in predicate.materials.map(m, m.uri)", true),
        ("has(predicate.absent) || predicate.count + 1 == 4", true),
        ("predicate.count > 2 && predicate.ratio < 1.0", true),
        ("predicate.nothing == null", true),
        ("now - timestamp(predicate.at) < duration('24h')", true),
        ("timestamp(predicate.at) + duration('11h59m') >= now", false),
        ("!(predicate.count in [1, 2]) ? kind != '' : false", true),
    ] {
        assert_eq!(evaluate(text, &predicate), Ok(met), "{text}");
    }
}

/// If each level were checked twice, this would take hours.
#[test]
fn nested_macros_are_checked_once() {
    let nested = (0..28).fold("0".to_owned(), |inner, _| format!("[0].map(x, {inner})"));
    assert!(compile(&format!("size({nested}) == 1")).is_ok());
}

#[test]
fn mistakes_are_found_before_use_with_their_place() {
    for (text, expected) in [
        ("", "line 1, column 1: "),
        ("predicate.a ==", "line 1, column "),
        ("predicate.a\n  === 1", "line 2, column "),
        ("predicat.a == 1", "line 1, column 1: there is no variable \"predicat\"; known here: predicate, kind, now"),
        ("true &&\n  predicat.a", "line 2, column 3: there is no variable \"predicat\""),
        ("'ä' == predicat", "line 1, column 8: there is no variable"),
        ("predicate.a.foo('x')", "foo is not a function here"),
        ("predicate.xs.all(x, y)", "there is no variable \"y\""),
        ("kind.size", "a string has no field \"size\""),
        ("kind.startsWith(1)", "startsWith does not take these arguments"),
        ("size(1) == 1", "size does not take a int"),
        ("predicate.getFullYear() == 1", "getFullYear is not a function"),
        ("1", "the result is a int, but a condition is true or false"),
        ("kind", "the result is a string"),
        ("predicate.xs.map(x, x)", "the result is a list"),
        ("now + duration('1h')", "the result is a timestamp"),
        ("kind > 1", "> cannot be applied to string and int"),
        ("kind == 1", "== cannot be applied to string and int"),
        ("now > predicate.at && now > 5", "> cannot be applied to timestamp and int"),
        ("kind && true", "&& cannot be applied to string and bool"),
        ("!kind", "! cannot be applied to string"),
        ("1.all(x, true)", ""),
        ("kind.all(x, true)", "a string is neither a list nor a map"),
        ("Foo{a: 1} == 1", "there is no type \"Foo\""),
        ("predicate.?a == 1", "line 1, column"),
        ("timestamp(1) > now", "timestamp does not take a int"),
        ("duration('1 lightyear') > duration('1h')", "line 1, column 10: duration: \"1 lightyear\" is not a duration"),
        ("now - now > duration('30d')", "\"30d\" is not a duration such as \"36h\" or \"1h30m\"; a day is \"24h\""),
        ("now > timestamp('2026-01-01')", "\"2026-01-01\" is not a time such as"),
        ("kind.matches('(')", "matches: \"(\" is not a regular expression: unclosed group"),
        ("predicate.xs.all(x, matches(x, '[z-a]'))", "is not a regular expression: invalid character class range"),
        ("kind.matches('((a{1000}){1000}){1000}')", "is too large a regular expression"),
    ] {
        let errors = compile(text).expect_err(text);
        assert!(errors.iter().any(|error| error.contains(expected)), "{text}: {errors:?}");
    }
    assert_eq!(compile("predicate.a == foo && bar").unwrap_err().len(), 2, "every mistake is reported");
}

#[test]
fn conditions_that_cannot_be_evaluated_are_not_met() {
    let predicate = json!({"a": 1, "t": "yesterday", "xs": [1, 2], "re": "(", "big": i64::MAX});
    for (text, expected) in [
        ("predicate.b", "there is no \"b\""),
        ("predicate.a", "is neither true nor false, but a int"),
        ("predicate.a == 'x' || predicate.a.startsWith('x')", "no matching overload"),
        ("predicate.xs[2] == 1", "out of bounds"),
        ("now > timestamp(predicate.t)", "timestamp: "),
        ("duration(predicate.t) > duration('1h')", "duration: "),
        ("kind.matches(predicate.re)", "matches"),
        ("predicate.big + 1 > 0", "too large"),
        ("1 / (predicate.a - 1) == 1", "division by zero"),
        ("predicate.a.all(x, true)", "expected"),
    ] {
        let why = evaluate(text, &predicate).expect_err(text);
        assert!(why.contains(expected) && why.len() <= MAX_MESSAGE, "{text}: {why}");
    }
}

/// The size of values and the nesting of macros must not decide how long an evaluation takes.
#[test]
fn the_cost_of_an_evaluation_is_limited() {
    let large = json!({"xs": (0..50_000).collect::<Vec<_>>()});
    let start = std::time::Instant::now();
    for text in ["predicate.xs.all(x, x >= 0)", "predicate.xs.map(x, x + 1).size() == 50000"] {
        assert_eq!(evaluate(text, &large), Ok(true), "{text}");
    }
    for text in [
        "predicate.xs.all(x, predicate.xs.exists(y, y == x + 1))",
        "predicate.xs.map(x, predicate.xs.filter(y, y == x)).size() > 0",
        "predicate.xs.exists(x, predicate.xs.all(y, y >= 0) && x < 0) || true",
        "predicate.xs.exists_one(x, predicate.xs.map(y, y).size() > x)",
    ] {
        assert_eq!(evaluate(text, &large), Err("takes too many steps".into()), "{text}");
    }
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    let huge = json!(vec![0; 300_000]);
    assert!(evaluate("predicate.size() > 0", &huge).unwrap_err().contains("more than 200000 parts"));
}

/// The length of values and of lists that are made must not decide how much memory and time an evaluation takes.
#[test]
fn the_memory_and_the_work_of_an_evaluation_are_limited() {
    let text = "a".repeat(1000);
    let predicate = json!({
        "text": text, "names": (0..2000).map(|n| format!("package-name-{n}")).collect::<Vec<_>>(),
        "patterns": (0..2000).map(|n| format!("^{n}")).collect::<Vec<_>>(), "long": "a".repeat(1 << 20),
        "packages": (0..2000).map(|n| json!({"name": format!("package-name-{n}"), "version": "1"})).collect::<Vec<_>>(),
    });
    let double = |count| "[predicate.text]".to_owned() + &".map(x, x + x)".repeat(count) + ".exists(x, x == 'b')";
    for (condition, expected) in [
        (double(8), Ok(false)),
        (double(28), Err(())),
        ("[[1]]".to_owned() + &".map(x, x + x)".repeat(28) + ".exists(x, x == [2])", Err(())),
        ("[1]".to_owned() + &".map(x, [x, x])".repeat(28) + ".exists(x, x == [])", Err(())),
        ("[1]".to_owned() + &".map(x, {'a': x, 'b': x})".repeat(28) + ".exists(x, x == {})", Err(())),
        ("predicate.packages.all(p, predicate.packages == predicate.packages)".into(), Err(())),
        ("predicate.packages.all(p, !(predicate.packages.map(q, q) == []))".into(), Err(())),
        ("predicate.names.all(n, !(n in predicate.names.map(m, m + 'x')))".into(), Err(())),
        ("predicate.names.all(n, !predicate.long.contains('b'))".into(), Err(())),
        ("predicate.names.all(n, string(predicate.long) != n)".into(), Err(())),
        ("predicate.names.all(n, !predicate.long.matches('b$'))".into(), Err(())),
        ("predicate.patterns.all(p, predicate.text.matches(p))".into(), Ok(false)),
        ("predicate.patterns.exists(p, predicate.text.matches(p))".into(), Err(())),
        ("predicate.names.exists(n, n.matches('(?i)^log4j.*$'))".into(), Ok(false)),
        (r"predicate.names.exists(n, n.matches('(?i)^[\\w-]+-(alpha|beta|rc)\\d+$'))".into(), Ok(false)),
        ("predicate.packages.exists(p, p.name == 'package-name-1999' && p.version in ['0', '1'])".into(), Ok(true)),
        ("predicate.packages.filter(p, p.name.startsWith('package')).size() == 2000".into(), Ok(true)),
        ("predicate.names.exists_one(n, n == 'package-name-7')".into(), Ok(true)),
        // The error of one element does not end `exists`.
        ("predicate.names.exists(n, predicate.names.exists(m, m + n == predicate.long)) || true".into(), Err(())),
    ] {
        let found = evaluate(&condition, &predicate);
        let expected = expected.map_err(|()| "takes too many steps".to_owned());
        assert_eq!(found, expected, "{}", &condition[..condition.len().min(80)]);
    }
}

#[test]
fn the_size_and_depth_of_a_condition_are_limited() {
    for text in
        ["1".to_owned() + &" + 1".repeat(900) + " == 1", "[1]".to_owned() + &".map(x, [x])".repeat(600) + " == []"]
    {
        assert!(compile(&text).unwrap_err()[0].contains("is nested more than 200 deep"));
    }
    let flat = vec!["kind == 'x'"; 400].join(" || ");
    assert_eq!(evaluate(&flat, &json!(null)), Ok(false));
    let text = format!("kind == '{}'", "x".repeat(MAX_TEXT));
    assert!(compile(&text).unwrap_err()[0].contains("longer than 8192 bytes"));
    for (open, close) in [("(", ")"), ("[", "]"), ("!(", ")"), ("predicate[", "]")] {
        let text = format!("{}true{}", open.repeat(500), close.repeat(500));
        assert!(compile(&text).is_err(), "{open}");
    }
}
