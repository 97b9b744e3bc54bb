//! All upstreams of a gate, by the names used in requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::metrics::{LimitMetrics, UpstreamMetrics};
use super::{Config, ConfigError, OfflineContent, Upstream};
use crate::http_client::Network;
use crate::oci::Host;
use crate::runtime::{Metrics, Readiness, Tasks};

/// How often credentials are checked, and upstreams that are down are asked whether they answer again.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// The greatest number of characters in which a name differs from the one that is meant.
const MAX_DIFFERENCE: usize = 3;
/// The most names that a message suggests.
const MAX_NEAR: usize = 2;

/// All upstreams, by the names used in requests.
pub struct Upstreams {
    all: Vec<Arc<Upstream>>,
    by_host: HashMap<Host, usize>,
    by_path: HashMap<String, usize>,
    default: Option<usize>,
}

impl Upstreams {
    /// Creates a client for each upstream.
    ///
    /// # Errors
    /// Two upstreams have the same name, a CA file cannot be read, or a URL is invalid.
    pub fn new(
        configs: Vec<Config>,
        default: Option<&Host>,
        tasks: &Tasks,
        metrics: &Metrics,
        readiness: &Readiness,
    ) -> Result<Self, ConfigError> {
        let metrics = (UpstreamMetrics::new(metrics, readiness), LimitMetrics::new(metrics));
        let mut upstreams = Self { all: Vec::new(), by_host: HashMap::new(), by_path: HashMap::new(), default: None };
        for config in configs {
            let index = upstreams.all.len();
            for host in [&config.host].into_iter().chain(&config.aliases) {
                if upstreams.by_host.insert(host.clone(), index).is_some() {
                    return Err(ConfigError::Twice(host.to_string()));
                }
            }
            let paths = config.path.iter().cloned().chain([config.host.to_string()]);
            for path in paths.chain(config.aliases.iter().map(ToString::to_string)) {
                if upstreams.by_path.insert(path.clone(), index).is_some_and(|other| other != index) {
                    return Err(ConfigError::Twice(path));
                }
            }
            upstreams.all.push(Arc::new(Upstream::new(config, tasks, metrics.clone(), &Network::default())?));
        }
        upstreams.default = match default {
            Some(host) => Some(*upstreams.by_host.get(host).ok_or_else(|| ConfigError::Default(host.to_string()))?),
            None => None,
        };
        Ok(upstreams)
    }

    /// Reports the health of all upstreams until shutdown.
    pub fn watch(self: &Arc<Self>, tasks: &Tasks) {
        let (upstreams, stop) = (self.clone(), tasks.clone());
        tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = stop.stopping() => return,
                    _ = join_all(upstreams.reachable().map(|upstream| upstream.check())) => {}
                }
                tokio::select! {
                    () = stop.stopping() => return,
                    () = tokio::time::sleep(CHECK_INTERVAL) => {}
                }
            }
        });
    }

    /// Those that are not offline.
    fn reachable(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.all.iter().filter(|upstream| !upstream.config().offline)
    }

    /// Sets who answers in place of the upstreams that are offline. The first call counts.
    pub fn set_offline_content(&self, content: &Arc<dyn OfflineContent>) {
        self.all.iter().for_each(|upstream| upstream.set_offline_content(content.clone()));
    }

    /// The upstream with this host or alias.
    pub fn by_host(&self, host: &Host) -> Option<&Arc<Upstream>> {
        self.by_host.get(host).map(|index| &self.all[*index])
    }

    /// The upstream named by the first path component of a request: by host, alias or `path`.
    pub fn by_path(&self, component: &str) -> Option<&Arc<Upstream>> {
        self.by_path.get(component).map(|index| &self.all[*index])
    }

    /// The upstream for requests that name none.
    pub fn default_upstream(&self) -> Option<&Arc<Upstream>> {
        self.default.map(|index| &self.all[index])
    }

    /// The names that a mistyped name may mean, for messages: those that differ in at most three characters, the most
    /// similar ones first.
    pub fn near(&self, name: &str) -> Vec<String> {
        // The work grows with the product of the lengths.
        if name.len() > 100 {
            return Vec::new();
        }
        let limit = (name.len() / 3).min(MAX_DIFFERENCE);
        let distance = |known: &String| (strsim::osa_distance(name, known), known.clone());
        let mut near: Vec<_> = self.by_path.keys().map(distance).filter(|(distance, _)| *distance <= limit).collect();
        near.sort_unstable();
        near.into_iter().take(MAX_NEAR).map(|(_, known)| known).collect()
    }
}
