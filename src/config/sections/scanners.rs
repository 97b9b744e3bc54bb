//! `[[va.scanner]]`: scanners in the order in which they are asked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::secret::{secret, username};
use crate::config::reader::Table;
use crate::oci::Host;
use crate::upstream;
use crate::va::{
    AdapterAuth, AdapterConfig, AdapterRegistry, Isolation, ProgramConfig, ScannerConfig, ScannerKind, ScannerTool,
};

/// The maximum number of images that one scanner may scan at the same time.
const MAX_CONCURRENCY: u64 = 64;
/// The least memory with which a scanner can work, in bytes.
const MIN_MEMORY: u64 = 256 << 20;
/// Names that other sources of evidence have in verdicts.
const RESERVED: [&str; 3] = ["ibm", "pullgate", "reports"];

pub(super) fn scanners(table: &mut Table<'_>) -> Vec<ScannerConfig> {
    let mut names = BTreeSet::new();
    let mut scanners = Vec::new();
    for (position, inner) in table.tables("scanner").into_iter().enumerate() {
        if let Some(scanner) = scanner(inner, &mut names) {
            table.reader.keep("va.scanner", position);
            scanners.push(scanner);
        }
    }
    scanners
}

/// Services pull images from the gate's own registries unless another place is configured.
pub(super) fn add_registries(scanners: &mut [ScannerConfig], upstreams: &[upstream::Config]) {
    for scanner in scanners {
        let ScannerKind::Adapter(adapter) = &mut scanner.kind else { continue };
        for upstream in upstreams {
            let registry = || AdapterRegistry { url: upstream.url.clone(), prefix: None, auth: AdapterAuth::None };
            adapter.registries.entry(upstream.host.clone()).or_insert_with(registry);
        }
    }
}

fn scanner(mut table: Table<'_>, names: &mut BTreeSet<String>) -> Option<ScannerConfig> {
    let kind = match &*table.text("kind").unwrap_or_default() {
        "embedded" => Some(ScannerKind::Embedded),
        "grype" => program(&mut table, ScannerTool::Grype),
        "harbor" => adapter(&mut table),
        "trivy" => program(&mut table, ScannerTool::Trivy),
        _ => {
            table.problem("kind", "must be embedded, grype, harbor or trivy", None);
            return None;
        }
    }?;
    let name = table.text("name").unwrap_or_else(|| kind.as_str().to_owned());
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 40 || !name.chars().all(is_plain) {
        table.problem("name", "may have lower-case letters, digits and hyphens, at most 40", None);
    }
    if RESERVED.contains(&&*name) || !names.insert(name.clone()) {
        table.problem("name", format!("{name:?} is the name of another source"), Some("set another `name`"));
    }
    let mut config = ScannerConfig::new(name, kind);
    if !matches!(config.kind, ScannerKind::Embedded) {
        config.timeout = positive(&mut table, "timeout").unwrap_or(config.timeout);
        config.ttl = positive(&mut table, "ttl").unwrap_or(config.ttl);
        config.refresh = positive(&mut table, "refresh").unwrap_or(config.refresh);
        let concurrency = table.number("concurrency", 1, MAX_CONCURRENCY).and_then(|count| usize::try_from(count).ok());
        config.concurrency = concurrency.unwrap_or(config.concurrency);
        config.trust_coverage = table.flag("trust_coverage").unwrap_or(config.trust_coverage);
    }
    table.finish();
    Some(config)
}

fn positive(table: &mut Table<'_>, key: &'static str) -> Option<Duration> {
    let duration = table.duration(key)?;
    if duration < Duration::from_secs(1) {
        table.problem(key, "must be at least 1s", None);
    }
    Some(duration)
}

fn program(table: &mut Table<'_>, tool: ScannerTool) -> Option<ScannerKind> {
    let default = ProgramConfig::new(tool);
    // A name without a slash is searched for; a path begins at the directory of the configuration.
    let is_path = table.tree("command").and_then(|node| node.as_text()).is_some_and(|text| text.contains('/'));
    let command = if is_path { table.file("command") } else { table.text("command").map(PathBuf::from) };
    let config = ProgramConfig {
        tool,
        command: command.unwrap_or(default.command),
        args: table.texts("args").unwrap_or_default(),
        environment: table.texts("environment").unwrap_or_default(),
        max_memory: table.size("max_memory").unwrap_or(default.max_memory),
        isolation: table.choice("isolation", &Isolation::WORDS).unwrap_or_default(),
    };
    // The value may be a secret, so it is not shown.
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let is_wrong = |name: &String| name.is_empty() || name.contains(char::is_whitespace);
    if let Some(wrong) = config.environment.iter().map(|entry| name(entry)).find(is_wrong) {
        let hint = "write NAME=value, or NAME for the value that pullgate has, one text for each variable";
        table.problem("environment", format!("{wrong:?} is not the name of a variable"), Some(hint));
    }
    if config.max_memory < MIN_MEMORY {
        table.problem("max_memory", "must be at least 256MiB", None);
    }
    if let Some(hidden) = tool.hides(&config.args, &config.environment) {
        let key = if config.args.iter().any(|arg| arg == hidden) { "args" } else { "environment" };
        let message = format!("{hidden:?} would hide findings, and the report would not show what is missing");
        table.problem(key, message, Some("use policy rules to decide which findings count"));
    }
    Some(ScannerKind::Program(config))
}

fn adapter(table: &mut Table<'_>) -> Option<ScannerKind> {
    let url = table.text("url");
    if !url.as_deref().is_some_and(is_url) {
        table.problem("url", "the URL of the service is required, https or http", Some("without /api/v1"));
    }
    let mut registries = BTreeMap::new();
    for mut registry in table.tables("registry") {
        let host: Option<Host> = registry.value("host");
        let url = registry.text("url");
        if !url.as_deref().is_some_and(is_url) {
            registry.problem("url", "the URL of the registry is required, https or http", None);
        }
        let prefix = registry.text("prefix");
        let auth = registry.optional_table("auth").map_or(Some(AdapterAuth::None), auth);
        match (host, url, auth) {
            (Some(host), Some(url), Some(auth)) => drop(registries.insert(host, AdapterRegistry { url, prefix, auth })),
            (None, ..) if !registry.has("host") => registry.problem("host", "host is missing", None),
            _ => {}
        }
        registry.finish();
    }
    let config = AdapterConfig {
        url: url?,
        auth: table.optional_table("auth").map_or(Some(AdapterAuth::None), auth)?,
        ca: table.authorities("ca"),
        insecure: table.flag("insecure").unwrap_or(false),
        proxy: table.text("proxy"),
        registries,
    };
    Some(ScannerKind::Adapter(Box::new(config)))
}

fn is_url(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

fn auth(mut table: Table<'_>) -> Option<AdapterAuth> {
    let auth = match &*table.text("type").unwrap_or_default() {
        "api-key" => secret(&mut table, "key", "key_file", "key_env").map(AdapterAuth::ApiKey),
        "basic" => {
            let username = username(&mut table);
            let password = secret(&mut table, "password", "password_file", "password_env");
            username.zip(password).map(|(username, password)| AdapterAuth::Basic { username, password })
        }
        "bearer" => secret(&mut table, "token", "token_file", "token_env").map(AdapterAuth::Bearer),
        _ => {
            table.problem("type", "must be api-key, basic or bearer", None);
            return None;
        }
    };
    table.finish();
    auth
}
