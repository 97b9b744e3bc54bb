//! The servers: each on loopback, in a separate directory, stopped by its process id.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use super::client::Place;
use super::measure;
use super::upstream::Upstream;

/// The time limit for the start of a server.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A registry or file server.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    child: Child,
    plain: String,
    tls: Option<(String, Arc<ClientConfig>)>,
    /// The path before `REPOSITORY/…`.
    prefix: &'static str,
}

impl Server {
    pub(crate) fn pids(&self) -> Vec<u32> {
        measure::family(self.child.id())
    }

    pub(crate) fn plain(&self) -> Place {
        Place { address: self.plain.clone(), tls: None }
    }

    /// The TLS endpoint, if there is one.
    pub(crate) fn tls(&self) -> Option<Place> {
        self.tls.as_ref().map(|(address, config)| Place { address: address.clone(), tls: Some(config.clone()) })
    }

    /// A path in the repository.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("{}{rest}", self.prefix)
    }

    pub(crate) fn url(&self, rest: &str) -> String {
        format!("http://{}{}", self.plain, self.path(rest))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for pid in self.pids().into_iter().rev().filter_map(|pid| rustix::process::Pid::from_raw(pid as i32)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

/// A certificate for `localhost`, its key, and the CA that clients trust.
pub(crate) struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    client: Arc<ClientConfig>,
}

impl Certificate {
    pub(crate) fn new(dir: &Path) -> Self {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let made = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let (certificate, key_file) = (dir.join("server.crt"), dir.join("server.key"));
        fs::write(&certificate, made.pem()).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(made.der().to_vec())).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let client = Arc::new(client.with_root_certificates(roots).with_no_client_auth());
        Self { certificate, key: key_file, client }
    }
}

/// The gate under test, with rules that admit everything except repositories under `denied/`.
pub(crate) fn pullgate(dir: &Path, upstream: &Upstream, certificate: &Certificate) -> Server {
    let dir = dir.join("pullgate");
    fs::create_dir_all(dir.join("policies")).unwrap();
    let key = pullgate::sample::SigningKey::generate().unwrap().public_pem();
    fs::write(dir.join("policies/release.pub"), key).unwrap();
    let policy = "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {name: default}\nspec:\n  authorities:\n  \
                  - {name: release, cosign: {key: {file: release.pub}}}\n  repositories:\n  \
                  - {name: \"up.test/denied/*\", policy: {trust: release}}\n  - {name: \"*\", policy: {}}\n";
    fs::write(dir.join("policies/default.yaml"), policy).unwrap();
    let config = format!(
        "state_dir = \"state\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n\
         tls = {{ certificate = \"{}\", key = \"{}\" }}\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [policy]\ndir = \"policies\"\n[[upstream]]\nhost = \"up.test\"\nurl = \"{}\"\n",
        certificate.certificate.display(),
        certificate.key.display(),
        upstream.url,
    );
    fs::write(dir.join("pullgate.toml"), config).unwrap();
    let (ready, log) = (dir.join("ready.json"), dir.join("log"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
    command.arg("serve").arg("--config").arg(dir.join("pullgate.toml")).arg("--ready-file").arg(&ready);
    let child = start(&mut command, &log);
    let text = wait_for(|| fs::read_to_string(&ready).ok(), &log);
    let bound: serde_json::Value = serde_json::from_str(&text).unwrap();
    let address = |at: usize| bound["listeners"][at].as_str().unwrap().to_owned();
    let tls = Some((address(1), certificate.client.clone()));
    Server { name: "pullgate", child, plain: address(0), tls, prefix: "/v2/up.test/" }
}

/// nginx serving files below `DIR/www` under a registry's paths, with its access log enabled.
pub(crate) fn nginx(dir: &Path, certificate: &Certificate) -> Server {
    let dir = dir.join("nginx");
    fs::create_dir_all(dir.join("www")).unwrap();
    let (plain, tls) = (free_port(), free_port());
    let serve = format!(
        "server {{ listen 127.0.0.1:{plain} backlog=4096; listen 127.0.0.1:{tls} ssl backlog=4096; root {}/www;\n\
         ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3; default_type application/octet-stream; }}",
        dir.display(),
        certificate.certificate.display(),
        certificate.key.display(),
    );
    let child = run_nginx(&dir, &serve, plain);
    let tls = Some((format!("127.0.0.1:{tls}"), certificate.client.clone()));
    Server { name: "nginx", child, plain: format!("127.0.0.1:{plain}"), tls, prefix: "/" }
}

/// nginx as a cache of the upstream, with one download shared by all waiting clients.
pub(crate) fn nginx_cache(dir: &Path, upstream: &Upstream) -> Server {
    let dir = dir.join("nginx-cache");
    fs::create_dir_all(dir.join("cache")).unwrap();
    let plain = free_port();
    let serve = format!(
        "proxy_cache_path {dir}/cache keys_zone=blobs:10m max_size=64g use_temp_path=off;\n\
         server {{ listen 127.0.0.1:{plain} backlog=4096; location / {{ proxy_pass {}; proxy_cache blobs;\n\
         proxy_cache_valid 200 1h; proxy_cache_lock on; proxy_cache_lock_timeout 300s; proxy_cache_lock_age 300s;\n\
         proxy_max_temp_file_size 0; proxy_http_version 1.1; }} }}",
        upstream.url,
        dir = dir.display(),
    );
    let child = run_nginx(&dir, &serve, plain);
    Server { name: "nginx proxy_cache", child, plain: format!("127.0.0.1:{plain}"), tls: None, prefix: "/v2/" }
}

fn run_nginx(dir: &Path, serve: &str, port: u16) -> Child {
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String =
        temporary.iter().map(|name| format!("{name}_temp_path {}/{name};\n", dir.display())).collect();
    let config = format!(
        "{user}worker_processes 2; daemon off; pid {dir}/pid; error_log {dir}/error.log;\n\
         events {{ worker_connections 8192; }}\n\
         http {{ access_log {dir}/access.log; sendfile on; tcp_nopush on; sendfile_max_chunk 2m;\n\
         open_file_cache max=1000; keepalive_requests 1000000000;\n{temporary}{serve} }}",
        // When started by root, its workers would run as a user who may not read the directory.
        user = if rustix::process::geteuid().is_root() { "user root; " } else { "" },
        dir = dir.display(),
    );
    fs::write(dir.join("nginx.conf"), config).unwrap();
    let log = dir.join("log");
    let child = start(Command::new("nginx").arg("-c").arg(dir.join("nginx.conf")), &log);
    wait_for(|| std::net::TcpStream::connect(("127.0.0.1", port)).ok(), &log);
    child
}

/// distribution as a pull-through cache: Debian's `docker-registry`, or version 3.
pub(crate) fn distribution(dir: &Path, upstream: &Upstream, name: &'static str, program: &Path) -> Server {
    let dir = dir.join(name.replace(' ', "-"));
    fs::create_dir_all(dir.join("data")).unwrap();
    let port = free_port();
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\n\
         storage: {{filesystem: {{rootdirectory: {}/data}}, cache: {{blobdescriptor: inmemory}}}}\n\
         http: {{addr: \"127.0.0.1:{port}\"}}\nproxy: {{remoteurl: \"{}\"}}\n",
        dir.display(),
        upstream.url,
    );
    fs::write(dir.join("config.yml"), config).unwrap();
    let log = dir.join("log");
    let child = start(Command::new(program).arg("serve").arg(dir.join("config.yml")), &log);
    wait_for(|| std::net::TcpStream::connect(("127.0.0.1", port)).ok(), &log);
    Server { name, child, plain: format!("127.0.0.1:{port}"), tls: None, prefix: "/v2/" }
}

/// Finds a program in the project's tools or on the path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let own = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/bin"));
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let folders = [own].into_iter().chain(std::env::split_paths(&paths)).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(program)).find(|path| path.exists())
}

/// The first line of a program's version output.
pub(crate) fn version(program: &str, argument: &str) -> String {
    let output = find(program).and_then(|path| Command::new(path).arg(argument).output().ok());
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().next().unwrap_or("not installed").trim();
    // Removes a leading path of the program, which does not belong in a report.
    line.split_once(' ').filter(|(first, _)| first.contains('/')).map_or(line, |(_, rest)| rest).to_owned()
}

fn start(command: &mut Command, log: &Path) -> Child {
    let log = fs::File::create(log).unwrap();
    let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn();
    child.unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn wait_for<T>(mut look: impl FnMut() -> Option<T>, log: &Path) -> T {
    let began = Instant::now();
    loop {
        match look() {
            Some(found) => return found,
            None if began.elapsed() > START_TIMEOUT => {
                panic!("the server does not start: {}", fs::read_to_string(log).unwrap_or_default());
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
