//! What is shown of secrets in configured URLs: nothing, wherever it is shown.

use std::process::Command;

use crate::commands::text;
use crate::harness::{ALLOW_ALL, TestGate};
use crate::program::Program;
use crate::support::{TestRegistry, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_in_urls_are_shown_nowhere() {
    let registry = TestRegistry::start().await;
    let url = registry.listening.url();
    let with_user = url.replace("http://", "http://u:hush@");
    let made = TestGate::new(&registry, ALLOW_ALL).with(&format!(
        "[va.database]\nupdate = \"1h\"\nproxy = \"{with_user}\"\n\
         osv = [\"{url}/Go/all.zip?sig=hush\"]\nkev = \"{url}/kev.json?sig=hush\"\nepss = \"{with_user}/epss.csv\"\n"
    ));
    let gate = Program::start(&made).await;
    soon(async {
        while !(gate.log().contains("not been fetched yet") && gate.log().contains("cannot be fetched")) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let at = |text: &str| gate.log().find(text);
    let is_first = at("starting pullgate").is_some_and(|start| Some(start) < at("not been fetched yet"));
    assert!(is_first, "what the gate is comes first: {}", gate.log());
    let file = made.path().join("pullgate.toml");
    let run = |words: &'static [&'static str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
        command.args(words).arg("--config").arg(&file);
        async move { soon(tokio::task::spawn_blocking(move || command.output().expect("it runs"))).await.expect("it ends") }
    };
    let mut said = String::new();
    for words in [
        &["config", "show"][..],
        &["config", "show", "-o", "json"],
        &["config", "check"],
        &["config", "check", "--online"],
        &["db", "update"],
        &["db", "status"],
    ] {
        let output = run(words).await;
        said.push_str(&format!("{words:?}\n{}\n", text(&output)));
    }
    let readyz = crate::support::request("GET", &gate.admin_url("/readyz?verbose"), &[]).await.text();
    said.push_str(&readyz);
    said.push_str(&gate.log());
    assert!(!said.contains("hush"), "{said}");
    let archive = format!("{url}/Go/all.zip");
    for place in [archive.clone(), format!("{archive}: "), format!("source=\"{archive}\"")] {
        assert!(said.contains(&place), "{place}\n{said}");
    }
    gate.stop().await;
}
