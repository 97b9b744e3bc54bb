//! Debian's `docker-registry`, plain, with a password, or with TLS; and its access log.

use std::fs;
use std::path::{Path, PathBuf};

use pullgate::oci::Digest;

use super::{Daemon, Finished, Program};

/// The user and password of a registry with [`Variant::Htpasswd`], also in the format of Docker's configuration.
const USER: &str = "alice";
const PASSWORD: &str = "open-sesame";
const USER_AND_PASSWORD_BASE64: &str = "YWxpY2U6b3Blbi1zZXNhbWU=";

/// How a registry can be reached.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Variant {
    /// HTTP with public access.
    #[default]
    Plain,
    /// HTTP with a user name and password.
    Htpasswd,
    /// HTTPS with a certificate from a private CA.
    Tls,
}

/// A running registry.
pub(crate) struct Registry {
    daemon: Daemon,
    variant: Variant,
    address: String,
    home: PathBuf,
}

/// A line in an access log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Request {
    /// `GET`, `HEAD` …
    pub(crate) method: String,
    /// The path and query.
    pub(crate) target: String,
    /// The status of the response.
    pub(crate) status: u16,
}

impl Registry {
    /// Starts a registry on a free port, with its content in `storage`. Two registries may share a storage, and then
    /// have the same content.
    pub(crate) fn start(name: &str, variant: Variant, dir: &Path, storage: &Path) -> Self {
        let home = dir.join(name);
        fs::create_dir_all(&home).expect("a directory for the registry");
        let settings = match variant {
            Variant::Plain => (String::new(), String::new()),
            Variant::Htpasswd => (htpasswd(&home), String::new()),
            Variant::Tls => (String::new(), tls(&home)),
        };
        let file = home.join("config.yml");
        fs::write(&file, configuration(storage, &settings)).expect("the registry's configuration");
        let program = Program::daemon("docker-registry", &home).args(["serve".as_ref(), file.as_os_str()]);
        let (log, requests) = (home.join("log"), home.join("requests"));
        let mut daemon = Daemon::start(name, program, &log, Some(&requests));
        let address = daemon.wait_for(|| listening(&fs::read_to_string(&log).ok()?));
        let credentials = format!(r#"{{"auths": {{"{address}": {{"auth": "{USER_AND_PASSWORD_BASE64}"}}}}}}"#);
        fs::write(home.join("config.json"), credentials).expect("the credentials");
        Self { daemon, variant, address, home }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// `http://127.0.0.1:PORT` or `https://localhost:PORT`.
    pub(crate) fn url(&self) -> String {
        match self.variant {
            Variant::Tls => format!("https://{}", self.address.replace("127.0.0.1", "localhost")),
            Variant::Plain | Variant::Htpasswd => format!("http://{}", self.address),
        }
    }

    /// Stores a blob in a [`Variant::Plain`] registry, and returns its digest.
    pub(crate) fn put_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = Digest::sha256(bytes).to_string();
        let started = format!("{}/v2/{repository}/blobs/uploads/", self.url());
        let show = ["--request", "POST", "--output", "/dev/null", "--write-out", "%header{location}"];
        let location = self.curl(&[&show[..], &[&started]].concat()).text();
        self.put("application/octet-stream", bytes, &format!("{location}&digest={digest}"));
        digest
    }

    /// Stores a manifest under a tag in the same way.
    pub(crate) fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) -> String {
        self.put(media_type, bytes, &format!("{}/v2/{repository}/manifests/{tag}", self.url()));
        Digest::sha256(bytes).to_string()
    }

    fn put(&self, media_type: &str, bytes: &[u8], url: &str) {
        let body = self.home.join("body");
        fs::write(&body, bytes).expect("the body's file");
        let (kind, data) = (format!("Content-Type: {media_type}"), format!("@{}", body.display()));
        self.curl(&["--request", "PUT", "--header", &kind, "--data-binary", &data, url]).bytes();
    }

    fn curl(&self, arguments: &[&str]) -> Finished {
        Program::new("curl", &self.home).args(["--silent", "--show-error", "--fail"]).args(arguments).run()
    }

    /// The settings of a gate's `[[upstream]]` besides the URL.
    pub(crate) fn gate_settings(&self) -> String {
        let file = |name: &str| self.home.join(name).display().to_string();
        match self.variant {
            Variant::Plain => String::new(),
            Variant::Htpasswd => {
                let auth = format!("{{ type = \"docker-config\", file = \"{}\" }}", file("config.json"));
                format!("auth = {auth}\nserve_to = \"everyone\"\n")
            }
            Variant::Tls => format!("ca = \"{}\"\n", file("tls.crt")),
        }
    }

    /// All requests so far, in the order of their responses.
    ///
    /// A request appears in the log once it has been answered. This sends one last request, which is not returned, to
    /// make sure that all earlier responses are logged.
    pub(crate) fn requests(&mut self) -> Vec<Request> {
        const FENCE: &str = "/v2/end-of-log/tags/list";
        let path = self.home.join("requests");
        let written = || parse(&fs::read_to_string(&path).unwrap_or_default());
        let fences = |requests: &[Request]| requests.iter().filter(|request| request.target == FENCE).count();
        let before = fences(&written());
        let url = format!("{}{FENCE}", self.url());
        Program::new("curl", &self.home).args(["--silent", "--insecure", "--output", "/dev/null", &url]).run().bytes();
        let mut all = self.daemon.wait_for(|| Some(written()).filter(|requests| fences(requests) > before));
        all.retain(|request| request.target != FENCE);
        all
    }
}

fn configuration(storage: &Path, (auth, tls): &(String, String)) -> String {
    format!(
        "version: 0.1
log: {{level: info, formatter: text, accesslog: {{disabled: false}}}}
storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}
http: {{addr: '127.0.0.1:0', secret: shared{tls}}}
{auth}",
        storage.display()
    )
}

/// Writes a password file, and returns the setting that names it.
fn htpasswd(home: &Path) -> String {
    let file = home.join("htpasswd");
    let line = Program::new("htpasswd", home).args(["-Bbn", USER, PASSWORD]).run().text();
    fs::write(&file, line).expect("the password file");
    format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", file.display())
}

/// Creates a self-signed certificate for `localhost`, and returns the setting that names it.
fn tls(home: &Path) -> String {
    let (certificate, key) = (home.join("tls.crt"), home.join("tls.key"));
    self_signed(home, &certificate, &key);
    format!(", tls: {{certificate: {}, key: {}}}", certificate.display(), key.display())
}

/// Creates a self-signed certificate for `localhost` and 127.0.0.1.
pub(super) fn self_signed(home: &Path, certificate: &Path, key: &Path) {
    let options = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    let names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
    let files = ["-keyout".as_ref(), key.as_os_str(), "-out".as_ref(), certificate.as_os_str()];
    Program::new("openssl", home).args(options).args(names).args(files).run().bytes();
}

/// The address in a line such as `… msg="listening on 127.0.0.1:36593, tls" …`.
fn listening(log: &str) -> Option<String> {
    let (_, rest) = log.split_once("listening on ")?;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'))?;
    Some(rest[..end].to_owned())
}

/// Parses the Apache "combined" format: `… "GET /v2/ HTTP/1.1" 200 2 …`. An incomplete last line is ignored.
fn parse(log: &str) -> Vec<Request> {
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    whole.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Request> {
    let mut quoted = line.split('"');
    let mut request = quoted.nth(1)?.split(' ');
    let (method, target) = (request.next()?.to_owned(), request.next()?.to_owned());
    let status = quoted.next()?.split_whitespace().next()?.parse().ok()?;
    Some(Request { method, target, status })
}
