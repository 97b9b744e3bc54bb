//! `[va]`: sources of vulnerability reports, advisory databases, IBM's Vulnerability Advisor.

use std::path::Path;

use super::secret::secret;
use super::{scanners, trust};
use crate::advisories::DatabaseLimits;
use crate::config::reader::Table;
use crate::runtime::shown_url;
use crate::va;

pub(super) fn va(mut table: Table<'_>, state_dir: &Path) -> (va::Config, bool, Vec<String>) {
    let default = va::Config::default();
    let config = va::Config {
        reports: table.files("reports").unwrap_or_default(),
        rescan: table.timeout("rescan").unwrap_or(default.rescan),
        honour_ignores: table.flag("honour_ignores").unwrap_or(default.honour_ignores),
        ibm: table.optional_table("ibm").and_then(ibm),
        databases: Some(va::DatabaseConfig {
            state_dir: state_dir.to_owned(),
            max_age: table.duration("max_db_age").and_then(|age| age.try_into().ok()),
            sources: database_sources(table.table("database")),
        }),
        scanners: scanners::scanners(&mut table),
        scratch: state_dir.to_owned(),
        admin_socket: None,
        launcher: default.launcher,
    };
    let fixable_only = table.flag("fixable_only").unwrap_or(false);
    let ignore_files = table.files("ignore_files").unwrap_or_default();
    table.finish();
    let ignore_files = ignore_files.into_iter().map(|path| trust::independent(path).display().to_string());
    (config, fixable_only, ignore_files.collect())
}

fn database_sources(mut table: Table<'_>) -> va::DatabaseSources {
    let default = va::DatabaseSources::default();
    let mut osv = table.texts("osv").unwrap_or_default();
    let is_web = |url: &String| url.starts_with("https://") || url.starts_with("http://");
    for url in &osv {
        if !is_web(url) {
            let hint = "such as https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip";
            table.problem("osv", format!("{:?} is not the URL of a zip archive", shown_url(url)), Some(hint));
        }
    }
    let mut shown: Vec<String> = osv.iter().map(|url| shown_url(url)).collect();
    shown.sort();
    // Databases are identified by this string: of two with the same one, fetching either would make both count as
    // fetched.
    if let Some(same) = shown.windows(2).find(|pair| pair[0] == pair[1]) {
        let hint = "they must differ in more than the user, the query or the fragment, which are treated as secrets";
        table.problem("osv", format!("two of the URLs are shown as {:?}", same[0]), Some(hint));
    }
    let names_any = !osv.is_empty();
    // No database of the others is missing.
    osv.retain(is_web);
    let mut feed = |key: &'static str, hint: &'static str| {
        let url = table.text(key)?;
        if !url.starts_with("https://") && !url.starts_with("http://") {
            table.problem(key, format!("{:?} is not a URL", shown_url(&url)), Some(hint));
        }
        Some(url)
    };
    let kev = "such as https://www.cisa.gov/sites/default/files/feeds/known_exploited_vulnerabilities.json";
    let kev = feed("kev", kev);
    let epss = feed("epss", "such as https://epss.empiricalsecurity.com/epss_scores-current.csv.gz");
    let sources = va::DatabaseSources {
        trivy: table.value("trivy"),
        java: table.value("java"),
        osv,
        kev,
        epss,
        update: table.timeout("update"),
        limits: DatabaseLimits {
            compressed: table.size("max_download").unwrap_or(default.limits.compressed),
            unpacked: table.size("max_size").unwrap_or(default.limits.unpacked),
        },
        proxy: table.text("proxy"),
        ca: table.authorities("ca"),
    };
    if sources.update.is_some() && !names_any && sources.names().is_empty() {
        table.problem("update", "needs a source", Some("set `trivy`, `osv`, `java`, `kev` or `epss`"));
    }
    table.finish();
    sources
}

fn ibm(mut table: Table<'_>) -> Option<va::ibm::Config> {
    let api_key = secret(&mut table, "api_key", "api_key_file", "api_key_env")?;
    let default = va::ibm::Config::new(api_key);
    let config = va::ibm::Config {
        hosts: table.texts("hosts").unwrap_or_else(|| default.hosts.clone()),
        url: table.text("url"),
        iam_url: table.text("iam_url").unwrap_or_else(|| default.iam_url.clone()),
        account: table.text("account"),
        proxy: table.text("proxy"),
        ca: table.authorities("ca"),
        report_ttl: table.duration("ttl").unwrap_or(default.report_ttl),
        unscanned_ttl: table.duration("unscanned_ttl").unwrap_or(default.unscanned_ttl),
        ..default
    };
    for host in &config.hosts {
        if let Err(error) = va::ibm::check_host(host) {
            table.problem("hosts", error.to_string(), Some("such as icr.io, or .icr.io for all hosts below it"));
        }
    }
    for (key, url) in [("url", config.url.as_deref()), ("iam_url", Some(&*config.iam_url))] {
        if let Some(url) = url
            && let Err(error) = va::ibm::check_url(url)
        {
            let with_scheme = format!("write https://{}", shown_url(url));
            let is_host = !url.contains("://") && va::ibm::check_url(&format!("https://{url}")).is_ok();
            let hint = if is_host { with_scheme.as_str() } else { "such as https://us.icr.io" };
            table.problem(key, error.to_string(), Some(hint));
        }
    }
    if let Some(Err(error)) = config.account.as_deref().map(va::ibm::check_account) {
        table.problem("account", error.to_string(), Some("`ibmcloud account show` prints it"));
    }
    table.finish();
    Some(config)
}
