//! What depends on the machine: a running gate, users, sockets, services.

use pullgate::sample::{Fault, On};

use super::*;

/// While the gate runs, its ports and its state directory are in use, and that is not a mistake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_gate_is_not_a_mistake() {
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
    made.write("", "");
    let folder = made.path().join("policies").display().to_string();
    let none = [("SSL_CERT_FILE", "/dev/null"), ("SSL_CERT_DIR", &*folder)];
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

/// A registry that limits requests says nothing about the configuration.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_a_registry_is_no_mistake() {
    let registry = TestRegistry::start().await;
    registry.inject(On::any(), Fault::too_many_requests(600));
    let made = Checked { upstream: format!("url = \"{}\"", registry.listening.url()), ..Checked::new() };
    made.write("", "");
    let check = move || made.problems(&["--online"], &[]);
    let (code, problems) = soon(tokio::task::spawn_blocking(check)).await.unwrap();
    let lines: Vec<String> = problems.iter().map(line).collect();
    let is_told = |line: &String| line.contains("note: upstream[0].url: the rate limit is reached: registry.test at ");
    assert!(code == Some(0) && lines.iter().any(is_told), "{lines:#?}");
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
        "starting pullgate",
        "gate.mode is audit: NOTHING IS DENIED; denials are only recorded",
        "policies loaded",
        "upstreams configured",
        "vulnerability sources configured",
        "cache opened",
        "listening",
        "listening",
        "admin listening",
        "pullgate is ready",
    ];
    let from = messages.iter().position(|message| *message == begins[0]).expect("the first line");
    assert_eq!(messages[from..from + begins.len()], begins, "{log}");
    let of = |message: &str| lines.iter().find(|line| line["message"] == message).unwrap().clone();
    let first = of("starting pullgate");
    assert_eq!((&first["version"], &first["mode"]), (&env!("CARGO_PKG_VERSION").into(), &"audit".into()));
    assert_eq!(first["config"], made.path().join("pullgate.toml").display().to_string());
    assert_eq!(first["state_dir"], made.path().join("state").display().to_string());
    assert_eq!((&of("policies loaded")["documents"], &of("policies loaded")["entries"]), (&1.into(), &1.into()));
    assert_eq!(of("upstreams configured")["hosts"], "registry.test");
    assert_eq!(of("vulnerability sources configured")["reports"], made.path().join("reports").display().to_string());
    assert_eq!(of("cache opened")["max_size"], "200GiB");
}
