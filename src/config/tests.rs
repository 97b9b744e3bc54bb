mod reference;

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

/// The same from every folder.
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
        ":13:2: error: policy.dir: the folder of policy documents must be set",
        ":15:1: error: trust.default_authorities: no authority is called \"release\"",
        ":18:1: error: upstream[0].url: \"ftp://a\" is not an http or https URL",
        ":19:1: error: upstream[0].path: \"a/b\" cannot be a component",
        "upstream[0].auth.password: a secret must not be in the configuration",
        "upstream[1].host: another upstream is called \"a.test\" too",
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
    let near = load_named("pullgate.toml", MINIMAL, &[("PULLGATE_CACHE__MAX_SIZE", "1GiB"), ("PULLGATE_TOKEN", "t")]);
    let warnings: Vec<String> = near.unwrap().warnings.iter().map(ToString::to_string).collect();
    assert!(warnings.len() == 1 && warnings[0].starts_with("environment variable PULLGATE_CACHE__MAX_SIZE: warning: "));
    assert!(warnings[0].contains("write PULLGATE__CACHE__MAX_SIZE"), "{warnings:?}");
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

const PEM: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAgEM2qWKB9QksW74PHPVC+47Yf+x99A8y26pZBs6eDo0=\n-----END PUBLIC KEY-----\n";

/// The proxy of revocation requests is shown like every other one: without its password.
#[test]
fn the_proxy_of_revocation_is_shown() {
    let text = format!("{MINIMAL}[trust.revocation]\nproxy = \"http://u:hush@proxy.acme.com:3128\"\n");
    let shown = load(&text).unwrap().show();
    let (_, revocation) = shown.split_once("[trust.revocation]").unwrap();
    assert!(revocation.contains("proxy.acme.com:3128") && !shown.contains("hush"), "{shown}");
}

/// Authorities have the shape of those in documents, and are shown as they are written, with absolute paths.
#[test]
fn authorities_have_the_shape_of_documents() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.pub"), PEM).unwrap();
    let path = folder.path().join("pullgate.toml");
    let read = |authorities: &str| {
        std::fs::write(&path, format!("{MINIMAL}{authorities}")).unwrap();
        Config::load(Some(&path), std::iter::empty())
    };
    let config = read(&format!(
        "[trust.authority.release.cosign]\nkeys = [{{ file = \"a.pub\" }}, {{ data = {PEM:?} }}]\n\
         [trust.authority.ci.cosign.keyless]\nissuer = \"https://i\"\nidentity = {{ glob = \"https://github.com/acme*\" }}\n\
         [trust.authority.n.notary]\nserver = \"https://n\"\nsigners = [{{ name = \"al\", key = {{ file = \"a.pub\", validUntil = 2027-01-01T00:00:00Z }} }}]\n"
    ))
    .unwrap();
    assert_eq!(config.policy.authorities.len(), 3);
    let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("pullgate.toml:5:26: warning: trust.authority.release.cosign: duplicate key in keys"));
    assert!(warnings[1].contains("pullgate.toml:9:12: warning: the identity"), "{warnings:?}");
    let shown = config.show();
    assert!(shown.contains(&format!("\"file\" = \"{}\"", folder.path().join("a.pub").display())), "{shown}");
    std::fs::write(&path, &shown).unwrap();
    let again = Config::load(Some(&path), std::iter::empty()).unwrap();
    assert_eq!((again.show(), again.policy), (shown, config.policy));

    for (authority, wanted) in [
        ("cosign.key = { secret = { name = \"a\", key = \"b\" } }", "trust.authority.x.cosign.key.secret: unknown key"),
        (
            "cosign.key = { file = \"a.pub\", validUntil = 2026-01-01 }",
            "trust.authority.x.cosign.key: validUntil \"2026-01-01\" is not a time",
        ),
        ("cosign.key = { file = \"absent\" }", "trust.authority.x.cosign.key: file \"absent\": "),
        (
            "cosign.keyless = { issuer = \"i\", identity_glob = \"*\" }",
            "trust.authority.x.cosign.keyless.identity: is missing",
        ),
        ("notary = { server = \"n\" }", "trust.authority.x.notary: server \"n\" is not an http or https URL"),
        ("gpg = { keyring = { data = \"x\" } }", "trust.authority.x.gpg.keyring: data: no PGP PUBLIC KEY BLOCK"),
    ] {
        let problems = read(&format!("[trust.authority.x]\n{authority}\n")).unwrap_err();
        assert!(problems.iter().any(|problem| problem.to_string().contains(wanted)), "{wanted}\n{problems:#?}");
    }
}

#[test]
fn the_largest_attestation_has_limits() {
    let read =
        |size: &str| load_named("pullgate.toml", &format!("[trust]\nmax_attestation = \"{size}\"\n{MINIMAL}"), &[]);
    assert_eq!(read("256MiB").unwrap().trust.max_attestation, 256 << 20);
    for size in ["1023KiB", "257MiB", "0"] {
        let problems = read(size).unwrap_err();
        assert!(problems[0].to_string().contains("trust.max_attestation: must be from 1MiB to 256MiB"), "{problems:?}");
    }
}

/// The crate `config` would read the first as `gate.mode`; that is not what is written.
#[test]
fn what_is_written_is_what_is_validated() {
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

#[test]
fn scanners_are_read_in_their_order() {
    let text = format!(
        "{MINIMAL}[[va.scanner]]\nkind = \"trivy\"\ncommand = \"bin/trivy\"\nargs = [\"--cache-dir\", \"/c\"]\n\
         environment = [\"HTTPS_PROXY\"]\nisolation = \"required\"\n[[va.scanner]]\nkind = \"embedded\"\n\
         [[va.scanner]]\nkind = \"harbor\"\nname = \"clair\"\nurl = \"https://clair.test\"\ntimeout = \"10m\"\n\
         auth = {{ type = \"basic\", username = \"gate\", password_file = \"p\" }}\n\
         registry = [{{ host = \"quay.io\", url = \"https://gate.test\", prefix = \"quay.io\" }}]\n"
    );
    let config = load(&text).unwrap();
    let names: Vec<_> = config.va.scanners.iter().map(|scanner| (&*scanner.name, scanner.kind.as_str())).collect();
    assert_eq!(names, [("trivy", "trivy"), ("embedded", "embedded"), ("clair", "harbor")]);
    let va::ScannerKind::Program(trivy) = &config.va.scanners[0].kind else { panic!() };
    assert!(trivy.command.is_absolute() && trivy.command.ends_with("bin/trivy"), "{trivy:?}");
    let va::ScannerKind::Adapter(clair) = &config.va.scanners[2].kind else { panic!() };
    let registries: Vec<_> = clair.registries.iter().map(|(host, registry)| (host.as_str(), &*registry.url)).collect();
    assert_eq!(registries, [("docker.io", "https://docker.io"), ("quay.io", "https://gate.test")]);
    assert_eq!(load(&config.show()).unwrap().show(), config.show());
}

#[test]
fn mistakes_of_scanners_are_reported() {
    for (lines, wanted) in [
        ("", "va.scanner[0].kind: must be embedded, grype, harbor or trivy"),
        ("kind = \"trivy\"\nname = \"ibm\"", "\"ibm\" is the name of another source"),
        ("kind = \"trivy\"\nname = \"A b\"", "lower-case letters"),
        ("kind = \"trivy\"\nargs = [\"--severity\", \"HIGH\"]", "va.scanner[0].args: \"--severity\" would change"),
        ("kind = \"trivy\"\nenvironment = [\"TRIVY_SKIP_DIRS=/\"]", "va.scanner[0].environment"),
        ("kind = \"trivy\"\ntimeout = \"0s\"", "must be at least 1s"),
        ("kind = \"trivy\"\nmax_memory = \"1MiB\"", "at least 256MiB"),
        ("kind = \"trivy\"\nurl = \"https://x\"", "url"),
        ("kind = \"grype\"\n[[va.scanner]]\nkind = \"grype\"", "\"grype\" is the name of another source"),
        ("kind = \"harbor\"", "the URL of the service is required"),
        (
            "kind = \"harbor\"\nurl = \"https://x\"\nauth = { type = \"bearer\", token = \"t\" }",
            "must not be in the configuration",
        ),
        ("kind = \"embedded\"\ntimeout = \"1m\"", "timeout"),
    ] {
        let found = mistakes(&format!("{MINIMAL}[[va.scanner]]\n{lines}\n"));
        assert!(found.iter().any(|problem| problem.contains(wanted)), "{lines}: {found:?}");
    }
}

/// The rules read these files relative to the folder of the policies, so they must not be relative to anything else.
#[test]
fn paths_of_files_that_rules_name_do_not_depend_on_the_folder_of_policies() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.pub"), PEM).unwrap();
    let text = format!(
        "{MINIMAL}[trust.authority.release.cosign.key]\nfile = \"a.pub\"\n[va]\nignore_files = [\"ignored\"]\n"
    );
    std::fs::write(folder.path().join("pullgate.toml"), text).unwrap();
    let up: PathBuf = std::env::current_dir().unwrap().components().skip(1).map(|_| "..").collect();
    let relative = up.join(folder.path().strip_prefix("/").unwrap()).join("pullgate.toml");
    let config = Config::load(Some(&relative), std::iter::empty()).unwrap();
    let ignored = Path::new(&config.policy.ignore_files[0]);
    assert!(ignored.is_absolute() && ignored.ends_with("ignored"), "{ignored:?}");
    let key = config.show().lines().find_map(|line| Some(line.split_once("\"file\" = \"")?.1.to_owned())).unwrap();
    assert!(key.starts_with('/'), "{key}");
}

/// A timeout of nothing would end everything, and rotation at nothing deletes each record.
#[test]
fn limits_of_zero_are_mistakes() {
    for (table, key) in [
        ("limits", "header_timeout"),
        ("limits", "idle_timeout"),
        ("limits", "write_timeout"),
        ("limits", "tls_handshake_timeout"),
        ("events", "timeout"),
        ("va", "rescan"),
    ] {
        let found = mistakes(&format!("{MINIMAL}[{table}]\n{key} = \"0s\"\n"));
        assert!(
            found.len() == 1 && found[0].contains(&format!("{table}.{key}: must be more than 0s")),
            "{table}.{key}: {found:?}"
        );
    }
    for key in ["connect_timeout", "tls_timeout", "header_timeout", "idle_timeout", "body_timeout"] {
        let found = mistakes(&format!("{MINIMAL}{key} = \"0s\"\n"));
        assert!(found.len() == 1 && found[0].contains("must be more than 0s"), "{key}: {found:?}");
    }
    for size in ["\"0\"", "0", "\"100B\""] {
        let found = mistakes(&format!("{MINIMAL}[audit]\nmax_file_size = {size}\n"));
        assert!(found.len() == 1 && found[0].contains("audit.max_file_size: must be at least 1KiB"), "{found:?}");
    }
}

#[test]
fn settings_without_effect_are_told() {
    let listener = "[[listener]]\naddress = \"127.0.0.1:1\"\nhttp2 = true\n";
    for (more, wanted) in [
        (listener, "listener[0].http2: has no effect without tls"),
        ("[events]\ntypes = [\"pull.denied\"]\n", "events.types: no receiver is configured"),
        (
            "[tracing]\nendpoint = \"http://127.0.0.1:4317\"\n",
            "tracing.endpoint: 4317 is the port of collectors for gRPC",
        ),
    ] {
        let config = load(&format!("{MINIMAL}{more}")).unwrap();
        let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
        assert!(warnings.len() == 1 && warnings[0].contains(wanted), "{more}: {warnings:?}");
    }
    let found = mistakes(
        "[policy]\ndir = \"p\"\nmode = \"audit\"\n[gate]\nmax_size = \"1GiB\"\n[[upstream]]\nhost = \"a.test\"\n",
    );
    assert!(
        found.len() == 2 && found[0].contains("policy.mode: unknown key (hint: it belongs in [gate])"),
        "{found:?}"
    );
    assert!(found[1].contains("gate.max_size: unknown key (hint: it belongs in [cache])"), "{found:?}");
    let found = mistakes(&format!("[gate]\nmax_size = \"1GiB\"\ntag_ttl = \"1m\"\nxyzzy = 1\n{MINIMAL}"));
    assert!(found[1].contains("gate.tag_ttl: unknown key (hint: it belongs in an [[upstream]])"), "{found:?}");
    assert!(
        found[2].contains("gate.xyzzy: unknown key (hint: known here: ") && !found[2].contains("max_size"),
        "{found:?}"
    );
    let found = mistakes(&format!("{MINIMAL}state_dir = \"x\"\n"));
    assert!(
        found.len() == 1
            && found[0]
                .contains("upstream[0].state_dir: unknown key (hint: it belongs above the first [table] of the file)"),
        "{found:?}"
    );
}
