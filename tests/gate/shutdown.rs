//! Stopping: not ready first, then no new requests, then the end of running transfers, then the admin listener.

use futures_util::stream;
use pullgate::app::{self, BoundGate, Ended};
use pullgate::oci::Digest;
use pullgate::runtime::Tasks;
use pullgate::sample::image::{Image, Layer, noise};
use pullgate::sample::{Fault, On};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::harness::{ALLOW_ALL, HOST, TestGate};
use crate::support::{Answer, Exchange, TestRegistry, request, soon};

/// A gate that is stopped by messages.
struct Stoppable {
    registry: String,
    admin: String,
    stop: mpsc::UnboundedSender<()>,
    running: JoinHandle<Ended>,
}

impl Stoppable {
    async fn start(made: &TestGate) -> Self {
        Self::run(app::build(made.config()).await.expect("a gate"))
    }

    fn run(bound: BoundGate) -> Self {
        let (registry, admin) =
            (format!("http://{}", bound.addresses()[0]), format!("http://{}", bound.admin_address()));
        let (stop, mut stops) = mpsc::unbounded_channel();
        let running = Tasks::new().spawn(bound.run_until(stream::poll_fn(move |cx| stops.poll_recv(cx))));
        Self { registry, admin, stop, running }
    }

    fn url(&self, path: &str) -> String {
        format!("{}/v2/{HOST}{path}", self.registry)
    }

    async fn admin(&self, path: &str) -> Answer {
        request("GET", &format!("{}{path}", self.admin), &[]).await
    }

    /// Pulls the manifest, so that its layers can be pulled.
    async fn pull(&self) {
        let answer = request("GET", &self.url("/library/app/manifests/1"), &[]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    fn stop(&self) {
        self.stop.send(()).expect("it runs");
    }

    async fn not_ready(&self) {
        let draining = async {
            loop {
                let answer = self.admin("/readyz").await;
                if answer.status == 503 {
                    assert_eq!(answer.json()["awaited"], serde_json::json!(["draining"]));
                    return;
                }
            }
        };
        soon(draining).await;
    }
}

/// Pushes an image with a layer that no single read contains; returns the digest of that layer.
fn push(registry: &TestRegistry) -> Digest {
    let layer = Layer::of("application/vnd.oci.image.layer.v1.tar", noise(300_000, 1));
    let image = Image::linux_amd64().layer(layer).build();
    registry.push("library/app", Some("1"), &image);
    image.layers[0]
}

#[tokio::test]
async fn running_transfers_finish_while_new_requests_are_refused_and_the_admin_listener_answers() {
    let registry = TestRegistry::start().await;
    let layer = push(&registry);
    let made = TestGate::new(&registry, ALLOW_ALL);
    let gate = Stoppable::start(&made).await;
    gate.pull().await;
    let stalled = registry.inject(On::blobs(), Fault::Stall(100_000));
    let mut transfer = Exchange::start("GET", &gate.url(&format!("/library/app/blobs/{layer}")), &[]).await;
    assert_eq!(transfer.read(1000).await.len(), 1000);
    gate.stop();
    gate.not_ready().await;
    let refused = async {
        loop {
            let answer = request("GET", &gate.url("/library/app/manifests/1"), &[]).await;
            if answer.status == 503 {
                return answer;
            }
        }
    };
    let refused = soon(refused).await;
    assert!(refused.text().contains("shutting down"), "{}", refused.text());
    assert_eq!((refused.header("retry-after"), refused.header("connection")), (Some("1"), Some("close")));
    assert!(gate.admin("/metrics").await.text().contains("pullgate_connections_open"));
    assert_eq!(gate.admin("/livez").await.status, 200);
    stalled.release();
    assert!(transfer.finish().await.complete);
    assert_eq!(soon(gate.running).await.unwrap(), Ended::Complete);
    let address = gate.admin.strip_prefix("http://").unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "everything is closed");
}

#[tokio::test]
async fn requests_are_answered_while_load_balancers_learn_that_the_gate_is_not_ready() {
    let registry = TestRegistry::start().await;
    push(&registry);
    let made = TestGate::new(&registry, ALLOW_ALL);
    made.config();
    let file = made.path().join("pullgate.toml");
    let text = format!("shutdown_delay = \"1h\"\n{}", std::fs::read_to_string(&file).unwrap());
    std::fs::write(&file, text).unwrap();
    let config = pullgate::config::Config::load(Some(&file), std::iter::empty()).unwrap();
    let gate = Stoppable::run(app::build(config).await.unwrap());
    gate.stop();
    gate.not_ready().await;
    let answer = request("GET", &gate.url("/library/app/manifests/1"), &[]).await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    gate.stop();
    assert_eq!(soon(gate.running).await.unwrap(), Ended::Complete, "nothing was running at the second signal");
}

#[tokio::test]
async fn a_second_signal_cuts_running_transfers() {
    let registry = TestRegistry::start().await;
    let layer = push(&registry);
    let made = TestGate::new(&registry, ALLOW_ALL);
    let gate = Stoppable::start(&made).await;
    gate.pull().await;
    let _stalled = registry.inject(On::blobs(), Fault::Stall(100_000));
    let mut transfer = Exchange::start("GET", &gate.url(&format!("/library/app/blobs/{layer}")), &[]).await;
    assert_eq!(transfer.read(1000).await.len(), 1000);
    gate.stop();
    gate.not_ready().await;
    gate.stop();
    assert_eq!(soon(gate.running).await.unwrap(), Ended::Cut);
    pullgate::StateDir::open(&made.path().join("state")).expect("the state directory is free");
}
