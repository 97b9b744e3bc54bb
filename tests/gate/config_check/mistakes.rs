//! Each mistake gives one problem.

use super::*;

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
            "upstream[0].auth.program: docker-credential-not-installed: no such executable program",
        ),
        ("", "path = \"a/b\"", String::new(), "upstream[0].path: \"a/b\" cannot be a component"),
        ("", "[[upstream]]\nhost = \"reg.test:5000\"", String::new(), "warning: upstream[1].host: a path cannot contain a port"),
        // Policies and evidence.
        ("", "", "[policy]\ndir = \"absent\"".to_owned(), "policy.dir: FOLDER/absent: "),
        ("", "", "[policy]\ndir = \"empty-folder\"".to_owned(), "warning: policy.dir: FOLDER/empty-folder contains no policies"),
        ("gate = { mode = \"audit\" }", "", "[policy]\ndir = \"empty-folder\"".to_owned(), "contains no policies: after the next start, every image is admitted without being judged"),
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
        ("limits = { max_header_size = \"100\" }", "", String::new(), "limits.max_header_size: 100 without a unit is 100 bytes; write \"100KiB\""),
        (
            "",
            "serve_to = \"everyone\"\nauth = { type = \"basic\", username = \"u\", password_file = \"token\", password_env = \"P\" }",
            String::new(),
            "upstream[0].auth.password_env: password_file names the secret, too",
        ),
        ("", "", "[[upstream]]\nhost = \"https://reg.test\"".to_owned(), "upstream[1].host: \"https://reg.test\": not a registry host: a name with a port"),
        ("", "", tls("certificate = \"good.der\", key = \"good.key\""), "tls.certificate: FOLDER/good.der: no certificate in PEM: it is DER; `openssl x509"),
        ("", "", tls("certificate = \"good.crt\", key = \"good.key\", client_ca = \"good.crt\""), "warning: listener[0].tls.client_ca: FOLDER/good.crt: no certificate in it is that of a CA"),
        ("", "", "[admin]\naddress = \"127.0.0.1:0\"\ntoken_file = \"marked\"".to_owned(), "admin.token_file: admin: token_file FOLDER/marked: it begins with a byte order mark"),
        ("", "", "[va]\nreports = [\"reports\"]".to_owned(), "warning: va.reports: FOLDER/reports/broken.json: "),
        (
            "",
            "",
            "[va.database]\nosv = [\"https://a.test/PyPI/all.zip\"]".to_owned(),
            "warning: va.database: there is no advisory database of https://a.test/PyPI/all.zip",
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
        ("", "", "[audit]\nfile = \"../dangling.jsonl\"".to_owned(), "dangling.jsonl is a link into a directory that does not exist"),
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
        ("", "", "[audit]\nfile = \"/proc/self/fd/2\"".to_owned(), "audit.file: /proc/self/fd/2 is a file that a process has open"),
        ("", "", "[audit]\nfile = \"log/\"".to_owned(), "audit.file: FOLDER/state/log/ is a directory"),
        ("", "", "[audit]\nfile = \"log/.\"".to_owned(), "audit.file: FOLDER/state/log/. is a directory"),
        ("", "", "[admin]\naddress = \"127.0.0.1:0\"\nsocket = \"a.sock/\"".to_owned(), "admin.socket: FOLDER/a.sock/ is a directory"),
        ("", "", "[[listener]]\naddress = \"[fe80::1%lo]:0\"".to_owned(), "listener[0].address: \"lo\" is not the number of a network interface"),
        ("", "", "[[listener]]\naddress = \"no-such-host.invalid:0\"".to_owned(), "listener[0].address: no-such-host.invalid:0: "),
        ("", "", "[[listener]]\naddress = \"192.0.2.1:0\"".to_owned(), "listener[0].address: cannot listen on 192.0.2.1:0: "),
        // Names that match nothing.
        ("gate = { url_hosts = [\"mcr.microsoft.com\", \"a.test:8443\", \"https://mcr.microsoft.com/\"] }", "", String::new(), "warning: gate.url_hosts: \"https://mcr.microsoft.com/\" is not the name of a host"),
        ("gate = { platforms = [\"linux/x86_64\", \"linux/x64\"] }", "", String::new(), "warning: gate.platforms: no image is for linux/x64"),
        ("", "", "[prefetch]\nplatforms = [\"lunix/amd64\"]".to_owned(), "warning: prefetch.platforms: no image is for lunix/amd64"),
        ("", "", "[[listener]]\naddress = \"127.0.0.1:0\"\nproxy_header = \"proxy-protocol\"".to_owned(), "warning: listener[0].proxy_header: no proxy is trusted, so every connection"),
        ("", "", "[[listener]]\naddress = \"127.0.0.1:0\"\nproxy_header = \"forwarded\"".to_owned(), "warning: listener[0].proxy_header: no proxy is trusted, so this header"),
        ("", "", "[[upstream]]\nhost = \"registry-1.docker.io\"".to_owned(), "warning: upstream[1].host: registry-1.docker.io serves Docker Hub"),
        ("", "", "[[upstream]]\nhost = \"index.docker.io\"".to_owned(), "warning: upstream[1].host: index.docker.io serves Docker Hub"),
        ("", "tag_ttl = \"5m\"\nstale_for = \"60s\"", String::new(), "warning: upstream[0].stale_for: not longer than tag_ttl"),
        ("state_dir = \"~/state\"", "", String::new(), "warning: state_dir: ~ is not replaced by the home directory"),
        ("", "", "[audit]\nfile = \"~/audit.jsonl\"".to_owned(), "warning: audit.file: ~ is not replaced by the home directory"),
        // One mistake is not reported again where its name is used.
        ("", "", "[trust]\ndefault_authorities = [\"x\"]".to_owned(), "trust.default_authorities: no authority is called \"x\""),
        (
            "",
            "",
            "[trust]\ndefault_authorities = [\"x\"]\n[trust.authority.x.cosign.key]\nfile = \"absent.pub\"".to_owned(),
            "trust.authority.x.cosign.key: file \"absent.pub\": ",
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
        ("", "url = \"https://docker.io\"", String::new(), "warning: upstream[0].url: docker.io is the website of Docker Hub"),
        ("", "url = \"https://registry.test/v2/\"", String::new(), "warning: upstream[0].url: the gate itself adds /v2/"),
        ("", "url = \"http://registry.test\"", String::new(), "warning: upstream[0].url: no TLS"),
        ("", "serve_to = [\"ci\"]", String::new(), "warning: upstream[0].serve_to: no listener has one of these scopes"),
        (
            "",
            "",
            "[[listener]]\naddress = \"127.0.0.1:0\"\ntrusted_proxies = [\"0.0.0.0/0\"]".to_owned(),
            "warning: listener[0].trusted_proxies: every client can claim any address",
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
pub(super) fn prepared(upstream: &str) -> Checked {
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
    let nameless = nameless.self_signed(&key).unwrap();
    made.file("nameless.crt", &nameless.pem());
    fs::write(made.path().join("good.der"), nameless.der()).unwrap();
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
    for (place, link) in [("nowhere", "dangling"), ("none/audit.jsonl", "dangling.jsonl")] {
        std::os::unix::fs::symlink(made.path().join(place), made.path().join(link)).unwrap();
    }
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
