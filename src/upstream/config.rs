//! How an upstream is configured.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use crate::oci::Host;
use crate::scope::Scope;

/// The largest secret, in bytes.
const MAX_SECRET: u64 = 64 * 1024;

/// One `[[upstream]]`.
#[derive(Clone)]
pub struct Config {
    /// The name that policies and clients use.
    pub host: Host,
    /// Where it is: scheme and authority, and a path prefix where it has one.
    pub url: String,
    /// Other names of the same registry.
    pub aliases: Vec<Host>,
    /// Its name as the first component of a path, beside the host.
    pub path: Option<String>,
    /// How long a tag's digest is taken as fresh.
    pub tag_ttl: Duration,
    /// How long a tag may be served stale while the registry is down.
    pub stale_for: Duration,
    /// More certificate authorities, PEM.
    pub ca: Option<PathBuf>,
    /// Whether the certificate of the registry's own host is not checked. Other hosts' certificates always are.
    pub insecure: bool,
    /// The egress proxy, an `http://` URL; by the environment's `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` where none is
    /// given, and none at all where the text is empty.
    pub proxy: Option<String>,
    /// Credentials.
    pub auth: Auth,
    /// The scopes that may use the credentials' reach; `None` is everyone.
    pub serve_to: Option<Vec<Scope>>,
    /// Hosts of token services that may have the credentials, beside the registry's own site.
    pub realms: Vec<String>,
    /// How long a connection may take: name, TCP, egress proxy.
    pub connect_timeout: Duration,
    /// How long the TLS handshake may take.
    pub tls_timeout: Duration,
    /// How long an answer's headers may take, the connection included.
    pub header_timeout: Duration,
    /// How long a body may be silent.
    pub idle_timeout: Duration,
    /// How long a body that is read whole may take: a manifest, a list, a token.
    pub body_timeout: Duration,
    /// How often a request is tried.
    pub attempts: u32,
    /// How long a request may wait between its tries, in all. A registry that asks for more is passed on as
    /// [`Error::RateLimited`](super::Error::RateLimited) at once.
    pub retry_budget: Duration,
    /// How many requests are under way at one time.
    pub max_connections: usize,
    /// How many bytes a second all bodies together may bring.
    pub max_bandwidth: Option<u64>,
    /// How many manifests are fetched in any [`pull_limit_window`](Self::pull_limit_window).
    pub pull_limit: Option<u32>,
    /// The time over which pulls are counted.
    pub pull_limit_window: Duration,
}

impl Config {
    /// An upstream with every default.
    pub fn new(host: Host, url: impl Into<String>) -> Self {
        Self {
            host,
            url: url.into(),
            aliases: Vec::new(),
            path: None,
            tag_ttl: Duration::from_secs(60),
            stale_for: Duration::from_secs(24 * 3600),
            ca: None,
            insecure: false,
            proxy: None,
            auth: Auth::Anonymous,
            serve_to: None,
            realms: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            tls_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            attempts: 4,
            retry_budget: Duration::from_secs(5),
            max_connections: 32,
            max_bandwidth: None,
            pull_limit: None,
            pull_limit_window: Duration::from_secs(6 * 3600),
        }
    }
}

impl fmt::Debug for Config {
    /// The name and the place: a proxy's URL may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("host", &self.host).field("auth", &self.auth).finish_non_exhaustive()
    }
}

/// Where credentials come from.
#[derive(Clone, Debug)]
pub enum Auth {
    /// None.
    Anonymous,
    /// User name and password.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// Docker's `config.json`: `auths`, `credHelpers`, `credsStore`.
    DockerConfig {
        /// The file.
        file: PathBuf,
    },
    /// A credential helper: a program that speaks Docker's `get` protocol.
    Helper {
        /// The program: a path, or a name as `docker-credential-NAME` has it.
        program: String,
    },
    /// An IBM Cloud API key: the user `iamapikey`.
    Iam {
        /// The key.
        api_key: Secret,
    },
}

/// Where a secret is. Never the secret itself, so it can be printed; read again whenever it is needed, so that it can be
/// changed without a restart.
#[derive(Clone, Eq, PartialEq)]
pub enum Secret {
    /// In an environment variable.
    Env(String),
    /// In a file; a line break at the end is not part of it.
    File(PathBuf),
}

impl Secret {
    /// Reads it.
    ///
    /// # Errors
    /// Says which file or variable, and never what is in it.
    pub fn read(&self) -> Result<String, String> {
        match self {
            Self::Env(name) => std::env::var(name).map_err(|_| format!("the environment variable {name} is not set")),
            Self::File(path) => {
                let wrong = |what: &dyn fmt::Display| format!("{}: {what}", path.display());
                let mut text = String::new();
                File::open(path)
                    .and_then(|file| file.take(MAX_SECRET + 1).read_to_string(&mut text))
                    .map_err(|error| wrong(&error))?;
                match text.trim_end_matches(['\n', '\r']) {
                    "" => Err(wrong(&"the file is empty")),
                    _ if text.len() as u64 > MAX_SECRET => Err(wrong(&"larger than a secret can be")),
                    secret => Ok(secret.to_owned()),
                }
            }
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
        }
    }
}

/// Why upstreams cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A CA file.
    #[error("{path}: no certificate authorities can be read: {error}")]
    Ca {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: String,
    },
    /// The default is none of the upstreams.
    #[error("default_upstream {0:?} is not the host of an upstream")]
    Default(String),
    /// The system has no certificate authorities.
    #[error("no certificate authorities are installed: {0}; install ca-certificates, or name a `ca` for each upstream")]
    NoRoots(String),
    /// A proxy that cannot be used. Its URL is not repeated, because it may hold a password.
    #[error("the egress proxy of {0} must be an http:// URL with a host")]
    Proxy(String),
    /// Two upstreams of one name.
    #[error("two upstreams are called {0:?}; hosts, aliases and paths must differ")]
    Twice(String),
    /// Not an http or https URL, or one with more than scheme, authority and path. It is not repeated, because it may
    /// hold a password.
    #[error("the url of {0} must be an http or https URL without user, query and fragment")]
    Url(String),
}
