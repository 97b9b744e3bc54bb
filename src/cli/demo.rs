//! `pullgate demo`: the four cases of the tutorial in one process, without a network.
//!
//! The table shows the answers of the running gate to requests over TCP. The demo does not compute any of them.

mod environment;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use super::Exit;
use super::table::table;
use crate::http_client::{HttpClient, HttpSettings, Network, Reach};
use environment::{DemoEnvironment, FLAGS};

/// The address of the gate, unless another one is given or it is in use.
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);
/// The maximum time to wait for an answer of the gate.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The maximum size of an answer, in bytes.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// The default log filter. The four cases change the policy, which changes the verdicts on what they pulled. The
/// warnings of that would appear after the last line that people should read.
const LOG: &str = "warn,pullgate::gate::livescan=error";

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// Print the table and exit. The exit status is 0 only if every answer is as expected.
    #[arg(long)]
    once: bool,
    /// The address of the gate. With port 0, the system chooses a port. Default: 127.0.0.1:5000, or another port if
    /// that one is in use.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// The log filter, in the syntax of the `tracing` crate.
    #[arg(long, default_value = LOG, value_name = "FILTER")]
    log: String,
}

pub(super) fn run(args: &DemoArgs) -> Exit {
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let _log = match crate::runtime::init_telemetry(&args.log, crate::runtime::LogFormat::Text, colour) {
        Ok(guard) => guard,
        Err(error) => return super::fail(error.to_string()),
    };
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return super::fail(error),
    };
    let exit = runtime.block_on(demo(args)).unwrap_or_else(super::fail);
    runtime.shutdown_timeout(Duration::from_secs(1));
    exit
}

/// Whether this process was started so that it outlives its terminal.
fn is_hangup_ignored() -> bool {
    // The first bit is that of signal 1, SIGHUP.
    let status = procfs::process::Process::myself().and_then(|own| own.status());
    status.is_ok_and(|status| status.sigign & 1 != 0)
}

async fn demo(args: &DemoArgs) -> Result<Exit, String> {
    let listen = address(args);
    // Closing the terminal also ends the demo, which could not be stopped otherwise, unless it was started by nohup(1).
    let hangups = (!is_hangup_ignored()).then(crate::app::hangups).transpose();
    let mut hangups = hangups.map_err(|error| format!("cannot handle SIGHUP: {error}"))?;
    let mut stops = crate::app::signals();
    let mut ended = std::pin::pin!(async {
        tokio::select! {
            () = crate::app::stopped(&mut stops) => {}
            Some(_) = async { hangups.as_mut()?.recv().await } => {}
        }
    });
    let environment = DemoEnvironment::build(listen).await?;
    println!(
        "pullgate demo: an upstream with {} sample images at {}",
        environment.images().len(),
        environment.upstream_url()
    );
    println!(
        "               the gate at http://{}; policies in {}",
        environment.address(),
        environment.policies().display()
    );
    println!(
        "               tags are signed with Docker Content Trust, on a notary server of the demo; the gate trusts its \
         roots (trust.notary_root)"
    );
    println!(
        "               vulnerabilities are found by the gate's own scanner, with an advisory database of the demo \
         (`pullgate db import`)"
    );
    println!();
    let all_as_expected = tokio::select! {
        checked = four_cases(&environment) => checked?,
        () = ended.as_mut() => {
            environment.close().await;
            return Ok(Exit::Failure);
        }
    };
    let cells = environment.images().len() * FLAGS.len();
    if all_as_expected {
        println!("{cells} of {cells} answers are as expected.\n");
    }
    if args.once {
        environment.close().await;
        return Ok(if all_as_expected { Exit::Ok } else { Exit::Failure });
    }
    print!(
        "{}{}",
        how_to_pull(environment.address()),
        next_steps(&environment.configuration(), &environment.policies())
    );
    ended.await;
    println!("\nstopping");
    environment.close().await;
    Ok(Exit::Ok)
}

/// Where the gate listens. The default port is used by other programs on many machines.
fn address(args: &DemoArgs) -> SocketAddr {
    let with_any_port = |address: SocketAddr| SocketAddr::new(address.ip(), 0);
    match args.listen {
        Some(address) if args.once => with_any_port(address),
        Some(address) => address,
        None if args.once || std::net::TcpListener::bind(DEFAULT).is_err() => with_any_port(DEFAULT),
        None => DEFAULT,
    }
}

/// Requests every image with each combination of the two flags in the tutorial's policy file. The flags are set in the
/// same way as the tutorial sets them with `sed`.
async fn four_cases(environment: &DemoEnvironment) -> Result<bool, String> {
    let client = client()?;
    let mut rows = Vec::new();
    let mut all_as_expected = true;
    for (trust, va) in FLAGS {
        environment.set_flags(trust, va)?;
        for image in environment.images() {
            let answer = request(&client, environment.address(), &image.path()).await?;
            let expected = if image.is_admitted(trust, va) { 200 } else { 403 };
            all_as_expected &= answer.status == expected;
            let mark = if answer.status == expected { "" } else { "  <- unexpected" };
            rows.push([
                format!("{trust}/{va}"),
                image.label(),
                image.properties(),
                format!("{}{mark}", answer.status),
                shorten(&answer.reason()),
            ]);
        }
    }
    let header = ["TRUST/VA", "IMAGE", "PROPERTIES", "ANSWER", "REASON"];
    print!("{}", table(header, rows.into_iter()));
    println!();
    Ok(all_as_expected)
}

/// The part of the reason after the image name. The row already shows the name.
fn shorten(reason: &str) -> String {
    let short = reason.split_once("\": ").map_or(reason, |(_, rest)| rest);
    short.chars().take(100).collect()
}

struct DemoAnswer {
    status: u16,
    body: Bytes,
}

impl DemoAnswer {
    fn reason(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["errors"][0]["message"].as_str().unwrap_or_default().to_owned()
    }
}

fn client() -> Result<HttpClient, String> {
    let settings = HttpSettings { proxy: Some(String::new()), ..HttpSettings::within(TIMEOUT, TIMEOUT) };
    HttpClient::new(&settings, &Network::default()).map_err(|error| error.to_string())
}

async fn request(client: &HttpClient, address: SocketAddr, path: &str) -> Result<DemoAnswer, String> {
    let request = Request::get(format!("http://{address}{path}")).body(Full::default());
    let request = request.map_err(|error| error.to_string())?;
    let fetched = client.fetch(Reach::Configured, request, MAX_ANSWER, TIMEOUT).await;
    let (status, body) = fetched.map_err(|error| format!("the gate did not answer: {error}"))?;
    Ok(DemoAnswer { status: status.as_u16(), body })
}

fn how_to_pull(address: SocketAddr) -> String {
    format!(
        "The last case remains active: tomcat:v2 is admitted, all other images are denied. Try it:\n\n\
         \x20 curl -s http://{address}/v2/demo.registry/library/tomcat/manifests/latest\n\
         \x20 skopeo inspect --tls-verify=false docker://{address}/demo.registry/library/tomcat:v2\n\
         \x20 podman pull --tls-verify=false {address}/demo.registry/library/tomcat:v2\n\
         \x20 docker pull {address}/demo.registry/library/tomcat:latest      # docker trusts 127.0.0.0/8 without TLS\n\n"
    )
}

/// What to try with the running gate.
fn next_steps(configuration: &Path, policies: &Path) -> String {
    let (configuration, policies) = (configuration.display(), policies.display());
    format!(
        "Ask the gate, in another terminal:\n\n\
         \x20 export PULLGATE_CONFIG={configuration}\n\
         \x20 pullgate check demo.registry/library/tomcat:latest   # how it decides, and why\n\
         \x20 pullgate images                                      # what it has served or judged\n\
         \x20 pullgate va demo.registry/library/tomcat:latest      # what is vulnerable in it, and how to resolve that\n\n\
         Change {policies}/default.yaml: the next pull is judged by it. docs/policies.md describes what it can say.\n\n\
         Ctrl-C stops the demo and removes its files.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_does_not_warn_of_the_changes_that_it_makes_itself() {
        let logged = include_str!("../gate/livescan/change.rs");
        assert!(logged.contains("the verdict on an admitted image has changed"));
        let filter: tracing_subscriber::filter::Targets = LOG.parse().unwrap();
        assert!(LOG.ends_with("pullgate::gate::livescan=error"), "the module that logs it");
        assert!(!filter.would_enable("pullgate::gate::livescan::change", &tracing::Level::WARN));
        assert!(filter.would_enable("pullgate::gate", &tracing::Level::WARN), "nothing else is hidden");
    }
}
