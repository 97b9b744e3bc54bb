//! `[[upstream]]`: names, address, credentials, limits.

use std::collections::{BTreeMap, BTreeSet};

use super::count;
use super::secret::{secret, username};
use crate::config::reader::Table;
use crate::oci::{Host, Repository};
use crate::runtime::shown_url;
use crate::scope::Scope;
use crate::upstream::{self, Auth};

/// The smallest bandwidth limit of an upstream, in bytes per second.
const MIN_BANDWIDTH: u64 = 64 * 1024;
/// The largest pull limit of an upstream; each pull is remembered for a window.
const MAX_PULLS: u64 = 100_000;

pub(super) fn upstreams(root: &mut Table<'_>) -> Vec<upstream::Config> {
    let mut seen = BTreeSet::new();
    let mut upstreams = Vec::new();
    for (position, table) in root.tables("upstream").into_iter().enumerate() {
        if let Some(upstream) = upstream(table, &mut seen) {
            root.reader.keep("upstream", position);
            upstreams.push(upstream);
        }
    }
    if root.has_none("upstream") {
        let hint = "write [[upstream]] host = \"docker.io\" url = \"https://registry-1.docker.io\"";
        root.problem("upstream", "at least one upstream is required", Some(hint));
    }
    upstreams
}

/// The upstream of names without a registry. It must be one of the upstreams.
pub(super) fn default_upstream(root: &mut Table<'_>, upstreams: &[upstream::Config]) -> Option<Host> {
    let host: Host = root.value("default_upstream")?;
    if !upstreams.iter().any(|upstream| upstream.has_name(&host)) {
        root.problem("default_upstream", format!("{host} is not the host of an [[upstream]]"), None);
    }
    Some(host)
}

fn upstream(mut table: Table<'_>, seen: &mut BTreeSet<String>) -> Option<upstream::Config> {
    let host = table.value::<Host>("host");
    if host.is_none() && !table.has("host") {
        table.problem("host", "host is missing: the name that policies and clients use", None);
    }
    let url = table.text("url").or_else(|| host.as_ref().map(|host| format!("https://{host}"))).unwrap_or_default();
    let mut config = upstream::Config::new(host.clone()?, url);
    if !config.url.starts_with("https://") && !config.url.starts_with("http://") {
        table.problem("url", format!("{:?} is not an http or https URL", shown_url(&config.url)), None);
    }
    config.aliases = table.values("aliases").unwrap_or_default();
    config.path = table.text("path");
    names(&table, &config, seen);
    config.tag_ttl = table.duration("tag_ttl").unwrap_or(config.tag_ttl);
    config.stale_for = table.duration("stale_for").unwrap_or(config.stale_for);
    config.offline = table.flag("offline").unwrap_or(false);
    config.ca = table.authorities("ca");
    config.ca_content = config.ca.as_deref().and_then(|path| table.reader.content_of(path));
    config.insecure = table.flag("insecure").unwrap_or(false);
    config.proxy = table.text("proxy");
    config.realms = table.texts("realms").unwrap_or_default();
    config.notary = table.text("notary");
    if config.notary.as_ref().is_some_and(|url| !url.starts_with("https://") && !url.starts_with("http://")) {
        table.problem("notary", "it is not an http or https URL", Some("write https://HOST, or https://HOST:4443"));
    }
    upstream_limits(&mut table, &mut config);
    config.serve_to = serve_to(&mut table);
    if let Some(auth_table) = table.optional_table("auth") {
        config.auth = auth(auth_table).unwrap_or(Auth::Anonymous);
        if !table.has("serve_to") {
            let hint = "serve_to = \"everyone\", or a list of scopes";
            table.problem(
                "auth",
                "serve_to is required with auth: who may pull what these credentials can read",
                Some(hint),
            );
        }
    }
    table.finish();
    Some(config)
}

/// Timeouts, retries and rates.
fn upstream_limits(table: &mut Table<'_>, config: &mut upstream::Config) {
    config.connect_timeout = table.timeout("connect_timeout").unwrap_or(config.connect_timeout);
    config.tls_timeout = table.timeout("tls_timeout").unwrap_or(config.tls_timeout);
    config.header_timeout = table.timeout("header_timeout").unwrap_or(config.header_timeout);
    config.idle_timeout = table.timeout("idle_timeout").unwrap_or(config.idle_timeout);
    config.body_timeout = table.timeout("body_timeout").unwrap_or(config.body_timeout);
    config.attempts = table.number("attempts", 1, 10).map_or(config.attempts, |n| u32::try_from(n).unwrap_or(1));
    config.retry_budget = table.duration("retry_budget").unwrap_or(config.retry_budget);
    config.max_connections = count(table.number("max_connections", 1, 10_000), config.max_connections);
    config.max_bandwidth = table.size("max_bandwidth");
    if config.max_bandwidth.is_some_and(|bandwidth| bandwidth < MIN_BANDWIDTH) {
        table.problem("max_bandwidth", "must be at least 64KiB a second, or manifests would time out", None);
    }
    config.pull_limit = table.number("pull_limit", 1, MAX_PULLS).and_then(|n| u32::try_from(n).ok());
    config.pull_limit_window = table.duration("pull_limit_window").unwrap_or(config.pull_limit_window);
    if config.pull_limit_window.is_zero() {
        table.problem("pull_limit_window", "must be longer than 0s", None);
    }
}

/// Hosts, aliases and paths share one space: the first component of a request's path.
fn names(table: &Table<'_>, config: &upstream::Config, seen: &mut BTreeSet<String>) {
    let mut own = BTreeMap::from([(config.host.to_string(), "host")]);
    config.aliases.iter().for_each(|alias| _ = own.entry(alias.to_string()).or_insert("aliases"));
    let names = config.aliases.iter().chain([&config.host]).map(Host::as_str);
    if config.path.is_none() && names.into_iter().all(|name| name.contains(':')) {
        let hint = "set `path` to a name without a port";
        table.warn("host", "a path cannot contain a port, so only requests with `?ns=` can name this registry", hint);
    }
    if let Some(path) = &config.path {
        if path.parse::<Repository>().is_err() || path.contains('/') {
            table.problem("path", format!("{path:?} cannot be a component of a path"), None);
        }
        own.entry(path.clone()).or_insert("path");
    }
    for (name, key) in own {
        if !seen.insert(name.clone()) {
            table.problem(key, format!("another upstream also has the name {name:?}"), None);
        }
    }
}

/// `"everyone"` (`None`), or a list of named scopes.
fn serve_to(table: &mut Table<'_>) -> Option<Vec<Scope>> {
    if !table.is_text("serve_to") {
        let scopes: Vec<Scope> = table.values("serve_to")?;
        if scopes.contains(&Scope::CLUSTER) {
            let hint = "only serve_to = \"everyone\" includes clients without a scope";
            table.problem("serve_to", "a scope must not be empty", Some(hint));
        }
        return Some(scopes);
    }
    match table.text("serve_to").as_deref() {
        Some("everyone") => {}
        _ => table.problem("serve_to", "must be \"everyone\" or a list of scopes", None),
    }
    None
}

fn auth(mut table: Table<'_>) -> Option<Auth> {
    let auth = match &*table.text("type").unwrap_or_default() {
        "basic" => {
            let username = username(&mut table);
            Some(Auth::Basic {
                username: username?,
                password: secret(&mut table, "password", "password_file", "password_env")?,
            })
        }
        "docker-config" => {
            needed(&table, "file", "docker-config needs the file");
            table.file("file").map(|file| Auth::DockerConfig { file })
        }
        "helper" => {
            needed(&table, "program", "helper needs the name of the program: NAME of docker-credential-NAME");
            table.text("program").map(|program| Auth::Helper { program })
        }
        "iam" => secret(&mut table, "api_key", "api_key_file", "api_key_env").map(|api_key| Auth::Iam { api_key }),
        _ => {
            table.problem("type", "must be basic, docker-config, helper or iam", None);
            return None;
        }
    };
    table.finish();
    auth
}

fn needed(table: &Table<'_>, key: &str, message: &str) {
    if !table.has(key) {
        table.problem(key, message, None);
    }
}
