//! What the environment sets for requests to other services: egress proxies for tables that set none, and certificate
//! authorities.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use super::{PreflightDepth, PreflightFindings, services};
use crate::config::Config;
use crate::http_client::{NamedProxy, check_ca, environment_proxy};
use crate::markup::{Problem, ProblemSeverity};

pub(super) fn check(found: &mut PreflightFindings<'_>) {
    proxies(found);
    authorities(found);
}

/// Warns of a variable for certificate authorities that names none: those of the system, or none, are used instead.
fn authorities(found: &mut PreflightFindings<'_>) {
    let now = found.now;
    let mut warn = |variable: &str, why: String| {
        let hint = "correct the variable, or unset it; `ca` of a table names the authority of one service";
        let file = format!("environment variable {variable}");
        let problem = Problem::of_file(ProblemSeverity::Warning, file, why, Some(hint));
        found.report.configuration.push(problem);
    };
    // An empty file says on purpose that there are none.
    let is_file = |file: &OsString| !file.is_empty() && file != "/dev/null";
    if let Some(file) = std::env::var_os("SSL_CERT_FILE").filter(is_file)
        && let Err(error) = check_ca(Path::new(&file), now)
    {
        warn("SSL_CERT_FILE", error.to_string());
    }
    // Usual lists name the directories of several distributions.
    let folders = std::env::var_os("SSL_CERT_DIR").filter(|folders| !folders.is_empty());
    if let Some(folders) = folders.filter(|folders| !std::env::split_paths(folders).any(|folder| folder.is_dir())) {
        warn("SSL_CERT_DIR", format!("{}: this is not a directory", Path::new(&folders).display()));
    }
}

/// Says once for each variable which services use it, and whether they can.
fn proxies(found: &mut PreflightFindings<'_>) {
    let variable = |name: &str| std::env::var(name).ok();
    let mut named: BTreeMap<(&str, NamedProxy), Vec<String>> = BTreeMap::new();
    for (key, url) in urls(found.config) {
        if let Some(proxy) = environment_proxy(url, variable) {
            named.entry(proxy).or_default().push(key);
        }
    }
    let is_whole = found.depth == PreflightDepth::Everything;
    for ((variable, proxy), keys) in named {
        let Some((first, others)) = keys.split_first() else { continue };
        let users = match others {
            [] => String::new(),
            [other] => format!(", and so does {other}"),
            others => format!(", and so do {} more", others.len()),
        };
        let hint = "set it to http://HOST:PORT; or set `proxy` in the table, where an empty text means none";
        let (severity, message, hint) = match proxy {
            // The command may have another environment than the gate, which starts nevertheless.
            NamedProxy::Unusable => (
                if is_whole { ProblemSeverity::Error } else { ProblemSeverity::Warning },
                format!(
                    "this takes its egress proxy from the environment variable {variable}{users}: it can only be an http:// \
                     URL, so no request is answered"
                ),
                Some(hint),
            ),
            NamedProxy::Ignored => (
                ProblemSeverity::Warning,
                format!(
                    "the environment variable {variable} is not the URL of a proxy and is ignored; this would use it{users}"
                ),
                Some(hint),
            ),
            NamedProxy::Used(proxy) if is_whole => (
                ProblemSeverity::Note,
                format!(
                    "this uses the egress proxy {proxy}, which the environment variable {variable} names{users}; the gate \
                     needs the same environment"
                ),
                None,
            ),
            NamedProxy::Used(_) => continue,
        };
        found.add(severity, first, &message, hint);
    }
}

/// The URLs that are asked through a proxy of the environment, if it names one, each with its key.
fn urls(config: &Config) -> Vec<(String, &str)> {
    let mut all = Vec::new();
    for (index, upstream) in config.upstreams.iter().enumerate() {
        if upstream.proxy.is_none() && !upstream.offline {
            all.push((format!("{}.url", config.places.item("upstream", index)), upstream.url.as_str()));
        }
    }
    let others = services::feeds(config).into_iter().chain(services::receivers(config));
    all.extend(others.filter(|service| service.proxy.is_none()).map(|service| (service.key, service.url)));
    all
}
