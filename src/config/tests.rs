use std::collections::BTreeSet;

use super::*;

const MINIMAL: &str = "[policy]\ndir = \"p\"\n[[upstream]]\nhost = \"docker.io\"\n";

fn load_named(name: &str, text: &str, variables: &[(&str, &str)]) -> Result<Config, Vec<Problem>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(Some(&path), variables)
}

fn load(text: &str) -> Result<Config, Vec<Problem>> {
    load_named("pullgate.toml", text, &[])
}

/// The mistakes, without the folder.
fn mistakes(text: &str) -> Vec<String> {
    let problems = load(text).expect_err("a mistake");
    problems.iter().map(|problem| problem.to_string().rsplit_once("pullgate.toml").unwrap().1.to_owned()).collect()
}

#[test]
fn a_minimal_file_has_every_default() {
    let config = load(MINIMAL).unwrap();
    assert_eq!(config.listeners[0].address, "127.0.0.1:5000");
    assert_eq!(config.admin.address, "127.0.0.1:5001");
    assert_eq!(config.upstreams[0].url, "https://docker.io");
    assert!(config.policy_dir.ends_with("p") && config.policy_dir.is_absolute());
    assert_eq!(config.audit.file, Path::new("/var/lib/pullgate/audit.jsonl"));
}

/// The file of the project documents every key that is read, and what it sets is the default.
#[test]
fn the_documented_configuration_is_true() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config/pullgate.toml"));
    let (reader, tree) = read(path, HashMap::new()).unwrap();
    let (documented, reader) = Config::from_tree(reader, tree).unwrap();
    let minimal = "[policy]\ndir = \"policies\"\n[[upstream]]\nhost = \"docker.io\"\nurl = \"https://registry-1.docker.io\"\n\
         aliases = [\"index.docker.io\", \"registry-1.docker.io\"]\n";
    let defaults = load(minimal).unwrap();
    let shown = |config: &Config| {
        let text = config.show();
        let folder = config.policy_dir.parent().unwrap().display().to_string();
        text.replace(&folder, "FOLDER")
    };
    assert_eq!(shown(&documented), shown(&defaults), "what the file sets is not the default");

    let text = std::fs::read_to_string(path).unwrap();
    let words: BTreeSet<&str> = text.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
    // Keys of sections that the file shows in comments alone are read only where the section is there.
    let commented = load(&format!(
        "{minimal}serve_to = [\"ci\"]\nauth = {{ type = \"iam\", api_key_env = \"X\" }}\n\
         [trust.authority.ci.cosign.keyless]\nissuer = \"i\"\nidentity = \"x\"\n[trust.authority.dct.notary]\nserver = \"s\"\n"
    ));
    assert!(commented.is_ok(), "{commented:?}");
    for key in reader.keys() {
        let last = key.rsplit('.').next().unwrap();
        assert!(words.contains(last), "config/pullgate.toml does not mention {key}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_with_their_places() {
    let text = "\
stat_dir = \"x\"
shutdown_grace = \"soon\"
[[listener]]
address = \"5000\"
tls = { certificate = \"a\" }
[[listener]]
address = \"127.0.0.1:1\"
http2 = \"yes\"
[gate]
mode = \"warn\"
verdict_wait = \"40s\"
platforms = [\"linux\"]
[policy]
[trust]
default_authorities = [\"release\"]
[[upstream]]
host = \"a.test\"
url = \"ftp://a\"
path = \"a/b\"
auth = { type = \"basic\", username = \"u\", password = \"hunter2\" }
[[upstream]]
host = \"a.test\"
tag_ttl = 60
";
    let found = mistakes(text);
    for wanted in [
        ":1:1: error: stat_dir: unknown key (hint: did you mean \"state_dir\"?)",
        ":2:1: error: shutdown_grace: \"soon\": a duration is",
        ":4:1: error: listener[0].address: \"5000\" is no address",
        "listener[0].tls.certificate: tls needs both",
        ":8:1: error: listener[1].http2: must be true or false, not a text",
        ":10:1: error: gate.mode: \"warn\" is none of audit, enforce",
        ":11:1: error: gate.verdict_wait: must be at most 28s",
        ":12:1: error: gate.platforms: \"linux\": a platform is",
        ":13:2: error: policy.dir: the folder of policy documents must be named",
        ":15:1: error: trust.default_authorities: \"release\" is no authority",
        ":18:1: error: upstream[0].url: \"ftp://a\" is not an http or https URL",
        ":19:1: error: upstream[0].path: \"a/b\" cannot be a component",
        "upstream[0].auth.password: a secret must not stand in the configuration",
        "upstream[1].host: another upstream is called \"a.test\" too",
        ":23:1: error: upstream[1].tag_ttl: must be a text, not this number",
    ] {
        assert!(found.iter().any(|line| line.contains(wanted)), "{wanted}\n{found:#?}");
    }
    assert!(!found.iter().any(|line| line.contains("hunter2")), "a secret is never printed");
}

#[test]
fn contradictions() {
    for (text, wanted) in [
        (
            format!("{MINIMAL}auth = {{ type = \"basic\", username = \"u\", password_env = \"P\" }}\n"),
            "who may use these credentials' reach",
        ),
        (format!("{MINIMAL}serve_to = \"nobody\"\n"), "must be \"everyone\" or a list of scopes"),
        (format!("default_upstream = \"ghcr.io\"\n{MINIMAL}"), "is not the host of an [[upstream]]"),
        (format!("{MINIMAL}[admin]\naddress = \"0.0.0.0:1\"\n"), "can be reached from other machines"),
        (
            format!("{MINIMAL}[[listener]]\naddress = \"127.0.0.1:1\"\n[[listener]]\naddress = \"127.0.0.1:1\"\n"),
            "another listener",
        ),
        (format!("{MINIMAL}max_bandwidth = \"1KiB\"\n"), "at least 64KiB"),
        (format!("{MINIMAL}pull_limit = 5\npull_limit_window = \"0s\"\n"), "longer than nothing"),
        ("[policy]\ndir = \"p\"\n".to_owned(), "at least one upstream"),
        (format!("{MINIMAL}[trust.authority.x]\n"), "no means to verify"),
        ("listener = 5".to_owned(), "a list of tables, each written [[listener]]"),
        ("[[listener]\n".to_owned(), "listener"),
    ] {
        let found = load(&text).expect_err(&text);
        assert!(found.iter().any(|problem| problem.to_string().contains(wanted)), "{text}\n{found:#?}");
    }
}

#[test]
fn the_environment_overrides_and_its_mistakes_name_the_variable() {
    let config = load_named(
        "pullgate.toml",
        MINIMAL,
        &[
            ("PULLGATE__GATE__MODE", "audit"),
            ("PULLGATE__LIMITS__MAX_CONNECTIONS", "7"),
            ("PULLGATE__GATE__PLATFORMS", "linux/amd64,linux/arm64"),
            ("PULLGATE_CONFIG", "elsewhere"),
            ("HOME", "/root"),
        ],
    );
    let config = config.unwrap();
    assert!(config.gate.audit);
    assert_eq!(config.limits.max_connections, 7);
    assert_eq!(config.gate.platforms.len(), 2);
    let problems = load_named("pullgate.toml", MINIMAL, &[("PULLGATE__GATE__MOOD", "good")]).unwrap_err();
    assert!(
        problems[0].to_string().starts_with("environment variable PULLGATE__GATE__MOOD: error: gate.mood: unknown key"),
        "{problems:?}"
    );
}

#[test]
fn yaml_says_the_same_with_places_too() {
    let text = "policy:\n  dir: p\nupstream:\n- host: docker.io\n  tag_ttl: 5m\ngate:\n  mode: audit\n";
    let config = load_named("pullgate.yaml", text, &[]).unwrap();
    assert!(config.gate.audit);
    assert_eq!(config.upstreams[0].tag_ttl, Duration::from_secs(300));
    let problems = load_named("pullgate.yaml", &text.replace("tag_ttl: 5m", "tag_ttl: never"), &[]).unwrap_err();
    assert!(problems[0].to_string().contains("pullgate.yaml:5:3: error: upstream[0].tag_ttl"), "{problems:?}");
}

#[test]
fn what_is_shown_can_be_read_again() {
    let text = format!(
        "{MINIMAL}serve_to = [\"ci\"]\nauth = {{ type = \"basic\", username = \"u\", password_env = \"P\" }}\n\
         max_bandwidth = \"50MiB\"\npull_limit = 100\npull_limit_window = \"1h\"\n"
    );
    let first = load(&text).unwrap().show();
    assert_eq!(load(&first).unwrap().show(), first);
    assert!(first.contains("password_env = \"P\""));
}

#[test]
fn serve_to_names_valid_scopes() {
    for (list, wanted) in
        [("[\"ci\", \"\"]", "a scope must not be empty"), ("[\"Team A\"]", "\"Team A\": a scope is a namespace")]
    {
        let problems = load(&format!("{MINIMAL}serve_to = {list}\n")).unwrap_err();
        assert!(problems.iter().any(|problem| problem.to_string().contains(wanted)), "{problems:?}");
    }
    let config = load(&format!("{MINIMAL}serve_to = [\"ci\"]\n")).unwrap();
    assert_eq!(config.upstreams[0].serve_to, Some(vec!["ci".parse().unwrap()]));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}", cut in 0usize..400) {
        let _ = load(&text);
        let documented = include_str!("../../config/pullgate.toml");
        let cut = documented.char_indices().map(|(at, _)| at).nth(cut * 10).unwrap_or(documented.len());
        let _ = load(&format!("{}{text}", &documented[..cut]));
    }
}
