//! Mistakes of policies and authorities.

use super::*;

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

/// An authority with a mistake is known: what names it is not a mistake, too.
#[test]
fn an_authority_with_a_mistake_gives_one_problem() {
    for (key, wanted) in [
        ("secret: {name: gone, key: cosign.pub}", "secret default/gone: not found"),
        ("file: absent.pub", "file \"absent.pub\": "),
        ("data: junk", "data: "),
    ] {
        let made = Checked::new();
        let authority = format!("  authorities:\n  - {{name: r, cosign: {{key: {{{key}}}}}}}\n");
        let policy = ALLOW_ALL.replace("policy: {}", "policy: {trust: {anyOf: [r, notary]}}");
        made.file("policies/default.yaml", &policy.replace("  repositories", &format!("{authority}  repositories")));
        made.write("", "");
        let lines: Vec<String> = made.problems(&[], &[]).1.iter().map(line).collect();
        let errors: Vec<&String> = lines.iter().filter(|line| line.contains(": error: ")).collect();
        assert!(errors.len() == 1 && errors[0].contains(wanted), "{authority}\n{lines:#?}");
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
