//! The services besides registries that a configuration names by their URLs.

use crate::config::Config;
use crate::va::ScannerKind;

/// A service that is asked by its URL.
pub(super) struct ConfiguredService<'a> {
    /// The key that names the service.
    pub(super) key: String,
    pub(super) url: &'a str,
    /// Its egress proxy; empty for none. Without one, the environment may name one.
    pub(super) proxy: Option<&'a str>,
}

/// The web servers from which advisory databases are fetched.
pub(super) fn feeds(config: &Config) -> Vec<ConfiguredService<'_>> {
    let Some(databases) = &config.va.databases else { return Vec::new() };
    let (sources, proxy) = (&databases.sources, databases.sources.proxy.as_deref());
    let named = [("kev", &sources.kev), ("epss", &sources.epss)];
    let named = named.into_iter().filter_map(|(key, url)| Some((key, url.as_deref()?)));
    let urls = sources.osv.iter().map(|url| ("osv", url.as_str())).chain(named);
    urls.map(|(key, url)| ConfiguredService { key: format!("va.database.{key}"), url, proxy }).collect()
}

/// The services to which a check must send no request, because each request may have an effect.
pub(super) fn receivers(config: &Config) -> Vec<ConfiguredService<'_>> {
    let mut all = Vec::new();
    if let Some(ibm) = &config.va.ibm {
        let urls = [("va.ibm.url", ibm.url.as_deref()), ("va.ibm.iam_url", Some(&*ibm.iam_url))];
        for (key, url) in urls.into_iter().filter_map(|(key, url)| Some((key, url?))) {
            all.push(ConfiguredService { key: key.to_owned(), url, proxy: ibm.proxy.as_deref() });
        }
    }
    for (index, scanner) in config.va.scanners.iter().enumerate() {
        let ScannerKind::Adapter(adapter) = &scanner.kind else { continue };
        let key = format!("{}.url", config.places.item("va.scanner", index));
        all.push(ConfiguredService { key, url: &adapter.url, proxy: adapter.proxy.as_deref() });
    }
    if let Some(url) = &config.tracing.endpoint {
        all.push(ConfiguredService { key: "tracing.endpoint".to_owned(), url, proxy: None });
    }
    for url in &config.events.urls {
        all.push(ConfiguredService { key: "events.urls".to_owned(), url, proxy: config.events.proxy.as_deref() });
    }
    all
}
