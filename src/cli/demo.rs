//! `pullgate demo`: the four cases of the tutorial in one process, without a network.
//!
//! The table shows the answers of the running gate to requests over TCP. The demo does not compute any of them.

mod environment;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::Request;
use http_body_util::Full;

use super::Exit;
use super::table::table;
use crate::http_client::{HttpClient, HttpSettings, Network, Reach};
use environment::{DemoEnvironment, FLAGS};

/// The maximum time to wait for an answer of the gate.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The maximum size of an answer, in bytes.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// Print the table and exit. The exit status is 0 only if every answer is as expected.
    #[arg(long)]
    once: bool,
    /// The address of the gate. With port 0, the system chooses a port.
    #[arg(long, default_value = "127.0.0.1:5000", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// The log filter, in the syntax of the `tracing` crate.
    #[arg(long, default_value = "warn", value_name = "FILTER")]
    log: String,
}

pub(super) fn run(args: &DemoArgs) -> Exit {
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let _log = match crate::runtime::init_telemetry(&args.log, crate::runtime::LogFormat::Text, colour) {
        Ok(guard) => guard,
        Err(error) => return super::fail(error),
    };
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return super::fail(error),
    };
    let exit = runtime.block_on(demo(args)).unwrap_or_else(super::fail);
    runtime.shutdown_timeout(Duration::from_secs(1));
    exit
}

async fn demo(args: &DemoArgs) -> Result<Exit, String> {
    let listen = if args.once { SocketAddr::new(args.listen.ip(), 0) } else { args.listen };
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
    let all_as_expected = four_cases(&environment).await?;
    if args.once {
        environment.close().await;
        return Ok(if all_as_expected { Exit::Ok } else { Exit::Failure });
    }
    print!("{}", how_to_pull(environment.address()));
    // Ends only with the process.
    let _ = crate::app::signals().next().await;
    println!("\nstopping");
    environment.close().await;
    Ok(Exit::Ok)
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
    let settings = HttpSettings {
        proxy: Some(String::new()),
        ca: None,
        insecure: false,
        needs_roots: false,
        connect_timeout: TIMEOUT,
        tls_timeout: TIMEOUT,
        header_timeout: TIMEOUT,
    };
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
         \x20 docker pull {address}/demo.registry/library/tomcat:latest      # docker trusts 127.0.0.0/8 without TLS\n\n\
         Ctrl-C stops it.\n"
    )
}
