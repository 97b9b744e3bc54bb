//! The pages about nodes of a cluster, and about several gates, with a real containerd and kubectl.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use serde_json::{Value, json};

use super::{CONFIGURATION, SIGNED, Shop, status};
use crate::harness::{Daemon, Machine, Program};

/// Starts containerd, and makes it the one that `ctr` talks to.
fn containerd(machine: &mut Machine) -> Daemon {
    let home = machine.dir().join("containerd");
    let dir = home.display().to_string();
    // The CRI plugin would need a network configuration.
    let text = format!(
        "version = 2\nroot = \"{dir}/root\"\nstate = \"{dir}/state\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n
[grpc]\naddress = \"{dir}/sock\"\n"
    );
    machine.write("containerd/config.toml", &text);
    machine.set("CONTAINERD_ADDRESS", &format!("{dir}/sock"));
    machine.set("CONTAINERD_NAMESPACE", "papers");
    machine.set("CONTAINERD_SNAPSHOTTER", "native");
    let program = Program::daemon("containerd", &home).args(["--config", &format!("{dir}/config.toml")]);
    let mut daemon = Daemon::start("containerd", program, &home.join("log"), None);
    daemon.wait_for(|| machine.sh("ctr version").succeeded().then_some(()));
    daemon
}

/// An API server with these pods and nothing else, for `kubectl`.
fn cluster(machine: &mut Machine, pods: Value) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": format!("http://{address}")}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": ""}}],
    });
    machine.write("kubeconfig", &kubeconfig.to_string());
    let file = machine.dir().join("kubeconfig").display().to_string();
    machine.set("KUBECONFIG", &file);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let pods = pods.clone();
            thread::spawn(move || answer(&stream, &pods));
        }
    });
}

/// Answers one request of `kubectl`.
fn answer(mut stream: &TcpStream, pods: &Value) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    let path = request.split([' ', '?']).nth(1).unwrap_or_default();
    let pod =
        json!({"name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod", "verbs": ["get", "list"]});
    let (status, body) = match path {
        "/api" => ("200 OK", json!({"kind": "APIVersions", "versions": ["v1"]})),
        "/apis" => ("200 OK", json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})),
        "/api/v1" => ("200 OK", json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [pod]})),
        "/api/v1/pods" => ("200 OK", pods.clone()),
        _ => ("404 Not Found", json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404})),
    };
    let (body, kind) = (body.to_string(), "content-type: application/json\r\nconnection: close");
    let head = format!("HTTP/1.1 {status}\r\n{kind}\r\ncontent-length: {}\r\n\r\n", body.len());
    // A client that has gone is not an error.
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
}

fn pods() -> Value {
    let containers =
        |images: &[&str]| -> Vec<Value> { images.iter().map(|image| json!({"name": "c", "image": image})).collect() };
    let pod = |name: &str, spec: Value| json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec});
    let (one, two) = (containers(&["registry.acme.com/shop/app:v1", "nginx:1.27"]), containers(&["nginx:1.27"]));
    let items = [
        pod("one", json!({"containers": one})),
        pod("two", json!({"initContainers": containers(&["busybox:1.36"]), "containers": two})),
    ];
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
}

#[test]
fn roll_out_to_the_nodes_of_a_cluster() {
    let mut shop = Shop::open();
    shop.require_signatures();
    let dir = shop.machine.dir().display().to_string();
    shop.machine.replace("gate.internal:5000", shop.machine.localised("127.0.0.1:5000"));
    shop.machine.replace("/etc/containerd/certs.d", format!("{dir}/certs.d"));
    shop.machine.replace("/etc/pullgate/ca.crt", format!("{dir}/certs/ca.crt"));
    let mut walk = shop.machine.walk("docs/tasks/roll-out.md");
    let tls = walk.take_with("toml", "[listener.tls]");
    let configuration = fs::read_to_string(walk.machine.dir().join(CONFIGURATION)).expect("a file");
    let configuration = configuration.replacen("\n[policy]", &format!("\n{}\n\n[policy]", tls.text), 1);
    fs::write(walk.machine.dir().join(CONFIGURATION), configuration).expect("a file");
    walk.machine.restart(CONFIGURATION);
    let images = walk.take_with("elsewhere", "kubectl get pods");
    cluster(walk.machine, pods());
    assert_eq!(walk.machine.sh(&images.text).text(), "busybox:1.36\nnginx:1.27\nregistry.acme.com/shop/app:v1");
    let hosts = walk.take_with("toml", "server = ");
    walk.machine.write("certs.d/_default/hosts.toml", &hosts.text);
    let _containerd = containerd(walk.machine);
    let cri = walk.take_with("elsewhere", "crictl pull");
    // `ctr` reads the same file with the same code as the CRI plugin.
    let images: Vec<&str> = cri.text.lines().filter_map(|line| line.strip_prefix("crictl pull ")).collect();
    let pull = |image: &str| format!("ctr images pull --hosts-dir /etc/containerd/certs.d {image}");
    assert!(walk.machine.sh(&pull(images[0])).succeeded(), "{}", walk.machine.sh(&pull(images[0])).output());
    let refused = walk.machine.sh(&pull(images[1])).refusal();
    assert!(refused.contains("release: not signed"), "{refused}");
    walk.finish();
}

#[test]
fn run_more_than_one_gate() {
    let mut shop = Shop::admitting();
    let (second, admin) = (shop.machine.reserve(), shop.machine.reserve());
    let first = shop.machine.localised("127.0.0.1:5000");
    let port = |address: &str| address.rsplit(':').next().expect("a port").to_owned();
    shop.machine.replace("s/5000/5010/", format!("s/{}/{}/", port(&first), port(&second)));
    shop.machine.replace("127.0.0.1:5011", admin.clone());
    shop.machine.replace("https://gate-a.internal:5000", format!("http://{first}"));
    shop.machine.replace("https://gate-b.internal:5000", format!("http://{second}"));
    // Both gates speak plain HTTP here, and a CA that does not exist is an error of containerd.
    shop.machine.replace("ca = \"/etc/pullgate/ca.crt\"", "");
    shop.machine.set("PULLGATE__ADMIN__ADDRESS", &admin);
    let mut walk = shop.machine.walk("docs/tasks/high-availability.md");
    let missing = walk.take_with("text", "has no manifest here that names");
    let hosts = walk.take_with("toml", "gate-b.internal");
    walk.machine.write("certs.d/_default/hosts.toml", &hosts.text);
    walk.finish();
    let machine = &mut shop.machine;
    machine.serve("gate-b/pullgate.toml");
    let manifest = machine.sh(&format!("curl -s {SIGNED}")).text();
    let manifest: Value = serde_json::from_str(&manifest).expect("a manifest");
    let digest = manifest["layers"][0]["digest"].as_str().expect("a digest");
    let blob = format!("/v2/registry.acme.com/shop/app/blobs/{digest}");
    assert_eq!(status(machine, &format!("http://{first}{blob}")), "200");
    let refused = machine.sh(&format!("curl -s http://{second}{blob}")).text();
    let (before, after) = missing.text.split_once("sha256:14e9…").expect("a digest");
    assert!(refused.contains(before) && refused.contains(after), "{refused}");
    let _containerd = containerd(machine);
    machine.stop(CONFIGURATION);
    let pull = format!("ctr images pull --hosts-dir {}/certs.d registry.acme.com/shop/app:v1", machine.dir().display());
    machine.sh(&pull).bytes();
}
