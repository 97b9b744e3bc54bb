//! Scanners, limits, and settings without effect.

use super::*;

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
        ("kind = \"trivy\"\nargs = [\"--severity\", \"HIGH\"]", "va.scanner[0].args: \"--severity\" would hide"),
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

#[test]
fn mistakes_of_the_vulnerability_advisor_are_reported() {
    for (line, wanted) in [
        ("hosts = [\"https://icr.io\"]", "va.ibm.hosts: \"https://icr.io\": not a registry host"),
        ("hosts = [\"\"]", "va.ibm.hosts: \"\": not a registry host"),
        ("hosts = [\"us.icr.io\", \"icr.io/ns\"]", "va.ibm.hosts: \"icr.io/ns\": not a registry host"),
        ("url = \"us.icr.io\"", "va.ibm.url: \"us.icr.io\" is not a URL (hint: write https://us.icr.io)"),
        ("url = \"\"", "va.ibm.url: \"\" is not a URL"),
        ("url = \"http://us.icr.io\"", "va.ibm.url: http://us.icr.io: credentials are sent only over https"),
        ("url = \"https://u:hush@us.icr.io\"", "va.ibm.url: https://us.icr.io: a user and a password in the URL"),
        ("iam_url = \"iam\"", "va.ibm.iam_url: \"iam\" is not a URL"),
        ("iam_url = \"http://iam.test\"", "va.ibm.iam_url: http://iam.test: credentials are sent only over https"),
        ("account = \"\"", "va.ibm.account: \"\" is not the identifier of an account"),
        ("account = \"my account\"", "va.ibm.account: \"my account\" is not the identifier of an account"),
    ] {
        let found = mistakes(&format!("{MINIMAL}[va.ibm]\napi_key_file = \"/key\"\n{line}\n"));
        assert!(found.iter().any(|problem| problem.contains(wanted)), "{line}: {found:?}");
    }
    let good = "hosts = [\"*.icr.io\", \".icr.io\", \"icr.io\"]\nurl = \"http://127.0.0.1:1\"\naccount = \"0a\"";
    let config = load(&format!("{MINIMAL}[va.ibm]\napi_key_file = \"/key\"\n{good}\n")).unwrap();
    let ibm = config.va.ibm.unwrap();
    let serves = |host: &str| ibm.serves(&host.parse().unwrap());
    assert!(serves("us.icr.io") && serves("icr.io") && !serves("xicr.io"));
}

/// The rules read these files relative to the directory of the policies, so they must not be relative to anything else.
#[test]
fn paths_of_files_in_rules_do_not_depend_on_the_policy_directory() {
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
