//! All upstreams of a gate, by the names used in requests.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;

use super::metrics::{LimitMetrics, UpstreamMetrics};
use super::{Config, ConfigError, OfflineContent, Upstream};
use crate::http_client::Network;
use crate::oci::Host;
use crate::runtime::{Clock, Metrics, Readiness, Tasks};

/// How often credentials are checked, and upstreams that are down are asked whether they answer again.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// The maximum number of characters by which a name may differ from a suggested one.
const MAX_DIFFERENCE: usize = 3;
/// The maximum number of names that a message suggests.
const MAX_NEAR: usize = 2;

/// All upstreams, by the names used in requests. They can be replaced while requests use them.
pub struct Upstreams {
    current: ArcSwap<UpstreamTable>,
    /// Who answers in place of upstreams that are offline.
    offline: OnceLock<Arc<dyn OfflineContent>>,
    tasks: Tasks,
    clock: Clock,
    metrics: (UpstreamMetrics, LimitMetrics),
}

/// The upstreams of one configuration, made by [`Upstreams::prepare`].
#[derive(Default)]
pub struct UpstreamTable {
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
        (tasks, clock): (&Tasks, &Clock),
        metrics: &Metrics,
        readiness: &Readiness,
    ) -> Result<Self, ConfigError> {
        let metrics = (UpstreamMetrics::new(metrics, readiness), LimitMetrics::new(metrics));
        let (current, offline) = (ArcSwap::default(), OnceLock::new());
        let upstreams = Self { current, offline, tasks: tasks.clone(), clock: clock.clone(), metrics };
        upstreams.replace(upstreams.prepare(configs, default)?);
        Ok(upstreams)
    }

    /// Creates clients for another configuration, without using them yet. An upstream whose configuration is the one in
    /// use keeps its client, with its connections, tokens and limits.
    ///
    /// # Errors
    /// The same as [`new`](Self::new).
    pub fn prepare(&self, configs: Vec<Config>, default: Option<&Host>) -> Result<UpstreamTable, ConfigError> {
        let current = self.current.load();
        let mut table = UpstreamTable::default();
        for config in configs {
            table.name(&config)?;
            let kept = current.all.iter().find(|upstream| *upstream.config() == config);
            let upstream = match kept {
                Some(upstream) => upstream.clone(),
                None => {
                    let services = (&self.tasks, &self.clock);
                    Arc::new(Upstream::new(config, services, self.metrics.clone(), &Network::default())?)
                }
            };
            table.all.push(upstream);
        }
        if let Some(host) = default {
            let index = table.by_host.get(host).ok_or_else(|| ConfigError::Default(host.to_string()))?;
            table.default = Some(*index);
        }
        Ok(table)
    }

    /// Uses other upstreams from now on; requests that are running finish with the old ones. Returns whether anything
    /// changed.
    pub fn replace(&self, table: UpstreamTable) -> bool {
        if let Some(content) = self.offline.get() {
            table.set_offline_content(content);
        }
        let new = Arc::new(table);
        let old = self.current.swap(new.clone());
        let has = |table: &UpstreamTable, one: &Arc<Upstream>| table.all.iter().any(|other| Arc::ptr_eq(one, other));
        old.all.iter().filter(|upstream| !has(&new, upstream)).for_each(|upstream| upstream.retire());
        new.all.iter().filter(|upstream| !has(&old, upstream)).for_each(|upstream| upstream.begin());
        let same = |(old, new): (&Arc<Upstream>, &Arc<Upstream>)| Arc::ptr_eq(old, new);
        old.default != new.default || old.all.len() != new.all.len() || !old.all.iter().zip(&new.all).all(same)
    }

    /// Reports the health of all upstreams until shutdown.
    pub fn watch(self: &Arc<Self>, tasks: &Tasks) {
        let (upstreams, stop) = (self.clone(), tasks.clone());
        tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = stop.stopping() => return,
                    () = upstreams.check() => {}
                }
                tokio::select! {
                    () = stop.stopping() => return,
                    () = tokio::time::sleep(CHECK_INTERVAL) => {}
                }
            }
        });
    }

    /// Reports the upstreams, of those that are not offline, whose credentials are missing or cannot be used. Returns
    /// why.
    pub async fn check_credentials(&self) -> Vec<String> {
        let table = self.current.load_full();
        let reachable = table.all.iter().filter(|upstream| !upstream.config().offline);
        let checks = reachable.map(|upstream| async move {
            let why = upstream.check_credentials().await?;
            Some(format!("credentials of {}: {why}", upstream.host()))
        });
        join_all(checks).await.into_iter().flatten().collect()
    }

    /// Checks those that are not offline.
    async fn check(&self) {
        let table = self.current.load_full();
        let reachable = table.all.iter().filter(|upstream| !upstream.config().offline);
        join_all(reachable.map(|upstream| upstream.check())).await;
    }

    /// The hosts of those that are offline.
    pub fn offline_hosts(&self) -> Vec<Host> {
        let table = self.current.load();
        table.all.iter().filter(|upstream| upstream.config().offline).map(|upstream| upstream.host().clone()).collect()
    }

    /// Sets who answers in place of the upstreams that are offline. The first call counts.
    pub fn set_offline_content(&self, content: &Arc<dyn OfflineContent>) {
        self.current.load().set_offline_content(self.offline.get_or_init(|| content.clone()));
    }

    /// The upstream with this host or alias.
    pub fn by_host(&self, host: &Host) -> Option<Arc<Upstream>> {
        let table = self.current.load();
        table.by_host.get(host).map(|index| table.all[*index].clone())
    }

    /// The upstream named by the first path component of a request: by host, alias or `path`.
    pub fn by_path(&self, component: &str) -> Option<Arc<Upstream>> {
        let table = self.current.load();
        table.by_path.get(component).map(|index| table.all[*index].clone())
    }

    /// The upstream for requests that name none.
    pub fn default_upstream(&self) -> Option<Arc<Upstream>> {
        let table = self.current.load();
        table.default.map(|index| table.all[index].clone())
    }

    /// The names that may have been meant by a mistyped name, for messages: those that differ in at most three
    /// characters, the most similar ones first.
    pub fn near(&self, name: &str) -> Vec<String> {
        // The work grows with the product of the lengths.
        if name.len() > 100 {
            return Vec::new();
        }
        let table = self.current.load();
        let limit = (name.len() / 3).min(MAX_DIFFERENCE);
        let distance = |known: &String| (strsim::osa_distance(name, known), known.clone());
        let mut near: Vec<_> = table.by_path.keys().map(distance).filter(|(distance, _)| *distance <= limit).collect();
        near.sort_unstable();
        near.into_iter().take(MAX_NEAR).map(|(_, known)| known).collect()
    }
}

impl UpstreamTable {
    /// Reserves all names of the next upstream.
    fn name(&mut self, config: &Config) -> Result<(), ConfigError> {
        let index = self.all.len();
        for host in [&config.host].into_iter().chain(&config.aliases) {
            // An alias may repeat the name of its own upstream.
            if self.by_host.insert(host.clone(), index).is_some_and(|other| other != index) {
                return Err(ConfigError::Twice(host.to_string()));
            }
        }
        let paths = config.path.iter().cloned().chain([config.host.to_string()]);
        for path in paths.chain(config.aliases.iter().map(ToString::to_string)) {
            if self.by_path.insert(path.clone(), index).is_some_and(|other| other != index) {
                return Err(ConfigError::Twice(path));
            }
        }
        Ok(())
    }

    fn set_offline_content(&self, content: &Arc<dyn OfflineContent>) {
        self.all.iter().for_each(|upstream| upstream.set_offline_content(content.clone()));
    }
}
