//! The command `pullgate reload`.

use super::*;

/// The gate is asked also if its configuration is wrong: it says so, and reloads the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_reaches_a_gate_with_a_wrong_configuration() {
    let on = Reloading::start().await;
    let run = async |text: String| {
        let config = on.gate.file("pullgate.toml");
        std::fs::write(&config, text).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
        command.args(["reload", "--config"]).arg(config);
        let output = tokio::task::spawn_blocking(move || command.output().expect("it starts"));
        let output = crate::support::soon(output).await.expect("it ends");
        (output.status.code(), crate::commands::text(&output))
    };
    let (code, shown) = run(format!("{}[limits]\nmax_conections = 1\n", on.text)).await;
    assert!(
        code == Some(78) && shown.contains("refused, the previous version stays in use: configuration: "),
        "{shown}"
    );
    assert!(shown.contains("max_conections") && shown.contains("reloaded: audit\n"), "{shown}");
    let state = |other: &str| on.text.replace("state_dir = \"state\"", other);
    for hidden in [format!("{}[limits\n", on.text), state("state_dir = 3"), state("stat_dir = \"state\"")] {
        let (code, shown) = run(hidden).await;
        assert!(code == Some(78) && shown.contains("the gate was not asked"), "{shown}");
        assert!(shown.contains("pullgate.toml:") && shown.contains("--server unix:PATH"), "{shown}");
    }
    let (code, shown) = run(state("state_dir = \"elsewhere\"")).await;
    assert!(code == Some(1) && shown.contains("was it started with this `state_dir`"), "{shown}");
    on.gate.stop().await;
}

/// A gate that runs with its previous configuration can be managed, and is as healthy as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_commands_also_reach_a_gate_with_a_wrong_configuration() {
    let on = Reloading::start().await;
    let config = on.gate.file("pullgate.toml");
    let run = async |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
        command.args(words).arg("--config").arg(&config);
        let output = tokio::task::spawn_blocking(move || command.output().expect("it starts"));
        let output = crate::support::soon(output).await.expect("it ends");
        (output.status.code(), crate::commands::text(&output))
    };
    let unknown_key = format!("{}[limits]\nmax_conections = 1\n", on.text);
    let wrong_value = on.text.replace("dir = \"policies\"", "dir = 3");
    for broken in [&on.text, &unknown_key, &wrong_value] {
        std::fs::write(&config, broken).expect("a file");
        for words in [&["ready"][..], &["cache", "status"], &["images"], &["exemption", "list"]] {
            let (code, shown) = run(words).await;
            assert_eq!(code, Some(0), "{words:?}: {shown}");
        }
    }
    // The health check of the image names the socket, so it does not read the file at all.
    let elsewhere = on.text.replace("state_dir = \"state\"", "state_dir = \"elsewhere\"");
    for broken in ["", "[limits\n", &elsewhere, &unknown_key] {
        std::fs::write(&config, broken).expect("a file");
        let asked = pullgate(&on.gate, &["ready"]).await;
        let shown = crate::commands::text(&asked);
        assert!(asked.status.success() && shown.contains("\nreadyz: ready"), "{broken}: {shown}");
    }
    std::fs::write(&config, &unknown_key).expect("a file");
    // It keeps the files.
    let _stopped = on.gate.stop().await;
    let (code, shown) = run(&["ready"]).await;
    assert!(code == Some(78) && shown.contains("max_conections"), "without a gate, the mistakes are named: {shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_reports_changes_and_refused_parts() {
    let on = Reloading::start().await;
    let same = reload_command(&on, &on.text, &[]).await;
    assert_eq!(same, (Some(0), "reloaded; no setting and no policy has changed\n".to_owned()));
    let text = format!("{}[gate]\nmode = \"audit\"\n[cache]\nmax_size = \"1GiB\"\n", on.text);
    let changed = "reloaded\nin use: gate.mode\nin use: changed policies\nafter a restart: cache.max_size\n";
    assert_eq!(reload_command(&on, &text, &[]).await, (Some(0), changed.to_owned()));
    let (code, json) = reload_command(&on, &text, &["-o", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((code, json), (Some(0), serde_json::json!({"reloaded": true, "needs_restart": ["cache.max_size"]})));
    let (code, shown) = reload_command(&on, &format!("{text}[limits]\nmax_conections = 1\n"), &[]).await;
    assert!(code == Some(78) && shown.contains("max_conections") && shown.contains("pullgate.toml:"), "{shown}");
    std::fs::write(on.gate.file("policies/default.yaml"), "kind: Nonsense").expect("a file");
    let (code, shown) = reload_command(&on, &text, &[]).await;
    assert!(code == Some(78) && shown.contains("policy: ") && shown.contains("default.yaml"), "{shown}");
    assert!(shown.contains("reloaded: certificates\nreloaded: configuration\n"), "{shown}");
    let (code, json) = reload_command(&on, &text, &["-o", "json"]).await;
    assert!(code == Some(78) && json.contains("\"reloaded\": false"), "{json}");
    on.gate.stop().await;
    let alone = tempfile::tempdir().expect("a directory");
    let config = alone.path().join("pullgate.toml");
    let text = "state_dir = \"state\"\n[policy]\ndir = \"policies\"\n[[upstream]]\nhost = \"registry.test\"\n";
    std::fs::write(&config, text).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
    let output = command.args(["reload", "--config"]).arg(config).output().expect("it starts");
    assert_eq!(output.status.code(), Some(1), "no gate runs");
}

/// Policies change while a gate runs, so a reload says what `config check` and the start say of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_warns_of_policies_that_are_probably_mistakes() {
    let on = Reloading::start_with(|made| made.upstream("aliases = [\"r.test\"]")).await;
    let alias = format!("{ALLOW_ALL}  - name: \"r.test/*\"\n    policy: {{trust: reject}}\n");
    let other = ALLOW_ALL.replace("\"*\"", "\"other.test/*\"");
    let audited = ALLOW_ALL.replace("spec:\n", "spec:\n  mode: audit\n");
    let write = |text: &str| std::fs::write(on.gate.file("policies/default.yaml"), text).expect("a file");
    for (policy, wanted) in [
        (&alias, "r.test is another name of registry.test"),
        (&other, "no policy selects an image of registry.test: every image is denied"),
        (&audited, "all policies are in audit mode"),
    ] {
        write(policy);
        // Once, also if the configuration has changed, which is compared with the policies too.
        let changed = format!("{}[limits]\nmax_connections = {}\n", on.text, 100 + wanted.len());
        for text in [&on.text, &on.text, &changed] {
            let (code, shown) = reload_command(&on, text, &[]).await;
            assert!(code == Some(0) && shown.contains(wanted), "{shown}");
            assert_eq!(shown.matches("in use, but: ").count(), 1, "{shown}");
        }
    }
    write(ALLOW_ALL);
    let (code, shown) = reload_command(&on, &on.text, &[]).await;
    assert!(code == Some(0) && !shown.contains("in use, but: "), "{shown}");
    on.gate.stop().await;
}
