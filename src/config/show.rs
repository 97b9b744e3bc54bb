//! The effective configuration, formatted as a configuration file.

use std::fmt::Write as _;
use std::path::Path;

use super::Config;
use crate::markup::{Node, Value};
use crate::runtime::{LogFormat, Secret, format_duration, format_size, shown_origin, shown_url};
use crate::upstream::Auth;
use crate::va::{AdapterAuth, ScannerConfig, ScannerKind};
use crate::{server, upstream, va};

/// Everything but secrets: for secrets in files and variables, only the place is known here; secrets in URLs are left
/// out.
pub(super) fn show(config: &Config) -> String {
    write(config, false)
}

/// The same with the secrets in URLs and variables of scanners, to notice that one has changed. Never for people.
pub(super) fn compared(config: &Config) -> String {
    write(config, true)
}

fn write(config: &Config, with_secrets: bool) -> String {
    let mut out = Text { text: String::new(), with_secrets };
    out.path("state_dir", &config.state_dir);
    out.line("shutdown_delay", quoted(&format_duration(config.shutdown_delay)));
    out.line("shutdown_grace", quoted(&format_duration(config.shutdown_grace)));
    if let Some(host) = &config.default_upstream {
        out.line("default_upstream", quoted(host.as_str()));
    }
    out.section("[log]");
    out.line("filter", quoted(&config.log.filter));
    out.line("format", quoted(if config.log.format == LogFormat::Json { "json" } else { "text" }));
    config.listeners.iter().for_each(|one| listener(&mut out, one));
    limits(&mut out, config);
    parts(&mut out, config);
    evidence(&mut out, config);
    config.upstreams.iter().for_each(|one| upstream(&mut out, one));
    out.text
}

struct Text {
    text: String,
    with_secrets: bool,
}

impl Text {
    fn section(&mut self, name: &str) {
        self.text.push_str(&format!("\n{name}\n"));
    }

    fn line(&mut self, key: &str, value: impl std::fmt::Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{key} = {value}");
    }

    /// What may be a secret, or what is shown instead of it.
    fn unless_secret(&self, secret: &str, shown: impl FnOnce(&str) -> String) -> String {
        if self.with_secrets { secret.to_owned() } else { shown(secret) }
    }

    /// A URL, which may contain secrets.
    fn url(&mut self, key: &str, url: &str) {
        let shown = self.unless_secret(url, shown_url);
        self.line(key, quoted(&shown));
    }

    fn path(&mut self, key: &str, path: &Path) {
        self.line(key, quoted(&path.display().to_string()));
    }
}

/// A string as TOML reads it: JSON's escapes are among TOML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A value on one line.
pub(super) fn inline(node: &Node) -> String {
    match &node.value {
        // No setting takes these two, so a configuration that was accepted has neither.
        Value::Null | Value::Float(_) => quoted(""),
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Text(text) => quoted(text),
        Value::List(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Map(members) => {
            let members = members.iter().map(|member| format!("{} = {}", quoted(&member.key), inline(&member.node)));
            format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
        }
    }
}

fn list<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

fn listener(out: &mut Text, listener: &server::Config) {
    out.section("[[listener]]");
    out.line("address", quoted(&listener.address));
    if let Some(scope) = &listener.scope {
        out.line("scope", quoted(&scope.to_string()));
    }
    out.line("trusted_proxies", list(&listener.trusted_proxies));
    out.line(
        "proxy_header",
        quoted(match listener.proxy_header {
            server::ProxyHeader::Forwarded => "forwarded",
            server::ProxyHeader::ProxyProtocol => "proxy-protocol",
            server::ProxyHeader::XForwardedFor => "x-forwarded-for",
        }),
    );
    out.line("http2", listener.http2);
    if let Some(tls) = &listener.tls {
        out.path("tls.certificate", &tls.certificate);
        out.path("tls.key", &tls.key);
        tls.client_ca.iter().for_each(|ca| out.path("tls.client_ca", ca));
        for (name, scope) in &tls.client_names {
            out.line(&format!("tls.client_names.{}.scope", quoted(name)), quoted(&scope.to_string()));
        }
    }
}

fn limits(out: &mut Text, config: &Config) {
    let limits = &config.limits;
    out.section("[limits]");
    out.line("max_connections", limits.max_connections);
    if let Some(most) = limits.max_connections_per_address {
        out.line("max_connections_per_address", most);
    }
    if let Some(most) = limits.max_requests_in_flight {
        out.line("max_requests_in_flight", most);
    }
    out.line("header_timeout", quoted(&format_duration(limits.header_timeout)));
    out.line("max_header_size", quoted(&format_size(limits.max_header_bytes as u64)));
    out.line("idle_timeout", quoted(&format_duration(limits.idle_timeout)));
    out.line("write_timeout", quoted(&format_duration(limits.write_stall_timeout)));
    out.line("tls_handshake_timeout", quoted(&format_duration(limits.tls_handshake_timeout)));
    out.section("[admin]");
    out.line("address", quoted(&config.admin.address));
    out.line("hosts", list(&config.admin.hosts));
    out.path("socket", &config.admin.socket);
    config.admin.token_file.iter().for_each(|file| out.path("token_file", file));
}

fn parts(out: &mut Text, config: &Config) {
    let gate = &config.gate;
    out.section("[gate]");
    out.line("mode", quoted(if gate.audit { "audit" } else { "enforce" }));
    out.line("verdict_wait", quoted(&format_duration(gate.verdict_wait)));
    out.line("platforms", list(&gate.platforms));
    out.line("attachment_limit", quoted(&format_size(gate.attachment_limit)));
    out.line("tag_memory", quoted(&format_duration(gate.tag_memory)));
    out.line("url_hosts", list(&gate.url_hosts));
    out.line("max_unseen_children", gate.max_unseen_children);
    out.section("[policy]");
    out.path("dir", &config.policy_dir);
    out.section("[cache]");
    out.line("small_object", quoted(&format_size(config.cache.small_object as u64)));
    out.line("memory", quoted(&format_size(config.cache.memory)));
    out.line("max_size", quoted(&format_size(config.cache.max_size)));
    out.line("high_watermark", config.cache.high_watermark);
    out.line("low_watermark", config.cache.low_watermark);
    out.line("min_free", quoted(&format_size(config.cache.min_free)));
    if let Some(max_age) = config.cache.max_age {
        out.line("max_age", quoted(&format_duration(max_age)));
    }
    out.line("max_database", quoted(&format_size(config.cache.max_database)));
    out.line("max_fills", config.cache.max_fills);
    out.line("orphan_fill_limit", config.cache.orphan_fill_limit);
    out.section("[prefetch]");
    out.line("images", list(&config.prefetch.images));
    out.line("platforms", list(&config.prefetch.platforms));
    out.line("interval", quoted(&format_duration(config.prefetch.interval)));
    if let Some(scope) = config.prefetch.scope.name() {
        out.line("scope", quoted(scope));
    }
    out.section("[audit]");
    out.path("file", &config.audit.file);
    out.line("required", config.audit.required);
    out.line("max_file_size", quoted(&format_size(config.audit.max_file_size)));
    out.line("keep", config.audit.keep);
    events(out, config);
    out.section("[tracing]");
    config.tracing.endpoint.iter().for_each(|url| out.url("endpoint", url));
    config.tracing.ca.iter().for_each(|ca| out.path("ca", ca));
}

fn events(out: &mut Text, config: &Config) {
    let events = &config.events;
    out.section("[events]");
    let urls: Vec<String> = events.urls.iter().map(|url| out.unless_secret(url, shown_origin)).collect();
    out.line("urls", list(&urls));
    out.line("types", list(&events.types));
    out.line("source", quoted(&events.source));
    events.secret_file.iter().for_each(|file| out.path("secret_file", file));
    events.token_file.iter().for_each(|file| out.path("token_file", file));
    events.ca.iter().for_each(|ca| out.path("ca", ca));
    events.proxy.iter().for_each(|proxy| out.url("proxy", proxy));
    out.line("timeout", quoted(&format_duration(events.timeout)));
}

fn evidence(out: &mut Text, config: &Config) {
    let seconds = |duration: jiff::SignedDuration| duration.unsigned_abs();
    out.section("[trust]");
    out.line("default_authorities", list(&config.policy.default_authorities));
    out.line("negative_ttl", quoted(&format_duration(seconds(config.trust.negative_ttl))));
    out.line("ttl", quoted(&format_duration(seconds(config.trust.ttl))));
    out.line("trusted_roots", list(&config.policy.trusted_roots));
    out.line("notary_refresh", quoted(&format_duration(seconds(config.trust.notary_refresh))));
    out.line("max_attestation", quoted(&format_size(config.trust.max_attestation as u64)));
    config.notary_root.iter().for_each(|path| out.path("notary_root", path));
    let first_use = config.policy.notary.first_use.unwrap_or_default();
    out.line("first_use", quoted(first_use.as_str()));
    out.section("[trust.revocation]");
    out.line("online", config.revocation.online);
    out.line("private_hosts", list(&config.revocation.private_hosts));
    config.revocation.proxy.iter().for_each(|proxy| out.url("proxy", proxy));
    for (name, node) in &config.authorities {
        out.section(&format!("[trust.authority.{}]", quoted(name)));
        node.members().iter().for_each(|member| out.line(&quoted(&member.key), inline(&member.node)));
    }
    out.section("[va]");
    let reports: Vec<String> = config.va.reports.iter().map(|path| path.display().to_string()).collect();
    out.line("reports", list(&reports));
    out.line("ignore_files", list(&config.policy.ignore_files));
    out.line("rescan", quoted(&format_duration(config.va.rescan)));
    out.line("honour_ignores", config.va.honour_ignores);
    if let Some(age) = config.va.databases.as_ref().and_then(|databases| databases.max_age) {
        out.line("max_db_age", quoted(&format_duration(age.unsigned_abs())));
    }
    out.line("fixable_only", config.policy.ibm_fixable_only);
    if let Some(databases) = &config.va.databases {
        database_sources(out, &databases.sources);
    }
    config.va.scanners.iter().for_each(|one| scanner(out, one));
    if let Some(ibm) = &config.va.ibm {
        out.section("[va.ibm]");
        out.line("hosts", list(&ibm.hosts));
        ibm.url.iter().for_each(|url| out.url("url", url));
        out.url("iam_url", &ibm.iam_url);
        ibm.account.iter().for_each(|account| out.line("account", quoted(account)));
        ibm.proxy.iter().for_each(|proxy| out.url("proxy", proxy));
        ibm.ca.iter().for_each(|ca| out.path("ca", ca));
        out.line("ttl", quoted(&format_duration(ibm.report_ttl)));
        out.line("unscanned_ttl", quoted(&format_duration(ibm.unscanned_ttl)));
        let (key, place) = secret_setting("api_key", &ibm.api_key);
        out.line(&key, place);
    }
}

fn upstream(out: &mut Text, upstream: &upstream::Config) {
    out.section("[[upstream]]");
    out.line("host", quoted(upstream.host.as_str()));
    out.url("url", &upstream.url);
    out.line("aliases", list(&upstream.aliases));
    upstream.path.iter().for_each(|path| out.line("path", quoted(path)));
    out.line("tag_ttl", quoted(&format_duration(upstream.tag_ttl)));
    out.line("stale_for", quoted(&format_duration(upstream.stale_for)));
    out.line("offline", upstream.offline);
    upstream.ca.iter().for_each(|ca| out.path("ca", ca));
    out.line("insecure", upstream.insecure);
    upstream.proxy.iter().for_each(|proxy| out.url("proxy", proxy));
    out.line("realms", list(&upstream.realms));
    upstream.notary.iter().for_each(|url| out.url("notary", url));
    upstream_limits(out, upstream);
    match &upstream.serve_to {
        Some(scopes) => out.line("serve_to", list(scopes)),
        None => out.line("serve_to", quoted("everyone")),
    }
    if let Some(text) = auth(&upstream.auth) {
        out.line("auth", text);
    }
}

fn upstream_limits(out: &mut Text, upstream: &upstream::Config) {
    out.line("connect_timeout", quoted(&format_duration(upstream.connect_timeout)));
    out.line("tls_timeout", quoted(&format_duration(upstream.tls_timeout)));
    out.line("header_timeout", quoted(&format_duration(upstream.header_timeout)));
    out.line("idle_timeout", quoted(&format_duration(upstream.idle_timeout)));
    out.line("body_timeout", quoted(&format_duration(upstream.body_timeout)));
    out.line("attempts", upstream.attempts);
    out.line("retry_budget", quoted(&format_duration(upstream.retry_budget)));
    out.line("max_connections", upstream.max_connections);
    upstream.max_bandwidth.iter().for_each(|rate| out.line("max_bandwidth", quoted(&format_size(*rate))));
    upstream.pull_limit.iter().for_each(|count| out.line("pull_limit", count));
    out.line("pull_limit_window", quoted(&format_duration(upstream.pull_limit_window)));
}

fn scanner(out: &mut Text, scanner: &ScannerConfig) {
    out.section("[[va.scanner]]");
    out.line("name", quoted(&scanner.name));
    out.line("kind", quoted(scanner.kind.as_str()));
    match &scanner.kind {
        ScannerKind::Embedded => return,
        ScannerKind::Program(program) => {
            out.path("command", &program.command);
            out.line("args", list(&program.args));
            // The values may be secrets.
            let name = |text: &str| text.split('=').next().unwrap_or_default().to_owned();
            let names: Vec<String> = program.environment.iter().map(|text| out.unless_secret(text, name)).collect();
            out.line("environment", list(&names));
            out.line("max_memory", quoted(&format_size(program.max_memory)));
            out.line("isolation", quoted(program.isolation.as_str()));
        }
        ScannerKind::Adapter(adapter) => {
            out.url("url", &adapter.url);
            adapter_auth(&adapter.auth).iter().for_each(|text| out.line("auth", text));
            adapter.ca.iter().for_each(|ca| out.path("ca", ca));
            out.line("insecure", adapter.insecure);
            adapter.proxy.iter().for_each(|proxy| out.url("proxy", proxy));
            let registries = adapter.registries.iter().map(|(host, registry)| {
                let prefix = registry.prefix.iter().map(|prefix| format!(", prefix = {}", quoted(prefix)));
                let auth = adapter_auth(&registry.auth).into_iter().map(|text| format!(", auth = {text}"));
                let url = quoted(&out.unless_secret(&registry.url, shown_url));
                let more = prefix.chain(auth).collect::<String>();
                format!("{{ host = {}, url = {url}{more} }}", quoted(host.as_str()))
            });
            let registries = registries.collect::<Vec<_>>().join(", ");
            out.line("registry", format!("[{registries}]"));
        }
    }
    out.line("timeout", quoted(&format_duration(scanner.timeout)));
    out.line("concurrency", scanner.concurrency);
    out.line("ttl", quoted(&format_duration(scanner.ttl)));
    out.line("refresh", quoted(&format_duration(scanner.refresh)));
    out.line("trust_coverage", scanner.trust_coverage);
}

fn adapter_auth(auth: &AdapterAuth) -> Option<String> {
    match auth {
        AdapterAuth::None => None,
        AdapterAuth::ApiKey(key) => Some(format!("{{ type = \"api-key\", {} }}", secret("key", key))),
        AdapterAuth::Basic { username, password } => {
            Some(format!("{{ type = \"basic\", username = {username:?}, {} }}", secret("password", password)))
        }
        AdapterAuth::Bearer(token) => Some(format!("{{ type = \"bearer\", {} }}", secret("token", token))),
    }
}

/// Where a secret is: the key and its value.
fn secret_setting(name: &str, secret: &Secret) -> (String, String) {
    match secret {
        Secret::Env(variable) => (format!("{name}_env"), quoted(variable)),
        Secret::File(path) => (format!("{name}_file"), quoted(&path.display().to_string())),
    }
}

/// The same within a table on one line.
fn secret(name: &str, secret: &Secret) -> String {
    let (key, place) = secret_setting(name, secret);
    format!("{key} = {place}")
}

fn auth(auth: &Auth) -> Option<String> {
    match auth {
        Auth::Anonymous => None,
        Auth::Basic { username, password } => {
            Some(format!("{{ type = \"basic\", username = {username:?}, {} }}", secret("password", password)))
        }
        Auth::DockerConfig { file } => {
            Some(format!("{{ type = \"docker-config\", file = {:?} }}", file.display().to_string()))
        }
        Auth::Helper { program } => Some(format!("{{ type = \"helper\", program = {program:?} }}")),
        Auth::Iam { api_key } => Some(format!("{{ type = \"iam\", {} }}", secret("api_key", api_key))),
    }
}

fn database_sources(out: &mut Text, sources: &va::DatabaseSources) {
    let va::DatabaseSources { trivy, java, osv, kev, epss, update, limits, proxy, ca } = sources;
    out.section("[va.database]");
    for (key, image) in [("trivy", trivy), ("java", java)] {
        if let Some(image) = image {
            out.line(key, quoted(&image.to_string()));
        }
    }
    let osv: Vec<String> = osv.iter().map(|url| out.unless_secret(url, shown_url)).collect();
    out.line("osv", list(&osv));
    for (key, url) in [("kev", kev), ("epss", epss)] {
        url.iter().for_each(|url| out.url(key, url));
    }
    if let Some(update) = update {
        out.line("update", quoted(&format_duration(*update)));
    }
    out.line("max_download", quoted(&format_size(limits.compressed)));
    out.line("max_size", quoted(&format_size(limits.unpacked)));
    proxy.iter().for_each(|proxy| out.url("proxy", proxy));
    if let Some(ca) = ca {
        out.path("ca", ca);
    }
}
