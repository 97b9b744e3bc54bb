//! The configuration of an upstream.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::auth::credentials::check_docker_config;
use super::notary::known_notary;
use crate::oci::{Digest, Host};
use crate::runtime::{Secret, shown_url};
use crate::scope::Scope;

/// An `[[upstream]]` table.
#[derive(Clone, Eq, PartialEq)]
pub struct Config {
    /// The name in policies and requests.
    pub host: Host,
    /// The URL: scheme, authority, and an optional path prefix.
    pub url: String,
    /// Other names of the same registry.
    pub aliases: Vec<Host>,
    /// Its name as the first component of a path, in addition to the host.
    pub path: Option<String>,
    /// How long a resolved tag is considered fresh.
    pub tag_ttl: Duration,
    /// How long a tag may be served stale while the registry is down.
    pub stale_for: Duration,
    /// Whether the registry is never contacted: only what is in the cache is served.
    pub offline: bool,
    /// A PEM file with additional CA certificates.
    pub ca: Option<PathBuf>,
    /// Its content when the configuration was read: with other content, the upstream is another one.
    pub ca_content: Option<Digest>,
    /// Whether the certificate of the registry's own host is not verified. Certificates of other hosts always are.
    pub insecure: bool,
    /// The egress proxy, an `http://` URL. `None` uses `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` in the environment;
    /// an empty string disables proxies.
    pub proxy: Option<String>,
    /// The source of credentials.
    pub auth: Auth,
    /// The scopes that may pull with these credentials; `None` means everyone.
    pub serve_to: Option<Vec<Scope>>,
    /// Hosts that may receive the credentials: token services, in addition to the registry's own site, and notary
    /// servers that only a policy names.
    pub realms: Vec<String>,
    /// The URL of the notary server of the registry. `None` if it follows from the name of the registry.
    pub notary: Option<String>,
    /// The time limit for a connection: name resolution, TCP, egress proxy.
    pub connect_timeout: Duration,
    /// The time limit for the TLS handshake.
    pub tls_timeout: Duration,
    /// The time limit for response headers, including the connection.
    pub header_timeout: Duration,
    /// How long a response body may stall.
    pub idle_timeout: Duration,
    /// The time limit for bodies that are read completely: manifests, lists, tokens.
    pub body_timeout: Duration,
    /// The number of attempts per request.
    pub attempts: u32,
    /// The total time that a request may wait between its attempts. If a registry asks for more, the result is
    /// [`Error::RateLimited`](super::Error::RateLimited) immediately.
    pub retry_budget: Duration,
    /// The maximum number of concurrent requests to the registry. Auxiliary services have a limit of their own.
    pub max_connections: usize,
    /// The maximum total bandwidth of response bodies, in bytes per second.
    pub max_bandwidth: Option<u64>,
    /// The maximum number of manifests fetched in any [`pull_limit_window`](Self::pull_limit_window).
    pub pull_limit: Option<u32>,
    /// The window over which pulls are counted.
    pub pull_limit_window: Duration,
}

impl Config {
    /// A configuration with defaults for everything else.
    pub fn new(host: Host, url: impl Into<String>) -> Self {
        Self {
            host,
            url: url.into(),
            aliases: Vec::new(),
            path: None,
            tag_ttl: Duration::from_secs(60),
            stale_for: Duration::from_secs(24 * 3600),
            offline: false,
            ca: None,
            ca_content: None,
            insecure: false,
            proxy: None,
            auth: Auth::Anonymous,
            serve_to: None,
            realms: Vec::new(),
            notary: None,
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

    /// The registry and where it is, for messages: `docker.io at https://registry-1.docker.io`.
    pub fn shown(&self) -> String {
        format!("{} at {}", self.host, shown_url(&self.url))
    }

    /// Whether this is the host of the registry or one of its aliases.
    pub fn has_name(&self, host: &Host) -> bool {
        self.host == *host || self.aliases.contains(host)
    }

    /// The URL of the registry.
    ///
    /// # Errors
    /// [`ConfigError::Url`].
    pub fn base_url(&self) -> Result<Url, ConfigError> {
        let wrong = || ConfigError::Url(self.host.to_string());
        let url = Url::parse(&self.url).map_err(|_| wrong())?;
        let is_plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        let is_http = matches!(url.scheme(), "http" | "https") && url.host().is_some();
        if is_http && is_plain && url.fragment().is_none() { Ok(url) } else { Err(wrong()) }
    }

    /// The URL of the notary server of the registry: the configured one, or that of a registry with a well-known
    /// server.
    pub fn notary_server(&self) -> Option<String> {
        self.notary.clone().or_else(|| known_notary(&self.host))
    }
}

/// Checks credentials without using them.
impl Config {
    /// Checks the Docker configuration of the upstream, if its credentials are in one.
    ///
    /// # Errors
    /// One line that names the file and the problem.
    pub fn check_docker_config(&self) -> Result<(), String> {
        match &self.auth {
            Auth::DockerConfig { file } => check_docker_config(file, self),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Config {
    /// Only the name and the URL: the URL of a proxy may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("host", &self.host).field("auth", &self.auth).finish_non_exhaustive()
    }
}

/// The source of credentials.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Auth {
    /// No credentials.
    Anonymous,
    /// A user name and password.
    Basic {
        /// The user name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// Docker's `config.json`: `auths`, `credHelpers`, `credsStore`.
    DockerConfig {
        /// The path of the file.
        file: PathBuf,
    },
    /// A credential helper: a program that implements Docker's `get` protocol.
    Helper {
        /// The program: a path, or the NAME in `docker-credential-NAME`.
        program: String,
    },
    /// An IBM Cloud API key, used with the user `iamapikey`.
    Iam {
        /// The API key.
        api_key: Secret,
    },
}

/// Why upstreams cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A CA file cannot be used.
    #[error("{path}: cannot read CA certificates: {error}")]
    Ca {
        /// The file.
        path: PathBuf,
        /// The problem.
        error: String,
    },
    /// The default upstream does not exist.
    #[error("default_upstream {0:?} is not the host of an upstream")]
    Default(String),
    /// The system has no CA certificates.
    #[error("no CA certificates are installed: {0}; install ca-certificates, or set `ca` for each upstream")]
    NoRoots(String),
    /// The proxy cannot be used. Its URL is not repeated, because it may contain a password.
    #[error("the egress proxy of {0} must be an http:// URL with a host")]
    Proxy(String),
    /// Two upstreams have the same name.
    #[error("two upstreams have the name {0:?}; hosts, aliases and paths must be unique")]
    Twice(String),
    /// Not an http or https URL, or one with more than scheme, authority and path. It is not repeated, because it may
    /// contain a password.
    #[error("the url of {0} must be an http or https URL without user, query and fragment")]
    Url(String),
}
