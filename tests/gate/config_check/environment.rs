//! What the environment of the gate sets besides its configuration.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

use super::{Checked, line};

#[test]
fn authorities_of_the_environment_are_checked() {
    let made = Checked::new();
    made.certificate("good", 2020, 2090);
    made.file("junk", "junk");
    made.write("", "");
    for (name, file, wanted) in [
        ("SSL_CERT_FILE", "good.crt", ""),
        ("SSL_CERT_FILE", "absent", "absent: no certificate authorities can be read"),
        ("SSL_CERT_FILE", "junk", "junk: no certificate authorities can be read"),
        ("SSL_CERT_DIR", "policies", ""),
        ("SSL_CERT_DIR", "absent", "absent: this is not a directory"),
        ("SSL_CERT_DIR", "absent:/", ""),
        ("SSL_CERT_FILE", "/dev/null", ""),
    ] {
        let value = made.path().join(file).display().to_string();
        let (_, problems) = made.problems(&[], &[(name, &value)]);
        let lines: Vec<String> = problems.iter().map(line).collect();
        let start = format!("environment variable {name}:");
        let found: Vec<&String> = lines.iter().filter(|line| line.starts_with(&start)).collect();
        assert_eq!(found.len(), usize::from(!wanted.is_empty()), "{name} {file} {lines:#?}");
        assert!(found.iter().all(|line| line.contains("warning") && line.contains(wanted)), "{lines:#?}");
    }
}

/// Compose and CI systems set variables without a value to an empty text.
#[test]
fn empty_variables_count_as_not_set() {
    let made = Checked::new();
    made.write("", "");
    let (code, problems) = made.problems(&[], &[("PULLGATE_SERVER", ""), ("PULLGATE_CONFIG", ""), ("HTTPS_PROXY", "")]);
    assert_eq!((code, problems), (Some(0), vec![]));
    let images = made.run(&["images"], &[("PULLGATE_SERVER", ""), ("PULLGATE_TOKEN_FILE", "")]);
    let said = crate::commands::text(&images);
    assert!(said.contains("admin.sock"), "the socket of the configuration is asked: {said}");
}

#[test]
fn proxies_of_the_environment_are_checked() {
    let unusable = "error: upstream[0].url: this takes its egress proxy from the environment variable ";
    let ignored = "warning: upstream[0].url: the environment variable https_proxy is not the URL of a proxy";
    let used =
        "note: upstream[0].url: this uses the egress proxy http://proxy.test:3128, which the environment variable";
    for (upstream, last, name, value, wanted) in [
        (
            "",
            "",
            "HTTPS_PROXY",
            "socks5://127.0.0.1:1",
            Some((Some(78), format!("{unusable}HTTPS_PROXY: it can only"))),
        ),
        ("", "", "all_proxy", "https://proxy.test", Some((Some(78), format!("{unusable}all_proxy: it can only")))),
        ("", "", "https_proxy", "not a url", Some((Some(0), ignored.to_owned()))),
        ("", "", "ALL_PROXY", "http://user:secret@proxy.test:3128", Some((Some(0), used.to_owned()))),
        (
            "",
            "[[upstream]]\nhost = \"other.test\"\n",
            "HTTPS_PROXY",
            "socks5://127.0.0.1:1",
            Some((Some(78), format!("{unusable}HTTPS_PROXY, and so does upstream[1].url: it can only"))),
        ),
        (
            "",
            "[[upstream]]\nhost = \"other.test\"\n[[upstream]]\nhost = \"third.test\"\n",
            "HTTPS_PROXY",
            "socks5://127.0.0.1:1",
            Some((Some(78), format!("{unusable}HTTPS_PROXY, and so do 2 more: it can only"))),
        ),
        ("", "", "HTTP_PROXY", "socks5://127.0.0.1:1", None),
        ("proxy = \"\"\n", "", "HTTPS_PROXY", "socks5://127.0.0.1:1", None),
        ("proxy = \"http://proxy.test:3128\"\n", "", "HTTPS_PROXY", "not a url", None),
        ("offline = true\n", "", "HTTPS_PROXY", "socks5://127.0.0.1:1", None),
    ] {
        let made = Checked { upstream: upstream.to_owned(), ..Checked::new() };
        made.write("", last);
        let (code, problems) = made.problems(&[], &[(name, value)]);
        let lines: Vec<String> =
            problems.iter().map(line).filter(|line| line.contains("environment variable")).collect();
        let (wanted_code, wanted) = wanted.clone().unwrap_or((Some(0), String::new()));
        assert_eq!((code, lines.len()), (wanted_code, usize::from(!wanted.is_empty())), "{name}={value} {problems:#?}");
        assert!(lines.iter().all(|line| line.contains(&wanted) && !line.contains("secret")), "{lines:#?}");
    }
}

/// Any program may have left such a variable: only a setting has to be readable.
#[test]
fn only_settings_have_to_be_utf8() {
    let made = Checked::new();
    made.write("", "");
    for (name, code, wanted) in [
        ("FOO", Some(0), "ok: "),
        ("PULLGATE_SERVICE_HOST", Some(0), "ok: "),
        ("PULLGATE__LOG__FILTER", Some(78), "environment variable PULLGATE__LOG__FILTER: error: it is not UTF-8 text"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
        command.args(["config", "check", "--config"]).arg(made.path().join("pullgate.toml"));
        let output = command.env(name, OsStr::from_bytes(b"caf\xe9")).output().unwrap();
        let said = crate::commands::text(&output);
        assert!(output.status.code() == code && said.contains(wanted), "{name}: {said}");
    }
}
