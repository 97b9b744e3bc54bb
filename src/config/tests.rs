mod authorities;
mod reference;
mod values;

use std::collections::BTreeSet;

use super::*;

const MINIMAL: &str = "[policy]\ndir = \"p\"\n[[upstream]]\nhost = \"docker.io\"\n";
const PEM: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAgEM2qWKB9QksW74PHPVC+47Yf+x99A8y26pZBs6eDo0=\n-----END PUBLIC KEY-----\n";

fn load_named(name: &str, text: &str, variables: &[(&str, &str)]) -> Result<Config, Vec<Problem>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
    Config::load(Some(&path), variables)
}

fn load(text: &str) -> Result<Config, Vec<Problem>> {
    load_named("pullgate.toml", text, &[])
}

/// The mistakes, without the directory.
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

#[test]
fn changes_that_need_a_restart_are_named_by_key() {
    let started = load(MINIMAL).unwrap();
    let changes = |text: &str| started.fixed_changes(&load(text).unwrap());
    let live = "default_upstream = \"x.test\"\nshutdown_grace = \"1s\"\n[log]\nfilter = \"warn\"\n[gate]\nmode = \"audit\"\n\
        [limits]\nmax_connections = 3\n[[upstream]]\nhost = \"x.test\"\nattempts = 1\n";
    assert_eq!(changes(&format!("{live}{MINIMAL}")).join(" "), "");
    let fixed = "state_dir = \"/x\"\n[log]\nformat = \"json\"\n[[listener]]\naddress = \"127.0.0.1:1\"\n[[listener]]\naddress = \"127.0.0.1:2\"\n";
    let keys = "admin.socket audit.file listener.address listener.http2 listener.proxy_header listener.trusted_proxies \
        log.format state_dir";
    assert_eq!(changes(&format!("{fixed}{MINIMAL}")).join(" "), keys);
}

/// The same from every directory.
fn absolute() -> String {
    MINIMAL.replace("\"p\"", "\"/p\"")
}

#[test]
fn changes_that_a_running_gate_applies_are_named_by_key() {
    let used = load(&absolute()).unwrap();
    let changes = |text: &str| used.live_changes(&load(&format!("{text}{}", absolute())).unwrap()).join(", ");
    assert_eq!(changes(""), "");
    let more = "state_dir = \"/x\"\n[gate]\nmode = \"audit\"\n[limits]\nmax_connections = 3\n[[upstream]]\nhost = \"x.test\"\n";
    assert_eq!(changes(more), "gate.mode, limits.max_connections, upstream x.test");
}

/// What is not shown counts as a change like everything else: a proxy with a new password is another proxy.
#[test]
fn changed_secrets_in_urls_are_changes_and_are_not_shown() {
    let with = |secret: &str| {
        let text = format!(
            "[events]\nurls = [\"https://hooks.test/{secret}\"]\nproxy = \"http://u:{secret}@p:1\"\n\
             [trust.revocation]\nonline = true\nproxy = \"http://u:{secret}@p:1\"\n\
             [va.database]\nkev = \"https://kev.test/kev.json?k={secret}\"\nosv = [\"https://osv.test/all.zip?k={secret}\"]\nproxy = \"http://u:{secret}@p:1\"\n\
             [[va.scanner]]\nkind = \"trivy\"\ncommand = \"/bin/true\"\nenvironment = [\"TOKEN={secret}\"]\n\
             [va.ibm]\napi_key_file = \"/key\"\nurl = \"https://ibm.test?k={secret}\"\n\
             [[upstream]]\nhost = \"x.test\"\nproxy = \"http://u:{secret}@p:1\"\n{}",
            absolute()
        );
        load(&text).unwrap()
    };
    let (old, new) = (with("hush-1"), with("hush-2"));
    assert!(!old.show().contains("hush") && !old.to_json().to_string().contains("hush"), "{}", old.show());
    assert_eq!(old.show(), new.show());
    assert!(!old.equals(&new) && old.equals(&with("hush-1")));
    assert_eq!(old.live_changes(&new), ["upstream x.test"]);
    let fixed = "events.proxy events.urls trust.revocation.proxy va.database.kev va.database.osv va.database.proxy va.ibm.url \
        va.scanner.environment";
    assert_eq!(old.fixed_changes(&new).join(" "), fixed);
}

/// Messages show neither the user nor the query of a URL.
#[test]
fn mistakes_do_not_repeat_secrets_in_urls() {
    let text = format!(
        "[va.database]\nosv = [\"ftp://u:hush@osv.test/all.zip?k=hush\"]\nkev = \"u:hush@kev.test?k=hush\"\n\
         [[upstream]]\nhost = \"x.test\"\nurl = \"u:hush@x.test?k=hush\"\n{MINIMAL}"
    );
    let said = mistakes(&text).join("\n");
    assert!(said.contains("ftp://osv.test/all.zip") && said.contains("kev.test") && !said.contains("hush"), "{said}");
    let twice = "osv = [\"https://osv.test/all.zip?k=hush-1\", \"https://osv.test/all.zip?k=hush-2\"]";
    let said = mistakes(&format!("[va.database]\n{twice}\n{MINIMAL}")).join("\n");
    assert!(said.contains("two of the URLs are shown as") && !said.contains("hush"), "{said}");
}

/// The key of IBM Cloud is read at the start: another one needs a restart.
#[test]
fn another_api_key_of_ibm_is_a_change() {
    let with = |key: &str| load(&format!("[va.ibm]\n{key}\n{}", absolute())).unwrap();
    let (path, manifest) = (with("api_key_env = \"PATH\""), with("api_key_env = \"CARGO_MANIFEST_DIR\""));
    let value = std::env::var("PATH").unwrap();
    assert!(!path.show().contains(&value) && path.show().contains("api_key_env = \"PATH\""), "{}", path.show());
    assert_eq!(path.fixed_changes(&manifest), ["va.ibm.api_key_env"]);
    assert!(!path.equals(&manifest) && path.equals(&with("api_key_env = \"PATH\"")));
    let (one, other) = (with("api_key_file = \"/one\""), with("api_key_file = \"/other\""));
    assert_eq!(one.fixed_changes(&other), ["va.ibm.api_key_file"]);
    assert!(one.show().contains("api_key_file = \"/one\""), "{}", one.show());
}

/// The file of the project documents every key that is read, and what it sets is the default.
#[test]
fn the_documented_configuration_is_true() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config/pullgate.toml"));
    let documented = Config::load(Some(path), std::iter::empty()).unwrap();
    assert_eq!(documented.warnings, [], "a file with every default means nothing by it");
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
         [trust.authority.ci.cosign.keyless]\nissuer = \"i\"\nidentity = \"x\"\n[trust.authority.dct.notary]\nserver = \"https://s\"\n"
    ));
    assert!(commented.is_ok(), "{commented:?}");
    for key in documented.places.names() {
        assert!(words.contains(key), "config/pullgate.toml does not mention {key}");
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
        ":4:1: error: listener[0].address: \"5000\" is not a valid address",
        "listener[0].tls.certificate: tls needs both",
        ":8:1: error: listener[1].http2: must be true or false, not text",
        ":10:1: error: gate.mode: must be one of audit, enforce, not \"warn\"",
        ":11:1: error: gate.verdict_wait: must be at most 28s",
        ":12:1: error: gate.platforms: \"linux\": a platform is",
        ":13:2: error: policy.dir: the directory of policy documents must be set",
        ":15:1: error: trust.default_authorities: no authority is called \"release\"",
        ":18:1: error: upstream[0].url: \"ftp://a\" is not an http or https URL",
        ":19:1: error: upstream[0].path: \"a/b\" cannot be a component",
        "upstream[0].auth.password: a secret must not be in the configuration",
        "upstream[1].host: another upstream also has the name \"a.test\"",
        ":23:1: error: upstream[1].tag_ttl: expected a string such as \"60s\", found the number 60",
    ] {
        assert!(found.iter().any(|line| line.contains(wanted)), "{wanted}\n{found:#?}");
    }
    assert!(!found.iter().any(|line| line.contains("hunter2")), "a secret is never printed");
}

#[test]
fn a_log_filter_that_cannot_be_parsed_is_a_mistake() {
    for filter in ["info", "pullgate=debug,warn", "", "off"] {
        load(&format!("{MINIMAL}[log]\nfilter = \"{filter}\"\n")).unwrap();
    }
    let found = mistakes(&format!("{MINIMAL}[log]\nfilter = \"nonsense==\"\n"));
    assert!(found[0].starts_with(":6:") && found[0].contains("not a log filter"), "{found:?}");
}

#[test]
fn a_trusted_root_that_cannot_be_used_is_a_mistake() {
    let missing = mistakes(&format!("{MINIMAL}[trust]\ntrusted_roots = [\"absent.json\"]\n"));
    assert!(missing.len() == 1 && missing[0].starts_with(":6:"), "{missing:?}");
    assert!(missing[0].contains("absent.json: ") && missing[0].contains("pullgate trust update"), "{missing:?}");
    // Not a trusted root, but a file that is there.
    let wrong = mistakes(&format!("{MINIMAL}[trust]\ntrusted_roots = [\"pullgate.toml\"]\n"));
    assert!(wrong[0].contains("is not strict JSON"), "{wrong:?}");
}

#[test]
fn contradictions() {
    for (text, wanted) in [
        (
            format!("{MINIMAL}auth = {{ type = \"basic\", username = \"u\", password_env = \"P\" }}\n"),
            "serve_to is required with auth",
        ),
        (format!("{MINIMAL}serve_to = \"nobody\"\n"), "must be \"everyone\" or a list of scopes"),
        (format!("default_upstream = \"ghcr.io\"\n{MINIMAL}"), "is not the host of an [[upstream]]"),
        (format!("{MINIMAL}[admin]\naddress = \"0.0.0.0:1\"\n"), "is reachable from other machines"),
        (
            format!("{MINIMAL}[[listener]]\naddress = \"127.0.0.1:1\"\n[[listener]]\naddress = \"127.0.0.1:1\"\n"),
            ":8:1: error: listener[1].address: 127.0.0.1:1 cannot be used, because listener[0].address is 127.0.0.1:1",
        ),
        (
            format!("{MINIMAL}[[listener]]\naddress = \"0.0.0.0:5001\"\n"),
            "admin.address: 127.0.0.1:5001 cannot be used, because listener[0].address is 0.0.0.0:5001",
        ),
        (format!("{MINIMAL}max_bandwidth = \"1KiB\"\n"), "at least 64KiB"),
        (format!("{MINIMAL}pull_limit = 5\npull_limit_window = \"0s\"\n"), "longer than 0s"),
        (format!("{MINIMAL}[trust]\nnotary_refresh = \"0s\"\n"), "at least 1s"),
        ("[policy]\ndir = \"p\"\n".to_owned(), "at least one upstream"),
        (
            format!("{MINIMAL}[trust.authority.x]\n"),
            "trust.authority.x: exactly one of cosign, notation, notary, gpg is needed",
        ),
        ("listener = 5".to_owned(), "a list of tables, each written [[listener]]"),
        ("[[listener]\n".to_owned(), "pullgate.toml:1:12: error: not TOML: "),
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
    let listed = load_named("pullgate.toml", MINIMAL, &[("PULLGATE__UPSTREAM__0__HOST", "a.test")]).unwrap_err();
    assert!(
        listed[0].to_string().starts_with("environment variable PULLGATE__UPSTREAM__0__HOST: error: upstream: must be")
    );
    assert!(listed[0].hint.as_ref().is_some_and(|hint| hint.contains("variables cannot set it")), "{listed:?}");
}

#[test]
fn variables_that_set_nothing_are_named() {
    for (name, meant) in [
        ("PULLGATE_CACHE__MAX_SIZE", "PULLGATE__CACHE__MAX_SIZE"),
        ("PULLGATE_GATE_MODE", "PULLGATE__GATE__MODE"),
        ("PULLGATE_LOG_LEVEL", "PULLGATE__LOG__LEVEL"),
        ("PULLGATE_STATE_DIR", "PULLGATE__STATE_DIR"),
        ("PULLGATE_VA_DATABASE_TRIVY", "PULLGATE__VA__DATABASE__TRIVY"),
        ("PULLGATE_VA_REPORTS", "PULLGATE__VA__REPORTS"),
        ("PULLGATE_CONFG", "PULLGATE_CONFIG"),
        ("PULLGATE_TOKEN_FLIE", "PULLGATE_TOKEN_FILE"),
        // Of commands, of Kubernetes, and of nobody.
        ("PULLGATE_CONFIG", ""),
        ("PULLGATE_SERVER", ""),
        ("PULLGATE_SERVICE_HOST", ""),
        ("PULLGATE_PORT", ""),
        ("PULLGATE_PORT_5000_TCP_ADDR", ""),
        ("PULLGATE_ADMIN_SERVICE_HOST", ""),
        ("PULLGATE_ADMIN_PORT_5001_TCP", ""),
        ("PULLGATE_TOKEN", ""),
        ("PULLGATE_RESTARTS", ""),
        ("PULLGATED_GATE_MODE", ""),
    ] {
        let config = load_named("pullgate.toml", MINIMAL, &[(name, "x")]).unwrap();
        let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings.len(), usize::from(!meant.is_empty()), "{name} {warnings:?}");
        let start = format!("environment variable {name}: warning: it sets nothing");
        let is_said =
            |warning: &String| warning.starts_with(&start) && warning.contains(&format!("(hint: write {meant})"));
        assert!(warnings.iter().all(is_said), "{name} {warnings:?}");
    }
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
fn shown_configurations_can_be_read_again() {
    let text = format!(
        "{MINIMAL}serve_to = [\"ci\"]\nauth = {{ type = \"basic\", username = \"u\", password_env = \"P\" }}\n\
         max_bandwidth = \"50MiB\"\npull_limit = 100\npull_limit_window = \"1h\"\n"
    );
    let first = load(&text).unwrap().show();
    assert_eq!(load(&first).unwrap().show(), first);
    assert!(first.contains("password_env = \"P\""));
}

/// The crate `config` would read the first as `gate.mode`; that is not what is written.
#[test]
fn the_validated_configuration_is_the_one_in_use() {
    for (name, text, wanted) in [
        ("pullgate.toml", format!("\"gate.mode\" = \"audit\"\n{MINIMAL}"), ":1:1: error: gate.mode: unknown key"),
        ("pullgate.toml", format!("\"upstream[0]\" = 1\n{MINIMAL}"), ":1:1: error: upstream[0]: unknown key"),
        ("pullgate.toml", format!("Gate = 1\n{MINIMAL}"), ":1:1: error: Gate: unknown key"),
        ("pullgate.yaml", "policy: {dir: p, dir: q}\n".into(), ":1:18: error: duplicate key \"dir\""),
        ("pullgate.yaml", "policy: {dir: p}\n---\npolicy: {dir: q}\n".into(), ":3:1: error: a configuration is one"),
    ] {
        let problems = load_named(name, &text, &[]).unwrap_err();
        assert!(problems.iter().any(|problem| problem.to_string().contains(wanted)), "{text}\n{problems:#?}");
    }
}

#[test]
fn a_variable_overrides_what_the_file_has_and_is_named_for_its_mistake() {
    let text = format!("[gate]\nverdict_wait = \"1s\"\nmax_unseen_children = 3\n{MINIMAL}");
    let config = load_named("pullgate.toml", &text, &[("PULLGATE__GATE__VERDICT_WAIT", "2s")]).unwrap();
    assert_eq!((config.gate.verdict_wait, config.gate.max_unseen_children), (Duration::from_secs(2), 3));
    let problems = load_named("pullgate.toml", &text, &[("PULLGATE__GATE__VERDICT_WAIT", "never")]).unwrap_err();
    let wanted =
        "environment variable PULLGATE__GATE__VERDICT_WAIT: error: gate.verdict_wait: \"never\": a duration is";
    assert!(problems.len() == 1 && problems[0].to_string().starts_with(wanted), "{problems:?}");
    let problems = load_named("pullgate.toml", &text, &[("PULLGATE__GATE", "5")]).unwrap_err();
    assert!(problems[0].to_string().contains("PULLGATE__GATE: error: gate: must be a mapping"), "{problems:?}");
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
