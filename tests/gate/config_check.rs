//! `pullgate config check` names every mistake of a configuration and of what it names, in one run.

#![allow(clippy::too_many_lines, clippy::unwrap_used, reason = "tables of mistakes, and their files")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::commands::text;
use crate::harness::ALLOW_ALL;
use crate::program::Program;
use crate::support::{TestRegistry, soon, temp_dir};

/// A folder with a configuration and what it names, without mistakes.
struct Checked {
    folder: tempfile::TempDir,
    upstream: String,
}

impl Checked {
    fn new() -> Self {
        let folder = temp_dir();
        let made = Self { folder, upstream: String::new() };
        fs::create_dir(made.path().join("policies")).unwrap();
        made.file("policies/default.yaml", ALLOW_ALL);
        made
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn file(&self, name: &str, content: &str) {
        fs::write(self.path().join(name), content).unwrap();
    }

    /// A certificate, valid in these years, and its key.
    fn certificate(&self, name: &str, from: i32, until: i32) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        self.file(&format!("{name}.crt"), &params.self_signed(&key).unwrap().pem());
        self.file(&format!("{name}.key"), &key.serialize_pem());
        close(&self.path().join(format!("{name}.key")));
    }

    /// A good configuration with these lines at its beginning, in `[[upstream]]`, and at its end.
    fn write(&self, first: &str, last: &str) {
        let state = if first.contains("state_dir") { "" } else { "state_dir = \"state\"\n" };
        let upstream = &self.upstream;
        let listeners = if last.contains("[[listener]]") { "" } else { "[[listener]]\naddress = \"127.0.0.1:0\"\n" };
        let admin = if last.contains("[admin]") { "" } else { "[admin]\naddress = \"127.0.0.1:0\"\n" };
        let policy = if last.contains("[policy]") { "" } else { "[policy]\ndir = \"policies\"\n" };
        let text = format!(
            "{first}\n{state}{listeners}{admin}{policy}[[upstream]]\nhost = \"registry.test\"\n{upstream}\n{last}\n"
        );
        self.file("pullgate.toml", &text);
    }

    fn run(&self, words: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
        command.args(words).arg("--config").arg(self.path().join("pullgate.toml"));
        command.envs(environment.iter().copied()).output().unwrap()
    }

    /// The problems of a run, as JSON.
    fn problems(&self, words: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, Vec<Value>) {
        let mut all = vec!["config", "check", "--output", "json"];
        all.extend(words);
        let output = self.run(&all, environment);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
        (output.status.code(), answer["problems"].as_array().unwrap().clone())
    }
}

/// Each mistake is named once, in the order of the file; one does not hide another.
#[test]
fn mistakes_are_named_once_and_in_order() {
    let made = prepared("");
    let folder = made.path().display().to_string();
    let tls = "tls = { certificate = \"good.crt\", key = \"other.key\", client_ca = \"junk\" }";
    let last = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n{tls}\n[tracing]\nendpoint = \"xx\"\n\
         [va.database]\nosv = [\"ftp://a.test\"]\n[audit]\nfile = \"{folder}/absent/audit.jsonl\"\n"
    );
    made.write("", &last);
    let (code, problems) = made.problems(&[], &[]);
    let lines: Vec<String> = problems.iter().map(line).collect();
    let wanted = [
        "error: listener[0].tls.key: FOLDER/other.key: this is not the key",
        "error: listener[0].tls.client_ca: FOLDER/junk: no certificate",
        "error: tracing.endpoint: ",
        "error: va.database.osv: ",
        "note: audit.file: FOLDER/absent: this directory will be created",
    ];
    for wanted in wanted {
        let wanted = wanted.replace("FOLDER", &folder);
        assert_eq!(lines.iter().filter(|line| line.contains(&wanted)).count(), 1, "{wanted}\n{lines:#?}");
    }
    let errors = lines.iter().filter(|line| line.contains(": error: ")).count();
    assert_eq!((code, errors), (Some(78), 4), "{lines:#?}");
    let places: Vec<u64> = problems.iter().filter_map(|problem| problem["line"].as_u64()).collect();
    assert!(places.is_sorted(), "{lines:#?}");
}

/// Removes the access of others to a key.
fn close(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn line(problem: &Value) -> String {
    let text = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
    format!("{}:{}: {}: {}", text("file"), problem["line"], text("severity"), text("message"))
}

/// A good configuration has no problem, not even a warning.
#[test]
fn a_good_configuration_passes() {
    let made = Checked::new();
    made.certificate("server", 2020, 2090);
    made.write(
        "",
        "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = { certificate = \"server.crt\", key = \"server.key\" }\n",
    );
    let (code, problems) = made.problems(&["--strict"], &[]);
    assert_eq!((code, problems), (Some(0), vec![]));
    let output = made.run(&["config", "check"], &[]);
    assert!(text(&output).starts_with("ok: 1 listener, 1 upstream,"), "{}", text(&output));
    assert!(!made.path().join("state").exists(), "nothing is created");
}

/// Kubernetes mounts a `ConfigMap` with all permissions, and read-only.
#[test]
fn what_is_mounted_read_only_cannot_be_changed() {
    let made = prepared("");
    made.write("", "[policy]\ndir = \"shared-folder\"");
    let folder = made.path().join("shared-folder");
    let run = |mount: &str| -> Option<Output> {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-ec", &format!("{mount}; shift; \"$@\""), "sh"]);
        command.arg(&folder).arg(env!("CARGO_BIN_EXE_pullgate")).args(["config", "check", "--strict", "--config"]);
        let output = command.arg(made.path().join("pullgate.toml")).output().ok()?;
        // Where the system does not permit it, nothing can be mounted.
        let is_permitted = !["unshare: ", "mount: "].iter().any(|tool| text(&output).contains(tool));
        is_permitted.then_some(output)
    };
    let Some(output) = run(":") else {
        println!("skipped: this system does not permit namespaces");
        return;
    };
    let said = text(&output);
    assert!(said.contains("policy.dir: ") && said.contains("every user of this machine can change it"), "{said}");
    let Some(output) = run("mount --bind \"$1\" \"$1\"; mount -o remount,bind,ro \"$1\"") else {
        println!("skipped: this system does not permit mounts in namespaces");
        return;
    };
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

/// Paths without a folder are in the folder of the configuration, also where that has no name.
#[test]
fn a_configuration_in_the_current_directory_passes() {
    let made = Checked::new();
    made.write("", "[admin]\naddress = \"127.0.0.1:0\"\nsocket = \"a.sock\"\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
    command.current_dir(made.path()).env_remove("PULLGATE_CONFIG").args(["config", "check", "--strict"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn a_cache_that_is_larger_than_its_disk_is_reported() {
    let made = Checked::new();
    made.write("", "[cache]\nmax_size = \"1000000TiB\"\n");
    let (code, problems) = made.problems(&[], &[]);
    assert_eq!((code, problems.len()), (Some(0), 1), "{problems:?}");
    assert!(line(&problems[0]).contains("warning: cache.max_size: the disk of `state_dir` has only "), "{problems:?}");
}

/// One mistake of each kind gives one problem, at the line of its key, with a hint or a text that says what to do.
#[test]
fn each_mistake_gives_one_problem() {
    let long = "x".repeat(120);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("[[listener]]\naddress = \"{}\"", taken.local_addr().unwrap());
    let tls = |files: &str| format!("[[listener]]\naddress = \"127.0.0.1:0\"\ntls = {{ {files} }}");
    for (first, upstream, last, wanted) in [
        // Certificates and keys.
        ("", "", tls("certificate = \"absent.crt\", key = \"good.key\""), "listener[0].tls.certificate: "),
        ("", "", tls("certificate = \"junk\", key = \"good.key\""), "tls.certificate: FOLDER/junk: no certificate in PEM"),
        ("", "", tls("certificate = \"good.crt\", key = \"other.key\""), "tls.key: FOLDER/other.key: this is not the key"),
        ("", "", tls("certificate = \"good.crt\", key = \"junk\""), "tls.key: FOLDER/junk: no usable private key"),
        ("", "", tls("certificate = \"old.crt\", key = \"old.key\""), "tls.certificate: FOLDER/old.crt: the certificate expired"),
        ("", "", tls("certificate = \"new.crt\", key = \"new.key\""), "is not valid before 2080"),
        (
            "",
            "",
            tls("certificate = \"good.crt\", key = \"good.key\", client_ca = \"junk\""),
            "tls.client_ca: FOLDER/junk: no certificate",
        ),
        (
            "",
            "",
            tls("certificate = \"good.crt\", key = \"good.key\", client_ca = \"good.key\""),
            "tls.client_ca: FOLDER/good.key: no certificate",
        ),
        ("", "", tls("certificate = \"good.crt\", key = \"locked.key\""), "tls.key: FOLDER/locked.key: the private key is encrypted"),
        ("", "", tls("certificate = \"nameless.crt\", key = \"good.key\""), "warning: listener[0].tls.certificate: FOLDER/nameless.crt: it has no subjectAltName"),
        ("", "", tls("certificate = \"good.crt\", key = \"open.key\""), "warning: listener[0].tls.key: FOLDER/open.key: every user"),
        (
            "",
            "",
            "[admin]\naddress = \"127.0.0.1:0\"\ntoken_file = \"open-token\"".to_owned(),
            "warning: admin.token_file: FOLDER/open-token: every user of this machine can read this token",
        ),
        (
            "",
            "serve_to = \"everyone\"\nauth = { type = \"basic\", username = \"u\", password_file = \"shared\" }",
            String::new(),
            "warning: upstream[0].auth.password_file: FOLDER/shared: every user of this machine can change it",
        ),
        (
            "",
            "",
            "[policy]\ndir = \"shared-folder\"".to_owned(),
            "warning: policy.dir: FOLDER/shared-folder: every user of this machine can change it",
        ),
        // Names that match nothing, and limits that limit nothing.
        (
            "",
            "realms = [\"auth.test\", \"https://auth.test/token\"]",
            String::new(),
            "warning: upstream[0].realms: \"https://auth.test/token\" is not the name of a host",
        ),
        (
            "",
            "",
            "[admin]\naddress = \"127.0.0.1:0\"\nhosts = [\"gate.test\", \"*\"]".to_owned(),
            "warning: admin.hosts: \"*\" is not the name of a host",
        ),
        (
            "",
            "",
            "[limits]\nmax_connections = 10\nmax_connections_per_address = 11".to_owned(),
            "warning: limits.max_connections_per_address: more than limits.max_connections, which is 10",
        ),
        // Upstreams.
        ("", "ca = \"absent.crt\"", String::new(), "upstream[0].ca: FOLDER/absent.crt: "),
        ("", "ca = \"junk\"", String::new(), "upstream[0].ca: FOLDER/junk: "),
        ("", "ca = \"old.crt\"", String::new(), "warning: upstream[0].ca: FOLDER/old.crt: all certificates in it have expired"),
        ("", "proxy = \"socks5://a.test\"", String::new(), "upstream[0].proxy: the egress proxy must be"),
        ("", "url = \"https://user:hush@registry.test\"", String::new(), "upstream[0].url: the url of registry.test must be"),
        (
            "",
            "serve_to = \"everyone\"\nauth = { type = \"basic\", username = \"u\", password_file = \"absent\" }",
            String::new(),
            "upstream[0].auth.password_file: FOLDER/absent: ",
        ),
        (
            "",
            "serve_to = \"everyone\"\nauth = { type = \"basic\", username = \"u\", password_file = \"empty\" }",
            String::new(),
            "upstream[0].auth.password_file: FOLDER/empty: the file is empty",
        ),
        (
            "",
            "serve_to = \"everyone\"\nauth = { type = \"basic\", username = \"u\", password_file = \"marked\" }",
            String::new(),
            "upstream[0].auth.password_file: FOLDER/marked: it begins with a byte order mark",
        ),
        (
            "",
            "serve_to = \"everyone\"\nauth = { type = \"iam\", api_key_file = \"lines\" }",
            String::new(),
            "upstream[0].auth.api_key_file: FOLDER/lines: it has more than one line",
        ),
        (
            "",
            "serve_to = \"everyone\"\nauth = { type = \"basic\", username = \"a:b\", password_file = \"lines\" }",
            String::new(),
            "upstream[0].auth.username: a user name cannot have a colon",
        ),
        (
            "",
            "serve_to = \"everyone\"\nauth = { type = \"docker-config\", file = \"odd.json\" }",
            String::new(),
            "upstream[0].auth.file: FOLDER/odd.json: an `auth` entry is not base64 of user:password",
        ),
        (
            "",
            "serve_to = \"everyone\"\nauth = { type = \"iam\", api_key_env = \"NOT_SET_HERE\" }",
            String::new(),
            "upstream[0].auth.api_key_env: the environment variable NOT_SET_HERE is not set",
        ),
        (
            "",
            "serve_to = \"everyone\"\nauth = { type = \"docker-config\", file = \"other.json\" }",
            String::new(),
            "upstream[0].auth.file: FOLDER/other.json: has no entry for registry.test",
        ),
        (
            "",
            "serve_to = \"everyone\"\nauth = { type = \"docker-config\", file = \"junk\" }",
            String::new(),
            "upstream[0].auth.file: FOLDER/junk: not a Docker configuration",
        ),
        (
            "",
            "serve_to = \"everyone\"\nauth = { type = \"helper\", program = \"not-installed\" }",
            String::new(),
            "upstream[0].auth.program: docker-credential-not-installed: there is no such program",
        ),
        ("", "path = \"a/b\"", String::new(), "upstream[0].path: \"a/b\" cannot be a component"),
        ("", "[[upstream]]\nhost = \"reg.test:5000\"", String::new(), "warning: upstream[1].host: a path cannot contain a port"),
        // Policies and evidence.
        ("", "", "[policy]\ndir = \"absent\"".to_owned(), "policy.dir: FOLDER/absent: "),
        ("", "", "[policy]\ndir = \"empty-folder\"".to_owned(), "warning: policy.dir: FOLDER/empty-folder contains no policies"),
        ("", "", "[trust]\ntrusted_roots = [\"absent.json\"]".to_owned(), "trust.trusted_roots: FOLDER/absent.json: "),
        ("", "", "[trust]\nnotary_root = \"junk\"".to_owned(), "trust.notary_root: FOLDER/junk: "),
        (
            "",
            "",
            "[trust.authority.x.cosign.key]\nfile = \"absent.pub\"".to_owned(),
            "trust.authority.x.cosign.key: file \"absent.pub\": ",
        ),
        ("", "", "[trust.revocation]\nproxy = \"ftp://a.test\"".to_owned(), "trust.revocation.proxy: the egress proxy"),
        ("", "", "[va]\nreports = [\"absent\"]".to_owned(), "warning: va.reports: FOLDER/absent: "),
        ("", "", "[va]\nreports = [\"junk\"]".to_owned(), "warning: va.reports: FOLDER/junk: "),
        ("", "", "[va]\nreports = [\"reports\"]".to_owned(), "warning: va.reports: FOLDER/reports/broken.json: "),
        (
            "",
            "",
            "[va.database]\nosv = [\"https://a.test/PyPI/all.zip\"]".to_owned(),
            "warning: va.database: no advisory database of https://a.test/PyPI/all.zip",
        ),
        ("", "", "[va.database]\nca = \"absent.crt\"".to_owned(), "va.database.ca: FOLDER/absent.crt: "),
        (
            "",
            "",
            "[[va.scanner]]\nkind = \"trivy\"\ncommand = \"./absent\"".to_owned(),
            "va.scanner[0].command: scanner trivy: ",
        ),
        (
            "",
            "",
            "[[va.scanner]]\nkind = \"trivy\"\ncommand = \"./junk\"".to_owned(),
            "va.scanner[0].command: scanner trivy: FOLDER/./junk is not a program that can be executed",
        ),
        (
            "",
            "",
            "[[va.scanner]]\nkind = \"harbor\"\nurl = \"https://a.test\"\nauth = { type = \"bearer\", token_file = \"absent\" }"
                .to_owned(),
            "va.scanner[0].auth.token_file: FOLDER/absent: ",
        ),
        ("", "", "[va.ibm]\napi_key_file = \"absent\"".to_owned(), "va.ibm.api_key_file: FOLDER/absent: "),
        ("", "", "[prefetch]\nimages = [\"other.test/app:1\"]".to_owned(), "warning: prefetch.images: other.test is not the host"),
        // The machine.
        ("", "", "[audit]\nfile = \"/dev/null/audit.jsonl\"".to_owned(), "audit.file: /dev/null: the directory cannot be"),
        ("", "", "[audit]\nfile = \"/tmp\"".to_owned(), "audit.file: /tmp is a directory"),
        ("", "", "[audit]\nfile = \"\"".to_owned(), "audit.file: the path is empty"),
        ("", "", "[audit]\nfile = \".\"".to_owned(), "audit.file: FOLDER/state is the state directory"),
        // From a state directory that does not exist yet.
        ("", "", format!("[audit]\nfile = \"{}proc/log/audit.jsonl\"", "../".repeat(32)), "audit.file: /proc/log: the directory cannot be created: /proc: "),
        ("state_dir = \"junk\"", "", "[admin]\naddress = \"127.0.0.1:0\"\nsocket = \"a.sock\"".to_owned(), "state_dir: FOLDER/junk: the directory cannot be"),
        ("", "", format!("[admin]\naddress = \"127.0.0.1:0\"\nsocket = \"{long}\""), "admin.socket: FOLDER/"),
        ("state_dir = \"newer\"", "", String::new(), "state_dir: FOLDER/newer/pullgate.db: the database was written by a newer"),
        ("", "", taken.clone(), "listener[0].address: cannot listen on 127.0.0.1:"),
        ("", "", "[[listener]]\naddress = \"no-such-host.invalid:5000\"".to_owned(), "listener[0].address: no-such-host.invalid:5000: "),
        ("", "", "[[listener]]\naddress = \"192.0.2.1:5000\"".to_owned(), "listener[0].address: cannot listen on 192.0.2.1:5000: "),
        ("", "", "[admin]\naddress = \"127.0.0.1:0\"\ntoken_file = \"junk\"".to_owned(), "admin.token_file: admin: token_file FOLDER/junk: "),
        ("state_dir = \"reports\"", "", String::new(), "state_dir: FOLDER/reports: this is not a state directory: it has \"broken.json\""),
        ("state_dir = \"dangling\"", "", String::new(), "state_dir: FOLDER/dangling: the directory cannot be written: it is a symbolic link"),
        ("state_dir = \"/proc/self/state\"", "", String::new(), "state_dir: /proc/self/state: the directory cannot be created: /proc/self: "),
        ("state_dir = \"odd\"", "", String::new(), "state_dir: FOLDER/odd/blobs: this must be a directory"),
        ("", "", "[audit]\nfile = \"../pipe\"".to_owned(), "audit.file: FOLDER/pipe is neither a regular file nor a character device"),
        ("", "", "[audit]\nfile = \"pullgate.db\"".to_owned(), "audit.file: FOLDER/state/pullgate.db: this is pullgate's own pullgate.db"),
        ("", "", "[audit]\nfile = \"../pullgate.toml\"".to_owned(), "audit.file: FOLDER/pullgate.toml: this is the configuration"),
        ("", "", "[events]\nurls = [\"https://events.acme.com\"]\nca = \"good.crt\"\n[audit]\nfile = \"../good.crt\"".to_owned(), "audit.file: FOLDER/good.crt: this is events.ca"),
        ("", "", "[audit]\nfile = \"../policies/x.jsonl\"".to_owned(), "audit.file: FOLDER/policies/x.jsonl: this is in policy.dir"),
        ("", "", "[audit]\nfile = \"admin.sock\"".to_owned(), "audit.file: FOLDER/state/admin.sock: this is also admin.socket"),
        (
            "",
            "",
            "[admin]\naddress = \"127.0.0.1:0\"\nsocket = \"absent/a.sock\"".to_owned(),
            "admin.socket: FOLDER/absent: No such file",
        ),
        (
            "",
            "",
            "[admin]\naddress = \"127.0.0.1:0\"\nsocket = \"junk\"".to_owned(),
            "admin.socket: FOLDER/junk: a file that is not a socket",
        ),
        // Pipes would wait forever.
        ("", "", tls("certificate = \"pipe\", key = \"good.key\""), "tls.certificate: FOLDER/pipe: not a regular file"),
        ("", "", "[admin]\naddress = \"127.0.0.1:0\"\ntoken_file = \"pipe\"".to_owned(), "FOLDER/pipe: not a regular file"),
        ("", "", "[events]\ntoken_file = \"pipe\"".to_owned(), "events.token_file: FOLDER/pipe: not a regular file"),
        ("", "", "[events]\nca = \"pipe\"".to_owned(), "FOLDER/pipe: no certificate authorities can be read: not a regular file"),
        ("", "", "[trust]\ntrusted_roots = [\"pipe\"]".to_owned(), "FOLDER/pipe: not a regular file"),
        (
            "",
            "serve_to = \"everyone\"\nauth = { type = \"basic\", username = \"u\", password_file = \"pipe\" }",
            String::new(),
            "FOLDER/pipe: not a regular file",
        ),
        // Events.
        ("", "", "[events]\nsecret_file = \"short\"".to_owned(), "events.secret_file: FOLDER/short: the secret has fewer than 16 bytes"),
        ("", "", "[events]\nsecret_file = \"absent\"".to_owned(), "events.secret_file: FOLDER/absent: "),
        ("", "", "[events]\nsecret_file = \"marked\"".to_owned(), "events.secret_file: FOLDER/marked: it begins with a byte order mark"),
        ("", "", "[events]\ntoken_file = \"empty\"".to_owned(), "events.token_file: FOLDER/empty: "),
        ("", "", "[events]\nca = \"junk\"".to_owned(), "events.ca: FOLDER/junk: "),
        // The admin listener.
        (
            "",
            "",
            "[admin]\naddress = \"0.0.0.0:0\"\ntoken_file = \"token\"".to_owned(),
            "warning: admin.address: 0.0.0.0:0: the admin listener has no TLS",
        ),
        // Valid, but not what was meant.
        ("", "offline = true", "[prefetch]\nimages = [\"registry.test/app:1\"]".to_owned(), "warning: prefetch.images: registry.test is offline"),
        ("", "url = \"https://docker.io\"", String::new(), "warning: upstream[0].url: docker.io is the web site of Docker Hub"),
        ("", "url = \"https://registry.test/v2/\"", String::new(), "warning: upstream[0].url: the gate itself adds /v2/"),
        ("", "url = \"http://registry.test\"", String::new(), "warning: upstream[0].url: no TLS"),
        ("", "serve_to = [\"ci\"]", String::new(), "warning: upstream[0].serve_to: no listener has one of these scopes"),
        (
            "",
            "",
            "[[listener]]\naddress = \"127.0.0.1:0\"\ntrusted_proxies = [\"0.0.0.0/0\"]".to_owned(),
            "warning: listener[0].trusted_proxies: every client may state any address",
        ),
        ("state_dir = \"policies/state\"", "", String::new(), "error: state_dir: FOLDER/policies/state: this is in policy.dir"),
        ("", "", "[va.ibm]\napi_key_file = \"token\"\n[audit]\nfile = \"../token\"".to_owned(), "audit.file: FOLDER/token: this is va.ibm.api_key_file"),
        (
            "",
            "",
            "[[va.scanner]]\nkind = \"harbor\"\nurl = \"https://a.test\"\nauth = { type = \"bearer\", token_file = \"token\" }\n\
             [audit]\nfile = \"../token\""
                .to_owned(),
            "audit.file: FOLDER/token: this is va.scanner[0].auth.token_file",
        ),
        // Within the file.
        ("log = { filter = \"nonsense==\" }", "", String::new(), "log.filter: not a log filter: "),
        ("log = { filter = \"pullgate=loud\" }", "", String::new(), "log.filter: not a log filter: "),
        ("log = { filter = \"verbose\" }", "", String::new(), "warning: log.filter: this filter hides the errors and warnings"),
        ("log = { filter = \"pulgate=debug\" }", "", String::new(), "warning: log.filter: this filter hides the errors and warnings"),
        ("log = { filter = \"\" }", "", String::new(), "warning: log.filter: an empty filter logs errors only"),
        ("shutdown_grace = 60", "", String::new(), "shutdown_grace: expected a string such as \"60s\", found the number 60"),
        ("cache = { max_size = 5 }", "", String::new(), "cache.max_size: 5 without a unit is 5 bytes"),
        ("cache = { max_size = \"5\" }", "", String::new(), "cache.max_size: 5 without a unit is 5 bytes"),
        ("gate = { platforms = [\"linux/amd64 linux/arm64\"] }", "", String::new(), "gate.platforms: \"linux/amd64 linux/arm64\": "),
    ] {
        let made = prepared(upstream);
        made.write(first, &last);
        let (code, mut problems) = made.problems(&[], &[]);
        problems.retain(|problem| problem["severity"] != "note");
        let lines: Vec<String> = problems.iter().map(line).collect();
        let wanted = wanted.replace("FOLDER", &made.path().display().to_string());
        assert!(lines.len() == 1 && lines[0].contains(&wanted), "{first} {upstream} {last}\n{wanted}\n{lines:#?}");
        let is_error = problems[0]["severity"] == "error";
        assert_eq!(code, Some(if is_error { 78 } else { 0 }), "{lines:?}");
        assert!(lines[0].contains("pullgate.toml:") && problems[0]["line"] != 0, "{lines:?}");
        assert!(!lines[0].contains("hush"), "{lines:?}");
        assert_eq!(made.problems(&["--strict"], &[]).0, Some(78));
    }
}

/// The files for the mistakes above.
fn prepared(upstream: &str) -> Checked {
    let made = Checked { upstream: upstream.to_owned(), ..Checked::new() };
    for (name, from, until) in
        [("good", 2020, 2090), ("other", 2020, 2090), ("open", 2020, 2090), ("old", 2020, 2021), ("new", 2080, 2090)]
    {
        made.certificate(name, from, until);
    }
    made.file("open.crt", "");
    fs::copy(made.path().join("good.key"), made.path().join("open.key")).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(made.path().join("open.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    made.file("locked.key", locked);
    close(&made.path().join("locked.key"));
    let mut nameless = rcgen::CertificateParams::default();
    (nameless.not_before, nameless.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2090, 1, 1));
    let key = rcgen::KeyPair::from_pem(&fs::read_to_string(made.path().join("good.key")).unwrap()).unwrap();
    made.file("nameless.crt", &nameless.self_signed(&key).unwrap().pem());
    made.file("junk", "junk");
    close(&made.path().join("junk"));
    made.file("empty", "");
    made.file("short", "short");
    made.file("marked", "\u{feff}secret\n");
    made.file("lines", "one\ntwo\n");
    made.file("odd.json", "{\"auths\": {\"registry.test\": {\"auth\": \"!!!\"}}}");
    made.file("open-token", "0123456789abcdef0123");
    made.file("shared", "secret\n");
    fs::create_dir(made.path().join("shared-folder")).unwrap();
    made.file("shared-folder/default.yaml", ALLOW_ALL);
    for (name, mode) in [("open-token", 0o644), ("shared", 0o666), ("shared-folder", 0o777)] {
        fs::set_permissions(made.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    made.file("token", "0123456789abcdef0123");
    close(&made.path().join("token"));
    std::os::unix::fs::symlink(made.path().join("nowhere"), made.path().join("dangling")).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, made.path().join("pipe"), mode).unwrap();
    made.file("other.json", "{\"auths\": {\"elsewhere.test\": {\"auth\": \"dTpw\"}}}");
    for folder in ["empty-folder", "reports", "newer", "odd"] {
        fs::create_dir(made.path().join(folder)).unwrap();
    }
    made.file("odd/blobs", "");
    made.file("reports/broken.json", "{");
    made.file("newer/pullgate.db", "");
    newer_schema(&made.path().join("newer/pullgate.db"));
    made
}

/// A database of a version that does not exist yet.
fn newer_schema(path: &Path) {
    let run = async {
        use sqlx::{ConnectOptions as _, Connection as _};
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
        let mut connection = options.connect().await.unwrap();
        let sql =
            "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY); INSERT INTO _sqlx_migrations VALUES (9999)";
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    };
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run);
}

/// What is behind a link in the state directory is pullgate's own, too.
#[test]
fn a_file_behind_a_link_in_the_state_directory_is_found() {
    let made = Checked::new();
    for folder in ["state", "elsewhere"] {
        fs::create_dir_all(made.path().join(folder)).unwrap();
    }
    std::os::unix::fs::symlink(made.path().join("elsewhere"), made.path().join("state/blobs")).unwrap();
    made.write("", "[audit]\nfile = \"blobs/audit.jsonl\"");
    let (_, problems) = made.problems(&[], &[]);
    let is_found = |problem: &Value| problem.to_string().contains("this is pullgate's own blobs");
    assert!(problems.iter().any(is_found), "{problems:?}");
}

/// Records that are appended to a key, or a rotation that replaces it, would disable what depends on it.
#[test]
fn audit_files_are_not_files_that_authorities_and_policies_name() {
    let authority = "[trust.authority.release.cosign.key]\nfile = \"release.1\"\n";
    let policy = "apiVersion: pullgate.io/v1
kind: ClusterImagePolicy
metadata: {name: keys}
spec:
  authorities:
  - name: own
    cosign: {key: {file: ../release.1}}
  repositories:
  - {name: \"registry.test/*\", policy: {trust: own}}
";
    let rotated = "which a rotation of the audit file replaces";
    for (authority, policy, audit, wanted) in [
        (authority, "", "release.1", "audit.file: FOLDER/release.1: this is a file of trust.authority".to_owned()),
        (authority, "", "release", format!("FOLDER/release.1: this is a file of trust.authority, {rotated}")),
        ("", policy, "release.1", "audit.file: FOLDER/release.1: this is a file that a policy names".to_owned()),
        ("", policy, "release", format!("FOLDER/release.1: this is a file that a policy names, {rotated}")),
        (authority, policy, "release.jsonl", String::new()),
        (authority, policy, "release.0", String::new()),
    ] {
        let made = Checked::new();
        made.file("release.1", &rcgen::KeyPair::generate().unwrap().public_key_pem());
        if !policy.is_empty() {
            made.file("policies/keys.yaml", policy);
        }
        made.write("", &format!("{authority}[audit]\nfile = \"../{audit}\""));
        let (code, mut problems) = made.problems(&[], &[]);
        problems.retain(|problem| problem["severity"] == "error");
        let lines: Vec<String> = problems.iter().map(line).collect();
        let wanted = wanted.replace("FOLDER", &made.path().display().to_string());
        let count = usize::from(!wanted.is_empty());
        assert!(lines.len() == count && lines.iter().all(|line| line.contains(&wanted)), "{audit}: {lines:#?}");
        assert_eq!(code, Some(if count == 0 { 0 } else { 78 }), "{audit}: {lines:?}");
    }
}

/// An alias that repeats a name of its own upstream is harmless, for the check and for the gate.
#[test]
fn an_alias_may_repeat_a_name_of_its_upstream() {
    let made = Checked { upstream: "aliases = [\"registry.test\", \"b.test\", \"b.test\"]\n".into(), ..Checked::new() };
    made.write("", "");
    assert_eq!(made.problems(&["--strict"], &[]), (Some(0), vec![]));
    let made = Checked { upstream: "aliases = [\"b.test\"]\n".into(), ..Checked::new() };
    made.write("", "[[upstream]]\nhost = \"c.test\"\naliases = [\"b.test\"]");
    let (code, problems) = made.problems(&[], &[]);
    assert_eq!((code, problems.len()), (Some(78), 1), "{problems:?}");
    assert!(line(&problems[0]).contains("upstream[1].aliases: another upstream is called \"b.test\""), "{problems:?}");
}

/// What `serve` would find out about ports and variables only when it starts.
#[test]
fn listeners_of_one_port_and_variables_of_collectors_are_checked() {
    let made = Checked::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listener = |host: &str| format!("[[listener]]\naddress = \"{host}:{free}\"\n");
    made.write("", &(listener("localhost") + &listener("0.0.0.0")));
    let (_, problems) = made.problems(&[], &[]);
    let lines: Vec<String> = problems.iter().map(line).collect();
    let wanted =
        format!("listener[1].address: 0.0.0.0:{free} cannot be used, because listener[0].address is localhost:");
    assert!(lines.len() == 1 && lines[0].contains(&wanted), "{lines:?}");
    made.write("", &format!("{}[admin]\naddress = \"127.0.0.1:{free}\"\n", listener("0.0.0.0")));
    let (_, problems) = made.problems(&[], &[]);
    let lines: Vec<String> = problems.iter().map(line).collect();
    let wanted = format!("admin.address: 127.0.0.1:{free} cannot be used, because listener[0].address is 0.0.0.0:");
    assert!(lines.len() == 1 && lines[0].contains(&wanted), "{lines:?}");
    // An upstream that is the gate itself.
    let around = Checked { upstream: format!("url = \"http://localhost:{free}\""), ..Checked::new() };
    around.write("", &listener("0.0.0.0"));
    let (_, problems) = around.problems(&[], &[]);
    let lines: Vec<String> = problems.iter().map(line).collect();
    let wanted = "warning: upstream[0].url: this is listener[0] of the gate itself";
    assert!(lines.len() == 1 && lines[0].contains(wanted), "{lines:?}");
    made.write("", "");
    for (variables, severity, wanted) in [
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317")][..], "error", "is not an http:// or https:// URL"),
        (
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a.test:4317"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
            "warning",
            "OTEL_EXPORTER_OTLP_PROTOCOL is \"grpc\"",
        ),
    ] {
        let (_, problems) = made.problems(&[], variables);
        let lines: Vec<String> = problems.iter().map(line).collect();
        assert!(lines.len() == 1 && lines[0].contains(severity) && lines[0].contains(wanted), "{lines:?}");
    }
}

/// Every problem of every policy document has its own place.
#[test]
fn all_mistakes_of_policies_are_named() {
    let made = Checked::new();
    made.file("policies/one.yaml", &ALLOW_ALL.replace("policy: {}", "polcy: {}"));
    made.file("policies/two.yaml", &ALLOW_ALL.replace("repositories", "repos").replace("name: default", "name: two"));
    made.write("", "");
    let (code, problems) = made.problems(&[], &[]);
    let lines: Vec<String> = problems.iter().map(line).collect();
    assert_eq!(code, Some(78));
    for wanted in
        ["policies/one.yaml:7: error: unknown key \"polcy\"", "policies/two.yaml:5: error: unknown key \"repos\""]
    {
        assert!(lines.iter().any(|line| line.contains(wanted)), "{wanted}\n{lines:#?}");
    }
}

/// A file of the folder of policies that cannot be read hides no other mistake, and has its own place.
#[test]
fn unreadable_files_of_policies_hide_nothing() {
    let made = Checked::new();
    let folder = made.path().join("policies");
    let other = ALLOW_ALL.replace("default", "other").replace('*', "other.test/*");
    made.file("policies/broken.yaml", &other.replace("policy: {}", "polcy: {}"));
    made.file("policies/large.yaml", &"#".repeat(1024 * 1024 + 1));
    std::os::unix::fs::symlink("/nowhere/at/all", folder.join("dangling.yaml")).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.join("pipe.yaml"), mode).unwrap();
    made.write("", "");
    let (code, problems) = made.problems(&[], &[]);
    let lines: Vec<String> = problems.iter().map(line).collect();
    let wanted = [
        "policies/broken.yaml:7: error: unknown key \"polcy\"",
        "policies/dangling.yaml:0: error: it is a symbolic link to something that does not exist",
        "policies/large.yaml:0: error: larger than 1 MiB",
        "policies/pipe.yaml:0: error: not a regular file",
    ];
    assert!(code == Some(78) && lines.len() == wanted.len(), "{lines:#?}");
    for wanted in wanted {
        assert!(lines.iter().any(|line| line.contains(wanted)), "{wanted}\n{lines:#?}");
    }
    let said = text(&made.run(&["serve"], &[]));
    assert!(
        ["broken", "dangling", "large", "pipe"].iter().all(|name| said.contains(&format!("{name}.yaml"))),
        "{said}"
    );
}

/// Mistakes of variables name the variable.
#[test]
fn lists_in_variables_are_separated_by_commas() {
    let made = Checked::new();
    made.write("", "");
    for (value, wanted) in [
        ("[\"linux/amd64\",\"linux/arm64\"]", "gate.platforms: this variable is a list, and not JSON"),
        ("linux/amd64 linux/arm64", "gate.platforms: \"linux/amd64 linux/arm64\" contains a blank"),
    ] {
        let (code, problems) = made.problems(&[], &[("PULLGATE__GATE__PLATFORMS", value)]);
        let lines: Vec<String> = problems.iter().map(line).collect();
        let wanted = format!("environment variable PULLGATE__GATE__PLATFORMS:0: error: {wanted}");
        assert!(code == Some(78) && lines[0].starts_with(&wanted), "{lines:?}");
    }
    let good = made.problems(&[], &[("PULLGATE__GATE__PLATFORMS", "linux/amd64, linux/arm64")]);
    assert_eq!(good, (Some(0), vec![]));
}

/// What is missing is named together, and nothing is said about what is not set.
#[test]
fn an_empty_configuration_lacks_its_required_keys() {
    let made = Checked::new();
    made.file("pullgate.toml", "# nothing\n");
    for environment in [&[][..], &[("PULLGATE__POLICY__DIR", "")][..]] {
        let (code, problems) = made.problems(&[], environment);
        let lines: Vec<String> = problems.iter().map(line).collect();
        assert_eq!(code, Some(78), "{lines:#?}");
        for wanted in ["policy.dir: the ", "upstream: at least one upstream is required"] {
            assert!(lines.iter().any(|line| line.contains(wanted)), "{wanted}\n{lines:#?}");
        }
        assert!(!lines.iter().any(|line| line.contains("in policy.dir")), "{lines:#?}");
    }
    // One mistake does not hide what else is missing.
    let made = Checked { upstream: "auth = { type = \"helper\" }".to_owned(), ..made };
    made.write("unknown = 1", "");
    let (_, problems) = made.problems(&[], &[]);
    let lines: Vec<String> = problems.iter().map(line).collect();
    assert!(lines.iter().any(|line| line.contains("upstream[0].auth.program: helper needs the name")), "{lines:#?}");
}

/// What the file is matters before what is in it.
#[test]
fn files_of_another_syntax_are_recognised() {
    let made = Checked::new();
    let yaml = "policy:\n  dir: policies\nupstream:\n- host: a.test\n";
    made.file("pullgate.toml", yaml);
    let said = text(&made.run(&["config", "check"], &[]));
    assert!(said.contains("this looks like YAML") && said.contains("rename it to pullgate.yaml"), "{said}");
    made.file("pullgate.toml", "[policy\n");
    let said = text(&made.run(&["config", "check"], &[]));
    assert!(said.contains("pullgate.toml:1:8: error: not TOML") && !said.contains("YAML"), "{said}");
    made.file("pullgate.json", "{\"policy\": {\"dir\": \"policies\"}}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
    let output = command.args(["config", "check", "--config"]).arg(made.path().join("pullgate.json")).output().unwrap();
    let said = text(&output);
    assert!(output.status.code() == Some(78) && said.contains("can be called pullgate.yaml"), "{said}");
}

/// About twenty mistakes in the file and fifteen outside of it, all named by one run; `serve` names those that prevent a
/// start, in one go as well.
#[test]
fn all_mistakes_are_named_by_one_run() {
    let made = prepared("");
    made.file("policies/broken.yaml", "kind: Nonsense\n");
    made.file(
        "pullgate.toml",
        "\
stat_dir = \"x\"
state_dir = \"newer\"
shutdown_grace = \"60 sec\"
[log]
filter = \"nonsense==\"
format = \"xml\"
[[listener]]
address = \"5000\"
tls = { certificate = \"absent.crt\", key = \"other.key\" }
[[listener]]
address = \"0.0.0.0:5100\"
http2 = \"yes\"
tls = { certificate = \"good.crt\", key = \"other.key\" }
[[listener]]
address = \"127.0.0.1:5100\"
tls = { certificate = \"old.crt\", key = \"old.key\", client_ca = \"junk\" }
[admin]
address = \"0.0.0.0:5101\"
[limits]
header_timeout = 60
max_header_size = \"1KiB\"
[gate]
mode = \"warn\"
verdict_wait = \"40s\"
platforms = [\"linux\"]
[policy]
dir = \"policies\"
[trust]
default_authorities = [\"release\"]
trusted_roots = [\"absent.json\"]
notary_root = \"junk\"
[trust.authority.x.cosign.key]
file = \"absent.pub\"
[va]
reports = [\"absent\", \"reports\"]
[va.ibm]
api_key_file = \"absent\"
[[va.scanner]]
kind = \"clair\"
[[va.scanner]]
kind = \"trivy\"
command = \"./absent\"
[cache]
max_size = 5
low_watermark = 99
[audit]
file = \"/dev/null/audit.jsonl\"
[events]
urls = [\"ftp://a.test\"]
secret_file = \"absent\"
[[upstream]]
host = \"a.test\"
url = \"ftp://a.test\"
path = \"a/b\"
ca = \"junk\"
auth = { type = \"basic\", username = \"u\", password = \"hunter2\" }
[[upstream]]
host = \"UPPER CASE\"
[[upstream]]
host = \"a.test\"
ca = \"absent.crt\"
auth = { type = \"basic\", username = \"u\", password_file = \"absent\" }
[[upstream]]
host = \"reg.test:5000\"
",
    );
    let within = [
        ":1: error: stat_dir: unknown key",
        ":3: error: shutdown_grace: \"60 sec\": a duration is",
        ":5: error: log.filter: not a log filter",
        ":6: error: log.format: must be one of",
        ":8: error: listener[0].address: \"5000\" is not a valid address",
        ":12: error: listener[1].http2: must be true or false",
        ":15: error: listener[2].address: 127.0.0.1:5100 cannot be used",
        ":18: error: admin.address: 0.0.0.0:5101 is reachable",
        ":20: error: limits.header_timeout: expected a string such as \"60s\", found the number 60",
        ":21: error: limits.max_header_size: must be at least 8KiB",
        ":23: error: gate.mode: must be one of",
        ":24: error: gate.verdict_wait: must be at most 28s",
        ":25: error: gate.platforms: \"linux\": a platform is",
        ":29: error: trust.default_authorities: no authority is called \"release\"",
        ":39: error: va.scanner[0].kind: must be embedded",
        ":44: error: cache.max_size: 5 without a unit",
        ":45: error: cache.low_watermark: must not be above",
        ":49: error: events.urls: number 1 is not",
        ":53: error: upstream[0].url: \"ftp://a.test\" is not",
        ":54: error: upstream[0].path: \"a/b\" cannot be",
        ":56: error: upstream[0].auth.password: a secret must not be in the configuration",
        ":58: error: upstream[1].host: \"UPPER CASE\"",
        ":60: error: upstream[2].host: another upstream is called",
        ":62: error: upstream[2].auth: serve_to is required",
        ":64: warning: upstream[3].host: a path cannot contain a port",
    ];
    let prevents = [
        ":9: error: listener[0].tls.certificate: FOLDER/absent.crt: ",
        ":13: error: listener[1].tls.key: FOLDER/other.key: this is not the key",
        ":16: error: listener[2].tls.certificate: FOLDER/old.crt: the certificate expired",
        ":16: error: listener[2].tls.client_ca: FOLDER/junk: no certificate",
        ":2: error: state_dir: FOLDER/newer/pullgate.db: the database was written by a newer",
        "/broken.yaml:1: error: ",
        ":30: error: trust.trusted_roots: FOLDER/absent.json: ",
        ":31: error: trust.notary_root: FOLDER/junk: ",
        "error: trust.authority.x.cosign.key: file \"absent.pub\": ",
        ":47: error: audit.file: /dev/null: the directory cannot be",
        ":55: error: upstream[0].ca: FOLDER/junk: ",
        ":61: error: upstream[2].ca: FOLDER/absent.crt: ",
    ];
    let reported = [
        ":62: error: upstream[2].auth.password_file: FOLDER/absent: ",
        ":50: error: events.secret_file: FOLDER/absent: ",
        ":37: error: va.ibm.api_key_file: FOLDER/absent: ",
        ":35: warning: va.reports: FOLDER/absent: ",
        ":35: warning: va.reports: FOLDER/reports/broken.json: ",
        ":42: error: va.scanner[1].command: scanner trivy: ",
    ];
    let folder = made.path().display().to_string();
    let (code, problems) = made.problems(&[], &[]);
    let lines: Vec<String> = problems.iter().map(line).collect();
    assert_eq!(code, Some(78), "{lines:#?}");
    for wanted in within.iter().chain(&prevents).chain(&reported) {
        let wanted = wanted.replace("FOLDER", &folder);
        assert!(lines.iter().any(|line| line.contains(&wanted)), "{wanted}\n{lines:#?}");
    }
    assert!(!lines.iter().any(|line| line.contains("hunter2")), "a secret is never printed");

    let output = made.run(&["serve"], &[]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(78), "{said}");
    // The text has columns, too.
    let said: Vec<String> = said.lines().map(without_column).collect();
    for wanted in within.iter().chain(&prevents) {
        let wanted = wanted.replace("FOLDER", &folder);
        assert!(said.iter().any(|line| line.contains(&wanted)), "{wanted}\n{said:#?}");
    }
}

/// `FILE:3:1: error: …` as `FILE:3: error: …`.
fn without_column(line: &str) -> String {
    let Some((place, rest)) = line.split_once(": ") else { return line.to_owned() };
    let place = place.rsplit_once(':').filter(|(before, _)| before.contains(':')).map_or(place, |(before, _)| before);
    format!("{place}: {rest}")
}

/// While the gate runs, its ports and its state directory are in use, and that is not a mistake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_gate_is_no_mistake() {
    let registry = TestRegistry::start().await;
    let made = crate::harness::TestGate::new(&registry, ALLOW_ALL);
    let gate = Program::start(&made).await;
    let address = gate.admin_url("").trim_start_matches("http://").to_owned();
    let config = made.path().join("pullgate.toml");
    let written = fs::read_to_string(&config).unwrap();
    let written =
        written.replacen("[admin]\naddress = \"127.0.0.1:0\"", &format!("[admin]\naddress = \"{address}\""), 1);
    fs::write(&config, written).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
    command.args(["config", "check", "--config"]).arg(&config);
    let output = soon(tokio::task::spawn_blocking(move || command.output().unwrap())).await.unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("note: state_dir: ") && said.contains("a gate is running on this state directory"), "{said}");
    assert!(said.contains(&format!("note: admin.address: {address} is in use")), "{said}");
}

/// Root can read everything, and the user of the service cannot.
#[test]
fn root_checks_for_the_owner_of_the_state_directory() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can give files to another user");
        return;
    }
    let made = Checked::new();
    made.certificate("server", 2020, 2090);
    made.write(
        "",
        "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = { certificate = \"server.crt\", key = \"server.key\" }\n",
    );
    let state = made.path().join("state");
    fs::create_dir(&state).unwrap();
    let reported = || -> Vec<String> { made.problems(&[], &[]).1.iter().map(line).collect() };
    assert!(!reported().iter().any(|line| line.contains("root can read it")), "{:#?}", reported());
    std::os::unix::fs::chown(&state, Some(65_534), Some(65_534)).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(made.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let lines = reported();
    let is_reported = |line: &String| line.contains("warning: listener[0].tls.key: ") && line.contains("user 65534");
    assert!(lines.iter().any(is_reported), "{lines:#?}");
    // A gate that root runs, on the volume of another user, has made its lock.
    fs::write(state.join("lock"), "").unwrap();
    assert!(!reported().iter().any(|line| line.contains("root can read it")), "{:#?}", reported());
}

/// As in an image without ca-certificates.
#[test]
fn a_machine_without_certificate_authorities_is_reported() {
    let made = Checked::new();
    let none = [("SSL_CERT_FILE", "/dev/null"), ("SSL_CERT_DIR", "/nonexistent")];
    made.write("", "");
    let (code, problems) = made.problems(&[], &none);
    let lines: Vec<String> = problems.iter().map(line).collect();
    let wanted = "error: upstream[0].url: no certificate authorities are installed";
    assert!(code == Some(78) && lines.len() == 1 && lines[0].contains(wanted), "{lines:#?}");
    let said = text(&made.run(&["serve"], &none));
    assert!(said.contains(wanted), "{said}");
    let made = Checked { upstream: "offline = true".to_owned(), ..made };
    made.write("", "");
    assert_eq!(made.problems(&[], &none), (Some(0), vec![]));
}

/// A start that logs nothing says so.
#[test]
fn a_log_filter_that_hides_its_own_warning_is_reported() {
    let made = Checked::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let listener = format!("[[listener]]\naddress = \"{address}\"\n");
    made.write("log = { filter = \"verbose\" }", &listener);
    let said = text(&made.run(&["serve"], &[]));
    let told = "warning: log.filter: this filter hides the errors and warnings of pullgate";
    assert!(said.matches(told).count() == 1 && said.contains("cannot listen on"), "{said}");
}

/// The gate of a state directory has its lock. Whoever listens on the admin socket may be another gate.
#[test]
fn an_admin_socket_of_another_process_is_a_mistake() {
    let made = Checked::new();
    let _other = std::os::unix::net::UnixListener::bind(made.path().join("shared.sock")).unwrap();
    let admin = "[admin]\naddress = \"127.0.0.1:0\"\nsocket = \"shared.sock\"\n";
    let told = format!("admin.socket: {}/shared.sock: another process listens on this socket", made.path().display());
    made.write("", admin);
    let (code, problems) = made.problems(&[], &[]);
    let lines: Vec<String> = problems.iter().map(line).collect();
    assert!(code == Some(78) && lines.len() == 1 && lines[0].contains(&format!("error: {told}")), "{lines:#?}");
    let output = made.run(&["serve"], &[]);
    let said = text(&output);
    assert!(output.status.code() == Some(1) && said.contains("another process listens on this socket"), "{said}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    made.write("", &format!("[[listener]]\naddress = \"{address}\"\n{admin}"));
    let (_, problems) = made.problems(&[], &[]);
    let lines: Vec<String> = problems.iter().map(line).collect();
    assert!(lines.len() == 2 && lines[0].contains("error: listener[0].address: cannot listen on"), "{lines:#?}");
    assert!(lines[1].contains(&told), "{lines:#?}");
}

/// `--online` asks every service, and says of each what it found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_are_asked_online() {
    let registry = TestRegistry::start().await;
    let down = TestRegistry::start().await;
    let (url, down_url) = (registry.listening.url(), down.listening.url());
    down.listening.stop().await;
    let made = Checked { upstream: format!("url = \"{url}\""), ..Checked::new() };
    let more = format!(
        "[[upstream]]\nhost = \"down.test\"\nurl = \"{down_url}\"\n\
         [[upstream]]\nhost = \"away.test\"\nurl = \"{down_url}\"\noffline = true\n\
         [[upstream]]\nhost = \"web.test\"\nurl = \"{url}/not-a-registry\"\n\
         [[upstream]]\nhost = \"tls.test\"\nurl = \"{}\"\n\
         [va.database]\nkev = \"{url}/absent.json\"\n\
         [events]\nurls = [\"{url}/hook\", \"{down_url}/hook\"]\nproxy = \"\"\n",
        url.replace("http://", "https://")
    );
    made.write("", &more);
    let check = move || (made.problems(&[], &[]), made.problems(&["--online"], &[]));
    let (offline, (code, problems)) = soon(tokio::task::spawn_blocking(check)).await.unwrap();
    assert_eq!(offline.0, Some(0), "{offline:?}");
    let lines: Vec<String> = problems.iter().map(line).collect();
    assert_eq!(code, Some(78), "{lines:#?}");
    let address = |url: &str| url.trim_start_matches("http://").to_owned();
    for wanted in [
        format!("note: upstream[0].url: registry.test answers at {url} (no TLS) and asks for no credentials"),
        format!("error: upstream[1].url: down.test at {down_url}: "),
        "error: upstream[3].url: ".to_owned(),
        "error: upstream[4].url: the registry at 127.0.0.1".to_owned(),
        format!("error: va.database.kev: {url}/absent.json: the server answers 404"),
        format!("note: events.urls: a connection to {} can be opened", address(&url)),
        format!("error: events.urls: a connection to {} cannot be opened", address(&down_url)),
    ] {
        assert!(lines.iter().any(|line| line.contains(&wanted)), "{wanted}\n{lines:#?}");
    }
    assert!(!lines.iter().any(|line| line.contains("upstream[2]")), "an offline upstream is not asked: {lines:#?}");
}

/// A start says what the gate is made of, in the same order each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_is_described() {
    let registry = TestRegistry::start().await;
    let made = crate::harness::TestGate::new(&registry, ALLOW_ALL)
        .with("[gate]\nmode = \"audit\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n[log]\nformat = \"json\"");
    let gate = Program::start(&made).await;
    soon(async {
        while !gate.log().contains("pullgate is ready") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let log = gate.log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let messages: Vec<&str> = lines.iter().filter_map(|line| line["message"].as_str()).collect();
    let begins = [
        "pullgate starts",
        "gate.mode is audit: NOTHING IS DENIED; what would be denied is recorded",
        "policies",
        "upstreams",
        "vulnerability sources",
        "cache",
        "listening",
        "listening",
        "admin listening",
        "pullgate is ready",
    ];
    let from = messages.iter().position(|message| *message == begins[0]).expect("the first line");
    assert_eq!(messages[from..from + begins.len()], begins, "{log}");
    let of = |message: &str| lines.iter().find(|line| line["message"] == message).unwrap().clone();
    let first = of("pullgate starts");
    assert_eq!((&first["version"], &first["mode"]), (&env!("CARGO_PKG_VERSION").into(), &"audit".into()));
    assert_eq!(first["config"], made.path().join("pullgate.toml").display().to_string());
    assert_eq!(first["state_dir"], made.path().join("state").display().to_string());
    assert_eq!((&of("policies")["documents"], &of("policies")["entries"]), (&1.into(), &1.into()));
    assert_eq!(of("upstreams")["hosts"], "registry.test");
    assert_eq!(of("vulnerability sources")["reports"], made.path().join("reports").display().to_string());
    assert_eq!(of("cache")["max_size"], "200GiB");
}
