use super::HardeningCheck as Check;
use super::*;

/// A letter sequence that looks random, without being a secret of anybody.
fn letters(length: usize) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    (0..length).map(|index| char::from(ALPHABET[(index * 31 + index / 7) % ALPHABET.len()])).collect()
}

fn upper(length: usize) -> String {
    letters(length).to_ascii_uppercase()
}

fn pem(label: &str) -> String {
    format!("-----BEGIN {label}-----\n{}\n{}\n-----END {label}-----\n", letters(64), letters(40))
}

/// What is unsafe in a file with this path and content: the checks, with the lines.
fn found(path: &str, content: &str) -> Vec<(HardeningCheck, Option<u32>)> {
    let Some(file) = CheckedFile::at(path) else { return Vec::new() };
    if !file.is_read(content.len() as u64, content.as_bytes()) {
        return Vec::new();
    }
    let unsafe_line = |observed: FileObservation| match observed {
        FileObservation::Unsafe { check, line, .. } => Some((check, line)),
        _ => None,
    };
    file.examine(path, content.as_bytes()).into_iter().filter_map(unsafe_line).collect()
}

fn checks(path: &str, content: &str) -> Vec<HardeningCheck> {
    let mut checks: Vec<_> = found(path, content).into_iter().map(|(check, _)| check).collect();
    checks.dedup();
    checks
}

#[test]
fn tokens_are_found_wherever_they_are() {
    for (check, secret) in [
        (Check::SecretAws, format!("AKIA{}", upper(16))),
        (Check::SecretAws, format!("ASIA{}", upper(16))),
        (Check::SecretAzureStorage, format!("AccountKey={}==", letters(86))),
        (Check::SecretDockerConfig, format!("dckr_pat_{}", letters(27))),
        (Check::SecretGithub, format!("ghp_{}", letters(36))),
        (Check::SecretGithub, format!("ghs_{}", letters(36))),
        (Check::SecretGithub, format!("github_pat_{}_{}", letters(22), letters(59))),
        (Check::SecretGitlab, format!("glpat-{}", letters(20))),
        (Check::SecretNpm, format!("npm_{}", letters(36))),
        (Check::SecretPypi, format!("pypi-AgEIcHlwaS5vcmc{}", letters(100))),
        (Check::SecretSlack, format!("xoxb-{}-{}", 123_456_789, letters(24))),
        (Check::SecretSlack, format!("https://hooks.slack.com/services/T{}/B{}/{}", upper(8), upper(8), letters(24))),
        (Check::SecretStripe, format!("sk_live_{}", letters(24))),
        (Check::SecretVault, format!("hvs.{}", letters(95))),
        (Check::SecretPrivateKey, pem("RSA PRIVATE KEY")),
        (Check::SecretPrivateKey, pem("PRIVATE KEY")),
        (Check::SecretPrivateKey, pem("PGP PRIVATE KEY BLOCK")),
        (Check::SecretPrivateKey, pem("ENCRYPTED PRIVATE KEY")),
        (Check::SshPrivateKey, pem("OPENSSH PRIVATE KEY")),
        (Check::SshPrivateKey, format!("{}{}", pem("OPENSSH PRIVATE KEY"), letters(10))),
    ] {
        for (path, text, line) in [
            ("app/settings.yaml", format!("a: 1\nb: {secret}\n"), 2),
            ("root/notes.txt", secret.clone(), 1),
            ("opt/app/run.py", format!("\n\ntoken = \"{secret}\"\n"), 3),
            ("srv/x", format!("https://{secret}@example.com/"), 1),
        ] {
            assert_eq!(found(path, &text), [(check, Some(line))], "{path} {text}");
        }
        let all = found("app/a", &format!("{secret}\n{secret}\n"));
        assert!(all.len() == 2 && all.iter().all(|(one, _)| *one == check), "{secret}");
        for path in [
            "usr/lib/python3/dist-packages/x/a.py",
            "usr/share/doc/x/README",
            "app/node_modules/x/index.js",
            "app/tests/data",
            "app/README.md",
            "go/pkg/mod/example.com/x/a.go",
        ] {
            assert_eq!(found(path, &secret), [], "{path}");
        }
        assert_eq!(found("app/program", &format!("\0{secret}")), [], "a binary file");
    }
}

#[test]
fn what_only_looks_like_a_secret_is_none() {
    for text in [
        "AKIAIOSFODNN7EXAMPLE".to_owned(),
        format!("AKIA{}", upper(15)),
        format!("AKIA{}", upper(17)),
        format!("X{}AKIA{}", upper(4), upper(16)),
        format!("ghp_{}", "x".repeat(36)),
        "ghp_short".to_owned(),
        format!("npm_{}", letters(37)),
        "npm_config_registry=https://registry.npmjs.org".to_owned(),
        format!("sk_test_{}", letters(24)),
        "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX".to_owned(),
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----".to_owned(),
        "if line == '-----BEGIN RSA PRIVATE KEY-----': read()".to_owned(),
        "-----BEGIN RSA PRIVATE KEY-----".to_owned(),
        format!("-----BEGIN PRIVATE KEY-----\n{}", letters(64)),
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----", "A".repeat(64)),
        pem("CERTIFICATE"),
        pem("PUBLIC KEY"),
        pem("PGP PUBLIC KEY BLOCK"),
        pem("DH PARAMETERS"),
    ] {
        assert_eq!(found("app/file", &text), [], "{text}");
    }
}

#[test]
fn keys_in_strings_of_programs_are_found() {
    let escaped = pem("PRIVATE KEY").replace('\n', "\\n");
    let account = format!(r#"{{"type": "service_account", "private_key_id": "1", "private_key": "{escaped}"}}"#);
    assert_eq!(checks("app/key.json", &account), [Check::SecretGcp]);
    assert_eq!(checks("app/main.js", &format!("const key = \"{escaped}\";")), [Check::SecretPrivateKey]);
    let joined = pem("EC PRIVATE KEY").replace('\n', "\\n\" +\n  \"");
    assert_eq!(checks("app/Main.java", &format!("String key = \"{joined}\";")), [Check::SecretPrivateKey]);
    let headers = pem("RSA PRIVATE KEY").replacen('\n', "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n", 1);
    assert_eq!(checks("app/key", &headers), [Check::SecretPrivateKey]);
}

#[test]
fn a_secret_is_never_kept() {
    let token = format!("ghp_{}", letters(36));
    let files = [
        ("app/a", format!("{token}\n{}", pem("PRIVATE KEY"))),
        ("root/.netrc", format!("machine example.com login me password {token}")),
        ("root/.pgpass", format!("db:5432:*:app:{token}")),
        ("root/.git-credentials", format!("https://me:{token}@github.com")),
        ("app/.env", format!("DB_PASSWORD={token}")),
        ("root/.npmrc", format!("//registry.npmjs.org/:_authToken={token}")),
        ("root/.docker/config.json", format!(r#"{{"auths": {{"icr.io": {{"auth": "{token}"}}}}}}"#)),
        ("root/.my.cnf", format!("[client]\npassword={token}")),
        ("root/.kube/config", format!("users:\n- user:\n    token: {token}")),
    ];
    for (path, text) in files {
        let observed = CheckedFile::at(path).unwrap().examine(path, text.as_bytes());
        assert!(!observed.is_empty(), "{path}");
        let kept = serde_json::to_string(&observed).unwrap();
        assert!(!kept.contains(&letters(36)[..12]), "{path}: {kept}");
        assert!(observed.iter().all(FileObservation::is_secret), "{path}: {kept}");
    }
    let settings =
        ImageSettings { env: vec![format!("TOKEN={token}"), format!("A={token}")], ..ImageSettings::default() };
    let kept = serde_json::to_string(&image_findings(&settings, &Superusers::new())).unwrap();
    assert!(kept.contains("Env TOKEN") && !kept.contains(&letters(36)[..12]), "{kept}");
}

fn assert_first_check(cases: &[(&str, &str, Option<Check>)]) {
    for (path, text, check) in cases {
        assert_eq!(checks(path, text).first(), check.as_ref(), "{path}: {text}");
    }
}

#[test]
fn files_with_credentials_of_services() {
    assert_first_check(&[
        (
            "root/.aws/credentials",
            "[default]\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYzz",
            Some(Check::SecretAws),
        ),
        ("root/.aws/config", "[default]\nregion = eu-de", None),
        (
            "root/.docker/config.json",
            r#"{"auths": {"icr.io": {"auth": "aWFtYXBpa2V5OmFiYw=="}}}"#,
            Some(Check::SecretDockerConfig),
        ),
        ("root/.docker/config.json", r#"{"auths": {"icr.io": {}}, "credsStore": "pass"}"#, None),
        (
            "root/.docker/config.json",
            r#"{"auths": {"icr.io": {"identitytoken": "abc"}}}"#,
            Some(Check::SecretDockerConfig),
        ),
        (
            "root/.dockercfg",
            r#"{"https://index.docker.io/v1/": {"auth": "YTpi", "email": "x"}}"#,
            Some(Check::SecretDockerConfig),
        ),
        ("root/.dockercfg", "{}", None),
        ("root/.dockercfg", "no JSON", None),
        ("app/.env", "DB_PASSWORD=hunter2", Some(Check::SecretEnvFile)),
        ("app/.env.production", "export API_KEY='abc123'", Some(Check::SecretEnvFile)),
        ("app/prod.env", "DATABASE_URL=postgres://app:hunter2@db/app", Some(Check::SecretEnvFile)),
        ("app/.env", "DB_PASSWORD=\nDB_PASSWORD_FILE=/run/secrets/db\nTOKEN=${TOKEN}\nSECRET=changeme\nPORT=80", None),
        ("app/.env", "# DB_PASSWORD=hunter2", None),
        ("app/.env.example", "DB_PASSWORD=hunter2", None),
        ("app/examples/.env", "DB_PASSWORD=hunter2", None),
        (
            "root/.config/gcloud/application_default_credentials.json",
            r#"{"refresh_token": "1//abc"}"#,
            Some(Check::SecretGcp),
        ),
        ("root/.git-credentials", "https://me:hunter2@github.com", Some(Check::SecretGitCredentials)),
        ("root/.git-credentials", "https://github.com", None),
        ("root/.kube/config", "users:\n- name: x\n  user:\n    token: abcdef", Some(Check::SecretKubeconfig)),
        ("etc/kubernetes/admin.conf", "    client-key-data: LS0tLS1CRUdJTg==", Some(Check::SecretKubeconfig)),
        ("root/.kube/config", "clusters:\n- cluster:\n    server: https://x\nusers: []", None),
    ]);
}

#[test]
fn files_with_credentials_of_users() {
    assert_first_check(&[
        ("root/.netrc", "machine github.com\nlogin me\npassword hunter2", Some(Check::SecretNetrc)),
        ("root/.netrc", "machine github.com login password", None),
        ("root/.npmrc", "//registry.npmjs.org/:_authToken=abc-def", Some(Check::SecretNpm)),
        ("root/.npmrc", "//registry.npmjs.org/:_authToken=${NPM_TOKEN}\nregistry=https://x", None),
        ("app/.yarnrc.yml", "npmAuthToken: \"abc-def\"", Some(Check::SecretNpm)),
        ("root/.pgpass", "db:5432:*:app:hunter2", Some(Check::SecretPgpass)),
        ("root/.pgpass", "# db:5432:*:app:hunter2\ndb:5432:*:app:", None),
        ("root/.pypirc", "[pypi]\nusername = me\npassword = hunter2", Some(Check::SecretPypi)),
        ("root/.pypirc", "[pypi]\nusername = me", None),
        (
            "root/.ssh/id_rsa",
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
            Some(Check::SshPrivateKey),
        ),
        ("root/.ssh/id_rsa.pub", "ssh-rsa AAAAB3NzaC1yc2E me", None),
        (
            "etc/ssh/ssh_host_rsa_key",
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNz\n-----END",
            Some(Check::SshHostKey),
        ),
        ("etc/ssh/ssh_host_rsa_key.pub", "ssh-rsa AAAAB3NzaC1yc2E root", None),
        ("root/.ssh/authorized_keys", "# comment\nssh-ed25519 AAAAC3Nz me@host", Some(Check::SshAuthorizedKeys)),
        ("root/.ssh/authorized_keys", "from=\"10.0.0.1\" ecdsa-sha2-nistp256 AAAA", Some(Check::SshAuthorizedKeys)),
        ("root/.ssh/authorized_keys", "# none\n\n", None),
    ]);
}

#[test]
fn accounts() {
    let observed = |path: &str, text: &str| CheckedFile::at(path).unwrap().examine(path, text.as_bytes());
    let passwd =
        "root:x:0:0:root:/root:/bin/bash\ntoor:x:0:0::/:/bin/sh\nguest::1000:1000::/:/bin/sh\napp:x:1001:0::/:\n";
    assert_eq!(
        observed("etc/passwd", passwd),
        [
            FileObservation::Superuser("root".into()),
            FileObservation::Superuser("toor".into()),
            FileObservation::unsafe_line(Check::AccountsEmptyPassword, 3, "the account guest has no password"),
        ]
    );
    assert_eq!(checks("etc/shadow", "root:::0:::::\nbin:*:18000:0:::::\n"), [Check::AccountsEmptyPassword]);
    assert_eq!(checks("etc/shadow", "root:*:18000:0:::::\napp:!:1::::::\nx:$6$abc:1::::::\n"), []);
    let many = "root:x:0:0::/:\n".repeat(100) + &"a::1:1::/:\n".repeat(100);
    assert!(observed("etc/passwd", &many).len() <= MAX_OBSERVATIONS);
    assert_eq!(checks("etc/passwd", "no account\n:::\n"), []);
}

#[test]
fn ssh_servers() {
    let path = "etc/ssh/sshd_config";
    for (text, expected) in [
        ("PermitRootLogin yes", vec![Check::SshPermitRootLogin]),
        ("permitrootlogin=yes", vec![Check::SshPermitRootLogin]),
        ("#PermitRootLogin yes", vec![]),
        ("PermitRootLogin prohibit-password", vec![]),
        ("PermitRootLogin no\nPermitRootLogin yes", vec![]),
        ("PermitRootLogin no\nMatch User a\n  PermitRootLogin yes", vec![Check::SshPermitRootLogin]),
        ("PermitEmptyPasswords yes", vec![Check::SshPermitEmptyPasswords]),
        ("PermitEmptyPasswords no", vec![]),
    ] {
        assert_eq!(checks(path, text), expected, "{text}");
        assert_eq!(checks("etc/ssh/sshd_config.d/10.conf", text), expected, "{text}");
    }
}

#[test]
fn mysql_settings() {
    let server = |lines: &str| format!("[mysqld]\n{lines}\n");
    for (text, expected) in [
        (server("old_passwords = 1"), vec![Check::MysqlOldPasswords]),
        (server("old-passwords=0"), vec![]),
        (server("local-infile"), vec![Check::MysqlLocalInfile]),
        (server("local_infile=OFF"), vec![]),
        (server("loose-local-infile = 1"), vec![Check::MysqlLocalInfile]),
        (server("allow-suspicious-udfs"), vec![Check::MysqlAllowSuspiciousUdfs]),
        (server("allow-suspicious-udfs = false"), vec![]),
        (server("skip_grant_tables"), vec![Check::MysqlSkipGrantTables]),
        (server("secure_file_priv = \"\""), vec![Check::MysqlSecureFilePriv]),
        (server("secure_file_priv = /var/lib/mysql-files"), vec![]),
        (server("user = root"), vec![Check::MysqlUser]),
        (server("user = mysql"), vec![]),
        ("[client]\npassword = hunter2".to_owned(), vec![Check::MysqlPassword]),
        ("[client]\n#password = hunter2\npassword=".to_owned(), vec![]),
        ("[mysql]\nlocal-infile = 1".to_owned(), vec![]),
        ("[mariadb-10.11]\nlocal-infile = 1".to_owned(), vec![Check::MysqlLocalInfile]),
    ] {
        for path in ["etc/my.cnf", "etc/mysql/mysql.conf.d/mysqld.cnf", "etc/my.cnf.d/server.cnf"] {
            assert_eq!(checks(path, &text), expected, "{path}: {text}");
        }
    }
    assert_eq!(checks("usr/share/mysql/my-large.cnf", &server("local-infile")), []);
}

#[test]
fn nginx_settings() {
    let tls = "server {\n listen 443 ssl;\n ";
    for (text, expected) in [
        ("ssl_protocols TLSv1 TLSv1.2;".to_owned(), vec![(Check::NginxSslProtocols, Some(1))]),
        ("http {\n ssl_protocols\n  TLSv1.2\n  TLSv1.1;\n}".to_owned(), vec![(Check::NginxSslProtocols, Some(4))]),
        ("ssl_protocols TLSv1.2 TLSv1.3;".to_owned(), vec![]),
        ("# ssl_protocols SSLv3;".to_owned(), vec![]),
        ("server_tokens on;".to_owned(), vec![(Check::NginxServerTokens, Some(1))]),
        ("server_tokens off;".to_owned(), vec![]),
        ("location / { autoindex on; }".to_owned(), vec![(Check::NginxAutoindex, Some(1))]),
        ("autoindex off;".to_owned(), vec![]),
        ("ssl_ciphers 'HIGH:RC4-SHA:!MD5';".to_owned(), vec![(Check::NginxSslCiphers, Some(1))]),
        ("ssl_ciphers HIGH:!aNULL:!MD5:!RC4;".to_owned(), vec![]),
        ("user root;".to_owned(), vec![(Check::NginxUser, Some(1))]),
        ("user nginx;".to_owned(), vec![]),
        (format!("{tls}ssl_protocols TLSv1.1;"), vec![(Check::NginxSslProtocols, Some(3))]),
        (
            "log_format x '\"$a\" ; ssl_protocols SSLv3;'; autoindex on;".to_owned(),
            vec![(Check::NginxAutoindex, Some(1))],
        ),
        ("return 200 \"a { autoindex on; }\";".to_owned(), vec![]),
    ] {
        for path in ["etc/nginx/nginx.conf", "etc/nginx/conf.d/default.conf", "etc/nginx/sites-enabled/default"] {
            assert_eq!(found(path, &text), expected, "{path}: {text}");
        }
    }
}

#[test]
fn apache_settings() {
    for (text, expected) in [
        ("ServerTokens OS", vec![Check::ApacheServerTokens]),
        ("servertokens Prod", vec![]),
        ("ServerSignature On", vec![Check::ApacheServerSignature]),
        ("ServerSignature Off", vec![]),
        ("TraceEnable On", vec![Check::ApacheTraceEnable]),
        ("TraceEnable off", vec![]),
        ("SSLProtocol all -SSLv3", vec![Check::ApacheSslProtocol]),
        ("SSLProtocol all -SSLv3 -TLSv1 -TLSv1.1", vec![]),
        ("SSLProtocol -all +TLSv1.2", vec![]),
        ("SSLProtocol TLSv1.2 +TLSv1.1", vec![Check::ApacheSslProtocol]),
        ("SSLCipherSuite HIGH:3DES", vec![Check::ApacheSslCipherSuite]),
        ("SSLCipherSuite HIGH:!aNULL", vec![]),
        ("  Options Indexes FollowSymLinks", vec![Check::ApacheOptionsIndexes]),
        ("Options \\\n  +Indexes", vec![Check::ApacheOptionsIndexes]),
        ("Options -Indexes", vec![]),
        ("User root", vec![Check::ApacheUser]),
        ("User www-data", vec![]),
        ("# ServerTokens OS", vec![]),
    ] {
        for path in ["etc/apache2/apache2.conf", "etc/httpd/conf.d/x.conf", "usr/local/apache2/conf/httpd.conf"] {
            assert_eq!(checks(path, text), expected, "{path}: {text}");
        }
        assert_eq!(checks("usr/local/apache2/conf/extra/httpd-autoindex.conf", text), []);
    }
}

#[test]
fn permissions() {
    let checks = |path: &str, mode: u32| -> Vec<HardeningCheck> {
        let check = |observed| match observed {
            FileObservation::Unsafe { check, .. } => check,
            other => panic!("{other:?}"),
        };
        check_mode(path, mode).into_iter().map(check).collect()
    };
    for (path, mode, expected) in [
        ("usr/bin/app", 0o755, vec![]),
        ("usr/bin/app", 0o4755, vec![Check::FilesSetuid]),
        ("usr/bin/app", 0o2755, vec![Check::FilesSetuid]),
        ("app/tool", 0o6711, vec![Check::FilesSetuid]),
        ("usr/bin/app", 0o4644, vec![]),
        ("usr/bin/app", 0o2745, vec![]),
        ("usr/bin/app", 0o777, vec![Check::FilesWorldWritable]),
        ("usr/lib/libx.so.1", 0o666, vec![Check::FilesWorldWritable]),
        ("etc/app.conf", 0o666, vec![Check::FilesWorldWritable]),
        ("usr/share/x", 0o666, vec![]),
        ("tmp/x", 0o777, vec![]),
        ("bin/x", 0o4777, vec![Check::FilesSetuid, Check::FilesWorldWritable]),
    ] {
        assert_eq!(checks(path, mode), expected, "{path} {mode:o}");
    }
}

fn image(settings: &ImageSettings) -> Vec<(HardeningCheck, String)> {
    let superusers = Superusers::from(["root".to_owned(), "toor".to_owned(), "1000".to_owned()]);
    image_findings(settings, &superusers).into_iter().map(|finding| (finding.check, finding.detail)).collect()
}

#[test]
fn users_of_images() {
    for (user, os, is_root) in [
        ("", "linux", true),
        ("root", "linux", true),
        ("0", "linux", true),
        ("00", "linux", true),
        ("+0", "linux", true),
        ("-0", "linux", true),
        ("0:0", "linux", true),
        ("root:app", "linux", true),
        (":1000", "linux", true),
        ("toor", "linux", true),
        ("1000", "linux", true),
        ("1001", "linux", false),
        ("1001:0", "linux", false),
        ("app", "", false),
        ("nobody:nogroup", "linux", false),
        ("", "windows", true),
        ("ContainerUser", "windows", false),
    ] {
        let found = image(&ImageSettings { user: user.into(), os: os.into(), ..ImageSettings::default() });
        let checks: Vec<_> = found.iter().map(|(check, _)| *check).collect();
        assert_eq!(checks == [Check::ImageUser], is_root, "{user} {os}: {found:?}");
    }
}

fn user() -> ImageSettings {
    ImageSettings { user: "1001".into(), ..ImageSettings::default() }
}

#[test]
fn environments_and_commands_of_images() {
    let token = format!("ghp_{}", letters(36));
    for (assignment, expected) in [
        ("DB_PASSWORD=hunter2", Some("Env DB_PASSWORD")),
        ("AWS_SECRET_ACCESS_KEY=abc", Some("Env AWS_SECRET_ACCESS_KEY")),
        ("apiToken=abc", Some("Env apiToken")),
        ("DATABASE_URL=postgres://a:b1@db/x", Some("Env DATABASE_URL")),
        ("DB_PASSWORD=", None),
        ("DB_PASSWORD_FILE=/run/secrets/x", None),
        ("ALLOW_EMPTY_PASSWORD=no", None),
        ("GPG_KEY=7169605F62C751356D054A26A821E680E5FA6305", None),
        ("PATH=/usr/bin", None),
        ("GOOGLE_APPLICATION_CREDENTIALS=/key.json", None),
        ("HTTP_PROXY=http://proxy:3128", None),
        ("nothing", None),
    ] {
        let found = image(&ImageSettings { env: vec![assignment.into()], ..user() });
        let expected: Vec<_> = expected.map(|detail| (Check::ImageEnvSecret, detail.to_owned())).into_iter().collect();
        assert_eq!(found, expected, "{assignment}");
    }
    let found = image(&ImageSettings { env: vec![format!("X={token}")], ..user() });
    assert!(
        matches!(&found[..], [(Check::ImageEnvSecret, detail)] if detail.starts_with("Env X: GitHub token")),
        "{found:?}"
    );
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for (command, checks) in [
        ("/usr/sbin/sshd -D", vec![Check::ImageSshServer]),
        ("mysqld --skip-grant-tables", vec![Check::MysqlSkipGrantTables]),
        ("mysqld --user=mysql", vec![]),
        ("app --db postgres://a:b1@db/x", vec![Check::ImageCommandSecret]),
        ("nginx -g daemon", vec![]),
    ] {
        let found = image(&ImageSettings { command: words(command), ..user() });
        assert_eq!(found.iter().map(|(check, _)| *check).collect::<Vec<_>>(), checks, "{command}");
    }
    let found = image(&ImageSettings { command: vec!["app".into(), token], ..user() });
    assert_eq!(found[0].0, Check::ImageCommandSecret);
    let ports = ["22/tcp", "80/tcp", "22/udp", "2375", "99999"].map(str::to_owned).to_vec();
    let found = image(&ImageSettings { exposed_ports: ports, ..user() });
    assert_eq!(found.iter().map(|(check, _)| *check).collect::<Vec<_>>(), [Check::ImageExposedPort; 2], "{found:?}");
}

#[test]
fn histories_of_images() {
    let token = format!("ghp_{}", letters(36));
    for (step, is_found) in [
        ("ARG NPM_TOKEN=abc".to_owned(), true),
        ("/bin/sh -c #(nop)  ENV DB_PASSWORD=hunter2".to_owned(), true),
        ("RUN |2 A=1 NPM_TOKEN=abc /bin/sh -c npm ci # buildkit".to_owned(), true),
        ("|1 NPM_TOKEN=abc /bin/sh -c npm ci".to_owned(), true),
        (format!("RUN /bin/sh -c git clone https://{token}@github.com/x/y"), true),
        ("ENV KEPT_PASSWORD=hunter2".to_owned(), false),
        ("RUN /bin/sh -c apt-get update".to_owned(), false),
        ("|99999999999 x".to_owned(), false),
        ("ARG NPM_TOKEN".to_owned(), false),
        ("COPY . . # buildkit".to_owned(), false),
    ] {
        let settings = ImageSettings {
            history: vec!["first".into(), step.clone()],
            env: vec!["KEPT_PASSWORD=hunter2".into()],
            ..user()
        };
        let found = image(&settings);
        let steps: Vec<_> = found.iter().filter(|(check, _)| *check == Check::ImageHistorySecret).collect();
        assert_eq!(steps.len(), usize::from(is_found), "{step}: {found:?}");
        assert!(steps.iter().all(|(_, detail)| detail.starts_with("step 2 of the history: ")), "{steps:?}");
    }
}

/// A file of an image, in its first layer.
fn observed<'a>(path: &'a str, observed: &'a [FileObservation]) -> ObservedFile<'a> {
    ObservedFile { path, layer: Digest::sha256(b"1"), observed, gone: None }
}

#[test]
fn required_settings_may_be_in_any_file() {
    let read = |path: &str, text: &str| CheckedFile::at(path).unwrap().examine(path, text.as_bytes());
    let of = |files: &[(&str, &str)]| -> Vec<HardeningCheck> {
        let read: Vec<_> = files.iter().map(|(path, text)| (*path, read(path, text))).collect();
        let files: Vec<_> = read.iter().map(|(path, facts)| observed(path, facts)).collect();
        file_findings(&files).0.into_iter().map(|finding| finding.check).collect()
    };
    let (mysql, nginx, apache) = ("etc/mysql/my.cnf", "etc/nginx/nginx.conf", "etc/apache2/apache2.conf");
    let optional = "log_error=/x\nskip-show-database\n";
    let all = [Check::MysqlSslCa, Check::MysqlSslCert, Check::MysqlSslKey];
    assert_eq!(of(&[(mysql, &format!("[mysqld]\n{optional}"))]), all);
    assert_eq!(of(&[(mysql, "[mysqld]\n")]).len(), 5);
    let tls = "[server]\nssl-ca=/a\nssl_cert=/b\nssl-key=/c\n";
    assert_eq!(of(&[(mysql, &format!("[mysqld]\n{optional}")), ("etc/mysql/conf.d/tls.cnf", tls)]), []);
    assert_eq!(of(&[(mysql, "[client]\nport=3306\n")]), [], "no server");
    assert_eq!(of(&[(nginx, "http { }")]), [Check::NginxServerTokens]);
    assert_eq!(of(&[(nginx, "http { include conf.d/*; }"), ("etc/nginx/conf.d/a.conf", "server_tokens off;")]), []);
    let tls = ("etc/nginx/conf.d/a.conf", "server_tokens off; listen 443 ssl;");
    assert_eq!(of(&[(nginx, "http { }"), tls]), [Check::NginxAddHeader]);
    let header = ("etc/nginx/conf.d/b.conf", "add_header Strict-Transport-Security max-age=1;");
    assert_eq!(of(&[(nginx, "http { }"), tls, header]), []);
    assert_eq!(of(&[(apache, "")]), [Check::ApacheServerTokens, Check::ApacheTraceEnable]);
    assert_eq!(of(&[(apache, "ServerTokens Prod\nTraceEnable Off")]), []);
    assert_eq!(of(&[(apache, "ServerTokens Full\nTraceEnable Off")]), [Check::ApacheServerTokens], "once");
}

#[test]
fn available_files_count_if_a_link_enables_them() {
    let path = "etc/apache2/conf-available/security.conf";
    let facts = CheckedFile::at(path).unwrap().examine(path, b"ServerSignature On\n");
    assert_eq!(file_findings(&[observed(path, &facts)]).0, []);
    let link = "etc/apache2/conf-enabled/security.conf";
    let enables: Vec<_> = enabled_file(link, path).into_iter().collect();
    let findings = file_findings(&[observed(path, &facts), observed(link, &enables)]).0;
    assert_eq!((findings.len(), findings[0].check), (1, Check::ApacheServerSignature));
    assert_eq!(enabled_file("etc/other/security.conf", path), None);
}

#[test]
fn of_files_that_are_gone_only_secrets_count() {
    let by = Digest::sha256(b"2");
    let key = [FileObservation::unsafe_line(Check::SshPrivateKey, 1, "key"), FileObservation::Superuser("x".into())];
    let mode = check_mode("app/tool", 0o4755);
    let gone = |file: ObservedFile<'static>| ObservedFile { gone: Some(by), ..file };
    let (key, mode): (&'static [_], &'static [_]) = (key.to_vec().leak(), mode.leak());
    let (findings, superusers) =
        file_findings(&[gone(observed("root/.ssh/id_rsa", key)), gone(observed("app/tool", mode))]);
    assert!(superusers.is_empty());
    let [finding] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!(finding.check, Check::SecretDeletedFile);
    assert_eq!(finding.detail, format!("key; deleted or replaced by the layer {}", by.short()));
    let both = [observed("root/.ssh/id_rsa", key), gone(observed("root/.ssh/id_rsa", key))];
    let findings = file_findings(&both).0;
    assert_eq!(findings.iter().map(|finding| finding.check).collect::<Vec<_>>(), [Check::SshPrivateKey], "still there");
}

#[test]
fn what_is_found_is_bounded() {
    let token = format!("ghp_{}\n", letters(36));
    assert_eq!(found("app/a", &token.repeat(20_000)).len(), MAX_OBSERVATIONS);
    let long = format!("[mysqld]\nuser=root{}\n", " ".repeat(10_000)).repeat(80);
    for (path, text) in [
        ("etc/my.cnf", long.as_str()),
        ("etc/nginx/nginx.conf", &"autoindex on;".repeat(50_000)),
        ("etc/apache2/apache2.conf", &"Options Indexes\n".repeat(50_000)),
        ("etc/passwd", &"root::0:0:\n".repeat(50_000)),
        ("etc/ssh/sshd_config", &"Match a\nPermitRootLogin yes\n".repeat(30_000)),
        ("root/.netrc", &"machine a login b password c1\n".repeat(30_000)),
        ("root/.ssh/authorized_keys", &"ssh-rsa AAAA a\n".repeat(50_000)),
        ("app/.env", &"DB_PASSWORD=hunter2\n".repeat(50_000)),
    ] {
        let observed = CheckedFile::at(path).unwrap().examine(path, text.as_bytes());
        assert!((1..=MAX_OBSERVATIONS).contains(&observed.len()), "{path}: {}", observed.len());
        assert!(observed.iter().all(|one| one.text_bytes() <= MAX_DETAIL), "{path}");
    }
    let large = CheckedFile::at("etc/my.cnf").unwrap();
    assert!(!large.is_read(MAX_FILE + 1, b""));
    assert!(matches!(large.unread(MAX_FILE + 1), Some(FileObservation::Unsafe { check: Check::FilesUnchecked, .. })));
    assert_eq!(CheckedFile::at("app/data").unwrap().unread(MAX_FILE + 1), None, "a large file without a telling name");
    let many: Vec<_> = (0..MAX_FINDINGS + 5).map(|at| (format!("app/{at}"), check_mode("app/x", 0o4755))).collect();
    let files: Vec<_> = many.iter().map(|(path, facts)| observed(path, facts)).collect();
    let findings = file_findings(&files).0;
    assert_eq!(findings.len(), MAX_FINDINGS + 1);
    assert_eq!(findings.last().unwrap().detail, "5 findings are left out");
}

/// Contents on which a careless search takes time that grows with the square of their length.
#[test]
fn hostile_files_take_no_longer_than_others() {
    for (path, part) in [
        ("app/a", "-----BEGIN PRIVATE KEY-----"),
        ("app/a", "-----BEGIN "),
        ("app/a.json", "-----BEGIN PRIVATE KEY-----A-----END "),
        ("app/a", "ghp_"),
        ("app/a", "AccountKey="),
        ("app/a", "pypi-AgEIcHlwaS5vcmc"),
        ("root/.netrc", "password "),
        ("etc/nginx/nginx.conf", "a \"\\"),
        ("etc/nginx/nginx.conf", "a "),
        ("etc/apache2/apache2.conf", "Options \\\n"),
        ("etc/my.cnf", "[["),
        ("app/.env", "A_"),
        ("root/.docker/config.json", "{\"a\":"),
        ("etc/passwd", ":"),
        ("root/.ssh/authorized_keys", "a "),
    ] {
        let text = part.repeat(usize::try_from(MAX_FILE).unwrap() / part.len());
        let began = std::time::Instant::now();
        let observed = CheckedFile::at(path).unwrap().examine(path, text.as_bytes());
        assert!(observed.len() <= MAX_OBSERVATIONS, "{path} {part}");
        // Without optimisation, a linear search takes a tenth of this.
        assert!(began.elapsed().as_secs() < 10, "{path} {part}: {:?}", began.elapsed());
    }
}

#[test]
fn files_are_recognised_by_path() {
    for path in [
        "etc/passwd",
        "app/x",
        "root/.ssh/id_rsa",
        "usr/src/app/server.js",
        "home/me/.kube/config",
        "etc/nginx/nginx.conf",
    ] {
        assert!(CheckedFile::at(path).is_some(), "{path}");
    }
    for path in
        ["usr/lib/x/y", "usr/share/doc/a", "lib/x", "app/node_modules/x/y.js", "usr/include/x.h", "app/README.md"]
    {
        assert!(CheckedFile::at(path).is_none(), "{path}");
    }
}
