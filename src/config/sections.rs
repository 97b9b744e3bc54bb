//! One function for each section: keys, defaults, and contradictions.

mod addresses;
mod events;
mod scanners;
mod secret;
mod tracing;
mod trust;
mod upstreams;
mod vulnerabilities;

pub(crate) use addresses::{is_loopback, overlap};

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

use super::reader::Table;
use super::{Config, KeyPlaces, LogConfig};
use crate::runtime::{LogFormat, check_log_filter, hides_errors};
use crate::scope::Scope;
use crate::{audit, cache, gate, prefetch, server};
use addresses::UsedAddresses;
use trust::TrustSections;

/// A cache of fewer bytes has no room for the layers of most images.
const SMALLEST_CACHE: u64 = 64 * 1024 * 1024;

/// Reads all sections. Invalid settings are reported and replaced by their defaults.
pub(super) fn read(mut root: Table<'_>) -> Config {
    let state_dir = root.output("state_dir").unwrap_or_else(|| PathBuf::from("/var/lib/pullgate"));
    let shutdown_delay = root.duration("shutdown_delay").unwrap_or_default();
    let shutdown_grace = root.duration("shutdown_grace").unwrap_or(Duration::from_secs(30));
    let log = log(root.table("log"));
    let mut addresses = UsedAddresses::default();
    let listeners = listeners(&mut root, &mut addresses);
    let limits = limits(root.table("limits"));
    let admin = admin(root.table("admin"), &state_dir, &mut addresses);
    let gate = gate(root.table("gate"));
    let policy_dir = policy(root.table("policy"));
    let TrustSections { config: trust, revocation, mut policy, authorities, notary_root } =
        trust::trust(root.table("trust"));

    let (mut va, fixable_only, ignore_files) = vulnerabilities::va(root.table("va"), &state_dir);
    va.admin_socket = Some(admin.socket.clone());
    policy.ibm_fixable_only = fixable_only;
    policy.ignore_files = ignore_files;
    let cache = cache(root.table("cache"), gate.tag_memory);
    let prefetch = prefetch(root.table("prefetch"));
    let audit = audit(root.table("audit"), &state_dir);
    let events = events::events(root.table("events"));
    let tracing = tracing::tracing(root.table("tracing"));
    let upstreams = upstreams::upstreams(&mut root);
    scanners::add_registries(&mut va.scanners, &upstreams);
    let default_upstream = upstreams::default_upstream(&mut root, &upstreams);
    root.finish();
    Config {
        state_dir,
        log,
        shutdown_delay,
        shutdown_grace,
        default_upstream,
        listeners,
        limits,
        admin,
        gate,
        // Empty only together with a problem.
        policy_dir: policy_dir.unwrap_or_default(),
        policy,
        authorities,
        notary_root,
        trust,
        revocation,
        va,
        cache,
        prefetch,
        audit,
        events,
        tracing,
        upstreams,
        warnings: Vec::new(),
        places: KeyPlaces::default(),
        read: Vec::new(),
    }
}

fn log(mut table: Table<'_>) -> LogConfig {
    let log = LogConfig {
        filter: table.text("filter").unwrap_or_else(|| "info".into()),
        format: table.choice("format", &[("json", LogFormat::Json), ("text", LogFormat::Text)]).unwrap_or_default(),
    };
    let hint = "such as \"info\", or \"pullgate=debug,warn\" for one part";
    match check_log_filter(&log.filter) {
        Err(error) => table.problem("filter", format!("not a log filter: {error}"), Some(hint)),
        Ok(()) if log.filter.is_empty() => table.warn("filter", "an empty filter logs errors only", hint),
        Ok(()) if log.filter.trim().eq_ignore_ascii_case("off") => {
            table.warn("filter", "nothing is logged, not even errors: what the gate cannot do stays unknown", hint);
        }
        Ok(()) if hides_errors(&log.filter) => {
            table.warn("filter", "this filter hides the errors and warnings of pullgate", hint);
        }
        Ok(()) => {}
    }
    table.finish();
    log
}

/// Networks and single addresses.
fn networks(table: &mut Table<'_>, key: &'static str) -> Vec<IpNet> {
    let networks = table.values::<AddressOrNetwork>(key).unwrap_or_default();
    networks.into_iter().map(|AddressOrNetwork(network)| network).collect()
}

struct AddressOrNetwork(IpNet);

impl FromStr for AddressOrNetwork {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(Self).map_err(|_| "this is neither an address nor a network such as 10.0.0.0/8")
    }
}

fn listeners(root: &mut Table<'_>, addresses: &mut UsedAddresses) -> Vec<server::Config> {
    let tables = root.tables("listener");
    let mut listeners = Vec::new();
    for mut table in tables {
        let address = table.text("address").unwrap_or_else(|| "127.0.0.1:5000".into());
        addresses::check(&table, "address", &address);
        addresses.add(&table, "address", &address);
        let headers = [
            ("forwarded", server::ProxyHeader::Forwarded),
            ("proxy-protocol", server::ProxyHeader::ProxyProtocol),
            ("x-forwarded-for", server::ProxyHeader::XForwardedFor),
        ];
        listeners.push(server::Config {
            address,
            tls: table.optional_table("tls").and_then(tls),
            scope: table.value("scope"),
            trusted_proxies: networks(&mut table, "trusted_proxies"),
            proxy_header: table.choice("proxy_header", &headers).unwrap_or_default(),
            http2: http2(&mut table),
        });
        table.finish();
    }
    if root.has_none("listener") {
        let address = "127.0.0.1:5000".to_owned();
        addresses.add(root, "listener", &address);
        listeners.push(server::Config { address, ..Default::default() });
    }
    listeners
}

fn http2(table: &mut Table<'_>) -> bool {
    let is_wanted = table.flag("http2").unwrap_or(false);
    if is_wanted && !table.has("tls") {
        table.warn("http2", "has no effect without tls, because clients agree on it in the TLS handshake", "set `tls`");
    }
    is_wanted
}

fn tls(mut table: Table<'_>) -> Option<server::TlsConfig> {
    let (certificate, key) = (table.file("certificate"), table.file("key"));
    let client_ca = table.file("client_ca");
    let client_names = table.named_tables("client_names");
    let mut names = BTreeMap::new();
    for (name, mut inner) in client_names {
        if let Some(scope) = inner.value("scope") {
            names.insert(name.to_owned(), scope);
        }
        inner.finish();
    }
    if certificate.is_none() || key.is_none() {
        let hint = "`pullgate certs init` makes both for development";
        table.problem("certificate", "tls needs both a certificate and a key", Some(hint));
    }
    if !names.is_empty() && client_ca.is_none() {
        table.problem("client_names", "requires client_ca: without it, no client presents a certificate", None);
    }
    table.finish();
    Some(server::TlsConfig { certificate: certificate?, key: key?, client_ca, client_names: names })
}

fn limits(mut table: Table<'_>) -> server::Limits {
    let default = server::Limits::default();
    let limits = server::Limits {
        max_connections: count(table.number("max_connections", 1, 1_000_000), default.max_connections),
        max_connections_per_address: table
            .number("max_connections_per_address", 1, 1_000_000)
            .map(|n| count(Some(n), 0))
            .or(default.max_connections_per_address),
        max_requests_in_flight: table
            .number("max_requests_in_flight", 1, 1_000_000)
            .map(|n| count(Some(n), 0))
            .or(default.max_requests_in_flight),
        header_timeout: table.timeout("header_timeout").unwrap_or(default.header_timeout),
        max_header_bytes: count(table.size("max_header_size"), default.max_header_bytes),
        max_headers: default.max_headers,
        idle_timeout: table.timeout("idle_timeout").unwrap_or(default.idle_timeout),
        write_stall_timeout: table.timeout("write_timeout").unwrap_or(default.write_stall_timeout),
        tls_handshake_timeout: table.timeout("tls_handshake_timeout").unwrap_or(default.tls_handshake_timeout),
    };
    if limits.max_header_bytes < 8192 {
        table.problem("max_header_size", "must be at least 8KiB", None);
    }
    table.finish();
    limits
}

fn count(number: Option<u64>, default: usize) -> usize {
    number.map_or(default, |number| usize::try_from(number).unwrap_or(usize::MAX))
}

fn admin(mut table: Table<'_>, state_dir: &Path, addresses: &mut UsedAddresses) -> server::admin::Config {
    let admin = server::admin::Config {
        address: table.text("address").unwrap_or_else(|| "127.0.0.1:5001".into()),
        hosts: table.texts("hosts").unwrap_or_default(),
        token_file: table.file("token_file"),
        socket: table.output("socket").unwrap_or_else(|| state_dir.join("admin.sock")),
    };
    addresses::check(&table, "address", &admin.address);
    addresses.add(&table, "address", &admin.address);
    if addresses::is_valid(&admin.address) && !is_loopback(&admin.address) && admin.token_file.is_none() {
        let hint = "give it a token_file, or keep it on 127.0.0.1";
        table.problem("address", format!("{} is reachable from other machines", admin.address), Some(hint));
    }
    table.finish();
    admin
}

fn gate(mut table: Table<'_>) -> gate::Config {
    let default = gate::Config::default();
    let config = gate::Config {
        audit: table.choice("mode", &[("audit", true), ("enforce", false)]).unwrap_or(default.audit),
        verdict_wait: table.duration("verdict_wait").unwrap_or(default.verdict_wait),
        platforms: table.values("platforms").unwrap_or_default(),
        attachment_limit: table.size("attachment_limit").unwrap_or(default.attachment_limit),
        tag_memory: table.duration("tag_memory").unwrap_or(default.tag_memory),
        url_hosts: table.texts("url_hosts").unwrap_or_default(),
        max_unseen_children: table
            .number("max_unseen_children", 0, 1000)
            .map_or(default.max_unseen_children, |n| u32::try_from(n).unwrap_or(u32::MAX)),
    };
    if config.verdict_wait > Duration::from_secs(28) {
        let hint = "containerd gives up on a response after 30s";
        table.problem("verdict_wait", "must be at most 28s", Some(hint));
    }
    table.finish();
    config
}

fn policy(mut table: Table<'_>) -> Option<PathBuf> {
    let dir = table.file("dir");
    if !table.has("dir") {
        let hint = "write [policy] dir = \"policies\"; config/policies of the project has examples to start from";
        table.problem("dir", "the directory of policy documents must be set", Some(hint));
    }
    table.finish();
    dir
}

fn cache(mut table: Table<'_>, fact_memory: Duration) -> cache::Config {
    let default = cache::Config::default();
    let config = cache::Config {
        small_object: count(table.size("small_object"), default.small_object),
        memory: table.size("memory").unwrap_or(default.memory),
        max_size: table.size("max_size").unwrap_or(default.max_size),
        min_free: table.size("min_free").unwrap_or(default.min_free),
        high_watermark: table.number("high_watermark", 1, 100).unwrap_or(default.high_watermark),
        low_watermark: table.number("low_watermark", 0, 100).unwrap_or(default.low_watermark),
        max_age: table.duration("max_age"),
        max_database: table.size("max_database").unwrap_or(default.max_database),
        fact_memory,
        max_fills: count(table.number("max_fills", 1, 10_000), default.max_fills),
        orphan_fill_limit: count(table.number("orphan_fill_limit", 0, 10_000), default.orphan_fill_limit),
    };
    if config.low_watermark > config.high_watermark {
        table.problem("low_watermark", "must not be above high_watermark", None);
    }
    if table.has("max_size") && config.max_size < SMALLEST_CACHE {
        table.warn("max_size", "less than most layers have, so hardly anything is kept", "such as \"200GiB\"");
    }
    if config.max_database < 1024 * 1024 {
        table.problem("max_database", "must be at least 1MiB", None);
    }
    table.finish();
    config
}

fn prefetch(mut table: Table<'_>) -> prefetch::Config {
    let config = prefetch::Config {
        images: table.values("images").unwrap_or_default(),
        platforms: table.values("platforms").unwrap_or_default(),
        interval: table.duration("interval").unwrap_or(Duration::from_secs(3600)),
        scope: table.value("scope").unwrap_or(Scope::CLUSTER),
    };
    if config.interval < Duration::from_secs(10) {
        table.problem("interval", "must be at least 10s", Some("every round contacts every registry"));
    }
    table.finish();
    config
}

fn audit(mut table: Table<'_>, state_dir: &Path) -> audit::Config {
    let file = table.text("file");
    if file.as_ref().is_some_and(String::is_empty) {
        table.problem("file", "the path is empty", Some("leave the key out for audit.jsonl in the state directory"));
    }
    table.warn_of_home("file");
    let config = audit::Config {
        // Records are state, so a relative path begins at state_dir and not at the directory of the configuration file.
        file: state_dir.join(file.filter(|file| !file.is_empty()).unwrap_or_else(|| "audit.jsonl".into())),
        required: table.flag("required").unwrap_or(false),
        max_file_size: table.size("max_file_size").unwrap_or(100 * 1024 * 1024),
        keep: table.number("keep", 0, 10_000).map_or(10, |n| u32::try_from(n).unwrap_or(u32::MAX)),
    };
    if config.max_file_size < 1024 {
        table.problem(
            "max_file_size",
            "must be at least 1KiB",
            Some("with less, each record starts a new file, and all files but the newest `keep` are deleted"),
        );
    }
    table.finish();
    config
}
