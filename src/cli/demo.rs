//! `pullgate demo`: one process, no network, the tutorial's four cases with real HTTP answers.
//!
//! The table is made by asking the running gate over TCP, as a client would; nothing in it is computed here.

mod house;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Exit;
use super::images::table;
use house::{FLAGS, House};

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// Exit after the table: 0 only if every cell is as expected.
    #[arg(long)]
    once: bool,
    /// Where the gate listens. Port 0: the system chooses.
    #[arg(long, default_value = "127.0.0.1:5000", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// What to log, in tracing's syntax.
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
    let house = House::build(listen).await?;
    println!("pullgate demo: an upstream with {} sample images at {}", house.images().len(), house.upstream_url());
    println!("               the gate at http://{}; policies in {}", house.address(), house.policies().display());
    println!(
        "               content trust is satisfied by the demo's own cosign key (trust.default_authorities = [\"demo\"])"
    );
    println!();
    let all_as_expected = four_cases(&house).await?;
    if args.once {
        house.close().await;
        return Ok(if all_as_expected { Exit::Ok } else { Exit::Failure });
    }
    print!("{}", how_to_pull(house.address()));
    crate::app::signals().await;
    println!("\nstopping");
    house.close().await;
    Ok(Exit::Ok)
}

/// Flips the two flags of the tutorial's policy file as its `sed` lines do, and asks for every image.
async fn four_cases(house: &House) -> Result<bool, String> {
    let mut rows = Vec::new();
    let mut all_as_expected = true;
    for (trust, va) in FLAGS {
        house.set_flags(trust, va)?;
        for image in house.images() {
            let answer = ask(house.address(), &image.path()).await?;
            let expected = if image.is_admitted(trust, va) { 200 } else { 403 };
            all_as_expected &= answer.status == expected;
            let mark = if answer.status == expected { "" } else { "  <- not as expected" };
            rows.push([
                format!("{trust}/{va}"),
                image.label(),
                image.properties(),
                format!("{}{mark}", answer.status),
                shorten(&answer.reason()),
            ]);
        }
    }
    let header = ["TRUST/VA", "IMAGE", "WHAT IT IS", "ANSWER", "REASON"];
    print!("{}", table(header, rows.into_iter()));
    println!();
    Ok(all_as_expected)
}

/// The part of the reason after the image's name, which stands in the row already.
fn shorten(reason: &str) -> String {
    let short = reason.split_once("\": ").map_or(reason, |(_, rest)| rest);
    short.chars().take(100).collect()
}

struct Answered {
    status: u16,
    body: Bytes,
}

impl Answered {
    fn reason(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["errors"][0]["message"].as_str().unwrap_or_default().to_owned()
    }
}

async fn ask(address: SocketAddr, path: &str) -> Result<Answered, String> {
    let exchange = async {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
        let request = Request::get(path).header(header::HOST, address.to_string()).body(Full::<Bytes>::default());
        let answer = async {
            let response = sender.send_request(request.map_err(|error| error.to_string())?).await;
            let response = response.map_err(|error| error.to_string())?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), 4 * 1024 * 1024).collect().await;
            Ok(Answered { status, body: body.map_err(|error| error.to_string())?.to_bytes() })
        };
        tokio::pin!(connection, answer);
        tokio::select! {
            answered = &mut answer => answered,
            _ = &mut connection => answer.await,
        }
    };
    tokio::time::timeout(Duration::from_secs(30), exchange).await.map_err(|_| "the gate did not answer".to_owned())?
}

fn how_to_pull(address: SocketAddr) -> String {
    format!(
        "The last case stays in force: tomcat:v2 is admitted, the rest is denied. Try it:\n\n\
         \x20 curl -s http://{address}/v2/demo.registry/library/tomcat/manifests/latest\n\
         \x20 skopeo inspect --tls-verify=false docker://{address}/demo.registry/library/tomcat:v2\n\
         \x20 podman pull --tls-verify=false {address}/demo.registry/library/tomcat:v2\n\
         \x20 docker pull {address}/demo.registry/library/tomcat:latest      # docker trusts 127.0.0.0/8 without TLS\n\n\
         Ctrl-C stops it.\n"
    )
}
