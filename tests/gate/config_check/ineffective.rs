//! Settings that are valid, or look so, and do nothing.

use super::{Checked, line};

#[test]
fn settings_that_do_nothing_are_named_once() {
    let url = "http://127.0.0.1:1/events";
    for (last, wanted) in [
        ("[cache]\nmax_size = \"1KiB\"\n".to_owned(), "warning: cache.max_size: less than most layers have"),
        ("[cache]\nmax_size = \"0\"\n".to_owned(), "warning: cache.max_size: less than most layers have"),
        (format!("[events]\nurls = [\"{url}\"]\ntypes = []\n"), "warning: events.types: no kind of event is named"),
        (format!("[events]\nurls = [\"{url}\", \"{url}\"]\n"), "warning: events.urls: number 2 is there already"),
        (
            "[[va.scanner]]\nkind = \"trivy\"\ncommand = \"/bin/true\"\nenvironment = [\"A B\"]\n".to_owned(),
            "error: va.scanner[0].environment: \"A B\" is not the name of a variable",
        ),
        (
            "[va.ibm]\napi_key_env = \"PATH\"\n".to_owned(),
            "note: va.ibm.hosts: no [[upstream]] has one of these hosts (icr.io, .icr.io)",
        ),
        (
            "[va.ibm]\napi_key_env = \"PATH\"\nhosts = []\n".to_owned(),
            "note: va.ibm.hosts: no host is named, so IBM is asked about no image",
        ),
        // A value that is refused is named once.
        (
            "[va.ibm]\napi_key_env = \"PATH\"\nhosts = [\"https://icr.io\"]\n".to_owned(),
            "error: va.ibm.hosts: \"https://icr.io\": ",
        ),
        ("[log]\nfilter = \"off\"\n".to_owned(), "warning: log.filter: nothing is logged, not even errors"),
        ("[admin]\naddress = \"\"\n".to_owned(), "error: admin.address: \"\" is not a valid address"),
    ] {
        let made = Checked::new();
        made.write("", &last);
        let lines: Vec<String> = made.problems(&[], &[]).1.iter().map(line).collect();
        let key = wanted.split(": ").nth(1).unwrap();
        let of_key: Vec<&String> = lines.iter().filter(|line| line.contains(&format!(" {key}: "))).collect();
        assert!(of_key.len() == 1 && of_key[0].contains(wanted), "{last} {lines:#?}");
    }
}

#[test]
fn a_directory_of_reports_that_is_read_twice_is_named() {
    let made = Checked::new();
    std::fs::create_dir_all(made.path().join("reports/team")).unwrap();
    made.write("", "[va]\nreports = [\"reports\", \"reports/team\", \"reports\"]\n");
    let lines: Vec<String> = made.problems(&[], &[]).1.iter().map(line).collect();
    for name in ["reports/team", "reports"] {
        let folder = made.path().display();
        let wanted =
            format!("warning: va.reports: {folder}/{name}: this is also read as a part of {folder}/reports: each file");
        assert_eq!(lines.iter().filter(|line| line.contains(&wanted)).count(), 1, "{name} {lines:#?}");
    }
}

/// A file where the gate has its own, and a directory that it cannot write.
#[test]
fn what_is_wrong_with_the_state_directory_has_a_fitting_hint() {
    for (name, wanted) in [
        ("state/advisories", "move it away; pullgate creates the directory"),
        ("state", "give it a separate directory that pullgate can write to"),
    ] {
        let made = Checked::new();
        std::fs::create_dir_all(made.path().join(name).parent().unwrap()).unwrap();
        made.file(name, "");
        made.write("", "");
        let (code, problems) = made.problems(&[], &[]);
        let hinted = problems.iter().filter(|problem| problem["hint"] == wanted).count();
        assert_eq!((code, hinted), (Some(78), 1), "{name} {problems:#?}");
    }
}

/// The hint says what to do about this secret.
#[test]
fn secrets_that_are_missing_have_fitting_hints() {
    for (auth, wanted) in [
        (
            "type = \"basic\"\nusername = \"u\"\npassword_env = \"ABSENT_PASSWORD\"",
            "set it in the environment of the gate",
        ),
        ("type = \"helper\"\nprogram = \"absent-helper\"", "install it, or write its path"),
        ("type = \"basic\"\nusername = \"u\"\npassword_file = \"absent\"", "write the secret there"),
    ] {
        let made = Checked::new();
        made.write("", &format!("[upstream.auth]\n{auth}\n"));
        let (_, problems) = made.problems(&[], &[]);
        let has = |problem: &&serde_json::Value| problem["hint"].as_str().is_some_and(|hint| hint.starts_with(wanted));
        assert_eq!(problems.iter().filter(has).count(), 1, "{auth} {problems:#?}");
    }
}

/// A policy for which no certificate and no authority can exist.
#[test]
fn policies_that_ask_for_nothing_that_exists_are_named() {
    let policy = |trust: &str, authorities: &str| {
        format!(
            "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {{name: d}}\nspec:\n{authorities}  \
             repositories:\n  - {{name: \"*\", policy: {{trust: {trust}}}}}\n"
        )
    };
    let keyless = "  authorities:\n  - name: ci\n    cosign:\n      keyless: {issuer: token.actions.githubusercontent.com, \
                   identity: https://github.com/acme/app}\n";
    for (text, wanted) in [
        (policy("ci", keyless), "is not a URL, so no certificate of Fulcio has it"),
        (policy("true", ""), "trust must name an authority"),
    ] {
        let made = Checked::new();
        made.file("policies/default.yaml", &text);
        made.write("", "");
        let lines: Vec<String> = made.problems(&[], &[]).1.iter().map(line).collect();
        assert_eq!(lines.iter().filter(|line| line.contains(wanted)).count(), 1, "{lines:#?}");
    }
}
