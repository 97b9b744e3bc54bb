mod bounds;
mod images;
mod servers;

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
fn secret_lookalikes_are_ignored() {
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

/// Nothing but the name of the setting tells such a key from other texts.
#[test]
fn secret_keys_of_aws_are_found_by_their_name() {
    let key = letters(40);
    for text in [
        format!("#!/bin/sh\nexport AWS_SECRET_ACCESS_KEY={key}\n"),
        format!("AWS_SECRET_ACCESS_KEY: \"{key}\""),
        format!("{{\"aws_secret_access_key\": \"{key}\"}}"),
        format!("aws_secret_access_key = '{key}'"),
    ] {
        assert_eq!(checks("app/run.sh", &text), [Check::SecretAws], "{text}");
    }
    for text in [
        format!("AWS_SECRET_ACCESS_KEY={}", letters(39)),
        format!("AWS_SECRET_ACCESS_KEY={}", letters(41)),
        format!("AWS_SECRET_ACCESS_KEY_FILE={key}"),
        format!("AWS_SECRET_ACCESS_KEY{key}"),
        "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
        "AWS_SECRET_ACCESS_KEY=$KEY".to_owned(),
    ] {
        assert_eq!(checks("app/run.sh", &text), [], "{text}");
    }
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
        ("root/.kube/config", "    client-key-data: DATA+OMITTED\n    token: REDACTED", None),
        ("root/.kube/config", "        id-token: abcdef", Some(Check::SecretKubeconfig)),
        ("root/.kube/config", "        refresh-token: abcdef", Some(Check::SecretKubeconfig)),
        ("root/.kube/config", "clusters:\n- cluster:\n    server: https://x\nusers: []", None),
        (
            "root/.kube/config",
            "{\"kind\":\"Config\",\"users\":[{\"name\":\"a\",\"user\":{\"token\":\"abcdef\"}}]}",
            Some(Check::SecretKubeconfig),
        ),
        ("root/.kube/config", "users: [{name: a, user: {password: 'abcdef'}}]", Some(Check::SecretKubeconfig)),
        ("root/.kube/config", "users:\n- user: {token: \"abcdef\"}", Some(Check::SecretKubeconfig)),
        ("root/.kube/config", "{\"users\":[{\"user\":{\"token\":\"\",\"tokenFile\":\"/run/token\"}}]}", None),
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
